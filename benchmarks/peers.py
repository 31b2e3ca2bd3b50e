"""The caches people use today, and ours: the same four operations, against the same Redis."""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
from cachelib import RedisCache as CachelibCache
from django.core.cache import caches
from dogpile.cache import make_region
from flask import Flask
from flask_caching import Cache

from benchmarks.measuring import race
from benchmarks.report import ratio_table
from benchmarks.values import catalogue, profile, rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measuring import Effort
    from benchmarks.report import Plots

RAW = "redis-py with hiredis, pickle"
DJANGO, FLASK = "contextcache in Django", "contextcache in Flask-Caching"
TTL = 300  # seconds

FLASK_SECRET = "only for the benchmark"


class Operations(NamedTuple):
    """What a cache does in a request."""

    set: Callable[[str, Any], object]
    get: Callable[[str], Any]
    set_many: Callable[[dict[str, Any]], object]
    get_many: Callable[[list[str]], object]


def raw(url: str) -> Operations:
    client = redis.Redis.from_url(url)

    def set_many(values: dict[str, Any]) -> None:
        pipeline = client.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(key, pickle.dumps(value, 5), ex=TTL)
        pipeline.execute()

    def get_many(keys: list[str]) -> list[Any]:
        return [pickle.loads(payload) for payload in client.mget(keys)]  # type: ignore[union-attr]

    return Operations(
        lambda key, value: client.set(key, pickle.dumps(value, 5), ex=TTL),
        lambda key: pickle.loads(client.get(key)),  # type: ignore[arg-type]
        set_many,
        get_many,
    )


def django(alias: str) -> Operations:
    cache = backend(alias)
    return Operations(
        functools.partial(cache.set, timeout=TTL),
        cache.get,
        functools.partial(cache.set_many, timeout=TTL),
        cache.get_many,
    )


def flask_caching(app: Flask, url: str, kind: str) -> Operations:
    settings = {"CACHE_TYPE": kind, "CACHE_REDIS_URL": url, "CACHE_DEFAULT_TIMEOUT": TTL}
    cache = Cache(app, config=settings)
    return Operations(cache.set, cache.get, cache.set_many, lambda keys: cache.get_many(*keys))


def cachelib(url: str) -> Operations:
    cache = CachelibCache(redis.Redis.from_url(url), default_timeout=TTL)
    return Operations(cache.set, cache.get, cache.set_many, lambda keys: cache.get_many(*keys))


def dogpile(url: str) -> Operations:
    region = make_region().configure(
        "dogpile.cache.redis", arguments={"url": url, "redis_expiration_time": TTL}
    )
    return Operations(region.set, region.get, region.set_multi, region.get_multi)


def backend(alias: str) -> Any:
    """Return a Django cache object of its own, as every thread and process has one."""
    return caches.create_connection(alias)


def everyone(url: str) -> dict[str, Operations]:
    """Return every cache by the name it has in the tables; the first is 1.00."""
    app = Flask(__name__)
    app.secret_key = FLASK_SECRET
    app.config["CONTEXTCACHE_TIMEOUT"] = 10
    app.app_context().push()  # for as long as the process lives
    return {
        RAW: raw(url),
        "Django RedisCache": django("stock"),
        "django-redis": django("django_redis"),
        "Flask-Caching": flask_caching(app, url, "RedisCache"),
        "cachelib": cachelib(url),
        "dogpile.cache": dogpile(url),
        DJANGO: django("default"),
        FLASK: flask_caching(app, url, "contextcache_flask.RedisCache"),
    }


def set_and_get(name: str, cache: Operations, value: Any) -> Callable[[], object]:
    key = name.replace(" ", "-")

    def once() -> None:
        cache.set(key, value)
        assert cache.get(key) is not None

    return once


def set_and_get_many(name: str, cache: Operations, values: list[Any]) -> Callable[[], object]:
    under = {f"{name.replace(' ', '-')}-{i}": value for i, value in enumerate(values)}
    keys = [*under]

    def once() -> None:
        cache.set_many(under)
        assert len(cache.get_many(keys)) == len(keys)  # type: ignore[arg-type]

    return once


def section(url: str, effort: Effort, _plots: Plots) -> str:
    """Compare all caches at the work of issue 8's table."""
    everybody = everyone(url)
    work = {
        "1 KB": (profile(), "≤ 0.90"),
        "20 KB": (catalogue(), "≤ 1.00"),
        "200 KB of dataclasses": (rows(4000), "≤ 1.03"),
    }
    parts = []
    for title, (value, target) in work.items():
        entered = {name: set_and_get(name, cache, value) for name, cache in everybody.items()}
        size = len(pickle.dumps(value, 5))
        parts += [
            f"### set + get, {title}",
            f"{size:,} bytes as a pickle. Target: {target}.",
            ratio_table(race(entered, effort)),
        ]
    hundred = [{**profile(), "id": i} for i in range(100)]
    entered = {name: set_and_get_many(name, cache, hundred) for name, cache in everybody.items()}
    parts += [
        "### set_many + get_many, 100 × 1 KB",
        "1.00 is a pipeline of `SET … EX` and one `MGET`. Target: ≤ 1.10.",
        ratio_table(race(entered, effort)),
    ]
    locked = {
        twin: set_and_get(twin, everybody[DJANGO], rows(4000, locks=locks))
        for twin, locks in (("clean", 0), ("one lock in it", 1))
    }
    parts += [
        "### One lock in 4 000 dataclasses",
        "The peers raise `TypeError` here. Target, against the clean twin: ≤ 1.05.",
        ratio_table(race(locked, effort)),
    ]
    return "\n\n".join(parts)
