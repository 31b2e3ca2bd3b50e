"""Reading: only listed names where there is a list, and words for what cannot be read."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import decimal
import os
import pickle
import threading
import types
import uuid
import zoneinfo
from typing import Any

import pytest

from contextcache import (
    Config,
    ConfigurationError,
    Guard,
    UnreadablePayloadError,
    UntrustedPayloadError,
    is_stripped,
)


class Cart:
    """A class of the application's own."""

    class Line:
        """And one inside it."""

    def __init__(self) -> None:
        self.lines = [Cart.Line()]
        self.lock = threading.Lock()


class Other:
    """A class that nobody listed."""


CART = f"{__name__}.Cart"
LINE = f"{__name__}.Cart.Line"


def listed(*names: str) -> Guard:
    return Guard(Config(loadable=names))


def test_without_a_list_everything_loads() -> None:
    """The list is a choice."""
    assert isinstance(Guard().loads(pickle.dumps(Other(), 5)), Other)


def test_what_is_listed_loads_and_what_is_not_is_named() -> None:
    """The message says which name, and what to do."""
    guard = listed(CART, LINE)
    loaded = guard.loads(guard.dumps(Cart()))
    assert isinstance(loaded.lines[0], Cart.Line)
    assert not loaded.lock.locked()
    with pytest.raises(UntrustedPayloadError) as caught:
        guard.loads(pickle.dumps(Other(), 5), label="cache['o']")
    assert str(caught.value) == (
        f"cache['o'] cannot be read: it uses {__name__}:Other, which LOADABLE does not list; "
        "if this application stores it, add it to LOADABLE; else find out who wrote it"
    )


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, True, None, (b"x", "y")], "s": {1}, "f": frozenset({2})},
        collections.OrderedDict(a=1),
        collections.defaultdict(int, a=1),
        collections.deque([1], 3),
        collections.Counter("aab"),
        dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        decimal.Decimal("1.5"),
        uuid.UUID(int=7),
        types.SimpleNamespace(a=1),
        complex(1, 2),
        range(3),
        bytearray(b"x"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_needs_no_list(value: Any) -> None:
    """What every application stores is always allowed."""
    guard = listed()
    assert guard.loads(guard.dumps(value)) == value


def test_what_contextcache_puts_in_needs_no_list() -> None:
    """Markers, snapshots and fresh locks."""
    guard = listed()
    value = {"rows": (n for n in "ab"), "lock": threading.Lock(), "local": threading.local()}
    loaded = guard.loads(guard.dumps(value))
    assert is_stripped(loaded["rows"])
    assert loaded["lock"].acquire(blocking=False)


def crafted(*words: bytes) -> bytes:
    return b"\x80\x04" + b"".join(words) + b"."


def name(module: str, qualname: str) -> bytes:
    parts = (b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, qualname))
    return b"".join(parts) + b"\x93"


ATTACKS = {
    "a dotted name through a harmless module": crafted(name("collections", "_sys.modules")),
    "a module by a dotted name": crafted(name("uuid", "os.system")),
    "import_module": crafted(name("importlib", "import_module"), b"\x8c\x02os\x85R"),
    "__import__ and getattr": crafted(name("builtins", "__import__"), b"\x8c\x02os\x85R"),
    "getattr": crafted(name("builtins", "getattr"), name(__name__, "Cart"), b"\x8c\x04Line\x86R"),
    "getattr of a zone": crafted(
        name("builtins", "getattr"), name("zoneinfo", "ZoneInfo"), b"\x8c\x07nocache\x86R"
    ),
    "an old global": b"cposix\nsystem\n(S'true'\ntR.",
    "an instance": b"(iposix\nsystem\n.",
    "a persistent id": b"\x80\x04\x8c\x02id" + b"Q.",
    "an extension code": b"\x80\x04\x82\x7b.",
}


@pytest.mark.parametrize("payload", ATTACKS.values(), ids=ATTACKS)
def test_no_name_gets_round_the_list(payload: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these passes a list of prefixes or of what is forbidden."""
    ran: list[object] = []
    monkeypatch.setattr(os, "system", ran.append)
    with pytest.raises(UnreadablePayloadError):
        listed(CART).loads(payload)
    assert ran == []


def test_an_extension_code_that_was_looked_up_before_is_refused() -> None:
    """CPython answers it from a cache, without asking `find_class`."""
    copyreg.add_extension(__name__, "Other", 123)
    try:
        payload = pickle.dumps(Other, 5)
        assert payload == b"\x80\x05\x82\x7b."
        assert pickle.loads(payload) is Other
        with pytest.raises(UntrustedPayloadError, match="it uses an extension code"):
            listed().loads(payload)
        assert listed().loads(pickle.dumps({"a": 1}, 5)) == {"a": 1}
    finally:
        copyreg.remove_extension(__name__, "Other", 123)
        copyreg.clear_extension_cache()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("shop.Gone", "LOADABLE: 'shop.Gone' cannot be found"),
        ("decimal:Gone", "LOADABLE: 'decimal:Gone' cannot be found"),
        ("Cart", "LOADABLE lists names such as 'shop.models.Cart', not 'Cart'"),
        ("shop.*", "LOADABLE lists names such as 'shop.models.Cart', not 'shop.*'"),
        ("builtins.eval", "LOADABLE: 'builtins.eval' would let a payload do anything"),
        ("os.system", "LOADABLE: 'os.system' would let a payload do anything"),
        ("xml.etree", "LOADABLE: 'xml.etree' would let a payload do anything"),
    ],
)
def test_a_list_that_cannot_be_kept_is_an_error(names: str, message: str) -> None:
    """When the guard is made."""
    with pytest.raises(ConfigurationError) as caught:
        listed(names)
    assert str(caught.value) == message


def test_a_class_may_be_listed_by_the_name_it_is_imported_by() -> None:
    """Pickle uses the name it has."""
    guard = listed("contextcache.Path")
    from contextcache import Path

    assert guard.loads(pickle.dumps(Path("value", ()), 5)) == Path("value", ())


def test_a_name_from_a_payload_is_shown_only_if_it_is_one() -> None:
    """Nobody writes lines of his own into the log."""
    payload = crafted(name("x\ny", "z"))
    with pytest.raises(UntrustedPayloadError) as caught:
        listed().loads(payload)
    assert "it uses a malformed name, which" in str(caught.value)
    assert "\n" not in str(caught.value)
