"""`guarded`: backends of cachelib's that are used without Flask-Caching."""

from __future__ import annotations

import logging

import cachelib
import pytest
from cachelib.serializers import JSONSerializer
from flask import Flask
from pymemcache import PooledClient
from pymemcache.serde import pickle_serde
from werkzeug.local import LocalProxy

from contextcache import Config, UncacheableValueError
from contextcache.testing import capture_findings
from contextcache_flask import guarded
from tests.flask.shop import Basket


@pytest.fixture(params=["SimpleCache", "FileSystemCache", "RedisCache", "MemcachedCache"])
def backend(request, tmp_path, redis_url, redis_client, memcached):
    """A real backend of each kind, as an application makes it."""
    kind = getattr(cachelib, request.param)
    match request.param:
        case "FileSystemCache":
            yield kind(str(tmp_path))
        case "RedisCache":
            yield kind(redis_client)
        case "MemcachedCache":
            client = PooledClient(memcached, serde=pickle_serde, default_noreply=False)
            client.flush_all()
            yield kind(client)
            client.close()
        case _:
            yield kind()


def test_what_was_dropped_is_not_said_to_be_stored(backend):
    """Today SimpleCache says True to a proxy that it dropped, and `get` crashes."""
    cache = guarded(backend)
    cache.set("key", "old")
    assert cache.set("key", LocalProxy(lambda: (n for n in range(3)))) is False
    assert cache.get("key") is None
    assert cache.has("key") is False


def test_it_is_the_same_object(backend):
    """`guarded` returns what it was given; a second time changes nothing."""
    name = type(backend).__name__
    assert guarded(guarded(backend)) is backend
    assert type(backend).__name__ == name
    assert isinstance(backend, getattr(cachelib, name))
    with capture_findings() as findings:
        backend.set("key", Basket())
    assert len(findings) == 1


def test_what_was_stored_before_can_be_read(backend):
    """A cache can be guarded while it is in use."""
    backend.set("key", {"a": [1]})
    assert guarded(backend).get("key") == {"a": [1]}


def test_a_policy_of_its_own(backend):
    """`config` is the policy of this backend, whatever the application's is."""
    app = Flask(__name__)
    app.config["CONTEXTCACHE_MODE"] = "strip"
    cache = guarded(backend, config=Config(mode="raise"))
    with app.app_context(), pytest.raises(UncacheableValueError, match=r"cache\['key'\]\._lock"):
        cache.set("key", Basket())


def test_the_policy_of_the_current_application(backend):
    """Without a policy of its own, that of the application whose context it is used in."""
    cache = guarded(backend)
    app = Flask(__name__)
    app.config["CONTEXTCACHE_MODE"] = "raise"
    with app.app_context(), pytest.raises(UncacheableValueError):
        cache.set("key", Basket())
    assert cache.set("key", Basket()) is True


def test_a_key_that_is_a_secret_is_not_logged(backend, caplog):
    """`label` is what paths begin with, where the key must not be."""
    cache = guarded(backend, label="session")
    cache.set("session:0123456789abcdef", {"basket": Basket()})
    assert "session['basket']._lock" in caplog.text
    assert "0123456789abcdef" not in caplog.text


@pytest.mark.parametrize("kind", ["SimpleCache", "RedisCache"])
def test_json(kind, redis_client, caplog):
    """cachelib's JSON on Redis fails with a DataError that names nothing; now the path is named."""
    cache = cachelib.SimpleCache() if kind == "SimpleCache" else cachelib.RedisCache(redis_client)
    cache.serializer = JSONSerializer()
    guarded(cache)
    caplog.set_level(logging.WARNING)
    assert cache.set("key", {"ids": {1, 2}, "pair": (1, 2), "n": 1}) is True
    assert cache.get("key") == {"pair": [1, 2], "n": 1}
    assert cache.set("key", {1, 2}) is False
    assert cache.get("key") is None
    assert {record.name for record in caplog.records} == {"contextcache"}
    assert "CC140: cache['key']['ids'] (set) cannot be stored: JSON cannot hold it" in caplog.text
    assert "CC141: cache['key']['pair'] (tuple)" in caplog.text
