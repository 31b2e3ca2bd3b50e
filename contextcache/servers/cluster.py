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
from contextcache.servers.deadlines import Deadline
from contextcache.servers.operations import Client, Operation, Quick, Server
from contextcache.servers.outages import UNREACHABLE, Diagnosis, diagnose, worded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from contextcache.servers.urls import Address

    class _ClusterBase: ...

    class _PipelineBase: ...
else:

    class _ClusterBase(Quick, RedisClusterCommands):
        """Quick for what is asked most, and redis-py's methods for the rest."""

    class _PipelineBase(Quick, CoreCommands):
        """The same of a pipeline."""


SLOTS = 16384
REDIRECTIONS = 5  # that one command follows
LEARN_PAUSE = 1.0  # seconds between two questions for the map
TRY_AGAIN_PAUSE = 0.02  # seconds
SCANS = 3  # of all nodes, while keys move from one to another

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
        self._address = address
        self._seconds = seconds
        self._make_node_pool = make_node_pool
        self._whole = Server(address.public, seconds, make_cluster)
        self._named = [self._new_node(*host) for host in address.hosts]
        self._encode = self._named[0].connection_pool.get_encoder().encode
        self._slots: list[Client | None] = []  # none are known yet
        self._nodes = {one.address: one for one in self._named}
        self._learned = float("-inf")
        self._redirections = 0

    def start_afresh(self) -> None:
        """Forget every connection, as in a forked child."""
        self._whole.start_afresh()
        for node in {*self._named, *self._nodes.values()}:
            node.start_afresh()

    def close(self) -> None:
        """Close the connections that are not in use."""
        for node in list(self._nodes.values()):
            node.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if callable(getattr(RedisCluster, name, None)):
            return functools.partial(self._ask, name)
        return getattr(self._whole.pool, name)

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
        node = self._node(slot)
        asking = False
        failure: Exception = redis.exceptions.ClusterError()
        for _ in range(REDIRECTIONS):
            try:
                if not asking:
                    return node.execute_command(*args, **options)
                return _after_asking(node, args, options)
            except redis.exceptions.MovedError as error:
                node, asking = self._moved(error, node), False
            except redis.exceptions.AskError as error:
                node, asking = self._node_at(error.host, error.port, node), True
                self._redirections += 1
            except redis.exceptions.TryAgainError as error:
                failure = error
                time.sleep(TRY_AGAIN_PAUSE)
            except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ClusterDownError):
                self._learn()  # for the next command: this one may have been executed
                raise
        raise self._failed(failure)

    # --- Commands of many keys --------------------------------------------------------------------

    def mget(self, keys: Any, *others: Any) -> Any:
        """Return the values under `keys`."""
        answers = self._each("GET", _listed(keys, others))
        return _complete([None if _is_no_value(answer) else answer for answer in answers])

    def mset(self, mapping: Mapping[Any, Any]) -> Any:
        """Store every value of `mapping` under its key."""
        pipeline = ClusterPipeline(self)
        for item in mapping.items():
            pipeline.execute_command("SET", *item)
        _complete(pipeline.execute(raise_on_error=False))
        return True

    def delete(self, *keys: Any) -> Any:
        """Delete `keys`, and return how many there were."""
        return sum(_complete(self._each("DEL", keys)))

    def exists(self, *keys: Any) -> Any:
        """Return how many of `keys` there are."""
        return sum(_complete(self._each("EXISTS", keys)))

    def touch(self, *keys: Any) -> Any:
        """Note that `keys` have been used, and return how many there are."""
        return sum(_complete(self._each("TOUCH", keys)))

    def unlink(self, *keys: Any) -> Any:
        """Delete `keys`, and return how many there were."""
        return sum(_complete(self._each("UNLINK", keys)))

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
                        node = self._node(key_slot(self._encode(args[1])))
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
            self._learn()
            found = [error] * len(places)
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
            if isinstance(answer, _REDIRECTIONS):
                if isinstance(answer, redis.exceptions.MovedError):
                    self._moved(answer, node)
                try:
                    answers[place] = self._execute(*commands[place])
                except redis.RedisError as error:
                    answers[place] = error
            elif isinstance(answer, redis.ResponseError) and not isinstance(answer, ServerError):
                diagnosis = diagnose(answer)
                if diagnosis is not None:
                    if isinstance(answer, redis.exceptions.ClusterDownError):
                        self._learn()
                    answers[place] = worded(node.name, diagnosis, answer)

    # --- Commands for every node ------------------------------------------------------------------

    def flushdb(self, asynchronous: bool = False, **_: Any) -> Any:
        """Delete everything on every node that can be reached."""
        answers: list[Any] = []
        with Deadline(self._seconds):
            for node in self._primaries():
                try:
                    answers.append(node.flushdb(asynchronous))
                except redis.RedisError as error:
                    answers.append(error)
        return all(_complete(answers))

    def dbsize(self, **_: Any) -> Any:
        """Return how many keys there are."""
        with Deadline(self._seconds):
            return sum(node.dbsize() for node in self._primaries())

    def scan_iter(self, *args: Any, **options: Any) -> Iterator[Any]:
        """Yield the keys of every node; some twice while keys move from one to another.

        Raises:
            ServerError: A node failed. What is on the others has been yielded.
        """
        failure = None
        for _ in range(SCANS):
            before, failure = self._redirections, None
            with Deadline(self._seconds):
                nodes = self._primaries()
            for node in nodes:
                try:
                    yield from node.scan_iter(*args, **options)
                except redis.RedisError as error:
                    failure = error
            if self._redirections == before:
                break
        if failure is not None:
            raise failure

    # --- The map ----------------------------------------------------------------------------------

    def _node(self, slot: int) -> Client:
        """Return the node that has `slot`, as far as is known."""
        if not self._slots or self._slots[slot] is None:
            self._learn()
        if not self._slots:
            self._learn(at_once=True)
        node = self._slots[slot]
        if node is None:
            raise self._failed(redis.exceptions.SlotNotCoveredError())
        return node

    def _primaries(self) -> list[Client]:
        self._learn()
        if not self._slots:
            self._learn(at_once=True)
        return list(dict.fromkeys(node for node in self._slots if node is not None))

    def _moved(self, error: Any, asked: Client) -> Client:
        """Return the node to which `asked` refers, and note that it has the slot."""
        node = self._node_at(error.host, error.port, asked)
        self._redirections += 1
        if self._slots:
            self._slots[error.slot_id] = node
        self._learn()
        return node

    def _node_at(self, host: str, port: int, asked: Client) -> Client:
        address = host or asked.address[0], int(port)  # some leave out their own host
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._new_node(*address)
        return node

    def _new_node(self, host: str, port: int) -> Client:
        shown = f"[{host}]" if ":" in host else host
        name = f"{self._address.transport}://{shown}:{port}"
        server = Server(name, self._seconds, lambda: self._make_node_pool(host, port))
        node = Client(connection_pool=server.pool)
        node.address = (host, port)
        return node

    def _learn(self, *, at_once: bool = False) -> None:
        """Ask a node for the map, if none has been asked lately, and keep the one there is."""
        now = time.monotonic()
        if now - self._learned < LEARN_PAUSE and not at_once:
            return
        self._learned = now
        failure: Exception = redis.exceptions.RedisClusterException()
        best: list[Client | None] = []
        nodes = {**dict.fromkeys(self._nodes.values()), **dict.fromkeys(self._named)}
        for node in sorted(nodes, key=lambda node: node.failures):
            try:
                slots = self._map_of(node)
            except redis.RedisError as error:
                failure = error
                continue
            if sum(one is None for one in slots) < (best or [None] * SLOTS).count(None):
                best = slots
            if None not in best and best:
                break
        if best:
            self._slots = best
        elif not self._slots:
            raise self._failed(failure)

    def _map_of(self, asked: Client) -> list[Client | None]:
        slots: list[Client | None] = [None] * SLOTS
        for first, last, *nodes in asked.execute_command("CLUSTER SLOTS"):
            primary, *_ = (self._node_at(_text(host), port, asked) for host, port, *_ in nodes)
            slots[first : last + 1] = [primary] * (last + 1 - first)
        return slots

    def _failed(self, error: Exception) -> ServerError:
        diagnosis = diagnose(error) or Diagnosis(
            UNREACHABLE, "it is no Redis Cluster", "begin the URL with redis://"
        )
        return worded(self._address.public, diagnosis, error)


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
            _complete(answers)
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


def _complete(answers: list[Any]) -> list[Any]:
    """Return `answers`, or raise the first outage among them, which then has them all."""
    for answer in answers:
        if isinstance(answer, ServerError):
            answer.answers = answers
            raise answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _is_no_value(answer: object) -> bool:
    """Return whether there is something else than a string, for which MGET answers nothing."""
    return isinstance(answer, redis.ResponseError) and "WRONGTYPE" in str(answer)


def _listed(keys: Any, others: tuple[Any, ...]) -> list[Any]:
    return [*([keys] if isinstance(keys, (str, bytes)) else keys), *others]


def _text(host: Any) -> str:
    """Return the host of a node, or nothing where it does not know its own."""
    text = host.decode() if isinstance(host, bytes) else host or ""
    return "" if text == "?" else text
