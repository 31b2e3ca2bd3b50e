"""Workers of two versions side by side on one Redis, as during a deployment: two real processes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    Start = Callable[..., Worker]

VALUES = [
    {"a": [1, (2, 3)]}, 5, -5, 10**30, True, None, 1.5, "text", "5", "", b"bytes", b"!", b"7",
]  # fmt: skip
MISS = "a miss"


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Return a function that starts a worker, or gives the one that has these settings already."""
    started: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:

        def started_with(**settings: Any) -> Worker:
            name = repr(sorted(settings.items()))
            if name not in started:
                started[name] = stack.enter_context(Worker(**settings))
            return started[name]

        yield started_with


# --- Django's caches ------------------------------------------------------------------------------

DJANGOS = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"
OURS = "contextcache_django.cache.RedisCache"
IN_DJANGOS = {"serializer": "contextcache_django.serializers.CacheSerializer"}
IN_DJANGO_REDIS = {"SERIALIZER": "contextcache_django.serializers.DjangoRedisSerializer"}

STOCK: dict[str, Any] = {}
FIRST = {"SIGN": False, "MODE": "warn"}
SECOND = {"ACCEPT_UNSIGNED": True}
SIGNING: dict[str, Any] = {"MODE": "strip"}
OFF: dict[str, Any] = {"MODE": "off"}
STEPS = [(STOCK, FIRST), (FIRST, SECOND), (SECOND, SIGNING), (SIGNING, OFF)]

# Backend and options with contextcache, and those without it.
WAYS = {
    "RedisCache": ((OURS, {}), (DJANGOS, {})),
    "RedisCache, from django-redis": ((OURS, {}), (DJANGO_REDIS, {})),
    "Django's with our serializer": ((DJANGOS, IN_DJANGOS), (DJANGOS, {})),
    "django-redis with our serializer": ((DJANGO_REDIS, IN_DJANGO_REDIS), (DJANGO_REDIS, {})),
}


def django(url: str, way: str, settings: dict[str, Any]) -> dict[str, Any]:
    backend, options = WAYS[way][settings is STOCK]
    caches = {"default": {"BACKEND": backend, "LOCATION": url, "OPTIONS": options}}
    stock = settings is STOCK
    return {
        "framework": "django",
        "stock": stock,
        "CACHES": caches,
        "CONTEXTCACHE": {"TIMEOUT": 10, **settings},
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "step", STEPS, ids=["stock and first", "first and second", "second and third", "mode off"]
)
def test_two_steps_lose_nothing_of_a_django_cache(
    way: str,
    step: tuple[dict[str, Any], dict[str, Any]],
    start: Start,
    redis_url: str,
    redis_client: redis.Redis,
) -> None:
    """In each step both versions read what the other writes, on the way there and back."""
    redis_client.flushall()
    here, there = (django(redis_url, way, settings) for settings in step)
    workers = start(**here), start(**there)
    for writer, reader in (workers, workers[::-1]):
        for number, value in enumerate(VALUES):
            writer.ask("cache.set(key, value, 300)", key=f"k{number}", value=value)
            found = reader.ask("cache.get(key, 'a miss')", key=f"k{number}")
            assert (found, type(found)) == (value, type(value))
        names = [f"m{number}" for number in range(len(VALUES))]
        written = dict(zip(names, VALUES, strict=True))
        writer.ask("cache.set_many(data, 300)", data=written)
        assert reader.ask("cache.get_many(names)", names=names) == written
        assert reader.ask("later('aget', 'm0')") == VALUES[0]
        assert reader.ask("cache.get_or_set('m0', 'another', 300)") == VALUES[0]
        assert not reader.ask("cache.add('m0', 'another')")
        assert reader.ask("cache.incr('m1', 2)") == 7
        assert writer.ask("cache.decr('m1')") == 6
        assert reader.ask("cache.touch('m0', 100)") is True
        assert writer.ask("cache.get('m0')") == VALUES[0]
        redis_client.flushall()


@pytest.mark.parametrize("way", WAYS)
def test_one_step_would_take_pages_down(
    way: str, start: Start, redis_url: str, redis_client: redis.Redis
) -> None:
    """A stock reader raises on every format but its own; no bytes of ours could prevent it."""
    redis_client.flushall()
    old, new = start(**django(redis_url, way, STOCK)), start(**django(redis_url, way, SIGNING))
    new.ask("cache.set('key', {'a': 1}, 300)")
    assert old.ask("cache.get('key')") == "raises UnpicklingError"
    old.ask("cache.set('key', {'a': 1}, 300)")
    assert new.ask("cache.get('key')") is None


