"""The three serializer slots, each in the stock backend it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.signing import JSONSerializer
from django.http import QueryDict
from django.test import Client as WebClient
from django.utils.module_loading import import_string

from contextcache import UncacheableValueError
from contextcache.testing import capture_findings
from contextcache_django.serializers import (
    CacheSerializer,
    DjangoRedisSerializer,
    JSONSessionSerializer,
    SessionSerializer,
)
from tests.django.shop import Client, generator
from tests.resolving import resolve
from tests.unavailable import needs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis
    from pytest_django.fixtures import SettingsWrapper

SLOT = "contextcache_django.serializers"


# The backend and the options of each slot.
SLOTS: dict[str, tuple[str, dict[str, Any]]] = {
    "django": (
        "django.core.cache.backends.redis.RedisCache",
        {"serializer": f"{SLOT}.CacheSerializer"},
    ),
    "django as class": (
        "django.core.cache.backends.redis.RedisCache",
        {"serializer": CacheSerializer},
    ),
    "django-redis": (
        "django_redis.cache.RedisCache",
        {"SERIALIZER": f"{SLOT}.DjangoRedisSerializer"},
    ),
    "django-valkey": (
        "django_valkey.cache.ValkeyCache",
        {"SERIALIZER": f"{SLOT}.DjangoRedisSerializer"},
    ),
    "django-cachex": (
        "django_cachex.cache.RedisCache",
        {"serializer": f"{SLOT}.CacheSerializer"},
    ),
    "django-cachex with valkey": (
        "django_cachex.cache.ValkeyCache",
        {"serializer": f"{SLOT}.CacheSerializer"},
    ),
}


UNAVAILABLE = {
    "django-valkey": needs("django-valkey"),
    "django-cachex": needs("django-cachex"),
    "django-cachex with valkey": needs("django-cachex"),
}


@pytest.fixture(params=[pytest.param(slot, marks=UNAVAILABLE.get(slot, ())) for slot in SLOTS])
def stock(
    request: pytest.FixtureRequest,
    settings: SettingsWrapper,
    redis_url: str,
    redis_client: redis.Redis,
) -> Any:
    """A stock backend on a real Redis, with nothing of ours but the serializer."""
    backend, options = SLOTS[request.param]
    url = redis_url.replace("redis://", "valkey://") if "Valkey" in backend else redis_url
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": url, "OPTIONS": options}}
    return caches["default"]


@pytest.mark.parametrize("value", [True, False, 0, 42, -1, "42", b"42", None, {"a": (1, 2)}])
def test_a_clean_value_comes_back_through_a_stock_backend(stock: Any, value: object) -> None:
    """Type included; bools are not numbers."""
    if value == -1 and type(stock).__module__.startswith("django_valkey."):
        value = -2.5  # with any serializer, django-valkey 0.4 reads -1 as -1.0
    stock.set("key", value, timeout=60)
    assert stock.get("key", "default") == value
    assert type(stock.get("key", "default")) is type(value)


def test_a_stock_backend_still_counts(stock: Any, redis_client: redis.Redis) -> None:
    """Ints pass through raw."""
    stock.set("number", 41)
    assert redis_client.get(":1:number") == b"41"
    assert stock.incr("number") == 42


def test_a_stock_backend_stores_what_it_could_not(stock: Any) -> None:
    """The finding cannot name the key, and says so."""
    with capture_findings() as findings:
        stock.set("key", Client())
        stock.set_many({"other": Client()})
    assert stock.get("key").id == 7
    assert {str(finding.path) for finding in findings} == {
        "cache[...]._lock",
        "cache[...]._local",
    }
    assert {finding.sink for finding in findings} == {"cache in redis"}


def test_a_stock_backend_raises_where_nothing_can_be_stored(stock: Any) -> None:
    """A serializer has no way to skip the write."""
    with pytest.raises(UncacheableValueError):
        stock.set("key", generator())


@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_an_unreadable_payload_in_a_stock_backend(
    stock: Any,
    settings: SettingsWrapper,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    """None, whatever the mode, and a warning that says so: the slot cannot report a miss."""
    settings.CONTEXTCACHE = {"MODE": mode}
    redis_client.set(":1:rotten", b"garbage")
    assert stock.get("rotten", "default") is None
    assert stock.get_or_set("rotten", "default") is None
    assert stock.get_many(["rotten"]) == {"rotten": None}
    warning = next(record for record in caplog.records if record.name == "contextcache")
    assert warning.getMessage().startswith(
        "contextcache: cache[...] cannot be read and comes back as None, also from get(key, "
        "default) and get_or_set: a serializer cannot report a miss "
        "(contextcache_django.cache.RedisCache can): "
    )


def test_what_djangos_own_suite_asks_of_a_serializer() -> None:
    """It is made without arguments; ints pass, and a bool does not."""
    serializer = CacheSerializer()
    assert serializer.dumps(123) == 123
    assert isinstance(serializer.dumps(True), bytes)
    assert isinstance(serializer.dumps("abc"), bytes)
    assert serializer.loads(serializer.dumps("abc")) == "abc"  # type: ignore[arg-type]
    assert serializer.loads(b"-123") == -123


def test_what_django_redis_asks_of_a_serializer() -> None:
    """It is made with the options, and always answers bytes."""
    serializer = DjangoRedisSerializer({"CONTEXTCACHE": {"MODE": "raise"}})
    assert serializer.loads(serializer.dumps(123)) == 123
    with pytest.raises(UncacheableValueError):
        serializer.dumps(Client())


# --- Sessions of Django's own engines -----------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize("engine", ["db", "file", "signed_cookies", "cached_db"])
def test_the_engines_of_django_that_have_a_serializer(
    settings: SettingsWrapper, tmp_path: Path, engine: str
) -> None:
    """A cart that JSON refuses is stored without its lock, and signed as before."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_SERIALIZER = f"{SLOT}.SessionSerializer"
    settings.SESSION_FILE_PATH = str(tmp_path)
    visitor = WebClient()
    with capture_findings() as findings:
        assert visitor.get("/cart").status_code == 200
    places = {"db": "the database", "cached_db": "the database", "file": "files"}
    sink = f"session in {places.get(engine, 'the cookie')}"
    assert {str(finding.path) for finding in findings if finding.sink == sink} == {
        "session['cart'].items[1].client._lock",
        "session['cart'].items[1].client._local",
    }
    assert visitor.get("/session").json()["items"] == ["tea", "cup"]


