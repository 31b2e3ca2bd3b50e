"""Settings of Django's own test suite: its stock backends, or ours, by settings alone.

`CONFORMANCE` in the environment says which: `stock`, `ours` or `guarded`.
"""

from __future__ import annotations

import os
from typing import Any

WHICH = os.environ["CONFORMANCE"]
REDIS = os.environ["CONFORMANCE_REDIS"]
MEMCACHED = os.environ["CONFORMANCE_MEMCACHED"]


class Named(str):
    """The name of Django's backend, by which its suite finds the entry, imported as ours."""

    __slots__ = ()
    ours = "contextcache_django.cache.RedisCache"

    def rsplit(self, *args: Any, **kwargs: Any) -> list[str]:
        """Answer `import_string`."""
        return self.ours.rsplit(*args, **kwargs)


SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
DATABASES = {name: {"ENGINE": "django.db.backends.sqlite3"} for name in ("default", "other")}

_redis = "django.core.cache.backends.redis.RedisCache"
CACHES: dict[str, Any] = {
    "default": {"BACKEND": Named(_redis) if WHICH == "ours" else _redis, "LOCATION": REDIS},
    "memcached": {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": MEMCACHED,
    },
}
CONTEXTCACHE = {"TIMEOUT": 10}  # it is about what is answered, not about a busy machine
if WHICH == "ours":
    SESSION_ENGINE = "contextcache_django.sessions"
