"""Memory and time per write over many distinct keys, paths and classes made at run time, as a plot.

`python -m benchmarks.memory docs/img/growth.svg [WRITES]` writes the plot; by default a million
writes of each kind. What is learned is bounded, so both lines of each kind are level.
"""

from __future__ import annotations

import gc
import logging
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from contextcache import Guard, RequestScope, enter_scope, exit_scope

if TYPE_CHECKING:
    from collections.abc import Callable

WRITES = 1_000_000
POINTS = 50
LETTERS = str.maketrans("0123456789", "abcdefghij")  # a name without a number in it


def _keys(guard: Guard, name: str) -> None:
    guard.dumps({"lock": threading.Lock(), "n": [1]}, label=f"cache['{name}']")


def _paths(guard: Guard, name: str) -> None:
    guard.dumps({"uid": 1, name: {name: threading.Lock()}}, label="session")


def _left_out(guard: Guard, name: str) -> None:
    guard.dumps({"uid": 1, f"export_{name}": _function}, label="session")


_function: Any = lambda: 0  # noqa: E731  # what can only be left out


def _urls(guard: Guard, name: str) -> None:
    token = enter_scope(RequestScope("GET", f"/reset/{name}"))
    try:
        guard.dumps({"lock": threading.Lock(), "n": [1]}, label="cache['page']")
    finally:
        exit_scope(token)


def _classes(guard: Guard, name: str) -> None:
    cls = type(f"Row{name}", (), {"__reduce__": lambda _: (dict, ())})
    guard.dumps({"row": cls(), "lock": threading.Lock()}, label="cache['rows']")


def _importable(guard: Guard, name: str) -> None:
    cls = type(f"Form{name}", (), {"__module__": "made_at_run_time"})
    setattr(_module, cls.__name__, cls)
    guard.dumps({"form": cls(), "lock": threading.Lock()}, label="cache['form']")
    delattr(_module, cls.__name__)


_module = sys.modules["made_at_run_time"] = ModuleType("made_at_run_time")
_module.__file__ = __file__  # as if others could import it

KINDS: dict[str, Callable[[Guard, str], None]] = {
    "keys of a cache": _keys,
    "paths in a session": _paths,
    "keys left out of a session": _left_out,
    "URL paths": _urls,
    "classes made at run time": _classes,
    "classes in a module for one write": _importable,
}


def measure(write: Callable[[Guard, str], None], writes: int) -> list[tuple[int, float, int]]:
    """Write that often, each time with another name.

    Returns:
        For each point: the writes so far, microseconds of CPU time for each since the last point,
        and blocks of memory that are held beyond those before the first write.
    """
    guard, points, step = Guard(session=True), [], max(1, writes // POINTS)
    gc.collect()
    before = sys.getallocatedblocks()
    for first in range(0, writes, step):
        began = time.thread_time()
        for number in range(first, first + step):
            write(guard, str(number).translate(LETTERS))
        seconds = time.thread_time() - began
        gc.collect()
        points.append((first + step, 1e6 * seconds / step, sys.getallocatedblocks() - before))
    return points


def draw(series: dict[str, list[tuple[int, float, int]]], file: Path) -> None:
    """Draw time and memory of each kind over the writes."""
    import matplotlib as mpl  # an extra of the benchmarks

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "contextcache"  # the same ids each time
    from matplotlib import pyplot as plt

    figure, (times, memory) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name, points in series.items():
        writes = [point[0] for point in points]
        times.plot(writes, [point[1] for point in points], label=name)
        memory.plot(writes, [point[2] for point in points], label=name)
    times.set(
        xlabel="writes, each with another name",
        ylabel="µs of CPU time for one write",
        ylim=(0, None),
    )
    memory.set(xlabel="writes, each with another name", ylabel="blocks of memory held")
    memory.set_ylim(0, None)
    figure.legend(*times.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figure.savefig(file, metadata={"Date": None})


def main(file: str, writes: int = WRITES) -> None:
    """Measure all kinds, draw them, and print the last point of each."""
    logger = logging.getLogger("contextcache")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    series = {}
    for name, write in KINDS.items():
        series[name] = points = measure(write, writes)
        middle, last = points[len(points) // 2], points[-1]
        print(
            f"{name}: {middle[1]:.0f} µs and {middle[2]:,} blocks after {middle[0]:,} writes, "
            f"{last[1]:.0f} µs and {last[2]:,} after {last[0]:,}",
            flush=True,
        )
    draw(series, Path(file))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
