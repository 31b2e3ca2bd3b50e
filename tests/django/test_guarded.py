"""Any backend behind the guard: memory, database, files, memcached and other clients of Redis."""

from __future__ import annotations

import asyncio
import importlib
import pickle
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheKey
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, OperationalError

from contextcache import UncacheableValueError
from contextcache.testing import capture_findings
from contextcache_django.cache import GuardedCache
from contextcache_django.cache_proxy import Payload
from tests.django.shop import Client, PerThread, dirty_cart, generator
from tests.redis_server import free_port
from tests.unavailable import needs

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db

WRAPPER = "contextcache_django.cache.GuardedCache"
DJANGO = "django.core.cache.backends"
PLACES = {
    f"{DJANGO}.locmem.LocMemCache": "memory",
    f"{DJANGO}.db.DatabaseCache": "the database",
    f"{DJANGO}.filebased.FileBasedCache": "files",
    f"{DJANGO}.memcached.PyMemcacheCache": "memcached",
    f"{DJANGO}.memcached.PyLibMCCache": "memcached",
    f"{DJANGO}.redis.RedisCache": "redis",
    "django_redis.cache.RedisCache": "redis",
}
UNAVAILABLE = {f"{DJANGO}.memcached.PyLibMCCache": needs("pylibmc")}


@pytest.fixture(
    params=[
        pytest.param(name, id=name.rpartition(".")[2], marks=UNAVAILABLE.get(name, ()))
        for name in PLACES
    ]
)
def backend(request: pytest.FixtureRequest) -> str:
    """The dotted name of a backend."""
    name: str = request.param
    return name


