"""Snapshots: the storable part of an offender, and nothing that should stay where it was."""

from __future__ import annotations

import json
import pickle
import sqlite3
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import ContextVar
from types import FunctionType, MappingProxyType, SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask import request as flask_request
from werkzeug.local import Local, LocalProxy
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from contextcache import Config, Guard, RequestSnapshot, is_stripped
from contextcache.rules.builtin.threads import empty_local
from contextcache.rules.replacements import current_values
from contextcache.rules.request_snapshots import harmless, innocent
from tests.child import run
from tests.waiting import PATIENCE

CANARY = "canary-7f3a9c"
VARIABLE: ContextVar[str] = ContextVar("VARIABLE")


def stored(value: object, **options: Any) -> Any:
    guard = Guard(**options)
    return guard.loads(guard.dumps({"it": value}))["it"]


@pytest.mark.parametrize(
    "name",
    [
        "Accept", "Accept-Language", "Content-Type", "Host", "Referer", "User-Agent", "Origin",
        "X-Forwarded-For", "page", "q", "shipping", "postcode", "compass", "monkey", "design",
        "turnkey2", "estate", "passenger",
    ],
)  # fmt: skip
def test_an_innocent_name_is_kept(name: str) -> None:
    """Parts of ordinary words are no credentials."""
    assert innocent(name)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Api-Key", "X-APIKEY",
        "apiKey", "APIKey", "access_token", "id_token_hint", "code", "state", "sig", "nonce",
        "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Credential", "AWSAccessKeyId",
        "X-CSRFToken", "password", "passwd", "user_pass", "passphrase", "pwd1", "pin", "userPin",
        "PINCode", "otp2", "sessionid", "sid", "SAMLResponse", "client_assertion", "ticket",
        "X-Bearer", "X-Goog-Iap-Jwt-Assertion", "secret", "accessKey", "Sec-WebSocket-Key",
    ],
)  # fmt: skip
def test_a_name_that_may_carry_a_credential_is_not(name: str) -> None:
    """Whatever the case and the separators, a credential is told by the words of its name."""
    assert not innocent(name)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://shop.example/cart", "https://shop.example/cart"),
        (f"https://shop.example/cb?token={CANARY}", "https://shop.example/cb"),
        (f"https://shop.example/cb#access_token={CANARY}", "https://shop.example/cb"),
        (f"https://shop.example/cb?{CANARY}", "https://shop.example/cb"),
        (f"https://user:{CANARY}@shop.example/", "https://shop.example/"),
        (f"/cb?next=/x&token={CANARY}", "/cb"),
        (f"cb?token={CANARY}", "cb"),
        ('"Not?A_Brand";v="24", "Chromium";v="110"', '"Not?A_Brand";v="24", "Chromium";v="110"'),
        ("?0", "?0"),
        ("text/html,application/xml;q=0.9,*/*;q=0.8", "text/html,application/xml;q=0.9,*/*;q=0.8"),
        (
            "Mozilla/5.0 (X11; Linux x86_64) Gecko/2010",
            "Mozilla/5.0 (X11; Linux x86_64) Gecko/2010",
        ),
    ],
)
def test_a_url_loses_its_query_and_password(text: str, kept: str) -> None:
    """A `Referer` carries the token of the page before; other header values stay as they are."""
    assert harmless(text) == kept


def environ() -> dict[str, Any]:
    builder = EnvironBuilder(
        "/cart",
        method="POST",
        base_url="https://shop.example/",
        query_string=f"page=2&page=3&token={CANARY}&next=/cb%3Fcode%3D{CANARY};sid={CANARY}&{CANARY}",
        headers={
            "Authorization": f"Bearer {CANARY}",
            "Cookie": f"sessionid={CANARY}",
            "X-Api-Key": CANARY,
            "Referer": f"https://shop.example/login?token={CANARY}",
            "Accept": "*/*",
        },
        data={"password": CANARY},
    )
    found = builder.get_environ()
    builder.close()
    return found


DESCRIPTION = {
    "method": "POST",
    "path": "/cart",
    "host": "shop.example",
    "scheme": "https",
    "content_type": "application/x-www-form-urlencoded",
    "query": {"page": ["2", "3"], "next": ["/cb"]},
    "headers": {"Accept": "*/*", "Host": "shop.example", "Referer": "https://shop.example/login"},
}


def described(snapshot: RequestSnapshot) -> dict[str, Any]:
    return {name: getattr(snapshot, name) for name in DESCRIPTION}


