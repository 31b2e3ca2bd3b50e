"""From a URL to a Redis client: one grammar, and one set of kept clients, for every adapter.

===========================================  =====================================================
`redis://user:password@host:6379/0`          TCP
`rediss://user:password@host:6379/0`         TCP inside TLS
`unix:///run/redis.sock?db=0`                a Unix domain socket
`redis+sentinel://user:password@one:26379,`  the server that the sentinels call `mymaster`,
`two:26379/mymaster/0`                       wherever it is after a failover
`redis+cluster://user:password@one:6379,`    a Redis Cluster, of which some nodes are named
`two:6379`
`fakeredis://name/0`                         embedded: a server inside this process, and nothing
                                             else
===========================================  =====================================================

`rediss+sentinel://` and `rediss+cluster://` do so inside TLS. User and password are those of the
servers that hold the data; sentinels take `?sentinel_username=…&sentinel_password=…`. A query
adds options of redis-py, as in `redis://host/0?client_name=shop`. Valkey is addressed alike.

A client answers or raises within its timeout, whatever the server does: it never retries, and a
server that is silent is left alone for a while. The modules here: `errors` says what each error
means, `deadline` what the timeout covers, `breaker` who is left alone; `urls` has the grammar,
`connections` and `clients` what is built on redis-py, `async_pools` and `async_clients` the same
for event loops.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

from contextcache.base.locks import ProcessLock
from contextcache.config import TIMEOUT as DEFAULT_TIMEOUT
from contextcache.exceptions import ConfigurationError
from contextcache.servers.errors import RETRY_AFTER, server_error, warn
from contextcache.servers.urls import parse, public_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    import fakeredis
    import redis

    from contextcache.servers.urls import Address

__all__ = [
    "DEFAULT_TIMEOUT",
    "DEFAULT_URL",
    "RETRY_AFTER",
    "asynchronous",
    "connect",
    "public_url",
    "server_error",
    "warn",
]

DEFAULT_URL = "fakeredis://"
EMBEDDED = "in an embedded Redis (fakeredis): each process has its own, which ends with it"
NAME_A_SERVER = "the URL of a Redis, such as redis://127.0.0.1:6379/0"

_INSTALL = "pip install 'contextcache-web[redis]'"

# What is not about a network, which an embedded server does not have.
_EMBEDDED_OPTIONS = {"decode_responses", "encoding", "encoding_errors"}


def connect(
    url: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    pool_class: type[redis.ConnectionPool] | None = None,
    **options: Any,
) -> redis.Redis:
    """Return the client for `url`, the same one for the same arguments in this process.

    The client is safe in threads, greenlets and forked children, and connects when it is first
    used. What goes wrong is a `ServerError` that names the URL.

    Args:
        url: `redis://` or any other of the schemes above.
        timeout: Seconds for each command or pipeline as a whole, and more for a large body; see
            `contextcache.servers.deadline`. A `socket_timeout` among the options takes its place.
        pool_class: Another connection pool of redis-py, such as `BlockingConnectionPool`.
        options: Options of redis-py's connections, but for those about retries, which are not
            made; the query of the URL wins over them.

    Raises:
        ConfigurationError: The URL cannot be understood, or the package it needs is missing.
    """
    key = (url, timeout, pool_class, *(_hashable(item) for item in options.items()))
    # Not try/except KeyError: a traceback would show the key, and with it the password.
    client = _clients.get(key)
    if client is None:
        with _lock:
            client = _clients.get(key)
            if client is None:
                client = _new_client(url, timeout, pool_class, options)
                client = _clients.setdefault(key, client)  # a signal handler may have made one
    return client


def asynchronous(client: Any) -> Any:
    """Return the asynchronous twin of a client that `connect` has returned.

    It can be used in every event loop, and has connections of its own in each. It shares the
    circuit breaker of the client. See `contextcache.servers.async_clients` for its methods.
    """
    from contextcache.servers import clients  # noqa: PLC0415  # redis-py is there by now

    return clients.asynchronous(client)


_clients: dict[tuple[object, ...], redis.Redis] = {}
_embedded: dict[str, fakeredis.FakeServer] = {}
_lock = ProcessLock()


def _start_afresh_after_fork() -> None:
    """Let nothing of the parent be used in a forked child: sockets, locks, embedded servers.

    A client stays the same, because somebody may hold it; what it holds is made anew.
    """
    _embedded.clear()
    for client in list(_clients.values()):
        client.start_afresh()  # type: ignore[attr-defined]  # redis-py's have none


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh_after_fork)


def _new_client(
    url: str,
    timeout: float,
    pool_class: type[redis.ConnectionPool] | None,
    options: Mapping[str, Any],
) -> redis.Redis:
    address = parse(url)
    if address.transport == "fakeredis":
        return _embedded_client(url, address, options)
    try:
        from contextcache.servers.clients import new_client  # noqa: PLC0415
    except ImportError as error:
        raise _missing("redis", address) from error
    try:
        client: Any = new_client(address, timeout, pool_class, options)
    except ConfigurationError:
        raise
    except ValueError:
        # Not chained: redis-py's text repeats what it could not convert, which may be anything.
        raise ConfigurationError(
            f"{address.public} has a query option redis-py does not understand"
        ) from None
    # A client of a cluster is none of redis-py's `Redis`, and nearly all that is asked is alike.
    return cast("redis.Redis", client)


def _embedded_client(url: str, address: Address, options: Mapping[str, Any]) -> redis.Redis:
    try:
        import fakeredis  # noqa: PLC0415
    except ImportError as error:
        raise _missing("fakeredis", address) from error
    name = address.hosts[0][0]
    server = _embedded.setdefault(name, fakeredis.FakeServer())
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    database = query.get("db") or parts.path.strip("/") or options.get("db", 0)
    used = {name: options[name] for name in options.keys() & _EMBEDDED_OPTIONS}
    client: Any = fakeredis.FakeRedis(server=server, db=int(database), **used)

    def start_afresh() -> None:
        fresh: Any = _embedded_client(url, address, options)
        client.connection_pool = fresh.connection_pool

    client.start_afresh = start_afresh
    return cast("redis.Redis", client)


def _hashable(item: tuple[str, Any]) -> tuple[str, object]:
    name, value = item
    try:
        hash(value)
    except TypeError:
        return name, repr(value)
    return item


def _missing(package: str, address: Address) -> ConfigurationError:
    return ConfigurationError(f"{address.transport}:// needs the package {package}: {_INSTALL}")
