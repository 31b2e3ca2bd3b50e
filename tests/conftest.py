"""Fixtures every layer shares."""

from __future__ import annotations

from tests.memcached_server import memcached
from tests.redis_server import any_url, redis_client, redis_url

__all__ = ["any_url", "memcached", "redis_client", "redis_url"]
