"""An unpickler that looks at each object before it changes it.

It reads what `contextcache.payload.verifier` could not decide: payloads that change what a function
has returned, or an instance of a class whose `__new__` or `__init__` is written in Python. Such an
object is new if nothing but the unpickler refers to it, which CPython counts. An instance from a
cache, a singleton and an attribute dict that instances share are refused.
"""

from __future__ import annotations

import pickle
import sys
from gc import get_referents
from math import prod
from sys import getrefcount
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import getweakrefcount
from zoneinfo import ZoneInfo

from contextcache.payload.class_rules import DICT_DESCRIPTORS, ClassRules, defined
from contextcache.payload.loading import RefusedOperationError
from contextcache.payload.verifier import listed, restricted_getattr

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from io import BytesIO


# The unpickler in Python, whose operations can be extended; typeshed does not know them.
_Base: Any = pickle._Unpickler


class CheckedUnpickler(_Base):  # type: ignore[misc]
    """Unpickle a payload, and change only objects that it has made.

    Args:
        file: The payload.
        objects: What each name stands for, by module and qualified name.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_Base.dispatch)

    def __init__(self, file: BytesIO, objects: Mapping[tuple[str, str], object]) -> None:
        super().__init__(file)
        self._objects = objects
        self._names = {id(found) for found in objects.values()}
        self._callables = set(self._names)
        self._results: dict[int, object] = {}  # holds them, so that each keeps its id
        self._unchangeable: set[int] = set(self._names)
        self._excess: dict[int, int] = {}  # how many more references a new object has
        self._rules: dict[type, ClassRules] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return the object of a listed name."""
        return listed(self._objects, module, name)

    def persistent_load(self, _pid: object) -> Any:
        """Refuse: contextcache writes none."""
        raise RefusedOperationError("uses a persistent id")

    def _make(self, make: Any, args: Any, keywords: Any = {}) -> Any:  # noqa: B006  # never changed
        value, references = _counted(make, args, keywords)
        shared = getweakrefcount(value) > 0 or issubclass(type(value), _ALWAYS_SHARED)
        if shared or id(value) in self._results:
            self._unchangeable.add(id(value))
        elif references > _REFERENCES:
            self._excess[id(value)] = references - _REFERENCES
        self._results[id(value)] = value
        return value

    def _call(self, function: Any, args: Any) -> Any:
        if id(function) not in self._callables:
            raise RefusedOperationError("calls what another call has returned")
        value = self._make(function, args)
        if function is restricted_getattr and args[0] is ZoneInfo:  # its `_unpickle`
            self._callables.add(id(value))
        return value

    def _check(self, target: object, methods: tuple[str, ...]) -> None:
        """Raise `RefusedOperationError` unless the object is this payload's and incomplete."""
        excess = self._excess.pop(id(target), 0)
        if id(target) in self._unchangeable or (excess and _own_references(target) < excess):
            raise RefusedOperationError("changes an object that it has not made")
        if type(target) in _BASIC:
            return
        rules = self._rules_of(target)
        if methods and rules.methods.isdisjoint(methods):
            raise RefusedOperationError(f"fills {rules.name}, which is no container")
        attributes, references = _attributes(target)
        if references > _REFERENCES_TO_ATTRIBUTES:
            raise RefusedOperationError(f"changes {rules.name}, whose attributes are shared")
        if attributes and not attributes.keys().isdisjoint((*methods, "__setstate__")):
            raise RefusedOperationError(f"changes {rules.name}, whose methods are replaced")

    def _rules_of(self, target: object) -> ClassRules:
        cls = type(target)
        if cls not in self._rules:
            self._rules[cls] = ClassRules(cls)
        return self._rules[cls]

    def _instantiate(self, klass: Any, args: Any) -> None:
        if args or not isinstance(klass, type) or hasattr(klass, "__getinitargs__"):
            self.append(self._call(klass, args))
        else:
            self.append(self._make(klass.__new__, (klass,)))

    def _load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def _load_newobj(self) -> None:
        args = self.stack.pop()
        cls = self.stack.pop()
        self.stack.append(self._make(cls.__new__, (cls, *args)))

    def _load_newobj_ex(self) -> None:
        keywords = self.stack.pop()
        args = self.stack.pop()
        cls = self.stack.pop()
        self.stack.append(self._make(cls.__new__, (cls, *args), keywords))

    def _load_build(self) -> None:
        target, state = self.stack[-2:]
        self._check(target, ())
        self._rules_of(target).check_state(state)
        if defined(type(target), "__setstate__") is None:
            self.stack[-1] = _without_methods(state)
        layout = _layout(target)
        _Base.load_build(self)
        if layout is not None and not _has_layout(target, *layout):
            raise RefusedOperationError("changes the layout of a numpy.dtype")
        self._unchangeable.add(id(target))


