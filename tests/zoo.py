"""One catalogue of what people cache: innocents and offenders, and what must become of each.

Every layer runs over it: the engine, and whoever stores values through a framework. A case is
built anew for each use. Paths are rooted at `value`, in the order in which pickle comes by.
"""

from __future__ import annotations

import array
import asyncio
import atexit
import collections
import concurrent.futures
import contextvars
import csv
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import io
import itertools
import logging
import operator
import os
import pathlib
import queue
import random
import re
import socket
import sqlite3
import ssl
import sys
import tempfile
import threading
import types
import uuid
import weakref
import zoneinfo
from typing import TYPE_CHECKING, Any

import django.core.paginator
import django.http
import django.utils.functional
import django.utils.safestring
import flask
import httpx
import pydantic
import redis
import requests
import sqlalchemy
import sqlalchemy.orm
import urllib3
import werkzeug.datastructures
import werkzeug.local
import werkzeug.test
import werkzeug.wrappers
from asgiref.local import Local as AsgirefLocal

from contextcache import RequestSnapshot, is_stripped
from tests.core import shapes

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What is expected to be reported for one field."""

    code: str
    path: str
    action: str


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One value.

    Attributes:
        id: A name that says what is special.
        build: Makes the value.
        found: What must be reported, in this order; nothing for an innocent.
        check: Tells whether what was loaded again is what a reader may expect.
        stored: Whether there is anything to store; where not, the write is refused.
    """

    id: str
    build: Callable[[], Any]
    found: tuple[Found, ...] = ()
    check: Callable[[Any], bool] = lambda _: True
    stored: bool = True

    def __str__(self) -> str:
        return self.id


OFFENDERS: list[Case] = []
INNOCENTS: list[Case] = []


def offender(
    name: str, build: Callable[[], Any], *found: str, check: Callable[[Any], bool] | None = None
) -> None:
    """Add an offender; each of `found` reads `CC102 recreated value.path`."""
    expected = []
    for row in found:
        code, rest = row.split(" ", 1)
        action, path = rest.split(" value", 1)
        expected.append(Found(code, f"value{path}", action))
    refused = any(one.action == "refused" for one in expected)
    if refused is (check is not None):
        raise ValueError(f"{name}: say what a reader may expect, or that there is nothing to read")
    OFFENDERS.append(Case(name, build, tuple(expected), check or (lambda _: False), not refused))


def innocent(
    name: str, build: Callable[[], Any], check: Callable[[Any], bool] = lambda _: True
) -> None:
    """Add an innocent."""
    INNOCENTS.append(Case(name, build, (), check))


def unlocked(lock: Any) -> bool:
    """Tell whether `lock` is a lock that works, by taking it."""
    taken: bool = lock.acquire(blocking=False)
    lock.release()
    return taken


_opened: list[Any] = []


def opened(resource: Any) -> Any:
    """Keep `resource` open while a test runs, and close it before Python complains about it."""
    _opened.append(resource)
    return resource


@atexit.register
def _close() -> None:
    while _opened:
        _opened.pop().close()


def thing(**held: Any) -> shapes.Thing:
    return shapes.Thing(name="kept", **held)


# --- Locks --------------------------------------------------------------------------------------

_lock = type(threading.Lock())
_rlock = type(threading.RLock())

offender("lock", threading.Lock, "CC102 recreated value", check=unlocked)
offender("rlock", threading.RLock, "CC102 recreated value", check=unlocked)
offender(
    "lock-attribute",
    shapes.Client,
    "CC102 recreated value._lock",
    check=lambda v: unlocked(v._lock) and v.base == "https://api.example",
)
offender(
    "lock-of-a-cart",
    lambda: {"cart": shapes.Cart("ann", [shapes.Item("a"), shapes.Item("b", 2, shapes.Client())])},
    "CC102 recreated value['cart'].items[1].client._lock",
    check=lambda v: v["cart"].items[1].count == 2 and unlocked(v["cart"].items[1].client._lock),
)
offender(
    "condition",
    lambda: thing(held=threading.Condition()),
    "CC102 recreated value.held._lock",
    check=lambda v: v.name == "kept" and _notifies(v.held),
)
offender(
    "condition-of-a-plain-lock",
    lambda: thing(held=threading.Condition(threading.Lock())),
    "CC102 recreated value.held._lock",
    check=lambda v: _notifies(v.held),
)
offender(
    "event",
    lambda: thing(held=threading.Event()),
    "CC102 recreated value.held._cond._lock",
    check=lambda v: not v.held.is_set() and v.held.set() is None and v.held.wait(0),
)
offender(
    "semaphore",
    lambda: thing(held=threading.BoundedSemaphore(2)),
    "CC102 recreated value.held._cond._lock",
    check=lambda v: v.held.acquire(False) and v.held.acquire(False) and not v.held.acquire(False),
)
offender(
    "barrier",
    lambda: thing(held=threading.Barrier(1)),
    "CC102 recreated value.held._cond._lock",
    check=lambda v: v.held.wait(1) == 0,
)
offender(
    "queue",
    lambda: _filled(queue.Queue()),
    "CC102 recreated value.mutex",
    check=lambda v: v.get_nowait() == "item" and v.empty() and v.not_empty._lock is v.mutex,
)
offender(
    "priority-queue",
    lambda: {"q": _filled(queue.PriorityQueue())},
    "CC102 recreated value['q'].mutex",
    check=lambda v: v["q"].get_nowait() == "item",
)
offender(
    "simple-queue",
    lambda: [queue.SimpleQueue()],
    "CC102 recreated value[0]",
    check=lambda v: v[0].put(1) is None and v[0].get_nowait() == 1,
)
offender(
    "executor",
    lambda: thing(held=concurrent.futures.ThreadPoolExecutor(3)),
    "CC115 recreated value.held",
    check=lambda v: _computes(v.held),
)
offender(
    "lock-in-two-places",
    lambda: (lambda lock: {"a": thing(held=lock), "b": [lock]})(threading.Lock()),
    "CC102 recreated value['a'].held",
    check=lambda v: v["a"].held is v["b"][0] and unlocked(v["b"][0]),
)
offender(
    "two-locks",
    lambda: [threading.Lock(), threading.Lock()],
    "CC102 recreated value[0]",
    "CC102 recreated value[1]",
    check=lambda v: v[0] is not v[1],
)
offender(
    "lock-in-a-cycle",
    lambda: _cycle(),
    "CC102 recreated value.children[0].held",
    check=lambda v: v.children[0].parent is v and unlocked(v.children[0].held),
)
offender(
    "lock-in-a-shared-holder",
    lambda: (lambda one: [one, one])(shapes.Client()),
    "CC102 recreated value[0]._lock",
    check=lambda v: v[0] is v[1],
)

