"""What differs between versions of Python: each stores what the others read, and what it can."""

from __future__ import annotations

import builtins
import io
import itertools
import pickle
import queue
import sys
import threading
from typing import Any

import pytest

from contextcache import Guard, explain
from contextcache.findings.path import Path
from tests.resolving import resolve

SINCE_314 = sys.version_info >= (3, 14)
SINCE_315 = sys.version_info >= (3, 15)


class Older(pickle.Unpickler):
    """Reads as Python 3.13 does, whose RLock has no method `locked`."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return self._attribute if found is getattr else found

    @staticmethod
    def _attribute(obj: object, name: str) -> object:
        if name == "locked":
            raise AttributeError(name)
        return getattr(obj, name)


class Named(threading.Condition):
    pass


class Own(threading.Condition):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def with_attributes() -> Named:
    condition = Named()
    condition.rows = [threading.Lock()]  # type: ignore[attr-defined]
    return condition


def waited_for() -> threading.Condition:
    condition = threading.Condition()
    condition._waiters.append(threading.Lock())  # type: ignore[attr-defined]
    return condition


SYNCHRONISED = {
    "Condition": threading.Condition,
    "with a Lock": lambda: threading.Condition(threading.Lock()),
    "with an RLock": lambda: threading.Condition(threading.RLock()),
    "with one in Python": lambda: threading.Condition(threading._PyRLock()),  # type: ignore[attr-defined]
    "subclass": Named,
    "with attributes": with_attributes,
    "with a constructor": lambda: Own("jobs"),
    "waited for": waited_for,
    "Event": threading.Event,
    "Semaphore": lambda: threading.Semaphore(3),
    "BoundedSemaphore": lambda: threading.BoundedSemaphore(3),
    "Barrier": lambda: threading.Barrier(2),
    "Queue": queue.Queue,
    "LifoQueue": queue.LifoQueue,
    "PriorityQueue": queue.PriorityQueue,
}


@pytest.mark.parametrize("kind", SYNCHRONISED)
def test_what_synchronises_threads_is_read_by_older_versions(kind: str) -> None:
    """It is rebuilt from its lock, not from the methods that the lock had where it was written."""
    value = SYNCHRONISED[kind]()
    stored = Guard().dumps({"it": [value], "name": "x"})
    assert Older(io.BytesIO(stored)).load()["name"] == "x"
    [made] = pickle.loads(stored)["it"]
    if isinstance(made, threading.Condition):
        with made:
            made.notify_all()
        assert SINCE_314 or not hasattr(made, "locked")
        assert made._waiters is not value._waiters  # type: ignore[attr-defined]
    own = {"rows", "name"} & vars(value).keys()
    assert own <= vars(made).keys()


@pytest.mark.skipif(not SINCE_314, reason="Condition.locked is new in 3.14")
def test_a_condition_from_an_older_version_is_whole() -> None:
    """Its methods are those of the version that reads it."""
    made = pickle.loads(Guard().dumps([threading.Condition(), with_attributes()]))
    assert [one.locked() for one in made] == [False, False]


def test_a_condition_shares_its_lock_and_is_reported_at_the_lock() -> None:
    """As before: the finding is about the lock, wherever it is met first."""
    lock = threading.Lock()
    value = {"lock": lock, "changed": threading.Condition(lock)}
    made = pickle.loads(Guard().dumps(value))
    assert made["changed"]._lock is made["lock"]
    assert [str(one.path) for one in explain(value)] == ["value['lock']"]
    assert [str(one.path) for one in explain(threading.Condition())] == ["value._lock"]
    findings = explain(with_attributes())
    assert [str(one.path) for one in findings] == ["value._lock", "value.rows[0]"]


class Outer:
    class __Private:
        class __Deeper:
            def run(self) -> None:
                """Be stored by name."""

        def __finish(self) -> None: ...

    class _Half:
        class __Private:
            pass

    def __finish(self) -> int:
        return 7

    @classmethod
    def __make(cls) -> None: ...

    @staticmethod
    def __by_price(row: object) -> object:
        return row

    def __dunder__(self) -> None: ...

    def everything(self) -> dict[str, object]:
        private = Outer.__Private
        return {
            "instance": private(),
            "class": private,
            "nested class": private._Private__Deeper,  # type: ignore[attr-defined]
            "instance of a nested class": private._Private__Deeper(),  # type: ignore[attr-defined]
            "function of a nested class": private._Private__Deeper.run,  # type: ignore[attr-defined]
            "below a class with one underscore": Outer._Half._Half__Private(),  # type: ignore[attr-defined]
            "bound method": self.__finish,
            "bound to a private class": private()._Private__finish,  # type: ignore[attr-defined]
            "class method": self.__make,
            "static method": Outer.__by_price,
            "no private name": self.__dunder__,
        }


@pytest.mark.parametrize("kind", Outer().everything())
@pytest.mark.parametrize("around", [lambda it: {"v": it}, lambda it: [[it], 1]])
def test_private_names_are_stored_where_pickle_stores_them(kind: str, around: Any) -> None:
    """Since Python 3.15 it finds them by the names they have in their class."""
    value = around(Outer().everything()[kind])
    guard = Guard()
    try:
        plain = pickle.dumps(value, 5)
        pickle.loads(plain)
    except (AttributeError, pickle.PicklingError):
        assert not SINCE_315
        guard.dumps(value)
        assert len(guard.summary()) == 1
        return
    assert guard.dumps(value) == guard.dumps(value) == plain
    assert guard.summary() == []


class Cart:
    def __init__(self) -> None:
        self.lock = threading.Lock()


frozendict = getattr(builtins, "frozendict", dict)


class Frozen(frozendict):  # type: ignore[misc, valid-type]
    pass


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"q": frozendict(a=1, lock=threading.Lock())}, "value['q']['lock']"),
        ([frozendict(k=Cart())], "value[0]['k'].lock"),
        (frozendict(a=[lambda: 1]), "value['a'][0]"),
        (frozendict({(1, 2): threading.Lock()}), "value[(1, 2)]"),
        (frozendict({3: frozendict(x=threading.Lock())}), "value[3]['x']"),
        ({"q": (frozendict(l=threading.Lock()),)}, "value['q'][0]['l']"),
        (Frozen(a=threading.Lock()), "value['a']"),
        (frozendict({"x" * 5000: threading.Lock()}), "value<value 0>"),
    ],
)
def test_a_frozendict_is_a_dict_in_paths_and_fixes(value: Any, path: str) -> None:
    """Since Python 3.15; before, this asks the same of dict."""
    [found] = explain(value)
    assert str(found.path) == path
    assert isinstance(found.path, Path)
    leaf = resolve(found.path, value)
    assert type(leaf) in (type(threading.Lock()), type(lambda: 0))
    assert "frozendict" not in found.fix
    guard = Guard()
    assert guard.dumps({"v": value}) == guard.dumps({"v": value})


@pytest.mark.skipif(not SINCE_314, reason="they are new in 3.14")
def test_an_interpreter_and_its_queue_are_cut() -> None:
    """No other process has them, and an entry with one could not be read there."""
    from concurrent import interpreters  # type: ignore[attr-defined]
    from concurrent.futures import InterpreterPoolExecutor  # type: ignore[attr-defined]

    interpreter = interpreters.create()
    try:
        for value in (interpreter, interpreters.create_queue()):
            guard = Guard()
            made = guard.loads(guard.dumps({"worker": value, "rows": [1]}))
            assert made["rows"] == [1]
            assert not made["worker"]
            assert [one.code for one in guard.summary()] == ["CC115"]
    finally:
        interpreter.close()
    with InterpreterPoolExecutor(1) as pool:
        [found] = explain({"pool": pool})
        assert (found.code, str(found.path)) == ("CC115", "value['pool']")


@pytest.mark.skipif(not SINCE_314, reason="pickle stores them before 3.14")
@pytest.mark.parametrize(
    "value",
    [
        itertools.count(), itertools.cycle([1]), itertools.chain([1]), itertools.groupby([1]),
        itertools.tee([1])[0], itertools.islice([1], 1), itertools.zip_longest([1]),
        itertools.product([1]), itertools.pairwise([1]), itertools.repeat(1),
    ],
)  # fmt: skip
def test_an_iterator_of_itertools_is_called_one(value: object) -> None:
    """Pickle has stored none of them since 3.14."""
    assert [one.code for one in explain({"it": value})] == ["CC109"]


@pytest.mark.skipif(not SINCE_315, reason="lazy imports are new in 3.15")
def test_a_lazy_import_is_a_module() -> None:
    """It stands in a copy of the globals of a module, not yet imported."""
    names: dict[str, Any] = {"__name__": "lazy"}
    exec("lazy import colorsys", names)
    [found] = explain({"it": dict.__getitem__(names, "colorsys")})
    assert found.code == "CC111"
