"""Mask and escape the names that a visitor may have chosen, before they are logged.

A key, attribute or label is split at `: . / - _`. A part is printed if it is a word of at most 24
letters, a short integer or two characters such as `s3`, else it is `*`. So `user:42:profile` is
printed as it is, and a token, a sentence or an e-mail address is not.
"""

from __future__ import annotations

import functools
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_WORD_LENGTH = 24
MAX_DIGITS = 12  # a longer number may be that of a card or an account
MAX_TYPE_LENGTH = 120
MAX_MODULE_DEPTH = 32
MAX_LINE_LENGTH = 1900
MAX_CACHED_LENGTH = 256  # a visitor can send long texts, and they would stay in memory

_VARYING = (
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<![0-9a-zA-Z])[0-9a-f]{16,}(?![0-9a-zA-Z])"
    # A key of Flask-Caching's memoize: base64 of a hash and of a version, 16 and 6 characters
    r"|(?<![\w+/])(?=\D{0,21}\d)(?=[^A-Z]{0,21}[A-Z])(?=[^a-z]{0,21}[a-z])[0-9a-zA-Z+/]{22}(?![\w+/])"
)
_NUMBERS = re.compile(rf"{_VARYING}|\d+")
_WHOLE = re.compile(
    rf"{_VARYING}|(?<![^:/*])[^:/*]*@[^:/*]*"
)  # of an e-mail address no part is shown
_PART = re.compile(r"[^:./\-_*]+")
_STARS = re.compile(r"\*(?:[:./\-_]*\*)+")


def _remembered(function: Callable[[str], str]) -> Callable[[str], str]:
    """Remember the results for texts that are not too long."""
    cached = functools.lru_cache(maxsize=1024)(function)

    @functools.wraps(function)
    def remembered(text: str) -> str:
        return cached(text) if len(text) <= MAX_CACHED_LENGTH else function(text)

    return remembered


@_remembered
def generalised(text: str) -> str:
    """Return `text` with numbers, UUIDs and hashes as `*`: `user:42` and `user:7` are one."""
    return _NUMBERS.sub("*", text)


@_remembered
def masked(text: str) -> str:
    """Return a key, attribute name or the like as it may be logged."""
    if is_word(text):
        return text
    return _STARS.sub("*", _PART.sub(_masked_part, _WHOLE.sub("*", text)))


def is_word(text: str) -> bool:
    """Return True if `text` is a word of letters, a short integer, or a name such as `s3`."""
    if text.isalpha():
        return len(text) <= MAX_WORD_LENGTH
    if len(text) == 2 and text.isascii() and text[0].isalpha() and text[1].isdigit():
        return True  # too short for a secret
    return len(text) <= MAX_DIGITS and text.isascii() and text.isdigit()


def _masked_part(match: re.Match[str]) -> str:
    return match[0] if is_word(match[0]) else "*"


def one_line(text: str) -> str:
    """Escape what is not printable, which would forge a log line or move a terminal's cursor."""
    text = str.__str__(text)  # of a subclass, no method is run
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def shortened(text: str, limit: int) -> str:
    """Return `text` with its middle left out where it has more than `limit` characters."""
    if len(text) <= limit:
        return text
    head = limit // 2
    return f"{text[:head]}…{text[head + 1 - limit :]}"


def type_text(name: str, *, exact: bool = False) -> str:
    """Return the qualified name of a type or view as it may be logged.

    A class or function can be made at run time, with a name from a form or a table. Such a name is
    masked as a key is. A name that stands in source code is printed.

    Args:
        name: The name, such as `shop.models.Cart`.
        exact: Whether nothing is masked, for a developer.
    """
    return shortened(one_line(name) if exact else _masked_type(name), MAX_TYPE_LENGTH)


@_remembered
def _masked_type(name: str) -> str:
    parts = name.split(".")
    deepest = min(len(parts), MAX_MODULE_DEPTH)  # a name that was made can have any number
    size = next((at for at in range(deepest, 0, -1) if ".".join(parts[:at]) in sys.modules), 0)
    module, qualname = parts[:size], parts[size:]
    shown = [part if part == "<locals>" else masked(part) for part in qualname]
    if shown != qualname and _is_in_source(".".join(module) or "builtins", qualname):
        return name
    return ".".join([*module, *shown])


def _is_in_source(module: str, qualname: list[str]) -> bool:
    """Return True if the class or function of this name stands in source code."""
    try:
        found: Any = sys.modules[module]
        file = getattr(found, "__file__", None) or ""
        for part in qualname:
            found = vars(found)[part]
        flags = found.__flags__ if isinstance(found, type) else _HEAP_TYPE
        if not flags & _HEAP_TYPE or flags & _IMMUTABLE_TYPE:
            return True  # written in C
        import linecache  # noqa: PLC0415  # only a name with digits in it needs it

        name = re.escape(qualname[-1])
        statement = re.compile(rf"\s*(?:(?:class|(?:async\s+)?def)\s+{name}\b|{name}\s*[:=])")
        return any(map(statement.match, linecache.getlines(file)))
    except Exception:  # noqa: BLE001  # a module may be an object of any kind
        return False


_IMMUTABLE_TYPE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