# --- Where a lock can hide ----------------------------------------------------------------------

for _name, _build in {
    "slots": lambda held: shapes.Slots("kept", held),
    "slots-inherited": lambda held: shapes.SlotsChild("kept", held),
    "slots-and-dict": lambda held: shapes.SlotsAndDict("kept", held),
    "dataclass": lambda held: shapes.Item("kept", 1, held),
    "attrs": lambda held: shapes.AttrsItem("kept", held),
    "attrs-frozen": lambda held: shapes.AttrsFrozen("kept", held),
    "dataclass-frozen": lambda held: shapes.Frozen("kept", held),
    "dataclass-frozen-slots": lambda held: shapes.FrozenSlots("kept", held),
    "dataclass-slots": lambda held: shapes.SlotsData("kept", held),
    "namedtuple": lambda held: shapes.Row("kept", held),
    "pydantic-field": lambda held: shapes.Model(name="kept", held=held),
    "namespace": lambda held: types.SimpleNamespace(name="kept", held=held),
    "reduce": lambda held: shapes.Reduced("kept", held),
    "reduce-ex": lambda held: shapes.ReducedEx("kept", held),
    "getnewargs": lambda held: shapes.NewArgs("kept", held),
    "getnewargs-ex": lambda held: shapes.NewArgsEx(name="kept", held=held),
    "state-setter": lambda held: shapes.StateSetter(held),
    "state-renamed": lambda held: shapes.Renames(held),
    "state-tuple": lambda held: shapes.TupleState(held),
    "copyreg": lambda held: shapes.Registered("kept", held),
    "metaclass": lambda held: shapes.WithMeta(held),
}.items():
    _field = "client" if _name == "dataclass" else "held"
    offender(
        f"lock-in-{_name}",
        lambda build=_build: build(threading.Lock()),
        f"CC102 recreated value.{_field}",
        check=lambda v, field=_field: unlocked(getattr(v, field)),
    )

