"""Waiting for others: a server, a browser and a child act when they get to it, not when we ask."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

PATIENCE = 60  # seconds; far more than anything needs on a machine that is not stuck
PAUSE = 0.01


def until(condition: Callable[[], T], seconds: float = PATIENCE, why: str = "it was not so") -> T:
    """Ask `condition` until its answer is true, and return that.

    Args:
        condition: Is asked again and again; an error of its own ends the waiting.
        seconds: After so long, the test fails.
        why: What is said then.

    Raises:
        AssertionError: If it never was true.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{why} within {seconds} s"
        time.sleep(PAUSE)
    return answer


def exit_code(child: int) -> int:
    """Wait for a forked child to end and return its exit code; one that hangs is killed."""

    def ended() -> tuple[int, int] | None:
        pid, status = os.waitpid(child, os.WNOHANG)
        return (pid, status) if pid else None

    try:
        _, status = until(ended, why="the forked child did not end")
    except AssertionError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    return os.waitstatus_to_exitcode(status)
