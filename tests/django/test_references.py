"""Model instances stored by reference, a rule of the project's choice."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser, Group, User
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.test import Client as WebClient
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from contextcache.testing import capture_findings
from contextcache_django import by_reference
from contextcache_django.sessions import SessionStore
from contextcache_django.wire import Reference

if TYPE_CHECKING:
    import redis
    from pytest_django.fixtures import SettingsWrapper

    from contextcache_django.cache import RedisCache

pytestmark = [
    pytest.mark.usefixtures("cache"),
    pytest.mark.django_db(databases=["default", "archive"]),
]

LAZY = "django.utils.functional.SimpleLazyObject"


@pytest.fixture(autouse=True)
def by_choice(settings: SettingsWrapper) -> None:
    """The rule as a project writes it, for the base class of every user model."""
    rule = {"django.contrib.auth.base_user.AbstractBaseUser": by_reference}
    settings.CONTEXTCACHE = {"RULES": rule}


def queries(using: str = "default") -> CaptureQueriesContext:
    return CaptureQueriesContext(connections[using])


def stored(cache: RedisCache, value: object) -> Any:
    """Return what is read back, after a write that reports nothing and runs no query."""
    with capture_findings() as findings:
        cache.set("key", value)
    assert findings == []
    return cache.get("key")


def test_a_user_is_fetched_when_it_is_used_and_is_what_it_is_by_then(
    cache: RedisCache, server: redis.Redis
) -> None:
    """No field of the row is stored, and none is fetched before somebody asks."""
    user = User.objects.create_user("canary", password="canary")
    with queries() as asked:
        found = stored(cache, {"who": user})
        assert repr(found["who"]) == f"<Reference: auth.User {user.pk}>"
    assert len(asked) == 0
    assert b"canary" not in server.get(":1:key")
    User.objects.update(username="ada")
    with queries() as asked:
        assert found["who"].get_username() == "ada"
        assert found["who"].check_password("canary")
    assert len(asked) == 1
    assert isinstance(found["who"], User)
    assert found["who"] == user


def test_a_lazy_user_is_stored_by_reference_too(cache: RedisCache) -> None:
    """`request.user` is one; the rule for what is behind it makes its own finding needless."""
    user = User.objects.create_user("ada")
    found = stored(cache, {"who": SimpleLazyObject(lambda: user), "again": [user]})
    assert found["who"] is found["again"][0]
    assert found["who"].pk == user.pk


def test_a_rule_for_lazy_objects_takes_whatever_is_behind_them(
    cache: RedisCache, settings: SettingsWrapper
) -> None:
    """A model by reference, anything else as it is; a visitor without a login has no row."""
    settings.CONTEXTCACHE = {"RULES": {LAZY: by_reference}}
    user = User.objects.create_user("ada")
    value = [
        SimpleLazyObject(lambda: user),
        SimpleLazyObject(AnonymousUser),
        SimpleLazyObject(lambda: {"plain": 1}),
    ]
    found = stored(cache, value)
    assert type(found[0]) is Reference
    assert found[0].get_username() == "ada"
    assert type(found[1]) is AnonymousUser
    assert found[2] == {"plain": 1}


def test_a_reference_is_stored_again_without_being_fetched(cache: RedisCache) -> None:
    """A session that is read and saved costs no query."""
    user = User.objects.create_user("ada")
    session = SessionStore()
    session["who"] = user
    session.save()
    with queries() as asked, capture_findings() as findings:
        for _ in range(3):
            session = SessionStore(session.session_key)
            session["visits"] = session.get("visits", 0) + 1
            session.save()
    assert len(asked) == 0
    assert findings == []
    assert SessionStore(session.session_key)["who"] == user
    assert pickle.loads(pickle.dumps(session["who"])) == user


def test_a_row_that_is_gone_says_so(cache: RedisCache) -> None:
    """Whoever catches the model's own DoesNotExist catches this one."""
    user = User.objects.create_user("ada")
    found = stored(cache, user)
    user.delete()
    with pytest.raises(User.DoesNotExist) as caught:
        found.get_username()
    assert str(caught.value) == "this auth.User was deleted after a reference to it was stored"
    User.objects.create_user("bob")
    with pytest.raises(User.DoesNotExist):
        found.get_username()


def test_the_row_comes_from_the_database_it_was_read_from(cache: RedisCache) -> None:
    """Two databases may have different users under the same primary key."""
    User.objects.create_user("here", id=1)
    User.objects.db_manager("archive").create_user("there", id=1)
    found = stored(cache, [User.objects.using("archive").get(), User.objects.get()])
    with queries("archive") as asked:
        assert [user.get_username() for user in found] == ["there", "here"]
    assert len(asked) == 1


def test_what_was_never_saved_is_stored_whole(cache: RedisCache) -> None:
    """There is no row to refer to."""
    found = stored(cache, User(username="ada"))
    assert type(found) is User
    assert found.username == "ada"


def test_the_rule_holds_for_the_models_it_names(
    cache: RedisCache, settings: SettingsWrapper
) -> None:
    """Any model, by its own name; others are stored as before."""
    settings.CONTEXTCACHE = {"RULES": {"django.contrib.auth.models.Group": by_reference}}
    group = Group.objects.create(name="staff")
    found = stored(cache, [group, ContentType.objects.get_for_model(Group)])
    assert [type(one) for one in found] == [Reference, ContentType]
    assert found[0].name == "staff"


def test_a_deferred_row_needs_no_more_than_its_key(cache: RedisCache) -> None:
    """`only()` and `defer()` leave the primary key."""
    User.objects.create_user("ada")
    with queries() as asked:
        cache.set("key", User.objects.only("pk").get())
    assert len(asked) == 1
    assert cache.get("key").get_username() == "ada"


def test_copies_are_references(cache: RedisCache) -> None:
    """`copy` of a lazy object would otherwise make one that is stored whole."""
    found = stored(cache, User.objects.create_user("ada"))
    for made in (copy.copy(found), copy.deepcopy([found])[0]):
        assert type(made) is Reference
        assert made == found


def test_the_user_of_a_request(cache: RedisCache) -> None:
    """The page that caches `request.user` works, and there is nothing left to report."""
    user = User.objects.create_user("ada")
    visitor = WebClient()
    visitor.force_login(user)
    with capture_findings() as findings:
        assert visitor.get("/cache-user").content == b"ada"
    assert findings == []
    found = cache.get("user")["who"]
    assert type(found) is Reference
    assert found == user


@pytest.mark.django_db(transaction=True, databases=["default", "archive"])
def test_async_code_fetches_in_a_thread(cache: RedisCache) -> None:
    """As with any lazy query of Django's."""
    user = User.objects.create_user("ada")

    async def read() -> str:
        await cache.aset("key", user)
        found = await cache.aget("key")
        name: str = await sync_to_async(lambda: found.get_username())()
        return name

    assert async_to_sync(read)() == "ada"
