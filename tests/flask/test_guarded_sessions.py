"""Sessions that others keep: Flask's cookie, and Flask-Session on a real Redis."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import os
import pickle
import re
import threading
import uuid
import zlib
from typing import Any

import msgspec
import pytest
from cachelib import FileSystemCache
from flask import Flask, g, request, session
from flask.json.tag import JSONTag
from flask.sessions import SecureCookieSessionInterface, TaggedJSONSerializer
from flask_session import Session
from flask_session.base import MsgSpecSerializer
from markupsafe import Markup
from werkzeug.local import LocalProxy

from contextcache import UncacheableValueError
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache, RedisSessionInterface
from contextcache_flask.session_guards import MessageSerializer, TaggedSerializer

RAN = "CONTEXTCACHE_TEST_RAN"


class Evil:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> Any:
        return exec, (f"import os; os.environ[{RAN!r}] = 'yes'",)


@dataclasses.dataclass
class Draft:
    text: str
    lock: Any


def put_values() -> str:
    """Store whatever the test has put into the configuration."""
    session.update(request_values())
    return "stored"


def request_values() -> dict[str, Any]:
    from flask import current_app

    made: dict[str, Any] = current_app.config["VALUES"]()
    return made


def make_app(values: Any = dict, **config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update(SECRET_KEY="not much of one", TESTING=True, VALUES=values, **config)
    app.add_url_rule("/put", "put", put_values, methods=["PUT"])
    app.add_url_rule("/all", "all", lambda: {key: repr(session[key]) for key in sorted(session)})
    return app


def bad_values() -> dict[str, Any]:
    return {
        "cart": {"items": [{"ids": {1, 2}, "n": 1}], "at": dt.time(1)},
        "user": "ann",
        "lock": threading.Lock(),
    }


# --- The cookie -----------------------------------------------------------------------------------


def test_the_exact_field_is_named_and_the_rest_is_stored() -> None:
    """Today this is an error page: Object of type set is not JSON serializable."""
    app = make_app(bad_values)
    ContextCache(app)
    client = app.test_client()
    with capture_findings() as findings:
        assert client.put("/put").status_code == 200
    assert [(str(f.path), f.code, f.action.value) for f in findings] == [
        ("session['cart']['items'][0]['ids']", "CC140", "left out"),
        ("session['cart']['at']", "CC140", "left out"),
        ("session['lock']", "CC140", "left out"),
    ]
    assert findings[0].sink == "session in the cookie"
    assert findings[0].origin.startswith("PUT /put · ")
    assert findings[0].origin.partition(" · ")[2].startswith(f"{__name__}.put_values")
    assert client.get("/all").json == {"cart": "{'items': [{'n': 1}]}", "user": "'ann'"}


def test_what_flask_s_own_tags_keep_is_no_finding() -> None:
    """Tuples, bytes, Markup, UUIDs and moments in UTC come back from the cookie as they were."""
    kept = {
        "tuple": (1, 2),
        "bytes": b"x",
        "markup": Markup("<b>"),
        "uuid": uuid.UUID(int=1),
        "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
    }
    app = make_app(lambda: kept)
    ContextCache(app)
    client = app.test_client()
    with capture_findings() as findings:
        client.put("/put")
    assert findings == []
    assert client.get("/all").json == {key: repr(value) for key, value in kept.items()}


def test_what_comes_back_as_something_else_is_named() -> None:
    """A dataclass comes back as a dict, a naive datetime in UTC, and keys as text."""
    app = make_app(
        lambda: {
            "draft": Draft("x", threading.Lock()),
            "when": dt.datetime(2026, 1, 2, 3, 4, 5, 6),
            "mixed": {1: "a", "b": 2},
        }
    )
    ContextCache(app)
    client = app.test_client()
    with capture_findings() as findings:
        assert client.put("/put").status_code == 200
    assert [(str(f.path), f.code) for f in findings] == [
        ("session['draft']", "CC141"),
        ("session['draft'].lock", "CC140"),
        ("session['when']", "CC141"),
        ("session['mixed']", "CC141"),
    ]
    shown = client.get("/all").json
    assert shown["draft"] == "{'text': 'x'}"
    assert shown["mixed"] == "{'1': 'a', 'b': 2}"


def test_a_form_with_several_values_of_a_key_says_that_some_are_lost() -> None:
    """The next request reads the first value of each; `request.values` would lose nothing else."""
    app = make_app(lambda: {"form": request.args, "all": request.values})
    ContextCache(app)
    client = app.test_client()
    with capture_findings() as findings:
        client.put("/put?cat=1&cat=2")
    assert [(str(f.path), f.code, f.did, f.fix) for f in findings] == [
        (
            f"session['{key}']",
            "CC141",
            "stored the first value of each key; the others are lost",
            "store value.to_dict(flat=False)",
        )
        for key in ("form", "all")
    ]
    assert client.get("/all").json == {"form": "{'cat': '1'}", "all": "{'cat': '1'}"}


class Color(enum.Enum):
    RED = 1
    BLUE = "b"
    HALF = 0.5
    RAW = b"x"
    DAY = dt.date(2026, 1, 2)
    PAIR = (1, 2)
    NONE = None


class Size(enum.IntEnum):
    BIG = 9


class Word(enum.StrEnum):
    TEA = "tea"


class Role(enum.Flag):
    ADMIN = 4


@dataclasses.dataclass(frozen=True)
class Point:
    """A key that MessagePack writes as a map, which cannot be a key when it is read."""

    x: int = 1


class Place(enum.Enum):
    HOME = Point()


class Hashable(dict):
    def __hash__(self):
        return 1


KEYS = [
    Point(), Place.HOME, (Point(),), (1, (2, Point())), Hashable(a=1), (frozenset({1}),),
    float("nan"), float("-inf"), 1e16, 1e-7,
    *Color, *Size, *Word, *Role, Role.ADMIN | Role(0), 5, 1.5, b"raw", dt.date(2026, 1, 2),
    uuid.UUID(int=1), decimal.Decimal("1.5"), (1, 2), frozenset({3}), True, None,
]  # fmt: skip


@pytest.mark.parametrize("form", ["msgpack", "json"])
@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_flask_session_keeps_the_keys_that_it_keeps_without_us(
    form: str, key: Any, redis_url: str
) -> None:
    """At any depth, also beside what has to be cut, and as the kind it reads them back."""
    decode = msgspec.msgpack.decode if form == "msgpack" else msgspec.json.decode
    value = {"kept": [{"cart": {key: [1, 2]}}], "one": {key: 3, "b": 4}}
    app = make_app(dict, SESSION_SERIALIZATION_FORMAT=form)
    stock = MsgSpecSerializer(app, form)
    guarded = MessageSerializer(stock, app)
    try:
        right = decode(stock.encode(value))
    except (TypeError, msgspec.DecodeError):  # stock itself fails the page, this one or the next
        assert guarded.decode(guarded.encode(value))["one"]["b"] == 4
        return
    for session_dict, expected in (
        (value, right),
        ({**value, "lock": threading.Lock()}, right),
        ({key: 3, "b": 4}, right["one"]),
    ):
        assert repr(guarded.decode(guarded.encode(session_dict))) == repr(expected)  # for NaN


@pytest.mark.parametrize("key", [float("nan"), float("inf"), 1e16, 1e-7, -0.0, True, None, 7])
def test_the_cookie_keeps_the_keys_that_it_keeps_without_us(key: Any) -> None:
    """As the texts that Flask's own JSON makes of them."""
    stock = TaggedJSONSerializer()
    guarded = TaggedSerializer(stock, make_app(dict))
    assert guarded.dumps({"kept": [{key: 3}]}) == stock.dumps({"kept": [{key: 3}]})


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_flashed_messages_are_no_finding(form: str) -> None:
    """Flask reads the list of pairs as well as the tuples; other tuples are still reported."""
    values = {
        "_flashes": [("message", "Saved"), ("ok", "Twice"), ("ok", ("a", "b"))],
        "pairs": [("c", "d")],
    }
    app = make_app(dict, SESSION_SERIALIZATION_FORMAT=form)
    serializer = MessageSerializer(MsgSpecSerializer(app, form), app)
    with app.test_request_context(), capture_findings() as findings:
        serializer.encode(values)
    paths = [str(finding.path) for finding in findings]
    assert paths == ["session['_flashes'][2][1]", "session['pairs'][0]"]


