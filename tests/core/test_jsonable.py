"""`JSONGuard`: what JSON cannot hold is cut and named, what it changes is named."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import re
import threading
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from pathlib import PurePath
from types import SimpleNamespace
from typing import Any

import flask
import msgspec
import pytest
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.datastructures import MultiValueDict
from django.utils.functional import lazystr
from flask.sessions import session_json_serializer
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from werkzeug.datastructures import ImmutableMultiDict, MultiDict
from werkzeug.local import LocalProxy

from contextcache import Config, Rule, UncacheableValueError
from contextcache.jsonable import JSONGuard
from contextcache.testing import capture_findings
from tests.resolving import resolve

Point = namedtuple("Point", "x y")


class Size(enum.IntEnum):
    LARGE = 3


class Colour(enum.Enum):
    RED = "red"


class Word(str):
    __slots__ = ()


@dataclasses.dataclass
class Line:
    what: Any = 1
    how: Any = 2


class Opaque:
    """Nothing an encoder knows."""


class Hostile(type):
    def __hash__(cls) -> int:
        raise RuntimeError("not to be hashed")

    __eq__ = None


def found(value: Any, guard: JSONGuard[Any] | None = None) -> list[str]:
    """Return code and path of everything that is found in `value`."""
    guard = guard or JSONGuard(json.dumps)
    return [f"{one.code} {one.path}" for one in guard.explain(value, label="session")]


def stored(value: Any, config: Config | None = None) -> Any:
    """Return what comes back after `value` was stored."""
    return json.loads(JSONGuard(json.dumps, config).dumps(value, label="session"))


@pytest.mark.parametrize(
    ("value", "kept", "paths"),
    [
        ({"when": dt.datetime(2026, 1, 1), "a": 1}, {"a": 1}, ["CC140 session['when']"]),
        ({"a": [1, {2}, 3]}, {"a": [1, None, 3]}, ["CC140 session['a'][1]"]),
        ({"a": {"b": {"c": b"x"}}}, {"a": {"b": {}}}, ["CC140 session['a']['b']['c']"]),
        ({"a": (1, 2)}, {"a": [1, 2]}, ["CC141 session['a']"]),
        ({"a": Point(1, {2})}, {"a": [1, None]}, ["CC141 session['a']", "CC140 session['a'][1]"]),
        ({"a": {1: 2}}, {"a": {"1": 2}}, ["CC141 session['a']"]),
        ({"a": {True: 1, None: 2, 1.5: 3}}, {"a": {"true": 1, "null": 2, "1.5": 3}}, [
            "CC141 session['a']",
        ]),
        ({"a": {(1, 2): 3, "b": 4}}, {"a": {"b": 4}}, ["CC140 session['a']<key 0>"]),
        ({"a": {(1, 2): {3}}}, {"a": {}}, ["CC140 session['a']<key 0>"]),
        ({"a": Size.LARGE}, {"a": 3}, ["CC141 session['a']"]),
        ({"a": Word("x")}, {"a": "x"}, ["CC141 session['a']"]),
        ({"a": OrderedDict(b=1)}, {"a": {"b": 1}}, ["CC141 session['a']"]),
        ({"a": defaultdict(set, b={1})}, {"a": {}}, [
            "CC141 session['a']", "CC140 session['a']['b']",
        ]),
        ({"a": 10**5000, "b": 1}, {"b": 1}, ["CC140 session['a']"]),
        ({"a": [[[]]], "b": None, "c": 1.5}, {"a": [[[]]], "b": None, "c": 1.5}, []),
    ],
)  # fmt: skip
def test_what_is_cut_what_is_changed_and_what_stays(
    value: Any, kept: Any, paths: list[str]
) -> None:
    """Exactly the offending place is named and cut, and everything else comes back."""
    assert found(value) == paths
    assert stored(value) == kept


def test_every_path_leads_to_the_offender() -> None:
    """`resolve` of a path is the object that was found, at any depth."""
    offender = {1, 2}
    value = {"a": [{"b": (0, {"c": offender})}]}
    finding = JSONGuard(json.dumps).explain(value)[-1]
    assert resolve(finding.path, value) is offender
    assert finding.leaf_type == "set"


def test_nothing_of_the_value_is_changed() -> None:
    """What is cut is cut out of a copy."""
    inner = {"when": {1}, "n": 1}
    value = {"a": [inner], "b": inner}
    assert stored(value) == {"a": [{"n": 1}], "b": {"n": 1}}
    assert value == {"a": [{"when": {1}, "n": 1}], "b": {"when": {1}, "n": 1}}


def test_a_clean_value_is_what_is_encoded() -> None:
    """The encoder is given the value itself, once."""
    given_values: list[Any] = []
    guard = JSONGuard(given_values.append)
    value = {"a": [1, {"b": None}]}
    guard.dumps(value)
    assert len(given_values) == 1
    assert given_values[0] is value


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=30,
)  # fmt: skip


@settings(deadline=None)
@given(JSON_VALUES)
def test_what_json_gives_back_is_never_found(value: Any) -> None:
    """No finding, and the same text, for all that JSON holds."""
    assert found(value) == []
    assert JSONGuard(json.dumps).dumps(value) == json.dumps(value)


ANY_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.datetimes() | st.decimals() | st.uuids() | st.sampled_from(Size),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.integers(), children)
    | st.tuples(children, children) | st.frozensets(st.integers()),
    max_leaves=20,
)  # fmt: skip


@settings(deadline=None)
@given(ANY_VALUES)
def test_what_is_not_found_comes_back_as_it_was(value: Any) -> None:
    """A value without findings survives the round trip; one with any can be stored all the same."""
    guard = JSONGuard(json.dumps)
    if not guard.explain({"value": value}):
        assert repr(json.loads(json.dumps({"value": value}))) == repr({"value": value})
    json.loads(guard.dumps({"value": value}))


def test_a_value_of_which_nothing_can_be_stored() -> None:
    """The error names it, its type, why, and what to do."""
    with pytest.raises(UncacheableValueError) as raised:
        JSONGuard(json.dumps).dumps({1, 2}, label="cache['ids']")
    assert str(raised.value) == (
        "cache['ids'] was not stored:\n"
        "  CC140 cache['ids'] (set): JSON cannot hold it; store a list, as in sorted(value)"
    )


def test_the_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """Field, type, reason, what was done and what to do; once for a thousand writes."""
    guard = JSONGuard(json.dumps, sink="session in cookie")
    for _ in range(9):
        guard.dumps({"when": dt.date(2026, 1, 1), "pair": (1, 2)}, label="session")
    first, second = (record.getMessage() for record in caplog.records)
    assert re.sub(r" · where: \S+ · ", " · ", first) == (
        "contextcache CC140: session['when'] (datetime.date) cannot be stored: JSON cannot hold it"
        " · session in cookie · result: left the key out, stored the rest"
        " · fix: store value.isoformat(), and read it with fromisoformat()"
        " · pattern: session['when'] · seen 1×"
    )
    assert re.sub(r" · where: \S+ · ", " · ", second) == (
        "contextcache CC141: session['pair'] (tuple) should not be stored: "
        "JSON changes it without a word"
        " · session in cookie · result: stored it; it comes back as a list"
        " · fix: store a list, or turn it into a tuple again on read"
        " · pattern: session['pair'] · seen 1×"
    )


def test_mode_raise() -> None:
    """Nothing is stored, and the error has every finding; an ignored one is none."""
    value = {"a": {1}, "b": (1, 2)}
    with pytest.raises(UncacheableValueError) as raised:
        stored(value, Config(mode="raise"))
    assert [finding.code for finding in raised.value.findings] == ["CC140", "CC141"]
    ignoring = Config(mode="raise", ignore=("session['b']",))
    assert stored({"b": (1, 2)}, ignoring) == {"b": [1, 2]}


def test_mode_warn(caplog: pytest.LogCaptureFixture) -> None:
    """What was stored is stored, what failed fails, with the path attached."""
    assert stored({"b": (1, Word("x"))}, Config(mode="warn")) == {"b": [1, "x"]}
    assert "result: stored unchanged (mode warn)" in caplog.text
    with pytest.raises(UncacheableValueError, match=r"CC140 session\['a'\] \(set\)") as raised:
        stored({"a": {1}, "b": 1}, Config(mode="warn"))
    assert "result: nothing was stored: JSON refuses it (mode warn)" in caplog.text
    assert type(raised.value.__cause__) is TypeError
    with pytest.raises(UncacheableValueError, match=r"CC140 session\['a'\] \(int\)"):
        stored({"a": 10**5000, "b": 1}, Config(mode="warn"))


def test_a_value_that_contains_itself() -> None:
    """The cycle is cut where it closes."""
    value: dict[str, Any] = {"name": "ann"}
    value["self"] = [value]
    [finding] = JSONGuard(json.dumps).explain(value, label="session")
    assert str(finding) == "CC140: session['self'][0] (dict) it contains itself"
    assert stored(value) == {"name": "ann", "self": [None]}


def test_a_value_that_is_too_deep() -> None:
    """It costs its own key only, and never the stack."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert stored({"deep": deep, "uid": 7}) == {"uid": 7}
    with pytest.raises(UncacheableValueError, match="CC130 session"):
        stored(deep)


