"""What may stand in Redis under a key of ours that is not what we wrote there.

`FORGED` is what somebody with access to Redis can plant without the secret. `ROTTEN` is what we
signed ourselves, and can no longer be rebuilt.
"""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

executed: list[str] = []


def fire(*_: object) -> dict[str, int]:
    """Take note that a planted payload ran; every attack below ends here."""
    executed.append("fired")
    return {"tea": 1}


class Armed:
    """The usual attack: unpickling it calls a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return fire, ()


class Newborn:
    """Making one is the attack, as with many a class of the standard library."""

    def __new__(cls) -> Any:
        return fire()


_FIRE = f"c{__name__}\nfire\n".encode()
EVIL = {
    "reduce": pickle.dumps(Armed(), 5),
    "reduce in protocol 0": pickle.dumps(Armed(), 0),
    "inside a session": pickle.dumps({"value": {"tea": 1}, "user": Armed()}, 5),
    "INST": f"(i{__name__}\nfire\n.".encode(),
    "OBJ": b"(" + _FIRE + b"o.",
    "NEWOBJ": f"\x80\x02c{__name__}\nNewborn\n)\x81.".encode("latin-1"),
    "BUILD": b"\x80\x02" + _FIRE + b")R}b.",
    "ten values, one of them armed": pickle.dumps([*range(9), Armed()], 5),
}


def disguised(evil: bytes) -> dict[str, bytes]:
    """Return `evil` as each reader there is, or was, might take it for its own."""
    return {
        "as it is": evil,
        "for cachelib": b"!" + evil,
        "after an integer": b"1\n" + evil,
        "after a minus": b"-" + evil,
        "compressed": zlib.compress(evil),
        "with our magic": b"\xcc" + evil,
        "in an envelope without a signature": b"\xcc\x01\x00" + b"\0" * 36 + evil,
        "in such an envelope for cachelib": b"!\xcc\x01\x00" + b"\0" * 36 + evil,
        "in an envelope of a version to come": b"\xcc\x02\x00" + b"\0" * 36 + evil,
        "in an envelope of no version": b"\xcc\x00\x00" + b"\0" * 36 + evil,
        "as text": b'"' + evil + b'"',
    }


# From the payload that is stored to the one somebody put in its place.
FORGED: dict[str, Callable[[bytes], bytes]] = {
    "empty string": lambda stored: b"",
    "one byte": lambda stored: stored[:1],
    "truncated in the header": lambda stored: stored[:20],
    "truncated in the middle": lambda stored: stored[: len(stored) // 2],
    "last byte missing": lambda stored: stored[:-1],
    "one byte more": lambda stored: stored + b".",
    "first bit flipped": lambda stored: bytes([stored[0] ^ 0x80]) + stored[1:],
    "a bit of the signature flipped": lambda stored: _flipped(stored, 30),
    "last bit flipped": lambda stored: _flipped(stored, len(stored) - 1),
    "random bytes": lambda stored: bytes(range(128, 256)),
    "text": lambda stored: b"hello",
    "JSON": lambda stored: b'{"tea": 1}',
    "an unsigned pickle": lambda stored: pickle.dumps({"tea": 1}, 5),
    "twice": lambda stored: stored * 2,
    "a giant length": lambda stored: b"\x80\x05\x8e" + b"\xff" * 7 + b"\x7f.",
    "a giant memo": lambda stored: b"\x80\x05Nr\xff\xff\xff\x7f.",
    "deep nesting": lambda stored: b"\x80\x05" + b"(" * 100_000 + b"t" * 100_000 + b".",
}  # fmt: skip


def _flipped(stored: bytes, place: int) -> bytes:
    return stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :]


# --- What rots ------------------------------------------------------------------------------------


class Vanishing:
    """A class that the next deploy removes."""


class Brittle:
    """A class whose next version cannot be given what the one before it stored."""

    raises: BaseException | None = None

    def __setstate__(self, state: object) -> None:
        if Brittle.raises is not None:
            raise Brittle.raises

    def __getstate__(self) -> object:
        return {"secret": "canary"}


_FOLDER = tempfile.TemporaryDirectory()  # until the process ends


def vanished_module() -> object:
    """Return an instance of a class in a module that can be imported, and is about to go."""
    (Path(_FOLDER.name) / "shop_of_last_year.py").write_text("class Cart: pass\n", "utf-8")
    if _FOLDER.name not in sys.path:
        sys.path.append(_FOLDER.name)
    importlib.invalidate_caches()
    return importlib.import_module("shop_of_last_year").Cart()


def _remove_module(monkeypatch: Any) -> None:
    monkeypatch.delitem(sys.modules, "shop_of_last_year")
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != _FOLDER.name])


@dataclasses.dataclass(frozen=True)
class Rot:
    """One way for a value to become unreadable.

    Args:
        make: Makes the value that is stored.
        spoil: Does to this process what makes it unreadable; given pytest's `monkeypatch`.
        reason: What the warning says about it.
    """

    name: str
    make: Callable[[], object]
    spoil: Callable[[Any], None]
    reason: str


def _raising(error: BaseException) -> Callable[[Any], None]:
    return lambda monkeypatch: monkeypatch.setattr(Brittle, "raises", error)


ROTTEN = [
    Rot(
        "module gone",
        vanished_module,
        _remove_module,
        "its module shop_of_last_year is gone; restore it under its old name",
    ),
    Rot(
        "class gone",
        Vanishing,
        lambda monkeypatch: monkeypatch.delattr(sys.modules[__name__], "Vanishing"),
        f"its class or attribute Vanishing is gone from {__name__}; restore it",
    ),
    Rot(
        "__setstate__ raises",
        Brittle,
        _raising(RuntimeError("canary")),
        "rebuilding it raised RuntimeError; mend __setstate__ or __reduce__ of its class",
    ),
    Rot(
        "no memory",
        Brittle,
        _raising(MemoryError()),
        "rebuilding it raised MemoryError; mend __setstate__",
    ),
    Rot(
        "nested too deep",
        Brittle,
        _raising(RecursionError()),
        "rebuilding it raised RecursionError; mend __setstate__",
    ),
]
