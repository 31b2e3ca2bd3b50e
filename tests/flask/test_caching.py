"""`RedisCache`: Flask-Caching's whole interface over Redis, with every value guarded."""

from __future__ import annotations

import io

import flask_login
import pytest
import redis
from cachelib.serializers import BaseSerializer, JSONSerializer
from flask import Flask, Response, send_file, stream_with_context
from redis.backoff import NoBackoff
from redis.retry import Retry

from contextcache import (
    ConfigurationError,
    ServerError,
    is_stripped,
)
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache, RedisCache
from tests.flask.shop import Basket, add_cache, make_app
from tests.redis_server import free_port, running_redis
from tests.sealing import sealed


@pytest.fixture
def app(any_url):
    app = make_app(any_url)
    ContextCache(app)
    return app


@pytest.fixture
def cache(app):
    cache = add_cache(app)
    with app.app_context():
        yield cache


class Vanishing:
    """Its class is taken away after an instance has been stored, as by a deploy."""


def test_the_finding_names_key_view_and_sink(app, cache):
    """A write in a view is reported with the key as the application wrote it."""
    with capture_findings() as findings:
        app.test_client().put("/cache/user:42")
    (finding,) = findings
    assert str(finding.path) == "cache['user:42']['basket']._lock"
    assert finding.sink == "cache in redis"
    assert finding.origin.startswith("PUT /cache/<key> · tests.flask.shop.put_in_cache")
    restored = cache.get("user:42")
    assert restored["name"] == "user:42"
    assert restored["basket"]._lock.acquire(blocking=False)


def test_many_values_at_once(cache):
    """`set_many`, `get_many`, `get_dict` and `delete_many` go by the keys of the application."""
    with capture_findings() as findings:
        assert sorted(cache.set_many({"a": Basket(1), "b": 2, "c": "x"})) == ["a", "b", "c"]
    assert [str(finding.path) for finding in findings] == ["cache['a']._lock"]
    first, second, missing = cache.get_many("a", "b", "no")
    assert (first.number, second, missing) == (1, 2, None)
    assert cache.get_dict("b", "c") == {"b": 2, "c": "x"}
    assert cache.delete_many("a", "b") == ["a", "b"]
    assert (cache.has("a"), cache.has("c")) == (False, True)
    assert cache.get_many() == []


def test_unlink_and_clear(cache):
    """Keys go by ones and all together."""
    cache.set_many({"a": 1, "b": 2})
    assert cache.unlink("a", "missing") == 1
    assert cache.unlink() == 0
    assert cache.get_many("a", "b") == [None, 2]
    assert cache.clear() is True
    assert cache.has("b") is False


def test_the_timeout_is_kept(redis_url, redis_client):
    """The seconds that Flask-Caching is given are those that Redis is told."""
    app = make_app(redis_url)
    cache = add_cache(app)
    with app.app_context():
        cache.set("short", Basket(), timeout=700)
        cache.set("endless", Basket(), timeout=0)
    assert 600 < redis_client.ttl("flask_cache_short") <= 700
    assert redis_client.ttl("flask_cache_endless") == -1


def test_proxies_become_what_they_point_at(app, cache):
    """`request`, `session`, `g` and `current_app` may stand in a cached value."""
    app.secret_key = "not a secret"  # Flask's own session, in the cookie
    seen = {}

    @app.get("/proxies")
    def store():
        from flask import current_app, g, request, session

        g.greeting = "hello"
        session["name"] = "ann"
        cache.set("p", {"request": request, "session": session, "g": g, "app": current_app})
        seen.update(cache.get("p"))
        return "stored"

    with capture_findings() as findings:
        app.test_client().get("/proxies", headers={"Authorization": "Bearer canary"})
    assert [str(finding.path) for finding in findings] == [
        "cache['p']['request']",
        "cache['p']['session']",
        "cache['p']['g']",
        "cache['p']['app']",
    ]
    assert (seen["request"].method, seen["request"].path) == ("GET", "/proxies")
    assert dict(seen["session"]) == {"name": "ann"}
    assert is_stripped(seen["g"])
    assert is_stripped(seen["app"])


class User(flask_login.UserMixin):
    def __init__(self, number: int) -> None:
        self.id = number


