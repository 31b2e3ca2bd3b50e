"""Payloads in one Redis, for event loops; see `contextcache.storage.redis_store`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.base.steps import awaitable
from contextcache.exceptions import ServerError, UncacheableValueError
from contextcache.guard import LARGE_COMPRESSED
from contextcache.storage.commands import LABEL as SESSION
from contextcache.storage.keyed_guard import SKIPPED, KeyedGuard, label_of
from contextcache.storage.redis_store import SCANNED, StoreSteps, set_command
from contextcache.storage.sessions import as_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from contextcache.guard import Guard
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


class AsyncKeyedGuard:
    """What a cache holds under its keys, for event loops; see `KeyedGuard`.

    Args:
        guard: Makes and reads payloads.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._keyed = KeyedGuard(guard)

    async def encode(self, key: object, value: object, redis_key: str) -> Payload:
        """Return what is stored for `value`, or `SKIPPED`."""
        if type(value) is int:
            return value
        try:
            return await self._guard.dumps_async(value, label=label_of(key), key=redis_key)
        except UncacheableValueError:
            if self._guard.config.mode == "strip":
                return SKIPPED
            raise

    async def decode(self, key: object, payload: bytes, redis_key: str, default: object) -> Any:
        """Return the value of `payload`; one that cannot be read is reported, and `default`."""
        if len(payload) < LARGE_COMPRESSED:
            return self._keyed.decode(key, payload, redis_key, default)
        label = label_of(key)
        try:
            value = await self._guard.loads_async(payload, label=label, key=redis_key)
            return value if label != SESSION else as_session(value)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # a serializer of the application's own
            self._guard.report_unreadable(error, label=label)
            return default
