"""Flask-Caching: its backends behind the guard.

`GuardedBackend` stands in front of any backend of cachelib's: `RedisCache` is Flask-Caching's own
Redis backend behind it, and `guard_backend` puts it in front of one that is already there.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cachelib import BaseCache
from cachelib.serializers import BaseRedisSerializer, BaseSerializer
from flask import Response, current_app
from flask_caching.backends import rediscache
from flask_caching.backends.nullcache import NullCache

from contextcache import (
    ConfigurationError,
    Guard,
    UncacheableValueError,
    UnreadablePayloadError,
    is_sealed,
)
from contextcache.servers import connect
from contextcache_flask.scopes import within_request
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from flask import Flask

LONGEST_KEY = 100  # characters of a cache key that a label shows

_PLACES = {"RedisCache": "redis", "SimpleCache": "memory", "FileSystemCache": "files"}
_SCALARS = frozenset({bool, bytes, float, int, str, type(None)})
_SKIPPED = object()


class GuardedBackend(BaseCache):
    """Stores every value without what cannot be stored; comes before the class of a backend.

    It does what a serializer cannot: it names the key, skips a write of which nothing can be
    stored, and makes a payload that cannot be read a miss.

    A skipped write deletes what the key held before. `set` and `add` return False for it, and
    `set_many` does not list its key among those that were stored. In mode `warn` and `raise` it
    raises `UncacheableValueError` instead.
    """

    _app: Flask | None = None

    @property
    def guard(self) -> Guard:
        """The guard of this cache, with the settings of its application or of the current one."""
        kind = type(self).__name__
        sink = f"cache in {_PLACES.get(kind, kind)}"
        app: Any = self._app or current_app  # which is false outside of any application
        if not app:
            return _guard_without_app(sink)
        # Only Redis is within reach of others: memory and files are this user's own, and who
        # pickles by himself has to be given a pickle.
        signed = isinstance(vars(self).get("serializer"), _GuardedRedisSerializer)
        return settings_of(app).guard(sink, signed=signed)

    def place(self, key: str) -> str:
        """Return what the signature of a payload binds it to: the key as the server knows it."""
        prefix = getattr(super(), "_get_prefix", str)
        return f"{prefix()}{key}"

    def guard_for(self, app: Flask | None) -> None:
        """Apply the settings of `app`, and guard the serializer the backend has."""
        self._app = app
        serializer = vars(self).get("serializer") or getattr(super(), "serializer", None)
        if serializer is not None:
            self.serializer = serializer

    @property
    def serializer(self) -> BaseSerializer:
        """The serializer of the backend, guarded where it is one that cachelib made for pickle.

        Any other serializer is left as it is, and given values that pickle as they are to be.
        """
        try:
            serializer: BaseSerializer = vars(self)["serializer"]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no serializer") from None
        return serializer

    @serializer.setter
    def serializer(self, serializer: BaseSerializer) -> None:
        vars(self)["serializer"] = _guarded_serializer(serializer, self)

    def get(self, key: str) -> Any:
        """Return the value under `key`, or None where there is none that can be read."""
        with _reading(self, key) as reading:
            value = super().get(key)
        if reading.unreadable:
            # Else `has` would still find the key, and `add` could not fill it.
            self.delete(key)
        return value

    def get_many(self, *keys: str) -> list[Any]:
        """Return the values under `keys`, None for each that is missing or cannot be read."""
        if not isinstance(vars(self).get("serializer"), _GuardedRedisSerializer):
            return super().get_many(*keys)  # one by one, by `get`
        if not keys:
            return []
        backend: Any = self
        values = []
        payloads = backend._read_client.mget([self.place(key) for key in keys])
        for key, payload in zip(keys, payloads, strict=True):
            with _reading(self, key):
                values.append(self.serializer.loads(payload))
        return values

    def set(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool | None:
        """Store `value` under `key`, and return whether it was stored."""
        storable = self._prepare(key, value)
        if storable is _SKIPPED:
            self.delete(key)
            return False
        return super().set(key, storable, *args, **kwargs)

    def add(self, key: str, value: Any, *args: Any, **kwargs: Any) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        storable = self._prepare(key, value)
        return storable is not _SKIPPED and bool(super().add(key, storable, *args, **kwargs))

    def set_many(self, mapping: dict[str, Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Store every value that can be stored, and return the keys of those that were."""
        prepared = {key: self._prepare(key, value) for key, value in mapping.items()}
        storable = {key: value for key, value in prepared.items() if value is not _SKIPPED}
        for key in prepared.keys() - storable.keys():
            self.delete(key)
        return super().set_many(storable, *args, **kwargs) if storable else []

    def _prepare(self, key: str, value: Any) -> Any:
        """Return what the backend is to store for `value`, or `_SKIPPED`.

        The value becomes bytes here, before a backend has taken a lock, opened a file or begun a
        pipeline. Its serializer is then asked for what is ready.
        """
        if type(value) in {_Ready, _AsStored}:
            return value  # a method of the backend that calls another one
        if issubclass(type(value), Response):  # isinstance would ask a proxy for its target
            _read_whole_body(value)
        serializer = vars(self).get("serializer")
        try:
            with within_request():
                if isinstance(serializer, _GuardedSerializer):
                    value = _Ready(serializer.encode(value, _label(key), self.place(key)))
                elif type(value) not in _SCALARS:
                    value = _as_stored(value, self.guard.dumps(value, label=_label(key)))
        except UncacheableValueError:
            if self.guard.config.mode != "strip":
                raise
            return _SKIPPED
        return value


