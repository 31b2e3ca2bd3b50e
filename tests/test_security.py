"""`SECURITY.md` names a test beside each promise; this one sees that they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
PROMISES = re.findall(r"^\| (.+?) \| (`tests/.+) \|$", TEXT, re.MULTILINE)


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_named_test_exists(path: str, name: str) -> None:
    """A promise whose test was renamed or removed is one that nobody keeps."""
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_promise_names_one() -> None:
    """Each row of the tables of promises, and nothing else, has a test in its last column."""
    promised = TEXT.partition("## What we promise")[2].partition("## What we do not")[0]
    rows = [line for line in promised.splitlines() if line.startswith("| ")]
    assert len(PROMISES) == len(rows) - 2  # the two headers
    assert len(PROMISES) > 15
