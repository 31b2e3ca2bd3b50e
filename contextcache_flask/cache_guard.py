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
from contextcache.base.logs import error_name
from contextcache.storage.commands import LABEL as SESSION
from contextcache.storage.sessions import as_session
from contextcache_flask.request_scope import WithinRequest
from contextcache_flask.serializers import (
    UNKNOWN,
    AsStored,
    GuardedRedisSerializer,
    GuardedSerializer,
    Reading,
    Ready,
    as_stored,
    guarded_serializer,
    reading,
)
from contextcache_flask.settings import EXTENSION, settings_of

if TYPE_CHECKING:
    from cachelib.serializers import BaseSerializer
    from flask import Flask

    from contextcache import Config
    from contextcache_flask.settings import Settings

Backend = TypeVar("Backend", bound=BaseCache)

LONGEST_KEY = 100  # characters of a cache key that a label shows

_PLACES = {"RedisCache": "redis", "SimpleCache": "memory", "FileSystemCache": "files"}
_SCALARS = frozenset({bool, bytes, float, int, str, type(None)})
SKIPPED = object()

NOBODYS_KEY = "contextcache:nobody"
"""A key that is read to see whether a backend works."""


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
    _kept: tuple[Settings, Guard] | tuple[None, None] = (None, None)

    @property
    def guard(self) -> Guard:
        """The guard of this cache, with the settings of its application or of the current one."""
        if self._own_guard is not None:
            return self._own_guard
        app: Any = self._app or current_app  # which is false outside of any application
        if not app:
            return _guard_without_app(self._sink)
        settings, guard = self._kept
        if guard is None or app.extensions.get(EXTENSION) is not settings:
            settings = settings_of(app)
            # Only Redis is within reach of others: memory and files are this user's own, and who
            # pickles by himself has to be given a pickle.
            signed = isinstance(vars(self).get("serializer"), GuardedRedisSerializer)
            guard = settings.guard(self._sink, session=bool(self._own_label), signed=signed)
            self._kept = settings, guard
        return guard

    @property
    def _sink(self) -> str:
        kind = type(self).__name__
        return f"{self._own_label or 'cache'} in {_PLACES.get(kind, kind)}"

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
        return self._read(key, Reading(self._label(key), self._place(key)))

    def has(self, key: str) -> bool:
        """Return whether there is a value under `key` that can be read.

        Flask-Caching asks after a `get` that returned None, to know whether that is the value.
        """
        now = Reading(self._label(key), self._place(key))
        if not super().has(key):
            return False
        self._read(key, now)
        return not now.unreadable

    def _read(self, key: str, now: Reading) -> Any:
        with reading(now):
            try:
                value = super().get(key)
            except Exception as error:
                if not self._works():
                    raise
                self._missed(now, error)
                return None
        try:
            return as_session(value) if self._own_label == SESSION and value is not None else value
        except UnreadablePayloadError as error:
            self._missed(now, error)
            return None

    def _works(self) -> bool:
        """Return whether the backend answers, so that an error was about the value it read.

        The error does not show it: values raise what backends raise, and the other way round.
        """
        if isinstance(vars(self).get("serializer"), GuardedSerializer):
            return False  # which raises nothing
        try:
            super().get(NOBODYS_KEY)
        except Exception:  # noqa: BLE001  # the error of the operation itself is raised
            return False
        return True

    def _missed(self, now: Reading, error: Exception) -> None:
        now.unreadable = True
        self.miss(unreadable(now.label, error))

    def get_many(self, *keys: str) -> list[Any]:
        """Return the values under `keys`, None for each that is missing or cannot be read."""
        backend: Any = self
        if not hasattr(backend, "_read_client"):
            return super().get_many(*keys)
        if not keys:
            return []
        values = []
        payloads = backend._read_client.mget([self._place(key) for key in keys])
        for key, payload in zip(keys, payloads, strict=True):
            now = Reading(self._label(key), self._place(key))
            with reading(now):
                try:
                    values.append(self.serializer.loads(payload))
                except Exception as error:  # noqa: BLE001  # a serializer of the application's own
                    self._missed(now, error)
                    values.append(None)
        return values

    def get_dict(self, *keys: str) -> dict[str, Any]:
        """Return the values by their keys; see `get_many`, which memcached calls this for."""
        try:
            return super().get_dict(*keys)
        except Exception:
            if not self._works():
                raise
            return {key: self.get(key) for key in keys}  # the others can be read

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool | None:
        """Store `value` under `key`, and return whether it was stored."""
        with WithinRequest():
            storable = self._prepare(key, value, self._place(key))
        if storable is SKIPPED:
            self.delete(key)
            return False
        return super().set(key, storable, *args, **kwargs)

    def add(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        with WithinRequest():
            storable = self._prepare(key, value, self._place(key))
        return storable is not SKIPPED and bool(super().add(key, storable, *args, **kwargs))

    def set_many(self, mapping: dict[str, Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Store every value that can be stored, and return the keys of those that were."""
        with WithinRequest():
            prepared = {
                key: self._prepare(key, value, self._place(key)) for key, value in mapping.items()
            }
        storable = {key: value for key, value in prepared.items() if value is not SKIPPED}
        for key in prepared.keys() - storable.keys():
            self.delete(key)
        return super().set_many(storable, *args, **kwargs) if storable else []

    def _prepare(self, key: str, value: Any, place: str) -> Any:
        """Return what the backend is to store for `value`, or `SKIPPED`.

        The value becomes bytes here, before a backend has taken a lock, opened a file or begun a
        pipeline. Its serializer is then asked for what is ready.
        """
        if type(value) in {Ready, AsStored}:
            return value  # a method of the backend that calls another one
        if issubclass(type(value), Response):  # isinstance would ask a proxy for its target
            read_whole_body(value)
        serializer = vars(self).get("serializer")
        try:
            if isinstance(serializer, GuardedSerializer):
                return Ready(serializer.encode(value, self._label(key), place))
            if type(value) in _SCALARS or self.guard.config.mode == "off":
                return value
            return as_stored(value, self.guard.dumps(value, label=self._label(key)))
        except UncacheableValueError as error:
            return self.skip(error)

    def skip(self, error: UncacheableValueError) -> object:
        """Return `SKIPPED` for a value of which nothing can be stored, or raise by policy."""
        if self.guard.config.mode != "strip":
            raise error
        return SKIPPED

    def miss(self, error: UnreadablePayloadError) -> None:
        """Report what cannot be read, in every mode.

        It stays where it is: another deployment, or this one with its old secret, may read it.
        """
        self.guard.report_unreadable(error)

    def _place(self, key: str) -> str:
        """Return what a signature binds a payload to: the key as the server knows it."""
        prefix = getattr(super(), "_get_prefix", str)
        return f"{prefix()}{key}"

    def _label(self, key: Any) -> str:
        """Return the root of paths: with the key as the user wrote it, where that is fit."""
        if self._own_label:
            return self._own_label
        if not isinstance(key, str):
            return UNKNOWN
        key = str.__str__(key)  # of a subclass, no method of the user's own is run
        shown = key if len(key) <= LONGEST_KEY else key[: LONGEST_KEY - 1] + "…"
        return f"cache[{shown!r}]"


def unreadable(label: str, error: Exception) -> UnreadablePayloadError:
    """Return `error` in words where it has none: a serializer of the application's raised it."""
    if isinstance(error, UnreadablePayloadError):
        return error
    reason = f"rebuilding it raised {error_name(error)}"
    return UnreadablePayloadError(label, reason, "delete the entry", "rebuilding it raised")


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
