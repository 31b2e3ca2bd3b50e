"""The system checks, as `manage.py check` runs them; their texts are part of the interface."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.core.cache import caches
from django.core.checks import CheckMessage, Error, Warning, run_checks  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler

from contextcache import Config
from contextcache.base.logs import DISABLED, ENABLE
from contextcache.servers.urls import SCHEMES
from contextcache_django.checks import BACKEND, check_coverage, check_settings
from contextcache_django.conf import guard_for, project_config
from contextcache_django.leftovers import INSTEAD
from tests.redis_server import free_port

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

OURS = {"BACKEND": "contextcache_django.cache.RedisCache"}
DJANGOS = {
    "BACKEND": "django.core.cache.backends.redis.RedisCache",
    "LOCATION": "redis://127.0.0.1:6379/0",
}
UPDATE = "django.middleware.cache.UpdateCacheMiddleware"
PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"


MIDDLEWARE = "contextcache_django.middleware.ContextCacheMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"


class Rows:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def found() -> list[CheckMessage]:
    """Run all checks and keep ours."""
    return [message for message in run_checks() if str(message.id).startswith("contextcache.")]


def test_the_test_project_has_no_messages() -> None:
    """A project that follows the README is silent."""
    assert found() == []


def test_an_unknown_key_is_named_with_the_nearest(settings: SettingsWrapper) -> None:
    """Every unknown key, and for one that is near nothing all that exist."""
    settings.CONTEXTCACHE = {"MODES": "strip", "mode": "strip", "COLOUR": 1}
    assert found() == [
        Error(
            "CONTEXTCACHE has no key 'MODES'.",
            hint="Did you mean 'MODE'?",
            id="contextcache.E001",
        ),
        Error(
            "CONTEXTCACHE has no key 'mode'.",
            hint="Did you mean 'MODE'?",
            id="contextcache.E001",
        ),
        Error(
            "CONTEXTCACHE has no key 'COLOUR'.",
            hint=f"Its keys are {', '.join(Config.KEYS)}, OBSERVE.",
            id="contextcache.E001",
        ),
    ]


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"MODE": "strp"},
            (
                "CONTEXTCACHE: unknown mode 'strp' (did you mean 'strip'?); "
                "valid: off, raise, strip, warn"
            ),
        ),
        ({"MAX_SIZE": 0}, "CONTEXTCACHE: max_size is a positive number of bytes"),
        (
            {"ON_FINDING": "nowhere.function"},
            "CONTEXTCACHE ON_FINDING: cannot import 'nowhere.function'",
        ),
        ("strip", "CONTEXTCACHE has to be a dict."),
        ({"OBSERVE": "no"}, "CONTEXTCACHE: OBSERVE is True or False."),
    ],
)
def test_a_bad_value_is_named(settings: SettingsWrapper, mapping: Any, message: str) -> None:
    """The text is that of the core."""
    settings.CONTEXTCACHE = mapping
    assert found() == [Error(message, id="contextcache.E002")]


def test_a_setting_that_is_named_as_in_flask(settings: SettingsWrapper) -> None:
    """It would have no effect."""
    settings.CONTEXTCACHE_MODE = "raise"
    settings.CONTEXTCACHE_SESSION = True
    assert [(error.id, error.msg.partition(" ")[0], error.hint) for error in found()] == [
        ("contextcache.E001", "CONTEXTCACHE_MODE", "Write it as CONTEXTCACHE['MODE']."),
        (
            "contextcache.E001",
            "CONTEXTCACHE_SESSION",
            "Remove it, and set CACHES and SESSION_ENGINE.",
        ),
    ]


def test_an_unknown_verb_is_named(settings: SettingsWrapper) -> None:
    """With the type whose rule it is."""
    settings.CONTEXTCACHE = {"RULES": {"shop.api.Client": "stripp"}}
    [error] = found()
    assert error.id == "contextcache.E002"
    assert "'shop.api.Client'" in error.msg
    assert "'stripp'" in error.msg
    assert "'strip'" in error.msg


def test_the_settings_of_an_alias_are_checked_too(settings: SettingsWrapper) -> None:
    """The message says which alias."""
    settings.CACHES = {"default": {**OURS, "OPTIONS": {"CONTEXTCACHE": {"MODUS": "strip"}}}}
    assert found() == [
        Error(
            "CACHES['default']['OPTIONS']['CONTEXTCACHE'] has no key 'MODUS'.",
            hint="Did you mean 'MODE'?",
            id="contextcache.E001",
        )
    ]


def test_sessions_in_a_cache_that_is_not_ours(settings: SettingsWrapper) -> None:
    """The engine would refuse to start."""
    settings.CACHES = {
        "default": OURS,
        "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    }
    settings.SESSION_CACHE_ALIAS = "local"
    assert found() == [
        Error(
            "SESSION_ENGINE keeps sessions in CACHES['local'], which is not a contextcache cache.",
            hint=(
                "Set its BACKEND to 'contextcache_django.cache.RedisCache', or "
                "SESSION_CACHE_ALIAS to a cache that has it."
            ),
            id="contextcache.E003",
        )
    ]


def test_a_cache_that_cannot_be_made(settings: SettingsWrapper) -> None:
    """A wrong URL is found without connecting to anything."""
    settings.CACHES = {"default": {**OURS, "LOCATION": "reds://127.0.0.1"}}
    schemes = ", ".join(f"{scheme}://" for scheme in SCHEMES)
    assert found() == [
        Error(
            f"CACHES['default']: unknown Redis URL reds://: it begins with one of {schemes}; "
            "did you mean redis://?",
            id="contextcache.E004",
        )
    ]


def test_a_replica_that_cannot_be_made(settings: SettingsWrapper) -> None:
    """Reads would find out, and only some of them where there are several."""
    urls = ["redis://127.0.0.1:6379/0", "redis://127.0.0.1:6380/0", "127.0.0.1:6381"]
    settings.CACHES = {"default": {**OURS, "LOCATION": urls}}
    [error] = found()
    assert error.id == "contextcache.E004"
    assert error.msg.startswith("CACHES['default']: unknown Redis URL without a scheme: ")


def test_everything_that_is_left_from_django_redis_is_named_at_once(
    settings: SettingsWrapper,
) -> None:
    """With what to do about each; it would be a TypeError of the first connection."""
    everything = {**dict.fromkeys(INSTEAD, "x"), "NEW_OPTION": 1, "max_connections": 9}
    settings.CACHES = {
        "default": {**DJANGOS, **OURS, "OPTIONS": everything, "REVERSE_KEY_FUNCTION": "x"},
        "other": {**DJANGOS, **OURS, "OPTIONS": {"SOCKET_TIMEOUT": 1}},
        "behind": {
            "BACKEND": "contextcache_django.cache.GuardedCache",
            "LOCATION": DJANGOS["LOCATION"],
            "OPTIONS": {
                "BACKEND": "django_redis.cache.RedisCache",
                "SOCKET_TIMEOUT": 1,
                "CLIENT_CLASS": "django_redis.client.DefaultClient",
            },
        },
    }
    settings.DJANGO_REDIS_IGNORE_EXCEPTIONS = True
    told = found()
    assert told[: len(INSTEAD)] == [
        Error(
            f"CACHES['default']['OPTIONS'] has {name!r}, an option of another backend.",
            hint=hint,
            id="contextcache.E004",
        )
        for name, hint in INSTEAD.items()
    ]
    assert [(one.msg.partition(",")[0], one.id) for one in told[len(INSTEAD) :]] == [
        ("CACHES['default']['OPTIONS'] has 'NEW_OPTION'", "contextcache.E004"),
        (
            "CACHES['default']['REVERSE_KEY_FUNCTION'] is left from django-redis",
            "contextcache.W011",
        ),
        ("CACHES['other']['OPTIONS'] has 'SOCKET_TIMEOUT'", "contextcache.E004"),
        ("DJANGO_REDIS_IGNORE_EXCEPTIONS is left from django-redis", "contextcache.W011"),
    ]
    assert all(one.hint for one in told)
    settings.CACHES = {"default": {**DJANGOS, "BACKEND": "django_redis.cache.RedisCache"}}
    assert not [one for one in found() if one.id == "contextcache.W011"]


def test_every_option_that_redis_py_does_not_have_is_named(settings: SettingsWrapper) -> None:
    """And what is wrong with the server, once the options are right."""
    wrong = {"sockt_timeout": 1, "max_connections": 5, "retry_on": 2, "CLIENT_CLASS": "x"}
    settings.CACHES = {"default": {**DJANGOS, **OURS, "OPTIONS": wrong}}
    assert [one.msg.rpartition(": ")[2] for one in found()] == [
        "CACHES['default']['OPTIONS'] has 'CLIENT_CLASS', an option of another backend.",
        "redis-py's connections have no option 'sockt_timeout'",
        "redis-py's connections have no option 'retry_on'",
    ]
    settings.CACHES = {"default": {**OURS, "LOCATION": "reds://x", "OPTIONS": {"DB": 1}}}
    assert [one.id for one in found()] == ["contextcache.E004"] * 2


def test_a_mistake_of_the_project_is_not_blamed_on_the_options_of_a_cache(
    settings: SettingsWrapper,
) -> None:
    """The names are looked up when the guard of a cache is made, wherever they were listed."""
    settings.CACHES = {"default": OURS}
    settings.CONTEXTCACHE = {"LOADABLE": ["shop.nothing"]}
    [error] = found()
    assert error.id == "contextcache.E004"
    assert error.msg.startswith("CACHES['default']: CONTEXTCACHE: LOADABLE: 'shop.nothing' ")


def test_a_backend_behind_the_guard_that_cannot_be_made(settings: SettingsWrapper) -> None:
    """The backend inside is made, too, and the guard around it is one."""
    guarded = "contextcache_django.cache.GuardedCache"
    inside = {"BACKEND": "django.core.cache.backends.redis.RedisCache"}
    settings.CACHES = {
        "default": OURS,
        "bare": {"BACKEND": guarded},
        "fine": {**DJANGOS, "BACKEND": guarded, "OPTIONS": inside},
    }
    assert found() == [
        Error(
            "CACHES['bare']: GuardedCache wraps another backend: name it in OPTIONS['BACKEND']",
            id="contextcache.E004",
        )
    ]


def test_a_cache_in_redis_without_a_guard(settings: SettingsWrapper) -> None:
    """With the serializer of its slot it is silent."""
    django_redis = {**DJANGOS, "BACKEND": "django_redis.cache.RedisCache"}
    slot = "contextcache_django.serializers"
    settings.CACHES = {
        "default": OURS,
        "bare": DJANGOS,
        "bare too": django_redis,
        "other": {**DJANGOS, "OPTIONS": {"serializer": "nowhere.Serializer"}},
        "fine": {**DJANGOS, "OPTIONS": {"serializer": f"{slot}.CacheSerializer"}},
        "fine too": {**django_redis, "OPTIONS": {"SERIALIZER": f"{slot}.DjangoRedisSerializer"}},
        "within": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "elsewhere": {"BACKEND": PYMEMCACHE, "LOCATION": "127.0.0.1:11211"},
    }

    def warning(alias: str, option: str, serializer: str) -> Warning:
        return Warning(
            f"CACHES['{alias}'] stores values in Redis without a guard.",
            hint=(
                "Set its BACKEND to 'contextcache_django.cache.RedisCache', or "
                f"OPTIONS['{option}'] to 'contextcache_django.serializers.{serializer}'."
            ),
            id="contextcache.W001",
        )

    assert found() == [
        warning("bare", "serializer", "CacheSerializer"),
        warning("bare too", "SERIALIZER", "DjangoRedisSerializer"),
        warning("other", "serializer", "CacheSerializer"),
        Warning(
            "CACHES['elsewhere'] stores values in memcached without a guard.",
            hint=(
                "Set its BACKEND to 'contextcache_django.cache.GuardedCache' and "
                f"OPTIONS['BACKEND'] to '{PYMEMCACHE}'."
            ),
            id="contextcache.W001",
        ),
    ]


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
def test_cached_sessions_without_a_guard(settings: SettingsWrapper, engine: str) -> None:
    """Django's cached sessions are pickled by the cache, whatever SESSION_SERIALIZER says."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    serializer = {"contextcache.W007", "contextcache.W008"}
    assert [message for message in found() if message.id not in serializer] == []
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert [message for message in found() if message.id not in serializer] == [
        Warning(
            f"SESSION_ENGINE 'django.contrib.sessions.backends.{engine}' stores sessions in "
            "CACHES['default'] without a guard.",
            hint=(
                "Set SESSION_ENGINE to 'contextcache_django.sessions', or the BACKEND of that "
                "cache to 'contextcache_django.cache.RedisCache'."
            ),
            id="contextcache.W002",
        )
    ]


