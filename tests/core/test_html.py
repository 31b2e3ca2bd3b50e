"""Findings and writes as HTML: complete, and nothing of it can be made into more than text."""

from __future__ import annotations

import dataclasses
import json
import threading
from html.parser import HTMLParser

import pytest

from contextcache import explain
from contextcache.reports.html import (
    document,
    finding_row,
    findings,
    write_row,
    writes,
)
from contextcache.reports.request_scope import Write

HOSTILE = "<script>alert('&')</script>\" onclick=\"x"


class Reader(HTMLParser):
    """Keeps the names of tags and attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names |= {tag, *(name for name, _ in attrs)}

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def finding():
    [found] = explain({"lock": threading.Lock()}, label="cache['user:7']")
    return found


def test_a_finding_is_told_in_full():
    """Everything the log has is on the page."""
    row = finding_row(dataclasses.replace(finding(), sink="cache in redis", origin="GET /x"))
    told = read(findings([row])).text
    for part in (
        "CC102", "cache['user:7']['lock']", "A _thread.lock cannot be stored: ", row["reason"],
        "GET /x · cache in redis", row["did"], row["fix"],
        "CONTEXTCACHE[\"IGNORE\"] += [\"cache['user:*']['lock']\"]",
    ):  # fmt: skip
        assert part in told


def test_rows_are_plain_data():
    """A debug toolbar keeps them in a store, as JSON."""
    rows = [finding_row(finding(), also=["a", "b", "c", "d", "e"]), write_row(Write("session", ""))]
    assert json.loads(json.dumps(rows)) == rows
    assert rows[0]["also"] == "also a, b, c and 2 more"


@pytest.mark.parametrize(
    "field", ["code", "path", "leaf_type", "verdict", "reason", "at", "also", "field", "did",
              "fix", "patch", "silence"],
)  # fmt: skip
def test_a_finding_is_only_text(field):
    """Paths have keys in them, and keys come from visitors."""
    row = {**finding_row(finding()), "also": "x", "patch": "x", field: f"{HOSTILE}: {HOSTILE}"}
    seen = read(findings([row], copying=True))
    assert not seen.names & {"script", "onclick"}
    assert HOSTILE in seen.text


@pytest.mark.parametrize("field", ["label", "sink", "outcome", "request"])
def test_a_write_is_only_text(field):
    """The same in the table."""
    row = {**write_row(Write("session", "redis")), "request": "GET /", field: HOSTILE}
    seen = read(writes([row], requests=True))
    assert not seen.names & {"script", "onclick"}
    assert HOSTILE in seen.text


def test_a_title_is_only_text():
    """It is the name of an application."""
    assert not read(document(HOSTILE, "", "n")).names & {"onclick"}


@pytest.mark.parametrize(
    ("write", "outcome", "state"),
    [
        (Write("session", "", size=3), "stored", ""),
        (Write("session", "", size=3, findings=1), "stored, 1 finding", "cut"),
        (Write("session", "", size=3, findings=2), "stored, 2 findings", "cut"),
        (
            Write("session", "", findings=2, stored=False, outcome="not stored: CC109"),
            "not stored: CC109",
            "lost",
        ),
    ],
)
def test_what_became_of_a_write(write, outcome, state):
    """In words, and as a class for the colour."""
    assert (write_row(write)["outcome"], write_row(write)["state"]) == (outcome, state)


@pytest.mark.parametrize(
    ("size", "words"),
    [(None, "–"), (0, "0 B"), (999, "999 B"), (1234, "1.2 kB"), (5_600_000, "5.6 MB")],
)
def test_sizes_are_in_words(size, words):
    """A write that stored nothing has none."""
    row = write_row(Write("session", "", size=size))
    assert f'<td class="number">{words}</td>' in writes([row])


def test_nothing_is_said_to_be_nothing():
    """An empty page is no broken page."""
    assert read(findings([])).text == "Nothing found."
    assert read(writes([])).text == "Nothing was written to a cache or session."


def test_nothing_is_loaded_from_elsewhere():
    """A page that is read on a train is complete."""
    page = document("contextcache", findings([finding_row(finding())]), "nonce")
    assert not read(page).names & {"src", "srcset", "action"}


def test_one_piece_of_code_is_shown_once():
    """It mends all fields of a class."""
    rows = [{**finding_row(finding()), "patch": "del self.lock"} for _ in range(2)]
    told = read(findings(rows)).text
    assert told.count("del self.lock") == 1
    assert told.count("the code above does it") == 1
