"""What a guard adds to `pickle.dumps` in a hot loop, of values that are clean and that are not.

python -m benchmarks.guard_cost          the rows
python -m benchmarks.guard_cost floor    and what the guard cannot be faster than, part by part
python -m benchmarks.guard_cost slot     what it adds to a set + get of django-redis, part by part
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

from benchmarks.report import table
from benchmarks.values import profile, rows
from contextcache import Guard
from contextcache.reports.request_scope import RequestScope, enter_scope, exit_scope
from contextcache.rules.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.measuring import Effort
    from benchmarks.report import Plots

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
Taken = dict[str, list[float]]


def race(contestants: Contestants, rounds: int = ROUNDS) -> Taken:
    """Return the seconds that a call of each contestant took, in turns whose order is drawn."""
    names = [*contestants]
    turns = {}
    for name, run in contestants.items():
        for _ in range(3):
            run()  # which imports and learns
        began = time.perf_counter()
        run()
        turns[name] = max(1, int(SECONDS / (time.perf_counter() - began)))
    taken: Taken = {name: [] for name in names}
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


def slot() -> None:
    """Print what the serializer for django-redis adds to its own, for 1 KB, and of what that is."""
    import hmac

    import django
    from django.conf import settings

    from tests.redis_server import running_redis

    serializer = "contextcache_django.serializers.DjangoRedisSerializer"
    value = profile()
    begun: Any = hmac.new(bytes(32), digestmod="sha256")._hmac  # type: ignore[attr-defined]
    a_context = parts(value)["+ a context variable"]

    def sealed(_: object) -> bytes:
        body: Any = a_context()
        mac = begun.copy()
        mac.update(body)
        return bytes(mac.digest() + body)

    def opened(payload: bytes) -> object:
        mac, body = begun.copy(), memoryview(payload)[32:]
        mac.update(body)
        assert hmac.compare_digest(mac.digest(), payload[:32])
        return pickle.loads(body)

    unsigned = {"SERIALIZER": serializer, "CONTEXTCACHE": {"SIGN": False}}
    options: dict[str, dict[str, Any]] = {
        "pickle": {},
        "guard, signed": {"SERIALIZER": serializer},
        "guard, unsigned": unsigned,
        "+ a pickler with a table": unsigned,
        "+ the same and HMAC": unsigned,
        "the guard's dumps alone": unsigned,
        "the guard's loads alone": unsigned,
    }
    with running_redis() as url:
        backend = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}
        caches = {name: {**backend, "OPTIONS": option} for name, option in options.items()}
        settings.configure(SECRET_KEY="only for measuring", CACHES={"default": backend, **caches})
        django.setup()
        from django.core import cache

        made = {name: cache.caches[name] for name in options}
        for name, (dumps_with, loads_with) in {
            "+ a pickler with a table": (lambda _: a_context(), pickle.loads),
            "+ the same and HMAC": (sealed, opened),
            "the guard's dumps alone": (None, pickle.loads),
            "the guard's loads alone": (lambda held: pickle.dumps(held, 5), None),
        }.items():
            made[name].get("warm")
            used: Any = made[name].client._serializer  # type: ignore[attr-defined]
            used.dumps, used.loads = dumps_with or used.dumps, loads_with or used.loads

        def set_and_get(name: str) -> Callable[[], object]:
            used = made[name]
            return lambda: (used.set(name, value), used.get(name))

        taken = race({name: set_and_get(name) for name in options}, 3000)
    for name in options:
        print(_line(name, taken, name))


def _line(name: str, taken: Taken, contestant: str) -> str:
    ours, theirs = taken[contestant], taken["pickle"]
    lead, median = min(ours) - min(theirs), statistics.median(ours) - statistics.median(theirs)
    ratio = statistics.median(ours) / statistics.median(theirs)
    return (
        f"{name:38} {min(ours) / min(theirs):6.3f} {ratio:6.3f}"
        f" {1e6 * lead:+8.2f} {1e6 * median:+8.2f} µs"
    )


NOT_REACHED = """\
What is not reached, and why:

