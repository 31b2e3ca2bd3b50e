"""Connections and pools: one owner at a time, and no reply for anybody else.

All of it with the private names of redis-py, and with its public ones alone.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from redis.connection import BlockingConnectionPool, ConnectionPool

from contextcache.exceptions import ServerError
from contextcache.servers import connect, connections
from tests.waiting import exit_code, until

if TYPE_CHECKING:
    from collections.abc import Callable

PATHS = ["private", "public"]
numbers = itertools.count()


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let clients that are made now use the private names of redis-py, or its public ones only."""
    if request.param == "public":
        monkeypatch.setattr(redis, "__version__", "99.0.0")
    return str(request.param)


def new_client(url: str, **options: Any) -> Any:
    """Return a client that no other test has."""
    return connect(url, client_name=f"test-{next(numbers)}", **options)


# --- Lending --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool_class", [None, BlockingConnectionPool])
def test_a_connection_that_comes_back_twice_is_lent_once(
    redis_url: str, path: str, pool_class: Any
) -> None:
    """Two threads on one connection read each other's replies."""
    pool = new_client(redis_url, pool_class=pool_class).connection_pool
    connection = pool.get_connection()
    pool.release(connection)
    pool.release(connection)
    assert pool.get_connection() is connection
    assert pool.get_connection() is not connection


@pytest.mark.parametrize("pool_class", [None, BlockingConnectionPool])
def test_a_connection_of_another_pool_is_refused(
    redis_url: str, path: str, pool_class: Any
) -> None:
    """Else a command for one node would be sent to another, which answers."""
    pool, other = (new_client(redis_url, pool_class=pool_class).connection_pool for _ in range(2))
    connection = pool.get_connection()
    other.release(connection)
    assert other.get_connection() is not connection
    pool.release(connection)
    other.release(connection)
    assert pool.get_connection() is connection
    assert other.get_connection() is not connection


def test_a_blocking_pool_gets_over_a_server_that_is_gone(path: str) -> None:
    """A connection that cannot be made is not lent for ever."""
    client = new_client(
        "redis://127.0.0.1:1/0", pool_class=BlockingConnectionPool, max_connections=1
    )
    for _ in range(3):
        with pytest.raises(ServerError, match=r"connection refused|is left alone"):
            client.get("key")


class Lent:
    """A connection that somebody has, and what it has sent without reading the reply."""

    def __init__(self, connection: Any, pool: Any) -> None:
        self.connection = connection
        self.pool = pool


