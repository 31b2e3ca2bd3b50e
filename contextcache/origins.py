"""Where things come from: the line that sets a field, the line that stored a value.

Looked up only when a finding is reported to a developer; never on the way of a write.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import os
import sys
import sysconfig
from typing import TYPE_CHECKING

from contextcache.paths import class_mro, qualified_name

if TYPE_CHECKING:
    from types import FrameType

_OWN = os.path.dirname(os.path.abspath(__file__))
_LIBRARIES = tuple(
    path + os.sep
    for path in {
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    }
    if path
)
_OWN_PACKAGES = tuple(_OWN + suffix + os.sep for suffix in ("", "_django", "_flask"))


def relative(path: str) -> str:
    """Return `path` relative to the working directory where it lies below it."""
    base = os.getcwd() + os.sep
    return path[len(base) :] if path.startswith(base) else path


def is_library(path: str) -> bool:
    """Tell whether the file at `path` belongs to Python, an installed package or contextcache."""
    return (
        path.startswith((*_LIBRARIES, *_OWN_PACKAGES, "<"))
        or f"{os.sep}site-packages{os.sep}" in path
    )


def is_own(cls: type) -> bool:
    """Tell whether `cls` is defined in the user's own code."""
    module = sys.modules.get(cls.__module__)
    path = getattr(module, "__file__", None)
    return isinstance(path, str) and not is_library(path)


def call_site() -> str:
    """Return `file:line` of the innermost frame in the user's own code; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # 40x faster than inspect.stack
    while frame is not None:
        path = frame.f_code.co_filename
        if not is_library(path):
            return f"{relative(path)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


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
        tree = ast.parse(
            inspect.cleandoc("\n" + "".join(lines)) if lines[0][:1].isspace() else "".join(lines)
        )
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    if path is None:
        return None
    linecache.checkcache(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        else:
            continue
        if any(_sets(target, name) for target in targets):
            return path, first + node.lineno - 1, _without_literals(node)
    return None


def _sets(target: ast.expr, name: str) -> bool:
    if isinstance(target, ast.Attribute):
        return (
            isinstance(target.value, ast.Name) and target.value.id == "self" and target.attr == name
        )
    if isinstance(target, ast.Tuple):
        return any(_sets(element, name) for element in target.elts)
    return isinstance(target, ast.Name) and target.id == name


class _Elided(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        return node if node.value is None or isinstance(node.value, bool) else ast.Name("…")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        return ast.Name("…")


def _without_literals(node: ast.stmt) -> str:
    text = ast.unparse(_Elided().visit(ast.parse(ast.unparse(node)).body[0]))
    return text if len(text) <= 80 else text[:79] + "…"
