"""Asynchronous clients: the twins of those that block, for whichever event loop runs.

A client of one server shares its circuit breaker and its words with the client that blocks. It has
the few methods that stores of contextcache use, and no other ones of redis-py's.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import redis

from contextcache.servers.deadline import current
from contextcache.servers.errors import diagnose
from contextcache.servers.operations import RESULTS, Operation, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from contextcache.servers.operations import Client

    Command = tuple[Any, ...]


class AsyncClient:
    """An asynchronous client of one server, or of the master of the moment.

    Args:
        client: The client of the same server that blocks.
    """

    address: tuple[str, int]  # of a node of a cluster

    def __init__(self, client: Client) -> None:
        self.server: Server = client.server
        self._callbacks = client.response_callbacks

    @property
    def name(self) -> str:
        """The URL without user, password and query."""
        return self.server.name

    @property
    def failures(self) -> int:
        """How often in a row it could not be reached until now."""
        return self.server.breaker.failures

    async def execute_command(self, *command: Any) -> Any:
        """Send one command and return the answer."""
        with Operation(self.server):
            answer = (await self._ask((command,)))[0]
            if isinstance(answer, redis.ResponseError):
                raise answer
        return self._result(command, answer)

    async def execute_many(
        self,
        commands: Sequence[Command],
        *,
        raise_on_error: bool = True,
        options: object = None,  # noqa: ARG002  # of redis-py, as for clients that block
    ) -> list[Any]:
        """Send commands together and return their answers.

        Args:
            commands: The commands.
            raise_on_error: Whether to raise, once all are answered, what one of them failed with.
            options: None of redis-py's are known here.
        """
        if not commands:
            return []
        with Operation(self.server):
            answers = await self._ask(commands)
            failed = [one for one in answers if isinstance(one, redis.ResponseError)]
            if raise_on_error and failed:
                raise next((one for one in failed if diagnose(one) is not None), failed[0])
        return [
            self._result(command, answer) for command, answer in zip(commands, answers, strict=True)
        ]

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        pool = self.server.async_pools.pool()
        deadline = current.get()()
        assert deadline is not None  # noqa: S101  within an operation
        sentinels = pool.sentinels
        connection = (None if sentinels else pool.take()) or await pool.lend(deadline)
        try:
            answers: list[Any] = await connection.ask(commands, deadline)
            if sentinels and any(isinstance(one, _READ_ONLY) for one in answers):
                connection.close()  # it is no master any more
                sentinels.forget()
        finally:
            pool.give_back(connection)
        return answers

    def _result(self, command: Command, answer: Any) -> Any:
        name = command[0]
        convert = RESULTS[name] if name in RESULTS else self._callbacks.get(name)
        return answer if convert is None or isinstance(answer, Exception) else convert(answer)

    # --- What redis-py's clients call so ----------------------------------------------------------

    async def mget(self, keys: Sequence[Any]) -> Any:
        """Return the values under `keys`."""
        return await self.execute_command("MGET", *keys)

    async def delete(self, *keys: Any) -> Any:
        """Delete `keys`, and return how many there were."""
        return await self.execute_command("DEL", *keys)

    async def unlink(self, *keys: Any) -> Any:
        """Delete `keys` while the server goes on, and return how many there were."""
        return await self.execute_command("UNLINK", *keys)

    async def flushdb(self) -> Any:
        """Delete everything."""
        return await self.execute_command("FLUSHDB")

    async def scan_iter(self, match: Any, count: int) -> AsyncIterator[Any]:
        """Yield the keys that match."""
        cursor: Any = 0
        while True:
            command = "SCAN", cursor, "MATCH", match, "COUNT", count
            cursor, keys = await self.execute_command(*command)
            for key in keys:
                yield key
            if not cursor:
                return


_READ_ONLY = redis.exceptions.ReadOnlyError


class EmbeddedAsyncClient:
    """An asynchronous client of a server inside this process, which answers at once.

    Other tasks go on meanwhile, as they do where there is something to wait for.

    Args:
        client: The client that blocks, as far as there is anything to wait for.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def execute_many(
        self, commands: Sequence[Command], *, raise_on_error: bool = True
    ) -> list[Any]:
        """Send commands together and return their answers."""
        await asyncio.sleep(0)
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        answers: list[Any] = pipeline.execute(raise_on_error)
        return answers

    async def scan_iter(self, match: Any, count: int) -> AsyncIterator[Any]:
        """Yield the keys that match."""
        for key in self._client.scan_iter(match, count):
            yield key

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        async def ask(*args: Any) -> Any:
            await asyncio.sleep(0)
            return method(*args)

        return ask
