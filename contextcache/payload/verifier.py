"""Verify what a pickle would do with the names in it, before any of it is done.

CPython's own unpickler reads the payload twice. The first time each name leads to a symbol, which
runs nothing and refuses what an allow-list cannot allow. So the two readings cannot differ, as
those of two parsers would. What is verified:

* What is called is a name, never what another call has returned.
* What is changed (`BUILD`, `APPENDS`, `SETITEMS`, `ADDITEMS`) is an object that this payload has
  made: never a class, a function, an enum member or another object that the process shares. Its
  state is set once, as the last thing: a state can hide the methods that are called for the rest.
* What is always allowed gets plain data only, so it calls nothing that its arguments bring along.

Whether a function, or a class whose `__new__` or `__init__` is written in Python, returns a new
object is known only when it has run. `Verified.unsure` says that a payload changes such an object;
then `contextcache.payload.allow_list` reads it with the unpickler of `checked_unpickler`, which
looks at the object.
"""

from __future__ import annotations

import pickle
from _codecs import encode as _encode
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from _thread import RLock, allocate_lock
from copyreg import _reconstructor  # type: ignore[attr-defined]
from enum import Enum
from io import BytesIO
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast
from zoneinfo import ZoneInfo

from contextcache.payload.class_rules import (
    COMPLETE,
    NEW,
    SHARED,
    UNSURE,
    ClassRules,
    defined,
    has_own_dict,
    is_allocator,
    only_data,
)
from contextcache.payload.loading import RefusedOperationError, UnlistedNameError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Verified(NamedTuple):
    """The result of a verification.

    Attributes:
        value: The value, if the payload uses no name at all.
        named: Whether it uses names, so that it has to be read again.
        unsure: Whether it changes an object that may turn out to be shared.
    """

    value: object
    named: bool
    unsure: bool


class Verifier:
    """Verify payloads against the names that they may use.

    Args:
        objects: What each name stands for, by module and qualified name.
        always: The objects of the names that are allowed without being listed.
    """

    def __init__(
        self, objects: Mapping[tuple[str, str], object], always: Iterable[object] = ()
    ) -> None:
        self._objects = objects
        self._always = {id(found): found for found in always}
        self._symbols: dict[tuple[str, str], object] = {}
        self.last_unsure = object()  # another one each time; threads need no lock to see it

    def verify(self, body: bytes) -> Verified:
        """Read a payload without running anything that it names.

        Raises:
            UnlistedNameError: It uses a name that is not listed.
            RefusedOperationError: It does with one what is not allowed.
            UnpicklingError: It is no pickle, or a damaged one.
        """
        before = self.last_unsure
        reader = _SymbolicUnpickler(body, self)
        try:
            value = reader.load()
        except (UnlistedNameError, RefusedOperationError, MemoryError, RecursionError):
            raise
        except Exception as error:
            raise pickle.UnpicklingError("a damaged pickle") from error
        return Verified(value, reader.named, self.last_unsure is not before)

    def shared(self, module: str, qualname: str) -> object:
        """Return what stands for an instance of an always allowed class that others may share."""
        return cast("_ClassSymbol", self.symbol(module, qualname)).instance(SHARED)

    def symbol(self, module: str, qualname: str) -> object:
        """Return what stands for a name while it is verified."""
        symbol = self._symbols.get((module, qualname))
        if symbol is None:
            found = listed(self._objects, module, qualname)
            data_only = id(found) in self._always
            if issubclass(type(found), type):
                symbol = _ClassSymbol("symbol", (_InstanceSymbol,), {"__slots__": ()})
                symbol.rules = ClassRules(cast("type", found), data_only=data_only)
                symbol.verifier = self
            else:
                symbol = _NameSymbol(f"{module}:{qualname}", found, self, data_only=data_only)
            symbol = self._symbols.setdefault((module, qualname), symbol)
        return symbol


def modern_name(module: str, qualname: str) -> tuple[str, str]:
    """Return the name that Python 3 has for one that protocols 0 to 2 may write for Python 2."""
    return NAME_MAPPING.get((module, qualname)) or (IMPORT_MAPPING.get(module, module), qualname)


