"""The connections of one server for asynchronous clients: a pool for each running event loop.

redis-py's pool takes a lock, and looks at the socket by its streams, for every command; this one
does neither. A connection has one owner at a time. One that comes back while it is owed replies,
because its task was cancelled, is closed. A pool has a limit, because tasks are cheap: who comes
when all connections are in use waits for one, until the deadline.

A pool is closed when its loop ends: it registers an asynchronous generator with the loop, which
`loop.shutdown_asyncgens` closes; `asyncio.run` calls that. A loop that is closed without it is
noticed when the next one uses the server, and its sockets are closed when they are collected.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import asyncio
import contextlib
import errno
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import redis

from contextcache.servers.connections import is_tested
from contextcache.servers.errors import IN_HANDSHAKE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from contextcache.servers.deadline import Deadline
    from contextcache.servers.sentinels import Sentinels

MAX_CONNECTIONS = 32  # of one loop to one server, where OPTIONS do not say otherwise
IDLE_SECONDS = 60.0  # after which a connection nobody needed is closed

_NO_ROOM = getattr(redis.exceptions, "MaxConnectionsError", redis.ConnectionError)


class PlainConnection:
    """A connection of `redis.asyncio`, by its public names.

    Args:
        connection: It is connected and has nothing to read.
        address: The host and port it was made for, where that may change.
    """

    def __init__(self, connection: Any, address: object = None) -> None:
        self.address = address
        self.idle_since = 0.0
        self._connection = connection
        self._owed = 0

    def is_usable(self) -> bool:
        """Return whether it is open and owed nothing."""
        return not self._owed and bool(self._connection.is_connected)

    async def is_quiet(self) -> bool:
        """Return whether it is usable and has nothing to read; one the server closed has."""
        name = "can_read" if hasattr(self._connection, "can_read") else "can_read_destructive"
        for _ in range(2):  # turns of the loop, in which a stream learns that it has ended
            await asyncio.sleep(0)
        try:
            return self.is_usable() and not await getattr(self._connection, name)()
        except (redis.RedisError, OSError):
            return False

    async def ask(self, commands: Sequence[Any], deadline: Deadline) -> list[Any]:
        """Send commands and return their replies."""
        packed = self._connection.pack_commands(commands)
        deadline.moved(sum(map(len, packed)))
        self._owed = len(commands)
        try:
            async with asyncio.timeout(deadline.left()):
                await self._connection.send_packed_command(packed, check_health=False)
                return [await self._reply() for _ in commands]
        except TimeoutError as error:
            raise redis.TimeoutError("no reply within the deadline") from error

    async def _reply(self) -> Any:
        try:
            reply = await self._connection.read_response()
        except redis.ResponseError as error:
            reply = error
        self._owed -= 1
        return reply

    def close(self) -> None:
        """Close the connection at once; redis-py does where it was interrupted."""
        closing = self._connection.disconnect(nowait=True)
        with contextlib.suppress(StopIteration, RuntimeError):
            closing.send(None)  # it waits for nothing
        closing.close()


class Pool:
    """The connections of one event loop to one server."""

    def __init__(self, factory: ConnectionFactory) -> None:
        self._factory = factory
        self.sentinels = factory.sentinels
        self._idle: list[Any] = []
        self._count = 0
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self.lent: set[Any] = set()

    def take(self) -> Any:
        """Lend an idle connection that can be used at once; None where there is none such."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            quiet = connection.is_quiet()
            if quiet is True:
                self.lent.add(connection)
                return connection
            if quiet is not False:  # it takes waiting to find out
                quiet.close()
                idle.append(connection)
                return None
            self._drop(connection)
        return None

    async def lend(self, deadline: Deadline) -> Any:
        """Lend an idle connection, or a new one, or one that comes back."""
        address = await self._factory.address()
        while self._idle:
            connection = self._idle.pop()
            self.lent.add(connection)
            try:
                quiet = connection.address == address and connection.is_quiet()
                if quiet is True or (quiet is not False and await quiet):
                    return connection
            except BaseException:
                self._drop(connection)
                raise
            self._drop(connection)
        connection = None
        if self._count < self._factory.limit:
            self._count += 1
        else:
            connection = await self._wait(deadline)
        if connection is None:
            try:
                connection = await self._factory.connect(deadline)
            except BaseException:
                self._free()
                raise
        self.lent.add(connection)
        return connection

    async def _wait(self, deadline: Deadline) -> Any:
        """Return a connection that comes back, or None where there is room for another one."""
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(deadline.left()):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # it came in the same moment
                connection = waiter.result()
                self._free() if connection is None else self.give_back(connection)
            if isinstance(error, TimeoutError):
                raise _NO_ROOM("every connection of the pool is in use") from error
            raise

    def give_back(self, connection: Any) -> None:
        """Take back a connection; close it where it is owed replies."""
        self.lent.discard(connection)
        if not connection.is_usable():
            self._drop(connection)
            return
        if self._waiting and self._hand(connection):
            return
        idle = self._idle
        connection.idle_since = now = time.monotonic()
        idle.append(connection)
        while now - idle[0].idle_since > IDLE_SECONDS:
            self._drop(idle.pop(0))

    def _drop(self, connection: Any) -> None:
        self.lent.discard(connection)
        connection.close()
        self._free()

    def _free(self) -> None:
        """Let another connection be made in the place of one that is no more."""
        if not self._hand(None):
            self._count -= 1

    def _hand(self, connection: Any) -> bool:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return True
        return False

    def close(self) -> None:
        """Close every connection."""
        for connection in (*self._idle, *self.lent):
            connection.close()
        self._idle.clear()


