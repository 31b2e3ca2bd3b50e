"""What an object holds, read without running code of it."""

from __future__ import annotations

import builtins
from collections import deque
from itertools import chain
from types import (
    AsyncGeneratorType,
    BuiltinFunctionType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    TracebackType,
)
from typing import TYPE_CHECKING, Any

from contextcache.base.classes import is_standard
from contextcache.base.introspection import attributes, class_mro, instance_dict
from contextcache.engine.relations import relations
from contextcache.findings.path import Step, StepKind, attribute, item

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# By id, because the metaclass of a type may refuse to be hashed or compared
ATOMS = frozenset(map(id, (type(None), bool, int, float, complex, str, bytes, bytearray)))
TEXTS = frozenset(map(id, (str, bytes, bytearray)))
MAPPINGS = frozenset(map(id, (dict, getattr(builtins, "frozendict", dict))))  # since 3.15
CONTAINERS = MAPPINGS | frozenset(map(id, (list, tuple, set, frozenset)))
_CODE = (type, FunctionType, BuiltinFunctionType, ModuleType)
_RUNNING = (FrameType, TracebackType, GeneratorType, CoroutineType, AsyncGeneratorType)


def iter_items(obj: Any) -> Iterator[tuple[Step, object]]:
    """Yield the items of a builtin container with the steps that lead to them."""
    if id(type(obj)) in MAPPINGS:
        yield from _iter_pairs(obj.items())
    else:
        kind = StepKind.ITEM if type(obj) is list or type(obj) is tuple else StepKind.ELEMENT
        for index, child in enumerate(list(obj)):
            yield Step(kind, index), child


def _iter_pairs(pairs: Iterable[tuple[object, object]]) -> Iterator[tuple[Step, object]]:
    for index, (key, child) in enumerate(list(pairs)):
        if id(type(key)) not in ATOMS:
            yield Step(StepKind.KEY, index), key
        yield item(key, index), child


def iter_children(obj: Any) -> Iterator[tuple[Step, object]]:
    """Yield what `obj` holds, whether or not pickle would store it."""
    kind = type(obj)
    if id(kind) in CONTAINERS:
        yield from iter_items(obj)
        return
    if issubclass(kind, (MethodType, BuiltinFunctionType)):
        yield attribute("__self__"), obj.__self__
        return
    if is_stored_by_name(obj) or issubclass(kind, _RUNNING):
        return  # they lead to all that the program holds
    for name, child in chain(attributes(obj).items(), _members(obj)):
        yield attribute(name), child
    mro = class_mro(kind)
    for base in (list, tuple, deque, set, frozenset):
        if any(one is base for one in mro):
            names = _field_names(mro) if base is tuple else ()
            step = StepKind.ELEMENT if base in (set, frozenset) else StepKind.ITEM
            for index, child in enumerate(list(base.__iter__(obj))):
                named = index < len(names)
                yield attribute(names[index]) if named else Step(step, index), child
    mapping = next((one for one in mro if id(one) in MAPPINGS), None)
    if mapping is not None:
        yield from _iter_pairs(mapping.items(obj))  # type: ignore[attr-defined]


def _field_names(mro: tuple[type, ...]) -> tuple[str, ...]:
    """Return the names of the fields of a named tuple, in their order."""
    return next((base.__dict__["_fields"] for base in mro if "_fields" in base.__dict__), ())


def is_stored_by_name(obj: object) -> bool:
    """Return True for code, which is stored by name; a proxy is not asked for its `__class__`."""
    return issubclass(type(obj), _CODE)


def _member(obj: object, name: str) -> object:
    """Return one of the `_members`, which needs not be looked for; None if there is none."""
    if not issubclass(type(obj), BaseException):  # as a rule, it is one of these
        return None
    return dict(_members(obj)).get(name)


def _members(obj: object) -> Iterator[tuple[str, object]]:
    """Yield the members a type of the standard library keeps in C, such as `args`."""
    for base in class_mro(type(obj))[:-1]:
        if not is_standard(base):
            continue
        for name, descriptor in list(base.__dict__.items()):
            readable = isinstance(descriptor, (MemberDescriptorType, GetSetDescriptorType))
            if readable and name not in ("__dict__", "__weakref__"):
                try:
                    child = descriptor.__get__(obj)
                    held = descriptor.__get__(obj) is child
                except Exception:  # noqa: BLE001, S112  # an empty member, or a getter that refuses
                    continue
                if held:  # not made anew each time, as `Decimal.imag` is, and its own, without end
                    yield name, child


def resolve_without_code(value: Any, steps: tuple[Step, ...]) -> Any:
    """Return what `steps` lead to from `value` without running any code of it; None if nothing.

    Only what an instance dictionary, a slot, a builtin container, a subclass of one, or a loaded
    row or queryset of Django holds is reached.
    """
    for kind, name in steps:
        if kind is StepKind.ATTRIBUTE:
            own = instance_dict(value)
            if own is None or name not in own:
                own = attributes(value)
            if name in own:
                value = own[str(name)]
            else:
                value = _member(value, str(name)) or _relation(value, Step(kind, name))
        elif kind is StepKind.ITEM and id(type(value)) in MAPPINGS:
            value = value.get(name)
        elif kind is StepKind.ITEM and issubclass(type(value), dict):
            value = dict.get(value, name)
        elif kind is StepKind.ITEM and issubclass(type(value), (list, tuple)) and type(name) is int:
            base: Any = list if issubclass(type(value), list) else tuple
            # Another thread may shorten it.
            held = base.__getitem__(value, slice(name, name + 1)) if name >= 0 else ()
            value = held[0] if held else None
        elif kind is StepKind.ITEM:
            value = _relation(value, Step(kind, name))
        else:
            return None
    return value


def _relation(value: object, wanted: Step) -> object:
    return next((child for steps, child in relations(value) if steps == (wanted,)), None)
