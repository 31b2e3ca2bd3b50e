"""What to store in place of an object, as code: one row per type.

`{}` is the expression that leads to the object. Where the value is stored, the code of `AT_PLACE`
takes the place of the object. In a class of the application, a field is left out, stored as
something else (`IN_PLACE`), or also built again on load (`BUILT_AGAIN`), so that a reader finds in
it what the writer had.
"""

from __future__ import annotations

from typing import NamedTuple

from contextcache.base.introspection import class_mro, qualified_name

REQUEST = '{{"method": {0}.method, "path": {0}.path}}'

SHOWN = {
    "view": (
        "list({})",
        ("dict_keys", "dict_values", "dict_items", "odict_keys", "odict_values", "odict_items"),
    ),
    "mapping": ("dict({})", ("mappingproxy", "sqlite3.Row")),
    "bytes": ("bytes({})", ("memoryview",)),
    "traceback": ("traceback.format_tb({})", ("traceback",)),
    "frame": ("traceback.format_stack({})", ("frame",)),
    "code": ("{}.co_qualname", ("code",)),
    "digest": ("{}.hexdigest()", ("_hashlib.HASH",)),
    "match": ("{}[0]", ("re.Match",)),
    "entry": ("{}.path", ("posix.DirEntry",)),
    "request": (
        REQUEST,
        ("django.http.request.HttpRequest", "werkzeug.wrappers.request.Request"),
    ),
    "text": ("str({})", ("bs4.element.NavigableString",)),
    "tag": ("copy.copy({})", ("bs4.element.Tag",)),
}
"""Code that reads an object and changes nothing about it, by the name of the template."""

USED_UP = {
    "items": ("list({})", ("generator", "_csv.reader")),
    "async items": ("[item async for item in {}]", ("async_generator",)),
    "result": ("await {}", ("coroutine",)),
}
"""Code that uses an object up. `__getstate__` must not: it runs for each write, and more often."""

FILE = (
    "{}.name",
    ("_io.TextIOWrapper", "_io.BufferedReader", "_io.BufferedWriter"),
)  # of a file that has a name
MODULE = ("{}.__name__", ("module",))


def _by_type(*rows: tuple[str, tuple[str, ...]]) -> dict[str, str]:
    return {name: code for code, names in rows for name in names}


IN_PLACE = _by_type(*SHOWN.values(), FILE)
AT_PLACE = {**IN_PLACE, **_by_type(*USED_UP.values(), MODULE)}


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

NEW = {
    "_thread.lock": "threading.Lock()",
    "_thread.RLock": "threading.RLock()",
    "_thread._local": "threading.local()",
    "_queue.SimpleQueue": "queue.SimpleQueue()",
    "_weakrefset.WeakSet": "weakref.WeakSet()",
    "weakref.WeakValueDictionary": "weakref.WeakValueDictionary()",
    "weakref.WeakKeyDictionary": "weakref.WeakKeyDictionary()",
    "random.SystemRandom": "random.SystemRandom()",
    "ssl.SSLContext": "ssl.create_default_context()",
    "werkzeug.local.Local": "Local()",
    "werkzeug.local.LocalStack": "LocalStack()",
}
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
