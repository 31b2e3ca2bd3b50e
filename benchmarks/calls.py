"""Print every Python call between an application and Redis: product, framework and redis-py.

python -m benchmarks.calls              how many calls each operation takes
python -m benchmarks.calls "Django set" which ones, in order, each with its file
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from tests.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

VALUE = {f"key {i}": {"id": i, "name": f"name {i}"} for i in range(24)}
SESSION = {"_auth_user_id": "1", "cart": [1, 2, 3], "language": "en"}
WARM = 20  # times until what is learned is known


def calls_of(operation: Callable[[], object]) -> list[str]:
    """Return the Python functions that `operation` calls, in order, as `file:line name`."""
    for _ in range(WARM):
        operation()
    # A slow machine may have to set the timeout of a socket once more.
    return min((_calls_once(operation) for _ in range(5)), key=len)


def _calls_once(operation: Callable[[], object]) -> list[str]:
    calls: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            code = frame.f_code
            folder, name = os.path.split(code.co_filename)
            place = f"{os.path.basename(folder)}/{name}:{code.co_firstlineno}"
            calls.append(f"{place} {code.co_qualname}")

    sys.setprofile(note)
    try:
        operation()
    finally:
        sys.setprofile(None)
    return calls[1:]  # without the operation itself


def django_operations(url: str) -> dict[str, Callable[[], object]]:
    """Return what is measured of Django."""
    import django
    from django.conf import settings

    backend = "contextcache_django.cache.RedisCache"
    settings.configure(
        SECRET_KEY="only for measuring",
        CACHES={"default": {"BACKEND": backend, "LOCATION": url}},
        SESSION_ENGINE="contextcache_django.sessions",
    )
    django.setup()
    from django.core.cache import cache

    from contextcache_django.sessions import SessionStore

    store = SessionStore()
    store.update(SESSION)
    store.create()
    return {
        "Django set": lambda: cache.set("page", VALUE),
        "Django get": lambda: cache.get("page"),
        "Django session save": store.save,
        "Django session load": lambda: SessionStore(store.session_key).get("cart"),
    }


def flask_operations(url: str) -> dict[str, Callable[[], object]]:
    """Return what is measured of Flask, Flask-Caching and the session."""
    from flask import Flask, Response, request_started, session
    from flask_caching import Cache

    from contextcache_flask import ContextCache

    app = Flask("measured")
    app.config.update(
        SECRET_KEY="only for measuring",
        CACHE_TYPE="contextcache_flask.RedisCache",
        CONTEXTCACHE_REDIS_URL=url,
        CONTEXTCACHE_SESSION=True,
    )
    cache = Cache(app)
    ContextCache(app)
    app.test_request_context("/").push()
    request_started.send(app)
    backend: Any = cache.cache
    session.update(SESSION)
    held: Any = session._get_current_object()  # type: ignore[attr-defined]
    interface, response = app.session_interface, Response()

    def save() -> None:
        held.modified = True
        interface.save_session(app, held, response)

    save()
    cookie = f"{app.config['SESSION_COOKIE_NAME']}={held.sid}"
    request = app.test_request_context("/", headers={"Cookie": cookie}).request

    def load() -> object:
        opened = interface.open_session(app, request)
        return opened is not None and opened.get("cart")

    return {
        "Flask set": lambda: backend.set("page", VALUE),
        "Flask get": lambda: backend.get("page"),
        "Flask-Caching set": lambda: cache.set("page", VALUE),
        "Flask-Caching get": lambda: cache.get("page"),
        "Flask session save": save,
        "Flask session load": load,
    }


def main(*names: str) -> None:
    """Print the calls of the operations with these names, or the number of calls of each."""
    with running_redis() as url:
        for name, operation in {**django_operations(url), **flask_operations(url)}.items():
            calls = calls_of(operation)
            print(f"{name}: {len(calls)} calls")
            if name in names:
                print(*(f"  {call}" for call in calls), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
