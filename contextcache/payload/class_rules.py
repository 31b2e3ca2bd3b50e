"""What a payload may do with a class that it may name, and with the instances of it."""

from __future__ import annotations

import copyreg
import re
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from ipaddress import IPv4Address, IPv6Address
from types import (
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    SimpleNamespace,
    WrapperDescriptorType,
)
from typing import TYPE_CHECKING, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from contextcache.payload.loading import RefusedOperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


# What an object is to its payload: new; perhaps new; shared with others; complete.
NEW, UNSURE, SHARED, COMPLETE = range(4)


class ClassRules:
    """What a payload may do with a class and its instances.

    Args:
        cls: A class that it may name, or that a listed function returns an instance of.
        data_only: Whether it is called with plain data only.
    """

    __slots__ = ("_arguments", "allocated", "called", "cls", "methods", "name")

    def __init__(self, cls: type, *, data_only: bool = False) -> None:
        self.cls = cls
        name = f"{cls.__module__}:{cls.__qualname__}"
        # Of what a function returns, a class may have been made and named at run time.
        self.name = name if re.fullmatch(r"[\w.:]{1,200}", name) else "a class"
        self.allocated = _allocation(cls)
        self.called = max(self.allocated, _construction(cls))
        if defined(cls, "__getinitargs__") is not None:
            self.allocated = self.called  # the unpickler then calls it where others are allocated
        self.methods = {name for name in _FILLED if _may_fill(cls, name)}
        self._arguments = _argument_check(cls, data_only=data_only)

    def check_arguments(self, args: tuple[Any, ...]) -> None:
        """Raise `RefusedOperationError` unless the class may be called with these arguments."""
        if self._arguments is not None and not self._arguments(args):
            raise RefusedOperationError(f"calls {self.name} with what is no plain data")

    def check_state(self, state: object) -> None:
        """Raise `RefusedOperationError` unless `BUILD` may set this state of an instance."""
        method = defined(self.cls, "__setstate__")
        if method is not None and method is not _SETSTATE_OF_EXCEPTIONS:
            return  # what the class does with it is its own
        slots: object = None
        if method is not None:
            state, slots = None, state  # an exception sets each as an attribute
        elif type(state) is tuple and len(state) == 2:
            state, slots = state
        if not (state is None or isinstance(state, dict) or _stands_for_dict(state)):
            raise RefusedOperationError(f"sets a state of {self.name} that is no dict")
        if not (slots is None or type(slots) is dict):
            raise RefusedOperationError(f"sets slots of {self.name} that are no dict")
        for name in slots or ():
            if type(name) is not str or not self._is_settable(name):
                raise RefusedOperationError(f"sets what is no plain attribute of {self.name}")

    def _is_settable(self, name: str) -> bool:
        """Return whether setting an attribute of an instance calls no descriptor of the class."""
        for base in self.cls.__mro__:
            if base is BaseException and name == "args":
                return True  # from 3.12 on, it is in the state of an AttributeError
            if name in vars(base):
                kind = type(vars(base)[name])
                is_slot = "__slots__" in vars(base) or base in _EXCEPTIONS_WITH_STATE
                return (is_slot and kind is MemberDescriptorType) or not hasattr(kind, "__set__")
        return True


