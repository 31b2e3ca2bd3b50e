"""A configured Django, and a cache on a real Redis and on the embedded one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis
    from pytest_django.fixtures import SettingsWrapper

    from contextcache_django.cache import RedisCache

BACKEND = "contextcache_django.cache.RedisCache"


@pytest.fixture(autouse=True)
def unobserved() -> Iterator[None]:
    """Forget that a middleware of an earlier test observes every cache of this process."""
    from django.core.cache import caches

    vars(caches).pop("create_connection", None)
    yield
    vars(caches).pop("create_connection", None)


@pytest.fixture
def configure(settings: SettingsWrapper) -> Callable[..., Any]:
    """Set `CACHES["default"]` and return the cache."""

    def configured(location: str | list[str], **entry: Any) -> Any:
        from django.core.cache import caches

        settings.CACHES = {"default": {"BACKEND": BACKEND, "LOCATION": location, **entry}}
        return caches["default"]

    return configured


@pytest.fixture
def cache(any_url: str, configure: Callable[..., RedisCache]) -> RedisCache:
    """Our cache backend on an empty server."""
    return configure(any_url)


@pytest.fixture
def server(any_url: str) -> redis.Redis:
    """A client of the server under `cache`, to see what is really in it."""
    from contextcache.servers import connect

    return connect(any_url)
