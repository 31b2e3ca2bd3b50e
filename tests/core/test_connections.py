"""The pool of connections: it lends each to one caller, and takes back what it lent, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contextcache.servers import connect

if TYPE_CHECKING:
    import redis


def test_a_connection_that_comes_back_twice_is_lent_once(redis_url: str) -> None:
    """Two threads on one connection read each other's replies."""
    pool = _pool(redis_url, client_name="twice")
    connection = pool.get_connection()
    pool.release(connection)
    pool.release(connection)
    assert pool.get_connection() is connection
    assert pool.get_connection() is not connection


def test_a_connection_of_another_pool_is_refused(redis_url: str) -> None:
    """Else a command for one node would be sent to another, which answers."""
    pool, other = _pool(redis_url, client_name="one"), _pool(redis_url, client_name="other")
    connection = pool.get_connection()
    other.release(connection)
    assert other.get_connection() is not connection
    pool.release(connection)
    other.release(connection)
    assert pool.get_connection() is connection
    assert other.get_connection() is not connection


def _pool(url: str, **options: str) -> redis.ConnectionPool:
    return connect(url, **options).connection_pool  # type: ignore[arg-type]