@pytest.mark.parametrize("kind", ["filebased.FileBasedCache", "db.DatabaseCache"])
def test_a_guarded_cache_can_be_shared_with_workers_that_have_no_contextcache(
    kind: str, tmp_path: Path
) -> None:
    """What the backend stores is the value, and mentions nothing of ours."""
    inside = f"django.core.cache.backends.{kind}"
    location = "cache_table" if "db" in kind else str(tmp_path / "cache")
    databases = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite")}
    }
    old = {"BACKEND": inside, "LOCATION": location}
    new = {
        "BACKEND": "contextcache_django.cache.GuardedCache",
        "LOCATION": location,
        "OPTIONS": {"BACKEND": inside},
    }
    with (
        Worker("django", stock=True, CACHES={"default": old}, DATABASES=databases) as stock,
        Worker("django", CACHES={"default": new}, DATABASES=databases) as guarded,
    ):
        code = "__import__('django.core.management').core.management.call_command(name)"
        stock.ask(code, name="createcachetable")
        for writer, reader in ((stock, guarded), (guarded, stock)):
            for value in VALUES:
                writer.ask("cache.set('key', value, 300)", value=value)
                found = reader.ask("cache.get('key', 'a miss')")
                assert (found, type(found)) == (value, type(value))
            assert reader.ask("cache.get_many(['key'])") == {"key": VALUES[-1]}


# --- Flask's --------------------------------------------------------------------------------------


def flask(url: str, *, stock: bool = False, **config: Any) -> dict[str, Any]:
    kind = "RedisCache" if stock else "contextcache_flask.RedisCache"
    settings = {"CACHE_TYPE": kind, "CACHE_REDIS_URL": url, **config}
    if not stock:
        settings["CONTEXTCACHE_TIMEOUT"] = 10
    return {"framework": "flask", "stock": stock, **settings}


NEW = {
    "signing": {},
    "signing, and reading unsigned entries": {"CONTEXTCACHE_ACCEPT_UNSIGNED": True},
    "not signing": {"CONTEXTCACHE_SIGN": False},
    "Flask-Caching's own class": {"CACHE_TYPE": "RedisCache"},
    "compressing": {"CONTEXTCACHE_COMPRESS": "zlib"},
}


@pytest.mark.parametrize("new", NEW)
def test_flask_caching_reads_the_value_or_a_miss(
    new: str, start: Start, redis_url: str, redis_client: redis.Redis
) -> None:
    """One step is enough: what the old version cannot verify is a miss to it, never our bytes."""
    redis_client.flushall()
    config = NEW[new]
    new_reads_old = bool(config.keys() & {"CONTEXTCACHE_ACCEPT_UNSIGNED", "CONTEXTCACHE_SIGN"})
    old_reads_new = "CONTEXTCACHE_SIGN" in config
    old, current = start(**flask(redis_url, stock=True)), start(**flask(redis_url, **config))
    for writer, reader, reads in (
        (old, current, new_reads_old),
        (current, old, old_reads_new),
    ):
        for value in [*VALUES, "long" * 5000]:
            writer.ask("cache.set('key', value, timeout=300)", value=value)
            right = value if reads or type(value) is int else None
            found = reader.ask("cache.get('key')")
            assert (found, type(found)) == (right, type(right))
            assert reader.ask("cache.get_many('key')") == [right]
            assert reader.ask("cache.get_dict('key')") == {"key": right}
        writer.ask("cache.set('number', 5)")
        assert reader.ask("cache.cache.inc('number')") == 6
        # What the application computes itself is computed, and stored for both.
        compute = "cache.memoize(300)(compute := lambda number: calls.append(1) or [number])(7)"
        writer.ask(compute)
        assert reader.ask(compute) == [7]


@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_flask_session_keeps_its_format(
    form: str, start: Start, redis_url: str, redis_client: redis.Redis
) -> None:
    """A visitor who comes to workers of both versions stays logged in."""
    redis_client.flushall()
    config = {"SESSION_TYPE": "redis", "SESSION_SERIALIZATION_FORMAT": form}
    workers = start(**flask(redis_url, stock=True, **config)), start(**flask(redis_url, **config))
    for writer, reader in (workers, workers[::-1]):
        _, _, cookie = writer.ask("visit('write')")
        assert reader.ask("visit('read', cookie)", cookie=cookie) == (200, "ann", cookie)


