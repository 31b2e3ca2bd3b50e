"""What the guard costs over pickle, without a network: ratios to pickle on the same clean value."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import race
from benchmarks.report import table
from benchmarks.values import chain, dicts, rows
from contextcache import Guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measuring import Effort, Times
    from benchmarks.report import Plots

    Pair = tuple[Times, Times]

DEEPEST = 180  # CPython 3.11 ends at 198 levels of objects


def dumps(value: Any, twin: Any, effort: Effort) -> Pair:
    """Time a guard that knows `value`, and pickle on its clean twin."""
    guard = Guard()
    return _pair(lambda: guard.dumps(value), lambda: pickle.dumps(twin, 5), effort)


def first_sight(value: Any, twin: Any, effort: Effort) -> Pair:
    """Time a new guard each time: it locates, tries and words what it meets."""
    return _pair(lambda: Guard().dumps(value), lambda: pickle.dumps(twin, 5), effort)


def _pair(ours: Callable[[], object], theirs: Callable[[], object], effort: Effort) -> Pair:
    times = race({"ours": ours, "theirs": theirs}, effort)
    return times["ours"], times["theirs"]


def figures(effort: Effort) -> list[tuple[str, str, Pair]]:
    clean = rows(2000)
    guard = Guard()
    payload = guard.dumps(clean)
    tiny = {"id": 7, "name": "ann"}
    nested = {"id": 7, "tags": ["a", "b"], "at": (1, 2)}
    one, all_of_them = rows(2000, locks=1), rows(2000, locks=2000)
    loads = _pair(lambda: guard.loads(payload), lambda: pickle.loads(payload), effort)
    return [
        ("clean, 10 000 dicts", "≤ 1.03", dumps(dicts(10_000), dicts(10_000), effort)),
        ("clean, 2 000 dataclasses", "≤ 1.03", dumps(clean, clean, effort)),
        ("clean, tiny flat dict", "≤ +0.8 µs", dumps(tiny, tiny, effort)),
        ("clean, small nested dict", "", dumps(nested, nested, effort)),
        ("one lock in 2 000 dataclasses", "≤ 1.10", dumps(one, clean, effort)),
        ("a lock in each of 2 000", "≤ 2.0", dumps(all_of_them, clean, effort)),
        ("first sight, one lock in 2 000", "≤ 15", first_sight(one, clean, effort)),
        ("loads, 2 000 dataclasses", "≤ 1.03", loads),
    ]


def growth(effort: Effort) -> dict[str, list[tuple[int, Pair]]]:
    sizes = effort.of([10, 100, 1000, 10_000, 100_000])
    many = 100 if effort.short else 10_000
    return {
        "objects, clean": [(n, dumps(rows(n), rows(n), effort)) for n in sizes],
        "objects, one lock": [(n, dumps(rows(n, locks=1), rows(n), effort)) for n in sizes],
        f"offenders among {many} objects": [
            (n, dumps(rows(many, locks=n), rows(many), effort)) for n in sizes if n <= many
        ],
        "levels, one lock at the bottom": [
            (n, dumps(chain(n, lock=True), chain(n), effort))
            for n in effort.of([10, 30, 100, DEEPEST])
        ],
        "objects, first sight of one lock": [
            (n, first_sight(rows(n, locks=1), rows(n), effort)) for n in sizes
        ],
    }


def section(_url: str, effort: Effort, plots: Plots) -> str:
    """Compare the guard with pickle, and show how its cost grows."""
    lines = [
        (
            name,
            target,
            f"{ours.median / theirs.median:.2f}",
            f"{ours.p10 / theirs.p10:.2f}",
            f"{1e6 * (ours.median - theirs.median):+.1f}",
        )
        for name, target, (ours, theirs) in figures(effort)
    ]
    grown = growth(effort)
    grown_lines = [
        (name, n, f"{ours.median / theirs.median:.2f}", f"{ours.p10 / theirs.p10:.2f}")
        for name, points in grown.items()
        for n, (ours, theirs) in points
    ]
    series = {
        name: [(n, ours.median / theirs.median) for n, (ours, theirs) in points]
        for name, points in grown.items()
    }
    plot = plots.draw(
        "engine", "How the cost of the guard grows", series, x="n", y="time, pickle.dumps = 1"
    )
    ratios = ("ratio (median)", "ratio (p10)")
    return "\n\n".join(
        [
            table(("", "target", *ratios, "extra µs"), lines),
            plot,
            table(("what grows", "n", *ratios), grown_lines),
        ]
    )
