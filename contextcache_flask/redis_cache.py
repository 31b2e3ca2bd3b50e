"""`CACHE_TYPE = "contextcache_flask.RedisCache"`: Flask-Caching's Redis backend, guarded."""

from __future__ import annotations

import functools
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from flask import Response
from flask_caching.backends import rediscache

from contextcache import (
    ConfigurationError,
    ReadOnlyServerError,
    ServerError,
    current_scope,
)
from contextcache.base.logs import error_name
from contextcache.servers import answered, connect, warn
from contextcache.storage.keyed_guard import MISSING, SKIPPED
from contextcache_flask.cache_guard import GuardedBackend, read_whole_body
from contextcache_flask.clients import outage_of
from contextcache_flask.request_scope import WithinRequest
from contextcache_flask.settings import BACKEND_OPTIONS, cache_server, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask

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

    # --- Straight from the guard to the client: of a small value, each layer costs a hundredth ----

    def get(self, key: str) -> Any:
        """Return the value under `key`, or None where there is none that can be read."""
        place = f"{self._get_prefix()}{key}"
        try:
            payload = self._read_client.get(place)
        except Exception as error:  # noqa: BLE001  # see `excuse`
            self.excuse(error)
            return None
        return None if payload is None else self.keyed.decode(key, payload, place)

    def get_many(self, *keys: str) -> list[Any]:
        """Return the values under `keys`, None for each that is missing or cannot be read."""
        if not keys:
            return []
        prefix = self._get_prefix()
        places = [f"{prefix}{key}" for key in keys]
        try:
            payloads = self._read_client.mget(places)
        except Exception as error:  # noqa: BLE001
            payloads = answered(self.excuse(error), len(keys))
        return [
            None if payload is None else self.keyed.decode(key, payload, place)
            for key, place, payload in zip(keys, places, payloads, strict=True)
        ]

    def has(self, key: str) -> bool:
        """Return whether there is a value under `key` that can be read."""
        place = f"{self._get_prefix()}{key}"
        try:
            payload = self._read_client.get(place)
        except Exception as error:  # noqa: BLE001
            self.excuse(error)
            return False
        return (
            payload is not None and self.keyed.decode(key, payload, place, MISSING) is not MISSING
        )

    def set(self, key: str, value: Any, timeout: Any = None) -> Any:
        """Store `value` under `key`, and return whether it was stored."""
        place = f"{self._get_prefix()}{key}"
        with WithinRequest():
            payload = self._payload(key, value, place)
        try:
            if payload is not SKIPPED:
                return self._write_client.set(place, payload, ex=self._seconds(timeout))
            self._write_client.delete(place)
        except Exception as error:  # noqa: BLE001
            self._lost(error, key, deleting=payload is SKIPPED)
        return False

    def add(self, key: str, value: Any, timeout: Any = None) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        place = f"{self._get_prefix()}{key}"
        with WithinRequest():
            payload = self._payload(key, value, place)
        if payload is SKIPPED:
            return False
        try:
            return bool(self._write_client.set(place, payload, ex=self._seconds(timeout), nx=True))
        except Exception as error:  # noqa: BLE001
            self._lost(error)
            return False

    def set_many(self, mapping: dict[str, Any], timeout: Any = None) -> list[Any]:
        """Store every value that can be stored, and return the keys of those that were."""
        prefix, seconds = self._get_prefix(), self._seconds(timeout)
        with WithinRequest():
            payloads = {
                key: self._payload(key, value, f"{prefix}{key}") for key, value in mapping.items()
            }
        try:
            pipeline = self._write_client.pipeline(transaction=False)
            for key, payload in payloads.items():
                if payload is SKIPPED:
                    pipeline.delete(f"{prefix}{key}")
                else:
                    pipeline.set(f"{prefix}{key}", payload, ex=seconds)
            found = pipeline.execute()
        except Exception as error:  # noqa: BLE001
            outage = outage_of(self._write_client, error)
            found = [None] * len(payloads) if outage is None else answered(outage, len(payloads))
            failed = [key for key, answer in zip(payloads, found, strict=True) if answer is None]
            skipped = any(payloads[key] is SKIPPED for key in failed)
            self._lost(error, *failed, deleting=skipped)
        answers = zip(payloads.items(), found, strict=True)
        return [key for (key, payload), done in answers if done and payload is not SKIPPED]

    def _payload(self, key: str, value: Any, place: str) -> Any:
        """Return the payload of `value`, or `SKIPPED`."""
        if issubclass(type(value), Response):  # isinstance would ask a proxy for its target
            read_whole_body(value)
        return self.keyed.encode(key, value, place)

    def _seconds(self, timeout: Any) -> int | None:
        """Return after how many seconds a key expires; None for never, cachelib's 0."""
        seconds = self.default_timeout if timeout is None else self._normalize_timeout(timeout)
        return seconds if seconds not in (0, -1) else None

    def delete_many(self, *keys: str) -> list[Any]:
        """Delete `keys`, and return those that are gone."""
        if not keys:
            return []
        prefix = self._get_prefix()
        try:
            self._write_client.delete(*(f"{prefix}{key}" for key in keys))
        except Exception as error:  # noqa: BLE001
            found = answered(self.excuse(error, deleting=True), len(keys))
            return [key for key, answer in zip(keys, found, strict=True) if answer is not None]
        return [*keys]

    def clear(self) -> bool:
        """Delete every key with the prefix of this cache, on every node; return whether any was.

        cachelib sends KEYS, which holds up the server, and in a cluster asks one node only.
        """
        prefix = self._get_prefix()
        if not prefix:
            return bool(self._write_client.flushdb())
        pattern = re.sub(r"([*?\[\]\\^])", r"\\\1", prefix) + "*"
        deleted = 0
        failures: list[ServerError] = []
        scanned = self._write_client.scan_iter(match=pattern, count=SCANNED)
        found = _until_failure(scanned, failures)  # once: it closes what it reads when it ends
        while keys := list(islice(found, SCANNED)):
            try:
                deleted += self._write_client.delete(*keys)
            except ServerError as error:  # of one node; the others are still to be cleared
                if not error.answers:
                    raise
                failures.append(error)
        for failure in failures:
            raise failure
        return bool(deleted)

    # --- Outages --------------------------------------------------------------------------------

    def excuse(self, error: Exception, *, deleting: bool = False) -> ServerError:
        """Warn of an outage that goes unnoticed otherwise, or raise it if that is the policy.

        A client of the application's raises other errors than ours, and some are no outages.
        """
        outage = outage_of(self._write_client, error)
        if outage is None:
            raise error
        guard = self.keyed.guard
        if guard.config.on_error == "raise":
            raise outage from error
        warn(outage, self._sink, deleting=deleting)
        return outage

    def _lost(self, error: Exception, *keys: str, deleting: bool = False) -> None:
        """Excuse writes, and delete what they were to replace: it would be taken for them."""
        if (scope := current_scope()) is not None:
            outage = outage_of(self._write_client, error)
            scope.lost(outage.reason if outage else error_name(error), max(1, len(keys)))
        if isinstance(self.excuse(error, deleting=deleting), ReadOnlyServerError):
            self.unlink(*keys)


def _until_failure(found: Iterator[Any], failures: list[ServerError]) -> Iterator[Any]:
    """Yield what is found: that some nodes fail says nothing against the keys of the others."""
    try:
        yield from found
    except ServerError as error:
        failures.append(error)


def _excused(name: str, instead: Callable[[], Any]) -> Callable[..., Any]:
    """Return the method `name`, which in an outage returns what `instead` returns."""
    method = getattr(RedisCache, name)

    @functools.wraps(method)
    def excused(self: RedisCache, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001  # see `RedisCache.excuse`
            self.excuse(error, deleting=name in _DELETIONS)
            return instead()

    return excused


_DELETIONS = {"delete", "unlink", "clear"}


_AS_IF_EMPTY: dict[str, Callable[[], Any]] = {
    "inc": lambda: None,
    "dec": lambda: None,
    "delete": bool,
    "unlink": int,
    "clear": bool,
}
for _name, _instead in _AS_IF_EMPTY.items():
    setattr(RedisCache, _name, _excused(_name, _instead))
