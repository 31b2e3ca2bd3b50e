"""The canary: a secret in every kind of offender, and nothing contextcache says may contain it."""

from __future__ import annotations

import enum
import functools
import io
import itertools
import logging
import pickle
import socket
import sqlite3
import ssl
import sys
import threading
import traceback
import types
import weakref
from concurrent.futures import Future
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, g, session
from flask import request as flask_request
from werkzeug.datastructures import Headers
from werkzeug.local import Local, LocalProxy
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from contextcache import (
    Config,
    Guard,
    RequestScope,
    RequestSnapshot,
    Rule,
    UncacheableValueError,
    UnreadablePayloadError,
    enter_scope,
    exit_scope,
    is_stripped,
)
from contextcache.reports.log_format import record_fields
from contextcache.testing import assert_cacheable, capture_findings
from tests.child import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CANARY = "canary-7f3a9c"  # also written out below, where the literal itself must not be shown
LONG = f"{CANARY} {'x' * 30}"  # longer than a key that is printed


class Loud:
    """Says the secret whenever it is asked for anything."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __repr__(self) -> str:
        return CANARY

    __str__ = __repr__

    def __format__(self, _spec: str) -> str:
        return CANARY

    @property
    def secret(self) -> str:
        raise ValueError(CANARY)


class Client:
    token = "canary-7f3a9c"

    def __init__(self, password: str = "canary-7f3a9c") -> None:
        self.password = password
        self.headers = {"Authorization": CANARY}
        self.lock = make(threading.Lock, "canary-7f3a9c", key=b"canary-7f3a9c")
        self.url = f"redis://:canary-7f3a9c@{password}"


def make(factory: Callable[[], Any], *_args: object, **_more: object) -> Any:
    return factory()


class Raising:
    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.how == "reduce":
            raise ValueError(CANARY)
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> object:
        if self.how in ("getstate", "notes"):
            error = KeyError(CANARY)
            error.add_note(CANARY)
            raise error from OSError(CANARY)
        return {"how": self.how, "password": CANARY}

    def __setstate__(self, state: object) -> None:
        raise ValueError(CANARY)


class Wants(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


class Colour(enum.Enum):
    RED = CANARY


class Text(str):
    __slots__ = ()


class Connection:
    def __init__(self) -> None:
        self.password = CANARY
        self.socket = socket.socket()
        self.socket.close()


class Local_(threading.local):
    secret = CANARY


def generator(secret: str = CANARY) -> Iterator[str]:
    inside = secret
    yield inside


async def coroutine(secret: str = CANARY) -> str:
    return secret


def started() -> Iterator[str]:
    running = generator()
    next(running)
    return running


def closed_coroutine() -> Any:
    made = coroutine()
    made.close()
    return made


def closure() -> Callable[[], str]:
    secret = CANARY
    return lambda default=CANARY: f"canary-7f3a9c{secret}{default}"


def local_class() -> object:
    class Inside:
        token = "canary-7f3a9c"

        def __init__(self) -> None:
            self.secret = CANARY

    return Inside()


def caught() -> BaseException:
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        error.add_note(CANARY)
        return error


def local() -> threading.local:
    made = threading.local()
    made.secret = CANARY
    made.lock = threading.Lock()
    return made


def future() -> Future[str]:
    made: Future[str] = Future()
    made.set_result(CANARY)
    return made


def failed_future() -> Future[str]:
    made: Future[str] = Future()
    made.set_exception(ValueError(CANARY))
    return made


def context() -> Any:
    ContextVar[str]("inside").set(CANARY)
    return copy_context()


def database() -> sqlite3.Connection:
    made = sqlite3.connect(":memory:")
    made.execute("create table secrets (secret text default 'canary-7f3a9c')")
    made.close()
    return made


def module() -> types.ModuleType:
    made = types.ModuleType("settings", CANARY)
    made.SECRET_KEY = CANARY  # type: ignore[attr-defined]
    return made


def cycle() -> Client:
    made = Client()
    made.me = {"me": made, "lock": threading.Lock()}  # type: ignore[attr-defined]
    return made


def deep() -> list[object]:
    made: list[object] = [CANARY, threading.Lock()]
    for _ in range(100_000):
        made = [made, CANARY]
    return made


def broken_proxy() -> LocalProxy[Any]:
    def target() -> Any:
        raise RuntimeError(CANARY)

    return LocalProxy(target)


def local_proxy() -> LocalProxy[Any]:
    held = Local()
    held.user = Client()
    return held("user")


def environ() -> dict[str, Any]:
    builder = EnvironBuilder(
        "/cart",
        method="POST",
        query_string=f"page=2&token={CANARY}&next=/cb%3Fcode%3D{CANARY};sid={CANARY}&{CANARY}",
        headers={
            "Authorization": f"Bearer {CANARY}",
            "Cookie": f"sessionid={CANARY}",
            "X-Api-Key": CANARY,
            "X-CSRFToken": CANARY,
            "Referer": f"https://user:{CANARY}@shop.example/login?token={CANARY}#{CANARY}",
            "X-Original-URL": f"/login?token={CANARY}",
        },
        data={"password": CANARY},
    )
    found = builder.get_environ()
    builder.close()
    return found


def read_request() -> Request:
    request = Request(environ())
    assert request.form["password"] == request.args["token"] == CANARY
    assert request.cookies["sessionid"] == CANARY
    return request


OFFENDERS: dict[str, Callable[[], object]] = {
    "beside the lock": Client,
    "in the session": lambda: {"token": CANARY, "client": Client(), "tokens": [CANARY, Client()]},
    "the value itself": threading.Lock,
    "repr": Loud,
    "repr of a holder": lambda: [Loud(), {"loud": Loud()}],
    "repr of a key": lambda: {Loud(): Loud(), "lock": threading.Lock()},
    "repr of an element": lambda: {Loud(), frozenset({Loud()})},
    "long key": lambda: {LONG: threading.Lock(), "a": {LONG: started()}},
    "bytes key": lambda: {CANARY.encode(): threading.Lock()},
    "enum key": lambda: {Colour.RED: threading.Lock()},
    "str subclass key": lambda: {Text(CANARY): threading.Lock()},
    "tuple key": lambda: {(LONG, 1): threading.Lock(), ("a", Text(CANARY)): started()},
    "float key": lambda: {float("inf"): threading.Lock(), complex(1, 2): [CANARY, started()]},
    "offending key": lambda: {started(): CANARY},
    "reduce raises": lambda: Raising("reduce"),
    "getstate raises": lambda: [Raising("getstate")],
    "setstate raises": lambda: {"a": [Raising("setstate")]},
    "constructor wants more": lambda: {"a": Wants(CANARY, CANARY)},
    "exception": lambda: ValueError(CANARY, threading.Lock()),
    "caught exception": lambda: {"error": caught(), "traceback": caught().__traceback__},
    "lambda": closure,
    "lambda in the value": lambda: {"a": closure(), "b": [lambda: "canary-7f3a9c"]},
    "partial": lambda: functools.partial(closure(), CANARY),
    "bound method": lambda: Loud().__repr__,
    "local class": local_class,
    "generator": lambda: {"rows": started()},
    "coroutine": lambda: {"rows": closed_coroutine()},
    "frame": lambda: {"frame": sys._getframe(), "code": generator.__code__},
    "thread-local": local,
    "subclass of thread-local": lambda: {"local": Local_()},
    "asgiref local": lambda: {"local": LocalProxy(local)},
    "socket": Connection,
    "ssl": lambda: {"context": ssl.create_default_context(), "password": CANARY},
    "database": lambda: {"database": database()},
    "file": lambda: {"file": io.TextIOWrapper(io.BytesIO(CANARY.encode())), "log": sys.__stdout__},
    "thread": lambda: threading.Thread(name=CANARY, args=(CANARY,), target=print),
    "future": lambda: [future(), failed_future()],
    "context": lambda: [context(), ContextVar(CANARY, default=CANARY)],
    "weak reference": lambda: {"ref": weakref.ref(generator), "set": weakref.WeakSet([Client])},
    "module": lambda: {"settings": module()},
    "handler": lambda: logging.StreamHandler(io.StringIO(CANARY)),
    "views": lambda: [{CANARY: Loud()}.keys(), {1: LONG}.values(), memoryview(CANARY.encode())],
    "mapping proxy": lambda: types.MappingProxyType({LONG: threading.Lock()}),
    "cycle": cycle,
    "too deep": deep,
    "proxy": lambda: {"user": local_proxy(), "again": [local_proxy()]},
    "broken proxy": lambda: {"user": broken_proxy()},
    "request": lambda: {"request": read_request()},
    "request headers": lambda: {"headers": read_request().headers},
    "environ": lambda: {"environ": environ()},
    "unbound flask": lambda: [flask_request, session, g],
}


class Broken:
    """Each hook of the application raises with the secret in its text."""

    def __call__(self, *_args: object) -> Any:
        raise ValueError(CANARY)


BROKEN: dict[str, dict[str, Any]] = {
    "callback": {"on_finding": (Broken(),)},
    "make": {"rules": (Rule(type="_thread.lock", verb="snapshot", make=Broken()),)},  # type: ignore[arg-type]
    "when": {"rules": (Rule(type="_thread.lock", verb="strip", when=Broken()),)},  # type: ignore[arg-type]
    "recreate": {"rules": (Rule(type="tests:Client", verb="recreate", make=Broken()),)},  # type: ignore[arg-type]
    "trim": {"rules": (Rule(type="tests:Client", verb="trim", make=Broken()),)},  # type: ignore[arg-type]
}


def broken_hooks() -> Iterator[Any]:
    """Yield each broken hook in each mode; a write that is refused calls no `on_finding`."""
    for (name, options), mode in itertools.product(BROKEN.items(), ("strip", "warn", "raise")):
        called = (name, mode) != ("callback", "raise")
        marks = [pytest.mark.internal_error] if called else []
        yield pytest.param(options, mode, id=f"{name}-{mode}", marks=marks)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def markers(value: object, seen: set[int]) -> Iterator[Any]:
    """Yield the markers and snapshots a reader would find in `value`."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if is_stripped(value) or type(value) is RequestSnapshot:
        yield value
    elif isinstance(value, dict):
        for key, held in value.items():
            yield from markers(key, seen)
            yield from markers(held, seen)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for held in value:
            yield from markers(held, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, types.ModuleType)):
        yield from markers(vars(value), seen)


