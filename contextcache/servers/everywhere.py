"""Commands for every node of a Redis Cluster, also while keys move from one to another."""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import redis

from contextcache.exceptions import ServerError
from contextcache.servers.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contextcache.servers.operations import Client
    from contextcache.servers.slots import SlotMap

PASSES = 3  # over all nodes, while keys move from one to another


class EveryNode:
    """What is added to the client of a cluster: commands for all of its nodes."""

    _map: SlotMap
    _seconds: float

    def flushdb(self, asynchronous: bool = False, **_: Any) -> Any:
        """Delete everything on every node that can be reached."""
        return all(
            all(self._ask_each("flushdb", asynchronous, nodes=one)) for one in self._passes()
        )

    def dbsize(self, **_: Any) -> Any:
        """Return how many keys there are."""
        return sum(self._ask_each("dbsize"))

    def keys(self, pattern: Any = "*", **_: Any) -> Any:
        """Return all keys that match `pattern`."""
        return [key for found in self._ask_each("keys", pattern) for key in found]

    def scan_iter(
        self, match: Any = None, count: int | None = None, _type: str | None = None, **_others: Any
    ) -> Iterator[Any]:
        """Yield the keys of every node; some twice while keys move from one to another.

        Raises:
            ServerError: A node failed. What is on the others has been yielded.
        """
        failure = None
        for nodes in self._passes():
            failure = None
            for node in nodes:
                cursor: Any = -1
                while cursor:
                    try:
                        with Deadline(self._seconds):
                            cursor, found = node.scan(max(cursor, 0), match, count, _type)
                    except redis.RedisError as error:
                        failure = error
                        break
                    yield from found
        if failure is not None:
            raise failure

    def _passes(self) -> Iterator[list[Client]]:
        """Yield the nodes that hold keys, and again where keys may have moved meanwhile.

        A key that moves from a node before its turn to one that had it is met in the next pass.
        """
        for number in range(PASSES):
            with Deadline(self._seconds):
                nodes, layout = self._map.holders(anew=number > 0)
            yield nodes
            with Deadline(self._seconds):
                if layout is not None and self._map.holders() == (nodes, layout):
                    return

    def _ask_each(self, name: str, *args: Any, nodes: list[Client] | None = None) -> list[Any]:
        answers: list[Any] = []
        with Deadline(self._seconds):
            for node in sorted(nodes or self._map.primaries(), key=lambda node: node.failures):
                try:
                    answers.append(getattr(node, name)(*args))
                except redis.RedisError as error:
                    answers.append(error)
        return complete(answers)


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
