"""A Redis Cluster: each key is asked for at the node that has it, and each node has its breaker.

redis-py's client of a cluster is not used for this. It has one outcome for a command of many keys
whatever the nodes say, sends a command of two keys to one node while their slot is on two, and
returns the connection of one node to the pool of another one after a redirection that fails. It
stays for what has no key, and for transactions.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import redis
from redis.cluster import RedisCluster
from redis.commands import CoreCommands, RedisClusterCommands
from redis.crc import key_slot

from contextcache.exceptions import ServerError
from contextcache.servers.deadline import Deadline
from contextcache.servers.errors import diagnose, worded
from contextcache.servers.everywhere import EveryNode, complete
from contextcache.servers.operations import Client, Operation, QuickParser, Server
from contextcache.servers.slots import SlotMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from contextcache.servers.urls import Address

    _ClusterBase = EveryNode

    class _PipelineBase: ...
else:

    class _ClusterBase(EveryNode, QuickParser, RedisClusterCommands):
        """Quick for what is asked most, and redis-py's methods for the rest."""

    class _PipelineBase(QuickParser, CoreCommands):
        """The same of a pipeline."""


REDIRECTIONS = 5  # that one command follows
TRY_AGAIN_PAUSE = 0.02  # seconds

# Commands whose first argument is their only key, or which take several of one slot.
_KEY_FIRST = frozenset(
    word
    for line in (
        "APPEND BITCOUNT BITFIELD BITPOS DECR DECRBY GET GETBIT GETDEL GETEX GETRANGE GETSET INCR",
        "INCRBY INCRBYFLOAT PSETEX SET SETBIT SETEX SETNX SETRANGE STRLEN SUBSTR",
        "DEL DUMP EXISTS EXPIRE EXPIREAT EXPIRETIME PERSIST PEXPIRE PEXPIREAT PEXPIRETIME PTTL",
        "RENAME RENAMENX RESTORE TOUCH TTL TYPE UNLINK",
        "HDEL HEXISTS HGET HGETALL HINCRBY HINCRBYFLOAT HKEYS HLEN HMGET HMSET HSCAN HSET HSETNX",
        "HSTRLEN HVALS",
        "LINDEX LINSERT LLEN LPOP LPOS LPUSH LPUSHX LRANGE LREM LSET LTRIM RPOP RPUSH RPUSHX",
        "SADD SCARD SISMEMBER SMEMBERS SMISMEMBER SPOP SRANDMEMBER SREM SSCAN",
        "ZADD ZCARD ZCOUNT ZINCRBY ZPOPMAX ZPOPMIN ZRANGE ZRANGEBYSCORE ZRANK ZREM",
        "ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREVRANGE ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE",
    )
    for word in line.split()
)


