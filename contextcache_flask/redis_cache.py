"""`CACHE_TYPE = "contextcache_flask.RedisCache"`: Flask-Caching's Redis backend, guarded."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flask import Response
from flask_caching.backends import rediscache

from contextcache import ConfigurationError
from contextcache.servers import connect
from contextcache.storage.keyed_guard import MISSING, SKIPPED
from contextcache.storage.redis_store import RedisStore
from contextcache_flask.cache_guard import GuardedBackend, read_whole_body
from contextcache_flask.request_scope import WithinRequest
from contextcache_flask.settings import BACKEND_OPTIONS, cache_server, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask


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
        own = {name: kwargs.pop(name) for name in BACKEND_OPTIONS if name in kwargs}
        own.setdefault("key_prefix", config.get("CACHE_KEY_PREFIX"))
        if config.get("CACHE_REDIS_DB") is not None:
            kwargs.setdefault("db", config["CACHE_REDIS_DB"])
        server = cache_server(config) or settings.default_url()
        if isinstance(server, str):  # else it is a client that the application made
            server = connect(server, **{"timeout": settings.config.timeout, **kwargs})
        backend = cls(server, **own)
        backend.guard_with(app)
        return backend

    # --- Reading --------------------------------------------------------------------------------

    def get(self, key: str) -> Any:
        """Return the value under `key`, or None where there is none that can be read."""
        redis_key = f"{self._get_prefix()}{key}"
        payload = self._store.get(redis_key)
        return None if payload is None else self.keyed.decode(key, payload, redis_key)

    def get_many(self, *keys: str) -> list[Any]:
        """Return the values under `keys`, None for each that is missing or cannot be read."""
        redis_keys = self._redis_keys(keys)
        payloads, keyed = self._store.get_many(redis_keys), self.keyed
        return [
            keyed.decode(key, payloads[redis_key], redis_key) if redis_key in payloads else None
            for key, redis_key in zip(keys, redis_keys, strict=True)
        ]

    def has(self, key: str) -> bool:
        """Return whether there is a value under `key` that can be read."""
        redis_key = f"{self._get_prefix()}{key}"
        payload = self._store.get(redis_key)
        if payload is None:
            return False
        return self.keyed.decode(key, payload, redis_key, MISSING) is not MISSING

    # --- Writing --------------------------------------------------------------------------------

    def set(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Store `value` under `key`, and return whether it was stored."""
        redis_key = f"{self._get_prefix()}{key}"
        with WithinRequest():
            payload = self._encode(key, value, redis_key)
        return self._store.set(redis_key, payload, self._seconds(timeout))

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        redis_key = f"{self._get_prefix()}{key}"
        with WithinRequest():
            payload = self._encode(key, value, redis_key)
        return self._store.add(redis_key, payload, self._seconds(timeout))

    def set_many(self, mapping: dict[str, Any], timeout: Any = None) -> list[Any]:
        """Store every value that can be stored, and return the keys of those that were."""
        redis_keys = dict(zip(mapping, self._redis_keys(mapping), strict=True))
        with WithinRequest():
            payloads = {
                redis_key: self._encode(key, mapping[key], redis_key)
                for key, redis_key in redis_keys.items()
            }
        failed = self._store.set_many(payloads, self._seconds(timeout))
        return [
            key
            for key, redis_key in redis_keys.items()
            if payloads[redis_key] is not SKIPPED and redis_key not in failed
        ]

    def inc(self, key: str, delta: int = 1) -> int | None:
        """Add to a number, and return the sum; None in an outage."""
        return self._store.incr(self._redis_key(key), delta)

    def dec(self, key: str, delta: int = 1) -> int | None:
        """Subtract from a number, and return the difference; None in an outage."""
        return self._store.incr(self._redis_key(key), -delta)

    # --- Deleting -------------------------------------------------------------------------------

    def delete(self, key: str) -> bool:
        """Delete what is under `key`, and return whether it was there."""
        return self._store.delete(self._redis_key(key))

    def delete_many(self, *keys: str) -> list[Any]:
        """Delete `keys`, and return those that are gone."""
        redis_keys = self._redis_keys(keys)
        gone = self._store.delete_many(redis_keys)
        return [key for key, redis_key in zip(keys, redis_keys, strict=True) if redis_key in gone]

    def unlink(self, *keys: str) -> int:
        """Delete `keys`, while the server goes on, and return how many there were."""
        return self._store.unlink(self._redis_keys(keys))

    def clear(self) -> bool:
        """Delete every key with the prefix of this cache, on every node; return whether any was."""
        return self._store.clear(self._get_prefix())

    @functools.cached_property  # when it is first used: its label is set after it was made
    def _store(self) -> RedisStore:
        return RedisStore(
            self._write_client,
            self._read_client,
            config=lambda: self.keyed.guard.config,
            sink=self._sink,
        )

    # --- The parts ------------------------------------------------------------------------------

    def _encode(self, key: str, value: Any, redis_key: str) -> Any:
        """Return the payload of `value`, or `SKIPPED`."""
        if issubclass(type(value), Response):  # isinstance would ask a proxy for its target
            read_whole_body(value)
        return self.keyed.encode(key, value, redis_key)

    def _redis_keys(self, keys: Iterable[str]) -> list[str]:
        prefix = self._get_prefix()
        return [f"{prefix}{key}" for key in keys]

    def _seconds(self, timeout: Any) -> int | None:
        """Return after how many seconds a key expires; None for never, cachelib's 0."""
        seconds = self.default_timeout if timeout is None else self._normalize_timeout(timeout)
        return seconds if seconds not in (0, -1) else None
