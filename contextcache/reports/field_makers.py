"""How a field is made anew on load: as its class makes it, or as its type says."""

from __future__ import annotations

import ast
import threading
from types import MethodType
from typing import TYPE_CHECKING

from contextcache.base.introspection import (
    attributes,
    base_names,
    class_mro,
    mangled,
    qualified_name,
)
from contextcache.base.syntax import parse_expression
from contextcache.reports.call_site import is_own
from contextcache.reports.field_source import class_source, field_values
from contextcache.reports.patch_templates import NEW, QUIET
from contextcache.rules.builtin.threads import asgiref_local, empty_local

if TYPE_CHECKING:
    from collections.abc import Collection

    from contextcache.reports.field_source import Setting
    from contextcache.reports.spelling import Names

_FACTORIES = {id(threading.Lock): "_thread.lock", id(threading.RLock): "_thread.RLock"}


def lock_of(held: object) -> object:
    """Return the lock that a field is or uses as a condition; None for anything else."""
    name = qualified_name(type(held))
    if name == "threading.Condition":
        return attributes(held).get("_lock")
    return held if name in ("_thread.lock", "_thread.RLock") else None


class FieldMaker:
    """How the source of a class, or else the type of what a field holds, says to make it anew.

    Args:
        owner: The object that has the field.
        name: The field.
        held: What it holds.
        names: The names of the module of the class.

    Attributes:
        field: The field.
        code: The expression that makes it; empty where nothing says so, or something might happen.
        in_state: The same, where the other fields are still in `state`.
        is_always: Whether the class shows that the field holds nothing else.
    """

    def __init__(self, owner: object, name: str, held: object, names: Names) -> None:
        self.field = name
        self._held = held
        self._owner = owner
        self._names = names
        settings = field_values(type(owner), name)
        said = [self._said_by(one) for one in settings]
        begins = any(_is_in_init(one) for one in settings)
        self.is_always = begins and None not in said and all(one.method for one in settings)
        self.code = self.in_state = self._by_type()
        for setting, node in zip(settings, said, strict=True):
            by_argument = {given: attr for attr, given in copied(setting.cls).items()}
            if node is not None and self._can_be_repeated(node, by_argument):
                self.code, self.in_state = (
                    ast.unparse(kind(by_argument).visit(parse_expression(ast.unparse(node))))
                    for kind in (_Own, _InState)
                )
                break

    def _said_by(self, setting: Setting) -> ast.expr | None:
        """Return the expression of a statement, if it gives just such an object."""
        value, held = setting.value, self._held
        if isinstance(value, ast.Call) and setting.method is None:
            value = _made_by(value)
        if isinstance(value, ast.Call):
            made = self._names.resolve(value.func)
            name = _FACTORIES.get(id(made))
            return value if made is type(held) or name == qualified_name(type(held)) else None
        if isinstance(value, ast.Lambda):
            name = getattr(getattr(held, "__code__", None), "co_name", "")
            return value if name == "<lambda>" else None
        if type(held) is MethodType and held.__self__ is self._owner:
            return value if isinstance(value, ast.Attribute) and self._is_method(value) else None
        is_global = value is not None and self._names.resolve(value) is held
        return value if is_global and held is not None else None

    def _is_method(self, node: ast.Attribute) -> bool:
        """Return True if `self.name` is a method of the class, whatever is done to it there."""
        match node.value:
            case ast.Name(id="self"):
                bases = class_mro(type(self._owner))[:-1]
                return any(mangled(node.attr, one.__name__) in one.__dict__ for one in bases)
        return False

    def _can_be_repeated(self, node: ast.expr, arguments: Collection[str]) -> bool:
        """Return True if an expression shows nothing, starts nothing and has all its names."""
        if isinstance(node, ast.Call) and not self._is_quiet():
            return False
        inside = {one.arg for one in ast.walk(node) if isinstance(one, ast.arg)}
        names = {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
        names -= {"self", *inside, *arguments}
        return is_plain(node) and all(name in self._names for name in names)

    def _is_quiet(self) -> bool:
        cls = type(self._held)
        return is_own(cls) or qualified_name(cls).partition(".")[0] in QUIET

    def _by_type(self) -> str:
        cls, names = type(self._held), self._names
        name = qualified_name(cls)
        if name == "threading.Condition":
            kinds = {"_thread.RLock": "", "_thread.lock": "threading.Lock()"}
            inner = kinds.get(qualified_name(type(lock_of(self._held))))
            names.need(("threading",))
            return "" if inner is None else f"threading.Condition({inner})"
        if name in NEW:
            code = NEW[name]
            if "." not in code:
                return f"{names.spell(cls)}()" if names.spell(cls) else ""
            names.need((code.partition(".")[0],))
            return code
        bases = base_names(cls)
        if "asgiref.local.Local" in bases:
            made, (critical,) = asgiref_local(self._held)
            arguments = "thread_critical=True" if critical else ""
        elif "_thread._local" in bases:
            made, arguments = cls, ""
            if empty_local(cls)[0] is not cls:
                return f"{names.spell(cls)}.__new__({names.spell(cls)})" if names.spell(cls) else ""
        else:
            return ""
        spelled = names.spell(made) if isinstance(made, type) else ""
        return f"{spelled}({arguments})" if spelled else ""


def _is_in_init(setting: Setting) -> bool:
    """Return True if `__init__` sets the field, whatever its arguments are."""
    return (
        setting.method is not None
        and setting.method.name in ("__init__", "__post_init__", "__attrs_post_init__")
        and any(setting.node is node for node in setting.method.body)
    )


def copied(cls: type) -> dict[str, str]:
    """Return the attributes that `__init__` sets to one of its arguments as it is."""
    source = class_source(cls)
    return {
        node.targets[0].attr: node.value.id
        for method in (source[0].body if source is not None else ())
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        for node in method.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Attribute)
        and isinstance(node.value, ast.Name)
    }


def _made_by(call: ast.Call) -> ast.Call:
    """Return the call behind `field(default_factory=...)`, `PrivateAttr(...)`, `Factory(...)`."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    factory = given.get("default_factory", given.get("factory"))
    if factory is None and call.args and ast.unparse(call.func).endswith("Factory"):
        factory = call.args[0]
    if factory is not None:
        return ast.Call(factory, [], [])
    default = given.get("default")
    return _made_by(default) if isinstance(default, ast.Call) else call


class _Own(ast.NodeTransformer):
    """Say `self.base` for an argument of `__init__` that is kept under that name."""

    def __init__(self, by_argument: dict[str, str]) -> None:
        self._by_argument = by_argument

    def visit_Name(self, node: ast.Name) -> ast.expr:
        attr = self._by_argument.get(node.id)
        return self.attribute(attr) if attr is not None else node

    def attribute(self, name: str) -> ast.expr:
        return ast.Attribute(ast.Name("self"), name)


class _InState(_Own):
    """Say `state["base"]` for it, and for `self.base`."""

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self.attribute(node.attr)
        return self.generic_visit(node)

    def attribute(self, name: str) -> ast.expr:
        return ast.Subscript(ast.Name("state"), ast.Constant(name))


def is_plain(node: ast.AST) -> bool:
    """Return True if an expression has no literals but keys, and what says nothing."""
    keys = {id(part.slice) for part in ast.walk(node) if isinstance(part, ast.Subscript)}
    return not any(
        isinstance(part, (ast.JoinedStr, ast.Await, ast.NamedExpr, ast.Yield, ast.YieldFrom))
        or (
            isinstance(part, ast.Constant)
            and id(part) not in keys
            and part.value not in (None, True, False, 0, 1, "")
        )
        for part in ast.walk(node)
    )
