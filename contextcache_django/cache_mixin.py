"""The guard around a cache backend of Django's API, whichever it is.

It turns values into bytes before they reach the backend, because here the key is still known,
and because an async caller is still in its own thread and context: `aset` would serialise in
another thread, where a `threading.local` is unset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from contextcache.storage.keyed_guard import MISSING, SKIPPED, KeyedGuard
from contextcache_django.conf import guard_for, project_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contextcache import Config, Guard


class Guarded(BaseCache):
    """What every guarded cache has in common; stands before the class of its backend.

    A write of which nothing can be stored is skipped: the finding is logged, what the key held
    before is deleted, and a later `get` is a miss. In mode `warn` and `raise` it raises
    `UncacheableValueError`. A payload that cannot be read is logged and is a miss.
    """

    _sink: str
    _where: str
    _overrides: Mapping[str, Any] | None
    _kept: tuple[Config, KeyedGuard] | None = None

    def guard(self, sink: str, *, session: bool = False) -> Guard:
        """Return a guard with the settings of this alias, for another kind of value in it."""
        return guard_for(sink, self._overrides, where=self._where, session=session)

    @property
    def _keyed(self) -> KeyedGuard:
        kept = self._kept
        if kept is None or kept[0] is not project_config():  # the settings were changed, in a test
            keyed = KeyedGuard(self.guard(self._sink))
            kept = vars(self)["_kept"] = project_config(), keyed
        return kept[1]

    # --- Writing: the guard runs here, in the caller's thread and context -----------------------

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        **options: Any,
    ) -> Any:
        """Store `value` under `key`."""
        place, payload = self._ready(key, value, version)
        return self._set(place, payload, timeout, version, **options)

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        **options: Any,
    ) -> Any:
        """Store `value` under `key`; see `set`."""
        place, payload = self._ready(key, value, version)
        return await sync_to_async(self._set)(place, payload, timeout, version, **options)

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        place, payload = self._ready(key, value, version)
        return payload is not SKIPPED and self._add(place, payload, timeout, version)

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store `value` under `key` if that is free; see `add`."""
        place, payload = self._ready(key, value, version)
        if payload is SKIPPED:
            return False
        return await sync_to_async(self._add)(place, payload, timeout, version)

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be, and return the keys of those that cannot."""
        ready = {key: self._ready(key, value, version) for key, value in data.items()}
        return self._set_many(ready, timeout, version)

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be; see `set_many`."""
        ready = {key: self._ready(key, value, version) for key, value in data.items()}
        return await sync_to_async(self._set_many)(ready, timeout, version)

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

    # --- What a backend makes of it -------------------------------------------------------------

    def _ready(self, key: Any, value: Any, _version: int | None, /) -> tuple[Any, Any]:
        """Return where `value` is stored, and its payload or `SKIPPED`."""
        raise NotImplementedError

    def _set(
        self, place: Any, payload: Any, timeout: Any, _version: int | None, /, **options: Any
    ) -> Any:
        raise NotImplementedError

    def _add(self, place: Any, payload: Any, timeout: Any, _version: int | None, /) -> bool:
        raise NotImplementedError

    def _set_many(
        self, ready: dict[Any, tuple[Any, Any]], timeout: Any, _version: int | None, /
    ) -> list[Any]:
        raise NotImplementedError

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
