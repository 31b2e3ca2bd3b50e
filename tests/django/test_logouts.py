"""A logout is final in both session engines, whatever a request does that has read the session."""

from __future__ import annotations

import copy
import secrets
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import SESSION_KEY, login, update_session_auth_hash
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.models import Session
from django.test import RequestFactory

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=["sessions", "cached_db"])
def store(request: pytest.FixtureRequest, settings: SettingsWrapper) -> Any:
    """The class of one engine, over a Redis of its own."""
    location = f"fakeredis://{secrets.token_hex(8)}/0"
    backend = "contextcache_django.cache.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": location}}
    settings.SESSION_ENGINE = f"contextcache_django.{request.param}"
    settings.SESSION_SERIALIZER = "contextcache_django.serializers.JSONSessionSerializer"
    return import_module(settings.SESSION_ENGINE).SessionStore


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method of a session, or its async twin."""

    def called(session: Any, name: str, *args: Any) -> Any:
        if request.param == "sync":
            return getattr(session, name)(*args)
        return async_to_sync(getattr(session, f"a{name}"))(*args)

    return called


def logged_in(store: Any) -> str:
    """Return the id of a session that is logged in."""
    session = store()
    session["uid"] = 777
    session.save()
    return str(session.session_key)


def cycles(session: Any, call: Callable[..., Any]) -> None:
    call(session, "cycle_key")


def cycles_and_saves(session: Any, call: Callable[..., Any]) -> None:
    call(session, "cycle_key")
    call(session, "save")


def creates(session: Any, call: Callable[..., Any]) -> None:
    call(session, "create")


def flushes_and_fills(session: Any, call: Callable[..., Any]) -> None:
    data = dict(session.items())
    call(session, "flush")
    session.update(data)
    call(session, "save")


def flushes_and_fills_in_part(session: Any, call: Callable[..., Any]) -> None:
    uid = session["uid"]
    call(session, "flush")
    session["user"], session["since"] = uid, 1
    call(session, "save")


def flushes_and_fills_with_a_copy(session: Any, call: Callable[..., Any]) -> None:
    data = copy.deepcopy(dict(session.items()))
    call(session, "flush")
    session["again"] = [{"user": data["uid"]}]
    call(session, "save")


def saves(session: Any, call: Callable[..., Any]) -> None:
    session["seen"] = 1
    call(session, "save")


WAYS = [
    *(cycles, cycles_and_saves, creates, flushes_and_fills, flushes_and_fills_in_part),
    *(flushes_and_fills_with_a_copy, saves),
]


def password_change(session: Any, _: Callable[..., Any]) -> None:
    user = User.objects.create_user(secrets.token_hex(4), password="canary")
    request = RequestFactory().get("/")
    request.session, request.user = session, user
    update_session_auth_hash(request, user)
    session.save()


@pytest.mark.parametrize("way", [*WAYS, password_change])
def test_a_request_that_has_read_it_does_not_bring_it_back(
    store: Any, call: Callable[..., Any], way: Callable[..., None]
) -> None:
    """Django answers the error with 400, and nothing is stored under any id."""
    key = logged_in(store)
    page, elsewhere = store(key), store(key)
    assert page["uid"] == 777
    call(elsewhere, "load")
    call(elsewhere, "flush")
    with pytest.raises(UpdateError):
        way(page, call)
    assert store(page.session_key).load() == {}
    assert store(key).load() == {}
    with pytest.raises(UpdateError):
        call(page, "save")
    assert not Session.objects.exists()


@pytest.mark.parametrize("way", WAYS)
def test_without_a_logout_the_visitor_stays(
    store: Any, call: Callable[..., Any], way: Callable[..., None]
) -> None:
    """Under the id the request ends with."""
    page = store(logged_in(store))
    assert page["uid"] == 777
    way(page, call)
    assert "777" in str(store(page.session_key).load())


def test_a_view_that_meets_a_logout_is_answered_with_400(store: Any) -> None:
    """`cycle_key` raises in the view, where Django's middleware does not see it."""
    key = logged_in(store)
    page = store(key)
    assert page["uid"] == 777
    store(key).flush()
    with pytest.raises(SessionInterrupted):
        page.cycle_key()


def test_a_login_after_a_flush_needs_nothing_of_before(
    store: Any, call: Callable[..., Any]
) -> None:
    """As `login()` does for another user: it counts, even if the old session was gone."""
    key = logged_in(store)
    page = store(key)
    assert page["uid"] == 777
    call(store(key), "flush")
    call(page, "flush")
    page["uid"] = 888
    call(page, "save")
    assert store(page.session_key).load() == {"uid": 888}


