"""How much of a process's time the diagnosis of offenders may take."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Budget:
    """An allowance of seconds that grows with the age of the process, and what was spent of it.

    Args:
        share: The part of the process's time that may be spent.
        first: Seconds that may be spent at once, such as after the start.
        look: The most seconds for one value.
        nodes: The most objects that are looked at to find a path.
        clock: Returns the present second.

    Attributes:
        clock: Returns the present second.
        spent: Seconds spent until now.
    """

    __slots__ = ("_share", "_started", "clock", "first", "look", "nodes", "spent")

    def __init__(
        self,
        *,
        share: float = 0.05,
        first: float = 2.0,
        look: float = 0.05,
        nodes: int = 200_000,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.first = first
        self.look = look
        self.nodes = nodes
        self.spent = 0.0
        self._share = share
        self.clock = clock
        self._started = clock()

    def allow(self, *, first: float, look: float) -> None:
        """Change what may be spent, such as in tests, where nothing may depend on the time left.

        Args:
            first: Seconds that may be spent at once.
            look: The most seconds for one value.
        """
        self.first, self.look = first, look

    def left(self) -> float:
        """Return how many seconds may be spent on one value now."""
        allowed = self.first + self._share * (self.clock() - self._started)
        return min(self.look, max(0.0, allowed - self.spent))

    @contextlib.contextmanager
    def charged(self) -> Iterator[None]:
        """Charge what is done in this block; what a block within it does is charged twice."""
        began = self.clock()
        try:
            yield
        finally:
            self.spent += self.clock() - began


PROCESS_BUDGET = Budget()
"""What all guards of this process may spend together, unless they are given another."""
