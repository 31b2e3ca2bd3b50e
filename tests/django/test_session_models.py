"""`cached_db` over a session model of the project, with columns and references of its own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import DatabaseError, DataError, connection, models
from django.utils import timezone

from contextcache_django import cached_db
from contextcache_django.cached_db import MOVED_PREFIX
from contextcache_django.sessions import LoggedOutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db(transaction=True)


class OwnSession(AbstractBaseSession):
    """A session of at most one for each account."""

    account = models.CharField(max_length=40, unique=True, null=True)
    kind = models.CharField(max_length=10)

    class Meta:
        app_label = "sessions"

    @classmethod
    def get_session_store_class(cls) -> type[SessionStore]:
        return SessionStore


class Cart(models.Model):
    session = models.ForeignKey(OwnSession, on_delete=models.CASCADE)

    class Meta:
        app_label = "sessions"


for _model in (OwnSession, Cart):  # in no other test
    del apps.all_models["sessions"][_model.__name__.lower()]
apps.clear_cache()


class SessionStore(cached_db.SessionStore):
    """As Django's manual shows it."""

    @classmethod
    def get_model_class(cls) -> type[OwnSession]:
        return OwnSession

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        row = super().create_model_instance(data)
        row.account = data.get("account")
        row.kind = "user" if row.account else "visitor"
        return row

    async def acreate_model_instance(self, data: dict[str, Any]) -> Any:
        return self.create_model_instance(data)


@pytest.fixture(autouse=True)
def _tables(settings: SettingsWrapper, transactional_db: None) -> Iterator[None]:
    backend = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "session models"}}
    registered = apps.all_models["sessions"]
    registered.update(ownsession=OwnSession, cart=Cart)
    apps.clear_cache()
    try:
        with connection.schema_editor() as editor:
            editor.create_model(OwnSession)
            editor.create_model(Cart)
        yield
        with connection.schema_editor() as editor:
            editor.delete_model(Cart)
            editor.delete_model(OwnSession)
    finally:
        del registered["ownsession"], registered["cart"]
        apps.clear_cache()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call a method of a session, or its async twin."""

    def called(session: Any, name: str) -> Any:
        if request.param == "sync":
            return getattr(session, name)()
        return async_to_sync(getattr(session, f"a{name}"))()

    return called


def saved() -> SessionStore:
    session = SessionStore()
    session.update({"account": "ann", "address": "Elm Street"})
    session.save()
    return session


def test_a_tombstone_holds_nothing_of_the_session(call: Callable[..., Any]) -> None:
    """No query by a column of the model finds it, and a unique column is free for the new row."""
    session = saved()
    call(session, "cycle_key")
    [row] = OwnSession.objects.filter(account="ann")
    assert row.session_key == session.session_key
    [tombstone] = OwnSession.objects.filter(session_key__startswith=MOVED_PREFIX)
    assert (tombstone.account, tombstone.kind) == (None, "visitor")
    assert list(tombstone.get_decoded().values()) == [session.session_key]
    assert not OwnSession.objects.filter(
        expire_date__gt=timezone.now(), session_key__startswith=MOVED_PREFIX
    ).exists()


def test_rows_that_refer_to_a_session_go_with_it(call: Callable[..., Any]) -> None:
    """As with Django's own engine, and a rotation does not fail because of them."""
    session = saved()
    Cart.objects.create(session_id=session.session_key)
    old = session.session_key
    call(session, "cycle_key")
    assert not Cart.objects.exists()
    assert SessionStore(session.session_key).load()["account"] == "ann"
    Cart.objects.create(session_id=session.session_key)
    SessionStore(old).delete(old)
    assert not OwnSession.objects.exists()
    assert not Cart.objects.exists()


def test_a_deleted_session_with_references_is_not_rotated(call: Callable[..., Any]) -> None:
    session = saved()
    assert session["account"] == "ann"
    SessionStore(session.session_key).flush()
    with pytest.raises(LoggedOutError):
        call(session, "cycle_key")
    assert not OwnSession.objects.exists()


def test_clearsessions_leaves_tombstones_to_late_logouts(call: Callable[..., Any]) -> None:
    """For the minute in which a logout follows them."""
    session = saved()
    old = session.session_key
    session.cycle_key()
    call(SessionStore, "clear_expired")
    tombstone = OwnSession.objects.get(session_key__startswith=MOVED_PREFIX)
    SessionStore(old).delete(old)
    assert not OwnSession.objects.exists()
    for minutes, key in ((2, tombstone.session_key), (0, "expired")):
        tombstone.session_key = key
        tombstone.expire_date = timezone.now() - timedelta(minutes=minutes, seconds=1)
        tombstone.save(force_insert=True)
    call(SessionStore, "clear_expired")
    assert not OwnSession.objects.exists()


@pytest.mark.parametrize("refusal", [DataError, DatabaseError])
def test_what_a_database_refuses_is_no_logout(
    monkeypatch: pytest.MonkeyPatch, refusal: type[DatabaseError]
) -> None:
    """Django's `UpdateError` would tell the visitor that he has logged out."""
    session = saved()

    def refuse(*_: object, **__: object) -> None:
        raise refusal from ValueError()

    monkeypatch.setattr(OwnSession, "save", refuse)
    with pytest.raises(DatabaseError) as caught:
        session.save()
    assert not isinstance(caught.value, UpdateError)
    assert type(caught.value) is refusal
