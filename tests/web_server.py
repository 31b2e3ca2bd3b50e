"""A web server on loopback, in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

import requests

from tests.child import ROOT
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def serving(command: list[str], port: int, env: dict[str, str], log: Path) -> Iterator[str]:
    """Run `python -m COMMAND`, and yield its address once it answers there.

    Args:
        command: Name and arguments of a module that serves on `port`.
        port: A free one.
        env: Its environment.
        log: The file that gets whatever it prints.
    """
    url = f"http://127.0.0.1:{port}"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *command],
            cwd=ROOT,
            env=env,
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: _answers(process, url, log), why=f"{command[0]} did not answer")
        yield url
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


def _answers(process: subprocess.Popen[bytes], url: str, log: Path) -> bool:
    assert process.poll() is None, f"it ended at once:\n{log.read_text()}"
    with contextlib.suppress(requests.ConnectionError, requests.Timeout):
        requests.get(f"{url}/none", timeout=5)
        return True
    return False
