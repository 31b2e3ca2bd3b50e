"""A Flask-Caching that was configured otherwise: `ContextCache` guards the backend it has."""

from __future__ import annotations

import os
import pickle
import zlib

import cachelib
import pytest
from cachelib.serializers import BaseSerializer, JSONSerializer
from flask import Response
from flask_caching.backends.memcache import MemcachedCache
from flask_caching.backends.nullcache import NullCache
from flask_caching.backends.simplecache import SimpleCache
from pymemcache import PooledClient
from pymemcache.serde import pickle_serde

from contextcache import Config, is_stripped
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache, guarded
from contextcache_flask.serializers import AsStored
from tests.flask.shop import Basket, add_cache, make_app
from tests.redis_server import free_port
from tests.sealing import sealed

SINKS = {
    "SimpleCache": "cache in memory",
    "FileSystemCache": "cache in files",
    "RedisCache": "cache in redis",
    "memcached": "cache in MemcachedCache",
}


def over_memcached(app, config, args, kwargs):
    """Make Flask-Caching's backend over a client that pickles by itself, as pylibmc does."""
    return MemcachedCache(config["MEMCACHED"], key_prefix="p:", **kwargs)


@pytest.fixture
def client(memcached):
    """A client of a real memcached, which is empty."""
    client = PooledClient(memcached, serde=pickle_serde, default_noreply=False)
    client.flush_all()
    yield client
    client.close()


@pytest.fixture(params=SINKS)
def kind(request):
    return request.param


@pytest.fixture(params=["Flask-Caching first", "contextcache first"])
def make_cache(request, kind, tmp_path, redis_client, client):
    """Return a function that makes an app with a backend of `kind`, in either order."""

    url = request.getfixturevalue("redis_url")

    def make(**config):
        app = make_app(CACHE_REDIS_URL=url, CACHE_DIR=str(tmp_path / "cache"), **config)
        app.config["MEMCACHED"] = client
        app.config["CACHE_TYPE"] = kind if kind != "memcached" else f"{__name__}.over_memcached"
        if request.param == "contextcache first":
            ContextCache(app)
        cache = add_cache(app)
        if request.param == "Flask-Caching first":
            ContextCache(app)
        return app, cache

    return make


@pytest.fixture
def cache(make_cache):
    app, cache = make_cache()
    with app.app_context():
        yield cache


def test_what_cannot_be_stored_is_cut_and_named(cache, kind):
    """The lock is cut out, the rest is there, and the finding names key and sink."""
    with capture_findings() as findings:
        assert cache.set("user:42", {"basket": Basket(7)}) is True
    assert [(str(f.path), f.sink) for f in findings] == [
        ("cache['user:42']['basket']._lock", SINKS[kind])
    ]
    assert cache.get("user:42")["basket"].number == 7


def test_a_cached_view_with_a_callback_is_a_hit(make_cache):
    """Flask-Caching swallows the error and never caches such a view; now it is cached."""
    app, cache = make_cache()
    ran = []

    @app.get("/report")
    @cache.cached()
    def report():
        ran.append(1)
        response = Response("the report")
        response.call_on_close(lambda: None)
        return response

    client = app.test_client()
    answers = [client.get("/report") for _ in range(2)]
    for answer in answers:
        answer.close()
    assert [answer.text for answer in answers] == ["the report"] * 2
    assert ran == [1]


# memcached's client unpickles before anybody else sees the bytes.
@pytest.mark.parametrize("kind", ["SimpleCache", "FileSystemCache", "RedisCache"], indirect=True)
def test_an_unreadable_payload_is_a_miss(make_cache, kind, tmp_path, redis_client, caplog):
    """A damaged entry costs itself only, is reported with its key, and can be stored anew."""
    app, cache = make_cache()
    with app.app_context():
        cache.set("key", [1])
        if kind == "SimpleCache":
            expires, payload = cache.cache._cache["key"]
            cache.cache._cache["key"] = expires, payload[:5]
        elif kind == "RedisCache":
            redis_client.set("flask_cache_key", sealed(b"\x80\x05]", "flask_cache_key"))
        else:
            path = cache.cache._get_filename("key")
            with open(path, "r+b") as file:
                file.truncate(9)
        assert cache.get("key") is None
        assert cache.has("key") is False
        cache.set("key", [2])
        assert (cache.get("key"), cache.has("key")) == ([2], True)
    assert "cache['key'] cannot be read" in caplog.text


