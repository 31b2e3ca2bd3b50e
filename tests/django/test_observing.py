"""The middleware alone: it observes the caches that are not ours, and changes nothing."""

from __future__ import annotations

import asyncio
import pickle
import secrets
import threading
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpResponse
from django.test import Client as WebClient

from contextcache.testing import capture_findings
from contextcache_django import cache_observer
from contextcache_django.cache_observer import Observed
from contextcache_django.middleware import ContextCacheMiddleware
from tests.django.shop import generator

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import SettingsWrapper

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
REDIS = "django.core.cache.backends.redis.RedisCache"


class Profile:
    """What pickles without a word, and should not have been stored."""

    def __init__(self) -> None:
        self.headers = {"HTTP_COOKIE": "canary", "REQUEST_METHOD": "GET", "wsgi.version": (1, 0)}


class Sent:
    """Keeps the thread that pickled it."""

    threads: list[int] = []

    def __reduce__(self) -> tuple[type[Sent], tuple[()]]:
        self.threads.append(threading.get_ident())
        return Sent, ()


@pytest.fixture(autouse=True)
def middleware_only(settings: SettingsWrapper) -> None:
    """A project of Django's own parts, and our middleware in front."""
    settings.CACHES = {
        "default": {"BACKEND": LOCMEM, "LOCATION": secrets.token_hex(8)},
        "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
    }
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    ContextCacheMiddleware(lambda request: HttpResponse())


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Call an operation of the default cache, or its async twin."""

    def called(name: str, *args: Any, **kwargs: Any) -> Any:
        cache = caches["default"]
        if request.param == "sync":
            return getattr(cache, name)(*args, **kwargs)
        return async_to_sync(getattr(cache, f"a{name}"))(*args, **kwargs)

    return called


def profile() -> dict[str, Any]:
    return {"cookie": Profile().headers}


def test_every_write_is_reported_once_and_stored_as_ever(call: Callable[..., Any]) -> None:
    """The finding names alias, backend and key; the bytes are those Django would have stored."""
    writes: list[Callable[[], Any]] = [
        lambda: call("set", "key", profile()),
        lambda: call("add", "new", profile()),
        lambda: call("set_many", {"many": profile(), "clean": [1]}),
        lambda: call("get_or_set", "computed", profile),
    ]
    for write, key in zip(writes, ("key", "new", "many", "computed"), strict=True):
        with capture_findings() as findings:
            write()
        assert [str(finding.path) for finding in findings] == [f"cache['{key}']['cookie']"]
        assert findings[0].sink == "cache 'default' in memory"
        assert findings[0].did == "stored unchanged (nothing guards this cache)"
        assert call("get", key) == profile()
    stored = caches["default"]._cache[":1:key"]  # type: ignore[attr-defined]
    assert stored == pickle.dumps(profile(), pickle.HIGHEST_PROTOCOL)


def test_what_django_cannot_store_fails_as_ever_and_is_reported(call: Callable[..., Any]) -> None:
    """The error is Django's own, and the path is in the log."""
    with capture_findings() as findings, pytest.raises(TypeError, match="cannot pickle"):
        call("set", "rows", {"rows": generator()})
    assert [str(finding.path) for finding in findings] == ["cache['rows']['rows']"]
    refused = "nothing was stored: pickle refuses it (nothing guards this cache)"
    assert findings[0].did == refused


def test_a_clean_write_reports_nothing(call: Callable[..., Any]) -> None:
    """Scalars are not even looked at."""
    with capture_findings() as findings:
        for value in (1, "text", None, b"bytes", [1, {"a": 2}]):
            call("set", "key", value)
            assert call("get", "key", "default") == value
    assert findings == []


@pytest.mark.django_db
def test_a_request_names_its_view(settings: SettingsWrapper) -> None:
    """Sessions that Django keeps in its cache are among what is seen."""
    with capture_findings() as findings:
        WebClient(raise_request_exception=False).get("/cart")
    assert {str(finding.path) for finding in findings} == {
        "session['cart'].items[1].client._lock",
        "session['cart'].items[1].client._local",
    }
    assert {finding.sink for finding in findings} == {"cache 'default' in memory"}
    for finding in findings:
        assert finding.origin == "GET cart · tests.django.views.add_to_cart"


