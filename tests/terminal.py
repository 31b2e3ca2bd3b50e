"""Run Python on a terminal, and return what it shows there."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import Literal

from tests.child import ROOT
from tests.waiting import PATIENCE


def shown(
    *arguments: str,
    stream: Literal["stdout", "stderr"] = "stdout",
    columns: int = 80,
    **variables: str,
) -> tuple[int, str]:
    """Return the exit status of an interpreter and what it writes to a terminal.

    Args:
        arguments: Those of the interpreter.
        stream: Which of its streams is the terminal; what it writes to the other is lost.
        columns: The width of the terminal.
        variables: For its environment, which has neither `NO_COLOR` nor `COLUMNS` of this one.
    """
    inherited = {name: text for name, text in os.environ.items() if name not in _OF_TERMINALS}
    reader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, stream: terminal}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**inherited, **_OWN, **variables},
        **streams,
    )
    os.close(terminal)
    written = b""
    try:
        while chunk := os.read(reader, 65536):
            written += chunk
    except OSError:  # Linux answers EIO once the other end is closed
        pass
    finally:
        os.close(reader)
    return process.wait(timeout=PATIENCE), written.decode().replace("\r\n", "\n")


_OF_TERMINALS = {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}
_OWN = {"PYTHONPATH": str(ROOT), "TERM": "xterm", "PYTHONIOENCODING": "utf-8"}
