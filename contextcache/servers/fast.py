"""Faster connections and pools, with private names of redis-py; see `connections`.

Only this module and `fast_async` use such names, and only with the versions of redis-py that they
were tested with. The locks and counts of redis-py's pool are left out: they are a quarter of the
time of a small command, and a child that is forked meanwhile hangs in them.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import itertools
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import redis
from redis.connection import HiredisRespSerializer

from contextcache.servers.connections import CountedConnection
from contextcache.servers.deadline import TimedSocket, time_left

if TYPE_CHECKING:
    from redis.connection import ConnectionPool as _Pool
else:  # it is added to a class of redis-py
    _Pool = object

IDLE_SECONDS = 60.0  # after which a connection nobody needed is closed


class FastConnection(CountedConnection):
    """What is added to a connection: the deadline of the operation, and shorter ways."""

    _poll: Any = None
    _sock: Any
    idle_since = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether there is a socket."""
        return self._sock is not None

    def ready(self) -> None:
        """Be connected, with nothing to read: a connection the server has closed reads as one."""
        if self._sock is not None:
            try:
                quiet = not (self.owed or self.can_read())
            except (redis.RedisError, OSError):
                quiet = False
            if quiet:
                return
            self.disconnect()
        self.connect()

    def send_command(self, *args: Any, **options: Any) -> None:
        """Send one command, and count its reply."""
        self.owed += 1
        sock, packer, packed = self._sock, self._command_packer, None
        may_send = sock is not None and not self.health_check_interval
        if may_send and type(packer) is _Packer and type(args[0]) is str and " " not in args[0]:
            try:  # noqa: SIM105  # which takes three calls more, for every command
                packed = _pack(args)
            except TypeError:
                pass
        if packed is None:
            check = options.get("check_health", self.health_check_interval)
            self.send_packed_command(packer.pack(*args), check_health=check)
            return
        try:
            sock.sendall(packed)
        except BaseException as error:
            self.disconnect()
            if isinstance(error, OSError):
                raise _network_error(error, "writing to") from error
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one reply, or close the connection."""
        if args or options or self.health_check_interval:
            return super().read_response(*args, **options)
        try:
            parser = self._parser
            reader = getattr(parser, "_reader", None)  # of hiredis
            if reader is not None and not reader.has_data():  # what the parser does, a call less
                count = self._sock.recv_into(parser._buffer)
                if count:  # else the parser says what that means
                    reader.feed(parser._buffer, 0, count)
            answer = parser.read_response()  # redis-py words an error before there is one
        except redis.ResponseError as error:
            self.answered(error)
            raise
        except BaseException as error:
            self.disconnect()
            if isinstance(error, OSError):  # the parsers of some versions leave it as it is
                raise _network_error(error, "reading from") from error
            raise
        if isinstance(answer, redis.ResponseError):
            self.answered(answer)
            raise answer
        self.owed -= 1
        return answer

    def _construct_command_packer(self, packer: Any) -> Any:
        packer = super()._construct_command_packer(packer)
        return _Packer() if type(packer) is HiredisRespSerializer else packer

    def _connect(self) -> TimedSocket:
        sock = super()._connect()  # type: ignore[safe-super]
        if hasattr(select, "poll") and not hasattr(sock, "pending"):  # TLS has a buffer of its own
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)
        return TimedSocket(sock, self._socket_timeout)

    @property
    def socket_timeout(self) -> float | None:
        """The seconds that the next wait may take."""
        return _at_least_a_moment(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        self._socket_timeout = seconds

    @property
    def socket_connect_timeout(self) -> float | None:
        """The seconds that connecting may take."""
        return _at_least_a_moment(self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._socket_connect_timeout = seconds


def _network_error(error: OSError, doing: str) -> redis.RedisError:
    kind = redis.TimeoutError if isinstance(error, TimeoutError) else redis.ConnectionError
    return kind(f"Error while {doing} the socket")


# Of hiredis, which raises a `TypeError` for what it cannot pack, such as a bytearray.
_pack: Any = getattr(getattr(redis.connection, "hiredis", None), "pack_command", None)


class _Packer(HiredisRespSerializer):
    """hiredis, which refuses by itself what it cannot pack: no look at each argument before."""

    def pack(self, *args: Any) -> Any:
        if type(args[0]) is str and " " not in args[0]:
            try:
                return [_pack(args)]
            except TypeError:
                pass
        return super().pack(*args)


def _at_least_a_moment(limit: float | None) -> float | None:
    seconds = time_left(limit)
    return None if seconds is None else max(seconds, 0.001)  # a socket takes 0 for "do not wait"


class FastPool(_Pool):
    """What replaces the middle of redis-py's pools: the connection that was used last goes first.

    A connection is lent to one caller at a time. It is taken back once, and only by the pool that
    lent it: redis-py releases a connection of one cluster node to the pool of another when a
    redirection ends at a node that is down. Each step is one atomic operation on a deque or a dict,
    so nothing is locked, and connections that are not needed sink to the bottom, where they are
    closed. One that its borrower has lost, as by an interrupt, is closed with its last reference.

    One that is closed is kept for the next that is needed: to a pool with `max_connections`, what
    it has made counts for ever, and a lock would be needed to count down.
    """

    _available_connections: deque[Any]  # type: ignore[assignment]  # a list there
    _closed: deque[Any]
    _mark: str

    def get_connection(self, *_: Any, **__: Any) -> Any:
        """Lend a connection that is connected and has nothing to read."""
        try:
            connection = self._available_connections.pop()
        except IndexError:
            connection = self._another()
        try:
            reader = getattr(connection._parser, "_reader", None)  # of hiredis
            if (
                connection._poll is None
                or reader is None
                or connection.owed
                or reader.has_data()
                or connection._poll.poll(0)
            ):
                connection.ready()  # else it is, which is seen here in a third of the time
        except BaseException:
            self._closed.append(connection)
            raise
        connection.__dict__[self._mark] = True
        return connection

    def _another(self) -> Any:
        try:
            return self._closed.pop()
        except IndexError:
            return self.make_connection()

    def release(self, connection: Any) -> None:
        """Take back a connection that this pool has lent, once; ignore any other one."""
        if connection.__dict__.pop(self._mark, None) is None:  # atomic: one thread gets past it
            return
        idle = self._available_connections
        connection.idle_since = now = time.monotonic()
        idle.append(connection)
        try:
            while now - idle[0].idle_since > IDLE_SECONDS:
                self._close(idle.popleft())
        except IndexError:
            pass  # other threads have taken them all meanwhile

    def reset(self) -> None:
        """Begin without any connection."""
        super().reset()
        self._available_connections, self._closed = deque(), deque()
        self._mark = f"lent by pool {next(_numbers)}"

    def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: ARG002  in redis-py's
        """Close what nobody uses."""
        self.disconnect_free_connections()

    def disconnect_free_connections(self, *_: Any) -> None:
        """Close what nobody uses; what is in use is left to those who do."""
        idle = self._available_connections
        while idle:
            try:
                self._close(idle.popleft())
            except IndexError:
                return

    def _close(self, connection: Any) -> None:
        connection.disconnect()
        self._closed.append(connection)


_numbers = itertools.count()


class FastSentinelPool(FastPool):
    """A pool whose server changes."""

    def release(self, connection: Any) -> None:
        """Take back a connection that this pool has lent, once; ignore any other one."""
        if self._mark in vars(connection) and not self.owns_connection(connection):
            connection.disconnect()  # another server has become the master
        super().release(connection)
