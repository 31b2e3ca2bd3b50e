"""How a class is named in the code of a module, and what the names in that code stand for."""

from __future__ import annotations

import ast
import builtins
import re
import sys
import types
from types import ModuleType
from typing import TYPE_CHECKING

from contextcache.base.introspection import qualified_name

if TYPE_CHECKING:
    from collections.abc import Iterable

UNKNOWN = object()

_SPELLED = {
    "_thread.lock": ("threading", "type(threading.Lock())"),
    "_thread.RLock": ("threading", "type(threading.RLock())"),
    "_thread._local": ("threading", "threading.local"),
    "weakref.ReferenceType": ("weakref", "weakref.ref"),
}
_TYPES = {id(cls): name for name, cls in vars(types).items() if isinstance(cls, type)}
_PUBLIC = {"_thread": "threading", "_weakrefset": "weakref"}


def is_type(expression: str, cls: type) -> str:
    """Return the test whether an expression is of this very class, for code of any module."""
    if id(cls) in _TYPES:
        return f"type({expression}) is types.{_TYPES[id(cls)]}"
    name: str = type.__dict__["__qualname__"].__get__(cls)
    known = getattr(builtins, name, None) is cls
    return (
        f"type({expression}) is {name}" if known else f'type({expression}).__qualname__ == "{name}"'
    )


class Names:
    """The names that pasted code uses, and the imports that its module lacks for them.

    Args:
        cls: The class that the code is pasted into.

    Attributes:
        imports: The lines to add.
    """

    def __init__(self, cls: type) -> None:
        module = sys.modules.get(cls.__module__)
        self._known: dict[str, object] = dict(vars(module)) if module is not None else {}
        self.imports: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._known or hasattr(builtins, name)

    def need(self, modules: Iterable[str]) -> None:
        """Import modules of the standard library where that has not been done."""
        self.imports |= {
            f"import {name}" for name in modules if self._known.get(name) is not sys.modules[name]
        }

    def resolve(self, node: ast.expr) -> object:
        """Return what a dotted name stands for in the module; `UNKNOWN` for anything else."""
        match node:
            case ast.Name(id=name):
                return self._known.get(name, getattr(builtins, name, UNKNOWN))
            case ast.Attribute(value=holder, attr=name):
                found = self.resolve(holder)
                if type(found) is ModuleType or type(found) is type:
                    return found.__dict__.get(name, UNKNOWN)
        return UNKNOWN

    def spell(self, cls: type) -> str:
        """Return the expression for a class in this module, noting its import; or nothing."""
        name = qualified_name(cls)
        if name in _SPELLED:
            module, spelled = _SPELLED[name]
            self.need((module,))
            return spelled
        last = name.rpartition(".")[2]
        if self._known.get(last, getattr(builtins, last, None)) is cls:
            return last
        if id(cls) in _TYPES:
            return f"types.{_TYPES[id(cls)]}" if self._known.get("types") is types else ""
        return self._imported(cls)

    def find(self, obj: object) -> str:
        """Return the name of an object that is a global of the module or its own; or nothing."""
        own = sys.modules.get(getattr(obj, "__module__", None) or "")
        for known in (self._known, vars(own) if own is not None else {}):
            for name, found in list(known.items()):
                if found is obj and name.isidentifier():
                    if known is self._known:
                        return name
                    if name not in self._known and not name.startswith("_") and own is not None:
                        self._import(f"from {own.__name__} import {name}", name, obj)
                        return name
        return ""

    def _import(self, line: str, name: str, obj: object) -> None:
        self.imports.add(line)
        self._known[name] = obj

    def used_in(self, lines: Iterable[str]) -> list[str]:
        """Return the imports that some lines of code need."""
        words = {word for line in lines for word in re.findall(r"\w+", line)}
        return sorted(one for one in self.imports if re.findall(r"\w+", one)[-1] in words)

    def _imported(self, cls: type) -> str:
        *parts, name = qualified_name(cls).split(".")
        if name.startswith("_"):
            return ""
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            module_name = _PUBLIC.get(path, path.lstrip("_"))
            module = sys.modules.get(module_name)
            if module is None or module.__dict__.get(name) is not cls:
                continue
            if "." in module_name:
                if name in self._known:
                    return ""
                self._import(f"from {module_name} import {name}", name, cls)
                return name
            if self._known.get(module_name, module) is not module:
                return ""
            if module_name not in self._known:
                self._import(f"import {module_name}", module_name, module)
            return f"{module_name}.{name}"
        return ""

    def is_type(self, expression: str, cls: type) -> str:
        """Return the test whether an expression is of this very class."""
        spelled = self.spell(cls)
        if spelled:
            return f"type({expression}) is {spelled}"
        name: str = type.__dict__["__qualname__"].__get__(cls)
        part = "__name__" if "." not in name else "__qualname__"
        return f'type({expression}).{part} == "{name}"'
