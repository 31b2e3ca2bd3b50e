"""contextcache for Flask: two lines, and what is cached or kept in a session can be stored.

Importing this package imports neither redis-py nor Flask-Caching: an application that uses only
the session needs no Flask-Caching, and the other way round.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextcache_flask.cache_guard import guarded
    from contextcache_flask.extension import ContextCache
    from contextcache_flask.redis_cache import RedisCache
    from contextcache_flask.sessions import RedisSessionInterface

__all__ = ["ContextCache", "RedisCache", "RedisSessionInterface", "guarded"]

_HOMES = {
    "ContextCache": "contextcache_flask.extension",
    "RedisCache": "contextcache_flask.redis_cache",
    "RedisSessionInterface": "contextcache_flask.sessions",
    "guarded": "contextcache_flask.cache_guard",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
