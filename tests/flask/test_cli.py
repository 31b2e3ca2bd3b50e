"""`flask contextcache`: the commands know the application's Redis, prefixes and secrets."""

from __future__ import annotations

import json
import logging
import pickle
import re
from typing import TYPE_CHECKING, Any

import flask
import pytest
from flask import session
from flask_session import Session

from contextcache.base.logs import DISABLED, ENABLE
from contextcache.commands.options import AUDIT_OF_APPLICATION, EXPLAIN_WITH_KEYS, Option
from contextcache_flask import ContextCache
from tests.flask import shop
from tests.redis_server import free_port

if TYPE_CHECKING:
    import redis
    from flask import Flask


def make_app(redis_url: str, **config: Any) -> Flask:
    app = shop.make_app(redis_url, **config)
    ContextCache(app)
    shop.add_cache(app)
    return app


def run(app: Flask, *arguments: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["contextcache", *arguments])
    return result.exit_code, result.output


def example() -> object:
    return {"basket": shop.Basket(7)}


def test_caches_and_sessions_are_looked_through(redis_client: redis.Redis, redis_url: str) -> None:
    """Both are signed, and what others keep in the same Redis is left alone."""
    app = make_app(redis_url, CONTEXTCACHE_SESSION=True)
    redis_client.set("celery", b"\x80\x05broken")
    app.test_client().put("/cart")
    app.test_client().put("/cache/user:7")
    status, report = run(app, "audit", "--json")
    told = json.loads(report)
    assert status == 0
    assert (told["entries"], told["forms"]["signed"]) == (2, 2)
    assert told["server"] == "cache flask_cache_*, session contextcache:session:*"
    assert "tests.flask.shop:Basket" in told["names"]["signed"]


def test_what_was_planted_is_told(redis_client: redis.Redis, redis_url: str) -> None:
    """As Flask-Caching without us would have stored it; the exit status is 1."""
    app = make_app(redis_url)
    redis_client.set("flask_cache_planted", b"!" + pickle.dumps({}, 5))
    status, report = run(app, "audit")
    assert status == 1
    assert "1 entry unsigned" in report
    assert "flask_cache_planted" in report
    assert run(make_app(redis_url, CONTEXTCACHE_ACCEPT_UNSIGNED=True), "audit")[0] == 0


def test_sessions_of_flask_session_are_looked_through(
    redis_client: redis.Redis, redis_url: str
) -> None:
    """MessagePack is left alone; what Flask-Session would unpickle without us is found."""
    app = shop.make_app(redis_url)
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis_client)
    Session(app)
    ContextCache(app)
    app.add_url_rule("/in", "in", lambda: session.update(user=7) or "in")
    app.test_client().get("/in")
    [key] = redis_client.keys("session:*")
    status, report = run(app, "audit", "--json")
    assert (status, json.loads(report)["forms"]["other"]) == (0, 1)
    redis_client.set(key, b"cos\nsystem\n(S'true'\ntR.")
    status, report = run(app, "audit")
    assert status == 1
    assert "it names os:system" in report
    assert key.decode() not in report  # it logs in


def test_there_may_be_nothing_in_redis() -> None:
    """A cache in memory has no keys to scan."""
    app = shop.make_app("fakeredis://")
    app.config["CACHE_TYPE"] = "SimpleCache"
    ContextCache(app)
    shop.add_cache(app)
    assert run(app, "audit") == (2, "Error: nothing of this application is in Redis\n")


def test_an_embedded_redis_is_not_that_of_the_server() -> None:
    """No entries are no good news then."""
    status, report = run(make_app("fakeredis://"), "audit")
    assert status == 0
    assert report.startswith("Redis is embedded in each process, fakeredis://: what a server ")


@pytest.mark.parametrize("key", ["user:7", "flask_cache_user:7"])
def test_an_entry_is_explained_by_its_key(
    redis_client: redis.Redis, redis_url: str, key: str
) -> None:
    """As the application calls it, or as Redis does."""
    app = make_app(redis_url)
    app.test_client().put("/cache/user:7")
    status, report = run(app, "explain", key)
    assert status == 0
    assert report.startswith("flask_cache_user:7: ")
    assert "Basket" in report


