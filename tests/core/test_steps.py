"""Steps: the same logic over clients that block and clients that do not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from contextcache.base.steps import Found, awaitable, blocking, items, items_async, run, run_async

if TYPE_CHECKING:
    from contextcache.base.steps import Steps


class Blocking:
    """A client whose answers are there at once."""

    def half(self, number: int) -> int:
        if number % 2:
            raise ValueError(number)
        return number // 2


class Asynchronous(Blocking):
    """A client whose answers are waited for."""

    async def half(self, number: int) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().half(number)


def halve(client: Any, number: int) -> Steps[tuple[int, int]]:
    """Return how often `number` can be halved, and what is left; an error ends it."""
    for times in range(100):
        try:
            number = yield client.half(number)
        except ValueError:
            return times, number
    raise AssertionError


def numbers(client: Any, count: int) -> Steps[None]:
    """Find the halves of the first even numbers, two at a time; then fail."""
    for number in range(0, count, 2):
        half = yield client.half(number)
        yield Found([half, -half])
    yield client.half(1)


def test_both_clients_lead_to_the_same() -> None:
    """Results, and errors where the steps wait."""
    for number in (1, 12, 80, 7):
        expected = run(halve(Blocking(), number))
        assert asyncio.run(run_async(halve(Asynchronous(), number))) == expected
        assert blocking(halve)(Blocking(), number) == expected

        async def called(number: int = number) -> tuple[int, int]:
            return await awaitable(halve)(Asynchronous(), number)

        assert asyncio.run(called()) == expected
    assert run(halve(Blocking(), 80)) == (4, 5)


def test_what_is_found_is_yielded_until_it_fails() -> None:
    """In the order in which it is found."""

    expected = [0, 0, 1, -1, 2, -2]
    halves = items(numbers(Blocking(), 6))
    assert [next(halves) for _ in expected] == expected
    with pytest.raises(ValueError, match="1"):
        next(halves)

    async def find() -> None:
        halves = items_async(numbers(Asynchronous(), 6))
        assert [await anext(halves) for _ in expected] == expected  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="1"):
            await anext(halves)  # type: ignore[arg-type]

    asyncio.run(find())


def test_a_cancellation_is_raised_where_the_steps_wait() -> None:
    """So that what they hold is given back."""
    seen: list[str] = []

    def waits() -> Steps[None]:
        try:
            yield asyncio.sleep(60)
        finally:
            seen.append("given back")

    async def cancel() -> None:
        task = asyncio.create_task(run_async(waits()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert seen == ["given back"]
