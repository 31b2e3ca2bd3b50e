"""The middleware: every finding names its own request and view, sync and async."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction
from django.contrib.auth.models import User
from django.core.cache import CacheKeyWarning, cache
from django.core.exceptions import ImproperlyConfigured
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, RequestFactory
from django.test import Client as WebClient
from django.urls import ResolverMatch, include, resolve
from django.urls import path as url
from django.urls import re_path as re_url

from contextcache import (
    RequestScope,
    ServerError,
    UncacheableValueError,
    current_scope,
    enter_scope,
    exit_scope,
)
from contextcache.testing import capture_findings
from contextcache_django.middleware import ContextCacheMiddleware, view_of
from contextcache_django.sessions import SessionStore
from tests.django import views
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    import redis
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.usefixtures("cache")


def line(view: Any) -> int:
    """Return the line a view is at."""
    number: int = inspect.unwrap(view).__code__.co_firstlineno
    return number


# --- The name of the view -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "number"),
    [
        ("/cache-client", "cache_client", line(views.cache_client)),
        ("/decorated", "decorated", line(views.decorated)),
        ("/partial", "with_suffix", line(views.with_suffix)),
        ("/class", "CartView.put", line(views.CartView.put)),
        ("/inherited", "Inherited", inspect.getsourcelines(views.Inherited)[1]),
        ("/called", "Called", inspect.getsourcelines(views.Called)[1]),
        ("/method", "Called.method", line(views.Called.method)),
        ("/async/one", "async_one", line(views.async_one)),
    ],
)
def test_a_view_is_named_behind_whatever_wraps_it(path: str, name: str, number: int) -> None:
    """Decorators, partials, classes, instances and methods lead to the user's own line."""
    request = RequestFactory().put(path)
    request.resolver_match = resolve(path)
    expected = (f"tests.django.views.{name}", f"tests/django/views.py:{number}")
    assert view_of(request) == expected


def test_a_view_that_is_not_known_yet_has_no_name() -> None:
    """Middleware may write before the URL is resolved."""
    assert view_of(RequestFactory().get("/")) == ("", "")


def test_a_view_written_in_c_has_a_name_and_no_line() -> None:
    """Whatever is callable can be a view."""
    request = RequestFactory().get("/plain")
    request.resolver_match = resolve("/plain")
    request.resolver_match.func = functools.partial(len)
    assert view_of(request) == ("builtins.len", "")


# --- Findings -----------------------------------------------------------------------------------


def test_a_finding_names_method_path_and_view() -> None:
    """Its origin is one line without the query string."""
    with capture_findings() as findings:
        WebClient().put("/class?token=canary")
    at = line(views.CartView.put)
    assert {finding.origin for finding in findings} == {
        (f"PUT class · tests.django.views.CartView.put · stored at tests/django/views.py:{at + 1}")
    }


def test_a_finding_outside_of_a_request_names_none() -> None:
    """A command or a shell has no scope, and a request before leaves none behind."""
    WebClient().get("/cache-client")
    assert current_scope() is None


def test_concurrent_async_requests_do_not_mix_their_findings() -> None:
    """Two requests are in their views at the same time, and each finding names its own."""

    async def both() -> None:
        views.both_arrived = asyncio.Barrier(2)
        client = AsyncClient()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(client.get("/async/one"), client.get("/async/two"))

    with capture_findings() as findings:
        try:
            asyncio.run(both())
        finally:
            views.both_arrived = None
    named = {
        (str(finding.path).partition("]")[0], finding.origin.partition(" · stored at ")[0])
        for finding in findings
    }
    assert named == {
        (
            "cache['one'",
            "GET async/one · tests.django.views.async_one",
        ),
        (
            "cache['two'",
            "GET async/two · tests.django.views.async_two",
        ),
    }


def test_a_write_in_a_worker_thread_belongs_to_its_request() -> None:
    """The scope follows `sync_to_async`."""
    with capture_findings() as findings:
        async_to_sync(AsyncClient().get)("/async/thread")
    assert {finding.origin.partition(" · ")[0] for finding in findings} == {"GET async/thread"}


def test_a_session_saved_on_the_way_out_belongs_to_its_view() -> None:
    """The middleware stands outside of SessionMiddleware."""
    with capture_findings() as findings:
        WebClient().get("/cart")
    assert len(findings) == 2
    for finding in findings:
        assert finding.origin == "GET cart · tests.django.views.add_to_cart"


@pytest.mark.django_db
def test_the_user_of_a_request_is_found_and_its_password_hash_not_stored(
    server: redis.Redis,
) -> None:
    """`request.user` in a cached dict keeps the user and loses the hash."""
    user = User.objects.create_user("ada", password="canary")
    visitor = WebClient()
    visitor.force_login(user)
    with capture_findings() as findings:
        assert visitor.get("/cache-user").content == b"ada"
    assert "cache['user']['who']" in {str(finding.path) for finding in findings}
    stored = server.get(":1:user")
    assert b"pbkdf2_sha256$" not in stored
    assert user.password.encode() not in stored


