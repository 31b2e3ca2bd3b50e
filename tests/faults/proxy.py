"""A small TCP relay on loopback that stands between a client and Redis and can spoil the replies.

Commands pass untouched, so Redis does what it was asked; it is the answer that goes wrong. What
has not been sent when the spoiling ends is sent then, as after a stall of a real network: a
client that uses such a connection again reads the answer to another question.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Spoiler = Callable[[socket.socket, bytes, threading.Event], None]


LATE_SECONDS = 0.02


class Proxy:
    """A relay from a free port to `port`, for as long as it is used as a context manager."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._spoiler: Spoiler | None = None
        self._well = threading.Event()
        self._well.set()
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Proxy:
        relay = self._relay

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._well.set()
        self._server.shutdown()
        self._thread.join()
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    @property
    def url(self) -> str:
        """The URL under which Redis seems to be."""
        return f"redis://127.0.0.1:{self.port}/0"

    @contextlib.contextmanager
    def spoiling(self, spoiler: Spoiler) -> Iterator[None]:
        """Let `spoiler` handle each reply, instead of passing it on."""
        self._well.clear()
        self._spoiler = spoiler
        try:
            yield
        finally:
            self._spoiler = None
            self._well.set()

    def _relay(self, client: socket.socket) -> None:
        """Carry one connection, both ways, until either side ends it."""
        try:
            server = socket.create_connection(self._target)
        except OSError:
            return
        self._open |= {client, server}
        back = threading.Thread(target=self._carry_back, args=(server, client), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            while chunk := client.recv(65536):
                server.sendall(chunk)
        _end(server)
        back.join()
        server.close()
        self._open -= {client, server}

    def _carry_back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := server.recv(65536):
                if self._spoiler is None:
                    client.sendall(chunk)
                else:
                    self._spoiler(client, chunk, self._well)
        _end(client)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


# --- What may happen to a reply -------------------------------------------------------------------


def half_then_silence(client: socket.socket, reply: bytes, well: threading.Event) -> None:
    """Send the first half, and the rest only when all is well again."""
    client.sendall(reply[: len(reply) // 2])
    well.wait()
    client.sendall(reply[len(reply) // 2 :])


def half_then_end(client: socket.socket, reply: bytes, well: threading.Event) -> None:
    """Send the first half and close the connection in good order."""
    client.sendall(reply[: len(reply) // 2])
    _end(client)


def drip(client: socket.socket, reply: bytes, well: threading.Event) -> None:
    """Send a byte now and then: each read succeeds, and the reply never ends."""
    while reply and not well.wait(0.2):
        client.sendall(reply[:1])
        reply = reply[1:]
    client.sendall(reply)


def garbage(client: socket.socket, reply: bytes, well: threading.Event) -> None:
    """Send what is not the protocol of Redis, as a web server on its port would."""
    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    _end(client)


def reset(client: socket.socket, reply: bytes, well: threading.Event) -> None:
    """Reset the connection, as a firewall or a restarted load balancer does."""
    at_once: Any = struct.pack("ii", 1, 0)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    client.shutdown(socket.SHUT_RD)  # else the other direction, which waits there, keeps it open
    client.close()


def silence(client: socket.socket, reply: bytes, well: threading.Event) -> None:
    """Send nothing until all is well again."""
    well.wait()
    client.sendall(reply)


def late(client: socket.socket, reply: bytes, well: threading.Event) -> None:
    """Send all of it, but not at once."""
    well.wait(LATE_SECONDS)
    client.sendall(reply)
