"""`ContextCache`: settings, several apps, and either order of initialisation."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from flask import Flask
from flask.sessions import SecureCookieSessionInterface
from flask_caching import Cache

from contextcache import Config, ConfigurationError, UncacheableValueError
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache, RedisCache, RedisSessionInterface
from tests.flask.shop import Basket, add_cache, make_app

OWN = ("PAGE", "REDIS_URL", "SESSION")
KEYS = ", ".join(f"CONTEXTCACHE_{key}" for key in sorted((*Config.KEYS, *OWN)))

MODES = "off, raise, strip, warn"


def test_importing_the_package_imports_no_framework_that_is_not_used():
    """`import contextcache_flask` loads neither Flask-Caching nor redis-py."""
    code = (
        "import sys, contextcache_flask as c; c.ContextCache; c.RedisSessionInterface;"
        "print(sorted({'flask_caching', 'redis', 'cachelib'} & set(sys.modules)), dir(c)[:3])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "."},
    )
    assert done.stdout == "[] ['ContextCache', 'RedisCache', 'RedisSessionInterface']\n"


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    """A misspelt import fails as that of any module does."""
    import contextcache_flask

    with pytest.raises(AttributeError, match="has no attribute 'RedisCash'"):
        _ = contextcache_flask.RedisCash


def test_an_unknown_setting_names_the_nearest():
    """A misspelt key is an error when the app is made, not a policy that silently is not there."""
    with pytest.raises(ConfigurationError) as raised:
        ContextCache(make_app(CONTEXTCACHE_MOOD="raise"))
    assert str(raised.value) == (
        "unknown setting 'CONTEXTCACHE_MOOD' (did you mean 'CONTEXTCACHE_MODE'?); valid: " + KEYS
    )


def test_an_unknown_setting_is_named_by_the_cache_backend_alone():
    """Where only Flask-Caching is initialised, it finds the mistake."""
    with pytest.raises(ConfigurationError, match="did you mean 'CONTEXTCACHE_IGNORE'"):
        add_cache(make_app(CONTEXTCACHE_IGNORES=[]))


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (
            {"CONTEXTCACHE_MODE": "stripp"},
            f"CONTEXTCACHE: unknown mode 'stripp' (did you mean 'strip'?); valid: {MODES}",
        ),
        ({"CONTEXTCACHE_SESSION": "maybe"}, "CONTEXTCACHE_SESSION is True or False"),
        ({"CONTEXTCACHE_MAX_SIZE": "1k"}, "CONTEXTCACHE: max_size is a positive number of bytes"),
        (
            {"CONTEXTCACHE_ON_FINDING": "shop.no_such"},
            "CONTEXTCACHE ON_FINDING: cannot import 'shop.no_such'",
        ),
    ],
)
def test_a_mistaken_value_says_what_is_allowed(setting, text):
    """Each setting is checked when the app is initialised."""
    with pytest.raises(ConfigurationError) as raised:
        ContextCache(make_app(**setting))
    assert str(raised.value) == text


def test_a_mistaken_url_is_seen_at_start_up():
    """A URL that no server can have fails when the app is made."""
    app = make_app("reddis://localhost", CONTEXTCACHE_SESSION=True)
    with pytest.raises(ConfigurationError, match=r"did you mean redis://\?"):
        ContextCache(app)


def test_settings_come_from_the_environment(monkeypatch):
    """`app.config.from_prefixed_env` is a way to configure it."""
    monkeypatch.setenv("FLASK_CONTEXTCACHE_MODE", "raise")
    monkeypatch.setenv("FLASK_CONTEXTCACHE_SESSION", "true")
    monkeypatch.setenv("FLASK_CONTEXTCACHE_MAX_SIZE", "1000")
    monkeypatch.setenv("FLASK_CONTEXTCACHE_IGNORE", "[\"session['cart']\"]")
    app = Flask(__name__)
    app.config.from_prefixed_env()
    ContextCache(app)
    config = app.extensions["contextcache"].config
    assert (config.mode, config.max_size, config.ignore) == ("raise", 1000, ("session['cart']",))
    assert isinstance(app.session_interface, RedisSessionInterface)


@pytest.mark.parametrize("read", ["from_prefixed_env", "from_mapping"])
def test_settings_are_text_in_the_environment(monkeypatch, read):
    """Numbers, switches, lists and dicts are read from text, however it got into the config."""
    text = {
        "CONTEXTCACHE_MODE": "warn",
        "CONTEXTCACHE_SESSION": "Yes",
        "CONTEXTCACHE_SIGN": "1",
        "CONTEXTCACHE_ACCEPT_UNSIGNED": "off",
        "CONTEXTCACHE_MAX_SIZE": "1000",
        "CONTEXTCACHE_TIMEOUT": "0.25",
        "CONTEXTCACHE_IGNORE": "[\"session['cart']\", \"cache['a']\"]",
        "CONTEXTCACHE_RULES": '{"shop.api.Client": "strip"}',
        "CONTEXTCACHE_SECRET_KEYS": '["a secret", "an older one"]',
        "CONTEXTCACHE_REDIS_URL": "fakeredis://text",
    }
    app = Flask(__name__)
    if read == "from_prefixed_env":
        for key, value in text.items():
            monkeypatch.setenv(f"FLASK_{key}", value)
        app.config.from_prefixed_env()
    else:
        app.config.from_mapping(text)
    ContextCache(app)
    config = app.extensions["contextcache"].config
    assert (config.mode, config.sign, config.accept_unsigned) == ("warn", True, False)
    assert (config.max_size, config.timeout) == (1000, 0.25)
    assert config.ignore == ("session['cart']", "cache['a']")
    assert [(rule.type, rule.verb.value) for rule in config.rules] == [("shop.api.Client", "strip")]
    assert config.secret_keys == ("a secret", "an older one")
    assert isinstance(app.session_interface, RedisSessionInterface)


def test_an_app_factory_with_blueprints():
    """One extension, made at import, and an app for each call of the factory."""
    extension, cache = ContextCache(), Cache(with_jinja2_ext=False)

    def create_app(mode):
        app = make_app(f"fakeredis://{mode}", CONTEXTCACHE_MODE=mode, PROPAGATE_EXCEPTIONS=False)
        cache.init_app(app)
        extension.init_app(app)
        return app

    lenient, strict = create_app("strip"), create_app("raise")
    for _ in range(2):
        assert lenient.test_client().put("/cache/a").text == "True"
        assert strict.test_client().put("/cache/a").status_code == 500
    assert lenient.extensions["contextcache"] is not strict.extensions["contextcache"]


def test_the_session_stays_flask_s_own_unless_asked_for():
    """Without CONTEXTCACHE_SESSION, nothing about the session changes."""
    app = make_app()
    ContextCache(app)
    assert isinstance(app.session_interface, SecureCookieSessionInterface)


def test_initialising_twice_adds_nothing():
    """A finding of an app that was initialised twice is reported once."""
    app = make_app(DEBUG=True)
    extension = ContextCache(app)
    add_cache(app)
    extension.init_app(app)
    with capture_findings() as findings:
        response = app.test_client().put("/cache/a")
    assert [str(finding.path) for finding in findings] == ["cache['a']['basket']._lock"]
    assert response.headers["X-ContextCache"] == "1 finding; CC102 cache['a']['basket']._lock"


def test_the_header_is_for_development_only():
    """In production nothing of a finding is told to the visitor."""
    app = make_app()
    ContextCache(app)
    add_cache(app)
    assert "X-ContextCache" not in app.test_client().put("/cache/a").headers


def test_two_apps_in_one_process_have_two_policies():
    """One extension object and one Cache object serve two apps, each with its own mode."""
    extension, cache = ContextCache(), Cache(with_jinja2_ext=False)
    lenient, strict = make_app("fakeredis://lenient"), make_app("fakeredis://strict")
    strict.config["CONTEXTCACHE_MODE"] = "raise"
    for app in (lenient, strict):
        cache.init_app(app)
        extension.init_app(app)
    with lenient.app_context():
        assert cache.set("basket", Basket(1)) is True
        assert cache.get("basket").number == 1
    with strict.app_context():
        with pytest.raises(UncacheableValueError, match=r"CC102 cache\['basket'\]\._lock"):
            cache.set("basket", Basket(1))
        assert cache.get("basket") is None
    assert vars(extension) == {}


@pytest.mark.parametrize("first", ["Flask-Caching", "contextcache"])
@pytest.mark.parametrize("kind", ["contextcache_flask.RedisCache", "SimpleCache"])
def test_the_order_of_initialisation_does_not_matter(kind, first):
    """Flask-Caching is guarded with the app's policy, whichever was initialised first."""
    app = make_app("fakeredis://order", CONTEXTCACHE_MODE="raise")
    app.config["CACHE_TYPE"] = kind
    if first == "contextcache":
        ContextCache(app)
    cache = add_cache(app)
    if first == "Flask-Caching":
        ContextCache(app)
    with app.app_context(), pytest.raises(UncacheableValueError, match=r"cache\['basket'\]\._lock"):
        cache.set("basket", Basket())


