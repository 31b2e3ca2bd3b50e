"""What others compress is recognised by its first bytes, and never becomes much."""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import pickle
import sys
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Guard, UnreadablePayloadError
from contextcache.payload.compression import ExpansionError, compression_of, expand
from contextcache.payload.envelope import codec

if TYPE_CHECKING:
    from collections.abc import Callable

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "lzma": lzma.compress,
    "bz2": bz2.compress,
    "zstd": codec("zstd").compress,
}


@pytest.mark.parametrize("level", range(10))
def test_every_level_of_zlib_is_recognised(level: int) -> None:
    """The second byte says which it was."""
    assert compression_of(zlib.compress(b"word " * 100, level)) == "zlib"


@pytest.mark.parametrize("name", COMPRESS)
@given(body=st.binary(max_size=300))
def test_what_was_compressed_is_expanded(name: str, body: bytes) -> None:
    """Byte for byte."""
    payload = COMPRESS[name](body)
    assert compression_of(payload) == compression_of(memoryview(payload)) == name
    assert expand(payload, name, 300) == body


@pytest.mark.parametrize("name", COMPRESS)
def test_a_bomb_is_not_expanded(name: str) -> None:
    """Neither the bytes beyond the most nor what they would take in memory."""
    bomb = COMPRESS[name](bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(ExpansionError, match=r"^it expands to more than 100,000 bytes$"):
        expand(bomb, name, 100_000)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["lzma", "bz2", "zstd"])
def test_damage_is_named(name: str) -> None:
    """Whatever error the library has for it."""
    payload = COMPRESS[name](b"x" * 1000)
    with pytest.raises(ExpansionError, match=r"^it is damaged$"):
        expand(payload[:6] + b"\xff\xfe\xfd\xfc" * 9, name, 10_000)


@pytest.mark.parametrize("text", [b"x^2 + y^2 = z^2", b"x\x01", b"x", b"", b"xml", b"BZ", b"\x1f"])
def test_a_text_is_not_taken_for_compressed(text: bytes) -> None:
    """A header of two bytes proves nothing."""
    assert compression_of(text) == ""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="lz4 has no wheel for this version")
def test_lz4_is_expanded_where_it_is_installed() -> None:
    """It is no dependency."""
    frame = importlib.import_module("lz4.frame")
    payload = frame.compress(b"word " * 1000)
    assert expand(payload, compression_of(payload), 5000) == b"word " * 1000


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the bytes are recognised, and not looked into."""
    monkeypatch.setitem(sys.modules, "lz4", None)
    monkeypatch.setitem(sys.modules, "lz4.frame", None)
    with pytest.raises(ExpansionError, match=r"^lz4\S* is not installed$"):
        expand(b"\x04\x22\x4d\x18", "lz4", 10)


@pytest.mark.parametrize("name", COMPRESS)
def test_a_read_says_that_the_entry_is_compressed(name: str) -> None:
    """And not that somebody else writes there, which would be looked for in vain."""
    payload = COMPRESS[name](pickle.dumps({"a": "word " * 100}))
    for guard in (Guard(), Guard(secret_keys=("s",), sign=True, accept_unsigned=True)):
        with pytest.raises(UnreadablePayloadError) as raised:
            guard.loads(payload, label="cache['k']")
        assert str(raised.value) == (
            f"cache['k'] cannot be read: it is compressed with {name}, as django-redis does, and "
            "is not expanded here; the next write replaces it; to keep such entries, store them "
            "once more with django-redis and without its COMPRESSOR"
        )
