"""Recognise and expand what another library has compressed, such as django-redis.

contextcache's own compression stands inside its envelope, see `contextcache.payload.envelope`. What
is here is for reading what others store, and never lets a few bytes become many.
"""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import Any

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\0": "lzma",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_MEMORY = 2**26  # bytes that a decompressor may take for itself


class ExpansionError(ValueError):
    """A compressed payload that cannot be expanded here."""


def compression_of(payload: bytes | memoryview) -> str:
    """Return the name of the format in which `payload` is compressed; empty if it is in none.

    Args:
        payload: Any bytes.
    """
    head = bytes(payload[:6])
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return name
    # zlib has a header of two bytes that a text may have, too.
    if head[:1] == b"\x78" and len(payload) >= 8 and int.from_bytes(head[:2], "big") % 31 == 0:
        try:
            zlib.decompressobj().decompress(payload[:64], 64)
        except zlib.error:
            return ""
        return "zlib"
    return ""


def expand(payload: bytes, name: str, most: int) -> bytes:
    """Return what `payload` was before it was compressed.

    Args:
        payload: The bytes.
        name: What `compression_of` returns for them.
        most: The most bytes it may become.

    Raises:
        ExpansionError: It becomes more, is damaged, or needs a package that is missing.
    """
    try:
        expanded = _expand(payload, name, most + 1)
    except ImportError as error:
        raise ExpansionError(f"{error.name} is not installed") from None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # each library has its own
        raise ExpansionError("it is damaged") from None
    if len(expanded) > most:
        raise ExpansionError(f"it expands to more than {most:,} bytes")
    return expanded


def _expand(payload: bytes, name: str, most: int) -> bytes:
    if name == "zlib":
        return zlib.decompressobj().decompress(payload, most)
    if name == "gzip":
        return zlib.decompressobj(31).decompress(payload, most)
    if name == "bz2":
        import bz2  # noqa: PLC0415

        return bz2.BZ2Decompressor().decompress(payload, most)
    if name == "lzma":
        import lzma  # noqa: PLC0415

        return lzma.LZMADecompressor(memlimit=_MEMORY).decompress(payload, most)
    if name == "lz4":
        frame: Any = import_module("lz4.frame")  # no dependency, and without types
        return bytes(frame.LZ4FrameDecompressor().decompress(payload, most))
    from contextcache.exceptions import ConfigurationError  # noqa: PLC0415
    from contextcache.payload.envelope import codec  # noqa: PLC0415

    try:
        zstd = codec("zstd")
    except ConfigurationError:
        raise ModuleNotFoundError(name="backports.zstd") from None
    return zstd.expand(payload, most)
