"""A project for a crowd: each visitor stores something from everywhere a request reaches.

Settings, URLs and views in one module, served by real servers. A view answers with whatever was
read back; all of it must be the visitor's own.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBUG = True  # findings are collected for the header of each response
SECRET_KEY = "only for a crowd"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "tests.django.crowd"
WSGI_APPLICATION = None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "contextcache_django",
]
MIDDLEWARE = [
    "contextcache_django.middleware.ContextCacheMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("CROWD_DATABASE", ":memory:"),
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
CACHES = {
    "default": {
        "BACKEND": "contextcache_django.cache.RedisCache",
        "LOCATION": os.environ.get("CROWD_REDIS", "fakeredis://crowd"),
    },
    "memory": {
        "BACKEND": "contextcache_django.cache.GuardedCache",
        "OPTIONS": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    },
}
# It is about whose values they are, not about a busy machine.
CONTEXTCACHE = {"TIMEOUT": 10}
SESSION_ENGINE = os.environ.get("CROWD_ENGINE", "contextcache_django.sessions")
SESSION_SERIALIZER = "contextcache_django.serializers.SessionSerializer"
SILENCED_SYSTEM_CHECKS = ["contextcache.W006"]
LOGGING = {"version": 1, "disable_existing_loggers": True}

pool = ThreadPoolExecutor(4)


class Basket:
    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.lock = threading.Lock()


def put(request: HttpRequest, place: str, name: str, alias: str = "default") -> dict[str, str]:
    """Store what belongs to this request, and return whose the stored one is."""
    from django.core.cache import caches

    key = f"{place}:{name}"
    value = {"basket": Basket(request.user), "request": request, "who": name}
    caches[alias].set(key, value)
    found = caches[alias].get(key)
    return {
        f"{place} owner": found["basket"].owner.get_username(),
        f"{place} path": found["request"].path.rpartition("/")[2],
        f"{place} who": found["who"],
    }


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    from django.contrib.auth import login
    from django.contrib.auth.models import User

    login(request, User.objects.get(username=name))
    return JsonResponse({"name": name})


def visit(request: HttpRequest, name: str) -> HttpResponse:
    """Store in the view, in a thread of its own, and in a pool that all visitors share."""
    seen = {"before": request.session.get("name", name), "user": request.user.get_username()}
    request.session["name"] = name
    request.session["basket"] = Basket(request.user)
    seen |= put(request, "view", name)
    seen |= put(request, "memory", name, "memory")
    for run in (_in_thread, lambda call: pool.submit(call).result()):
        context = contextvars.copy_context()
        run(lambda context=context: seen.update(context.run(put, request, "thread", name)))
    return JsonResponse(seen)


def _in_thread(call: Any) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


async def visit_async(request: HttpRequest, name: str) -> HttpResponse:
    """Store between awaits, and in the threads asgiref keeps."""
    from django.core.cache import cache

    user = await request.auser()
    seen = {"before": await request.session.aget("name", name), "user": user.get_username()}
    await request.session.aset("name", name)
    await cache.aset(f"async:{name}", {"basket": Basket(user), "who": name})
    await asyncio.sleep(0.001)
    seen["async who"] = (await cache.aget(f"async:{name}"))["who"]
    seen |= await sync_to_async(put)(request, "hop", name)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_task(name, number)) for number in range(3)]
    seen |= {f"task {number}": task.result() for number, task in enumerate(tasks)}
    return JsonResponse(seen)


async def _task(name: str, number: int) -> str:
    from django.core.cache import cache

    await cache.aset(f"task:{name}", Basket(name))
    await asyncio.sleep(0)
    return str((await cache.aget(f"task:{name}")).owner)


def stream(request: HttpRequest, name: str) -> StreamingHttpResponse:
    """Store while the body is sent."""

    def body() -> Iterator[str]:
        for part in range(3):
            owner = put(request, "stream", name)["stream owner"]
            yield f'{"{" if part == 0 else ","}"{part}": "{owner}"'
        yield "}"

    request.user.get_username()
    return StreamingHttpResponse(body(), content_type="application/json")


def mine(request: HttpRequest, name: str) -> HttpResponse:
    """Read what the session holds."""
    owner = request.session["basket"].owner.get_username()
    return JsonResponse({"name": request.session["name"], "basket": owner})


urlpatterns = [
    path("login/<name>", log_in),
    path("visit/<name>", visit),
    path("async/<name>", visit_async),
    path("stream/<name>", stream),
    path("mine/<name>", mine),
]


def __getattr__(name: str) -> Any:
    """Make the application of a server when it asks for one, after the settings were read."""
    if name in ("wsgi", "asgi"):
        from importlib import import_module

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", __name__)
        module = import_module(f"django.core.{name}")
        made: Any = getattr(module, f"get_{name}_application")()
        return made
    raise AttributeError(name)
