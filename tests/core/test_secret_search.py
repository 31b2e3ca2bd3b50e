"""Secrets found by their shapes in values, for developers and tests; production does not look."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections import OrderedDict, UserDict, deque, namedtuple
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from django.utils.safestring import SafeString
from hypothesis import given
from hypothesis import strategies as st

from contextcache import (
    Allow,
    Guard,
    RequestScope,
    Rule,
    UncacheableValueError,
    enter_scope,
    exit_scope,
    explain,
)
from contextcache.jsonable import JSONGuard
from contextcache.rules.credentials import Credentials
from contextcache.testing import assert_cacheable, capture_findings
from tests.child import run
from tests.core.secret_grammar import GRAMMAR, secret
from tests.core.test_secret_shapes import PROSE

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = secret("GitHub", 1)
LOOKS = "it holds what looks like a GitHub token"


@dataclasses.dataclass
class Account:
    name: str
    held: Any


class Slotted:
    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held


class OwnState:
    def __init__(self, held: Any) -> None:
        self.held, self.other = held, len

    def __getstate__(self) -> dict[str, Any]:
        return {"held": self.held}


class OwnReduce:
    def __init__(self, held: Any) -> None:
        self.held = held

    def __reduce__(self) -> Any:
        return OwnReduce, (self.held,)


class OwnDict(dict[str, Any]):
    pass


Pair = namedtuple("Pair", "first held")

HOLDERS: list[tuple[Callable[[Any], Any], str]] = [
    (lambda held: [1, held, "x"], "[1]"),
    (lambda held: (held,), "[0]"),
    (lambda held: {"a": 1, "b": held}, "['b']"),
    (lambda held: OrderedDict(b=held), "['b']"),
    (lambda held: OwnDict(b=held), "['b']"),
    (lambda held: UserDict(b=held), ".data['b']"),
    (lambda held: deque([0, held]), "[1]"),
    (lambda held: SimpleNamespace(x=1, held=held), ".held"),
    (lambda held: Account("shop", held), ".held"),
    (Slotted, ".held"),
    (OwnState, ".held"),
    (OwnReduce, ".held"),
    (lambda held: Pair(1, held), ".held"),
]


def _found(findings: list[Any]) -> list[tuple[str, str, str]]:
    return [(one.code, str(one.path), str(one.action)) for one in findings]


@given(
    st.sampled_from(sorted(GRAMMAR)),
    st.integers(0, 2**64),
    st.lists(st.sampled_from(HOLDERS), max_size=5),
    st.sampled_from(["text", "bytes", "bytearray", "prose", "safe"]),
)
def test_a_secret_is_found_at_its_exact_path(
    kind: str, seed: int, holders: list[Any], form: str
) -> None:
    """Anywhere in a value, alone or in a long text."""
    text = secret(kind, seed)
    value: Any = {
        "text": text, "bytes": text.encode(), "bytearray": bytearray(text.encode()),
        "prose": f"{PROSE} {text} {PROSE}", "safe": SafeString(text),
    }[form]  # fmt: skip
    leaf, path = value, ""
    for make, step in holders:
        value, path = make(value), step + path
    assert _found(explain(value, label="v")) == [("CC120", f"v{path}", "observed")]
    assert eval(f"v{path}", {"v": value}) is leaf


plain = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.floats() | st.uuids() | st.datetimes(),
    lambda held: st.lists(held, max_size=4) | st.dictionaries(st.text(max_size=9), held),
    max_leaves=20,
)


@given(plain)
def test_random_data_has_no_secret(value: Any) -> None:
    """Nothing is reported, and it is stored byte for byte."""
    with capture_findings() as findings:
        assert Guard(debug=True).dumps(value) == pickle.dumps(value, 5)
    assert findings == []


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({TOKEN: 1}, "v<key 0>"),
        ({TOKEN}, "v{0}"),
        (ValueError(TOKEN), "v.args[0]"),
        (ValueError("shop", {"key": TOKEN}), "v.args[1]['key']"),
        ({"a": [TOKEN, TOKEN]}, "v['a'][0]"),
        (memoryview(TOKEN.encode()), "v"),
    ],
)
def test_where_no_name_leads_the_position_is_told(value: Any, path: str) -> None:
    """A secret that is stored twice as one object is one finding."""
    found = [one for one in explain(value, label="v") if one.code == "CC120"]
    assert [str(one.path) for one in found] == [path]


def test_each_secret_of_a_value_is_a_finding() -> None:
    """In the order in which they are stored."""
    value = {"a": secret("AWS", 1), "b": [secret("JWT", 2)], "c": TOKEN[:-1] + "x"}
    assert [(str(one.path), one.reason[24:]) for one in explain(value)] == [
        ("value['a']", " an AWS access key"),
        ("value['b'][0]", " a JSON Web Token"),
        ("value['c']", " a GitHub token"),
    ]


def test_what_is_not_stored_is_no_finding() -> None:
    """A secret that `__getstate__` leaves out, or that a rule cuts."""

    holder = OwnState([1])
    holder.other = TOKEN  # type: ignore[assignment]
    assert explain(holder) == []


def test_a_finding_says_nothing_of_the_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Kind and field, and what to do."""
    Guard(debug=True).dumps({"key": TOKEN}, label="cache['shop']")
    [record] = caplog.records
    assert TOKEN[4:] not in record.getMessage()
    assert f"CC120: cache['shop']['key'] (str) should not be stored: {LOOKS}" in record.getMessage()