offender(
    "lock-in-slots-extra",
    lambda: shapes.SlotsChild("kept", 1, {"a": [threading.Lock()]}),
    "CC102 recreated value.extra['a'][0]",
    check=lambda v: v.held == 1 and unlocked(v.extra["a"][0]),
)
offender(
    "lock-under-a-mangled-name",
    lambda: shapes.Mangled(threading.Lock()),
    "CC102 recreated value._Mangled__held",
    check=lambda v: unlocked(v._Mangled__held),
)
offender(
    "lock-in-a-mangled-slot",
    lambda: shapes.MangledSlots(threading.Lock()),
    "CC102 recreated value._MangledSlots__held",
    check=lambda v: unlocked(v._MangledSlots__held),
)
offender(
    "lock-in-pydantic-private",
    lambda: _private(shapes.Model(name="kept"), threading.Lock()),
    "CC102 recreated value._private",
    check=lambda v: unlocked(v._private) and v.name == "kept",
)
offender(
    "lock-in-own-dict",
    lambda: _with(shapes.OwnDict(a=1), lock=threading.Lock()),
    "CC102 recreated value.lock",
    check=lambda v: v == {"a": 1} and unlocked(v.lock),
)
offender(
    "lock-item-of-own-dict",
    lambda: shapes.OwnDict(a=1, b=threading.Lock()),
    "CC102 recreated value['b']",
    check=lambda v: v["a"] == 1 and unlocked(v["b"]),
)
offender(
    "lock-in-own-list",
    lambda: _with(shapes.OwnList([1, threading.Lock()]), lock=threading.RLock()),
    "CC102 recreated value[1]",
    "CC102 recreated value.lock",
    check=lambda v: v[0] == 1 and type(v[1]) is _lock and type(v.lock) is _rlock,
)
offender(
    "lock-in-own-set",
    lambda: _with(shapes.OwnSet([1]), lock=threading.Lock()),
    "CC102 recreated value.lock",
    check=lambda v: v == {1} and unlocked(v.lock),
)
offender(
    "lock-in-own-str",
    lambda: _with(shapes.OwnStr("text"), lock=threading.Lock()),
    "CC102 recreated value.lock",
    check=lambda v: v == "text" and unlocked(v.lock),
)
offender(
    "lock-in-deque",
    lambda: collections.deque([1, threading.Lock()], maxlen=3),
    "CC102 recreated value[1]",
    check=lambda v: v[0] == 1 and v.maxlen == 3 and unlocked(v[1]),
)
offender(
    "lock-in-ordered-dict",
    lambda: collections.OrderedDict(a=1, b=threading.Lock(), c=3),
    "CC102 recreated value['b']",
    check=lambda v: list(v) == ["a", "b", "c"] and unlocked(v["b"]),
)
offender(
    "lock-in-default-dict",
    lambda: collections.defaultdict(list, a=[threading.Lock()]),
    "CC102 recreated value['a'][0]",
    check=lambda v: v["new"] == [] and unlocked(v["a"][0]),
)
offender(
    "lock-in-chain-map",
    lambda: collections.ChainMap({"a": 1}, {"b": threading.Lock()}),
    "CC102 recreated value.maps[1]['b']",
    check=lambda v: v["a"] == 1 and unlocked(v["b"]),
)
offender(
    "lock-in-partial",
    lambda: functools.partial(shapes.top_level, threading.Lock()),
    "CC102 recreated value.args[0]",
    check=lambda v: unlocked(v.args[0]),
)
offender(
    "lock-in-partial-keyword",
    lambda: functools.partial(shapes.top_level, number=threading.Lock()),
    "CC102 recreated value.keywords['number']",
    check=lambda v: unlocked(v.keywords["number"]),
)
offender(
    "lock-behind-a-bound-method",
    lambda: {"callback": shapes.Client().fetch},
    "CC102 recreated value['callback'].__self__._lock",
    check=lambda v: v["callback"]() == "https://api.example",
)
offender(
    "method-of-a-lock",
    lambda: {"acquire": threading.Lock().acquire},
    "CC102 recreated value['acquire'].__self__",
    check=lambda v: v["acquire"](),
)
offender(
    "lock-in-exception-arguments",
    lambda: [ValueError("bad", threading.Lock())],
    "CC102 recreated value[0].args[1]",
    check=lambda v: v[0].args[0] == "bad",
)
offender(
    "lock-on-an-exception",
    lambda: _with(shapes.PlainError("bad"), client=threading.Lock()),
    "CC102 recreated value.client",
    check=lambda v: v.args == ("bad",) and unlocked(v.client),
)
offender(
    "lock-made-by-getstate",
    lambda: [shapes.MakesState()],
    "CC102 recreated value[0]<state>['lock']",
    check=lambda v: unlocked(v[0].lock),
)
offender(
    "lock-one-owner-filters",
    lambda: (lambda lock: [shapes.FiltersHeld(held=lock, name="a"), thing(held=lock)])(
        threading.Lock()
    ),
    "CC102 recreated value[1].held",
    check=lambda v: not hasattr(v[0], "held") and v[0].name == "a" and unlocked(v[1].held),
)
offender(
    "lock-under-tuple-key",
    lambda: {("ann", 1): {"ok": 1}, ("bob", 2): threading.Lock()},
    "CC102 recreated value[('bob', 2)]",
    check=lambda v: v[("ann", 1)] == {"ok": 1},
)
offender(
    "lock-under-long-key",
    lambda: {"x" * 60: 1, "a@example.org" * 6: threading.Lock()},
    "CC102 recreated value<value 1>",
    check=lambda v: unlocked(v["a@example.org" * 6]),
)
offender(
    "lock-as-key",
    lambda: {"a": 1, threading.Lock(): 2},
    "CC102 recreated value<key 1>",
    check=lambda v: v["a"] == 1 and len(v) == 2 and 2 in v.values(),
)
offender(
    "locks-as-elements",
    lambda: {threading.Lock(), threading.Lock()},
    "CC102 recreated value{0}",
    "CC102 recreated value{1}",
    check=lambda v: len(v) == 2,
)
offender(
    "lock-in-an-element",
    lambda: {"s": frozenset([shapes.Reduced("kept", threading.Lock())])},
    "CC102 recreated value['s']{0}.held",
    check=lambda v: len(v["s"]) == 1,
)
offender(
    "lock-in-tuple",
    lambda: (1, (2, threading.Lock())),
    "CC102 recreated value[1][1]",
    check=lambda v: v[0] == 1 and unlocked(v[1][1]),
)
offender(
    "lock-in-extended",
    lambda: _extended(1, threading.Lock()),
    "CC102 recreated value.items[1]",
    check=lambda v: v.items[0] == 1 and unlocked(v.items[1]),
)
offender(
    "enum-by-value-with-a-lock",
    lambda: thing(held=shapes.Gate.OPEN),
    "CC102 stripped value.held._value_[1]",
    check=lambda v: v.name == "kept" and is_stripped(v.held),
)

# --- Thread-locals and context variables --------------------------------------------------------

_variable: contextvars.ContextVar[str] = contextvars.ContextVar("tests-zoo", default="unset")

