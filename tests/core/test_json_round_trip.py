"""`JSONGuard` against real encoders: a finding means that something else comes back."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from typing import Any

import flask
import msgspec
import pytest
from django.utils.datastructures import MultiValueDict
from flask.json.tag import JSONTag, TaggedJSONSerializer
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from werkzeug.datastructures import CombinedMultiDict, MultiDict

from contextcache.jsonable import JSONGuard
from tests.resolving import resolve

Point = namedtuple("Point", "x y")


class Size(enum.IntEnum):
    LARGE = 3


class Colour(enum.Enum):
    RED = "red"


class Word(str):
    __slots__ = ()


class Basket(dict[Any, Any]):
    """A dict of the application's."""


class Items(list[Any]):
    """A list of the application's."""


@dataclasses.dataclass
class Line:
    what: Any
    how: Any = 2


class Opaque:
    """Nothing an encoder knows."""


class TagBasket(JSONTag):
    """What an application adds so that its own dict comes back from the cookie."""

    __slots__ = ()
    key = " basket"

    def check(self, value: Any) -> bool:
        return type(value) is Basket

    def to_json(self, value: Any) -> Any:
        return {key: self.serializer.tag(held) for key, held in value.items()}

    def to_python(self, value: Any) -> Any:
        return Basket(value)


TAGGED = TaggedJSONSerializer()
OWN_TAGS = TaggedJSONSerializer()
OWN_TAGS.register(TagBasket, index=0)
ENCODERS: dict[str, tuple[Any, Any]] = {
    "json": (json.dumps, json.loads),
    "flask": (TAGGED.dumps, TAGGED.loads),
    "tags": (OWN_TAGS.dumps, OWN_TAGS.loads),
    "msgpack": (msgspec.msgpack.encode, msgspec.msgpack.decode),
    "msgspec": (msgspec.json.encode, msgspec.json.decode),
    "strict": (lambda value: json.dumps(value, allow_nan=False), json.loads),
    "skipkeys": (lambda value: json.dumps(value, skipkeys=True, default=repr), json.loads),
}


@pytest.fixture(autouse=True)
def _app() -> Any:
    with flask.Flask(__name__).app_context():
        yield


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.binary(max_size=5) | st.datetimes() | st.datetimes(timezones=st.just(dt.UTC))
    | st.dates() | st.decimals() | st.uuids() | st.text(max_size=3).map(Word)
    | st.sampled_from([Size.LARGE, Colour.RED, Markup("<b>"), Opaque(), 2**70, "\ud800"])
)  # fmt: skip
KEYS = (
    st.text(max_size=3) | st.sampled_from(["1", "true", " t", " di", " t__"])
    | st.integers(-2, 2) | st.booleans() | st.none() | st.sampled_from([Word("w"), Size.LARGE])
    | st.sampled_from([(1, 2), b"k", Colour.RED, dt.date(2026, 1, 2)])
)  # fmt: skip


def holders(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    texts = st.dictionaries(st.text(max_size=3), children, max_size=3)
    lists = st.lists(children, max_size=3)
    return (
        texts | lists | st.dictionaries(KEYS, children, max_size=3) | lists.map(tuple)
        | lists.map(Items) | texts.map(Basket) | texts.map(OrderedDict)
        | texts.map(lambda held: defaultdict(int, held)) | children.map(Line)
        | st.builds(Point, children, children) | st.frozensets(st.integers(), max_size=3)
        | st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=2)), max_size=3).map(MultiDict)
        | st.sampled_from([{}, {"a": ["1"]}, {"a": ["1", "2"], "b": []}]).map(MultiValueDict)
    )  # fmt: skip


VALUES = st.recursive(LEAVES, holders, max_leaves=8)


