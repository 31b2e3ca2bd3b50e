"""Secrets in what is stored already, found by the audit and by explain without loading it."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zlib
from collections import OrderedDict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Guard, cli
from contextcache.commands.analysis import examine, examine_payload
from contextcache.commands.audit_entries import Problem, Trust, judged
from tests.core.secret_grammar import GRAMMAR, secret
from tests.core.test_secret_search import HOLDERS, TOKEN, Account
from tests.core.test_secret_shapes import PROSE
from tests.sealing import SECRET, sealed

if TYPE_CHECKING:
    import redis

LOOKS = "it holds what looks like a GitHub token"


def _secrets(payload: bytes, **options: Any) -> list[str]:
    entry = judged(b"key", len(payload), payload, Trust(**options))
    return [reason for problem, reason in entry.problems if problem is Problem.SECRET]


@given(
    st.sampled_from(sorted(GRAMMAR)),
    st.integers(0, 2**64),
    st.lists(st.sampled_from(HOLDERS), max_size=5),
    st.integers(0, 5),
    st.sampled_from(["text", "prose", "bytes"]),
)
def test_every_pickle_is_searched(
    kind: str, seed: int, holders: list[Any], protocol: int, form: str
) -> None:
    """Of any protocol, wherever a secret stands in it."""
    text = secret(kind, seed)
    value: Any = {"text": text, "prose": f"{PROSE} {text} {PROSE}", "bytes": text.encode()}[form]
    for make, _ in holders:
        value = make(value)
    try:
        payload = pickle.dumps(value, protocol)
    except TypeError:  # slots need protocol 2
        payload = pickle.dumps(value, 5)
    [reason] = _secrets(payload)
    assert text not in reason


@given(
    st.sampled_from(sorted(GRAMMAR)),
    st.integers(0, 2**64),
    st.lists(st.sampled_from(HOLDERS[:9]), max_size=5),
)
def test_explain_names_the_field_in_a_payload(kind: str, seed: int, holders: list[Any]) -> None:
    """The path is that in the value."""
    value: Any = secret(kind, seed)
    path = ""
    for make, step in holders:
        value, path = make(value), step + path
    seen = examine_payload(pickle.dumps(value, 5), label="v")
    assert [(one.code, str(one.path), one.did) for one in seen.findings] == [
        ("CC120", f"v{path}", "it is stored here")
    ]
    assert [str(one.path) for one in examine(value, label="v").findings] == [f"v{path}"]


@given(
    st.sampled_from(sorted(GRAMMAR)),
    st.integers(0, 2**64),
    st.lists(st.sampled_from(HOLDERS[:3]), max_size=5),
    st.sampled_from(["json", "slashes", "msgpack", "text"]),
)
def test_entries_of_other_programs_are_searched(
    kind: str, seed: int, holders: list[Any], form: str
) -> None:
    """JSON, MessagePack and plain text."""
    text = secret(kind, seed)
    value: Any = text
    for make, _ in holders:
        value = make(value)
    payload = {
        "json": lambda: json.dumps(value).encode(),
        "slashes": lambda: json.dumps(value).replace("/", "\\/").encode(),
        "msgpack": lambda: msgpack.packb([value]),
        "text": lambda: f"{PROSE}; key = {text}\n".encode(),
    }[form]()
    [reason] = _secrets(payload)
    assert text not in reason


VALUE = {"user": {"name": "Ada", "api_key": TOKEN}, "rows": [1, 2]}


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        (pickle.dumps(VALUE, 5), " at ['user']['api_key']"),
        (b"!" + pickle.dumps(VALUE, 4), " at ['user']['api_key']"),
        (zlib.compress(pickle.dumps(VALUE)), " at ['user']['api_key']"),
        (json.dumps(VALUE).encode(), " at ['user']['api_key']"),
        (pickle.dumps(Account("Ada", [TOKEN]), 5), " at .held[0]"),
        (pickle.dumps(SimpleNamespace(k=TOKEN), 2), " at .k"),
        (pickle.dumps(OrderedDict(k=TOKEN), 0), " at ['k']"),
        (pickle.dumps({TOKEN: 1}, 5), " at <key 0>"),
        (json.dumps({TOKEN: 1}).encode(), " at <key 0>"),
        (pickle.dumps({"visitor@example.com": TOKEN}, 5), " at [*]"),
        (pickle.dumps(TOKEN, 5), ""),
        (TOKEN.encode(), ""),
        (pickle.dumps(VALUE, 5)[:-3], ""),
        (json.dumps([*range(100_100), TOKEN]).encode(), ""),
        (b"\xff\x00" + TOKEN.encode() + b"\xff", ""),
        (pickle.dumps([TOKEN, secret("AWS", 1), secret("JWT", 1)]), " at [0], and 2 more"),
    ],
)
def test_the_reason_names_kind_and_field(payload: bytes, where: str) -> None:
    """And never the secret, nor what a visitor may have chosen."""
    assert _secrets(payload) == [LOOKS + where]


def test_no_key_is_shown_where_keys_are_redacted() -> None:
    """Positions in their place."""
    assert _secrets(pickle.dumps(VALUE, 5), redact=True) == [f"{LOOKS} at [*][*]"]


@pytest.mark.parametrize("secrets", [(), (SECRET,), ("another" * 9,)])
@pytest.mark.parametrize("compress", ["", "zlib"])
def test_what_is_signed_with_any_key_is_searched(secrets: Any, compress: str) -> None:
    """It is read, and what cannot be verified is neither loaded nor trusted."""
    guard = Guard(secret_keys=(SECRET,), compress=compress)
    payload = guard.dumps({"key": TOKEN, "more": "x" * 5000}, key="key")
    assert _secrets(payload, secrets=secrets) == [f"{LOOKS} at ['key']"]


@pytest.mark.parametrize(
    "value",
    [
        {"_auth_user_id": "1", "_auth_user_hash": "0f" * 32, "csrf": "aB3" * 20},
        {"url": "https://example.com/?q=1", "text": PROSE, "rows": [{"id": 1}] * 50},
        b"\x89PNG" + bytes(range(256)) * 40,
    ],
)
def test_ordinary_entries_have_none(value: Any) -> None:
    """Pickled, and as they are."""
    assert _secrets(pickle.dumps(value)) == []
    assert _secrets(value if isinstance(value, bytes) else json.dumps(value).encode()) == []


class Loaded:
    def __reduce__(self) -> Any:
        return exec, ("import sys; sys.modules['secret_was_loaded'] = sys",)


def test_nothing_is_loaded() -> None:
    """Not even where there is a secret."""
    assert _secrets(pickle.dumps([Loaded(), {"k": TOKEN}])) == [f"{LOOKS} at [1]['k']"]
    assert "secret_was_loaded" not in sys.modules


def test_the_audit_reports_secrets_and_shows_none(
    redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both forms of the report, not even where the key of an entry is one."""
    redis_client.set("shop", sealed(pickle.dumps(VALUE), "shop"))
    redis_client.set("other", json.dumps({"token": TOKEN}))
    redis_client.set(f"by:{TOKEN}", "1")
    redis_client.set("clean", json.dumps({"token": "none"}))
    monkeypatch.setenv("CONTEXTCACHE_SECRET_KEY", SECRET)
    for arguments in (["--json"], []):
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        assert cli.main(["audit", redis_url, *arguments]) == 1
        report = out.getvalue()
        assert TOKEN[4:] not in report
        if arguments:
            told = json.loads(report)["problems"]["secret"]
            assert {(one["key"], one["reason"]) for one in told["examples"]} == {
                ("shop", f"{LOOKS} at ['user']['api_key']"),
                ("other", f"{LOOKS} at ['token']"),
            }
        else:
            assert "2 entries with a secret: anyone who can read Redis can read it" in report


def test_the_tree_of_an_entry_shows_the_field(
    redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As explain does for a file."""
    redis_client.set("shop", sealed(pickle.dumps(VALUE), "shop"))
    monkeypatch.setenv("CONTEXTCACHE_SECRET_KEY", SECRET)
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    assert cli.main(["audit", redis_url, "--key", "shop"]) == 1
    assert f"CC120 shop['user']['api_key'] (str): {LOOKS}" in out.getvalue()
    assert TOKEN[4:] not in out.getvalue()
