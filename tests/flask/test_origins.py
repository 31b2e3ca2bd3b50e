"""Origins in real Flask stacks: the user's line, past decorators, and in the session."""

from __future__ import annotations

import pytest
from flask import Response, session

from contextcache.testing import capture_findings
from contextcache_flask import ContextCache
from tests.flask.shop import Basket, add_cache, make_app

HERE = "tests/flask/test_origins.py"


def line(mark):
    """Return the line of this file that ends with the comment `mark`."""
    with open(__file__, encoding="utf-8") as file:
        return next(at for at, text in enumerate(file, 1) if text.endswith(f"  # {mark}\n"))


@pytest.fixture
def app(request):
    app = make_app("fakeredis://", **{"CONTEXTCACHE_SESSION": True} | request.param)
    ContextCache(app)
    cache = add_cache(app)

    @cache.memoize()
    def basket(number):
        return Basket(number)

    @app.get("/memoized")
    def memoized():
        return str(basket(7).number)  # memoized

    @app.get("/cached")
    @cache.cached()
    def cached():
        response = Response("page")
        response.basket = Basket()
        return response

    @app.get("/set")
    def by_hand():
        cache.set("basket", Basket())  # set
        return "stored"

    @app.get("/session")
    def in_session():
        session["cart"] = 1
        session.update(cart=Basket())  # assigned
        session["other"] = 1
        return "added"

    @app.after_request
    def own(response):
        return response

    return app


def stored(app, url):
    """Return what the findings of a request to `url` say beside method, path and view."""
    with capture_findings() as findings:
        assert app.test_client().get(url).status_code == 200
    assert findings
    return sorted({" · ".join(finding.origin.split(" · ")[2:]) for finding in findings})


@pytest.mark.parametrize("app", [{"DEBUG": False}], indirect=True)
def test_a_write_names_the_line_that_leads_to_it(app):
    """The line that calls the cache, or a function that is memoized, whose name no key shows."""
    assert stored(app, "/set") == [f"stored at {HERE}:{line('set')}"]
    function = f"{__name__}.app.<locals>.basket"
    memoized = f"stored at {HERE}:{line('memoized')} (result of {function})"
    assert stored(app, "/memoized") == [memoized]


@pytest.mark.parametrize("app", [{"DEBUG": False}], indirect=True)
def test_what_is_stored_after_the_view_is_stored_by_no_line(app):
    """A cached view, and in production the session."""
    assert stored(app, "/cached") == [""]
    assert stored(app, "/session") == [""]


@pytest.mark.parametrize(
    "app", [{"DEBUG": True}, {"DEBUG": True, "CONTEXTCACHE_SESSION": False}], indirect=True
)
def test_in_development_a_session_names_the_line_that_assigned_last(app):
    """Of the very key the finding is about, also by `update`, in Redis and in the cookie."""
    assert stored(app, "/session") == [f"set at {HERE}:{line('assigned')}"]
