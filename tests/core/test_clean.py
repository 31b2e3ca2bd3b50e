"""Clean values: stored as pickle would store them, byte for byte, and touched no more than that."""

from __future__ import annotations

import copyreg
import functools
import gc
import pickle
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard, explain
from contextcache.testing import assert_cacheable, capture_findings
from tests.core import shapes
from tests.zoo import INNOCENTS, OFFENDERS, Case

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

innocents = pytest.mark.parametrize("case", INNOCENTS, ids=str)


@pytest.fixture(autouse=True)
def forget_touches() -> Iterator[None]:
    shapes.Hostile.touched.clear()
    shapes.Lookups.seen.clear()
    shapes.Counted.calls = shapes.CountedReduce.calls = shapes.Liar.asked = 0
    yield
    shapes.Hostile.touched.clear()


# --- The bytes ----------------------------------------------------------------------------------


@innocents
def test_an_innocent_is_stored_byte_for_byte(case: Case) -> None:
    """The payload is that of `pickle.dumps`, for a guard that never saw the type and afterwards."""
    value = case.build()
    guard = Guard()
    expected = pickle.dumps(value, 5)
    assert [guard.dumps(value) for _ in range(3)] == [expected] * 3


@innocents
def test_an_innocent_has_no_finding(case: Case) -> None:
    """Neither a write nor `explain` reports anything."""
    value = case.build()
    with capture_findings() as findings:
        Guard().dumps(value)
    assert findings == []
    assert explain(value) == []
    assert_cacheable(value)


@innocents
def test_an_innocent_is_read_back(case: Case) -> None:
    """What is loaded is what a reader may expect."""
    guard = Guard()
    assert case.check(guard.loads(guard.dumps(case.build())))


def test_what_one_guard_learns_changes_no_payload() -> None:
    """A guard that has seen every innocent and every offender still writes pickle's bytes."""
    guard = Guard()
    for case in OFFENDERS:
        try:
            guard.dumps(case.build())
        except TypeError:
            assert not case.stored, case.id
    for _ in range(2):
        for case in INNOCENTS:
            value = case.build()
            assert guard.dumps(value) == pickle.dumps(value, 5), case.id


def test_sharing_an_object_across_innocents_is_kept() -> None:
    """All innocents in one value are one pickle with pickle's own memo."""
    value = {case.id: case.build() for case in INNOCENTS if case.id != "nested-400"}
    value["again"] = list(value.values())
    guard = Guard()
    expected = pickle.dumps(value, 5)
    assert guard.dumps(value) == expected
    assert guard.dumps(value) == expected


def test_a_reducer_registered_later_is_honoured() -> None:
    """`copyreg.pickle` for a type the guard already knows takes effect at once."""
    guard = Guard()
    value = shapes.LateRegistered("late")
    assert guard.dumps(value) == pickle.dumps(value, 5)
    copyreg.pickle(shapes.LateRegistered, lambda obj: (shapes.LateRegistered, (obj.name,)))  # type: ignore[arg-type,return-value]
    try:
        expected = pickle.dumps(value, 5)
        assert b"late" in expected
        assert guard.dumps(value) == expected
        copyreg.pickle(shapes.LateRegistered, lambda obj: (shapes.Registered, (obj.name,)))  # type: ignore[arg-type,return-value]
        assert guard.dumps(value) == pickle.dumps(value, 5)
    finally:
        del copyreg.dispatch_table[shapes.LateRegistered]
    assert guard.dumps(value) == pickle.dumps(value, 5)


# --- What is called -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [shapes.Counted, shapes.CountedReduce])
def test_state_is_asked_for_exactly_as_often_as_pickle_does(kind: Any) -> None:
    """`__getstate__` and `__reduce__` run once for each object and write, the first included."""
    guard = Guard()
    value = [kind(str(number)) for number in range(5)]
    for write in (1, 2, 3):
        guard.dumps(value)
        assert kind.calls == 5 * write


