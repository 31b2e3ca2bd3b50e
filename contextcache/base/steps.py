"""Logic that waits for a server, written once for threads and for event loops.

It is a generator that yields what a client's method returns, and goes on with the answer:
`answer = yield client.execute_command("GET", key)`. With a client that blocks that is the answer
itself; with an asynchronous one it is a coroutine, which `run_async` awaits. An error is raised
where the generator waits, in both.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator

    Steps = Generator[Any, Any, "R"]

P = ParamSpec("P")
R = TypeVar("R")


def run(steps: Steps[R]) -> R:
    """Return the result of `steps` over a client that blocks."""
    answer = None
    try:
        while True:
            answer = steps.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result


async def run_async(steps: Steps[R]) -> R:
    """Return the result of `steps` over an asynchronous client."""
    try:
        waiting = next(steps)
        while True:
            try:
                answer = await waiting
            except BaseException as error:  # noqa: BLE001  # a cancellation, too
                waiting = steps.throw(error)
            else:
                waiting = steps.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result


class Found(list[Any]):
    """What steps have found until now, for `items` and `items_async`."""


def items(steps: Steps[None]) -> Iterator[Any]:
    """Yield what `steps` find over a client that blocks."""
    answer = None
    with contextlib.suppress(StopIteration):
        while True:
            answer = steps.send(answer)
            if isinstance(answer, Found):
                yield from answer
                answer = None


async def items_async(steps: Steps[None]) -> AsyncIterator[Any]:
    """Yield what `steps` find over an asynchronous client."""
    with contextlib.suppress(StopIteration):
        step = next(steps)
        while True:
            if isinstance(step, Found):
                for item in step:
                    yield item
                step = next(steps)
                continue
            try:
                answer = await step
            except BaseException as error:  # noqa: BLE001  # a cancellation, too
                step = steps.throw(error)
            else:
                step = steps.send(answer)


def blocking(steps: Callable[P, Steps[R]]) -> Callable[P, R]:
    """Return the method that runs `steps` over a client that blocks."""

    @functools.wraps(steps)
    def method(*args: P.args, **options: P.kwargs) -> R:
        running, answer = steps(*args, **options), None
        try:  # what `run` does, a call less
            while True:
                answer = running.send(answer)
        except StopIteration as end:
            result: R = end.value
            return result

    return method


def awaitable(steps: Callable[P, Steps[R]]) -> Callable[P, Awaitable[R]]:
    """Return the method that runs `steps` over an asynchronous client."""

    @functools.wraps(steps)
    async def method(*args: P.args, **options: P.kwargs) -> R:
        return await run_async(steps(*args, **options))

    return method