def listed(objects: Mapping[tuple[str, str], object], module: str, qualname: str) -> object:
    """Return the object of a listed name, also of one that protocols 0 to 2 write for Python 2.

    Raises:
        UnlistedNameError: The name is not listed.
    """
    try:
        return objects[module, qualname]
    except KeyError:
        pass
    try:
        return objects[modern_name(module, qualname)]
    except KeyError:
        raise UnlistedNameError(module, qualname) from None


class _SymbolicUnpickler(pickle.Unpickler):
    def __init__(self, body: bytes, verifier: Verifier) -> None:
        super().__init__(BytesIO(body))
        self.named = False
        self._verifier = verifier

    def find_class(self, module: str, name: str) -> Any:
        self.named = True
        return self._verifier.symbol(module, name)

    def persistent_load(self, _pid: object) -> NoReturn:
        raise UnlistedNameError("a persistent id", "")


# --- Symbols --------------------------------------------------------------------------------------


class _ClassSymbol(type):
    """What stands for a class. CPython wants a type to make instances of (`NEWOBJ`)."""

    rules: ClassRules
    verifier: Verifier
    is_name = property(lambda _cls: True)  # of the class, and not of its instances

    def __call__(cls, *args: Any) -> object:
        cls.rules.check_arguments(args)
        return cls.instance(cls.rules.called)

    def instance(cls, status: int) -> _InstanceSymbol:
        made: _InstanceSymbol = object.__new__(cls)  # type: ignore[arg-type]
        made.status = status
        return made

    def _refuse(cls, *_args: object) -> NoReturn:
        raise RefusedOperationError(f"changes {cls.rules.name}, which is a class")

    __setitem__ = _refuse
    # Properties of a metaclass come before what the class defines for its instances.
    __setstate__ = property(_refuse)
    add = append = extend = property(_refuse)


class _Changeable:
    """What stands for an object that a call or `NEWOBJ` has returned."""

    __slots__ = ("status",)
    status: int

    def _change(self, name: str, verifier: Verifier) -> None:
        if self.status >= SHARED:
            raise RefusedOperationError(
                f"changes {name} again after its state was set"
                if self.status == COMPLETE
                else f"changes {name}, which others share"
            )
        if self.status == UNSURE:
            verifier.last_unsure = object()

    def __call__(self, *_args: object) -> NoReturn:
        raise RefusedOperationError("calls what another call has returned")


class _InstanceSymbol(_Changeable, metaclass=_ClassSymbol):
    """What stands for an instance of a class."""

    __slots__ = ()

    def __new__(cls, *args: Any, **keywords: Any) -> _InstanceSymbol:
        cls.rules.check_arguments((*args, *keywords.values()))
        return cls.instance(cls.rules.allocated)

    def _use(self, method: str) -> None:
        rules = type(self).rules
        if method not in rules.methods:
            raise RefusedOperationError(f"fills {rules.name}, which is no container")
        self._change(f"an instance of {rules.name}", type(self).verifier)

    def __setstate__(self, state: object) -> None:
        rules = type(self).rules
        self._change(f"an instance of {rules.name}", type(self).verifier)
        rules.check_state(state)
        self.status = COMPLETE

    def __setitem__(self, _key: object, _value: object) -> None:
        self._use("__setitem__")

    def append(self, _value: object) -> None:
        self._use("append")

    def extend(self, _values: object) -> None:
        self._use("extend" if "extend" in type(self).rules.methods else "append")

    def add(self, _value: object) -> None:
        self._use("add")


class _ResultSymbol(_Changeable):
    """What stands for an object that a function has returned."""

    __slots__ = ("_name", "_verifier", "function")

    def __init__(self, name: str, verifier: Verifier, function: object = None) -> None:
        self.status = UNSURE
        self.function = function
        self._name = name
        self._verifier = verifier

    def _use(self, *_args: object) -> None:
        self._change(f"what {self._name} has returned", self._verifier)

    def __setstate__(self, _state: object) -> None:
        self._use()
        self.status = COMPLETE

    __setitem__ = add = append = extend = _use


