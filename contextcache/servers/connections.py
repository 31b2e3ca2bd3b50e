"""redis-py's connections and its pool, for operations that end in time and may be interrupted.

It changes with redis-py. Of what a pool of redis-py does, its locks and counts are left out: they
are a third of the time of a small command, and a child that is forked meanwhile hangs in them.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import functools
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import redis
from redis.connection import ConnectionPool, HiredisRespSerializer
from redis.sentinel import SentinelConnectionPool

from contextcache.servers.deadlines import TimedSocket, time_left
from contextcache.servers.outages import IN_HANDSHAKE

if TYPE_CHECKING:
    from redis.connection import AbstractConnection as _Connection
    from redis.connection import ConnectionPool as _Pool
else:  # they are added to classes of redis-py
    _Connection = _Pool = object

IDLE_SECONDS = 60.0  # after which a connection nobody needed is closed


@functools.cache
def kept(kind: Any) -> Any:
    """Return a class of redis-py, of connections or of pools, with what is added here."""
    added: type = _KeptConnection
    if issubclass(kind, ConnectionPool):
        added = _KeptSentinelPool if issubclass(kind, SentinelConnectionPool) else _KeptPool
    return type(kind.__name__, (added, kind), {"__module__": __name__})


class _KeptConnection(_Connection):
    """What is added to redis-py's connections: the deadline, and a count of unread replies.

    An operation that was interrupted leaves a reply behind, which the next one would take for its
    own. A connection that still owes one is therefore closed before it is used again.
    """

    _owed = 0
    _poll: Any = None
    _sock: Any
    idle_since = 0.0

    def ready(self) -> None:
        """Be connected, with nothing to read: a connection the server has closed reads as one."""
        if self._sock is not None:
            try:
                reader = getattr(self._parser, "_reader", None)  # of hiredis
                if self._poll is None or reader is None:
                    quiet = not (self._owed or self.can_read())
                else:  # the same, in a third of the time
                    quiet = not (self._owed or reader.has_data() or self._poll.poll(0))
            except (redis.RedisError, OSError):
                quiet = False
            if quiet:
                return
            self.disconnect()
        self.connect()

    def connect(self) -> None:
        if self._owed:
            self.disconnect()
        try:
            super().connect()
        except BaseException as error:
            self.disconnect()  # half-way through the handshake: in no database yet, say
            if isinstance(error, redis.ResponseError):
                setattr(error, IN_HANDSHAKE, True)
            raise

    def disconnect(self, *args: Any, **options: Any) -> None:
        self._owed = 0
        super().disconnect(*args, **options)

    def pack_commands(self, commands: Any) -> Any:
        commands = list(commands)
        self._owed += len(commands)
        return super().pack_commands(commands)

    def send_command(self, *args: Any, **options: Any) -> None:
        self._owed += 1
        self.send_packed_command(
            self._command_packer.pack(*args),
            check_health=options.get("check_health", self.health_check_interval),
        )

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            if args or options or self.health_check_interval:
                answer = super().read_response(*args, **options)
            else:
                answer = self._parser.read_response()  # redis-py words an error before there is one
        except redis.ResponseError:
            self._owed -= 1
            raise
        except BaseException as error:
            if options.get("disconnect_on_error", True):
                self.disconnect()
            if isinstance(error, OSError):
                raise redis.ConnectionError("Error while reading from the socket") from error
            raise
        self._owed -= 1
        if isinstance(answer, redis.ResponseError):
            raise answer
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
        return _at_least_a_moment(self._socket_timeout)

    @socket_timeout.setter
    def socket_timeout(self, seconds: float | None) -> None:
        self._socket_timeout = seconds

    @property
    def socket_connect_timeout(self) -> float | None:
        return _at_least_a_moment(self._socket_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, seconds: float | None) -> None:
        self._socket_connect_timeout = seconds


class _Packer(HiredisRespSerializer):
    """hiredis, which refuses by itself what it cannot pack: no look at each argument before."""

    def pack(self, *args: Any) -> Any:
        if type(args[0]) is str and " " not in args[0]:
            try:
                return [redis.connection.hiredis.pack_command(args)]  # type: ignore[attr-defined]
            except TypeError:  # a bytearray or memoryview, say
                pass
        return super().pack(*args)


def _at_least_a_moment(limit: float | None) -> float | None:
    seconds = time_left(limit)
    return None if seconds is None else max(seconds, 0.001)  # a socket takes 0 for "do not wait"


class _KeptPool(_Pool):
    """What replaces the middle of redis-py's pools: the connection that was used last goes first.

    A connection is lent to one caller at a time. It is taken back once, and only by the pool that
    lent it: redis-py releases a connection of one cluster node to the pool of another when a
    redirection ends at a node that is down. Each step is one atomic operation on a deque or a set,
    so nothing is locked, and connections that are not needed sink to the bottom, where they are
    closed.

    One that is closed is kept for whoever needs another: to a pool with `max_connections`, what
    it has made counts for ever, and a lock would be needed to count down.
    """

    _available_connections: deque[Any]  # type: ignore[assignment]  # a list there
    _closed: deque[Any]
    _lent: set[Any]

    def get_connection(self, *_: Any, **__: Any) -> Any:
        try:
            connection = self._available_connections.pop()
        except IndexError:
            connection = self._another()
        try:
            connection.ready()
        except BaseException:
            self._closed.append(connection)
            raise
        self._lent.add(connection)
        return connection

    def _another(self) -> Any:
        try:
            return self._closed.pop()
        except IndexError:
            return self.make_connection()

    def release(self, connection: Any) -> None:
        """Take back a connection that this pool has lent, once; ignore any other one."""
        try:
            self._lent.remove(connection)  # atomic: of two threads, one gets past it
        except KeyError:
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
        super().reset()
        self._available_connections, self._closed, self._lent = deque(), deque(), set()

    def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: ARG002  in redis-py's
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


class _KeptSentinelPool(_KeptPool):
    """A pool whose server changes."""

    def release(self, connection: Any) -> None:
        if not self.owns_connection(connection):  # another server has become the master
            connection.disconnect()
        super().release(connection)
