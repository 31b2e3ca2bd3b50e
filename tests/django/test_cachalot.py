"""django-cachalot, which accepts cache backends by their dotted names only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from cachalot import apps
from django.core.cache import caches

from contextcache_django.checks import check_coverage
from tests.test_docs import BLOCKS

if TYPE_CHECKING:
    import redis
    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def alias(settings: SettingsWrapper, redis_url: str, redis_client: redis.Redis) -> str:
    """The alias that the documentation shows: Django's backend with our serializer."""
    shown: dict[str, Any] = {}
    exec(re.sub(r"redis://127\.0\.0\.1:6379/\d", redis_url, BLOCKS["backends", "cachalot"]), shown)
    settings.CACHES = shown["CACHES"]
    alias: str = shown["CACHALOT_CACHE"]
    return alias


def test_the_alias_with_our_serializer_is_accepted_and_guarded(
    alias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither django-cachalot nor contextcache has anything to say against it."""
    monkeypatch.setattr(apps.cachalot_settings, "CACHALOT_CACHE", alias)
    assert apps.check_cache_compatibility(None) == []
    assert [one.id for one in check_coverage() if one.id == "contextcache.W001"] == []
    caches[alias].set("rows", ([("a", 1)], 0.5))
    assert caches[alias].get("rows") == ([("a", 1)], 0.5)


def test_our_own_backend_is_a_warning_of_its(alias: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which the documentation says: it does not know the name. It works all the same."""
    monkeypatch.setattr(apps.cachalot_settings, "CACHALOT_CACHE", "default")
    assert [one.id for one in apps.check_cache_compatibility(None)] == ["cachalot.W001"]
