"""Code for the place where a value is stored: an expression without the offender.

It makes the containers on the way to the offender anew and changes none of them, because each may
be in use. Only the session is assigned to: that is how a session is stored. The value that is
stored is called `value`, where it is no session.
"""

from __future__ import annotations

import ast
import functools
import linecache
import re
import weakref
from collections import defaultdict
from types import FunctionType
from typing import TYPE_CHECKING

from contextcache.base.syntax import parse
from contextcache.findings.path import StepKind
from contextcache.reports.call_site import relative
from contextcache.reports.field_makers import is_plain
from contextcache.reports.patch_templates import AT_PLACE, FILE, USED_UP, of_type
from contextcache.reports.spelling import is_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contextcache.findings.path import Step
    from contextcache.reports.offence import Offence

_ITEM_NAMES = ("item", "part", "piece")


def at_place(offences: Sequence[Offence], value: object) -> str:
    """Return the code that mends all `offences`, whose paths have one pattern; or nothing."""
    first, *others = offences
    steps = [one.path.steps for one in offences]
    above = (step.kind for one in steps for step in one[:-1])
    if first.path.hidden or any(kind is not StepKind.ITEM for kind in above):
        return ""
    if type(first.leaf) is FunctionType:
        return _as_function(first, value) if not others else ""
    codes = {_instead(one) for one in offences}
    code = codes.pop() if len(codes) == 1 else ""
    if not code or (code in USED_UP and any(one.ways > 1 for one in offences)):
        return ""
    return _assigned(steps, value, code, session=first.path.root == "session")


def _instead(offence: Offence) -> str:
    if offence.stands_for:
        return offence.stands_for
    if type(offence.leaf) is weakref.ref:
        return "{}()" if offence.has_target else ""
    code = of_type(AT_PLACE, offence.leaf)
    if code == FILE and not isinstance(getattr(offence.leaf, "name", None), str):
        return ""
    return code


def _assigned(ways: Sequence[tuple[Step, ...]], value: object, code: str, *, session: bool) -> str:
    if not session or not issubclass(type(value), dict):
        text = _without(ways, "value", value, code)
        return _importing(f"value = {text}") if text else ""
    heads = {way[:1] for way in ways}
    if len(heads) != 1 or not ways[0] or ways[0][0].kind is not StepKind.ITEM:
        return ""
    head = ways[0][0]
    held = dict.get(value, head.name)  # type: ignore[call-overload]
    text = _without([way[1:] for way in ways], f"session{head}", held, code)
    return _importing(f"session{head} = {text}") if text else ""


def _importing(code: str) -> str:
    """Return code below the imports it needs, in one line where that is not long."""
    used = re.findall(r"\b(collections|copy|functools|traceback|types)\.\w", code)
    return "".join(f"import {name}\n\n" for name in used[:1]) + code


def _without(
    ways: Sequence[tuple[Step, ...]], expression: str, obj: object, code: str, depth: int = 0
) -> str:
    """Return the expression that stores `obj` without the offenders, to which `ways` lead.

    Args:
        ways: The steps to each offender.
        expression: What leads to `obj`.
        obj: The object.
        code: What to store in place of an offender, `{}` being it.
        depth: How many names of items are in use.
    """
    if not ways[0]:
        return code.format(expression)
    steps = list(dict.fromkeys(way[0] for way in ways))
    if len(steps) == 1:
        [step] = steps
        if step.kind is StepKind.ATTRIBUTE:
            return _called_with(obj, str(step.name), expression, code)
        if step.kind is not StepKind.ITEM or type(obj) not in (dict, list, tuple):
            return ""
        held, below = obj[step.name], [way[1:] for way in ways]  # type: ignore[index]
        inner = _without(below, f"{expression}{step}", held, code, depth)
        return _replaced(expression, obj, step, inner, is_one=not depth) if inner else ""
    return _all_without(ways, expression, obj, code, depth)


def _called_with(obj: object, field: str, expression: str, code: str) -> str:
    """Return the expression for what holds a function, with another one."""
    if type(obj) is defaultdict and field == "default_factory":
        return f"collections.defaultdict({code}, {expression})"
    if type(obj) is functools.partial and field == "func":
        return f"functools.partial({code}, *{expression}.args, **{expression}.keywords)"
    return ""


def _replaced(expression: str, obj: object, step: Step, inner: str, *, is_one: bool) -> str:
    if type(obj) is dict:
        rest = "" if is_one and len(obj) == 1 else f"**{expression}, "
        return f"{{{rest}{step.name!r}: {inner}}}"
    at, size = int(str(step.name)), len(obj)  # type: ignore[arg-type]
    before = [f"*{expression}[:{at}]"] if at else []
    after = [f"*{expression}[{at + 1}:]"] if at + 1 < size else []
    items = ", ".join([*before, inner, *after])
    if type(obj) is tuple:
        return f"({items},)" if size == 1 else f"({items})"
    return f"[{items}]"


def _all_without(
    ways: Sequence[tuple[Step, ...]], expression: str, obj: object, code: str, depth: int
) -> str:
    """Return the same for a container of which every item has such an offender in it."""
    steps = list(dict.fromkeys(way[0] for way in ways))
    if type(obj) not in (dict, list, tuple):
        return ""
    if len(steps) != len(obj):  # type: ignore[arg-type]
        return _some_without(ways, expression, obj, code) if type(obj) is list else ""
    if depth == len(_ITEM_NAMES) or any(step.kind is not StepKind.ITEM for step in steps):
        return ""
    name = _ITEM_NAMES[depth]
    texts = set()
    for step in steps:
        below = [way[1:] for way in ways if way[0] == step]
        texts.add(_without(below, name, obj[step.name], code, depth + 1))  # type: ignore[index]
    if len(texts) != 1 or "" in texts:
        return ""
    text = texts.pop()
    if type(obj) is dict:
        return f"{{key: {text} for key, {name} in {expression}.items()}}"
    made = f"{text} for {name} in {expression}"
    return f"[{made}]" if type(obj) is list else f"tuple({made})"


def _some_without(
    ways: Sequence[tuple[Step, ...]], expression: str, obj: list[object], code: str
) -> str:
    """Return the same for a list of which some items are such offenders."""
    if any(len(way) > 1 for way in ways):
        return ""
    offenders = [obj[int(str(way[0].name))] for way in ways]
    cls = type(offenders[0])
    if sum(type(item) is cls for item in obj) != len(offenders):
        return ""  # of several types, or not all of one offend
    return f"[{code.format('item')} if {is_type('item', cls)} else item for item in {expression}]"


# A lambda


def _as_function(offence: Offence, value: object) -> str:
    """Return a lambda as a function with a name, where nothing but its arguments is needed."""
    function, steps = offence.leaf, offence.path.steps
    assert type(function) is FunctionType  # noqa: S101  # the caller has asked
    found = _lambda(function)
    if found is None or not steps or function.__code__.co_freevars or not is_plain(found):
        return ""
    word = str(steps[-1].name).strip("_")
    free = (one for one in (word, "function") if one.isidentifier())
    name = next((one for one in free if one not in function.__globals__), "")
    session = offence.path.root == "session"
    assigned = name and _assigned([steps], value, name, session=session)
    if not assigned:
        return ""
    file = relative(function.__code__.co_filename)
    return (
        f"# at the top level of {file}\n"
        f"def {name}({ast.unparse(found.args)}):\n"
        f"    return {ast.unparse(found.body)}\n\n"
        f"# where it is stored\n{assigned}"
    )


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
