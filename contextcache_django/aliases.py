"""Which caches of a project are guarded, as its settings describe them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from contextcache_django.cache import RedisCache
from contextcache_django.cache_mixin import Guarded
from contextcache_django.conf import is_deployed
from contextcache_django.serializers import CacheSerializer

# The option in which each backend that pickles into Redis or Valkey takes a serializer.
SERIALIZER_OPTION = {
    "django.core.cache.backends.redis.RedisCache": "serializer",
    "django_redis.cache.RedisCache": "SERIALIZER",
    "django_valkey.cache.ValkeyCache": "SERIALIZER",
    "django_cachex.cache.RedisCache": "serializer",
    "django_cachex.cache.ValkeyCache": "serializer",
}


def is_guarded(alias: str) -> bool:
    """Tell whether the cache `alias` is one of ours, or has one of our serializers."""
    entry: dict[str, Any] = settings.CACHES.get(alias, {})
    backend = entry.get("BACKEND", "")
    if is_a(backend, Guarded):
        return True
    options: dict[str | None, Any] = entry.get("OPTIONS") or {}
    serializer = options.get(SERIALIZER_OPTION.get(backend))
    return is_a(serializer, CacheSerializer)


def embedded_by_default() -> list[str]:
    """Return the aliases of our caches that name no server, where a project is deployed."""
    return [
        alias
        for alias, entry in settings.CACHES.items()
        if not entry.get("LOCATION") and is_deployed() and is_a(entry.get("BACKEND"), RedisCache)
    ]


def is_a(named: Any, base: type) -> bool:
    """Tell whether a class, an instance or a dotted path of either is of type `base`."""
    if isinstance(named, str):
        try:
            named = import_string(named)
        except ImportError:
            return False
    return isinstance(named, base) or (isinstance(named, type) and issubclass(named, base))
