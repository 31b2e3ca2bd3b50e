"""The asynchronous methods of `RedisCache`, native: no thread, one pool for each event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import DEFAULT_TIMEOUT

from contextcache.storage.keyed_guard import MISSING
from contextcache_django.cache_mixin import Guarded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contextcache_django.cache import _Store


class AsyncMethods(Guarded):
    """What `RedisCache` is for event loops: each method does what the one without the `a` does.

    The guard runs in the caller's task; only a large payload is signed in a thread.
    """

    if TYPE_CHECKING:  # of `RedisCache`, and of Django's
        _cache: _Store

        def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> int | None:
            """Return the seconds until a value expires; None for never."""

        @staticmethod
        def _not_stored(encoded: dict[Any, tuple[str, Any]], failed: list[str]) -> list[Any]: ...

    async def _aencode(
        self, store: _Store, key: Any, value: Any, version: int | None
    ) -> tuple[str, Any]:
        """Return the key in Redis, and the payload of `value` or `SKIPPED`."""
        redis_key = self.make_key(key, version)
        self.validate_key(redis_key)
        return redis_key, await store.async_keyed.encode(key, value, redis_key)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value under `key`, or `default` where there is none that can be read."""
        redis_key = self.make_key(key, version)
        self.validate_key(redis_key)
        store = self._cache
        payload = await store.asynchronous.get(redis_key)
        if payload is None:
            return default
        return await store.async_keyed.decode(key, payload, redis_key, default)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values that are there and can be read, in one trip."""
        asked = {self.make_and_validate_key(key, version): key for key in keys}
        store, found = self._cache, {}
        for redis_key, payload in (await store.asynchronous.get_many([*asked])).items():
            value = await store.async_keyed.decode(asked[redis_key], payload, redis_key, MISSING)
            if value is not MISSING:
                found[asked[redis_key]] = value
        return found

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """Return whether `key` holds something, without reading it."""
        return await self._cache.asynchronous.exists(self.make_and_validate_key(key, version))

    async def aset(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Store `value` under `key`."""
        store = self._cache
        redis_key, payload = await self._aencode(store, key, value, version)
        await store.asynchronous.set(redis_key, payload, self.get_backend_timeout(timeout))

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        store = self._cache
        redis_key, payload = await self._aencode(store, key, value, version)
        seconds = self.get_backend_timeout(timeout)
        return await store.asynchronous.add(redis_key, payload, seconds)

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be, and return the keys of those that cannot."""
        store = self._cache
        encoded = {
            key: await self._aencode(store, key, value, version) for key, value in data.items()
        }
        seconds = self.get_backend_timeout(timeout)
        failed = await store.asynchronous.set_many(dict(encoded.values()), seconds)
        return self._not_stored(encoded, failed)

    async def atouch(
        self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Let `key` expire anew, and return whether it was there."""
        redis_key = self.make_and_validate_key(key, version)
        seconds = self.get_backend_timeout(timeout)
        return await self._cache.asynchronous.touch(redis_key, seconds)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add `delta` to the number under `key`, atomically."""
        redis_key = self.make_and_validate_key(key, version)
        store = self._cache
        total = await store.asynchronous.incr(redis_key, delta, create=False)
        return store.total(redis_key, total)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """Delete the value under `key`, and return whether it was there."""
        return await self._cache.asynchronous.delete(self.make_and_validate_key(key, version))

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Delete the values under `keys`, in one trip."""
        redis_keys = [self.make_and_validate_key(key, version) for key in keys]
        await self._cache.asynchronous.delete_many(redis_keys)

    async def aclose(self, **_: Any) -> None:
        """Keep the connections, which end with their event loop."""

    async def aclear(self) -> Any:
        """Delete everything in the database, and return whether that was possible."""
        return await self._cache.asynchronous.clear()
