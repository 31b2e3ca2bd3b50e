"""A real redis-server for one test session, on a free loopback port and without a disk."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

import pytest
import redis

if TYPE_CHECKING:
    from collections.abc import Iterator

START_SECONDS = 20


def free_port() -> int:
    """Return a loopback port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running_redis(*arguments: str) -> Iterator[str]:
    """Run a redis-server with further command line `arguments` and yield its URL.

    A machine without redis-server fails the tests that need it; skipping them would let the
    suite pass without having met a Redis.
    """
    program = shutil.which("redis-server")
    if program is None:
        pytest.fail("redis-server is not installed: apt-get install redis-server", pytrace=False)
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [
                *(program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""),
                *("--appendonly", "no", "--dir", folder, "--loglevel", "warning", *arguments),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_answers(server, port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.kill()
            server.wait()


def _wait_until_it_answers(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            pytest.fail(f"redis-server ended with code {server.returncode}", pytrace=False)
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                # A server with a password answers too, with an error.
                if connection.recv(64)[:1] in (b"+", b"-"):
                    return
        except OSError:
            time.sleep(0.01)
    pytest.fail(f"redis-server did not answer within {START_SECONDS} s", pytrace=False)


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
