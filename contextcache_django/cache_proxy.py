"""`GuardedCache`: any cache backend of Django's API behind the guard, as an object around it."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import cached_property
from django.utils.module_loading import import_string

from contextcache import UnreadablePayloadError
from contextcache.storage.backend_errors import PROBE_KEY, is_about_value, without_clients
from contextcache.storage.commands import LABEL as SESSION
from contextcache.storage.keyed_guard import MISSING, SKIPPED, KeyedGuard, label_of
from contextcache.storage.sessions import as_session
from contextcache_django.cache_mixin import Guarded
from contextcache_django.conf import alias_of, backend_label, names_of, project_config

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contextcache import Config


class _OfBackend:
    """A method of the backend, in the place of one that the base class has, too."""

    def __set_name__(self, owner: type[Wrapper], name: str) -> None:
        self._name = name

    def __get__(self, wrapper: Wrapper | None, owner: type[Wrapper]) -> Any:
        return self if wrapper is None else getattr(wrapper.backend, self._name)


class Wrapper(BaseCache):
    """Passes every operation and attribute on to the backend that `OPTIONS["BACKEND"]` names."""

    _location: str | list[str]
    _params: dict[str, Any]
    _raises_of_values = True

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
        if _PYMEMCACHE in (f"{one.__module__}.{one.__qualname__}" for one in kind.__mro__):
            vars(self)["_raises_of_values"] = "serde" in options
            options.setdefault("serde", _pymemcache_serde())
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

    make_key: Any = _OfBackend()
    validate_key: Any = _OfBackend()
    get_backend_timeout: Any = _OfBackend()
    touch: Any = _OfBackend()
    delete: Any = _OfBackend()
    delete_many: Any = _OfBackend()
    has_key: Any = _OfBackend()
    incr: Any = _OfBackend()
    clear: Any = _OfBackend()

    def close(self, **options: Any) -> None:
        """Close what the backend opened for this request."""
        if "backend" in vars(self):
            self.backend.close(**options)

    async def aclose(self, **options: Any) -> None:
        """Close what the backend opened for this request."""
        if "backend" in vars(self):
            await self.backend.aclose(**options)


class Payload:
    """Bytes that the guard has made, and that any backend stores as the value they are a pickle of.

    Every process that unpickles it gets the value, also one that does not guard this cache, yet or
    any more, or has no contextcache at all.
    """

    __slots__ = ("stored",)

    def __init__(self, stored: bytes) -> None:
        self.stored = stored

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self.stored,)


class Unreadable:
    """Stands for a value that could not be unpickled, where the client would return None."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _pymemcache_serde() -> Any:
    """Return the serializer of pymemcache that Django uses, which tells a failure from a None."""
    from pymemcache.serde import FLAG_PICKLE, PickleSerde  # noqa: PLC0415  # it may not be there

    class Serde(PickleSerde):  # type: ignore[misc]  # it has no types
        def deserialize(self, key: bytes, value: bytes, flags: int) -> Any:
            if not flags & FLAG_PICKLE:
                return super().deserialize(key, value, flags)
            try:
                return pickle.loads(value)
            except Exception as error:  # noqa: BLE001  # as `contextcache.payload.loading.load` does
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                return Unreadable(error)

    return Serde()


_PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"


