"""The session in Redis: what it costs, what it keeps, and what it never does."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re
import threading
from datetime import timedelta

import flask_login
import pytest
import redis
import requests
from flask import (
    Flask,
    abort,
    flash,
    g,
    get_flashed_messages,
    render_template_string,
    request_finished,
    session,
)

from contextcache import Config, ConfigurationError, Guard, UncacheableValueError
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache, RedisSessionInterface
from contextcache_flask.sessions import KEY_PREFIX, RedisSession
from tests.flask.shop import Basket, add_cache, make_app
from tests.redis_server import free_port, running_redis
from tests.sealing import sealed
from tests.waiting import PATIENCE

# flask_login 0.6 asks for the time in a way that Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

DAY = 24 * 3600


def make(url, **config):
    app = make_app(url, CONTEXTCACHE_SESSION=True, **config)
    add_cache(app)
    ContextCache(app)
    return app


def add(app, rule, view):
    """Add a view under a URL, which a lambda has no name for."""
    app.add_url_rule(rule, endpoint=rule.strip("/").partition("/")[0], view_func=view)


@pytest.fixture
def app(any_url):
    return make(any_url)


@pytest.fixture
def real_app(redis_url, redis_client):
    return make(redis_url)


@pytest.fixture
def client(app):
    return app.test_client()


def sid_of(client):
    cookie = client.get_cookie("session")
    return cookie.value if cookie else None


def key_of(sid):
    return KEY_PREFIX + hashlib.sha256(sid.encode()).hexdigest()


# --- What it costs -------------------------------------------------------------------------------


def test_an_untouched_session_costs_nothing(real_app, commands):
    """Without a cookie and with one, a request that leaves the session alone asks Redis nothing."""
    client = real_app.test_client()
    client.get("/untouched")
    assert commands() == {}
    client.put("/write/ann")
    commands()
    answer = client.get("/untouched")
    assert commands() == {}
    assert "Set-Cookie" not in answer.headers
    assert "Vary" not in answer.headers


def test_a_new_session_costs_one_command(real_app, commands):
    """A visitor without a cookie has nothing to be read."""
    real_app.test_client().put("/write/ann")
    assert commands() == {"set": 1}


def test_reading_costs_one_command_and_writing_two(real_app, commands):
    """The session is read once however often it is asked, and written once."""
    client = real_app.test_client()
    client.get("/read")
    assert commands() == {}
    client.put("/write/ann")
    commands()
    assert client.get("/read").text == "ann"
    assert commands() == {"getex": 1}
    client.get("/all")
    assert commands() == {"getex": 1}
    client.put("/write/bob")
    assert commands() == {"getex": 1, "set": 1}


def test_without_refreshing_a_read_is_a_plain_read(redis_url, redis_client, commands):
    """SESSION_REFRESH_EACH_REQUEST = False lets Redis count from the last write."""
    client = make(redis_url, SESSION_REFRESH_EACH_REQUEST=False).test_client()
    client.put("/write/ann")
    commands()
    client.get("/read")
    assert commands() == {"get": 1}


def test_logging_out_costs_two_commands(real_app, commands):
    """`clear` does not read what it deletes, but asks where another request has moved it to."""
    client = real_app.test_client()
    client.put("/write/ann")
    commands()
    client.post("/logout")
    assert commands() == {"del": 1, "get": 1}


def test_a_template_that_only_could_use_the_session_reads_nothing(real_app, commands):
    """Flask puts the session into every template; it is read by those that use it."""
    add(real_app, "/page", lambda: render_template_string("page"))
    add(real_app, "/name", lambda: render_template_string("{{ session.name }}"))
    client = real_app.test_client()
    client.put("/write/ann")
    commands()
    assert client.get("/page").text == "page"
    assert commands() == {}
    assert client.get("/name").text == "ann"
    assert commands() == {"getex": 1}


# --- What it keeps -------------------------------------------------------------------------------


def test_it_behaves_like_a_dict(app):
    """Everything a view does with Flask's own session works."""

    @app.put("/dict")
    def use():
        session["a"] = 1
        session.update(b=2, c=3)
        session.setdefault("d", 4)
        del session["b"]
        assert session.pop("c") == 3
        assert "b" not in session
        assert session.get("b") is None
        assert sorted(session) == sorted(session.keys()) == ["a", "d"]
        assert dict(session) == {**session} == session.copy() == {"a": 1, "d": 4}
        assert session == {"a": 1, "d": 4}
        assert len(session) == 2
        assert repr(session._get_current_object()) == "<RedisSession: 2 keys>"
        flash("told")
        return ""

    @app.get("/dict")
    def reuse():
        return {"flashed": get_flashed_messages(), "rest": dict(session)}

    client = app.test_client()
    client.put("/dict")
    assert client.get("/dict").json == {"flashed": ["told"], "rest": {"a": 1, "d": 4}}
    assert client.get("/dict").json == {"flashed": [], "rest": {"a": 1, "d": 4}}


