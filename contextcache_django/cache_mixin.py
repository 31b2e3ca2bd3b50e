"""What the guarded caches of Django have in common, whichever backend stores the payloads.

Values become payloads before they reach a backend, because here the key is still known, and because
an async caller is still in its own thread and context: `aset` would serialise in another thread,
where a `threading.local` is unset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from contextcache.storage.keyed_guard import MISSING
from contextcache_django.conf import guard_for

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contextcache import Guard


class Guarded(BaseCache):
    """A guarded cache; stands before the class of its backend.

    A write of which nothing can be stored is skipped: the finding is logged, what the key held
    before is deleted, and a later `get` is a miss. In mode `warn` and `raise` it raises
    `UncacheableValueError`. A payload that cannot be read is logged and is a miss.
    """

    _sink: str
    _where: str
    _overrides: Mapping[str, Any] | None
    _signed = True

    def guard(self, sink: str, *, session: bool = False) -> Guard:
        """Return a guard with the settings of this alias, for another kind of value in it."""
        return guard_for(
            sink, self._overrides, where=self._where, session=session, signed=self._signed
        )

    def get_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """Return the value under `key`; where none can be read, store and return `default`.

        Args:
            key: The key.
            default: The value, or a function that returns it.
            timeout: As that of `set`.
            version: As that of `set`.
        """
        value = self.get(key, MISSING, version)
        if value is not MISSING:
            return value
        if callable(default):
            default = default()
        added = self.add(key, default, timeout, version)
        value = self.get(key, MISSING, version)
        if value is not MISSING or added:
            return default if value is MISSING else value
        self.set(key, default, timeout, version)  # what is there cannot be read
        return self.get(key, default, version)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> Any:
        """Return the value under `key`; where none can be read, store `default`: `get_or_set`."""
        value = await self.aget(key, MISSING, version)
        if value is not MISSING:
            return value
        if callable(default):
            default = default()
        added = await self.aadd(key, default, timeout, version)
        value = await self.aget(key, MISSING, version)
        if value is not MISSING or added:
            return default if value is MISSING else value
        await self.aset(key, default, timeout, version)
        return await self.aget(key, default, version)

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
