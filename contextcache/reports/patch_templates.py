"""What to store in place of an object, as code; what its rule says of it, and more.

`{}` is the expression that leads to the object. Where the value is stored, the code of `AT_PLACE`
takes the place of the object. In a class of the application, a field is left out, stored as
something else (`IN_PLACE`), or also built again on load (`BUILT_AGAIN`), so that a reader finds in
it what the writer had.
"""

from __future__ import annotations

from typing import NamedTuple

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.rules.builtin import BUILT_IN

FILE = "{}.name"  # of a file that has a name

_USED_UP = {name: rule.instead for name, rule in BUILT_IN.items() if rule.instead and rule.once}
USED_UP = frozenset(_USED_UP.values())
"""Code that uses an object up."""

IN_PLACE: dict[str, str] = {
    "_hashlib.HASH": "{}.hexdigest()",  # these two have no rule: pickle refuses them
    "re.Match": "{}[0]",
    **{name: rule.instead for name, rule in BUILT_IN.items() if rule.instead and not rule.once},
}
AT_PLACE = {**IN_PLACE, **_USED_UP, "module": "{}.__name__"}


class Kept(NamedTuple):
    """What of a field is stored, and how the field is built again of it.

    Attributes:
        word: What the state calls it: the field, a dot, and this.
        stored: The expression that is stored; `{0}` is the field in the state.
        built: The statements that build the field; `{0}` is the field, `{1}` what was stored.
        needs: The modules that they use.
    """

    word: str
    stored: str
    built: tuple[str, ...]
    needs: tuple[str, ...]


def _queue(name: str) -> Kept:
    built = (
        "maxsize, items = {1}",
        f"{{0}} = queue.{name}(maxsize)",
        "for item in items:",
        "    {0}.put(item)",
    )
    return Kept("items", "({0}.maxsize, list({0}.queue))", built, ("queue",))


BUILT_AGAIN = {
    "threading.Event": Kept(
        "is_set",
        "{0}.is_set()",
        ("{0} = threading.Event()", "if {1}:", "    {0}.set()"),
        ("threading",),
    ),
    "queue.Queue": _queue("Queue"),
    "queue.LifoQueue": _queue("LifoQueue"),
    "queue.PriorityQueue": _queue("PriorityQueue"),
    "module": Kept("name", "{0}.__name__", ("{0} = importlib.import_module({1})",), ("importlib",)),
}
"""By the type of what the field holds, which may be more than the offender."""

WEAK = Kept(
    "target",
    "{0}()",
    ("target = {1}", "{0} = None if target is None else weakref.ref(target)"),
    ("weakref",),
)
"""A weak reference to an object that the same value holds, so that it lives on after the load."""

NEW = {name: rule.anew for name, rule in BUILT_IN.items() if rule.anew}
"""How to make a new object of a type, where the source of its owner does not show it."""

QUIET = frozenset({
    "asyncio", "concurrent", "contextvars", "httpx", "httpx2", "queue", "random", "redis",
    "requests", "threading", "urllib3", "valkey", "weakref", "_contextvars", "_queue", "_thread",
    "_weakrefset", "asgiref", "method", "werkzeug",
})  # fmt: skip
"""Packages whose classes open, start and connect to nothing when an object is made."""


def of_type(table: dict[str, str], obj: object) -> str:
    """Return what `table` has for the type of `obj` or its bases; empty if nothing."""
    names = map(qualified_name, class_mro(type(obj)))
    return next((table[name] for name in names if name in table), "")
