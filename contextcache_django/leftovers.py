"""What is left of django-redis in the settings of a project that has moved, and what to do.

django-redis spells its options in capitals and Django's own backend in lower case, so any option in
capitals is a leftover, here or from a backend that took over the names (django-valkey).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004

from contextcache_django.aliases import is_a
from contextcache_django.cache import RedisCache

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TIMEOUT = "Set CONTEXTCACHE['TIMEOUT'], the seconds for an operation as a whole."
_URL = "Write it into the URL, LOCATION."
_POOL = "Remove it, or set 'pool_class' to a connection pool of redis-py."
_SENTINEL = "Remove it: LOCATION is redis+sentinel://host:26379,host:26379/service/0."
_ERRORS = "Remove it: CONTEXTCACHE['ON_ERROR'] is 'miss', which logs outages, or 'raise'."
_REMOVE = "Remove it."

INSTEAD = {
    "CLIENT_CLASS": (
        "Remove it. For Sentinel or a Cluster, LOCATION is a redis+sentinel:// or redis+cluster:// "
        "URL; for replicas, a list of URLs."
    ),
    "CLOSE_CONNECTION": "Remove it: connections are kept.",
    "COMPRESSOR": "Set CONTEXTCACHE['COMPRESS'] to 'zlib' or 'zstd'.",
    "CONNECTION_FACTORY": _POOL,
    "CONNECTION_POOL_CLASS": _POOL,
    "CONNECTION_POOL_KWARGS": "Write its items into OPTIONS themselves, such as 'max_connections'.",
    "DB": _URL,
    "IGNORE_EXCEPTIONS": _ERRORS,
    "LOG_IGNORED_EXCEPTIONS": _ERRORS,
    "MAX_CONNECTIONS": "Spell it 'max_connections'.",
    "PARSER_CLASS": "Spell it 'parser_class'.",
    "PASSWORD": "Spell it 'password', or write it into the URL, LOCATION.",
    "PICKLE_VERSION": "Remove it: the protocol is 5.",
    "REDIS_CLIENT_CLASS": _REMOVE,
    "REDIS_CLIENT_KWARGS": "Write its items into OPTIONS themselves.",
    "REPLICA_READ_ONLY": _REMOVE,
    "SENTINELS": _SENTINEL,
    "SENTINEL_KWARGS": _SENTINEL,
    "SERIALIZER": "Remove it: the backend has its own, which stores what any pickle holds.",
    "SOCKET_CONNECT_TIMEOUT": _TIMEOUT,
    "SOCKET_TIMEOUT": _TIMEOUT,
    "USERNAME": "Spell it 'username', or write it into the URL, LOCATION.",
}

_SETTINGS = {
    "DJANGO_REDIS_CLOSE_CONNECTION": INSTEAD["CLOSE_CONNECTION"],
    "DJANGO_REDIS_CONNECTION_FACTORY": _REMOVE,
    "DJANGO_REDIS_IGNORE_EXCEPTIONS": _ERRORS,
    "DJANGO_REDIS_LOGGER": "Remove it: the logger is 'contextcache'.",
    "DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS": _ERRORS,
    "DJANGO_REDIS_SCAN_ITERSIZE": _REMOVE,
}


def left_over(options: Mapping[str, Any]) -> list[str]:
    """Return the names in `OPTIONS` that neither redis-py nor Django's backend can have."""
    return [name for name in options if name.isupper() and name not in {"CONTEXTCACHE"}]


def check_leftovers(**_: Any) -> Iterator[CheckMessage]:
    """Yield everything that is left of django-redis, with what takes its place."""
    caches: dict[str, dict[str, Any]] = dict(settings.CACHES)
    moved = [
        (alias, entry) for alias, entry in caches.items() if is_a(entry.get("BACKEND"), RedisCache)
    ]
    for alias, entry in moved:
        for name in left_over(entry.get("OPTIONS") or {}):
            yield Error(
                f"CACHES[{alias!r}]['OPTIONS'] has {name!r}, an option of another backend.",
                hint=INSTEAD.get(name, _REMOVE),
                id="contextcache.E004",
            )
        if "REVERSE_KEY_FUNCTION" in entry:
            yield _without_effect(f"CACHES[{alias!r}]['REVERSE_KEY_FUNCTION']", _REMOVE)
    backends = [str(entry.get("BACKEND")) for entry in caches.values()]
    if moved and not any(backend.startswith("django_redis.") for backend in backends):
        for name, hint in _SETTINGS.items():
            if hasattr(settings, name):
                yield _without_effect(name, hint)


def _without_effect(name: str, hint: str) -> Warning:
    return Warning(
        f"{name} is left from django-redis, and has no effect.", hint=hint, id="contextcache.W011"
    )
