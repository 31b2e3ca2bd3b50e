"""Markers: what becomes of a field, said beside the field.

A rule speaks of a type wherever it occurs; a marker of one field of one class. Nothing is
reported of a field that is marked, because its author has said what is right::

    class Client:
        _lock: Annotated[threading.Lock, Recreate]

or, where a field has no annotation, above the class::

    @Recreate("_lock")
    @LeaveOut("_rows")
    class Client: ...
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
import sys
import types
import typing
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.base.masking import masked, type_text
from contextcache.base.syntax import parse_expression
from contextcache.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_Class = TypeVar("_Class", bound=type)
_DECLARED = "__contextcache__"


class Marker(StrEnum):
    """What becomes of a field that is marked with it."""

    LEAVE_OUT = "leave out"
    RECREATE = "recreate"
    SNAPSHOT = "snapshot"
    ALLOW = "allow"

    def __call__(self, *names: str) -> Callable[[_Class], _Class]:
        """Return a class decorator that marks fields by their names.

        Args:
            names: The attributes, as instances hold them.

        Raises:
            ConfigurationError: There is no name, or one is no string.
        """
        if not names or not all(type(name) is str for name in names):
            raise ConfigurationError(f'a marker names fields: @{self.name.title()}("_lock")')

        def decorate(cls: _Class) -> _Class:
            own = vars(cls).get(_DECLARED, {})
            setattr(cls, _DECLARED, {**own, **dict.fromkeys(names, self)})
            return cls

        return decorate


LeaveOut = Marker.LEAVE_OUT
"""The field is not stored; on load it is what its class says, or missing."""

Recreate = Marker.RECREATE
"""The field is a new one on load: an unlocked lock, or what its type makes without arguments."""

Snapshot = Marker.SNAPSHOT
"""What the field holds now is stored in its place."""

Allow = Marker.ALLOW
"""The field is stored as pickle stores it; what is in it is judged by itself."""


_BY_NAME = {"LeaveOut": LeaveOut, "Recreate": Recreate, "Snapshot": Snapshot, "Allow": Allow}
_MISSING = object()
_WRAPPERS = (  # around an `Annotated` of the field's own; that of a list's items is another matter
    *(typing.Union, types.UnionType, typing.Optional, typing.ClassVar, typing.Final),
    *(typing.Required, typing.NotRequired, getattr(typing, "ReadOnly", _MISSING)),
)


def declared(cls: type, failed: Callable[[str, Exception], None]) -> Mapping[str, Marker]:
    """Return the markers of the fields of `cls`, those of its bases included.

    The type in an annotation is not evaluated: it may exist for type checkers only.

    Args:
        cls: Any class.
        failed: Called where a marker cannot be read, with its name and the reason.
    """
    found: dict[str, Marker] = {}
    for base in reversed(class_mro(cls)[:-1]):
        own = type.__dict__["__dict__"].__get__(base)  # whatever its metaclass says
        for name, hint in _annotations(base, own).items():
            try:
                marker = _marker(hint, _namespaces(own))
            except (RecursionError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001  # such as text that is no expression
                if type(hint) is str and any(one in hint for one in _BY_NAME):
                    failed(f"the marker of {type_text(qualified_name(base))}.{masked(name)}", error)
                continue
            if marker is not None:
                found[name] = marker
        decorated = own.get(_DECLARED)
        if type(decorated) is dict:
            found.update(decorated)
    return found


def _annotations(cls: type, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the annotations of `cls` itself; none where it has something else by that name."""
    hints = own.get("__annotations__", own.get("__annotations_cache__"))
    if sys.version_info >= (3, 14) and hints is None and _annotate(own) is not None:
        hints = _deferred_annotations(cls)
    return hints if type(hints) is dict else {}


def _annotate(own: Mapping[str, Any]) -> Any:
    """Return the function of Python 3.14 and later that makes the annotations of a class."""
    return own.get("__annotate_func__", own.get("__annotate__"))


def _deferred_annotations(cls: type) -> dict[str, Any]:
    """Return annotations that Python evaluates on demand, as text where a name is missing."""
    from annotationlib import (  # type: ignore[import-not-found]  # noqa: PLC0415  # since 3.14
        Format,
        ForwardRef,
        get_annotations,
    )

    found: dict[str, Any] = {}
    for form in (Format.FORWARDREF, Format.STRING):
        try:
            hints = get_annotations(cls, format=form)
        except (RecursionError, MemoryError):
            raise
        except Exception:  # noqa: BLE001, S112  # whatever evaluating an annotation may raise
            continue
        found = {**hints, **found}
        missing = {name for name, hint in found.items() if type(hint) is ForwardRef}
        if not missing:
            break
        found = {name: hint for name, hint in found.items() if name not in missing}
    return found


