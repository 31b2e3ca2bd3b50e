"""redis-py's clients, with one deadline, one breaker and words for each operation.

It imports redis-py, and is imported by `contextcache.servers` when the first client is made. What
redis-py does on its own is switched off: it retries, where a command that may have been executed
must not be sent twice, it relaxes timeouts when a server announces maintenance, and it counts.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import functools
import threading
import time
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.cluster import REDIS_ALLOWED_KEYS, ClusterNode, RedisCluster
from redis.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.retry import Retry
from redis.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from contextcache.exceptions import ConfigurationError
from contextcache.servers.breaker import Breaker
from contextcache.servers.connections import kept
from contextcache.servers.deadlines import Deadline, current
from contextcache.servers.outages import Diagnosis, diagnose, worded

try:
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:  # before redis-py 7
    NO_MAINTENANCE = None
else:
    NO_MAINTENANCE = MaintNotificationsConfig(enabled=False)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from contextcache.servers.urls import Address

    _Commands = redis.Redis
else:  # it is added to classes of redis-py
    _Commands = object

# Every thread uses one connection at a time, so threads bound the pool. redis-py 8 stops at 100
# by default, which would make the 101st busy thread fail.
_UNBOUNDED = 2**31


class Server:
    """One Redis as this process sees it: its connections, and whether it is worth asking.

    Args:
        name: Its URL without user, password and query.
        seconds: How long an operation may take.
        make_pool: Makes its pool of connections.

    Attributes:
        open_pool: Its connections, once there are some; see `pool`.
    """

    def __init__(self, name: str, seconds: float, make_pool: Callable[[], Any]) -> None:
        self.name = name
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
        self._lock = threading.RLock()
        self.breaker = Breaker(self.name, self.seconds)
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

    def judge(self, error: Exception) -> None:
        """Take note of what an operation raised, and raise the `ServerError` it stands for."""
        diagnosis = diagnose(error)
        if diagnosis is not None and diagnosis.counts:
            self._ailment = diagnosis
            self.breaker.failed(diagnosis.reason, diagnosis.remedy)
        elif isinstance(error, redis.RedisError):
            self.breaker.succeeded()
        if diagnosis is not None:
            raise worded(self.name, diagnosis, error) from error


class Operation(Deadline):
    """A `with` block in which one command, pipeline or transaction is executed.

    An operation within another one, such as asking a sentinel, is a part of that. It is entered
    for each command, so nothing here is left to the methods of `Deadline`.

    Raises:
        ServerError: The server cannot be reached or used, or has not been lately.
    """

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server
        self._token = None

    def __enter__(self) -> None:
        if current.get() is None:
            server = self._server
            if server.breaker.failures:
                server.admit()
            self.seconds = server.seconds
            self.expires = time.monotonic() + server.seconds
            self._token = current.set(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._token is None:
            return
        current.reset(self._token)
        if error is None:
            if self._server.breaker.failures:
                self._server.breaker.succeeded()
        elif isinstance(error, Exception):  # an interrupt says nothing about the server
            self._server.judge(error)


# --- The clients --------------------------------------------------------------------------------


class _Quick(_Commands):
    """What is added to redis-py's clients: less of what is done in vain for a small command.

    A page has the processor's caches full of other things, and each Python function that a command
    passes through there costs a microsecond.
    """

    def get(self, name: Any) -> Any:
        """Send `GET`."""
        return self.execute_command("GET", name)

    def set(  # noqa: PLR0917  # as in redis-py
        self,
        name: Any,
        value: Any,
        ex: Any = None,
        px: Any = None,
        nx: bool = False,
        xx: bool = False,
        *others: Any,
        **options: Any,
    ) -> Any:
        """Send `SET`, with `EX`, `NX` and `XX` as they are asked for."""
        if px or others or options or (nx and xx) or not (ex is None or type(ex) is int):
            return super().set(name, value, ex, px, nx, xx, *others, **options)
        command = [name, value]
        if ex is not None:
            command += ("EX", ex)
        if nx or xx:
            command.append("NX" if nx else "XX")
        return self.execute_command("SET", *command)

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """Read the answer, and turn it into what the command returns."""
        if options or command_name not in _QUICKLY_PARSED:
            return super().parse_response(connection, command_name, **options)
        answer = connection.read_response()
        # Of a dict that asks for the upper case of each name, in Python.
        parse = dict.get(self.response_callbacks, command_name)
        return answer if parse is None else parse(answer)


_QUICKLY_PARSED = frozenset({"GET", "GETEX", "SET", "MGET", "DEL", "EXISTS", "EXPIRE"})


class Client(_Quick, redis.Redis):
    """A client of one server, or of the one that Sentinel says is the master."""

    _server: Server

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
                return self.parse_response(connection, args[0], **options)
            finally:
                if not self.connection:
                    pool.release(connection)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> ClientPipeline:
        """Return a pipeline, which is one operation however many commands it holds."""
        return ClientPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


class ClientPipeline(_Quick, Pipeline):
    """A pipeline of `Client`."""

    @property
    def _server(self) -> Server:
        server: Server = vars(self.connection_pool)["server"]
        return server

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


class ClusterClient:
    """A client of a Redis Cluster, with the methods of redis-py's.

    Of those it changes `mget` and `mset`, which take keys of any slot. A node is asked for the
    map of the cluster when the client is first used.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def start_afresh(self) -> None:
        """Forget every connection, as in a forked child."""
        self._server.start_afresh()

    def __getattr__(self, name: str) -> Any:
        if not callable(getattr(RedisCluster, name, None)):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    def mget(self, *keys: Any) -> Any:
        """Return the values under `keys`."""
        return self._call("mget_nonatomic", *keys)

    def mset(self, mapping: Mapping[Any, Any]) -> Any:
        """Store every value of `mapping` under its key."""
        return self._call("mset_nonatomic", mapping)

    def pipeline(self, transaction: bool = False, shard_hint: Any = None) -> Any:
        """Return a pipeline, whose execution is one operation; of a transaction, in one slot."""
        pipeline = self._call("pipeline", transaction or None, shard_hint)
        execute = pipeline.execute

        def executed(raise_on_error: bool = True) -> Any:
            with Operation(self._server):
                return execute(raise_on_error)

        pipeline.execute = executed
        return pipeline

    def _call(self, name: str, /, *args: Any, **options: Any) -> Any:
        with Operation(self._server):
            return getattr(self._server.pool, name)(*args, **options)