def test_a_werkzeug_request_is_kept_as_a_description() -> None:
    """Method, path, host, query and headers stay; credentials, cookies and body do not."""
    snapshot = stored(Request(environ()))
    assert described(snapshot) == DESCRIPTION
    assert snapshot.kind == "werkzeug.wrappers.request.Request"


def test_a_flask_request_is_found_behind_its_proxy() -> None:
    """`flask.request` is a proxy: what it points at is kept as a description, with the endpoint."""
    app = Flask(__name__)
    app.add_url_rule("/cart", "cart", lambda: "", methods=["POST"])
    with app.request_context(environ()):
        snapshot = stored(flask_request)
    assert described(snapshot) == DESCRIPTION
    assert (snapshot.kind, snapshot.view_name) == ("flask.wrappers.Request", "cart")


def test_the_headers_of_a_request_are_kept_without_credentials() -> None:
    """`request.headers` is a live view of everything the visitor sent."""
    headers = stored(Request(environ()).headers)
    assert headers == DESCRIPTION["headers"]


HEADERS = {"Accept": "*/*", "Referer": "https://shop.example/login"}
DJANGO = f"""
    import asyncio, io, json
    from django.conf import settings
    settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="{CANARY}", ROOT_URLCONF="urls")
    import sys, types
    urls = types.ModuleType("urls")
    urls.urlpatterns = []
    sys.modules["urls"] = urls
    import django
    django.setup()
    from django.http import HttpRequest
    from django.test import AsyncRequestFactory, RequestFactory
    from contextcache import Guard

    sent = dict(
        query_params={{"page": ["2", "3"], "token": "{CANARY}", "next": "/cb?code={CANARY}"}},
        secure=True,
        headers={{
            "Authorization": "Bearer {CANARY}", "X-Api-Key": "{CANARY}",
            "Cookie": "sessionid={CANARY}", "Accept": "*/*",
            "Referer": "https://shop.example/login?token={CANARY}",
        }},
        data={{"password": "{CANARY}"}},
    )
    requests = [RequestFactory().post("/cart", **sent), AsyncRequestFactory().post("/cart", **sent)]
    requests[0].COOKIES["extra"] = "{CANARY}"
    for request in requests:
        request.user = types.SimpleNamespace(name="{CANARY}")
        request.POST
    guard = Guard()
    shown = []
    for value in (*requests, HttpRequest(), requests[0].headers, requests[1].headers):
        payload = guard.dumps({{"it": value}})
        assert b"{CANARY}" not in payload, payload
        it = guard.loads(payload)["it"]
        shown.append(it if type(it) is dict else it.__reduce__()[1][0])
    print(json.dumps(shown))
"""


def test_django_requests_are_kept_as_a_description() -> None:
    """Under WSGI and ASGI alike, and a bare `HttpRequest` is no error."""
    wsgi, asgi, bare, *headers = json.loads(run(DJANGO))
    for snapshot, kind in ((wsgi, "wsgi.WSGIRequest"), (asgi, "asgi.ASGIRequest")):
        assert snapshot["kind"] == f"django.core.handlers.{kind}"
        assert snapshot["content_type"].startswith("multipart/form-data")
        snapshot["headers"].pop("Host", None)  # the factory for ASGI sends one, that for WSGI none
        assert snapshot["host"] in ("testserver", "testserver:443")
        sent = {"content_type": snapshot["content_type"], "host": snapshot["host"]}
        expected = {**DESCRIPTION, **sent, "headers": HEADERS}
        assert {name: snapshot[name] for name in DESCRIPTION} == expected
    assert (bare["method"], bare["path"], bare["query"]) == ("GET", "", {})
    for kept in headers:
        assert {name: kept[name] for name in HEADERS} == HEADERS


def test_an_asgi_scope_is_read_where_there_is_no_environ() -> None:
    """Starlette's requests hold a scope with byte headers."""
    from contextcache.rules.request_snapshots import request_snapshot

    scope = {
        "method": "PUT",
        "path": "/cart",
        "scheme": "https",
        "query_string": f"page=2&token={CANARY}".encode(),
        "headers": [
            (b"host", b"shop.example"),
            (b"authorization", CANARY.encode()),
            (b"referer", f"/x?t={CANARY}".encode()),
        ],
    }
    snapshot = request_snapshot(SimpleNamespace(scope=scope))
    assert (snapshot.method, snapshot.path, snapshot.host) == ("PUT", "/cart", "shop.example")
    assert snapshot.query == {"page": ["2"]}
    assert snapshot.headers == {"Host": "shop.example", "Referer": "/x"}


