"""One deadline for a whole operation: for connecting, sending, and every byte of the reply.

The timeout of a socket begins anew with each wait, so a server that sends one byte at a time, or
a command that has to ask three servers, takes many times that long. A `Deadline` is shared by
every socket an operation uses, and each wait is given what is left.

A large value takes longer than a small one and is no fault of the server. Every byte that arrives
moves the deadline by what it takes at `BYTES_PER_SECOND`, an eighth of what a Gigabit network
carries, while no single wait may be longer than the deadline was at first: a body of 100 MB is
given 6 seconds more, a server that stops half-way through it is not, and bytes that drip move
nothing.

What a signal handler raises can end `__enter__` or `__exit__` half-way. A deadline that is still
noted then would be one for good, and every later wait of that thread that is no operation's, such
as to connect for a subscriber or a lock, would fail at once. So it is noted weakly: the `with`
statement has the only reference to it, which is gone once the exception has been handled.
"""

from __future__ import annotations

import time
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from contextvars import Token
    from types import TracebackType

BYTES_PER_SECOND = 16 * 2**20
CHUNK = 2**18  # bytes that are sent in one wait
MUCH = 2**10  # bytes at once that count, less than a packet; fewer would move it by nothing
PRECISION = 0.005  # seconds by which a wait may be longer or shorter, to spare a system call


class Deadline:
    """A `with` block that must not take longer than `seconds`, as far as `TimedSocket` can tell.

    Keep no reference to it for longer than the block.

    Attributes:
        expires: When its time is up, by the monotonic clock.
        seconds: The most that a single wait may take.
    """

    __slots__ = ("__weakref__", "_token", "expires", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.expires = 0.0
        self._token: Token[weakref.ref[Deadline]] | None = None

    def __enter__(self) -> None:
        self.expires = time.monotonic() + self.seconds
        self._token = current.set(weakref.ref(self))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            current.reset(self._token)

    def moved(self, count: int) -> None:
        """Take note of bytes that were sent or received."""
        self.expires += count / BYTES_PER_SECOND

    def left(self) -> float:
        """Return the seconds the next wait may take; none are left where it is not positive."""
        left = self.expires - time.monotonic()
        return left if left < self.seconds else self.seconds


_GONE = weakref.ref(Deadline(0))
current: ContextVar[weakref.ref[Deadline]] = ContextVar("contextcache_deadline", default=_GONE)


def time_left(limit: float | None) -> float | None:
    """Return the seconds the next wait may take, `limit` or what the current block has left."""
    deadline = current.get()()
    if deadline is None:
        return limit
    left = deadline.left()
    return left if limit is None or left < limit else limit


def _moved(count: int) -> None:
    deadline = current.get()()
    if deadline is not None:
        deadline.moved(count)


class TimedSocket:
    """A connected socket whose waits end with the deadline of the operation that uses it.

    Args:
        sock: The socket.
        limit: The seconds a single wait may take at most, whoever waits.
    """

    __slots__ = ("_limit", "_set", "_sock")

    def __init__(self, sock: socket.socket, limit: float | None) -> None:
        self._sock = sock
        self._limit = limit
        self._set = sock.gettimeout()

    def settimeout(self, seconds: float | None) -> None:
        """Limit each single wait."""
        self._limit = self._set = seconds
        self._sock.settimeout(seconds)

    def recv(self, *args: Any) -> bytes:
        """Receive as `socket.recv` does."""
        self._limit_next_wait()
        data = self._sock.recv(*args)
        if len(data) >= MUCH:
            _moved(len(data))
        return data

    def recv_into(self, *args: Any) -> int:
        """Receive as `socket.recv_into` does."""
        deadline = current.get()()
        left = 0.0 if deadline is None else deadline.expires - time.monotonic()
        if not -PRECISION < left - (self._set or 0.0) < PRECISION or left <= 0:
            self._limit_next_wait()
        count = self._sock.recv_into(*args)
        if count >= MUCH:
            _moved(count)
        return count

    def sendall(self, data: bytes) -> None:
        """Send as `socket.sendall` does, whose own timeout is for all of it, however large."""
        if len(data) <= CHUNK:
            deadline = current.get()()
            left = 0.0 if deadline is None else deadline.expires - time.monotonic()
            if not -PRECISION < left - (self._set or 0.0) < PRECISION or left <= 0:
                self._limit_next_wait()
            self._sock.sendall(data)
            return
        _moved(len(data))  # at once, because to pack it has taken time already
        with memoryview(data) as view:
            for start in range(0, len(view), CHUNK):
                self._limit_next_wait()
                self._sock.sendall(view[start : start + CHUNK])

    def _limit_next_wait(self) -> None:
        seconds = time_left(self._limit)
        if seconds is not None and seconds <= 0 and self._limit != 0:  # 0 asks for no wait at all
            raise TimeoutError("the deadline of the operation has passed")
        if seconds is None or not self._set or not -PRECISION < seconds - self._set < PRECISION:
            self._sock.settimeout(seconds)
            self._set = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