@pytest.mark.parametrize("kind", [shapes.Counted, shapes.CountedReduce])
def test_a_known_offender_does_not_change_how_often_state_is_asked_for(kind: Any) -> None:
    """Once an offender is known, cutting it out costs no second call."""
    guard = Guard()
    value = [kind("a", shapes.Client()), kind("b", shapes.Client())]
    guard.dumps(value)
    kind.calls = 0
    guard.dumps(value)
    assert kind.calls == 2


@pytest.mark.parametrize("held", [None, shapes.Client], ids=["clean", "dirty"])
def test_no_method_of_the_users_runs(held: Any) -> None:
    """No `__repr__`, `__eq__`, `__hash__`, `__bool__`, `__len__`, `__iter__` or property runs."""
    value = {"a": [shapes.Hostile(held and held())], "b": shapes.Hostile()}
    guard = Guard(debug=True)
    for _ in range(3):
        guard.dumps(value)
    explain(value)
    assert shapes.Hostile.touched == []


def test_attributes_are_looked_up_exactly_as_pickle_does() -> None:
    """The lookups on an object are those of `pickle.dumps`, in the same order once it is known."""
    value = [shapes.Lookups(1)]
    shapes.Lookups.seen.clear()
    pickle.dumps(value, 5)
    expected = list(shapes.Lookups.seen)
    guard = Guard()
    shapes.Lookups.seen.clear()
    guard.dumps(value)
    assert {name for at, name in shapes.Lookups.seen if at == id(value[0])} == {
        name for _, name in expected
    }
    for _ in range(2):
        shapes.Lookups.seen.clear()
        guard.dumps(value)
        assert shapes.Lookups.seen == expected


def test_nobody_is_asked_for_its_class() -> None:
    """An object that lies about `__class__` is never asked; `type()` tells the truth."""
    value = [shapes.Liar(shapes.Client()), shapes.Liar([1])]
    guard = Guard()
    for _ in range(3):
        guard.dumps(value)
    explain(value)
    pickle.dumps(shapes.Liar(), 5)
    assert shapes.Liar.asked == 0


def test_once_a_type_is_known_no_code_of_ours_runs_for_its_objects() -> None:
    """The number of Python calls of contextcache does not grow with the number of objects."""
    guard = Guard()
    kinds = (shapes.Slots, shapes.Registered, shapes.AttrsItem)

    def value(count: int) -> list[object]:
        return [kind("kept", number) for kind in kinds for number in range(count)]

    guard.dumps(value(1))
    few, many = (_own_calls(guard, value(count)) for count in (2, 500))
    assert many == few < 20


def test_an_object_of_a_plain_class_costs_at_most_one_call() -> None:
    """A function that leaves out what `object.__reduce_ex__` asks for is faster than that."""
    guard = Guard()
    guard.dumps([shapes.Item("kept")])
    few, many = (
        _own_calls(guard, [shapes.Item("kept", number) for number in range(count)])
        for count in (2, 500)
    )
    assert many - few == (498 if sys.version_info < (3, 15) else 0)


class Plain:
    pass


class OwnDict(Plain):
    """A class whose `__dict__` shows what it does not have."""

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        return {"shown": 1}


class NoDictInBase:
    __slots__ = ()


class FromNoDict(NoDictInBase):
    """A class with a dictionary under one without."""


def _with(cls: type, **attributes: object) -> object:
    obj = cls()
    for name, held in attributes.items():
        object.__setattr__(obj, name, held)
    return obj


