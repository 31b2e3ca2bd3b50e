"""Classes and values of applications whose fixes must hold, each with the property it is named for.

Fixes are pasted into a copy of this file, so that every class stands at the top level.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import queue
import threading
import types
import weakref
from typing import TYPE_CHECKING, Any

import attrs
import httpx
import pydantic
from django.utils.functional import SimpleLazyObject
from werkzeug.local import LocalProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLIENT = httpx.Client()
TOP = lambda item: item  # noqa: E731


# --- Queues, events and what is built of locks --------------------------------------------------


class Job:
    def __init__(self) -> None:
        self.todo: queue.Queue[str] = queue.Queue(7)
        self.done: queue.PriorityQueue[int] = queue.PriorityQueue()
        self.undo: queue.LifoQueue[str] = queue.LifoQueue()
        self.ready = threading.Event()
        self.idle = threading.Event()
        self.lock = threading.Lock()


def job() -> Job:
    made = Job()
    made.todo.put("order 17")
    made.undo.put("first")
    made.undo.put("second")
    for number in (3, 1, 2):
        made.done.put(number)
    made.ready.set()
    return made


class SlotJob:
    __slots__ = ("__weakref__", "name", "ready", "todo")

    def __init__(self, name: str, ready: Any = None, todo: Any = None) -> None:
        self.name, self.ready, self.todo = name, ready, todo


def slot_jobs() -> list[SlotJob]:
    full: queue.Queue[int] = queue.Queue()
    full.put(1)
    event = threading.Event()
    event.set()
    return [SlotJob("a", event, full), SlotJob("b"), SlotJob("c", "text", [1, 2])]


class Shared:
    """A condition and a lock that are one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.count = 3


class Handed:
    """A condition over a lock that comes from elsewhere."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock
        self.changed = threading.Condition(lock)


def one_event_twice() -> list[SlotJob]:
    event = threading.Event()
    event.set()
    return [SlotJob("a", event), SlotJob("b", event)]


class Limited:
    def __init__(self) -> None:
        self.slots = threading.BoundedSemaphore(2)
        self.name = "limited"


class Lists:
    def __init__(self) -> None:
        self.seen = [queue.Queue(9)]
        self.seen[0].put("/")


# --- Fields that hold something else in other objects --------------------------------------------


class Lazy:
    """Makes its client when it is first used."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.client: httpx.Client | None = None
        self.lock: Any = None

    def open(self) -> Lazy:
        self.client = httpx.Client(base_url=self.base)
        self.lock = threading.Lock()
        return self


class Either:
    def __init__(self, held: Any) -> None:
        self.held = held


def either() -> list[Either]:
    return [Either(threading.RLock()), Either("text"), Either(None), Either(iter_rows())]


class Unset:
    def __init__(self, *, lock: bool) -> None:
        self.name = "unset"
        if lock:
            self.lock = threading.Lock()


class Several:
    def __init__(self, base: str, secret: str = "s3cret") -> None:
        self.base = base
        self.lock = threading.RLock()
        self.local = threading.local()
        self.client = httpx.Client(base_url=base)
        self.other = httpx.Client(headers={"Authorization": "s3cret"})
        self.rows = iter_rows()
        self.sort = lambda item: item["price"]
        self.add = lambda item: item + self.base


class Singletons:
    def __init__(self, client: Any, key: Any) -> None:
        self.client = client
        self.key = key
        self.module = csv


def iter_rows() -> Iterator[int]:
    yield from range(3)


class Opens:
    def __init__(self, path: str) -> None:
        self.path = path
        self.file = open(path)  # noqa: SIM115


# --- Kinds of classes ---------------------------------------------------------------------------


@dataclasses.dataclass
class Data:
    name: str
    lock: Any = dataclasses.field(default_factory=threading.Lock)
    rows: Any = None


@dataclasses.dataclass(frozen=True)
class FrozenData:
    name: str
    lock: Any = dataclasses.field(default_factory=threading.Lock)
    ready: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlotsData:
    name: str
    lock: Any = None
    todo: Any = None


@attrs.define
class Attrs:
    name: str
    lock: Any = attrs.field(factory=threading.Lock)
    ready: Any = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    name: str
    todo: Any = None
    _lock: Any = pydantic.PrivateAttr(default_factory=threading.Lock)


class Base:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Child(Base):
    def __init__(self) -> None:
        super().__init__()
        self.ready = threading.Event()
        self.name = "child"


class OwnQueue(queue.Queue):  # type: ignore[type-arg]
    """Derived from a class whose fields are its own matter."""


class OwnEvent(threading.Event):
    pass


class State:
    """Has a method for its state."""

    def __init__(self) -> None:
        self.name, self.lock = "state", threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {"name": self.name, "lock": self.lock, "more": 1}


