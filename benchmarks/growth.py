"""How the time of set + get grows with the value, and how throughput grows with the callers."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from typing import TYPE_CHECKING

from benchmarks import peers
from benchmarks.measuring import race, stay_on
from benchmarks.peers import DJANGO, RAW, set_and_get
from benchmarks.report import table
from benchmarks.values import profile, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measuring import Effort, Times
    from benchmarks.peers import Operations
    from benchmarks.report import Plots

STOCK = "Django RedisCache"

BENDS = {
    "value": """\
**What bends first: bytes.** pickle copies a `bytes` object and looks at nothing in it, while a
signature reads every byte, once when it is written and once when it is read, at about 1.5 GB a
second (SHA-256). From 100 KB on that is most of what contextcache adds. Objects do not bend: pickle
spends so much more on each of them that neither the signature nor the guard shows. One offender or
a thousand cost the same; where every object has one, a function of ours runs for each.""",
    "threads": """\
**What bends first: the interpreter's lock.** With two threads one computes while the other waits
for Redis. From four on, a thread that has its answer waits for the lock that the others hand
around: everybody, redis-py included, loses the same two thirds. Processes have one each.""",
    "processes": """\
**What bends first: the machine.** Redis is one process and needs a processor as well.""",
}
"""What the plots show and why, found with a profiler; written by hand, unlike the figures."""

BYTES = [1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000]
OBJECTS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000]
OFFENDERS = [1, 10, 100, 1_000, 10_000]
THREADS = [1, 2, 4, 8, 16, 32, 64]
PROCESSES = [1, 2, 4, 8]


def section(url: str, effort: Effort, plots: Plots) -> str:
    """Let everything grow that grows in production, one thing at a time."""
    return "\n\n".join(
        [
            *_by_value(url, effort, plots),
            *_by_callers(url, effort, plots),
        ]
    )


# --- The value grows ----------------------------------------------------------------------------


def _by_value(url: str, effort: Effort, plots: Plots) -> list[str]:
    ours, theirs = peers.django("default"), peers.raw(url)
    many = 100 if effort.short else OFFENDERS[-1]
    clean = rows(many)
    grown = {
        "bytes": [(n, blob := os.urandom(n), blob) for n in effort.of(BYTES)],
        "objects": [(n, made := rows(n), made) for n in effort.of(OBJECTS)],
        f"offenders among {many} objects": [
            (n, rows(many, locks=n), clean) for n in effort.of(OFFENDERS) if n <= many
        ],
    }
    lines = []
    series: dict[str, list[tuple[float, float]]] = {}
    for name, points in grown.items():
        for n, value, twin in points:
            once = set_and_get(f"ours {name} {n}", ours, value)
            for _ in range(12 if value is not twin else 0):  # the 10th time is reported, too
                once()
            times = race({"ours": once, "raw": set_and_get("raw", theirs, twin)}, effort)
            mine, other = times["ours"], times["raw"]
            series.setdefault(name, []).append((n, mine.median / other.median))
            lines.append(
                (
                    name,
                    f"{n:,}",
                    _milliseconds(other),
                    _milliseconds(mine),
                    f"{mine.median / other.median:.2f}",
                    f"{mine.p10 / other.p10:.2f}",
                )
            )
    header = ("what grows", "n", "redis-py ms", "contextcache ms", "ratio (median)", "ratio (p10)")
    return [
        "### The value",
        BENDS["value"],
        plots.draw(
            "value", "set + get as the value grows", series, x="n", y="time, redis-py + pickle = 1"
        ),
        table(header, lines),
    ]


def _milliseconds(times: Times) -> str:
    return f"{1e3 * times.median:,.2f}"


# --- The callers grow ---------------------------------------------------------------------------


def _by_callers(url: str, effort: Effort, plots: Plots) -> list[str]:
    caches_of: dict[str, Callable[[], Operations]] = {
        RAW: lambda: peers.raw(url),
        STOCK: lambda: peers.django("stock"),
        DJANGO: lambda: peers.django("default"),
    }
    stay_on(range(os.cpu_count() or 1))  # more than one processor, now
    parts = []
    for kind, counts, at_once in (
        ("threads", THREADS, _in_threads),
        ("processes", PROCESSES, _in_processes),
    ):
        series: dict[str, list[tuple[float, float]]] = {name: [] for name in caches_of}
        for count in effort.of(counts):
            rates: dict[str, list[float]] = {name: [] for name in caches_of}
            for _ in range(1 if effort.short else 5):  # in turns, as everywhere
                for name, make in caches_of.items():
                    rates[name].append(at_once(make, count, effort.seconds / 3))
            for name, found in rates.items():
                series[name].append((count, sorted(found)[len(found) // 2]))
        lines = [(name, *(f"{rate:,.0f}" for _, rate in points)) for name, points in series.items()]
        parts += [
            f"### {kind.capitalize()}",
            BENDS[kind],
            plots.draw(
                kind,
                f"set + get of 1 KB per second, by {kind}, on {os.cpu_count()} processors",
                series,
                x=kind,
                y="set + get per second",
                log_y=False,
            ),
            table(("set + get per second", *effort.of(counts)), lines),
        ]
    return parts


def _in_threads(make: Callable[[], Operations], count: int, seconds: float) -> float:
    """Return how many set + get a second `count` threads of this process make together."""
    done: list[int] = []
    barrier = threading.Barrier(count)

    def work(number: int) -> None:
        once = set_and_get(f"thread-{number}", make(), profile())
        once()
        barrier.wait(timeout=30)
        done.append(_repeat(once, seconds))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / seconds


def _in_processes(make: Callable[[], Operations], count: int, seconds: float) -> float:
    """Return how many set + get a second `count` forked processes make together."""
    fork = multiprocessing.get_context("fork")
    done, barrier = fork.SimpleQueue(), fork.Barrier(count)

    def work(number: int) -> None:
        once = set_and_get(f"process-{number}", make(), profile())
        once()
        barrier.wait(timeout=30)
        done.put(_repeat(once, seconds))

    processes = [fork.Process(target=work, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return sum(done.get() for _ in processes) / seconds


def _repeat(once: Callable[[], object], seconds: float) -> int:
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        once()
        count += 1
    return count