def test_current_user_is_stored_as_the_user(app, cache):
    """flask_login's proxy becomes the user it stands for in this request."""
    app.secret_key = "not a secret"
    manager = flask_login.LoginManager(app)
    manager.user_loader(lambda number: User(int(number)))

    @app.get("/me")
    def me():
        flask_login.login_user(User(42))
        cache.set("me", {"user": flask_login.current_user})
        return "stored"

    with capture_findings() as findings:
        app.test_client().get("/me")
    assert [(finding.code, str(finding.path)) for finding in findings] == [
        ("CC104", "cache['me']['user']")
    ]
    user = cache.get("me")["user"]
    assert (type(user), user.id) == (User, 42)


# --- Decorators: what Flask-Caching gives up on, and therefore never caches ----------------------


def test_a_cached_view_is_a_hit_although_its_response_has_a_callback(app, cache):
    """A response with `call_on_close` is cached; the callback runs for the request that set it."""
    ran, closed = [], []

    @app.get("/report")
    @cache.cached(response_hit_indication=True)
    def report():
        ran.append(1)
        response = Response("the report", headers={"X-Report": "1"})
        response.call_on_close(lambda: closed.append(1))
        return response

    client = app.test_client()
    with capture_findings() as findings:
        answers = [client.get("/report") for _ in range(3)]
        for answer in answers:
            answer.close()
    assert [(a.text, a.headers["X-Report"]) for a in answers] == [("the report", "1")] * 3
    assert [a.headers.get("hit_cache") for a in answers] == [None, "True", "True"]
    assert (len(ran), len(closed)) == (1, 1)
    assert [str(finding.path) for finding in findings] == ["cache['view//report']._on_close[0]"]


def test_a_streamed_body_is_read_for_the_visitor_and_for_the_cache(app, cache):
    """A body in progress is never stored as an empty one."""
    ran = []

    @app.get("/stream")
    @cache.cached()
    def stream():
        @stream_with_context
        def rows():
            ran.append(1)
            yield from ("a", "b", "c")

        return Response(rows(), mimetype="text/csv")

    client = app.test_client()
    with capture_findings() as findings:
        assert [client.get("/stream").text for _ in range(3)] == ["abc"] * 3
    assert (ran, findings) == ([1], [])


def test_a_file_that_is_sent_is_cached_with_its_content(app, cache):
    """`send_file` hands the file to the server; a cached response has to hold its bytes."""
    file = io.BytesIO(b"content")

    @app.get("/file")
    @cache.cached()
    def download():
        return send_file(file, mimetype="application/octet-stream")

    client = app.test_client()
    assert [client.get("/file").data for _ in range(2)] == [b"content"] * 2
    assert file.closed


def test_a_cached_dict_with_a_generator_and_a_lambda(app, cache):
    """What Flask-Caching would swallow and never cache is cached, without the two fields."""
    ran = []

    @cache.cached(key_prefix="stats")
    def stats():
        ran.append(1)
        return {"rows": (n for n in range(3)), "sort": lambda row: row, "total": 3}

    with app.test_request_context(), capture_findings() as findings:
        assert list(stats()["rows"]) == [0, 1, 2]  # the caller gets the computed value itself
        again = stats()
    assert again["total"] == 3
    assert is_stripped(again["rows"])
    assert is_stripped(again["sort"])
    assert ran == [1]
    assert [(finding.code, str(finding.path)) for finding in findings] == [
        ("CC109", "cache['stats']['rows']"),
        ("CC110", "cache['stats']['sort']"),
    ]


def test_memoize_and_delete_memoized(app, cache):
    """Versions, arguments and deletion work as with Flask-Caching's own backend."""
    ran = []

    @cache.memoize()
    def basket(number):
        ran.append(number)
        return Basket(number)

    assert [basket(n).number for n in (1, 2, 1)] == [1, 2, 1]
    cache.delete_memoized(basket, 1)
    assert [basket(n).number for n in (1, 2)] == [1, 2]
    assert ran == [1, 2, 1]


def test_a_decorator_returns_what_cannot_be_stored(app, cache):
    """A function whose result cannot be stored is called each time, without an error."""

    @cache.memoize()
    def sort_key():
        return lambda row: row

    assert [sort_key()(n) for n in (1, 2)] == [1, 2]


# --- Payloads ------------------------------------------------------------------------------------


