"""Loaded into the suites of Flask-Caching and cachelib: puts our backends in place of theirs."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

import cachelib
import flask_caching
import pytest
import redis
from flask_caching import backends

from contextcache_flask import ContextCache, RedisCache, guarded

if TYPE_CHECKING:
    from collections.abc import Callable

    import flask

MODE = os.environ["CONTEXTCACHE_SUITE"]
REDIS = "redis://127.0.0.1:6360/0"


def behind_the_guard(kind: type[Any]) -> type[Any]:
    """Return a class whose every object is guarded as soon as it has been made."""

    class Guarded(kind):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            guarded(self)

    functools.update_wrapper(Guarded, kind, updated=())
    return Guarded


def before_init_app(prepare: Callable[[flask.Flask], object]) -> None:
    """Call `prepare` with each application before it gets its cache."""
    initialise = flask_caching.Cache.init_app

    @functools.wraps(initialise)
    def init_app(self: Any, app: flask.Flask, config: Any = None) -> None:
        prepare(app)
        initialise(self, app, config)

    flask_caching.Cache.init_app = init_app  # type: ignore[method-assign]


def move_to_redis(app: flask.Flask) -> None:
    """Let an application that would keep its cache in memory keep it in Redis."""
    if app.config.get("CACHE_TYPE") == "SimpleCache":
        app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_URL=REDIS)


if MODE == "guarded":
    for module in (cachelib, backends):
        for name in ("SimpleCache", "FileSystemCache", "RedisCache", "MemcachedCache"):
            setattr(module, name, behind_the_guard(getattr(module, name)))
    before_init_app(ContextCache)
elif MODE == "ours-on-redis":
    backends.RedisCache = RedisCache  # type: ignore[misc,assignment]

if MODE.endswith("on-redis"):
    before_init_app(move_to_redis)


@pytest.fixture(autouse=True)
def _empty_redis() -> None:
    """Let no test find what another one has stored."""
    redis.Redis.from_url(REDIS).flushdb()
