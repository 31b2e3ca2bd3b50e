"""A fix that can be pasted, for the very field: by what the offender is and how its owner is built.

No value gets into one. What a class builds from literals is not repeated but set to None: the
developer, who has the source, knows how to build it again.
"""

from __future__ import annotations

import ast
import builtins
import copyreg
import linecache
import sys
import textwrap
from dataclasses import dataclass
from enum import Enum
from types import FunctionType
from typing import TYPE_CHECKING

from contextcache.base.introspection import (
    attributes,
    class_mro,
    instance_dict,
    qualified_name,
    slot_values,
)
from contextcache.base.syntax import parse, parse_expression
from contextcache.findings.path import StepKind
from contextcache.reports.call_site import is_library, is_own, relative
from contextcache.reports.field_source import class_place, class_source, field_setting
from contextcache.rules.builtin.proxies import proxy_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contextcache.findings.path import Path

_PROXY = "werkzeug.local.LocalProxy"
_REQUEST = '{{"method": {0}.method, "path": {0}.path}}'
_INSTEAD = {
    "generator": "list({})",
    "_csv.reader": "list({})",
    "async_generator": "[item async for item in {}]",
    "coroutine": "await {}",
    **dict.fromkeys(("dict_keys", "dict_values", "dict_items"), "list({})"),
    **dict.fromkeys(("odict_keys", "odict_values", "odict_items"), "list({})"),
    "mappingproxy": "dict({})",
    "sqlite3.Row": "dict({})",
    "memoryview": "bytes({})",
    "module": "{}.__name__",
    _PROXY: "{}._get_current_object()",
    "_contextvars.ContextVar": "{}.get(None)",
    "contextvars.ContextVar": "{}.get(None)",
    "_hashlib.HASH": "{}.hexdigest()",
    "re.Match": "{}[0]",
    "_io.TextIOWrapper": "{}.name",
    "_io.BufferedReader": "{}.name",
    "_io.BufferedWriter": "{}.name",
    "posix.DirEntry": "{}.path",
    "weakref.ReferenceType": "{}()",
    "django.http.request.HttpRequest": _REQUEST,
    "werkzeug.wrappers.request.Request": _REQUEST,
    "django.core.paginator.Page": "list({}.object_list)",
    "bs4.element.NavigableString": "str({})",
    "bs4.element.Tag": "str({})",
}
"""What to store in place of an object of a type; `{}` is the expression that leads to it."""

_ANEW = {
    "_thread.lock": "threading.Lock()",
    "_thread.RLock": "threading.RLock()",
    "_thread._local": "threading.local()",
    "threading.Condition": "threading.Condition()",
    "threading.Event": "threading.Event()",
    "_queue.SimpleQueue": "queue.SimpleQueue()",
    "_weakrefset.WeakSet": "weakref.WeakSet()",
    "weakref.WeakValueDictionary": "weakref.WeakValueDictionary()",
    "weakref.WeakKeyDictionary": "weakref.WeakKeyDictionary()",
    "random.SystemRandom": "random.SystemRandom()",
    "ssl.SSLContext": "ssl.create_default_context()",
}
"""How to make a new object of a type, where the source of its owner does not show it."""

_NOT_LEFT_OUT = frozenset(
    {"CC100", "CC105", "CC118", "CC121", "CC130", "CC131", "CC132", "CC133"}
)  # codes of what a class does not mend by leaving a field out


@dataclass(frozen=True, slots=True)
class Offence:
    """What `patches` needs to know of a finding; it holds the offender and is not kept.

    Attributes:
        code: The code.
        leaf: The offender.
        path: Where it is.
        holder: What holds it; None for the value itself.
        owner: The object of the user's own class whose field is to act on; None without one.
        field: That field.
    """

    code: str
    leaf: object
    path: Path
    holder: object = None
    owner: object = None
    field: str = ""


@dataclass(frozen=True, slots=True)
class _Change:
    """What becomes of one field: another expression is stored, or it is left out and built anew."""

    field: str
    stored: str = ""
    anew: str = ""

    @property
    def key(self) -> str:
        return f'"{self.field}"' if self.field.isidentifier() else repr(self.field)

    @property
    def in_dict(self) -> str:
        """The statement that changes the state of an object."""
        return (
            f"state[{self.key}] = {self.stored}" if self.stored else f"state.pop({self.key}, None)"
        )