def test_tags_of_the_application_are_its_own_business() -> None:
    """A type that the application has registered a tag for is held, and no finding."""

    class TagSet(JSONTag):
        key = " s"

        def check(self, value: Any) -> bool:
            return isinstance(value, set)

        def to_json(self, value: Any) -> Any:
            return sorted(value)

        def to_python(self, value: Any) -> Any:
            return set(value)

    class Tagged(SecureCookieSessionInterface):
        serializer = TaggedJSONSerializer()

    Tagged.serializer.register(TagSet)
    app = make_app(lambda: {"ids": {1, 2}, "cart": [{3}]})
    app.session_interface = Tagged()
    ContextCache(app)
    client = app.test_client()
    with capture_findings() as findings:
        client.put("/put")
    assert findings == []
    assert client.get("/all").json == {"cart": "[{3}]", "ids": "{1, 2}"}
    assert isinstance(app.session_interface, Tagged)


def test_mode_raise_refuses_the_session() -> None:
    """In tests and CI the write fails, with every finding."""
    app = make_app(bad_values, CONTEXTCACHE_MODE="raise")
    ContextCache(app)
    with pytest.raises(UncacheableValueError, match=r"CC140 session\['lock'\]"):
        app.test_client().put("/put")


def test_mode_warn_fails_as_before_and_says_where(caplog: pytest.LogCaptureFixture) -> None:
    """Observe only: what failed still fails, and what worked still works."""
    app = make_app(bad_values, CONTEXTCACHE_MODE="warn")
    ContextCache(app)
    with pytest.raises(UncacheableValueError) as raised:
        app.test_client().put("/put")
    assert type(raised.value.__cause__) is TypeError
    assert "session['lock']" in caplog.text