offender(
    "thread-local",
    threading.local,
    "CC101 recreated value",
    check=lambda v: type(v) is threading.local and v.__dict__ == {},
)
offender(
    "thread-local-with-values",
    lambda: thing(held=_with(threading.local(), user="ann")),
    "CC101 recreated value.held",
    check=lambda v: v.held.__dict__ == {} and v.name == "kept",
)
offender(
    "thread-local-subclass",
    lambda: thing(held=shapes.OwnLocal("acme")),
    "CC101 recreated value.held",
    check=lambda v: type(v.held) is shapes.OwnLocal and v.held.tenant == "nobody",
)
offender(
    "thread-local-with-arguments",
    lambda: thing(held=shapes.NeedyLocal("acme")),
    "CC101 recreated value.held",
    check=lambda v: type(v.held) is shapes.NeedyLocal,
)
offender(
    "asgiref-local",
    lambda: thing(held=AsgirefLocal()),
    "CC103 recreated value.held",
    check=lambda v: not hasattr(v.held, "user"),
)
offender(
    "werkzeug-local",
    lambda: thing(held=werkzeug.local.Local()),
    "CC103 recreated value.held",
    check=lambda v: list(v.held) == [],
)
offender(
    "context-variable",
    lambda: thing(held=_variable),
    "CC103 snapshotted value.held",
    check=lambda v: v.held is _variable or v.held.get() == "unset",
)
offender(
    "context-variable-without-a-name",
    lambda: thing(held=contextvars.ContextVar("made-here")),
    "CC103 stripped value.held",
    check=lambda v: is_stripped(v.held) and v.name == "kept",
)
offender(
    "context",
    lambda: {"a": 1, "held": contextvars.copy_context()},
    "CC103 stripped value['held']",
    check=lambda v: v["a"] == 1 and is_stripped(v["held"]),
)

# --- Proxies and lazy objects -------------------------------------------------------------------

offender(
    "local-proxy",
    lambda: {"user": werkzeug.local.LocalProxy(lambda: thing(id=7))},
    "CC104 snapshotted value['user']",
    check=lambda v: type(v["user"]) is shapes.Thing and v["user"].id == 7,
)
offender(
    "local-proxy-to-an-offender",
    lambda: [werkzeug.local.LocalProxy(shapes.Client)],
    "CC104 snapshotted value[0]",
    check=lambda v: type(v[0]) is shapes.Client and unlocked(v[0]._lock),
)
offender(
    "local-proxy-unbound",
    lambda: {"a": 1, "user": werkzeug.local.Local()("user")},
    "CC104 stripped value['user']",
    check=lambda v: v["a"] == 1 and is_stripped(v["user"]),
)
offender(
    "lazy-object",
    lambda: {"user": django.utils.functional.SimpleLazyObject(lambda: thing(id=7))},
    "CC105 snapshotted value['user']",
    check=lambda v: type(v["user"]) is shapes.Thing and v["user"].id == 7,
)
offender(
    "lazy-object-evaluated",
    lambda: {"user": _evaluated(thing(id=7))},
    "CC105 snapshotted value['user']",
    check=lambda v: v["user"].id == 7,
)

# --- Requests -----------------------------------------------------------------------------------


def environ() -> dict[str, Any]:
    """Return the environ of a request with credentials in every place that has some."""
    return werkzeug.test.EnvironBuilder(
        method="PUT",
        path="/cart",
        query_string="page=2&access_token=s3cret",
        headers={
            "Authorization": "Bearer s3cret",
            "Cookie": "sessionid=s3cret",
            "X-Api-Key": "s3cret",
            "Accept": "text/html",
        },
    ).get_environ()


def _is_snapshot(request: Any) -> bool:
    return (
        type(request) is RequestSnapshot
        and (request.method, request.path) == ("PUT", "/cart")
        and request.headers["Accept"] == "text/html"
        and dict(request.query) == {"page": ["2"]}
        and "s3cret" not in repr(request.__reduce__())
    )


offender(
    "werkzeug-request",
    lambda: {"request": werkzeug.wrappers.Request(environ())},
    "CC106 snapshotted value['request']",
    check=lambda v: _is_snapshot(v["request"]),
)
offender(
    "flask-request",
    lambda: thing(held=flask.Request(environ())),
    "CC106 snapshotted value.held",
    check=lambda v: _is_snapshot(v.held),
)
offender(
    "django-request",
    lambda: [_django_request()],
    "CC106 snapshotted value[0]",
    check=lambda v: _is_snapshot(v[0]),
)
offender(
    "werkzeug-headers",
    lambda: [werkzeug.datastructures.EnvironHeaders(environ())],
    "CC106 snapshotted value[0]",
    check=lambda v: v == [{"Host": "localhost", "Accept": "text/html"}],
)
offender(
    "django-headers",
    lambda: [django.http.request.HttpHeaders(environ())],
    "CC106 snapshotted value[0]",
    check=lambda v: v[0]["Accept"] == "text/html" and "s3cret" not in repr(v),
)
offender(
    "flask-g",
    lambda: {"g": _flask_g(user="ann"), "a": 1},
    "CC106 stripped value['g']",
    check=lambda v: is_stripped(v["g"]) and v["a"] == 1,
)

offender(
    "flask-session",
    lambda: {"session": flask.sessions.SecureCookieSession({"cart": [1]}), "a": 1},
    "CC106 snapshotted value['session']",
    check=lambda v: type(v["session"]) is dict and v["session"] == {"cart": [1]} and v["a"] == 1,
)

# --- What can only be stripped ------------------------------------------------------------------


def _generator() -> Any:
    yield 1


async def _async_generator() -> Any:
    yield 1


async def _coroutine() -> None:
    """Never awaited."""


