"""Any backend of cachelib's behind the guard: Flask-Caching's, and those that are used bare.

`guarded(SimpleCache())` is all there is to it. `ContextCache` does so for Flask-Caching.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, TypeVar, cast

from cachelib import BaseCache
from flask import Response, current_app

from contextcache import Guard, UncacheableValueError, UnreadablePayloadError
from contextcache.base.classes import derived
from contextcache.storage.backend_errors import PROBE_KEY, is_about_value, without_clients
from contextcache.storage.commands import LABEL as SESSION
from contextcache.storage.keyed_guard import SKIPPED, KeyedGuard
from contextcache.storage.sessions import as_session
from contextcache_flask.request_scope import WithinRequest
from contextcache_flask.serializers import (
    AsStored,
    GuardedRedisSerializer,
    GuardedSerializer,
    OwnCodec,
    Reading,
    Ready,
    guarded_serializer,
    reading,
    storable,
)
from contextcache_flask.settings import EXTENSION, settings_of

if TYPE_CHECKING:
    from cachelib.serializers import BaseSerializer
    from flask import Flask

    from contextcache import Config

Backend = TypeVar("Backend", bound=BaseCache)

_BACKEND_LABELS = {"RedisCache": "redis", "SimpleCache": "memory", "FileSystemCache": "files"}


def guarded(
    backend: Backend, app: Flask | None = None, *, config: Config | None = None, label: str = ""
) -> Backend:
    """Guard a backend of cachelib's: what cannot be stored is cut out and named.

    The object stays the same, and so does the name of its class, of which it now has a subclass.
    What it stored before can still be read.

    Args:
        backend: Any backend; one that is guarded already gets these settings.
        app: The application whose settings apply; without one, those of the current one.
        config: A policy of its own, instead of the application's.
        label: What paths begin with, instead of `cache[...]` with the key: one that is a secret,
            such as the id of a session, must not be logged.

    Returns:
        The same object.
    """
    if not isinstance(backend, GuardedBackend):
        backend.__class__ = derived(type(backend), GuardedBackend)
    cast("GuardedBackend", backend).guard_with(app, config, label)
    return backend


class _SerializerSlot:
    """The serializer of a backend, guarded as it is set where it is one of cachelib's.

    Any other serializer is left as it is, and given values that pickle as they are to be.
    """

    def __get__(self, backend: GuardedBackend | None, owner: type[BaseCache]) -> Any:
        if backend is not None and "serializer" in vars(backend):
            return vars(backend)["serializer"]
        for base in owner.__mro__:  # what the class itself has
            held = vars(base).get("serializer", self)
            if held is not self:
                return held
        raise AttributeError(f"{owner.__name__} has no serializer")

    def __set__(self, backend: GuardedBackend, serializer: BaseSerializer) -> None:
        vars(backend).update(serializer=guarded_serializer(serializer, backend), _kept=(None, None))


class GuardedBackend(BaseCache):
    """Stores every value without what cannot be stored; comes before the class of a backend.

    It does what a serializer cannot: it names the key, skips a write of which nothing can be
    stored, and makes a payload that cannot be read a miss.

    A skipped write deletes what the key held before. `set` and `add` return False for it, and
    `set_many` does not list its key among those that were stored. In mode `warn` and `raise` it
    raises `UncacheableValueError` instead.
    """

    _app: Flask | None = None
    _own_guard: Guard | None = None
    _own_label = ""
    _kept: tuple[object, KeyedGuard] | tuple[None, None] = (None, None)

    @property
    def keyed(self) -> KeyedGuard:
        """The guard of this cache, with the settings of its application or of the current one."""
        app: Any = self._app or current_app  # which is false outside of any application
        owner = self._own_guard or (app.extensions.get(EXTENSION) if app else _WITHOUT_APP)
        kept, keyed = self._kept
        if keyed is None or kept is not owner:
            owner, guard = self._owner_and_guard(app)
            keyed = self._keyed_by(guard)
            self._kept = owner, keyed
        return keyed

    def _owner_and_guard(self, app: Any) -> tuple[object, Guard]:
        """Return the guard, and the object whose guard it is: for as long as that is the same."""
        if self._own_guard is not None:
            return self._own_guard, self._own_guard
        if not app:
            return _WITHOUT_APP, _guard_without_app(self._sink)
        settings = settings_of(app)
        # Only Redis is within reach of others: memory and files are this user's own, and a client
        # or serializer that pickles by itself has to be given a pickle.
        signed = isinstance(vars(self).get("serializer"), GuardedRedisSerializer)
        session = bool(self._own_label)
        return settings, settings.guards.get(self._sink, session=session, signed=signed)

    def _keyed_by(self, guard: Guard) -> KeyedGuard:
        serializer = vars(self).get("serializer")
        if isinstance(serializer, GuardedSerializer):
            return serializer.keyed(guard, self._own_label)
        codec = guard if serializer is None else OwnCodec(serializer, guard)
        return KeyedGuard(codec, label=self._own_label, numbers=False)

    @property
    def _sink(self) -> str:
        kind = type(self).__name__
        return f"{self._own_label or 'cache'} in {_BACKEND_LABELS.get(kind, kind)}"

    def guard_with(self, app: Flask | None, config: Config | None = None, label: str = "") -> None:
        """Apply these settings, and guard the serializer the backend has; see `guarded`."""
        self._app = app
        self._own_label = label
        self._kept = None, None
        self._own_guard = Guard(config, sink=self._sink, session=bool(label)) if config else None
        with contextlib.suppress(AttributeError):  # a client of memcached pickles by itself
            self.serializer = self.serializer

    serializer: Any = _SerializerSlot()

    def get(self, key: str) -> Any:
        """Return the value under `key`, or None where there is none that can be read."""
        return self._read(Reading(key, self._redis_key(key)))

    def has(self, key: str) -> bool:
        """Return whether there is a value under `key` that can be read.

        Flask-Caching asks after a `get` that returned None, to know whether that is the value.
        """
        now = Reading(key, self._redis_key(key))
        if not super().has(key):
            return False
        self._read(now)
        return not now.unreadable

    def _read(self, now: Reading) -> Any:
        with reading(now):
            try:
                value = super().get(now.key)
            except Exception as error:
                if not self._is_about_value():
                    raise
                self._missed(now, without_clients(error, self))
                return None
        try:
            return as_session(value) if self._own_label == SESSION and value is not None else value
        except UnreadablePayloadError as error:
            self._missed(now, error)
            return None

    def _is_about_value(self) -> bool:
        """Return whether an error of the backend was about the value it read."""
        if isinstance(vars(self).get("serializer"), GuardedSerializer):
            return False  # which raises nothing
        read = super().get
        return is_about_value(lambda: read(PROBE_KEY))

    def _missed(self, now: Reading, error: Exception) -> None:
        """Report what cannot be read, in every mode.

        It stays where it is: another deployment, or this one with its old secret, may read it.
        """
        now.unreadable = True
        keyed = self.keyed
        keyed.guard.report_unreadable(error, label=keyed.label(now.key))

    def get_many(self, *keys: str) -> list[Any]:
        """Return the values under `keys`, None for each that is missing or cannot be read."""
        backend: Any = self
        if not hasattr(backend, "_read_client"):
            return super().get_many(*keys)
        redis_keys = [self._redis_key(key) for key in keys]
        payloads = backend._read_client.mget(redis_keys) if keys else ()
        keyed = self.keyed
        return [
            None if payload is None else keyed.decode(key, payload, redis_key)
            for key, redis_key, payload in zip(keys, redis_keys, payloads, strict=True)
        ]

    def get_dict(self, *keys: str) -> dict[str, Any]:
        """Return the values by their keys; see `get_many`, which memcached calls this for."""
        try:
            return super().get_dict(*keys)
        except Exception:
            if not self._is_about_value():
                raise
            return {key: self.get(key) for key in keys}  # the others can be read

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool | None:
        """Store `value` under `key`, and return whether it was stored."""
        with WithinRequest():
            prepared = self._prepare(key, value)
        if prepared is SKIPPED:
            self.delete(key)
            return False
        return super().set(key, prepared, *args, **kwargs)

    def add(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        with WithinRequest():
            prepared = self._prepare(key, value)
        return prepared is not SKIPPED and bool(super().add(key, prepared, *args, **kwargs))

    def set_many(self, mapping: dict[str, Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Store every value that can be stored, and return the keys of those that were."""
        with WithinRequest():
            prepared = {key: self._prepare(key, value) for key, value in mapping.items()}
        stored = {key: value for key, value in prepared.items() if value is not SKIPPED}
        for key in prepared.keys() - stored.keys():
            self.delete(key)
        return super().set_many(stored, *args, **kwargs) if stored else []

    def _prepare(self, key: str, value: Any) -> Any:
        """Return what the backend is to store for `value`, or `SKIPPED`.

        The value becomes bytes here, before a backend has taken a lock, opened a file or begun a
        pipeline. Its serializer is then asked for what is ready.
        """
        if type(value) in {Ready, AsStored}:
            return value  # a method of the backend that calls another one
        if issubclass(type(value), Response):  # isinstance would ask a proxy for its target
            read_whole_body(value)
        keyed = self.keyed
        if isinstance(vars(self).get("serializer"), GuardedSerializer):
            payload = keyed.encode(key, value, self._redis_key(key))
            return payload if payload is SKIPPED else Ready(payload)
        try:
            return storable(self.guard, value, keyed.label(key))
        except UncacheableValueError:
            if self.guard.config.mode != "strip":
                raise
            return SKIPPED

    @property
    def guard(self) -> Guard:
        """The guard of this cache; see `keyed`."""
        return self._owner_and_guard(self._app or current_app)[1]

    def _redis_key(self, key: str) -> str:
        """Return what a signature binds a payload to: the key as the server knows it."""
        prefix = getattr(super(), "_get_prefix", str)
        return f"{prefix()}{key}"


_WITHOUT_APP = object()


@functools.cache
def _guard_without_app(sink: str) -> Guard:
    return Guard(sink=sink)


def read_whole_body(response: Response) -> None:
    """Read a body that is streamed or sent from a file, for the visitor and for the cache.

    A body that is being read cannot be stored, and a response without its body must not be.
    """
    if not response.is_sequence:
        body = response.response
        response.direct_passthrough = False
        response.response = list(response.iter_encoded())
        close = getattr(body, "close", None)
        if close is not None:
            close()
