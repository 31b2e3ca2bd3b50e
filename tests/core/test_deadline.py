"""One deadline for an operation, whatever the server does with its bytes."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis

from contextcache.exceptions import ServerError
from contextcache.servers import connect
from contextcache.servers.deadline import Deadline, current, time_left
from contextcache.servers.operations import Operation, Server
from tests.redis_server import answered, running_server
from tests.tls import make_certificate, running_tls
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

TIMEOUT = 0.2
AT_MOST = 10.0  # on a busy machine; a timeout that began anew with each byte would take 20 s


class Clock:
    """The clock of deadlines, which goes when it is told to; sockets have their own."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("operations", "deadline"):
        monkeypatch.setattr(f"contextcache.servers.{module}.time", clock)
    return clock


@contextlib.contextmanager
def speaking(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server that greets like Redis and then does `answer`, and yield its URL."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while True:
                request = connection.recv(65536)
                if not request:
                    return
                if b"GET" in request or b"SET\r\n" in request:
                    answer(connection)
                    over.wait(PATIENCE)
                    return
                # Of what a connection begins with, nothing is understood, as by an old server.
                connection.sendall(b"-ERR unknown command\r\n" * request.count(b"*"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0?protocol=2"
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)


def drip(connection: socket.socket) -> None:
    for byte in b"$1000\r\n" + b"x" * 993:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def half(connection: socket.socket) -> None:
    connection.sendall(b"$1000\r\nxxxxx")


def nothing(connection: socket.socket) -> None:
    """Say nothing at all."""


@pytest.mark.parametrize("answer", [drip, half, nothing])
@pytest.mark.parametrize("call", ["command", "pipeline", "transaction"])
def test_a_reply_that_does_not_end_is_given_up(
    answer: Callable[[socket.socket], None], call: str
) -> None:
    """One byte at a time, five bytes, or none: the operation ends when its time is over."""
    with speaking(answer) as url:
        client = connect(url, timeout=TIMEOUT)
        started = time.monotonic()
        pipeline = client.pipeline(transaction=call == "transaction").get("key").get("other")
        with pytest.raises(ServerError, match="no answer in time") as caught:
            client.get("key") if call == "command" else pipeline.execute()
        assert time.monotonic() - started < AT_MOST
        assert isinstance(caught.value, redis.TimeoutError)


def test_a_reply_that_ends_half_way_is_a_lost_connection() -> None:
    """Nobody waits for the rest of it, until the time is over."""
    with (
        speaking(lambda connection: (half(connection), connection.close())) as url,  # type: ignore[arg-type, return-value]
        pytest.raises(ServerError, match="the connection was lost"),
    ):
        connect(url, timeout=60).get("key")


def test_garbage_is_not_taken_for_a_reply() -> None:
    """Something that is no Redis is said to be none."""
    with speaking(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")) as url:
        with pytest.raises(ServerError, match="what answers is not Redis") as caught:
            connect(url).get("key")
        assert isinstance(caught.value, redis.InvalidResponse)


def test_an_address_that_swallows_a_connection_is_given_up() -> None:
    """As behind a firewall: the backlog of this server is full, so nobody is connected."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        started = time.monotonic()
        with pytest.raises(ServerError, match="no answer in time"):
            connect(f"redis://127.0.0.1:{full.getsockname()[1]}/0", timeout=TIMEOUT).get("key")
        assert time.monotonic() - started < AT_MOST


def test_a_large_value_is_given_the_time_it_takes(redis_url: str) -> None:
    """In chunks and with a deadline that moves, it comes back as it was."""
    client = connect(redis_url)
    value = b"x" * 2**26
    assert client.set("large", value)
    assert client.get("large") == value
    client.delete("large")


def test_bytes_are_worth_the_time_they_take(clock: Clock) -> None:
    """16 MiB move the deadline by a second, and no single wait is longer than all of it was."""
    deadline = Deadline(0.5)
    with deadline:
        assert deadline.left() == 0.5
        clock.now = 0.4
        assert deadline.left() == pytest.approx(0.1)
        deadline.moved(2**24)
        assert deadline.left() == 0.5
        clock.now = 1.6
        assert deadline.left() < 0
        deadline.moved(1)
        assert deadline.left() < 0


def test_a_deadline_within_another_one_is_a_part_of_it(clock: Clock) -> None:
    """Whoever asks a second server meanwhile does not get more time."""
    assert time_left(7) == 7
    deadline = Deadline(0.5)
    with deadline:
        assert current.get()() is deadline
        assert (time_left(None), time_left(7), time_left(0.1)) == (0.5, 0.5, 0.1)
    assert current.get()() is None


class Interrupt(BaseException):
    """What a signal handler raises, such as a time limit of Celery's."""


def interrupted(at: int, block: Callable[[], object]) -> bool:
    """Enter and leave a block, and return whether that has as many instructions as `at`."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if frame.f_code.co_name not in {"__enter__", "__exit__"}:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count == at:
                raise Interrupt
        return trace

    tracer = sys.gettrace()
    sys.settrace(trace)
    try:
        block()
    except Interrupt:
        return True
    finally:
        sys.settrace(tracer)
    return False


def test_an_interrupt_leaves_no_deadline_behind() -> None:
    """Wherever a block is entered or left; what it has not undone is no limit of later waits."""

    def deadline() -> None:
        with Deadline(0.5):
            pass

    def operation() -> None:
        with Operation(Server("redis://server", 0.5, object)):
            pass

    for block in (deadline, operation):
        left = []
        for at in itertools.count(1):
            if not interrupted(at, block):
                break
            left.append(time_left(None))
        assert len(left) > 10
        assert set(left) == {None}


def test_a_large_value_the_server_does_not_take_is_given_up() -> None:
    """No byte moves, and no single wait is longer than the deadline."""
    with running_server() as server:
        client = connect(server.url, timeout=TIMEOUT)
        answered(client.ping)
        server.hold()
        started = time.monotonic()
        with pytest.raises(ServerError, match="no answer in time"):
            client.set("large", b"x" * 2**25)
        assert time.monotonic() - started < AT_MOST
        server.go_on()


def test_a_connection_that_was_made_slowly_is_as_patient_as_any(
    redis_url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was left when it was made is no limit of what comes after."""
    client = connect(redis_url, timeout=100, client_name="slow")
    pool = client.connection_pool
    plain = pool.connection_class._connect

    def slowly(connection: object) -> object:
        clock.now += 70
        return plain(connection)

    monkeypatch.setattr(pool.connection_class, "_connect", slowly)
    waits = []
    for _ in range(2):
        client.ping()
        connection = pool.get_connection()
        waits.append(connection._sock.gettimeout())
        pool.release(connection)
    assert waits == [30, 100]


# --- What is left behind ------------------------------------------------------------------------


def test_a_late_reply_is_nobody_elses() -> None:
    """The connection of an operation that was given up is not used again."""
    with running_server() as server, server.client() as plain:
        plain.mset({"a": 1, "b": 2})
        client = connect(server.url, timeout=0.1)
        answered(client.ping)
        server.hold()
        with pytest.raises(ServerError):
            client.get("a")
        server.go_on()
        plain.ping()  # what was asked before has an answer now
        assert answered(lambda: client.get("b")) == b"2"
        assert answered(lambda: client.get("a")) == b"1"


def test_a_handshake_that_was_cut_short_is_done_again() -> None:
    """A connection that has not chosen its database yet would read from another one."""
    with running_server() as server:
        client = connect(server.url.replace("/0", "/3"))
        connection = client.connection_pool.get_connection()
        connection.disconnect()
        connection.send_command = _interrupt
        with pytest.raises(KeyboardInterrupt):
            connection.connect()
        del connection.send_command
        client.connection_pool.release(connection)
        client.set("key", b"value")
        with server.client() as plain:
            assert plain.execute_command("INFO", "keyspace").keys() == {"db3"}


def _interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_connection_nobody_needs_is_closed(
    redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy moment of eight threads leaves one connection for the quiet hour after it."""
    client = connect(redis_url, client_name="idle")
    barrier = threading.Barrier(8)

    def work() -> None:
        with client.pipeline() as pipeline:
            pipeline.watch("key")  # which holds the connection
            barrier.wait(PATIENCE)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def connected() -> int:
        return sum(row["name"] == "idle" for row in redis_client.client_list())

    assert connected() == 8
    monkeypatch.setattr("contextcache.servers.fast.IDLE_SECONDS", 0.05)
    time.sleep(0.1)
    client.get("key")
    until(lambda: connected() == 1, why="the others were not closed")


# --- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a certificate for this machine, signed by itself."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def test_inside_tls_the_same_holds(certificate: Path) -> None:
    """`rediss://` checks the certificate, and has the deadline, for large values as well."""
    with running_tls(certificate) as (server, url):
        trusting = connect(url, ssl_ca_certs=str(certificate / "cert.pem"))
        for size in (1, 2**10, 2**25):
            trusting.set("key", b"x" * size)
            assert trusting.get("key") == b"x" * size
        with pytest.raises(ServerError) as caught:
            connect(url).get("key")
        assert str(caught.value) == (
            f"Redis at {url} cannot be reached: the TLS handshake failed; check its certificate, "
            "and whether it speaks TLS at all"
        )
        hasty = connect(url, timeout=TIMEOUT, ssl_ca_certs=str(certificate / "cert.pem"))
        answered(hasty.ping)
        server.hold()
        started = time.monotonic()
        with pytest.raises(ServerError, match="no answer in time"):
            hasty.get("key")
        assert time.monotonic() - started < AT_MOST
        server.go_on()


def test_a_server_that_does_not_speak_tls_is_given_up() -> None:
    """The handshake is a part of the operation, and is named: a plain Redis is silent in it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        client = connect(f"rediss://127.0.0.1:{silent.getsockname()[1]}/0", timeout=TIMEOUT)
        with pytest.raises(
            ServerError, match="TLS handshake was not answered in time; see whether it speaks TLS"
        ):
            client.get("key")
        assert time.monotonic() - started < AT_MOST
