"""Faster connections for event loops, with private names of redis-py; see `async_pools`.

redis-py connects, authenticates and selects the database. Then its streams are left out: a reply
is fed to hiredis where it arrives, which wakes the task that waits for it. Used only with the
versions of redis-py that it was tested with, as `fast` is.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import asyncio
import select
import time
from typing import TYPE_CHECKING, Any

import redis

# None where it is not installed, and the public names of redis-py do.
hiredis: Any = getattr(redis.connection, "hiredis", None)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contextcache.servers.deadline import Deadline

    Command = tuple[Any, ...]

# Of RESP3; older versions of hiredis have no type for it.
_PUSH: Any = getattr(hiredis, "PushNotification", ())

_MORE = object()  # what hiredis returns where a reply is not whole
_LOST = "the connection was lost"


def can_take_over(connection: Any) -> bool:
    """Return whether the replies of this connection can be read here."""
    return hiredis is not None and not connection.encoder.decode_responses


class FastConnection(asyncio.Protocol):
    """A connection that redis-py has opened, without its streams.

    It sends the commands of one caller at a time. While it is owed replies nobody else may use it.

    Args:
        connection: A connection of `redis.asyncio`, connected and with nothing to read.
        address: The host and port it was made for, where that may change.
    """

    def __init__(self, connection: Any, address: object = None) -> None:
        self.address = address
        self.idle_since = 0.0
        self._connection = connection  # packs what hiredis does not
        # Kept until the transport is closed: a writer that is collected before warns.
        self._writer = connection._writer
        connection._reader = connection._writer = None
        self._transport = self._writer.transport
        self._reader = hiredis.Reader(
            protocolError=redis.InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_MORE,
        )
        self._loop = asyncio.get_running_loop()
        self._replies: list[Any] = []
        self._owed = 0
        self._waiter: asyncio.Future[list[Any]] | None = None
        self._deadline: Deadline | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._moved_at = 0.0
        self._unsent = 0
        self._poll = self._new_poll()
        self._transport.set_protocol(self)

    def _new_poll(self) -> Any:
        sock = self._transport.get_extra_info("socket")
        tls = self._transport.get_extra_info("ssl_object")
        if sock is None or tls is not None or not hasattr(select, "poll"):
            return None
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return poll

    # --- The owner's side -------------------------------------------------------------------------

    def is_usable(self) -> bool:
        """Return whether it is open and owed nothing."""
        return not (self._owed or self._transport.is_closing())

    def is_quiet(self) -> bool:
        """Return whether it is usable and has nothing to read; one the server closed has."""
        return self.is_usable() and not (self._poll is not None and self._poll.poll(0))

    def ask(self, commands: Sequence[Command], deadline: Deadline) -> asyncio.Future[list[Any]]:
        """Send commands, and return what waits for their replies."""
        packed = [self._packed(command) for command in commands]
        data = packed[0] if len(packed) == 1 else b"".join(packed)
        self._owed = len(commands)
        self._replies = []
        self._deadline = deadline
        self._waiter = waiter = self._loop.create_future()
        self._moved_at = time.monotonic()
        deadline.moved(len(data))
        self._transport.write(data)
        self._unsent = self._transport.get_write_buffer_size()
        left = deadline.left()
        # A timer of an earlier command comes early enough, and looks at the clock again.
        if self._timer is not None and left < deadline.seconds * 0.9:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_later(max(0.0, left), self._look_at_clock)
        return waiter

    def close(self) -> None:
        """Close the connection at once, whatever is owed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._deadline = None
        if not self._transport.is_closing():
            self._transport.abort()

    def _packed(self, command: Command) -> bytes:
        if " " not in command[0]:
            try:
                packed: bytes = hiredis.pack_command(command)
            except TypeError:  # a bytearray, say
                pass
            else:
                return packed
        return b"".join(self._connection.pack_command(*command))

    def _look_at_clock(self) -> None:
        """Fail where the time is up, else look again when it may be."""
        deadline, waiter, self._timer = self._deadline, self._waiter, None
        if deadline is None or waiter is None or waiter.done():
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent < self._unsent:
            self._unsent, self._moved_at = unsent, time.monotonic()
        left = min(deadline.expires, self._moved_at + deadline.seconds) - time.monotonic()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_at_clock)
        else:
            waiter.set_exception(redis.TimeoutError("no reply within the deadline"))

    # --- The loop's side --------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, and wake the owner once all replies are there."""
        reader = self._reader
        reader.feed(data)
        deadline = self._deadline
        if len(data) >= 1024 and deadline is not None:
            self._moved_at = time.monotonic()
            deadline.moved(len(data))
        try:
            while (reply := reader.gets()) is not _MORE:
                if isinstance(reply, _PUSH):
                    continue
                if isinstance(reply, redis.ConnectionError):  # it is loading, say
                    raise reply
                if not self._owed:
                    raise redis.InvalidResponse("nobody has asked for it")
                self._replies.append(reply)
                self._owed -= 1
        except Exception as error:  # noqa: BLE001  # hiredis raises what it was told to
            self._fail(error)
            self._transport.abort()
            return
        waiter = self._waiter
        if not self._owed and waiter is not None:
            self._waiter = self._deadline = None
            if not waiter.done():
                waiter.set_result(self._replies)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what waits for a reply."""
        lost = redis.ConnectionError(_LOST)
        lost.__cause__ = error
        self._fail(lost)
        self.close()

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
