"""Findings name the request and view they belong to, and no other."""

from __future__ import annotations

import concurrent.futures
import functools
import json
import threading
from typing import Any

import pytest
import requests
from flask import (
    Flask,
    Response,
    copy_current_request_context,
    request,
    session,
    stream_with_context,
)

from contextcache import Config, Guard, current_scope
from contextcache.jsonable import JSONGuard
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache
from contextcache_flask.request_scope import view_of
from tests.flask.shop import Basket, add_cache, make_app
from tests.waiting import PATIENCE


@pytest.fixture
def app(any_url):
    app = make_app(any_url, CONTEXTCACHE_SESSION=True)
    ContextCache(app)
    add_cache(app)
    return app


def origins(findings):
    return [" · ".join(finding.origin.split(" · ")[:2]).partition(" (")[0] for finding in findings]


def test_view_classes_are_named_with_their_method(app):
    """A view of a class is named by the method that answers."""
    with capture_findings() as findings:
        app.test_client().put("/things")
    assert origins(findings) == ["PUT /things · tests.flask.shop.Things.put"]


def test_views_are_found_behind_decorators_and_partials(app):
    """A view is named as it stands in the source, whatever was wrapped around it."""

    def plain():
        return ""

    @functools.wraps(plain)
    def decorated():
        return plain()

    app.add_url_rule("/a", "a", decorated)
    app.add_url_rule("/b", "b", functools.partial(decorated))
    name = f"{__name__}.test_views_are_found_behind_decorators_and_partials.<locals>.plain"
    line = plain.__code__.co_firstlineno
    expected = (name, f"tests/flask/test_request_scope.py:{line}")
    assert view_of(app, "a", "GET") == expected
    assert view_of(app, "b", "GET") == expected
    assert view_of(app, "no such", "GET") == view_of(app, None, "GET") == ("", "")


def test_what_is_kept_in_the_environ_is_no_finding(app):
    """Nobody can act on a record about the keys of contextcache in an environ."""

    def view():
        environ = request.environ
        deep = {"list": [environ], "copy": {"deep": [dict(environ)]}}
        Guard().dumps(deep, label="own")
        JSONGuard(json.dumps, Config()).dumps(deep, label="own")
        return ""

    app.add_url_rule("/own", view_func=view)
    with capture_findings() as findings:
        app.test_client().get("/own", headers={"Authorization": "Bearer TOKEN"})
    assert findings
    assert [finding for finding in findings if "contextcache" in f"{finding} {finding.path}"] == []


def test_the_session_is_saved_within_the_request(app):
    """Flask saves the session after every `after_request` function; the finding names the view."""
    with capture_findings() as findings:
        app.test_client().put("/cart")
    assert origins(findings) == ["PUT /cart · tests.flask.shop.add_to_cart"]


def test_every_request_has_a_scope_and_leaves_none(app):
    """The scope is there for code that uses the core itself, and gone after the request."""
    guard = Guard()
    app.add_url_rule("/own", view_func=lambda: str(len(guard.dumps(Basket(), label="own"))))
    with capture_findings() as findings:
        app.test_client().get("/own")
    assert findings[0].origin.startswith("GET /own · ")
    assert current_scope() is None


def test_a_before_request_function_that_answers_is_covered(app):
    """Where no view runs, the scope is open all the same, and names the view of the URL."""
    backend = next(iter(app.extensions["cache"].values()))

    @app.before_request
    def answer():
        backend.set("early", Basket())
        return "answered"

    with capture_findings() as findings:
        assert app.test_client().get("/read").text == "answered"
    assert origins(findings) == ["GET /read · tests.flask.shop.read"]


def test_a_teardown_function_is_covered(app):
    """The scope is open until the last teardown function has run."""
    backend = next(iter(app.extensions["cache"].values()))

    @app.teardown_request
    def remember(error):
        backend.set("late", Basket())

    with capture_findings() as findings:
        app.test_client().get("/read")
    assert origins(findings) == ["GET /read · tests.flask.shop.read"]


