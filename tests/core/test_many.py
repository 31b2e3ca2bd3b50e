"""Values with many offenders: the rest is stored, and the work grows with their number only."""

from __future__ import annotations

import logging
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard
from contextcache.engine.diagnosis import MAX_ROUNDS, MAX_TRIALS
from contextcache.testing import capture_findings

if TYPE_CHECKING:
    from collections.abc import Callable

MANY = 5 * MAX_ROUNDS

SOURCE = """
class Fault{n}(Exception):
    def __init__(self, a, b):
        super().__init__(a)
class Row{n}:
    def __init__(self, inner=None):
        self.inner = inner
    def __setstate__(self, state):
        raise ValueError
class Strict{n}:
    def __init__(self, inner=None):
        self.inner = inner
    def __setstate__(self, state):
        self.inner = state["inner"]
        if self.inner is not None and not self.inner:
            raise ValueError
class Reduced{n}:
    def __reduce__(self):
        return int, ("none",)
class Slots{n}:
    __slots__ = ("a",)
    def __init__(self):
        self.a = 1
    def __setattr__(self, name, value):
        if name == "a" and hasattr(self, "a"):
            raise AttributeError
        object.__setattr__(self, name, value)
    def __setstate__(self, state):
        raise TypeError
class Listed{n}(list):
    def __init__(self):
        list.append(self, 1)
    def append(self, item):
        raise TypeError
    extend = append
class Mapped{n}(dict):
    def __init__(self):
        dict.__setitem__(self, "a", 1)
    def __setitem__(self, key, value):
        raise TypeError
class Number{n}(int):
    def __new__(cls, first=1, *, second=None):
        return int.__new__(cls, first)
    def __getnewargs__(self):
        return 1, 2, 3
"""


@pytest.fixture(scope="module")
def made() -> Any:
    """A module with many classes of each kind that does not load."""
    module = sys.modules["many"] = types.ModuleType("many")
    module.__file__ = __file__  # as if others could import it
    exec("".join(SOURCE.format(n=n) for n in range(MANY)), module.__dict__)
    yield module
    del sys.modules["many"]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("contextcache"), "disabled", True)


KINDS: dict[str, Callable[[type], object]] = {
    "Fault": lambda cls: cls(1, 2),
    "Row": lambda cls: cls(),
    "Reduced": lambda cls: cls(),
    "Slots": lambda cls: cls(),
    "Listed": lambda cls: cls(),
    "Mapped": lambda cls: cls(),
    "Number": lambda cls: cls(),
}
PLACES: dict[str, Callable[[list[Any]], dict[str, Any]]] = {
    "a list": lambda made: {"many": made},
    "keys": lambda made: {f"k{at}": one for at, one in enumerate(made)},
    "rows": lambda made: {"many": [{"row": one, "n": 1} for one in made]},
    "beside locks": lambda made: {"many": [(one, threading.Lock()) for one in made]},
}


@pytest.mark.parametrize("session", [False, True], ids=["cache", "session"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_many_classes_that_do_not_load(
    made: Any, kind: str, place: Callable[[list[Any]], dict[str, Any]], session: bool
) -> None:
    """Each is cut and named, and what loads is stored."""
    objects = [KINDS[kind](getattr(made, f"{kind}{n}")) for n in range(MANY)]
    guard = Guard(session=session)
    with capture_findings() as findings:
        loaded = guard.loads(guard.dumps({**place(objects), "uid": 7}))
    assert loaded["uid"] == 7
    assert sum(one.code == "CC119" for one in findings) == MANY
    assert guard.loads(guard.dumps({**place(objects), "uid": 7}))["uid"] == 7


@pytest.mark.parametrize("kind", ["Row", "Strict"])
def test_many_classes_inside_of_each_other(made: Any, kind: str) -> None:
    """However deep a class stands that does not load, what is around it and loads is stored."""
    value: Any = made.Row0()
    for number in range(1, MANY):
        value = getattr(made, f"{kind}{number}")(value)
    guard = Guard()
    assert guard.loads(guard.dumps({"row": value, "uid": 7}))["uid"] == 7


def test_one_of_many_objects_does_not_load(made: Any) -> None:
    """The objects of one class are tried one by one where the first of them load."""
    class_ = made.Strict1
    rows = [class_() for _ in range(3 * MAX_TRIALS)]
    rows[-1].inner = ()
    guard = Guard()
    loaded = guard.loads(guard.dumps({"rows": rows, "uid": 7}))
    assert loaded["uid"] == 7
    assert [bool(row) for row in loaded["rows"]] == [True] * (len(rows) - 1) + [False]
