"""A real redis-server for one test session, on a free loopback port and without a disk."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING, TypeVar

import pytest
import redis

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

# Arguments of a server that loses nothing when it is killed: the kernel has all before a reply is
# sent.
KEPT = ("--appendonly", "yes", "--appendfsync", "no")


def free_port() -> int:
    """Return a loopback port nobody listens on, and nobody else here is ever given.

    It is none of those that the system gives to outgoing connections, one of which could take it
    while a server is being restarted; nor is the one 10000 above it, where the nodes of a cluster
    talk to each other.
    """
    with _asking:  # the conformance suites ask in threads, and a generator serves one at a time
        return next(_ports)


def _free_ports() -> Iterator[int]:
    """Yield the ports of this process: a hundred belong to who holds the first of them.

    A port that is only seen to be free may be taken by a suite that runs beside this one, before
    the server that it is meant for has started; and what is on it would answer for that server.
    """
    for first in random.SystemRandom().sample(range(10000, 20000, 100), 100):
        if _is_free(first, hold=True):
            yield from (port for port in range(first + 1, first + 100) if _is_free(port))


def _is_free(port: int, *, hold: bool = False) -> bool:
    with contextlib.suppress(OSError), socket.socket() as probe, socket.socket() as bus:
        probe.bind(("127.0.0.1", port))
        bus.bind(("127.0.0.1", port + 10000))
        if hold:
            probe.detach()  # it stays bound until this process ends
        return True
    return False


_ports = _free_ports()
_asking = threading.Lock()


class RedisServer:
    """A redis-server process on a free loopback port, with a folder of its own.

    It can be killed, held and started again on the same port; what it then still knows is up to
    its `arguments`, which by default keep nothing.

    A machine without redis-server fails the tests that need it; skipping them would let the
    suite pass without having met a Redis.
    """

    def __init__(self, folder: str, *arguments: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail(
                "redis-server is not installed: apt-get install redis-server", pytrace=False
            )
        self.port = free_port()
        self.folder = folder
        self._command = [
            *(program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""),
            *("--appendonly", "no", "--dir", folder, "--loglevel", "warning"),
            *("--repl-diskless-sync-delay", "0", *arguments),  # nobody else will come
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a plain client of its own, which waits and retries as redis-py likes to."""
        return redis.Redis.from_url(self.url)

    def start(self, *more: str, loaded: bool = True) -> None:
        """Start it, with `more` command line arguments this time, and wait until it answers.

        Args:
            more: Further arguments.
            loaded: Whether it must have loaded the data it has kept, too.
        """
        process = subprocess.Popen(
            [*self._command, *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._process = process
        until(lambda: _answers(process, self.port, loaded), why="redis-server did not answer")

    def kill(self) -> None:
        """End it at once, as a power failure or the OOM killer does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def hold(self) -> None:
        """Stop the process; the kernel still accepts connections for it."""
        process = self._signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # until it really does nothing any more

    def go_on(self) -> None:
        """Let a held process continue."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it does not run"
        self._process.send_signal(number)
        return self._process


@contextlib.contextmanager
def running_server(*arguments: str) -> Iterator[RedisServer]:
    """Run a redis-server with further command line `arguments`."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(folder, *arguments)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextlib.contextmanager
def running_redis(*arguments: str) -> Iterator[str]:
    """Run a redis-server with further command line `arguments` and yield its URL."""
    with running_server(*arguments) as server:
        yield server.url


def _answers(server: subprocess.Popen[bytes], port: int, loaded: bool) -> bool:
    assert server.poll() is None, f"redis-server ended with code {server.returncode}"
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
    ):
        connection.sendall(b"PING\r\n")
        # A server with a password answers too, with an error.
        answer = connection.recv(64)
        return answer.startswith((b"+", b"-")) and not (loaded and answer.startswith(b"-LOADING"))
    return False


def answered(call: Callable[[], T]) -> T:
    """Return what `call` returns, once Redis answers it in time, however short that is."""
    answers: list[T] = []

    def has_answered() -> bool:
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
            answers.append(call())
        return bool(answers)

    until(has_answered, why="Redis did not answer")
    return answers[0]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a real Redis that lives as long as the test session."""
    with running_redis() as url:
        yield url


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A plain client of that Redis, emptied before each test that asks for it."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture(params=["redis", "fakeredis"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty server: a real one, and the embedded one that is a product feature."""
    if request.param == "fakeredis":
        return f"fakeredis://{secrets.token_hex(8)}/0"
    request.getfixturevalue("redis_client")  # empties it
    url: str = request.getfixturevalue("redis_url")
    return url