def test_flask_caching_alone_is_enough():
    """With the backend and without the extension, values are guarded and findings named."""
    app = make_app("fakeredis://alone")
    cache = add_cache(app)
    with app.app_context(), capture_findings() as findings:
        assert isinstance(cache.cache, RedisCache)
        cache.set("basket", Basket(5))
        assert cache.get("basket").number == 5
    assert [str(finding.path) for finding in findings] == ["cache['basket']._lock"]


def test_another_extension_called_cache_is_left_alone():
    """What is not Flask-Caching's under `app.extensions["cache"]` is not touched."""
    app = make_app()
    app.extensions["cache"] = other = object()
    ContextCache(app)
    assert app.extensions["cache"] is other


@pytest.mark.parametrize("given", [{}, {"CONTEXTCACHE_IGNORE": []}, {"CONTEXTCACHE_IGNORE": ()}])
def test_the_lines_that_silence_can_all_be_added_to_the_configuration(caplog, given):
    """Two that were logged before either was added, each as often as it is pasted."""

    def store(app):
        with app.app_context():
            cache = add_cache(app)
            cache.set("basket", Basket())
            cache.set("carts", [Basket()])

    store(make_app(DEBUG=True, **given))
    lines = re.findall(r"silence (.*)", caplog.text)
    assert len(lines) == 2
    app = make_app(DEBUG=True, **given)
    for line in (*lines, lines[0]):
        exec(line, {"app": app})
    with capture_findings() as findings:
        store(app)
    assert findings == []


def test_the_line_that_silences_is_short_where_the_setting_is_a_list(caplog):
    """It is what one would write."""
    app = make_app(DEBUG=True, CONTEXTCACHE_IGNORE=[])
    with app.app_context():
        add_cache(app).set("basket", Basket())
    line = """app.config["CONTEXTCACHE_IGNORE"] += ["cache['basket']._lock"]"""
    assert f"  silence {line}\n" in caplog.text