class RedisCache(GuardedBackend, rediscache.RedisCache):  # type: ignore[misc]  # a property
    """`CACHE_TYPE`: Flask-Caching's Redis backend, storing without what cannot be stored.

    The server is `CACHE_REDIS_URL`, else `CACHE_REDIS_HOST` with its companions, else
    `CONTEXTCACHE_REDIS_URL`, else the embedded one; `CACHE_OPTIONS` go to redis-py. What it
    stores can be read by Flask-Caching's own backend, and the other way round.

    Raises:
        ConfigurationError: A setting or the URL cannot be understood.
        ServerError: Redis cannot be reached; the message names the URL that was tried.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guard_for(None)

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> RedisCache:
        """Make the backend of one application; Flask-Caching calls this."""
        settings = settings_of(app)  # a mistake in them is to be seen now
        if args:
            raise ConfigurationError("CACHE_ARGS: name the server with CACHE_REDIS_URL instead")
        own = {name: kwargs.pop(name) for name in _OWN_OPTIONS if name in kwargs}
        own.setdefault("key_prefix", config.get("CACHE_KEY_PREFIX"))
        if config.get("CACHE_REDIS_DB") is not None:
            kwargs.setdefault("db", config["CACHE_REDIS_DB"])
        host = config.get("CACHE_REDIS_HOST")
        if config.get("CACHE_REDIS_URL") or host is None or isinstance(host, str):
            url = _url(config, host) or settings.redis_url
            client: Any = connect(url, **kwargs)
        else:
            client = host  # a client that the application made
        backend = cls(client, **own)
        backend.guard_for(app)
        return backend


_OWN_OPTIONS = ("default_timeout", "ignore_delete_many_errors", "key_prefix")


def _url(config: Mapping[str, Any], host: str | None) -> str | None:
    """Return where Flask-Caching's own settings say that Redis is, if they do."""
    url: str | None = config.get("CACHE_REDIS_URL")
    if url or not host:
        return url
    if "://" in host:
        return host
    password = config.get("CACHE_REDIS_PASSWORD")
    credentials = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{credentials}{host}:{config.get('CACHE_REDIS_PORT', 6379)}"


# --- A backend that is already there --------------------------------------------------------------


def guard_backend(backend: object, app: Flask) -> None:
    """Guard a backend of cachelib's, with the settings of `app`, if it stores anything.

    The object stays the same, and so does the name of its class, of which it now has a subclass.
    """
    if not isinstance(backend, BaseCache) or isinstance(backend, NullCache):
        return
    if not isinstance(backend, GuardedBackend):
        backend.__class__ = _guarded_type(type(backend))  # type: ignore[arg-type]  # it is hashable
        assert isinstance(backend, GuardedBackend)  # noqa: S101  # for mypy
    backend.guard_for(app)


@functools.cache
def _guarded_type(backend_type: type[BaseCache]) -> type[GuardedBackend]:
    same = {name: getattr(backend_type, name) for name in ("__module__", "__qualname__", "__doc__")}
    return type(backend_type.__name__, (GuardedBackend, backend_type), same)


