"""The environment of a request is a plain dict, which no rule for a type can name."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest

from contextcache import Guard, UncacheableValueError
from contextcache.testing import capture_findings

CANARY = "canary-51bd"


def environ(**more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/cart",
        "QUERY_STRING": f"token={CANARY}",
        "HTTP_ACCEPT": "text/html",
        "HTTP_COOKIE": f"sessionid={CANARY}",
        "HTTP_AUTHORIZATION": f"Bearer {CANARY}",
        "wsgi.version": (1, 0),
        **more,
    }


@pytest.mark.parametrize("label", ["value", "session"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_an_environment_is_stored_without_credentials(label: str, times: int) -> None:
    """The first time and every time, as the value itself or directly in it."""
    guard = Guard()
    for value, path in ((environ(), label), ({"meta": environ(), "n": 1}, f"{label}['meta']")):
        for _ in range(times):
            payload = guard.dumps(value, label=label)
        assert CANARY.encode() not in payload
        stored = pickle.loads(payload)
        stored = stored if path == label else stored["meta"]
        assert stored == {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/cart",
            "HTTP_ACCEPT": "text/html",
            "wsgi.version": (1, 0),
        }


def test_it_is_named_once_and_its_streams_go_with_it() -> None:
    """One finding for the dict, none for the streams of the server in it."""
    with open(os.devnull, "w") as stream, capture_findings() as findings:
        Guard().dumps({"meta": environ(**{"wsgi.errors": stream})})
    assert [(one.code, str(one.path), one.action) for one in findings] == [
        ("CC106", "value['meta']", "snapshotted")
    ]


def test_deeper_inside_it_is_reported() -> None:
    """It is cleaned at any depth, and its streams go with it."""
    with open(os.devnull, "w") as stream, capture_findings() as findings:
        Guard().dumps([{"a": [environ(**{"wsgi.errors": stream})]}])
    assert [(one.code, str(one.path), one.action) for one in findings] == [
        ("CC106", "value[0]['a'][0]", "snapshotted")
    ]


def test_a_known_place_still_reports_its_first_environment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a page stored before does not silence it."""
    guard = Guard()
    guard.dumps({"meta": (step for step in ())}, label="session")
    caplog.clear()
    guard.dumps({"meta": environ()}, label="session")
    assert [record.getMessage()[:16] for record in caplog.records] == ["contextcache CC1"]


def test_an_innocent_dict_is_left_alone() -> None:
    """An environment without credentials, and any other dict, is stored byte for byte."""
    innocent = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT": "text/html"}
    for value in (innocent, {"meta": innocent}, {"cookies": "HTTP_COOKIE"}):
        assert Guard().dumps(value) == pickle.dumps(value, 5)


@pytest.mark.parametrize("value", [environ(), {"meta": environ()}])
def test_the_modes_hold_for_it_each_time(value: dict[str, Any]) -> None:
    """`warn` stores it unchanged and `raise` refuses it, at a known place, too."""
    warning, raising = Guard(mode="warn"), Guard(mode="raise")
    for _ in range(3):
        assert warning.dumps(value) == pickle.dumps(value, 5)
        with pytest.raises(UncacheableValueError, match="CC106"):
            raising.dumps(value)