# --- Sync and async in one class ----------------------------------------------------------------


def test_it_is_sync_in_front_of_sync_and_async_in_front_of_async() -> None:
    """It decides once, and both answer."""

    def answer(request: object) -> HttpResponse:
        assert current_scope() is not None
        return HttpResponse("sync")

    async def answer_async(request: object) -> HttpResponse:
        assert current_scope() is not None
        return HttpResponse("async")

    assert ContextCacheMiddleware.sync_capable
    assert ContextCacheMiddleware.async_capable
    middleware = ContextCacheMiddleware(answer)
    assert not iscoroutinefunction(middleware)
    assert middleware(RequestFactory().get("/")).content == b"sync"
    middleware = ContextCacheMiddleware(answer_async)
    assert iscoroutinefunction(middleware)
    response = async_to_sync(middleware)(AsyncRequestFactory().get("/"))
    assert response.content == b"async"
    assert current_scope() is None


def test_a_view_that_raises_leaves_no_scope() -> None:
    """The next request starts afresh."""

    def fail(request: object) -> HttpResponse:
        raise LookupError

    async def fail_async(request: object) -> HttpResponse:
        raise LookupError

    with pytest.raises(LookupError):
        ContextCacheMiddleware(fail)(RequestFactory().get("/"))
    with pytest.raises(LookupError):
        async_to_sync(ContextCacheMiddleware(fail_async))(AsyncRequestFactory().get("/"))
    assert current_scope() is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [("req-1.A_b", True), ("x" * 64, True), ("x" * 65, False), ("", False), ("a b\nc", False)],
)
def test_the_request_id_is_taken_over_where_it_is_harmless(given: str, kept: bool) -> None:
    """Anything else is replaced by a short random one."""
    seen = []

    def answer(request: object) -> HttpResponse:
        scope = current_scope()
        assert scope is not None
        seen.append(scope.request_id)
        return HttpResponse()

    ContextCacheMiddleware(answer)(RequestFactory().get("/", headers={"X-Request-ID": given}))
    if kept:
        assert seen == [given]
    else:
        assert re.fullmatch(r"[0-9a-f]{8}", seen[0])


# --- In development -----------------------------------------------------------------------------