def test_a_value_that_is_too_large_to_look_through() -> None:
    """The walk is bounded; what was found is cut, and a key that fails after all is left out."""
    value = {"found": {1}, "rows": [[0] for _ in range(120_000)] + [{1}], "uid": 7}
    assert stored(value) == {"uid": 7}


def test_a_class_that_cannot_be_hashed() -> None:
    """A metaclass of the user's breaks nothing: its object is cut like any that JSON refuses."""
    strange = Hostile("Strange", (), {})()
    assert stored([strange, 1]) == [None, 1]
    with pytest.raises(UncacheableValueError, match=r"CC140 session"):
        stored(strange)


def test_no_code_of_the_value_runs() -> None:
    """Neither equality nor `repr` nor a property, not even `__class__`."""

    class Touchy:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

        __eq__ = __hash__ = __repr__ = __iter__ = __getattribute__  # type: ignore[assignment]

    assert found({"touchy": Touchy()}) == ["CC140 session['touchy']"]


def test_a_proxy_is_replaced_by_what_it_points_at() -> None:
    """The target is cleaned in turn; one that points nowhere is cut."""
    target = {"name": "ann", "lock": threading.Lock()}
    nowhere = LocalProxy(lambda: (_ for _ in ()).throw(RuntimeError("no request")))
    value = {"user": LocalProxy(lambda: target), "no": nowhere}
    assert found(value) == [
        "CC104 session['user']",
        "CC140 session['user']['lock']",
        "CC104 session['no']",
    ]
    assert stored(value) == {"user": {"name": "ann"}}


