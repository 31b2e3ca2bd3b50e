"""Run a piece of Python in a process of its own, without the imports and settings of this one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from contextcache.reports.reporter import INTERNAL
from tests.waiting import PATIENCE

ROOT = Path(__file__).parent.parent
INTERNAL_ERROR = INTERNAL.partition("%s")[2]


def run(code: str, *options: str, timeout: float = 5 * PATIENCE) -> str:
    """Run `code` with the packages of this repository on the path and return what it printed.

    Args:
        code: Python source, indented as it likes.
        options: Options for the interpreter, such as `-W error`.
        timeout: Seconds it may take.

    Raises:
        AssertionError: With what it wrote to stderr, if it failed or logged an internal error.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert INTERNAL_ERROR not in done.stderr, done.stderr
    return done.stdout
