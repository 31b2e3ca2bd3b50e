"""The table of shapes: it knows secrets from what only looks like one."""

from __future__ import annotations

import base64
import hashlib
import pathlib
import re
import sysconfig
import uuid
from random import Random
from typing import Any

import django
import flask
import pytest
import werkzeug
from django.contrib.auth.hashers import (
    MD5PasswordHasher,
    PBKDF2PasswordHasher,
    PBKDF2SHA1PasswordHasher,
    ScryptPasswordHasher,
)
from django.middleware.csrf import _get_new_csrf_string, _mask_cipher_secret
from django.utils.crypto import get_random_string
from hypothesis import example, given, settings
from hypothesis import strategies as st
from werkzeug.security import generate_password_hash

from contextcache.rules.secret_shapes import SHAPES, shape_of, shapes_in
from tests.child import ROOT
from tests.core.secret_grammar import ALNUM, GRAMMAR, WORD, secret

seeds = st.integers(0, 2**64)
PROSE = "The parcel left the warehouse on Tuesday; it weighs 4.2 kg and costs 17 EUR.\n" * 40


@pytest.mark.parametrize("kind", GRAMMAR)
@settings(max_examples=30)
@given(seed=seeds)
def test_a_secret_is_found_wherever_it_stands_in_a_text(kind: str, seed: int) -> None:
    """Alone, as bytes, in quotes, in JSON, in a header, in a long text."""
    key = secret(kind, seed)
    expected = shape_of(key)
    assert expected is not None
    assert shape_of(key.encode()) is expected
    for before, after in (("", "\n"), ('{"key": "', '"}'), ("Bearer ", ""), (PROSE, PROSE)):
        text = f"{before} {key} {after}" if before == PROSE else f"{before}{key}{after}"
        assert shape_of(text) is expected
        assert expected in shapes_in(text.encode())


def test_every_shape_is_that_of_a_secret_made_here() -> None:
    """So no row is without a test."""
    made = {shape_of(secret(kind, seed)) for kind in GRAMMAR for seed in range(40)}
    assert set(SHAPES) <= made


def test_every_shape_names_its_source() -> None:
    """And is worded so that it fits after `it holds what looks like`."""
    for shape in SHAPES:
        assert shape.source.startswith("https://"), shape
        assert re.match(r"an? [A-Za-z]", shape.name), shape


def test_the_documentation_lists_every_shape() -> None:
    """With the address of its description, in the order of the table."""
    page = (ROOT / "docs" / "secrets.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (an? .+) \| (https://\S+) \|$", page, re.MULTILINE)
    assert listed == list(dict.fromkeys((shape.name, shape.source) for shape in SHAPES))


@pytest.mark.parametrize(
    "hasher",
    [PBKDF2PasswordHasher, PBKDF2SHA1PasswordHasher, ScryptPasswordHasher, MD5PasswordHasher],
)  # the others need packages
def test_what_django_makes_of_a_password_is_found(hasher: Any) -> None:
    """By the hashers themselves, not by what is known here of them."""
    assert shape_of(hasher().encode("correct horse", get_random_string(22))) is not None


@pytest.mark.parametrize("method", ["scrypt", "pbkdf2:sha256:1000", "pbkdf2:sha1:1000"])
def test_what_werkzeug_makes_of_a_password_is_found(method: str) -> None:
    """By werkzeug itself."""
    assert shape_of(generate_password_hash("correct horse", method)) is not None


def _texts(*folders: pathlib.Path, pattern: str) -> list[tuple[str, bytes]]:
    files = sorted({path for folder in folders for path in folder.rglob(pattern)})
    return [(path.name, path.read_bytes()) for path in files if path.is_file()]


def _standard_library() -> list[tuple[str, bytes]]:
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    own = [folder, *(folder / name for name in ("email", "http", "json", "urllib", "asyncio"))]
    files = [path for one in own for path in sorted(one.glob("*.py"))]
    return [(path.name, path.read_bytes()) for path in files if path.is_file()]


