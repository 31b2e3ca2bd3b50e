"""What stored bytes are: a pickle, what it is wrapped in, or nothing that is ever unpickled.

Pickles of protocols 0 and 1 have no first byte of their own, and many are plain text. So a pickle
is what can be read as one to its end, or what calls something that runs code before it stops.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Any

from contextcache.commands.payload_reader import Reading, scan
from contextcache.payload.compression import compression_of, expand
from contextcache.payload.dangerous import runs_code

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_EXPANDED = 8_000_000  # bytes that a compressed payload may become
MAX_RATIO = 20  # of what it may become to what it is, where that is more

_NUMBER = re.compile(rb"-?\d{1,19}")  # stored raw, so that Redis can increment it
_SHORT = re.compile(rb"[ -~]{,3}")  # texts, although they would unpickle, such as "N."
_QUALIFIED = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")

_PLACEHOLDER = "_operator:getitem"  # by which contextcache stores one object in place of another

FLASK_CACHING = b"!"
"""What Flask-Caching and cachelib put before a pickle."""


def is_number(payload: bytes) -> bool:
    """Return True if `payload` is a counter of Redis."""
    return _NUMBER.fullmatch(payload) is not None


def unwrap(payload: bytes, most: int | None = None) -> tuple[bytes, str]:
    """Return what is inside of the prefix of Flask-Caching and the compression of django-redis.

    Args:
        payload: Any bytes.
        most: The most bytes it may become; by default `MAX_EXPANDED`, or `MAX_RATIO` times as
            many as there are.

    Returns:
        The bytes, and the name of their compression, which is empty if there was none.

    Raises:
        ExpansionError: It is compressed, and cannot be expanded.
    """
    body = payload.removeprefix(FLASK_CACHING)
    compression = compression_of(body)
    if not compression:
        return body, ""
    if most is None:
        most = max(MAX_EXPANDED, MAX_RATIO * len(body))
    return expand(body, compression, most), compression


def find_pickle(body: bytes, **options: Any) -> Reading | None:
    """Return the reading of the pickle that `body` is or holds; None if there is none.

    Args:
        body: Bytes without prefix and compression.
        options: See `contextcache.commands.payload_reader.scan`.
    """
    reading = _read_pickle(body, **options)
    if reading is not None:
        return reading
    found = None
    for part in packed_texts(body):
        reading = _read_pickle(part, **options)
        if reading is not None and runs(reading):
            return reading
        found = found or reading
    return found


def runs(reading: Reading) -> tuple[str, ...]:
    """Return the names in a pickle that may run code."""
    return tuple(name for name in reading.names if name != _PLACEHOLDER and runs_code(name))


def _read_pickle(body: bytes, **options: Any) -> Reading | None:
    reading = scan(body, **options)
    if body[:1] == b"\x80" and b"\2" <= body[1:2] <= b"\5":  # as picklers have it since protocol 2
        return reading
    if reading.calls and (reading.computed or runs(reading)):
        return reading
    if reading.damaged or _SHORT.fullmatch(body):
        return None
    if body[reading.end :].strip(b"\0\r\n\t ") and not reading.calls:
        return None
    return reading if all(map(_QUALIFIED.fullmatch, reading.names)) else None


# --- MessagePack, in which Flask-Session stores what may hold pickles -----------------------------

_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8,
          0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}  # fmt: skip
_SIZED = {
    0xC4: (1, 0),
    0xC5: (2, 0),
    0xC6: (4, 0),
    0xC7: (1, 1),
    0xC8: (2, 1),
    0xC9: (4, 1),
    0xD9: (1, 0),
    0xDA: (2, 0),
    0xDB: (4, 0),
}  # width of the length, bytes of the type
_EXTENSIONS = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_MANY = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # and items for each entry


def packed_texts(body: bytes) -> Iterator[bytes]:
    """Yield the texts and bytes in a map or array of MessagePack; nothing if it is none."""
    if not body or not (0x81 <= body[0] <= 0x9F or body[0] in _MANY):
        return
    bounds = array("Q")
    at, left, end = 0, 1, len(body)
    while left:
        if at >= end or left > end:
            return
        left -= 1
        code, start = body[at], at + 1
        size = 0
        if 0x80 <= code <= 0x9F:
            left += (code & 15) * (2 if code < 0x90 else 1)
        elif code in _MANY:
            width, items = _MANY[code]
            left += items * int.from_bytes(body[start : start + width], "big")
            start += width
        elif code in _FIXED:
            size = _FIXED[code]
        elif 0xA0 <= code <= 0xBF or code in _SIZED or code in _EXTENSIONS:
            width, kind = _SIZED.get(code, (0, int(code in _EXTENSIONS)))
            size = int.from_bytes(body[start : start + width], "big")
            size += (code & 31) * (0xA0 <= code <= 0xBF) + _EXTENSIONS.get(code, 0)
            start += width + kind
            if size > 3:
                bounds.extend((start, start + size))
        elif 0x80 <= code < 0xE0:  # 0xC1 is never used
            return
        at = start + size
    if at == end:
        yield from (body[first:last] for first, last in zip(bounds[::2], bounds[1::2], strict=True))
