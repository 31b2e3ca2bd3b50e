"""How much the guard costs over pickle, measured side by side.

    python tests/bench/engine.py            writes docs/bench-engine.md and two plots beside it
    python tests/bench/engine.py --short    proves that it runs; its figures mean nothing

Every figure is a ratio to `pickle.dumps` (or `pickle.loads`) of the same value without offenders,
from one run in which the two alternate, call by call: the machine is noisy, and noise then hits
both alike. Ratios are those of the medians; p10, of the tenth percentiles, stands for "when
nothing else ran".
"""

from __future__ import annotations

import argparse
import gc
import logging
import pickle
import platform
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contextcache import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[2] / "docs"


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
    made = [Row(i, f"name {i}", i / 3) for i in range(count)]
    for row in made[count - locks :] if locks else ():
        row.lock = threading.Lock()
    return made


def dicts(count: int) -> list[dict[str, Any]]:
    return [{"id": i, "name": f"name {i}", "score": i / 3} for i in range(count)]


def chain(depth: int, *, lock: bool = False) -> Node:
    top = node = Node("top")
    for level in range(depth):
        child = Node(f"level {level}")
        node.children.append(child)
        node = child
    if lock:
        node.children.append(threading.Lock())
    return top


@dataclass
class Measured:
    """Two functions timed in alternation: ratio of medians, of p10, and difference of medians."""

    ratio: float
    p10: float
    extra_us: float


def measure(ours: Callable[[], object], theirs: Callable[[], object], seconds: float) -> Measured:
    ours()
    theirs()
    once = time.perf_counter()
    ours()
    theirs()
    once = time.perf_counter() - once
    rounds = max(5, min(20_000, int(seconds / once)))
    mine: list[float] = []
    other: list[float] = []
    gc.collect()
    gc.disable()
    try:
        for index in range(rounds):
            # Whoever goes second finds the data in the cache of the CPU, so they take turns.
            first, second = (ours, theirs) if index % 2 else (theirs, ours)
            a = time.perf_counter()
            first()
            b = time.perf_counter()
            second()
            c = time.perf_counter()
            mine.append(b - a if index % 2 else c - b)
            other.append(c - b if index % 2 else b - a)
    finally:
        gc.enable()
    extra = statistics.median(mine) - statistics.median(other)
    tenth = rounds // 10
    return Measured(
        statistics.median(mine) / statistics.median(other),
        sorted(mine)[tenth] / sorted(other)[tenth],
        extra * 1e6,
    )


def dumps_ratio(value: Any, twin: Any, seconds: float) -> Measured:
    guard = Guard()
    for _ in range(2):
        guard.dumps(value)  # the first sight is measured apart
    return measure(lambda: guard.dumps(value), lambda: pickle.dumps(twin, 5), seconds)


def first_sight(value: Any, twin: Any, seconds: float) -> Measured:
    return measure(lambda: Guard().dumps(value), lambda: pickle.dumps(twin, 5), seconds)


def figures(seconds: float) -> list[tuple[str, str, Measured]]:
    clean = rows(2000)
    payload = Guard().dumps(clean)
    guard = Guard()
    tiny = {"id": 7, "name": "ann"}
    nested = {"id": 7, "tags": ["a", "b"], "at": (1, 2)}
    return [
        ("clean, 10 000 dicts", "≤ 1.03", dumps_ratio(dicts(10_000), dicts(10_000), seconds)),
        ("clean, 2 000 dataclasses", "≤ 1.03", dumps_ratio(clean, clean, seconds)),
        ("clean, tiny flat dict", "≤ +0.8 µs", dumps_ratio(tiny, tiny, seconds)),
        ("clean, small nested dict", "", dumps_ratio(nested, nested, seconds)),
        (
            "one lock in 2 000 dataclasses",
            "≤ 1.10",
            dumps_ratio(rows(2000, locks=1), clean, seconds),
        ),
        ("a lock in each of 2 000", "≤ 2.0", dumps_ratio(rows(2000, locks=2000), clean, seconds)),
        (
            "first sight, one lock in 2 000",
            "≤ 15",
            first_sight(rows(2000, locks=1), clean, seconds),
        ),
        (
            "loads, 2 000 dataclasses",
            "≤ 1.03",
            measure(lambda: guard.loads(payload), lambda: pickle.loads(payload), seconds),
        ),
    ]


def growth(seconds: float, *, short: bool) -> dict[str, list[tuple[int, Measured]]]:
    sizes = [10, 100, 1000] if short else [10, 100, 1000, 10_000, 100_000]
    deep = [10, 30, 100] if short else [10, 30, 100, 180]  # CPython 3.11 ends at 198
    base = sizes[-1] if short else 10_000
    return {
        "objects, clean": [(n, dumps_ratio(rows(n), rows(n), seconds)) for n in sizes],
        "objects, one lock": [(n, dumps_ratio(rows(n, locks=1), rows(n), seconds)) for n in sizes],
        f"offenders among {base} objects": [
            (n, dumps_ratio(rows(base, locks=n), rows(base), seconds)) for n in sizes if n <= base
        ],
        "levels, one lock at the bottom": [
            (n, dumps_ratio(chain(n, lock=True), chain(n), seconds)) for n in deep
        ],
        "objects, first sight of one lock": [
            (n, first_sight(rows(n, locks=1), rows(n), seconds)) for n in sizes
        ],
    }


def table(found: list[tuple[str, str, Measured]]) -> str:
    lines = ["| work | target | ratio (median) | ratio (p10) | extra µs |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {target} | {m.ratio:.2f} | {m.p10:.2f} | {m.extra_us:+.1f} |"
        for name, target, m in found
    ]
    return "\n".join(lines)


def growth_table(found: dict[str, list[tuple[int, Measured]]]) -> str:
    lines = ["| what grows | n | ratio (median) | ratio (p10) |", "|---|---|---|---|"]
    for name, points in found.items():
        lines += [f"| {name} | {n} | {m.ratio:.2f} | {m.p10:.2f} |" for n, m in points]
    return "\n".join(lines)


def plot(found: dict[str, list[tuple[int, Measured]]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "contextcache"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, points in found.items():
        axes.plot([n for n, _ in points], [m.ratio for _, m in points], marker="o", label=name)
    axes.axhline(1.0, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("n")
    axes.set_ylabel("time, pickle.dumps = 1")
    axes.set_title("How the cost of the guard grows")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--short", action="store_true", help="prove that it runs, write nothing")
    short = parser.parse_args().short
    logging.disable(logging.CRITICAL)
    seconds = 0.02 if short else 1.5
    found = figures(seconds)
    grown = growth(seconds, short=short)
    text = "\n".join(
        [
            "# What the guard costs",
            "",
            f"`make bench` wrote this with {platform.python_implementation()}",
            f"{platform.python_version()} on {platform.machine()}. Ratios to `pickle` on the same",
            "value without offenders, the two alternating call by call; absolute times say nothing",
            "on a shared machine.",
            "",
            table(found),
            "",
            "## How it grows",
            "",
            growth_table(grown),
            "",
            "![How the cost grows](bench-engine.svg)",
            "",
        ]
    )
    print(text)
    if not short:
        (DOCS / "bench-engine.md").write_text(text, encoding="utf-8")
        plot(grown, DOCS / "bench-engine.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
