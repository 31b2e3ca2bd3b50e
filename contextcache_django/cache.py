"""The cache backend: Django's own Redis backend behind the guard.

Django's class does all that has to do with Redis. This one turns values into bytes before they
reach it, because here the key is still known, and because an async caller is still in its own
thread and context: `aset` would serialise in another thread, where a `threading.local` is unset.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends import redis as backend
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import ImproperlyConfigured

from contextcache import (
    ReadOnlyServerError,
    ServerError,
    UncacheableValueError,
    UnreadablePayloadError,
)
from contextcache.servers import DEFAULT_URL
from contextcache_django.clients import KeptClient
from contextcache_django.conf import alias_of as _alias_of
from contextcache_django.conf import guard_for
from contextcache_django.guarded import GuardedCache
from contextcache_django.serializers import CacheSerializer, decode, encode, miss
from contextcache_django.serializers import cache_label as _label

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

    from contextcache import Guard

__all__ = ["GuardedCache", "RedisCache"]


class RedisCache(backend.RedisCache):
    """`CACHES[...]["BACKEND"]`: any value, stored without what cannot be stored.

    A write of which nothing can be stored is skipped: the finding is logged, what the key held
    before is deleted, and a later `get` is a miss. In mode `warn` and `raise` it raises
    `UncacheableValueError`. A payload that cannot be read is logged and is a miss.

    `LOCATION` is a URL that `contextcache.servers` understands, or a list of them, the first for
    writing and the others for reading; without one it is `fakeredis://`. `OPTIONS` go to
    redis-py, as in Django's backend, but for `CONTEXTCACHE`: settings of this alias that differ
    from the project's.

    Raises:
        ImproperlyConfigured: A URL, an option or a setting contains a mistake.
        ServerError: Redis cannot be reached, and `ON_ERROR` is `raise`; the message names the URL
            that was tried.
    """

    # Django's own attributes, which its stubs do not declare.
    _servers: list[str]
    _class: type[KeptClient]
    _options: dict[str, Any]

    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        if isinstance(server, str) and "+" in server.partition("://")[0]:
            server = [server]  # its commas are between the nodes of one URL
        super().__init__(server or DEFAULT_URL, params)
        self._class = KeptClient
        self._options = dict(self._options)
        self._overrides: Mapping[str, Any] | None = self._options.pop("CONTEXTCACHE", None)
        alias = _alias_of(server, params)
        kind = self._servers[0].partition("://")[0]
        self._sink = "cache in " if alias is None else f"cache {alias!r} in "
        self._sink += "fakeredis" if kind == "fakeredis" else "redis"
        self._where = f"CACHES[{alias or '...'!r}]['OPTIONS']['CONTEXTCACHE']"
        self._client: Any = None
        self._client_pid = 0
        # A mistake in the settings raises at the first use and not here: Django's own system
        # checks make every cache, and would end in a traceback before ours can report it.

    def connection(self) -> redis.Redis:
        """Return the client of the server that takes the writes."""
        client: redis.Redis = self._cache.get_client(write=True)
        return client

    def guard(self, sink: str, *, session: bool = False) -> Guard:
        """Return a guard with the settings of this alias, for another kind of value in it."""
        return guard_for(sink, self._overrides, where=self._where, session=session)

    # --- Writing: the guard runs here, in the caller's thread and context -----------------------

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """Store `value` under `key`."""
        payload = self._encode(key, value, version)
        if payload is _SKIPPED:
            self.delete(key, version=version)
        else:
            super().set(key, payload, timeout, version)

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> None:
        """Store `value` under `key`; see `set`."""
        await super().aset(key, self._encode(key, value, version), timeout, version)

    def add(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        payload = self._encode(key, value, version)
        return payload is not _SKIPPED and super().add(key, payload, timeout, version)

    async def aadd(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> bool:
        """Store `value` under `key` if that is free; see `add`."""
        return await super().aadd(key, self._encode(key, value, version), timeout, version)

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be, and return the keys of those that cannot."""
        payloads = {key: self._encode(key, value, version) for key, value in data.items()}
        skipped = [key for key, payload in payloads.items() if payload is _SKIPPED]
        for key in skipped:
            del payloads[key]
        self.delete_many(skipped, version=version)
        try:
            return [*super().set_many(payloads, timeout, version), *skipped]
        except ServerError as error:
            self._cache.excuse(error)
            if isinstance(error, ReadOnlyServerError):
                self.delete_many(payloads, version=version)
            return [*payloads, *skipped]

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be; see `set_many`."""
        payloads = {key: self._encode(key, value, version) for key, value in data.items()}
        return await sync_to_async(self.set_many)(payloads, timeout, version)

    # --- Reading --------------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value under `key`, or `default` where there is none that can be read."""
        payload = super().get(key, _MISSING, version)
        if payload is _MISSING:
            return default
        try:
            return decode(self._guard, payload, _label(key), self.make_key(key, version))
        except UnreadablePayloadError as error:
            miss(self._guard, error)
            return default

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values that are there and can be read."""
        values = {}
        for key, payload in super().get_many(keys, version).items():
            try:
                place = self.make_key(key, version)
                values[key] = decode(self._guard, payload, _label(key), place)
            except UnreadablePayloadError as error:
                miss(self._guard, error)
        return values

    # --- What Django's base class does key by key, or not atomically, in its async twins --------

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values that are there and can be read, in one trip."""
        return await sync_to_async(self.get_many)(keys, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether `key` holds something, without reading it."""
        return await sync_to_async(self.has_key)(key, version)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add `delta` to the number under `key`, atomically."""
        return await sync_to_async(self.incr)(key, delta, version)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete the values under `keys`, in one trip."""
        await sync_to_async(self.delete_many)(list(keys), version)

    # --- The parts ------------------------------------------------------------------------------

    @property
    def _guard(self) -> Guard:
        return self.guard(self._sink)

    @property
    def _cache(self) -> Any:
        """Django's client over the connections this process keeps, made anew after a fork."""
        if self._client is None or self._client_pid != os.getpid():
            if "serializer" in self._options:
                raise ImproperlyConfigured(
                    f"{type(self).__qualname__} is its own serializer: remove "
                    "OPTIONS['serializer'], or use Django's RedisCache with it"
                )
            self._client = self._class(
                self._servers,
                config=lambda: self._guard.config,
                sink=self._sink,
                serializer=_Passed(),
                **self._options,
            )
            self._client_pid = os.getpid()
        return self._client

    def _encode(self, key: Any, value: Any, version: int | None) -> Any:
        """Return the payload of `value`, or `_SKIPPED` where there is nothing to store."""
        if type(value) is _Payload or value is _SKIPPED:
            return value  # an async method came by here already
        try:
            encoded = encode(self._guard, value, _label(key), self.make_key(key, version))
        except UncacheableValueError:
            if self._guard.config.mode != "strip":
                raise
            return _SKIPPED
        return _Payload(encoded) if isinstance(encoded, bytes) else encoded


class _Payload(bytes):
    """Bytes that are already what Redis is to hold, unlike bytes that are somebody's value."""

    __slots__ = ()


_SKIPPED = object()
_MISSING = object()


class _Passed(CacheSerializer):
    """Lets payloads pass between `RedisCache` and Redis, both ways."""

    def dumps(self, value: Any) -> bytes | int:
        return value if type(value) is _Payload else super().dumps(value)

    def loads(self, payload: bytes) -> Any:
        return payload
