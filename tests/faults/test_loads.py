"""Random and damaged bytes in front of `Guard.loads`; `make fuzz` goes on where this ends."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.oracle import KEY, LISTED, REFUSED, SIGNED, loads
from tests.child import run
from tests.faults.payloads import EVIL, disguised, executed

if TYPE_CHECKING:
    from collections.abc import Callable

many = settings(max_examples=2000, deadline=None)

SAMPLES: list[Any] = [
    {"tea": 1},
    [["cup", 2.5, None, b"\0" * 40]] * 3,
    ["leaf"] * 5000,  # large enough to be compressed
    {"user": 7, "roles": {"admin"}, "deep": [[[[()]]]]},
]
SEALED = [SIGNED.dumps(value, key=KEY) for value in SAMPLES]
PICKLED = [pickle.dumps(value, 5) for value in SAMPLES]

anything = st.binary(max_size=400)


@st.composite
def damaged(draw: st.DrawFn, samples: list[bytes]) -> bytes:
    """Draw a payload that was cut, flipped, spliced with another one, or all of it."""
    payload = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(payload)))
        match draw(st.sampled_from(["flip", "cut", "insert", "splice", "repeat"])):
            case "flip" if place < len(payload):
                payload[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del payload[place : place + draw(st.integers(1, 60))]
            case "insert":
                payload[place:place] = draw(anything)
            case "splice":
                other = draw(st.sampled_from(samples))
                payload[place:] = other[draw(st.integers(0, len(other))) :]
            case "repeat":
                payload += payload[place : place + 1000]
    return bytes(payload)


@many
@given(anything | damaged(SEALED) | damaged(PICKLED) | anything.map(b"\xcc\x01".__add__))
def test_only_what_was_sealed_here_is_read_where_payloads_are_signed(payload: bytes) -> None:
    """Not a bit may differ."""
    value = loads(SIGNED, payload)
    assert value == SAMPLES[SEALED.index(payload)] if payload in SEALED else value is REFUSED


@many
@given(st.sampled_from(SEALED), st.text(max_size=12))
def test_a_payload_is_read_under_its_own_key_only(payload: bytes, key: str) -> None:
    """Whatever the other key looks like."""
    assert (loads(SIGNED, payload, key) is REFUSED) == (key != KEY)


@many
@given(anything | damaged(PICKLED) | damaged([*EVIL.values()]))
def test_a_list_of_names_holds_against_whatever_is_unsigned(payload: bytes) -> None:
    """What cannot be read is refused, what can be is plain data, and nothing runs."""
    loads(LISTED, payload)
    assert executed == []


@pytest.mark.parametrize("evil", EVIL)
def test_every_attack_we_know_is_refused_by_the_list(evil: str) -> None:
    """In each of its disguises."""
    for payload in disguised(EVIL[evil]).values():
        assert loads(LISTED, payload) is REFUSED
    assert executed == []


EXTREME: dict[str, Callable[[], bytes]] = {
    "bytes of 2**62": lambda: b"\x80\x05\x8e" + (2**62).to_bytes(8, "little") + b".",
    "text of 4 GB": lambda: b"\x80\x05X\xff\xff\xff\xff.",
    "bytearray of 2**62": lambda: b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b".",
    "frame of 2**62": lambda: b"\x80\x05\x95" + (2**62).to_bytes(8, "little") + b"N.",
    "memo of 2**31": lambda: b"\x80\x05Nr\xff\xff\xff\x7f.",
    "integer of 2 GB": lambda: b"\x80\x05\x8b\xff\xff\xff\x7f.",
    "integer of a million digits": lambda: b"I" + b"9" * 1_000_000 + b"\n.",
    "a million open marks": lambda: b"\x80\x05" + b"(" * 1_000_000 + b".",
    "a million nested tuples": lambda: b"\x80\x05)" + b"\x85" * 1_000_000 + b".",
    "a million nested lists": lambda: b"\x80\x05" + b"]" * 1_000_000 + b"a" * 999_999 + b".",
    "bytearray called with 2**40": lambda: b"cbuiltins\nbytearray\n(I1099511627776\ntR.",
    "list of a range of 2**40": lambda: (
        b"cbuiltins\nlist\n(cbuiltins\nrange\n(I1099511627776\ntRtR."
    ),
}

LIMITED = """
    import resource
    from tests.faults.test_loads import EXTREME
    from fuzz.oracle import LISTED, REFUSED, SIGNED, loads
    most = 1024**3
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for name, payload in EXTREME.items():
        for guard in (SIGNED, LISTED):
            loads(guard, payload())
        print(name, flush=True)
"""


def test_a_small_payload_that_asks_for_much_does_not_end_the_process() -> None:
    """With a gigabyte for all: unreadable, or read; never a crash."""
    assert run(LIMITED).splitlines() == list(EXTREME)