def test_another_application_keeps_its_own_session() -> None:
    """Flask's interface is one object for all applications; only one of them asked for this."""
    guarded, plain = make_app(bad_values), make_app(bad_values)
    ContextCache(guarded)
    assert guarded.test_client().put("/put").status_code == 200
    with pytest.raises(TypeError, match="is not JSON serializable"):
        plain.test_client().put("/put")


def test_initialising_twice_guards_once() -> None:
    """The second time changes nothing: one finding is one finding."""
    app = make_app(lambda: {"ids": {1}})
    ContextCache(app)
    ContextCache(app)
    with capture_findings() as findings:
        app.test_client().put("/put")
        app.test_client().put("/put")
    assert [str(finding.path) for finding in findings] == ["session['ids']"] * 2


def test_proxies_in_the_cookie() -> None:
    """What a proxy points at is stored where JSON can hold it, and named where it cannot."""

    def values() -> dict[str, Any]:
        g.name = "ann"
        return {"request": request, "me": session, "g": g, "ok": 1}

    app = make_app(values)
    ContextCache(app)
    client = app.test_client()
    with capture_findings() as findings:
        assert client.put("/put").status_code == 200
    assert {str(finding.path) for finding in findings} >= {"session['request']", "session['g']"}
    assert client.get("/all").json["ok"] == "1"


# --- The size of the cookie -----------------------------------------------------------------------


