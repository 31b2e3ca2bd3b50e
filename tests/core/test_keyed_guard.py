"""The guard of a cache: from a key and its value to what is stored, and back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Guard, UncacheableValueError
from contextcache.storage.keyed_guard import MISSING, SKIPPED, KeyedGuard, label_of

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FORMATS: list[dict[str, Any]] = [{}, {"marker": b"!"}, {"numbers": False}]
SIGNED = Guard(secret_keys=("secret",))
PLAIN = Guard()


@pytest.mark.parametrize("guard", [SIGNED, PLAIN], ids=["signed", "plain"])
@pytest.mark.parametrize("options", FORMATS, ids=str)
@given(value=VALUES)
def test_a_value_comes_back_as_it_was(guard: Guard, options: dict[str, Any], value: object) -> None:
    """Type included, in each format; only an `int` is stored as a number."""
    keyed = KeyedGuard(guard, **options)
    payload = keyed.encode("key", value, "redis key")
    raw = str(payload).encode() if type(payload) is int else payload
    assert isinstance(raw, bytes)
    assert (type(payload) is int) == (type(value) is int and options != {"numbers": False})
    found = keyed.decode("key", raw, "redis key", MISSING)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("options", FORMATS, ids=str)
@given(payload=st.binary())
def test_bytes_of_another_writer_are_a_number_or_a_miss(
    options: dict[str, Any], payload: bytes
) -> None:
    """Whatever stands under a key of a signed cache, reading it raises nothing."""
    found = KeyedGuard(SIGNED, **options).decode("key", payload, "redis key", MISSING)
    assert found is MISSING or type(found) is int


@given(text=st.binary().filter(lambda text: text[:1] != b"!"))
def test_unsigned_text_of_another_program_is_returned_as_it_is(text: bytes) -> None:
    """Where the format marks its payloads, as cachelib's does; a number is a number."""
    found = KeyedGuard(PLAIN, marker=b"!").decode("key", text)
    assert found == (text if type(found) is bytes else int(text))


@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_a_value_without_a_payload_is_skipped_or_raises(mode: str) -> None:
    """In mode `strip` there is nothing to store; in the others the write fails."""
    keyed = KeyedGuard(Guard(mode=mode))
    value = (number for number in range(3))
    if mode == "strip":
        assert keyed.encode("key", value) is SKIPPED
    else:
        with pytest.raises(UncacheableValueError, match=r"cache\['key'\]"):
            keyed.encode("key", value)
    with pytest.raises(UncacheableValueError, match=r"cache\[\.\.\.\]"):
        keyed.encode(None, value, skips=False)  # as by a serializer


def test_a_session_that_is_no_dict_is_a_miss_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In both frameworks, whichever engine reads it."""
    for keyed, key in (
        (KeyedGuard(PLAIN, label="session"), "any"),
        (KeyedGuard(PLAIN), "django.contrib.sessions.cachecanary"),
    ):
        caplog.clear()
        payload = PLAIN.dumps([1, 2])
        assert keyed.decode(key, payload, default="default") == "default"
        assert "session cannot be read and counts as a miss" in caplog.text
        assert "it holds a list, not a session" in caplog.text
        assert "canary" not in caplog.text


@given(key=st.text(min_size=1) | st.integers() | st.tuples(st.text()))
def test_a_label_is_short_and_one_expression(key: object) -> None:
    """The label of a key that is fit to be shown evaluates to that key."""
    label = label_of(key)
    assert len(label) <= 100 * 10 + 12  # each character may be escaped
    if type(key) is str and len(key) <= 100:
        assert eval(label, {"cache": {key: "found"}}) == "found"
    if type(key) is tuple:
        assert label == "cache[...]"


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("user:42", "cache['user:42']"),
        ("it's", """cache["it's"]"""),
        ("line\nbreak", r"cache['line\nbreak']"),
        (42, "cache[42]"),
        (("a", "canary"), "cache[...]"),
        ("k" * 100, f"cache['{'k' * 100}']"),
        ("k" * 101, f"cache['{'k' * 99}…']"),
        ("django.contrib.sessions.cachecanary", "session"),
        ("django.contrib.sessions.cached_dbcanary", "session"),
    ],
)
def test_the_label_is_the_key_where_it_is_fit_to_be_shown(key: object, label: str) -> None:
    """Only a `str` and an `int`, short, and never one that holds a session id."""
    assert label_of(key) == label
    assert KeyedGuard(PLAIN).label(key) == label
    assert KeyedGuard(PLAIN, label="session").label(key) == "session"