def of_error(error: BaseException, *, chain: bool) -> Iterator[str]:
    yield from (str(error), repr(error), *getattr(error, "__notes__", ()))
    if chain:
        yield from traceback.format_exception(error)


def said(value: object, guard: Guard, caplog: pytest.LogCaptureFixture) -> tuple[bytes, list[str]]:
    """Store and read `value`; return the payload and every text contextcache produced for it."""
    texts: list[str] = []
    payload = b""
    with capture_findings() as findings:
        try:
            payload = guard.dumps(value, label="session")
        except UncacheableValueError as error:
            # In mode warn the application's own error is the cause: it would have had it anyway.
            texts += of_error(error, chain=guard.config.mode != "warn")
            findings += error.findings
        findings += guard.explain(value, label="session")
    if payload:
        try:
            loaded = guard.loads(payload, label="session")
        except UnreadablePayloadError as error:
            assert guard.config.mode == "warn"
            loaded = None
            texts += of_error(error, chain=False)
        for marker in markers(loaded, set()):
            texts.append(repr(marker))
            with pytest.raises(AttributeError) as used:
                marker.anything  # noqa: B018
            texts += of_error(used.value, chain=True)
    for finding in findings:
        texts += (
            str(finding),
            repr(finding),
            repr(record_fields([finding])),
            str(finding.path.pattern),
        )
        texts += (repr(pickle.dumps(finding)), finding.field)
    for record in caplog.records:
        texts += (record.getMessage(), repr(vars(record)))
    assert findings, "an offender without a finding proves nothing"
    return payload, [*texts, caplog.text]


