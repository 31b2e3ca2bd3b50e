"""The asynchronous methods in one event loop: what is not a matter of the contract."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.core.cache import caches

from contextcache_django.sessions import SessionStore
from tests.django.shop import PerThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from contextcache_django.cache import RedisCache

MEGABYTES = 20


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail what starts a thread for a method that should need none."""

    def start(thread: threading.Thread) -> None:
        raise AssertionError(f"{thread.name} was started")

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.usefixtures("no_threads")
def test_no_method_of_the_cache_needs_a_thread(cache: RedisCache) -> None:
    """All of Django's asynchronous methods, those that it derives included."""

    async def use() -> None:
        await cache.aset("key", {"a": 1})
        assert await cache.aget("key") == {"a": 1}
        assert not await cache.aadd("key", 1)
        assert await cache.aget_or_set("other", lambda: 1) == 1
        assert await cache.aset_many({"x": 1, "y": 2}, 60) == []
        assert await cache.aget_many(["x", "y", "z"]) == {"x": 1, "y": 2}
        assert await cache.ahas_key("x")
        assert await cache.atouch("x", 10)
        assert await cache.aincr("x") == 2
        assert await cache.adecr("x", 2) == 0
        with pytest.raises(ValueError, match="not found"):
            await cache.aincr("none")
        assert await cache.aincr_version("y") == 2
        assert await cache.aget("y", version=2) == 2
        assert await cache.adelete("x")
        await cache.adelete_many(["key", "other"])
        await cache.aclear()
        assert await cache.aget("y", "none", version=2) == "none"
        await cache.aclose()

    asyncio.run(use())


@pytest.mark.usefixtures("no_threads", "cache")
def test_no_method_of_a_session_needs_a_thread() -> None:
    """From the first page to the logout; what was logged out is not brought back."""

    async def use() -> None:
        session = SessionStore()
        await session.aset("cart", [1])
        await session.acreate()
        first = session.session_key
        assert await session.aexists(first)
        read = SessionStore(first)
        assert await read.aget("cart") == [1]
        await read.acycle_key()
        assert read.session_key != first
        assert not await read.aexists(first)
        await read.aset("cart", [1, 2])
        await read.asave()
        late = SessionStore(read.session_key)
        assert await late.aget("cart") == [1, 2]
        await SessionStore(first).adelete(first)  # a logout with the id from before
        with pytest.raises(UpdateError):
            await late.asave()
        await late.aflush()
        assert await SessionStore(read.session_key).aload() == {}

    asyncio.run(use())


def test_each_task_stores_what_is_its_own(configure: Callable[..., Any], redis_url: str) -> None:
    """Of a context variable and a thread-local that rules store, among hundreds of tasks."""
    rules = {"tests.django.shop.PerThread": "snapshot"}
    cache = configure(redis_url, OPTIONS={"CONTEXTCACHE": {"RULES": rules}})
    tenant = contextvars.ContextVar[int]("tenant")
    local = PerThread(thread=threading.get_ident())

    async def write(number: int) -> None:
        tenant.set(number)
        await asyncio.sleep(random.random() / 100)
        await cache.aset(f"task-{number}", {"tenant": tenant.get(), "local": local})
        found = await cache.aget(f"task-{number}")
        assert found["tenant"] == number
        assert vars(found["local"]) == {"thread": threading.get_ident()}

    async def write_all() -> None:
        await asyncio.gather(*(write(number) for number in range(300)))

    asyncio.run(write_all())


@pytest.mark.parametrize("compress", ["", "zlib"])
def test_a_large_value_does_not_hold_up_the_loop(
    configure: Callable[..., Any], redis_url: str, compress: str
) -> None:
    """It is compressed, signed and verified in a thread; the next task waits a fraction of that."""
    options = {"CONTEXTCACHE": {"COMPRESS": compress, "TIMEOUT": 30}}
    cache = configure(redis_url, OPTIONS=options)
    value = random.Random(0).randbytes(MEGABYTES * 2**20)
    pauses: list[float] = []

    async def count() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0)
            pauses.append(time.perf_counter() - began)

    async def store() -> float:
        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        began = time.perf_counter()
        await cache.aset("large", value, 60)
        assert await cache.aget("large") == value
        counting.cancel()
        return time.perf_counter() - began

    took = asyncio.run(store())
    assert len(pauses) > 10
    assert max(pauses) < took * 0.6


def test_a_session_that_is_saved_twice_at_once_is_whole(cache: RedisCache) -> None:
    """Requests of one visitor overlap in one loop."""

    async def page(key: str, number: int) -> None:
        session = SessionStore(key)
        await session.aset("last", number)
        await session.asave()

    async def visit() -> None:
        session = SessionStore()
        await session.aset("user", 7)
        await session.acreate()
        key = str(session.session_key)
        await asyncio.gather(*(page(key, number) for number in range(50)))
        found = await SessionStore(key).aload()
        assert found["user"] == 7
        assert found["last"] in range(50)

    asyncio.run(visit())
    assert caches["default"] is cache


def test_pages_that_are_cancelled_read_nothing_of_each_other(cache: RedisCache) -> None:
    """As where visitors leave before the page is there: hundreds, at random moments."""
    wrong: list[object] = []

    async def page(number: int) -> None:
        keys = [f"page-{number}-{part}" for part in range(3)]
        session = SessionStore()
        await session.aset("owner", number)
        await session.acreate()
        while True:
            await cache.aset_many(dict.fromkeys(keys, number))
            found = await cache.aget_many(keys)
            other = await SessionStore(session.session_key).aget("owner")
            seen = {*found.values(), other, await cache.aget(keys[0])}
            if seen != {number}:
                wrong.append((number, seen))

    async def visit() -> None:
        chance = random.Random(0)
        for first in range(0, 300, 30):
            pages = [asyncio.create_task(page(first + number)) for number in range(30)]
            await asyncio.sleep(0.02)
            for one in chance.sample(pages, len(pages)):
                await asyncio.sleep(chance.random() / 500)
                one.cancel()
            ended = await asyncio.gather(*pages, return_exceptions=True)
            assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended

    asyncio.run(visit())
    assert wrong == []
