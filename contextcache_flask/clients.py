"""What a Redis client raised, as an outage: of a client of ours, or of one the application made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contextcache import ServerError
from contextcache.servers import server_error

if TYPE_CHECKING:
    from redis import Redis


def outage_of(client: Redis, error: Exception) -> ServerError | None:
    """Return the outage behind `error`, or None where it is about the command."""
    return error if isinstance(error, ServerError) else server_error(address_of(client), error)


def address_of(client: Redis) -> str:
    """Return the address of a client, without its password."""
    # A client of ours has it in its class; one of a cluster would ask a node for the map of it.
    ours = hasattr(type(client), "connection_pool")
    pool = client.connection_pool if ours else vars(client).get("connection_pool")
    if pool is None:
        return "redis+cluster://"
    options = pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return f"redis://{host}:{port}/{options.get('db', 0)}"