def patches(offences: Sequence[Offence | None]) -> list[str]:
    """Return for each offence the code that removes it when pasted; empty where there is none.

    Methods are indented, to go into the class that the comment above them names; below imports,
    where they need some. They mend all fields of their class at once. Where the value is no
    session, it is called `value`.
    """
    owners: dict[int, object] = {}
    changes: dict[int, dict[str, _Change]] = {}
    for offence in offences:
        change = _change(offence) if offence is not None else None
        if offence is not None and change is not None:
            cls = id(type(offence.owner))
            owners.setdefault(cls, offence.owner)
            changes.setdefault(cls, {}).setdefault(change.field, change)
    texts = {cls: _methods(owners[cls], list(changes[cls].values())) for cls in owners}
    return [
        ""
        if one is None
        else texts[id(type(one.owner))]
        if one.field in changes.get(id(type(one.owner)), ())
        else _elsewhere(one)
        for one in offences
    ]


def _change(offence: Offence) -> _Change | None:
    """Return what the user's own class has to do about a field; None if it can do nothing."""
    owner, field = offence.owner, offence.field
    if owner is None or offence.code == "CC119" or not _pickles_plainly(type(owner)):
        return None
    held = attributes(owner).get(field)
    instead = _instead(offence.leaf)
    if held is offence.leaf and instead and "await" not in instead and "async" not in instead:
        return _Change(field, stored=instead.format(f"self.{_spelled(type(owner), field)}"))
    if type(offence.leaf) is FunctionType or offence.code in _NOT_LEFT_OUT:
        return None
    if held is offence.leaf or _is_standard(type(held)):
        return _Change(field, anew=_anew(type(owner), field, held))
    return None


def _elsewhere(offence: Offence) -> str:
    """Return the code for an offence that is not mended in a class of the user's that holds it."""
    if offence.code == "CC119":
        return _rebuilt(offence.leaf)
    if type(offence.leaf) is FunctionType:
        return _as_function(offence.leaf, offence)
    instead, target = _instead(offence.leaf), _target(offence)
    return f"{target} = {instead.format(target)}" if instead and target else ""


# In the user's own class


def _methods(owner: object, changes: list[_Change]) -> str:
    """Return the methods with which `owner` is pickled with these changes."""
    cls = type(owner)
    names = {qualified_name(base) for base in class_mro(cls)}
    if "pydantic.main.BaseModel" in names:
        lines = _of_model(owner, changes)
    elif issubclass(cls, tuple):
        instead = ", ".join(f"{one.field}={one.stored or None}" for one in changes)
        lines = ["def __reduce__(self):", f"    return type(self), tuple(self._replace({instead}))"]
    elif issubclass(cls, BaseException):
        lines = [
            "def __reduce__(self):",
            *_state(changes),
            "    return type(self), self.args, state",
        ]
    elif slot_values(owner):
        lines = _of_slots(owner, changes)
    else:
        lines = ["def __getstate__(self):", *_state(changes), "    return state"]
        set_again = [one for one in changes if not (one.stored or _has_default(cls, one.field))]
        if set_again:
            lines += ["", "def __setstate__(self, state):", *_set_in_dict(cls, set_again)]
    return _into(cls, lines)


def _state(changes: list[_Change]) -> list[str]:
    return ["    state = self.__dict__.copy()", *(f"    {one.in_dict}" for one in changes)]


def _set_in_dict(cls: type, changes: list[_Change]) -> list[str]:
    if _is_frozen(cls):
        anew = ", ".join(f"{one.field}={one.anew}" for one in changes)
        return [f"    self.__dict__.update(state, {anew})"]
    return [
        "    self.__dict__.update(state)",
        *(f"    self.{_spelled(cls, one.field)} = {one.anew}" for one in changes),
    ]


def _of_slots(owner: object, changes: list[_Change]) -> list[str]:
    cls, slots = type(owner), slot_values(owner)
    left_out = {one.field for one in changes if not one.stored}
    kept = ["*self.__dict__"] if instance_dict(owner) is not None else []
    kept += [f'"{name}"' for name in slots if name not in left_out]
    lines = [
        "def __getstate__(self):",
        f"    names = ({', '.join(kept)}{',' if len(kept) == 1 else ''})",
        "    state = {name: getattr(self, name) for name in names if hasattr(self, name)}",
        *(f"    {one.in_dict}" for one in changes if one.stored or one.field not in slots),
        "    return state",
        "",
        "def __setstate__(self, state):",
        "    for name, held in state.items():",
    ]
    if _is_frozen(cls):
        anew = (f"object.__setattr__(self, {one.key}, {one.anew})" for one in changes if one.anew)
        lines.append("        object.__setattr__(self, name, held)")
    else:
        anew = (f"self.{_spelled(cls, one.field)} = {one.anew}" for one in changes if one.anew)
        lines.append("        setattr(self, name, held)")
    return lines + [f"    {text}" for text in anew]