def test_a_session_key_that_can_only_be_stripped_is_left_out() -> None:
    """As in our own engine."""
    serializer = SessionSerializer()
    payload = serializer.dumps({"rows": generator(), "visits": 3})
    assert serializer.loads(payload) == {"visits": 3}


def test_an_unreadable_session_is_reported_before_django_swallows_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Django's engines answer an empty session without a word."""
    settings_store = import_string("django.contrib.sessions.backends.db.SessionStore")()
    settings_store.serializer = SessionSerializer
    from django.core import signing

    class Garbage:
        def dumps(self, value: object) -> bytes:
            return b"garbage"

    data = signing.dumps({}, salt=settings_store.key_salt, serializer=Garbage, compress=True)
    assert settings_store.decode(data) == {}
    [warning] = [record for record in caplog.records if record.name == "contextcache"]
    assert "session cannot be read" in warning.getMessage()


@pytest.mark.parametrize(
    ("before", "now", "reason"),
    [
        (JSONSerializer, SessionSerializer, "it is JSON, from before SESSION_SERIALIZER was set"),
        (SessionSerializer, JSONSessionSerializer, "it is no JSON"),
    ],
)
def test_a_session_from_before_another_serializer_was_set(
    caplog: pytest.LogCaptureFixture, before: type[Any], now: type[Any], reason: str
) -> None:
    """Everybody signs in once more, and the log says why."""
    store = import_string("django.contrib.sessions.backends.db.SessionStore")()
    store.serializer = before
    data = store.encode({"visits": 3})
    store.serializer = now
    assert store.decode(data) == {}
    [warning] = [record for record in caplog.records if record.name == "contextcache"]
    assert warning.getMessage() == (
        f"contextcache: session cannot be read and counts as a miss: {reason}; "
        "do nothing: the visitor gets a new session"
    )


# --- Sessions as JSON, which is the default -------------------------------------------------------

ENGINES = ["db", "file", "signed_cookies", "cached_db"]


