"""What people reported, and the same values today: each with the text of then and of now.

`make before-after` performs them all, with stock pickle as every cache uses it and with
contextcache, and writes `docs/before-after.md`. An object is that of the library itself where the
report is about a library that can be installed; otherwise a class here has the shape described.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import ctypes
import dataclasses
import gc
import html
import io
import json
import logging
import os
import pickle
import re
import socket
import ssl
import subprocess
import tempfile
import textwrap
import threading
import warnings
import weakref
from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import django
import flask
import flask_login

from contextcache import Guard, UncacheableValueError
from contextcache.testing import capture_findings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contextcache import Finding

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

PAGE = Path(__file__).parent.parent / "docs" / "before-after.md"


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One report.

    Attributes:
        id: Repository and number: `braintree/braintree_python#168`.
        did: What they did, in one clause.
        label: What they stored it in, as contextcache names it.
        build: Makes the value.
    """

    id: str
    did: str
    label: str
    build: Callable[[], Any]

    @property
    def url(self) -> str:
        """Where it was reported."""
        repository, kind, number = re.split(r"([#!])", self.id)
        return f"https://github.com/{repository}/{'issues' if kind == '#' else 'pull'}/{number}"


REPORTS: list[Report] = []


def report(name: str, did: str, label: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Add what is decorated to the reports."""

    def add(build: Callable[[], Any]) -> Callable[[], Any]:
        REPORTS.append(Report(name, did, label, build))
        return build

    return add


# The shapes that are described in the reports


class Session:
    def __init__(self, user: str) -> None:
        import httpx

        self.user = user
        self.client = httpx.Client(base_url="https://api.example")


class ChatModel:
    def __init__(self) -> None:
        import openai

        self.model = "gpt"
        self.client = openai.OpenAI(api_key="k")


class Agent:
    def __init__(self) -> None:
        self.name = "agent"
        self.verify = ssl.create_default_context()


class MemoryConfig:
    def __init__(self) -> None:
        self.host = "localhost"
        self._lock = threading.Lock()


class Story:
    def __init__(self) -> None:
        import boto3

        self.title = "story"
        keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k"}
        self.storage = boto3.resource("s3", region_name="eu-west-1", **keys)


class Document:
    def __init__(self) -> None:
        import pymongo

        self.title = "page"
        self._collection = pymongo.MongoClient(connect=False)["shop"]["pages"]


class Grant:
    def __init__(self) -> None:
        self.client_id = "app"
        self.user = flask_login.current_user


class SiteSettings:
    def __init__(self, request: Any) -> None:
        self.site = 1
        self._request = request


class ImageBackend:
    def __init__(self) -> None:
        from django.core.cache import cache

        self.name = "celery"
        self.cache = cache


class Repository:
    table = "users"

    def __init__(self) -> None:
        self.connection = opened(socket.socket())


class PaymentDeclined(Exception):
    def __init__(self, message: str, order: int) -> None:
        super().__init__(message)
        self.order = order


class Node:
    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.name = name
        self.parent = weakref.ref(parent) if parent is not None else None


def tag(name: str) -> str:
    return f"<{name}>"


undecorated = tag
tag = lambda name: undecorated(name)  # noqa: E731  # what a decorator without functools.wraps does
current_tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="acme")
ROOT = Node("root")


_opened: list[Any] = []


def opened(resource: Any) -> Any:
    """Keep `resource` until the report is told, and close it before Python complains about it."""
    _opened.append(resource)
    return resource


def a_request() -> Any:
    from django.core.handlers.wsgi import WSGIRequest

    return WSGIRequest(
        {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/cart",
            "SERVER_NAME": "shop.example",
            "SERVER_PORT": "80",
            "wsgi.input": opened(open(os.devnull, "rb")),
            "wsgi.url_scheme": "http",
            "HTTP_COOKIE": "sessionid=s3cret",
        }
    )


# The reports


@report("braintree/braintree_python#168", "put a customer into Django's cache", "cache['customer']")
def _() -> Any:
    import braintree

    keys = {"merchant_id": "m", "public_key": "p", "private_key": "k"}
    gateway = braintree.BraintreeGateway(
        braintree.Configuration(braintree.Environment.Sandbox, **keys)
    )
    return braintree.Customer(gateway, {"id": "c1", "credit_cards": [], "addresses": []})


@report("matthewwithanm/django-imagekit#489", "deferred an image", "cache['image']")
def _() -> Any:
    return {"source": "a.jpg", "backend": ImageBackend()}


@report("elastic/elasticsearch-dsl-py#558", "cached a search response", "cache['search']")
def _() -> Any:
    from elasticsearch import Elasticsearch
    from elasticsearch.dsl import Search
    from elasticsearch.dsl.response import Response

    search = Search(using=Elasticsearch("http://localhost:9200"), index="x")
    return Response(search, {"took": 3, "hits": {"hits": [], "total": {"value": 0}}})


@report(
    "googleapis/google-auth-library-python#1509", "cached an authorized session", "cache['google']"
)
def _() -> Any:
    from google.auth.transport.requests import AuthorizedSession
    from google.oauth2.credentials import Credentials

    return {"session": AuthorizedSession(Credentials("token"))}


@report("langflow-ai/langflow#1324", "cached a flow with a chat model in Redis", "cache['flow']")
def _() -> Any:
    return {"nodes": [ChatModel()]}


@report("langflow-ai/langflow#13171", "cached a flow with an agent in Redis", "cache['flow']")
def _() -> Any:
    return {"agent": Agent()}


@report("strands-agents/samples#180", "stored the memory's configuration", "cache['memory']")
def _() -> Any:
    return MemoryConfig()


@report("zilliztech/GPTCache#525", "cached the call of a model", "cache['call']")
def _() -> Any:
    return {"prompt": "hello", "encoder": json}


@report("tastyware/tastytrade#196", "kept the API session between runs", "cache['session']")
def _() -> Any:
    return Session("ann")


@report("rams3sh/botocache#1", "cached the answer of S3", "cache['object']")
def _() -> Any:
    from botocore.response import StreamingBody

    return {"ContentLength": 3, "Body": StreamingBody(io.BufferedReader(io.BytesIO(b"abc")), 3)}  # type: ignore[arg-type]


@report("boto/boto3#2255", "cached an object with its storage", "cache['story']")
def _() -> Any:
    return Story()


@report("hmarr/mongoengine#135", "put a document into the session", "session")
def _() -> Any:
    return {"page": Document()}


@report("MongoEngine/mongoengine#442", "cached a result of MongoDB", "cache['rows']")
def _() -> Any:
    import pymongo

    return {"rows": pymongo.MongoClient(connect=False)["shop"]["pages"].find({})}


@report("pallets-eco/flask-session#180", "kept the tokens of Azure in the session", "session")
def _() -> Any:
    import msal

    return {"tokens": msal.SerializableTokenCache()}


@report("redis/redis-py#1029", "stored an object with its Redis client", "cache['service']")
def _() -> Any:
    import redis

    return {"name": "billing", "client": redis.Redis(port=1)}


@report("maxcountryman/flask-login#9", "stored an OAuth grant in Redis", "cache['grant']")
def _() -> Any:
    return Grant()


@report("django/django!5276", "cached the user of the request", "cache['profile']")
def _() -> Any:
    from django.contrib.auth.models import User
    from django.utils.functional import SimpleLazyObject

    return {"user": SimpleLazyObject(lambda: User(pk=7, username="ann", password="hash"))}


@report("wagtail/wagtail#10879", "cached a rendition and its settings", "cache['rendition']")
def _() -> Any:
    return {"settings": SiteSettings(a_request())}


@report("codeinthehole/django-cacheback#58", "cached a view by its arguments", "cache['view']")
def _() -> Any:
    return ("shop.views.cart", (a_request(),), {"size": 5})


@report("jazzband/django-widget-tweaks#133", "copied the context of a request", "cache['context']")
def _() -> Any:
    from django.urls import resolve

    return {"match": resolve("/cart")}


@report("wagtail/wagtail#983", "cached the page that serves a document", "cache['page']")
def _() -> Any:
    from django.http import StreamingHttpResponse

    return StreamingHttpResponse(part for part in [b"document"])


@report("Suor/django-cacheops#101", "cached a class-based view", "cache['page']")
def _() -> Any:
    from django.template.response import SimpleTemplateResponse

    return SimpleTemplateResponse("page.html", {"name": "n"})


@report("encode/django-rest-framework#1850", "cached a response of the API", "cache['page']")
def _() -> Any:
    from django.http import HttpResponse

    response = HttpResponse("page")
    response._resource_closers.append(a_request().close)
    return response


@report("encode/django-rest-framework#3032", "cached serializer.data", "cache['products']")
def _() -> Any:
    return {"count": 2, "results": (row for row in [1, 2])}


@report("Net-ng/kansha!137", "put an uploaded file into the session", "session")
def _() -> Any:
    from django.core.files.uploadedfile import TemporaryUploadedFile

    file = opened(TemporaryUploadedFile("a.pdf", "application/pdf", 3, None))
    return {"title": "Q3", "file": file}


@report("bogdal/sentry-youtrack#16", "cached a list of projects", "cache['projects']")
def _() -> Any:
    return (project for project in ["a", "b"])


@report("pallets-eco/flask-caching#148", "cached the response of send_file", "cache['file']")
def _() -> Any:
    return flask.Response(opened(tempfile.TemporaryFile()), direct_passthrough=True)


@report("pallets-eco/flask-caching#283", "cached a streamed response", "cache['stream']")
def _() -> Any:
    return flask.Response(flask.stream_with_context(part for part in ["a"]))


@report("pallets-eco/flask-caching#262", "cached an async view", "cache['view']")
def _() -> Any:
    async def view() -> str:
        return "page"

    made = view()
    made.close()
    return made


@report("pallets-eco/flask-caching#215", "cached a query of SQLAlchemy", "cache['users']")
def _() -> Any:
    import sqlalchemy.orm

    return {"query": sqlalchemy.orm.Session().query(sqlalchemy.literal(1))}


@report("uqfoundation/dill#74", "stored an object with its SQLAlchemy session", "cache['unit']")
def _() -> Any:
    import sqlalchemy.orm

    return {"work": "order", "session": sqlalchemy.orm.Session()}


@report("thadeusb/flask-cache#204", "cached a class method with its connection", "cache['users']")
def _() -> Any:
    return Repository()


@report("sherpa/sherpa#1327", "stored a study that had captured the app", "cache['study']")
def _() -> Any:
    return {"study": "s", "app": flask.current_app._get_current_object()}  # type: ignore[attr-defined]


@report("chr1st1ank/narrow-down#12", "stored counters with a default", "cache['counts']")
def _() -> Any:
    return collections.defaultdict(lambda: 0, a=1)


@report("django-mptt/django-mptt#251", "cached the entries of a menu", "cache['menu']")
def _() -> Any:
    class Entry:
        title = "books"

    return {"entries": [Entry()]}


@report("turicas/rows#349", "cached a row of a table", "cache['row']")
def _() -> Any:
    return collections.namedtuple("Row", "name price")("book", 12)


@report("django-webpack/django-webpack-loader#126", "stored a tag in the session", "session")
def _() -> Any:
    return {"tag": undecorated}


@report("noripyt/django-cachalot#125", "cached rows with a binary column", "cache['rows']")
def _() -> Any:
    return [("a.png", memoryview(b"png"))]


@report("pst-group/pysystemtrade!519", "cached the keys of a result", "cache['names']")
def _() -> Any:
    return {"a": 1, "b": 2}.keys()


@report("equinor/webviz-subsurface#219", "memoized a surface of a C library", "cache['surface']")
def _() -> Any:
    return {"surface": ctypes.pointer(ctypes.c_int(3))}


@report("celery/celery#6990", "stored the exception of a task", "cache['result']")
def _() -> Any:
    return {"error": PaymentDeclined("declined", 42)}


@report("tweepy/tweepy#1792", "stored a tweet", "cache['tweet']")
def _() -> Any:
    import tweepy

    return {"tweet": tweepy.Tweet({"id": 1, "text": "hi", "edit_history_tweet_ids": [1]})}


@report("requests-cache/requests-cache#707", "stored a cached session", "cache['http']")
def _() -> Any:
    import requests_cache

    return {"http": requests_cache.CachedSession(backend="memory")}


@report("F-debug/public-opinion-analysis#3", "stored a model with weak links", "cache['model']")
def _() -> Any:
    return Node("leaf", ROOT)


@report("cloudpipe/cloudpickle#387", "stored an object with a context variable", "cache['audit']")
def _() -> Any:
    return {"tenant": current_tenant}


@report("python-arq/arq#148", "stored the result of a job", "cache['job']")
def _() -> Any:
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    return {"job": 7, "result": future}


import_module("tools.more_reports")  # which adds to them


# Then and now


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """A request of Flask by somebody who is logged in, as some of the reports had one."""
    app = flask.Flask("shop")
    app.secret_key = "only for tests"
    user = type("User", (flask_login.UserMixin,), {"id": 7})
    flask_login.LoginManager(app).request_loader(lambda _: user())
    with app.test_request_context("/cart"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        while _opened:
            _opened.pop().close()
        gc.collect()  # what the libraries left open, while nobody minds


def then(value: Any) -> str:
    """Return what storing and loading `value` says without contextcache."""
    try:
        payload = pickle.dumps(value)
    except Exception as error:
        return said(error)
    try:
        pickle.loads(payload)
    except Exception as error:
        return f"(stored)\n\nand a process that reads it:\n\n{said(error)}"
    return f"(nothing: {len(payload):,} bytes were stored)"


def said(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return re.sub(r" at 0x[0-9a-f]+", "", re.sub(r"\s+", " ", text))


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What contextcache says of a value: the log, the fixes to paste, and what a reader finds."""

    log: list[str]
    findings: list[Finding]
    stored: bool

    @property
    def patches(self) -> list[str]:
        """The fixes that are too long for the log; `contextcache explain` shows them."""
        return list(dict.fromkeys(one.patch for one in self.findings if "\n" in one.patch))

    def __str__(self) -> str:
        parts = [*self.log]
        if self.patches:
            parts.append("\n\n".join(["contextcache explain adds:", *map(dedent, self.patches)]))
        parts.append(
            "(the rest is stored, and loads)" if self.stored else "(not stored: a miss, no error)"
        )
        return "\n\n".join(parts)


def now(value: Any, label: str) -> Told:
    """Return what storing and loading `value` says with contextcache, in development."""
    log: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: log.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("contextcache")
    logger.addHandler(handler)
    propagate, logger.propagate = logger.propagate, False
    try:
        with capture_findings() as findings:
            guard = Guard(debug=True, session=label == "session")
            guard.loads(guard.dumps(value, label=label), label=label)
            stored = True
    except UncacheableValueError:
        stored = False
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    return Told(log, findings, stored)


def page() -> str:
    """Return the document."""
    parts = [HEAD.format(count=len(REPORTS)), NEWER.format(told=shown(newer(), 100))]
    for one in REPORTS:
        with surroundings():
            parts.append(
                SECTION.format(
                    id=one.id,
                    url=one.url,
                    did=one.did[0].upper() + one.did[1:],
                    then=shown(then(one.build()), 40),
                    now=shown(str(now(one.build(), one.label)), 100),
                )
            )
    return "\n".join(parts)


def shown(text: str, width: int) -> str:
    """Return `text` as HTML, with long lines folded below where they begin."""
    folded = []
    for line in text.split("\n"):
        below = 10 if re.match("  [a-z]+ ", line) else len(line) - len(line.lstrip())
        folded += textwrap.wrap(
            line, width, subsequent_indent=" " * below, break_long_words=False,
            break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False,
        ) or [""]  # fmt: skip
    # A blank line would end the HTML in Markdown.
    return "\n".join(html.escape(line, quote=False) or "&#32;" for line in folded)


def newer() -> str:
    """Return what stock pickle of Python 3.14 says of a customer, whose error has notes."""
    found = ["tools/find_python.sh", "3.14"]
    python = subprocess.run(found, check=True, capture_output=True, text=True).stdout.strip()
    done = subprocess.run([python, "-c", CUSTOMER], check=True, capture_output=True, text=True)
    return done.stdout.strip()


CUSTOMER = """
import pickle, threading, traceback

class Customer:
    def __init__(self):
        self.name = "Ada"
        self.gateway = Gateway()

class Gateway:
    def __init__(self):
        self.config = {"environment": "sandbox", "session": threading.local()}

try:
    pickle.dumps([Customer()])
except TypeError as error:
    print(*traceback.format_exception_only(error), sep="")
"""

HEAD = """\
# Before and after

{count} reports, performed again: what these people were told, by pickle as the Redis caches of
Django and Flask-Caching use it, and what contextcache tells them in development. `make
before-after` writes this page by running both; the values are in `tools/before_after.py` and
`tools/more_reports.py`.
"""
NEWER = """\
## What Python 3.14 says by itself

Since 3.14, pickle adds notes to its error: the objects on the way, innermost first. A traceback
shows them; `str(error)`, which most logs have, does not. Of a list with a customer, whose
`gateway.config["session"]` is a `threading.local`, stock pickle says:

```text
{told}
```

It stops at the first such object. It does not say where the value was stored, which line put the
object there, or what to do. Where pickle raises nothing, as for a request or a password hash, there
is no note.
"""
SECTION = """\
## [{id}]({url})

{did}.

<table><tr><th>they were told</th><th>they are told</th></tr>
<tr valign="top"><td><pre>
{then}
</pre></td><td><pre>
{now}
</pre></td></tr></table>
"""


if __name__ == "__main__":
    PAGE.write_text(import_module("tools.before_after").page(), encoding="utf-8")
