"""What has the shape of a secret in a value, and where it is; for developers and tests."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from contextcache.engine.children import iter_children
from contextcache.engine.hits import Hit
from contextcache.engine.locating import Locator
from contextcache.findings.finding import Action
from contextcache.findings.path import Step, StepKind
from contextcache.rules.rule import Verb
from contextcache.rules.secret_shapes import shape_of, shapes_in, verdict_on

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contextcache.engine.dump import Dump
    from contextcache.engine.nodes import Node
    from contextcache.rules.secret_shapes import Shape

MAX_OBJECTS = 100_000  # of one value that is stored as JSON


def find_secrets(
    value: object, dump: Dump, payload: bytes, *, seconds: float, nodes: int
) -> list[tuple[Hit, Node]]:
    """Return the secrets in what is stored, by their shapes, each with its node.

    What stands in an object that is itself reported as a secret, or that the application allows, is
    left out.

    Args:
        value: The value that was dumped.
        dump: The careful dump of it, with what it captured.
        payload: What the dump has made.
        seconds: How long the search for the nodes may take.
        nodes: How many objects it may look at.
    """
    shapes = shapes_in(payload)
    if not shapes:
        return []
    found: dict[int, Shape] = {}

    def is_secret(text: Any) -> bool:
        shape = shape_of(text, shapes)
        if shape is None or _encoded(text) not in payload:  # it may be cut out of what is stored
            return False
        found[id(text)] = shape
        return True

    locator = Locator(value, dump, seconds=seconds, nodes=nodes, is_wanted=is_secret)
    settled = {id(hit.leaf) for hit in dump.hits if hit.rule.is_secret} | dump.allowed

    def is_settled(obj: object) -> bool:
        rule = dump.table.book.lookup(type(obj))
        return id(obj) in settled or (rule is not None and rule.verb is Verb.ALLOW)

    return [
        (_hit(node.obj, found[id(node.obj)]), node)
        for node in locator.texts
        if not any(is_settled(above.obj) for above in node.chain())
    ]


def iter_texts(value: object, limit: int = MAX_OBJECTS) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Yield the texts in a value of containers and dataclasses, each with the steps to it."""
    seen: set[int] = set()
    stack: list[tuple[tuple[Step, ...], Any]] = [((), value)]
    while stack and len(seen) < limit:
        steps, obj = stack.pop()
        if id(obj) in seen:
            continue
        seen.add(id(obj))
        if issubclass(type(obj), (str, bytes)):
            yield steps, obj
        elif issubclass(type(obj), _HOLDERS) or dataclasses.is_dataclass(type(obj)):
            if issubclass(type(obj), dict):
                for index, key in enumerate(dict.keys(obj)):
                    stack.append(((*steps, Step(StepKind.KEY, index)), key))
            stack += reversed([((*steps, step), child) for step, child in iter_children(obj)])


_HOLDERS = (dict, list, tuple, set, frozenset)


def _hit(text: object, shape: Shape) -> Hit:
    verdict = verdict_on(shape)
    return Hit(text, verdict, Action.OBSERVED, verdict.did)


def _encoded(text: str | bytes | bytearray) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