def same(one: Any, other: Any) -> bool:
    """Return True if two values are equal and of the same types all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (MultiDict, MultiValueDict)):
        return same(dict(one.lists()), dict(other.lists()))
    if isinstance(one, dict):
        keys = {(type(key), key): key for key in other}
        return len(one) == len(other) and all(
            (type(key), key) in keys and same(held, other[key]) for key, held in one.items()
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, Line):
        return same(vars(one), vars(other))
    if isinstance(one, dt.datetime):
        return one == other and one.utcoffset() == other.utcoffset()
    return bool(one == other or repr(one) == repr(other) == "nan")


def parts(value: Any) -> Any:
    """Yield everything in a value."""
    yield value
    if isinstance(value, dict):
        held = list(value.values()) + list(value)
    elif isinstance(value, Line):
        held = list(vars(value).values())
    else:
        held = list(value) if isinstance(value, (list, tuple)) else []
    for one in held:
        yield from parts(one)


@pytest.mark.parametrize("name", ENCODERS)
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(VALUES)
@example([(), Line(())])
@example([Line({" t": [1]})])
def test_a_finding_means_that_something_else_comes_back(name: str, value: Any) -> None:
    """There is none if and only if decoding gives back what was encoded, with equal types."""
    encode, decode = ENCODERS[name]
    guard = JSONGuard(encode, decode=decode)
    whole = {"value": value, "n": 1}
    findings = guard.explain(whole, label="session")
    try:
        payload = encode(whole)
        comes_back = same(decode(payload), whole)
    except Exception:
        payload, comes_back = None, False
        assert any(one.code in ("CC140", "CC141") for one in findings)
    if name not in ("msgpack",):  # not finite is no JSON, though Python reads it
        numbers = [one for one in parts(whole) if type(one) is float]
        comes_back = comes_back and all(map(math.isfinite, numbers))
    assert (findings == []) == comes_back
    if payload is not None:
        assert guard.dumps(whole, label="session") == payload
    assert decode(guard.dumps(whole, label="session"))["n"] == 1


@pytest.mark.parametrize("name", ENCODERS)
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(VALUES)
def test_the_path_of_a_finding_leads_to_its_object(name: str, value: Any) -> None:
    """Evaluated on the value, it gives the object that is named."""
    encode, decode = ENCODERS[name]
    whole = {"value": value}
    for finding in JSONGuard(encode, decode=decode).explain(whole):
        found = resolve(finding.path, whole)
        assert type(found).__qualname__ == finding.leaf_type.rpartition(".")[2]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(VALUES, max_size=4))
@example([(), Line(())])
@example([[Line({" t": [1]})]])
def test_what_was_learned_from_one_value_holds_for_others(values: list[Any]) -> None:
    """A guard that has seen other values finds what a new one finds."""
    for encode, decode in ENCODERS.values():
        guard = JSONGuard(encode, decode=decode)
        for value in values:
            fresh = JSONGuard(encode, decode=decode).explain({"value": value})
            assert [(one.code, str(one.path)) for one in guard.explain({"value": value})] == [
                (one.code, str(one.path)) for one in fresh
            ]


@pytest.mark.parametrize(
    ("value", "did"),
    [
        (
            MultiValueDict({"cat": ["1", "2"]}),
            "stored the last value of each key; the others are lost",
        ),
        (MultiValueDict({"cat": ["1"]}), "stored it; it comes back as a plain dict"),
        (MultiDict([("cat", 1), ("cat", 2)]), "stored the first value of each key"),
        (CombinedMultiDict([MultiDict({"a": 1})]), "stored it without some of its items"),
        ({1: "a", "1": "b"}, "stored the last value of keys that become the same"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6), None),
        (Size.LARGE, "stored it; it comes back as a plain int"),
        (uuid.UUID(int=1), None),
        (decimal.Decimal(1), None),
    ],
)
def test_what_is_lost_is_said(value: Any, did: str | None) -> None:
    """By what came back, and not by what an encoder is thought to do."""
    [finding, *_] = JSONGuard(json.dumps).explain({"q": value})
    assert str(finding.path) == "value['q']"
    assert finding.code == ("CC140" if did is None else "CC141")
    assert did is None or did in finding.did


def test_what_flask_keeps_of_a_moment_is_said_exactly() -> None:
    """Only what is lost is named."""
    east = dt.timezone(dt.timedelta(hours=2))
    moments = {
        "naive": dt.datetime(2026, 1, 2),
        "micro": dt.datetime(2026, 1, 2, 0, 0, 0, 5, tzinfo=dt.UTC),
        "both": dt.datetime(2026, 1, 2, 0, 0, 0, 5, tzinfo=east),
        "kept": dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    }
    findings = JSONGuard(TAGGED.dumps, decode=TAGGED.loads).explain(moments)
    assert [finding.did.removeprefix("stored it; it comes back ") for finding in findings] == [
        "in UTC",
        "without microseconds",
        "in UTC, without microseconds",
    ]


@pytest.mark.parametrize("name", ["json", "flask", "msgspec"])
def test_only_what_cannot_be_stored_is_cut(name: str) -> None:
    """A number or a text that the encoder refuses costs its own key, at any depth."""
    encode, decode = ENCODERS[name]
    odd = "\ud800" if name == "msgspec" else 10**5000
    value = {"a": {"b": [1, {"c": odd, "d": 2}]}, "uid": 7}
    guard = JSONGuard(encode, decode=decode)
    [finding] = guard.explain(value)
    assert (finding.code, str(finding.path)) == ("CC140", "value['a']['b'][1]['c']")
    assert decode(guard.dumps(value)) == {"a": {"b": [1, {"d": 2}]}, "uid": 7}
