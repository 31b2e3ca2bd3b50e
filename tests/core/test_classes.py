"""Nothing that is learned about a class keeps it alive."""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import gc
import json
import logging
import sys
import threading
import types
import weakref
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import pydantic
import pytest

from contextcache import Guard, RequestScope, UncacheableValueError, enter_scope, exit_scope
from contextcache.base.classes import ClassMemo, derived, is_permanent, once_per_class
from contextcache.engine.dispatch import MAX_YOUNG, SETTLED, TRIED
from contextcache.jsonable import JSONGuard
from contextcache.rules.annotations import LeaveOut, Recreate
from contextcache.testing import capture_findings
from tests.core import shapes

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBER = 2 * MAX_YOUNG


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module that classes are put into, as a schema or a query makes them."""
    module = types.ModuleType("made")
    module.__file__ = __file__  # as if others could import it
    monkeypatch.setitem(sys.modules, "made", module)
    monkeypatch.setattr(logging.getLogger("contextcache"), "disabled", True)
    return module


def named(cls: type) -> type:
    """Put a class into the module, where pickle finds it."""
    cls.__module__ = "made"
    setattr(sys.modules["made"], cls.__qualname__, cls)
    return cls


class Meta(type):
    """A metaclass, such as those of models."""


class Row(NamedTuple):
    number: int


def _refusing(_: object, state: object) -> None:
    raise ValueError


KINDS: dict[str, Callable[[str], type]] = {
    "plain": lambda name: type(name, (), {"__module__": "made"}),
    "importable": lambda name: named(type(name, (), {})),
    "importable again": lambda _: named(type("Form", (), {})),
    "below an importable one": lambda name: type(
        name, (named(type(f"{name}Base", (), {})),), {"__reduce__": lambda _: (list, ())}
    ),
    "that reduces itself": lambda name: type(name, (), {"__reduce__": lambda _: (dict, ())}),
    "that refuses": lambda name: type(name, (), {"__reduce__": lambda _: 1 / 0}),
    "that does not load": lambda name: named(
        type(name, (), {"__init__": lambda self: setattr(self, "a", 1), "__setstate__": _refusing})
    ),
    "of a metaclass": lambda name: named(Meta(name, (), {})),
    "named tuple": lambda name: named(
        type(name, (Row,), {"__new__": lambda cls: Row.__new__(cls, 1)})
    ),
    "collections.namedtuple": lambda name: named(
        collections.namedtuple(name, "a", defaults=[1])
    ),
    "dataclass": lambda name: named(
        dataclasses.make_dataclass(name, [("a", int, 1)], namespace={"lock": None})
    ),
    "exception": lambda name: named(type(name, (Exception,), {})),
    "exception that wants more": lambda name: named(
        type(name, (Exception,), {"__init__": lambda self, *_: Exception.__init__(self, 1, 2, 3),
                                  "__setstate__": _refusing})
    ),
    "pydantic": lambda name: named(pydantic.create_model(name, a=(int, 1))),
    "string": lambda name: named(type(name, (str,), {})),
    "lock with a default": lambda name: named(
        type(name, (), {"lock": None, "__init__": lambda self: setattr(self, "lock", _lock())})
    ),
    "marked": lambda name: named(
        type(name, (), {"__annotations__": {"lock": Annotated[Any, Recreate]},
                        "__init__": lambda self: setattr(self, "lock", shapes.Thing())})
    ),
    "marked with a name": lambda name: named(
        LeaveOut("lock")(type(name, (), {"__init__": lambda self: setattr(self, "lock", _lock())}))
    ),
    "offender": lambda name: named(type(name, (threading.Event,), {})),
    "thread-local": lambda name: named(type(name, (threading.local,), {})),
}  # fmt: skip


def _lock() -> Any:
    return threading.Lock()


def written(kind: Callable[[str], type], write: Callable[[object, int], None]) -> int:
    """Write one object of each of many classes; return how many classes are alive afterwards."""
    references = []
    for number in range(NUMBER):
        cls = kind(f"Made{number}")
        references.append(weakref.ref(cls))
        write(cls(), number)
        del cls
    vars(sys.modules["made"]).clear()
    gc.collect()
    return sum(reference() is not None for reference in references)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(
    "options", [{}, {"debug": True}, {"mode": "warn"}, {"mode": "raise"}], ids=str
)
def test_a_class_of_one_write_is_not_kept(
    kind: Callable[[str], type], options: dict[str, Any]
) -> None:
    """Alone, beside a lock, and in a session; with or without a developer who watches."""
    guard, session = Guard(**options), Guard(session=True, **options)

    def write(obj: object, number: int) -> None:
        for value, to in (
            (obj, guard),
            ({"row": obj}, guard),
            ([obj, threading.Lock()], guard),
            ({"row": obj, "uid": 1}, session),
            ({"row": [obj] * 3, "call": lambda: 0}, session),
        ):
            try:
                to.dumps(value, label=f"cache['{number % 3}']")
            except (UncacheableValueError, Exception):  # of pickle's, in mode `warn`
                continue

    assert written(kind, write) <= MAX_YOUNG


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_explaining_and_collecting_keep_no_class(kind: Callable[[str], type]) -> None:
    """Findings, whether of `explain`, of a test or of a request's page, hold names only."""
    guard = Guard()
    kept: list[Any] = []

    def write(obj: object, _: int) -> None:
        kept.append(guard.explain({"row": obj, "lock": threading.Lock()}))
        scope = RequestScope("GET", "/", collect=True)
        token = enter_scope(scope)
        try:
            with capture_findings() as found:
                guard.dumps({"row": obj, "lock": threading.Lock()})
        finally:
            exit_scope(token)
        kept.extend((scope, found))

    assert written(kind, write) <= MAX_YOUNG


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_json_keeps_no_class(kind: Callable[[str], type]) -> None:
    """What JSON makes of a class goes with the class."""
    guard = JSONGuard(lambda value: json.dumps(value, default=lambda _: None))
    assert written(kind, lambda obj, _: guard.dumps({"row": obj, "n": 1}) and None) == 0


