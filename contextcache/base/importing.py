"""Which classes and functions pickle finds again by their names, here and in other processes."""

from __future__ import annotations

import copyreg
import os
import pickle
import sys
import weakref
from importlib import import_module
from importlib.machinery import (
    ExtensionFileLoader,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from itertools import pairwise
from types import ModuleType
from typing import Any

from contextcache.base.introspection import mangled

MAIN = ("__main__", "__mp_main__")
_FILE_LOADERS = (SourceFileLoader, SourcelessFileLoader, ExtensionFileLoader)


def importable(obj: Any, name: str = "") -> bool:
    """Return True if pickle finds `obj`, a class or function, by its name in any process."""
    found = _found(obj, name)
    return found is not None and _is_shared(*found)


def is_only_here(obj: Any) -> bool:
    """Return True if pickle finds `obj`, a class or function, by its name in this process alone."""
    found = _found(obj, "")
    return found is not None and not _is_shared(*found)


def _found(obj: Any, name: str) -> tuple[str, str, object] | None:
    """Return the name of the module, that of `obj` in it, and the module; None if there is none."""
    try:
        name = name or obj.__qualname__
        if "<" in name:  # <lambda>, <locals>
            return None
        module_name = getattr(obj, "__module__", None)
        if not isinstance(module_name, str):
            module_name = pickle.whichmodule(obj, name)  # type: ignore[attr-defined]
        module = found = sys.modules.get(module_name) or import_module(module_name)
        for part in _stored_names(name):
            found = getattr(found, part)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # a module that cannot be imported has nothing to find
        return None
    return (module_name, name, module) if found is obj else None


def _stored_names(qualname: str) -> list[str]:
    """Return the parts of a name as pickle stores them: private ones as Python mangles them."""
    names = qualname.split(".")
    if sys.version_info >= (3, 15) and ".__" in qualname:
        return names[:1] + [mangled(name, holder) for holder, name in pairwise(names)]
    return names


def _is_shared(module_name: str, name: str, module: Any) -> bool:
    """Return False if it is certain that no other process finds `name` by importing the module."""
    if _extension_codes and (module_name, name) in _extension_codes:
        return False  # it is stored as a number, which only this process has registered
    if module_name in MAIN or not issubclass(type(module), ModuleType):
        return True
    namespace = _namespace(module)
    first = name.partition(".")[0]
    if first not in namespace and "__getattr__" in namespace:
        return _is_defined(getattr(module, first))
    if _importable.get(module_name) is module:
        return True
    if not _is_importable_module(module_name, namespace):
        return False
    _importable[module_name] = module
    return True


_importable: weakref.WeakValueDictionary[str, ModuleType] = weakref.WeakValueDictionary()
"""Modules that other processes can import, by their names: asking for a file takes 2 us."""


_extension_codes: dict[tuple[str, str], int] = getattr(copyreg, "_extension_registry", {})


_namespace: Any = ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]


def _is_defined(obj: Any) -> bool:
    """Return True if a module holds `obj` under its own name, from where others can take it."""
    name = str(getattr(obj, "__name__", ""))
    return any(
        _namespace(module).get(name) is obj
        for module in list(sys.modules.values())
        if issubclass(type(module), ModuleType)
    )


def _is_importable_module(name: str, namespace: dict[str, Any]) -> bool:
    """Return False for a module that this process made: without a file, or from one that is gone.

    One without a file may also come from a loader of its own, or from the package it belongs to,
    such as those that an extension module brings along. If in doubt, it is importable.
    """
    spec = namespace.get("__spec__")
    file, loader = namespace.get("__file__"), None
    if type(spec) is ModuleSpec and spec.loader is not None:
        loader = spec.loader
        file = spec.origin if type(loader) in _FILE_LOADERS else None
    if type(file) is str and not file.startswith("<"):
        is_gone = os.path.isabs(file) and not os.path.exists(file) and not _was_on_path(file)
        return not is_gone or _can_be_found(name)
    if loader is None and namespace.get("__path__") is None:
        return _can_be_found(name) or _may_come_with_package(name)
    return loader is None or type(loader).__module__.startswith(_OF_PYTHON) or _can_be_found(name)


_OF_PYTHON = ("_frozen_importlib", "importlib", "zipimport", "builtins")


def _was_on_path(file: str) -> bool:
    """Return True if the whole directory of imports is gone, as that of an earlier release."""
    return any(
        file.startswith(os.path.join(entry, "")) and not os.path.exists(entry)
        for entry in sys.path
        if entry
    )


def _can_be_found(name: str) -> bool:
    """Return True if an import would find a module of this name, were it not there already."""
    package = sys.modules.get(name.rpartition(".")[0])
    path = getattr(package, "__path__", None)
    if "." in name and path is None:
        return False
    try:
        return any(
            finder.find_spec(name, path) is not None
            for finder in list(sys.meta_path)
            if hasattr(finder, "find_spec")
        )
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # a finder that fails decides nothing
        return True


def _may_come_with_package(name: str) -> bool:
    """Return True if importing the package of a module may make the module, too."""
    package_name, _, last = name.rpartition(".")
    package = sys.modules.get(package_name)
    if not issubclass(type(package), ModuleType):
        return bool(package_name)
    namespace = _namespace(package)
    if not _is_importable_module(package_name, namespace):
        return False
    file = namespace.get("__file__")
    if type(file) is not str or not file.endswith(".py"):
        return True
    try:
        with open(file, "rb") as opened:
            source = opened.read()
    except OSError:
        return True
    return any(word in source for word in (last.encode(), b"sys.modules", b"import"))
