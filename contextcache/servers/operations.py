"""redis-py's client of one server, with one deadline, one breaker and words for each operation."""

# mypy: allow-untyped-calls
from __future__ import annotations

import itertools
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import redis
from redis.client import Pipeline

from contextcache.servers.breaker import Breaker
from contextcache.servers.deadline import Deadline, current
from contextcache.servers.errors import UNREACHABLE, Diagnosis, diagnose, worded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from redis.connection import ConnectionPool

    from contextcache.servers.async_pools import LoopPools

    _Commands = redis.Redis
else:  # it is added to classes of redis-py
    _Commands = object


class Server:
    """One Redis as this process sees it: its connections, and whether it is worth asking.

    Args:
        name: Its URL without user, password and query.
        seconds: How long an operation may take.
        make_pool: Makes its pool of connections.
        is_part: Whether what it is asked is a part of another operation, with the time that has:
            a sentinel, a node of a cluster.
        pause: The least seconds for which it is left alone when it is silent.

    Attributes:
        open_pool: Its connections, once there are some; see `pool`.
        async_pools: Those of asynchronous clients.
    """

    async_pools: LoopPools

    def __init__(
        self,
        name: str,
        seconds: float,
        make_pool: Callable[[], Any],
        *,
        is_part: bool = False,
        pause: float = 0.0,
    ) -> None:
        self.name = name
        self.is_part = is_part
        self._pause = pause
        self.seconds = seconds
        self._make_pool = make_pool
        self.open_pool: Any = None
        self._inherited: list[Any] = []
        self.start_afresh()

    def start_afresh(self) -> None:
        """Leave every connection alone, as in a forked child, where they are those of the parent.

        Their locks may be held by a thread that does not exist here, and redis-py 8.1 resets an
        inherited pool under such a lock: one child in 40 to 500 hung for good. It would close an
        inherited cluster under one, so nothing is even given up.
        """
        self._inherited.append(self.open_pool)
        self.open_pool = None
        if "async_pools" in vars(self):
            self.async_pools.start_afresh()
        self._lock = threading.RLock()
        self.breaker = Breaker(self.name, max(self.seconds, self._pause / 2))
        self._ailment: Diagnosis | None = None

    @property
    def pool(self) -> Any:
        """The connections of this process: a pool of redis-py, or its client of a cluster."""
        if self.open_pool is None:
            pool = self._make_pool()  # outside of the lock, because a cluster is asked for its map
            with self._lock:
                if self.open_pool is None:
                    vars(pool)["server"] = self  # where clients of this pool find it
                    self.open_pool = pool
        return self.open_pool

    def admit(self) -> None:
        """Let an operation pass, or raise the `ServerError` with which it fails at once."""
        if not self.breaker.admits():
            assert self._ailment is not None  # noqa: S101  the breaker opens after failures only
            alone = f"is left alone for {self.breaker.pause:g} s at most"
            raise worded(self.name, self._ailment._replace(state=alone), redis.ConnectionError())

    def judge(self, error: Exception, *, counts: bool = True) -> None:
        """Take note of what an operation raised, and raise the `ServerError` it stands for.

        Args:
            error: What it raised.
            counts: Whether it had the time to succeed.
        """
        diagnosis = diagnose(error)
        if diagnosis is not None and diagnosis.counts:
            if not counts:
                raise worded(self.name, diagnosis, error) from error
            self._ailment = diagnosis
            self.breaker.failed(diagnosis.reason, diagnosis.remedy)
        elif isinstance(error, redis.RedisError):
            self.breaker.succeeded()
        if diagnosis is not None:
            raise worded(self.name, diagnosis, error) from error


class Operation(Deadline):
    """A `with` block in which one command, pipeline or transaction is executed on one server.

    Asking a sentinel or a node of a cluster has the time that is left of the block around it. Any
    other operation has its own, whatever is around it: the handler of an interrupt still holds the
    block that was left. It is entered for each command, so nothing is left to other methods.

    Raises:
        ServerError: The server cannot be reached or used, or has not been lately.
    """

    __slots__ = ("_counts", "_server")

    def __init__(self, server: Server) -> None:
        self._server = server
        self._token = None
        self._counts = True

    def __enter__(self) -> None:
        server = self._server
        if server.breaker.failures:
            server.admit()
        if server.is_part and (outer := current.get()()) is not None:
            left = outer.left()
            if left <= 0:
                raise worded(server.name, _NO_TIME, redis.TimeoutError())
            self._counts = left >= server.seconds / 4  # else it had no fair chance to answer
        else:
            self.seconds = server.seconds
            self.expires = time.monotonic() + server.seconds
            self._token = current.set(weakref.ref(self))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is not None:
            current.reset(self._token)
        if error is None:
            if self._server.breaker.failures:
                self._server.breaker.succeeded()
        elif isinstance(error, Exception):  # an interrupt says nothing about the server
            self._server.judge(error, counts=self._counts)


