"""The four places where a value meets Redis, used as a project uses them.

Each writes one value and reads it back, and says in a few words what its user would see. The
words are what the tests compare and what `docs/fault-matrix.md` shows.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import os
import secrets
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import parse_qs

import django
from django.core.cache import caches
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import AsyncClient, override_settings
from django.urls import path
from flask import Flask
from flask import request as flask_request
from flask import session as flask_session
from flask_caching import Cache
from flask_session import Session
from redis import Redis
from werkzeug.test import Client

from contextcache_flask import ContextCache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from django.http import HttpRequest

VALUE = {"tea": 1}

HOST = "testserver"  # which Django's settings allow

# For what is not about the deadline: on a busy machine a reply may take a while.
PATIENT = {"TIMEOUT": 10}

# For what ends with the deadline only.
HASTY = {"TIMEOUT": 0.2}


class Effect(enum.Enum):
    """What a fault may do to one operation, in the eyes of the failure contract."""

    NONE = "as if nothing had happened"
    OUTAGE = "Redis does not do it"
    UNREADABLE = "what Redis holds is no value of ours"


NONE, OUTAGE, UNREADABLE = Effect


class Place:
    """One of the four, over one Redis, with further settings of contextcache by their names."""

    name: ClassVar[str]
    reads: ClassVar[dict[Effect, str]]
    writes: ClassVar[dict[Effect, str]]

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options = options
        self.written: object = None
        self.found: object = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no settings behind."""

    def read(self) -> str:
        """Read the value and say what came of it."""
        try:
            return self._read()
        except Exception as error:
            return f"raises {type(error).__name__}"

    def write(self, tea: int | None = None) -> str:
        """Write `VALUE`, or one with another number in it, and say what came of it."""
        self.written = VALUE if tea is None else {"tea": tea}
        try:
            return self._write()
        except Exception as error:
            return f"raises {type(error).__name__}"

    def reads_what_it_writes(self) -> bool:
        """Write and read, and tell whether both were as if nothing had ever happened."""
        written = self.write() == self.writes[NONE]
        return written and self.read() == self.reads[NONE]

    def elsewhere(self) -> None:
        """Turn to another value: another key, another visitor."""
        raise NotImplementedError

    def _read(self) -> str:
        raise NotImplementedError

    def _write(self) -> str:
        raise NotImplementedError


class Entry(Place):
    """A value in a cache, under a key."""

    reads = {NONE: "value", OUTAGE: "miss", UNREADABLE: "miss"}
    key = "key"

    def _read(self) -> str:
        self.found = self._get()
        return "miss" if self.found is None else _compared(self.found, self.written)

    def _get(self) -> object:
        raise NotImplementedError

    def elsewhere(self) -> None:
        self.key = secrets.token_hex(8)


class Django(Place):
    """A Django project; only one can be configured at a time."""

    backend: ClassVar[dict[str, Any]] = {"BACKEND": "contextcache_django.cache.RedisCache"}

    def __enter__(self) -> Self:
        self._settings = override_settings(
            CACHES={"default": {**self.backend, "LOCATION": self.url}},
            CONTEXTCACHE=self.options,
            ROOT_URLCONF=__name__,
        )
        self._settings.enable()
        return self

    def __exit__(self, *_: object) -> None:
        self._settings.disable()


class DjangoCache(Entry, Django):
    name = "Django cache"
    writes = {NONE: "returns None", OUTAGE: "returns None"}

    def _get(self) -> object:
        return caches["default"].get(self.key)

    def _write(self) -> str:
        return f"returns {caches['default'].set(self.key, self.written)}"


