"""What is asked of a Redis Cluster, by key and of every node, also while keys move.

It is written in steps, for clients that block and those that do not; see `contextcache.base.steps`.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis
from redis.crc import key_slot

from contextcache.base.steps import Found
from contextcache.exceptions import ServerError
from contextcache.servers.deadline import Deadline
from contextcache.servers.errors import diagnose, worded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from contextcache.base.steps import Steps
    from contextcache.servers.slots import Node, SlotMap

REDIRECTIONS = 5  # that one command follows
TRY_AGAIN_PAUSE = 0.02  # seconds
PASSES = 3  # over all nodes, while keys move from one to another

# Commands whose first argument is their only key, or which take several of one slot.
KEY_FIRST = frozenset(
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


class ClusterSteps:
    """The steps of the clients of a cluster."""

    _map: SlotMap
    _seconds: float
    _encode: Callable[[Any], bytes]

    def _ask_whole(self, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Send a command that has no key."""
        raise NotImplementedError

    def _pause(self, seconds: float) -> Any:
        """Wait."""
        raise NotImplementedError

    # --- Commands with keys -----------------------------------------------------------------------

    def _execute(self, *args: Any, **options: Any) -> Steps[Any]:
        """Send one command to the node that has its key, and return the answer."""
        if args[0] not in KEY_FIRST or "target_nodes" in options:
            return (yield self._ask_whole(args, options))
        with Deadline(self._seconds):
            return (yield from self._follow(args, options))

    def _follow(self, args: Sequence[Any], options: Mapping[str, Any]) -> Steps[Any]:
        slot = key_slot(self._encode(args[1]))
        node = yield from self._map.node(slot)
        asking = False
        failure: Exception = redis.exceptions.ClusterError()
        for _ in range(REDIRECTIONS):
            try:
                if not asking:
                    return (yield node.execute_command(*args, **options))
                # It is about a slot that is being moved to that node.
                both = [("ASKING",), args]
                return (yield node.execute_many(both, options=[{}, options]))[1]
            except redis.exceptions.MovedError as error:
                node, asking = (yield from self._map.moved(error, node)), False
            except redis.exceptions.AskError as error:
                node, asking = self._map.node_at(error.host, error.port, node), True
            except redis.exceptions.TryAgainError as error:
                failure = error
                yield self._pause(TRY_AGAIN_PAUSE)
            except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ClusterDownError):
                yield from self._map.learn()  # for the next command: this may have been executed
                raise
        raise self._map.failed(failure)

    def _each(self, command: str, keys: Iterable[Any]) -> Steps[list[Any]]:
        return self._execute_all([((command, key), {}) for key in keys])

    def _mget(self, keys: Iterable[Any]) -> Steps[list[Any]]:
        answers = yield from self._each("GET", keys)
        return complete([None if _is_no_value(answer) else answer for answer in answers])

    def _count(self, command: str, *keys: Any) -> Steps[int]:
        return sum(complete((yield from self._each(command, keys))))

    def _execute_all(self, commands: list[tuple[Any, Any]]) -> Steps[list[Any]]:
        """Send each command to the node of its key, each node once, and return the answers.

        Returns:
            An answer for each command, which is an exception where it failed.
        """
        with Deadline(self._seconds):
            answers: list[Any] = [None] * len(commands)
            places: dict[Node, list[int]] = {}
            for place, (args, options) in enumerate(commands):
                try:
                    if args[0] in KEY_FIRST:
                        node = yield from self._map.node(key_slot(self._encode(args[1])))
                        places.setdefault(node, []).append(place)
                    else:
                        answers[place] = yield self._ask_whole(args, options)
                except redis.RedisError as error:
                    answers[place] = error
            # A node that has failed lately comes last: it may take all the time that is left.
            for node in sorted(places, key=lambda node: node.failures):
                yield from self._execute_on(node, places[node], commands, answers)
            return answers

    def _execute_on(
        self, node: Node, places: list[int], commands: list[tuple[Any, Any]], answers: list[Any]
    ) -> Steps[None]:
        args, options = zip(*(commands[place] for place in places), strict=True)
        try:
            found = yield node.execute_many(args, raise_on_error=False, options=options)
        except redis.RedisError as error:
            yield from self._map.learn()
            found = [error] * len(places)
        for place, answer in zip(places, found, strict=True):
            answers[place] = answer
            if isinstance(answer, _REDIRECTIONS):
                if isinstance(answer, redis.exceptions.MovedError):
                    yield from self._map.moved(answer, node)
                try:
                    answers[place] = yield from self._follow(*commands[place])
                except redis.RedisError as error:
                    answers[place] = error
            elif isinstance(answer, redis.ResponseError) and not isinstance(answer, ServerError):
                diagnosis = diagnose(answer)
                if diagnosis is not None:
                    if isinstance(answer, redis.exceptions.ClusterDownError):
                        yield from self._map.learn()
                    answers[place] = worded(node.name, diagnosis, answer)

    # --- Every node -------------------------------------------------------------------------------

    def _flushdb(self, *how: str) -> Steps[bool]:
        done, seen = True, None
        for number in range(PASSES):
            seen = yield from self._pass(number, seen)
            if seen is None:
                break
            done = all((yield from self._ask_each("FLUSHDB", *how, nodes=seen[0])))
        return done

    def _scan(self, *how: Any) -> Steps[None]:
        """Find the keys of every node; some twice while keys move from one to another.

        Raises:
            ServerError: A node failed. What is on the others has been found.
        """
        failure, seen = None, None
        for number in range(PASSES):
            seen = yield from self._pass(number, seen)
            if seen is None:
                break
            failure = None
            for node in seen[0]:
                cursor: Any = None
                while cursor != 0:
                    try:
                        with Deadline(self._seconds):
                            cursor, found = yield node.execute_command("SCAN", cursor or 0, *how)
                    except redis.RedisError as error:
                        failure = error
                        break
                    yield Found(found)
        if failure is not None:
            raise failure

    def _pass(self, number: int, seen: Any) -> Steps[Any]:
        """Return the nodes that hold keys, and which slots they have; None where it is enough.

        A key that moves from a node before its turn to one that had it is met in the next pass.

        Args:
            number: Of the pass over all nodes.
            seen: What was returned before the last one.
        """
        with Deadline(self._seconds):
            if (
                seen is not None
                and seen[1] is not None
                and (yield from self._map.holders()) == seen
            ):
                return None
        with Deadline(self._seconds):
            return (yield from self._map.holders(anew=number > 0))

    def _ask_each(self, *command: Any, nodes: list[Node] | None = None) -> Steps[list[Any]]:
        answers: list[Any] = []
        with Deadline(self._seconds):
            if nodes is None:
                nodes = yield from self._map.primaries()
            for node in sorted(nodes, key=lambda node: node.failures):
                try:
                    answers.append((yield node.execute_command(*command)))
                except redis.RedisError as error:
                    answers.append(error)
        return complete(answers)


_REDIRECTIONS = (redis.exceptions.AskError, redis.exceptions.TryAgainError)  # MOVED is an AskError


def _is_no_value(answer: object) -> bool:
    """Return whether there is something else than a string, for which MGET answers nothing."""
    return isinstance(answer, redis.ResponseError) and "WRONGTYPE" in str(answer)


def complete(answers: list[Any]) -> list[Any]:
    """Return `answers`, or raise the first outage among them, which then has them all."""
    for answer in answers:
        if isinstance(answer, ServerError):
            answer.answers = answers
            raise answer
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
