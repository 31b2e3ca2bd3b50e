"""What contextcache's own Redis caches do while Redis cannot be reached, or takes no writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from contextcache import ServerError
from tests.contract.stores import MISS, STORES, DjangoStore, Places, Store, name_of
from tests.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

REASON = "connection refused; start the server or correct the URL"

CALLS: dict[str, Callable[[Store], Any]] = {
    "get": lambda store: store.get("key"),
    "get_many": lambda store: store.get_many("key", "other"),
    "set": lambda store: store.set("key", 1),
    "add": lambda store: store.add("key", 1),
    "set_many": lambda store: store.set_many({"key": 1, "other": 2}),
    "incr": lambda store: store.incr("key"),
    "delete": lambda store: store.delete("key"),
    "delete_many": lambda store: store.delete_many("key", "other"),
    "clear": lambda store: store.clear(),
}
AS_IF_EMPTY = {
    "get": MISS,
    "get_many": {},
    "set": None,
    "add": False,
    "set_many": {"key", "other"},
    "incr": None,
    "delete": False,
    "delete_many": None,
    "clear": None,
}
DELETIONS = ("delete", "delete_many", "clear")


@pytest.fixture(params=[kind for kind in STORES if getattr(kind, "owns_redis", False)], ids=name_of)
def kind(request: pytest.FixtureRequest) -> type[Store]:
    """Each class of store that talks to Redis by itself."""
    found: type[Store] = request.param
    return found


@pytest.fixture
def unreachable(kind: type[Store], tmp_path: Path) -> Iterator[Callable[..., tuple[Store, str]]]:
    """Open a store on a Redis that is not there; its URL, as it may be logged, comes with it."""
    with contextlib.ExitStack() as stack:

        def opened(**settings: Any) -> tuple[Store, str]:
            port = free_port()
            places = Places(f"redis://user:canary@127.0.0.1:{port}/0", "", tmp_path)
            store = stack.enter_context(kind(places, **settings))
            return store, f"redis://127.0.0.1:{port}/0"

        yield opened


@pytest.mark.parametrize("name", CALLS)
def test_in_an_outage_the_cache_is_as_if_it_were_empty(
    unreachable: Callable[..., tuple[Store, str]],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Pages go on, and one line says where, why, and what to do; deletions are counted."""
    store, url = unreachable()
    counts = name == "incr" and isinstance(store, DjangoStore)
    for _ in range(2):
        with pytest.raises(ValueError, match="not found") if counts else contextlib.nullcontext():
            assert CALLS[name](store) == AS_IF_EMPTY[name]
    outage = f"contextcache: {store.sink}: Redis at {url} cannot be reached: {REASON}"
    if name in DELETIONS:
        assert caplog.messages == [
            f"{outage} (what should be deleted is still there, or not deleted everywhere; failed "
            f"deletion {number} within a minute)"
            for number in (1, 2)
        ]
    else:
        assert caplog.messages[0] == f"{outage} (it is as if it were empty; told once a minute)"
        # The circuit opens after some failures, which a client of the application's has not.
        assert len(caplog.messages) <= 2
        assert all("is left alone after 3 failures" in line for line in caplog.messages[1:])
    assert "canary" not in caplog.text


@pytest.mark.parametrize("name", CALLS)
def test_an_outage_can_be_an_error(
    unreachable: Callable[..., tuple[Store, str]], name: str
) -> None:
    """With `ON_ERROR = "raise"` it names the URL that was tried, and no password."""
    store, url = unreachable(ON_ERROR="raise")
    with pytest.raises(ServerError) as caught:
        CALLS[name](store)
    assert str(caught.value) == f"Redis at {url} cannot be reached: {REASON}"
    assert isinstance(caught.value.__cause__, RedisConnectionError)


def test_a_redis_that_is_full_gives_what_it_has_and_nothing_stale(
    store: Store, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads go on; what could not be replaced is gone, and not taken for the new value."""
    store.set_many({"kept": 1, "replaced": 1, "one": 1, "another": 1})
    redis_client.config_set("maxmemory", 1)
    try:
        assert store.get("kept") == 1
        store.set("replaced", 2)
        assert store.get("replaced") is MISS
        assert store.set_many({"one": 2, "another": 2}) == {"one", "another"}
        assert store.get_many("kept", "one", "another") == {"kept": 1}
        assert store.add("new", 1) is False
    finally:
        redis_client.config_set("maxmemory", 0)
    (message,) = caplog.messages
    assert message.startswith(f"contextcache: {store.sink}: Redis at redis://")
    assert message.endswith(
        "takes no writes: its memory is full (OOM); raise maxmemory, or set maxmemory-policy to "
        "one that evicts (nothing is stored; told once a minute)"
    )


def test_a_key_of_another_type_is_a_miss(
    store: Store, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Another program that writes to Redis takes no page down with a list."""
    store.set("list", 1)
    (redis_key,) = redis_client.keys()
    redis_client.delete(redis_key)
    redis_client.lpush(redis_key, 1)
    assert store.get("list") is MISS
    assert "WRONGTYPE" in caplog.text
    store.set("list", "value")
    assert store.get("list") == "value"


def test_what_is_wrong_with_a_command_is_no_outage(store: Store) -> None:
    """Adding one to a text is a mistake of the application's, and raises."""
    store.set("text", "text")
    with pytest.raises(ResponseError, match="not an integer"):
        store.incr("text")
