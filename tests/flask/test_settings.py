"""Where Redis is: contextcache's own setting, those of Flask-Caching, or an embedded one."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
import redis
from flask import Flask, session
from flask_caching import Cache

from contextcache import ConfigurationError
from contextcache_flask import ContextCache, RedisSessionInterface
from contextcache_flask.settings import settings_of
from tests.redis_server import running_redis

OURS = "contextcache_flask.RedisCache"


def started(*, session=True, cache=OURS, **config):
    """Return an application that has been started as in production."""
    app = Flask("shop")
    app.config.update(SECRET_KEY="k", CONTEXTCACHE_SESSION=session, CACHE_TYPE=cache, **config)
    ContextCache(app)
    Cache(app)
    return app


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize(
    "url", [{}, {"CONTEXTCACHE_REDIS_URL": None}, {"CONTEXTCACHE_REDIS_URL": ""}]
)
@pytest.mark.parametrize("used", [{}, {"cache": "SimpleCache"}, {"session": False}])
def test_an_embedded_redis_that_nobody_asked_for_is_warned_of_at_start(caplog, url, used):
    """Each worker would have sessions of its own; said once, before the first page."""
    app = started(**url, **used)
    assert warnings(caplog) == [
        (
            "contextcache: CONTEXTCACHE_REDIS_URL is not set, so sessions and cache are kept in an "
            "embedded Redis (fakeredis): each process has its own, which ends with it; set it to "
            "the URL of a Redis, such as redis://127.0.0.1:6379/0, or to fakeredis:// if that "
            "is meant"
        )
    ]
    done = app.test_cli_runner().invoke(args=["contextcache", "check"])
    assert done.exit_code == 1
    assert done.output.startswith("contextcache.E005: CONTEXTCACHE_REDIS_URL is not set, ")


@pytest.mark.parametrize(
    "config",
    [
        {"CONTEXTCACHE_REDIS_URL": "fakeredis://"},
        {"CACHE_REDIS_URL": "fakeredis://shop/1"},
        {"CACHE_REDIS_HOST": "127.0.0.1"},
        {"DEBUG": True},
        {"TESTING": True},
        {"session": False, "cache": "SimpleCache"},
    ],
)
def test_silence_where_it_is_asked_for_or_where_it_does_no_harm(caplog, config):
    """In development, in tests, and where nothing of contextcache's is on Redis."""
    started(**config)
    assert warnings(caplog) == []


@pytest.mark.parametrize("first", ["cache", "extension"])
def test_it_is_said_once_in_either_order(caplog, first):
    """A cache may be initialised before the extension, which reads the settings again."""
    app = Flask("shop")
    app.config.update(SECRET_KEY="k", CONTEXTCACHE_SESSION=first == "cache", CACHE_TYPE=OURS)
    for extension in (Cache, ContextCache) if first == "cache" else (ContextCache, Cache):
        extension(app)
    assert len(warnings(caplog)) == 1
    done = app.test_cli_runner().invoke(args=["contextcache", "check"])
    assert done.output.startswith("contextcache.E005: CONTEXTCACHE_REDIS_URL is not set, ")


def test_the_options_of_another_kind_of_cache_are_none_of_redis_py(redis_url, redis_client):
    """`CACHE_OPTIONS` goes to the backend that `CACHE_TYPE` names."""
    visit(started(cache="SimpleCache", CACHE_REDIS_URL=redis_url, CACHE_OPTIONS={"threshold": 5}))
    assert keys(redis_client) == {"contextcache"}


def test_an_interface_made_by_hand_asks_the_settings(redis_url, redis_client, caplog):
    """Without a URL of its own it has the application's server, or warns."""
    app = Flask("shop")
    app.config.update(SECRET_KEY="k", CACHE_REDIS_URL=redis_url)
    app.session_interface = RedisSessionInterface()
    visit(app)
    assert keys(redis_client) == {"contextcache"}
    del app.config["CACHE_REDIS_URL"]
    app = Flask("shop")
    app.config.update(SECRET_KEY="k")
    app.session_interface = RedisSessionInterface()
    visit(app)
    assert "CONTEXTCACHE_REDIS_URL is not set" in caplog.text