def test_a_missing_middleware(settings: SettingsWrapper) -> None:
    """Findings would not name their view."""
    settings.MIDDLEWARE = settings.MIDDLEWARE[1:]
    assert found() == [
        Warning(
            "Findings cannot name their request and view: "
            "the middleware of contextcache is not in MIDDLEWARE.",
            hint=(
                "Add 'contextcache_django.middleware.ContextCacheMiddleware' as the first line "
                "of MIDDLEWARE."
            ),
            id="contextcache.W003",
        )
    ]


def test_a_middleware_in_the_wrong_place(settings: SettingsWrapper) -> None:
    """Sessions are saved by a middleware that has to be within ours."""
    first, second, *rest = settings.MIDDLEWARE
    settings.MIDDLEWARE = [second, *rest, UPDATE, first]
    assert found() == [
        Warning(
            "Findings in sessions cannot name their request and view: SessionMiddleware saves "
            "them after the middleware of contextcache is done.",
            hint=(
                "Move 'contextcache_django.middleware.ContextCacheMiddleware' to the first line "
                "of MIDDLEWARE."
            ),
            id="contextcache.W004",
        ),
        Warning(
            "Findings in cached pages cannot name their request and view: UpdateCacheMiddleware "
            "stores them after the middleware of contextcache is done.",
            hint=(
                "Move 'contextcache_django.middleware.ContextCacheMiddleware' to the first line "
                "of MIDDLEWARE."
            ),
            id="contextcache.W004",
        ),
    ]


