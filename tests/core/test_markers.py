"""Markers: a field is stored as its class says, in silence; everything else as before."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import threading
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar

import pydantic
import pytest

from contextcache import (
    Allow,
    ConfigurationError,
    Guard,
    LeaveOut,
    Recreate,
    Snapshot,
    explain,
)
from contextcache.testing import capture_findings


class Pool:
    def __init__(self, size: int = 4) -> None:
        self.size = size
        self.free = [object()]


Lock = Annotated[threading.Lock, Recreate]


class Client:
    _lock: Annotated[threading.Lock, Recreate]
    _alias: Lock
    _pool: Annotated[Pool, "words", Recreate]
    _local: Annotated[threading.local, Snapshot]
    _rows: Annotated[Any, LeaveOut]
    _callback: Annotated[Any, LeaveOut] = None

    def __init__(self) -> None:
        self.id = 7
        self._lock = threading.Lock()
        self._alias = threading.Lock()
        self._pool = Pool(9)
        self._local = threading.local()
        self._local.user = "ada"
        self._rows = (row for row in ())
        self._callback = lambda: None


class Sub(Client):
    _rows: Annotated[Any, Allow]


@Recreate("_lock")
@LeaveOut("_rows", "_file")
class Decorated:
    def __init__(self) -> None:
        self.id = 7
        self._lock = threading.Lock()
        self._rows = (row for row in ())
        self._more = (row for row in ())


class Slotted:
    __slots__ = ("_lock", "id")
    _lock: Annotated[threading.Lock, Recreate]
    id: int

    def __init__(self) -> None:
        self.id = 7
        self._lock = threading.Lock()


@dataclasses.dataclass
class Data:
    id: int = 7
    lock: Annotated[Any, Recreate] = dataclasses.field(default_factory=threading.Lock)


class Model(pydantic.BaseModel):
    id: int = 7
    rows: Annotated[Any, LeaveOut] = None
    _lock: Annotated[Any, Recreate] = pydantic.PrivateAttr(default_factory=threading.Lock)


class Stated:
    _rows: Annotated[Any, LeaveOut]

    def __init__(self) -> None:
        self.id = 7
        self._rows = (row for row in ())

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "by": "its own"}


def stored(value: Any) -> Any:
    """Store and read `value`, twice, by the close look and by the fast pass, in silence."""
    guard = Guard()
    with capture_findings() as findings:
        first = guard.loads(guard.dumps({"it": value}))["it"]
    again = guard.loads(guard.dumps({"it": value}))["it"]
    assert findings == []
    assert guard.explain({"it": value}) == []
    assert vars(first).keys() == vars(again).keys() if hasattr(first, "__dict__") else True
    return again


def test_each_marker_does_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    """A new lock, a new pool, the values of a thread-local; and nothing of what is left out."""
    client = stored(Client())
    assert client.id == 7
    assert client._lock.acquire(blocking=False)
    assert client._alias.acquire(blocking=False)
    assert (client._pool.size, len(client._pool.free)) == (4, 1)
    assert client._local == SimpleNamespace(user="ada")
    assert not hasattr(client, "_rows")
    assert client._callback is None
    assert caplog.records == []


def test_the_value_itself_is_not_changed() -> None:
    """What is left out is left out of the payload only."""
    client = Client()
    before = dict(vars(client))
    stored(client)
    assert vars(client) == before


def test_a_decorator_marks_fields_without_annotations() -> None:
    """What it does not name is found and reported as ever."""
    with capture_findings() as findings:
        Guard().dumps(Decorated())
    assert [str(one.path) for one in findings] == ["value._more"]
    value = Decorated()
    del value._more
    assert vars(stored(value)).keys() == {"id", "_lock"}


@pytest.mark.parametrize("make", [Slotted, Data], ids=["slots", "dataclass"])
def test_slots_and_dataclasses(make: Any) -> None:
    """Their state has another shape."""
    value = make()
    again = stored(value)
    assert again.id == 7
    lock = again.lock if make is Data else again._lock
    assert lock.acquire(blocking=False)


def test_pydantic_models() -> None:
    """Public and private fields of a model."""
    again = stored(Model(rows=(row for row in ())))
    assert again.id == 7
    assert again._lock.acquire(blocking=False)
    assert "rows" not in again.__dict__


def test_a_class_that_pickles_itself_is_heard_after_it() -> None:
    """Its own `__getstate__` runs; what it returns is marked like any other state."""
    assert vars(stored(Stated())) == {"id": 7, "by": "its own"}


def test_subclasses_inherit_and_may_say_otherwise() -> None:
    """The marker nearest to the class counts."""
    with capture_findings() as findings:
        Guard().dumps(Sub())
    assert [str(one.path) for one in findings] == ["value._rows"]


class Report:
    error: Annotated[Exception, Allow]

    def __init__(self) -> None:
        self.error = ValueError("no such user")
        self.error.__cause__ = KeyError("user")


def test_what_is_allowed_is_stored_as_pickle_does() -> None:
    """Of what pickle stores without a word, and the author wants stored."""
    value = Report()
    assert Guard().dumps(value) == pickle.dumps(value, 5)
    assert stored(value).error.args == ("no such user",)
    [found] = explain([value.error])
    assert found.code == "CC122"


def test_what_cannot_be_stored_is_reported_though_it_is_allowed() -> None:
    """`Allow` is about what may be stored, not about what can."""
    [found] = explain(Sub())
    assert (found.code, str(found.path)) == ("CC109", "value._rows")


class Unset:
    _lock: Annotated[threading.Lock | None, Recreate]

    def __init__(self) -> None:
        self._lock = None


def test_a_field_that_is_none_stays_none() -> None:
    """There is nothing to make anew."""
    assert stored(Unset())._lock is None


def test_shared_objects_stay_shared_where_they_are_not_marked() -> None:
    """A marker is about its field; the same lock elsewhere is found there."""
    value = Data()
    other = {"data": value, "again": value, "lock": value.lock}
    guard = Guard()
    again = guard.loads(guard.dumps(other))
    assert again["data"] is again["again"]
    assert [str(one.path) for one in guard.explain(other)] == ["value['lock']"]


def test_a_class_without_markers_is_stored_as_before() -> None:
    """Byte for byte, with annotations that are none of our business."""

    assert Guard().dumps(Plain()) == pickle.dumps(Plain(), 5)


class Plain:
    name: str = "x"
    rows: list[int]
    other: Annotated[int, "metadata of somebody else"]
    unknown: NotThere  # type: ignore[name-defined]  # noqa: F821
    count: ClassVar[int] = 0

    def __init__(self) -> None:
        self.rows = [1]
        self.other = 2


class Property:
    _lock: Annotated[threading.Lock, Recreate]

    def __init__(self) -> None:
        self.__dict__["_lock"] = threading.Lock()

    def __getattribute__(self, name: str) -> Any:
        if name == "_lock":
            raise AssertionError("a field was asked for by its name")
        return object.__getattribute__(self, name)


def test_no_code_of_the_object_runs() -> None:
    """Fields are taken from what pickle stores, not from the object."""
    again = stored(Property())
    assert type(again.__dict__["_lock"]) is type(threading.Lock())


class Misspelt:
    _lock: "Annotated[threading.Lock, Recreate"  # type: ignore[valid-type]  # noqa: F722

    def __init__(self) -> None:
        self._lock = threading.Lock()


@pytest.mark.internal_error
def test_a_marker_that_cannot_be_read_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """It has no effect, and that is said once; the lock is found as ever."""
    guard = Guard()
    with capture_findings() as findings:
        guard.dumps(Misspelt())
    assert [one.code for one in findings] == ["CC102"]
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"the marker of {__name__}.Misspelt._lock failed with SyntaxError" in error.getMessage()


@pytest.mark.parametrize("names", [(), (Client,), ("_lock", 3)])
def test_a_marker_on_a_class_names_its_fields(names: Any) -> None:
    """`@Recreate` alone, above a class, says what is missing."""
    with pytest.raises(ConfigurationError, match="a marker names fields"):
        Recreate(*names)


class Needy:
    """Cannot be made without an argument."""

    def __init__(self, url: str) -> None:
        self.url = url


class Needs:
    _needy: Annotated[Needy, Recreate]
    _rows: Annotated[Any, Recreate]

    def __init__(self) -> None:
        self.id = 7
        self._needy = Needy("here")
        self._rows = (row for row in ())


@pytest.mark.internal_error
def test_what_cannot_be_made_anew_is_treated_as_if_unmarked(caplog: Any) -> None:
    """The holder is stored, the field that offends is named, and the marker is told of once."""
    guard = Guard()
    for _ in range(2):
        with capture_findings() as findings:
            stored = guard.loads(guard.dumps(Needs(), label="cache['h']"))
        assert (stored.id, stored._needy.url) == (7, "here")
        assert [(one.code, str(one.path)) for one in findings] == [("CC109", "cache['h']._rows")]
    told = [line for line in caplog.messages if "the marker Recreate" in line]
    assert len(told) == 2  # once for each type, whatever is stored after that
    assert f"a field with a {__name__}.Needy failed with TypeError" in told[0]