def test_the_cache_stays_what_it_is() -> None:
    """Its class is a subclass of its own, under the same name, and nobody else's is touched."""
    cache = caches["default"]
    assert isinstance(cache, LocMemCache)
    assert isinstance(cache, Observed)
    assert type(cache).__qualname__ == "LocMemCache"
    assert type(cache).__module__ == LocMemCache.__module__
    assert not issubclass(LocMemCache, Observed)
    assert not isinstance(LocMemCache("other", {}), Observed)


def test_a_failure_of_ours_fails_no_write(
    monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any]
) -> None:
    """Nobody who only looks may stand in the way."""
    monkeypatch.setattr("contextcache.engine.outcome.heaviest", lambda _: 1 / 0)
    monkeypatch.setitem(cache_observer._AS_IT_IS, "MAX_SIZE", 1)
    call("set", "key", [1])
    assert call("get", "key") == [1]


class Alien:
    """A backend that has the interface, and not Django's base class."""

    def __init__(self, *_: object) -> None:
        self.held: dict[str, object] = {}

    def set(self, key: str, value: object) -> None:
        self.held[key] = value

    def close(self) -> None:
        """Django calls it after each request."""


def test_a_backend_without_the_base_class_is_left_alone(settings: SettingsWrapper) -> None:
    """The methods of Django's `BaseCache` would come before its own, and only raise."""
    settings.CACHES = {"default": {"BACKEND": f"{__name__}.Alien"}}
    caches["default"].set("key", 1)
    assert caches["default"].held == {"key": 1}


def test_caches_that_were_there_before_and_those_of_other_threads() -> None:
    """The thread that starts the server has its own, and so has each worker."""
    seen = [isinstance(caches["dummy"], Observed)]
    thread = threading.Thread(target=lambda: seen.append(isinstance(caches["dummy"], Observed)))
    thread.start()
    thread.join()
    assert seen == [True, True]


def test_a_cache_with_a_guard_is_left_alone(settings: SettingsWrapper) -> None:
    """It reports what it cuts, and once is enough."""
    slot = "contextcache_django.serializers.CacheSerializer"
    settings.CACHES = {
        "default": {"BACKEND": "contextcache_django.cache.RedisCache"},
        "guarded": {
            "BACKEND": "contextcache_django.cache.GuardedCache",
            "OPTIONS": {"BACKEND": LOCMEM},
        },
        "slot": {"BACKEND": REDIS, "LOCATION": "redis://x", "OPTIONS": {"serializer": slot}},
        "bare": {"BACKEND": REDIS, "LOCATION": "redis://x"},
    }
    observed = {alias: isinstance(caches[alias], Observed) for alias in settings.CACHES}
    assert observed == {"default": False, "guarded": False, "slot": False, "bare": True}


def test_the_value_is_looked_at_in_the_thread_of_an_async_caller() -> None:
    """Where its thread-locals are what the caller sees."""
    Sent.threads.clear()

    async def write() -> None:
        await caches["default"].aset("key", Sent())

    asyncio.run(write())
    assert Sent.threads[0] == threading.get_ident()
    assert Sent.threads[-1] != threading.get_ident()


def test_it_can_be_switched_off(settings: SettingsWrapper, call: Callable[..., Any]) -> None:
    """`OBSERVE` is False where the second look at each value is too dear."""
    settings.CONTEXTCACHE = {"OBSERVE": False}
    with capture_findings() as findings:
        call("set", "key", profile())
    assert findings == []
    vars(caches).pop("create_connection")
    ContextCacheMiddleware(lambda request: HttpResponse())
    assert "create_connection" not in vars(caches)


def test_mode_off_observes_nothing(settings: SettingsWrapper, call: Callable[..., Any]) -> None:
    """A cache that nobody guards is left alone, too."""
    settings.CONTEXTCACHE = {"MODE": "off"}
    Sent.threads.clear()
    with capture_findings() as findings:
        call("set", "key", {"profile": Profile(), "sent": Sent()})
    assert len(Sent.threads) == 1
    assert findings == []
