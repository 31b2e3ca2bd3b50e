"""A guard for a cache: what one key holds, from the value to what is stored, and back.

==================  ===============================================================================
the value is        a cache stores
==================  ===============================================================================
a plain `int`       the number itself, so that Redis can increment it
any other value     the payload that the guard makes, after the marker of the cache's format
without a payload   nothing: the write is skipped in mode `strip`, and raises in the other modes
==================  ===============================================================================

A payload that cannot be read is reported and is a miss, in every mode: a mode is about writes.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from contextcache.exceptions import UncacheableValueError
from contextcache.reports.reporter import A_MISS
from contextcache.storage.commands import LABEL as SESSION
from contextcache.storage.sessions import as_session

if TYPE_CHECKING:
    from contextcache.config import Config

MAX_KEY_LENGTH = 100  # characters of a cache key that a label shows
UNKNOWN_KEY = "cache[...]"
"""The label of a value whose key is not known, or is not fit to be shown."""

# How the keys of Django's `cache` and `cached_db` sessions begin. The session id follows, and
# anyone who reads it in a log is logged in.
_SESSION_KEY = "django.contrib.sessions.cache"


class _Sentinel(enum.Enum):
    SKIPPED = "nothing to store"
    MISSING = "nothing to read"


SKIPPED: Final = _Sentinel.SKIPPED
"""The payload of a value of which nothing can be stored."""

MISSING: Final = _Sentinel.MISSING
"""The value under a key that holds none, or one that cannot be read."""

Skipped = Literal[_Sentinel.SKIPPED]


def label_of(key: object) -> str:
    """Return the root of the paths under `key`: the key as the user wrote it, where that is fit."""
    if type(key) is int:
        return f"cache[{key}]"
    if not isinstance(key, str):
        return UNKNOWN_KEY
    key = str.__str__(key)  # no method of a user's subclass runs
    if key.startswith(_SESSION_KEY):
        return SESSION
    shown = key if len(key) <= MAX_KEY_LENGTH else key[: MAX_KEY_LENGTH - 1] + "…"
    return f"cache[{shown!r}]"


class Codec(Protocol):
    """What a `KeyedGuard` asks of its guard; a `Guard` is one."""

    config: Config
    signs: bool

    def dumps(self, value: object, *, label: str, key: str) -> bytes:
        """Return the payload of `value`."""

    def loads(self, payload: bytes, *, label: str, key: str) -> Any:
        """Return the value of a payload."""

    def report_unreadable(self, error: Exception, *, label: str, outcome: str = A_MISS) -> None:
        """Warn that a payload counts as a miss."""


class KeyedGuard:
    """Turn what a cache holds under its keys into payloads, and back.

    Args:
        guard: Makes and reads payloads.
        label: The root of paths, instead of one with the key: for keys that must not be logged.
        marker: What stands before each payload, such as the `!` of cachelib.
        numbers: Whether a plain `int` is stored as a number.
    """

    __slots__ = ("_label", "_marker", "_numbers", "guard")

    def __init__(
        self, guard: Codec, *, label: str = "", marker: bytes = b"", numbers: bool = True
    ) -> None:
        self.guard = guard
        self._label = label
        self._marker = marker
        self._numbers = numbers

    def label(self, key: object) -> str:
        """Return the root of the paths in the value under `key`."""
        return self._label or label_of(key)

    def encode(
        self, key: object, value: object, redis_key: str = "", *, skips: bool = True
    ) -> bytes | int | Skipped:
        """Return what is stored for `value`, or `SKIPPED`.

        Args:
            key: The key as the user wrote it; None where it is not known.
            value: The value.
            redis_key: The key as the server knows it, which the signature then covers.
            skips: Whether the caller can skip a write. A serializer cannot.

        Raises:
            UncacheableValueError: Nothing can be stored, and the write is not skipped; or
                something offends, and the mode is `raise`.
        """
        if type(value) is int and self._numbers:  # a bool would come back as an int
            return value
        label = self._label or label_of(key)
        try:
            return self._marker + self.guard.dumps(value, label=label, key=redis_key)
        except UncacheableValueError:
            if skips and self.guard.config.mode == "strip":
                return SKIPPED
            raise

    def decode(
        self,
        key: object,
        payload: bytes,
        redis_key: str = "",
        default: object = None,
        *,
        outcome: str = A_MISS,
    ) -> Any:
        """Return the value of `payload`; one that cannot be read is reported, and `default`.

        Args:
            key: As that of `encode`.
            payload: What is stored.
            redis_key: As that of `encode`.
            default: What to return where the payload cannot be read.
            outcome: What that is, for the report.
        """
        label, first = self._label or label_of(key), payload[:1]
        value: Any = MISSING
        if self._numbers and (first.isdigit() or first == b"-"):  # no other payload begins so
            try:  # noqa: SIM105  # which takes three calls more
                value = int(payload)
            except ValueError:
                pass
        if self._marker and value is MISSING:
            if first == self._marker:
                payload = payload[1:]
            elif not self.guard.signs:
                value = payload  # text that another program wrote, as cachelib returns it
        try:
            if value is MISSING:
                value = self.guard.loads(payload, label=label, key=redis_key)
            return value if label != SESSION else as_session(value)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # a serializer of the application's own
            self.guard.report_unreadable(error, label=label, outcome=outcome)
            return default
