"""The cache backend, on a real Redis and on the embedded one."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured

from contextcache import ServerError, UncacheableValueError, is_stripped
from contextcache.servers import connect
from contextcache.servers.urls import SCHEMES as _SCHEMES
from contextcache.testing import capture_findings
from contextcache_django.cache import RedisCache
from tests.conftest import PATIENT
from tests.django.shop import Brittle, Cart, Client, Item, PerThread, generator
from tests.redis_server import answered, free_port, running_redis, running_server
from tests.sealing import sealed
from tests.waiting import exit_code, until

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    from pytest_django.fixtures import SettingsWrapper

SCHEMES = ", ".join(f"{scheme}://" for scheme in _SCHEMES)


class Either:
    """Calls the sync method of a cache, or its async twin, by the same name."""

    def __init__(self, cache: RedisCache, *, use_async: bool) -> None:
        self.cache = cache
        self.use_async = use_async

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not self.use_async:
            return getattr(self.cache, name)  # type: ignore[no-any-return]
        return async_to_sync(getattr(self.cache, f"a{name}"))  # type: ignore[no-any-return]


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest, cache: RedisCache) -> Either:
    """The cache through its sync methods, and through their async twins."""
    return Either(cache, use_async=request.param == "async")


# --- Every operation ----------------------------------------------------------------------------


def test_every_async_twin_exists() -> None:
    """Each public operation of Django's base class has its twin here."""
    operations = {
        name
        for name, _ in inspect.getmembers(RedisCache, inspect.isfunction)
        if not name.startswith("_") and hasattr(RedisCache, f"a{name}")
    }
    assert operations == {
        *("add", "clear", "close", "decr", "decr_version", "delete", "delete_many", "get"),
        *("get_many", "get_or_set", "has_key", "incr", "incr_version", "set", "set_many", "touch"),
    }


def test_get_of_a_missing_key_is_the_default(either: Either) -> None:
    """A miss is None, or what the caller says."""
    assert either.get("missing") is None
    assert either.get("missing", "default") == "default"


def test_set_many_and_get_many_keep_to_the_users_keys(either: Either) -> None:
    """Each finding names the key of its own value."""
    with capture_findings() as findings:
        assert either.set_many({"a": 1, "b": Item("cup", Client()), 3: "three"}) == []
    found = either.get_many(["a", "b", 3, "missing"])
    assert set(found) == {"a", "b", 3}
    assert (found["a"], found["b"].name, found[3]) == (1, "cup", "three")
    assert {str(finding.path) for finding in findings} == {
        "cache['b'].client._lock",
        "cache['b'].client._local",
    }


def test_get_or_set_stores_what_was_missing(either: Either) -> None:
    """The second call does not compute."""
    assert either.get_or_set("key", lambda: "first") == "first"
    assert either.get_or_set("key", lambda: "second") == "first"


def test_timeouts(either: Either, server: redis.Redis) -> None:
    """The default, a given one, none, and one in the past."""
    either.set("default", 1)
    either.set("given", "x", timeout=60)
    either.set("forever", "x", timeout=None)
    either.set("past", "x", timeout=0)
    either.set_many({"many": "x"}, timeout=90)
    assert 290 < server.ttl(":1:default") <= 300
    assert 50 < server.ttl(":1:given") <= 60
    assert server.ttl(":1:forever") == -1
    assert either.get("past") is None
    assert 80 < server.ttl(":1:many") <= 90


def test_touch_changes_the_expiry(either: Either, server: redis.Redis) -> None:
    """`touch` answers whether the key was there."""
    either.set("key", "x", timeout=60)
    assert either.touch("key", timeout=600) is True
    assert 590 < server.ttl(":1:key") <= 600
    assert either.touch("key", timeout=None) is True
    assert server.ttl(":1:key") == -1
    assert either.touch("missing") is False


def test_numbers_count(either: Either, server: redis.Redis) -> None:
    """A plain int is stored raw, so Redis itself increments it."""
    either.set("number", 41)
    assert server.get(":1:number") == b"41"
    assert either.incr("number") == 42
    assert either.decr("number", 2) == 40
    assert either.get("number") == 40
    with pytest.raises(ValueError, match="not found"):
        either.incr("missing")


