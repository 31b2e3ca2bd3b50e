"""From an address to a client: of one server, of the one that Sentinel names, or of a cluster.

It imports redis-py, and is imported by `contextcache.servers` when the first client is made. What
redis-py does on its own is switched off: it retries, where a command that may have been executed
must not be sent twice, it relaxes timeouts when a server announces maintenance, and it counts.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import REDIS_ALLOWED_KEYS, ClusterNode, RedisCluster
from redis.connection import (
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.retry import Retry
from redis.sentinel import (
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)

from contextcache.exceptions import ConfigurationError
from contextcache.servers.async_clients import AsyncClient, EmbeddedAsyncClient
from contextcache.servers.async_pools import MAX_CONNECTIONS, ConnectionFactory, LoopPools
from contextcache.servers.cluster import ClusterClient
from contextcache.servers.connections import adapted
from contextcache.servers.operations import Client, Server
from contextcache.servers.sentinels import Sentinels
from contextcache.servers.urls import shown_host

try:
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:  # before redis-py 7
    NO_MAINTENANCE = None
else:
    NO_MAINTENANCE = MaintNotificationsConfig(enabled=False)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from contextcache.servers.urls import Address

# Every thread uses one connection at a time, so threads bound the pool. redis-py 8 stops at 100
# by default, which would make the 101st busy thread fail.
_UNBOUNDED = 2**31

SENTINEL_PAUSE = 5.0  # seconds for which a silent sentinel is not asked: the others know as much


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
        pool_class = adapted(ConnectionPool)
        settings.setdefault("max_connections", _UNBOUNDED)  # another pool has a limit for a reason
    else:
        pool_class = adapted(pool_class)
    make_pool: Callable[[], Any]
    if address.topology == "cluster":
        # redis-py's client of a cluster ignores what it does not know.
        others = {name: settings[name] for name in settings.keys() - _CLUSTER_SETTINGS}
        others["connection_class"] = adapted(_CONNECTIONS[address.transport][0])
        _try_options(pool_class(**others), address)
        return _cluster(address, seconds, settings)
    if address.topology == "sentinel":
        plain = _CONNECTIONS[address.transport][0]
        make_pool = functools.partial(_sentinel_pool, address, seconds, settings)
    else:
        plain = options.get("connection_class") or settings.get("connection_class", Connection)
        settings["connection_class"] = adapted(plain)
        make_pool = functools.partial(pool_class, **settings)
    server = Server(address.public, seconds, make_pool)
    pool: Any = server.pool
    _try_options(pool, address)
    if address.topology == "sentinel":
        sentinels, service = pool.sentinel_manager, address.service
        server.async_pools = _async_pools(plain, settings, sentinels, service)
    else:
        server.async_pools = _async_pools(plain, settings)
    return Client(connection_pool=pool)


def asynchronous(client: Any) -> Any:
    """Return the asynchronous twin of a client that `connect` has made."""
    if isinstance(client, Client):
        return AsyncClient(client)
    if isinstance(client, ClusterClient):
        return client.asynchronous
    return EmbeddedAsyncClient(client)


def _async_pools(
    plain: type, settings: Mapping[str, Any], sentinels: Sentinels | None = None, service: str = ""
) -> LoopPools:
    """Return the pools of event loops with the options of the one for threads.

    Args:
        plain: The class of connections that block.
        settings: Options of redis-py's pools and connections.
        sentinels: Know who the master is.
        service: What they call it.
    """
    kind: Any = next(twin for base, twin in _ASYNC_CONNECTIONS.items() if issubclass(plain, base))
    options = {name: value for name, value in settings.items() if name not in _NOT_ASYNC}
    # The deadline is that of the whole operation.
    if "async_parser_class" in options:
        options["parser_class"] = options.pop("async_parser_class")
    options.update(retry=AsyncRetry(NoBackoff(), 0), socket_timeout=None)
    options["socket_connect_timeout"] = None
    limit = settings.get("max_connections", _UNBOUNDED)

    def make(host: str | None = None, port: int | None = None) -> Any:
        place = {} if host is None else {"host": host, "port": port}
        try:
            return kind(**options | place)
        except TypeError as error:
            raise ConfigurationError(
                f"redis-py's asynchronous connections have no option {_unknown_option(error)}"
            ) from None

    limit = MAX_CONNECTIONS if limit == _UNBOUNDED else limit
    return LoopPools(ConnectionFactory(make, limit, sentinels, service))


def _try_options(pool: Any, address: Address) -> None:
    """Make a connection that never connects, because the first that does may be in production."""
    try:
        pool.connection_class(**pool.connection_kwargs)
    except TypeError as error:
        raise ConfigurationError(
            f"{address.public}: redis-py's connections have no option {_unknown_option(error)}"
        ) from None


def _unknown_option(error: TypeError) -> str:
    """Return the name in "unexpected keyword argument 'name'", which Python may go on from."""
    return str(error).partition("argument ")[2].partition(".")[0]


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
    sentinels = []
    for host, port in address.hosts:
        make_pool = functools.partial(
            adapted(ConnectionPool), connection_class=adapted(plain), host=host, port=port, **asking
        )
        name = f"{address.transport}://{shown_host(host, port)}"
        server = Server(name, share, make_pool, is_part=True, pause=SENTINEL_PAUSE)
        server.async_pools = _async_pools(plain, {**asking, "host": host, "port": port})
        sentinels.append(Client(connection_pool=server.pool))
    pool: ConnectionPool = adapted(SentinelConnectionPool)(
        address.service,
        Sentinels(sentinels, seconds, [AsyncClient(one) for one in sentinels]),
        connection_class=adapted(managed),
        **settings,
    )
    return pool


def _cluster(address: Address, seconds: float, settings: dict[str, Any]) -> ClusterClient:
    """Return a client of a cluster, which asks a node for the map of it.

    A node is given half of the time, so that there is some left for another one.
    """
    settings = {name: value for name, value in settings.items() if name in _CLUSTER_SETTINGS}
    settings.update(
        socket_timeout=seconds / 2,
        socket_connect_timeout=seconds / 2,
        connection_class=adapted(_CONNECTIONS[address.transport][0]),
    )
    host, port = address.hosts[0]

    def new_server(name: str, host: str, port: int) -> Server:
        server = Server(name, seconds, lambda: make_node_pool(host, port), is_part=True)
        options = {**settings, "host": host, "port": port}
        if (parser := getattr(redis.asyncio.cluster, "ClusterParser", None)) is not None:
            options["async_parser_class"] = parser
        server.async_pools = _async_pools(_CONNECTIONS[address.transport][0], options)
        return server

    def make_node_pool(host: str, port: int) -> ConnectionPool:
        options = {**settings, "retry": Retry(NoBackoff(), 0)}
        # The parser for one server gives ASK, MOVED and TRYAGAIN no types in older versions.
        if (parser := getattr(redis.cluster, "ClusterParser", None)) is not None:
            options.setdefault("parser_class", parser)
        options.pop("require_full_coverage", None)
        pool: ConnectionPool = adapted(ConnectionPool)(host=host, port=port, **options)
        return pool

    def make_cluster() -> RedisCluster:
        options = dict(settings)
        # Maintenance is announced in RESP3 only, and redis-py 7 refuses to hear of it elsewhere.
        default = getattr(redis.connection, "DEFAULT_RESP_VERSION", 3)
        if str(options.get("protocol") or default) != "3":
            options.pop("maint_notifications_config", None)
        return RedisCluster(
            # With a URL it takes the class of connections; the rest of it is in `settings`.
            url=f"redis://{shown_host(host, port)}",
            startup_nodes=[ClusterNode(*node) for node in address.hosts[1:]],
            retry=Retry(NoBackoff(), 0),
            **options,
        )

    return ClusterClient(address, seconds, new_server, make_cluster)


_CONNECTIONS = {
    "redis": (Connection, SentinelManagedConnection),
    "rediss": (SSLConnection, SentinelManagedSSLConnection),
}
# The more special one first.
_ASYNC_CONNECTIONS: dict[type, type] = {
    SSLConnection: redis.asyncio.SSLConnection,
    UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
    Connection: redis.asyncio.Connection,
}
_NOT_ASYNC = {
    *("connection_class", "max_connections", "parser_class", "timeout"),
    *("require_full_coverage", "sentinel_username", "sentinel_password"),
}
if "maint_notifications_config" not in inspect.signature(AbstractConnection).parameters:
    _NOT_ASYNC.add("maint_notifications_config")  # redis-py 7 has them in blocking clients only
_CLUSTER_SETTINGS = {*REDIS_ALLOWED_KEYS, "maint_notifications_config", "require_full_coverage"} - {
    *("host", "port", "db", "retry", "connection_class", "connection_pool_class"),
}
