"""Each command of the session storage loses its request or its answer once, one after the other.

`test_session_model.py` draws what happens; here, each step has to come to the same end as if
nothing had been lost.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import redis

from contextcache import ServerError
from contextcache.storage.sessions import TOMBSTONE, TOMBSTONE_SECONDS
from tests.faults.test_session_model import ANSWER_LOST, HOUR, LOSSES, encoded, key_of, storage_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contextcache.storage.sessions import SessionStorage

OLD, NEW, OTHER = (key_of(sid) for sid in ("old", "new", "other"))
DATA = {sid: encoded(sid, {"login": 1}) for sid in ("old", "new", "other")}


class Lossy:
    """A client that loses one command on the way there or back."""

    def __init__(self, client: redis.Redis, number: int, fate: str) -> None:
        self._client, self._number, self._fate = client, number, fate
        self.sent = 0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(self._send, name)

    def _send(self, name: str, *args: Any, **options: Any) -> Any:
        self.sent += 1
        lost = self.sent == self._number
        if not lost or self._fate == ANSWER_LOST:
            answer = getattr(self._client, name)(*args, **options)
        if lost:
            raise redis.ConnectionError("lost")
        return answer


def alive(client: redis.Redis) -> set[str]:
    return {key for key in (OLD, NEW, OTHER) if client.exists(key)}


def in_time(client: redis.Redis) -> None:
    client.set(OLD, DATA["old"])


def logged_out(client: redis.Redis) -> None:
    client.delete(OLD)


def overtaken(client: redis.Redis) -> None:
    """Another request has rotated the session."""
    going_on(client)
    client.delete(OLD)


def going_on(client: redis.Redis) -> None:
    """Another request is rotating the session."""
    client.set(OLD, DATA["old"])
    client.set(OTHER, DATA["other"])
    payload = storage_over(client)._tombstone(OLD, OTHER)
    client.set(OLD + TOMBSTONE, payload, ex=TOMBSTONE_SECONDS)


def cut_off(client: redis.Redis) -> None:
    """Another request has ended while it was rotating the session."""
    going_on(client)
    client.expire(OLD + TOMBSTONE, TOMBSTONE_SECONDS - 5)


def overtaken_long_ago(client: redis.Redis) -> None:
    """Nothing was cut off: the visitor has the new id."""
    cut_off(client)
    client.delete(OLD)


def cut_off_and_expired(client: redis.Redis) -> None:
    """And what it has created is gone."""
    cut_off(client)
    client.delete(OTHER)


def attempts(
    client: redis.Redis,
    prepare: Callable[[redis.Redis], None],
    act: Callable[[SessionStorage], Any],
    fate: str,
) -> Iterator[Any]:
    """Yield what `act` returns, or the error, with each of its commands lost once."""
    for number in itertools.count(1):
        client.flushall()
        prepare(client)
        lossy = Lossy(client, number, fate)
        try:
            found = act(storage_over(lossy))
        except ServerError as error:
            found = error
        if lossy.sent < number:
            assert number > 1
            return
        yield found


@pytest.mark.parametrize("fate", LOSSES)
@pytest.mark.parametrize(
    ("prepare", "counts", "left"),
    [
        (in_time, True, {NEW}),
        (logged_out, False, set()),
        (overtaken, False, {OTHER}),
        (overtaken_long_ago, False, {OTHER}),
        (going_on, False, {OLD, OTHER}),
        (cut_off, True, {NEW}),
        (cut_off_and_expired, False, {OLD}),
    ],
)
def test_a_rotation_with_one_lost_message(
    redis_client: redis.Redis,
    prepare: Callable[[redis.Redis], None],
    counts: bool,
    left: set[str],
    fate: str,
) -> None:
    """It counts, or not, as without; and a logout with the old id finds what is left."""

    def rotate(storage: SessionStorage) -> bool:
        redis_client.set(NEW, DATA["new"])
        return storage.rotate(OLD, NEW)

    for found in attempts(redis_client, prepare, rotate, fate):
        assert (found, alive(redis_client)) == (counts, left)
        storage_over(redis_client).delete(OLD)
        assert alive(redis_client) == set()


STEPS: dict[str, tuple[Callable[..., Any], set[str]]] = {
    "create": (lambda storage, **how: storage.create(NEW, DATA["new"], HOUR, **how), {OLD, NEW}),
    "replace": (lambda storage, **how: storage.replace(OLD, DATA["old"], HOUR, **how), {OLD}),
    "expire": (lambda storage, **how: storage.replace(OLD, DATA["old"], 0, **how) or True, set()),
    "delete": (lambda storage, **how: storage.delete(OLD, **how) or True, set()),
}


@pytest.mark.parametrize("fate", LOSSES)
@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_sent_twice_where_it_is_lost(
    redis_client: redis.Redis, step: str, fate: str
) -> None:
    act, left = STEPS[step]
    for found in attempts(redis_client, in_time, functools.partial(act, twice=True), fate):
        assert (found, alive(redis_client)) == (True, left)
    for found in attempts(redis_client, in_time, act, fate):
        assert isinstance(found, ServerError), "the visitor repeats it"


def test_what_is_gone_is_not_replaced_and_what_is_there_not_created(
    redis_client: redis.Redis,
) -> None:
    storage = storage_over(redis_client)
    assert not storage.replace(OLD, DATA["old"], HOUR)
    assert not alive(redis_client)
    in_time(redis_client)
    assert not storage.create(OLD, DATA["new"], HOUR)
    assert redis_client.get(OLD) == DATA["old"]


def test_a_deletion_follows_where_a_session_went(redis_client: redis.Redis) -> None:
    """With each message of it lost once."""
    for fate in LOSSES:
        for found in attempts(redis_client, overtaken, lambda s: s.delete(OLD, twice=True), fate):
            assert (found, alive(redis_client)) == (False, set())
