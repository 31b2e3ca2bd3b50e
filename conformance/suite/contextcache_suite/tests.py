"""Classes of Django's own suite once more, on our session engines and on guarded backends.

This package is copied into the tests of Django's source distribution and runs there.
"""

from __future__ import annotations

from typing import Any

from cache import tests as cache_tests
from django.test import TestCase, override_settings
from sessions_tests import tests as session_tests

from contextcache_django.cached_db import SessionStore as CachedDBStore
from contextcache_django.sessions import SessionStore

GUARDED = "contextcache_django.cache.GuardedCache"


def guarded(case: type[Any]) -> type[Any]:
    """Return the test case of one of Django's backends, with that backend behind the guard."""
    entries = {
        alias: {
            **entry,
            "BACKEND": GUARDED,
            "OPTIONS": {**entry.get("OPTIONS", {}), "BACKEND": entry["BACKEND"]},
        }
        for alias, entry in case._overridden_settings["CACHES"].items()
    }
    made = type(f"Guarded{case.__name__}", (case,), {"__module__": __name__})
    return override_settings(CACHES=entries)(made)


@override_settings(CACHES={"default": {"BACKEND": "contextcache_django.cache.RedisCache"}})
class SessionEngineTests(session_tests.SessionTestsMixin, TestCase):
    """`SESSION_ENGINE = "contextcache_django.sessions"`."""

    backend = SessionStore


class CachedDBEngineTests(session_tests.CacheDBSessionTests):
    """`SESSION_ENGINE = "contextcache_django.cached_db"`."""

    backend = CachedDBStore


GuardedDBCacheTests = guarded(cache_tests.DBCacheTests)
GuardedFileBasedCacheTests = guarded(cache_tests.FileBasedCacheTests)
GuardedLocMemCacheTests = guarded(cache_tests.LocMemCacheTests)
GuardedPyMemcacheCacheTests = guarded(cache_tests.PyMemcacheCacheTests)
GuardedRedisCacheTests = guarded(cache_tests.RedisCacheTests)
