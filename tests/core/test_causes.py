"""One cause is one record, which lists its fields."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Config, Guard
from contextcache.jsonable import JSONGuard
from contextcache.testing import capture_findings

if TYPE_CHECKING:
    from collections.abc import Callable


class Bound:
    """Holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Other(Bound):
    """Holds one, too, and is another class."""


class Form:
    """Holds a table of what offends."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.fields = {name: make() for name in ("name", "mail", "text")}


@pytest.mark.parametrize(
    ("build", "fields"),
    [
        (lambda: {"title": Bound(), "body": Bound()}, [2]),
        (lambda: Form(Bound), [3]),
        (lambda: Form(lambda: lambda: 1), [3]),
        (lambda: Form(lambda: (1, threading.Lock())), [3]),
        (lambda: {"a": Form(Bound), "b": Form(Bound)}, [6]),
        (lambda: {"title": Bound(), "body": Other()}, [1, 1]),
        (lambda: {"lock": threading.Lock(), "call": lambda: 1}, [1, 1]),
        (lambda: {"form": Form(Bound), "calls": Form(lambda: lambda: 1)}, [3, 3]),
    ],
)
def test_one_cause_is_one_record(
    build: Callable[[], Any], fields: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """What hangs below one attribute, or in the same field of a class, is told together."""
    Guard().dumps({"it": build()}, label="session")
    records: list[Any] = caplog.records
    assert [len(record.contextcache_leaves) for record in records] == fields
    for record in records:
        paths = {leaf["path"] for leaf in record.contextcache_leaves}
        assert len(paths) == len(record.contextcache_leaves)


@pytest.mark.parametrize(
    "place", [lambda meta: meta, lambda meta: [meta], lambda meta: [{"a": meta}]]
)
def test_an_environ_in_json_is_one_record(place: Callable[[Any], Any]) -> None:
    """It is that of its field, and the rest is stored without credentials."""
    environ = {
        "HTTP_AUTHORIZATION": "Bearer canary", "HTTP_USER_AGENT": "agent", "wsgi.version": (1, 0),
        "wsgi.input": object(), "QUERY_STRING": "token=canary",
    }  # fmt: skip
    with capture_findings() as findings:
        payload = JSONGuard(json.dumps, Config()).dumps({"meta": place(environ)})
    assert [finding.code for finding in findings] == ["CC106"]
    assert "agent" in payload
    assert "canary" not in payload