def test_the_cookie_of_flask_keeps_its_format(start: Start, redis_url: str) -> None:
    """Signed by Flask itself."""
    workers = start(**flask(redis_url, stock=True)), start(**flask(redis_url))
    for writer, reader in (workers, workers[::-1]):
        _, _, cookie = writer.ask("visit('write')")
        assert reader.ask("visit('read', cookie)", cookie=cookie)[:2] == (200, "ann")


# --- Sessions that move ---------------------------------------------------------------------------


def test_sessions_that_move_need_a_cookie_name_of_their_own(
    start: Start, redis_url: str, redis_client: redis.Redis
) -> None:
    """Else each version deletes the other's cookie; so each keeps its own for the time of both."""
    redis_client.flushall()
    moved = {"CONTEXTCACHE_SESSION": True, "SESSION_COOKIE_NAME": "shop_session"}
    old, new = start(**flask(redis_url, stock=True)), start(**flask(redis_url, **moved))
    for worker in (old, new):
        _, _, cookie = worker.ask("visit('write')")
        assert worker.ask("visit('read', cookie)", cookie=cookie) == (200, "ann", cookie)


# --- Another secret -------------------------------------------------------------------------------

SECRETS: list[tuple[str, list[str]]] = [
    ("old", []),
    ("old", ["new"]),
    ("new", ["old"]),
    ("new", []),
]


def django_with(url: str, secret: str, fallbacks: list[str], **settings: Any) -> dict[str, Any]:
    settings.setdefault("SECRET_KEY", secret)
    settings.setdefault("SECRET_KEY_FALLBACKS", fallbacks)
    caches = {"default": {"BACKEND": OURS, "LOCATION": url}}
    engine = "contextcache_django.sessions"
    settings["CONTEXTCACHE"] = {"TIMEOUT": 10, **settings.get("CONTEXTCACHE", {})}
    return {"framework": "django", "CACHES": caches, "SESSION_ENGINE": engine, **settings}


def flask_with(url: str, secret: str, fallbacks: list[str], **config: Any) -> dict[str, Any]:
    config.setdefault("SECRET_KEY", secret)
    config.setdefault("SECRET_KEY_FALLBACKS", fallbacks)
    return flask(url, **{"CONTEXTCACHE_SESSION": True, **config})


KINDS: dict[str, Any] = {
    "Django": django_with,
    "Django, SECRET_KEYS": lambda url, secret, others: django_with(
        url, "same", [], CONTEXTCACHE={"SECRET_KEYS": [secret, *others]}
    ),
    "Django, signed cookies": lambda url, secret, others: django_with(
        url,
        secret,
        others,
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        SESSION_SERIALIZER="contextcache_django.serializers.SessionSerializer",
    ),
    "Flask": flask_with,
    "Flask, CONTEXTCACHE_SECRET_KEYS": lambda url, secret, others: flask_with(
        url, "same", [], CONTEXTCACHE_SECRET_KEYS=[secret, *others]
    ),
    "Flask, the cookie": lambda url, secret, others: flask_with(
        url, secret, others, CONTEXTCACHE_SESSION=False
    ),
}


def reads_all(writer: Worker, reader: Worker) -> bool:
    """Return whether one reads a cache entry and a session that the other has written."""
    writer.ask("cache.set('key', [1])")
    _, _, cookie = writer.ask("visit('write')")
    entry = reader.ask("cache.get('key')") == [1]
    logged_in = reader.ask("visit('read', cookie)", cookie=cookie)[:2] == (200, "ann")
    assert entry == logged_in
    return entry


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_is_rotated_in_two_steps(
    kind: str, start: Start, redis_url: str, redis_client: redis.Redis
) -> None:
    """Before it signs, the new one is a fallback everywhere: then every worker reads everything.

    In one step, old workers cannot verify what new ones sign: carts are empty, cookies deleted.
    """
    redis_client.flushall()
    old, both_old, both_new, new = (
        start(**KINDS[kind](redis_url, *secrets)) for secrets in SECRETS
    )
    for before, after in ((old, both_old), (both_old, both_new)):
        assert reads_all(before, after)
        assert reads_all(after, before)
    assert reads_all(both_new, new)  # once nothing is signed with the old one any more
    assert reads_all(new, both_new)
    assert not reads_all(both_new, old)  # in one step
    assert not reads_all(old, new)
