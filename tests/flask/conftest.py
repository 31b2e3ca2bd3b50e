"""What the tests of the Flask adapter share."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis
    from flask import Flask


@pytest.fixture
def commands(redis_client: redis.Redis) -> Callable[[], dict[str, int]]:
    """Return a function that tells which commands Redis has been sent since it was last called."""
    before: dict[str, int] = {}

    def since() -> dict[str, int]:
        nonlocal before
        now: dict[str, int] = {
            name.removeprefix("cmdstat_"): row["calls"]
            for name, row in redis_client.info("commandstats").items()
        }
        sent = {name: calls - before.get(name, 0) for name, calls in now.items()}
        before = now
        ours = {"info", "hello", "select", "flushall", "client|setinfo", "client", "ping"}
        return {name: calls for name, calls in sent.items() if calls and name not in ours}

    since()
    return since


@pytest.fixture
def serve() -> Iterator[Callable[[Flask], str]]:
    """Return a function that serves an app over loopback, one thread per request."""
    with contextlib.ExitStack() as stack:

        def start(app: Flask) -> str:
            server: Any = make_server("127.0.0.1", 0, app, threaded=True)
            often = {"poll_interval": 0.02}  # asks whether to end
            thread = threading.Thread(target=server.serve_forever, kwargs=often, daemon=True)
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return f"http://127.0.0.1:{server.server_port}"

        yield start
