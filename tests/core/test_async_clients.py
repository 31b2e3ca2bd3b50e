"""Asynchronous clients: one owner of a connection at a time, and nothing left behind by a loop.

All of it with the private names of redis-py, and with its public ones alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import random
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import redis

from contextcache.exceptions import ConfigurationError, ServerError
from contextcache.servers import asynchronous, connect
from contextcache.servers.async_pools import MAX_CONNECTIONS
from tests.faults.proxy import Proxy, drip, garbage, half_then_silence, reset, silence
from tests.redis_server import KEPT, free_port, running_server
from tests.waiting import exit_code, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

numbers = itertools.count()


@pytest.fixture(params=["private", "public"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let clients that are made now use the private names of redis-py, or its public ones only."""
    if request.param == "public":
        monkeypatch.setattr(redis, "__version__", "99.0.0")
    return str(request.param)


@pytest.fixture(autouse=True)
def _warn_of_what_is_left_open() -> Iterator[None]:
    """Fail where a socket, transport or connection is collected without having been closed."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        yield
        gc.collect()
    assert [str(one.message) for one in caught if one.category is ResourceWarning] == []


def new_client(url: str, **options: Any) -> Any:
    """Return an asynchronous client that no other test has."""
    name = f"async-{next(numbers)}"
    client = asynchronous(connect(url, client_name=name, **options))
    client.client_name = name
    return client


def connections_of(admin: redis.Redis, client: Any) -> int:
    """Return how many connections the server has from a client of `new_client`."""
    return sum(one["name"] == client.client_name for one in admin.client_list())


# --- What is asked --------------------------------------------------------------------------------


def test_commands_one_by_one_and_together(any_url: str, path: str) -> None:
    """Answers are those of the client that blocks, whatever the transport."""
    client = new_client(any_url)

    async def ask() -> None:
        assert await client.execute_command("SET", "key", b"value", "EX", 60) is True
        assert await client.execute_command("GET", "key") == b"value"
        assert await client.execute_command("GET", "none") is None
        commands = [("SET", "number", 41), ("INCRBY", "number", 1), ("GET", "number")]
        assert await client.execute_many(commands) == [True, 42, b"42"]
        assert await client.execute_many([]) == []
        assert await client.mget(["key", "none"]) == [b"value", None]
        assert await client.execute_command("EXISTS", memoryview(b"key")) == 1
        assert sorted([key async for key in client.scan_iter("*", 1)]) == [b"key", b"number"]
        assert await client.delete("key", "none") == 1
        assert await client.unlink("number") == 1
        assert await client.flushdb() is True

    asyncio.run(ask())


def test_an_error_of_a_command_is_left_as_it_is(redis_url: str, path: str) -> None:
    """One of several commands spares the others, and the connection."""
    client = new_client(redis_url)

    async def ask() -> None:
        await client.execute_command("SET", "text", "abc")
        with pytest.raises(redis.ResponseError, match="not an integer"):
            await client.execute_command("INCRBY", "text", 1)
        with pytest.raises(redis.ResponseError, match="not an integer"):
            await client.execute_many([("INCRBY", "text", 1), ("SET", "after", 1)])
        many = [("INCRBY", "text", 1), ("GET", "after")]
        error, after = await client.execute_many(many, raise_on_error=False)
        assert isinstance(error, redis.ResponseError)
        assert after == b"1"

    asyncio.run(ask())


def test_a_large_value_passes(redis_url: str, path: str) -> None:
    """Of many megabytes, both ways."""
    client, value = new_client(redis_url, timeout=5), random.Random(0).randbytes(20_000_000)

    async def ask() -> None:
        await client.execute_command("SET", "large", value)
        assert await client.execute_command("GET", "large") == value

    asyncio.run(ask())


# --- One owner at a time --------------------------------------------------------------------------


def test_cancelled_tasks_leave_no_reply_behind(
    redis_url: str, redis_client: redis.Redis, path: str
) -> None:
    """Hundreds at random moments: no reply is crossed, and no connection is lost."""
    client = new_client(redis_url, timeout=30)
    keys = [f"cancelled-{number}" for number in range(50)]
    for key in keys:
        redis_client.set(key, key, ex=60)
    wrong: list[object] = []

    async def read(key: str) -> None:
        while True:
            if (found := await client.execute_command("GET", key)) != key.encode():
                wrong.append((key, found))
            answers = await client.execute_many([("GET", key), ("MGET", key, "none")])
            if answers != [key.encode(), [key.encode(), None]]:
                wrong.append((key, answers))

    async def cancel_many() -> None:
        chance = random.Random(0)
        for _ in range(40):
            tasks = [asyncio.create_task(read(chance.choice(keys))) for _ in range(20)]
            for task in chance.sample(tasks, len(tasks)):
                await asyncio.sleep(chance.random() * 0.001)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        pool = client.server.async_pools.pool()
        assert not pool.lent
        assert all([await client.execute_command("GET", key) == key.encode() for key in keys * 2])
        # None of the places in the pool is lost: as many as it has can wait at once.
        began = time.monotonic()
        waits = (client.execute_command("BLPOP", "none", "2") for _ in range(MAX_CONNECTIONS))
        await asyncio.gather(*waits)
        assert time.monotonic() - began < 4
        assert connections_of(redis_client, client) == MAX_CONNECTIONS

    asyncio.run(cancel_many())
    assert wrong == []
    until(lambda: connections_of(redis_client, client) == 0)


def test_a_reply_that_comes_too_late_is_for_nobody(redis_url: str, path: str) -> None:
    """A command that timed out answers in the end, when somebody else could be reading."""
    client = new_client(redis_url, timeout=0.2)

    async def ask() -> None:
        await client.execute_command("SET", "late", "late", "EX", 60)
        for _ in range(2):
            with pytest.raises(ServerError, match="no answer in time"):
                await client.execute_command("BLPOP", "nothing", "2")
            assert await client.execute_command("GET", "late") == b"late"

    asyncio.run(ask())


def test_many_tasks_share_a_few_connections(
    redis_url: str, redis_client: redis.Redis, path: str
) -> None:
    """A thousand at once wait for one another instead of opening a thousand sockets."""
    client = new_client(redis_url, timeout=30)

    async def ask() -> None:
        asked = (client.execute_command("INCRBY", "many", 1) for _ in range(1000))
        assert sorted(await asyncio.gather(*asked)) == list(range(1, 1001))
        assert connections_of(redis_client, client) <= 32

    asyncio.run(ask())


def test_a_limit_is_kept_and_said(redis_url: str, path: str) -> None:
    """Waiting for a connection past the deadline is an error, and opens no circuit breaker."""
    client = new_client(redis_url, timeout=0.3, max_connections=1)

    async def ask() -> None:
        blocking = asyncio.create_task(client.execute_command("BLPOP", "nothing", "5"))
        await asyncio.sleep(0.1)
        waiting = [asyncio.create_task(client.execute_command("PING")) for _ in range(3)]
        waiting[1].cancel()
        with pytest.raises(ServerError, match="no answer in time"):
            await blocking
        first, cancelled, third = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(cancelled, asyncio.CancelledError)
        assert all(one is True or isinstance(one, ServerError) for one in (first, third))
        assert await client.execute_command("PING")

    asyncio.run(ask())


# --- Loops, processes -----------------------------------------------------------------------------


def test_each_loop_has_connections_of_its_own(
    redis_url: str, redis_client: redis.Redis, path: str
) -> None:
    """They end with it, by `asyncio.run` or by hand."""
    client = new_client(redis_url)

    async def ask() -> None:
        assert await client.execute_command("SET", "key", "value")
        assert connections_of(redis_client, client) == 1

    for _ in range(3):
        asyncio.run(ask())
        until(lambda: connections_of(redis_client, client) == 0)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(ask())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert client.server.async_pools.count == 0


def test_a_loop_that_did_not_end_in_good_order_is_forgotten(
    redis_url: str, redis_client: redis.Redis, path: str
) -> None:
    """Where nobody called `shutdown_asyncgens`, asyncio itself warns of its sockets."""
    client = new_client(redis_url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = asyncio.new_event_loop()
        loop.run_until_complete(client.execute_command("GET", "key"))
        loop.close()
        del loop
        asyncio.run(client.execute_command("GET", "key"))
        gc.collect()
    assert client.server.async_pools.count == 0
    until(lambda: connections_of(redis_client, client) == 0)


def test_a_connection_the_server_has_closed_is_not_used(
    redis_url: str, redis_client: redis.Redis, path: str
) -> None:
    """Also where the loop has not had the time to notice."""
    client = new_client(redis_url)

    async def ask() -> None:
        assert await client.execute_command("SET", "key", "value")
        redis_client.client_kill_filter(_type="normal", skipme=True)
        assert await client.execute_command("GET", "key") == b"value"

    asyncio.run(ask())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own(
    redis_url: str, redis_client: redis.Redis, path: str
) -> None:
    """And leaves those of its parent alone."""
    client = new_client(redis_url)

    async def ask() -> bool:
        return bool(await client.execute_command("GET", "key") == b"value")

    async def parent() -> int:
        await client.execute_command("SET", "key", "value")
        before = client.server.async_pools.count
        child = os.fork()
        if child == 0:
            asyncio.events._set_running_loop(None)
            works = client.server.async_pools.count == 0
            loop = asyncio.new_event_loop()
            try:
                works = works and loop.run_until_complete(ask())
            finally:
                os._exit(0 if works else 1)
        code = exit_code(child)
        assert client.server.async_pools.count == before == 1
        assert await ask()
        return code

    assert asyncio.run(parent()) == 0


# --- What goes wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_refused_connection_names_the_url_at_once(host: str, path: str) -> None:
    """And the circuit breaker is that of the client that blocks."""
    url = f"redis://{host}:{free_port()}/0"
    blocking = connect(url, client_name=f"async-{next(numbers)}")
    client = asynchronous(blocking)
    words = f"Redis at {url} cannot be reached: connection refused; start the server"
    for _ in range(3):
        with pytest.raises(ServerError, match=words) as caught:
            asyncio.run(client.execute_command("GET", "key"))
        assert isinstance(caught.value, redis.ConnectionError)
    with pytest.raises(ServerError, match="is left alone for"):
        asyncio.run(client.execute_command("GET", "key"))
    with pytest.raises(ServerError, match="is left alone for"):
        blocking.get("key")


@pytest.mark.parametrize(
    "spoiler", [silence, half_then_silence, drip, reset, garbage], ids=lambda one: one.__name__
)
def test_a_spoiled_reply_is_an_outage_and_spoils_nothing_else(
    redis_url: str, path: str, spoiler: Callable[..., None]
) -> None:
    """Within the deadline, and the next reply is the right one."""
    port = int(redis_url.rpartition(":")[2].partition("/")[0])
    with Proxy(port) as proxy:
        client = new_client(proxy.url, timeout=1)

        async def ask() -> None:
            await client.execute_command("SET", "key", "value", "EX", 60)
            with proxy.spoiling(spoiler):
                began = time.monotonic()
                with pytest.raises(ServerError):
                    await client.execute_command("GET", "key")
                assert time.monotonic() - began < 3
            for _ in range(3):
                with contextlib.suppress(ServerError):
                    assert await client.execute_command("GET", "key") == b"value"
                assert await client.execute_command("EXISTS", "none") == 0

        asyncio.run(ask())


def test_a_server_that_came_back_is_used_again(path: str) -> None:
    """After the first refusal, without anybody's help."""
    with running_server(*KEPT) as server:
        client = new_client(server.url)

        async def ask() -> None:
            await client.execute_command("SET", "key", "value")
            server.kill()
            with pytest.raises(ServerError):
                await client.execute_command("GET", "key")
            server.start()
            assert await client.execute_command("EXISTS", "key") in (0, 1)

        asyncio.run(ask())


