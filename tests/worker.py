"""A worker of a deployed application, in a process of its own, that does as it is asked.

It has its own settings, as the workers of two versions have during a deployment, and on request no
contextcache. `Worker.ask` sends a line of Python; it is evaluated with what `SETUP` defines:
`cache`, and `visit(page, cookie)` for one visit to its pages.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.child import ROOT

if TYPE_CHECKING:
    from typing import Self

_LOOP = """
import logging, sys
logging.lastResort = None
settings, without = eval(sys.stdin.readline())
if without:
    for name in ("contextcache", "contextcache_django", "contextcache_flask"):
        sys.modules[name] = None
{setup}
while line := sys.stdin.readline():
    try:
        answer = eval(line)
    except Exception as error:
        answer = f"raises {{type(error).__name__}}"
    print(repr(answer), flush=True)
"""

_DJANGO = """
import asyncio, django
from django.conf import settings as conf
from django.http import HttpResponse
from django.urls import path

def read(request):
    return HttpResponse(str(request.session.get("user")))

def write(request):
    request.session["user"] = "ann"
    return HttpResponse("written")

urlpatterns = [path("read", read), path("write", write)]
conf.configure(**{
    "SECRET_KEY": "old", "ALLOWED_HOSTS": ["*"], "ROOT_URLCONF": __name__, "USE_TZ": True,
    "INSTALLED_APPS": ["django.contrib.sessions"], "LOGGING_CONFIG": None,
    "MIDDLEWARE": ["django.contrib.sessions.middleware.SessionMiddleware"],
    **settings,
})
django.setup()
from django.core.cache import cache
from django.test import Client

def visit(page, cookie=""):
    client = Client()
    client.cookies[conf.SESSION_COOKIE_NAME] = cookie
    response = client.get(f"/{page}")
    held = client.cookies[conf.SESSION_COOKIE_NAME].value
    return response.status_code, response.content.decode(), held

def later(name, *args):
    return asyncio.run(getattr(cache, name)(*args))
"""

_FLASK = """
from flask import Flask, session
from flask_caching import Cache

app = Flask("worker")
app.config.update({"SECRET_KEY": "old", **settings})
if "SESSION_TYPE" in settings:
    import redis
    from flask_session import Session
    app.config["SESSION_REDIS"] = redis.Redis.from_url(app.config["CACHE_REDIS_URL"])
    Session(app)
if not without:
    from contextcache_flask import ContextCache
    ContextCache(app)
cache = Cache(app)
calls = []
app.add_url_rule("/read", "read", lambda: str(session.get("user")))
app.add_url_rule("/write", "write", lambda: session.update(user="ann") or "written")
app.app_context().push()

def visit(page, cookie=""):
    client = app.test_client()
    client.set_cookie(app.config["SESSION_COOKIE_NAME"], cookie)
    response = client.get(f"/{page}")
    held = client.get_cookie(app.config["SESSION_COOKIE_NAME"])
    return response.status_code, response.text, held.value if held else ""
"""


class Worker:
    """One worker; to be closed.

    Args:
        framework: `django` or `flask`.
        settings: Its settings, besides those that every worker needs.
        stock: Whether it is one without contextcache.
    """

    def __init__(self, framework: str, *, stock: bool = False, **settings: Any) -> None:
        setup = {"django": _DJANGO, "flask": _FLASK}[framework]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP.format(setup=setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self._send(repr((settings, stock)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, code: str, **names: Any) -> Any:
        """Return what the expression `code` is there, with `names` in it as literals."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in names.items())
        self._send(f"(lambda {arguments}: {code})()")
        assert self._process.stdout is not None
        return ast.literal_eval(self._process.stdout.readline())

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
