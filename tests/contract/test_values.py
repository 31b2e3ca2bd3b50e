"""What every guarded cache does with values, whatever framework and backend it has."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from contextcache import UncacheableValueError
from contextcache.testing import capture_findings
from tests.contract.stores import MISS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.contract.stores import Store

VALUES = [
    *(True, False, 0, 7, -5, 10**17, 1.5, "text", "", "42", b"bytes", b"!", b"42", b"\xcc"),
    *({"a": [1, {2}]}, (1,), [], {}, frozenset({"x"}), 2**70),
]


class Basket:
    """A value that holds a lock."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._lock = threading.Lock()


class Vanishing:
    """Its class is taken away after an instance has been stored, as by a deployment."""


class Key(str):
    """A key whose words are the user's."""

    __slots__ = ()

    def __repr__(self) -> str:
        pytest.fail("a repr of the user's was run")


def unstorable() -> object:
    """Return something of which nothing can be stored."""
    return (number for number in range(3))


def is_negative(value: object) -> bool:
    """Return whether it is an int below 0."""
    return type(value) is int and value < 0


def test_clean_values_come_back_as_they_were(store: Store) -> None:
    """Type included, one by one and in bulk, and without a finding."""
    with capture_findings() as findings:
        values = [value for value in VALUES if store.keeps_negative_ints or not is_negative(value)]
        for number, value in enumerate(values):
            store.set(f"k{number}", value)
        found = [store.get(f"k{number}") for number in range(len(values))]
        assert store.set_many({f"m{number}": value for number, value in enumerate(values)}) == set()
        many = store.get_many(*(f"m{number}" for number in range(len(values) + 1)))
    assert found == values
    assert list(map(type, found)) == list(map(type, values))
    assert many == {f"m{number}": value for number, value in enumerate(values)}
    assert findings == []


def test_none_is_a_value(store: Store) -> None:
    """A stored one differs from a missing one."""
    store.set("none", None)
    assert store.get("none") is None
    assert store.get("missing") is MISS


def test_an_offender_is_cut_out_and_named_by_its_key(store: Store) -> None:
    """By each way of writing, once, with the key as the user wrote it; the rest is stored."""
    with capture_findings() as findings:
        store.set("user:42", {"basket": Basket(7)})
        assert store.add("new", Basket(8)) is True
        assert store.set_many({"a": Basket(9), "b": 1}) == set()
    assert [str(one.path) for one in findings] == [
        "cache['user:42']['basket']._lock",
        "cache['new']._lock",
        "cache['a']._lock",
    ]
    assert {one.sink for one in findings} == {store.sink}
    restored = store.get("user:42")["basket"]
    assert restored.number == 7
    assert restored._lock.acquire(blocking=False)
    found = store.get_many("new", "a", "b", "missing")
    assert [found["new"].number, found["a"].number, found["b"], len(found)] == [8, 9, 1, 3]


def test_the_key_is_named_without_its_repr(store: Store) -> None:
    """An enum's key reads as it is stored."""
    with capture_findings() as findings:
        store.set(Key("basket"), Basket())
    assert {one.path.root for one in findings} == {"cache['basket']"}
    assert store.get("basket") is not MISS


def test_add_stores_only_where_nothing_is(store: Store) -> None:
    """It returns whether it has stored the value."""
    assert store.add("key", "first") is True
    assert store.add("key", "second") is False
    assert store.get("key") == "first"


def test_numbers_count(store: Store) -> None:
    """A number is stored so that the backend can add to it."""
    store.set("number", 41)
    assert store.incr("number") == 42
    assert store.incr("number", 8) == 50
    assert store.get("number") == 50


def test_delete_and_clear(store: Store) -> None:
    """Keys go one by one, several at once and all together."""
    store.set_many({"a": 1, "b": 2, "c": 3, "d": 4})
    assert store.delete("a")
    store.delete_many("b", "c", "missing")
    assert store.get_many("a", "b", "c", "d") == {"d": 4}
    store.clear()
    assert store.get("d") is MISS


# --- Nothing to store -----------------------------------------------------------------------------


def test_a_write_of_nothing_storable_is_skipped_and_leaves_no_stale_value(store: Store) -> None:
    """What the key held before is gone: a miss is right, the old value would not be."""
    store.set("key", "old")
    with capture_findings() as findings:
        store.set("key", unstorable())
    assert store.get("key") is MISS
    assert [(one.code, str(one.path)) for one in findings] == [("CC109", "cache['key']")]


def test_add_of_nothing_storable_leaves_what_is_there(store: Store) -> None:
    """As `add` never replaces."""
    assert store.add("key", unstorable()) is False
    assert store.get("key") is MISS
    store.set("key", "old")
    assert store.add("key", unstorable()) is False
    assert store.get("key") == "old"


def test_set_many_stores_the_others(store: Store) -> None:
    """What cannot be stored costs only itself, and its key is not among those stored."""
    store.set_many({"bad": "old", "good": "old"})
    failed = store.set_many({"bad": unstorable(), "good": "new", "worse": unstorable()})
    assert failed == {"bad", "worse"}
    assert store.get_many("bad", "good", "worse") == {"good": "new"}
    assert store.set_many({"good": unstorable()}) == {"good"}
    assert store.get("good") is MISS
    assert store.set_many({}) == set()


# --- Modes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["warn", "raise"])
def test_outside_of_strip_mode_it_raises(open_store: Callable[..., Store], mode: str) -> None:
    """The error names the key, and what was stored before stays."""
    store = open_store(MODE=mode)
    store.set("key", "old")
    for write in (store.set, store.add):
        with pytest.raises(UncacheableValueError, match=r"CC109 cache\['key'\]"):
            write("key", unstorable())
    with pytest.raises(UncacheableValueError, match=r"cache\['key'\]"):
        store.set_many({"other": 1, "key": unstorable()})
    assert store.get_many("key", "other") == {"key": "old"}


def test_raise_mode_refuses_what_strip_mode_would_cut(open_store: Callable[..., Store]) -> None:
    """In tests and CI an offender is an error, with every finding in it."""
    store = open_store(MODE="raise")
    with pytest.raises(UncacheableValueError) as caught:
        store.set("key", {"basket": Basket()})
    assert [str(one.path) for one in caught.value.findings] == ["cache['key']['basket']._lock"]
    assert store.get("key") is MISS


def test_mode_off_stores_what_the_backend_would(open_store: Callable[..., Store]) -> None:
    """No finding, and nothing is changed."""
    store, value = open_store(MODE="off"), {"headers": {"HTTP_COOKIE": "c"}, "t": (1, 2)}
    with capture_findings() as findings:
        store.set("key", value)
        store.set("number", 7)
        assert store.get_many("key", "number") == {"key": value, "number": 7}
    assert findings == []


# --- What cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_what_cannot_be_read_is_a_miss_in_every_mode(
    open_store: Callable[..., Store],
    mode: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is reported with its key, costs only itself, and can be stored anew."""
    store = open_store(MODE=mode)
    store.set_many({"good": 1, "rotten": [Vanishing()]})
    monkeypatch.delattr(f"{__name__}.Vanishing")
    assert store.get("rotten") is MISS
    assert store.get_many("good", "rotten") == {"good": 1}
    assert "cache['rotten'] cannot be read and counts as a miss" in caplog.text
    assert "Vanishing" in caplog.text or "rebuilding it raised AttributeError" in caplog.text
    store.set("rotten", "new")
    assert store.get("rotten") == "new"