def test_payloads_that_are_not_signed(settings: SettingsWrapper) -> None:
    """Left on after a migration, switched off, or without a secret to sign with."""
    settings.CONTEXTCACHE = {"ACCEPT_UNSIGNED": True}
    settings.CACHES = {"default": {**OURS, "OPTIONS": {"CONTEXTCACHE": {"SIGN": False}}}}
    assert found() == [
        Warning(
            "CONTEXTCACHE['ACCEPT_UNSIGNED'] is on: whoever can write to Redis can run code here.",
            hint="Remove it when what was stored unsigned is gone; it is for a migration.",
            id="contextcache.W005",
        ),
        Warning(
            "CACHES['default']['OPTIONS']['CONTEXTCACHE']['SIGN'] is False: whoever can write to "
            "Redis can run code here.",
            hint="Remove it, and set ACCEPT_UNSIGNED until what is stored unsigned is gone.",
            id="contextcache.W005",
        ),
    ]


def test_no_secret_to_sign_with(settings: SettingsWrapper) -> None:
    """Django itself refuses to start most things without one, but not a cache."""
    settings.CONTEXTCACHE = {}
    settings.CACHES = {"default": OURS}
    settings.SECRET_KEY = ""
    assert [*check_settings(), *check_coverage()] == [
        Warning(
            "Payloads are not signed, because there is no SECRET_KEY: whoever can write to Redis "
            "can run code here.",
            hint="Set SECRET_KEY, or CONTEXTCACHE['SECRET_KEYS'].",
            id="contextcache.W005",
        )
    ]
    settings.CONTEXTCACHE = {"SECRET_KEYS": ["another"]}
    assert check_coverage() == []


