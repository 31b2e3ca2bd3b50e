"""Payloads as an application with the tests' secret would have stored them."""

from __future__ import annotations

from contextcache.payload.envelope import Envelope

SECRET = "only for tests"


def sealed(body: bytes, key: str, *, purpose: str = "cache", secret: str = SECRET) -> bytes:
    """Return `body` signed for `key`, however damaged a pickle it is."""
    return Envelope([secret], purpose=purpose, most=2**29).seal(body, key)