def _namespaces(own: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    """Return where the names in the annotations of a class are looked up, innermost first."""
    module = own.get("__module__")
    found = sys.modules.get(module) if type(module) is str else None
    annotate = _annotate(own)
    enclosing = {}
    if type(annotate) is types.FunctionType and annotate.__closure__:
        for name, cell in zip(annotate.__code__.co_freevars, annotate.__closure__, strict=True):
            with contextlib.suppress(ValueError):  # an empty cell
                enclosing[name] = cell.cell_contents
    return own, enclosing, getattr(found, "__dict__", {}), vars(builtins)


def _marker(hint: Any, names: Iterable[Mapping[str, Any]]) -> Marker | None:
    """Return the marker in an annotation, which may be text, or the name of another one."""
    if type(hint) is typing.ForwardRef:
        hint = hint.__forward_arg__
    if type(hint) is str:
        return _marker_in(_parsed(hint), names)
    if type(hint) is getattr(typing, "TypeAliasType", None):  # `type Lock = Annotated[...]`
        return _marker(hint.__value__, names)
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        own = filter(None, (_as_marker(one, names) for one in hint.__metadata__))
        return next(own, None) or _marker(hint.__origin__, names)
    if any(origin is wrapper for wrapper in _WRAPPERS):
        held = (_marker(one, names) for one in typing.get_args(hint))
        return next(filter(None, held), None)
    if type(origin) is getattr(typing, "TypeAliasType", None):
        return _marker(origin, names)
    return None


@functools.lru_cache(maxsize=512)
def _parsed(text: str) -> ast.expr:
    return parse_expression(text)


def _marker_in(node: ast.expr, names: Iterable[Mapping[str, Any]]) -> Marker | None:
    """Return the marker in the text of an annotation."""
    match node:
        case ast.Constant(value=str(text)):  # in quotes
            return _marker_in(_parsed(text), names)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _marker_in(left, names) or _marker_in(right, names)
        case ast.Name() | ast.Attribute():
            return _marker_of_alias(node, _lookup(node, names), names)
        case ast.Subscript(value=origin, slice=inside):
            parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
            wrapper = _lookup(origin, names)
            if wrapper is typing.Annotated or (
                wrapper is _MISSING and _last(origin) == "Annotated"
            ):
                own = filter(None, (_as_marker(part, names) for part in parts[1:]))
                return next(own, None) or _marker_in(parts[0], names)
            if any(wrapper is one for one in _WRAPPERS):
                return next(filter(None, (_marker_in(part, names) for part in parts)), None)
            return _marker_of_alias(origin, wrapper, names)
    return None


def _marker_of_alias(
    node: ast.expr, alias: Any, names: Iterable[Mapping[str, Any]]
) -> Marker | None:
    """Return the marker in what a name stands for, which may be text in its turn."""
    if type(alias) is str:
        while isinstance(node, ast.Attribute):
            node = node.value
        names = ({getattr(node, "id", ""): _MISSING}, *names)  # else it might stand for itself
    return _marker(alias, names)


def _as_marker(part: Any, names: Iterable[Mapping[str, Any]]) -> Marker | None:
    """Return the marker that `part` of the metadata is, or names."""
    if type(part) is typing.ForwardRef:
        part = _parsed(part.__forward_arg__)
    if isinstance(part, ast.expr):
        found = _lookup(part, names)
        part = _BY_NAME.get(_last(part)) if found is _MISSING else found
    return part if type(part) is Marker else None


def _lookup(node: ast.expr, names: Iterable[Mapping[str, Any]]) -> Any:
    """Return what a name in an annotation stands for; only modules and classes have attributes."""
    if isinstance(node, ast.Name):
        return next((space[node.id] for space in names if node.id in space), _MISSING)
    if not isinstance(node, ast.Attribute):
        return _MISSING
    holder = _lookup(node.value, names)
    if not issubclass(type(holder), (types.ModuleType, type)):
        return _MISSING
    return getattr(holder, node.attr, _MISSING)


def _last(node: ast.expr) -> str:
    """Return the last part of a dotted name."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