class Reduces:
    def __init__(self, name: str = "reduces") -> None:
        self.name, self.lock = name, threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return Reduces, (self.name,), {"lock": self.lock}


class Sets:
    def __init__(self) -> None:
        self.name, self.lock = "sets", threading.Lock()

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, loaded=True)


class ChildOfState(State):
    pass


class NotFound(Exception):
    def __init__(self, name: str, status: int) -> None:
        super().__init__(f"no {name}: {status}")
        self.status = status


class Failed(OSError):
    def __init__(self, path: str, *, status: int) -> None:
        super().__init__(2, "no such file", path)
        self.status = status


class Held(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()


class Both(Exception):
    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status, self.lock = status, threading.Lock()


class Strict:
    """Does not load with a marker in it."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __setstate__(self, state: dict[str, Any]) -> None:
        if type(state["held"]).__name__ == "Stripped":
            raise ValueError
        self.__dict__.update(state)


# --- Containers with content and state ----------------------------------------------------------


class Collected(dict):  # type: ignore[type-arg]
    def __init__(self, lists: list[str]) -> None:
        self.lists = lists

    def __setitem__(self, key: str, held: object) -> None:
        super().__setitem__(key, [*self.get(key, ()), held] if key in self.lists else held)


class Prefixed(collections.OrderedDict):  # type: ignore[type-arg]
    def __init__(self, prefix: str) -> None:
        super().__init__()
        self.prefix = prefix

    def __setitem__(self, key: str, held: object) -> None:
        super().__setitem__(self.prefix + key, held)


class Labelled(collections.defaultdict):  # type: ignore[type-arg]
    def __init__(self, label: str) -> None:
        super().__init__(list)
        self.label = label


class Logged(list):  # type: ignore[type-arg]
    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    def append(self, held: object) -> None:
        self.log.append("append")
        super().append(held)

    def extend(self, held: Any) -> None:
        self.log.append("extend")
        super().extend(held)


class Tags(set):  # type: ignore[type-arg]
    def __init__(self, label: str, *, limit: int) -> None:
        super().__init__()
        self.label, self.limit = label, limit


def filled(made: Any) -> Any:
    if isinstance(made, dict):
        made["ids"], made["name"] = 1, "a"
        made["ids"] = 2
    elif isinstance(made, set):
        made |= {1, 2}
    else:
        made.append(1)
    return made


class LockedDict(dict):  # type: ignore[type-arg]
    def __init__(self, **held: object) -> None:
        super().__init__(**held)
        self.lock = threading.Lock()
        self.label = "kept"


class LockedList(list):  # type: ignore[type-arg]
    def __init__(self, *held: object) -> None:
        super().__init__(held)
        self.ready = threading.Event()
        self.ready.set()


# --- Weak references ----------------------------------------------------------------------------


class Node:
    def __init__(self, name: str) -> None:
        self.name = name
        self.kids: list[Node] = []
        self.parent: weakref.ref[Node] | None = None

    def add(self, kid: Node) -> Node:
        kid.parent = weakref.ref(self)
        self.kids.append(kid)
        return self


KEPT = SlotJob("kept")


def weak_slots() -> list[SlotJob]:
    return [SlotJob("a", weakref.ref(KEPT)), SlotJob("b"), SlotJob("c", "text")]


# --- Proxies and lazy objects -------------------------------------------------------------------


class Row:
    _meta = None
    pk = 7
    password = "s3cret"


class Nobody:
    pk = None
    is_anonymous = True


class Account:
    def __init__(self) -> None:
        self.id, self.password_hash = 1, "s3cret"


class Plain:
    def __init__(self) -> None:
        self.id = 1


class Cart:
    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.items = [1]


LOCK = threading.Lock()


# --- What is looked up in another way -----------------------------------------------------------


class Delegates:
    def __init__(self, held: object) -> None:
        self._held = held
        self.created = "once"

    def __getattr__(self, name: str) -> object:
        return getattr(self._held, name)


class Handlers:
    def __init__(self) -> None:
        self.name = "handlers"
        self.call = self.__handle
        self.top = types.MethodType(TOP, self)

    def __handle(self) -> str:
        return self.name


def local_function() -> Callable[[], int]:
    def local() -> int:
        return 1

    return local


async def coroutine() -> list[int]:
    return [1]


async def async_rows() -> Any:
    yield 1


def bound(proxy: bool, held: Any) -> Any:
    return LocalProxy(lambda: held) if proxy else SimpleLazyObject(lambda: held)


CASES: dict[str, Callable[[], Any]] = {
    "queues-and-events": job,
    "slots-with-queue-and-event": slot_jobs,
    "condition-of-its-lock": Shared,
    "condition-of-a-given-lock": lambda: Handed(threading.Lock()),
    "one-event-twice": one_event_twice,
    "semaphore": Limited,
    "queue-in-a-list": Lists,
    "lazy-client": lambda: [Lazy("https://a.example").open(), Lazy("https://b.example")],
    "different-fields": either,
    "field-that-may-be-missing": lambda: [Unset(lock=True), Unset(lock=False)],
    "several-fields": lambda: Several("https://a.example"),
    "singletons": lambda: Singletons(CLIENT, TOP),
    "open-file": lambda: Opens(__file__),
    "dataclass": lambda: [Data("a"), Data("b", None, [1]), Data("c", rows=iter_rows())],
    "frozen-dataclass": lambda: [FrozenData("a"), FrozenData("b", None, threading.Event())],
    "frozen-slots": lambda: [FrozenSlotsData("a", threading.Lock(), filled_queue())],
    "attrs": lambda: [Attrs("a"), Attrs("b", None, threading.Event())],
    "pydantic": lambda: [Model(name="a", todo=filled_queue()), Model(name="b", todo=[1])],
    "inherited-field": Child,
    "own-queue": lambda: filled_queue(OwnQueue),
    "own-event": lambda: [OwnEvent()],
    "own-getstate": State,
    "own-reduce": Reduces,
    "own-setstate": Sets,
    "inherited-getstate": ChildOfState,
    "exception-that-formats": lambda: [NotFound("book", 404)],
    "exception-of-the-system": lambda: [Failed("/tmp/x", status=3)],
    "exception-with-a-lock": lambda: [Held("no")],
    "exception-of-both-kinds": lambda: [Both("no", 404)],
    "lock-in-what-does-not-load": lambda: [Delegates(Base())],
    "generator-in-what-does-not-load": lambda: [Strict(iter_rows())],
    "proxy-in-some-objects": lambda: [Cart(bound(True, {"a": 1})), Cart(bound(True, None))],
    "dict-alike-but-for-keys": lambda: {"a": {"x": iter_rows()}, "b": {"x": iter_rows()}},
    "tuples-alike": lambda: ((iter_rows(),), (iter_rows(),)),
    "dict-that-collects": lambda: [filled(Collected(["ids"]))],
    "dict-that-renames": lambda: [filled(Prefixed("shop:"))],
    "default-dict-with-a-label": lambda: [filled(Labelled("a"))],
    "list-that-logs": lambda: [filled(Logged([]))],
    "set-with-arguments": lambda: [filled(Tags("a", limit=3))],
    "dict-with-a-lock": lambda: LockedDict(a=1),
    "list-with-an-event": lambda: LockedList(1, 2),
    "tree-of-weak-references": lambda: Node("root").add(Node("kid")).add(Node("other")),
    "weak-reference-elsewhere": lambda: Node("root").add(Node("kid")).kids[0],
    "weak-references-in-slots": weak_slots,
    "proxy-of-a-row": lambda: {"user": bound(True, Row())},
    "lazy-row": lambda: {"user": bound(False, Row())},
    "lazy-row-in-an-object": lambda: [Cart(bound(False, Row())), Cart("ann")],
    "lazy-plain-object": lambda: {"user": bound(False, Plain())},
    "lazy-nobody": lambda: {"user": bound(False, Nobody())},
    "proxy-of-an-account": lambda: [bound(True, Account())],
    "proxy-of-a-lock": lambda: [bound(True, LOCK)],
    "proxy-of-data": lambda: Cart(bound(True, {"a": 1})),
    "delegating-getattr": lambda: [Delegates([1])],
    "methods": lambda: [Handlers()],
    "rows-alike": lambda: {"rows": [iter_rows(), iter_rows()]},
    "rows-of-dicts": lambda: {"rows": [{"k": memoryview(b"x")}, {"k": memoryview(b"y"), "n": 1}]},
    "rows-not-alike": lambda: {"rows": [iter_rows(), "text", iter_rows()]},
    "rows-of-two-kinds": lambda: {"rows": [iter_rows(), "text", {"k": 1}.keys()]},
    "dict-alike": lambda: {number: {"k": 1}.keys() for number in range(3)},
    "deep": lambda: {"a": {"b": [1, (iter_rows(), 2)]}},
    "generator-twice": lambda: (lambda rows: {"a": rows, "b": rows})(iter_rows()),
    "lambda-in-a-dict": lambda: {"a": 1, "sort": lambda item: item["price"]},
    "lambda-with-a-secret": lambda: {"sort": lambda item: item + "s3cret"},
    "lambda-in-a-partial": lambda: {"call": functools.partial(lambda a: a, 1)},
    "lambda-as-a-factory": lambda: {"d": collections.defaultdict(lambda: 0, a=1)},
    "local-function": lambda: Either(local_function()),
    "coroutine": lambda: {"result": coroutine()},
    "async-generator": lambda: {"rows": async_rows()},
}


def filled_queue(cls: Any = queue.Queue) -> Any:
    made = cls(3)
    made.put("item")
    return made