def test_flask_caching_s_own_backend_reads_it_and_the_other_way_round(redis_url, redis_client):
    """Without signatures, one can be replaced by the other without emptying the cache."""
    values = {"dict": {"a": 1}, "int": 7, "text": "x"}
    stock_app = Flask("stock")
    stock_app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=redis_url)
    stock = add_cache(stock_app)
    ours = add_cache(app := make_app(redis_url, CONTEXTCACHE_SIGN=False))
    with app.app_context():
        ours.set_many(values)
    with stock_app.app_context():
        assert stock.get_dict(*values) == values
        stock.set_many({key: [value] for key, value in values.items()})
    with app.app_context():
        assert ours.get_dict(*values) == {key: [value] for key, value in values.items()}


@pytest.mark.parametrize(
    "payload",
    [
        *(b"!garbage", b"!", b"!\x80\x05]", b"!\x80\x05.", b"plain", b"\x80\x05K\x07."),
        *(sealed(body, "flask_cache_k") for body in (b"garbage", b"", b"\x80\x05]")),
        sealed(b"\x80\x05K\x07.", "flask_cache_n"),
    ],
)
def test_an_unreadable_payload_is_a_miss(redis_url, redis_client, caplog, payload):
    """It is reported with its key, and left to whoever can read it until it is stored anew."""
    app = make_app(redis_url)
    cache = add_cache(app)
    redis_client.set("flask_cache_k", payload)
    redis_client.set("flask_cache_n", b"1")
    with app.app_context():
        assert cache.get_many("k", "n") == [None, 1]
        assert cache.get("k") is None
        assert cache.has("k") is False
        assert cache.add("k", "new") is False
        assert redis_client.get("flask_cache_k") == payload
        assert cache.set("k", "new") is True
        assert cache.get("k") == "new"
    assert caplog.records[0].name == "contextcache"
    assert "cache['k'] cannot be read" in caplog.text


def test_text_that_another_program_wrote_is_given_as_it_is(redis_url, redis_client):
    """Without signatures, what has no mark of a pickle is never unpickled."""
    cache = add_cache(app := make_app(redis_url, CONTEXTCACHE_SIGN=False))
    redis_client.set("flask_cache_text", "plain")
    redis_client.set("flask_cache_pickle", b"\x80\x05K\x07.")
    with app.app_context():
        assert cache.get_many("text", "pickle") == [b"plain", b"\x80\x05K\x07."]


def test_a_class_that_is_gone_is_a_miss(cache, monkeypatch, caplog):
    """A deploy that removes a class costs the entry and not the page."""
    cache.set("old", [Vanishing()])
    monkeypatch.delattr(f"{__name__}.Vanishing")
    assert cache.get("old") is None
    assert "cache['old'] cannot be read" in caplog.text
    assert "its class or attribute Vanishing is gone" in caplog.text


def test_a_forgotten_secret_costs_no_entry(redis_url, redis_client):
    """What another secret has signed is a miss, and is read again once the secret is known."""
    known = ["the old one"], ["a new one"], ["a new one", "the old one"]
    apps = [make_app(redis_url, CONTEXTCACHE_SECRET_KEYS=secrets) for secrets in known]
    seen = []
    for cache, app in [(add_cache(app), app) for app in apps]:
        with app.app_context():
            if not seen:
                cache.set("k", "kept")
            seen.append((cache.get("k"), cache.has("k"), cache.get_many("k")))
    assert seen == [("kept", True, ["kept"]), (None, False, [None]), ("kept", True, ["kept"])]


def test_none_is_cached_and_what_cannot_be_read_is_not_taken_for_it(redis_url, redis_client):
    """With `cache_none`, Flask-Caching asks `has` whether a None it was given is the value."""
    cache, app = client_of(redis_url=redis_url)
    ran = []

    @cache.cached(key_prefix="nothing", cache_none=True)
    def nothing():
        ran.append(1)

    with app.test_request_context():
        assert [nothing(), nothing()] == [None, None]
        assert len(ran) == 1
        redis_client.set("flask_cache_nothing", b"!garbage")
        assert [nothing(), nothing()] == [None, None]
    assert len(ran) == 2


