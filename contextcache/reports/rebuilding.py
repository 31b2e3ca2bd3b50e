"""Methods with which an object loads that pickle stores, but does not load as it was.

The constructor is not called again: it may want other arguments than the object keeps, and may
change what it is given. Content is put back by the builtin class, for the same reason.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from typing import TYPE_CHECKING

from contextcache.base.introspection import attributes, class_mro, slot_values
from contextcache.reports.call_site import is_own
from contextcache.reports.class_patches import into, keeps_only_args, pickles_plainly
from contextcache.reports.field_makers import copied
from contextcache.reports.spelling import Names

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOKUPS = ("__getattr__", "__getattribute__")
_ITEMS: Sequence[tuple[type, str, str]] = (
    (OrderedDict, "list({0}.items(self))", "for item in items: {0}.__setitem__(self, *item)"),
    (dict, "list(dict.items(self))", "dict.update(self, items)"),
    (list, "list(list.__iter__(self))", "list.extend(self, items)"),
    (set, "list(set.__iter__(self))", "set.update(self, items)"),
)
"""Builtin containers: what is stored of their content, and how it is put back."""


def rebuilt(obj: object) -> str:
    """Return the methods to paste into the class of `obj`; empty where nothing is sure to help."""
    cls = type(obj)
    if not is_own(cls) or not pickles_plainly(cls):
        return ""
    names = Names(cls)
    lines: list[str] = []
    if issubclass(cls, BaseException):
        lines = _exception(names) if keeps_only_args(cls) else []
    elif issubclass(cls, (dict, list, set)):
        lines = _container(cls, names)
    elif any(name in base.__dict__ for base in class_mro(cls)[:-1] for name in _LOOKUPS):
        lines = [
            "def __getstate__(self):",
            "    return self.__dict__",
            "",
            "def __setstate__(self, state):",
            "    self.__dict__.update(state)",
        ]
    else:
        lines = _by_arguments(obj)
    has_slots = bool(slot_values(obj))
    return into(cls, lines, names) if lines and not has_slots else ""


def _exception(names: Names) -> list[str]:
    """Return the method for an exception that keeps its state in `args` and its attributes."""
    names.need(("copyreg",))
    return [
        "def __reduce__(self):",
        "    return copyreg.__newobj__, (type(self), *self.args), self.__dict__",
    ]


def _container(cls: type, names: Names) -> list[str]:
    builtin = next(base for base in class_mro(cls) if not is_own(base))
    if not any(builtin is base for base in (dict, OrderedDict, defaultdict, Counter, list, set)):
        return []
    base, items, put = next(row for row in _ITEMS if issubclass(builtin, row[0]))
    spelled = names.spell(base)
    names.need(("copyreg",))
    more = ["default_factory"] if builtin is defaultdict else []
    parts = ["self.__dict__", *(f"self.{name}" for name in more), items.format(spelled)]
    return [
        "def __reduce__(self):",
        f"    state = {', '.join(parts)}",
        "    return copyreg.__newobj__, (type(self),), state",
        "",
        "def __setstate__(self, state):",
        f"    {', '.join(['attributes', *(f'self.{name}' for name in more), 'items'])} = state",
        "    self.__dict__.update(attributes)",
        *(f"    {line}" for line in put.format(spelled).replace(": ", ":\n    ").split("\n")),
    ]


def _by_arguments(obj: object) -> list[str]:
    """Return the method that calls the constructor with all that it has set, and nothing else."""
    cls = type(obj)
    wanted = _parameters(cls)
    given = {name: attr for attr, name in copied(cls).items()}
    has_new = any("__new__" in base.__dict__ for base in class_mro(cls)[:-1])
    if not has_new or not wanted or set(wanted) != set(given):
        return []
    if attributes(obj).keys() != set(given.values()):
        return []
    arguments = ", ".join(f"self.{given[name]}" for name in wanted)
    return ["def __reduce__(self):", f"    return type(self), ({arguments},)"]


def _parameters(cls: type) -> list[str]:
    """Return the names of what the constructor of `cls` wants; none where it says `*args`."""
    inits = (base.__dict__["__init__"] for base in class_mro(cls) if "__init__" in base.__dict__)
    code = getattr(next(inits), "__code__", None)
    if code is None or code.co_flags & 0x0C or code.co_kwonlyargcount:  # CO_VARARGS, CO_VARKEYWORDS
        return []
    return list(code.co_varnames[1 : code.co_argcount])