@pytest.fixture(params=ENGINES)
def json_session(
    request: pytest.FixtureRequest, settings: SettingsWrapper, tmp_path: Path
) -> Callable[..., Any]:
    """Make sessions of one of Django's engines, written by our serializer."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{request.param}"
    settings.SESSION_SERIALIZER = f"{SLOT}.JSONSessionSerializer"
    settings.SESSION_FILE_PATH = str(tmp_path)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    return import_string(f"{settings.SESSION_ENGINE}.SessionStore")


@pytest.mark.django_db
def test_a_value_json_cannot_hold_is_named_and_left_out(json_session: Callable[..., Any]) -> None:
    """Where Django says `Object of type Client is not JSON serializable` and answers 500."""
    session = json_session()
    session["cart"] = {"items": [{"client": Client()}], "note": "gift"}
    session["visits"] = 3
    with capture_findings() as findings:
        session.save()
    assert [(one.code, str(one.path)) for one in findings] == [
        ("CC140", "session['cart']['items'][0]['client']")
    ]
    found = json_session(session.session_key)
    assert found["visits"] == 3
    assert found["cart"] == {"items": [{}], "note": "gift"}


@pytest.mark.django_db
def test_what_json_changes_is_named_and_stored_as_ever(json_session: Callable[..., Any]) -> None:
    """The reader meets a list and text keys, today and tomorrow; now somebody says so."""
    session = json_session()
    session["size"] = (1, 2)
    session["counts"] = {7: "seven"}
    with capture_findings() as findings:
        session.save()
    assert {(one.code, str(one.path)) for one in findings} == {
        ("CC141", "session['size']"),
        ("CC141", "session['counts']"),
    }
    found = json_session(session.session_key)
    assert (found["size"], found["counts"]) == ([1, 2], {"7": "seven"})


@pytest.mark.django_db
@pytest.mark.parametrize("where", [lambda q: q, lambda q: {"last": [q]}])
def test_a_query_with_several_values_of_a_key_says_that_some_are_lost(
    json_session: Callable[..., Any], where: Callable[[Any], Any]
) -> None:
    """The next request reads the last value of each; the fix keeps all of them."""
    query = QueryDict("cat=1&cat=2&page=3")
    session = json_session()
    session["filter"] = where(query)
    with capture_findings() as findings:
        session.save()
    [finding] = findings
    assert finding.did == "stored the last value of each key; the others are lost"
    assert finding.fix == "store dict(value.lists()), such as dict(request.GET.lists())"
    assert resolve(finding.path, {"filter": where(query)}) is query
    assert json_session(session.session_key)["filter"] == where({"cat": "2", "page": "3"})
    session["filter"] = where(dict(query.lists()))
    with capture_findings() as findings:
        session.save()
    assert findings == []
    assert json_session(session.session_key)["filter"] == where({"cat": ["1", "2"], "page": ["3"]})


@pytest.mark.django_db
def test_a_clean_session_is_the_json_django_writes(json_session: Callable[..., Any]) -> None:
    """Byte for byte, so the serializer can be put in and taken out at any time."""
    value = {"_auth_user_id": "7", "cart": [1, 2.5, None, True, {"a": "ü"}]}
    with capture_findings() as findings:
        payload = JSONSessionSerializer().dumps(value)
    assert payload == JSONSerializer().dumps(value)
    assert findings == []


def test_the_modes_of_json_sessions(settings: SettingsWrapper) -> None:
    """`warn` fails as Django does, with the path; `raise` refuses a change, too."""
    settings.CONTEXTCACHE = {"MODE": "warn"}
    assert JSONSessionSerializer().dumps({"size": (1, 2)}) == b'{"size":[1,2]}'
    with pytest.raises(UncacheableValueError, match=r"session\['client'\]"):
        JSONSessionSerializer().dumps({"client": Client()})
    settings.CONTEXTCACHE = {"MODE": "raise"}
    with pytest.raises(UncacheableValueError, match=r"session\['size'\]"):
        JSONSessionSerializer().dumps({"size": (1, 2)})


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.django_db
@pytest.mark.parametrize("levels", [50, 150, 400, 700, 950, 3000])
def test_a_visitor_may_choose_how_deep_a_json_session_is(
    json_session: Callable[..., Any], levels: int
) -> None:
    """What could not be read back is not written, and the rest of the session stays."""
    session = json_session()
    session["filter"], session["user"] = nested(levels), "ann"
    with capture_findings() as findings:
        session.save()
    assert json_session(session.session_key)["user"] == "ann"
    assert {(one.code, str(one.path)) for one in findings} <= {
        ("CC130", "session['filter']"),
        ("CC142", "session['filter']"),
    }


@pytest.mark.django_db
def test_a_json_session_that_is_too_deep_to_be_read_is_reported(
    json_session: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Django makes an empty session of it, as of any that cannot be read."""
    session = json_session()
    payload = b"[" * 100_000 + b"]" * 100_000
    session.serializer = type("Raw", (), {"dumps": lambda self, obj: payload})
    stored = session.encode({})
    session.serializer = JSONSessionSerializer
    assert session.decode(stored) == {}
    assert "session cannot be read and counts as a miss: it is nested too deep" in caplog.text