def test_the_applications_own_rules() -> None:
    """A rule written for pickle holds for JSON, where it can."""
    rules = (
        Rule(type="decimal.Decimal", verb="snapshot", make=str),  # type: ignore[arg-type]
        Rule(type=f"{__name__}.Line", verb="snapshot"),  # type: ignore[arg-type]
        Rule(type=f"{__name__}.Word", verb="strip", fix="leave it"),  # type: ignore[arg-type]
        Rule(type=f"{__name__}.Size", verb="allow"),  # type: ignore[arg-type]
    )
    value = {"sum": decimal.Decimal("1.5"), "line": Line(), "word": Word("x"), "size": Size.LARGE}
    assert stored(value, Config(rules=rules)) == {
        "sum": "1.5",
        "line": {"what": 1, "how": 2},
        "size": 3,
    }
    with capture_findings() as findings:
        stored(value, Config(rules=rules))
    assert [(str(f.path), f.code, f.action.value) for f in findings] == [
        ("session['sum']", "CC100", "snapshotted"),
        ("session['line']", "CC100", "snapshotted"),
        ("session['word']", "CC100", "left out"),
    ]


@pytest.mark.parametrize("held", [b"x", "x", 1.5, (1,), [1], {"b": 1}])
def test_the_applications_own_rules_about_builtin_types(held: Any) -> None:
    """They hold in a value of plain JSON, too."""
    rule = Rule(type=type(held).__name__, verb="strip")  # type: ignore[arg-type]
    encode, decode = session_json_serializer.dumps, session_json_serializer.loads
    guard = JSONGuard(encode, Config(rules=(rule,)), decode=decode)
    for _ in range(2):
        if type(held) is dict:
            assert decode(guard.dumps([held, None])) == [None, None]
        else:
            assert decode(guard.dumps({"a": held, "b": None})) == {"b": None}


def test_an_encoder_that_holds_more() -> None:
    """What it makes of a type is the encoder's own business; what comes back is compared."""

    def encode(value: Any) -> str:
        return json.dumps(
            value, default=lambda obj: sorted(obj) if type(obj) is set else f"{obj:d}"
        )

    guard = JSONGuard(encode)
    assert found({"ids": {2, 1}}, guard) == ["CC141 session['ids']"]
    assert guard.dumps({"ids": {2, 1}}) == '{"ids": [1, 2]}'
    assert found({"o": Opaque(), "n": 1}, guard) == ["CC140 session['o']"]


# --- The findings against the encoders ----------------------------------------------


