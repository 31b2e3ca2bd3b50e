"""An application for a crowd: each visitor stores something from everywhere a request reaches.

Served by a real gunicorn. A view answers with whatever was read back; all of it must be the
visitor's own.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask, copy_current_request_context, g, request, session
from flask_caching import Cache
from werkzeug.local import LocalProxy

from contextcache_flask import ContextCache

app = Flask(__name__)
app.config.update(
    DEBUG=True,  # findings are collected for the header of each response
    SECRET_KEY="sixteen bytes or more",
    CACHE_TYPE="contextcache_flask.RedisCache",
    CONTEXTCACHE_REDIS_URL=os.environ.get("CROWD_REDIS", "fakeredis://crowd"),
    CONTEXTCACHE_SESSION=True,
    CONTEXTCACHE_TIMEOUT=10,  # it is about whose values they are, not about a busy machine
)
cache: Any = Cache(app)
ContextCache(app)

pool = ThreadPoolExecutor(4)
local = threading.local()
who: contextvars.ContextVar[str] = contextvars.ContextVar("who")


class Basket:
    def __init__(self, owner: Any) -> None:
        self.owner = owner
        self.lock = threading.Lock()


def put(key: str, name: str) -> dict[str, str]:
    """Store a basket whose fields are proxies, and return whose the stored one is."""
    cache.set(key, {"basket": Basket(LocalProxy(lambda: g.name)), "request": request, "who": name})
    found = cache.get(key)
    return {
        f"{key} basket": str(found["basket"].owner),
        f"{key} path": found["request"].path.rpartition("/")[2],
        f"{key} who": found["who"],
    }


def arrive(name: str) -> None:
    g.name = local.name = session["name"] = name
    session["basket"] = Basket(LocalProxy(lambda: g.name))
    who.set(name)


@app.get("/visit/<name>")
def visit(name: str) -> dict[str, str]:
    """Store in the view, in a thread of its own, and in a pool that all visitors share."""
    before = session.get("name", name)
    arrive(name)
    seen = {"before": before, **put(f"view:{name}", name)}

    @copy_current_request_context
    def in_thread(kind: str) -> None:
        g.name = name  # a copied request has an application context, and a g, of its own
        seen.update(put(f"{kind}:{name}", name))
        seen[f"{kind} session"] = session["name"]

    thread = threading.Thread(target=in_thread, args=("thread",))
    thread.start()
    thread.join()
    pool.submit(copy_current_request_context(lambda: in_thread("pool"))).result()
    context = contextvars.copy_context()
    seen["context"] = pool.submit(context.run, who.get).result()
    return seen


@app.get("/async/<name>")
async def visit_async(name: str) -> dict[str, str]:
    """Store between awaits."""
    before = session.get("name", name)
    arrive(name)
    await asyncio.sleep(0)
    seen = {"before": before, **put(f"async:{name}", name)}
    await asyncio.sleep(0.001)
    seen["after"] = cache.get(f"async:{name}")["who"]
    seen["contextvar"] = who.get()
    return seen


@app.get("/mine/<name>")
def mine(name: str) -> dict[str, str]:
    """Read what the session holds."""
    return {"name": session["name"], "basket": str(session["basket"].owner)}
