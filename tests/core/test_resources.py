"""Resources of third parties that are cut whole, at the field of the user's code."""

from __future__ import annotations

import csv
import hmac
import io
import json
import sys
from typing import Any

import pytest
import wtforms
from google_auth_oauthlib.flow import Flow
from loguru._logger import Core, Logger

from contextcache import Guard, is_stripped
from tests.core import shapes


def flow() -> Any:
    """A flow of Google's, as a view keeps it between the redirects."""
    urls = {"auth_uri": "https://a.example", "token_uri": "https://t.example"}
    config = {"web": {"client_id": "id", "client_secret": "s3cret", **urls}}
    return Flow.from_client_config(config, scopes=["mail"])


def logger(*, sinks: bool = True) -> Any:
    """A logger of loguru."""
    made = Logger(Core(), None, 0, False, False, False, False, True, [], {})
    if sinks:
        made.add(sys.stderr)
    return made


def form() -> Any:
    """A field of WTForms, which loads as an unbound one."""
    cls = type("Step", (wtforms.Form,), {"name": wtforms.StringField("Name")})
    return cls(data={"name": "bo"}).name


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (flow, "CC108"),
        (logger, "CC107"),
        (form, "CC119"),
        (lambda: hmac.new(b"k", b"x", "sha256"), "CC117"),
        (json.JSONDecoder, "CC117"),
        (lambda: csv.DictWriter(io.StringIO(), ["a"]), "CC117"),
    ],
)
def test_it_is_cut_whole(build: Any, code: str) -> None:
    """Nothing of it is stored, the rest is."""
    guard = Guard()
    for _ in range(2):
        payload = guard.dumps({"job": shapes.Thing(name="kept", held=build())}, label="value")
        loaded = guard.loads(payload)["job"]
        assert is_stripped(loaded.held)
        assert loaded.name == "kept"
        assert b"s3cret" not in payload
    [finding] = guard.summary()
    assert (finding.code, str(finding.path)) == (code, "value['job'].held")


def test_a_logger_without_sinks_is_stored() -> None:
    """There is nothing in it that belongs to this process."""
    guard = Guard()
    guard.dumps([logger(sinks=False)])
    assert [one.code for one in guard.summary() if one.code == "CC107"] == []
