"""The serializers of cachelib, guarded: each keeps the format of the one it stands for.

A serializer of cachelib's is not told the key. So a `GuardedBackend` makes the bytes itself before
the backend sees the value, and hands the backend a `Ready`; and it says which key is being read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import pickle
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cachelib.serializers import BaseRedisSerializer, BaseSerializer, JSONSerializer

from contextcache import UnreadablePayloadError
from contextcache.jsonable import LOOK_FOR_THE_WRITER, NESTED, JSONGuard
from contextcache_flask.request_scope import note_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from contextcache_flask.cache_guard import GuardedBackend

UNKNOWN = "cache[...]"


class Ready:
    """Stands for a value that has become bytes already, until its serializer is asked for them."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload


class Reading:
    """One read of one key: what its serializer is not told, and whether it could be read."""

    __slots__ = ("label", "place", "unreadable")

    def __init__(self, label: str = UNKNOWN, place: str = "") -> None:
        self.label = label
        self.place = place
        self.unreadable = False


_current: ContextVar[Reading | None] = ContextVar("contextcache_reading", default=None)


@contextlib.contextmanager
def reading(now: Reading) -> Iterator[None]:
    """Let the serializer know what is read inside."""
    token = _current.set(now)
    try:
        yield
    finally:
        _current.reset(token)


def guarded_serializer(serializer: BaseSerializer, backend: GuardedBackend) -> BaseSerializer:
    """Return the guarded one for a serializer of cachelib's, and any other as it is."""
    kind = type(serializer)
    if kind is JSONSerializer:
        return GuardedJSONSerializer(backend)
    if all(getattr(kind, name, None) is getattr(BaseSerializer, name) for name in _METHODS):
        return GuardedSerializer(backend)
    if (kind.dumps, kind.loads) == (BaseRedisSerializer.dumps, BaseRedisSerializer.loads):
        return GuardedRedisSerializer(backend)
    return serializer


_METHODS = ("dump", "dumps", "load", "loads")


class GuardedSerializer(BaseSerializer):
    """Pickle, as cachelib writes it into memory and files, without what cannot be stored."""

    def __init__(self, backend: GuardedBackend) -> None:
        self._backend = backend

    def encode(self, value: Any, label: str, place: str) -> bytes:
        """Return the bytes that are stored for `value` under the key `place`."""
        return self._backend.guard.dumps(value, label=label, key=place)

    def decode(self, payload: bytes, label: str, place: str) -> Any:
        """Return the value that `encode` was given."""
        return self._backend.guard.loads(payload, label=label, key=place)

    def dumps(self, value: Any, *_: Any, **__: Any) -> bytes:
        """Return the bytes that are ready, or make them."""
        return value.payload if type(value) is Ready else self.encode(value, UNKNOWN, "")

    def loads(self, bvalue: bytes | None) -> Any:
        """Return the value; what cannot be read is reported, and None."""
        now = _current.get() or Reading()
        try:
            value = None if bvalue is None else self.decode(bvalue, now.label, now.place)
            if now.label == "session" and type(value) is dict:
                note_loaded(value)
            return value
        except UnreadablePayloadError as error:
            now.unreadable = True
            self._backend.miss(error)

    def dump(self, value: Any, f: Any, *_: Any, **__: Any) -> None:
        """Write the bytes into a file."""
        f.write(self.dumps(value))

    def load(self, f: BinaryIO) -> Any:
        """Read the value from a file."""
        return self.loads(f.read())


class GuardedRedisSerializer(GuardedSerializer):
    """What cachelib writes into Redis: integers so that `INCR` works, anything else after a `!`.

    To cachelib's own serializer, a signed payload after a `!` is a pickle that it cannot read, and
    so a miss: workers from before and after a deployment run side by side.
    """

    def encode(self, value: Any, label: str, place: str) -> bytes:
        """Return the bytes that are stored for `value` under the key `place`."""
        if type(value) is int:
            return b"%d" % value
        return b"!" + self._backend.guard.dumps(value, label=label, key=place)

    def decode(self, payload: bytes, label: str, place: str) -> Any:
        """Return the value that `encode` was given."""
        guard, first = self._backend.guard, payload[:1]
        if first == b"!":
            payload = payload[1:]
        elif first.isdigit() or first == b"-":
            with contextlib.suppress(ValueError):
                return int(payload)
        if not (guard.signs or first == b"!"):
            return payload  # text that another program wrote, as cachelib gives it
        return guard.loads(payload, label=label, key=place)


class GuardedJSONSerializer(GuardedSerializer, JSONSerializer):  # type: ignore[misc]  # wider
    """cachelib's JSON, without what JSON cannot hold.

    cachelib itself logs the error into the root logger and stores None, which Redis refuses with
    an error of its own.
    """

    @functools.cached_property
    def _guard(self) -> JSONGuard[str]:
        guard = self._backend.guard
        return JSONGuard(json.dumps, guard.config, sink=guard.sink, decode=json.loads)

    def encode(self, value: Any, label: str, place: str) -> bytes:  # noqa: ARG002  # no signature
        """Return the JSON that is stored for `value`."""
        return self._guard.dumps(value, label=label).encode()

    def decode(self, payload: bytes, label: str, place: str) -> Any:  # noqa: ARG002
        """Return what the JSON says."""
        try:
            return json.loads(payload)
        except (ValueError, RecursionError) as error:
            reason = NESTED if isinstance(error, RecursionError) else "its bytes are no JSON"
        raise UnreadablePayloadError(label, reason, LOOK_FOR_THE_WRITER)


class AsStored:
    """Stands for a value that has offenders, and is pickled as the payload without them.

    Whoever pickles by himself, a serializer of the application's or a client of memcached, is
    given this. The cleaned value would not do: it has fresh locks, and cannot be pickled either.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._payload,)


def as_stored(value: Any, payload: bytes) -> Any:
    """Return `value` itself where it pickles as its payload, else what stands for it."""
    try:
        clean = pickle.dumps(value, 5) == payload
    except Exception:  # noqa: BLE001  # whatever it is, the payload has been made without it
        clean = False
    return value if clean else AsStored(payload)