# --- From an address to a client ----------------------------------------------------------------


def new_client(
    address: Address,
    seconds: float,
    pool_class: type[ConnectionPool] | None,
    options: Mapping[str, Any],
) -> Client | ClusterClient:
    """Return a client that connects when it is first used.

    Raises:
        ValueError: The URL has an option that redis-py does not understand.
        ConfigurationError: There is no option of such a name.
    """
    settings: dict[str, Any] = {**options, **parse_url(address.plain)}
    seconds = settings.setdefault("socket_timeout", seconds) or seconds
    settings.setdefault("socket_connect_timeout", seconds)
    settings["retry"] = Retry(NoBackoff(), 0)
    if NO_MAINTENANCE is not None:
        settings.setdefault("maint_notifications_config", NO_MAINTENANCE)
    if pool_class in (None, ConnectionPool):
        pool_class = kept(ConnectionPool)
        settings.setdefault("max_connections", _UNBOUNDED)  # another pool has a limit for a reason
    make_pool: Callable[[], Any]
    if address.topology == "cluster":
        make_pool = functools.partial(_cluster, address, seconds, settings)
        return ClusterClient(Server(address.public, seconds, make_pool))
    if address.topology == "sentinel":
        make_pool = functools.partial(_sentinel_pool, address, seconds, settings)
    else:
        plain = options.get("connection_class") or settings.get("connection_class", Connection)
        settings["connection_class"] = kept(plain)
        make_pool = functools.partial(pool_class, **settings)
    pool: Any = Server(address.public, seconds, make_pool).pool
    if not address.topology:
        _try_options(pool, address)
    return Client(connection_pool=pool)


def _try_options(pool: Any, address: Address) -> None:
    """Make a connection that never connects, because the first that does may be in production."""
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        name = str(error).rpartition(" ")[2]  # of an "unexpected keyword argument 'name'"
        raise ConfigurationError(
            f"{address.public}: redis-py's connections have no option {name}"
        ) from None


def _sentinel_pool(address: Address, seconds: float, settings: dict[str, Any]) -> ConnectionPool:
    """Return a pool that asks the sentinels who the master is when it needs a connection.

    Each sentinel is given a share of the time, so that a silent one does not use it up.
    """
    settings = dict(settings)
    plain, managed = _CONNECTIONS[address.transport]
    for name in ("host", "port", "connection_class"):
        settings.pop(name, None)
    asking = {name: value for name, value in settings.items() if name.startswith("ssl")}
    for name in ("username", "password"):
        asking[name] = settings.pop(f"sentinel_{name}", None)
    share = seconds / (len(address.hosts) + 1)
    asking.update(socket_timeout=share, socket_connect_timeout=share, retry=settings["retry"])
    manager = Sentinel([])
    manager.sentinels = []
    for host, port in address.hosts:
        make_pool = functools.partial(
            kept(ConnectionPool), connection_class=kept(plain), host=host, port=port, **asking
        )
        sentinel = Server(f"{address.transport}://{host}:{port}", share, make_pool)
        manager.sentinels.append(Client(connection_pool=sentinel.pool))
    pool: ConnectionPool = kept(SentinelConnectionPool)(
        address.service, manager, connection_class=kept(managed), **settings
    )
    return pool


def _cluster(address: Address, seconds: float, settings: dict[str, Any]) -> RedisCluster:
    """Return redis-py's client of a cluster, which asks a node for the map of it.

    A node is given half of the time, so that there is some left to ask another one for a new map.
    """
    settings = {name: value for name, value in settings.items() if name in _CLUSTER_SETTINGS}
    host, port = address.hosts[0]
    settings.update(socket_timeout=seconds / 2, socket_connect_timeout=seconds / 2)
    return RedisCluster(
        # With a URL it takes the classes of connections and pools; the rest of it is in `settings`.
        url=f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}",
        startup_nodes=[ClusterNode(*node) for node in address.hosts[1:]],
        connection_class=kept(_CONNECTIONS[address.transport][0]),
        connection_pool_class=kept(ConnectionPool),
        retry=Retry(NoBackoff(), 0),
        **settings,
    )


_CONNECTIONS = {
    "redis": (Connection, SentinelManagedConnection),
    "rediss": (SSLConnection, SentinelManagedSSLConnection),
}
_CLUSTER_SETTINGS = {*REDIS_ALLOWED_KEYS, "maint_notifications_config", "require_full_coverage"} - {
    *("host", "port", "db", "retry", "connection_class", "connection_pool_class"),
}
