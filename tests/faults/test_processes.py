"""Forks, threads, greenlets and tasks: nobody hangs, and nobody gets another's reply."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches

from tests.child import run
from tests.faults.places import PATIENT, DjangoCache
from tests.faults.proxy import LATE_SECONDS, Proxy, late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

KEYS = 20

SITE = """
    import os
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.django.settings"
    import django
    django.setup()
    from django.core.cache import caches
    from django.test import override_settings
    from flask_caching import Cache
    from tests.faults.places import PATIENT, flask_app

    override_settings(CONTEXTCACHE=PATIENT, CACHES={{"default": {{
        "BACKEND": "contextcache_django.cache.RedisCache", "LOCATION": {url!r},
    }}}}).enable()
    app = flask_app({url!r}, **PATIENT)
    flask_cache = Cache(app, config={{"CACHE_TYPE": "contextcache_flask.RedisCache"}})

    def right(number, django_cache=None):
        key = f"key{{number}}"
        django_cache = django_cache or caches["default"]
        with app.app_context():
            return django_cache.get(key) == flask_cache.get(key) == [number]

    for number in range(20):
        caches["default"].set(f"key{{number}}", [number])
        with app.app_context():
            flask_cache.set(f"key{{number}}", [number])
"""

PREFORK = """
    import collections, itertools, signal, sys, threading

    sys.setswitchinterval(1e-4)  # many threads are then in the middle of something at a fork
    stop = threading.Event()

    def busy():
        for number in itertools.cycle(range(20)):
            if stop.is_set():
                return
            assert right(number)

    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    ends = collections.Counter()
    # Not by its name in the child: asgiref looks it up under a lock that another thread may hold.
    django_cache = caches["default"]
    for number in range(200):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends a child that hangs
            os._exit(0 if right(number % 20, django_cache) else 1)
        ends[os.waitpid(child, 0)[1]] += 1
    stop.set()
    for thread in threads:
        thread.join()
    print(dict(ends))
"""

# CPython 3.12 warns of a fork where there are threads, which is what is tried here.
QUIET = ("-W", "ignore::DeprecationWarning")


def test_200_forks_of_a_busy_process_leave_no_hung_child(redis_url: str) -> None:
    """Peers hang one child in 40 to 500, for good: redis-py resets its pool under a lock."""
    assert run(SITE.format(url=redis_url) + PREFORK, *QUIET) == "{0: 200}\n"


GREENLETS = """
    import gevent, random

    wrong, interrupted = [], []

    def visitor(number):
        for _ in range(10):
            try:
                with gevent.Timeout(random.uniform(0, 0.12)):
                    if not right(number):
                        wrong.append(number)
            except gevent.Timeout:
                interrupted.append(number)

    gevent.joinall([gevent.spawn(visitor, number) for number in range(20)])
    print(wrong, len(interrupted) > 10)
"""


def test_greenlets_that_are_interrupted_cross_no_replies(late_url: str) -> None:
    """`gevent.Timeout` strikes while a reply is on its way, which is then another's."""
    patched = "    from gevent import monkey; monkey.patch_all()\n"
    assert run(patched + SITE.format(url=late_url) + GREENLETS) == "[] True\n"


@pytest.fixture
def late_url(redis_url: str, redis_client: redis.Redis) -> Iterator[str]:
    """The URL of a Redis whose every reply takes its time."""
    with Proxy(int(redis_url.split(":")[2].split("/")[0])) as proxy, proxy.spoiling(late):
        yield proxy.url


@pytest.fixture
def cache(late_url: str) -> Iterator[Any]:
    """The Django cache on such a Redis, with a value of its own under each key."""
    with DjangoCache(late_url, **PATIENT):
        caches["default"].set_many({f"key{number}": [number] for number in range(KEYS)})
        yield caches["default"]


class Interrupted(Exception):
    pass


@pytest.fixture
def alarm() -> Iterator[Callable[[float], None]]:
    """Raise `Interrupted` in the main thread so many seconds later."""

    def strike(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, strike)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)  # type: ignore[misc]
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_command_interrupted_by_a_signal_leaves_no_reply_behind(
    cache: Any, alarm: Callable[[float], None]
) -> None:
    """As when a worker's timeout strikes: what the next request reads is its own."""
    interrupted = 0
    for round_ in range(25):
        try:
            alarm(random.uniform(0.001, LATE_SECONDS))
            cache.get(f"key{round_ % KEYS}")
            alarm(0)
        except Interrupted:
            interrupted += 1
        number = (round_ + 7) % KEYS
        assert cache.get(f"key{number}") == [number]
    assert interrupted > 10


def test_cancelled_tasks_cross_no_replies(cache: Any) -> None:
    """A visitor who leaves cancels the task in the middle of a command."""

    async def visitor(number: int) -> int:
        cancelled = 0
        for _ in range(5):
            try:
                held = await asyncio.wait_for(
                    cache.aget(f"key{number}"), random.uniform(0, 4 * LATE_SECONDS)
                )
                assert held == [number]
            except TimeoutError:
                cancelled += 1
        return cancelled

    async def everyone() -> int:
        return sum(await asyncio.gather(*map(visitor, range(KEYS))))

    assert asyncio.run(everyone()) > 10
