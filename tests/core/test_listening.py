"""Listening to findings changes what is reported, and nothing that is stored."""

from __future__ import annotations

import contextlib
import re

import pytest

from contextcache import Guard, UncacheableValueError
from contextcache.testing import capture_findings
from tests.zoo import OFFENDERS, Case

TAKEN = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")  # when a marker was made


def writes(guard: Guard, value: object) -> list[bytes | None]:
    """Store a value under a new label, a known one, and one of which it is the first milestone."""
    payloads: list[bytes | None] = []
    for _ in range(3):
        payloads.append(None)
        with contextlib.suppress(UncacheableValueError):
            payloads[-1] = TAKEN.sub(b"", guard.dumps(value, label="cache['k']"))
    return payloads


@pytest.mark.parametrize("case", OFFENDERS, ids=str)
def test_a_test_that_collects_findings_stores_what_production_stores(case: Case) -> None:
    """The same value is cut in the same way, at its first write and when it is known."""
    value = case.build()
    in_production = writes(Guard(), value)
    with capture_findings():
        in_a_test = writes(Guard(), value)
    assert in_a_test == in_production
