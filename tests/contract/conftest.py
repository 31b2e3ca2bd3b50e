"""What every test of the contract is run over."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.stores import STORES, Places, Store, name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis


@pytest.fixture
def places(redis_url: str, redis_client: redis.Redis, memcached: str, tmp_path: Path) -> Places:
    """An empty Redis, a memcached and an empty folder."""
    return Places(redis_url, memcached, tmp_path)


@pytest.fixture(params=STORES, ids=name_of)
def kind(request: pytest.FixtureRequest) -> type[Store]:
    """Each class of store."""
    found: type[Store] = request.param
    return found


@pytest.fixture
def open_store(kind: type[Store], places: Places, db: None) -> Iterator[Callable[..., Store]]:
    """Open the store with settings of contextcache."""
    with contextlib.ExitStack() as stack:

        def opened(**settings: Any) -> Store:
            return stack.enter_context(kind(places, **settings))

        yield opened


@pytest.fixture
def store(open_store: Callable[..., Store]) -> Store:
    """The store with the default settings."""
    return open_store()