def test_async_increments_are_atomic(cache: RedisCache) -> None:
    """Django's own `aincr` reads and writes back, and loses counts."""

    async def count() -> None:
        await asyncio.gather(*(cache.aincr("number") for _ in range(50)))

    cache.set("number", 0)
    asyncio.run(count())
    assert cache.get("number") == 50


def test_delete_and_has_key(either: Either) -> None:
    """`delete` answers whether the key was there."""
    either.set("key", "x")
    assert either.has_key("key") is True
    assert "key" in either.cache
    assert either.delete("key") is True
    assert either.has_key("key") is False
    assert either.delete("key") is False


def test_delete_many_and_clear(either: Either) -> None:
    """Keys may come from any iterable."""
    either.set_many({"a": 1, "b": 2, "c": 3, "d": 4})
    either.delete_many(key for key in ("a", "b"))
    assert set(either.get_many(iter("abcd"))) == {"c", "d"}
    either.clear()
    assert either.get_many("abcd") == {}


def test_versions(either: Either) -> None:
    """A value lives in its version and moves with it."""
    either.set("key", "one")
    either.set("key", "two", version=2)
    assert either.get("key", version=1) == "one"
    assert either.incr_version("key", delta=4) == 5
    assert either.get("key", version=5) == "one"
    assert either.decr_version("key", delta=4, version=5) == 1
    assert either.get("key") == "one"


def test_key_prefix_and_key_function(any_url: str, configure: Callable[..., RedisCache]) -> None:
    """The stored key is Django's; the label stays the user's."""
    cache = configure(any_url, KEY_PREFIX="shop", VERSION=3)
    with capture_findings() as findings:
        cache.set("client", Client())
    assert connect(any_url).keys() == [b"shop:3:client"]
    assert "cache['client']._lock" in {str(finding.path) for finding in findings}


