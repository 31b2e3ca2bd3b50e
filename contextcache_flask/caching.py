"""`CACHE_TYPE = "contextcache_flask.RedisCache"`: Flask-Caching's Redis backend, guarded."""

from __future__ import annotations

import functools
import re
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flask_caching.backends import rediscache

from contextcache import ConfigurationError, ReadOnlyServerError, ServerError, current_scope
from contextcache.servers import connect, warn
from contextcache_flask.backends import GuardedBackend
from contextcache_flask.clients import outage_of
from contextcache_flask.serializers import GuardedSerializer
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from flask import Flask

    from contextcache_flask.serializers import Reading

SCANNED = 1000  # keys that Redis is asked for, and told to delete, at once


class RedisCache(GuardedBackend, rediscache.RedisCache):
    """`CACHE_TYPE`: Flask-Caching's Redis backend, storing without what cannot be stored.

    The server is `CACHE_REDIS_URL`, else `CACHE_REDIS_HOST` with its companions, else
    `CONTEXTCACHE_REDIS_URL`, else the embedded one; `CACHE_OPTIONS` go to redis-py. A URL can
    name a Sentinel or a Cluster as well. With `CONTEXTCACHE_SIGN = False`, what it stores can be
    read by Flask-Caching's own backend, and the other way round.

    While Redis cannot be reached the cache is as if it were empty, and `inc` and `dec` return
    None; with `CONTEXTCACHE_ON_ERROR = "raise"` the error gets out.

    Raises:
        ConfigurationError: A setting or the URL cannot be understood.
        ServerError: Redis cannot be reached, and `CONTEXTCACHE_ON_ERROR` is `raise`; the message
            names the URL that was tried.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guard_with(None)

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> RedisCache:
        """Make the backend of one application; Flask-Caching calls this."""
        settings = settings_of(app)  # a mistake in them is to be seen now
        if args:
            raise ConfigurationError("CACHE_ARGS: name the server with CACHE_REDIS_URL instead")
        own = {name: kwargs.pop(name) for name in _OWN_OPTIONS if name in kwargs}
        own.setdefault("key_prefix", config.get("CACHE_KEY_PREFIX"))
        if config.get("CACHE_REDIS_DB") is not None:
            kwargs.setdefault("db", config["CACHE_REDIS_DB"])
        host = config.get("CACHE_REDIS_HOST")
        if config.get("CACHE_REDIS_URL") or host is None or isinstance(host, str):
            url = _url(config, host) or settings.redis_url
            client: Any = connect(url, **{"timeout": settings.config.timeout, **kwargs})
        else:
            client = host  # a client that the application made
        backend = cls(client, **own)
        backend.guard_with(app)
        return backend

    def clear(self) -> bool:
        """Delete every key with the prefix of this cache, on every node; return whether any was.

        cachelib sends KEYS, which holds up the server, and in a cluster asks one node only.
        """
        prefix = self._get_prefix()
        if not prefix:
            return bool(self._write_client.flushdb())
        pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix) + "*"
        found = self._write_client.scan_iter(match=pattern, count=SCANNED)
        deleted = 0
        while keys := list(islice(found, SCANNED)):
            deleted += self._write_client.delete(*keys)
        return bool(deleted)

    def _read(self, key: str, now: Reading) -> Any:
        serializer = self.serializer
        if not isinstance(serializer, GuardedSerializer):  # one of the application's own
            return super()._read(key, now)
        return serializer.read(self._read_client.get(now.place), now)

    def excuse(self, error: Exception) -> ServerError:
        """Warn of an outage that goes unnoticed otherwise, or raise it if that is the policy."""
        outage = outage_of(self._write_client, error)
        if outage is None:
            raise error
        guard = self.guard
        if guard.config.on_error == "raise":
            raise outage from error
        warn(outage, guard.sink)
        return outage


def _excused(name: str, instead: Callable[..., Any]) -> Callable[..., Any]:
    """Return the method `name`, which in an outage returns what `instead` returns."""
    method = getattr(RedisCache, name)

    @functools.wraps(method)
    def excused(self: RedisCache, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # a client of the application's raises others
            if name in ("set", "add", "set_many") and (scope := current_scope()) is not None:
                outage = outage_of(self._write_client, error)
                many = len(args[0]) if name == "set_many" else 1
                scope.lost(outage.reason if outage else type(error).__name__, many)
            return instead(self, self.excuse(error), *args)

    return excused


def _not_set(cache: RedisCache, outage: ServerError, key: str, *_: Any) -> bool:
    if isinstance(outage, ReadOnlyServerError):
        cache.delete(key)  # else what it held before would be taken for what was to be stored
    return False


_AS_IF_EMPTY: dict[str, Callable[..., Any]] = {
    "get": lambda *_: None,
    "get_many": lambda cache, outage, *keys: [None for _ in keys],  # noqa: ARG005
    "has": lambda *_: False,
    "set": _not_set,
    "add": lambda *_: False,
    "set_many": lambda *_: [],
    "inc": lambda *_: None,
    "dec": lambda *_: None,
    "delete": lambda *_: False,
    "delete_many": lambda *_: [],
    "unlink": lambda *_: 0,
    "clear": lambda *_: False,
}
for _name, _instead in _AS_IF_EMPTY.items():
    setattr(RedisCache, _name, _excused(_name, _instead))


_OWN_OPTIONS = ("default_timeout", "ignore_delete_many_errors", "key_prefix")


def _url(config: Mapping[str, Any], host: str | None) -> str | None:
    """Return where Flask-Caching's own settings say that Redis is, if they do."""
    url: str | None = config.get("CACHE_REDIS_URL")
    if url or not host:
        return url
    if "://" in host:
        return host
    password = config.get("CACHE_REDIS_PASSWORD")
    credentials = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{credentials}{host}:{config.get('CACHE_REDIS_PORT', 6379)}"
