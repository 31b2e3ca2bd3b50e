"""The containers that a walk through a value goes into, and where it is in each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from contextcache.base.classes import once_per_class
from contextcache.base.introspection import attributes, class_mro
from contextcache.findings.path import Step, StepKind, attribute, item
from contextcache.jsonable.codec import CONTAINERS, SCALARS, AnyDataclass, Codec
from contextcache.rules.book import RuleBook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from contextcache.rules.rule import Rule

OMITTED: Any = object()
"""What stands where nothing is stored."""

_PLAIN: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (str, str.__str__), (int, int.__int__), (float, float.__float__), (bytes, bytes.__bytes__),
    (memoryview, bytes),
)  # fmt: skip


class TypePolicy(NamedTuple):
    """How objects of one class are treated.

    Attributes:
        rule: What is done before the encoder is asked; None where that is nothing.
        parts: The builtin container it is walked through as; `AnyDataclass` for a dataclass.
        plain: Makes it what it is derived from, where the encoder refuses the subclass.
        is_kept: Whether nothing is to be done about any of them.
    """

    rule: Rule | None
    parts: type | None
    plain: Callable[[Any], object] | None
    is_kept: bool


def type_policies(codec: Codec[Any], rules: Iterable[Rule]) -> Callable[[type], TypePolicy]:
    """Return a function that returns the policy of a class, and remembers it."""
    own = {rule.type for rule in rules}
    book = RuleBook(rules)

    @once_per_class
    def policy(cls: type) -> TypePolicy:
        mro = class_mro(cls)[:-1]
        rule = book.lookup(cls)
        if rule is not None and rule.type not in own and not rule.json:
            rule = None
        parts = next((base for base in mro if any(base is kind for kind in CONTAINERS)), None)
        if parts is None and any("__dataclass_fields__" in vars(base) for base in mro):
            parts = AnyDataclass
        if parts in (set, frozenset, AnyDataclass) and not codec.accepts(parts):
            parts = None
        plain = next((make for base, make in _PLAIN if any(base is one for one in mro)), None)
        is_kept = rule is None and any(cls is scalar for scalar in SCALARS)
        return TypePolicy(rule, parts, plain, is_kept)

    return policy


class Frame:
    """A container on the way from the value to what is visited.

    Attributes:
        parts: The builtin container it is walked through as.
        items: What it holds, each with its key, name or position.
        at: The position of what is visited; -1 before the first.
        asks: Whether the encoder is asked about each of its items.
        is_foreign: Whether it is a dataclass, or in one, with which an encoder does as it likes.
        changes: What is stored in place of what it holds, by position.
    """

    __slots__ = ("asks", "at", "changes", "is_foreign", "items", "obj", "parts")

    def __init__(self, obj: Any, parts: type) -> None:
        self.obj = obj
        self.parts = parts
        self.items: list[tuple[Any, Any]]
        if parts is dict:  # a subclass may show other items than it holds, and those are encoded
            self.items = list(obj.items())
        elif parts is AnyDataclass:
            own = attributes(obj)
            names = type(obj).__dataclass_fields__
            self.items = [(name, own[name]) for name in names if name in own]
        else:
            self.items = list(enumerate(parts.__iter__(obj)))  # type: ignore[attr-defined]
        self.at = -1
        self.asks = self.is_foreign = False
        self.changes: dict[int, Any] = {}

    @property
    def is_named(self) -> bool:
        """Whether what is cut goes with its name; else the positions of the others must stay."""
        return self.parts in (dict, AnyDataclass)

    def advance(self) -> bool:
        """Go to the next item; return False if there is none."""
        self.at += 1
        while self.at in self.changes:  # its key was cut
            self.at += 1
        return self.at < len(self.items)

    def put(self, stored: Any, at: int = -1) -> None:
        """Store `stored` for the item at a position, by default for what is visited."""
        at = self.at if at < 0 else at
        if stored is not self.items[at][1]:
            self.changes[at] = stored

    def step(self, at: int) -> Step:
        """Return the step to the item at a position."""
        key = self.items[at][0]
        if self.parts is dict:
            return item(key, at)
        if self.parts is AnyDataclass:
            return attribute(key)
        return Step(StepKind.ITEM if self.parts in (list, tuple) else StepKind.ELEMENT, at)

    def rebuilt(self) -> Any:
        """Return a plain copy, with what is stored in place of what was changed."""
        stored = [(key, self.changes.get(at, held)) for at, (key, held) in enumerate(self.items)]
        if self.is_named:
            return {key: held for key, held in stored if held is not OMITTED}
        values = [None if held is OMITTED else held for _, held in stored]
        return tuple(values) if self.parts is tuple else values


Location = tuple[tuple[Frame, int], ...]
"""The holders of an object, from the value down, each with the position of what is below."""


class Odd(NamedTuple):
    """An object that may come back as something else; a container with its frame."""

    obj: Any
    location: Location
    frame: Frame | None


def position(location: Location) -> tuple[int, ...]:
    """Return the positions on the way to an object: sorted, they are in the order of the value."""
    return tuple([at for _, at in location])
