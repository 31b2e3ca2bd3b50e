"""How deep and how heavy a value is."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from contextcache.engine.children import ATOMS, iter_children

if TYPE_CHECKING:
    from contextcache.findings.path import Step

MAX_SAFE_DEPTH = 5000  # levels that the C stack of CPython 3.11 surely bears


def too_deep(value: object, most: int) -> object:
    """Return what begins to nest deeper than `most` levels in `value`, or None; it is only read.

    Args:
        value: Any value.
        most: The number of levels that is still fine.
    """
    seen: set[int] = set()
    held = [value]
    stack = [iter_children(value)]
    while stack:
        if len(stack) > most:
            return held[:6][-1]
        step, child = next(stack[-1], (None, None))
        if step is None:
            stack.pop()
            held.pop()
        elif id(type(child)) not in ATOMS and id(child) not in seen:
            seen.add(id(child))
            held.append(child)
            stack.append(iter_children(child))
    return None


MAY_CRASH = sys.version_info < (3, 12)
"""Whether this version counts the recursion of its C pickler by a limit that may be raised."""


def stack_is_at_risk() -> bool:
    """Return True if pickling may crash the process where it should raise a `RecursionError`.

    CPython 3.11 counts the recursion of its C pickler by a limit that applications may raise.
    """
    return MAY_CRASH and sys.getrecursionlimit() > MAX_SAFE_DEPTH


def overruns_stack(value: object) -> bool:
    """Return True if pickling `value` would crash the process instead of raising."""
    return stack_is_at_risk() and too_deep(value, MAX_SAFE_DEPTH) is not None


def heaviest(value: object, *, seconds: float) -> tuple[tuple[Step, ...], type]:
    """Return the way to the part of `value` that makes it large, and its type; it is only read.

    Args:
        value: Any value.
        seconds: How long to look; what was seen by then decides.
    """
    deadline = time.perf_counter() + seconds
    seen = {id(value)}
    root = _Weighed(value, ())
    stack = [root]
    while stack:
        top = stack[-1]
        step, child = next(top.held, (None, None))
        if step is None or time.perf_counter() > deadline:
            stack.pop()
            if stack:
                stack[-1].add(top)
        elif id(child) not in seen:
            seen.add(id(child))
            stack.append(_Weighed(child, (*top.steps, step)))
    return root.heaviest.steps, root.heaviest.kind


class _Weighed:
    """An object on the way of `heaviest`, with the bytes seen in and below it."""

    __slots__ = ("bytes", "heaviest", "held", "kind", "steps")

    def __init__(self, obj: object, steps: tuple[Step, ...]) -> None:
        self.steps = steps
        self.kind = type(obj)
        self.bytes = len(obj) if self.kind in (bytes, bytearray, str) else 16  # type: ignore[arg-type]
        self.held = iter(()) if id(self.kind) in ATOMS else iter_children(obj)
        self.heaviest = self

    def add(self, child: _Weighed) -> None:
        self.bytes += child.bytes
        if child.bytes * 2 > self.bytes:
            self.heaviest = child.heaviest
