"""Attributes that a base class drops, because it was written without room for any."""

from __future__ import annotations

import array
import builtins
import collections
import datetime as dt
import decimal
import enum
import fractions
import functools
import ipaddress
import pathlib
import pickle
import uuid
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from contextcache import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

LOSING: dict[str, Callable[[type], Any]] = {
    "datetime": lambda cls: cls(2026, 1, 2),
    "date": lambda cls: cls(2026, 1, 2),
    "time": lambda cls: cls(1, 2),
    "timedelta": lambda cls: cls(3),
    "Decimal": lambda cls: cls("1.5"),
    "Fraction": lambda cls: cls(1, 2),
    "UUID": lambda cls: cls(int=7),
    "IPv4Address": lambda cls: cls("10.0.0.1"),
    "IPv6Address": lambda cls: cls("::1"),
    "PurePosixPath": lambda cls: cls("a/b"),
    "defaultdict": lambda cls: cls(list, a=1),
    "ndarray": lambda cls: np.zeros(3).view(cls),
}
NO_SLOTS = [("ndarray", True)]  # a view of numpy sets none
KEEPING: dict[str, Callable[[type], Any]] = {
    "int": lambda cls: cls(3),
    "float": lambda cls: cls(1.5),
    "complex": lambda cls: cls(1, 2),
    "str": lambda cls: cls("text"),
    "bytes": lambda cls: cls(b"raw"),
    "bytearray": lambda cls: cls(b"raw"),
    "tuple": lambda cls: cls((1, 2)),
    "list": lambda cls: cls([1]),
    "dict": lambda cls: cls(a=1),
    "set": lambda cls: cls([1]),
    "frozenset": lambda cls: cls([1]),
    "deque": lambda cls: cls([1], 3),
    "OrderedDict": lambda cls: cls(a=1),
    "array": lambda cls: cls("i", [1]),
    "partial": lambda cls: cls(len),
    "Exception": lambda cls: cls("text"),
}
HOMES = (
    *(builtins, dt, decimal, fractions, uuid, ipaddress, pathlib, collections, functools),
    np,
)


def base(name: str) -> Any:
    if name == "array":
        return array.array
    return next(getattr(home, name) for home in HOMES if hasattr(home, name))


def subclass(name: str, *, slots: bool = False) -> Any:
    """Return a subclass of a type of the standard library, which stands in this module."""
    space: dict[str, Any] = {"__module__": __name__} | ({"__slots__": ("source",)} if slots else {})
    made = type(f"Own{name}{'Slots' * slots}", (base(name),), space)
    globals()[made.__name__] = made
    return made


def outcome(value: object) -> list[tuple[str, str]]:
    guard = Guard()
    for _ in range(2):  # at the first time, and known
        guard.loads(guard.dumps({"it": value}, label="value"))
    return [(one.code, str(one.path)) for one in guard.summary()]


@pytest.mark.parametrize(
    ("name", "slots"),
    [(name, slots) for name in LOSING for slots in (False, True) if (name, slots) not in NO_SLOTS],
)
def test_what_loses_an_attribute_is_reported(name: str, slots: bool) -> None:
    """It is CC122; the base's part is stored."""
    value = LOSING[name](subclass(name, slots=slots))
    object.__setattr__(value, "source", "bank")
    assert not hasattr(pickle.loads(pickle.dumps(value)), "source")
    assert outcome(value) == [("CC122", "value['it']")]


@pytest.mark.parametrize("name", LOSING | KEEPING)
def test_without_attributes_there_is_nothing_to_lose(name: str) -> None:
    """A subclass with methods alone is stored byte for byte."""
    cls = subclass(name)
    build = (LOSING | KEEPING)[name]
    guard = Guard()
    for _ in range(2):
        assert guard.dumps([build(cls)]) == pickle.dumps([build(cls)], 5)
    assert guard.summary() == []
    value = build(cls)
    object.__setattr__(value, "source", "bank")
    back = guard.loads(guard.dumps([value]))[0]
    assert bool(guard.summary()) is not hasattr(back, "source")


