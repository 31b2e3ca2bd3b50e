"""Where things come from: the line that sets a field, the line that stored a value.

Looked up only when a finding is reported to a developer; never on the way of a write.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any

from contextcache.paths import class_mro, qualified_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    Assignment = ast.Assign | ast.AnnAssign

_OWN = os.path.dirname(os.path.abspath(__file__))
_OWN_PACKAGES = tuple(_OWN + suffix + os.sep for suffix in ("", "_django", "_flask"))


def relative(path: str) -> str:
    """Return `path` relative to the library or working directory it lies in."""
    for base in (*_libraries(), os.getcwd() + os.sep):
        if path.startswith(base):
            return path[len(base) :]
    return path


def is_library(path: str) -> bool:
    """Tell whether the file at `path` belongs to Python, an installed package or contextcache."""
    return (
        path.startswith((*_libraries(), *_OWN_PACKAGES, "<"))
        or f"{os.sep}site-packages{os.sep}" in path
    )


@functools.cache
def _libraries() -> tuple[str, ...]:
    import sysconfig  # noqa: PLC0415  # reads a file of its own, and only a finding needs it

    # site-packages lies in the standard library's directory, so it comes first.
    paths = map(sysconfig.get_path, ("purelib", "platlib", "stdlib"))
    return tuple(os.path.join(path, "") for path in paths if path)


def is_own(cls: type) -> bool:
    """Tell whether `cls` is defined in the user's own code."""
    module = sys.modules.get(cls.__module__)
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and not is_library(path)


def call_site() -> str:
    """Return `file:line` of the innermost frame in the user's own code; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)  # 40x faster than inspect.stack
    while frame is not None:
        path = frame.f_code.co_filename
        if not is_library(path):
            return f"{relative(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def describe_view(view: Any, method: str = "") -> tuple[str, str]:
    """Return the dotted name of a view and its `file:line`.

    Decorators, partials and the functions that frameworks make of view classes are looked
    through; of a class, its method for the HTTP method is named where it is the class's own.

    Args:
        view: What the framework calls.
        method: The HTTP method of the request.
    """
    view = _unwrapped(view)
    if isinstance(view, type):
        handler = _unwrapped(getattr(view, method.lower(), None) or view)
        # A handler that the class inherits from a framework says less than the class itself.
        if getattr(handler, "__module__", None) == view.__module__:
            view = handler
    name = f"{view.__module__}.{view.__qualname__}"
    try:
        code = view.__code__
        file, line = code.co_filename, code.co_firstlineno
    except AttributeError:  # a class, or something written in C
        try:
            file, line = inspect.getsourcefile(view) or "", inspect.getsourcelines(view)[1]
        except (OSError, TypeError):
            return name, ""
    return name, f"{_spelling(file, view.__module__)}:{line}"


def _unwrapped(view: Any) -> Any:
    seen: set[int] = set()
    while id(view) not in seen:
        seen.add(id(view))
        if isinstance(view, functools.partial):
            view = view.func
        elif inspect.ismethod(view):
            view = view.__func__
        elif not isinstance(view, type):
            # Where Django and Flask, REST framework, and decorators keep what is behind a function.
            own = getattr(view, "__dict__", {})
            inner = (own[name] for name in ("view_class", "cls", "__wrapped__") if name in own)
            view = next(inner, view)
    return view if hasattr(view, "__qualname__") else type(view)  # an instance that is called


def _spelling(file: str, module: str) -> str:
    """Return the end of `file` that spells `module`, so that no path of the machine is shown."""
    parts = file.replace("\\", "/").split("/")
    length = module.count(".") + 1 + (parts[-1] == "__init__.py")
    return "/".join(parts[-length:])


def field_origin(cls: type, name: str) -> str:
    """Say which class sets the attribute `name` of `cls`, and on which line.

    Args:
        cls: The class of the object that holds the attribute.
        name: The attribute.

    Returns:
        `shop.api.Client._lock, set at shop/api.py:18: self._lock = threading.Lock()`, as much of it
        as the sources tell. Literals on the line are replaced by `…`: they may be secrets.
    """
    for base in class_mro(cls)[:-1]:
        found = _assignment(base, name)
        if found is not None:
            path, line, text = found
            return f"{qualified_name(base)}.{name}, set at {relative(path)}:{line}: {text}"
    return f"{qualified_name(cls)}.{name}"


@functools.lru_cache(maxsize=512)
def _assignment(cls: type, name: str) -> tuple[str, int, str] | None:
    try:
        path = inspect.getsourcefile(cls)
        lines, first = inspect.getsourcelines(cls)
        # Below an `if`, a nested class may stay indented as it is, multi-line strings included.
        above = "if 1:\n" if lines[0][:1].isspace() else "\n"
        tree = ast.parse(above + "".join(lines))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)), None)
    if path is None or found is None:
        return None
    best: dict[int, Assignment] = {}  # what a method assigns, what the class does, what it declares
    for node, in_method in _assignments(found):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if any(_sets(target, name, in_method) for target in targets):
            best.setdefault(2 if node.value is None else 1 - in_method, node)
    if not best:
        return None
    node = best[min(best)]
    return path, first + node.lineno - 2, _without_literals(node)


def _assignments(node: ast.AST, in_method: bool = False) -> Iterator[tuple[Assignment, bool]]:
    """Yield the assignments of a class, not those of the classes in it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Assign, ast.AnnAssign)):
            yield child, in_method
        elif not isinstance(child, ast.ClassDef):
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from _assignments(child, in_method or function)


def _sets(target: ast.expr, name: str, in_method: bool) -> bool:
    match target:
        case ast.Attribute(value=ast.Name(id="self"), attr=attr):
            return in_method and attr == name
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return any(_sets(element, name, in_method) for element in elements)
        case ast.Starred(value=inner):
            return _sets(inner, name, in_method)
        case ast.Name(id=own):  # in a method it is a local variable
            return own == name and not in_method
    return False


class _Elided(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return node if node.value is None or isinstance(node.value, bool) else ast.Name("…")

    def visit_JoinedStr(self, _node: ast.JoinedStr) -> ast.expr:
        return ast.Name("…")

    visit_TemplateStr = visit_JoinedStr  # noqa: N815  # of Python 3.14


def _without_literals(node: ast.stmt) -> str:
    text = ast.unparse(_Elided().visit(ast.parse(ast.unparse(node)).body[0]))
    return text if len(text) <= 80 else text[:79] + "…"