def _checked(operation: Callable[[Any], None], depth: int, *methods: str) -> Callable[[Any], None]:
    """Return an operation of the unpickler that first looks at what it fills.

    Args:
        operation: The operation.
        depth: Where that is on the stack; 0 if it is the last below the mark.
        methods: What may be called to fill it.
    """

    def checked(self: Any) -> None:
        stack = self.stack if depth else self.metastack[-1]
        self._check(stack[-depth or -1], methods)
        operation(self)

    return checked


CheckedUnpickler.dispatch.update({
    pickle.REDUCE[0]: CheckedUnpickler._load_reduce,
    pickle.NEWOBJ[0]: CheckedUnpickler._load_newobj,
    pickle.NEWOBJ_EX[0]: CheckedUnpickler._load_newobj_ex,
    pickle.BUILD[0]: CheckedUnpickler._load_build,
    pickle.APPEND[0]: _checked(_Base.load_append, 2, "append"),
    pickle.APPENDS[0]: _checked(_Base.load_appends, 0, "extend", "append"),
    pickle.SETITEM[0]: _checked(_Base.load_setitem, 3, "__setitem__"),
    pickle.SETITEMS[0]: _checked(_Base.load_setitems, 0, "__setitem__"),
    pickle.ADDITEMS[0]: _checked(_Base.load_additems, 0, "add", "update"),
})  # fmt: skip

_BASIC = frozenset({bytearray, dict, list, set})
_ALWAYS_SHARED = (type, FunctionType, MethodType, ModuleType)


def _counted(make: Any, args: Any, keywords: Any) -> tuple[Any, int]:
    value = make(*args, **keywords)
    return value, getrefcount(value)


def _layout(target: Any) -> tuple[int, int] | None:
    """Return the flags and the size of a dtype of numpy, None for anything else."""
    numpy_dtype: Any = getattr(sys.modules.get("numpy"), "dtype", ())
    if isinstance(target, numpy_dtype):
        return target.flags & _NPY_OBJECTS, target.itemsize
    return None


def _has_layout(dtype: Any, flags: int, size: int) -> bool:
    """Return whether a dtype still means the memory that it meant before its state was set.

    numpy does not verify a state. It would take bytes for objects, or read behind the end.
    """
    fields = dtype.fields or {}
    parts = [(field[0], field[1], 1) for field in fields.values()]
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        parts.append((base, 0, prod(shape)))
    return (
        dtype.flags & _NPY_OBJECTS == flags
        and dtype.itemsize == size
        and set(dtype.names or ()) <= fields.keys()
        and all(
            not part.hasobject and 0 <= offset <= size - count * part.itemsize
            for part, offset, count in parts
        )
    )


_NPY_OBJECTS = (
    0b0100_0111  # NPY_ITEM_REFCOUNT, NPY_LIST_PICKLE, NPY_ITEM_IS_POINTER, NPY_USE_SETITEM
)


def _own_references(target: object) -> int:
    """Count the references to an object from what it alone holds, such as a list of itself."""
    count, pending = 0, [target]
    while pending:
        for referent, references in _counted_referents(pending.pop()):
            if referent is target:
                count += 1
            elif references <= _REFERENCES_TO_OWNED:
                pending.append(referent)
    return count


def _counted_referents(target: object) -> list[tuple[object, int]]:
    return [(referent, getrefcount(referent)) for referent in get_referents(target)]


def _without_methods(state: object) -> object:
    """Return a state with a plain dict: one of another class can hold an `items` of its own."""
    if type(state) is tuple:
        return tuple(map(_without_methods, state))
    if isinstance(state, dict) and type(state) is not dict:
        return dict(dict.items(state))
    return state


def _attributes(target: Any) -> tuple[Any, int]:
    """Return the attributes that would be changed, None if there are none, and how many refer."""
    attributes = getattr(target, "__dict__", None)
    if attributes is None:
        return None, 0
    descriptors = (vars(base).get("__dict__") for base in type(target).__mro__)
    own = next((found for found in descriptors if type(found) in DICT_DESCRIPTORS), None)
    if own is None or own.__get__(target) is not attributes:
        return None, sys.maxsize  # those of another object
    return attributes, getrefcount(attributes)


class _Plain:
    pass


# How many references there are to what nobody else refers to differs by version of Python.
_REFERENCES = _counted(object, (), {})[1]
_REFERENCES_TO_ATTRIBUTES = _attributes(_Plain())[1]
_REFERENCES_TO_OWNED = _counted_referents([object()])[0][1]
