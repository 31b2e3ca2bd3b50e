"""The instructions of a pickle, read as CPython reads them; nothing is executed.

`pickletools.genops` is not enough for bytes that nobody trusts: it refuses what the unpickler
takes, such as `I0x10`, so what follows would not be seen; it is quadratic in long numbers; and
it copies every string. Here, each byte is looked at once, and only what may be a key or a name is
kept.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Reader = Callable[[bytes, int], tuple[Any, int]]  # from bytes and position to argument and end

MAX_NAME = 200  # bytes of a string that are kept, because it may be a key or a name
MAX_ESCAPED = 2500  # bytes of such a string where it is written with escapes


class DamagedPickleError(ValueError):
    """Bytes on which the unpickler stops with an error."""


class Opaque(NamedTuple):
    """Something on the stack of which only the type is known.

    Attributes:
        kind: Name of the type.
    """

    kind: str


LONG_TEXT = Opaque("str")
BIG_INT = Opaque("int")
FLOAT = Opaque("float")
BYTES = Opaque("bytes")
BYTEARRAY = Opaque("bytearray")


def instructions(payload: bytes) -> Iterator[tuple[int, Any, int]]:
    """Yield the opcode, argument and position of each instruction up to `STOP`.

    The argument of an opcode that pushes plain data is what it pushes: a short str, an int, a
    bool, None, or an `Opaque`. That of an opcode that makes a container is its type, or its length.

    Raises:
        DamagedPickleError: An opcode is unknown, or its argument cannot be read.
    """
    at, end = 0, len(payload)
    readers, constants = _READERS, _CONSTANTS
    while at < end:
        opcode = payload[at]
        reader = readers[opcode]
        if reader is None:
            yield opcode, constants[opcode], at
            at += 1
            if opcode == _STOP:
                return
        else:
            argument, following = reader(payload, at + 1)
            if following > end:
                break
            yield opcode, argument, at
            at = following
    raise DamagedPickleError("it ends too early")


# --- Arguments of a fixed length ------------------------------------------------------------------


def _number(width: int, *, signed: bool = False) -> Reader:
    def read(payload: bytes, at: int) -> tuple[int, int]:
        end = at + width
        return int.from_bytes(payload[at:end], "little", signed=signed), end

    return read


def _skip(width: int, argument: object = None) -> Reader:
    return lambda _payload, at: (argument, at + width)


# --- Arguments with their length before them ------------------------------------------------------


def _sized(width: int, pushed: Opaque) -> Reader:
    def read(payload: bytes, at: int) -> tuple[Opaque, int]:
        start = at + width
        return pushed, start + int.from_bytes(payload[at:start], "little")

    return read


def _sized_text(width: int, encoding: str, errors: str) -> Reader:
    def read(payload: bytes, at: int) -> tuple[str | Opaque, int]:
        start = at + width
        size = int.from_bytes(payload[at:start], "little")
        end = start + size
        if size > MAX_NAME:
            return LONG_TEXT, end
        return str(payload[start:end], encoding, errors), end

    return read


def _sized_int(width: int) -> Reader:
    def read(payload: bytes, at: int) -> tuple[int | Opaque, int]:
        start = at + width
        size = int.from_bytes(payload[at:start], "little", signed=width == 4)
        if size < 0:
            raise DamagedPickleError("a negative length")
        end = start + size
        if size > 8:
            return BIG_INT, end
        return int.from_bytes(payload[start:end], "little", signed=True), end

    return read


_WIDTHS = {ord("T"): 4, ord("U"): 1, ord("X"): 4, 0x8C: 1, 0x8D: 8, ord("B"): 4, ord("C"): 1,
           0x8E: 8, 0x96: 8}  # fmt: skip


def text_at(payload: bytes, opcode: int, at: int) -> bytes | None:
    """Return the whole text that the instruction at a position pushes; None if it pushes none."""
    width = _WIDTHS.get(opcode)
    if width is not None:
        start = at + 1 + width
        return payload[start : start + int.from_bytes(payload[at + 1 : start], "little")]
    if opcode == ord("S"):
        return _ESCAPE.sub(_unescaped, _line(payload, at + 1)[0].strip()[1:-1])
    if opcode == ord("V"):
        text = str(_line(payload, at + 1)[0], "raw-unicode-escape")
        return text.encode("utf-8", "surrogatepass")
    return None


# --- Arguments that are lines ---------------------------------------------------------------------

_INTEGER = re.compile(rb"\s*[+-]?\s*[0-9][0-9a-zA-Z_]*\s*(?:\0.*)?", re.DOTALL)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t",
            b"v": b"\v", b"\\": b"\\", b"'": b"'", b'"': b'"', b"\n": b""}  # fmt: skip


def _line(payload: bytes, at: int) -> tuple[bytes, int]:
    end = payload.find(b"\n", at)
    if end < 0:
        raise DamagedPickleError("a line that does not end")
    return payload[at:end], end + 1


def _int_line(payload: bytes, at: int) -> tuple[int | bool | Opaque, int]:
    line, end = _line(payload, at)
    if line in (b"00", b"01"):
        return line == b"01", end
    if not _INTEGER.fullmatch(line):
        raise DamagedPickleError("no integer")
    return (int(line) if len(line) < 20 and line.isdigit() else BIG_INT), end


def _float_line(payload: bytes, at: int) -> tuple[Opaque, int]:
    line, end = _line(payload, at)
    float(line[:500])
    return FLOAT, end


def _index_line(payload: bytes, at: int) -> tuple[int, int]:
    line, end = _line(payload, at)
    return int(line), end


def _string_line(payload: bytes, at: int) -> tuple[str | Opaque, int]:
    line, end = _line(payload, at)
    line = line.rstrip()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[:1] != line[-1:]:
        raise DamagedPickleError("no quotes around a string")
    if len(line) > MAX_ESCAPED:
        return LONG_TEXT, end
    return _kept(_ESCAPE.sub(_unescaped, line[1:-1]).decode("latin-1")), end


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3 and code[:1] == b"x":
        return bytes((int(code[1:], 16),))
    if code.isdigit():
        return bytes((int(code, 8) & 255,))
    return _ESCAPED.get(code, match[0])


def _unicode_line(payload: bytes, at: int) -> tuple[str | Opaque, int]:
    line, end = _line(payload, at)
    return (LONG_TEXT if len(line) > MAX_ESCAPED else _kept(str(line, "raw-unicode-escape"))), end


def _kept(text: str) -> str | Opaque:
    return text if len(text) <= MAX_NAME else LONG_TEXT


def _name_lines(payload: bytes, at: int) -> tuple[tuple[str | Opaque, str | Opaque], int]:
    module, between = _line(payload, at)
    name, end = _line(payload, between)
    return (_named(module), _named(name)), end


def _named(line: bytes) -> str | Opaque:
    return LONG_TEXT if len(line) > MAX_NAME else str(line, "utf-8")


def _unknown(_payload: bytes, _at: int) -> tuple[None, int]:
    raise DamagedPickleError("an unknown opcode")


# --- The table ------------------------------------------------------------------------------------

_STOP = ord(".")
_WITHOUT: dict[int, object] = {
    **dict.fromkeys(b".(012QRabdeosu\x81\x90\x92\x93\x94\x98"),
    ord("]"): "list", ord("l"): "list", ord("}"): "dict", ord(")"): "tuple", ord("t"): "tuple",
    0x8F: "set", 0x91: "frozenset", 0x85: 1, 0x86: 2, 0x87: 3, ord("N"): None, 0x88: True,
    0x89: False,
}  # fmt: skip
_DATA: dict[int, Reader] = {
    ord("I"): _int_line, ord("L"): _int_line, ord("F"): _float_line, ord("S"): _string_line,
    ord("V"): _unicode_line, ord("J"): _number(4, signed=True), ord("K"): _number(1),
    ord("M"): _number(2), 0x8A: _sized_int(1), 0x8B: _sized_int(4), ord("G"): _skip(8, FLOAT),
    ord("T"): _sized_text(4, "latin-1", "strict"), ord("U"): _sized_text(1, "latin-1", "strict"),
    ord("X"): _sized_text(4, "utf-8", "surrogatepass"),
    0x8C: _sized_text(1, "utf-8", "surrogatepass"), 0x8D: _sized_text(8, "utf-8", "surrogatepass"),
    ord("B"): _sized(4, BYTES), ord("C"): _sized(1, BYTES), 0x8E: _sized(8, BYTES),
    0x96: _sized(8, BYTEARRAY),
}  # fmt: skip
PUSHES_DATA = frozenset({*_DATA, ord("N"), 0x88, 0x89})
"""The opcodes of which the argument is what they push."""

_OTHERS: dict[int, Reader] = {
    ord("c"): _name_lines, ord("i"): _name_lines, ord("P"): _line, ord("g"): _index_line,
    ord("p"): _index_line, ord("h"): _number(1), ord("q"): _number(1), ord("j"): _number(4),
    ord("r"): _number(4), 0x80: _number(1), 0x95: _skip(8), 0x82: _number(1), 0x83: _number(2),
    0x84: _number(4, signed=True),
}  # fmt: skip
_CONSTANTS = [_WITHOUT.get(code) for code in range(256)]
_READERS: list[Reader | None] = [
    _DATA.get(code) or _OTHERS.get(code) or (None if code in _WITHOUT else _unknown)
    for code in range(256)
]