@pytest.mark.parametrize(
    "engine", ["contextcache_django.sessions", "django.contrib.sessions.backends.cache"]
)
def test_a_serializer_nobody_asks(settings: SettingsWrapper, engine: str) -> None:
    """Whoever sets JSON means JSON, and these engines pickle."""
    settings.SESSION_ENGINE = engine
    settings.SESSION_SERIALIZER = "django.contrib.sessions.serializers.JSONSerializer"
    assert found() == [
        Warning(
            "SESSION_SERIALIZER 'django.contrib.sessions.serializers.JSONSerializer' is not asked "
            f"by SESSION_ENGINE {engine!r}, which pickles.",
            hint=(
                "Remove it, or set SESSION_ENGINE to 'contextcache_django.cached_db' or another "
                "one that asks it."
            ),
            id="contextcache.W006",
        )
    ]


def test_sessions_that_are_not_the_same_hot_and_cold(settings: SettingsWrapper) -> None:
    """Django's `cached_db` caches the dict and stores JSON; ours caches what it stores."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
    assert found()[:1] == [
        Warning(
            "SESSION_ENGINE 'django.contrib.sessions.backends.cached_db' reads sessions from the "
            "cache as they were and from the database as JSON: a tuple becomes a list when the "
            "cache forgets it.",
            hint="Set SESSION_ENGINE to 'contextcache_django.cached_db'.",
            id="contextcache.W007",
        )
    ]
    settings.SESSION_ENGINE = "contextcache_django.cached_db"
    assert [message.id for message in found()] == ["contextcache.W008"]


@pytest.mark.parametrize("engine", ["db", "file", "signed_cookies"])
def test_nothing_is_said_of_the_default_serializer(settings: SettingsWrapper, engine: str) -> None:
    """A project that has changed nothing may check with --fail-level WARNING."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    assert found() == []


