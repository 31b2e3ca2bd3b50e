"""The session engine that keeps sessions in the database and reads them from a cache."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import pytest
import redis
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.db import OperationalError, connection
from django.test import Client as WebClient
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from contextcache import ServerError
from contextcache.testing import capture_findings
from contextcache_django.cached_db import KEY_PREFIX, SessionStore
from tests.django.shop import Client
from tests.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db

CACHES = {
    "ours": {"BACKEND": "contextcache_django.cache.RedisCache"},
    "guarded": {
        "BACKEND": "contextcache_django.cache.GuardedCache",
        "OPTIONS": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    },
    "stock": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}


@pytest.fixture(autouse=True, params=CACHES)
def engine(request: pytest.FixtureRequest, settings: SettingsWrapper) -> str:
    """The engine of the project, on caches of several kinds."""
    where = secrets.token_hex(8)
    location = f"fakeredis://{where}/0" if request.param == "ours" else where
    settings.CACHES = {"default": {**CACHES[request.param], "LOCATION": location}}
    settings.SESSION_ENGINE = "contextcache_django.cached_db"
    settings.SESSION_SERIALIZER = "contextcache_django.serializers.JSONSessionSerializer"
    kind: str = request.param
    return kind


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method of a session, or its async twin."""

    def called(session: SessionStore, name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(session, name)(*args, **kwargs)
        return async_to_sync(getattr(session, f"a{name}"))(*args, **kwargs)

    return called


def saved(**items: object) -> SessionStore:
    session = SessionStore()
    session.update(items)
    session.save()
    return session


def queries() -> CaptureQueriesContext:
    return CaptureQueriesContext(connection)


def break_cache(settings: SettingsWrapper) -> None:
    """Put a Redis that cannot be reached in the place of the cache."""
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": f"redis://127.0.0.1:{free_port()}/0",
        }
    }


@pytest.mark.django_db(transaction=True)
def test_a_session_is_read_from_the_cache_without_a_query(call: Callable[..., Any]) -> None:
    """And from the database where the cache has forgotten it, once."""
    session = SessionStore()
    session["visits"] = 3
    call(session, "save")
    key = session.session_key
    with queries() as asked:
        assert call(SessionStore(key), "get", "visits") == 3
    assert len(asked) == 0
    caches["default"].clear()
    with queries() as asked:
        assert call(SessionStore(key), "get", "visits") == 3
        assert call(SessionStore(key), "get", "visits") == 3
    assert len(asked) == 2  # the row, and whether it was still there after caching it


@pytest.mark.parametrize("spoiled", [7, None, ["a list"]])
def test_an_entry_that_cannot_be_read_does_not_stay(
    call: Callable[..., Any], spoiled: object
) -> None:
    """Else every request would ask the database until it expires."""
    key = saved(visits=3).session_key
    place = KEY_PREFIX + hashlib.sha256(str(key).encode()).hexdigest()
    assert caches["default"].has_key(place)
    caches["default"].set(place, spoiled, 1000)
    for _ in range(2):
        assert call(SessionStore(key), "get", "visits") == 3
    with queries() as asked:
        assert call(SessionStore(key), "get", "visits") == 3
    assert len(asked) == 0


def test_what_is_hot_is_what_is_cold() -> None:
    """Django's own engine answers a tuple from its cache and a list from its database."""
    with capture_findings() as findings:
        session = saved(size=(1, 2), counts={7: "seven"}, client=Client())
    assert {(one.code, str(one.path)) for one in findings} == {
        ("CC141", "session['size']"),
        ("CC141", "session['counts']"),
        ("CC140", "session['client']"),
    }
    assert {one.sink for one in findings} == {"session in the database"}
    hot = dict(SessionStore(session.session_key).items())
    caches["default"].clear()
    assert hot == dict(SessionStore(session.session_key).items())
    assert hot == {"size": [1, 2], "counts": {"7": "seven"}}


@pytest.mark.django_db(transaction=True)
def test_a_session_that_was_logged_out_elsewhere_is_not_resurrected(
    call: Callable[..., Any],
) -> None:
    """Neither in the database nor in the cache."""
    session = saved(visits=1)
    key = session.session_key
    other_tab = SessionStore(key)
    assert other_tab["visits"] == 1
    call(session, "flush")
    other_tab["visits"] = 2
    with pytest.raises(UpdateError):
        call(other_tab, "save")
    found = SessionStore(key)
    assert dict(found.items()) == {}
    assert found.session_key is None


def test_a_logout_between_reading_and_caching_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader looks once more, and takes back what it has cached."""
    session = saved(visits=1)
    key = session.session_key
    caches["default"].clear()
    reader = SessionStore(key)
    read = reader._get_session_from_db

    def read_and_log_out() -> Any:
        row = read()
        SessionStore().delete(key)
        return row

    monkeypatch.setattr(reader, "_get_session_from_db", read_and_log_out)
    assert dict(reader.items()) == {}
    assert reader.session_key is None
    assert dict(SessionStore(key).items()) == {}


def test_a_reader_that_was_overtaken_by_a_logout_caches_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even if it cannot take back what it has cached: the logout has left a marker there."""
    key = saved(visits=1).session_key
    caches["default"].clear()
    reader = SessionStore(key)
    read = reader._get_session_from_db

    def read_and_log_out() -> Any:
        row = read()
        SessionStore().delete(key)
        return row

    def fail(_: str) -> None:
        raise ServerError

    monkeypatch.setattr(reader, "_get_session_from_db", read_and_log_out)
    monkeypatch.setattr(reader, "_uncache", fail)
    with pytest.raises(ServerError):
        reader.load()
    assert SessionStore(key).load() == {}


