"""What is stored in the benchmarks: rows of data, with and without offenders in them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Row:
    id: int
    name: str
    score: float
    lock: Any = None


@dataclass
class Node:
    name: str
    children: list[Any] = field(default_factory=list)


def rows(count: int, *, locks: int = 0) -> list[Row]:
    """Return objects, the last ones of which hold a lock."""
    made = [Row(i, f"name {i}", i / 3) for i in range(count)]
    for row in made[count - locks :] if locks else ():
        row.lock = threading.Lock()
    return made


def dicts(count: int) -> list[dict[str, Any]]:
    return [{"id": i, "name": f"name {i}", "score": i / 3} for i in range(count)]


def chain(depth: int, *, lock: bool = False) -> Node:
    """Return nodes within nodes, with a lock in the innermost one."""
    top = node = Node("top")
    for level in range(depth):
        child = Node(f"level {level}")
        node.children.append(child)
        node = child
    if lock:
        node.children.append(threading.Lock())
    return top


def profile() -> dict[str, Any]:
    """Return about 1 KB: what a page keeps about one visitor."""
    return {
        "id": 4711,
        "name": "Ann Example",
        "email": "ann@example.org",
        "tags": ["new", "newsletter", "vat"],
        "balance": 12.5,
        "active": True,
        **{f"preference_{i}": f"the value of preference number {i}" for i in range(15)},
    }


def catalogue() -> list[dict[str, Any]]:
    """Return about 20 KB: a page of search results."""
    return [
        {
            "id": i,
            "name": f"product {i}",
            "price": i * 0.99,
            "text": f"what there is to say about product {i}, in a sentence or two " * 2,
            "tags": ["sale", f"shelf {i % 7}"],
        }
        for i in range(100)
    ]
