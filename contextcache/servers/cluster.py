"""A Redis Cluster: each key is asked for at the node that has it, and each node has its breaker.

redis-py's client of a cluster is not used for this. It has one outcome for a command of many keys
whatever the nodes say, sends a command of two keys to one node while their slot is on two, and
returns the connection of one node to the pool of another one after a redirection that fails. It
stays for what has no key, and for transactions.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import asyncio
import functools
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from redis.cluster import RedisCluster
from redis.commands import CoreCommands, RedisClusterCommands

from contextcache.base.steps import awaitable, blocking, items, items_async, run, run_async
from contextcache.servers.async_clients import AsyncClient
from contextcache.servers.everywhere import ClusterSteps, complete
from contextcache.servers.operations import Client, Operation, QuickParser, Server
from contextcache.servers.slots import SlotMap
from contextcache.servers.urls import shown_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence

    from contextcache.servers.urls import Address

    _ClusterBase = ClusterSteps

    class _PipelineBase: ...
else:

    class _ClusterBase(ClusterSteps, QuickParser, RedisClusterCommands):
        """Quick for what is asked most, and redis-py's methods for the rest."""

    class _PipelineBase(QuickParser, CoreCommands):
        """The same of a pipeline."""


class ClusterClient(_ClusterBase):
    """A client of a Redis Cluster, with the methods of redis-py's.

    `mget`, `mset`, `delete`, `exists`, `touch` and `unlink` take keys of any slot, and ask each
    node once. Where a node fails, they go on with the others, and the `ServerError` they then
    raise has the `answers` there are, with an exception in the place of each that is missing.

    Args:
        address: Some of its nodes.
        seconds: How long an operation may take, on however many nodes.
        new_server: Returns the server of a node, given its name, host and port.
        make_cluster: Makes redis-py's client of the cluster.
    """

    def __init__(
        self,
        address: Address,
        seconds: float,
        new_server: Callable[[str, str, int], Server],
        make_cluster: Callable[[], Any],
    ) -> None:
        self._seconds = seconds
        self._whole = Server(address.public, seconds, make_cluster)

        def new_node(host: str, port: int) -> Client:
            server = new_server(f"{address.transport}://{shown_host(host, port)}", host, port)
            node = Client(connection_pool=server.pool)
            node.address = (host, port)
            return node

        self._map = SlotMap(address, new_node)
        self._encode = self._map.nodes()[0].connection_pool.get_encoder().encode

    @cached_property
    def asynchronous(self) -> AsyncClusterClient:
        """The asynchronous twin, with the same nodes and circuit breakers."""
        return AsyncClusterClient(self)

    def start_afresh(self) -> None:
        """Forget every connection, as in a forked child."""
        self._whole.start_afresh()
        for node in self._map.nodes():
            node.start_afresh()

    def close(self) -> None:
        """Close the connections that are not in use."""
        for node in self._map.nodes():
            node.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in {"encoder", "nodes_manager"}:  # what redis-py's methods look at
            return getattr(self._whole.pool, name)
        if not callable(getattr(RedisCluster, name, None)):
            raise AttributeError(name)
        return functools.partial(self._ask, name)

    def _ask(self, name: str, /, *args: Any, **options: Any) -> Any:
        """Let redis-py do it, for what has no key."""
        with Operation(self._whole):
            return getattr(self._whole.pool, name)(*args, **options)

    def _ask_whole(self, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        return self._ask("execute_command", *args, **options)

    def _pause(self, seconds: float) -> Any:
        time.sleep(seconds)

    execute_command = blocking(ClusterSteps._execute)

    def mget(self, keys: Any, *others: Any) -> Any:
        """Return the values under `keys`."""
        return run(self._mget(_listed(keys, others)))

    def mset(self, mapping: Mapping[Any, Any]) -> Any:
        """Store every value of `mapping` under its key."""
        complete(run(self._execute_all([(("SET", *item), {}) for item in mapping.items()])))
        return True

    mget_nonatomic, mset_nonatomic = mget, mset

    def delete(self, *keys: Any) -> Any:
        """Delete `keys`, and return how many there were."""
        return run(self._count("DEL", *keys))

    def exists(self, *keys: Any) -> Any:
        """Return how many of `keys` there are."""
        return run(self._count("EXISTS", *keys))

    def touch(self, *keys: Any) -> Any:
        """Note that `keys` have been used, and return how many there are."""
        return run(self._count("TOUCH", *keys))

    def unlink(self, *keys: Any) -> Any:
        """Delete `keys`, and return how many there were."""
        return run(self._count("UNLINK", *keys))

    def pipeline(self, transaction: bool = False, shard_hint: Any = None) -> Any:
        """Return a pipeline, which asks each node once; or a transaction, of keys of one slot."""
        if not transaction:
            return ClusterPipeline(self)
        pipeline = self._ask("pipeline", True, shard_hint)
        execute = pipeline.execute

        def executed(raise_on_error: bool = True) -> Any:
            with Operation(self._whole):
                return execute(raise_on_error)

        pipeline.execute = executed
        return pipeline

    execute_many = blocking(ClusterSteps._execute_all)

    # --- Every node -------------------------------------------------------------------------------

    def flushdb(self, asynchronous: bool = False, **_: Any) -> Any:
        """Delete everything on every node that can be reached."""
        return run(self._flushdb(*["ASYNC"] * asynchronous))

    def dbsize(self, **_: Any) -> Any:
        """Return how many keys there are."""
        return sum(run(self._ask_each("DBSIZE")))

    def keys(self, pattern: Any = "*", **_: Any) -> Any:
        """Return all keys that match `pattern`."""
        return [key for found in run(self._ask_each("KEYS", pattern)) for key in found]

    def scan_iter(
        self, match: Any = None, count: int | None = None, _type: str | None = None, **_others: Any
    ) -> Iterator[Any]:
        """Yield the keys of every node; some twice while keys move from one to another.

        Raises:
            ServerError: A node failed. What is on the others has been yielded.
        """
        named = {"MATCH": match, "COUNT": count, "TYPE": _type}
        return items(self._scan(*(x for one in named.items() if one[1] is not None for x in one)))


class AsyncClusterClient(ClusterSteps):
    """The asynchronous client of a cluster.

    Args:
        client: The one that blocks; its nodes are asked.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self._seconds, self._encode = client._seconds, client._encode

        def new_node(host: str, port: int) -> AsyncClient:
            node = AsyncClient(client._map.node_at(host, port))
            node.address = (host, port)
            return node

        self._map = SlotMap(client._map.address, new_node)

    def _ask_whole(self, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        return asyncio.to_thread(self._client.execute_command, *args, **options)

    def _pause(self, seconds: float) -> Any:
        return asyncio.sleep(seconds)

    execute_command = awaitable(ClusterSteps._execute)
    mget = awaitable(ClusterSteps._mget)
    flushdb = awaitable(ClusterSteps._flushdb)

    async def execute_many(
        self, commands: Iterable[Sequence[Any]], *, raise_on_error: bool = True
    ) -> list[Any]:
        """Send commands, each node's together, and return their answers."""
        answers = await run_async(self._execute_all([(command, {}) for command in commands]))
        return complete(answers) if raise_on_error else answers

    async def delete(self, *keys: Any) -> int:
        """Delete `keys`, and return how many there were."""
        return await run_async(self._count("DEL", *keys))

    async def unlink(self, *keys: Any) -> int:
        """Delete `keys`, and return how many there were."""
        return await run_async(self._count("UNLINK", *keys))

    def scan_iter(self, match: Any, count: int) -> AsyncIterator[Any]:
        """Yield the keys that match, of every node."""
        return items_async(self._scan("MATCH", match, "COUNT", count))


class ClusterPipeline(_PipelineBase):
    """Commands for a cluster that are sent together, each node's at once.

    Args:
        client: The client of the cluster.
    """

    def __init__(self, client: ClusterClient) -> None:
        self._client = client
        self.command_stack: list[tuple[Any, Any]] = []

    def __enter__(self) -> ClusterPipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.reset()

    def __len__(self) -> int:
        return len(self.command_stack)

    def __bool__(self) -> bool:
        return True

    def execute_command(self, *args: Any, **options: Any) -> ClusterPipeline:
        """Add one command."""
        self.command_stack.append((args, options))
        return self

    def reset(self) -> None:
        """Forget the commands."""
        self.command_stack = []

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send all commands and return their answers.

        Args:
            raise_on_error: Whether to raise, once all are sent, what one of them failed with; else
                it is among the answers.
        """
        commands, self.command_stack = self.command_stack, []
        answers = self._client.execute_many(commands)
        if raise_on_error:
            complete(answers)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers


def _listed(keys: Any, others: tuple[Any, ...]) -> list[Any]:
    return [*([keys] if isinstance(keys, (str, bytes)) else keys), *others]