def test_a_key_that_is_no_text_is_looked_for(redis_client: redis.Redis, redis_url: str) -> None:
    """Python has its bytes as half characters."""
    redis_client.set(b"page:\xff", b"\x80\x05N.")
    status, report = run(make_app(redis_url), "explain", "page:\udcff")
    assert (status, report.partition(": ")[0]) == (0, "page:\\xff")
    assert run(make_app(redis_url), "explain", "page:\udcfe")[0] == 2


@pytest.mark.usefixtures("redis_client")
def test_a_key_that_is_not_there_is_named(redis_url: str) -> None:
    """A key that has expired is not taken for a typo in the name of a module."""
    result = (
        make_app(redis_url).test_cli_runner().invoke(args=["contextcache", "explain", "user:7"])
    )
    assert result.exit_code == 2
    assert result.stderr == (
        "contextcache: user:7 cannot be imported: there is no module user; "
        "nor is it a key of a cache that answers\n"
    )


@pytest.mark.parametrize("kind", ["contextcache_flask.RedisCache", "RedisCache"])
def test_a_server_that_cannot_be_used_is_one_line(redis_url: str, kind: str) -> None:
    """Whichever client the cache has: the reason, status 2, no traceback."""
    url = redis_url[:-1] + "99"
    app = shop.make_app(url)
    app.config.update(CACHE_TYPE=kind, CACHE_REDIS_URL=url)
    ContextCache(app)
    shop.add_cache(app)
    for arguments in (["audit"], ["audit", "--json"], ["explain", "user:7"]):
        result = app.test_cli_runner().invoke(args=["contextcache", *arguments])
        assert result.exit_code == 2
        assert "range" in result.stderr.splitlines()[-1]
        assert len(result.stderr.splitlines()) == (2 if "explain" in arguments else 1)


def test_several_codes_are_explained() -> None:
    """As messages print them; a code that does not exist is named, with status 2."""
    app = make_app("redis://127.0.0.1:1/0")
    status, report = run(app, "explain", "CC102,", "CC101")
    assert status == 0
    assert "# CC102" in report
    assert "# CC101" in report
    status, report = run(app, "explain", "CC102,", "CC999")
    assert status == 2
    assert "there is no code 'CC999'" in report


def test_an_entry_is_never_loaded(redis_url: str, redis_client: redis.Redis) -> None:
    """What is in Redis may be anybody's; a value of the application is loaded elsewhere, too."""
    app = make_app(redis_url)
    app.test_client().put("/cache/user:7")
    arguments = ["contextcache", "explain", "--fresh"]
    result = app.test_cli_runner().invoke(args=[*arguments, "user:7"])
    assert result.exit_code == 2
    assert "no payload from a file or from Redis" in result.stderr
    assert run(app, *arguments[1:], f"{__name__}:clean")[0] == 0


def clean() -> object:
    """Return a value that any process can load."""
    return {"n": 1, "items": [1]}


@pytest.mark.parametrize("url", ["fakeredis://cli", "redis://127.0.0.1:1/0"])
def test_a_value_is_explained_by_its_name(url: str) -> None:
    """With or without a Redis that answers."""
    status, report = run(make_app(url), "explain", f"{__name__}:example")
    assert status == 1
    assert "CC102 value['basket']._lock" in report


def test_everything_may_be_guarded(redis_url: str) -> None:
    """Then the check says so."""
    app = make_app(redis_url, CONTEXTCACHE_SESSION=True)
    assert run(app, "check") == (0, "contextcache: everything is guarded\n")


@pytest.mark.parametrize(
    ("config", "code", "text"),
    [
        ({"CONTEXTCACHE_SIGN": False}, "W005", "CONTEXTCACHE_SIGN is False."),
        ({"CONTEXTCACHE_ACCEPT_UNSIGNED": True}, "W005", "CONTEXTCACHE_ACCEPT_UNSIGNED is True."),
        ({"CONTEXTCACHE_REDIS_URL": "fakeredis://"}, "W010", "each process keeps its own."),
    ],
)
def test_what_is_not_safe_is_named(
    redis_url: str, config: dict[str, Any], code: str, text: str
) -> None:
    """With what to do about it; the exit status is 1."""
    app = shop.make_app(redis_url)
    app.config.update(config)
    ContextCache(app)
    shop.add_cache(app)
    status, report = run(app, "check")
    assert status == 1
    assert report.startswith(f"contextcache.{code}: ")
    assert report.splitlines()[0].endswith(text)
    assert report.splitlines()[1].startswith("    HINT: ")


