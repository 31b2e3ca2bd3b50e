"""redis-py's connections and pools, for operations that may be interrupted.

An operation that is interrupted between sending and receiving leaves a reply behind, which the next
one on that connection would take for its own. So connections count the replies they are owed, and
one that is owed any is closed before it is used again. redis-py asks only whether one has arrived.

With the versions of redis-py that it was tested with, `fast` adds a pool that is worth a quarter of
the time of a small command, and the deadline of an operation. With any other version the public
names here do, and the timeout is one for each wait.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

import redis
from redis.connection import ConnectionPool
from redis.sentinel import SentinelConnectionPool

from contextcache.base.logs import log
from contextcache.servers.errors import IN_HANDSHAKE
from contextcache.servers.sentinels import WatchingPool

if TYPE_CHECKING:
    from redis.connection import AbstractConnection as _Connection
    from redis.connection import ConnectionPool as _Pool
else:  # they are added to classes of redis-py
    _Connection = _Pool = object

# The versions of redis-py whose private names are known: from the first on, and before the second.
TESTED = (5, 3), (8, 2)


def adapted(kind: Any) -> Any:
    """Return a class of redis-py, of connections or of pools, with what is added to it here."""
    return _adapted(kind, is_tested(redis.__version__))


def is_tested(version: str) -> bool:
    """Return whether the private names of this version of redis-py are known."""
    parts = version.split(".")[:2]
    numbers = tuple(int(part) for part in parts if part.isdecimal())
    tested = len(numbers) == 2 and TESTED[0] <= numbers < TESTED[1]
    if not tested:
        _say_once(version)
    return tested


@functools.cache
def _say_once(version: str) -> None:
    log(
        "warning",
        "redis-py %s is none of the versions that contextcache was tested with (%d.%d to below "
        "%d.%d), so only its public names are used: small commands take longer, and TIMEOUT limits "
        "each wait for the server instead of the whole operation",
        *(version, *TESTED[0], *TESTED[1]),
    )


@functools.cache
def _adapted(kind: Any, fast: bool) -> Any:
    added: list[type]
    if issubclass(kind, ConnectionPool):
        added = [WatchingPool] if issubclass(kind, SentinelConnectionPool) else []
        if kind not in (ConnectionPool, SentinelConnectionPool):
            added.append(LendingPool)  # such as `BlockingConnectionPool`, which takes any
        elif fast:
            from contextcache.servers.fast import FastPool, FastSentinelPool  # noqa: PLC0415

            added.append(FastSentinelPool if added else FastPool)
    elif fast:
        from contextcache.servers.fast import FastConnection  # noqa: PLC0415

        added = [FastConnection]
    else:
        added = [CountedConnection]
    return type(kind.__name__, (*added, kind), {"__module__": __name__})


class CountedConnection(_Connection):
    """What is added to a connection: a count of the replies it is owed.

    Attributes:
        owed: Replies to commands that were sent, or were about to be. Where it is not 0 when the
            connection is used again, that begins with a new connection to the server.
    """

    owed = 0
    _subscribes = False

    def register_connect_callback(self, callback: Any) -> None:
        """Take note that a subscriber has it, to whom more comes than it has asked for."""
        self._subscribes = True
        super().register_connect_callback(callback)

    def deregister_connect_callback(self, callback: Any) -> None:
        """Take note that no subscriber has it any more."""
        self._subscribes = False
        super().deregister_connect_callback(callback)

    def connect(self) -> None:
        """Connect, and close what cannot be used, such as a connection that is owed replies.

        One that is closed is owed what is about to be sent: redis-py connects on the way.
        """
        # Newer versions of redis-py know the first; a subscriber connects before each message.
        if getattr(self, "is_connected", True) and self.owed and not self._subscribes:
            self.disconnect()
        try:
            super().connect()
        except BaseException as error:
            self.disconnect()  # half-way through the handshake: in no database yet, say
            if isinstance(error, redis.ResponseError):
                setattr(error, IN_HANDSHAKE, True)
            raise

    def disconnect(self, *args: Any, **options: Any) -> None:
        """Close the connection, and with it what it is owed."""
        self.owed = 0
        super().disconnect(*args, **options)

    def pack_commands(self, commands: Any) -> Any:
        """Pack commands that are sent together, and count their replies."""
        commands = list(commands)
        self.owed += len(commands)
        return super().pack_commands(commands)

    def send_command(self, *args: Any, **options: Any) -> None:
        """Send one command, and count its reply."""
        self.owed += 1
        super().send_command(*args, **options)

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Read one reply, or close the connection."""
        try:
            answer = super().read_response(*args, **options)
        except redis.ResponseError as error:
            self.answered(error)
            raise
        except BaseException:
            if options.get("disconnect_on_error", True):
                self.disconnect()
            raise
        self.owed -= 1
        return answer

    def answered(self, error: redis.ResponseError) -> None:
        """Take note of an answer that is an error."""
        self.owed -= 1
        if isinstance(error, redis.exceptions.ReadOnlyError):
            pool = getattr(self, "connection_pool", None)  # of Sentinel
            if pool is not None:  # it is no master any more
                self.disconnect()
                pool.sentinel_manager.forget()


class LendingPool(_Pool):
    """What is added to another pool: it takes back only what it has lent, once."""

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Lend a connection that is connected and has nothing to read."""
        lending = self._lending
        lending.add(threading.get_ident())
        try:
            connection = super().get_connection(*args, **options)
        finally:
            lending.discard(threading.get_ident())
        self._lent.add(connection)
        return connection

    def release(self, connection: Any) -> None:
        """Take back a connection; ignore one that is not lent."""
        try:
            self._lent.remove(connection)
        except KeyError:
            # redis-py releases one that it cannot connect, before it is lent.
            if threading.get_ident() not in self._lending:
                return
        super().release(connection)

    def reset(self) -> None:
        """Begin without any connection."""
        super().reset()
        self._lent: set[Any] = set()
        self._lending: set[int] = set()