@pytest.mark.parametrize("options", [{}, {"secret_keys": ("s" * 50,), "compress": "zlib"}])
@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_it_is_stored_and_reported_in_every_mode(
    mode: str, options: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Mode `raise` does not refuse it: it is a guess, and production stores it."""
    guard = Guard(mode=mode, debug=True, **options)
    value = {"key": TOKEN, "n": [1] * 500}
    assert guard.loads(guard.dumps(value, label="v")) == value
    assert [one.getMessage().splitlines()[0] for one in caplog.records] == [
        f"contextcache CC120: v['key'] (str) should not be stored: {LOOKS}"
    ]


def test_mode_off_looks_for_nothing() -> None:
    """As it does for nothing else."""
    with capture_findings() as findings:
        Guard(mode="off", debug=True).dumps(TOKEN)
    assert findings == []


def test_a_test_that_listens_sees_it() -> None:
    """Also where the guard is that of production."""
    guard = Guard()
    for _ in range(3):
        with capture_findings() as findings:
            guard.dumps({"key": TOKEN}, label="v")
        assert _found(findings) == [("CC120", "v['key']", "observed")]
    with pytest.raises(AssertionError, match="GitHub token"):
        assert_cacheable({"key": TOKEN})


def test_an_ignored_field_is_not_reported() -> None:
    """As any other."""
    with capture_findings() as findings:
        Guard(ignore=("v['key']",)).dumps({"key": TOKEN}, label="v")
    assert findings == []


class Declared:
    token: Annotated[str, Allow]

    def __init__(self, token: str) -> None:
        self.token = token


def test_what_the_application_allows_is_not_reported() -> None:
    """By a marker beside the field, or by a rule for the type."""
    rules = (Rule(type=f"{__name__}.Account", verb="allow"),)
    value = [Declared(TOKEN), Account("shop", [f"{TOKEN[:-1]}y"])]
    with capture_findings() as findings:
        Guard(rules=rules).dumps(value, label="v")
        Guard().dumps(value, label="v")
    assert [str(one.path) for one in findings] == ["v[1].held[0]"]


def test_one_record_for_an_object_that_is_itself_reported() -> None:
    """The secret in a credential object is not reported again."""
    from pydantic import SecretStr

    assert [str(one.path) for one in explain({"key": SecretStr(TOKEN)})] == ["value['key']"]


def test_a_credential_of_the_request_is_reported_once() -> None:
    """By what it is, not by its shape; and what is cut is not reported as stored."""
    sent = Credentials(f"Bearer {TOKEN}")
    token = enter_scope(RequestScope("GET", "/", credentials=lambda: sent))
    try:
        with capture_findings() as findings:
            Guard().dumps({"mine": TOKEN}, label="v")
            Guard().dumps({"headers": {"Authorization": f"Bearer {TOKEN}"}}, label="v")
    finally:
        exit_scope(token)
    assert [(one.code, str(one.path)) for one in findings] == [
        ("CC120", "v['mine']"),
        ("CC106", "v['headers']"),
    ]


PRODUCTION = """
    import sys
    from contextcache import Guard
    from contextcache.jsonable import JSONGuard
    import json
    value = {"key": "ghp_" + "aB3dE5fG7h" * 4, "rows": [1, "x"]}
    Guard().dumps(value)
    Guard(secret_keys=("s" * 50,)).dumps(value)
    JSONGuard(json.dumps).dumps(value)
    print("contextcache.rules.secret_shapes" in sys.modules)
"""


def test_production_does_not_look() -> None:
    """The table of shapes is not even imported there."""
    assert run(PRODUCTION) == "False\n"


@given(
    st.sampled_from(sorted(GRAMMAR)),
    st.integers(0, 2**64),
    st.lists(st.sampled_from(HOLDERS[:3]), max_size=5),
)
def test_json_is_searched_as_well(kind: str, seed: int, holders: list[Any]) -> None:
    """The same secrets in what becomes JSON."""
    value: Any = secret(kind, seed)
    path = ""
    for make, step in holders:
        value, path = make(value), step + path
    guard = JSONGuard(json.dumps)
    with capture_findings() as findings:
        assert guard.dumps(value, label="v") == json.dumps(value)
    assert [one for one in _found(findings) if one[0] == "CC120"] == [
        ("CC120", f"v{path}", "observed")
    ]


@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_no_mode_refuses_a_secret_in_json(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is reported, and stored as the developer asked."""
    from contextcache.config import Config

    guard = JSONGuard(json.dumps, Config(mode=mode, debug=True))
    assert guard.dumps({"key": TOKEN}, label="v") == json.dumps({"key": TOKEN})
    [record] = caplog.records
    assert f"CC120: v['key'] (str) should not be stored: {LOOKS}" in record.getMessage()


def test_mode_raise_refuses_what_it_did() -> None:
    """A finding of another kind is raised as before."""
    with pytest.raises(UncacheableValueError, match="CC109"):
        Guard(mode="raise", debug=True).dumps({"key": TOKEN, "rows": (n for n in ())})