def test_no_temporary_file_is_left(tmp_path):
    """A value that is not stored leaves nothing behind, not even a temporary file."""
    app = make_app(CACHE_DIR=str(tmp_path / "cache"))
    app.config["CACHE_TYPE"] = "FileSystemCache"
    ContextCache(app)
    cache = add_cache(app)
    with app.app_context():
        before = sorted(os.listdir(tmp_path / "cache"))
        cache.set("key", lambda: None)
        assert sorted(os.listdir(tmp_path / "cache")) == before


def test_the_count_of_files_stays_right(tmp_path):
    """FileSystemCache counts its files in an entry of its own, by setting while it sets."""
    app = make_app(CACHE_DIR=str(tmp_path / "cache"), CACHE_THRESHOLD=2000)
    app.config["CACHE_TYPE"] = "FileSystemCache"
    ContextCache(app)
    cache = add_cache(app)
    with app.app_context():
        cache.set_many({f"key{n}": [n] for n in range(300)})
        assert cache.cache._file_count == 300
        assert cache.get("key299") == [299]


def test_the_backend_stays_what_it_was():
    """The object, its type and the name of its type are the same to those who look."""
    app = make_app()
    app.config["CACHE_TYPE"] = "SimpleCache"
    cache = add_cache(app)
    backend = app.extensions["cache"][cache]
    ContextCache(app)
    assert app.extensions["cache"][cache] is backend
    assert isinstance(backend, SimpleCache)
    assert type(backend).__name__ == "SimpleCache"
    assert type(SimpleCache().serializer) is not type(backend.serializer)


def test_what_was_stored_before_can_be_read():
    """Guarding a cache that holds values already loses none of them."""
    app = make_app()
    app.config["CACHE_TYPE"] = "SimpleCache"
    cache = add_cache(app)
    with app.app_context():
        cache.set("key", {"a": 1})
        ContextCache(app)
        assert cache.get("key") == {"a": 1}


def test_a_cache_that_stores_nothing_is_left_alone():
    """NullCache stores nothing, so there is nothing to find in what it is given."""
    app = make_app(CACHE_NO_NULL_WARNING=True)
    app.config["CACHE_TYPE"] = "NullCache"
    cache = add_cache(app)
    ContextCache(app)
    with app.app_context(), capture_findings() as findings:
        cache.set("key", Basket())
        assert type(cache.cache) is NullCache
    assert findings == []


def bare(app, config, args, kwargs):
    """Make a backend of cachelib's, which knows nothing of Flask."""
    return cachelib.SimpleCache()


def test_a_backend_of_cachelib_s_own():
    """Any backend that Flask-Caching is given is guarded, not only those it brings."""
    app = make_app()
    app.config["CACHE_TYPE"] = f"{__name__}.bare"
    cache = add_cache(app)
    ContextCache(app)
    with app.app_context():
        cache.set("key", Basket(3))
        assert cache.get("key").number == 3


class Compressed(BaseSerializer):
    """A serializer of an application, which compresses its pickles."""

    def dumps(self, value, protocol=5):
        return zlib.compress(pickle.dumps(value, protocol))

    def loads(self, bvalue):
        return None if bvalue is None else pickle.loads(zlib.decompress(bvalue))