def test_a_class_that_is_used_for_a_while_is_asked_for_in_c(
    made: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the table however many others come by, and leaves it with its module."""
    now = 0.0
    monkeypatch.setattr(
        "contextcache.engine.dispatch.time", types.SimpleNamespace(monotonic=lambda: now)
    )
    guard = Guard()
    model, passing = named(type("Model", (), {})), named(type("Passing", (), {}))
    guard.dumps([passing()])
    for _ in range(2):
        guard.dumps([model() for _ in range(TRIED)])
        for number in range(MAX_YOUNG + 1):
            guard.dumps([named(type(f"Young{number}", (), {}))()])
        now += 2 * SETTLED
    assert model in guard._outcome.examiner.knowledge.table
    assert passing not in guard._outcome.examiner.knowledge.table
    made.Model = None
    guard.dumps([named(type("Last", (), {}))()])
    assert model not in guard._outcome.examiner.knowledge.table


def test_another_class_under_the_same_name_is_no_reason_to_refuse() -> None:
    """An object of a class that was replaced in its module is cut, and the rest is stored."""
    guard = Guard()
    old = named(type("Form", (), {}))
    guard.dumps({"form": old(), "n": 1})
    named(type("Form", (), {}))
    loaded = guard.loads(guard.dumps({"form": old(), "n": 1}))
    assert loaded["n"] == 1
    assert not loaded["form"]


def test_a_memo_forgets_with_the_class() -> None:
    """Also where an id is used again, and for metaclasses that cannot be hashed or compared."""

    class Hostile(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            raise RuntimeError

    memo: ClassMemo[int] = ClassMemo()
    for number in range(1000):
        cls = Hostile("Made", (), {})
        assert memo.get(cls) is None
        assert memo.put(cls, number) == memo.get(cls) == number
        assert memo.put(cls, -1) == number
        if number % 100 == 0:
            gc.collect()
    del cls
    gc.collect()
    assert len(memo) == 0


def test_once_per_class() -> None:
    """A function is asked once for each class, also where it returns None."""
    asked = []

    @once_per_class
    def function(cls: type) -> None:
        asked.append(cls)

    assert [function(cls) for cls in (int, str, int)] == [None] * 3
    assert asked == [int, str]


def test_a_derived_class_is_always_the_same_and_keeps_none_alive() -> None:
    """It goes by the name of what it is derived from."""

    class Addition:
        pass

    references = []
    for number in range(100):
        cls = type(f"Backend{number}", (), {})
        references.append(weakref.ref(cls))
        assert derived(cls, Addition) is derived(cls, Addition)
        assert issubclass(derived(cls, Addition), cls)
        assert derived(cls, Addition).__qualname__ == cls.__qualname__
        del cls
    gc.collect()
    assert sum(reference() is not None for reference in references) <= 16


@pytest.mark.parametrize(
    ("cls", "permanent"),
    [(int, True), (type(threading.Lock()), True), (collections.Counter, True), (enum.Enum, True),
     (Row, False), (shapes.Thing, False), (type("Made", (), {}), False)],
)  # fmt: skip
def test_classes_that_stay(cls: type, permanent: bool) -> None:
    """Those in C and those of the standard library stay as long as the process."""
    assert is_permanent(cls) is permanent


def test_a_reducer_that_is_registered_later_is_used(made: types.ModuleType) -> None:
    """What was learned of a class before does not hide it, and what did not load is remembered."""
    guard = Guard()
    cls, broken = named(type("Late", (), {})), KINDS["that does not load"]("Broken")
    guard.dumps([cls(), broken()])
    copyreg.pickle(cls, lambda _: (str, ("late",)))
    try:
        loaded = guard.loads(guard.dumps([cls(), broken()]))
    finally:
        del copyreg.dispatch_table[cls]
    assert loaded[0] == "late"
    assert not loaded[1]
