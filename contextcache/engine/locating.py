"""Locating: from what the pickler saw to the exact path of each offender.

The walk follows what every object was reduced to during a careful dump, in pickle's own order,
so an owner that filters its state is followed where pickle went and nowhere else.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from contextcache.engine.children import (
    ATOMS,
    TEXTS,
    iter_children,
)
from contextcache.engine.nodes import CapturedTree, Node
from contextcache.findings.path import attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    from contextcache.engine.dump import Dump
    from contextcache.engine.hits import Hit


class Locator:
    """The nodes of the offenders of one dump.

    Args:
        value: The value that was dumped.
        dump: The careful dump of it, with what it captured.
        seconds: How long the search may take.
        nodes: How many objects it may look at.
        is_wanted: Returns whether the node of a text is wanted, too; without it, texts are left
            out of the walk.

    Attributes:
        found: The node of each offender, by its id.
        texts: The nodes of the texts that are wanted, each where it was met first.
    """

    def __init__(
        self,
        value: object,
        dump: Dump,
        *,
        seconds: float,
        nodes: int,
        is_wanted: Callable[[Any], bool] | None = None,
    ) -> None:
        self.found: dict[int, Node] = {}
        self.texts: list[Node] = []
        self._is_wanted = is_wanted
        self._tree = CapturedTree(dump, ATOMS if is_wanted is None else ATOMS - TEXTS)
        self._proxies = {id(hit.leaf) for hit in dump.hits if hit.rule.is_proxy}
        left_out = [hit for hit in dump.hits if hit.holder is not None]
        wanted = {id(hit.leaf) for hit in dump.hits if hit.holder is None}
        wanted.update(id(hit.holder) for hit in left_out)
        self._walk(Node(value), wanted, time.perf_counter() + seconds, nodes)
        for hit in left_out:
            node = self._below(hit)
            if node is not None:
                self.found[id(hit.leaf)] = node

    def is_behind_proxy(self, node: Node) -> bool:
        """Return True if a proxy leads to `node`: it may lead elsewhere next time."""
        return any(id(above.obj) in self._proxies for above in node.chain()[:-1])

    def count_ways(self, value: object, wanted: set[int], *, nodes: int) -> dict[int, int]:
        """Count how often what holds them leads to objects.

        Args:
            value: The value that was dumped.
            wanted: The ids of the objects.
            nodes: How many steps it may take.
        """
        counts = dict.fromkeys(wanted, 0)
        seen: set[int] = set()
        stack = [Node(value)]
        while stack and nodes:
            nodes -= 1
            node = stack.pop()
            key = id(node.obj)
            if key in counts:
                counts[key] += 1
            if key not in seen:
                seen.add(key)
                stack.extend(self._tree.children(node))
        return counts

    def _walk(self, start: Node, wanted: set[int], deadline: float, nodes: int) -> None:
        seen: set[int] = set()
        stack = [start]
        while stack and (self._is_wanted or len(self.found) < len(wanted)):
            node = stack.pop()
            key = id(node.obj)
            if key in seen:
                continue
            seen.add(key)
            if key in wanted:
                self.found[key] = node
            if self._is_wanted and id(type(node.obj)) in TEXTS and self._is_wanted(node.obj):
                self.texts.append(node)
            if len(seen) > nodes or (len(seen) % 256 == 0 and time.perf_counter() > deadline):
                return  # what is not found by now is reported at the value itself
            stack.extend(reversed(self._tree.children(node)))

    def _below(self, hit: Hit) -> Node | None:
        """Find an offender that was left out of what its holder was reduced to."""
        top = self.found.get(id(hit.holder))
        if top is None:
            return None
        if hit.name:
            return Node(hit.leaf, top, attribute(hit.name))
        queue = deque([top])
        seen: set[int] = set()
        while queue and len(seen) < 1000:
            node = queue.popleft()
            for step, child in iter_children(node.obj):
                below = Node(child, node, step)
                if child is hit.leaf:
                    return below
                if id(child) not in seen and id(type(child)) not in ATOMS:
                    seen.add(id(child))
                    queue.append(below)
        return None
