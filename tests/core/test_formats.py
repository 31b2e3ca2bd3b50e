"""A pickle is found in whatever it is wrapped, and nothing else is taken for one."""

from __future__ import annotations

import base64
import collections
import csv
import datetime as dt
import decimal
import enum
import fractions
import gzip
import io
import ipaddress
import json
import pathlib
import pickle
import re
import types
import uuid
import zlib
import zoneinfo
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache.commands.audit_entries import Form, Problem, Trust, judged
from contextcache.commands.formats import find_pickle, is_number, runs, unwrap
from contextcache.payload.compression import ExpansionError
from tests.sealing import SECRET, sealed

SYSTEM = b"cos\nsystem\n(S'true'\ntR."


class Bomb:
    """What a forger writes: to load it is to run it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('it was run')",)


def table() -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([["Id", "Sum"], ["I1", "5."], ["V2", "N."], ["cat", "dog"]])
    return out.getvalue().encode()


HARMLESS = {
    "words": b"hello", "a sentence": b"I am fine.", "lines": b"I am fine.\nNot so you?\nS.\n",
    "a list": b"(1, 2)", "None": b"None.", "N": b"N.", "a smiley": b").", "brackets": b"[].",
    "code": b"cimport os\nprint(os.name)\n.", "a page": b"<p>(Sorry)</p>.", "empty": b"",
    "json": json.dumps({"a": [1, None, "cos\nsystem\n(S'true'\ntR."]}).encode(),
    "json list": b"[1, 2, 3]", "json text": b'"text"', "number": b"5", "float": b"1.5",
    "negative": b"-7", "table": table(), "uuid": str(uuid.UUID(int=5)).encode(),
    "hex": uuid.UUID(int=2**127).hex.encode(), "uuid bytes": uuid.UUID(int=2**127).bytes,
    "base64": base64.b64encode(bytes(range(256))), "a token": b"gAAAAABl0x.Yz-1_.",
    "url": b"https://example.test/a?b=c#d.", "mail": b"Subject: hi\n\nDear you,\nbye\n.\n",
    "yaml": b"a: 1\nb:\n- c\n", "ini": b"[a]\nb = c\n", "python": b"def f():\n    return 1\n",
    "celery": b'{"body": "W1tdLCB7fV0=", "content-encoding": "utf-8", "properties": {}}',
    "rq": b"2026-11-26T10:00:00.000000Z", "png": b"\x89PNG\r\n\x1a\n" + bytes(50),
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(50), "gif": b"GIF89a\x01\0\x01\0;",
    "zip": b"PK\x03\x04" + bytes(30), "pdf": b"%PDF-1.7\n...", "woff": b"wOF2" + bytes(30),
    "protobuf": b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01",
    "utf-16": "hallo.".encode("utf-16"),
    "umlauts": "Grüße.".encode(), "msgpack empty": b"\x80", "msgpack": msgspec.msgpack.encode(
        {"user": 5, "cart": ["tea", None, 1.5, b"raw bytes"], "words": "I am fine."}),
    "msgpack list": msgspec.msgpack.encode([1, "N.", {"a": b"."}]), "compressed text":
        zlib.compress(b"I am fine. " * 100), "compressed json": gzip.compress(b'{"a": [1]}'),
    "a calendar": b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nEND:VCALENDAR\r\n", "crlf": b"I5\r\n\r\n.",
    "lua": b"return redis.call('get', KEYS[1])", "later protocol": b"\x80\x09N.",
    "lock": b"0.7319", "counted": b"I5 apples\nN.", "sentence with c": b"cats\ndogs\n.and more",
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_pickle_is_left_alone(name: str) -> None:
    """Texts, numbers, JSON, pictures: neither unsigned nor unreadable, even where all is signed."""
    payload = HARMLESS[name]
    entry = judged(b"k", len(payload), payload, Trust([SECRET], signs=True))
    assert entry.problems == ()
    assert entry.form in (Form.OTHER, Form.NUMBER, Form.COMPRESSED)


@given(text=st.text() | st.text(st.sampled_from("NIVScl(.)0]}\n '5ab")))
def test_no_text_may_run_code(text: str) -> None:
    """Whatever it looks like."""
    found = find_pickle(text.encode("utf-8", "surrogatepass"))
    assert found is None or not runs(found)


@given(payload=st.binary(max_size=200))
def test_no_bytes_break_it(payload: bytes) -> None:
    """Also where they look like a map of MessagePack, or compressed."""
    heads = (b"", b"!", b"\x81\xa1a", b"\x91\xc4", b"\xdf", b"x\x9c", b"\x1f\x8b\x08", b"BZh")
    for head in heads:
        judged(b"k", 9, head + payload, Trust([SECRET], signs=True))


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.binary() | st.integers(-9, 2**60),
        lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    )
)
def test_every_text_in_messagepack_is_reached(value: object) -> None:
    """Whatever stands before it."""
    body = msgspec.msgpack.encode([value, {"a": value, "b": SYSTEM}])
    found = find_pickle(body)
    assert found is not None
    assert runs(found) == ("os:system",)


PLANTED = {
    "a GLOBAL": SYSTEM, "an INST": b"(S'true'\nios\nsystem\n.",
    "an OBJ": b"(cos\nsystem\nS'id'\no.",
    "None before a pickle": b"N0\x80\x04" + SYSTEM, "a number before": b"K\x010\x80\x04" + SYSTEM,
    "a list around it": b"(lp0\ncos\nsystem\n(S'true'\ntRa.", "octal": b"I0o17\n0" + SYSTEM,
    "a frame": b"\x95" + bytes(8) + SYSTEM, "bytes behind it": SYSTEM + b" and more",
    "a line behind it": SYSTEM + b"\n", "damage behind it": SYSTEM[:-1] + b"\xff",
    "no end": SYSTEM[:-1], "popped": SYSTEM[:-1] + b"0N.",
    "Python 2": b"ccommands\ngetoutput\n(Vid\ntR.",
    "NEWOBJ": b"csubprocess\nPopen\n(Vid\nt\x81.", "a state": b"cos\nsystem\n(Vid\ntR}b.",
    **{f"protocol {number}": pickle.dumps([{"a": Bomb()}], number) for number in range(6)},
    **{f"protocol {number} alone": pickle.dumps(Bomb(), number) for number in range(6)},
}  # fmt: skip
WRAPPED = {
    "bare": lambda body: body,
    "Flask-Caching": lambda body: b"!" + body,
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "zlib behind a mark": lambda body: b"!" + zlib.compress(body),
    "MessagePack": lambda body: msgspec.msgpack.encode({"user": 1, "cart": body}),
    "MessagePack list": lambda body: msgspec.msgpack.encode([1.5, {"x": [None, body]}]),
    "MessagePack text": lambda body: msgspec.msgpack.encode({"a": body.decode("latin-1")}),
    "compressed MessagePack": lambda body: zlib.compress(msgspec.msgpack.encode({"a": body})),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
@pytest.mark.parametrize("name", PLANTED)
def test_what_runs_code_is_found_in_whatever_it_is_wrapped(name: str, wrapping: str) -> None:
    """Of every protocol, and although the unpickler stops later on."""
    if wrapping == "MessagePack text" and not PLANTED[name].isascii():
        return
    payload = WRAPPED[wrapping](PLANTED[name])
    entry = judged(b"k", len(payload), payload, Trust())
    assert Problem.RUNS in [problem for problem, _ in entry.problems]


class Color(enum.Enum):
    RED = 1


class Cart:
    def __init__(self) -> None:
        self.items = ["tea"]

    @classmethod
    def empty(cls) -> Cart:
        return cls()

    def add(self) -> None: ...


ORDINARY: list[Any] = [
    Cart(), Cart().add, Cart.empty, Cart, Color.RED, bytes(range(256)), bytearray(b"a"), 1j, {1, 2},
    collections.Counter("aab"), collections.defaultdict(list, a=[1]), collections.deque([1], 3),
    collections.OrderedDict(a=1), dt.datetime.now(dt.UTC), dt.timedelta(1), decimal.Decimal("1.5"),
    dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), fractions.Fraction(1, 2), range(3),
    zoneinfo.ZoneInfo("Europe/Berlin"), re.compile("a"), pathlib.PurePosixPath("/a"), ValueError(),
    ipaddress.ip_address("127.0.0.1"), uuid.UUID(int=1), frozenset({1}), len, iter([1]),
    types.SimpleNamespace(a=1),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", ORDINARY, ids=lambda value: type(value).__name__)
def test_ordinary_values_are_no_alarm(value: object, protocol: int) -> None:
    """Dates, zones, methods, paths: none of them is said to run code or to compute names."""
    payload = pickle.dumps([value, value], protocol)
    entry = judged(b"k", len(payload), payload, Trust())
    assert (entry.form, entry.problems) == (Form.PICKLE, ())


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", [{"a": 1}, ["x"], uuid.UUID(int=1), "text", 7, (1, 2)])
def test_a_pickle_of_data_is_a_pickle(value: object, protocol: int) -> None:
    """It runs nothing; where all is signed, it is unsigned."""
    payload = pickle.dumps(value, protocol)
    entry = judged(b"k", len(payload), payload, Trust([SECRET], signs=True))
    assert (entry.form, [problem for problem, _ in entry.problems]) == (
        Form.PICKLE,
        [Problem.UNSIGNED],
    )


def test_what_a_serializer_signed_and_django_redis_compressed_is_signed() -> None:
    """django-redis compresses what the serializer returns."""
    payload = zlib.compress(sealed(pickle.dumps({"a": 1}), ""))
    entry = judged(b"k", len(payload), payload, Trust([SECRET], signs=True))
    assert (entry.form, entry.kind, entry.problems) == (Form.SIGNED, "dict", ())
    payload = zlib.compress(sealed(pickle.dumps({"a": 1}), "", secret="another"))
    entry = judged(b"k", len(payload), payload, Trust([SECRET], signs=True))
    assert [problem for problem, _ in entry.problems] == [Problem.UNTRUSTED]


def test_a_bomb_is_named_and_not_expanded() -> None:
    """And many of them are expanded no further than all together may be."""
    trust = Trust()
    bomb = zlib.compress(bytes(20_000_000))
    entry = judged(b"k", len(bomb), bomb, trust)
    assert entry.problems == (
        (Problem.UNEXPANDED, "zlib: it expands to more than 8,000,000 bytes"),
    )
    half = zlib.compress(b"N0" * 2_000_000)
    found = [judged(b"k", len(half), half, Trust(expansion=trust.expansion)) for _ in range(10)]
    assert [len(entry.problems) for entry in found] == [0] * 8 + [1] * 2


def test_what_expands_little_is_always_expanded() -> None:
    """Honest entries do not use up what all together may become."""
    trust = Trust()
    trust.expansion.left = 0
    payload = zlib.compress(pickle.dumps([str(uuid.UUID(int=n * 7**40)) for n in range(1000)]))
    assert judged(b"k", len(payload), payload, trust).kind == "list"
    with pytest.raises(ExpansionError):
        unwrap(zlib.compress(bytes(1_000_000)), 1000)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b"5", True), (b"-5", True), (b"", False), (b"-", False), (b"1" * 40, False), (b"5.", False)],
)
def test_a_counter_is_a_number(payload: bytes, expected: bool) -> None:
    """As Redis increments it: of 64 bits."""
    assert is_number(payload) is expected