def test_a_save_that_was_overtaken_by_a_logout_caches_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The row is written first, and where there is none, the cache is left as it is."""
    session = saved(visits=1)
    late = SessionStore(session.session_key)
    late["visits"] = late["visits"] + 1
    session.flush()
    with monkeypatch.context() as patch:
        patch.setattr(late, "_cache_text", lambda *_, **__: pytest.fail("it was cached"))
        with pytest.raises(UpdateError):
            late.save()
    assert SessionStore(late.session_key).load() == {}


def test_a_new_session_never_overwrites_one() -> None:
    """Not in the cache either."""
    session = saved(visits=1)
    twin = SessionStore(session.session_key)
    twin["visits"] = 2
    with pytest.raises(CreateError):
        twin.save(must_create=True)
    assert SessionStore(session.session_key)["visits"] == 1


def test_an_id_we_did_not_give_out_is_not_adopted() -> None:
    """A session id planted by somebody else is replaced."""
    planted = SessionStore("planted0planted0planted0planted0")
    assert dict(planted.items()) == {}
    assert planted.session_key is None


def test_a_login_changes_the_session_id(settings: SettingsWrapper) -> None:
    """And the old row is gone, with its copy in the cache."""
    User.objects.create_user("ada", password="canary")
    visitor = WebClient()
    visitor.get("/visit")
    before = visitor.cookies[settings.SESSION_COOKIE_NAME].value
    visitor.get("/login")
    after = visitor.cookies[settings.SESSION_COOKIE_NAME].value
    assert before != after
    live = Session.objects.filter(expire_date__gt=timezone.now())
    assert [row.session_key for row in live] == [after]
    assert SessionStore(before).load() == {}
    assert visitor.get("/session").json()["user"] == "ada"


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_the_key_in_the_cache_is_a_hash_of_the_session_id(engine: str) -> None:
    """Who can list the keys learns no session id."""
    session = saved(visits=1)
    cache: Any = caches["default"]
    keys = [key.decode() for key in cache.connection().scan_iter()]
    assert keys == [f":1:{KEY_PREFIX}{keys[0].rpartition('.')[2]}"]
    assert session.session_key not in keys[0]


@pytest.mark.django_db(transaction=True)
def test_a_cache_that_cannot_be_reached_costs_a_query_and_a_warning(
    call: Callable[..., Any], settings: SettingsWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """The session is there, can be changed, and is there afterwards."""
    session = saved(visits=1)
    break_cache(settings)
    reader = SessionStore(session.session_key)
    assert call(reader, "get", "visits") == 1
    reader["visits"] = 2
    call(reader, "save")
    assert Session.objects.get().get_decoded() == {"visits": 2}
    assert {record.getMessage() for record in caplog.records} == {
        (
            "contextcache: the cache of the sessions cannot be reached (ConnectionError); "
            "the database was asked"
        )
    }


@pytest.mark.django_db(transaction=True)
def test_a_logout_that_would_be_undone_fails(
    call: Callable[..., Any], settings: SettingsWrapper
) -> None:
    """The entry would still be in the cache when it is back, so the visitor is told."""
    session = saved(visits=1)
    break_cache(settings)
    for _ in range(2):  # to try again is no logout either
        with pytest.raises(redis.ConnectionError):
            call(SessionStore(session.session_key), "flush")
    assert Session.objects.get().get_decoded() == {"visits": 1}


@pytest.mark.parametrize("engine", ["ours"], indirect=True)
def test_an_outage_of_our_cache_is_a_503_for_a_logout_only(settings: SettingsWrapper) -> None:
    """Pages that read or write the session are served from the database."""
    User.objects.create_user("ada", password="canary")
    visitor = WebClient(raise_request_exception=False)
    visitor.get("/login")
    settings.CACHES = {
        "default": {**CACHES["ours"], "LOCATION": f"redis://127.0.0.1:{free_port()}/0"}
    }
    assert visitor.get("/visit").content == b"1"
    assert visitor.get("/session").json()["user"] == "ada"
    assert visitor.get("/logout").status_code == 503
    assert settings.SESSION_COOKIE_NAME in visitor.cookies


def test_a_database_that_cannot_be_reached_is_not_a_logout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Django raises `UpdateError` for any error, which its middleware words as "logged out"."""
    session = saved(visits=1)

    def down(*_: object, **__: object) -> None:
        raise OperationalError("canary")

    monkeypatch.setattr(Session, "save", down)
    with pytest.raises(OperationalError):
        session.save()
