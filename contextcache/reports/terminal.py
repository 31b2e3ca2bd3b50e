"""Output in a terminal: colours where a person reads, progress on long work."""

from __future__ import annotations

import os
import re
import shutil
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

from contextcache.base.masking import one_line

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TextIO

INDENT = 10  # columns of a name in a block
PATIENCE = 1.0  # seconds before a person wants to see that something happens

_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33;1", "cyan": "36"}
_SHAPES = {
    "utf": {"branch": "├─ ", "last": "└─ ", "line": "│  ", "gap": "   ", "cross": "✗",
            "more": "…", "times": "×"},
    "ascii": {"branch": "|- ", "last": "`- ", "line": "|  ", "gap": "   ", "cross": "x",
              "more": "...", "times": "x"},
}  # fmt: skip


_PAINT = re.compile(r"(\x1b\[[0-9;]*m|\n)")  # our own colours, and the end of a line


class Paper:
    """What a command writes on.

    On a terminal, lines are cut or wrapped at its width; in a file or pipe they are whole.

    Args:
        out: The stream.
        colour: Whether to colour; see `wants_colour` for the default.
    """

    def __init__(self, out: TextIO, *, colour: bool | None = None) -> None:
        self._out = out
        self._colour = wants_colour(out) if colour is None else colour
        self._encoding = getattr(out, "encoding", None) or "utf-8"
        knows_lines = self._encoding.lower().startswith("utf")
        self._shapes = _SHAPES["utf" if knows_lines else "ascii"]
        self._width = shutil.get_terminal_size().columns if is_terminal(out) else 0

    def write(self, line: str = "") -> None:
        """Write one line; what the stream cannot show is escaped, and what rules a terminal."""
        line = "".join(
            part if part == "\n" or _PAINT.fullmatch(part) else one_line(part)
            for part in _PAINT.split(line)
        )
        shown = line.encode(self._encoding, "backslashreplace").decode(self._encoding)
        self._out.write(shown + "\n")

    def write_row(self, line: str) -> None:
        """Write one line, cut at the width of the terminal."""
        room = self._width
        if not room or len(_PAINT.sub("", line)) <= room:
            self.write(line)
            return
        room -= len(self.shape("more"))
        parts = []
        for part in _PAINT.split(line):
            kept = part if _PAINT.fullmatch(part) else part[: max(0, room)]
            room -= 0 if _PAINT.fullmatch(part) else len(kept)
            parts.append(kept)
        self.write("".join(parts) + self.shape("more"))

    def write_entry(self, name: str, text: str, colour: str = "") -> None:
        """Write a named text of a block, wrapped at the width of the terminal."""
        lines = [text]
        if self._width > 2 * INDENT:
            lines = textwrap.wrap(
                text, self._width - INDENT, break_long_words=False, break_on_hyphens=False
            )
        for number, line in enumerate(lines or [""]):
            head = " " * INDENT if number else f"  {name:<{INDENT - 2}}"
            self.write(self.paint(f"{head}{line}", colour) if colour else f"{head}{line}")

    def shape(self, name: str) -> str:
        """Return a piece of a drawing as the stream can show it."""
        return self._shapes[name]

    def paint(self, text: str, colour: str) -> str:
        """Return `text` in a colour, where colours are wanted."""
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colour and text else text


class Progress:
    """Say on stderr what is being done, if it takes long and a person watches.

    Args:
        doing: What is being done, such as `reading cart.pickle`.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._share: float | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __call__(self, share: float) -> None:
        """Note the share that is done, from 0 to 1."""
        self._share = share

    def __enter__(self) -> Progress:
        if is_terminal(sys.stderr):
            self._thread = threading.Thread(target=self._tell, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _tell(self) -> None:
        began = time.monotonic()
        wait = PATIENCE
        while not self._done.wait(wait):
            wait = 0.2
            share = f" {self._share:.0%}" if self._share is not None else ""
            seconds = time.monotonic() - began
            sys.stderr.write(f"\r\x1b[K{self._doing}{share}, {seconds:.0f} s")
            sys.stderr.flush()
        if wait != PATIENCE:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def is_terminal(stream: TextIO) -> bool:
    """Return True if a person reads what is written to `stream`."""
    return bool(getattr(stream, "isatty", bool)())


def wants_colour(stream: TextIO) -> bool:
    """Return True if to colour what is written to `stream`.

    A terminal is coloured, unless it is a dumb one. `NO_COLOR` switches colours off, and
    `FORCE_COLOR` switches them on, for a log of CI (see no-color.org and force-color.org).
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"
