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

import sys
import typing
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from contextcache.exceptions import ConfigurationError
from contextcache.paths import class_mro, qualified_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

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


_NAMES = ("LeaveOut", "Recreate", "Snapshot", "Allow")


def declared(cls: type, failed: Callable[[str, Exception], None]) -> Mapping[str, Marker]:
    """Return the markers of the fields of `cls`, those of its bases included.

    Args:
        cls: Any class.
        failed: Called where an annotation cannot be read, with its name and the reason.
    """
    found: dict[str, Marker] = {}
    for base in reversed(class_mro(cls)[:-1]):
        for name, hint in _annotations(base):
            try:
                marker = _marker(hint, base)
            except Exception as error:  # noqa: BLE001  # whatever evaluating a name may raise
                failed(f"the marker of {qualified_name(base)}.{name}", error)
                continue
            if marker is not None:
                found[name] = marker
        own = base.__dict__.get(_DECLARED)
        if type(own) is dict:
            found.update(own)
    return found


def _annotations(cls: type) -> Iterator[tuple[str, Any]]:
    if sys.version_info >= (3, 14):
        from annotationlib import Format, get_annotations  # noqa: PLC0415

        yield from get_annotations(cls, format=Format.FORWARDREF).items()
        return
    own = cls.__dict__.get("__annotations__")  # noqa: RUF063  # inspect takes long to import
    if type(own) is dict:
        yield from own.items()


def _marker(hint: Any, cls: type) -> Marker | None:
    """Return the marker in an annotation, which may still be text, or the name of another."""
    if type(hint) is str:
        names = vars(sys.modules.get(cls.__module__, typing))
        marked = "Annotated[" in hint and any(name in hint for name in _NAMES)
        # Only what its author wrote to be read here is evaluated, as typing would.
        hint = eval(hint, {**names}, {**vars(cls)}) if marked else names.get(hint)  # noqa: S307
    if typing.get_origin(hint) is not typing.Annotated:
        return None
    return next((one for one in hint.__metadata__ if type(one) is Marker), None)