def test_a_refused_handshake_is_about_the_server(redis_url: str, path: str) -> None:
    """A database that is not there, a password that is wrong."""
    url = redis_url.rpartition("/")[0]
    with pytest.raises(ServerError, match="no database of this number"):
        asyncio.run(new_client(f"{url}/99").execute_command("GET", "key"))
    wrong = url.replace("redis://", "redis://nobody:wrong@")
    with pytest.raises(ServerError, match="another user or password"):
        asyncio.run(new_client(f"{wrong}/0").execute_command("GET", "key"))


def test_an_option_that_only_blocking_connections_have_is_named(redis_url: str) -> None:
    """Ignored, it could leave a certificate unchecked."""
    client = new_client(redis_url.replace("redis:", "rediss:"), ssl_validate_ocsp=True)
    with pytest.raises(ConfigurationError, match="no option 'ssl_validate_ocsp'"):
        asyncio.run(client.execute_command("GET", "key"))


def test_the_embedded_server_is_that_of_the_other_clients() -> None:
    """What is written by one is read by the other."""
    url = f"fakeredis://async-{next(numbers)}"
    client = asynchronous(connect(url))

    async def ask() -> None:
        await client.execute_command("SET", "key", "value")
        assert await client.execute_many([("GET", "key")]) == [b"value"]
        assert [key async for key in client.scan_iter("k*", 10)] == [b"key"]

    asyncio.run(ask())
    assert connect(url).get("key") == b"value"