def _of_model(owner: object, changes: list[_Change]) -> list[str]:
    """Return the methods for a model of pydantic, which keeps fields and private ones apart."""
    lines = ["def __getstate__(self):", "    state = super().__getstate__()"]
    set_again = []
    for one in changes:
        part, put = '"__pydantic_private__"', f"self.{one.field} = {one.anew}"
        if one.field in (instance_dict(owner) or ()):
            part, put = '"__dict__"', f"self.__dict__[{one.key}] = {one.anew}"
        lines.append(f"    state[{part}] = {{**state[{part}], {one.key}: {one.stored or None}}}")
        set_again += [f"    {put}"] if one.anew not in ("", "None") else []
    lines.append("    return state")
    if set_again:
        lines += [
            "",
            "def __setstate__(self, state):",
            "    super().__setstate__(state)",
            *set_again,
        ]
    return lines


def _rebuilt(obj: object) -> str:
    """Return the `__reduce__` that calls the constructor with what it wants, as far as is known."""
    cls = type(obj)
    if not is_own(cls) or not _pickles_plainly(cls):
        return ""
    wanted = _parameters(cls)
    if wanted is None:
        return ""
    given = {name: attr for attr, name in _copied(cls).items()}
    parts = [f"self.{given[name]}" if name in given else "" for name in wanted]
    if "" in parts:
        first = parts.count("")
        args = getattr(obj, "args", ()) if isinstance(obj, BaseException) else ()
        if any(parts[:first]) or len(args) != first:
            return ""
        parts = ["*self.args", *parts[first:]]
    arguments = f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
    items = ", None, None, iter(self.items())" if issubclass(cls, dict) else ""
    return _into(cls, ["def __reduce__(self):", f"    return type(self), {arguments}{items}"])


def _parameters(cls: type) -> list[str] | None:
    """Return the names of what the constructor of `cls` wants; None where it says `*args`."""
    inits = (base.__dict__["__init__"] for base in class_mro(cls) if "__init__" in base.__dict__)
    code = getattr(next(inits), "__code__", None)
    if code is None or code.co_flags & 0x0C or code.co_kwonlyargcount:  # CO_VARARGS, CO_VARKEYWORDS
        return None
    return list(code.co_varnames[1 : code.co_argcount])


def _copied(cls: type) -> dict[str, str]:
    """Return the attributes that `__init__` sets to one of its arguments as it is."""
    source = class_source(cls)
    return (
        {}
        if source is None
        else {
            node.targets[0].attr: node.value.id
            for method in source[0].body
            if isinstance(method, ast.FunctionDef) and method.name == "__init__"
            for node in method.body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Attribute)
            and isinstance(node.value, ast.Name)
        }
    )


_HOOKS = (
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
    "__getnewargs_ex__",
)  # fmt: skip


def _pickles_plainly(cls: type) -> bool:
    """Tell whether methods pasted into `cls` would decide how its objects are pickled."""
    bases = class_mro(cls)[:-1]
    if issubclass(cls, Enum) or any(known is cls for known in copyreg.dispatch_table):
        return False
    for base in bases:
        for hook in _HOOKS:
            code = getattr(base.__dict__.get(hook), "__code__", None)
            if code is None or qualified_name(base) == "pydantic.main.BaseModel":
                continue
            # What dataclasses, attrs and named tuples generate gives way to one's own method.
            if not is_own(base) or not is_library(code.co_filename):
                return False
    return True


def _has_default(cls: type, field: str) -> bool:
    return any(
        field in base.__dict__ and not hasattr(type(base.__dict__[field]), "__set__")
        for base in class_mro(cls)
    )


def _anew(cls: type, field: str, held: object) -> str:
    """Return the expression that builds a field again: as its class does, by its type, or None."""
    setting = field_setting(cls, field)
    value = setting.value
    if isinstance(value, ast.Call) and setting.method is None:
        value = _made_by(value)
    module = sys.modules.get(setting.cls.__module__)
    own = {name: attr for attr, name in _copied(setting.cls).items()}
    if isinstance(value, ast.Call):
        value = _Own(own).visit(parse_expression(ast.unparse(value)))
        if _can_be_repeated(value, vars(module) if module is not None else {}):
            return ast.unparse(value)
    return _of_type(_ANEW, held) or "None"


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


def _of_type(table: dict[str, str], obj: object) -> str:
    """Return what `table` has for the type of `obj` or its bases; empty if nothing."""
    names = map(qualified_name, class_mro(type(obj)))
    return next((table[name] for name in names if name in table), "")


class _Own(ast.NodeTransformer):
    """Say `self.base` for an argument of `__init__` that is kept under that name."""

    def __init__(self, own: dict[str, str]) -> None:
        self._own = own

    def visit_Name(self, node: ast.Name) -> ast.expr:
        attr = self._own.get(node.id)
        return ast.Attribute(ast.Name("self"), attr) if attr is not None else node