def test_another_user_logs_in_where_the_old_session_was_gone(
    store: Any, call: Callable[..., Any]
) -> None:
    """By the same backend, of which the session holds the name as well."""
    ann, bob = (User.objects.create_user(name) for name in ("ann", "bob"))
    request = RequestFactory().get("/")
    request.session = store()
    login(request, ann, backend="django.contrib.auth.backends.ModelBackend")
    request.session.save()
    key = request.session.session_key
    request.session = store(key)
    assert request.session[SESSION_KEY] == str(ann.pk)
    call(store(key), "flush")
    login(request, bob, backend="django.contrib.auth.backends.ModelBackend")
    call(request.session, "save")
    assert store(request.session.session_key)[SESSION_KEY] == str(bob.pk)


def test_a_logout_keeps_a_cart_where_the_session_was_gone(
    store: Any, call: Callable[..., Any]
) -> None:
    """The page is no error, because nobody is logged in by what it stores."""
    request = RequestFactory().get("/")
    request.session = store()
    login(request, User.objects.create_user("ann"))
    request.session["cart"] = ["tea"]
    request.session.save()
    key = request.session.session_key
    page = store(key)
    cart = page["cart"]
    call(store(key), "flush")
    call(page, "flush")
    page["cart"] = cart
    call(page, "save")
    assert store(page.session_key).load() == {"cart": ["tea"]}


def test_a_session_that_is_created_anew_leaves_its_old_id(
    store: Any, call: Callable[..., Any]
) -> None:
    """What was read is not there twice, so a logout with either id ends it."""
    key = logged_in(store)
    page = store(key)
    assert page["uid"] == 777
    call(page, "create")
    assert page.session_key != key
    assert store(key).load() == {}
    call(store(key), "flush")
    assert store(page.session_key).load() == {}


def test_a_session_that_was_not_read_is_created_empty(store: Any, call: Callable[..., Any]) -> None:
    """And the one whose id was given is left as it was."""
    key = logged_in(store)
    page = store(key)
    call(page, "create")
    assert store(page.session_key).load() == {}
    assert store(key).load() == {"uid": 777}


@pytest.mark.parametrize("rotations", [1, 3])
def test_a_logout_with_the_old_id_finds_the_new_one(
    store: Any, call: Callable[..., Any], rotations: int
) -> None:
    """The response with the new cookie may still be on its way, or come after the logout."""
    key = logged_in(store)
    late = store(key)
    assert late["uid"] == 777
    page = store(key)
    for _ in range(rotations):
        call(page, "cycle_key")
    assert store(page.session_key).load() == {"uid": 777}
    call(late, "flush")
    assert store(page.session_key).load() == {}
    with pytest.raises(UpdateError):
        page.save()


def test_a_logout_that_comes_with_the_old_id_only_finds_the_new_one(
    store: Any, call: Callable[..., Any]
) -> None:
    """Reading it was a miss, and its id is remembered for the logout."""
    key = logged_in(store)
    page, late = store(key), store(key)
    call(page, "cycle_key")
    assert call(late, "load") == {}
    assert late.session_key is None
    call(late, "flush")
    assert store(page.session_key).load() == {}


def test_one_of_two_rotations_counts(store: Any, call: Callable[..., Any]) -> None:
    """The other one is told, and the visitor stays logged in by the first."""
    key = logged_in(store)
    first, second = store(key), store(key)
    assert first["uid"] == second["uid"] == 777
    call(first, "cycle_key")
    with pytest.raises(UpdateError):
        call(second, "cycle_key")
    assert store(first.session_key).load() == {"uid": 777}
    assert second.session_key == key
    assert store(key).load() == {}


def test_a_rotated_session_cannot_be_written_under_its_old_id(
    store: Any, call: Callable[..., Any]
) -> None:
    """A late save neither revives the old id nor hides where the session went."""
    key = logged_in(store)
    page, late = store(key), store(key)
    late["seen"] = late["uid"]
    call(page, "cycle_key")
    with pytest.raises(UpdateError):
        call(late, "save")
    assert not store().exists(key)
    call(store(key), "flush")
    assert store(page.session_key).load() == {}


@pytest.mark.parametrize("store", ["sessions"], indirect=True)
def test_a_tombstone_logs_nobody_in_and_is_signed(
    store: Any, settings: SettingsWrapper, redis_url: str, redis_client: redis.Redis
) -> None:
    """It lives for a minute, holds no id, and one that somebody else wrote is not followed."""
    settings.CACHES = {"default": {**settings.CACHES["default"], "LOCATION": redis_url}}
    key = logged_in(store)
    page = store(key)
    page.cycle_key()
    [place] = redis_client.keys("*:moved")
    assert 50 < redis_client.ttl(place) <= 60
    tombstone = redis_client.get(place)
    assert page.session_key.encode() not in tombstone
    old = place.removesuffix(b":moved")
    redis_client.set(old, tombstone)
    assert store(key).load() == {}  # under the key of a session it is worth nothing
    redis_client.delete(old)
    other = store(logged_in(store))
    [victim] = set(redis_client.keys()) - {place, page.redis_key(page.session_key).encode()}
    redis_client.set(place, victim)
    store(key).delete(key)
    assert other.load() == {"uid": 777}
