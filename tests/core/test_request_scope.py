"""Scopes: which request a finding belongs to."""

from __future__ import annotations

import json
import threading
from contextvars import copy_context

import pytest

from contextcache import (
    Config,
    Guard,
    RequestScope,
    UncacheableValueError,
    current_scope,
    enter_scope,
    exit_scope,
)
from contextcache.jsonable import JSONGuard


class Cart:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_there_is_no_request_outside_of_one() -> None:
    """A script or worker has no scope."""
    assert current_scope() is None


def test_a_scope_is_entered_and_left() -> None:
    """Scopes nest, and leaving one brings back the one before."""
    outer, inner = RequestScope("GET", "/"), RequestScope("PUT", "/cart")
    first = enter_scope(outer)
    second = enter_scope(inner)
    assert current_scope() is inner
    exit_scope(second)
    assert current_scope() is outer
    exit_scope(first)
    assert current_scope() is None


def test_a_scope_belongs_to_its_context() -> None:
    """Another thread or task does not see it; a copied context does."""
    token = enter_scope(RequestScope("GET", "/"))
    seen = []
    thread = threading.Thread(target=lambda: seen.append(current_scope()))
    thread.start()
    thread.join()
    copied = copy_context()
    exit_scope(token)
    assert seen == [None]
    scope = copied.run(current_scope)
    assert scope is not None
    assert scope.method == "GET"


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (None, "PUT /cart"),
        (lambda: ("", ""), "PUT /cart"),
        (lambda: ("shop.views.add", ""), "PUT /cart · shop.views.add"),
        (
            lambda: ("shop.views.add", "shop/views.py:41"),
            "PUT /cart · shop.views.add (shop/views.py:41)",
        ),
    ],
)
def test_a_scope_names_request_and_view(view: object, text: str) -> None:
    """The text of a scope is the first half of the log's `at` line; the file is for developers."""
    for options in ({"collect": True}, {"trace": True}):
        assert str(RequestScope("PUT", "/cart", view=view, **options)) == text  # type: ignore[arg-type]
    assert str(RequestScope("PUT", "/cart", view=view)) == text.partition(" (")[0]  # type: ignore[arg-type]


def test_the_name_of_a_view_is_masked_as_that_of_a_class() -> None:
    """A view can be made at run time; the name of one that stands in source code is shown."""
    made = RequestScope("GET", "/", view=lambda: (f"{__name__}.zebra9 x\n", "f.py:1"))
    assert str(made) == f"GET / · {__name__}.*"
    written = RequestScope("GET", "/", view=lambda: (f"{__name__}.page12", "f.py:1"))
    assert str(written) == f"GET / · {__name__}.page12"


def page12() -> None:
    """A view with digits in its name."""


def test_the_view_is_asked_for_once_it_is_known_and_only_once() -> None:
    """Before routing there is no view; afterwards the answer is kept."""
    answers = [("", ""), ("shop.views.add", "views.py:1"), ("never", "asked")]
    scope = RequestScope("GET", "/", view=lambda: answers.pop(0))
    assert scope.view == ("", "")
    assert scope.view == scope.view == ("shop.views.add", "views.py:1")
    assert answers == [("never", "asked")]


def test_a_view_that_cannot_be_named_breaks_nothing() -> None:
    """The write goes through and the finding names the request alone."""

    def broken() -> tuple[str, str]:
        raise ZeroDivisionError

    scope = RequestScope("GET", "/cart", view=broken, collect=True)
    token = enter_scope(scope)
    try:
        guard = Guard()
        assert guard.loads(guard.dumps({"cart": Cart()}))["cart"].lock.acquire(blocking=False)
    finally:
        exit_scope(token)
    [finding] = scope.findings
    assert finding.origin.partition(" · stored at ")[0] == "GET /cart"


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a\nERROR forged", r"/a\nERROR forged"),
        ("/a\r\x1b[31mred", r"/a\r\x1b[31mred"),
        ("/a\u2028b\u202ec", r"/a\u2028b\u202ec"),
        ("/straße/日本", "/straße/日本"),
    ],
)
def test_the_log_shows_a_path_in_development_only_and_escaped(path: str, shown: str) -> None:
    """A path can hold a token: the pattern of the URL is logged, `*` where there is none."""
    assert str(RequestScope("GET", path, collect=True)) == f"GET {shown}"
    known = str(RequestScope("GET", path, route=lambda: "a/<uid>/<int:n>/"))
    assert known == "GET a/<uid>/<n>/"
    assert str(RequestScope("GET", path, route=str)) == "GET *"
    assert str(RequestScope("GET\nx", "/a/b1", route=lambda: 1 / 0)) == "* *"  # type: ignore[arg-type,return-value]