def closed_coroutine() -> Any:
    made = _coroutine()
    made.close()
    return made


_local_class = type("Local", (), {"__qualname__": "zoo.<locals>.Local"})

for _name, _code, _build in (
    ("socket", "CC108", lambda: opened(socket.socket())),
    ("file", "CC107", lambda: opened(open(os.devnull))),  # noqa: SIM115
    ("binary-file", "CC107", lambda: opened(open(os.devnull, "rb"))),  # noqa: SIM115
    ("file-over-a-file", "CC107", lambda: shapes.Stream(opened(open(os.devnull, "rb")))),  # noqa: SIM115
    ("temporary-file", "CC107", lambda: opened(tempfile.NamedTemporaryFile())),  # noqa: SIM115
    ("sqlite-connection", "CC108", lambda: opened(sqlite3.connect(":memory:"))),
    ("redis-client", "CC108", lambda: opened(redis.Redis(port=1))),
    ("httpx-client", "CC108", lambda: opened(httpx.Client())),
    ("sqlalchemy-engine", "CC108", lambda: sqlalchemy.create_engine("sqlite://")),
    ("sqlalchemy-session", "CC108", lambda: sqlalchemy.orm.Session()),
    ("statement-of-sqlalchemy", "CC123", lambda: sqlalchemy.select(shapes.Customer)),
    ("mapped-attribute", "CC123", lambda: shapes.Customer.name),
    ("mapper", "CC123", lambda: sqlalchemy.inspect(shapes.Customer)),
    ("generator", "CC109", _generator),
    ("coroutine", "CC109", closed_coroutine),
    ("async-generator", "CC109", lambda: _async_generator()),
    ("csv-reader", "CC109", lambda: csv.reader(["a,b"])),
    ("lambda", "CC110", lambda: lambda: None),
    ("local-function", "CC110", lambda: _local_function()),
    ("replaced-function", "CC110", lambda: shapes.original_decorated),
    ("local-class", "CC110", lambda: _local_class),
    ("instance-of-a-local-class", "CC110", lambda: _local_class()),
    ("module", "CC111", lambda: os),
    ("weak-reference", "CC112", lambda: weakref.ref(shapes.Client)),
    ("ssl-context", "CC113", ssl.create_default_context),
    ("frame", "CC114", sys._getframe),
    ("traceback", "CC114", lambda: _error().__traceback__),
    ("code", "CC114", lambda: shapes.top_level.__code__),
    ("thread", "CC115", threading.Thread),
    ("future", "CC115", concurrent.futures.Future),
    ("hash-in-progress", "CC117", lambda: hashlib.sha256(b"a")),
    ("refuses-on-purpose", "CC117", lambda: shapes.RefusesOnPurpose()),
    ("raises-by-accident", "CC118", lambda: shapes.Raises()),
    ("environment", "CC120", lambda: os.environ),
    ("flask-app", "CC123", lambda: flask.Flask("zoo")),
):
    offender(
        f"{_name}-attribute",
        lambda build=_build: thing(held=build()),
        f"{_code} stripped value.held",
        check=lambda v: is_stripped(v.held) and v.name == "kept",
    )
    offender(f"{_name}-alone", _build, f"{_code} refused value")

offender(
    "secret-text",
    lambda: thing(held=pydantic.SecretStr("x")),
    "CC120 snapshotted value.held",
    check=lambda v: is_stripped(v.held.get_secret_value()) and v.name == "kept",
)
offender(
    "database-url",
    lambda: {"url": sqlalchemy.make_url("postgresql://shop:pw@db/shop")},
    "CC120 snapshotted value['url']",
    check=lambda v: is_stripped(v["url"].password) and v["url"].host == "db",
)
offender(
    "httpx-response-with-key",
    lambda: {"a": httpx.Response(200, json=1, request=_keyed_request())},
    "CC120 snapshotted value['a']._request",
    check=lambda v: v["a"].json() == 1 and v["a"].request.headers["accept"] == "x",
)
offender(
    "log-handler",
    lambda: thing(held=logging.StreamHandler()),
    "CC107 stripped value.held",
    check=lambda v: is_stripped(v.held),
)
offender(
    "generator-in-every-place",
    lambda: {
        "list": [1, _generator()],
        "tuple": (1, _generator()),
        "own": shapes.OwnDict(a=_generator()),
    },
    "CC109 stripped value['list'][1]",
    "CC109 stripped value['tuple'][1]",
    "CC109 stripped value['own']['a']",
    check=lambda v: (
        [is_stripped(v["list"][1]), is_stripped(v["tuple"][1]), is_stripped(v["own"]["a"])]
        == [True, True, True]
        and v["list"][0] == 1
    ),
)
offender(
    "bound-method-of-a-local-class",
    lambda: {"a": 1, "call": _method_of_a_local_class()},
    "CC110 stripped value['call'].__self__",
    check=lambda v: v["a"] == 1 and (is_stripped(v["call"]) or is_stripped(v["call"].__self__)),
)
offender(
    "lambda-as-default-factory",
    lambda: {"a": 1, "d": collections.defaultdict(lambda: 0, b=2)},
    "CC110 stripped value['d'].default_factory",
    check=lambda v: v["a"] == 1 and (is_stripped(v["d"]) or v["d"]["b"] == 2),
)
offender(
    "lambda-in-partial",
    lambda: {"a": 1, "call": functools.partial(lambda: None, 1)},
    "CC110 stripped value['call'].func",
    check=lambda v: v["a"] == 1,
)
offender(
    "weak-collections",
    lambda: thing(a=weakref.WeakSet(), b=weakref.WeakValueDictionary()),
    "CC112 recreated value.a",
    "CC112 recreated value.b",
    check=lambda v: len(v.a) == len(v.b) == 0,
)

