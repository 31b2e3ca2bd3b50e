"""Credentials of a request in plain data: found in the bytes, and not stored."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict, UserDict, deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Guard, RequestScope, UncacheableValueError, enter_scope, exit_scope
from contextcache.jsonable import JSONGuard
from contextcache.rules.credentials import MIN_LENGTH, Credentials
from contextcache.testing import capture_findings

TOKEN, COOKIE, SESSION = (
    "token-canary-7f3a",
    "theme=dark; sid=session-canary-91",
    "session-canary-91",
)
ENVIRON = {
    "REQUEST_METHOD": "GET",
    "HTTP_ACCEPT": "text/plain",
    "HTTP_AUTHORIZATION": f"Bearer {TOKEN}",
    "HTTP_COOKIE": COOKIE,
}
HEADERS = {"Accept": "text/plain", "Authorization": f"Bearer {TOKEN}", "Cookie": COOKIE}
RAW = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


@dataclass
class Visit:
    sent: Any


class Slotted:
    __slots__ = ("sent",)

    def __init__(self, sent: Any) -> None:
        self.sent = sent


class OwnDict(dict[str, Any]):
    pass


@pytest.fixture
def request_scope() -> Any:
    sent = Credentials(f"Bearer {TOKEN}", COOKIE, "sid", SESSION)
    token = enter_scope(RequestScope("GET", "/", credentials=lambda: sent))
    yield
    exit_scope(token)


HOLDERS = {
    "alone": (lambda held: held, "v"),
    "list": (lambda held: [1, held], "v[1]"),
    "tuple": (lambda held: {"a": (1, held)}, "v['a'][1]"),
    "deep": (lambda held: {"a": [{"b": {"c": held}}]}, "v['a'][0]['b']['c']"),
    "attribute": (Visit, "v.sent"),
    "slot": (Slotted, "v.sent"),
    "namespace": (lambda held: SimpleNamespace(sent=[held]), "v.sent[0]"),
    "deque": (lambda held: deque([held]), "v[0]"),
    "ordered": (lambda held: OrderedDict(a=held), "v['a']"),
    "user dict": (lambda held: UserDict(a=held), "v.data['a']"),
    "twice": (lambda held: [held, {"again": held}], "v[0]"),
}
SENT = {
    "environ": lambda: dict(ENVIRON),
    "headers": lambda: dict(HEADERS),
    "lower": lambda: {name.lower().replace("-", "_"): value for name, value in HEADERS.items()},
    "pairs": lambda: list(HEADERS.items()),
    "tuple of pairs": lambda: tuple(HEADERS.items()),
    "bytes": lambda: list(RAW),
    "dict of bytes": lambda: dict(RAW),
    "lists": lambda: {name: ["x", value] for name, value in HEADERS.items()},
    "ordered": lambda: OrderedDict(HEADERS),
    "own dict": lambda: OwnDict(HEADERS),
    "attributes": lambda: SimpleNamespace(accept="text/plain", authorization=f"x {TOKEN}"),
}  # fmt: skip


@pytest.mark.usefixtures("request_scope")
@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("holder", HOLDERS)
def test_what_a_request_sent_is_stored_without_credentials(holder: str, sent: str) -> None:
    """At any depth, in any form, the first time and every time."""
    make, path = HOLDERS[holder]
    guard = Guard()
    for _ in range(12):
        with capture_findings() as findings:
            payload = guard.dumps(make(SENT[sent]()), label="v")
        assert b"canary" not in payload
        assert b"text/plain" in payload
        assert [(one.code, str(one.path), one.did) for one in findings] == [
            ("CC106", path, "stored it without credentials")
        ]
        pickle.loads(payload)


@pytest.mark.usefixtures("request_scope")
def test_the_session_id_is_taken_out_of_the_cookies() -> None:
    """The other cookies are data."""
    value = {"cookies": {"theme": "dark", "sid": SESSION}}
    guard = Guard()
    for _ in range(12):
        assert pickle.loads(guard.dumps(value)) == {"cookies": {"theme": "dark"}}


@pytest.mark.usefixtures("request_scope")
@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"mine": TOKEN}, "v['mine']"),
        ([f"id={SESSION}"], "v[0]"),
        (Visit(TOKEN), "v.sent"),
        ({"a": [{"b": SESSION.encode()}]}, "v['a'][0]['b']"),
    ],
)
def test_a_credential_put_somewhere_by_hand_is_stored_and_reported(value: Any, path: str) -> None:
    """As the developer asked; mode `raise` refuses it."""
    with capture_findings() as findings:
        payload = Guard().dumps(value, label="v")
    assert payload == pickle.dumps(value, 5)
    assert [(one.code, str(one.path), one.action) for one in findings] == [
        ("CC120", path, "observed")
    ]
    with pytest.raises(UncacheableValueError, match="CC120"):
        Guard(mode="raise").dumps(value)


@pytest.mark.parametrize("holder", HOLDERS)
def test_an_environment_is_found_without_a_request(holder: str) -> None:
    """By its two names, as in a worker."""
    make, path = HOLDERS[holder]
    with capture_findings() as findings:
        payload = Guard().dumps(make(dict(ENVIRON)), label="v")
    assert b"canary" not in payload
    assert b"REQUEST_METHOD" in payload
    assert [str(one.path) for one in findings] == [path]


@pytest.mark.usefixtures("request_scope")
@pytest.mark.parametrize("value", [[ENVIRON], {"a": {"b": HEADERS}}, Visit(RAW)])
def test_the_modes_hold_each_time(value: Any) -> None:
    """`warn` stores it unchanged and `raise` refuses it; nothing that is live is changed."""
    before = pickle.dumps(value, 5)
    warning, raising = Guard(mode="warn"), Guard(mode="raise")
    for _ in range(3):
        assert warning.dumps(value) == before
        with pytest.raises(UncacheableValueError, match="CC106"):
            raising.dumps(value)
        Guard().dumps(value)
    assert pickle.dumps(value, 5) == before


@pytest.mark.usefixtures("request_scope")
@pytest.mark.parametrize(
    "value",
    [
        {"recipe": {"Cookie": "oat"}, "form": {"authorization": "signed by the board"}},
        ["HTTP_COOKIE", {"names": ("HTTP_AUTHORIZATION", "HTTP_COOKIE")}],
        {"sid": "another session", "headers": [("Cookie", "theme=light")]},
        Visit({"Authorization": "Bearer of somebody else"}),
        {"rows": [{"HTTP COOKIE": deque([1])}] * 3, "word": "HTTP_COOKIE"},
    ],
)
def test_words_alone_are_innocent(value: Any) -> None:
    """Byte for byte, and nothing is reported."""
    with capture_findings() as findings:
        assert Guard().dumps(value) == pickle.dumps(value, 5)
    assert findings == []


def test_a_deep_value_that_uses_the_words_is_stored() -> None:
    """The pass that cleans may have no room where the pickler in C has; it says so then."""
    value: Any = ["HTTP_COOKIE"]
    for _ in range(150):
        value = [value]
    assert Guard().dumps(value) == pickle.dumps(value, 5)


plain = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda held: (
        st.lists(held, max_size=3) | st.dictionaries(st.text(max_size=3), held, max_size=3)
    ),
    max_leaves=10,
)


@given(plain, st.sampled_from(["HTTP_COOKIE", "HTTP_AUTHORIZATION"]))
def test_any_data_beside_an_environment_is_stored_as_it_is(data: Any, name: str) -> None:
    """Only the environment is another one."""
    value = {"data": data, "env": {name: "canary", "PATH_INFO": "/"}, "more": [data]}
    found = pickle.loads(Guard().dumps(value))
    assert found == {"data": data, "env": {"PATH_INFO": "/"}, "more": [data]}


class Name(str):
    """A text of a class of its own, which is equal to what it is."""

    __slots__ = ()


@pytest.mark.parametrize("key", ["HTTP_COOKIE", "HTTP_AUTHORIZATION"])
def test_the_name_of_a_header_may_be_of_any_kind_of_text(key: str) -> None:
    """What is equal to the name is a key of an environment."""
    value = {"env": {Name(key): "canary", "PATH_INFO": "/"}}
    assert b"canary" not in Guard().dumps(value)


@given(st.text(max_size=5), st.text(max_size=5), st.lists(st.text('abc=; ."\\é', max_size=90)))
def test_each_credential_is_found_wherever_it_stands(before: str, after: str, sent: Any) -> None:
    """Also where one is a part of another, and where JSON writes it in another way."""
    token, cookie, session = [*sent, "", "", ""][:3]
    credentials = Credentials(token, f"{cookie}sid={session}", "sid", session)
    for secret in (token, session, f"{cookie}sid={session}"):
        if len(secret) >= MIN_LENGTH and (secret != token or not token.partition(" ")[2].strip()):
            assert credentials.found_in(json.dumps(before + secret + after))
            assert credentials.found_in(pickle.dumps([before + secret + after], 5))


def test_short_credentials_are_not_looked_for() -> None:
    """They occur by chance."""
    assert Credentials("Basic x", "a=1", "sid", "abc").needles == ()


@pytest.mark.usefixtures("request_scope")
@pytest.mark.parametrize(
    "sent", ["environ", "headers", "lower", "pairs", "tuple of pairs", "lists", "ordered"]
)
@pytest.mark.parametrize("holder", ["alone", "list", "tuple", "deep"])
def test_json_holds_no_credentials_either(holder: str, sent: str) -> None:
    """At any depth, the first time and every time; the record names the field."""
    make, path = HOLDERS[holder]
    guard = JSONGuard(json.dumps)
    for _ in range(3):
        with capture_findings() as findings:
            payload = guard.dumps(make(SENT[sent]()), label="v")
        assert "canary" not in payload
        assert "text/plain" in payload
        assert ("CC106", path) in [(one.code, str(one.path)) for one in findings]


@pytest.mark.usefixtures("request_scope")
def test_json_reports_what_was_put_somewhere_by_hand() -> None:
    """It is stored as the developer asked."""
    with capture_findings() as findings:
        assert JSONGuard(json.dumps).dumps({"mine": TOKEN}, label="v") == f'{{"mine": "{TOKEN}"}}'
    assert [(one.code, str(one.path)) for one in findings] == [("CC120", "v['mine']")]
