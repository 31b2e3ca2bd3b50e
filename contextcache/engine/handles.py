"""Objects of libraries that are of no use without a handle of C: a pointer, a capsule.

Such an object could be stored without its handle, and a reader would get an error of the library
for the first thing he does with it. So it is cut whole, at the field of the application's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contextcache.base.classes import is_standard
from contextcache.base.introspection import attributes, base_names, qualified_name
from contextcache.findings.path import StepKind
from contextcache.reports.call_site import file_of, is_installed
from contextcache.rules.verdicts import REFUSES

if TYPE_CHECKING:
    from contextcache.engine.hits import Hit
    from contextcache.engine.nodes import Node

MAX_LEVELS = 8  # objects of a library between the field and the handle

_HANDLES = frozenset({
    "_ctypes._SimpleCData", "_ctypes._Pointer", "_ctypes.CFuncPtr", "_ctypes.Structure",
    "_ctypes.Union", "_ctypes.Array", "PyCapsule", "_cffi_backend._CDataBase",
    "_cffi_backend.CData", "SwigPyObject", "SwigPyPacked",
})  # fmt: skip


def lost_handle(hit: Hit, node: Node | None) -> tuple[type, ...]:
    """Return the classes of the library's objects on the way to a handle, the outermost first.

    Args:
        hit: The offender, which may be a handle.
        node: Where it is.
    """
    if hit.rule is not REFUSES or not is_handle(type(hit.leaf)):
        return ()
    classes: list[type] = []
    while node is not None and node.parent is not None:
        step, holder = node.step, node.parent.obj
        if step is None or step.kind is not StepKind.ATTRIBUTE or not _is_installed(type(holder)):
            break
        classes.append(type(holder))
        node = node.parent
    return tuple(reversed(classes))


def is_handle(cls: type) -> bool:
    """Return True if pickle refuses objects of `cls` because C keeps what they stand for."""
    names = base_names(cls)
    last = [name.rpartition(".")[2] for name in names]
    return not _HANDLES.isdisjoint(names + last) or _is_extension(cls)


def holds_handle(obj: object, refused: frozenset[str], levels: int = MAX_LEVELS) -> bool:
    """Return True if an object of a library holds a handle, or another one that does.

    Args:
        obj: The object.
        refused: The names of the types of handles that pickle has refused.
        levels: How deep to look.
    """
    for held in attributes(obj).values():
        cls = type(held)
        if qualified_name(cls) in refused:
            return True
        is_inside = levels and held is not obj and _is_installed(cls)
        if is_inside and holds_handle(held, refused, levels - 1):
            return True
    return False


def _is_installed(cls: type) -> bool:
    """Return True if `cls` comes with an installed package, and not with Python."""
    return is_installed(cls) and not is_standard(cls)


def _is_extension(cls: type) -> bool:
    """Return True if an installed package has written `cls` in C."""
    return _is_installed(cls) and file_of(cls).endswith((".so", ".pyd"))