# --- Left out, because the class says what unset is ---------------------------------------------

offender(
    "class-default",
    lambda: _with(shapes.WithDefault("kept"), client=_generator()),
    "CC109 left out value.client",
    check=lambda v: v.client is None and v.__dict__ == {"name": "kept"},
)
offender(
    "cached-property",
    lambda: _touched(shapes.WithCachedProperty("kept")),
    "CC109 left out value.stream",
    check=lambda v: list(v.stream) == [0, 1, 2] and v.name == "kept",
)

# --- Views --------------------------------------------------------------------------------------

offender(
    "dict-keys",
    lambda: [{"a": 1}.keys()],
    "CC116 snapshotted value[0]",
    check=lambda v: v == [["a"]],
)
offender(
    "dict-values", lambda: {"a": 1}.values(), "CC116 snapshotted value", check=lambda v: v == [1]
)
offender(
    "dict-items",
    lambda: thing(held={"a": 1}.items()),
    "CC116 snapshotted value.held",
    check=lambda v: v.held == [("a", 1)],
)
offender(
    "ordered-dict-keys",
    lambda: [collections.OrderedDict(a=1).keys()],
    "CC116 snapshotted value[0]",
    check=lambda v: v == [["a"]],
)
offender(
    "mapping-proxy",
    lambda: [types.MappingProxyType({"a": 1})],
    "CC116 snapshotted value[0]",
    check=lambda v: v == [{"a": 1}],
)
offender(
    "memoryview",
    lambda: {"body": memoryview(b"bytes")},
    "CC116 snapshotted value['body']",
    check=lambda v: v == {"body": b"bytes"},
)
offender(
    "sqlite-row",
    lambda: [_sqlite_row()],
    "CC116 snapshotted value[0]",
    check=lambda v: v == [{"a": 1, "b": "x"}],
)

# --- Pickles, but does not load -----------------------------------------------------------------

offender(
    "exception-that-wants-more",
    lambda: {"a": 1, "error": shapes.ChoosyError("bad", 404)},
    "CC119 stripped value['error']",
    check=lambda v: v["a"] == 1 and is_stripped(v["error"]),
)
offender(
    "methods-without-their-name",
    lambda: shapes.Handlers(),
    *(["CC119 stripped value.private"] if sys.version_info < (3, 15) else []),
    "CC119 stripped value.wrapped",
    "CC119 stripped value.patched",
    check=lambda v: v.name == "handlers",
)
offender(
    "exception-that-wants-more-alone", lambda: shapes.ChoosyError("bad", 404), "CC119 refused value"
)
offender(
    "datetime-with-an-attribute",
    lambda: {"at": _with(shapes.Stamp(2026, 1, 2), source="bank")},
    "CC122 observed value['at']",
    check=lambda v: v["at"] == dt.datetime(2026, 1, 2) and v["at"].source == "",
)
offender(
    "narrow-default-dict",
    lambda: [shapes.NarrowDict()],
    "CC119 stripped value[0]",
    check=lambda v: is_stripped(v[0]),
)
offender(
    "delegating-getattr",
    lambda: thing(held=shapes.Delegates([1])),
    "CC119 stripped value.held",
    check=lambda v: is_stripped(v.held) and v.name == "kept",
)
offender(
    "httpx-status-error",
    lambda: {"a": 1, "error": _status_error()},
    "CC119 stripped value['error']",
    check=lambda v: v["a"] == 1 and is_stripped(v["error"]),
)

# --- Pickles, but should not without a word -----------------------------------------------------

offender(
    "requests-session-subclass",
    lambda: {"a": 1, "session": _with(requests.Session(), token="t")},
    "CC122 stripped value['session']",
    check=lambda v: v["a"] == 1,
)
offender(
    "paginator-page",
    lambda: django.core.paginator.Paginator(list(range(100)), 5).page(2),
    "CC121 left out value.paginator.object_list",
    check=lambda v: list(v.object_list) == [5, 6, 7, 8, 9] and v.paginator.num_pages == 20,
)

# --- Innocents ----------------------------------------------------------------------------------

for _name, _value in {
    "none": None,
    "numbers": [0, -1, 2**70, 1.5, float("inf"), 2j, True],
    "text": ["", "é", "\N{SNOWMAN}", "\ud800", "x" * 100_000],
    "bytes": [b"", b"\x80", bytearray(b"x"), b"y" * 100_000],
    "containers": {"a": [1, (2, {3}), frozenset([4])], "b": {}, "c": ()},
    "nested-400": functools.reduce(lambda held, _: [held], range(400), 1),
    "many": {f"user:{number}": {"id": number, "tags": ["a", "b"]} for number in range(2000)},
    "range-and-slice": [range(3), slice(1, 2, 3), ...],
    "singletons": [NotImplemented, Ellipsis, type(None), type(...), type(NotImplemented)],
}.items():
    innocent(_name, lambda value=_value: value, lambda v, value=_value: v == value)

