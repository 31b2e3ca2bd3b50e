"""Rows of user models: stored without the password hash, wherever they hang, and reported."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, models
from django.utils.functional import LazyObject, SimpleLazyObject

from contextcache import Config, Guard, UncacheableValueError, explain
from contextcache.testing import assert_cacheable, capture_findings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db


class LogEntry(models.Model):
    user = models.ForeignKey(User, on_delete=models.DO_NOTHING)
    text = models.TextField()

    class Meta:
        app_label = "auth"
        db_table = "test_user_rows"


@pytest.fixture(scope="module", autouse=True)
def _table(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock():
        with connection.schema_editor() as editor:
            editor.create_model(LogEntry)
        yield
        with connection.schema_editor() as editor:
            editor.delete_model(LogEntry)


@dataclass
class Order:
    owner: Any


class Current(LazyObject):
    def __init__(self, user: User) -> None:
        super().__init__()
        self._wrapped = user

    def _setup(self) -> None:
        raise AssertionError


@pytest.fixture
def ann() -> User:
    user = User.objects.create_user("ann", "ann@example.test", "canary-7f3a9c")
    user.groups.add(Group.objects.create(name="staff"))
    for at in range(2):
        LogEntry.objects.create(user=user, text=str(at))
    return user


def entry() -> LogEntry:
    return LogEntry.objects.select_related("user").first()


def groups() -> Any:
    return Group.objects.prefetch_related("user_set")


SHAPES = {
    "row": (lambda ann: ann, "v"),
    "dict": (lambda ann: {"owner": ann}, "v['owner']"),
    "nested": (lambda ann: [[{"a": (1, ann)}]], "v[0][0]['a'][1]"),
    "attribute": (Order, "v.owner"),
    "key": (lambda ann: {ann: 1}, "v<key 0>"),
    "set": (lambda ann: {ann}, "v{0}"),
    "copy": (lambda ann: [copy.copy(ann)], "v[0]"),
    "deep copy": (lambda ann: [copy.deepcopy(ann)], "v[0]"),
    "fetched": (lambda _: User.objects.get(), "v"),
    "joined": (lambda _: entry(), "v.user"),
    "joined in a list": (lambda _: {"log": [entry()]}, "v['log'][0].user"),
    "related": (lambda ann: list(ann.logentry_set.all()), "v[0].user"),
    "prefetched": (lambda _: groups().get(), "v.user_set.all()[0]"),
    "results": (lambda _: User.objects.all(), "v[0]"),
    "joined results": (lambda _: LogEntry.objects.select_related("user")[:1], "v[0].user"),
    "hints": (lambda ann: ann.groups.all(), "v"),
    "related results": (lambda ann: ann.logentry_set.all()[:1], "v[0].user"),
    "filter": (lambda ann: LogEntry.objects.filter(user=ann)[:1], "v"),
    "lazy": (lambda ann: {"who": SimpleLazyObject(lambda: ann)}, "v['who']"),
    "other lazy": (lambda ann: {"who": Current(ann)}, "v['who']"),
    "lazy in a row": (
        lambda ann: LogEntry(user=SimpleLazyObject(lambda: ann), text="x"), "v.user"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_the_hash_is_not_stored_and_the_field_is_named(name: str, ann: User) -> None:
    """However the row is held; the path is what a developer writes."""
    make, path = SHAPES[name]
    with capture_findings() as findings:
        payload = Guard().dumps(make(ann), label="v")
    assert ann.password.encode() not in payload
    assert [str(finding.path) for finding in findings] == [path]
    assert "password hash" in findings[0].did + findings[0].reason
    again = Guard(Config(mode="raise"))
    with pytest.raises(UncacheableValueError):
        again.dumps(make(ann), label="v")
    with pytest.raises(AssertionError):
        assert_cacheable(make(ann))
    observed = Guard(Config(mode="warn")).dumps(make(ann), label="v")
    assert ann.password.encode() in observed


@pytest.mark.parametrize("name", SHAPES)
def test_a_site_that_knows_the_row_stores_no_hash_either(name: str, ann: User) -> None:
    """What was reported before takes the fast pass."""
    make, _ = SHAPES[name]
    guard = Guard()
    for _ in range(12):
        assert ann.password.encode() not in guard.dumps(make(ann), label="v")
    assert sum(finding.count for finding in guard.summary()) == 12


def test_all_else_is_equal_and_the_password_is_read_from_the_database(ann: User) -> None:
    """The row works after load."""
    ann.nick = "annie"  # type: ignore[attr-defined]
    found = pickle.loads(Guard().dumps(ann))
    before = {key: held for key, held in ann.__dict__.items() if key not in ("_state", "password")}
    after = {key: held for key, held in found.__dict__.items() if key not in ("_state",)}
    before.pop("_password", None)
    after.pop("_django_version", None)
    assert after == before
    assert found == ann
    assert found.get_deferred_fields() == {"password"}
    assert found.check_password("canary-7f3a9c")


def test_what_is_loaded_from_a_cache_is_clean(ann: User) -> None:
    """A row without the field has nothing to report, and is stored as pickle stores it."""
    guard = Guard()
    found = pickle.loads(guard.dumps(ann))
    assert explain(found) == []
    assert guard.dumps(found) == pickle.dumps(found, 5)


def test_a_row_that_is_not_saved_keeps_its_hash_but_never_the_password() -> None:
    """No database could be asked for it."""
    user = User(username="bob")
    user.set_password("canary-7f3a9c")
    with capture_findings() as findings:
        payload = Guard().dumps({"new": user}, label="v")
    assert b"canary-7f3a9c" not in payload
    assert user.password.encode() in payload
    assert [(str(finding.path), finding.code) for finding in findings] == [("v['new']", "CC120")]
    assert "not saved" in findings[0].did
    found = pickle.loads(payload)["new"]
    assert found.check_password("canary-7f3a9c")


def test_a_changed_password_is_not_stored_before_the_row_is_saved(ann: User) -> None:
    """`set_password` keeps the password itself until `save`."""
    ann.set_password("canary-new-1")
    payload = Guard().dumps(ann)
    assert b"canary-new-1" not in payload
    assert ann.password.encode() not in payload


def test_a_row_without_a_password_is_clean() -> None:
    """Such as one that is being registered."""
    user = User(username="bob")
    assert explain(user) == []
    assert explain(User.objects.none()) == []


def test_no_code_is_printed_that_would_store_less(ann: User) -> None:
    """The guard stores the user; a `__getstate__` without it would not."""
    (finding,) = explain(Order(ann))
    assert finding.patch == ""
    assert json.dumps(finding.as_dict())
