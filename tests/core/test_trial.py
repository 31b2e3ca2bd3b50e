"""A trial load compares the types of what came back with what went in."""

from __future__ import annotations

import copyreg
import gc
import threading
import weakref
from typing import Any

import pytest

from contextcache import Guard, Rule, is_stripped


class Unbound:
    """What a field is without a form, as those of WTForms."""

    def __init__(self, *_: object) -> None:
        self.made = True


class Field:
    """A form gets a field, and any other caller something else."""

    def __new__(cls, form: object = None) -> Any:
        return object.__new__(cls) if form is not None else Unbound()

    def __init__(self, form: object = None) -> None:
        self.form, self.data = None, [1]


class Nothing:
    def __new__(cls, full: bool = False) -> Any:
        return object.__new__(cls) if full else None


class Listed(list[int]):
    def __new__(cls, *items: int) -> Any:
        return list.__new__(cls) if items else []

    def __init__(self, *items: int) -> None:
        super().__init__(items)


class Meant:
    """Its author wants it back as something else."""

    def __reduce__(self) -> Any:
        return str, ("text",)


class MeantByArguments:
    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, ([1, 2],)


class Registered:
    def __new__(cls, own: bool = False) -> Any:
        return object.__new__(cls)


class Cached:
    """One object per name, as an enumeration or a currency."""

    known: Any = None

    def __new__(cls) -> Any:
        cls.known = cls.known or object.__new__(cls)
        return cls.known


@pytest.mark.parametrize(
    "build", [lambda: Field("form"), lambda: Nothing(True), lambda: Listed(1, 2)]
)
@pytest.mark.parametrize(
    "around",
    [
        lambda held: {"a": 1, "it": held},
        lambda held: {"a": 1, "it": held, "lock": threading.Lock()},
        lambda held: {"a": 1, "it": held, "function": lambda: None},
    ],
)
def test_what_loads_as_another_type_is_cut(build: Any, around: Any) -> None:
    """It is CC119, named itself, and the rest is stored."""
    guard = Guard()
    for _ in range(3):
        loaded = guard.loads(guard.dumps(around(build()), label="value"))
        assert is_stripped(loaded["it"])
        assert loaded["a"] == 1
    [finding] = [one for one in guard.summary() if one.code == "CC119"]
    assert str(finding.path) == "value['it']"
    assert finding.reason.startswith("it loads as ")


@pytest.mark.parametrize(
    "value", [Meant(), MeantByArguments(), Cached(), {1: Meant(), 2: [Cached(), Cached()]}]
)
def test_what_is_meant_to_load_as_another_type_is_not(value: object) -> None:
    """A pickling method, or a constructor that returns an object of its class."""
    guard = Guard()
    guard.dumps(value)
    assert guard.summary() == []
    assert guard.explain(value) == []


def test_what_copyreg_or_a_rule_replaces_is_not() -> None:
    """The author of a registered reducer or of a rule says what comes back."""
    copyreg.pickle(Registered, lambda _: (dict, ()))
    try:
        assert Guard().explain([Registered()]) == []
    finally:
        del copyreg.dispatch_table[Registered]
    rule = Rule(type=f"{__name__}.Field", verb="replace", make=lambda _: "text")  # type: ignore[arg-type]
    guard = Guard(rules=(rule,))
    assert guard.loads(guard.dumps([Field("form")])) == ["text"]
    assert guard.summary() == []


class Kept(list[Any]):
    """A class that is tried."""


def test_what_loads_is_not_kept_alive() -> None:
    """What the pickler remembers goes with the dump, without the garbage collector."""
    gc.disable()
    try:
        for guard in (Guard(), Guard(mode="raise")):
            for _ in range(2):
                value = Kept()
                gone = weakref.ref(value)
                guard.dumps([value])
                del value
                assert gone() is None
    finally:
        gc.enable()
