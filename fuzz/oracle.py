"""What must hold for whatever bytes `Guard.loads` is given; shared by both fuzzers.

It returns a value or raises `UnreadablePayloadError`, and on the way there nothing is imported,
compiled, opened, connected or started, which CPython's audit events would tell.
"""

from __future__ import annotations

import sys
from typing import Any

from contextcache import Guard, UnreadablePayloadError

KEY = ":1:kept"
FORBIDDEN = ("compile", "ctypes.", "exec", "import", "open", "os.", "pty.", "shutil.", "socket.",
             "subprocess.", "tempfile.", "urllib.")  # fmt: skip

SIGNED = Guard(secret_keys=("the secret of the fuzzer",), compress="zlib")
LISTED = Guard(loadable=("decimal.Decimal",))
"""Reads what is unsigned, but only from names that are listed."""

_loading = False
_events: list[str] = []


class Refused:
    """What `loads` returns here for a payload that cannot be read."""


REFUSED = Refused()


def loads(guard: Guard, payload: bytes, key: str = KEY) -> Any:
    """Load `payload`, and return the value or `REFUSED`; anything else is a failure."""
    global _loading
    _events.clear()
    _loading = True
    try:
        value = guard.loads(payload, label="fuzzed", key=key)
    except UnreadablePayloadError:
        value = REFUSED
    finally:
        _loading = False
    assert not _events, _events
    return value


def _listen(event: str, _: object) -> None:
    if _loading and event.startswith(FORBIDDEN):
        _events.append(event)


sys.addaudithook(_listen)
# What is imported at the first use, and not again.
loads(SIGNED, SIGNED.dumps([1] * 5000, key=KEY))
loads(LISTED, b"not a pickle")
