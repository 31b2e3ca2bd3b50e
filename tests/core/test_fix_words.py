"""Fixes in words: for each sentence a value with the finding, and the same value as it says."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextvars
import copy
import ctypes
import functools
import hmac
import http.client
import io
import logging
import os
import queue
import random
import sqlite3
import ssl
import threading
import traceback
import types
import weakref
from typing import TYPE_CHECKING, Any

import bs4
import celery
import celery.result
import flask
import flask_login
import google.oauth2.credentials
import httpx
import jinja2
import loguru
import pydantic
import pytest
import requests
import sqlalchemy
import werkzeug.datastructures
import werkzeug.local
from django.core.paginator import Paginator

import tests.zoo
from contextcache import explain
from contextcache.engine import field_names
from contextcache.rules import verdicts
from contextcache.rules.builtin import BUILT_IN
from contextcache.rules.rule import Verdict
from tests.core import fix_cases, shapes

if TYPE_CHECKING:
    from collections.abc import Callable

SAMPLES: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = []
"""The words, a value that they are said about, and the value after the fix."""


def sample(fix: str, before: Callable[[], Any], after: Callable[[], Any] = list) -> None:
    """Add a sample; where nothing has to be stored, a reader makes it again."""
    SAMPLES.append((fix, before, after))


def all_words() -> set[str]:
    """Return the words of every fix without code."""
    told = {rule.fix for rule in BUILT_IN.values()}
    told |= {one.fix for one in vars(verdicts).values() if isinstance(one, Verdict)}
    told |= {text for name, text in vars(field_names).items() if name.isupper()}
    return {text for text in told if text and isinstance(text, str)}


class Leaves:
    """A class that leaves a field out, as it was told."""

    def __init__(self, held: Any = None) -> None:
        self.name, self.held = "leaves", held

    def __getstate__(self) -> dict[str, object]:
        return {"name": self.name}


class Loop:
    """Refers to itself through the arguments of its reduce value."""

    def __init__(self, held: Any = None) -> None:
        self.held = held

    def __reduce__(self) -> Any:
        return Loop, (self.held,)


class LoopInState(Loop):
    def __reduce__(self) -> Any:
        return LoopInState, (), {"held": self.held}


def loop(cls: Any) -> Any:
    made = cls()
    made.held = made
    return made


class Counts(collections.Counter):  # type: ignore[type-arg]
    """Counts, with a name that pickle does not store."""


class KeepsCounts(collections.Counter):  # type: ignore[type-arg]
    def __reduce__(self) -> Any:
        return KeepsCounts, (dict(self),), self.__dict__


class Memo:
    """Memoizes its own method."""

    def __init__(self) -> None:
        self.price = functools.lru_cache(maxsize=9)(self._price)

    def _price(self, number: int) -> int:
        return number


class Account(flask_login.UserMixin):  # type: ignore[misc]
    id = 1


def environ(**more: Any) -> dict[str, Any]:
    return {"HTTP_COOKIE": "a=b", "PATH_INFO": "/", **more}


def nested(levels: int = 100_000) -> Any:
    return functools.reduce(lambda held, _: [held], range(levels), 1)


def caused() -> Exception:
    try:
        try:
            raise KeyError("a")
        except KeyError as error:
            raise ValueError("b") from error
    except ValueError as error:
        return error


class Grows:
    """Changes what holds it whenever it is stored, as another thread may."""

    def __init__(self, holder: dict[Any, Any]) -> None:
        self.holder = holder

    def __getstate__(self) -> None:
        self.holder[len(self.holder)] = 1


def growing() -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    made.update({"a": Grows(made), "b": 1})
    return made


def logged_in() -> Any:
    flask_login.login_user(Account())
    return flask_login.current_user


def of_package(module: str, name: str) -> Any:
    """Return an object of a class that has the name of one of a package."""
    return type(name, (), {"__module__": module})()


def with_attribute(obj: Any, **held: Any) -> Any:
    vars(obj).update(held)
    return obj


def page() -> Any:
    return Paginator(list(range(100)), 5).page(2)


def tag() -> Any:
    return bs4.BeautifulSoup("<p><b>text</b></p>", "html.parser").b


def local() -> Any:
    return tests.zoo._local_function()


Held = fix_cases.Either
_variable: contextvars.ContextVar[int] = contextvars.ContextVar("words", default=1)

sample(
    "leave it out in __getstate__ of Either; across processes it protects nothing",
    lambda: Held(threading.Lock()),
    lambda: Leaves(threading.Lock()),
)
sample(
    "leave it out in __getstate__ of Either, or store the value you need from it",
    lambda: Held(threading.local()),
    lambda: Leaves(threading.local()),
)
sample("store the items, as a list", lambda: [queue.SimpleQueue()], lambda: [["item"]])
sample(
    "store the variable's value, from its get()",
    lambda: Held(tests.zoo._variable),
    lambda: Held(tests.zoo._variable.get()),
)
sample(
    "store the values you need from it",
    lambda: [contextvars.copy_context()],
    lambda: [contextvars.copy_context().get(_variable)],
)
sample(
    "store the value you need from it", lambda: [werkzeug.local.Local()], lambda: [{"user": "ann"}]
)
sample(
    "leave it out in __getstate__ of Either, and make it on first use",
    lambda: Held(concurrent.futures.ThreadPoolExecutor()),
    lambda: Leaves(concurrent.futures.ThreadPoolExecutor()),
)
sample(
    "store the values you need from it, not the request",
    lambda: [flask.Request(environ())],
    lambda: [flask.Request(environ()).path],
)
sample(
    'store single headers, such as request.headers["User-Agent"]',
    lambda: [werkzeug.datastructures.EnvironHeaders(environ(HTTP_USER_AGENT="x"))],
    lambda: [werkzeug.datastructures.EnvironHeaders(environ(HTTP_USER_AGENT="x"))["User-Agent"]],
)
sample("store the values you need from g, not g", lambda: [tests.zoo._flask_g(user="ann")])
sample(
    "store the file's name or its content",
    lambda: [tests.zoo.opened(open(os.devnull))],  # noqa: SIM115
    lambda: [tests.zoo.opened(open(os.devnull)).name, ""],  # noqa: SIM115
)
sample("store the logger's name", lambda: [logging.StreamHandler()], lambda: ["tests.shop"])
sample(
    "store its .path",
    lambda: list(os.scandir(os.curdir))[:1],
    lambda: [entry.path for entry in list(os.scandir(os.curdir))[:1]],
)
sample(
    "store the data or the settings of the client, and build the client on read",
    lambda: [fix_cases.CLIENT],
    lambda: [{"base_url": str(fix_cases.CLIENT.base_url)}],
)


class Wire:
    def makefile(self, *_: object) -> Any:
        return io.BytesIO(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def answer() -> Any:
    made = http.client.HTTPResponse(Wire())  # type: ignore[arg-type]
    made.begin()
    return made


sample(
    "store what it says: its status, its headers, and what read() returns",
    lambda: [answer()],
    lambda: [(lambda made: [made.status, made.getheaders(), made.read()])(answer())],
)
sample(
    "store its rows, as in list(...)",
    lambda: [tests.zoo.opened(sqlite3.connect(":memory:")).execute("select 1")],
    lambda: list(tests.zoo.opened(sqlite3.connect(":memory:")).execute("select 1")),
)
sample("build the context on read", lambda: [ssl.create_default_context()])
sample(
    "store its items: list(...), or the awaited result",
    lambda: [fix_cases.iter_rows()],
    lambda: [list(fix_cases.iter_rows()), asyncio.run(fix_cases.coroutine())],
)
sample("store the module's name and import it on read", lambda: [os], lambda: [os.__name__])
sample(
    "store the object itself or its key",
    lambda: [weakref.ref(fix_cases.KEPT)],
    lambda: [fix_cases.KEPT, fix_cases.KEPT.name],
)
sample(
    "store the objects in a plain set or dict, or leave it out in __getstate__ of Either",
    lambda: Held(weakref.WeakSet([fix_cases.KEPT])),
    lambda: [Held({fix_cases.KEPT.name: fix_cases.KEPT}), Leaves(weakref.WeakSet())],
)
sample(
    "store its text, for example traceback.format_exc()",
    lambda: [tests.zoo._error().__traceback__],
    lambda: [traceback.format_exception(tests.zoo._error())],
)
sample(
    "store its result, and start it again on read if it is needed",
    lambda: [concurrent.futures.Future()],
    lambda: [1],
)
sample("make it where it is used", lambda: [random.SystemRandom()])
sample(
    "store the object, and take the method from it on read",
    lambda: shapes.Handlers(),
    lambda: [shapes.Thing()],
)
sample(
    "store the data you fetched, and take the client from where the application keeps it",
    lambda: [os.environ],
    lambda: [os.environ.get("LANG")],
)
sample(
    "store the data you need, and take it from the application on read",
    lambda: [flask.Flask("words").config],
    lambda: [flask.Flask("words").config["TESTING"]],
)
sample(
    "store its id, and make AsyncResult(id) on read",
    lambda: [celery.result.AsyncResult("7", app=celery.Celery("words", set_as_current=False))],
    lambda: ["7"],
)
sample(
    "store the data it was used for, and take it from the settings on read",
    lambda: [pydantic.SecretStr("s3cret")],
)
sample(
    "store it encrypted, or fetch it where it is used",
    lambda: [google.oauth2.credentials.Credentials("s3cret")],
)
sample(
    "store what the response says, such as its status and json(), not the response",
    lambda: [httpx.Request("GET", "http://a.example", headers={"Authorization": "Bearer s3cret"})],
    lambda: [200, {"a": 1}],
)
sample("store list(...) of it", lambda: [{"a": 1}.keys()], lambda: [list({"a": 1}.keys())])
sample(
    "store dict(...) of it",
    lambda: [types.MappingProxyType({"a": 1})],
    lambda: [dict(types.MappingProxyType({"a": 1}))],
)
sample("store bytes(...) of it", lambda: [memoryview(b"a")], lambda: [bytes(memoryview(b"a"))])
sample(
    "store page.object_list as a list, with page.number and paginator.num_pages",
    page,
    lambda: [list(page().object_list), page().number, page().paginator.num_pages],
)
sample("store str(...) of it", lambda: [tag().string], lambda: [str(tag().string)])
sample(
    "store str(...) of it, or copy.copy(...)",
    lambda: [tag()],
    lambda: [str(tag()), copy.copy(tag())],
)
sample(
    "store the settings, and build the session on read",
    lambda: [with_attribute(requests.Session(), token="t")],
    lambda: [{"verify": requests.Session().verify}],
)
sample(
    "give the class a __reduce__ that stores its attributes, too",
    lambda: [with_attribute(Counts("aab"), label="a")],
    lambda: [with_attribute(KeepsCounts("aab"), label="a")],
)
sample(
    "store traceback.format_exception(error), or the cause beside it",
    lambda: [caused()],
    lambda: [traceback.format_exception(caused()), ValueError("b"), KeyError("a")],
)
sample(
    "take it from the application on read, such as current_app",
    lambda: [flask.Flask("words")],
)
sample(
    "store the rendered text or the template's name",
    lambda: [jinja2.Template("{{ a }}")],
    lambda: [jinja2.Template("{{ a }}").render(a=1), "cart.html"],
)
sample(
    "store the name of the class or attribute",
    lambda: [shapes.Customer.name],
    lambda: ["Customer", "name"],
)
sample(
    "store its rows, or str(...) of it",
    lambda: [sqlalchemy.select(shapes.Customer)],
    lambda: [str(sqlalchemy.select(shapes.Customer)), [(1, "ann")]],
)
sample(
    "cache the response before callbacks are added",
    lambda: [with_attribute(flask.Response("a"), _on_close=[local()])],
    lambda: [flask.Response("a")],
)
sample(
    "leave it out in __getstate__ of Either, or store what it was made from",
    lambda: Held(ctypes.c_char_p(b"a")),
    lambda: [Leaves(ctypes.c_char_p(b"a")), Held(b"a")],
)
sample(
    "mend its __reduce__ or __getstate__, or store what it was made from",
    lambda: [shapes.Raises()],
    lambda: [Leaves(), "what it was made from"],
)
sample(
    "move it to the top level of a module, under its own name",
    lambda: [local()],
    lambda: [shapes.top_level],
)
sample(
    "define it with def, under its own name, at the top level of a module",
    lambda: [fix_cases.TOP],
    lambda: [fix_cases.iter_rows],
)
sample(
    "give it a __reduce__ that its constructor accepts, or store what it was made from",
    lambda: [shapes.ChoosyError("bad", 404)],
    lambda: [shapes.Reduced("kept"), ("bad", 404)],
)
sample("store a flat list with ids instead of nested objects", nested, lambda: [(1, 2), (2, 3)])
sample(
    "return what refers back to it as the state of __reduce__, not as its arguments",
    lambda: loop(Loop),
    lambda: loop(LoopInState),
)
sample(
    "store the values you need from request.environ, not all of it",
    lambda: [environ(**{"werkzeug.socket": None})],
    lambda: [{"path": environ()["PATH_INFO"]}],
)
sample(
    "store what it was made from",
    lambda: [flask.Flask("words").view_functions["static"]],
    lambda: ["static"],
)
sample(
    "leave it out in __getstate__ of Memo, and make it again on read",
    Memo,
    lambda: Leaves(Memo().price),
)
sample(
    "another object stands under its name in its module: store that name, and look it up on read",
    lambda: [shapes.original_decorated],
    lambda: ["tests.core.shapes", "original_decorated"],
)
sample(
    "assign it in a module, and set its __module__ and __qualname__ to that module and that name",
    lambda: [type("Made", (), {"__module__": "gone.module"})],
    lambda: [shapes.Thing],
)
sample(
    "store the data you need from it",
    lambda: [fix_cases.bound(False, fix_cases.Plain())],
    lambda: [fix_cases.Plain().id],
)
sample(
    "store its primary key (.pk), and fetch it on read",
    lambda: [fix_cases.bound(False, fix_cases.Row())],
    lambda: [fix_cases.bound(False, fix_cases.Row()).pk],
)
sample(
    "store its get_id(), and load the user on read",
    lambda: [fix_cases.bound(True, Account())],
    lambda: [fix_cases.bound(True, Account()).get_id()],
)
sample(
    "store the primary key of the user, and fetch the user on read",
    lambda: [fix_cases.bound(True, fix_cases.Account())],
    lambda: [fix_cases.bound(True, fix_cases.Account()).id],
)
sample(
    "store proxy._get_current_object(), or the value you need from it",
    lambda: [fix_cases.bound(True, {"a": 1})],
    lambda: [fix_cases.bound(True, {"a": 1})._get_current_object(), 1],
)


sample(
    "use current_app where the data is read, and do not store it",
    lambda: [flask.current_app],
)
sample(
    "store current_user.get_id(), and load the user on read",
    lambda: [logged_in()],
    lambda: [logged_in().get_id()],
)
sample(
    "store a copy made under the lock that guards it", growing, lambda: dict.fromkeys(growing(), 1)
)
sample(
    "store the values you need from the session",
    lambda: [flask.session._get_current_object()],  # type: ignore[attr-defined]
    lambda: [flask.session.get("cart")],
)
sample(
    "store what it was made from, and make it where it is used",
    lambda: [hmac.new(b"key", b"text", "sha256")],
    lambda: ["text"],
)
sample(
    "store its state and its tokens, and build the flow on read",
    lambda: [of_package("google_auth_oauthlib.flow", "Flow")],
    lambda: [{"state": "a"}],
)
sample("import the logger where it is used: from loguru import logger", lambda: [loguru.logger])
sample(
    "take the logger from structlog.get_logger() where it is used",
    lambda: [of_package("structlog", "PrintLogger")],
)
sample(
    "take it from the request on read: request.app",
    lambda: [of_package("starlette.applications", "Starlette")],
)
sample(
    "store its result, and create it where it is used",
    lambda: [of_package("concurrent.interpreters", "Interpreter")],
)


@pytest.mark.parametrize(("fix", "before", "after"), SAMPLES, ids=[one[0][:40] for one in SAMPLES])
def test_the_words_can_be_followed(
    fix: str, before: Callable[[], Any], after: Callable[[], Any]
) -> None:
    """What they say leaves nothing to report."""
    app = flask.Flask("words")
    app.secret_key = "words"
    flask_login.LoginManager(app)
    with app.test_request_context("/cart"):
        assert fix in {finding.fix for finding in explain(before())}
        assert [str(finding) for finding in explain(after())] == []