* **The serializer of django-redis, set + get of 1 KB: +0.15 of raw redis-py signed and +0.08
  unsigned, not +0.13 and +0.06.** A `Pickler` with a table and a context variable costs 1 to 2
  µs of that, HMAC-SHA256 each way 4 µs, and `loads` nothing that can be measured. What is left,
  3 to 4 µs, are the five Python functions of `Guard.dumps` and the search for names, which cost
  three times as much here as in a hot loop, because the code of Redis, redis-py and Django runs
  in between. One pickler for all writes of a thread would save 0.5 µs, and keep the last value
  alive; no search for names would save 0.4 µs, and store the cookie of a request whose
  environment was copied.
* **A lock in each of 2,000 rows, on 3.11: 1.3, of which the pass is 1.1.** The rest finds out
  whether each of the locks is at a place that was reported. Without that, a lock in another
  field of the same rows would not be reported before the tenth write."""


def figures(rounds: int = ROUNDS, *, floor: bool = False) -> Iterator[tuple[str, Taken, str]]:
    """Yield the name of each row, the times of its contestants, and which of them it is about."""
    clean, one, all_of_them = rows(2000), rows(2000, locks=1), rows(2000, locks=2000)
    secret = ["only for measuring"]
    measured: dict[str, Contestants] = {
        "flat dict of 3": dumps(flat()),
        "dict of 24 small dicts": dumps(nested()),
        "list of 430 dicts": dumps(products()),
        "2,000 clean dataclasses": dumps(clean),
        "one lock in 2,000": dumps(one, clean),
        "a lock in each of 2,000": dumps(all_of_them, clean),
        "set + get 1 KB, unsigned": set_and_get(profile()),
        "set + get 1 KB, signed": set_and_get(profile(), secret_keys=secret),
    }
    values = {
        "flat dict of 3": flat,
        "dict of 24 small dicts": nested,
        "list of 430 dicts": products,
    }
    for name, contestants in measured.items():
        extra = parts(values[name]()) if floor and name in values else {}
        taken = race({**contestants, **extra}, rounds)
        yield name, taken, "guard"
        for part in extra:
            yield f"  {part}", taken, part
    token = enter_scope(RequestScope("GET", "/", credentials=lambda: CREDENTIALS))
    try:
        yield "list of 430 dicts, within a request", race(dumps(products()), rounds), "guard"
    finally:
        exit_scope(token)
    first: Contestants = {
        "pickle": lambda: pickle.dumps(clean, 5),
        "guard": lambda: Guard().dumps(one),
    }
    yield "first sight of one lock in 2,000", race(first, max(5, rounds // 4)), "guard"


def section(_url: str, effort: Effort, _plots: Plots) -> str:
    """Show what the guard adds to pickle, part by part."""
    logging.getLogger("contextcache").addHandler(logging.NullHandler())
    lines = []
    for name, taken, contestant in figures(5 if effort.short else ROUNDS, floor=True):
        ours, theirs = statistics.median(taken[contestant]), statistics.median(taken["pickle"])
        lines.append((name.strip(), f"{ours / theirs:.2f}", f"{1e6 * (ours - theirs):+.1f}"))
    return f"{table(('', 'ratio (median)', 'extra µs'), lines)}\n\n{NOT_REACHED}"


def main(*words: str) -> None:
    """Print, of each row, the ratio and the difference to pickle: minimum and median."""
    logging.getLogger("contextcache").addHandler(logging.NullHandler())
    if "slot" in words:
        slot()
        return
    print(f"Python {sys.version.split()[0]}  {'min':>21} {'median':>6} {'min':>8} {'median':>8}")
    for name, taken, contestant in figures(floor="floor" in words):
        print(_line(name, taken, contestant))


if __name__ == "__main__":
    main(*sys.argv[1:])
