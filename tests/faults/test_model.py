"""A cache against a dict: whatever happens to Redis, a read gives the value or a miss.

A machine draws what happens next: writes, reads, expiry, a killed server, another secret, damaged
bytes, payloads that change places. What was not touched must be there; what was is a miss; and
nothing else is ever returned or raised.

Plain integers are left out: they are stored raw, so that Redis can count, and anybody who can
write to Redis can write another one.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.faults.payloads import EVIL, disguised, executed
from tests.faults.places import PATIENT, DjangoCache, FlaskCache
from tests.redis_server import KEPT, RedisServer, running_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = ["a", "b", "c", "d"]

keys = st.sampled_from(KEYS)
scalars = st.one_of(st.text(max_size=8), st.binary(max_size=8), st.floats(allow_nan=False))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner | st.integers(), max_size=3),
        st.dictionaries(st.text(max_size=3), inner | st.integers(), max_size=3),
    ),
    max_leaves=8,
).filter(lambda value: type(value) is not int)
planted = st.sampled_from([one for evil in EVIL.values() for one in disguised(evil).values()])


class DjangoSide(DjangoCache):
    """The operations of Django's cache that the machine uses."""

    def get(self, key: str) -> Any:
        return caches["default"].get(key)

    def get_many(self) -> dict[str, Any]:
        return dict(caches["default"].get_many(KEYS))

    def set(self, key: str, value: object) -> None:
        caches["default"].set(key, value)

    def set_many(self, mapping: dict[str, object]) -> None:
        caches["default"].set_many(mapping)

    def delete(self, key: str) -> None:
        caches["default"].delete(key)

    def place_of(self, key: str) -> str:
        return f":1:{key}"


class FlaskSide(FlaskCache):
    """The same of Flask-Caching's."""

    def get(self, key: str) -> Any:
        with self.app.app_context():
            return self.cache.get(key)

    def get_many(self) -> dict[str, Any]:
        with self.app.app_context():
            found = zip(KEYS, self.cache.get_many(*KEYS), strict=True)
            return {key: value for key, value in found if value is not None}

    def set(self, key: str, value: object) -> None:
        with self.app.app_context():
            self.cache.set(key, value)

    def set_many(self, mapping: dict[str, object]) -> None:
        with self.app.app_context():
            self.cache.set_many(mapping)

    def delete(self, key: str) -> None:
        with self.app.app_context():
            self.cache.delete(key)

    def place_of(self, key: str) -> str:
        return f"flask_cache_{key}"


class CacheMachine(RuleBasedStateMachine):
    """What may happen, and what each key must then give."""

    def __init__(self, server: RedisServer, kind: type[DjangoSide | FlaskSide]) -> None:
        super().__init__()
        executed.clear()
        self.server, self.kind = server, kind
        self.redis = server.client()
        self.redis.flushall()
        self.model: dict[str, object] = {}
        self.signed_with: dict[str, str] = {}
        self.secrets: list[str] = []
        self.stack = contextlib.ExitStack()

    def teardown(self) -> None:
        self.stack.close()
        self.redis.close()

    @initialize()
    def begin(self) -> None:
        self.rotate(keep=0)

    @rule(keep=st.integers(0, 2))
    def rotate(self, keep: int) -> None:
        """Take another secret, and keep some of those from before as fallbacks."""
        self.secrets = [secrets.token_hex(8), *self.secrets[:keep]]
        for key in [key for key, secret in self.signed_with.items() if secret not in self.secrets]:
            self.forget(key)
        self.stack.close()
        cache = self.kind(self.server.url, SECRET_KEYS=self.secrets, **PATIENT)
        self.cache = self.stack.enter_context(cache)

    @rule(key=keys, value=values)
    def set(self, key: str, value: object) -> None:
        self.cache.set(key, value)
        self.remember(key, value)

    @rule(mapping=st.dictionaries(keys, values, min_size=1))
    def set_many(self, mapping: dict[str, object]) -> None:
        self.cache.set_many(mapping)
        for key, value in mapping.items():
            self.remember(key, value)

    @rule(key=keys)
    def delete(self, key: str) -> None:
        self.cache.delete(key)
        self.forget(key)

    @rule(key=keys)
    def expire(self, key: str) -> None:
        self.redis.pexpire(self.cache.place_of(key), 0)
        self.forget(key)

    @rule(key=keys, value=values)
    def crash(self, key: str, value: object) -> None:
        """Kill the server; what is asked for meanwhile is a miss, and what is written is lost."""
        self.server.kill()
        assert self.cache.get(key) is None
        self.cache.set(key, value)
        self.server.start()
        until(self.is_back)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        """Flip a bit, or cut off the end."""
        key = data.draw(st.sampled_from(sorted(self.model)))
        stored = bytearray(self.redis.get(self.cache.place_of(key)) or b"")
        place = data.draw(st.integers(0, len(stored) - 1))
        if data.draw(st.booleans()):
            del stored[place:]
        else:
            stored[place] ^= 1 << data.draw(st.integers(0, 7))
        self.redis.set(self.cache.place_of(key), bytes(stored))
        self.forget(key)

    @precondition(lambda self: self.model)
    @rule(data=st.data(), there=keys)
    def copy(self, data: st.DataObject, there: str) -> None:
        """Put the payload of one key under another."""
        here = data.draw(st.sampled_from(sorted(self.model)))
        if here != there:
            self.redis.copy(self.cache.place_of(here), self.cache.place_of(there), replace=True)
            self.forget(there)

    @rule(key=keys, payload=planted)
    def plant(self, key: str, payload: bytes) -> None:
        self.redis.set(self.cache.place_of(key), payload)
        self.forget(key)

    @rule()
    def get_many(self) -> None:
        assert self.cache.get_many() == self.model

    @rule(key=keys)
    def get(self, key: str) -> None:
        assert self.cache.get(key) == self.model.get(key)

    @invariant()
    def nothing_was_executed(self) -> None:
        assert executed == []

    def remember(self, key: str, value: object) -> None:
        self.model[key], self.signed_with[key] = value, self.secrets[0]

    def forget(self, key: str) -> None:
        self.model.pop(key, None)
        self.signed_with.pop(key, None)

    def is_back(self) -> bool:
        """Write until it succeeds: a breaker lets nothing through for a moment."""
        self.cache.set("probe", "there")
        return bool(self.cache.get("probe") == "there")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_server(*KEPT) as server:
        yield server


@pytest.mark.parametrize("kind", [DjangoSide, FlaskSide])
def test_a_read_gives_the_value_or_a_miss_and_nothing_else(
    server: RedisServer, kind: type[DjangoSide | FlaskSide]
) -> None:
    """Whatever is drawn; a failure is shown as the shortest program that leads to it."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: CacheMachine(server, kind),
        settings=settings(
            max_examples=100,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
