"""A child that is forked during a finding of another thread makes its own finding.

A module that a thread was importing at that moment stays half imported in the child, and whoever
imports it there waits for ever. So a finding imports nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.child import ROOT

SPY = """
import os, sys, threading, time
import contextcache

LIBRARY = os.path.dirname(os.__file__)
PACKAGES = os.path.dirname(contextcache.__file__)

def is_of_python(path):
    return path.startswith(("<frozen", LIBRARY)) and "-packages" not in path

class Spy:
    '''Sees each module that is looked for while contextcache is at work, and takes its time.

    So it is if the standard library looks for it when contextcache has called it.
    '''
    def __init__(self):
        self.seen, self.began = [], threading.Event()
    def find_spec(self, name, path=None, target=None):
        frame = sys._getframe(1)
        while frame is not None and is_of_python(frame.f_code.co_filename):
            frame = frame.f_back
        ours = frame is not None and frame.f_code.co_filename.startswith(PACKAGES)
        if ours or name.startswith("contextcache"):
            self.seen.append(name)
            self.began.set()
            time.sleep(PAUSE)

PAUSE = 0
spy = Spy()
"""

CORE = """
import json
import logging
import pickle
from contextcache import Guard, UncacheableValueError, UnreadablePayloadError
from contextcache.jsonable import JSONGuard
from contextcache.reports.reporter import report_internal

if "a handler" in sys.argv:
    logging.basicConfig(filename=os.devnull)

class Client:
    tries: int = 3
    def __init__(self):
        self.lock, self.call = threading.Condition(), lambda: 1

class Raises:
    def __reduce__(self):
        raise ValueError

class Needy:
    def __init__(self, needed):
        pass
    def __reduce__(self):
        return Needy, ()

deep = []
for _ in range(20_000):
    deep = [deep]

META = {"HTTP_COOKIE": "a=b", "QUERY_STRING": "a=b", "SERVER_NAME": "x"}
VALUES = (
    {"a": Client()}, {"b": Raises()}, {"c": Needy(1)}, {"d": (x for x in ())}, {"e": deep, "f": 1},
    {"g": META}, {"h": "x" * 5000, "i": 1}, META, Client(), {"j": {1, 2}, "k": (1,)},
)
PAYLOADS = (b"", b"\\xcc1", b"x", pickle.dumps(Client), b"\\x80\\x04cposix\\nsystem\\n.")

def guards():
    debug = "debug" in sys.argv
    made = [Guard(sink="cache", mode=mode, debug=debug) for mode in ("strip", "warn", "raise")]
    made += [Guard(session=True, max_size=3000, debug=debug), Guard(secret_keys=("x" * 40,))]
    made += [Guard(redact_keys=True, loadable=(), debug=debug)]
    return [*made, JSONGuard(json.dumps, decode=json.loads)]

def work(guard):
    for value in VALUES:
        for _ in range(2):
            try:
                guard.dumps(value, label="cache['k']")
            except UncacheableValueError:
                pass
    for payload in PAYLOADS if isinstance(guard, Guard) else ():
        try:
            guard.loads(payload)
        except UnreadablePayloadError as error:
            guard.report_unreadable(error)
"""

NOTHING_IMPORTED = """
made = guards()
sys.meta_path.insert(0, spy)
for guard in made:
    work(guard)
report_internal("a test", ValueError())
print(spy.seen)
"""

FORKED = """
import signal
PAUSE = 2
made = guards()
sys.meta_path.insert(0, spy)
thread = threading.Thread(target=lambda: [work(guard) for guard in made])
thread.start()
while thread.is_alive() and not spy.began.wait(0.01):
    pass
child = os.fork()
if not child:
    signal.alarm(30)  # which ends a child that waits for ever
    PAUSE = 0
    for guard in made:
        work(guard)
    os._exit(0)
thread.join()
print(os.waitpid(child, 0)[1])
"""

FLASK = """
from flask import Flask, session
from flask_caching import Cache
from contextcache_flask import ContextCache

app = Flask("shop")
app.config.update(
    SECRET_KEY="k" * 50, CACHE_TYPE="contextcache_flask.RedisCache",
    CONTEXTCACHE_REDIS_URL=sys.argv[1], CONTEXTCACHE_SESSION="server" in sys.argv,
)
ContextCache(app)
cache = Cache(app)

@app.route("/")
def page():
    cache.set("k", {"lock": threading.Lock(), "call": lambda: 1})
    cache.set("none", (x for x in ()))
    cache.get("k")
    session["lock"], session["ids"] = threading.Lock(), {1}
    return "x"

sys.meta_path.insert(0, spy)
app.test_client().get("/")
print(spy.seen)
"""

DJANGO = """
from django.conf import settings
from django.http import HttpResponse
from django.urls import path

def page(request):
    from django.core.cache import cache
    cache.set("k", 1)
    if request.GET:
        cache.set("k", {"lock": threading.Lock(), "call": lambda: 1})
        cache.set("none", (x for x in ()))
        cache.set("request", request)
        cache.get("k")
        request.session["lock"] = threading.Lock()
    return HttpResponse("x")

urlpatterns = [path("", page)]
settings.configure(
    SECRET_KEY="k" * 50, ALLOWED_HOSTS=["*"], ROOT_URLCONF="__main__",
    INSTALLED_APPS=["django.contrib.sessions", "contextcache_django"],
    MIDDLEWARE=["contextcache_django.middleware.ContextCacheMiddleware",
                "django.contrib.sessions.middleware.SessionMiddleware"],
    CACHES={"default": {"LOCATION": sys.argv[1],
                        "BACKEND": "contextcache_django.cache.RedisCache"}},
    SESSION_ENGINE="contextcache_django.sessions",
)
import django
django.setup()
from django.test import Client
client = Client()
client.get("/")
sys.meta_path.insert(0, spy)
client.get("/?more")
print(spy.seen)
"""


def run(source: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-c", SPY + source, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("arguments", [[], ["debug"], ["a handler"], ["a handler", "debug"]])
def test_a_finding_imports_nothing(arguments: list[str]) -> None:
    """Whatever the mode, what is found, and who listens: it was imported with the guard."""
    assert run(CORE + NOTHING_IMPORTED, *arguments) == "[]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_during_the_first_finding_of_a_thread() -> None:
    """It does not wait for an import that nobody ends."""
    assert run(CORE + FORKED) == "0"


@pytest.mark.parametrize("where", ["server", "cookie"])
def test_the_first_finding_of_a_flask_application_imports_nothing(
    redis_url: str, where: str
) -> None:
    """Guards are made by requests, and what they need by `init_app`."""
    assert run(FLASK, redis_url, where) in ("[]", str(["contextcache.servers.clients"]))


def test_the_first_finding_of_a_django_project_imports_nothing(redis_url: str) -> None:
    """Nor does any later request of a project that has used its cache."""
    assert run(DJANGO, redis_url) == "[]"
