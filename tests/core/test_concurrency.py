"""One guard in many threads, tasks and processes at once."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import itertools
import logging
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import (
    Guard,
    RequestScope,
    UncacheableValueError,
    enter_scope,
    exit_scope,
    is_stripped,
)
from contextcache.engine import diagnosis
from contextcache.testing import capture_findings
from tests.core import shapes
from tests.waiting import PATIENCE, exit_code
from tests.zoo import INNOCENTS, OFFENDERS, unlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contextcache.engine.dump import Dump

THREADS = 8


@pytest.fixture(autouse=True)
def switch_often() -> Iterator[None]:
    """Let threads interleave as much as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Run `work` in all threads, all of them starting together."""
    barrier = threading.Barrier(THREADS)

    def start(number: int) -> Any:
        barrier.wait(PATIENCE)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


def test_a_cold_guard_gives_every_thread_pickles_bytes() -> None:
    """Eight threads learn the same types at once; each payload is that of `pickle.dumps`."""
    values = [case.build() for case in INNOCENTS if case.id not in ("many", "text", "bytes")]
    expected = [pickle.dumps(value, 5) for value in values]
    for _ in range(5):
        guard = Guard()

        def write(number: int, guard: Guard = guard) -> list[bytes]:
            order = list(range(number, len(values))) + list(range(number))
            written = {at: guard.dumps(values[at]) for at in order}
            return [written[at] for at in range(len(values))]

        for payloads in at_once(write):
            assert payloads == expected


def test_findings_never_cross_threads() -> None:
    """What one thread's value holds is never reported for another's, nor left out of its own."""
    guard = Guard()
    builds = {0: shapes.Client, 1: threading.RLock, 2: lambda: (n for n in "ab"), 3: lambda: 1}

    def write(number: int) -> list[tuple[str, ...]]:
        build = builds[number % 4]
        seen = []
        for turn in range(30):
            scope = RequestScope("GET", f"/{number}", collect=True)
            token = enter_scope(scope)
            try:
                value = {
                    "pad": list(range(50)),
                    f"field_{number}": [build() for _ in range(turn % 3)],
                }
                loaded = guard.loads(guard.dumps(value, label=f"cache['t{number}']"))
            finally:
                exit_scope(token)
            assert len(loaded[f"field_{number}"]) == turn % 3
            seen.append(tuple(str(one.path) for one in scope.findings))
        return seen

    with capture_findings():  # every finding is wanted, known or not
        results = at_once(write)
    for number, seen in enumerate(results):
        suffix = {0: "._lock", 1: "", 2: ""}.get(number % 4)
        for turn, found in enumerate(seen):
            expected = (
                ()
                if suffix is None
                else tuple(
                    f"cache['t{number}']['field_{number}'][{at}]{suffix}" for at in range(turn % 3)
                )
            )
            assert found == expected


def test_a_cold_guard_cuts_the_same_in_every_thread() -> None:
    """Every offender of the catalogue, in all threads at once, is stored so that it loads."""
    cases = [case for case in OFFENDERS if case.stored]
    values = [case.build() for case in cases]
    guard = Guard()

    def write(number: int) -> list[str]:
        wrong = []
        for at in range(len(cases)):
            case = cases[(at + number * 7) % len(cases)]
            value = values[(at + number * 7) % len(cases)]
            if not case.check(guard.loads(guard.dumps(value, label=f"cache[{case.id!r}]"))):
                wrong.append(case.id)
        return wrong

    assert at_once(write) == [[]] * THREADS


def test_one_lock_in_many_threads_is_counted_once_for_each_write() -> None:
    """The milestones of a field are counted over all threads, none lost and none twice."""
    counts: list[int] = []
    guard = Guard(on_finding=(lambda one: counts.append(one.count),))
    value = {"client": shapes.Client()}
    at_once(lambda _: [guard.dumps(value, label="session") for _ in range(125)])
    assert sorted(counts) == [1, 10, 100, 1000]


def test_a_dict_that_another_thread_fills_is_stored_or_refused() -> None:
    """Whatever the timing, the outcome is a payload that loads or a refusal, never a crash."""
    value: dict[str, Any] = {"shared": {}, "items": [shapes.Item(str(n), n) for n in range(200)]}
    done = threading.Event()

    def fill() -> None:
        number = 0
        while not done.is_set():
            value["shared"][f"k{number % 500}"] = shapes.Item("x")
            value["shared"].pop(f"k{(number * 7) % 500}", None)
            number += 1

    refusals: list[list[str]] = []
    filler = threading.Thread(target=fill)
    filler.start()
    guard = Guard()
    try:
        for _ in range(100):
            try:
                loaded = guard.loads(guard.dumps(value))
            except UncacheableValueError as error:
                refusals.append([one.code for one in error.findings])
            else:
                assert len(loaded["items"]) == 200
    finally:
        done.set()
        filler.join()
    assert refusals == [["CC132"]] * len(refusals)


def test_tasks_do_not_mix_their_requests() -> None:
    """Each task's finding names the request of that task."""
    guard = Guard()

    async def request(number: int) -> list[tuple[str, str]]:
        scope = RequestScope("GET", f"/{number}", collect=True)
        token = enter_scope(scope)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
                guard.dumps({f"lock_{number}": threading.Lock()}, label="session")
        finally:
            exit_scope(token)
        return [(one.origin.partition(" · ")[0], str(one.path)) for one in scope.findings]

    async def main() -> list[list[tuple[str, str]]]:
        return await asyncio.gather(*map(request, range(20)))

    with capture_findings():
        results = asyncio.run(main())
    assert results == [
        [(f"GET /{number}", f"session['lock_{number}']")] * 3 for number in range(20)
    ]