def test_what_a_serializer_of_the_application_raises_is_a_miss(redis_url, redis_client, caplog):
    """Whatever it raises; the page is served."""

    class Own(BaseSerializer):
        def dumps(self, value):
            return repr(value).encode()

        def loads(self, payload):
            return {b"1": 1}[payload]

    app = make_app(redis_url, CACHE_SERIALIZER=Own)
    cache = add_cache(app)
    with app.app_context():
        cache.set("good", 1)
        redis_client.set("flask_cache_k", b"garbage")
        assert cache.get("k") is None
        assert cache.get_many("k", "good") == [None, 1]
        assert not cache.has("k")
    assert "cache['k'] cannot be read" in caplog.text


def test_cached_and_memoized_functions_replace_what_cannot_be_read(redis_url, redis_client):
    """They run once, and not at each call until the entry expires."""
    cache, app = client_of(redis_url=redis_url)
    ran = []

    @cache.cached(key_prefix="cached")
    def cached():
        ran.append("cached")
        return [1]

    @cache.memoize()
    def memoized(number):
        ran.append("memoized")
        return [number]

    with app.test_request_context():
        for spoil in (b"!garbage", b"!\xcc\x01garbage", b"\x80\x04N.", b"text"):
            del ran[:]
            assert (cached(), memoized(7)) == ([1], [7])
            for key in redis_client.keys("*"):
                redis_client.set(key, spoil)  # the version of the function, too
            for _ in range(3):
                assert (cached(), memoized(7)) == ([1], [7])
            assert ran[-2:] == ["cached", "memoized"]
            assert len(ran) <= 4


def test_a_serializer_of_the_application_s_own_gets_clean_values(any_url):
    """`CACHE_SERIALIZER` keeps its format, and is not asked to store what cannot be stored."""
    app = make_app(any_url, CACHE_SERIALIZER=JSONSerializer)
    cache = add_cache(app)
    with app.app_context():
        assert isinstance(cache.cache.serializer, JSONSerializer)
        assert cache.set("key", {"a": [1, 2], "b": "x"}) is True
        assert cache.get("key") == {"a": [1, 2], "b": "x"}
        with capture_findings() as findings:
            assert cache.set("key", (n for n in range(3))) is False
        assert cache.get("key") is None
    assert [str(finding.path) for finding in findings] == ["cache['key']"]


# --- Where Redis is ------------------------------------------------------------------------------


def client_of(**config):
    app = make_app(**config)
    return add_cache(app), app


def test_flask_caching_s_url_comes_first(redis_url, redis_client):
    """`CACHE_REDIS_URL` is honoured, before CONTEXTCACHE_REDIS_URL."""
    cache, app = client_of(redis_url="fakeredis://elsewhere", CACHE_REDIS_URL=redis_url)
    with app.app_context():
        cache.set("k", 1)
    assert redis_client.get("flask_cache_k") == b"1"


def test_flask_caching_s_host_and_port_are_honoured():
    """A password with characters of URLs arrives as it is, and CACHE_REDIS_DB too."""
    with running_redis("--requirepass", "p@ss/word") as url:
        port = int(url.rsplit(":", 1)[1].removesuffix("/0"))
        cache, app = client_of(
            CACHE_REDIS_HOST="127.0.0.1",
            CACHE_REDIS_PORT=port,
            CACHE_REDIS_PASSWORD="p@ss/word",
            CACHE_REDIS_DB=3,
            CACHE_KEY_PREFIX="own:",
        )
        with app.app_context():
            cache.set("k", 1)
        with redis.Redis(port=port, password="p@ss/word", db=3) as client:
            assert client.get("own:k") == b"1"


def test_a_client_of_the_application_s_own(redis_client):
    """`CACHE_REDIS_HOST` may be a client, as for Flask-Caching's own backend."""
    cache, app = client_of(CACHE_REDIS_HOST=redis_client)
    with app.app_context():
        cache.set("k", Basket(4))
        assert cache.get("k").number == 4
    assert redis_client.exists("flask_cache_k")


def test_options_go_to_redis_py(redis_url, redis_client):
    """`CACHE_OPTIONS` are options of the connection."""
    cache, app = client_of(
        CACHE_REDIS_URL=redis_url, CACHE_OPTIONS={"client_name": "shop", "socket_timeout": 3}
    )
    with app.app_context():
        cache.set("k", 1)
    assert "shop" in {row["name"] for row in redis_client.client_list()}