class Borrowing(RuleBasedStateMachine):
    """Whatever happens to connections, each has one owner, and each reply is its command's."""

    def __init__(self, clients: list[Any], admin: redis.Redis) -> None:
        super().__init__()
        self.clients = clients
        self.pools = [client.connection_pool for client in clients]
        self.admin = admin
        self.forks = 0
        self.lent: list[Lent] = []
        self.former: list[Lent] = []
        self.words = (f"word {number}".encode() for number in itertools.count())

    @rule(number=st.integers(0, 1))
    def borrow(self, number: int) -> None:
        """Lend a connection that nobody has, of the right pool, and clean."""
        if len(self.lent) > 5:
            return
        connection = self.pools[number].get_connection()
        assert all(connection is not one.connection for one in self.lent)
        one = Lent(connection, self.pools[number])
        self.lent.append(one)
        self.former = [old for old in self.former if old.connection is not connection]
        self._ask(one)

    def _ask(self, one: Lent) -> None:
        word = next(self.words)
        one.connection.send_command("ECHO", word)
        assert one.connection.read_response() == word

    @precondition(lambda self: self.lent)
    @rule(data=st.data())
    def ask(self, data: st.DataObject) -> None:
        """Send a command and read its reply."""
        self._ask(data.draw(st.sampled_from(self.lent)))

    @precondition(lambda self: self.lent)
    @rule(data=st.data(), disturb=st.sampled_from(["", "send", "some", "none", "close", "kill"]))
    def give_back(self, data: st.DataObject, disturb: str) -> None:
        """Give a connection back, perhaps in the middle of something."""
        one = self.lent.pop(data.draw(st.integers(0, len(self.lent) - 1)))
        connection = one.connection
        if disturb == "send":
            connection.send_command("ECHO", next(self.words))
        elif disturb == "some":
            commands = [("ECHO", next(self.words)) for _ in range(3)]
            connection.send_packed_command(connection.pack_commands(commands))
            connection.read_response()
        elif disturb == "none":  # packed, and interrupted before it was sent
            connection.pack_commands([("ECHO", next(self.words))])
        elif disturb == "close":
            connection.disconnect()
        elif disturb == "kill":
            connection.send_command("CLIENT", "ID")
            self.admin.client_kill_filter(_id=connection.read_response(), skipme=False)
        one.pool.release(connection)
        self.former.append(one)

    @precondition(lambda self: self.former)
    @rule(data=st.data())
    def give_back_again(self, data: st.DataObject) -> None:
        """Give back what has been given back, and nobody has got since."""
        one = data.draw(st.sampled_from(self.former))
        one.pool.release(one.connection)

    @precondition(lambda self: self.lent or self.former)
    @rule(data=st.data())
    def give_to_another(self, data: st.DataObject) -> None:
        """Give a connection to the pool that it is not of."""
        one = data.draw(st.sampled_from([*self.lent, *self.former]))
        other = self.pools[one.pool is self.pools[0]]
        other.release(one.connection)

    @rule(number=st.integers(0, 1))
    def use_the_client(self, number: int) -> None:
        """Send a command, and pipelines that end well and in an interrupt."""
        client, word = self.clients[number], next(self.words)
        assert client.echo(word) == word
        assert client.pipeline().echo(word).echo(b"x").execute() == [word, b"x"]
        with contextlib.suppress(KeyboardInterrupt), client.pipeline() as pipeline:
            pipeline.watch("key")
            raise KeyboardInterrupt

    @rule(number=st.integers(0, 1))
    def close_what_is_idle(self, number: int) -> None:
        """Close the pool, as `close()` does; who has a connection keeps it."""
        self.pools[number].disconnect(inuse_connections=False)

    @precondition(lambda self: not self.forks)
    @rule()
    def fork(self) -> None:
        """A child has connections of its own, whatever the parent's are in the middle of."""
        self.forks += 1
        child = os.fork()
        if not child:
            status = 1
            try:
                for client in self.clients:
                    pool = client.connection_pool
                    connection = pool.get_connection()
                    known = [*self.lent, *self.former]
                    assert all(connection is not one.connection for one in known)
                    pool.release(connection)
                    assert client.echo(b"child") == b"child"
                status = 0
            finally:
                os._exit(status)
        assert exit_code(child) == 0

    def teardown(self) -> None:
        """Give everything back, so that the server is left alone."""
        for one in self.lent:
            self._ask(one)
            one.pool.release(one.connection)
        for pool in self.pools:
            pool.disconnect()


