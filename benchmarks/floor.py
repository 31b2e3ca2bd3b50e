"""What a set + get cannot be faster than, and what ours is made of."""

from __future__ import annotations

import csv
import pickle
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks import peers
from benchmarks.measuring import race
from benchmarks.peers import set_and_get
from benchmarks.report import table
from benchmarks.values import catalogue, profile, rows

if TYPE_CHECKING:
    from benchmarks.measuring import Effort
    from benchmarks.report import Plots


EXPLAINED = """\
Here nothing else runs in between, so all code is still in the caches of the processor; in the
tables above, as in a real page, it is not, and each Python function that is passed through costs
several times as much. The floor is `redis-benchmark -c 1` of the same machine: a program in C that
sends the same bytes and waits for the answer."""


def redis_benchmark(url: str, size: int, effort: Effort) -> float:
    """Return the median seconds of one SET and one GET, asked by a program written in C."""
    port = str(urlsplit(url).port)
    count = "500" if effort.short else str(max(2_000, 2_000_000_000 // (size + 100_000)))
    printed = subprocess.run(
        [
            *("redis-benchmark", "-p", port, "-t", "set,get", "--csv"),
            *("-c", "1", "-n", count, "-d", str(size)),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    lines = csv.DictReader(printed.splitlines())
    return sum(float(line["p50_latency_ms"]) for line in lines) / 1e3


def section(url: str, effort: Effort, _plots: Plots) -> str:
    """Take the time of set + get apart: floor, client, pickle, and what is ours."""
    cache = peers.django("default")
    backend = peers.backend("default")
    client, guard = backend.connection(), backend.guard("benchmark")
    lines = []
    for title, value in {
        "1 KB": profile(),
        "20 KB": catalogue(),
        "200 KB of dataclasses": rows(4000),
    }.items():
        plain = pickle.dumps(value, 5)
        sealed = guard.dumps(value)

        def through_the_client(payload: bytes = sealed) -> None:
            client.set("floor", payload, ex=peers.TTL)
            client.get("floor")

        times = race(
            {
                "all": set_and_get("all", cache, value),
                "client": through_the_client,
                "pickle": lambda value=value, plain=plain: (
                    pickle.dumps(value, 5),
                    pickle.loads(plain),
                ),
                "guard": lambda value=value, sealed=sealed: (
                    guard.dumps(value),
                    guard.loads(sealed),
                ),
            },
            effort,
        )
        floor = redis_benchmark(url, len(sealed), effort)
        whole, through, pickled, guarded = (
            times[part].median for part in ("all", "client", "pickle", "guard")
        )
        shares = (
            floor,
            through - floor,
            pickled,
            guarded - pickled,
            whole - through - guarded,
        )
        lines.append(
            (
                title,
                f"{1e6 * whole:,.0f}",
                *(f"{1e6 * part:,.0f} ({part / whole:.0%})" for part in shares),
            )
        )
    header = (
        "set + get",
        "all µs",
        "Redis and loopback, as redis-benchmark sees them",
        "redis-py with hiredis",
        "pickle",
        "guard and signature",
        "backend",
    )
    return f"{EXPLAINED}\n\n{table(header, lines)}"