class GuardedCache(Guarded, Wrapper):
    """`CACHES[...]["BACKEND"]`: the backend that `OPTIONS["BACKEND"]` names, behind the guard.

    It wraps any backend of Django's API: memory, database, files, memcached, django-redis. What
    the backend gets is a `Payload`: the value is pickled once, and the backend's own pickle of it
    is one that any process reads as the value. `LOCATION` and all other `OPTIONS` are those of the
    backend, but for `CONTEXTCACHE`: settings of this alias that differ from the project's.

    The payloads are not signed. These backends unpickle what they find by themselves, before anyone
    could look at a signature: who can write to such a server can run code here, as without the
    guard. Only `RedisCache` prevents that. What the backend held before it was wrapped is read.

    Raises:
        ImproperlyConfigured: A backend or a setting contains a mistake, at the first use.
    """

    _signed = False
    _kept: tuple[Config, KeyedGuard] | None = None

    def __init__(self, location: str | list[str], params: dict[str, Any]) -> None:
        options = params.get("OPTIONS") or {}
        alias = alias_of(location, params)
        sink, where = names_of(alias, backend_label(options.get("BACKEND")))
        super().__init__(
            location,
            params,
            _overrides=options.get("CONTEXTCACHE"),
            _sink=sink,
            _where=where,
        )

    @property
    def _keyed(self) -> KeyedGuard:
        kept = self._kept
        if kept is None or kept[0] is not project_config():  # the settings were changed, in a test
            keyed = KeyedGuard(self.guard(self._sink))
            kept = vars(self)["_kept"] = project_config(), keyed
        return kept[1]

    # --- Reading --------------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value under `key`, or `default` where there is none that can be read."""
        backend = self.backend
        try:
            return self._value(key, backend.get(key, MISSING, version), default)
        except Exception as error:
            if not self._is_about_value([key], version):
                raise
            return self._unreadable(key, without_clients(error, backend), default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values that are there and can be read."""
        keys, backend = list(keys), self.backend
        try:
            found = backend.get_many(keys, version)
        except Exception:
            if not self._is_about_value(keys, version):
                raise
            found = {key: self.get(key, MISSING, version) for key in keys}  # the others can be
        values = {key: self._value(key, held, MISSING) for key, held in found.items()}
        return {key: value for key, value in values.items() if value is not MISSING}

    def _is_about_value(self, keys: list[Any], version: int | None) -> bool:
        """Return whether an error of the backend was about a value under `keys`."""
        backend = self.backend

        validate: Any = getattr(backend, "validate_key", None)  # django-valkey's has none

        def answer() -> None:
            for key in keys if validate is not None else ():
                validate(backend.make_key(key, version))
            backend.get(PROBE_KEY)

        return self._raises_of_values and is_about_value(answer)

    def _value(self, key: Any, held: Any, default: Any) -> Any:
        if type(held) is Payload:  # of a backend that pickles nothing
            return self._keyed.decode(key, held.stored, default=default)
        if type(held) is Unreadable:
            return self._unreadable(key, held.error, default)
        if held is MISSING:
            return default
        if type(held) is not dict and label_of(key) == SESSION:
            try:
                return as_session(held)
            except UnreadablePayloadError as error:
                return self._unreadable(key, error, default)
        return held

    def _unreadable(self, key: Any, error: Exception, default: Any) -> Any:
        self._keyed.guard.report_unreadable(error, label=label_of(key))
        return default

    # --- Writing: the guard runs here, in the caller's thread and context -----------------------

    def set(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        **options: Any,
    ) -> Any:
        """Store `value` under `key`; the options are those of the backend."""
        return self._set(key, self._encode(key, value), timeout, version, **options)

    async def aset(
        self,
        key: Any,
        value: Any,
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
        **options: Any,
    ) -> Any:
        """Store `value` under `key`; see `set`."""
        payload = self._encode(key, value)
        return await sync_to_async(self._set)(key, payload, timeout, version, **options)

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        payload = self._encode(key, value)
        return payload is not SKIPPED and bool(self.backend.add(key, payload, timeout, version))

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store `value` under `key` if that is free; see `add`."""
        payload = self._encode(key, value)
        if payload is SKIPPED:
            return False
        return await sync_to_async(self.backend.add)(key, payload, timeout, version)

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be, and return the keys of those that cannot."""
        payloads = {key: self._encode(key, value) for key, value in data.items()}
        return self._set_many(payloads, timeout, version)

    async def aset_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be; see `set_many`."""
        payloads = {key: self._encode(key, value) for key, value in data.items()}
        return await sync_to_async(self._set_many)(payloads, timeout, version)

    def _encode(self, key: Any, value: Any) -> Any:
        """Return what the backend is to store for `value`, or `SKIPPED`."""
        keyed = self._keyed
        if keyed.guard.config.mode == "off":
            return value
        payload = keyed.encode(key, value)
        return Payload(payload) if isinstance(payload, bytes) else payload

    def _set(
        self, key: Any, payload: Any, timeout: Any, version: int | None, **options: Any
    ) -> Any:
        if payload is SKIPPED:
            self.delete(key, version=version)
            return None
        return self.backend.set(key, payload, timeout, version, **options)

    def _set_many(self, payloads: dict[Any, Any], timeout: Any, version: int | None) -> list[Any]:
        skipped = [key for key, payload in payloads.items() if payload is SKIPPED]
        for key in skipped:
            del payloads[key]
        self.delete_many(skipped, version=version)
        return [*(self.backend.set_many(payloads, timeout, version) or ()), *skipped]