def defined(cls: type, name: str) -> Any:
    """Return what a class or its bases define under a name, as it stands there."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _allocation(cls: type) -> int:
    """Return what `cls.__new__` returns, as far as that is known before."""
    if issubclass(cls, Enum) or cls in _PLAIN:
        return SHARED
    return NEW if is_allocator(cls) and has_own_dict(cls) else UNSURE


def is_allocator(cls: type) -> bool:
    """Return whether `cls.__new__` is known to return another object each time."""
    owner = next(base for base in cls.__mro__ if "__new__" in vars(base))
    of_exceptions = issubclass(owner, BaseException) and owner.__module__ == "builtins"
    return owner in _ALLOCATORS or of_exceptions


def has_own_dict(cls: type) -> bool:
    """Return whether the attributes of an instance are where those of objects are."""
    plain = type(defined(cls, "__getattribute__")) is WrapperDescriptorType
    attributes = defined(cls, "__dict__")
    return plain and (attributes is None or type(attributes) in DICT_DESCRIPTORS)


DICT_DESCRIPTORS = (GetSetDescriptorType, MemberDescriptorType)
"""What `__dict__` is in the class of an object that has its attributes itself."""


def _construction(cls: type) -> int:
    """Return what a call of the class returns if `cls.__new__` returns a new object."""
    caller = next(base for base in type.mro(type(cls)) if "__call__" in vars(base))
    plain = caller is type and type(defined(cls, "__init__")) is not FunctionType
    return NEW if plain else UNSURE


def _stands_for_dict(state: object) -> bool:
    rules = getattr(type(state), "rules", None)
    return type(rules) is ClassRules and issubclass(rules.cls, dict)


def _may_fill(cls: type, method: str) -> bool:
    """Return whether a payload may call a method of an instance with items.

    Picklers do for containers, and for a class that says itself how it is pickled. In others, `add`
    or `append` are methods of the application.
    """
    if issubclass(cls, _FILLED[method]):
        return True
    methods = ("__reduce__", "__reduce_ex__")
    own = any(defined(cls, name) is not vars(object)[name] for name in methods)
    reduced = own or cls in copyreg.dispatch_table
    return reduced and method != "add" and type(defined(cls, method)) is FunctionType


_FILLED: dict[str, tuple[type, ...]] = {
    "__setitem__": (dict,), "add": (set,), "append": (list, deque), "extend": (list, deque),
}  # fmt: skip
_EXCEPTIONS_WITH_STATE = (AttributeError, ImportError)  # what they hold is in members in C
_SETSTATE_OF_EXCEPTIONS = vars(BaseException)["__setstate__"]
_ALLOCATORS = frozenset({
    BaseException, OrderedDict, SimpleNamespace, bytearray, bytes, complex, date, datetime,
    defaultdict, deque, dict, float, frozenset, int, list, object, set, str, time, timedelta,
    tuple, tzinfo,
})  # fmt: skip
"""Types whose `__new__` returns another object each time, at least for a subclass."""


# --- Arguments of what is always allowed ----------------------------------------------------------


def only_data(args: Iterable[object]) -> bool:
    """Return whether arguments are plain data, or symbols of such."""
    return all(_kind(arg) in _DATA for arg in args)


def _only_scalars(args: Iterable[object]) -> bool:
    # A text or a number is made of what is in a list, too, by methods of its items.
    return all(_kind(arg) in _SCALARS for arg in args)


def _only_dicts(args: Iterable[object]) -> bool:
    return all(_kind(arg) is dict for arg in args)


def _factory_and_dict(args: tuple[Any, ...]) -> bool:
    if not args:
        return True
    factory, *rest = args
    marker = getattr(type(factory), "rules", None)
    named = factory is None or getattr(factory, "is_name", False)
    named = named or getattr(marker, "name", "") == "contextcache.payload.wire:Stripped"
    return named and _only_dicts(rest)


def _moment_and_zone(args: tuple[Any, ...]) -> bool:
    """Return whether these are the arguments of a datetime; its zone may be of any class."""
    return _only_scalars(args) or (len(args) == 2 and _kind(args[0]) in {bytes, str})


def _no_arguments(args: tuple[Any, ...]) -> bool:
    return not args


def _never(_args: tuple[Any, ...]) -> bool:
    return False


def _one_argument(args: tuple[Any, ...]) -> bool:
    return len(args) <= 1


def _kind(arg: object) -> type:
    """Return the type of an argument, or of what a symbol stands for."""
    rules = getattr(type(arg), "rules", None)
    return rules.cls if type(rules) is ClassRules else type(arg)


_PLAIN = frozenset({
    Decimal, Fraction, IPv4Address, IPv6Address, ZoneInfo, bool, bytes, complex, date, datetime,
    float, frozenset, int, range, str, time, timedelta, timezone, tuple,
})  # fmt: skip
_DATA = _PLAIN | {bytearray, dict, list, set, type(None)}
_SCALARS = _DATA - {datetime, dict, frozenset, list, range, set, time, tuple}
_OF_SCALARS = (_PLAIN | {UUID, bytearray, slice}) - {frozenset, tuple}
_OF_DATA = frozenset({Counter, deque, frozenset, list, set, tuple})
_ARGUMENTS: dict[type, Callable[[tuple[Any, ...]], bool]] = {
    **dict.fromkeys(_OF_SCALARS, _only_scalars),
    **dict.fromkeys(_OF_DATA, only_data),
    OrderedDict: _only_dicts, dict: _only_dicts, defaultdict: _factory_and_dict,
    datetime: _moment_and_zone, time: _moment_and_zone,
    SimpleNamespace: _no_arguments,  # from 3.13 on, a mapping would set attributes
}  # fmt: skip


def _argument_check(cls: type, *, data_only: bool) -> Callable[[tuple[Any, ...]], bool] | None:
    """Return what verifies the arguments of a class; None where its own code takes them."""
    if issubclass(cls, Enum):
        return _one_argument  # with more, an enum without members makes a class of them
    if issubclass(cls, getattr(sys.modules.get("numpy"), "ndarray", ())):
        return _never  # it takes bytes for objects; pickles use `_reconstruct`
    for with_init in (defaultdict, SimpleNamespace):
        if defined(cls, "__init__") is vars(with_init)["__init__"]:
            return _ARGUMENTS[with_init]
    for base in cls.__mro__:
        if base in _ARGUMENTS:
            return _ARGUMENTS[base]
        if "__new__" in vars(base) or "__init__" in vars(base):
            break
    return only_data if data_only else None