# --- The alias -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "redis://127.0.0.1:1/0",
        "unix:///nowhere.sock",
        ["redis://127.0.0.1:1/0", "redis://127.0.0.1:2/0"],
        "redis://127.0.0.1:1/0,redis://127.0.0.1:2/0",
        "redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster/0",
        "rediss+cluster://127.0.0.1:1,127.0.0.1:2",
        ["redis+cluster://127.0.0.1:1,127.0.0.1:2"],
        "fakeredis://alias",
        "",
        None,
    ],
)
def test_the_alias_is_named_for_every_kind_of_url(
    settings: SettingsWrapper, location: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """In findings, and in what is said of an outage."""
    ours = "contextcache_django.cache.RedisCache"
    settings.CACHES = {
        "default": {"BACKEND": ours, "LOCATION": "fakeredis://other"},
        "here": {"BACKEND": ours, "LOCATION": location, "TIMEOUT": 60},
    }
    with capture_findings() as findings:
        caches["here"].set("key", Client())
    assert {str(one.sink).partition(" in ")[0] for one in findings} == {"cache 'here'"}
    embedded = not location or str(location).startswith("fakeredis")
    assert embedded or "cache 'here' in redis: Redis at " in caplog.text


def test_two_aliases_are_told_apart(settings: SettingsWrapper) -> None:
    """The finding names the alias; two that are configured alike are not guessed at."""
    entry = {"BACKEND": "contextcache_django.cache.RedisCache"}
    settings.CACHES = {
        "default": entry,
        "pages": {**entry, "KEY_PREFIX": "pages"},
        "twin": {**entry, "LOCATION": "fakeredis://twin"},
        "other twin": {**entry, "LOCATION": "fakeredis://twin"},
    }
    sinks = []
    for alias in settings.CACHES:
        with capture_findings() as findings:
            caches[alias].set("key", Client())
        sinks.append({finding.sink for finding in findings})
    assert sinks == [
        {"cache 'default' in fakeredis"},
        {"cache 'pages' in fakeredis"},
        {"cache in fakeredis"},
        {"cache in fakeredis"},
    ]


# --- Nothing to store ---------------------------------------------------------------------------


def test_get_or_set_returns_what_it_computed(either: Either) -> None:
    """A value that cannot be stored is still the answer."""
    value = generator()
    assert either.get_or_set("key", lambda: value) is value
    assert either.get("key") is None


@pytest.mark.parametrize("mode", ["warn", "raise"])
def test_get_or_set_raises_outside_of_strip_mode(
    configure: Callable[..., RedisCache], any_url: str, mode: str
) -> None:
    """As `set` does."""
    cache = configure(any_url, OPTIONS={"CONTEXTCACHE": {"MODE": mode}})
    for way in (Either(cache, use_async=False), Either(cache, use_async=True)):
        with pytest.raises(UncacheableValueError, match=r"cache\['new'\]"):
            way.get_or_set("new", generator())


def test_an_alias_adds_to_the_settings_of_the_project(
    settings: SettingsWrapper, configure: Callable[..., RedisCache], any_url: str
) -> None:
    """`IGNORE` of the project and of the alias both hold."""
    settings.CONTEXTCACHE = {"MODE": "raise", "IGNORE": ["cache['key']._lock"]}
    strict = configure(any_url)
    with pytest.raises(UncacheableValueError):
        strict.set("key", Client())
    lenient = configure(
        any_url, OPTIONS={"CONTEXTCACHE": {"MODE": "strip", "IGNORE": ["cache['key']._local"]}}
    )
    with capture_findings() as findings:
        lenient.set("key", Client())
    assert findings == []
    assert lenient.get("key").id == 7


# --- What cannot be read ------------------------------------------------------------------------

UNREADABLE = {
    "empty": b"",
    "truncated": b"\x80\x05\x95\x10",
    "not a pickle": b"garbage",
    "nearly a number": b"12ab",
    "class gone": b"\x80\x04\x8c\x11tests.django.shop\x8c\x04Gone\x93.",
    "module gone": b"\x80\x04\x8c\x04gone\x8c\x04Gone\x93.",
}


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("payload", UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_payload_is_a_miss_and_a_warning(
    either: Either,
    server: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    payload: bytes,
    signed: bool,
) -> None:
    """One rotten entry is never an error page, and the log names its key."""
    server.set(":1:rotten", sealed(payload, ":1:rotten") if signed else payload)
    assert either.get("rotten") is None
    assert either.get("rotten", "default") == "default"
    warnings = [record for record in caplog.records if record.name == "contextcache"]
    assert [record.levelname for record in warnings] == ["WARNING"] * 2  # for two reads
    assert "cache['rotten']" in warnings[0].getMessage()


def test_get_many_misses_only_the_unreadable_key(either: Either, server: redis.Redis) -> None:
    """The others are answered."""
    either.set_many({"good": "x", "number": 7})
    server.set(":1:rotten", b"garbage")
    assert either.get_many(["good", "rotten", "number"]) == {"good": "x", "number": 7}


def test_get_or_set_replaces_what_cannot_be_read(either: Either, server: redis.Redis) -> None:
    """Else the value would be computed at each call until the entry expires."""
    computed: list[int] = []

    def compute() -> list[int]:
        computed.append(1)
        return [len(computed)]

    server.set(":1:rotten", b"garbage", ex=1000)
    for _ in range(3):
        assert either.get_or_set("rotten", compute, 60) == [1]
    assert 0 < server.ttl(":1:rotten") <= 60
    assert either.get("rotten") == [1]


def test_get_or_set_keeps_what_can_be_read_and_stores_what_django_stores(either: Either) -> None:
    """None is a value; what cannot be stored is the answer, and nothing is kept of it."""
    either.set("key", None)
    assert either.get_or_set("key", "other") is None
    assert either.get_or_set("new", None) is None
    assert either.get("new", "default") is None
    assert either.get_or_set("number", lambda: 5) == 5
    assert either.incr("number") == 6
    value = (number for number in range(3))
    assert either.get_or_set("generator", lambda: value) is value
    assert either.get("generator", "default") == "default"


def test_an_object_that_fails_to_load_does_not_break_the_page(either: Either) -> None:
    """`__setstate__` that raises: whatever is made of it, get answers and nothing leaks."""
    brittle = Brittle()
    brittle.x = 1  # type: ignore[attr-defined]
    either.set("brittle", {"ok": 1, "brittle": brittle})
    found = either.get("brittle")
    assert found is None or is_stripped(found["brittle"])


# --- The caller's thread ------------------------------------------------------------------------


def test_the_guard_runs_in_the_thread_of_an_async_caller(
    configure: Callable[..., RedisCache], any_url: str
) -> None:
    """A thread-local that a rule stores has the caller's values, not those of a pool thread."""
    rules = {"tests.django.shop.PerThread": "snapshot"}
    cache = configure(any_url, OPTIONS={"CONTEXTCACHE": {"RULES": rules}})

    async def write() -> None:
        value = {"local": PerThread(), "of": threading.get_ident()}
        value["local"].tenant = "acme"
        await cache.aset("set", value)
        await cache.aadd("add", value)
        await cache.aset_many({"many": value})
        await cache.aget_or_set("get_or_set", value)

    asyncio.run(write())
    found = cache.get_many(["set", "add", "many", "get_or_set"])
    assert len(found) == 4
    assert {vars(value["local"]).get("tenant") for value in found.values()} == {"acme"}


# --- Redis --------------------------------------------------------------------------------------


def test_without_a_location_it_is_embedded(configure: Callable[..., RedisCache]) -> None:
    """Nothing to install and nothing to start in development."""
    cache = configure("")
    cache.set("key", "value")
    assert cache.get("key") == "value"
    assert connect("fakeredis://").get(":1:key") is not None


def test_the_client_is_kept_for_the_process(redis_url: str, settings: SettingsWrapper) -> None:
    """Every thread uses the same pool; Django alone makes a client per operation."""
    entry = {"BACKEND": "contextcache_django.cache.RedisCache", "LOCATION": redis_url}
    settings.CACHES = {"default": entry}
    clients = {id(caches["default"].connection())}

    def other_thread() -> None:
        clients.add(id(caches["default"].connection()))

    thread = threading.Thread(target=other_thread)
    thread.start()
    thread.join()
    assert len(clients) == 1


def test_options_reach_redis_py(configure: Callable[..., RedisCache], redis_url: str) -> None:
    """`OPTIONS` are those of Django's backend, a dotted pool class included."""
    cache = configure(
        redis_url,
        OPTIONS={"db": 5, "socket_timeout": 2, "pool_class": "redis.BlockingConnectionPool"},
    )
    kwargs = cache.connection().connection_pool.connection_kwargs
    # The database in the URL wins, as in redis-py.
    assert (kwargs["db"], kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (0, 2, 2)
    assert type(cache.connection().connection_pool).__name__ == "BlockingConnectionPool"


def test_replicas_are_read_and_the_first_is_written(
    redis_url: str, redis_client: redis.Redis, configure: Callable[..., RedisCache]
) -> None:
    """A list of URLs is Django's: the first takes writes, the others answer reads."""
    with running_redis("--replicaof", "127.0.0.1", redis_url.split(":")[2].split("/")[0]) as copy:
        cache = configure([redis_url, copy])
        cache.set("key", "value")
        replica = connect(copy)
        until(lambda: replica.exists(":1:key"), why="the replica did not follow")
        assert cache.get("key") == "value"
        redis_client.delete(":1:key")
        redis_client.execute_command("WAIT", 1, 5000)
        assert cache.get("key") is None


@pytest.mark.parametrize("use_async", [False, True])
def test_in_an_outage_django_s_own_methods_find_nothing(
    configure: Callable[..., RedisCache], use_async: bool
) -> None:
    """Those that other frameworks do not have; the others are in the contract."""
    cache = configure(f"redis://127.0.0.1:{free_port()}/0")
    way = Either(cache, use_async=use_async)
    assert way.get("key", "default") == "default"
    assert way.touch("key") is False
    assert way.has_key("key") is False
    assert way.get_or_set("key", lambda: "computed") == "computed"
    with pytest.raises(ValueError, match="Key ':1:key' not found"):
        way.incr("key")


def test_the_timeout_of_an_alias_is_that_of_its_operations(
    configure: Callable[..., RedisCache],
) -> None:
    """`TIMEOUT` stands among the settings of the alias, beside Django's own of another meaning."""
    with running_server() as server:
        options = {"CONTEXTCACHE": {"TIMEOUT": 0.1, "ON_ERROR": "raise"}}
        cache = configure(server.url, OPTIONS=options)
        answered(lambda: cache.get("key"))
        server.hold()
        started = time.monotonic()
        with pytest.raises(ServerError, match="no answer in time"):
            cache.get("key")
        assert time.monotonic() - started < PATIENT


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_connections(
    configure: Callable[..., RedisCache], redis_url: str, redis_client: redis.Redis
) -> None:
    """The cache object a child inherits does not use the parent's pool."""
    cache = configure(redis_url)
    cache.set("key", "parent")
    inherited = cache.connection().connection_pool
    with inherited._lock:
        pid = os.fork()
        if pid == 0:
            try:
                own = cache.connection().connection_pool
                cache.set("key", f"child {own is not inherited}")
            finally:
                os._exit(0)
        exit_code(pid)
    assert cache.get("key") == "child True"
    assert cache.connection().connection_pool is inherited


# --- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"LOCATION": "reds://127.0.0.1"},
            (f"unknown Redis URL reds://: it begins with one of {SCHEMES}; did you mean redis://?"),
        ),
        (
            {"OPTIONS": {"serializer": "django.core.cache.backends.redis.RedisSerializer"}},
            (
                "RedisCache is its own serializer: remove OPTIONS['serializer'], or use Django's "
                "RedisCache with it"
            ),
        ),
        (
            {"OPTIONS": {"CONTEXTCACHE": {"MODE": "strp"}}},
            (
                "CACHES['default']['OPTIONS']['CONTEXTCACHE']: unknown mode 'strp' (did you mean "
                "'strip'?); valid: off, raise, strip, warn"
            ),
        ),
    ],
)
def test_a_mistake_in_the_entry_is_named(
    configure: Callable[..., RedisCache], entry: dict[str, Any], message: str
) -> None:
    """The error says what and where, at the first use."""
    cache = configure(**{"location": entry.pop("LOCATION", ""), **entry})
    with pytest.raises(ImproperlyConfigured) as caught:
        cache.set("key", "value")
    assert str(caught.value) == message


