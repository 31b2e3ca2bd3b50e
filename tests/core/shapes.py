"""Classes that applications write, at the top level of a module so that any process can load them.

Each has the one property its name tells. What an offender is, and what must become of it, is
said in `tests/zoo.py`, not here.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import datetime as dt
import enum
import functools
import io
import logging
import threading
import types
import typing

import attrs
import pydantic
import sqlalchemy.orm


class Mapped(sqlalchemy.orm.DeclarativeBase):
    """The base of the classes that are rows of a table."""


class Customer(Mapped):
    __tablename__ = "customer"

    id: sqlalchemy.orm.Mapped[int] = sqlalchemy.orm.mapped_column(primary_key=True)
    name: sqlalchemy.orm.Mapped[str]


# --- Plain holders ------------------------------------------------------------------------------


class Thing:
    """A plain object with whatever attributes it is given."""

    def __init__(self, **held: typing.Any) -> None:
        self.__dict__.update(held)

    def method(self) -> str:
        return "called"


class Node:
    """An object in a tree that knows its parent."""

    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.name = name
        self.parent = parent
        self.children: list[Node] = []
        if parent is not None:
            parent.children.append(self)


class Client:
    """A hand-written API client, as found in every shop."""

    def __init__(self, base: str = "https://api.example") -> None:
        self.base = base
        self._lock = threading.Lock()

    def fetch(self) -> str:
        return self.base


@dataclasses.dataclass
class Item:
    sku: str
    count: int = 1
    client: object = None


@dataclasses.dataclass
class Cart:
    user: str
    items: list[Item] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen:
    name: str
    held: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots:
    name: str
    held: object = None


@dataclasses.dataclass(slots=True)
class SlotsData:
    name: str
    held: object = None


class Row(typing.NamedTuple):
    name: str
    held: object = None


class Pair(tuple):
    """A tuple subclass without a dictionary of its own."""

    __slots__ = ()


@attrs.define
class AttrsItem:
    name: str
    held: object = None


@attrs.frozen
class AttrsFrozen:
    name: str
    held: object = None


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    name: str
    held: object = None
    _private: object = pydantic.PrivateAttr(default=None)


class Slots:
    __slots__ = ("held", "name")

    def __init__(self, name: str, held: object = None) -> None:
        self.name = name
        self.held = held


class SlotsChild(Slots):
    __slots__ = ("__weakref__", "extra")

    def __init__(self, name: str, held: object = None, extra: object = None) -> None:
        super().__init__(name, held)
        self.extra = extra


class SlotsAndDict(Slots):
    """Slots in the base, a dictionary in the subclass."""


class Mangled:
    """A private attribute that Python renames."""

    def __init__(self, held: object) -> None:
        self.name = "mangled"
        self.__held = held


class MangledSlots:
    __slots__ = ("__held", "name")

    def __init__(self, held: object) -> None:
        self.name = "mangled"
        self.__held = held


# --- Subclasses of builtins ---------------------------------------------------------------------


class OwnDict(dict):
    """A dict with attributes."""


class OwnList(list):
    """A list with attributes."""


class OwnSet(set):
    """A set with attributes."""


class OwnStr(str):
    """A str with attributes."""


class OwnDeque(collections.deque):
    """A deque with attributes."""


# --- Classes that pickle in their own way -------------------------------------------------------


class Filters:
    """Leaves its lock out, as the documentation recommends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        return {key: held for key, held in self.__dict__.items() if key != "lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.lock = threading.Lock()


class FiltersHeld(Thing):
    """Leaves out `held`, which somebody else may hold, too."""

    def __getstate__(self) -> dict[str, object]:
        return {key: held for key, held in self.__dict__.items() if key != "held"}


class Renames:
    """Stores its attribute under another name."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __getstate__(self) -> dict[str, object]:
        return {"h": self.held}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.held = state["h"]


class TupleState:
    def __init__(self, held: object) -> None:
        self.name = "tuple"
        self.held = held

    def __getstate__(self) -> tuple[object, ...]:
        return (self.name, [self.held])

    def __setstate__(self, state: tuple[str, list[object]]) -> None:
        self.name, (self.held,) = state


class MakesState:
    """Has nothing to hide but makes a lock while it is pickled."""

    def __getstate__(self) -> dict[str, object]:
        return {"name": "made", "lock": threading.Lock()}


class Counted:
    """Counts how often pickle asks for its state."""

    calls = 0

    def __init__(self, name: str, held: object = None) -> None:
        self.name = name
        self.held = held

    def __getstate__(self) -> dict[str, object]:
        Counted.calls += 1
        return dict(self.__dict__)


class CountedReduce:
    """Counts how often pickle asks for its reduce value."""

    calls = 0

    def __init__(self, name: str, held: object = None) -> None:
        self.name = name
        self.held = held

    def __reduce__(self) -> tuple[object, ...]:
        CountedReduce.calls += 1
        return CountedReduce, (self.name, self.held)


class Reduced:
    """Hands its parts to its constructor."""

    def __init__(self, name: str, held: object = None) -> None:
        self.name = name
        self.held = held

    def __reduce__(self) -> tuple[object, ...]:
        return Reduced, (self.name, self.held)


class ReducedEx(Reduced):
    def __reduce_ex__(self, protocol: typing.SupportsIndex) -> tuple[object, ...]:
        return ReducedEx, (self.name,), {"held": self.held}


class NewArgs:
    def __new__(cls, name: str, held: object = None) -> NewArgs:
        made = super().__new__(cls)
        made.name = name
        made.held = held
        return made

    name: str
    held: object

    def __getnewargs__(self) -> tuple[object, ...]:
        return self.name, self.held

    def __getstate__(self) -> None:
        return None


class NewArgsEx:
    def __new__(cls, *, name: str, held: object = None) -> NewArgsEx:
        made = super().__new__(cls)
        made.name = name
        made.held = held
        return made

    name: str
    held: object

    def __getnewargs_ex__(self) -> tuple[tuple[object, ...], dict[str, object]]:
        return (), {"name": self.name, "held": self.held}

    def __getstate__(self) -> None:
        return None


def set_state(obj: StateSetter, state: dict[str, object]) -> None:
    obj.__dict__.update(state)


class StateSetter:
    """Sends a function along that sets its state: the sixth item of a reduce value."""

    def __init__(self, held: object) -> None:
        self.name = "setter"
        self.held = held

    def __reduce__(self) -> tuple[object, ...]:
        return object.__new__, (StateSetter,), dict(self.__dict__), None, None, set_state


class Registered:
    """Is pickled by a reducer registered with `copyreg`."""

    def __init__(self, name: str, held: object = None) -> None:
        self.name = name
        self.held = held


def _registered(obj: Registered) -> tuple[object, ...]:
    return Registered, (obj.name, obj.held)


copyreg.pickle(Registered, _registered)


class LateRegistered(Registered):
    """Gets its `copyreg` reducer only in the course of a test."""


class Global:
    """One object of a module, pickled by its name."""

    def __reduce__(self) -> str:
        return "GLOBAL"


GLOBAL = Global()


class Extends:
    """Rebuilds itself empty and is then filled, like a list and a dict at once."""

    def __init__(self) -> None:
        self.items: list[object] = []
        self.pairs: dict[object, object] = {}

    def __reduce__(self) -> tuple[object, ...]:
        return Extends, (), None, iter(self.items), iter(self.pairs.items())

    def append(self, held: object) -> None:
        self.items.append(held)

    def extend(self, held: list[object]) -> None:
        self.items.extend(held)

    def __setitem__(self, key: object, held: object) -> None:
        self.pairs[key] = held


class CycleThroughArguments:
    """Needs itself to be rebuilt, which pickle cannot do."""

    def __init__(self, held: object = None) -> None:
        self.held: object = held

    def __reduce__(self) -> tuple[object, ...]:
        return CycleThroughArguments, (self.held,)


class Moody:
    """Pickles every second time."""

    pickles = True

    def __init__(self) -> None:
        self.name = "moody"

    def __getstate__(self) -> dict[str, object]:
        pickles, Moody.pickles = Moody.pickles, not Moody.pickles
        if not pickles:
            raise TypeError("not today")
        return {"name": self.name}


class Raises:
    def __getstate__(self) -> dict[str, object]:
        raise ZeroDivisionError("s3cret in the text of an exception")


class RefusesOnPurpose:
    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("never pickle me")


class DumpsNested:
    """Writes to a cache of its own while it is pickled."""

    dump: typing.ClassVar[typing.Callable[[object], bytes]]

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getstate__(self) -> dict[str, object]:
        return {"inner": DumpsNested.dump(self.inner)}


# --- What pickles but does not load -------------------------------------------------------------


class PlainError(Exception):
    pass


class ChoosyError(Exception):
    """Wants more than it passes up."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Stamp(dt.datetime):
    """A datetime that says where it comes from, which `datetime.__reduce__` drops."""

    source = ""


class NarrowDict(collections.defaultdict):
    """`defaultdict.__reduce__` calls the class with a factory, which it does not take."""

    def __init__(self) -> None:
        super().__init__(int)


class Delegates:
    """Looks every unknown attribute up in an attribute that is not there yet on load."""

    def __init__(self, held: object) -> None:
        self._held = held

    def __getattr__(self, name: str) -> object:
        return getattr(self._held, name)


class Strict:
    """Accepts nothing but text, on load too."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError("text only")
        self.text = text

    def __reduce__(self) -> tuple[object, ...]:
        return Strict, (self.text,)


class StrictState:
    """Refuses a state it does not know."""

    def __init__(self, held: object) -> None:
        self.held = held

    def __setstate__(self, state: dict[str, object]) -> None:
        if type(state["held"]).__name__ == "Stripped":
            raise ValueError("cannot work without it")
        self.__dict__.update(state)


class Gate(enum.Enum):
    """Enum members are pickled by value; this value holds a lock."""

    OPEN = ("open", threading.Lock())


class Door(enum.Enum):
    """The lock hangs on the member, not in its value."""

    OPEN = "open"
    SHUT = "shut"

    def __init__(self, label: str) -> None:
        self.guard = threading.Lock()


class Colour(enum.IntFlag):
    RED = 1
    BLUE = 2


# --- Thread-locals ------------------------------------------------------------------------------


class OwnLocal(threading.local):
    tenant: object = None

    def __init__(self, tenant: object = "nobody") -> None:
        self.tenant = tenant


class NeedyLocal(threading.local):
    """Cannot be made without an argument."""

    def __init__(self, tenant: object) -> None:
        self.tenant = tenant


# --- Attributes with a value of their own -------------------------------------------------------


class WithDefault:
    """The class says what an unset client is."""

    client: object = None

    def __init__(self, name: str) -> None:
        self.name = name


class WithCachedProperty:
    def __init__(self, name: str) -> None:
        self.name = name

    @functools.cached_property
    def stream(self) -> typing.Iterator[int]:
        return (number for number in range(3))


# --- Hostile to whoever touches them ------------------------------------------------------------


class Hostile:
    """Counts and punishes every touch that pickle itself does not need."""

    touched: typing.ClassVar[list[str]] = []

    def __init__(self, held: object = None) -> None:
        self.held = held

    def __repr__(self) -> str:
        Hostile.touched.append("repr")
        raise RuntimeError("repr")

    def __str__(self) -> str:
        Hostile.touched.append("str")
        raise RuntimeError("str")

    def __eq__(self, other: object) -> bool:
        Hostile.touched.append("eq")
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        Hostile.touched.append("hash")
        raise RuntimeError("hash")

    def __bool__(self) -> bool:
        Hostile.touched.append("bool")
        raise RuntimeError("bool")

    def __len__(self) -> int:
        Hostile.touched.append("len")
        raise RuntimeError("len")

    def __iter__(self) -> typing.Iterator[object]:
        Hostile.touched.append("iter")
        raise RuntimeError("iter")

    def __dir__(self) -> list[str]:
        Hostile.touched.append("dir")
        raise RuntimeError("dir")

    @property
    def costly(self) -> object:
        Hostile.touched.append("property")
        raise RuntimeError("property")


class Lookups:
    """Records every attribute that is looked up on it, by whom ever."""

    seen: typing.ClassVar[list[tuple[int, str]]] = []

    def __init__(self, held: object = None) -> None:
        self.__dict__["held"] = held

    def __getattribute__(self, name: str) -> object:
        Lookups.seen.append((id(self), name))
        return object.__getattribute__(self, name)


class Liar:
    """Says it is a dict."""

    asked = 0

    def __init__(self, held: object = None) -> None:
        self.held = held

    @property
    def __class__(self) -> type:  # type: ignore[override]
        Liar.asked += 1
        return dict

    def __reduce__(self) -> tuple[object, ...]:
        return Thing, (), {"held": self.__dict__["held"]}


class BadHash(type):
    """A metaclass whose classes cannot be hashed, so that no table can be asked about them."""

    def __hash__(cls) -> int:
        raise TypeError("unhashable class")


class Unhashable(metaclass=BadHash):
    def __init__(self) -> None:
        self.name = "unhashable"


class BadComparison(type):
    """A metaclass that compares classes by something others do not have."""

    def __eq__(cls, other: object) -> bool:
        return cls.label == other.label  # type: ignore[attr-defined]

    __hash__ = type.__hash__


class Incomparable(metaclass=BadComparison):
    def __init__(self, held: object = None) -> None:
        self.held = held


class Unclassed:
    """An object that refuses to say of what class it is, which pickle asks it for."""

    @property
    def __class__(self) -> type:
        raise RuntimeError("asked for its class")

    @__class__.setter
    def __class__(self, cls: type) -> None: ...


class Handlers:
    """An object that keeps methods of its own in ways in which pickle does not find them again."""

    def __init__(self) -> None:
        self.name = "handlers"
        self.private = self.__handle
        self.wrapped = self.decorated
        self.patched = types.MethodType(top_level, self)

    def __handle(self) -> str:
        return self.name

    def _unwrapped(handle: typing.Callable[[Handlers], str]) -> typing.Callable[[Handlers], str]:  # type: ignore[misc]
        def inner(self: Handlers) -> str:
            return handle(self)

        return inner

    @_unwrapped
    def decorated(self) -> str:
        return self.name

    @classmethod
    def make(cls) -> Handlers:
        return cls()


class Stream(io.RawIOBase):
    """A file written in Python, over another one."""

    def __init__(self, inner: typing.Any) -> None:
        self.inner = inner


class FilledOddly(list):
    """A list that is stored with other items than its own."""

    def __init__(self, held: object = None) -> None:
        super().__init__()
        self.held = held

    def __reduce__(self) -> typing.Any:
        return FilledOddly, (), None, iter([self.held])


class Meta(type):
    """An innocent metaclass."""


class WithMeta(metaclass=Meta):
    def __init__(self, held: object = None) -> None:
        self.held = held


# --- Functions ----------------------------------------------------------------------------------


def top_level(number: int = 0) -> int:
    return number + 1


@functools.lru_cache
def cached(number: int) -> int:
    return number


def decorated() -> None:
    """Replaced below by something that is not found under its name."""


original_decorated = decorated


@functools.wraps(decorated)
def _wrapper() -> None:
    return original_decorated()


decorated = _wrapper

log = logging.getLogger("tests.shop")
