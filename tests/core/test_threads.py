"""One guard in eight threads, for a while: `make test-freethreaded` runs it for a minute.

Where the GIL is off, threads meet inside of the guard, too; elsewhere only between two bytecodes.
"""

from __future__ import annotations

import collections
import concurrent.futures
import os
import random
import sys
import sysconfig
import threading
import time
from typing import TYPE_CHECKING, Any

from contextcache import Guard
from tests.core import shapes
from tests.waiting import PATIENCE
from tests.zoo import INNOCENTS, OFFENDERS, unlocked

if TYPE_CHECKING:
    from tests.zoo import Case

THREADS = 8
SECONDS = float(os.environ.get("CONTEXTCACHE_SECONDS", "3"))

# But for one that takes long, and those that can only be closed by the thread that has opened them.
CASES = [case for case in (*INNOCENTS, *OFFENDERS) if case.id != "many" and "sqlite" not in case.id]


def codes(guard: Guard) -> collections.Counter[str]:
    """Return how often the guard has reported each code."""
    counted: collections.Counter[str] = collections.Counter()
    for finding in guard.summary():
        counted[finding.code] += finding.count
    return counted


class Worker:
    """What one thread does, and what it has seen."""

    def __init__(self, guard: Guard, expected: dict[str, collections.Counter[str]]) -> None:
        self.guard = guard
        self.expected = expected
        self.operations = 0
        self.findings: collections.Counter[str] = collections.Counter()
        self.wrong: collections.Counter[str] = collections.Counter()

    def store(self, case: Case) -> None:
        """Write and read a value of the catalogue, beside one that only this write has."""
        self.operations += 1
        own, label = f"{threading.get_ident()}:{self.operations}", f"cache[{case.id!r}]"
        try:
            loaded, came = self.guard.loads(self.guard.dumps([case.build(), own], label=label))
        except Exception as error:
            self.wrong[f"{case}: {type(error).__name__}: {error}"] += 1
            return
        if came != own or not (case.check(loaded) or not case.stored):
            self.wrong[case.id] += 1
        self.findings += self.expected[case.id]

    def learn(self) -> None:
        """Write two objects of a class that no thread has seen; of one a field is cut."""
        self.operations += 1
        cls = type("Learnt", (shapes.Thing,), {"__reduce__": _as_thing})
        lock = threading.Lock()
        loaded = self.guard.loads(self.guard.dumps([cls(held=self.operations), cls(held=lock)]))
        if loaded[0].held != self.operations or not unlocked(loaded[1].held):
            self.wrong["a new class"] += 1
        self.findings["CC102"] += 1


def _as_thing(made: shapes.Thing) -> tuple[Any, ...]:
    return shapes.Thing, (), {**vars(made)}


def alone(case: Case) -> collections.Counter[str]:
    """Return what one write of the value reports where no other thread writes."""
    guard = Guard()
    guard.dumps([case.build(), ""])
    return codes(guard)


def test_mixed_values_in_many_threads() -> None:
    """No crash, no wrong value, and no finding that is not counted."""
    expected = {case.id: alone(case) for case in CASES}
    guard = Guard(secret_keys=("a secret of more than thirty-two letters",))
    start = threading.Barrier(THREADS)

    def work(number: int) -> Worker:
        worker, drawn = Worker(guard, expected), random.Random(number)
        start.wait(PATIENCE)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            worker.store(drawn.choice(CASES))
            if not worker.operations % 20:
                worker.learn()
        return worker

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        workers = list(pool.map(work, range(THREADS)))
    findings: collections.Counter[str] = collections.Counter()
    for worker in workers:
        assert not worker.wrong
        findings += worker.findings
    assert codes(guard) == findings
    operations = sum(worker.operations for worker in workers)
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    gil = "on" if has_gil else "off"
    print(f"{operations:,} operations, {findings.total():,} findings, GIL {gil}")
    assert has_gil is not bool(sysconfig.get_config_var("Py_GIL_DISABLED")), "what turned it on?"