def test_positional_arguments_are_refused():
    """`CACHE_ARGS` would silently name another server than the one that is used."""
    with pytest.raises(ConfigurationError) as raised:
        client_of(CACHE_ARGS=["redis.example.org"])
    assert str(raised.value) == "CACHE_ARGS: name the server with CACHE_REDIS_URL instead"


CALLS = {  # what the contract does not call
    "get_dict": (lambda cache: cache.get_dict("k"), {"k": None}),
    "has": (lambda cache: cache.has("k"), False),
    "set by name": (lambda cache: cache.set(key="k", value=1, timeout=9), False),
    "set_many by name": (lambda cache: cache.set_many(mapping={"k": 1}), []),
    "dec": (lambda cache: cache.cache.dec("k"), None),
    "unlink": (lambda cache: cache.unlink("k"), 0),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("own_client", [False, True])
def test_in_an_outage_the_cache_is_as_if_it_were_empty(name, own_client, caplog):
    """Pages go on, and one line says where, why, and what to do."""
    port = free_port()
    host = redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) if own_client else "127.0.0.1"
    cache, app = client_of(
        CACHE_REDIS_HOST=host, CACHE_REDIS_PORT=port, CACHE_REDIS_PASSWORD="canary"
    )
    call, empty = CALLS[name]
    with app.app_context():
        for _ in range(2):
            assert call(cache) == empty
    where = f"localhost:{port}/0" if own_client else f"127.0.0.1:{port}"
    outage = (
        f"contextcache: cache in redis: Redis at redis://{where} cannot be reached: "
        "connection refused; start the server or correct the URL"
    )
    if name == "unlink":
        assert caplog.messages == [
            f"{outage} (what should be deleted is still there, or not deleted everywhere; failed "
            f"deletion {number} within a minute)"
            for number in (1, 2)
        ]
    else:
        assert caplog.messages == [f"{outage} (it is as if it were empty; told once a minute)"]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("own_client", [False, True])
def test_an_outage_can_be_an_error(name, own_client):
    """With `raise` it names the URL that was tried, and no password."""
    port = free_port()
    host = redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) if own_client else "127.0.0.1"
    cache, app = client_of(
        CACHE_REDIS_HOST=host,
        CACHE_REDIS_PORT=port,
        CACHE_REDIS_PASSWORD="canary",
        CONTEXTCACHE_ON_ERROR="raise",
    )
    with app.app_context(), pytest.raises(ServerError) as raised:
        CALLS[name][0](cache)
    where = f"localhost:{port}/0" if own_client else f"127.0.0.1:{port}"
    assert str(raised.value) == (
        f"Redis at redis://{where} cannot be reached: connection refused; "
        "start the server or correct the URL"
    )


def test_a_memoized_function_goes_on_without_its_cache():
    """It computes what it would have looked up."""
    cache, app = client_of(CACHE_REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
    calls = []

    @cache.memoize()
    def double(number):
        calls.append(number)
        return 2 * number

    with app.app_context():
        assert [double(2), double(2)] == [4, 4]
        cache.delete_memoized(double)
    assert calls == [2, 2]


def test_a_missing_redis_does_not_take_a_cached_view_down(caplog):
    """A cached view answers without its cache, as Flask-Caching wants it, and the log says why."""
    port = free_port()
    app = make_app(f"redis://:canary@127.0.0.1:{port}/0")
    cache = add_cache(app)
    app.add_url_rule("/page", view_func=cache.cached()(lambda: "page"))
    assert app.test_client().get("/page").text == "page"
    assert f"Redis at redis://127.0.0.1:{port}/0 cannot be reached" in caplog.text
    assert "canary" not in caplog.text


def test_the_backend_is_flask_caching_s_own():
    """Code that asks for the type of the backend is told the truth."""
    from flask_caching.backends.rediscache import RedisCache as Stock

    assert issubclass(RedisCache, Stock)


def test_made_by_hand_without_an_app(redis_client):
    """The backend works alone, with the default policy, as cachelib's do."""
    backend = RedisCache(redis_client, key_prefix="own:", default_timeout=900)
    with capture_findings() as findings:
        assert backend.set("key", Basket(2)) is True
    assert backend.get("key").number == 2
    assert 800 < redis_client.ttl("own:key") <= 900
    assert [(str(finding.path), finding.sink) for finding in findings] == [
        ("cache['key']._lock", "cache in redis")
    ]
