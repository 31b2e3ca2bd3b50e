"""Writes from signal handlers and finalizers, and exceptions that handlers raise in the middle."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import contextcache
from contextcache import Guard
from contextcache.base.locks import ProcessLock, forget_oldest
from tests.waiting import PATIENCE
from tests.zoo import unlocked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOME = str(Path(contextcache.__file__).parent)

OFFENDERS: dict[str, Callable[[int], dict[str, Any]]] = {
    "a lock": lambda _: {"lock": threading.Lock()},
    "a lock at ever new places": lambda n: {f"k{chr(97 + n % 26)}": threading.Lock()},
    "a lambda": lambda _: {"callback": lambda: 0},
    "a local class": lambda _: {"row": type("Row", (), {})()},
    "a class that reduces itself": lambda _: {
        "row": type("Row", (), {"__reduce__": lambda _: (dict, ())})()
    },
}


class Stop(BaseException):
    """What a handler raises, such as KeyboardInterrupt."""


def interrupted(work: Callable[[], object], handler: Callable[[], object], every: int) -> None:
    """Run `work` and call `handler` from a signal at each `every`-th line of the library."""
    lines = 0

    def trace(frame: Any, event: str, _: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(HOME):
            return None
        if event == "line":
            lines += 1
            if lines % every == 0:
                os.kill(os.getpid(), signal.SIGUSR1)
        return trace

    before = signal.signal(signal.SIGUSR1, lambda *_: handler())
    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        next(apart(work))
    finally:
        sys.settrace(tracer)
        signal.signal(signal.SIGUSR1, before)


def apart(work: Callable[[], object]) -> Iterator[object]:
    """Run `work` with a stack of handled exceptions of its own, as a generator has one.

    Where an `except` block is left by an exception of a signal handler, CPython 3.11 can leave the
    one that was handled as the context of all that are raised later, in other tests, too.
    """
    yield work()


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("contextcache"), "disabled", True)


@pytest.mark.parametrize("session", [False, True], ids=["cache", "session"])
@pytest.mark.parametrize("build", OFFENDERS.values(), ids=OFFENDERS)
def test_a_handler_may_write_at_any_line(
    build: Callable[[int], dict[str, Any]], session: bool
) -> None:
    """The handler's write and the one it interrupted both end, and both store the rest."""
    guard, numbers = Guard(session=session), iter(range(100_000))
    stored: list[Any] = []

    def write() -> None:
        number = next(numbers)
        payload = guard.dumps({"n": number, **build(number)}, label=f"cache['{number % 3}']")
        stored.append(guard.loads(payload)["n"])

    for _ in range(2):
        interrupted(write, write, every=5)
    assert sorted(stored) == list(range(next(numbers)))


def test_a_handler_that_raises_leaves_the_guard_usable() -> None:
    """Whichever line is left by an exception, other threads write on and nothing is half known."""
    guard, at = Guard(), 0
    done: list[bool] = []

    def write() -> None:
        loaded = guard.loads(guard.dumps({"lock": threading.Lock(), "n": [1]}, label="cache['k']"))
        done.append(loaded["n"] == [1] and unlocked(loaded["lock"]))

    def stop() -> None:
        raise Stop

    for every in range(1, 400, 7):
        guard, at = Guard(), at + 1
        with pytest.raises(Stop):
            interrupted(write, stop, every)
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert done == [True] * at


def test_a_finalizer_that_runs_inside_of_a_write_may_write() -> None:
    """`__del__` of what the collector finds, in the middle of the library, stores to a cache."""
    guard, stored = Guard(), []

    class Last:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            stored.append(guard.dumps({"lock": threading.Lock(), "n": 1}, label="cache['last']"))

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(200):
            Last()
            guard.dumps({f"k{chr(97 + number % 26)}": threading.Lock()}, label="cache['k']")
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert len(stored) == 200


def test_a_lock_lets_its_thread_in_again_and_no_other() -> None:
    """A handler comes in; another thread waits until the outermost block is left."""
    lock, order = ProcessLock(), []

    def wait() -> None:
        with lock:
            order.append("other")

    other = threading.Thread(target=wait)
    with lock:
        with lock:
            other.start()
        order.append("own")
    other.join(PATIENCE)
    assert order == ["own", "other"]


def test_the_oldest_is_forgotten() -> None:
    """The key that was added first goes; an empty mapping stays empty."""
    mapping = {"a": 1, "b": 2}
    assert [forget_oldest(mapping) for _ in range(3)] == ["a", "b", None]
