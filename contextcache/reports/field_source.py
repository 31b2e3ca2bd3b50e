"""The line that sets a field, read from the source of its class.

Literals are never shown: they may be secrets. Nothing here runs code of the class.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contextcache.base.classes import once_per_class
from contextcache.base.introspection import class_mro, qualified_name, unmangled
from contextcache.base.masking import masked, type_text
from contextcache.base.syntax import parse, source_lines
from contextcache.reports.call_site import is_own, relative

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from importlib.metadata import PackagePath

    Function = ast.FunctionDef | ast.AsyncFunctionDef
    Found = tuple[int, ast.stmt, ast.expr | None, Function | None]

LONGEST_LINE = 80  # characters of a statement that are shown


@dataclass(frozen=True, slots=True)
class Setting:
    """The statement that gives a field its value, or the nearest thing to one.

    Attributes:
        cls: The class that says it.
        name: The field.
        line: The line in the file of the class; 0 where no source says anything about the field.
        how: The word for what stands there: `set`, `made` or `declared`.
        node: The statement.
        value: The expression whose value the field gets, where there is one.
        method: The method it stands in, where it stands in one.
    """

    cls: type
    name: str
    line: int = 0
    how: str = ""
    node: ast.stmt | None = None
    value: ast.expr | None = None
    method: Function | None = None

    def __str__(self) -> str:
        """Say class, field, file, line and statement: `shop.api.Client._lock, set at ...`."""
        name = self.name if self.node is not None else masked(self.name)  # nobody wrote it down
        told = f"{type_text(qualified_name(self.cls))}.{name}"
        file, first = class_place(self.cls)
        if not file:
            return told
        if self.node is None:
            return f"{told}, not set by its class ({relative(file)}:{first})"
        return f"{told}, {self.how} at {relative(file)}:{self.line}: {shown(self.node, self.name)}"


def field_setting(cls: type, name: str) -> Setting:
    """Find which class of those of `cls` sets the attribute `name`, and on which line.

    Args:
        cls: The class of the object that holds the attribute.
        name: The attribute, as the instance has it: a private name is mangled.
    """
    for base in class_mro(cls)[:-1]:
        found = _best(base, name)
        if found is not None:
            return found
    return Setting(cls, name)


def field_values(cls: type, name: str) -> list[Setting]:
    """Return every statement of the classes of `cls` that gives the attribute `name` a value."""
    return [
        setting
        for base in class_mro(cls)[:-1]
        for _, setting in _settings(base, name)
        if setting.how != "declared"
    ]


def field_origin(cls: type, name: str) -> str:
    """Say which class sets the attribute `name` of `cls`, and on which line."""
    setting = field_setting(cls, name)
    package = package_of(setting.cls)
    return f"{setting} ({package})" if package else str(setting)


def package_of(cls: type) -> str:
    """Return package and version of a class that is not the user's own, such as `redis 8.1.0`."""
    return "" if is_own(cls) else _package(cls.__module__)


@functools.cache
def _package(module: str) -> str:
    from importlib import metadata  # noqa: PLC0415  # reads the disk, and only a developer needs it

    top = module.partition(".")[0]
    if top == "builtins":
        return ""
    if top in sys.stdlib_module_names:
        return f"Python {sys.version_info.major}.{sys.version_info.minor}"
    names = list(dict.fromkeys(metadata.packages_distributions().get(top, ()))) or [top]
    if len(names) > 1:  # which share a namespace
        file = getattr(sys.modules.get(module), "__file__", None) or ""
        names = [name for name in names if _has(metadata.files(name), file)]
    for name in names:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def _has(files: Iterable[PackagePath] | None, path: str) -> bool:
    last = os.path.basename(path)
    return any(file.name == last and str(file.locate()) == path for file in files or ())


@once_per_class
def class_source(cls: type) -> tuple[ast.ClassDef, str, int] | None:
    """Return the definition of `cls`, its file, and the line before its first; None without one."""
    try:
        path = inspect.getsourcefile(cls)
        lines, first = source_lines(cls)
        # Below an `if`, a nested class may stay indented as it is, multi-line strings included.
        above = "if 1:\n" if lines[0][:1].isspace() else "\n"
        tree = parse(above + "".join(lines))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)), None)
    return None if path is None or found is None else (found, path, first - 2)


def class_place(cls: type) -> tuple[str, int]:
    """Return file and line of the definition of `cls`; empty and 0 where nothing tells."""
    source = class_source(cls)
    return ("", 0) if source is None else (source[1], source[2] + source[0].lineno)


# What a class says about a field, best first: a method assigns it; the class does; a
# `cached_property` makes it; an annotation or `__slots__` declares it.
_IN_METHOD, _TO_NOTHING, _IN_CLASS, _MADE, _DECLARED, _SLOT = range(6)
_HOW = ("set", "set", "set", "made", "declared", "declared")


def _best(cls: type, name: str) -> Setting | None:
    best: dict[int, Setting] = {}
    for rank, setting in _settings(cls, name):
        best.setdefault(rank, setting)
    return best[min(best)] if best else None