class _NameSymbol:
    """What stands for a function, or for another object that has a name."""

    __slots__ = ("_data_only", "_name", "_object", "_verifier")
    is_name = True

    def __init__(self, name: str, found: object, verifier: Verifier, *, data_only: bool) -> None:
        self._name = name
        self._object = found
        self._verifier = verifier
        self._data_only = data_only

    def __call__(self, *args: Any) -> object:
        if not callable(self._object):
            raise RefusedOperationError(f"calls {self._name}, which cannot be called")
        if self._object is restricted_getattr:
            return _attribute(self._verifier, args)
        if self._object is _reconstructor:
            return _reconstructed(args)
        if self._object is _encode and (len(args) != 2 or args[1] != "latin1"):
            raise RefusedOperationError("encodes a text as no pickler does")
        if self._data_only and not only_data(args):
            raise RefusedOperationError(f"calls {self._name} with what is no plain data")
        if self._object is _encode:  # by which protocols 0 to 2 write bytes
            return self._verifier.shared("builtins", "bytes")
        return _ResultSymbol(self._name, self._verifier, self._object)

    def _refuse(self, *_args: object) -> NoReturn:
        raise RefusedOperationError(f"changes {self._name}, which is shared")

    __setitem__ = __setstate__ = add = append = extend = _refuse


class _ZoneSymbol(_NameSymbol):
    """What stands for `ZoneInfo._unpickle`, the one method that a payload may call."""

    __slots__ = ()

    def __init__(self, verifier: Verifier) -> None:
        super().__init__("zoneinfo:ZoneInfo._unpickle", None, verifier, data_only=True)

    def __call__(self, *args: Any) -> object:
        if not only_data(args):
            raise RefusedOperationError(f"calls {self._name} with what is no plain data")
        return self._verifier.shared("zoneinfo", "ZoneInfo")


_LOCKS = (type(allocate_lock()), RLock)
_METHODS_OF_LOCKS = frozenset({
    "_acquire_restore", "_is_owned", "_release_save", "acquire", "locked", "release",
})  # fmt: skip


def restricted_getattr(owner: object, name: object) -> object:
    """Return an attribute that pickle finds with `getattr`, if data needs it.

    That is the class method that rebuilds a time zone, and the methods of its lock that a
    `threading.Condition` holds.

    Raises:
        UnlistedNameError: Another attribute is asked for.
    """
    if type(name) is str:
        if owner is ZoneInfo and name == "_unpickle":
            return ZoneInfo._unpickle  # type: ignore[attr-defined]
        if type(owner) in _LOCKS and name in _METHODS_OF_LOCKS:
            return getattr(owner, name)
    raise UnlistedNameError("builtins", "getattr")


def _attribute(verifier: Verifier, args: tuple[Any, ...]) -> object:
    """Return the symbol of what `restricted_getattr` returns."""
    match args:
        case (_ClassSymbol() as cls, str(name)) if cls.rules.cls is ZoneInfo:
            if name == "_unpickle":
                return _ZoneSymbol(verifier)
        case (_InstanceSymbol() as lock, str(name)) if type(lock).rules.cls is RLock:
            return _ResultSymbol(name, verifier)
        case (_ResultSymbol(function=found), str(name)) if found is allocate_lock:
            return _ResultSymbol(name, verifier)
    raise UnlistedNameError("builtins", "getattr")


def _reconstructed(args: tuple[Any, ...]) -> object:
    """Return the symbol of what `copyreg._reconstructor` makes, for protocols 0 and 1."""
    match args:
        case (_ClassSymbol() as cls, _ClassSymbol() as base, state) if issubclass(
            cls.rules.cls, base.rules.cls
        ) and not issubclass(cls.rules.cls, Enum):
            pass
        case _:
            raise RefusedOperationError("reconstructs what is no instance of a listed class")
    if base.rules.cls is not object:
        base.rules.check_arguments((state,))
    known = is_allocator(base.rules.cls) and has_own_dict(cls.rules.cls)
    plain = type(defined(base.rules.cls, "__init__")) is not FunctionType
    return cls.instance(NEW if known and plain else UNSURE)
