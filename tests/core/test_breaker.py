"""The circuit breaker, by itself and in front of a real server that dies and comes back."""

from __future__ import annotations

import functools
import logging
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest
import redis

from contextcache.exceptions import ServerError
from contextcache.servers import connect
from contextcache.servers.breaker import PAUSE, THRESHOLD, Breaker
from tests.redis_server import answered, free_port, running_server
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.redis_server import RedisServer

REASON = "no answer in time", "see whether the server is overloaded, or raise TIMEOUT"


class Clock:
    """The clock of breakers, which goes when it is told to; nothing else is told by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("contextcache.servers.breaker.time", self)

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def opened(timeout: float = 0.5) -> Breaker:
    breaker = Breaker("redis://host:6379/0", timeout)
    for _ in range(THRESHOLD):
        breaker.failed(*REASON)
    return breaker


def test_it_opens_after_failures_in_a_row(clock: Clock) -> None:
    """An answer in between begins the count anew."""
    breaker = Breaker("redis://host", 0.5)
    for _ in range(3):
        for _ in range(THRESHOLD - 1):
            breaker.failed(*REASON)
            assert breaker.admits()
        breaker.succeeded()
    for _ in range(THRESHOLD):
        assert breaker.admits()
        breaker.failed(*REASON)
    assert not breaker.admits()


def test_one_operation_tries_after_each_pause(clock: Clock) -> None:
    """The others are refused meanwhile, and nothing is lost if it never tells how it went."""
    breaker = opened()
    for _ in range(3):
        clock.wait(PAUSE - 0.01)
        assert not breaker.admits()
        clock.wait(0.01)
        assert [breaker.admits() for _ in range(3)] == [True, False, False]


def test_a_try_that_fails_leaves_it_open_and_one_that_is_answered_closes_it(clock: Clock) -> None:
    """Neither needs as many as it took to open it."""
    breaker = opened()
    clock.wait(PAUSE)
    assert breaker.admits()
    breaker.failed(*REASON)
    assert not breaker.admits()
    clock.wait(PAUSE)
    assert breaker.admits()
    breaker.succeeded()
    assert breaker.admits()
    assert breaker.admits()


def test_a_patient_operation_makes_the_pause_longer(clock: Clock) -> None:
    """Else several would wait for the silent server at the same time."""
    breaker = opened(timeout=3)
    assert breaker.pause == 6
    clock.wait(PAUSE)
    assert not breaker.admits()
    clock.wait(5)
    assert breaker.admits()


def test_it_tells_once_that_it_opens_and_once_that_it_closes(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the server, the reason and the remedy; no line is repeated."""
    breaker = opened()
    for _ in range(30):
        clock.wait(PAUSE)
        assert breaker.admits()
        breaker.failed(*REASON)
    for _ in range(3):
        breaker.succeeded()
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            (
                "contextcache: Redis at redis://host:6379/0 is left alone after 3 failures in a "
                "row and tried every 1 s: no answer in time; see whether the server is "
                "overloaded, or raise TIMEOUT"
            ),
        ),
        (
            logging.WARNING,
            "contextcache: Redis at redis://host:6379/0 answers again; it was left alone for 30 s",
        ),
    ]


def test_of_many_threads_one_tries(clock: Clock) -> None:
    """However many ask at the moment the pause ends."""
    breaker = opened()
    clock.wait(PAUSE)
    barrier = threading.Barrier(16)
    admitted = []

    def ask() -> None:
        barrier.wait(PATIENCE)
        admitted.append(breaker.admits())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(admitted) == [False] * 15 + [True]


# --- In front of a server -----------------------------------------------------------------------


@pytest.fixture
def server() -> RedisServer:
    with running_server() as server:
        yield server  # type: ignore[misc]


def refused(client: redis.Redis) -> str:
    with pytest.raises(ServerError) as caught:
        client.get("key")
    assert isinstance(caught.value, redis.RedisError)
    return str(caught.value)


def test_a_silent_server_is_waited_for_three_times(server: RedisServer, clock: Clock) -> None:
    """Then a page that asks it twenty times is answered at once, and the server is back soon."""
    client = connect(server.url, timeout=0.1)
    answered(lambda: client.set("key", b"value"))
    server.hold()
    started = time.monotonic()
    for _ in range(THRESHOLD):
        assert "cannot be reached: no answer in time" in refused(client)
    assert time.monotonic() - started > THRESHOLD * 0.05
    for _ in range(20):
        assert refused(client) == (
            f"Redis at {server.url} is left alone for 1 s at most: no answer in time; see whether "
            "the server is overloaded, or raise TIMEOUT"
        )
    server.go_on()
    assert answered(lambda: (clock.wait(PAUSE), client.get("key"))) == (None, b"value")
    assert answered(lambda: client.get("key")) == b"value"


@pytest.mark.parametrize("call", ["pipeline", "transaction", "watch"])
def test_a_pipeline_is_left_alone_as_well(call: str) -> None:
    """It is one operation, as a command is."""
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    for _ in range(THRESHOLD):
        refused(client)
    pipeline = client.pipeline(transaction=call == "transaction")
    with pytest.raises(ServerError, match="is left alone"):
        pipeline.watch("key") if call == "watch" else pipeline.get("key").execute()


def test_a_server_that_answers_is_never_left_alone(server: RedisServer) -> None:
    """Whatever it says: out of memory, wrong type, no script of that name."""
    client = connect(server.url)
    client.lpush("list", 1)
    client.config_set("maxmemory", 1)
    for _ in range(2 * THRESHOLD):
        with pytest.raises(ServerError, match="takes no writes"):
            client.set("key", b"value")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.get("list")
    assert client.ping()


class Interrupted(BaseException):
    """What a signal handler, gevent.Timeout or a worker's deadline raises."""


def interrupt(call: Callable[[], object], seconds: float) -> None:
    """Raise `Interrupted` in the middle of a call that would take for ever."""

    def strike(*_: object) -> None:
        raise Interrupted

    def struck() -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()

    before = signal.signal(signal.SIGALRM, strike)
    try:
        with pytest.raises(Interrupted):
            struck()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_interrupted_operation_says_nothing_about_the_server(server: RedisServer) -> None:
    """Three visitors who give up do not take the cache from everybody else, nor their replies."""
    client = connect(server.url)
    client.mset({f"key{number}": number for number in range(2 * THRESHOLD)})
    server.hold()
    for number in range(2 * THRESHOLD):
        interrupt(functools.partial(client.get, f"key{number}"), 0.02)
    server.go_on()
    assert client.get("key0") == b"0"
    assert client.get("none") is None


def test_clients_of_one_server_in_a_forked_child_start_closed(
    server: RedisServer, clock: Clock
) -> None:
    """What the parent has learnt about the network is not the child's."""
    client = connect(server.url, timeout=0.1)
    answered(lambda: client.get("key"))
    server.hold()
    for _ in range(THRESHOLD):
        refused(client)
    server.go_on()
    assert "is left alone" in refused(client)
    client.start_afresh()  # type: ignore[attr-defined]  # as in the child
    assert answered(lambda: client.get("key")) is None
