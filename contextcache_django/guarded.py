"""The guard around a cache backend of Django's API, whichever it is.

It turns values into bytes before they reach the backend, because here the key is still known,
and because an async caller is still in its own thread and context: `aset` would serialise in
another thread, where a `threading.local` is unset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from contextcache import UncacheableValueError, UnreadablePayloadError
from contextcache_django.conf import alias_of, guard_for, place_of, project_config
from contextcache_django.serializers import cache_label, decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contextcache import Config, Guard


SKIPPED = object()
"""Stands for the payload of a value of which nothing can be stored."""

_MISSING = object()


class Guarded(BaseCache):
    """What every guarded cache has in common; stands before the class of its backend.

    A write of which nothing can be stored is skipped: the finding is logged, what the key held
    before is deleted, and a later `get` is a miss. In mode `warn` and `raise` it raises
    `UncacheableValueError`. A payload that cannot be read is logged and is a miss.
    """

    _sink: str
    _where: str
    _overrides: Mapping[str, Any] | None
    _kept: tuple[Config, Guard] | None = None

    def guard(self, sink: str, *, session: bool = False) -> Guard:
        """Return a guard with the settings of this alias, for another kind of value in it."""
        return guard_for(sink, self._overrides, where=self._where, session=session)

    @property
    def _guard(self) -> Guard:
        kept = self._kept
        if kept is None or kept[0] is not project_config():  # the settings were changed, in a test
            kept = vars(self)["_kept"] = project_config(), self.guard(self._sink)
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


def encoded(guard: Guard, key: Any, value: Any, place: str = "") -> Any:
    """Return the payload of `value`, or `SKIPPED` where there is nothing to store.

    Args:
        guard: The guard of the cache.
        key: The key as the user wrote it.
        value: What is to be stored under it.
        place: The key as the server knows it, where the payload is signed.
    """
    try:
        return encode(guard, value, cache_label(key), place)
    except UncacheableValueError:
        if guard.config.mode != "strip":
            raise
        return SKIPPED


def decoded(guard: Guard, key: Any, payload: bytes, default: Any, place: str = "") -> Any:
    """Return the value of `payload`, or `default` where it cannot be read; see `encoded`."""
    try:
        return decode(guard, payload, cache_label(key), place)
    except UnreadablePayloadError as error:
        guard.report_unreadable(error)
        return default


class Wrapper(BaseCache):
    """Passes every operation and attribute on to the backend that `OPTIONS["BACKEND"]` names."""

    _location: str | list[str]
    _params: dict[str, Any]

    def __init__(self, location: str | list[str], params: dict[str, Any], **own: Any) -> None:
        # Timeouts, prefix and version are the backend's; BaseCache would read them once more.
        vars(self).update(own, _location=location, _params=params)

    @cached_property
    def backend(self) -> BaseCache:
        """The backend inside, made at the first use.

        Raises:
            ImproperlyConfigured: The settings name none, or one that cannot be imported.
        """
        return self._made()

    def _made(self) -> BaseCache:
        # Not in __init__: Django's own system checks make every cache, and would end in a
        # traceback before ours can report the mistake.
        options = dict(self._params.get("OPTIONS") or {})
        options.pop("CONTEXTCACHE", None)
        named = options.pop("BACKEND", None)
        if named is None:
            raise ImproperlyConfigured(
                f"{type(self).__qualname__} wraps another backend: name it in OPTIONS['BACKEND']"
            )
        try:
            kind = import_string(named)
        except ImportError as error:
            raise ImproperlyConfigured(f"OPTIONS['BACKEND']: {error}") from error
        made: BaseCache = kind(self._location, {**self._params, "OPTIONS": options})
        if isinstance(made, Guarded):
            raise ImproperlyConfigured(
                f"OPTIONS['BACKEND'] is {named!r}, which guards itself: make it the BACKEND"
            )
        return made

    @property  # type: ignore[misc]  # nobody may set it
    def __class__(self) -> type:
        """The class of the backend, by which `createcachetable` and Django's checks know it."""
        try:
            return type(self.backend)
        except ImproperlyConfigured:  # for the check that says what is wrong
            return type(self)

    def __getattr__(self, name: str) -> Any:
        """Find what the backend has, such as `version`, and `ttl` of django-redis."""
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "backend":  # Python asks here where making it raised an `AttributeError`
            return self._made()
        return getattr(self.backend, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Change what the backend has."""
        setattr(self.backend, name, value)

    def make_key(self, key: Any, version: int | None = None) -> str:
        """Return the key as the backend stores it."""
        return self.backend.make_key(key, version)

    def validate_key(self, key: Any) -> None:
        """Warn or raise where the backend would."""
        self.backend.validate_key(key)

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> Any:
        """Return a timeout in the form the backend wants."""
        return self.backend.get_backend_timeout(timeout)

    def set(self, *args: Any, **options: Any) -> Any:
        """Store a payload."""
        return self.backend.set(*args, **options)

    def add(self, *args: Any, **options: Any) -> bool:
        """Store a payload where nothing is."""
        return self.backend.add(*args, **options)

    def set_many(self, data: dict[Any, Any], *args: Any, **options: Any) -> list[Any]:
        """Store payloads."""
        return self.backend.set_many(data, *args, **options)

    def get(self, *args: Any, **options: Any) -> Any:
        """Return a payload."""
        return self.backend.get(*args, **options)

    def get_many(self, *args: Any, **options: Any) -> dict[Any, Any]:
        """Return payloads."""
        return self.backend.get_many(*args, **options)

    def touch(self, *args: Any, **options: Any) -> bool:
        """Change the expiry of a key."""
        return self.backend.touch(*args, **options)

    def delete(self, *args: Any, **options: Any) -> bool:
        """Delete a key."""
        return self.backend.delete(*args, **options)

    def delete_many(self, *args: Any, **options: Any) -> None:
        """Delete keys."""
        return self.backend.delete_many(*args, **options)

    def has_key(self, *args: Any, **options: Any) -> bool:
        """Return whether a key holds something."""
        return self.backend.has_key(*args, **options)

    def incr(self, *args: Any, **options: Any) -> int:
        """Add to a number."""
        return self.backend.incr(*args, **options)

    def clear(self) -> None:
        """Delete every key."""
        self.backend.clear()

    def close(self, **options: Any) -> None:
        """Close what the backend opened for this request."""
        if "backend" in vars(self):
            self.backend.close(**options)

    async def aclose(self, **options: Any) -> None:
        """Close what the backend opened for this request."""
        if "backend" in vars(self):
            await self.backend.aclose(**options)


class Payload:
    """Holds bytes that the guard has made, unlike bytes that are somebody's value."""

    __slots__ = ("stored",)

    def __init__(self, stored: bytes) -> None:
        self.stored = stored

    def __reduce__(self) -> tuple[type[Payload], tuple[bytes]]:
        return Payload, (self.stored,)  # the shortest, and for any protocol of a backend


class GuardedCache(Guarded, Wrapper):
    """`CACHES[...]["BACKEND"]`: the backend that `OPTIONS["BACKEND"]` names, behind the guard.

    It wraps any backend of Django's API: memory, database, files, memcached, django-redis. What
    the backend gets is a `Payload`, which is bytes and a name, so a value is pickled once, and one
    that cannot be read any more costs its own key only. Bytes alone would not do: they may be a
    value from before, an upload say, and must not be unpickled. `LOCATION` and all other
    `OPTIONS` are the backend's own, but for `CONTEXTCACHE`: settings of this alias that differ
    from the project's.

    The bytes are not signed. These backends unpickle what they find by themselves, before anyone
    could look at a signature: who can write to such a server can run code here, as without the
    guard. Only `RedisCache` prevents that. What the backend held before it was wrapped is read.

    Raises:
        ImproperlyConfigured: A backend or a setting contains a mistake, at the first use.
    """

    def __init__(self, location: str | list[str], params: dict[str, Any]) -> None:
        options = params.get("OPTIONS") or {}
        alias = alias_of(location, params)
        place = place_of(options.get("BACKEND"))
        super().__init__(
            location,
            params,
            _overrides=options.get("CONTEXTCACHE"),
            _sink=f"cache in {place}" if alias is None else f"cache {alias!r} in {place}",
            _where=f"CACHES[{alias or '...'!r}]['OPTIONS']['CONTEXTCACHE']",
        )

    def guard(self, sink: str, *, session: bool = False) -> Guard:
        """Return a guard with the settings of this alias, for another kind of value in it."""
        return guard_for(sink, self._overrides, where=self._where, session=session, signed=False)

    # --- Reading --------------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value under `key`, or `default` where there is none that can be read."""
        payload = super().get(key, _MISSING, version)
        return default if payload is _MISSING else self._value(key, payload, default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values that are there and can be read."""
        found = super().get_many(list(keys), version)
        values = {key: self._value(key, payload, _MISSING) for key, payload in found.items()}
        return {key: value for key, value in values.items() if value is not _MISSING}

    def _value(self, key: Any, payload: Any, default: Any) -> Any:
        if type(payload) is not Payload:
            return payload  # a plain int, or what the backend held before it was guarded
        return decoded(self._guard, key, payload.stored, default)

    # --- Writing --------------------------------------------------------------------------------

    def _ready(self, key: Any, value: Any, _version: int | None, /) -> tuple[Any, Any]:
        payload = encoded(self._guard, key, value)
        return key, Payload(payload) if isinstance(payload, bytes) else payload

    def _set(
        self, place: Any, payload: Any, timeout: Any, version: int | None, /, **options: Any
    ) -> Any:
        if payload is SKIPPED:
            self.delete(place, version=version)
            return None
        return self.backend.set(place, payload, timeout, version, **options)

    def _add(self, place: Any, payload: Any, timeout: Any, version: int | None, /) -> bool:
        return self.backend.add(place, payload, timeout, version)

    def _set_many(
        self, ready: dict[Any, tuple[Any, Any]], timeout: Any, version: int | None, /
    ) -> list[Any]:
        payloads = dict(ready.values())
        skipped = [key for key, payload in payloads.items() if payload is SKIPPED]
        for key in skipped:
            del payloads[key]
        self.delete_many(skipped, version=version)
        return [*(self.backend.set_many(payloads, timeout, version) or ()), *skipped]

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Add `delta` to the number under `key`."""
        try:
            return super().incr(key, delta, version)
        except TypeError:
            # Not a plain int, which is stored raw, but a float: the backend found a payload.
            return BaseCache.incr(self, key, delta, version)
