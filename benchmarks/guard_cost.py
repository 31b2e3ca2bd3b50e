"""What a guard adds to `pickle.dumps` in a hot loop, of values that are clean and that are not.

python -m benchmarks.guard_cost          the rows
python -m benchmarks.guard_cost floor    and what the guard cannot be faster than, part by part
"""

from __future__ import annotations

import gc
import logging
import pickle
import random
import statistics
import sys
import time
from contextvars import ContextVar
from io import BytesIO
from typing import TYPE_CHECKING, Any

from benchmarks.values import profile, rows
from contextcache import Guard
from contextcache.reports.request_scope import RequestScope, enter_scope, exit_scope
from contextcache.rules.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 200
SECONDS = 0.0004  # that one turn of a contestant takes, so that its code is in the caches

CREDENTIALS = Credentials(
    authorization="Bearer 7fJ2kQ9sVx0aLmNp4RtYw8ZcBd6EhGu1",
    cookie="sessionid=q3x8m1k5v7b2n9c4z6l0p8o2i5u7y1t3; csrftoken=Zk4Rw8Xc2Vb6Nm0LpQs3",
    session_name="sessionid",
    session_id="q3x8m1k5v7b2n9c4z6l0p8o2i5u7y1t3",
)


def flat() -> dict[str, Any]:
    """Return a flat dict of 3."""
    return {"id": 7, "name": "ann", "is_new": False}


def nested() -> dict[str, Any]:
    """Return a dict of 24 small dicts, 0.7 KB."""
    return {f"key {at}": {"id": at, "name": f"name {at}"} for at in range(24)}


def products() -> list[dict[str, Any]]:
    """Return a list of 430 dicts, 16 KB."""
    return [
        {"id": at, "name": f"product {at}", "price": at * 0.99, "active": True} for at in range(430)
    ]


Contestants = dict[str, "Callable[[], object]"]


def race(contestants: Contestants, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Return the seconds that a call of each contestant took, in turns whose order is drawn."""
    names = [*contestants]
    turns = {}
    for name, run in contestants.items():
        for _ in range(3):
            run()  # which imports and learns
        began = time.perf_counter()
        run()
        turns[name] = max(1, int(SECONDS / (time.perf_counter() - began)))
    taken: dict[str, list[float]] = {name: [] for name in names}
    lot = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            lot.shuffle(names)
            for name in names:
                run, turn = contestants[name], range(turns[name])
                before = time.perf_counter()
                for _ in turn:
                    run()
                taken[name].append((time.perf_counter() - before) / len(turn))
    finally:
        gc.enable()
    return taken


def dumps(value: object, twin: object = None, **options: Any) -> Contestants:
    """Return a guard that knows `value`, and pickle on its clean twin."""
    guard = Guard(**options)
    twin = value if twin is None else twin
    return {"pickle": lambda: pickle.dumps(twin, 5), "guard": lambda: guard.dumps(value)}


def set_and_get(value: object, **options: Any) -> Contestants:
    """Return a guard and pickle that write a value and read it back."""
    guard = Guard(**options)
    return {
        "pickle": lambda: pickle.loads(pickle.dumps(value, 5)),
        "guard": lambda: guard.loads(guard.dumps(value)),
    }


def parts(value: object) -> Contestants:
    """Return what `Guard.dumps` cannot do without, each with what comes before it."""
    table: dict[type, Any] = {}
    running: ContextVar[object] = ContextVar("running")

    def a_file() -> bytes:
        buffer = BytesIO()
        pickle.Pickler(buffer, 5).dump(value)
        return buffer.getvalue()

    def a_table() -> bytes:
        buffer = BytesIO()
        pickler = pickle.Pickler(buffer, 5)
        pickler.dispatch_table = table
        pickler.dump(value)
        return buffer.getvalue()

    def a_context() -> bytes:
        buffer = BytesIO()
        pickler = pickle.Pickler(buffer, 5)
        pickler.dispatch_table = table
        token = running.set(table)
        try:
            pickler.dump(value)
        finally:
            running.reset(token)
        return buffer.getvalue()

    def a_search() -> bool:
        payload = a_context()
        return payload.rfind(b"HTTP_COOKIE") >= 0 or payload.rfind(b"HTTP_AUTHORIZATION") >= 0

    return {
        "+ a file": a_file,
        "+ a dispatch table": a_table,
        "+ a context variable": a_context,
        "+ the search for names": a_search,
    }


def _line(name: str, taken: dict[str, list[float]], contestant: str = "guard") -> str:
    ours, theirs = taken[contestant], taken["pickle"]
    lead, median = min(ours) - min(theirs), statistics.median(ours) - statistics.median(theirs)
    ratio = statistics.median(ours) / statistics.median(theirs)
    return (
        f"{name:38} {min(ours) / min(theirs):6.3f} {ratio:6.3f}"
        f" {1e6 * lead:+8.2f} {1e6 * median:+8.2f} µs"
    )


def main(*words: str) -> None:
    """Print, of each row, the ratio and the difference to pickle: minimum and median."""
    logging.getLogger("contextcache").addHandler(logging.NullHandler())
    clean, one, all_of_them = rows(2000), rows(2000, locks=1), rows(2000, locks=2000)
    secret = ["only for measuring"]
    plain: dict[str, Contestants] = {
        "flat dict of 3": dumps(flat()),
        "dict of 24 small dicts": dumps(nested()),
        "list of 430 dicts": dumps(products()),
        "2,000 clean dataclasses": dumps(clean),
        "one lock in 2,000": dumps(one, clean),
        "a lock in each of 2,000": dumps(all_of_them, clean),
        "set + get 1 KB, unsigned": set_and_get(profile()),
        "set + get 1 KB, signed": set_and_get(profile(), secret_keys=secret),
    }
    print(f"Python {sys.version.split()[0]}  {'min':>21} {'median':>6} {'min':>8} {'median':>8}")
    for name, contestants in plain.items():
        if "floor" in words:
            value: Any = {"flat dict of 3": flat, "dict of 24 small dicts": nested}.get(name)
            extra = parts(value()) if value else {}
            extra |= parts(products()) if name == "list of 430 dicts" else {}
            contestants = {**contestants, **extra}
        taken = race(contestants)
        print(_line(name, taken))
        for contestant in contestants:
            if contestant.startswith("+"):
                print(_line(f"  {contestant}", taken, contestant))
    token = enter_scope(RequestScope("GET", "/", credentials=lambda: CREDENTIALS))
    try:
        print(_line("430 dicts, within a request", race(dumps(products()))))
    finally:
        exit_scope(token)
    first: Contestants = {
        "pickle": lambda: pickle.dumps(clean, 5),
        "guard": lambda: Guard().dumps(one),
    }
    print(_line("first sight of one lock in 2,000", race(first, ROUNDS // 4)))


if __name__ == "__main__":
    main(*sys.argv[1:])