def flask_round_trip(value: Any) -> Any:
    return session_json_serializer.loads(session_json_serializer.dumps(value))


ENCODERS: dict[str, tuple[Any, Any]] = {
    "plain": (json.dumps, json.loads),
    "django": (lambda value: json.dumps(value, cls=DjangoJSONEncoder), json.loads),
    "flask": (session_json_serializer.dumps, session_json_serializer.loads),
    "msgpack": (msgspec.msgpack.encode, msgspec.msgpack.decode),
    "msgspec json": (msgspec.json.encode, msgspec.json.decode),
}
UTC, EAST = dt.UTC, dt.timezone(dt.timedelta(hours=2))
SAMPLES: list[Any] = [
    None, True, 0, 2**63, 1.5, math.inf, "x", b"x", bytearray(b"x"), memoryview(b"x"), 1j,
    [1], (1, 2), {1}, frozenset({1}), {"a": 1}, {1: 2}, {True: 1}, {None: 1}, {(1, 2): 3},
    {b"x": 1},
    dt.datetime(2026, 1, 2, 3, 4, 5, 6), dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=EAST), dt.date(2026, 1, 2),
    dt.time(1, 2), dt.time(1, 2, tzinfo=UTC), dt.timedelta(1),
    decimal.Decimal("1.5"), uuid.UUID(int=1), Size.LARGE, Colour.RED, Word("x"), Point(1, 2),
    OrderedDict(a=1), defaultdict(int, a=1), MultiDict([("a", 1), ("a", 2)]), Markup("<b>"),
    lazystr("lazy"), Line(), Line({1}, 2), Opaque(), SimpleNamespace(a=1), range(3), PurePath("a"),
    {}.keys(), ValueError("x"), {1: 1, "a": 2}, {dt.date(2026, 1, 2): 1},
]  # fmt: skip


@pytest.mark.parametrize("depth", range(3))
@pytest.mark.parametrize(
    ("cls", "fix"),
    [
        (MultiDict, "value.to_dict(flat=False)"),
        (ImmutableMultiDict, "value.to_dict(flat=False)"),
        (MultiValueDict, "dict(value.lists())"),
    ],
)
def test_a_dict_with_several_values_says_which_are_lost(cls: Any, fix: str, depth: int) -> None:
    """JSON asks for its items, which are one value of each key; the fix keeps all."""
    for several, words in ((["1", "2"], "are lost"), (["1"], "plain dict")):
        value = cls({"cat": several})
        with capture_findings() as findings:
            JSONGuard(json.dumps, Config()).dumps([{"q": value}, {"a": [value]}, value][depth])
        [finding] = findings
        assert finding.code == "CC141"
        assert words in finding.did
        assert (fix in finding.fix) == (len(several) > 1)
        assert eval(fix, {"value": value}) == {"cat": several}


@pytest.fixture
def _app() -> Any:
    with flask.Flask(__name__).app_context():
        yield


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are equal and of the same types all through."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return [*map(type, one)] == [*map(type, other)] and all(
            map(same, one.values(), other.values())
        )
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dt.datetime):
        return one == other and one.utcoffset() == other.utcoffset()
    return bool(one == other)


@pytest.mark.usefixtures("_app")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
@pytest.mark.parametrize("name", ENCODERS)
def test_the_findings_say_what_an_encoder_does(name: str, sample: Any) -> None:
    """CC140 where it raises, CC141 where something else comes back, nothing where all is well."""
    encode, decode = ENCODERS[name]
    guard = JSONGuard(encode, decode=decode)
    codes = {finding.code for finding in guard.explain({"value": sample, "a": 1})}
    try:
        back = decode(encode({"value": sample}))["value"]
    except Exception:
        expected = [{"CC140"}, {"CC140", "CC141"}, {"CC141"}, {"CC116"}]
        expected += [{"CC116", "CC140"}]
    else:
        expected = [set()] if same(back, sample) else [{"CC141"}]
        if type(sample) is float and sample == math.inf and name != "msgpack":
            expected = [{"CC141"}]  # Python alone reads what it wrote
    assert codes in expected
    assert decode(guard.dumps({"value": sample, "a": 1}))["a"] == 1


def test_the_messages_name_the_format() -> None:
    """MessagePack is not JSON, and a reader should not be told it were."""
    guard = JSONGuard(msgspec.msgpack.encode, decode=msgspec.msgpack.decode, name="MessagePack")
    [finding] = guard.explain({"o": Opaque()})
    assert finding.reason == "MessagePack cannot hold it"