def test_an_error_closes_the_scope(app):
    """A view that raises leaves no scope behind."""
    app.add_url_rule("/error", view_func=lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        app.test_client().get("/error")
    assert current_scope() is None


def test_a_url_nobody_serves_is_covered(app):
    """Without a view, the method and path are named."""
    backend = next(iter(app.extensions["cache"].values()))
    app.register_error_handler(404, lambda error: (str(backend.set("lost", Basket())), 404))
    with capture_findings() as findings:
        assert app.test_client().get("/nowhere").status_code == 404
    [finding] = findings
    assert finding.origin.partition(" · stored at ")[0] == "GET *"


def test_a_request_within_a_request(app):
    """An app that calls itself, or another one, has one scope for each request."""
    backend = next(iter(app.extensions["cache"].values()))

    @app.get("/outer")
    def outer():
        app.test_client().put("/things")
        backend.set("outer", Basket())
        return ""

    with capture_findings() as findings:
        app.test_client().get("/outer")
    first, second = origins(findings)
    assert first == "PUT /things · tests.flask.shop.Things.put"
    assert second.startswith("GET /outer · ")
    assert current_scope() is None


def test_a_copied_request_context(app):
    """A thread that runs on with the request is named as that request."""
    backend = next(iter(app.extensions["cache"].values()))

    @app.get("/copied")
    def copied():
        @copy_current_request_context
        def work(key):
            backend.set(key, Basket())

        thread = threading.Thread(target=work, args=["thread"])
        thread.start()
        thread.join()
        work("inline")
        backend.set("after", Basket())
        return ""

    with capture_findings() as findings:
        app.test_client().get("/copied")
    assert [str(finding.path) for finding in findings] == [
        "cache['thread']._lock",
        "cache['inline']._lock",
        "cache['after']._lock",
    ]
    assert all(finding.origin.startswith("GET /copied · ") for finding in findings)
    assert current_scope() is None


def test_a_stream_that_keeps_the_request(app, serve):
    """What a streamed body stores while it is sent is stored by its request."""
    backend = next(iter(app.extensions["cache"].values()))

    @app.get("/stream")
    def stream():
        @stream_with_context
        def rows():
            yield "a"
            backend.set("row", Basket())
            yield "b"

        return Response(rows())

    with capture_findings() as findings:
        assert requests.get(serve(app) + "/stream", timeout=PATIENCE).text == "ab"
    assert findings[0].origin.startswith("GET /stream · ")


def test_a_request_context_without_a_request(app):
    """In a shell with `test_request_context`, no signal is sent; a write is named all the same."""
    backend = next(iter(app.extensions["cache"].values()))
    with app.test_request_context("/read"), capture_findings() as findings:
        backend.set("shell", Basket())
    assert origins(findings) == ["GET /read · tests.flask.shop.read"]
    with app.app_context(), capture_findings() as findings:
        backend.set("shell", Basket())
    assert "/read" not in findings[0].origin


def test_a_request_id_is_taken_from_a_proxy_only_if_it_is_one(app):
    """A header that could forge a line of the log is not an id."""
    seen = []

    @app.get("/id")
    def identify():
        seen.append(current_scope().request_id)
        return ""

    client = app.test_client()
    for given in ("abc-123", "not an id", "x" * 65):
        client.get("/id", headers={"X-Request-ID": given})
    assert seen[0] == "abc-123"
    assert [len(one) for one in seen[1:]] == [8, 8]


def test_an_async_view(app):
    """A coroutine runs elsewhere, in a copy of the context."""
    backend = next(iter(app.extensions["cache"].values()))

    async def view():
        backend.set("async", Basket())
        return ""

    app.add_url_rule("/async", view_func=view)
    with capture_findings() as findings:
        app.test_client().get("/async")
    assert findings[0].origin.startswith("GET /async · ")


def test_concurrent_requests_are_not_mixed_up(app, serve):
    """With many threads at once, each finding names its own URL, key and view."""
    url = serve(app)
    barrier = threading.Barrier(4)

    def write(number):
        barrier.wait(PATIENCE)
        for turn in range(8):
            key = f"k{number}x{turn}"
            if number % 2:
                requests.put(f"{url}/cache/{key}", timeout=PATIENCE).raise_for_status()
            else:
                requests.put(f"{url}/cart?{key}", timeout=PATIENCE).raise_for_status()

    with capture_findings() as findings, concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    told = list(zip([str(finding.path) for finding in findings], origins(findings), strict=True))
    expected = [("session['cart']._lock", "PUT /cart · tests.flask.shop.add_to_cart")] * 16
    for number in (1, 3):
        for turn in range(8):
            key = f"k{number}x{turn}"
            expected.append(
                (
                    f"cache['{key}']['basket']._lock",
                    "PUT /cache/<key> · tests.flask.shop.put_in_cache",
                )
            )
    assert sorted(told) == sorted(expected)


@pytest.mark.parametrize("kept_in", ["redis", "cookie"])
def test_a_view_is_named_only_if_it_set_the_key(
    redis_url: str, caplog: pytest.LogCaptureFixture, kept_in: str
) -> None:
    """Not for what it read with the session, and the URL is shown as its rule."""
    value: Any = {"c": Basket()} if kept_in == "redis" else {1}

    def application() -> Flask:
        app = make_app(redis_url, CONTEXTCACHE_SESSION=kept_in == "redis")
        ContextCache(app)
        app.add_url_rule("/set/<token>/", "sets", lambda token: session.update(it=value) or "ok")
        app.add_url_rule("/adds", "adds", lambda: session.update(number=1) or "ok")
        return app

    client = application().test_client()
    client.get("/set/9f1c-55aa/")
    assert "GET /set/<token>/ · " in caplog.text
    assert "9f1c" not in caplog.text
    caplog.clear()
    again = application().test_client()  # another worker
    cookie = client.get_cookie("session")
    assert cookie is not None
    again.set_cookie("session", cookie.value)
    for _ in range(3):
        again.get("/adds")
    told = [record.getMessage() for record in caplog.records if record.name == "contextcache"]
    assert len(told) == (kept_in == "redis")  # a cookie has no set
    for message in told:
        assert "loaded with the session, not set in this request" in message
        assert "adds" not in message
