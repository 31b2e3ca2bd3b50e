"""A real memcached for one test session, on a free loopback port."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.redis_server import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def running_memcached() -> Iterator[str]:
    """Run a memcached and yield its `host:port`; a machine without one fails the test."""
    program = shutil.which("memcached")
    if program is None:
        pytest.fail("memcached is not installed: apt-get install memcached", pytrace=False)
    port = free_port()
    server = subprocess.Popen(
        [program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", getpass.getuser()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _answers(server, port), why="memcached did not answer")
        yield f"127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def _answers(server: subprocess.Popen[bytes], port: int) -> bool:
    assert server.poll() is None, f"memcached ended with code {server.returncode}"
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
    ):
        connection.sendall(b"version\r\n")
        return connection.recv(64).startswith(b"VERSION")
    return False


@pytest.fixture(scope="session")
def memcached() -> Iterator[str]:
    """The address of a real memcached that lives as long as the test session."""
    with running_memcached() as address:
        yield address
