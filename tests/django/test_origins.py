"""Origins in real Django stacks: the user's line, past decorators, threads and middleware."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.http import HttpResponse
from django.test import AsyncClient
from django.test import Client as WebClient
from django.urls import path
from django.views.decorators.cache import cache_page
from django.views.decorators.vary import vary_on_headers

from contextcache.testing import capture_findings
from tests.django.shop import Client, dirty_cart

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from pytest_django.fixtures import SettingsWrapper

HERE = "tests/django/test_origins.py"
FIRST = "contextcache_django.middleware.ContextCacheMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"


def line(mark: str) -> int:
    """Return the line of this file that ends with the comment `mark`."""
    with open(__file__, encoding="utf-8") as file:
        return next(at for at, text in enumerate(file, 1) if text.endswith(f"  # {mark}\n"))


def helper(key: str) -> None:
    cache.get_or_set(key, Client)  # helper


def by_helper(request: HttpRequest) -> HttpResponse:
    helper("client")
    return HttpResponse("stored")


@cache_page(60)
@vary_on_headers("Accept")
def page(request: HttpRequest) -> HttpResponse:
    response = HttpResponse("page")
    response.client = Client()  # type: ignore[attr-defined]
    return response


def to_session(request: HttpRequest) -> HttpResponse:
    request.session["cart"] = {"n": 1}
    request.session["cart"] = dirty_cart()  # assigned
    request.session["other"] = 1
    return HttpResponse("added")


def changed_inside(request: HttpRequest) -> HttpResponse:
    request.session.setdefault("cart", {})["client"] = Client()  # default
    request.session.modified = True
    return HttpResponse("added")


async def async_view(request: HttpRequest) -> HttpResponse:
    await cache.aset("client", Client())  # async
    return HttpResponse("stored")


async def async_many(request: HttpRequest) -> HttpResponse:
    async with asyncio.TaskGroup() as group:
        group.create_task(cache.aset_many({"client": Client()}))
    return HttpResponse("stored")


async def async_to_session(request: HttpRequest) -> HttpResponse:
    await request.session.aset("cart", dirty_cart())  # assigned async
    return HttpResponse("added")


async def in_thread(request: HttpRequest) -> HttpResponse:
    await sync_to_async(helper)("other")
    return HttpResponse("stored")


def own_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware of the project's own: its line is on the stack of whatever comes later."""

    def middleware(request: HttpRequest) -> Any:
        return get_response(request)

    return middleware


urlpatterns = [
    path("helper", by_helper),
    path("page", page),
    path("session", to_session),
    path("inside", changed_inside),
    path("async", async_view),
    path("many", async_many),
    path("async-session", async_to_session),
    path("thread", in_thread),
]


@pytest.fixture(autouse=True)
def project(cache: Any, settings: SettingsWrapper) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [FIRST, f"{__name__}.own_middleware", SESSIONS]


def stored(url: str) -> list[str]:
    """Return what the findings of a request to `url` say beside method, path and view."""
    with capture_findings() as findings:
        assert WebClient().get(url).status_code == 200
    assert findings
    return sorted({" · ".join(finding.origin.split(" · ")[2:]) for finding in findings})


def test_a_write_names_the_line_that_calls_the_cache() -> None:
    """The innermost line of the project, here in a helper, past Django's own get_or_set."""
    assert stored("/helper") == [f"stored at {HERE}:{line('helper')}"]


def test_a_page_that_django_stores_is_stored_by_no_line() -> None:
    """`cache_page` stores after the view; the project's middleware is not to blame for it."""
    assert stored("/page") == [""]


def test_a_session_is_stored_by_no_line() -> None:
    """In production, the view is what is known."""
    assert stored("/session") == [""]


def test_in_development_a_session_names_the_line_that_assigned_last(
    settings: SettingsWrapper,
) -> None:
    """Of the very key the finding is about."""
    settings.DEBUG = True
    assert stored("/session") == [f"set at {HERE}:{line('assigned')}"]
    assert stored("/inside") == [f"set at {HERE}:{line('default')}"]


@pytest.mark.django_db
@pytest.mark.parametrize("serializer", ["SessionSerializer", "JSONSessionSerializer"])
def test_a_session_in_the_database_names_that_line_too(
    settings: SettingsWrapper, serializer: str
) -> None:
    """As pickle and as JSON."""
    settings.DEBUG = True
    settings.SESSION_ENGINE = "contextcache_django.cached_db"
    settings.SESSION_SERIALIZER = f"contextcache_django.serializers.{serializer}"
    assert stored("/session") == [f"set at {HERE}:{line('assigned')}"]


def test_async_views_are_named_by_their_line(settings: SettingsWrapper) -> None:
    """What is awaited is on the stack; a task of its own, or another thread, is not the view."""
    settings.DEBUG = True

    async def request(url: str) -> list[str]:
        with capture_findings() as findings:
            assert (await AsyncClient().get(url)).status_code == 200
        return sorted({" · ".join(finding.origin.split(" · ")[2:]) for finding in findings})

    async def requests() -> list[list[str]]:
        urls = ("/async", "/many", "/async-session", "/thread")
        return [await request(url) for url in urls]

    assert asyncio.run(requests()) == [
        [f"stored at {HERE}:{line('async')}"],
        [""],
        [f"set at {HERE}:{line('assigned async')}"],
        [f"stored at {HERE}:{line('helper')}"],
    ]


def test_outside_of_a_request_the_line_stands_alone() -> None:
    """A shell, a command, a worker."""
    with capture_findings() as findings:
        cache.set("client", Client())
    assert {finding.origin for finding in findings} == {f"{HERE}:{sys._getframe().f_lineno - 1}"}