WRONG = [
    (
        {"CONTEXTCACHE_LOADABLE": ["tests.flask.shop.Wagon"]},
        "LOADABLE: 'tests.flask.shop.Wagon' cannot be found",
    ),
    ({"CONTEXTCACHE_SIGN": True, "SECRET_KEY": None}, "SIGN needs a secret: set SECRET_KEY"),
]


@pytest.mark.parametrize(("config", "text"), WRONG)
def test_a_setting_that_only_the_first_use_would_tell_is_named(
    redis_url: str, config: dict[str, Any], text: str
) -> None:
    """What a name stands for may not be imported yet when the application is initialised."""
    app = shop.make_app(redis_url)
    app.config.update(config)
    ContextCache(app)
    assert run(app, "check") == (
        1,
        (
            f"contextcache.E002: {text}\n"
            "    HINT: Correct the setting; until then nothing can be cached or read.\n"
        ),
    )
    assert run(app, "audit") == (2, f"Error: {text}\n")


@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        (
            "tests.flask.shop.Baskte",
            "which does not exist",
            "Did you mean 'tests.flask.shop.Basket'?",
        ),
        (
            "tests.flask.shop.make_app",
            "which is no class",
            "Write the name of the type as findings show it.",
        ),
    ],
)
def test_a_rule_that_no_object_meets_is_named(
    redis_url: str, name: str, why: str, hint: str
) -> None:
    """It would do nothing, and say nothing."""
    app = make_app(redis_url, CONTEXTCACHE_RULES={name: "strip"}, CONTEXTCACHE_SESSION=True)
    text = f"CONTEXTCACHE_RULES names {name!r}, {why}: the rule applies to no object."
    assert run(app, "check") == (1, f"contextcache.W009: {text}\n    HINT: {hint}\n")


def test_a_rule_for_a_package_that_is_not_installed_is_none_of_that(redis_url: str) -> None:
    """It may be there where the application runs."""
    rules = {"not_installed_here.Client": "strip", "tests.flask.shop.Basket": "strip"}
    app = make_app(redis_url, CONTEXTCACHE_RULES=rules)
    assert run(app, "check") == (0, "contextcache: everything is guarded\n")


def test_only_a_redis_that_is_used_is_said_to_be_embedded(redis_url: str) -> None:
    """The application names its server as Flask-Caching does, and none for contextcache."""
    app = shop.make_app(redis_url)
    del app.config["CONTEXTCACHE_REDIS_URL"]
    app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=redis_url)
    ContextCache(app)
    shop.add_cache(app)
    assert run(app, "check") == (0, "contextcache: everything is guarded\n")


def test_a_missing_secret_is_named(redis_url: str) -> None:
    """Nothing is signed without one."""
    app = make_app(redis_url)
    app.config["SECRET_KEY"] = None
    assert run(app, "check")[1].startswith(
        "contextcache.W005: Payloads are not signed: there is no SECRET_KEY.\n"
    )


def test_the_check_connects_to_each_redis(redis_url: str) -> None:
    """One that does not answer is named with its reason and what to do; no password is shown."""
    app = make_app(redis_url, CONTEXTCACHE_SESSION=True)
    assert run(app, "check")[0] == 0
    app = make_app(f"redis://:canary@127.0.0.1:{free_port()}/0", CONTEXTCACHE_SESSION=True)
    status, report = run(app, "check")
    assert status == 1
    assert re.fullmatch(
        r"contextcache\.E007: Redis at redis://127\.0\.0\.1:\d+/0 cannot be reached: "
        r"connection refused\.\n    HINT: Start the server or correct the URL\.\n",
        report,
    )


@pytest.mark.parametrize(
    ("config", "code", "text"),
    [
        (
            {"CONTEXT_CACHE_MODE": "warn"},
            "W014",
            (
                "CONTEXT_CACHE_MODE is not a setting that is read.\n"
                "    HINT: Did you mean CONTEXTCACHE_MODE?"
            ),
        ),
        (
            {"CONTEXCACHE_SESSION": True},
            "W014",
            (
                "CONTEXCACHE_SESSION is not a setting that is read.\n"
                "    HINT: Did you mean CONTEXTCACHE_SESSION?"
            ),
        ),
        (
            {"CONTEXTCACHE_IGNORE": ["sesion['cart'].lock"]},
            "W013",
            (
                """CONTEXTCACHE_IGNORE has "sesion['cart'].lock", and no path begins with """
                "'sesion'.\n    HINT: Did you mean 'session'?"
            ),
        ),
    ],
)
def test_a_misspelled_name_is_noticed(
    redis_url: str, config: dict[str, Any], code: str, text: str
) -> None:
    """It would have no effect, and nothing would say so."""
    app = make_app(redis_url, CONTEXTCACHE_SESSION=True, **config)
    assert run(app, "check") == (1, f"contextcache.{code}: {text}\n")