@pytest.mark.parametrize("debug", [False, True], ids=["production", "development"])
@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
@pytest.mark.parametrize("offender", OFFENDERS.values(), ids=OFFENDERS.keys())
def test_no_secret_is_ever_said(
    offender: Callable[[], object], mode: str, debug: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Log, errors, findings and markers name fields and types, never a value."""
    _, texts = said(offender(), Guard(mode=mode, debug=debug, session=True), caplog)
    for text in texts:
        assert CANARY not in text


@pytest.mark.parametrize(("options", "mode"), [*broken_hooks()])
def test_no_secret_of_a_broken_hook_is_said(
    options: dict[str, Any], mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A rule or callback that fails is named by its place; its text stays with it."""
    _, texts = said({"client": Client()}, Guard(mode=mode, debug=True, **options), caplog)
    assert CANARY not in "\n".join(texts)
    if mode == "strip":
        assert "failed with ValueError" in caplog.text


def test_no_secret_of_a_view_that_cannot_be_named_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Naming the view runs code of the application, which may fail."""
    token = enter_scope(RequestScope("GET", "/cart", view=Broken(), collect=True))
    try:
        _, texts = said({"client": Client()}, Guard(debug=True), caplog)
    finally:
        exit_scope(token)
    assert "GET /cart" in caplog.text
    assert CANARY not in "\n".join(texts)


def test_no_secret_is_said_of_a_payload_that_cannot_be_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither its bytes nor what its classes raise."""
    guard = Guard()
    hostile = b"\x80\x05X\x10\x00\x00\x00canary-7f3a9c\n\x1b[X\x01\x00\x00\x00a\x93."
    payloads = (
        pickle.dumps([CANARY, 1])[:-3],
        pickle.dumps(Raising("setstate")),
        pickle.dumps(Wants(CANARY, CANARY)),
        f"{CANARY} is no pickle".encode(),
        f"c{CANARY}\nx\n.".encode(),
        f"cjson\n{CANARY}\n.".encode(),
        hostile,
    )
    for payload in payloads:
        with pytest.raises(UnreadablePayloadError) as caught:
            guard.loads(payload, label="cache['user']")
        guard.report_unreadable(caught.value)
        assert CANARY not in "\n".join(of_error(caught.value, chain=False))
    assert caplog.records
    assert CANARY not in caplog.text
    assert "\x1b" not in caplog.text


def test_no_secret_is_said_when_a_value_is_too_large(caplog: pytest.LogCaptureFixture) -> None:
    """The largest field is named, not shown."""
    value = {"a": {LONG: [CANARY * 1000]}, Loud: CANARY}
    _, texts = said({**value, "lock": threading.Lock()}, Guard(max_size=100), caplog)
    assert any("CC131" in text for text in texts)
    assert CANARY not in "\n".join(texts)


def test_no_secret_is_said_by_the_test_helper() -> None:
    """An assertion message ends up in the log of a CI."""
    for offender in (Client, Loud, closure, local, read_request):
        with pytest.raises(AssertionError) as caught:
            assert_cacheable({"it": offender()})
        assert CANARY not in "".join(of_error(caught.value, chain=True))


SENT = ("token", "sessionid", "Bearer", "password", CANARY)


@pytest.mark.parametrize(
    "value",
    [
        read_request,
        lambda: read_request().headers,
        lambda: {"a": [read_request()], "headers": read_request().headers},
        lambda: LocalProxy(read_request),
    ],
    ids=["request", "headers", "both", "proxy"],
)
def test_no_credential_of_a_request_is_stored(
    value: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the log, and not in the bytes either."""
    payload, _ = said({"it": value()}, Guard(), caplog)
    assert payload
    for secret in SENT:
        assert secret.encode() not in payload


def test_no_credential_of_a_flask_request_is_stored(caplog: pytest.LogCaptureFixture) -> None:
    """`flask.request`, and the session and form read from it, stay in the request."""
    app = Flask(__name__)
    app.secret_key = CANARY
    app.add_url_rule("/cart", "cart", lambda: "", methods=["POST"])
    with app.request_context(environ()):
        assert flask_request.form["password"] == flask_request.args["token"] == CANARY
        value = {"request": flask_request, "real": flask_request._get_current_object(), "app": app}
        payload, texts = said(value, Guard(debug=True), caplog)
    assert CANARY.encode() not in payload
    assert CANARY not in "\n".join(texts)


DJANGO = f"""
    import logging, pickle, sys, threading, types, warnings
    from django.conf import settings
    settings.configure(SECRET_KEY="{CANARY}", ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"],
                       INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"])
    urls = types.ModuleType("urls")
    urls.urlpatterns = []
    sys.modules["urls"] = urls
    import django
    django.setup()
    from django.contrib.auth.models import User
    from django.test import AsyncRequestFactory, RequestFactory
    from django.utils.functional import SimpleLazyObject
    from contextcache import Guard
    from contextcache.testing import capture_findings

    sent = dict(
        query_params={{"token": "{CANARY}", "next": "/cb?code={CANARY}"}},
        headers={{
            "Authorization": "Bearer {CANARY}", "Cookie": "sessionid={CANARY}",
            "X-Api-Key": "{CANARY}", "Referer": "https://x/login?token={CANARY}",
        }},
        data={{"password": "{CANARY}"}},
    )
    user = User(pk=7, username="ada", password="{CANARY}")
    user._state.adding = False  # a row of the database, as the user of a request is
    for factory in (RequestFactory(), AsyncRequestFactory()):
        request = factory.post("/cart", **sent)
        request.POST, request.COOKIES, request.headers, request.GET
        request.user = SimpleLazyObject(lambda: user)
        request.session = {{"token": "{CANARY}"}}
        request.lock = threading.Lock()
        for value in (request, request.headers, request.user, {{"all": [request, request.user]}}):
            for debug in (False, True):
                guard = Guard(debug=debug)
                with capture_findings() as findings:
                    payload = guard.dumps({{"it": value}}, label="session")
                assert b"{CANARY}" not in payload, payload
                it = guard.loads(payload)["it"]
                assert findings, value
                print(findings, type(it), repr(it))
"""


def test_no_credential_of_a_django_request_is_stored_or_said() -> None:
    """Under WSGI and ASGI; nor the password hash of the user who came with it."""
    code = DJANGO.replace("import logging,", "import sys; sys.stderr = sys.stdout; import logging,")
    output = run(code)
    assert "contextcache CC106: session['it'] (django.core.handlers.wsgi.WSGIRequest)" in output
    assert "contextcache CC106: session['it'] (django.core.handlers.asgi.ASGIRequest)" in output
    assert "contextcache CC105" in output
    assert CANARY not in output


def with_keys() -> dict[Any, Any]:
    """Make a value with somebody's name in each kind of key, and an offender under each."""
    odd = Loud()
    vars(odd)[f"not an {CANARY}"] = threading.Lock()
    return {
        CANARY: {CANARY: Client(), (CANARY, 1): [started()], 73113: threading.Lock()},
        "odd": odd,
        "inner": {CANARY: [{"x": cycle()}]},
        "unloadable": {CANARY: [Wants("a", "b")]},
        f"{CANARY}-rows": started(),
    }


@pytest.mark.parametrize("session", [False, True], ids=["cache", "session"])
@pytest.mark.parametrize("debug", [False, True], ids=["production", "development"])
@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_no_key_is_said_where_keys_are_redacted(
    mode: str, debug: bool, session: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither that of the cache nor those in the value: in no log, error, finding or marker."""
    guard = Guard(mode=mode, debug=debug, session=session, redact_keys=True)
    label = f"cache['{CANARY}:1']"
    texts: list[str] = []
    scope = RequestScope("GET", "/", collect=True)
    token = enter_scope(scope)
    try:
        for _ in range(2):
            with capture_findings() as findings:
                try:
                    payload = guard.dumps(with_keys(), label=label)
                except UncacheableValueError as error:
                    texts += of_error(error, chain=mode != "warn")
                    payload = b""
                findings += guard.explain(with_keys(), label=label)
            for one in (*findings, *guard.summary()):
                texts += (str(one), repr(one), repr(one.as_dict()))
            for marker in markers(guard.loads(payload) if payload else None, set()):
                texts.append(repr(marker))
    finally:
        exit_scope(token)
    with pytest.raises(UnreadablePayloadError) as caught:
        guard.loads(b"", label=label)
    guard.report_unreadable(caught.value)
    with pytest.raises(UncacheableValueError) as large:
        Guard(max_size=10, redact_keys=True).dumps({CANARY: "x" * 100}, label=label)
    texts += (*of_error(caught.value, chain=False), *of_error(large.value, chain=False))
    texts += (scope.header, caplog.text, *(repr(vars(record)) for record in caplog.records))
    assert "cache[*][*]" in "\n".join(texts)
    for text in texts:
        assert CANARY not in text
        assert "73113" not in text


REDACTED = f"""
    import sys
    sys.stderr = sys.stdout
    import logging, threading
    logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
    for quiet in ("asyncio", "flask_caching"):
        logging.getLogger(quiet).setLevel(logging.CRITICAL)
    class Client:
        def __init__(self):
            self.lock = threading.Lock()
    VALUE = {{"{CANARY}": {{"{CANARY}": Client()}}, "rows": (row for row in ())}}

    def use(cache):
        cache.set("{CANARY}", VALUE)
        cache.set("{CANARY}", threading.Thread())
        cache.set("{CANARY}", b"x" * 200_000)
"""

DJANGO_REDACTED = """
    from django.conf import settings
    settings.configure(
        DEBUG={debug}, SECRET_KEY="x", CONTEXTCACHE={{"REDACT_KEYS": True, "MAX_SIZE": 100_000}},
        CACHES={{"default": {{"BACKEND": "contextcache_django.cache.RedisCache"}}}},
        SESSION_ENGINE="contextcache_django.sessions",
    )
    import django
    django.setup()
    from django.core.cache import cache
    from contextcache_django.sessions import SessionStore
    use(cache)
    cache.set("{CANARY}", 1)
    cache._cache.get_client(None, write=True).set(cache.make_key("{CANARY}"), b"garbage")
    print("read", cache.get("{CANARY}"), cache.get_many(["{CANARY}"]))
    session = SessionStore()
    session.update(VALUE)
    session["{CANARY}-large"] = "x" * 200_000
    session.save()
"""

FLASK_REDACTED = """
    from flask import Flask, session
    from flask_caching import Cache
    from contextcache_flask import ContextCache
    app = Flask(__name__)
    app.config.update(
        DEBUG={debug}, SECRET_KEY="x", CACHE_TYPE="contextcache_flask.RedisCache",
        CONTEXTCACHE_REDIS_URL="fakeredis://", CONTEXTCACHE_SESSION=True,
        CONTEXTCACHE_REDACT_KEYS=True, CONTEXTCACHE_MAX_SIZE=100_000,
    )
    cache = Cache(app)
    ContextCache(app)
    @app.get("/")
    def index():
        use(cache)
        session.update(VALUE)
        session["{CANARY}-large"] = "x" * 200_000
        return "done"
    response = app.test_client().get("/")
    print("read", response.status, dict(response.headers))
"""


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("code", [DJANGO_REDACTED, FLASK_REDACTED], ids=["django", "flask"])
def test_no_key_is_said_by_an_application_that_redacts_them(code: str, debug: bool) -> None:
    """Neither in its log nor in the headers of its responses."""
    told = run(REDACTED + code.format(debug=debug, CANARY=CANARY))
    assert "contextcache CC102: cache[*][*][*].lock" in told
    assert "contextcache CC102: session[*][*].lock" in told
    assert "CC131" in told
    assert "read" in told
    assert CANARY not in told


def test_a_redacted_path_is_a_pattern_that_silences() -> None:
    """The line to paste does what it says, for all keys at once."""
    [told, url] = Guard(redact_keys=True).explain({"a": Client()}, label="cache['u:1']")
    assert str(told.path) == told.path.pattern == "cache[*][*].lock"
    assert str(url.path) == url.path.pattern == "cache[*][*].url"  # for its password
    assert Guard(ignore=(str(told.path),), mode="raise").dumps({"b": Client()}, label="cache['v']")


def test_a_source_line_is_shown_without_its_literals(caplog: pytest.LogCaptureFixture) -> None:
    """The line that sets the field is there, what stands in its quotes is not."""
    Guard(debug=True).dumps({"client": Client()})
    assert "self.lock = make(threading.Lock, …, key=…)" in caplog.text
    assert CANARY in Path(__file__).read_text()


def test_the_canary_would_be_seen() -> None:
    """The test looks where secrets would show: pickle's own words do contain it."""
    with pytest.raises(ValueError, match=CANARY) as caught:
        pickle.dumps(Raising("reduce"))
    assert CANARY in "".join(of_error(caught.value, chain=False))
    assert CANARY in repr(Loud())
    assert CANARY.encode() in pickle.dumps(dict(Headers({"Authorization": CANARY})))
    assert Config().mode == "strip"
