"""What is known about classes, none of which it keeps alive, hashes or compares."""

from __future__ import annotations

import functools
import sys
import weakref
from collections import deque
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from contextcache.base.importing import importable
from contextcache.base.introspection import class_mro

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Value = TypeVar("_Value")
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement


class _Entry(weakref.ref[type]):
    """A class, and what is known about it."""

    __slots__ = ("key", "value")

    key: int
    value: Any


class ClassMemo(Generic[_Value]):
    """Values by class, each of which goes with its class. No value may refer to the class itself.

    Classes are told apart by their ids, because the `__hash__` and `__eq__` of a metaclass are
    code of the application's.
    """

    __slots__ = ("_entries", "_forget")

    def __init__(self) -> None:
        entries: dict[int, _Entry] = {}

        def forget(entry: _Entry) -> None:
            if entries.get(entry.key) is entry:
                entries.pop(entry.key, None)

        self._entries = entries
        self._forget: Any = forget

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, cls: type) -> _Value | None:
        """Return what is known about `cls`, or None."""
        entry = self._entries.get(id(cls))
        return entry.value if entry is not None and entry() is cls else None

    def put(self, cls: type, value: _Value) -> _Value:
        """Remember `value` for as long as `cls` lives; return what another thread put before."""
        entry = _Entry(cls, self._forget)
        entry.key, entry.value = id(cls), value
        known = self._entries.setdefault(id(cls), entry)
        if known() is not cls:  # of a class that is gone, and whose id this one has
            known = self._entries[id(cls)] = entry
        found: _Value = known.value
        return found

    def items(self) -> Iterator[tuple[type, _Value]]:
        """Yield the classes that are alive, with what is known about them."""
        for entry in list(self._entries.values()):
            cls = entry()
            if cls is not None:
                yield cls, entry.value


def once_per_class(function: Callable[[type], _Value]) -> Callable[[type], _Value]:
    """Remember what `function` returns for a class, for as long as the class lives."""
    memo: ClassMemo[tuple[_Value]] = ClassMemo()

    @functools.wraps(function)
    def remembered(cls: type) -> _Value:
        known = memo.get(cls)
        return (known if known is not None else memo.put(cls, (function(cls),)))[0]

    return remembered


def derived(cls: type, addition: type) -> Any:
    """Return the class that is `cls` with `addition` before it, always the same one.

    It goes by the names of `cls`. Only a few are kept alive without an instance.

    Raises:
        TypeError: The two do not combine.
    """
    known: Any
    for known in type.__subclasses__(cls):
        if known.__bases__ == (addition, cls) and known.__qualname__ == cls.__qualname__:
            return known
    same = {name: getattr(cls, name) for name in ("__module__", "__qualname__", "__doc__")}
    known = type(cls.__name__, (addition, cls), same)
    _recent.append(known)
    return known


_recent: deque[type] = deque(maxlen=16)


def is_permanent(cls: type) -> bool:
    """Return True if `cls` stays as long as the process: one in C, or of the standard library."""
    if not cls.__flags__ & _HEAP_TYPE or is_native(cls):
        return True
    return is_standard(cls) and importable(cls)


def is_standard(cls: type) -> bool:
    """Return True if `cls` says that it comes from the standard library."""
    module = type.__dict__["__module__"].__get__(cls)
    return isinstance(module, str) and module.partition(".")[0] in sys.stdlib_module_names


def is_native(cls: type) -> bool:
    """Return True if `cls` and its bases are written in C, without room for attributes.

    Only classes made by a class statement can be made anew at any time.
    """
    marks = ("__dict__", "__weakref__", "__slots__")
    return not any(mark in base.__dict__ for base in class_mro(cls)[:-1] for mark in marks)


def has_slots(cls: type) -> bool:
    """Return True if `cls` itself, and not a base of it, has a slot."""
    return any(type(held) is MemberDescriptorType for held in cls.__dict__.values())


_HOOKS = (
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
    "__getnewargs_ex__", "__new__", "__getattr__", "__getattribute__", "__setattr__", "__class__",
)  # fmt: skip


def is_ordinary(cls: type) -> bool:
    """Return True if `cls` leaves pickling and attributes to `object`, and has no slots.

    All that its objects hold is in their `__dict__`, which no code of the application returns.
    """
    bases = class_mro(cls)[:-1]
    dicts = [type(base.__dict__["__dict__"]) for base in bases if "__dict__" in base.__dict__]
    if (
        type(cls) is not type
        or not dicts
        or any(kind is not GetSetDescriptorType for kind in dicts)
    ):
        return False
    return not any(
        is_native(base) or has_slots(base) or any(name in base.__dict__ for name in _HOOKS)
        for base in bases
    )