_NO_TIME = Diagnosis(
    UNREACHABLE, "other nodes have used the time", "see whether they are overloaded"
)


# --- The clients --------------------------------------------------------------------------------


class QuickParser(_Commands):
    """What is added to redis-py's clients: a shorter way for the answers of small commands.

    A page has the processor's caches full of other things, and each Python function that a command
    passes through there costs a microsecond.
    """

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read the answer, and turn it into what the command returns."""
        if options or command_name not in RESULTS:
            return super().parse_response(connection, command_name, **options)
        answer, result = connection.read_response(), RESULTS[command_name]
        return answer if result is None else result(answer)


# What redis-py makes of the answers to these commands, without its options.
RESULTS: dict[str, Callable[[Any], Any] | None] = {
    "DEL": None,
    "EXISTS": None,
    "EXPIRE": bool,
    "GET": None,
    "GETEX": None,
    "MGET": None,
    "SET": {b"OK": True, "OK": True}.get,
}


class Client(QuickParser, redis.Redis):
    """A client of one server, or of the one that Sentinel says is the master."""

    _server: Server
    address: tuple[str, int]  # of a node of a cluster

    @property
    def server(self) -> Server:
        """The server as this process sees it, which other clients of it share."""
        return self._server

    @property
    def name(self) -> str:
        """The URL without user, password and query."""
        return self._server.name

    @property
    def failures(self) -> int:
        """How often in a row it could not be reached until now."""
        return self._server.breaker.failures

    @property
    def connection_pool(self) -> ConnectionPool:  # an attribute in redis-py
        """The connections of this process, other ones after a fork."""
        pool: ConnectionPool = self._server.pool
        return pool

    @connection_pool.setter
    def connection_pool(self, pool: ConnectionPool) -> None:
        self._server = vars(pool)["server"]

    def start_afresh(self) -> None:
        """Forget every connection, as in a forked child."""
        self._server.start_afresh()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return the answer."""
        server = self._server
        with Operation(server):
            pool = server.open_pool or server.pool
            connection: Any = self.connection or pool.get_connection()
            try:
                connection.send_command(*args, **options)
                if options or args[0] not in RESULTS:
                    return self.parse_response(connection, args[0], **options)
                answer, result = connection.read_response(), RESULTS[args[0]]
                return answer if result is None else result(answer)
            finally:
                if not self.connection:
                    pool.release(connection)

    def execute_many(
        self,
        commands: Sequence[Any],
        *,
        raise_on_error: bool = True,
        options: Iterable[Mapping[str, Any]] = itertools.repeat({}),
    ) -> list[Any]:
        """Send commands together and return their answers.

        Args:
            commands: The commands.
            raise_on_error: Whether to raise, once all are answered, what one of them failed with.
            options: Those of redis-py for each.
        """
        pipeline = self.pipeline(transaction=False)
        for command, its_options in zip(commands, options, strict=False):
            pipeline.execute_command(*command, **its_options)
        return pipeline.execute(raise_on_error)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> ClientPipeline:
        """Return a pipeline, which is one operation however many commands it holds."""
        return ClientPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


class ClientPipeline(QuickParser, Pipeline):
    """A pipeline of `Client`."""

    @property
    def _server(self) -> Server:
        server: Server = vars(self.connection_pool)["server"]
        return server

    def reset(self) -> None:  # type: ignore[override]  # redis-py has RESET by this name, too
        """Forget the commands, and give the connection back.

        It is forgotten first: redis-py forgets it afterwards, so an interrupt in between would let
        it be given back again later, when somebody else has it.
        """
        connection, self.connection = self.connection, None
        watching = self.watching
        super().reset()
        if connection is not None:
            if watching:
                try:
                    connection.send_command("UNWATCH")
                    connection.read_response()
                except redis.RedisError:
                    connection.disconnect()
            self.connection_pool.release(connection)

    def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command at once, as after `watch`."""
        with Operation(self._server):
            return super().immediate_execute_command(*args, **options)

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands and return their answers.

        Raises:
            ServerError: None of them could be sent, or the server refused one of them.
        """
        commands = self.command_stack
        with Operation(self._server):
            answers = super().execute(raise_on_error=False)
            if raise_on_error:
                self._raise_first(commands, answers)
        return answers

    def _raise_first(self, commands: Any, answers: list[Any]) -> None:
        for error in answers:
            if isinstance(error, redis.ResponseError) and diagnose(error) is not None:
                raise error
        self.raise_first_error(commands, answers)