# --- Flask-Caching's settings ---------------------------------------------------------------------


def visit(app):
    app.add_url_rule("/in", "in", lambda: session.update(user=7) or "in")
    assert app.test_client().get("/in").text == "in"


def keys(client):
    """Return how the keys begin."""
    return {key.decode().partition(":")[0].partition("_")[0] for key in client.keys("*")}


SETTINGS = {
    "a URL": lambda at: {"CACHE_REDIS_URL": f"redis://{at}/3"},
    "a URL and a database": lambda at: {"CACHE_REDIS_URL": f"redis://{at}", "CACHE_REDIS_DB": 3},
    "a host": lambda at: {
        "CACHE_REDIS_HOST": at.partition(":")[0],
        "CACHE_REDIS_PORT": at.partition(":")[2],
        "CACHE_REDIS_DB": 3,
    },
    "a URL as host": lambda at: {"CACHE_REDIS_HOST": f"redis://{at}/3"},
    "a client": lambda at: {"CACHE_REDIS_HOST": redis.Redis.from_url(f"redis://{at}/3")},
    "an option": lambda at: {
        "CACHE_REDIS_URL": f"redis://{at}",
        "CACHE_OPTIONS": {"db": 3, "key_prefix": "shop_"},
    },
}


@pytest.mark.parametrize("named", SETTINGS)
@pytest.mark.parametrize("kind", [OURS, "RedisCache", "SimpleCache"])
def test_sessions_are_where_flask_caching_s_settings_say(named, kind, redis_url, caplog):
    """Whatever the cache is; with the database, the password and the options of redis-py."""
    if named == "an option" and kind != OURS:
        pytest.skip("Flask-Caching gives the option to the backend, which takes none")
    at = urlsplit(redis_url).netloc
    config = SETTINGS[named](at)
    with redis.Redis.from_url(f"redis://{at}/3") as client:
        client.flushdb()
        visit(started(cache=kind, **config))
        assert "contextcache" in keys(client)
        client.flushdb()
    if hasattr(config.get("CACHE_REDIS_HOST"), "close"):
        config["CACHE_REDIS_HOST"].close()
    assert warnings(caplog) == []


@pytest.mark.parametrize("host", [True, False])
def test_a_password_is_used(host):
    """As Flask-Caching would use it, whatever is in it."""
    with running_redis("--requirepass", "a/b:c@d") as url:
        at = urlsplit(url)
        config = (
            {"CACHE_REDIS_HOST": at.hostname, "CACHE_REDIS_PORT": at.port}
            if host
            else {"CACHE_REDIS_URL": url, "CACHE_OPTIONS": {"password": "a/b:c@d"}}
        )
        app = started(CACHE_REDIS_PASSWORD="a/b:c@d", **config)
        visit(app)
        with redis.Redis.from_url(url, password="a/b:c@d") as client:
            assert keys(client) == {"contextcache"}


def test_contextcache_s_own_setting_is_for_sessions_and_flask_caching_s_for_the_cache(
    redis_url, redis_client
):
    """Each where its own setting says."""
    app = started(CONTEXTCACHE_REDIS_URL=redis_url, CACHE_REDIS_URL="fakeredis://elsewhere")
    visit(app)
    with app.app_context():
        next(iter(app.extensions["cache"])).set("key", 1)
    assert keys(redis_client) == {"contextcache"}


def test_mode_off_is_a_word_in_the_environment() -> None:
    """`off` is a mode there, and no switch."""
    app = Flask(__name__)
    app.config["CONTEXTCACHE_MODE"] = "off"
    assert settings_of(app).config.mode == "off"


def test_a_dict_of_settings_as_in_django_is_an_error():
    """It would have no effect; so does `FLASK_CONTEXTCACHE__MODE` in the environment."""
    app = Flask("shop")
    app.config["CONTEXTCACHE"] = {"MODE": "raise"}
    with pytest.raises(ConfigurationError, match="such as CONTEXTCACHE_MODE"):
        ContextCache(app)
