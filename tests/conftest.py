"""Fixtures every layer shares."""

from __future__ import annotations

import pytest

from tests.browser import _chromium, browser
from tests.memcached_server import memcached
from tests.redis_server import any_url, redis_client, redis_url

__all__ = ["_chromium", "any_url", "browser", "memcached", "redis_client", "redis_url"]


@pytest.fixture(autouse=True)
def _tell_of_every_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test keep quiet what another one has been told within this minute."""
    monkeypatch.setattr("contextcache.servers.outages._told", {})