def test_values_of_any_type_come_back(app):
    """What JSON would change, or refuse, is kept as it was."""
    values = {"tuple": (1, 2), "set": {1}, "span": timedelta(1), "bytes": b"x", "keys": {1: "a"}}
    seen = []
    add(app, "/in", lambda: (session.update(values), "")[1])
    add(app, "/out", lambda: (seen.append(dict(session)), "")[1])
    client = app.test_client()
    client.get("/in")
    client.get("/out")
    assert seen == [values]


def test_a_lock_in_the_session_is_cut_and_named(client):
    """The issue's first line, over Flask: the exact field, the view and the sink."""
    with capture_findings() as findings:
        client.put("/cart")
    (finding,) = findings
    assert str(finding.path) == "session['cart']._lock"
    assert finding.sink == "session in redis"
    assert finding.origin.startswith("PUT /cart · tests.flask.shop.add_to_cart")
    assert client.get("/cart").json == {"number": 3, "keys": ["cart"]}


def test_proxies_in_the_session(client):
    """The request becomes a snapshot; what can only be cut takes its top-level key with it."""
    with capture_findings() as findings:
        client.put("/proxies", headers={"Authorization": "Bearer canary"})
    found = {str(finding.path): finding.action for finding in findings}
    assert found["session['request']"] == "snapshotted"
    assert found["session['app']"] == "left out"
    kept = client.get("/all").json
    assert sorted(kept) == ["request", "user"]
    assert "canary" not in kept["request"]


def test_the_session_itself_may_be_cached(any_url):
    """A RedisSession in a cached value is a plain dict when it comes back."""
    app = make(any_url)
    cache = next(iter(app.extensions["cache"]))
    seen = []

    @app.get("/both")
    def both():
        session["name"] = "ann"
        cache.set("copy", {"session": session})
        seen.append(cache.get("copy")["session"])
        return ""

    app.test_client().get("/both")
    assert seen == [{"name": "ann"}]
    assert type(seen[0]) is dict


class User(flask_login.UserMixin):
    def __init__(self, number):
        self.id = number


def test_current_user_in_the_session(app):
    """flask_login keeps its own keys in this session, and its proxy may be stored there."""
    manager = flask_login.LoginManager(app)
    manager.user_loader(lambda number: User(int(number)))

    @app.post("/login")
    def login():
        flask_login.login_user(User(42))
        session["me"] = flask_login.current_user
        return ""

    @app.get("/me")
    def me():
        stored = session["me"]
        return {
            "current": flask_login.current_user.id,
            "stored": [type(stored).__name__, stored.id],
        }

    client = app.test_client()
    with capture_findings() as findings:
        client.post("/login")
    assert [(f.code, str(f.path)) for f in findings] == [("CC104", "session['me']")]
    assert client.get("/me").json == {"current": 42, "stored": ["User", 42]}


def test_a_change_inside_a_value_is_written_when_modified_is_set(app):
    """As with Flask's own session: nested changes are noticed by those who say so."""
    add(app, "/new", lambda: (session.update(cart=[]), "")[1])

    @app.get("/add/<int:say>")
    def put_in(say):
        session["cart"].append(1)
        session.modified = bool(say)
        return ""

    add(app, "/cart-size", lambda: str(len(session["cart"])))
    client = app.test_client()
    client.get("/new")
    client.get("/add/0")
    assert client.get("/cart-size").text == "0"
    client.get("/add/1")
    assert client.get("/cart-size").text == "1"


