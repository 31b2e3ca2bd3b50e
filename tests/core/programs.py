"""Pickles written by hand, and classes and functions that a payload may or may not change."""

from __future__ import annotations

import collections
import enum
import types
from typing import Any, ClassVar

PROTOCOL = b"\x80\x04"
NONE, TRUE = b"N", b"\x88"


def text(string: str) -> bytes:
    data = string.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def name(module: str, qualname: str) -> bytes:
    return text(module) + text(qualname) + b"\x93"


def own(qualname: str) -> bytes:
    return name(__name__, qualname)


def row(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def mapping(*pairs: tuple[bytes, bytes]) -> bytes:
    return b"}(" + b"".join(key + value for key, value in pairs) + b"u"


def call(function: bytes, *args: bytes) -> bytes:
    return function + row(*args) + b"R"


def new(cls: bytes, *args: bytes) -> bytes:
    return cls + row(*args) + b"\x81"


def build(target: bytes, state: bytes) -> bytes:
    return target + state + b"b"


def slots(**values: bytes) -> bytes:
    return row(NONE, mapping(*((text(key), value) for key, value in values.items())))


def state(**values: bytes) -> bytes:
    return mapping(*((text(key), value) for key, value in values.items()))


def whole(*parts: bytes) -> bytes:
    """A payload of which all but the last part are popped again."""
    return PROTOCOL + b"0".join(parts) + b"."


called: list[str] = []
"""What may not be called, and was."""
ran: list[str] = []
"""Functions that may be called, and were."""


class Cart:
    """Plain."""

    currency = "EUR"

    def total(self) -> int:
        return 1


class Slots:
    """With slots, one of which is private."""

    __slots__ = ("__secret", "price")


class Text(str):
    """With attributes."""


class Items(list[Any]):
    """A list of its own."""


class Bag(dict[Any, Any]):
    """A dict of its own."""


class Group(set[Any]):
    """A set of its own."""


class Factory(collections.defaultdict[Any, Any]):
    """A defaultdict of its own."""


class Space(types.SimpleNamespace):
    """A namespace of its own."""


class Basket:
    """With methods that look like those of a container, and with what its instances share."""

    shared: ClassVar[list[object]] = []

    def add(self, item: object) -> None:
        called.append("a method")
        self.shared.append(item)

    append = extend = add

    def __setitem__(self, _key: object, item: object) -> None:
        self.add(item)


class Shelf(Basket):
    """Says itself how it is pickled, with its items."""

    def __init__(self) -> None:
        self.items: list[object] = []

    def append(self, item: object) -> None:
        self.items.append(item)

    def extend(self, items: list[object]) -> None:
        self.items.extend(items)

    def __reduce__(self) -> Any:
        return Shelf, (), None, iter(self.items)


class Talkative:
    """Has all the methods that conversions call."""

    def _called(self, *_args: object) -> Any:
        called.append("a method")
        return 1

    __index__ = __float__ = __len__ = _called

    def __iter__(self) -> Any:
        called.append("a method")
        return iter(())

    def __repr__(self) -> str:
        called.append("a method")
        return "Talkative"


class Empty(enum.Enum):
    """Without members: a call with two arguments makes a class."""


class SelfError(Exception):
    """Refers to itself, as a ValidationError of Django does."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errors = {"all": [self], "run": self.run, "self": self}

    def run(self) -> None:
        pass


class KeptError(Exception):
    """Refers to itself, and is kept by its class, too."""

    kept: ClassVar[list[object]] = []

    def __init__(self) -> None:
        super().__init__()
        self.errors = [self]
        self.kept[:] = [self.errors]


class OddError(Exception):
    """With a property that must not be set by a payload."""

    @property
    def source(self) -> str:
        return "shop"

    @source.setter
    def source(self, _value: object) -> None:
        called.append("a property of an exception")


class Watched:
    """With a property that must not be set by a payload."""

    price = property(lambda _self: 1, lambda _self, _value: called.append("a property"))


class Stateful:
    """Takes its state itself."""

    def __setstate__(self, given: object) -> None:
        self.given = given


class Initialized:
    """Made by a call, with `__init__`."""

    def __init__(self, *args: object) -> None:
        self.args = args


class Role(enum.IntEnum):
    USER = 1
    ADMIN = 2


class Status(enum.StrEnum):
    PAID = "paid"


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Singleton:
    """There is one."""

    one: ClassVar[Singleton | None] = None

    def __new__(cls, *_args: object) -> Singleton:
        if cls.one is None:
            cls.one = super().__new__(cls)
        return cls.one


class Numbered:
    """Counts its instances, which are new each time."""

    count: ClassVar[list[int]] = []

    def __new__(cls, *_args: object) -> Numbered:
        return super().__new__(cls)


class Borg:
    """All instances share their attributes from `__new__` on."""

    shared: ClassVar[dict[str, object]] = {}

    def __new__(cls) -> Borg:
        made = super().__new__(cls)
        made.__dict__ = cls.shared
        return made


class LateBorg:
    """All instances share their attributes from `__init__` on."""

    shared: ClassVar[dict[str, object]] = {}

    def __init__(self) -> None:
        self.__dict__ = LateBorg.shared


class SharedAttributes:
    """Has a `__dict__` that is none of its own."""

    shared: ClassVar[dict[str, object]] = {}

    @property
    def __dict__(self) -> dict[str, object]:  # type: ignore[override]
        return SharedAttributes.shared


class InitArgs:
    """Of the days of Python 2: the unpickler calls it instead of allocating it."""

    shared: ClassVar[dict[str, object]] = {}

    def __init__(self) -> None:
        self.__dict__ = InitArgs.shared

    def __getinitargs__(self) -> tuple[()]:
        return ()


class Proxy:
    """Has the attributes of another object."""

    def __getattribute__(self, attribute: str) -> Any:
        return getattr(CART, attribute)


class _Kept(type):
    kept: ClassVar[dict[type, object]] = {}

    def __call__(cls, *args: Any) -> Any:
        return _Kept.kept.setdefault(cls, super().__call__(*args))


class KeptByMeta(metaclass=_Kept):
    """Its metaclass keeps the only instance."""


class Caller:
    """Its instances can be called, but not by a payload."""

    def __call__(self, *_args: object) -> str:
        called.append("an instance")
        return "called"


CART = Cart()
ROWS = [1, 2]
TABLE = {"a": 1}


def fresh_cart(*_args: object) -> Cart:
    ran.append("fresh_cart")
    return Cart()


def fresh_rows() -> Items:
    ran.append("fresh_rows")
    return Items()


def shared_cart() -> Cart:
    ran.append("shared_cart")
    return CART


def shared_rows() -> list[int]:
    ran.append("shared_rows")
    return ROWS


def shared_table() -> dict[str, int]:
    ran.append("shared_table")
    return TABLE


BYTES = bytearray(b"abc")


def shared_bytes() -> memoryview:
    """A new view of what is shared."""
    ran.append("shared_bytes")
    return memoryview(BYTES)


def a_class() -> type:
    ran.append("a_class")
    return Cart


def a_function(*_args: object) -> Any:
    ran.append("a_function")
    return _secret


def given(value: object) -> object:
    ran.append("given")
    return value


def set_state(target: object, values: dict[str, object]) -> None:
    """Set the state of an object, as a sixth part of what `__reduce__` returns."""
    for key, value in values.items():
        object.__setattr__(target, key, value)


def _secret(*_args: object) -> str:
    called.append("a function that another returned")
    return "secret"


def discount(price: float, rate: float = 0.1) -> float:
    ran.append("discount")
    return price if isinstance(price, (str, list, dict)) else rate


LISTED = [
    f"{__name__}:{found}"
    for found in (
        "Bag", "Basket", "Borg", "CART", "Caller", "Cart", "Empty", "Factory", "Group",
        "InitArgs", "Initialized", "Items", "KeptByMeta", "KeptError", "LateBorg", "Numbered",
        "OddError", "Proxy", "Right", "Role", "SelfError", "SharedAttributes", "Shelf",
        "Singleton", "Slots", "Space", "Stateful", "Status", "Talkative", "Text", "Watched",
        "a_class", "a_function", "discount", "fresh_cart", "fresh_rows", "given", "shared_bytes",
        "shared_cart", "shared_rows", "shared_table",
    )
]  # fmt: skip


def snapshot(objects: list[object]) -> list[tuple[object, dict[str, object]]]:
    """Return what classes, functions, modules and shared objects are made of."""
    seen: dict[int, object] = {}
    for found in objects:
        for one in (found, *getattr(type(found), "__mro__", ()), *getattr(found, "__mro__", ())):
            seen[id(one)] = one
    return [(found, _parts(found)) for found in seen.values()]


def changed(before: list[tuple[object, dict[str, object]]]) -> list[str]:
    """Return the parts that are not what they were."""
    found = []
    for one, parts in before:
        now = _parts(one)
        if now.keys() != parts.keys() or any(now[key] is not parts[key] for key in now):
            different = {key for key in now.keys() | parts if now.get(key) is not parts.get(key)}
            found.append(f"{one!r}: {sorted(map(str, different))}")
    return found


def _parts(found: object) -> dict[str, object]:
    parts: dict[str, object] = {}
    if isinstance(found, dict):
        parts.update({repr(key): value for key, value in found.items()})
    elif isinstance(found, list):
        parts.update({str(index): value for index, value in enumerate(found)})
    elif hasattr(found, "__dict__"):
        parts.update(vars(found))
    for part in ("__code__", "__defaults__", "__kwdefaults__", "__bases__", "__class__"):
        if part != "__bases__" or isinstance(found, type):
            parts[f"({part})"] = getattr(found, part, None)
    return parts