for _name, _build in {
    "dates": lambda: [
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
        dt.date(2026, 1, 2),
        dt.timedelta(1),
        dt.time(1),
        dt.timezone(dt.timedelta(hours=2)),
    ],
    "decimals": lambda: [decimal.Decimal("9.90"), fractions.Fraction(1, 3)],
    "uuid": lambda: uuid.UUID(int=7),
    "path": lambda: [pathlib.Path("a/b"), pathlib.PurePosixPath("c")],
    "zone": lambda: zoneinfo.ZoneInfo("UTC"),
    "collections": lambda: [
        collections.OrderedDict(a=1),
        collections.deque([1], 3),
        collections.Counter("aab"),
        collections.ChainMap({"a": 1}),
        collections.defaultdict(int, a=1),
        collections.UserDict(a=1),
        array.array("i", [1]),
        types.SimpleNamespace(a=1),
    ],
    "dataclasses": lambda: [
        shapes.Item("a"),
        shapes.Frozen("b"),
        shapes.FrozenSlots("c"),
        shapes.SlotsData("d"),
    ],
    "attrs": lambda: [shapes.AttrsItem("a"), shapes.AttrsFrozen("b", [1])],
    "namedtuple": lambda: [shapes.Row("a", 1), shapes.Pair((1, 2))],
    "pydantic": lambda: shapes.Model(name="ann", held=[1]),
    "enums": lambda: [shapes.Colour.RED, shapes.Colour.RED | shapes.Colour.BLUE],
    "safe-string": lambda: django.utils.safestring.mark_safe("<b>"),
    "multi-dict": lambda: werkzeug.datastructures.MultiDict([("a", "1"), ("a", "2")]),
    "headers": lambda: werkzeug.datastructures.Headers({"Accept": "text/html"}),
}.items():
    innocent(_name, _build, lambda v, build=_build: v == build())

innocent(
    "bytes-io", lambda: [io.BytesIO(b"abc"), io.StringIO("d")], lambda v: v[0].read() == b"abc"
)
innocent(
    "stream-in-memory",
    lambda: shapes.Stream(io.BytesIO(b"abc")),
    lambda v: v.inner.read() == b"abc",
)
innocent(
    "response-of-urllib3",
    lambda: {"raw": urllib3.HTTPResponse(b"abc")},
    lambda v: v["raw"].data == b"abc",
)
innocent(
    "statement-of-a-table",
    lambda: sqlalchemy.select(sqlalchemy.table("shop", sqlalchemy.column("name"))),
    lambda v: str(v).startswith("SELECT shop.name"),
)
innocent("row-of-sqlalchemy", lambda: shapes.Customer(id=1, name="ann"), lambda v: v.name == "ann")
innocent("pattern", lambda: re.compile("a+"), lambda v: v == re.compile("a+"))
innocent(
    "loggers",
    lambda: [shapes.log, logging.getLogger(), logging.LoggerAdapter(shapes.log, {})],
    lambda v: v[0] is shapes.log,
)
innocent(
    "functions-by-name",
    lambda: [
        shapes.top_level,
        shapes.cached,
        shapes.decorated,
        shapes.Thing,
        len,
        "x".upper,
        str.upper,
        dict.fromkeys,
        operator.itemgetter("a"),
        operator.attrgetter("b"),
        operator.methodcaller("c", 1),
        functools.partial(shapes.top_level, 1),
        shapes.WithMeta,
    ],
    lambda v: v[0] is shapes.top_level and v[3] is shapes.Thing and v[5]() == "X",
)
innocent("bound-method", lambda: thing().method, lambda v: v() == "called")
innocent("bound-method-of-a-container", lambda: [1].append, lambda v: v.__self__ == [1])
innocent(
    "classes",
    lambda: [int, Exception, threading.Thread, enum.Enum, collections.abc.Mapping],
    lambda v: v[0] is int and v[2] is threading.Thread,
)
innocent("generic-alias", lambda: [list[int], dict[str, int]], lambda v: v[0] == list[int])
innocent(
    "iterators",
    lambda: [iter([1, 2]), iter("ab"), iter((1,)), reversed([1])],
    lambda v: list(v[0]) == [1, 2],
)
innocent(
    "iterators-of-builtins",
    lambda: [zip([1], [2], strict=False), enumerate("ab"), map(str, [1])],
    lambda v: list(v[0]) == [(1, 2)],
)
innocent(
    "exceptions",
    lambda: [ValueError("a", 1), OSError(2, "no"), shapes.PlainError("b"), KeyError("k")],
    lambda v: v[1].errno == 2,
)
innocent(
    "exception-with-state",
    lambda: _with(shapes.PlainError("bad"), status=404),
    lambda v: v.status == 404,
)
innocent(
    "slots",
    lambda: [shapes.Slots("a", 1), shapes.SlotsChild("b", 2, 3), shapes.SlotsAndDict("c")],
    lambda v: v[1].extra == 3,
)
innocent(
    "own-containers",
    lambda: [
        _with(shapes.OwnDict(a=1), b=2),
        _with(shapes.OwnList([1]), b=2),
        _with(shapes.OwnSet([1]), b=2),
        _with(shapes.OwnDeque([1]), b=2),
    ],
    lambda v: v[0].b == 2 and v[3].b == 2,
)
innocent(
    "copyreg", lambda: [shapes.Registered("a", 1), shapes.Registered("b")], lambda v: v[0].held == 1
)
innocent(
    "reducers",
    lambda: [
        shapes.Reduced("a"),
        shapes.ReducedEx("b", 1),
        shapes.NewArgs("c"),
        shapes.NewArgsEx(name="d"),
        shapes.StateSetter(1),
        shapes.Renames(2),
        shapes.TupleState(3),
        shapes.GLOBAL,
    ],
    lambda v: v[7] is shapes.GLOBAL and v[4].held == 1,
)
innocent(
    "extended", lambda: _extended(1, 2, a=3), lambda v: v.items == [1, 2] and v.pairs == {"a": 3}
)
innocent(
    "metaclass",
    lambda: [shapes.WithMeta(1), shapes.WithMeta, shapes.Meta],
    lambda v: v[0].held == 1,
)
innocent(
    "lock-left-out-by-its-owner",
    lambda: [shapes.Filters("a"), shapes.Filters("b")],
    lambda v: v[1].name == "b" and unlocked(v[1].lock),
)
innocent("lock-on-an-enum-member", lambda: [shapes.Door.OPEN], lambda v: v[0] is shapes.Door.OPEN)
innocent(
    "asyncio-primitives",
    lambda: [asyncio.Lock(), asyncio.Event(), asyncio.Queue()],
    lambda v: not v[0].locked(),
)
innocent("random", lambda: random.Random(4), lambda v: v.random() == random.Random(4).random())
innocent("decimal-context", lambda: decimal.Context(prec=5), lambda v: v.prec == 5)
innocent(
    "shared",
    lambda: (lambda one: [one, one, {"again": one}])(shapes.Item("a")),
    lambda v: v[0] is v[1] is v[2]["again"],
)
innocent("cycle", lambda: _cycle(lock=False), lambda v: v.children[0].parent is v)
innocent("list-in-itself", lambda: (lambda own: (own.append(own), own)[1])([]), lambda v: v[0] is v)
innocent(
    "dict-in-itself", lambda: (lambda own: (own.update(me=own), own)[1])({}), lambda v: v["me"] is v
)
innocent(
    "tuple-in-itself",
    lambda: (lambda inner: (inner.append((inner,)), inner[0])[1])([]),
    lambda v: v[0][0] is v,
)
innocent("requests-session", requests.Session, lambda v: "Accept" in v.headers)
innocent(
    "requests-response",
    lambda: _with(requests.Response(), _content=b"x", status_code=200),
    lambda v: v.content == b"x",
)
innocent(
    "httpx-response", lambda: httpx.Response(200, json={"a": 1}), lambda v: v.json() == {"a": 1}
)
innocent("class-default-unset", lambda: shapes.WithDefault("kept"), lambda v: v.client is None)
innocent(
    "product-and-count",
    lambda: [itertools.count, itertools.chain],
    lambda v: v[0] is itertools.count,
)

