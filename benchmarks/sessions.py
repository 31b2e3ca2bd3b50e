"""What a session costs a page: the same view without one, and with each way to keep it in Redis.

Requests go straight into the WSGI application, so that no test client and no server is measured.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

import redis
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from flask import Flask, session
from flask_session.redis import RedisSessionInterface as FlaskSessionInterface

from benchmarks.measuring import Contestant, race
from benchmarks.peers import FLASK_SECRET
from benchmarks.report import ratio_table, table
from benchmarks.values import profile
from contextcache_flask import ContextCache, RedisSessionInterface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from benchmarks.measuring import Effort, Times
    from benchmarks.report import Plots

    WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

USES = ("untouched", "read", "written")
WITHOUT = "without session"


class Visitor:
    """A browser that keeps its cookie, on an application that has met it before.

    Args:
        application: The WSGI application.
        first: The page it has seen; `/start` puts something into the session.
        settings: Django settings that hold while this application answers.
    """

    def __init__(self, application: WSGI, first: str = "/start", **settings: str) -> None:
        self._application = application
        self._settings = settings
        self._cookie = ""
        self.visit(self.request(first))

    def request(self, url: str) -> dict[str, Any]:
        """Return what a server makes of a request; nothing of it is timed."""
        for name, value in self._settings.items():
            setattr(settings, name, value)
        return {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": url,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "HTTP_COOKIE": self._cookie,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }

    def visit(self, environ: dict[str, Any]) -> None:
        """Answer a request completely, as a server does."""
        answer = self._application(environ, self._started)
        for _ in answer:
            pass
        close = getattr(answer, "close", None)
        if close is not None:
            close()

    def to(self, url: str) -> Contestant:
        return Contestant(self.visit, functools.partial(self.request, url))

    def _started(self, status: str, headers: list[tuple[str, str]], *_: object) -> None:
        assert status == "200 OK", status
        for name, value in headers:
            if name.lower() == "set-cookie":
                self._cookie = value.partition(";")[0]


# --- Django -------------------------------------------------------------------------------------


def start(request: HttpRequest) -> HttpResponse:
    if hasattr(request, "session"):
        request.session.update(profile())
    return HttpResponse("started")


def untouched(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.session["name"])


def written(request: HttpRequest) -> HttpResponse:
    request.session["balance"] += 1
    return HttpResponse("saved")


urlpatterns = [path(view.__name__, view) for view in (start, untouched, read, written)]

SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
OURS = "contextcache_django.middleware.ContextCacheMiddleware"
USUAL = (  # those of `startproject` that work without a session
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)


def django_app(*middleware: str, engine: str = "django.contrib.sessions.backends.cache") -> WSGI:
    """Return an application of its own; Django reads these settings when it makes one."""
    settings.MIDDLEWARE = [*middleware, *USUAL]
    settings.SESSION_ENGINE = engine
    return WSGIHandler()


def django_visitors() -> dict[str, Visitor]:
    return {
        WITHOUT: Visitor(django_app(), "/untouched"),
        "Django's cache sessions, RedisCache": Visitor(
            django_app(SESSIONS), SESSION_CACHE_ALIAS="stock"
        ),
        "Django's cache sessions, django-redis": Visitor(
            django_app(SESSIONS), SESSION_CACHE_ALIAS="django_redis"
        ),
        "contextcache, middleware and sessions": Visitor(
            django_app(OURS, SESSIONS, engine="contextcache_django.sessions"),
            SESSION_CACHE_ALIAS="default",
        ),
    }


# --- Flask --------------------------------------------------------------------------------------


def flask_app() -> Flask:
    app = Flask(__name__)
    app.secret_key = FLASK_SECRET

    @app.get("/start")
    def start() -> str:
        session.update(profile())
        return "started"

    @app.get("/untouched")
    def untouched() -> str:
        return "hello"

    @app.get("/read")
    def read() -> str:
        return str(session["name"])

    @app.get("/written")
    def written() -> str:
        session["balance"] += 1
        return "saved"

    return app


def flask_visitors(url: str) -> dict[str, Visitor]:
    plain, peer, ours = flask_app(), flask_app(), flask_app()
    peer.session_interface = FlaskSessionInterface(peer, redis.Redis.from_url(url))
    ContextCache(ours)
    ours.session_interface = RedisSessionInterface(url)
    return {
        WITHOUT: Visitor(plain, "/untouched"),
        "Flask-Session": Visitor(peer),
        "contextcache, hooks and sessions": Visitor(ours),
    }


# --- The figures --------------------------------------------------------------------------------


def visits(visitors: dict[str, Visitor], use: str) -> dict[str, Contestant]:
    """Return a page that leaves the session alone and, beside it, everybody's page with one."""
    return {
        name: visitor.to("/untouched" if name == WITHOUT else f"/{use}")
        for name, visitor in visitors.items()
    }


def hooks(effort: Effort) -> dict[str, tuple[Times, Times]]:
    """Return the times of a request without and with what runs in every request."""
    hooked = flask_app()
    ContextCache(hooked)
    pairs = {
        "Django middleware": (django_app(), django_app(OURS)),
        "Flask hooks": (flask_app(), hooked),
    }
    found = {}
    for name, (without, with_hooks) in pairs.items():
        entered = {
            "without": Visitor(without, "/untouched").to("/untouched"),
            "with": Visitor(with_hooks, "/untouched").to("/untouched"),
        }
        times = race(entered, effort)
        found[name] = times["without"], times["with"]
    return found


def section(url: str, effort: Effort, _plots: Plots) -> str:
    """Compare the same views without and with a session."""
    targets = {
        "Django": {"written": "≤ 3.0"},
        "Flask": {"untouched": "≤ 1.05", "read": "≤ 2.5", "written": "≤ 3.5"},
    }
    everybody = {"Django": django_visitors(), "Flask": flask_visitors(url)}
    parts = []
    for framework, visitors in everybody.items():
        for use in USES:
            target = targets[framework].get(use)
            parts += [
                f"### {framework} view, session {use}",
                *([f"Target: {target} of the same view without session."] if target else []),
                ratio_table(race(visits(visitors, use), effort)),
            ]
    lines = [
        (
            name,
            f"{1e6 * (with_.median - without.median):.1f}",
            f"{1e6 * (with_.p10 - without.p10):.1f}",
        )
        for name, (without, with_) in hooks(effort).items()
    ]
    parts += [
        "### Hooks in production, in every request",
        "Target: ≤ 15 µs.",
        table(("", "extra µs (median)", "extra µs (p10)"), lines),
    ]
    return "\n\n".join(parts)
