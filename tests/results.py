"""The result of a run of the suite, as a row for `docs/compatibility.md`.

A run with `CONTEXTCACHE_RESULTS` set to a folder leaves a file there: the versions, what was run,
and how many tests passed, failed and were skipped. `tools/compatibility.py` makes the table.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

FOLDER = "CONTEXTCACHE_RESULTS"  # the environment variable
PACKAGES = ("Django", "Flask", "Flask-Caching", "redis", "hiredis")


def server_version() -> str:
    """Return the name and version of the server that the tests start, such as `Redis 8.0.6`."""
    program = shutil.which("redis-server")
    if program is None:
        return ""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    name, _, number = told.split()[:3]
    return f"{name} {number.removeprefix('v=')}"


def versions() -> dict[str, str]:
    """Return the version of everything that a row of the table names; empty if not installed."""
    found = {"Python": platform.python_version(), "server": server_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def write_result(config: pytest.Config) -> None:
    """Write the result of this run, if a folder is named and this is not a worker of xdist."""
    folder = os.environ.get(FOLDER)
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if not folder or reporter is None or hasattr(config, "workerinput"):
        return
    counts = {name: len(reporter.stats.get(name, ())) for name in ("passed", "skipped")}
    counts["failed"] = len(reporter.stats.get("failed", ())) + len(reporter.stats.get("error", ()))
    chosen = [str(one) for one in config.option.file_or_dir]
    if config.option.keyword or config.option.markexpr:
        chosen.append("a selection")
    result = {"versions": versions(), "tests": chosen, "counts": counts}
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / f"{secrets.token_hex(8)}.json").write_text(json.dumps(result))