def test_other_names_are_left_alone(redis_url: str) -> None:
    """Settings of the application and of Flask-Caching, and roots of its own."""
    others = {
        "CONTENT_CACHE_TTL": 1,
        "CACHE_TIMEOUT": 5,
        "CONTEXT_CACHE_POLICY_FOR_PAGES": 1,
        "CONTEXTCACHE_IGNORE": ["session['a']", "cache['b']", "*['c']", "report.lock"],
    }
    app = make_app(redis_url, CONTEXTCACHE_SESSION=True, **others)
    assert run(app, "check") == (0, "contextcache: everything is guarded\n")


def test_what_is_not_guarded_is_named(redis_url: str) -> None:
    """A cache and a session that are of no kind we know."""
    from flask.sessions import SessionInterface

    class OwnSessions(SessionInterface): ...

    app = make_app(redis_url)
    app.extensions["cache"]["own"] = object()
    app.session_interface = OwnSessions()
    status, report = run(app, "check")
    assert status == 1
    assert "contextcache.W001: The cache object is not guarded." in report
    assert "contextcache.W002: Sessions are kept by " in report
    assert "OwnSessions, which is not guarded." in report


def test_check_reports_a_disabled_logger() -> None:
    """As `logging.config.dictConfig` leaves each logger that exists and that it does not name."""
    logger = logging.getLogger("contextcache")
    app = flask.Flask("shop")
    app.config.update(SECRET_KEY="k", CONTEXTCACHE_REDIS_URL="redis://127.0.0.1:1/0")
    ContextCache(app)
    logger.disabled = True
    try:
        assert run(app, "check") == (1, f"contextcache.W012: {DISABLED}\n    HINT: {ENABLE}\n")
    finally:
        logger.disabled = False
    assert run(app, "check")[0] == 0


@pytest.mark.parametrize(
    ("command", "options"), [("audit", AUDIT_OF_APPLICATION), ("explain", EXPLAIN_WITH_KEYS)]
)
def test_the_help_lists_the_options_of_every_framework(
    command: str, options: tuple[Option, ...]
) -> None:
    """They are one table, which argparse and click read."""
    status, text = run(make_app("redis://127.0.0.1:1/0"), command, "--help")
    assert status == 0
    for option in options:
        name = option.name if option.name.startswith("-") else option.name.upper()
        assert name in text
        assert option.help.split("\n")[0][:40] in text


@pytest.mark.parametrize(
    "arguments", [("audit", "--large", "0"), ("explain", "x", "--depth", "-1"), ("explain",)]
)
def test_an_option_that_cannot_be_is_an_error_of_the_command_line(
    arguments: tuple[str, ...],
) -> None:
    """With the status of every command that cannot look."""
    status, text = run(make_app("redis://127.0.0.1:1/0"), *arguments)
    assert status == 2
    assert "Usage: " in text


def test_a_session_is_shown_by_its_id(redis_url: str) -> None:
    """Its key in Redis is a hash that nobody types; it is verified and not loaded."""
    app = make_app(redis_url, CONTEXTCACHE_SESSION=True)
    client = app.test_client()
    client.put("/cart")
    cookie = client.get_cookie("session")
    assert cookie is not None
    status, report = run(app, "explain", "--session", cookie.value)
    assert report.startswith("session: ")
    assert "read without loading it" in report
    assert status == 0
    assert run(app, "explain", "--session", "unknown")[0] == 2


def test_a_session_in_the_cookie_cannot_be_shown(redis_url: str) -> None:
    """The message says which can."""
    status, report = run(make_app(redis_url), "explain", "--session", "x")
    assert status == 2
    assert "only those that CONTEXTCACHE_SESSION = True keeps in Redis can be looked up" in report