def test_a_collecting_scope_keeps_the_findings_of_its_request_only() -> None:
    """Each request sees each of its findings, also those the log keeps quiet about."""
    guard = Guard()
    for _ in range(3):
        scope = RequestScope("GET", "/", collect=True)
        token = enter_scope(scope)
        guard.dumps({"cart": Cart()}, label="session")
        exit_scope(token)
        assert [str(finding.path) for finding in scope.findings] == ["session['cart'].lock"]


def test_a_scope_that_does_not_collect_stays_empty() -> None:
    """In production nothing is kept beyond the request."""
    scope = RequestScope("GET", "/")
    token = enter_scope(scope)
    Guard().dumps({"cart": Cart()})
    exit_scope(token)
    assert scope.findings == []


# --- Writes ---------------------------------------------------------------------------------------


class Unlucky:
    def __reduce__(self):
        raise RuntimeError("canary")


@pytest.fixture
def collecting():
    scope = RequestScope("PUT", "/cart", collect=True)
    token = enter_scope(scope)
    yield scope
    exit_scope(token)


def test_writes_are_kept_in_development(collecting):
    """Each with what it was, where to, how large, and what became of it."""
    guard = Guard(debug=True, sink="cache in redis")
    payload = guard.dumps({"lock": threading.Lock(), "name": "canary"}, label="cache['a']")
    with pytest.raises(UncacheableValueError):
        guard.dumps((number for number in ()), label="cache['b']")
    guard.dumps({"name": 1}, label="session")
    told = [
        (write.label, write.sink, write.size, write.findings, write.stored, write.outcome)
        for write in collecting.writes
    ]
    assert told[:2] == [
        ("cache['a']", "cache in redis", len(payload), 1, True, "stored"),
        ("cache['b']", "cache in redis", None, 1, False, "not stored: CC109"),
    ]
    assert told[2][0] == "session"
    assert all(write.seconds > 0 for write in collecting.writes)
    assert "canary" not in repr(collecting.writes)


def test_a_write_whose_value_fails_is_kept(collecting):
    """Debugging it is what the list is for; the text of the error is nobody's business."""
    guard = Guard(debug=True, mode="raise")
    with pytest.raises(UncacheableValueError):
        guard.dumps(Unlucky(), label="cache['a']")
    [write] = collecting.writes
    assert (write.stored, write.size) == (False, None)
    assert write.outcome.startswith("not stored: CC")


def test_a_write_can_be_lost_on_its_way(collecting):
    """The last one, or as many as were sent at once, and only if it is the one that is meant."""
    guard = Guard(debug=True)
    collecting.lost("no answer")
    for label in ("cache['a']", "cache['b']", "cache['c']"):
        guard.dumps({}, label=label)
    collecting.lost("no answer", label="session")
    assert all(write.stored for write in collecting.writes)
    collecting.lost("no answer", 2)
    collecting.lost("another reason")
    assert [write.outcome for write in collecting.writes] == [
        "stored", "not stored: no answer", "not stored: no answer",
    ]  # fmt: skip


@pytest.mark.parametrize(("debug", "collect"), [(False, True), (True, False), (False, False)])
def test_no_write_is_kept_in_production(debug, collect):
    """It would cost time, and memory for as long as a request lasts."""
    scope = RequestScope("PUT", "/cart", collect=collect)
    token = enter_scope(scope)
    try:
        Guard(debug=debug).dumps({}, label="session")
    finally:
        exit_scope(token)
    assert scope.writes == []


def test_writes_of_json_are_kept_too(collecting):
    """As those of a session in a cookie."""
    guard = JSONGuard(json.dumps, Config(debug=True), sink="session in the cookie")
    guard.dumps({"name": "x"}, label="session")
    [write] = collecting.writes
    assert (write.label, write.sink, write.size) == ("session", "session in the cookie", 13)