class ConnectionFactory:
    """Makes the connections to one server, or to the master of the moment.

    Args:
        make: Makes a connection of `redis.asyncio`, to another host and port if they are given.
        limit: How many there may be in one loop.
        sentinels: Know who the master is.
        service: What they call it.
    """

    def __init__(
        self,
        make: Callable[..., Any],
        limit: int,
        sentinels: Sentinels | None = None,
        service: str = "",
    ) -> None:
        self._make = make
        self.limit = limit
        self.sentinels = sentinels
        self._service = service
        self._fast = is_tested(redis.__version__)

    async def address(self) -> tuple[str, int] | None:
        """Return the host and port to connect to, where they may change."""
        if self.sentinels is None:
            return None
        return await self.sentinels.awatch(self._service)

    async def connect(self, deadline: Deadline) -> Any:
        """Return a connection that is connected."""
        address = None
        if self.sentinels is not None:
            address = await self.sentinels.adiscover_master(self._service)
        connection = self._make() if address is None else self._make(*address)
        try:
            async with asyncio.timeout(deadline.left()):
                await connection.connect()
        except BaseException as error:
            await connection.disconnect(nowait=True)  # half-way through the handshake, say
            if isinstance(error, TimeoutError):
                raise redis.TimeoutError("not connected within the deadline") from error
            if isinstance(error, redis.ResponseError):
                setattr(error, IN_HANDSHAKE, True)
            if isinstance(error, redis.ConnectionError) and _REFUSED in str(error):
                raise error from ConnectionRefusedError()  # asyncio has joined those of two hosts
            raise
        if self._fast:
            from contextcache.servers.fast_async import (  # noqa: PLC0415
                FastConnection,
                can_take_over,
            )

            if can_take_over(connection):
                return FastConnection(connection, address)
        return PlainConnection(connection, address)


_REFUSED = f"[Errno {errno.ECONNREFUSED}]"


class LoopPools:
    """The pools of one server, by event loop.

    Args:
        factory: Makes the connections.
    """

    def __init__(self, factory: ConnectionFactory) -> None:
        self.factory = factory
        self._pools: dict[asyncio.AbstractEventLoop, tuple[Pool, Any]] = {}
        self._inherited: list[Any] = []

    @property
    def count(self) -> int:
        """How many loops have connections."""
        return len(self._pools)

    def start_afresh(self) -> None:
        """Leave every connection alone, as in a forked child: they are those of the parent."""
        self._inherited.append(self._pools)
        self._pools = {}

    def pool(self) -> Pool:
        """Return the pool of the running event loop."""
        loop = asyncio.get_running_loop()
        entry = self._pools.get(loop)
        return self._open(loop) if entry is None else entry[0]

    def _open(self, loop: asyncio.AbstractEventLoop) -> Pool:
        for other in list(self._pools):
            if other.is_closed():
                self._pools.pop(other, None)
        pool = Pool(self.factory)
        keeper = self._until_the_end(loop, pool)
        with contextlib.suppress(StopIteration):
            keeper.__anext__().__await__().send(None)  # which makes it known to the loop
        self._pools[loop] = pool, keeper
        return pool

    async def _until_the_end(
        self, loop: asyncio.AbstractEventLoop, pool: Pool
    ) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._pools.pop(loop, None)
            pool.close()
            for _ in range(3):  # until transports have closed their sockets, inside of TLS, too
                await asyncio.sleep(0)