@pytest.mark.parametrize("place", ["SimpleCache", "contextcache_flask.RedisCache"])
@pytest.mark.parametrize("serializer", [Compressed, JSONSerializer])
def test_a_serializer_of_the_application_is_given_clean_values(serializer, place):
    """It keeps its format, and the findings are the same."""
    app = make_app(CACHE_SERIALIZER=serializer)
    app.config["CACHE_TYPE"] = place
    ContextCache(app)
    cache = add_cache(app)
    with app.app_context(), capture_findings() as findings:
        assert isinstance(cache.cache.serializer, serializer)
        assert cache.set("plain", {"a": 1}) is True
        assert cache.get("plain") == {"a": 1}
        if serializer is Compressed:
            cache.set("key", {"basket": Basket(3), "rows": (n for n in range(3))})
            assert cache.get("key")["basket"].number == 3
            assert is_stripped(cache.get("key")["rows"])
            assert [str(f.path) for f in findings] == [
                "cache['key']['basket']._lock",
                "cache['key']['rows']",
            ]


def fail(number):
    raise (OSError, TypeError, ValueError, NotImplementedError)[number]("secret")


ROTTEN = {
    "its class is gone": b"cgone\ngone\n.",
    "it is damaged": b"garbage",
    **{
        f"error {number}": b"c%b\nfail\n(I%d\ntR." % (__name__.encode(), number)
        for number in range(4)
    },
}


@pytest.mark.parametrize("rotten", ROTTEN)
@pytest.mark.parametrize("kind", ["SimpleCache", "memcached", "redis"])
def test_what_cannot_be_rebuilt_is_a_miss_for_those_who_pickle_by_themselves(
    kind, rotten, memcached, redis_client, caplog
):
    """A serializer of the application's, and memcached's client, raise it: today an error page."""
    client = PooledClient(memcached, serde=Eager(), default_noreply=False)
    if kind == "memcached":
        backend = guarded(cachelib.MemcachedCache(client), config=Config())
    elif kind == "redis":
        backend = guarded(cachelib.RedisCache(host=redis_client), config=Config())
        backend.serializer = Compressed()
    else:
        backend = guarded(cachelib.SimpleCache(), config=Config())
        backend.serializer = Compressed()
    backend.set_many({"bad": AsStored(ROTTEN[rotten]), "here": 1})
    assert backend.get_many("bad", "here") == [None, 1]
    assert backend.get_dict("bad", "here") == {"bad": None, "here": 1}
    assert backend.get("bad") is None
    assert backend.has("bad") is False
    assert "cache['bad'] cannot be read and counts as a miss" in caplog.text
    assert "secret" not in caplog.text
    client.close()


def test_a_server_that_is_gone_is_no_entry_that_cannot_be_read(memcached, caplog):
    """What the client raises gets out, as from the backend alone."""
    client = PooledClient(("127.0.0.1", free_port()), serde=Eager())
    backend = guarded(cachelib.MemcachedCache(client))
    for read in (backend.get, backend.get_many, backend.get_dict, backend.has):
        with pytest.raises(ConnectionError):
            read("key")
    assert "cannot be read" not in caplog.text


class Eager:
    """What pylibmc does: whatever unpickling raises gets out."""

    def serialize(self, key, value):
        return pickle.dumps(value), 1

    def deserialize(self, key, value, flags):
        return pickle.loads(value)


@pytest.mark.parametrize(
    "payload", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 200_000 + b"]" * 200_000]
)
def test_json_that_is_too_deep_to_be_read_is_a_miss(redis_client, payload, caplog):
    """By each way of reading, and reported; so is what a serializer of one's own cannot read."""
    app = make_app()
    ContextCache(app)

    class Own(JSONSerializer):
        pass

    for serializer in (JSONSerializer(), Own()):
        store = guarded(cachelib.RedisCache(host=redis_client, key_prefix="p:"), app)
        store.serializer = serializer
        redis_client.set("p:menu", payload)
        with app.app_context():
            assert store.get("menu") is None
            assert not store.has("menu")
            assert store.get_many("menu", "other") == [None, None]
    assert "cannot be read and counts as a miss" in caplog.text