def test_a_session_transaction_in_tests(app, client):
    """`client.session_transaction()` writes what the next request reads."""
    with client.session_transaction() as stored:
        stored["name"] = "ann"
    assert client.get("/read").text == "ann"


def test_two_threads_share_the_session_of_a_copied_request(app):
    """The session is read once, even where two threads ask for it first at the same time."""
    calls, gate = [], threading.Barrier(2)

    def load(sid):
        calls.append(sid)
        return {"name": "ann"}

    shared = RedisSession(load, "x" * 43)

    def use(number):
        gate.wait(PATIENCE)
        shared[f"by{number}"] = shared["name"]

    threads = [threading.Thread(target=use, args=[n]) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == ["x" * 43]
    assert shared.copy() == {"name": "ann", "by0": "ann", "by1": "ann"}


def test_a_signal_handler_may_use_the_session_while_it_is_read():
    """The handler runs in the thread that reads it; what the handler puts in is kept."""
    interrupts = iter([True])

    def load(sid):
        if next(interrupts, False):
            shared["by the handler"] = 1
        return {"name": "ann"}

    shared = RedisSession(load, "x" * 43)
    found = []
    thread = threading.Thread(target=lambda: found.append(shared.copy()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found == [{"name": "ann", "by the handler": 1}]


def test_copies_and_pickles_of_a_session_are_plain_dicts():
    """Neither takes the connection to Redis along."""
    stored = RedisSession(lambda sid: {"a": [1]}, "x" * 43)
    assert repr(stored) == "<RedisSession: not read>"
    assert type(copy.deepcopy(stored)) is dict
    assert pickle.loads(pickle.dumps(stored)) == {"a": [1]}


# --- The id --------------------------------------------------------------------------------------


def test_redis_knows_only_a_hash_of_the_id(real_app, redis_client):
    """Who reads Redis, or a dump of it, cannot log in as anybody."""
    client = real_app.test_client()
    client.put("/write/ann")
    sid = sid_of(client)
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", sid)
    assert redis_client.keys("*") == [key_of(sid).encode()]
    assert sid.encode() not in redis_client.get(key_of(sid))


@pytest.mark.parametrize("planted", ["A" * 43, "short", "", "x" * 4000, "../../etc", '"quoted"'])
def test_an_unknown_id_is_never_adopted(client, planted):
    """An id that somebody chose for the visitor names no session, now or later."""
    client.set_cookie("session", planted)
    assert client.get("/read").text == "None"
    assert client.put("/write/ann").status_code == 200
    assert sid_of(client) != planted
    assert client.get("/read").text == "ann"
    other = client.application.test_client()
    other.set_cookie("session", planted)
    assert other.get("/read").text == "None"


def test_an_id_of_another_shape_is_not_even_asked_for(real_app, commands):
    """What this package cannot have made costs no command."""
    client = real_app.test_client()
    client.set_cookie("session", "x" * 42)
    client.get("/read")
    assert commands() == {}


def test_rotating_the_id(app):
    """After `rotate`, the session has the same items, another id, and nothing is under the old."""

    @app.post("/login")
    def login():
        session["user"] = 7
        session.rotate()
        return ""

    client, thief = app.test_client(), app.test_client()
    client.put("/write/ann")
    before = sid_of(client)
    thief.set_cookie("session", before)
    assert thief.get("/read").text == "ann"
    client.post("/login")
    assert sid_of(client) not in (None, before)
    assert client.get("/all").json == {"name": "ann", "user": "7"}
    assert thief.get("/all").json == {}


def test_rotating_by_the_name_of_flask_session(app):
    """`app.session_interface.regenerate(session)` is what Flask-Session's users call."""
    add(app, "/rotate", lambda: (app.session_interface.regenerate(session), "")[1])
    client = app.test_client()
    client.put("/write/ann")
    before = sid_of(client)
    client.get("/rotate")
    assert sid_of(client) != before
    assert client.get("/read").text == "ann"


def test_a_new_session_can_be_rotated(app):
    """A login in the first request of a visitor needs no special case."""

    @app.post("/login")
    def login():
        session["user"] = 7
        session.rotate()
        return ""

    client = app.test_client()
    client.post("/login")
    assert client.get("/all").json == {"user": "7"}


def test_an_error_after_saving_keeps_the_new_id(any_url):
    """Flask saves the session again with the page for an error that comes late."""
    app = make(any_url)
    app.config["TESTING"] = False

    @app.post("/login")
    def login():
        session["user"] = 7
        session.rotate()
        return ""

    def fail(*_, **__):
        request_finished.disconnect(fail, app)
        raise RuntimeError

    client = app.test_client()
    client.put("/write/ann")
    request_finished.connect(fail, app)
    assert client.post("/login").status_code == 500
    assert client.get("/all").json == {"name": "ann", "user": "7"}


def test_clearing_and_filling_again_gives_another_id(app, redis_client):
    """What was known under the old id is gone, and the new items are under another."""

    @app.post("/login")
    def login():
        session.clear()
        session["user"] = 7
        return ""

    client, thief = app.test_client(), app.test_client()
    client.put("/write/ann")
    before = sid_of(client)
    thief.set_cookie("session", before)
    client.post("/login")
    assert sid_of(client) != before
    assert client.get("/all").json == {"user": "7"}
    assert thief.get("/all").json == {}


@pytest.mark.parametrize("late", ["write", "rotate"])
def test_a_session_logged_out_elsewhere_is_not_brought_back(app, late):
    """A request still running when its visitor logs out has nowhere to write to."""
    second = app.test_client()

    @app.post("/slow")
    def slow():
        session["name"] = "late"
        if late == "rotate":
            session.rotate()
        second.post("/logout")
        return ""

    client = app.test_client()
    client.put("/write/ann")
    before = sid_of(client)
    second.set_cookie("session", before)
    answer = client.post("/slow")
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert client.get("/read").text == "None"


def test_logging_out_deletes_the_session_and_the_cookie(real_app, redis_client):
    """Nothing is left on either side."""
    client = real_app.test_client()
    client.put("/write/ann")
    answer = client.post("/logout")
    assert answer.headers["Set-Cookie"].startswith("session=; Expires=Thu, 01 Jan 1970")
    assert redis_client.keys("*") == []
    assert sid_of(client) is None


def test_taking_out_the_last_item_is_logging_out(real_app, redis_client):
    """An empty session needs no key and no cookie, as with Flask's own."""
    add(real_app, "/pop", lambda: session.pop("name"))
    client = real_app.test_client()
    client.put("/write/ann")
    client.get("/pop")
    assert redis_client.keys("*") == []
    assert sid_of(client) is None


# --- The cookie and the time ---------------------------------------------------------------------


def test_every_cookie_setting_is_honoured(any_url):
    """The cookie is as `SESSION_COOKIE_*` wants it, when it is set and when it is deleted."""
    app = make(
        any_url,
        SESSION_COOKIE_NAME="shop",
        SESSION_COOKIE_DOMAIN="example.org",
        SESSION_COOKIE_PATH="/write",
        SESSION_COOKIE_SECURE=True,
        SESSION_COOKIE_HTTPONLY=False,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_PARTITIONED=True,
    )
    add(app, "/write/away", lambda: (session.clear(), "")[1])
    client = app.test_client()
    base = "https://example.org"
    for answer in (
        client.put("/write/ann", base_url=base),
        client.get("/write/away", base_url=base),
    ):
        name, _, attributes = answer.headers["Set-Cookie"].partition("=")
        assert name == "shop"
        assert "Domain=example.org" in attributes
        assert "Path=/write" in attributes
        assert "Secure" in attributes
        assert "HttpOnly" not in attributes
        assert "SameSite=Strict" in attributes
        since_3_1 = "SESSION_COOKIE_PARTITIONED" in Flask.default_config
        assert ("Partitioned" in attributes) is since_3_1


def test_a_browser_session_has_a_cookie_without_an_end(client):
    """Unless the session is permanent, the browser forgets it when it is closed."""
    answer = client.put("/write/ann")
    assert "Expires" not in answer.headers["Set-Cookie"]
    assert "HttpOnly" in answer.headers["Set-Cookie"]
    assert "Set-Cookie" not in client.get("/read").headers


def test_a_permanent_session_is_prolonged_when_it_is_read(redis_url, redis_client):
    """Cookie and key live PERMANENT_SESSION_LIFETIME from the last time it was used."""
    app = make(redis_url, PERMANENT_SESSION_LIFETIME=timedelta(days=2))
    add(app, "/stay", lambda: (session.update(_permanent=True), "")[1])
    client = app.test_client()
    assert "Expires" in client.get("/stay").headers["Set-Cookie"]
    key = key_of(sid_of(client))
    assert 2 * DAY - 60 < redis_client.ttl(key) <= 2 * DAY
    redis_client.expire(key, 100)
    assert "Expires" in client.get("/read").headers["Set-Cookie"]
    assert 2 * DAY - 60 < redis_client.ttl(key) <= 2 * DAY


def test_without_refreshing_reading_prolongs_nothing(redis_url, redis_client):
    """SESSION_REFRESH_EACH_REQUEST = False: only a write counts."""
    app = make(redis_url, SESSION_REFRESH_EACH_REQUEST=False)
    add(app, "/stay", lambda: (session.update(_permanent=True), "")[1])
    client = app.test_client()
    client.get("/stay")
    key = key_of(sid_of(client))
    redis_client.expire(key, 100)
    assert "Set-Cookie" not in client.get("/read").headers
    assert redis_client.ttl(key) <= 100
    client.put("/write/ann")
    assert redis_client.ttl(key) > 100


def test_a_page_that_read_the_session_varies_by_cookie(app):
    """A cache in between must not show one visitor's page to another."""
    add(app, "/asked", lambda: str("name" in session))
    client = app.test_client()
    assert client.get("/read").headers["Vary"] == "Cookie"
    assert client.get("/asked").headers["Vary"] == "Cookie"
    assert client.put("/write/ann").headers["Vary"] == "Cookie"
    assert client.post("/logout").headers["Vary"] == "Cookie"
    assert "Vary" not in client.get("/untouched").headers


# --- Trouble -------------------------------------------------------------------------------------


def test_an_unreachable_redis_is_not_an_empty_session(caplog):
    """A visitor with a session gets 503 and keeps the cookie, whatever the page does with it."""
    with running_redis() as url:
        app = make(url)
        app.config["TESTING"] = False
        client = app.test_client()
        client.put("/write/ann")
        sid = sid_of(client)
    for method, path in [
        ("GET", "/read"),
        ("PUT", "/write/bob"),
        ("POST", "/logout"),
        ("GET", "/all"),
    ]:
        answer = client.open(path, method=method)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), path
        assert "Set-Cookie" not in answer.headers
        assert "127.0.0.1" not in answer.text
        assert sid_of(client) == sid
    assert client.get("/untouched").status_code == 200
    refused = "connection refused; start the server or correct the URL"
    assert [message for message in caplog.messages if "503" in message] == [
        f"contextcache: Redis at {url} {state}: {refused} ({method} {route} is answered with 503)"
        for method, route, state in [
            ("GET", "/read", "cannot be reached"),
            ("PUT", "/write/<name>", "cannot be reached"),
            ("POST", "/logout", "cannot be reached"),
            ("GET", "/all", "is left alone for 20 s at most"),
        ]
    ]


def test_a_new_session_that_cannot_be_stored_is_503(caplog):
    """A visitor without a cookie is not given one for a session that Redis does not hold."""
    port = free_port()
    app = make(f"redis://user:canary@127.0.0.1:{port}/0")
    closed = []

    @app.get("/file")
    def stream():
        session["name"] = "ann"

        class Body:
            def __iter__(self):
                return iter([b"x"])

            def close(self):
                closed.append(1)

        return app.response_class(Body(), headers={"X-Own": "1"})

    with app.test_client() as client:
        answer = client.get("/file")
        assert answer.status_code == 503
        assert "Set-Cookie" not in answer.headers
        assert "X-Own" not in answer.headers
        assert "Service Unavailable" in answer.text
        answer.close()
    assert closed == [1]
    assert (
        f"Redis at redis://127.0.0.1:{port}/0 cannot be reached: connection refused" in caplog.text
    )
    assert "canary" not in caplog.text


def test_an_outage_is_waited_for_once_per_request(app):
    """A page that asks for the session three times waits for a silent server once."""
    calls = []

    class Silent(redis.Redis):
        def execute_command(self, *_, **__):
            calls.append(1)
            raise redis.TimeoutError("Timeout reading from socket")

    @app.get("/often")
    def often():
        for _ in range(3):
            with pytest.raises(ConnectionError):
                session.get("name")
        abort(418)

    client = app.test_client()
    client.put("/write/ann")
    app.session_interface = RedisSessionInterface(Silent())
    assert client.get("/often").status_code == 418
    assert calls == [1]


def test_a_redis_that_takes_no_writes_still_has_the_session(redis_url, redis_client, caplog):
    """A page that reads it is served; one that writes it must not look as if it had."""
    client = make(redis_url).test_client()
    client.put("/write/ann")
    sid = sid_of(client)
    redis_client.config_set("maxmemory", 1)
    try:
        answer = client.put("/write/bob")
        read = client.get("/read")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert (answer.status_code, read.text, sid_of(client)) == (503, "ann", sid)
    assert "Set-Cookie" not in answer.headers
    assert caplog.messages == [
        (
            f"contextcache: Redis at {redis_url} takes no writes: its memory is full (OOM); "
            "raise maxmemory, or set maxmemory-policy to one that evicts "
            "(PUT /write/<name> is answered with 503)"
        )
    ]
    assert client.put("/write/bob").status_code == 200
    assert client.get("/read").text == "bob"


def test_a_replica_gives_a_session_and_loses_none(redis_url, redis_client):
    """A GETEX is a write, which a replica refuses; and a logout there did not take place."""
    app = make(redis_url)
    client = app.test_client()
    client.put("/write/ann")
    sid = sid_of(client)
    redis_client.replicaof("127.0.0.1", free_port())
    try:
        assert client.get("/read").text == "ann"
        assert client.put("/write/bob").status_code == 503
        assert client.post("/logout").status_code == 503
    finally:
        redis_client.replicaof("NO", "ONE")
    assert sid_of(client) == sid
    assert client.get("/read").text == "ann"


def test_a_refused_command_is_an_outage(caplog):
    """Any other error of Redis is 503 as well, and nothing of its text is logged."""
    with running_redis("--rename-command", "SET", "") as url:
        answer = make(url).test_client().put("/write/ann")
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (503, False)
    assert caplog.messages == [
        (
            f"contextcache: Redis at {url} refused a command: ResponseError "
            "(PUT /write/<name> is answered with 503)"
        )
    ]


def test_a_key_of_another_type_is_an_outage(redis_url, redis_client, caplog):
    """What another program put there is no session, and no reason to log anybody out."""
    app = make(redis_url)
    client = app.test_client()
    client.put("/write/ann")
    [key] = redis_client.keys("contextcache:session:*")
    redis_client.delete(key)
    redis_client.lpush(key, "hush")
    answer = client.get("/read")
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (503, False)
    [message] = caplog.messages
    assert "under this key it holds something else than a value (WRONGTYPE)" in message
    assert "hush" not in message


def test_an_error_handler_of_the_application_makes_the_page(real_app):
    """503 is an HTTP error like any other to the application."""
    real_app.register_error_handler(503, lambda error: ("back in a minute", 503))
    client = real_app.test_client()
    client.put("/write/ann")
    real_app.session_interface = RedisSessionInterface(f"redis://127.0.0.1:{free_port()}/0")
    answer = client.get("/read")
    assert (answer.status_code, answer.text) == (503, "back in a minute")


class Vanishing:
    """Its class is taken away after an instance has been stored, as by a deploy."""


def test_a_session_that_cannot_be_read_is_an_empty_one_with_another_id(app, monkeypatch, caplog):
    """A page is shown, the log says why the visitor has to log in, and the old id is not reused."""
    add(app, "/old", lambda: (session.update(old=Vanishing()), "")[1])
    client = app.test_client()
    client.get("/old")
    before = sid_of(client)
    monkeypatch.delattr(f"{__name__}.Vanishing")
    assert client.get("/all").json == {}
    assert "session cannot be read" in caplog.text
    client.put("/write/ann")
    assert sid_of(client) != before


def test_what_is_not_a_session_is_not_one(real_app, redis_client):
    """A value that another program wrote under the key is not shown as a session."""
    client = real_app.test_client()
    client.put("/write/ann")
    place = key_of(sid_of(client))
    redis_client.set(place, sealed(pickle.dumps([1, 2]), place, purpose="session"))
    assert client.get("/all").json == {}


def test_what_is_too_large_takes_only_its_own_key_with_it(any_url):
    """In mode strip, the rest of the session is stored: a cart must not cost the login."""
    app = make(any_url, CONTEXTCACHE_MAX_SIZE=1000)
    add(app, "/large", lambda: (session.update(large="x" * 2000, user=7), "page")[1])
    client = app.test_client()
    client.put("/write/ann")
    with capture_findings() as findings:
        assert client.get("/large").text == "page"
    assert [(finding.code, str(finding.path)) for finding in findings] == [
        ("CC131", "session['large']")
    ]
    assert client.get("/all").json == {"name": "ann", "user": "7"}


def test_mode_raise_is_an_error_told_once(any_url, caplog):
    """Flask saves the session again with the error page; the error is not raised by that again."""
    app = make(any_url, CONTEXTCACHE_MODE="raise")
    app.config.update(TESTING=False)
    with capture_findings() as findings:
        assert app.test_client().put("/cart").status_code == 500
    assert [str(finding.path) for finding in findings] == ["session['cart']._lock"]
    assert [record.getMessage() for record in caplog.records] == ["Exception on /cart [PUT]"]
    app.config.update(TESTING=True)
    with pytest.raises(UncacheableValueError, match=r"CC102 session\['cart'\]\._lock"):
        app.test_client().put("/cart")


# --- By hand -------------------------------------------------------------------------------------


def test_installed_by_hand_with_a_client(redis_client):
    """Without the extension, the interface works alone, with the settings of the app."""
    app = Flask("by hand")
    app.config.update(CONTEXTCACHE_MODE="raise")
    app.session_interface = RedisSessionInterface(redis_client, key_prefix="own:")
    add(app, "/in/<name>", lambda name: (session.update(name=name), "")[1])
    add(app, "/out", lambda: session["name"])
    client = app.test_client()
    client.get("/in/ann")
    assert client.get("/out").text == "ann"
    assert redis_client.keys("*") == [key_of(sid_of(client)).replace(KEY_PREFIX, "own:").encode()]
    with app.test_request_context():
        session["basket"] = Basket()
        with pytest.raises(UncacheableValueError):
            app.process_response(app.response_class())


def test_installed_by_hand_with_a_guard(any_url):
    """A guard of one's own has its own policy."""
    app = Flask("by hand")
    guard = Guard(Config(rules=()), sink="session elsewhere", session=True)
    app.session_interface = RedisSessionInterface(any_url, guard=guard)
    add(app, "/in", lambda: (session.update(basket=Basket()), "")[1])
    with capture_findings() as findings:
        app.test_client().get("/in")
    assert [finding.sink for finding in findings] == ["session elsewhere"]


def test_a_client_that_is_gone_names_its_address(caplog):
    """A client of the application's own is named by its address, without its password."""
    port = free_port()
    app = Flask("by hand")
    app.session_interface = RedisSessionInterface(
        redis.Redis(port=port, password="canary", retry=None)
    )
    add(app, "/in", lambda: (session.update(a=1), "")[1])
    assert app.test_client().get("/in").status_code == 503
    assert f"Redis at redis://localhost:{port}/0 cannot be reached" in caplog.text
    assert "canary" not in caplog.text


def test_a_mistaken_url_is_seen_when_it_is_made():
    """A URL that cannot be understood fails at start-up."""
    with pytest.raises(ConfigurationError, match="redis://, rediss://, unix://, fakeredis://"):
        RedisSessionInterface("http://localhost")


def test_it_says_that_it_pickles():
    """Flask extensions ask this before they put an object of their own into the session."""
    assert RedisSessionInterface.pickle_based is True


def test_over_a_real_server_with_concurrent_visitors(any_url, serve):
    """Each visitor has a session of their own, over real connections and several threads."""
    url = serve(make(any_url))
    failures = []

    def visit(number):
        with requests.Session() as visitor:
            for turn in range(10):
                name = f"visitor{number}x{turn}"
                visitor.put(f"{url}/write/{name}", timeout=PATIENCE)
                told = visitor.get(f"{url}/read", timeout=PATIENCE).text
                if told != name:
                    failures.append((name, told))

    threads = [threading.Thread(target=visit, args=[n]) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_g_in_the_session(app):
    """`g` lives as long as its request: the key is left out, and the finding says what to store."""

    @app.get("/in")
    def store():
        g.greeting = "hello"
        session["g"], session["greeting"] = g, g.greeting
        return ""

    add(app, "/out", lambda: dict(session))
    client = app.test_client()
    with capture_findings() as findings:
        client.get("/in")
    assert client.get("/out").json == {"greeting": "hello"}
    [finding] = findings
    assert (finding.code, str(finding.path)) == ("CC104", "session['g']")


def with_login(app):
    """Let visitors log in with flask_login, and confirm their password later."""
    manager = flask_login.LoginManager(app)
    manager.user_loader(lambda number: User(int(number)))
    add(app, "/login", lambda: (flask_login.login_user(User(42), remember=True), "")[1])
    add(app, "/confirm", lambda: (flask_login.confirm_login(), "")[1])
    add(app, "/who", lambda: {"id": getattr(flask_login.current_user, "id", None)})
    return app.test_client()


def test_flask_login_rotates_the_id(app):
    """An id from before the login, which somebody may have planted, is worth nothing after it."""
    client = with_login(app)
    client.put("/write/before")
    planted = sid_of(client)
    client.get("/login")
    assert sid_of(client) != planted
    assert client.get("/all").json["name"] == "before"
    confirmed = sid_of(client)
    client.get("/confirm")
    assert sid_of(client) != confirmed
    thief = app.test_client()
    for old in (planted, confirmed):
        thief.set_cookie("session", old)
        assert thief.get("/who").json == {"id": None}


def test_being_remembered_rotates_the_id(app):
    """It is a login, too, and an id that somebody planted must not take part in it."""
    client = with_login(app)
    client.get("/login")
    remembered = client.get_cookie("remember_token").value
    other, thief = app.test_client(), app.test_client()
    other.put("/write/before")
    thief.set_cookie("session", sid_of(other))
    other.set_cookie("remember_token", remembered)
    assert other.get("/who").json == {"id": 42}
    assert other.get("/all").json["name"] == "before"
    assert thief.get("/who").json == {"id": None}


def test_flask_login_over_flask_s_own_session():
    """A session of another kind is left alone when somebody logs in."""
    app = make_app()
    ContextCache(app)
    client = with_login(app)
    assert client.get("/login").status_code == 200
    assert client.get("/who").json == {"id": 42}


@pytest.mark.parametrize(
    "option",
    [
        ("--rename-command", "GETEX", ""),
        ("--user", "default", "on", "nopass", "~*", "+@all", "-getex"),
    ],
    ids=["unknown", "forbidden"],
)
def test_a_redis_without_getex(option):
    """One before 6.2, or for a user without the right: two commands at once, in one trip."""
    with running_redis(*option) as url:
        app = make(url, PERMANENT_SESSION_LIFETIME=timedelta(seconds=100))
        client = app.test_client()
        client.put("/write/ann")
        server = redis.Redis.from_url(url)
        [key] = server.keys(f"{KEY_PREFIX}*")
        for _ in range(2):
            server.expire(key, 10)
            assert client.get("/read").text == "ann"
            assert server.ttl(key) > 90
        assert server.info("commandstats")["cmdstat_get"]["calls"] == 2
        server.close()