class InOneLoop(Django):
    """What runs in one event loop, with its connections."""

    def __enter__(self) -> Self:
        super().__enter__()
        self.runner = asyncio.Runner()
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.close()
        super().__exit__()

    def run(self, called: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(called, context=contextvars.copy_context())


class AsyncDjangoCache(InOneLoop, DjangoCache):
    name = "Django cache, asynchronous"

    def _get(self) -> object:
        return self.run(caches["default"].aget(self.key))

    def _write(self) -> str:
        return f"returns {self.run(caches['default'].aset(self.key, self.written))}"


class DjangoSerializer(DjangoCache):
    """The backend of Django itself, with our serializer."""

    name = "Django's RedisCache, our serializer"
    backend = {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "OPTIONS": {"serializer": "contextcache_django.serializers.CacheSerializer"},
    }


class DjangoRedis(DjangoCache):
    """django-redis, with our serializer."""

    name = "django-redis, our serializer"
    backend = {
        "BACKEND": "django_redis.cache.RedisCache",
        "OPTIONS": {"SERIALIZER": "contextcache_django.serializers.DjangoRedisSerializer"},
    }


class FlaskCache(Entry):
    name = "Flask-Caching"
    writes = {NONE: "returns True", OUTAGE: "returns False"}

    def __enter__(self) -> Self:
        self.app = flask_app(self.url, **self.options)
        self.cache = Cache(self.app, config={"CACHE_TYPE": "contextcache_flask.RedisCache"})
        return self

    def _get(self) -> object:
        with self.app.app_context():
            return self.cache.get(self.key)

    def _write(self) -> str:
        with self.app.app_context():
            return f"returns {self.cache.set(self.key, self.written)}"


class Visited(Place):
    """A site whose visitor comes with a cookie from before, as most do when Redis is down."""

    reads = {NONE: "200, value", OUTAGE: "503, cookie kept", UNREADABLE: "200, empty session"}
    writes = {NONE: "200, cookie kept", OUTAGE: "503, cookie kept"}

    cookie_name: ClassVar[str]
    app: Any

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.elsewhere()

    def elsewhere(self) -> None:
        self.cookie = secrets.token_urlsafe(32)

    def visit(self, page: str, cookie: str) -> tuple[int, str, str]:
        """Return status, text and the cookie the browser has after it, empty for a deleted one."""
        browser = Client(self.app)
        browser.set_cookie(self.cookie_name, cookie, domain=HOST)
        response = browser.get(page, base_url=f"http://{HOST}/")
        held = browser.get_cookie(self.cookie_name, domain=HOST)
        return response.status_code, response.text, "" if held is None else held.value

    def _read(self) -> str:
        status, self.found, kept = self._visit("/read")
        if status != 200:
            return f"{status}, {kept}"
        if self.found == "None":
            return "200, empty session"
        return f"200, {_compared(self.found, str(self.written))}"

    def _write(self) -> str:
        plain = self.written is VALUE
        status, _, kept = self._visit("/write" if plain else f"/write?tea={self.written['tea']}")
        return f"{status}, {kept}"

    def _visit(self, page: str) -> tuple[int, str, str]:
        before = self.cookie
        status, text, self.cookie = self.visit(page, before)
        if self.cookie == before:
            return status, text, "cookie kept"
        return status, text, "cookie changed" if self.cookie else "cookie deleted"


class DjangoSession(Visited, Django):
    name = "Django session"
    cookie_name = "sessionid"

    def __enter__(self) -> Self:
        super().__enter__()
        self.app = WSGIHandler()
        return self


class AsyncDjangoSession(InOneLoop, DjangoSession):
    """Asynchronous pages, as an ASGI server calls them."""

    name = "Django session, asynchronous"

    def visit(self, page: str, cookie: str) -> tuple[int, str, str]:
        browser = AsyncClient(raise_request_exception=False)
        browser.cookies[self.cookie_name] = cookie
        path, _, query = page.partition("?")
        response = self.run(browser.get(f"/async{path}", parse_qs(query)))
        held = browser.cookies.get(self.cookie_name)
        return response.status_code, response.text, "" if held is None else held.value


class FlaskSession(Visited):
    name = "Flask session"
    cookie_name = "session"

    def __enter__(self) -> Self:
        self.app = flask_app(self.url, SESSION=True, **self.options)
        return self


class GuardedFlaskSession(FlaskSession):
    """Flask-Session's own interface, which we guard where it stands."""

    name = "Flask-Session, guarded"

    def __enter__(self) -> Self:
        self.app = flask_app(self.url, **self.options)
        self.app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis.from_url(self.url))
        Session(self.app)
        ContextCache(self.app)
        return self

    def __exit__(self, *_: object) -> None:
        self.app.config["SESSION_REDIS"].close()


PLACES: list[type[Place]] = [DjangoCache, FlaskCache, DjangoSession, FlaskSession]

ASYNC_PLACES: list[type[Place]] = [AsyncDjangoCache, AsyncDjangoSession]
"""The same as two of them, without threads."""

PARTS: list[type[Place]] = [DjangoSerializer, DjangoRedis, GuardedFlaskSession]
"""Where only a part is ours."""


def _compared(found: object, written: object) -> str:
    return "value" if found == written else "ANOTHER VALUE"


# --- The pages ------------------------------------------------------------------------------------


def asked_for(query: Mapping[str, str]) -> object:
    """Return the value that a page is to write."""
    return {"tea": int(query["tea"])} if "tea" in query else VALUE


def django_read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(request.session.get("value")))


def django_write(request: HttpRequest) -> HttpResponse:
    request.session["value"] = asked_for(request.GET)
    return HttpResponse("written")


def django_log_in(request: HttpRequest) -> HttpResponse:
    request.session.cycle_key()
    request.session["user"] = 7
    return HttpResponse("hello")


def django_log_out(request: HttpRequest) -> HttpResponse:
    request.session.flush()
    return HttpResponse("bye")


async def async_django_read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await request.session.aget("value")))


async def async_django_write(request: HttpRequest) -> HttpResponse:
    await request.session.aset("value", asked_for(request.GET))
    await request.session.asave()
    return HttpResponse("written")


urlpatterns = [
    path("async/read", async_django_read),
    path("async/write", async_django_write),
    path("read", django_read),
    path("write", django_write),
    path("login", django_log_in),
    path("logout", django_log_out),
]


def flask_app(url: str, **options: Any) -> Flask:
    """Return an application with the same pages."""
    app = Flask(__name__)
    app.config.update(SECRET_KEY="only for tests", CONTEXTCACHE_REDIS_URL=url)
    app.config.update({f"CONTEXTCACHE_{name}": value for name, value in options.items()})

    @app.get("/read")
    def read() -> str:
        return str(flask_session.get("value"))

    @app.get("/write")
    def write() -> str:
        flask_session["value"] = asked_for(flask_request.args)
        return "written"

    @app.get("/login")
    def log_in() -> str:
        flask_session.rotate()  # type: ignore[attr-defined]
        flask_session["user"] = 7
        return "hello"

    @app.get("/logout")
    def log_out() -> str:
        flask_session.clear()
        return "bye"

    ContextCache(app)
    return app