# --- Builders -----------------------------------------------------------------------------------


def _with(obj: Any, **held: Any) -> Any:
    for name, value in held.items():
        setattr(obj, name, value)
    return obj


def _private(model: shapes.Model, held: object) -> shapes.Model:
    model._private = held
    return model


def _filled(made: queue.Queue[str]) -> queue.Queue[str]:
    made.put("item")
    return made


def _extended(*items: object, **pairs: object) -> shapes.Extends:
    made = shapes.Extends()
    made.items.extend(items)
    made.pairs.update(pairs)
    return made


def _cycle(*, lock: bool = True) -> shapes.Node:
    root = shapes.Node("root")
    child = shapes.Node("child", root)
    if lock:
        child.held = threading.Lock()  # type: ignore[attr-defined]
    return root


def _notifies(condition: threading.Condition) -> bool:
    with condition:
        condition.notify_all()
    return True


def _computes(pool: concurrent.futures.ThreadPoolExecutor) -> bool:
    with pool:
        return pool.submit(shapes.top_level, 1).result(5) == 2 and pool._max_workers == 3


def _evaluated(obj: object) -> object:
    lazy = django.utils.functional.SimpleLazyObject(lambda: obj)
    str(lazy)
    return lazy


def _django_request() -> django.http.HttpRequest:
    request = object.__new__(django.http.HttpRequest)  # its __init__ wants settings
    request.__dict__.update(
        META=environ(), method="PUT", path="/cart", GET={}, COOKIES={"a": "s3cret"}
    )
    return request


def _flask_g(**held: object) -> object:
    with flask.Flask("zoo").app_context():
        return _with(flask.g._get_current_object(), **held)


def _local_function() -> Callable[[], None]:
    def local() -> None:
        """Not importable."""

    return local


def _method_of_a_local_class() -> object:
    class Local:
        def method(self) -> None:
            """Not importable."""

    return Local().method


def _error() -> Exception:
    try:
        raise ValueError("bad")
    except ValueError as error:
        return error


def _keyed_request() -> httpx.Request:
    headers = {"Accept": "x", "Authorization": "Bearer k"}
    return httpx.Request("GET", "http://shop.example/", headers=headers)


def _status_error() -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://shop.example/")
    return httpx.HTTPStatusError(
        "404", request=request, response=httpx.Response(404, request=request)
    )


def _sqlite_row() -> sqlite3.Row:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    row: sqlite3.Row = connection.execute("select 1 as a, 'x' as b").fetchone()
    connection.close()
    return row


def _touched(obj: shapes.WithCachedProperty) -> shapes.WithCachedProperty:
    _ = obj.stream
    return obj