# --- Rules and serializers that do nothing --------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why", "hint"),
    [
        (
            "tests.django.shop.Cleint",
            "which does not exist",
            "Did you mean 'tests.django.shop.Client'?",
        ),
        ("threading.local", "which has another name", "Did you mean '_thread._local'?"),
        (
            "tests.django.shop.generator",
            "which is no class",
            "Write the name of the type as findings show it.",
        ),
    ],
)
def test_a_rule_that_no_object_meets(
    settings: SettingsWrapper, name: str, why: str, hint: str
) -> None:
    """Rules know a type by the name that findings show: that of the class, where it is defined."""
    settings.CONTEXTCACHE = {"RULES": {"tests.django.shop.Client": "strip", name: "strip"}}
    assert found() == [
        Warning(
            f"CONTEXTCACHE['RULES'] names {name!r}, {why}: the rule applies to no object.",
            hint=hint,
            id="contextcache.W009",
        )
    ]


def test_a_rule_of_one_alias_that_no_object_meets(settings: SettingsWrapper) -> None:
    """The message says which."""
    options: dict[str, Any] = {"CONTEXTCACHE": {"RULES": {"tests.django.shop.Clint": "strip"}}}
    django_redis = {**DJANGOS, "BACKEND": "django_redis.cache.RedisCache"}
    slot = {"SERIALIZER": "contextcache_django.serializers.DjangoRedisSerializer"}
    settings.CACHES = {
        "default": {**OURS, "OPTIONS": options},
        "other": {**django_redis, "OPTIONS": {**options, **slot}},
    }
    assert [warning.msg.partition(" names ")[0] for warning in found()] == [
        "CACHES['default']['OPTIONS']['CONTEXTCACHE']['RULES']",
        "CACHES['other']['OPTIONS']['CONTEXTCACHE']['RULES']",
    ]


@pytest.mark.parametrize("engine", ["db", "file", "signed_cookies"])
def test_sessions_whose_serializer_names_no_field(settings: SettingsWrapper, engine: str) -> None:
    """Ours stores the same."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_SERIALIZER = "django.contrib.sessions.serializers.JSONSerializer"
    assert found() == [
        Warning(
            "Where a session holds what JSON cannot, SESSION_SERIALIZER "
            "'django.contrib.sessions.serializers.JSONSerializer' fails the page, and names no "
            "field.",
            hint=(
                "Set SESSION_SERIALIZER to 'contextcache_django.serializers."
                "JSONSessionSerializer', which stores the same, or to "
                "'contextcache_django.serializers.SessionSerializer', which stores more."
            ),
            id="contextcache.W008",
        )
    ]
    settings.MIDDLEWARE = [MIDDLEWARE]
    assert found() == []  # nobody saves sessions
    settings.MIDDLEWARE = [MIDDLEWARE, SESSIONS]
    for serializer in ("JSONSessionSerializer", "SessionSerializer"):
        settings.SESSION_SERIALIZER = f"contextcache_django.serializers.{serializer}"
        assert found() == []


# --- Deployment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("location", [{}, {"LOCATION": ""}, {"LOCATION": "fakeredis://shop/0"}])
def test_an_embedded_redis_is_none_to_deploy(
    settings: SettingsWrapper, location: dict[str, str]
) -> None:
    """Each worker would have sessions of its own."""
    settings.CACHES = {"default": {**DJANGOS, **OURS}, "local": {**OURS, **location}}
    told = run_checks(include_deployment_checks=True)
    assert [one for one in told if one.id == "contextcache.W010"] == [
        Warning(
            "CACHES['local'] is embedded in each process: no other one sees what it stores, and "
            "it ends with it.",
            hint="Set its LOCATION to the URL of a Redis, such as redis://127.0.0.1:6379/0.",
            id="contextcache.W010",
        )
    ]
    assert found() == []


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Django look as it does outside of its tests."""
    monkeypatch.delattr(mail, "outbox")


