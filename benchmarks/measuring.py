"""Time contestants side by side, because on a shared machine only their ratio means anything.

Noise comes in bursts longer than an operation. So every round calls each contestant once, and a
burst hits all of them. What ran before is still in the caches of the processor, so each round has
an order of its own, by lot.
"""

from __future__ import annotations

import gc
import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

FEWEST_ROUNDS = 5
MOST_ROUNDS = 20_000


@dataclass(frozen=True)
class Effort:
    """How much time the figures are worth; `short` proves that everything works, and no more."""

    seconds: float  # per comparison
    short: bool = False

    def of(self, sizes: list[int]) -> list[int]:
        """Return the sizes to measure: in short mode the smallest two."""
        return sizes[:2] if self.short else sizes


@dataclass(frozen=True)
class Contestant:
    """What is timed, and what comes before it outside of the time: `run(prepare())`."""

    run: Callable[[Any], object]
    prepare: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Times:
    """One contestant's times in seconds; the tenth percentile is "when nothing else ran"."""

    median: float
    p10: float


def race(
    contestants: Mapping[str, Contestant | Callable[[], object]], effort: Effort
) -> dict[str, Times]:
    """Return the times of every contestant, from rounds in which each was called once."""
    entered = [(name, _contestant(entry)) for name, entry in contestants.items()]
    taken: dict[str, list[float]] = {name: [] for name, _ in entered}
    for _, contestant in entered:
        contestant.run(contestant.prepare())  # connects, imports and learns
        contestant.run(contestant.prepare())
    lot = random.Random(0)
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    try:
        for turn in range(MOST_ROUNDS):
            late = time.perf_counter() - began > effort.seconds * len(entered)
            if late and turn >= FEWEST_ROUNDS:
                break
            lot.shuffle(entered)
            for name, contestant in entered:
                prepared = contestant.prepare()
                before = time.perf_counter()
                contestant.run(prepared)
                taken[name].append(time.perf_counter() - before)
            if turn % 500 == 499:
                gc.collect()
    finally:
        gc.enable()
    return {name: _times(sorted(found)) for name, found in taken.items()}


def stay_on(processors: Iterable[int]) -> None:
    """Run this process, and what it starts from now on, on these processors, where Linux can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)


def _contestant(entry: Contestant | Callable[[], object]) -> Contestant:
    return entry if isinstance(entry, Contestant) else Contestant(lambda _: entry())


def _times(ordered: list[float]) -> Times:
    return Times(ordered[len(ordered) // 2], ordered[len(ordered) // 10])