CORPORA = {
    "the standard library": _standard_library,
    "Django": lambda: _texts(pathlib.Path(django.__file__).parent, pattern="*.py"),
    "Flask": lambda: _texts(
        pathlib.Path(flask.__file__).parent, pathlib.Path(werkzeug.__file__).parent, pattern="*.py"
    ),
    "templates": lambda: _texts(pathlib.Path(django.__file__).parent, pattern="*.html"),
    "translations": lambda: _texts(pathlib.Path(django.__file__).parent, pattern="*.po"),
    "documentation": lambda: (
        _texts(ROOT / "docs", pattern="*.md") + _texts(ROOT, pattern="README.md")
    ),
}


@pytest.mark.parametrize("corpus", CORPORA)
def test_ordinary_text_and_source_code_have_none(corpus: str) -> None:
    """As whole files, and line by line; together several megabytes."""
    texts = CORPORA[corpus]()
    assert sum(len(text) for _, text in texts) > 50_000
    for name, text in texts:
        shapes = shapes_in(text)
        if shapes:
            assert shape_of(text, shapes) is None, name
            assert [line for line in text.splitlines() if shape_of(line, shapes)] == [], name


@given(seeds, st.integers(0, 400))
@example(0, 100_000)
def test_what_is_random_is_no_secret(seed: int, size: int) -> None:
    """Digests, ids, session keys, CSRF tokens, images in base64: none has the form of a key."""
    dice = Random(seed)
    data = dice.randbytes(size)
    for text in (
        data,
        base64.b64encode(data),
        base64.urlsafe_b64encode(data),
        base64.b32encode(data),
        base64.b85encode(data),
        data.hex(),
        f"data:image/png;base64,{base64.b64encode(data).decode()}",
        hashlib.sha1(data).hexdigest(),
        hashlib.sha256(data).hexdigest(),
        hashlib.sha512(data).hexdigest(),
        f"sha256:{hashlib.sha256(data).hexdigest()}",
        f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}",
        str(uuid.UUID(int=dice.getrandbits(128))),
        "".join(dice.choices(ALNUM, k=32)),
        "".join(dice.choices(WORD, k=43)),
        get_random_string(32),
        _mask_cipher_secret(_get_new_csrf_string()),
    ):
        assert shape_of(text) is None


@given(st.text(max_size=400))
def test_any_text_can_be_asked_for(text: str) -> None:
    """And nothing that hypothesis thinks of by itself is a secret."""
    assert shape_of(text) is None
    assert shape_of(text.encode("utf-8", "surrogatepass")) is None


@pytest.mark.parametrize(
    "text",
    [
        "export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE # from the documentation",
        "token: ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "Set sk_live_XXXXXXXXXXXXXXXXXXXXXXXX in the settings",
        "OPENAI_API_KEY=sk-proj-your-api-key-goes-here-instead",
        "postgres://user:password@localhost/db is the usual form",
        "redis://:{password}@{host}:6379",
        "https://${USER}:${PASSWORD}@example.com",
        "https://<user>:<password>@host/",
        "see https://example.com:8080/@alice and git@github.com:org/repo.git",
        "-----BEGIN PRIVATE KEY----- stands at the beginning",
        "-----BEGIN CERTIFICATE-----\n" + "MIIDdzCCAl+gAwIBAgIE" * 20,
        "-----BEGIN PUBLIC KEY-----\n" + "MIIBIjANBgkqhkiG9w0B" * 20,
        "eyJhbGciOiJIUzI1NiJ9",  # the header alone
        "eyJ1c2VyIjo0Mn0:1sVZ9a:Kq1fJm0rJ0nO2b7oP4W7lq0",  # of django.core.signing
        "eyJjYXJ0IjpbMSwyXX0.Zx9Qwg.Kq1fJm0rJ0nO2b7oP4W7lq0eRtQ",  # a cookie of Flask
        "task-management-of-risk-adjusted-returns-in-emerging-markets",
        "AKIA" * 30,
        "$2b$12$short",
        "USD $5$6 and $1$",
        "md5$" + "z" * 32,
    ],
)
def test_what_resembles_a_secret_is_none(text: str) -> None:
    """Placeholders of documentation, public keys, signed data, words."""
    assert shape_of(text) is None