def _can_be_repeated(node: ast.expr, known: dict[str, object]) -> bool:
    """Tell whether an expression has no literals, and only names that are there at any time."""
    for part in ast.walk(node):
        match part:
            case ast.Constant(value=None | True | False):
                continue
            case ast.Constant() | ast.JoinedStr() | ast.Await() | ast.NamedExpr() | ast.Lambda():
                return False
            case ast.Name(id=name):
                if not (name == "self" or name in known or hasattr(builtins, name)):
                    return False
    return True


def _into(cls: type, lines: list[str]) -> str:
    """Return methods to paste into `cls`, below the imports they need and it has not."""
    file, line = class_place(cls)
    where = f" ({relative(file)}:{line})" if file else ""
    methods = textwrap.indent("\n".join([f"# into class {cls.__name__}{where}", *lines]), "    ")
    known = vars(sys.modules[cls.__module__])
    needed = [
        f"import {name}\n"
        for name in sorted({anew.partition(".")[0] for anew in _ANEW.values()} - known.keys())
        if any(f"= {name}." in one for one in lines)
    ]
    return "".join(needed) + ("\n" if needed else "") + methods


def _spelled(cls: type, field: str) -> str:
    """Return a private name as it is written in its class."""
    prefix = f"_{cls.__name__.lstrip('_')}__"
    return field.removeprefix(prefix[:-2]) if field.startswith(prefix) else field


def _is_standard(cls: type) -> bool:
    """Tell whether `cls` is a class of the standard library that is no container of data."""
    module = cls.__module__.partition(".")[0]
    return module in sys.stdlib_module_names and module != "builtins"


def _is_frozen(cls: type) -> bool:
    """Tell whether attributes of an object of `cls` are not simply assigned."""
    return any("__setattr__" in base.__dict__ for base in class_mro(cls)[:-1])


# Where the value is made


def _instead(leaf: object) -> str:
    """Return what to store in place of `leaf`, with `{}` for it; empty if nothing can be said."""
    if type(leaf).__name__ == "SimpleLazyObject":
        target = (instance_dict(leaf) or {}).get("_wrapped")
        model = any("_meta" in base.__dict__ for base in class_mro(type(target)))
        return "{}.pk" if model else ""
    if qualified_name(type(leaf)) == _PROXY:  # what stands for a request is mended as one
        return _of_type(_INSTEAD, proxy_target(leaf)) or _INSTEAD[_PROXY]
    return _of_type(_INSTEAD, leaf)


def _target(offence: Offence) -> str:
    """Return the path of the offender as something that can be assigned to; empty if it cannot."""
    path, holder = offence.path, offence.holder
    root = path.root if path.root == "session" else "value"
    plain = (StepKind.ATTRIBUTE, StepKind.ITEM)
    if path.hidden or any(step.kind not in plain for step in path.steps):
        return ""
    if path.steps:
        cls = type(holder)
        if path.steps[-1].kind is StepKind.ITEM:
            if not issubclass(cls, (dict, list)):
                return ""
        elif _is_frozen(cls) or issubclass(cls, tuple):
            return ""
    return root + "".join(map(str, path.steps))


def _as_function(function: FunctionType, offence: Offence) -> str:
    """Return a lambda as a function with a name, where nothing but its arguments is needed."""
    target = _target(offence)
    found = _lambda(function)
    if found is None or not target or not offence.path.steps or function.__code__.co_freevars:
        return ""
    if not _is_plain(found):
        return ""
    word = str(offence.path.steps[-1].name).strip("_")
    name = word if word.isidentifier() and word not in function.__globals__ else "function"
    head = f"def {name}({ast.unparse(found.args)}):"
    return f"{head}\n    return {ast.unparse(found.body)}\n\n{target} = {name}"


def _lambda(function: FunctionType) -> ast.Lambda | None:
    code = function.__code__
    lines = linecache.getlines(code.co_filename)
    try:
        tree = parse("".join(lines))
    except (SyntaxError, ValueError):
        return None
    begins = {(line, column) for line, _, column, _ in code.co_positions()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and (node.body.lineno, node.body.col_offset) in begins:
            return node
    return None


def _is_plain(node: ast.Lambda) -> bool:
    """Tell whether a lambda has no literals but keys, and what says nothing."""
    keys = {id(part.slice) for part in ast.walk(node) if isinstance(part, ast.Subscript)}
    return all(
        id(part) in keys or part.value in (None, True, False, 0, 1, "")
        for part in ast.walk(node)
        if isinstance(part, ast.Constant)
    )