def test_with_debug_the_response_names_its_findings(
    settings: SettingsWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """One header and one line; a page without findings has neither."""
    settings.DEBUG = True
    caplog.set_level(logging.INFO, "contextcache")
    response = WebClient().get("/cache-client")
    told = response.headers["X-ContextCache"]
    assert told.startswith("2 findings; ")
    assert "; CC102 cache['client']._lock" in told
    assert "; CC101 cache['client']._local" in told
    [summary] = [record for record in caplog.records if record.levelname == "INFO"]
    assert summary.name == "contextcache"
    assert summary.getMessage() == (
        "contextcache: 2 findings in GET /cache-client · tests.django.views.cache_client "
        f"(tests/django/views.py:{line(views.cache_client)})"
    )

    caplog.clear()
    assert "X-ContextCache" not in WebClient().get("/plain").headers
    assert caplog.records == []


def test_the_header_is_ascii_and_short(settings: SettingsWrapper) -> None:
    """No key and no number of findings breaks a proxy."""
    settings.DEBUG = True

    def answer(request: object) -> HttpResponse:
        for number in range(40):
            cache.set(f"süß{number}\r\nSet-Cookie: x", views.Client())
        return HttpResponse()

    with pytest.warns(CacheKeyWarning):
        response = ContextCacheMiddleware(answer)(RequestFactory().get("/"))
    told = response.headers["X-ContextCache"]  # type: ignore[union-attr]
    assert told.startswith(r"80 findings; ")
    assert r"cache['s\xfc\xdf0\r\nSet-Cookie: x']" in told
    assert len(told) == 512
    assert told.endswith("...")
    assert told.isascii()
    assert told.isprintable()


def test_one_finding_is_not_findings(settings: SettingsWrapper) -> None:
    """The header is read by people."""
    settings.DEBUG = True
    settings.CONTEXTCACHE = {"IGNORE": ["cache['client']._local"]}
    assert WebClient().get("/cache-client").headers["X-ContextCache"] == (
        "1 finding; CC102 cache['client']._lock"
    )


@pytest.mark.django_db
def test_what_is_stored_twice_is_named_once(settings: SettingsWrapper) -> None:
    """A login stores the session under its new id, and the middleware stores it again."""
    settings.DEBUG = True
    User.objects.create_user("ada")
    visitor = WebClient()
    visitor.get("/cart")
    assert visitor.get("/login").headers["X-ContextCache"] == (
        "2 findings; CC102 session['cart'].items[1].client._lock; "
        "CC101 session['cart'].items[1].client._local"
    )


def test_without_debug_a_visitor_sees_nothing(settings: SettingsWrapper) -> None:
    """Findings are not for the public."""
    assert "X-ContextCache" not in WebClient().get("/cache-client").headers


def test_a_mistake_in_the_settings_stops_the_start(settings: SettingsWrapper) -> None:
    """A server that runs no system checks still says what is wrong."""
    settings.CONTEXTCACHE = {"MODES": "strip"}
    with pytest.raises(ImproperlyConfigured, match=r"CONTEXTCACHE: unknown setting 'MODES'"):
        ContextCacheMiddleware(lambda request: HttpResponse())


# --- Bodies that are made after the view has returned ---------------------------------------------


def late(request: HttpRequest) -> StreamingHttpResponse:
    """Write to the cache while the body is sent."""

    def body() -> Iterator[str]:
        yield "first"
        cache.set("late", views.Client())
        yield "second"

    return StreamingHttpResponse(body())


async def late_async(request: HttpRequest) -> StreamingHttpResponse:
    """Write to the cache while the body is sent."""

    async def body() -> AsyncIterator[str]:
        yield "first"
        await cache.aset("late", views.Client())
        yield "second"

    return StreamingHttpResponse(body())


async def both_parts(response: Any) -> list[bytes]:
    return [part async for part in response]


@pytest.mark.parametrize("view", [late, late_async])
def test_a_write_within_a_streamed_body_belongs_to_its_request(
    view: Any, settings: SettingsWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """The view is named although it has returned, and what came too late is summed up."""
    settings.DEBUG = True
    caplog.set_level(logging.INFO, "contextcache")
    request = RequestFactory().get("/export")
    request.resolver_match = ResolverMatch(view, (), {})
    answer = ContextCacheMiddleware(view)
    with capture_findings() as findings:
        if view is late:
            parts = list(answer(request))  # type: ignore[arg-type]
        else:
            response = async_to_sync(answer)(request)  # type: ignore[arg-type]
            parts = async_to_sync(both_parts)(response)
    assert parts == [b"first", b"second"]
    assert len(findings) == 2
    for finding in findings:
        assert finding.origin.startswith(f"GET /export · {__name__}.{view.__name__} (")
    assert current_scope() is None
    [told] = [record for record in caplog.records if record.levelname == "INFO"]
    assert told.getMessage().startswith("contextcache: 2 findings in GET /export · ")
    assert told.getMessage().endswith(", with its body")


@pytest.mark.django_db  # closing a response looks at its connections
def test_a_streamed_body_that_fails_leaves_no_scope() -> None:
    """And its error is the view's own; what it opened is closed."""
    closed = []

    def body() -> Iterator[str]:
        try:
            yield "first"
            raise LookupError("canary")
        finally:
            closed.append(True)

    answer = ContextCacheMiddleware(lambda request: StreamingHttpResponse(body()))
    response: Any = answer(RequestFactory().get("/"))
    with pytest.raises(LookupError):
        list(response)
    assert current_scope() is None
    response.close()
    assert closed == [True]


@pytest.mark.django_db  # closing a response looks at its connections
def test_a_visitor_who_goes_away_closes_the_body() -> None:
    """Django closes what the view made, though it stands in ours."""
    closed = []

    def body() -> Iterator[str]:
        try:
            yield "first"
            yield "second"
        finally:
            closed.append(True)

    answer = ContextCacheMiddleware(lambda request: StreamingHttpResponse(body()))
    response: Any = answer(RequestFactory().get("/"))
    assert next(iter(response)) == b"first"
    response.close()
    assert closed == [True]


@pytest.mark.django_db  # closing a response looks at its connections
def test_a_file_is_still_sent_by_the_server(tmp_path: Path) -> None:
    """`wsgi.file_wrapper` asks the response for the file itself."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    answer = ContextCacheMiddleware(lambda request: FileResponse(path.open("rb")))
    response: Any = answer(RequestFactory().get("/"))
    assert response.file_to_stream is not None
    assert b"".join(response) == b"content"
    response.close()


@pytest.mark.parametrize("how", ["set", "add", "set_many", "session"])
def test_what_an_outage_keeps_from_being_stored_is_told(how, configure, settings):
    """A cache that is as if it were empty looks fine, and to its developer it does not."""
    settings.DEBUG = True
    cache = configure("redis://127.0.0.1:1/0")
    scope = RequestScope("PUT", "/", collect=True)
    token = enter_scope(scope)
    try:
        if how == "set_many":
            cache.set_many({"a": "text", "b": "text"})
        elif how == "session":
            session = SessionStore()
            session["name"] = "text"
            with pytest.raises(ServerError):
                session.create()
        else:
            getattr(cache, how)("a", "text")
    finally:
        exit_scope(token)
    assert len(scope.writes) == (2 if how == "set_many" else 1)
    assert {write.outcome for write in scope.writes} == {"not stored: connection refused"}


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def stores_client(request: HttpRequest) -> HttpResponse:
    request.session.update({"client": {"c": Client()}, "tags": {1}})
    return HttpResponse("ok")


def adds_a_number(request: HttpRequest) -> HttpResponse:
    request.session["number"] = 1
    return HttpResponse("ok")


async def adds_another(request: HttpRequest) -> HttpResponse:
    await request.session.aset("another", 1)
    return HttpResponse("ok")


def caches_client(request: HttpRequest, **parts: str) -> HttpResponse:
    cache.set("client", {"c": Client()})
    return HttpResponse("ok")


urlpatterns = [
    url("stores", stores_client),
    url("number", adds_a_number),
    url("another", adds_another),
    url("reset/<uid>/<token>/", caches_client),
    re_url(r"^invite/(?P<code>[0-9a-f(-]+)/(?:p-(\d+)/)?$", caches_client),
    url("shop/", include([url("leave/<str:mail>", caches_client)])),
]

ENGINES = {
    "own": {"SESSION_ENGINE": "contextcache_django.sessions"},
    "cached_db": {"SESSION_ENGINE": "contextcache_django.cached_db"},
    "cache": {"SESSION_ENGINE": "django.contrib.sessions.backends.cache"},
    "db": {"SESSION_ENGINE": "django.contrib.sessions.backends.db"},
    "json": {"SESSION_ENGINE": "django.contrib.sessions.backends.db"},
}


@pytest.mark.django_db
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.usefixtures("server")
def test_a_view_is_named_only_if_it_set_the_key(
    settings: SettingsWrapper, caplog: pytest.LogCaptureFixture, engine: str
) -> None:
    """Not for what it read with the session, after a restart or in another worker."""
    settings.ROOT_URLCONF = __name__
    kind = "JSONSessionSerializer" if engine == "json" else "SessionSerializer"
    settings.SESSION_SERIALIZER = f"contextcache_django.serializers.{kind}"
    for name, value in ENGINES[engine].items():
        setattr(settings, name, value)
    browser, visitor = WebClient(), AsyncClient()
    browser.get("/stores")
    assert "stores_client" in caplog.text
    caplog.clear()
    settings.CONTEXTCACHE = {}  # new guards, as after a restart
    visitor.cookies = browser.cookies
    for _ in range(2):
        browser.get("/number")
        async_to_sync(visitor.get)("/another")
    told = [record for record in caplog.records if record.name == "contextcache"]
    assert len(told) == (0 if engine == "json" else 1)  # JSON has left it out
    for record in told:
        assert "loaded with the session, not set in this request" in record.getMessage()
        assert not re.search("adds_|number|another", record.getMessage())


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/reset/MQ/c8k2qz-7f3d9a1b2c4e5f60718293a4b5c6d7e8/", "reset/<uid>/<token>/"),
        ("/invite/9f1c-55aa-0b0b/", "invite/<code>/p-<value>/"),
        ("/shop/leave/ann.lee@example.test", "shop/leave/<mail>"),
    ],
)
@pytest.mark.usefixtures("server")
def test_the_log_shows_the_pattern_of_a_url(
    settings: SettingsWrapper, caplog: pytest.LogCaptureFixture, path: str, shown: str
) -> None:
    """A path may hold a token that is still valid."""
    settings.ROOT_URLCONF = __name__
    WebClient().get(path)
    [record] = [record for record in caplog.records if record.name == "contextcache"]
    assert f"GET {shown} · {__name__}.caches_client" in record.getMessage()
    assert path.strip("/").rpartition("/")[2] not in f"{record.getMessage()} {vars(record)}"


@pytest.mark.parametrize("path", ["/stores", "/reset/MQ/1/"])
@pytest.mark.usefixtures("server")
def test_mode_raise_tells_what_the_log_would(settings: SettingsWrapper, path: str) -> None:
    """Without DEBUG, as the tests of a project run: the view, where it was set, the field."""
    settings.ROOT_URLCONF = __name__
    settings.CONTEXTCACHE = {"MODE": "raise"}
    with pytest.raises(UncacheableValueError) as caught:
        WebClient().get(path)
    text = str(caught.value)
    assert re.search(r"where   GET \S+ · \S+\.(stores|caches)_client \(.*test_middleware.py:", text)
    assert re.search(r"· (set|stored) at \S*test_middleware.py:\d+", text)
    assert re.search(r"Client.lock, set at .*: self.lock = threading.Lock\(\)", text)