@functools.cache
def _guard_without_app(sink: str) -> Guard:
    return Guard(sink=sink)


# --- The serializers ------------------------------------------------------------------------------


class _Ready:
    """Stands for a value that has become bytes already, until its serializer is asked for them."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class _Reading:
    """One read of one key: what its serializer is not told, and whether it could be read."""

    __slots__ = ("label", "place", "unreadable")

    def __init__(self, label: str = "cache[...]", place: str = "") -> None:
        self.label = label
        self.place = place
        self.unreadable = False


_current: ContextVar[_Reading | None] = ContextVar("contextcache_reading", default=None)


@contextlib.contextmanager
def _reading(backend: GuardedBackend, key: str) -> Iterator[_Reading]:
    reading = _Reading(_label(key), backend.place(key))
    token = _current.set(reading)
    try:
        yield reading
    finally:
        _current.reset(token)


class _GuardedSerializer(BaseSerializer):
    """Pickle, as cachelib writes it into memory and files, without what cannot be stored."""

    def __init__(self, backend: GuardedBackend) -> None:
        self._backend = backend

    def encode(self, value: Any, label: str, place: str) -> bytes:
        return self._backend.guard.dumps(value, label=label, key=place)

    def decode(self, payload: bytes, label: str, place: str) -> Any:
        return self._backend.guard.loads(payload, label=label, key=place)

    def dumps(self, value: Any, *_: Any, **__: Any) -> bytes:
        return value.payload if type(value) is _Ready else self.encode(value, "cache[...]", "")

    def loads(self, bvalue: bytes | None) -> Any:
        reading = _current.get() or _Reading()
        try:
            return None if bvalue is None else self.decode(bvalue, reading.label, reading.place)
        except UnreadablePayloadError as error:
            if self._backend.guard.config.mode == "raise":
                raise
            self._backend.guard.report_unreadable(error)
            reading.unreadable = True
            return None

    def dump(self, value: Any, f: Any, *_: Any, **__: Any) -> None:
        f.write(self.dumps(value))

    def load(self, f: BinaryIO) -> Any:
        return self.loads(f.read())


class _GuardedRedisSerializer(_GuardedSerializer):
    """What cachelib writes into Redis: integers so that `INCR` works, and a pickle after a `!`.

    A signed payload has its own first byte instead.
    """

    def encode(self, value: Any, label: str, place: str) -> bytes:
        if type(value) is int:
            return b"%d" % value
        payload = super().encode(value, label, place)
        return payload if is_sealed(payload) else b"!" + payload

    def decode(self, payload: bytes, label: str, place: str) -> Any:
        if payload[:1] == b"!":
            return super().decode(payload[1:], label, place)
        if payload[:1].isdigit() or payload[:1] == b"-":
            with contextlib.suppress(ValueError):
                return int(payload)
        if is_sealed(payload) or self._backend.guard.signs:
            return super().decode(payload, label, place)
        return payload  # text that another program wrote, as cachelib gives it


class _AsStored:
    """Stands for a value that has offenders, and is pickled as the payload without them.

    Whoever pickles by himself, a serializer of the application's or a client of memcached, is
    given this. The cleaned value would not do: it has fresh locks, and cannot be pickled either.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._payload,)


def _as_stored(value: Any, payload: bytes) -> Any:
    try:
        clean = pickle.dumps(value, 5) == payload
    except Exception:  # noqa: BLE001  # whatever it is, the payload has been made without it
        clean = False
    return value if clean else _AsStored(payload)


def _guarded_serializer(serializer: BaseSerializer, backend: GuardedBackend) -> BaseSerializer:
    kind = type(serializer)
    if all(getattr(kind, name, None) is getattr(BaseSerializer, name) for name in _METHODS):
        return _GuardedSerializer(backend)
    if (kind.dumps, kind.loads) == (BaseRedisSerializer.dumps, BaseRedisSerializer.loads):
        return _GuardedRedisSerializer(backend)
    return serializer


_METHODS = ("dump", "dumps", "load", "loads")


def _read_whole_body(response: Response) -> None:
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


def _label(key: Any) -> str:
    """Return the root of the paths under `key`: the key as the user wrote it, where that is fit."""
    if not isinstance(key, str):
        return "cache[...]"
    shown = key if len(key) <= LONGEST_KEY else key[: LONGEST_KEY - 1] + "…"
    return f"cache[{shown!r}]"