def _settings(cls: type, name: str) -> Iterator[tuple[int, Setting]]:
    source = class_source(cls)
    if source is None:
        return
    tree, _, before = source
    names = {name, unmangled(name, tree.name)}
    for rank, node, value, method in _statements(tree, names):
        yield rank, Setting(cls, name, before + node.lineno, _HOW[rank], node, value, method)


def _statements(tree: ast.ClassDef, names: set[str]) -> Iterator[Found]:
    """Yield what the class says about a field of one of these `names`."""
    for node in _inside(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name in names and any("cached" in ast.unparse(d) for d in node.decorator_list):
                yield _MADE, node, None, node
            own = _own_names(node)
            for inner in _inside(node, functions=True):
                for target, value in _targets(inner):
                    if _sets(target, names, own):
                        rank = _TO_NOTHING if isinstance(value, ast.Constant) else _IN_METHOD
                        if isinstance(inner, ast.AnnAssign) and value is None:
                            rank = _DECLARED
                        yield rank, inner, value, node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            for target, value in _targets(node):
                if isinstance(target, ast.Name) and target.id in names:
                    yield _IN_CLASS if value is not None else _DECLARED, node, value, None
                if isinstance(target, ast.Name) and target.id == "__slots__" and value is not None:
                    slots = {at.value for at in ast.walk(value) if isinstance(at, ast.Constant)}
                    if names & slots:
                        yield _SLOT, node, None, None


def _inside(node: ast.AST, *, functions: bool = False) -> Iterator[ast.stmt]:
    """Yield the statements below `node` but those of other classes and, unless asked, functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if not isinstance(child, ast.ClassDef) and (functions or not function):
            yield from _inside(child, functions=functions)


def _own_names(method: Function) -> set[str]:
    """Return the names by which a method knows the object: its first argument, or what it made."""
    arguments = (*method.args.posonlyargs, *method.args.args)
    own = {arguments[0].arg} if arguments else set()
    for node in ast.walk(method):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=made)], value=ast.Call(func=ast.Attribute(attr="__new__"))
            ):
                own.add(made)
            case _:
                continue
    return own


def _targets(node: ast.stmt) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Yield what a statement assigns to, with the value where it is one's own."""
    match node:
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                yield target, value
        case ast.AnnAssign(target=target, value=annotated):
            yield target, annotated
        case ast.With(items=items) | ast.AsyncWith(items=items):
            for item in items:
                if item.optional_vars is not None:
                    yield item.optional_vars, item.context_expr
        case ast.For(target=target, iter=source) | ast.AsyncFor(target=target, iter=source):
            yield target, source
        case ast.Expr(value=ast.Call() as call):
            yield from _calls(call)


def _calls(call: ast.Call) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Yield what `setattr`, `object.__setattr__` and `self.__dict__.update` assign to."""
    match call:
        case ast.Call(
            func=ast.Name(id="setattr") | ast.Attribute(attr="__setattr__"),
            args=[ast.Name() as obj, ast.Constant(value=str(name)), value],
        ):
            yield ast.Attribute(obj, name), value
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr="__setattr__"),
            args=[ast.Constant(value=str(name)), value],
        ):
            yield ast.Attribute(ast.Name("self"), name), value
        case ast.Call(func=ast.Attribute(value=holder, attr="update" | "setdefault")):
            own = _dict_of(holder)
            if own is not None:
                for keyword in call.keywords:
                    yield ast.Attribute(own, keyword.arg or ""), keyword.value


def _dict_of(node: ast.expr) -> ast.expr | None:
    """Return the object whose attribute dictionary `node` is."""
    match node:
        case ast.Attribute(value=obj, attr="__dict__"):
            return obj
        case ast.Call(func=ast.Name(id="vars"), args=[obj]):
            return obj
    return None


def _sets(target: ast.expr, names: set[str], own: set[str]) -> bool:
    match target:
        case ast.Attribute(value=ast.Name(id=obj), attr=attr):
            return obj in own and attr in names
        case ast.Subscript(value=holder, slice=ast.Constant(value=str(key))):
            held_by = _dict_of(holder)
            return isinstance(held_by, ast.Name) and held_by.id in own and key in names
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return any(_sets(element, names, own) for element in elements)
        case ast.Starred(value=inner):
            return _sets(inner, names, own)
    return False


# Showing a statement


class _Elided(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self._name = name

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        told = node.value is None or isinstance(node.value, bool) or node.value == self._name
        return node if told else ast.Name("…")

    def visit_JoinedStr(self, _node: ast.JoinedStr) -> ast.expr:
        return ast.Name("…")

    visit_TemplateStr = visit_JoinedStr  # noqa: N815  # of Python 3.14


def shown(node: ast.stmt, name: str) -> str:
    """Return a statement on one line, its head if it has a body, without literals but `name`."""
    lines = ast.unparse(_Elided(name).visit(parse(ast.unparse(node)).body[0])).splitlines()
    head = next((at for at, line in enumerate(lines) if line.endswith(":")), len(lines) - 1)
    text = " ".join(lines[: head + 1]).removesuffix(":")
    return text if len(text) <= LONGEST_LINE else text[: LONGEST_LINE - 1] + "…"