def test_the_values_of_a_cart_survive(either: Either) -> None:
    """Identity inside a value is kept: two items of one client stay two items of one client."""
    client = Client()
    either.set("cart", Cart(Item("a", client), Item("b", client)))
    cart = either.get("cart")
    assert cart.items[0].client is cart.items[1].client


# --- Moving in ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stock", ["django.core.cache.backends.redis.RedisCache", "django_redis.cache.RedisCache"]
)
def test_what_another_backend_has_stored_is_read_if_that_is_allowed(
    settings: SettingsWrapper, redis_url: str, redis_client: redis.Redis, stock: str
) -> None:
    """Under the same keys; what is written anew is signed."""
    ours = {"BACKEND": "contextcache_django.cache.RedisCache", "LOCATION": redis_url}
    settings.CACHES = {
        "default": ours,
        "moving": {**ours, "OPTIONS": {"CONTEXTCACHE": {"ACCEPT_UNSIGNED": True}}},
        "before": {"BACKEND": stock, "LOCATION": redis_url},
    }
    caches["before"].set_many({"cart": {"size": (1, 2)}, "count": 5, "flag": True}, version=2)
    moved = {"cart": {"size": (1, 2)}, "count": 5, "flag": True}
    assert caches["moving"].get_many(["cart", "count", "flag"], version=2) == moved
    assert caches["default"].get_many(["cart", "count", "flag"], version=2) == {"count": 5}
    caches["moving"].set("cart", moved["cart"], version=2)
    assert caches["default"].get("cart", version=2) == moved["cart"]


def test_mode_off_stores_what_pickle_makes(
    any_url: str, configure: Callable[..., RedisCache], server: redis.Redis
) -> None:
    """For one alias: bytes and errors of pickle, integers raw, and no finding."""
    cache = configure(any_url, OPTIONS={"CONTEXTCACHE": {"MODE": "off", "SIGN": False}})
    value = {"headers": {"HTTP_COOKIE": "c"}, "t": (1, 2)}
    with capture_findings() as findings:
        cache.set("key", value)
        cache.set("number", 7)
        with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
            cache.set("lock", {"lock": threading.Lock()})
    assert server.get(":1:key") == pickle.dumps(value, 5)
    assert server.get(":1:number") == b"7"
    assert cache.get("key") == value
    assert findings == []