@pytest.mark.parametrize("name", KEEPING)
def test_what_keeps_it_is_not(name: str) -> None:
    """No finding, whatever a base stores of its own accord."""
    value = KEEPING[name](subclass(name))
    object.__setattr__(value, "source", "bank")
    kept = hasattr(pickle.loads(pickle.dumps(value)), "source")
    assert bool(outcome(value)) is not kept


class Money(decimal.Decimal):
    currency: str
    cents: int

    def __new__(cls, amount: str, currency: str = "EUR") -> Money:
        self = super().__new__(cls, amount)
        self.currency, self.cents = currency, int(self * 100)
        return self


class Computed(dt.date):
    @functools.cached_property
    def quarter(self) -> int:
        return (self.month + 2) // 3


class Own(decimal.Decimal):
    source = ""

    def __reduce__(self) -> Any:
        return Own, (str(self),), {"source": self.source}


class Listed(pathlib.PurePosixPath):
    """Another hook than that of the base."""

    source = ""

    def __reduce__(self) -> Any:
        return Listed, self.parts


class Color(enum.StrEnum):
    RED = "red"


class Due(dt.date, enum.Enum):
    NOW = 2026, 1, 2


@pytest.mark.parametrize(
    ("value", "reported"),
    [
        (Money("1.5"), False),
        (Money("1.5", "USD"), True),
        (Color.RED, False),
        (Due.NOW, False),
        (dt.datetime(2026, 1, 2, tzinfo=dt.UTC), False),
        (collections.defaultdict(list), False),
        (collections.Counter("aab"), False),
    ],
)
def test_what_the_constructor_sets_again_is_not_lost(value: object, reported: bool) -> None:
    """Only an attribute with another value than it will have is reported."""
    assert bool(outcome(value)) is reported


def test_each_attribute_is_judged_by_itself() -> None:
    """What a class sets again says nothing about an attribute that was added from outside."""
    guard = Guard()
    guard.dumps([Money("1.5")])
    assert guard.summary() == []
    value: Any = Money("1.5")
    object.__setattr__(value, "source", "bank")
    guard.dumps([value])
    assert [one.code for one in guard.summary()] == ["CC122"]


def test_what_is_computed_again_is_not_lost() -> None:
    """A `cached_property` keeps its value in the dictionary."""
    value = Computed(2026, 5, 1)
    assert value.quarter == 2
    assert outcome(value) == []


def test_a_class_that_pickles_itself_says_what_is_stored() -> None:
    """Its author knew the attributes."""
    for value in (Own("1"), Listed("a")):
        object.__setattr__(value, "source", "bank")
        assert outcome(value) == []


def test_where_it_is() -> None:
    """The finding names the object and a fix that holds."""
    value = subclass("datetime")(2026, 1, 2)
    object.__setattr__(value, "source", "bank")
    guard = Guard()
    guard.dumps({"orders": [{"at": value}]}, label="cache['it']")
    [finding] = guard.summary()
    assert finding.line() == (
        "CC122: cache['it']['orders'][0]['at'] (tests.core.test_lost_attributes.Owndatetime) "
        "its base class says what pickle stores, and does not know the attributes it has"
    )
    assert finding.did == "stored it without these attributes"
    assert finding.fix == "give the class a __reduce__ that stores its attributes, too"


def test_a_class_of_a_library_knows_its_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a block of pandas, which keeps what it has computed in a dictionary."""
    value = subclass("datetime")(2026, 1, 2)
    object.__setattr__(value, "source", "bank")
    assert outcome(value) == [("CC122", "value['it']")]
    cls = type("Stamp", (dt.datetime,), {"__module__": "hypothesis"})
    monkeypatch.setattr("hypothesis.Stamp", cls, raising=False)
    stamp = cls(2026, 1, 2)
    stamp.cache = "computed"
    assert outcome(stamp) == []
