"""Which backends a shop runs on, chosen by two environment variables.

SHOP_BACKEND: `contextcache` (default) or `stock`, what the frameworks ship without it.
REDIS_URL: a Redis to use; the default is the embedded `fakeredis://`.
"""

from __future__ import annotations

import os
from threading import Thread

BACKENDS = ("stock", "contextcache")
EMBEDDED = "fakeredis://"


def chosen_backend() -> str:
    """Return the backend named by SHOP_BACKEND."""
    backend = os.environ.get("SHOP_BACKEND", "contextcache")
    if backend not in BACKENDS:
        raise SystemExit(f"SHOP_BACKEND is {backend!r}; choose one of: {', '.join(BACKENDS)}")
    return backend


def redis_url(backend: str) -> str:
    """Return the URL of the Redis that `backend` is to use.

    The stock backends know no `fakeredis://`. For them the embedded server answers on a free
    loopback port, so that they run unchanged.
    """
    url = os.environ.get("REDIS_URL", EMBEDDED)
    if backend == "stock" and url.startswith(EMBEDDED):
        return _serve_fakeredis()
    return url


def _serve_fakeredis() -> str:
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0))
    server.daemon_threads = True  # an open connection must not keep the process alive
    Thread(target=server.serve_forever, daemon=True).start()
    return f"redis://127.0.0.1:{server.server_address[1]}/0"
