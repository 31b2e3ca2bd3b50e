"""The circuit breaker: a server that is silent is left alone, and asked again a little later."""

from __future__ import annotations

import threading
import time

from contextcache.base.logs import log

THRESHOLD = 3  # failures in a row
PAUSE = 1.0  # seconds


class Breaker:
    """Knows whether one server is worth asking.

    It opens after `THRESHOLD` failures in a row. From then on one operation per pause is let
    through to try; the others are refused at once. The first answer closes it.

    An operation that was let through and never tells how it went, because its thread was killed,
    costs one more pause and nothing else.

    Args:
        server: The server as it may be shown in a log.
        timeout: The seconds an operation waits for this server. A pause is at least twice as
            long, so that only one at a time tries.

    Attributes:
        pause: The seconds between two attempts while it is open.
        failures: Failures in a row until now. While there are none, there is nothing to ask the
            breaker and nothing to tell it.
    """

    __slots__ = ("_lock", "_opened", "_retry_at", "_server", "failures", "pause")

    def __init__(self, server: str, timeout: float) -> None:
        self._server = server
        self.pause = max(PAUSE, 2 * timeout)
        self.failures = 0
        self._opened = 0.0
        self._retry_at: float | None = None  # None while it is closed
        self._lock = threading.RLock()  # a signal handler may come by here, too

    def admits(self) -> bool:
        """Return whether an operation may go to the server now."""
        if self._retry_at is None:
            return True
        with self._lock:
            now = time.monotonic()
            if self._retry_at is not None:
                if now < self._retry_at:
                    return False
                self._retry_at = now + self.pause
            return True

    def succeeded(self) -> None:
        """Take note that the server has answered, whatever it said."""
        if not self.failures:
            return
        with self._lock:
            was_open, self._retry_at, self.failures = self._retry_at is not None, None, 0
            seconds = time.monotonic() - self._opened
        if was_open:
            template = "Redis at %s answers again; it was left alone for %.0f s"
            log("warning", template, self._server, seconds)

    def failed(self, reason: str, remedy: str) -> None:
        """Take note that the server could not be reached, or did not answer in time."""
        with self._lock:
            self.failures += 1
            now = time.monotonic()
            opens = self.failures >= THRESHOLD and self._retry_at is None
            if opens:
                self._opened = now
            if self.failures >= THRESHOLD:
                self._retry_at = now + self.pause
        if opens:
            why = f"{reason}; {remedy}".replace("%", "%%")
            log(
                "warning",
                f"Redis at %s is left alone after %d failures in a row and tried every %g s: {why}",
                *(self._server, THRESHOLD, self.pause),
            )
