"""Which node of a Redis Cluster has which slot, as far as is known.

Nodes correct a client that asks the wrong one (MOVED), so an old map costs time only. After a
failure or correction a node is asked for a new one, but not more than once a second.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import redis

from contextcache.exceptions import ServerError
from contextcache.servers.errors import UNREACHABLE, Diagnosis, diagnose, worded

if TYPE_CHECKING:
    from collections.abc import Callable

    from contextcache.base.steps import Steps
    from contextcache.servers.urls import Address

    Node = Any  # a client of one server, which blocks or does not

SLOTS = 16384
LEARN_PAUSE = 1.0  # seconds between two questions for the map


class SlotMap:
    """The nodes of a cluster, each with its own connections and circuit breaker.

    What asks them is in steps; see `contextcache.base.steps`.

    Args:
        address: Some of its nodes.
        new_node: Makes the client of the node with this host and port.
    """

    def __init__(self, address: Address, new_node: Callable[[str, int], Node]) -> None:
        self.address = address
        self._new_node = new_node
        self._named = [new_node(*host) for host in address.hosts]
        self._nodes = {one.address: one for one in self._named}
        self._slots: list[Node | None] = []  # none are known yet
        self._learned = float("-inf")

    def nodes(self) -> list[Node]:
        """Return all nodes, first those that the URL names.

        A node may have a slot and no place among the others, where two threads made it at once.
        """
        known = [*self._named, *list(self._nodes.values()), *filter(None, list(self._slots))]
        return list(dict.fromkeys(known))

    def node(self, slot: int) -> Steps[Node]:
        """Return the node that has `slot`, as far as is known."""
        if not self._slots or self._slots[slot] is None:
            yield from self.learn()
        if not self._slots:
            yield from self.learn(at_once=True)
        node = self._slots[slot]
        if node is None:
            raise self.failed(redis.exceptions.SlotNotCoveredError())
        return node

    def primaries(self) -> Steps[list[Node]]:
        """Return the nodes that have slots."""
        yield from self.learn()
        if not self._slots:
            yield from self.learn(at_once=True)
        return list(dict.fromkeys(node for node in self._slots if node is not None))

    def holders(self, *, anew: bool = False) -> Steps[tuple[list[Node], object]]:
        """Return the nodes that hold keys, and which slots they have; None while some move.

        Args:
            anew: Whether to ask for a new map in any case.
        """
        if anew:
            yield from self.learn(at_once=True)
        nodes = yield from self.primaries()
        layout: list[object] | None = []
        for node in list(nodes):
            try:
                known = list((yield node.execute_command("CLUSTER NODES")).items())
            except redis.RedisError:  # it may not be asked for this; a command will tell the rest
                layout = None
                continue
            myself = next(one for _, one in known if "myself" in one["flags"])
            if layout is not None:
                layout.append(myself["slots"])
            if moves := myself["migrations"]:
                layout = None
                ends = {move["node_id"] for move in moves}
                others = [
                    place
                    for place, one in known
                    if one["node_id"] in ends and not one["slots"]  # it is not on the map yet
                ]
                nodes += [
                    self.node_at(host, port, node)
                    for host, _, port in (place.rpartition(":") for place in others)
                ]
        return list(dict.fromkeys(nodes)), layout

    def moved(self, error: Any, asked: Node) -> Steps[Node]:
        """Return the node to which `asked` refers, and note that it has the slot."""
        node = self.node_at(error.host, error.port, asked)
        if self._slots:
            self._slots[error.slot_id] = node
        yield from self.learn()
        return node

    def node_at(self, host: str | bytes | None, port: int | str, asked: Node = None) -> Node:
        """Return the node with this address, of which `asked` has told."""
        address = _text(host) or asked.address[0], int(port)  # some leave out their own host
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._new_node(*address)
        return node

    def learn(self, *, at_once: bool = False) -> Steps[None]:
        """Ask a node for the map, if none has been asked lately, and keep the one there is."""
        now = time.monotonic()
        if now - self._learned < LEARN_PAUSE and not at_once:
            return
        self._learned = now
        failure: Exception = redis.exceptions.RedisClusterException()
        best: list[Node | None] = []
        members: dict[tuple[str, int], Node] = {}
        for node in sorted(self.nodes(), key=lambda node: node.failures):
            try:
                slots, mentioned = yield from self._map_of(node)
            except redis.RedisError as error:
                failure = error
                continue
            if slots.count(None) < (best.count(None) if best else SLOTS):
                best, members = slots, mentioned
            if best and None not in best:
                break
        if best:
            # One that is silent and has no slot yet, as where one is moved to, stays left alone.
            silent = {place: node for place, node in list(self._nodes.items()) if node.failures}
            self._slots, self._nodes = best, silent | members
        elif not self._slots:
            raise self.failed(failure)

    def _map_of(self, asked: Node) -> Steps[tuple[list[Node | None], dict[tuple[str, int], Node]]]:
        """Return the node of each slot, and all nodes that are mentioned, as `asked` knows them."""
        slots: list[Node | None] = [None] * SLOTS
        mentioned: dict[tuple[str, int], Node] = {}
        for first, last, *nodes in (yield asked.execute_command("CLUSTER SLOTS")):
            found = [self.node_at(host, port, asked) for host, port, *_ in nodes]
            mentioned.update((node.address, node) for node in found)
            slots[first : last + 1] = [found[0]] * (last + 1 - first)
        return slots, mentioned

    def failed(self, error: Exception) -> ServerError:
        """Return the `ServerError` for what is about no single node, or the one that it is."""
        if isinstance(error, ServerError):
            return error
        diagnosis = diagnose(error) or Diagnosis(
            UNREACHABLE, "it is no Redis Cluster", "begin the URL with redis://"
        )
        return worded(self.address.public, diagnosis, error)


def _text(host: str | bytes | None) -> str:
    """Return the host of a node, or nothing where it does not know its own."""
    text = host.decode() if isinstance(host, bytes) else host or ""
    return "" if text == "?" else text