@pytest.mark.parametrize(
    "make",
    [
        lambda: _with(Plain),
        lambda: _with(Plain, a=1, b=[2]),
        lambda: _with(FromNoDict),
        lambda: _with(FromNoDict, a=1),
        lambda: _with(Plain, __getstate__=functools.partial(dict, x=1)),
        lambda: _with(Plain, __reduce__=functools.partial(tuple, "ab")),
        lambda: _with(Plain, __reduce_ex__=functools.partial(_reduced_by_instance, 1)),
        lambda: _with(Plain, __getnewargs__=functools.partial(tuple, "ab"), a=1),
        lambda: _with(OwnDict, a=1),
    ],
)
def test_a_plain_object_is_pickled_as_pickle_does(make: Callable[[], Any]) -> None:
    """Also one without attributes, with hooks of its own, or in two places that share its state."""
    obj = make()
    value = [obj, obj, vars(obj), make()]
    guard = Guard()
    for _ in range(3):
        assert guard.dumps(value) == pickle.dumps(value, 5)


def _reduced_by_instance(_number: int, _protocol: int) -> tuple[object, ...]:
    return dict, ((("by", "instance"),),)


def _own_calls(guard: Guard, value: object) -> int:
    calls = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        if event == "call" and "contextcache" in str(frame.f_globals.get("__name__")):
            calls += 1

    sys.setprofile(profile)
    try:
        guard.dumps(value)
    finally:
        sys.setprofile(None)
    return calls


# --- What stays as it was -----------------------------------------------------------------------


def _identities(value: object) -> list[tuple[str, int]]:
    """List every object in `value` by its way there, without running code of its class."""
    seen: set[int] = set()
    found = []
    queue: list[tuple[str, object]] = [("value", value)]
    while queue:
        where, obj = queue.pop()
        found.append((where, id(obj)))
        if id(obj) in seen or type(obj) in (str, int, bytes):
            continue
        seen.add(id(obj))
        if type(obj) in (list, tuple):
            queue += [(f"{where}[{at}]", held) for at, held in enumerate(obj)]  # type: ignore[arg-type, var-annotated]
        elif type(obj) is dict:
            queue += [(f"{where}[{key!r}]", held) for key, held in obj.items()]
        elif type(obj).__module__ == shapes.__name__:
            own = getattr(type(obj), "__dict__", {})
            slots = [name for name in own.get("__slots__", ()) if name in own]
            held_by = {**getattr(obj, "__dict__", {}), **{n: getattr(obj, n, None) for n in slots}}
            held_by.pop("__slotnames__", None)  # where pickle itself keeps the slots of a class
            queue += [(f"{where}.{name}", held) for name, held in held_by.items()]
    return sorted(found)


@pytest.mark.parametrize("case", INNOCENTS + OFFENDERS, ids=str)
def test_the_live_value_is_not_changed(case: Case) -> None:
    """Every object still holds the very objects it held before the write."""
    value = case.build()
    before = _identities(value)
    guard = Guard(debug=True)
    for _ in range(2):
        try:
            guard.dumps(value)
        except TypeError:
            assert not case.stored
    guard.explain(value)
    assert _identities(value) == before


def test_nothing_of_the_value_is_kept_alive() -> None:
    """After the write, no guard, finding or log record refers to the value or its offenders."""
    guard = Guard()
    value = [shapes.Client(), shapes.Thing(held=(number for number in range(3)))]
    watched = [weakref.ref(value[0]), weakref.ref(value[1])]
    with capture_findings() as findings:
        guard.dumps(value)
        guard.dumps(value)
    assert len(findings) == 4
    del value
    gc.collect()
    assert [one() for one in watched] == [None, None]


def test_a_class_made_anew_in_each_request_is_not_remembered() -> None:
    """A guard must not grow with classes that are made over and over again."""
    guard = Guard()

    def write() -> weakref.ref[type]:
        class Local:
            def __reduce__(self) -> tuple[object, ...]:
                return str, ("stands for it",)

        payload = guard.dumps([Local()])
        assert pickle.loads(payload) == ["stands for it"]
        return weakref.ref(Local)

    written = [write() for _ in range(5)]
    gc.collect()
    assert [one() for one in written] == [None] * 5