NO_LOCATION: list[dict[str, Any]] = [{}, {"LOCATION": ""}, {"LOCATION": None}, {"LOCATION": []}]


@pytest.mark.usefixtures("deployed")
@pytest.mark.parametrize("location", NO_LOCATION)
@pytest.mark.parametrize("at_start", [True, False])
def test_a_deployed_cache_without_a_server_is_an_error_and_a_warning(
    settings: SettingsWrapper,
    location: dict[str, Any],
    at_start: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At the start of the site or, without the middleware, at the first use of the cache."""
    settings.CACHES = {"default": {**OURS, **location}}
    if at_start:
        WSGIHandler()
    threads = [threading.Thread(target=lambda: caches["default"].get("key")) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert caches["default"].get("key") is None
    for thread in threads:  # it would warn within the next test
        thread.join()
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.getMessage() == (
        "contextcache: CACHES['default'] has no LOCATION, so it is kept in an embedded Redis "
        "(fakeredis): each process has its own, which ends with it; set it to the URL of a Redis, "
        "such as redis://127.0.0.1:6379/0, or to fakeredis:// if that is meant"
    )
    error = Error(
        "CACHES['default'] has no LOCATION, so it is kept in an embedded Redis (fakeredis): each "
        "process has its own, which ends with it.",
        hint="Set its LOCATION to the URL of a Redis, such as redis://127.0.0.1:6379/0.",
        id="contextcache.E005",
    )
    assert found() == [error]
    told = run_checks(include_deployment_checks=True)
    assert [one for one in told if str(one.id).startswith("contextcache.")] == [error]


@pytest.mark.parametrize("quiet", ["asked for", "debug mode", "tests", "another backend"])
def test_no_error_where_it_does_no_harm(
    settings: SettingsWrapper,
    quiet: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Somebody wrote `fakeredis://`, or nobody is served."""
    settings.CACHES = {"default": {**OURS}}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.file"
    settings.SESSION_SERIALIZER = "contextcache_django.serializers.SessionSerializer"
    if quiet != "tests":
        monkeypatch.delattr(mail, "outbox")
    if quiet == "asked for":
        settings.CACHES = {"default": {**OURS, "LOCATION": "fakeredis://"}}
    elif quiet == "another backend":
        settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    elif quiet == "debug mode":
        settings.DEBUG = True
    WSGIHandler()
    caches["default"].get("key")
    assert found() == []
    assert "LOCATION" not in caplog.text


# --- Settings -----------------------------------------------------------------------------------


def test_the_settings_are_read_once_and_again_when_they_change(
    settings: SettingsWrapper,
) -> None:
    """`override_settings` in a project's tests is heeded."""
    assert project_config() is project_config()
    assert project_config().mode == "strip"
    guard = guard_for("cache in redis")
    assert guard_for("cache in redis") is guard

    settings.CONTEXTCACHE = {"MODE": "raise"}
    assert project_config().mode == "raise"
    assert guard_for("cache in redis").config.mode == "raise"

    settings.DEBUG = True
    assert project_config().debug
    settings.CONTEXTCACHE = {}
    assert project_config().mode == "strip"


@pytest.mark.parametrize(
    ("written", "line"),
    [
        (
            "",
            'globals().setdefault("CONTEXTCACHE", {}).setdefault("IGNORE", []).extend([PATTERN])',
        ),
        ("CONTEXTCACHE = {}", 'CONTEXTCACHE.setdefault("IGNORE", []).extend([PATTERN])'),
        ('CONTEXTCACHE = {"IGNORE": []}', 'CONTEXTCACHE["IGNORE"] += [PATTERN]'),
        (
            'CONTEXTCACHE = {"IGNORE": ()}',
            'CONTEXTCACHE["IGNORE"] = [*CONTEXTCACHE["IGNORE"], *[PATTERN]]',
        ),
    ],
)
def test_the_line_that_silences_is_one_for_these_settings(
    settings: SettingsWrapper, caplog: pytest.LogCaptureFixture, written: str, line: str
) -> None:
    """Pasted at their end, before or after another one, the field is not reported any more."""
    settings.DEBUG = True
    line = line.replace("PATTERN", """\"cache['rows'].lock\"""")
    other = line.replace("rows", "other")
    told = []
    for lines in (written, f"{written}\n{other}\n{line}\n{other}"):
        module: dict[str, Any] = {}
        exec(lines, module)
        del settings.CONTEXTCACHE
        if "CONTEXTCACHE" in module:
            settings.CONTEXTCACHE = module["CONTEXTCACHE"]
        caplog.clear()
        guard_for("cache in redis").dumps(Rows(), label="cache['rows']")
        told.append(caplog.text)
    assert f"  silence {line}\n" in told[0]
    assert told[1] == ""


def test_guards_are_kept_per_place_and_per_settings() -> None:
    """Sessions and caches, and aliases with other settings, have their own."""
    overrides = {"MODE": "warn"}
    guards = [
        guard_for("a"),
        guard_for("b"),
        guard_for("a", session=True),
        guard_for("a", overrides),
        guard_for("a", {"MODE": "warn"}),
    ]
    assert len(set(map(id, guards))) == 5
    assert guard_for("a", overrides) is guards[3]


def test_a_mistake_stops_whoever_needs_the_settings(settings: SettingsWrapper) -> None:
    """Where no check runs, the first use says the same."""
    settings.CONTEXTCACHE = {"MODE": "strp"}
    with pytest.raises(ImproperlyConfigured, match="did you mean 'strip'"):
        guard_for("cache in redis")


def test_a_disabled_logger_is_reported() -> None:
    """A logging configuration disables each logger that it does not name; then nothing is said."""
    logger = logging.getLogger("contextcache")
    logger.disabled = True
    try:
        told = [one for one in check_coverage() if one.id == "contextcache.W012"]
        assert [(one.msg, one.hint) for one in told] == [(DISABLED, ENABLE)]
    finally:
        logger.disabled = False
    assert "contextcache.W012" not in [one.id for one in check_coverage()]


@pytest.mark.parametrize(
    ("engine", "why", "hint"),
    [
        (
            "contextcache_django.session",
            "'contextcache_django.session' cannot be imported",
            "Did you mean 'contextcache_django.sessions'?",
        ),
        (
            "contextcache_django.sessions.SessionStore",
            "'contextcache_django.sessions.SessionStore' cannot be imported",
            "Did you mean 'contextcache_django.sessions'?",
        ),
        (
            "contextcache_django.serializers",
            "'contextcache_django.serializers' has no SessionStore",
            "Did you mean 'contextcache_django.sessions'?",
        ),
    ],
)
def test_a_session_engine_that_does_not_exist(
    settings: SettingsWrapper, engine: str, why: str, hint: str
) -> None:
    """The check says so before the first request fails."""
    settings.SESSION_ENGINE = engine
    assert Error(f"SESSION_ENGINE {why}.", hint=hint, id="contextcache.E006") in found()


def test_a_session_engine_that_does_not_exist_hides_no_other_mistake(
    settings: SettingsWrapper,
) -> None:
    """One run names all that there is to correct."""
    settings.SESSION_ENGINE = "contextcache_django.session"
    settings.CACHES = {"default": {**OURS, "LOCATION": "redis://127.0.0.1:6379/0?db=x"}}
    assert {"contextcache.E004", "contextcache.E006"} <= {one.id for one in found()}


@pytest.mark.parametrize("name", ["CONTEXT_CACHE", "CONTEXTCACHES", "CONTEXCACHE"])
def test_a_misspelled_setting(settings: SettingsWrapper, name: str) -> None:
    """It would have no effect, and nothing would say so."""
    setattr(settings, name, {"MODE": "raise"})
    assert found() == [
        Warning(
            f"{name} is not a setting that is read.",
            hint="Did you mean CONTEXTCACHE?",
            id="contextcache.W014",
        )
    ]


def test_an_ignored_pattern_with_a_misspelled_root(settings: SettingsWrapper) -> None:
    """No path begins so; roots of a project's own are left alone."""
    settings.CONTEXTCACHE = {"IGNORE": ["sesion['cart'].lock", "session['a']", "report.lock"]}
    assert found() == [
        Warning(
            """CONTEXTCACHE['IGNORE'] has "sesion['cart'].lock", and no path begins with """
            "'sesion'.",
            hint="Did you mean 'session'?",
            id="contextcache.W013",
        )
    ]


def test_the_checks_do_not_connect(settings: SettingsWrapper) -> None:
    """Django runs them with every command, whether or not Redis is there."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    settings.CACHES = {"default": {"BACKEND": BACKEND, "LOCATION": url}}
    assert found() == []
