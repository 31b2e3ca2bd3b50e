"""The envelope: nothing is unpickled that this application did not write, for this very key."""

from __future__ import annotations

import hmac
import os
import pickle
import random
import re
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import (
    Config,
    ConfigurationError,
    Guard,
    UnreadablePayloadError,
    UntrustedPayloadError,
    is_sealed,
)
from contextcache.payload.envelope import Envelope, codec, derived, key_id, unverified
from tests.child import ROOT


class Planted:
    """Creates a file when it is unpickled: the mark that somebody's code was run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.fspath(self.path),)


SAMPLES = Path(__file__).parent / "samples"
FORMAT = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")


def guard(*secrets: str, **options: object) -> Guard:
    return Guard(Config(secret_keys=secrets or ("secret",), **options))  # type: ignore[arg-type]


VALUE = {"user": 7, "tags": ["a", "b"], "text": "x" * 100}


# --- What it promises ---------------------------------------------------------------------------


def test_what_was_sealed_comes_back() -> None:
    """Under the same key, with the same secret."""
    payload = guard().dumps(VALUE, key=":1:user")
    assert is_sealed(payload)
    assert guard().loads(payload, key=":1:user") == VALUE
    assert guard().loads(payload, key=b":1:user") == VALUE


def test_without_a_secret_it_is_a_plain_pickle() -> None:
    """The core alone changes no byte."""
    assert Guard().dumps(VALUE) == pickle.dumps(VALUE, 5)
    assert guard(sign=False).dumps(VALUE) == pickle.dumps(VALUE, 5)


@given(st.binary(max_size=300), st.binary(max_size=40), st.data())
def test_no_other_bytes_are_opened(body: bytes, key: bytes, data: st.DataObject) -> None:
    """One bit changed anywhere, one byte more or less: refused, and nothing of it is run."""
    envelope = Envelope(["secret"], purpose="cache", most=10**6)
    payload = envelope.seal(body, key)
    assert envelope.open(payload, key, "x") == body
    place = data.draw(st.integers(0, 8 * len(payload) - 1))
    flipped = bytearray(payload)
    flipped[place // 8] ^= 1 << place % 8
    shorter = payload[: data.draw(st.integers(0, len(payload) - 1))]
    for changed in (bytes(flipped), shorter, payload + b"\0"):
        with pytest.raises(UnreadablePayloadError):
            guard().loads(changed, key=key)


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_where_the_key_ends_and_the_body_begins_is_signed(key: bytes, body: bytes) -> None:
    """Bytes cannot be moved from the key into the body (Django CVE-2026-6873 was such a case)."""
    envelope = Envelope(["secret"], purpose="cache", most=10**6)
    payload = envelope.seal(body + b"tail", key)
    moved = payload[: Envelope.OVERHEAD] + b"tail"
    with pytest.raises(UntrustedPayloadError):
        envelope.open(moved, key + body + b"x", "x")
    if body:
        with pytest.raises(UntrustedPayloadError):
            envelope.open(moved, key + body, "x")


REFUSED = {
    "another key": (
        lambda: guard().loads(guard().dumps(VALUE, key="mine"), label="x", key="theirs"),
        "its signature is wrong: it was changed, or copied from another key",
    ),
    "another purpose": (
        lambda: Guard(Config(secret_keys=("secret",)), session=True).loads(
            guard().dumps(VALUE, key="k"), label="x", key="k"
        ),
        "it was signed with another secret",
    ),
    "another secret": (
        lambda: guard("new").loads(guard("old").dumps(VALUE), label="x"),
        "it was signed with another secret",
    ),
    "no signature": (
        lambda: guard().loads(pickle.dumps(VALUE, 5), label="x"),
        "it is not signed",
    ),
    "nothing": (lambda: guard().loads(b"", label="x"), "it is not signed"),
    "a secret there, none here": (
        lambda: Guard().loads(guard().dumps(VALUE), label="x"),
        "it is signed, and there is no secret here to verify it with",
    ),
    "a format of tomorrow": (
        lambda: guard().loads(b"\xcc\x02" + guard().dumps(VALUE)[2:], label="x"),
        "its format is not known here",
    ),
}


@pytest.mark.parametrize(("read", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_ours_is_refused_and_says_why(read, reason) -> None:  # type: ignore[no-untyped-def]
    """Each with its own reason; a handler for what is unreadable catches it, too."""
    with pytest.raises(UntrustedPayloadError) as caught:
        read()
    assert (caught.value.label, caught.value.reason) == ("x", reason)


def test_a_planted_pickle_is_not_run(tmp_path: Path) -> None:
    """Neither as it is, nor behind a magic byte and a signature that somebody made up."""
    evil = pickle.dumps(Planted(tmp_path / "run"), 5)
    head = b"\xcc\x01\x00" + key_id(derived("secret", "cache"))
    for payload in (evil, head + b"\0" * 32 + evil, b"!" + evil, b"\xcc" + evil):
        with pytest.raises(UnreadablePayloadError):
            guard().loads(payload)
    assert not (tmp_path / "run").exists()
    guard(accept_unsigned=True).loads(evil)  # the plant would have worked
    assert (tmp_path / "run").exists()


# --- Secrets ------------------------------------------------------------------------------------


def test_the_first_secret_signs_and_each_verifies() -> None:
    """As with SECRET_KEY_FALLBACKS; Flask once had it the wrong way round (CVE-2025-47278)."""
    old, both, new = guard("old"), guard("new", "old"), guard("new")
    assert both.loads(old.dumps(VALUE)) == VALUE
    assert new.loads(both.dumps(VALUE)) == VALUE
    with pytest.raises(UntrustedPayloadError):
        old.loads(both.dumps(VALUE))


def test_secrets_are_never_used_as_they_are() -> None:
    """The key that signs is derived, and another one for each purpose."""
    keys = {derived("secret", "cache"), derived("secret", "session"), derived("other", "cache")}
    assert len(keys) == 3
    assert all(len(key) == 32 for key in keys)
    assert derived("secret", "cache") == derived(b"secret", "cache")
    assert "secret" not in repr(Config(secret_keys=("secret",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": True}, "SIGN needs a secret: set SECRET_KEY"),
        ({"compress": "zlib"}, "COMPRESS needs a secret: set SECRET_KEY"),
        (
            {"sign": False, "compress": "zlib", "secret_keys": ("s",)},
            "COMPRESS needs SIGN: a plain pickle cannot say that it is",
        ),
        ({"secret_keys": ("",)}, "signing needs a secret that is not empty"),
        ({"secret_keys": ("s", "")}, "signing needs a secret that is not empty"),
        (
            {"compress": "zstandard", "secret_keys": ("s",)},
            "unknown compression 'zstandard' (did you mean 'zstd'?); valid: zlib, zstd",
        ),
    ],
)
def test_a_policy_that_cannot_be_kept_is_an_error(options: dict[str, object], message: str) -> None:
    """When the guard is made, not when the first value is lost."""
    with pytest.raises(ConfigurationError) as caught:
        Guard(**options)
    assert str(caught.value) == message


# --- Migration ----------------------------------------------------------------------------------


def test_a_migration_reads_both_and_writes_signed() -> None:
    """`accept_unsigned`, for the time until the old entries have expired."""
    migrating = guard(accept_unsigned=True)
    assert migrating.loads(pickle.dumps(VALUE, 5)) == VALUE
    assert is_sealed(migrating.dumps(VALUE))
    with pytest.raises(UntrustedPayloadError):  # what claims to be signed has to be
        migrating.loads(guard("other").dumps(VALUE))


def test_the_way_back_reads_both_and_writes_plainly() -> None:
    """`sign=False` with the secrets still there."""
    back = guard(sign=False)
    assert back.loads(guard().dumps(VALUE, key="k"), key="k") == VALUE
    assert back.loads(back.dumps(VALUE)) == VALUE


# --- Compression --------------------------------------------------------------------------------

LARGE = {"rows": [{"name": "a name", "number": number} for number in range(2000)]}


@pytest.mark.parametrize("name", ["zlib", "zstd"])
def test_a_large_payload_is_compressed(name: str) -> None:
    """And a small one, or one that would not become smaller, is not."""
    packing = guard(compress=name)
    payload = packing.dumps(LARGE)
    assert len(payload) < len(guard().dumps(LARGE)) / 2
    assert guard().loads(payload) == LARGE  # the payload says how, under its signature
    noise = {"noise": random.Random(1).randbytes(10_000)}
    for value in (VALUE, noise):
        assert packing.dumps(value) == guard().dumps(value)


@pytest.mark.parametrize("name", ["zlib", "zstd"])
@pytest.mark.parametrize("size", [65_536, 1_000_001, 10_000_000])
def test_what_compresses_best_is_compressed_and_read(name: str, size: int) -> None:
    """Zeros and repeated text, which zstd makes 10,000 times smaller."""
    for value in ({"zeros": bytes(size)}, "ab" * (size // 2), [0.0] * (size // 8)):
        payload = guard(compress=name).dumps(value)
        assert guard().loads(payload) == value
        assert len(payload) < size / 90
        assert len(payload) >= size / 1000


@pytest.mark.parametrize("name", ["zlib", "zstd"])
def test_a_bomb_is_not_unpacked(name: str) -> None:
    """Neither beyond `MAX_SIZE` nor beyond the ratio, though it is signed with the secret."""
    small = guard(compress=name, max_size=20_000)
    with pytest.raises(UnreadablePayloadError, match="its body expands to more than is allowed"):
        small.loads(guard(compress=name).dumps(LARGE))
    flag = {"zlib": b"\1", "zstd": b"\2"}[name]
    for zeros, refused in ((10_000_000, True), (100_000, name == "zstd")):
        body = pickle.dumps(bytes(zeros), 5)
        stream = zlib.compress(body, 9) if name == "zlib" else codec(name).compress(body)
        assert (len(body) > 1000 * len(stream)) is refused
        bomb = sealed_by_hand(flag, stream)
        for read in (guard().loads, lambda bomb: unverified(bomb, label="it", most=2**29)):
            if refused:
                with pytest.raises(UnreadablePayloadError, match="more than is allowed"):
                    read(bomb)
            else:
                read(bomb)


def sealed_by_hand(flag: bytes, body: bytes) -> bytes:
    """Return a payload with that body, as only the owner of the secret can make it."""
    header = b"\xcc\x01" + flag + key_id(key := derived("secret", "cache"))
    return header + hmac.digest(key, header + bytes(8) + body, "sha256") + body


@pytest.mark.parametrize("flag", [b"\1", b"\2", b"\3"])
def test_a_body_that_cannot_be_expanded_is_unreadable(flag: bytes) -> None:
    """Signed by us, and damaged before: no error of a compression library gets out."""
    with pytest.raises(UnreadablePayloadError):
        guard().loads(sealed_by_hand(flag, b"no such stream"))


# --- Sizes --------------------------------------------------------------------------------------


def test_the_limit_counts_the_envelope() -> None:
    """What is sent is never larger than `max_size`."""
    plain = len(pickle.dumps(VALUE, 5))
    assert len(guard(max_size=plain + Envelope.OVERHEAD).dumps(VALUE)) == plain + 39
    with pytest.raises(Exception, match="CC131"):
        guard(max_size=plain + Envelope.OVERHEAD - 1).dumps(VALUE)


# --- The format ---------------------------------------------------------------------------------


def test_the_samples_of_every_version_load_for_ever() -> None:
    """Stored bytes, whose file name tells version, compression and key; secret `sample`."""
    samples = sorted(SAMPLES.glob("*.bin"))
    assert {path.name.partition("-")[0] for path in samples} == {"v1"}
    assert len(samples) == 4
    for path in samples:
        _, _, purpose = path.stem.partition("-")
        reader = Guard(Config(secret_keys=("sample",)), session=purpose.startswith("session"))
        expected = LARGE if "zlib" in purpose or "zstd" in purpose else VALUE
        assert reader.loads(path.read_bytes(), key="key") == expected, path.name


def test_the_document_tells_how_to_verify_one_by_hand() -> None:
    """The program in docs/format.md, run on a sample, agrees."""
    [program] = re.findall(r"```python\n(.*?)```", FORMAT, re.DOTALL)
    names: dict[str, object] = {"payload": (SAMPLES / "v1-cache.bin").read_bytes()}
    exec(program, names)
    assert names["verified"] is True
    assert pickle.loads(names["body"]) == VALUE  # type: ignore[arg-type]


@given(st.binary(min_size=1, max_size=99), st.text(max_size=99), st.binary())
def test_the_signature_is_hmac_sha256(secret: bytes, place: str, body: bytes) -> None:
    """It is worked out in steps; in one, it comes to the same."""
    envelope = Envelope([secret], purpose="cache", most=10**6)
    payload = envelope.seal(body, place)
    length = len(place.encode()).to_bytes(8, "big")
    signed = payload[:7] + length + place.encode() + body
    assert payload[7:39] == hmac.digest(derived(secret, "cache"), signed, "sha256")
    assert envelope.seal(body, place.encode()) == payload