def test_a_write_in_a_copied_context_is_independent() -> None:
    """A dump in another context neither sees nor disturbs the one that is running."""
    guard = Guard()
    shapes.DumpsNested.dump = staticmethod(  # type: ignore[assignment]
        lambda inner: contextvars.Context().run(guard.dumps, inner)
    )
    loaded = guard.loads(guard.dumps([shapes.DumpsNested(shapes.Client()), shapes.Client()]))
    assert unlocked(loaded[1]._lock)
    assert unlocked(guard.loads(loaded[0].inner)._lock)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_writes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child forked while other threads are writing is not caught behind their locks.

    Without a log: pytest's own log file is a buffered stream, and CPython leaves the lock of one
    that a thread is writing to at the moment of a fork held in the child (cpython#50970).
    """
    monkeypatch.setattr(logging.getLogger("contextcache"), "disabled", True)
    guard = Guard()
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            guard.dumps({"client": shapes.Client(), "n": [shapes.Item("a")]}, label="session")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        outcomes = [_forked(guard) for _ in range(30)]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert outcomes == [0] * 30


def _forked(guard: Guard) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            fresh = type("Fresh", (shapes.Thing,), {"__reduce__": lambda self: (str, ("x",))})
            loaded = guard.loads(guard.dumps({"client": shapes.Client(), "f": fresh()}))
            code = 0 if unlocked(loaded["client"]._lock) else 2
        finally:
            os._exit(code)
    return exit_code(pid)


def test_a_class_that_another_thread_learns_during_the_trial_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The trial then cuts the object by itself, and loads, which says nothing of the object."""
    guard = Guard()
    others = iter([True])
    trial = diagnosis.failed_trial

    def learned_meanwhile(dump: Dump, candidate: object) -> Dump | None:
        if next(others, False):
            guard.dumps({"other": shapes.Delegates(2)}, label="cache['other']")
        return trial(dump, candidate)

    monkeypatch.setattr(diagnosis, "failed_trial", learned_meanwhile)
    loaded = guard.loads(guard.dumps({"a": 1, "held": shapes.Delegates(1)}, label="cache['key']"))
    assert loaded["a"] == 1
    assert is_stripped(loaded["held"])
    assert next(others, True)


@dataclasses.dataclass
class Counted:
    number: int


def test_a_dict_that_other_threads_fill_is_stored_whole() -> None:
    """Where the pass meets a change it is made again, without a finding."""
    shared = {number: Counted(number) for number in range(300)}
    done = threading.Event()

    def change() -> None:
        for number in itertools.count():
            if done.is_set():
                return
            shared[1000 + number % 50] = Counted(number)
            shared.pop(1000 + (number + 25) % 50, None)

    thread = threading.Thread(target=change)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    thread.start()
    guard = Guard()
    try:
        with capture_findings() as findings:
            stored = [pickle.loads(guard.dumps(shared)) for _ in range(100)]
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert all(len(one) >= 300 and one[7] == Counted(7) for one in stored)
    assert findings == []