class ClusterClient(_ClusterBase):
    """A client of a Redis Cluster, with the methods of redis-py's.

    `mget`, `mset`, `delete`, `exists`, `touch` and `unlink` take keys of any slot, and ask each
    node once. Where a node fails, they go on with the others, and the `ServerError` they then
    raise has the `answers` there are, with an exception in the place of each that is missing.

    Args:
        address: Some of its nodes.
        seconds: How long an operation may take, on however many nodes.
        make_node_pool: Makes the pool of the node with this host and port.
        make_cluster: Makes redis-py's client of the cluster.
    """

    def __init__(
        self,
        address: Address,
        seconds: float,
        make_node_pool: Callable[[str, int], Any],
        make_cluster: Callable[[], Any],
    ) -> None:
        self._seconds = seconds
        self._whole = Server(address.public, seconds, make_cluster)
        self._map = SlotMap(address, seconds, make_node_pool)
        self._encode = self._map.nodes()[0].connection_pool.get_encoder().encode

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

    # --- Commands of one key ----------------------------------------------------------------------

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to the node that has its key, and return the answer."""
        if args[0] not in _KEY_FIRST or "target_nodes" in options:
            return self._ask("execute_command", *args, **options)
        with Deadline(self._seconds):
            return self._execute(args, options)

    def _execute(self, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        slot = key_slot(self._encode(args[1]))
        node = self._map.node(slot)
        asking = False
        failure: Exception = redis.exceptions.ClusterError()
        for _ in range(REDIRECTIONS):
            try:
                if not asking:
                    return node.execute_command(*args, **options)
                return _after_asking(node, args, options)
            except redis.exceptions.MovedError as error:
                node, asking = self._map.moved(error, node), False
            except redis.exceptions.AskError as error:
                node, asking = self._map.node_at(error.host, error.port, node), True
            except redis.exceptions.TryAgainError as error:
                failure = error
                time.sleep(TRY_AGAIN_PAUSE)
            except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ClusterDownError):
                self._map.learn()  # for the next command: this one may have been executed
                raise
        raise self._map.failed(failure)

    # --- Commands of many keys --------------------------------------------------------------------

    def mget(self, keys: Any, *others: Any) -> Any:
        """Return the values under `keys`."""
        answers = self._each("GET", _listed(keys, others))
        return complete([None if _is_no_value(answer) else answer for answer in answers])

    def mset(self, mapping: Mapping[Any, Any]) -> Any:
        """Store every value of `mapping` under its key."""
        pipeline = ClusterPipeline(self)
        for item in mapping.items():
            pipeline.execute_command("SET", *item)
        complete(pipeline.execute(raise_on_error=False))
        return True

    mget_nonatomic, mset_nonatomic = mget, mset

    def delete(self, *keys: Any) -> Any:
        """Delete `keys`, and return how many there were."""
        return sum(complete(self._each("DEL", keys)))

    def exists(self, *keys: Any) -> Any:
        """Return how many of `keys` there are."""
        return sum(complete(self._each("EXISTS", keys)))

    def touch(self, *keys: Any) -> Any:
        """Note that `keys` have been used, and return how many there are."""
        return sum(complete(self._each("TOUCH", keys)))

    def unlink(self, *keys: Any) -> Any:
        """Delete `keys`, and return how many there were."""
        return sum(complete(self._each("UNLINK", keys)))

    def _each(self, command: str, keys: Iterable[Any]) -> list[Any]:
        pipeline = ClusterPipeline(self)
        for key in keys:
            pipeline.execute_command(command, key)
        return pipeline.execute(raise_on_error=False)

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

    def execute_many(self, commands: list[tuple[Any, Any]]) -> list[Any]:
        """Send each command to the node of its key, each node once, and return the answers.

        Returns:
            An answer for each command, which is an exception where it failed.
        """
        with Deadline(self._seconds):
            answers: list[Any] = [None] * len(commands)
            places: dict[Client, list[int]] = {}
            for place, (args, options) in enumerate(commands):
                try:
                    if args[0] in _KEY_FIRST:
                        node = self._map.node(key_slot(self._encode(args[1])))
                        places.setdefault(node, []).append(place)
                    else:
                        answers[place] = self._ask("execute_command", *args, **options)
                except redis.RedisError as error:
                    answers[place] = error
            # A node that has failed lately comes last: it may take all the time that is left.
            for node in sorted(places, key=lambda node: node.failures):
                self._execute_on(node, places[node], commands, answers)
            return answers

    def _execute_on(
        self, node: Client, places: list[int], commands: list[tuple[Any, Any]], answers: list[Any]
    ) -> None:
        pipeline = node.pipeline(transaction=False)
        for place in places:
            args, options = commands[place]
            pipeline.execute_command(*args, **options)
        try:
            found = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            self._map.learn()
            found = [error] * len(places)
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
            if isinstance(answer, _REDIRECTIONS):
                if isinstance(answer, redis.exceptions.MovedError):
                    self._map.moved(answer, node)
                try:
                    answers[place] = self._execute(*commands[place])
                except redis.RedisError as error:
                    answers[place] = error
            elif isinstance(answer, redis.ResponseError) and not isinstance(answer, ServerError):
                diagnosis = diagnose(answer)
                if diagnosis is not None:
                    if isinstance(answer, redis.exceptions.ClusterDownError):
                        self._map.learn()
                    answers[place] = worded(node.name, diagnosis, answer)


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


_REDIRECTIONS = (redis.exceptions.AskError, redis.exceptions.TryAgainError)  # MOVED is an AskError


def _after_asking(node: Client, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Return what `node` answers about a slot that is being moved to it."""
    pipeline = node.pipeline(transaction=False)
    pipeline.execute_command("ASKING")
    pipeline.execute_command(*args, **options)
    return pipeline.execute()[1]


def _is_no_value(answer: object) -> bool:
    """Return whether there is something else than a string, for which MGET answers nothing."""
    return isinstance(answer, redis.ResponseError) and "WRONGTYPE" in str(answer)


def _listed(keys: Any, others: tuple[Any, ...]) -> list[Any]:
    return [*([keys] if isinstance(keys, (str, bytes)) else keys), *others]