def test_a_proxy_is_stored_as_what_it_points_at() -> None:
    """The target is stored and cleaned in turn; shared with the value, it stays shared."""
    cart = {"lock": threading.Lock(), "total": 3}
    proxy = LocalProxy(lambda: cart)
    guard = Guard()
    again = guard.loads(guard.dumps({"cart": cart, "proxy": proxy}))
    assert again["proxy"] is again["cart"]
    assert again["proxy"]["total"] == 3


def test_a_proxy_that_points_at_nothing_is_stripped() -> None:
    """Outside its request an unbound proxy has no target, and is not asked twice for it."""
    asked = []

    def target() -> object:
        asked.append(1)
        raise RuntimeError(CANARY)

    assert is_stripped(stored(LocalProxy(target)))
    assert is_stripped(stored(Local()("user")))


def test_a_context_variable_of_a_module_is_stored_by_name() -> None:
    """On load it is the same variable, with the value of whoever reads it."""
    VARIABLE.set(CANARY)
    guard = Guard()
    payload = guard.dumps([VARIABLE])
    assert CANARY.encode() not in payload
    assert guard.loads(payload)[0] is VARIABLE


def test_a_context_variable_without_a_name_is_stripped() -> None:
    """What no module holds cannot be found again."""
    assert is_stripped(stored(ContextVar("nameless")))


class Plain(threading.local):
    colour = "blue"


class Wanting(threading.local):
    def __init__(self, size: int) -> None:
        self.size = size


class Optional(threading.local):
    def __init__(self, size: int = 3) -> None:
        self.size = size


@pytest.mark.parametrize("cls", [threading.local, Plain, Optional])
def test_a_thread_local_is_recreated_as_a_new_thread_sees_it(cls: type) -> None:
    """Its class and defaults are back, the values of this thread are not."""
    local = cls()
    local.secret = CANARY
    again = stored(local)
    assert type(again) is cls
    assert not hasattr(again, "secret")
    if cls is Optional:
        assert again.size == 3


def test_a_thread_local_whose_constructor_wants_more_is_made_without_it() -> None:
    """No argument is invented: the object is empty rather than wrong."""
    assert empty_local(Wanting) == (Wanting.__new__, (Wanting,))
    again = stored(Wanting(5))
    assert type(again) is Wanting
    assert not hasattr(again, "size")


@pytest.mark.parametrize("cls", [threading.local, Plain])
def test_a_rule_can_ask_for_the_values_of_this_thread(cls: type) -> None:
    """`snapshot` stores what the thread-local holds here and now, as a plain namespace."""
    local = cls()
    local.user_id = 7
    name = f"{cls.__module__}.{cls.__qualname__}"
    assert stored(local, config=Config.from_mapping({"RULES": {name: "snapshot"}})) == (
        SimpleNamespace(user_id=7)
    )
    assert current_values(SimpleNamespace(a=1)) == SimpleNamespace(a=1)


def test_pools_come_back_idle_with_their_size() -> None:
    """Their threads and processes stay here."""
    with ThreadPoolExecutor(3, "shop") as threads, ProcessPoolExecutor(2) as processes:
        thread_pool, process_pool = stored(threads), stored(processes)
    assert thread_pool._max_workers == 3
    assert thread_pool.submit(int, "3").result(timeout=PATIENCE) == 3
    assert process_pool._max_workers == 2
    thread_pool.shutdown()
    process_pool.shutdown()


def test_views_are_stored_as_what_they_show() -> None:
    """A view cannot be stored apart from what it shows, so a copy of that is."""
    shown = {"a": 1}
    assert stored(shown.keys()) == ["a"]
    assert stored(shown.values()) == [1]
    assert stored(shown.items()) == [("a", 1)]
    assert stored(MappingProxyType(shown)) == shown
    assert stored(memoryview(b"bytes")[1:3]) == b"yt"
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    [row] = connection.execute("select 1 as id, 'x' as name").fetchall()
    connection.close()
    assert stored(row) == {"id": 1, "name": "x"}


def test_no_snapshot_imports_a_framework() -> None:
    """The core knows frameworks by name only."""
    assert run("import sys, contextcache; print('django' in sys.modules)") == "False\n"
    assert "werkzeug" in sys.modules  # this process has one, so the check above means something


def test_a_snapshot_is_loaded_by_public_or_stable_names() -> None:
    """What a payload refers to must exist in every later version."""
    import pickletools

    with_request = pickle.dumps(stored(Request(environ())), 5)
    names = [str(arg) for op, arg, _ in pickletools.genops(with_request) if "UNICODE" in op.name]
    assert "contextcache.payload.wire" in names
    assert isinstance(pickle.loads(with_request), RequestSnapshot)
    assert isinstance(pickle.loads(with_request).__reduce__()[0], FunctionType)
