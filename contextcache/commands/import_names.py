"""Where a name that stands in a payload leads, if anywhere, found out without importing it.

Whoever can write to Redis chooses the names, so nothing here runs what a name stands for: what
has been imported is looked up in the dicts of its modules and classes, and what has not is looked
for as a file, and the name in its source. `importlib.util.find_spec` would import each package on
the way, and `getattr` calls a module's `__getattr__`, which may import as well.
"""

from __future__ import annotations

import ast
import functools
import sys
from enum import StrEnum
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder, SourceFileLoader
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from contextcache.base.syntax import parse

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


_Definitions: TypeAlias = "dict[str, _Definitions]"  # of a class, those inside of it

MAX_SOURCES = 500  # files that are read; each takes some 20 ms, and a payload may name them all
MAX_SOURCE_SIZE = 1_000_000  # bytes


class Standing(StrEnum):
    """What is known of a name."""

    PRESENT = "present"
    GONE = "gone"
    UNKNOWN = "unknown"


def standing(name: str, *, at_home: bool = True) -> Standing:
    """Tell whether `name` exists, as far as that can be told without running anything.

    Args:
        name: A class or function, as `module:qualname`.
        at_home: Whether this process has the path of the application. Where it does not, a
            package that is not there may well be where the application runs.
    """
    module_name, _, qualname = name.partition(":")
    parts = module_name.split(".")
    if not all(part.isidentifier() for part in parts):
        return Standing.GONE
    module = sys.modules.get(module_name)
    if isinstance(module, ModuleType):
        return _in_namespace(vars(module), qualname.split("."))
    return _in_files(parts, qualname, at_home=at_home)


def _in_namespace(namespace: Any, qualname: list[str]) -> Standing:
    """Look a name up as a chain of dicts, which runs no code of theirs."""
    first, *rest = qualname
    if first not in namespace:
        return Standing.UNKNOWN if "__getattr__" in namespace else Standing.GONE
    if not rest:
        return Standing.PRESENT
    holder = namespace[first]
    if not issubclass(type(holder), type):
        return Standing.UNKNOWN
    for base in type.__dict__["__mro__"].__get__(holder):
        found = _in_namespace(type.__dict__["__dict__"].__get__(base), rest)
        if found is not Standing.GONE:
            return found
    return Standing.GONE


def _in_files(parts: list[str], qualname: str, *, at_home: bool) -> Standing:
    path: Any = None
    spec: ModuleSpec | None = None
    for depth in range(len(parts)):
        dotted = ".".join(parts[: depth + 1])
        loaded = sys.modules.get(dotted)
        if loaded is not None and hasattr(type(loaded), "__dict__"):
            path = vars(loaded).get("__path__")
        else:
            spec = _find(dotted, path)
            if spec is None:
                certain = depth > 0 or (at_home and not _other_finders())
                return Standing.GONE if certain else Standing.UNKNOWN
            path = spec.submodule_search_locations
        if path is None and depth + 1 < len(parts):
            return Standing.GONE  # a module that is no package
    if spec is None or type(spec.loader) is not SourceFileLoader:
        return Standing.UNKNOWN
    return _in_source(spec.loader.path, qualname)


def _find(dotted: str, path: Any) -> ModuleSpec | None:
    for finder in (BuiltinImporter, FrozenImporter, PathFinder):
        spec = finder.find_spec(dotted, path)
        if spec is not None:
            return spec
    return None


def _other_finders() -> bool:
    """Tell whether modules may be where the three finders of Python do not look."""
    return any(
        getattr(finder, "__module__", "").startswith("__editable__") for finder in sys.meta_path
    )


def _in_source(file: str, qualname: str) -> Standing:
    """Look for a name among what the source of a module defines or imports."""
    if _definitions.cache_info().currsize >= MAX_SOURCES:
        return Standing.UNKNOWN
    defined = _definitions(file)
    if defined is None:
        return Standing.UNKNOWN
    for depth, wanted in enumerate(qualname.split(".")):
        if wanted not in defined:
            open_ended = "*" in defined or "__getattr__" in defined or depth > 0
            return Standing.UNKNOWN if open_ended else Standing.GONE
        defined = defined[wanted]
    return Standing.PRESENT


@functools.cache
def _definitions(file: str) -> _Definitions | None:
    """Return the names that a source file defines; None if it cannot be read."""
    try:
        with open(file, "rb") as source:  # ast wants the bytes, for their encoding
            text = source.read(MAX_SOURCE_SIZE + 1)
        return None if len(text) > MAX_SOURCE_SIZE else _names_in(parse(text).body)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


def _names_in(body: list[ast.stmt]) -> _Definitions:
    return {
        name: _names_in(node.body) if isinstance(node, ast.ClassDef) else {}
        for node in _statements(body)
        for name in _defined(node)
    }


def _statements(body: list[ast.stmt]) -> list[ast.stmt]:
    """Return the statements of a body, with those inside of `if`, `try` and `with`."""
    flat: list[ast.stmt] = []
    for node in body:
        flat.append(node)
        if isinstance(node, (ast.If, ast.Try, ast.With, ast.For, ast.While)):
            inner: list[Any] = [*node.body, *getattr(node, "orelse", ())]
            inner += [*getattr(node, "finalbody", ())]
            inner += [one for handler in getattr(node, "handlers", ()) for one in handler.body]
            flat += _statements(inner)
    return flat


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Import() | ast.ImportFrom():
            return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
        case ast.Assign():
            targets: list[ast.expr] = node.targets
        case ast.AnnAssign():
            targets = [node.target]
        case _:
            return []
    return [
        part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)
    ]