# The tests' own servers and pytest-xdist have threads, of which Python warns since 3.12.
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_connection_has_one_owner_whatever_happens(redis_url: str, path: str) -> None:
    """A state machine of everything that is done to a connection."""
    clients, admin = [new_client(redis_url) for _ in range(2)], redis.Redis.from_url(redis_url)
    examples = settings(max_examples=40, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(lambda: Borrowing(clients, admin), settings=examples)


# --- Interrupts -----------------------------------------------------------------------------------


class Interrupt(BaseException):
    """What a signal handler raises, such as a time limit of Celery's."""


@pytest.mark.skipif(
    sys.version_info[:2] == (3, 14),
    reason="WARNING: NOT tested on Python 3.14: if a signal handler raises at the beginning of "
    "its `with lock`, the lock stays taken (not so on 3.13 and 3.15), and the next thread hangs",
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_thread_leaves_no_reply_behind(redis_url: str, path: str) -> None:
    """Wherever a command, a pipeline or a transaction is interrupted."""
    client = new_client(redis_url)
    keys = [f"interrupted-{number}" for number in range(50)]
    for key in keys:
        client.set(key, key, ex=60)

    armed = False  # a signal can still be pending when its timer has been stopped

    def interrupt(*_: object) -> None:
        if armed:
            raise Interrupt

    wrong: list[object] = []

    # Not in the loop: from Python 3.14 on, what is raised between an `if` at the end of a loop and
    # the loop's next turn passes by the `with` and `finally` around the loop.
    def ask(key: str) -> None:
        if client.get(key) != key.encode():
            wrong.append(key)
        answers = client.pipeline().get(key).mget(key, "none").execute()
        if answers != [key.encode(), [key.encode(), None]]:
            wrong.append(answers)

    chosen = itertools.cycle(keys)
    previous = signal.signal(signal.SIGALRM, interrupt)
    others = [threading.Thread(target=_read, args=(client, keys, wrong)) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for number in range(200):
            key = next(chosen)
            with contextlib.suppress(Interrupt, ServerError):
                armed = True
                signal.setitimer(signal.ITIMER_REAL, 0.00005 + 0.000005 * (number % 80))
                try:
                    for _ in range(30):  # an interrupt can end in a `__del__`, which ignores it
                        ask(key)
                finally:
                    armed = False  # if it is interrupted here, the timer has run out
                    signal.setitimer(signal.ITIMER_REAL, 0)
            if client.get(key) != key.encode():
                wrong.append(key)
    finally:
        signal.signal(signal.SIGALRM, previous)
        for other in others:
            other.join()
        gc.collect()  # what an interrupt left half made warns here, not in another test
    assert wrong == []


def answers(ask: Callable[[], object]) -> bool:
    """Return whether Redis answers, which must then be right."""
    try:
        right = ask()
    except ServerError:
        return False
    assert right
    return True


def _read(client: Any, keys: list[str], wrong: list[object]) -> None:
    for key in keys * 20:
        if (found := client.get(key)) != key.encode():
            wrong.append((key, found))


def test_a_reply_that_comes_too_late_is_for_nobody(redis_url: str, path: str) -> None:
    """A command that timed out answers in the end, when somebody else could be reading."""
    client = new_client(redis_url, timeout=0.2)
    client.set("late", "late", ex=60)
    for _ in range(3):
        with pytest.raises(ServerError, match="no answer in time"):
            client.execute_command("BLPOP", "nothing", "2")
        until(lambda: answers(lambda: client.get("late") == b"late"))


# --- Which names of redis-py are used -------------------------------------------------------------


def test_a_connection_that_is_closed_is_owed_what_is_sent_next(redis_url: str, path: str) -> None:
    """Sending connects it first, which must not forget the reply that is then owed."""
    pool = new_client(redis_url).connection_pool
    connection = pool.get_connection()
    if not hasattr(connection, "is_connected"):
        pytest.skip("no public name of this redis-py says so")
    connection.disconnect()
    connection.send_command("GET", "key")
    assert connection.owed == 1
    connection.disconnect()
    connection.send_packed_command(connection.pack_commands([("GET", "key")] * 3))
    assert connection.owed == 3
    connection.connect()  # as a pool does before it lends the connection
    assert connection.owed == 0


def test_a_subscriber_hears_every_message(redis_url: str, path: str) -> None:
    """More comes than it has asked for, and none of that makes it connect again."""
    client = new_client(redis_url)
    with client.pubsub() as subscriber:
        subscriber.subscribe("one", "other")
        for number in range(5):
            assert client.publish("other", number) == 1
        heard = [message["data"] for message in itertools.islice(subscriber.listen(), 7)]
    assert heard == [1, 2, b"0", b"1", b"2", b"3", b"4"]
    assert client.set("key", "x")


@pytest.mark.parametrize(
    ("version", "known"),
    [
        ("5.3.0", True),
        ("8.1.0", True),
        ("8.1.3", True),
        ("5.2.1", False),
        ("8.2.0", False),
        ("9.0.0b1", False),
        ("10.0", False),
        ("main", False),
        ("", False),
    ],
)
def test_private_names_are_used_of_known_versions_only(version: str, known: bool) -> None:
    """What stands in the next version, nobody knows."""
    assert connections.is_tested(version) is known


def test_another_version_takes_the_public_names_and_says_so_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And everything works."""
    monkeypatch.setattr(redis, "__version__", "77.0.0")
    for _ in range(2):
        client = new_client(redis_url)
        assert client.set("public", "x", ex=60)
        assert client.get("public") == b"x"
        assert type(client.connection_pool).__mro__[1] is ConnectionPool
    (line,) = caplog.messages
    assert line.startswith(
        "contextcache: redis-py 77.0.0 is none of the versions that contextcache was tested"
    )


def called(function: Callable[[], object]) -> int:
    """Return how many Python functions are called."""
    import sys

    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    function()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_a_small_command_stays_short(redis_url: str) -> None:
    """Each Python call costs a hundredth of a `get`; redis-py's client takes more of them."""
    ours, plain = new_client(redis_url), redis.Redis.from_url(redis_url)
    for one in (ours, plain):
        one.set("short", "x", ex=60)
    assert called(lambda: ours.get("short")) <= 22
    assert called(lambda: ours.get("short")) < called(lambda: plain.get("short"))
