"""The serializers of cachelib, guarded: each keeps the format of the one it stands for.

A serializer of cachelib's is not told the key. So a `GuardedBackend` makes the bytes itself before
the backend sees the value, and hands the backend a `Ready`; and it says which key is being read.
"""

from __future__ import annotations

import contextlib
import json
import pickle
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from cachelib.serializers import BaseRedisSerializer, BaseSerializer, JSONSerializer

from contextcache import UnreadablePayloadError
from contextcache.base.logs import error_name
from contextcache.jsonable import LOOK_FOR_THE_WRITER, NESTED, JSONGuard
from contextcache.storage.keyed_guard import MISSING, KeyedGuard
from contextcache_flask.request_scope import note_loaded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from contextcache import Guard
    from contextcache_flask.cache_guard import GuardedBackend


class Ready:
    """Stands for a value that has become a payload already, until its serializer is asked."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes | int) -> None:
        self.payload = payload


class Reading:
    """One read of one key: what its serializer is not told, and whether it could be read."""

    __slots__ = ("key", "redis_key", "unreadable")

    def __init__(self, key: Any = None, redis_key: str = "") -> None:
        self.key = key
        self.redis_key = redis_key
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

    @staticmethod
    def keyed(guard: Guard, label: str) -> KeyedGuard:
        """Return what turns values into payloads of this format."""
        return KeyedGuard(guard, label=label, numbers=False)

    def dumps(self, value: Any, *_: Any, **__: Any) -> Any:
        """Return the payload that is ready, or make it."""
        if type(value) is Ready:
            return value.payload
        return self._backend.keyed.encode(None, value, skips=False)

    def loads(self, bvalue: bytes | None) -> Any:
        """Return the value; what cannot be read is reported, and None."""
        if bvalue is None:
            return None
        now, keyed = _current.get() or Reading(), self._backend.keyed
        value = keyed.decode(now.key, bvalue, now.redis_key, MISSING)
        if value is MISSING:
            now.unreadable = True
            return None
        if type(value) is dict and keyed.label(now.key) == "session":
            note_loaded(value)
        return value

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

    @staticmethod
    def keyed(guard: Guard, label: str) -> KeyedGuard:
        """Return what turns values into payloads of this format."""
        return KeyedGuard(guard, label=label, marker=b"!")


class GuardedJSONSerializer(GuardedSerializer, JSONSerializer):  # type: ignore[misc]  # wider
    """cachelib's JSON, without what JSON cannot hold.

    cachelib itself logs the error into the root logger and stores None, which Redis refuses with
    an error of its own.
    """

    @staticmethod
    def keyed(guard: Guard, label: str) -> KeyedGuard:
        """Return what turns values into payloads of this format."""
        return KeyedGuard(_JSONCodec(guard), label=label, numbers=False)


class _JSONCodec:
    """JSON by `JSONGuard`, which signs nothing."""

    signs = False

    def __init__(self, guard: Guard) -> None:
        self.config = guard.config
        self.report_unreadable = guard.report_unreadable
        self._guard = JSONGuard(json.dumps, guard.config, sink=guard.sink)

    def dumps(self, value: object, *, label: str, key: str) -> bytes:  # noqa: ARG002
        return self._guard.dumps(value, label=label).encode()

    def loads(self, payload: bytes, *, label: str, key: str) -> Any:  # noqa: ARG002
        try:
            return json.loads(payload)
        except (ValueError, RecursionError) as error:
            reason = NESTED if isinstance(error, RecursionError) else "its bytes are no JSON"
        raise UnreadablePayloadError(label, reason, LOOK_FOR_THE_WRITER)


class OwnCodec:
    """A serializer of the application's own, which is given only what pickle can store."""

    signs = False

    def __init__(self, serializer: BaseSerializer, guard: Guard) -> None:
        self.config = guard.config
        self.report_unreadable = guard.report_unreadable
        self._serializer = serializer
        self._guard = guard

    def dumps(self, value: object, *, label: str, key: str) -> bytes:  # noqa: ARG002
        """Return what the serializer makes of `value` without what cannot be stored."""
        payload: bytes = self._serializer.dumps(storable(self._guard, value, label))  # type: ignore[assignment]
        return payload

    def loads(self, payload: bytes, *, label: str, key: str) -> Any:  # noqa: ARG002
        """Return the value."""
        try:
            return self._serializer.loads(payload)
        except MemoryError:
            raise
        except UnreadablePayloadError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it raises
            reason = f"its serializer raised {error_name(error)}"
        raise UnreadablePayloadError(label, reason, "delete the entry", "its serializer raised")


class AsStored:
    """Stands for a value that has offenders, and is pickled as the payload without them.

    A serializer of the application's or a client of memcached, which pickle by themselves, are
    given this. The cleaned value would not do: it has fresh locks, and cannot be pickled either.
    """

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return pickle.loads, (self._payload,)


_SCALARS = frozenset({bool, bytes, float, int, str, type(None)})


def storable(guard: Guard, value: object, label: str) -> object:
    """Return what a backend that pickles by itself is to store: mostly the value itself.

    Raises:
        UncacheableValueError: Nothing of it can be stored.
    """
    if type(value) in _SCALARS or guard.config.mode == "off":
        return value
    payload = guard.dumps(value, label=label)
    try:
        clean = pickle.dumps(value, 5) == payload
    except Exception:  # noqa: BLE001  # whatever it is, the payload has been made without it
        clean = False
    return value if clean else AsStored(payload)
