"""The errors contextcache raises; each carries its evidence as attributes."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from contextcache.base.masking import one_line
from contextcache.findings.path import Path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contextcache.findings.finding import Finding


class ContextCacheError(Exception):
    """Base of every error contextcache raises on purpose."""


class ConfigurationError(ContextCacheError, ValueError):
    """A setting, mode, verb or rule that contextcache does not understand."""


class FreshProcessError(ContextCacheError):
    """A fresh process could not be asked to load a value.

    Attributes:
        reason: Why, without the text of an error.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"no fresh process could load the value: {one_line(reason)}")
        self.reason = reason

    def __reduce__(self) -> tuple[type[FreshProcessError], tuple[str]]:
        return type(self), (self.reason,)


class UncacheableValueError(ContextCacheError, pickle.PicklingError, TypeError):
    """A value that cannot, or by policy must not, be stored.

    It is a `PicklingError` and a `TypeError` because those are what pickle raises today, so
    handlers written for them still catch it.

    Attributes:
        findings: Every offending field, first the one pickle would have tripped over.
    """

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)

    def __reduce__(self) -> tuple[type[UncacheableValueError], tuple[object, ...]]:
        return type(self), (self.args[0], self.findings)


class UnreadablePayloadError(ContextCacheError, pickle.UnpicklingError):
    """Stored bytes that cannot be turned back into a value.

    Attributes:
        label: Where the payload was read from, such as `cache['user:42']`.
        reason: Why it cannot be read, without any of its content.
        remedy: What to do about it.
        kind: The reason without names, by which log records are counted.
    """

    def __init__(self, label: str, reason: str, remedy: str, kind: str = "") -> None:
        printed = Path(label).printed()
        super().__init__(f"{printed} cannot be read: {one_line(reason)}; {one_line(remedy)}")
        self.label = label
        self.reason = reason
        self.remedy = remedy
        self.kind = kind or reason

    def __reduce__(self) -> tuple[type[UnreadablePayloadError], tuple[str, str, str, str]]:
        return type(self), (self.label, self.reason, self.remedy, self.kind)


class UntrustedPayloadError(UnreadablePayloadError):
    """Stored bytes that this application did not write, or not there; nothing of them was run."""


_KINDS: tuple[type[Exception], ...] = (
    *(pickle.PicklingError, pickle.UnpicklingError, EOFError, ImportError, IndexError, KeyError),
    *(TypeError, AttributeError, RecursionError, ValueError),
)  # that pickle and json raise by themselves; UnicodeError is a ValueError


def without_text(error: BaseException, text: str) -> Exception:
    """Return an error of the same kind that says nothing of the value, to be a cause.

    The text of an error may hold a value. Since Python 3.14 pickle also adds notes with the keys
    of dicts, and a traceback prints them.

    Args:
        error: The error.
        text: What to say instead.
    """
    if isinstance(error, UnicodeDecodeError):
        return UnicodeDecodeError(error.encoding, b"", 0, 0, text).with_traceback(
            error.__traceback__
        )
    kind = next((kind for kind in _KINDS if isinstance(error, kind)), ContextCacheError)
    return kind(text).with_traceback(error.__traceback__)


class StrippedValueError(ContextCacheError, AttributeError, TypeError):
    """The use of a field that was not stored because it belonged to one thread or process.

    It is an `AttributeError`, so `hasattr` and Django templates treat the field as absent.
    """


class ServerError(ContextCacheError, ConnectionError):
    """A Redis server that cannot be reached or used.

    Attributes:
        server: Its URL without user, password and query.
        reason: Why, in a few words that are the same each time.
        answers: What other nodes of a cluster have answered to a command of several keys, with an
            exception in the place of each answer that is missing; empty where there is none.
    """

    server = ""
    reason = ""
    answers: Sequence[object] = ()


class ReadOnlyServerError(ServerError):
    """A Redis server that takes no writes for now, while reads go on."""