def noise(size: int) -> str:
    """Return text that does not compress, the same each time."""
    import random

    return random.Random(1).randbytes(size // 2).hex()


def test_a_cookie_close_to_the_limit_is_reported_with_sizes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before browsers drop it, the log names the heaviest key and what the others weigh."""
    values = {"user": "ann", "cart": noise(4600), "name": noise(300)}
    app = make_app(lambda: values)
    ContextCache(app)
    with capture_findings() as findings:
        response = app.test_client().put("/put")
    [finding] = findings
    size = len(response.headers["Set-Cookie"])
    assert 4093 * 0.8 < size < 4093
    assert (finding.code, str(finding.path), finding.leaf_type) == (
        "CC142",
        "session['cart']",
        "str",
    )
    assert finding.did == f"sent a cookie of {size} bytes, of at most 4093"
    assert finding.fix == (
        "keep the session on the server (CONTEXTCACHE_SESSION = True), or store less in it "
        "(bytes: session['cart'] 4611, session['name'] 311, session['user'] 14)"
    )
    assert (
        "CC142: session['cart'] (str) should not be stored: "
        "the session comes close to the most a cookie can hold"
    ) in caplog.text
    assert values["cart"] not in caplog.text


@pytest.mark.filterwarnings("ignore:The 'session' cookie is too large")  # of Werkzeug's
def test_a_cookie_that_browsers_drop() -> None:
    """Above the limit the session is lost without a word, so the words say so; `raise` refuses."""
    app = make_app(lambda: {"cart": noise(9000)})
    ContextCache(app)
    with capture_findings() as findings:
        app.test_client().put("/put")
    assert re.fullmatch(
        r"sent a cookie of \d+ bytes, of at most 4093; browsers drop it", findings[0].did
    )
    strict = make_app(lambda: {"cart": noise(9000)}, CONTEXTCACHE_MODE="raise")
    ContextCache(strict)
    with pytest.raises(UncacheableValueError, match=r"CC142 session\['cart'\]"):
        strict.test_client().put("/put")


@pytest.mark.parametrize("limit", [{}, {"MAX_COOKIE_SIZE": 0}])
def test_a_small_cookie_is_not_weighed(limit: dict[str, int]) -> None:
    """An ordinary session is no finding, nor any where Werkzeug is told not to mind."""
    app = make_app(lambda: {"user": "ann"}, CONTEXTCACHE_MODE="raise", **limit)
    ContextCache(app)
    with capture_findings() as findings:
        app.test_client().put("/put")
    assert findings == []


# --- Flask-Session --------------------------------------------------------------------------------


@pytest.fixture(params=["Flask-Session first", "contextcache first"])
def make_server_side(request: Any, redis_client: Any) -> Any:
    """Return a function that makes an app with Flask-Session on Redis, in either order."""

    def make(values: Any = dict, **config: Any) -> Flask:
        app = make_app(values, SESSION_TYPE="redis", SESSION_REDIS=redis_client, **config)
        first, second = (Session, ContextCache)
        if request.param == "contextcache first":
            first, second = second, first
        first(app)
        with app.app_context():  # an application that sets itself up
            pass
        second(app)
        return app

    return make


@pytest.mark.parametrize("written", ["msgpack", "json"])
def test_flask_session_is_guarded(make_server_side: Any, written: str) -> None:
    """Today a 500, logged twice, that names the type `Lock`; now stored without it."""
    app = make_server_side(bad_values, SESSION_SERIALIZATION_FORMAT=written)
    client = app.test_client()
    with capture_findings() as findings:
        assert client.put("/put").status_code == 200
    codes = {str(finding.path): finding.code for finding in findings}
    assert codes == {
        "session['cart']['items'][0]['ids']": "CC141",
        "session['cart']['at']": "CC141",
        "session['lock']": "CC140",
    }
    assert client.get("/all").json["user"] == "'ann'"


def test_flask_session_does_not_unpickle(
    make_server_side: Any, redis_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever writes a pickle into Redis runs no code: the session is a new one, with a warning."""
    app = make_server_side(lambda: {"user": "ann"})
    client = app.test_client()
    client.put("/put")
    [key] = redis_client.keys("session:*")
    redis_client.set(key, pickle.dumps(Evil()))
    old = client.get_cookie("session").value
    assert "user" not in client.get("/all").json
    assert RAN not in os.environ
    assert (
        "session cannot be read and counts as a miss: its bytes are neither MessagePack"
        in caplog.text
    )
    client.put("/put")
    assert client.get_cookie("session").value != old


def test_the_same_without_contextcache(redis_client: Any) -> None:
    """What this guards against is real: Flask-Session alone runs the planted code."""
    app = make_app(lambda: {"user": "ann"}, SESSION_TYPE="redis", SESSION_REDIS=redis_client)
    Session(app)
    client = app.test_client()
    client.put("/put")
    [key] = redis_client.keys("session:*")
    redis_client.set(key, pickle.dumps(Evil()))
    client.get("/all")
    assert os.environ.pop(RAN) == "yes"


def test_what_cannot_be_read_is_a_new_session_in_mode_raise(
    make_server_side: Any, redis_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A mode is about writes."""
    app = make_server_side(lambda: {"user": "ann"}, CONTEXTCACHE_MODE="raise")
    client = app.test_client()
    client.put("/put")
    [key] = redis_client.keys("session:*")
    redis_client.set(key, b"\x00")
    assert "user" not in client.get("/all").json
    assert "neither MessagePack nor JSON" in caplog.text


def test_sessions_of_before_can_be_read(make_server_side: Any, redis_client: Any) -> None:
    """A session in Flask-Session's other format is read, as by Flask-Session itself."""
    app = make_server_side(lambda: {"user": "ann"})
    client = app.test_client()
    client.put("/put")
    [key] = redis_client.keys("session:*")
    redis_client.set(key, msgspec.json.encode({"user": "bob"}))
    assert client.get("/all").json == {"user": "'bob'"}


def test_contextcache_session_wins_in_either_order(make_server_side: Any, redis_url: str) -> None:
    """CONTEXTCACHE_SESSION = True means this session, whoever comes last."""
    app = make_server_side(
        lambda: {"user": "ann"}, CONTEXTCACHE_SESSION=True, CONTEXTCACHE_REDIS_URL=redis_url
    )
    client = app.test_client()
    client.put("/put")
    assert isinstance(app.session_interface, RedisSessionInterface)
    assert client.get("/all").json == {"user": "'ann'"}


def test_flask_session_on_cachelib(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Today a 200 and the whole session is gone, login included; the id is never logged."""
    backend = FileSystemCache(str(tmp_path))
    values = {"user": "ann", "proxy": LocalProxy(lambda: {"lock": threading.Lock(), "n": 1})}
    app = make_app(lambda: values, SESSION_TYPE="cachelib", SESSION_CACHELIB=backend)
    Session(app)
    ContextCache(app)
    client = app.test_client()
    with capture_findings() as findings:
        assert client.put("/put").status_code == 200
    assert [str(finding.path) for finding in findings] == ["session['proxy']"]
    assert findings[0].sink == "session in files"
    shown = client.get("/all").json
    assert shown["user"] == "'ann'"
    assert "'n': 1" in shown["proxy"]
    assert client.get_cookie("session").value not in caplog.text


# --- What is nested too deep ----------------------------------------------------------------------

DEEP = {
    "msgpack": b"\x91" * 100_000 + b"\xc0",
    "json": b"[" * 100_000 + b"]" * 100_000,
    "an open one": b'{"a":' * 100_000,
    "a dict of it": b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0",
}


@pytest.mark.parametrize("written", ["msgpack", "json"])
@pytest.mark.parametrize("deep", DEEP)
def test_a_session_that_is_too_deep_to_be_read_is_a_new_one(
    make_server_side: Any,
    redis_client: Any,
    caplog: pytest.LogCaptureFixture,
    written: str,
    deep: str,
) -> None:
    """Not an error on every page of that visitor; and it is reported."""
    app = make_server_side(lambda: {"user": "ann"}, SESSION_SERIALIZATION_FORMAT=written)
    client = app.test_client()
    client.put("/put")
    [key] = redis_client.keys("session:*")
    redis_client.set(key, DEEP[deep])
    answer = client.get("/all")
    assert (answer.status_code, "user" in answer.json) == (200, False)
    assert "session cannot be read and counts as a miss: it" in caplog.text


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("levels", [50, 150, 250, 320, 450, 700, 950, 3000])
@pytest.mark.parametrize("kind", ["cookie", "msgpack", "json"])
def test_a_visitor_may_choose_how_deep_the_session_is(
    make_server_side: Any, kind: str, levels: int
) -> None:
    """What could not be read back is not written, and costs nothing else."""

    def values() -> dict[str, Any]:
        return {"filter": nested(levels), "user": "ann"}

    if kind == "cookie":
        app = make_app(values)
        ContextCache(app)
    else:
        app = make_server_side(values, SESSION_SERIALIZATION_FORMAT=kind)
    app.add_url_rule("/user", "user", lambda: session.get("user", ""))
    client = app.test_client()
    with capture_findings() as findings:
        assert client.put("/put").status_code == 200
    answer = client.get("/user")
    assert (answer.status_code, answer.text) == (200, "ann")
    assert {(one.code, str(one.path)) for one in findings} <= {("CC130", "session['filter']")}


def test_a_cookie_that_is_too_deep_to_be_read_is_an_empty_session(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that was written with more room on the stack, or by another version of Python."""
    app = make_app()
    ContextCache(app)
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    client = app.test_client()
    for payload in ("[" * 50_000 + "]" * 50_000, '{" u": "no UUID"}', "no JSON"):
        signed = serializer.make_signer(serializer.salt).sign(_in_cookie(payload))
        client.set_cookie("session", signed.decode())
        answer = client.get("/all")
        assert (answer.status_code, answer.json) == (200, {})
    assert "session cannot be read and counts as a miss: it is nested too deep" in caplog.text


def _in_cookie(payload: str) -> bytes:
    """Return JSON as itsdangerous puts it into a cookie."""
    return b"." + base64.urlsafe_b64encode(zlib.compress(payload.encode())).rstrip(b"=")


@pytest.mark.parametrize("held", [5, (1, 2), "text"])
def test_an_entry_of_cachelib_that_is_no_dict_is_an_empty_session(
    held: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Flask-Session takes what the cache has, and fails the page."""
    files = FileSystemCache(str(tmp_path))
    app = make_app(lambda: {"uid": 7}, SESSION_TYPE="cachelib", SESSION_CACHELIB=files)
    Session(app)
    ContextCache(app)
    client = app.test_client()
    client.put("/put")
    name = f"session:{client.get_cookie('session').value}"
    assert files.has(name)
    files.set(name, held)
    assert "uid" not in client.get("/all").json
    assert "not a session" in caplog.text
