"""Payloads in one Redis, for event loops; see `contextcache.storage.redis_store`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.base.steps import awaitable
from contextcache.exceptions import ServerError
from contextcache.storage.redis_store import SCANNED, StoreSteps, set_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contextcache.storage.redis_store import Command, Payload


class AsyncRedisStore(StoreSteps):
    """The store over asynchronous clients of contextcache."""

    async def get(self, redis_key: str, default: Any = None) -> Any:
        """Return the payload under a key, or `default`."""
        client = self._only_reader or self.reader
        try:
            payload = await client.execute_command("GET", redis_key)
        except Exception as error:  # noqa: BLE001
            self.excuse(client, error)
            return default
        return default if payload is None else payload

    async def set(self, redis_key: str, payload: Payload, seconds: int | None) -> bool:
        """Store a payload, and return whether it was stored; see `set_command`."""
        client, command = self.writer, set_command(redis_key, payload, seconds)
        try:
            return bool(await client.execute_command(*command)) and command[0] == "SET"
        except Exception as error:  # noqa: BLE001
            if self.lose(client, error, deleting=command[0] == "DEL"):
                await self.delete(redis_key)
            return False

    get_many = awaitable(StoreSteps._get_many)
    exists = awaitable(StoreSteps._exists)
    add = awaitable(StoreSteps._add)
    set_many = awaitable(StoreSteps._set_many)
    touch = awaitable(StoreSteps._touch)
    incr = awaitable(StoreSteps._incr)
    delete = awaitable(StoreSteps._delete)
    delete_many = awaitable(StoreSteps._delete_many)
    clear = awaitable(StoreSteps._clear)

    def _send_many(self, client: Any, commands: Sequence[Command]) -> Any:
        return client.execute_many(commands)

    def _batches(self, client: Any, pattern: str, failures: list[ServerError]) -> Callable[[], Any]:
        found = client.scan_iter(pattern, SCANNED)

        async def next_keys() -> list[Any]:
            keys: list[Any] = []
            try:
                async for key in found:
                    keys.append(key)
                    if len(keys) >= SCANNED:
                        break
            except ServerError as error:
                failures.append(error)
            return keys

        return next_keys