@pytest.fixture
def location(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where that backend stores; it is empty."""
    if "redis" in backend:
        request.getfixturevalue("redis_client")
        url: str = request.getfixturevalue("redis_url")
        return url
    if "memcached" in backend:
        address: str = request.getfixturevalue("memcached")
        return address
    if "filebased" in backend:
        return str(tmp_path)
    return "cache_table" if "DatabaseCache" in backend else secrets.token_hex(8)


@pytest.fixture
def entry(backend: str, location: str, settings: SettingsWrapper) -> dict[str, Any]:
    """The entry of `CACHES` for the backend behind the guard."""
    settings.CACHES = {
        "default": {
            "BACKEND": WRAPPER,
            "LOCATION": location,
            "KEY_PREFIX": secrets.token_hex(4),  # memcached is shared between tests
            "OPTIONS": {"BACKEND": backend},
        }
    }
    if "DatabaseCache" in backend:
        bare = {"BACKEND": backend, "LOCATION": location}
        settings.CACHES = {"default": bare}
        call_command("createcachetable")
        settings.CACHES = {"default": {**bare, "BACKEND": WRAPPER, "OPTIONS": {"BACKEND": backend}}}
    found: dict[str, Any] = settings.CACHES["default"]
    return found


@pytest.fixture
def guarded(entry: dict[str, Any]) -> GuardedCache:
    """The backend behind the guard."""
    return caches["default"]  # type: ignore[return-value]


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest, guarded: GuardedCache) -> Callable[..., Any]:
    """Call an operation by its name, or its async twin."""

    def called(name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(guarded, name)(*args, **kwargs)
        return async_to_sync(getattr(guarded, f"a{name}"))(*args, **kwargs)

    return called


VALUES = [None, True, 0, -5, 10**30, 1.5, "text", "", b"bytes", b"42", "42", {"a": [1, {2}]}, (1,)]


def test_the_whole_interface(call: Callable[..., Any], guarded: GuardedCache) -> None:
    """`add`, `get_or_set`, `touch`, `incr`, versions, `delete_many` and `clear`."""
    assert call("add", "key", "first")
    assert not call("add", "key", "second")
    assert call("get_or_set", "key", "third") == "first"
    assert call("get_or_set", "fresh", lambda: [1]) == [1]
    assert call("touch", "key", 600)
    assert not call("touch", "missing", 600)
    assert call("has_key", "key")
    assert not call("has_key", "missing")
    assert "key" in guarded
    call("set", "number", 41)
    assert call("incr", "number") == 42
    assert call("decr", "number", 2) == 40
    assert call("get", "number") == 40
    with pytest.raises(ValueError, match="not found"):
        call("incr", "missing")
    assert call("incr_version", "key") == 2
    assert call("get", "key") is None
    assert call("get", "key", version=2) == "first"
    assert call("decr_version", "key", version=2) == 1
    assert call("get", "key") == "first"
    assert call("delete", "key")
    assert not call("delete", "key")
    call("set", "past", "x", timeout=0)
    assert call("get", "past") is None
    call("set_many", {"a": 1, "b": 2})
    call("delete_many", ["a", "b"])
    assert call("get_many", ["a", "b"]) == {}
    call("set", "key", "value")
    call("clear")
    assert call("get", "key", "gone") == "gone"
    call("close")
    call("set", "after", "close")
    assert call("get", "after") == "close"


class Counting:
    """Counts how often it is pickled."""

    times = 0

    def __reduce__(self) -> tuple[Any, ...]:
        Counting.times += 1
        return Counting, ()


def test_a_value_is_pickled_once(guarded: GuardedCache) -> None:
    """What the backend gets is bytes, which pickle as what they are a pickle of."""
    Counting.times = 0
    guarded.set("key", [Counting(), {"a": [1, 2]}])
    assert Counting.times == 1


def test_the_backend_alone_reads_the_same(guarded: GuardedCache, backend: str) -> None:
    """Old and new workers share a cache during a deployment; nor is there a way back only."""
    for number, value in enumerate([*VALUES, dirty_cart()]):
        guarded.set(f"k{number}", value, 300)
        there = guarded.backend.get(f"k{number}", "default")
        assert type(there) is type(value)
        if number < len(VALUES):
            assert there == value
            guarded.backend.set(f"k{number}", value, 300)
            assert guarded.get(f"k{number}", "default") == value


def test_bytes_from_before_are_a_value_and_never_unpickled(
    call: Callable[..., Any], guarded: GuardedCache
) -> None:
    """An application caches what its visitors upload, and that may be a pickle or a number."""
    for held in (pickle.dumps(Forbidden()), b"\xcc" + bytes(60), b"123", b"-1", b"", b"text"):
        guarded.backend.set("upload", held)
        assert call("get", "upload") == held
        assert call("get_many", ["upload"]) == {"upload": held}


class Forbidden:
    """Fails the test that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a value was unpickled",)


def test_an_unreadable_payload_costs_only_its_own_key(
    call: Callable[..., Any], guarded: GuardedCache, caplog: pytest.LogCaptureFixture
) -> None:
    """The other keys are answered, and the log says which it was."""
    call("set", "good", "value")
    for payload, reason in ROTTEN.items():
        guarded.backend.set("rotten", Payload(payload), 300)
        caplog.clear()
        assert call("get", "rotten", "default") == "default"
        assert call("get_many", ["good", "rotten"]) == {"good": "value"}
        assert f"cache['rotten'] cannot be read and counts as a miss: {reason};" in caplog.text
        assert call("get_or_set", "rotten", lambda: 5, 300) == 5
        assert call("get", "rotten") == 5


RAISED = {error.__name__: error for error in (ValueError, OSError, DatabaseError)}


def fail(name: str) -> None:
    raise RAISED[name]("secret")


ROTTEN = {
    b"garbage": "its bytes are no pickle, or a damaged one",
    b"\x80\x04\x8c\x04gone\x8c\x04Gone\x93.": "its module gone is gone",
    pickle.dumps(Client)[:-1].replace(b"Client", b"Cliens") + b".": (
        "its class or attribute Cliens is gone from tests.django.shop"
    ),
} | {
    f"\x80\x02c{__name__}\nfail\nX{chr(len(name))}\0\0\0{name}\x85R.".encode("latin-1"): (
        f"rebuilding it raised {name}"
    )
    for name in RAISED
}


@pytest.mark.parametrize("raised", [ConnectionError, OperationalError, InvalidCacheKey, TypeError])
def test_what_a_backend_raises_of_its_own_accord_gets_out(
    guarded: GuardedCache, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outage is no entry that cannot be read."""

    def get(*_: Any) -> None:
        raise raised

    monkeypatch.setattr(guarded.backend, "get", get)
    monkeypatch.setattr(guarded.backend, "get_many", get)
    for read in (lambda: guarded.get("key"), lambda: guarded.get_many(["key"])):
        with pytest.raises(raised):
            read()


def test_a_server_that_is_gone_is_no_entry_that_cannot_be_read(
    settings: SettingsWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the client leaves it alone after the first error, and answers the next read."""
    settings.CACHES = {
        "default": {
            "BACKEND": WRAPPER,
            "LOCATION": f"127.0.0.1:{free_port()}",
            "OPTIONS": {"BACKEND": f"{DJANGO}.memcached.PyMemcacheCache"},
        }
    }
    with pytest.raises(ConnectionError):
        caches["default"].get("key")
    assert caches["default"].get("key") is None
    assert "cannot be read" not in caplog.text


def test_what_a_key_function_raises_gets_out(settings: SettingsWrapper) -> None:
    """It is the code of the application, as that of a value is, and says nothing of an entry."""

    def key_function(key: str, prefix: str, version: int) -> str:
        return {"good": "good", "contextcache:nobody": "nobody"}[key]

    settings.CACHES = {
        "default": {
            "BACKEND": WRAPPER,
            "OPTIONS": {"BACKEND": f"{DJANGO}.locmem.LocMemCache"},
            "KEY_FUNCTION": key_function,
        }
    }
    cache = caches["default"]
    for read in (lambda: cache.get("bad"), lambda: cache.get_many(["good", "bad"])):
        with pytest.raises(KeyError):
            read()


def test_a_file_that_is_damaged_is_a_miss(
    settings: SettingsWrapper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is cut off: in the expiry, the compressed bytes or the pickle in them."""
    settings.CACHES = {
        "default": {
            "BACKEND": WRAPPER,
            "LOCATION": str(tmp_path),
            "OPTIONS": {"BACKEND": f"{DJANGO}.filebased.FileBasedCache"},
        }
    }
    cache: Any = caches["default"]
    cache.set("good", 1)
    cache.set("bad", {"a": [1, 2, 3]})
    file = Path(cache._key_to_file("bad"))
    whole = file.read_bytes()
    for length in range(1, len(whole)):
        file.write_bytes(whole[:length])
        assert cache.get("bad", "default") == "default"
        assert cache.get_many(["bad", "good"]) == {"good": 1}
    assert "its bytes are no pickle, or a damaged one" in caplog.text


@pytest.mark.parametrize("engine", ["cache", "cached_db"])
@pytest.mark.parametrize("behind", [True, False])
def test_a_session_of_django_that_is_no_dict_is_none(
    settings: SettingsWrapper, redis_url: str, engine: str, behind: bool, caplog: Any
) -> None:
    """Django's engines take what the cache has, and fail the page."""
    backend = {"OPTIONS": {"BACKEND": f"{DJANGO}.redis.RedisCache"}} if behind else {}
    ours = WRAPPER if behind else "contextcache_django.cache.RedisCache"
    settings.CACHES = {"default": {"BACKEND": ours, "LOCATION": redis_url, **backend}}
    kept = importlib.import_module(f"django.contrib.sessions.backends.{engine}")
    session = kept.SessionStore()
    session["uid"] = 7
    session.save()
    caches["default"].set(f"{kept.KEY_PREFIX}{session.session_key}", 5)
    found = kept.SessionStore(session.session_key).get("uid")
    assert found == (None if engine == "cache" else 7)  # which has the row
    assert "it holds a int, not a session" in caplog.text


def test_modes_of_an_alias(entry: dict[str, Any], settings: SettingsWrapper) -> None:
    """`OPTIONS["CONTEXTCACHE"]` is ours and does not reach the backend."""
    options = {**entry["OPTIONS"], "CONTEXTCACHE": {"MODE": "raise"}}
    settings.CACHES = {"default": {**entry, "OPTIONS": options}}
    cache = caches["default"]
    with pytest.raises(UncacheableValueError, match=r"cache\['cart'\]"):
        cache.set("cart", dirty_cart())
    with pytest.raises(UncacheableValueError, match=r"cache\['rows'\]"):
        async_to_sync(cache.aset)("rows", generator())
    cache.backend.set("rotten", Payload(b"garbage"))
    assert cache.get("rotten", "default") == "default"  # the mode is about writes


# --- What does not depend on the backend ----------------------------------------------------------


def locmem(**options: Any) -> GuardedCache:
    """A guarded cache in memory."""
    inside = {"BACKEND": f"{DJANGO}.locmem.LocMemCache", **options}
    return GuardedCache(secrets.token_hex(8), {"OPTIONS": inside})


def test_a_float_counts_where_the_backend_counts_in_python() -> None:
    """As it does in memory, database and files without the guard."""
    cache = locmem()
    cache.set("number", 1.5)
    assert cache.incr("number", 2) == 3.5
    assert cache.get("number") == 3.5


def test_a_float_that_is_counted_expires_when_it_did() -> None:
    """As in Django's memory backend without the guard."""
    cache = locmem()
    cache.set("number", 1.5, timeout=1000)
    expires = dict(cache.backend._expire_info)
    cache.incr("number")
    cache.decr("number", 3)
    assert cache.backend._expire_info == expires


def test_the_guard_runs_in_the_thread_of_an_async_caller() -> None:
    """A thread-local that a rule stores has the caller's values."""
    cache = locmem(CONTEXTCACHE={"RULES": {"tests.django.shop.PerThread": "snapshot"}})

    async def write() -> None:
        local = PerThread()
        local.tenant = "acme"
        await cache.aset("set", local)
        await cache.aadd("add", local)
        await cache.aset_many({"many": local})
        await cache.aget_or_set("get_or_set", local)

    asyncio.run(write())
    found = cache.get_many(["set", "add", "many", "get_or_set"])
    assert {vars(local).get("tenant") for local in found.values()} == {"acme"}
    assert len(found) == 4


def test_a_dummy_stores_nothing_and_still_reports(settings: SettingsWrapper) -> None:
    """In development without a cache the findings are there already."""
    inside = {"BACKEND": f"{DJANGO}.dummy.DummyCache"}
    settings.CACHES = {"default": {"BACKEND": WRAPPER, "OPTIONS": inside}}
    with capture_findings() as findings:
        caches["default"].set("client", Client())
    assert caches["default"].get("client") is None
    assert {finding.sink for finding in findings} == {"cache 'default' in a dummy"}


def test_what_a_backend_has_beyond_the_interface(redis_url: str, redis_client: Any) -> None:
    """`ttl`, `iter_keys`, `lock`, `nx=` of django-redis."""
    cache = GuardedCache(redis_url, {"OPTIONS": {"BACKEND": "django_redis.cache.RedisCache"}})
    assert cache.set("key", "value", timeout=60, nx=True)
    assert not cache.set("key", "other", nx=True)
    assert cache.get("key") == "value"
    assert 50 < cache.ttl("key") <= 60
    assert list(cache.iter_keys("*")) == ["key"]
    with cache.lock("lock"):
        pass
    with pytest.raises(AttributeError):
        cache.nothing_of_the_kind  # noqa: B018


def test_what_the_backend_held_before_is_still_there() -> None:
    """A project may wrap a cache that is full."""
    cache = locmem()
    cache.backend.set("old", {"a": 1})
    assert cache.get("old") == {"a": 1}


class Failing:
    """A backend that cannot be made."""

    def __init__(self, *_: object) -> None:
        raise AttributeError("no pool")


def test_what_a_backend_raises_when_it_is_made_gets_out() -> None:
    """Python takes an `AttributeError` of a property for its absence, and asks once more."""
    cache = GuardedCache("", {"OPTIONS": {"BACKEND": f"{__name__}.Failing"}})
    with pytest.raises(AttributeError, match="no pool"):
        cache.get("key")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "GuardedCache wraps another backend: name it in OPTIONS['BACKEND']"),
        (
            {"BACKEND": "nowhere.Cache"},
            "OPTIONS['BACKEND']: No module named 'nowhere'",
        ),
        (
            {"BACKEND": WRAPPER},
            f"OPTIONS['BACKEND'] is {WRAPPER!r}, which guards itself: make it the BACKEND",
        ),
    ],
)
def test_a_mistake_is_named_at_the_first_use(options: dict[str, Any], message: str) -> None:
    """Not when the cache is made: Django's own checks make every cache."""
    cache = GuardedCache("", {"OPTIONS": options})
    cache.close()
    with pytest.raises(ImproperlyConfigured) as caught:
        cache.get("key")
    assert str(caught.value) == message


def test_mode_off_leaves_all_to_the_backend(settings: SettingsWrapper) -> None:
    """What it stores is what it would have stored, and what it raises is raised."""
    location = secrets.token_hex(8)
    locmem = f"{DJANGO}.locmem.LocMemCache"
    settings.CACHES = {
        "default": {
            "BACKEND": WRAPPER,
            "LOCATION": location,
            "OPTIONS": {"BACKEND": locmem, "CONTEXTCACHE": {"MODE": "off"}},
        },
        "stock": {"BACKEND": locmem, "LOCATION": location},
    }
    cache, value = caches["default"], {"headers": {"HTTP_COOKIE": "c"}}
    with capture_findings() as findings:
        cache.set("key", value)
        with pytest.raises(TypeError):
            cache.set("lock", {"call": generator()})
    assert next(iter(caches["stock"]._cache.values())) == pickle.dumps(
        value, pickle.HIGHEST_PROTOCOL
    )
    assert caches["stock"].get("key") == cache.get("key") == value
    assert findings == []
