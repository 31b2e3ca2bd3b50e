"""Payloads in one Redis, and what a cache does while that Redis cannot be reached or written.

With `ON_ERROR = "miss"` a cache whose Redis cannot be reached answers as an empty one does, and
one whose Redis takes no writes drops them: pages get slower and go on. With `raise` each method
raises the `ServerError`. The clients see to the deadline and the circuit breaker.

What is asked and decided is written once, for `RedisStore` and `contextcache.storage.async_store`:
in `OutagePolicy`, which sends nothing, and as steps; see `contextcache.base.steps`.
"""

from __future__ import annotations

import random
import re
from itertools import islice
from typing import TYPE_CHECKING, Any

from contextcache.base.logs import error_name
from contextcache.base.steps import blocking
from contextcache.exceptions import ReadOnlyServerError, ServerError
from contextcache.reports.request_scope import current_scope
from contextcache.servers.errors import answered, warn
from contextcache.storage.commands import outage_of
from contextcache.storage.keyed_guard import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from contextcache.base.steps import Steps
    from contextcache.config import Config
    from contextcache.storage.keyed_guard import Skipped

    Payload = bytes | int | Skipped
    Command = tuple[Any, ...]

SCANNED = 1000  # keys that Redis is asked for, and told to delete, at once


class OutagePolicy:
    """Decide what a cache does about an error of its Redis.

    Args:
        config: Returns the policy of the cache.
        sink: The display name of the cache.
    """

    def __init__(self, config: Callable[[], Config], sink: str) -> None:
        self._config = config
        self._sink = sink

    def excuse(self, client: Any, error: Exception, *, deleting: bool = False) -> ServerError:
        """Warn of an outage that would go unnoticed otherwise, and return it.

        Args:
            client: The client that raised `error`.
            error: What it raised.
            deleting: Whether a deletion did not happen, or not everywhere.

        Raises:
            ServerError: `ON_ERROR` is `raise`.
            Exception: `error` itself, where it is about the command.
        """
        outage = outage_of(client, error)
        if outage is None:
            raise error
        if self._config().on_error == "raise":
            if outage is error:  # which has its own cause
                raise error
            raise outage from error
        warn(outage, self._sink, deleting=deleting)
        return outage

    def lose(
        self, client: Any, error: Exception, count: int = 1, *, deleting: bool = False
    ) -> bool:
        """Excuse `count` writes that did not happen; return whether to delete what they replace.

        A Redis that takes no writes still serves what is there, which would be taken for the new
        value. One that cannot be reached cannot be told to delete it.
        """
        if (scope := current_scope()) is not None:
            outage = outage_of(client, error)
            scope.lost(error_name(error) if outage is None else outage.reason, count)
        return isinstance(self.excuse(client, error, deleting=deleting), ReadOnlyServerError)

    def lose_some(
        self, client: Any, error: Exception, commands: Sequence[Command]
    ) -> tuple[list[str], bool]:
        """Excuse what `set_command` returned for several keys; return those that failed, as `lose`.

        Args:
            client: The client that raised `error`.
            error: What it raised.
            commands: What it was to send.
        """
        outage = outage_of(client, error)
        answers = [None] * len(commands) if outage is None else answered(outage, len(commands))
        sent = zip(commands, answers, strict=True)
        failed = [command for command, answer in sent if answer is None]
        deleting = any(command[0] == "DEL" for command in failed)
        stale = self.lose(client, error, max(1, len(failed)), deleting=deleting)
        return [command[1] for command in failed], stale


def set_command(redis_key: str, payload: Payload, seconds: int | None, *conditions: str) -> Command:
    """Return the command that stores a payload, or deletes what is there.

    Args:
        redis_key: The key.
        payload: The payload; `SKIPPED` deletes what is there.
        seconds: After which it expires; None for never, and 0 deletes what is there.
        conditions: `NX` or `XX`.
    """
    if payload is SKIPPED or seconds == 0:
        return "DEL", redis_key
    expiry = () if seconds is None else ("EX", seconds)
    return "SET", redis_key, payload, *expiry, *conditions


class StoreSteps(OutagePolicy):
    """What a cache asks of its Redis, by the keys as the server knows them.

    In an outage a method answers as if the cache were empty; see the module.

    Args:
        writer: The client of the server that takes the writes.
        readers: Clients of servers to read from; by default that one.
        config: Returns the policy of the cache.
        sink: The display name of the cache.

    Raises:
        ServerError: From each method: Redis cannot be reached or used, and `ON_ERROR` is `raise`.
    """

    def __init__(self, writer: Any, *readers: Any, config: Callable[[], Config], sink: str) -> None:
        super().__init__(config, sink)
        self.writer = writer
        self._readers: Sequence[Any] = readers or (writer,)
        self._only_reader = self._readers[0] if len(self._readers) == 1 else None

    @property
    def reader(self) -> Any:
        """The client of one of the servers to read from."""
        return self._only_reader or random.choice(self._readers)  # noqa: S311

    def _send_many(self, client: Any, commands: Sequence[Command]) -> Any:
        """Send commands in one trip, and return their answers or raise what one failed with."""
        raise NotImplementedError

    def _batches(self, client: Any, pattern: str, failures: list[ServerError]) -> Callable[[], Any]:
        """Return a function that returns the next keys that match, and notes where it failed."""
        raise NotImplementedError

    # --- Reading --------------------------------------------------------------------------------

    def _get_many(self, redis_keys: Collection[str]) -> Steps[dict[str, Any]]:
        """Return the payloads that are there, in one trip."""
        if not redis_keys:
            return {}
        client = self.reader
        try:
            payloads = yield client.mget(redis_keys)
        except Exception as error:  # noqa: BLE001  # those of an application's own client, too
            payloads = answered(self.excuse(client, error), len(redis_keys))
        found = zip(redis_keys, payloads, strict=True)
        return {key: payload for key, payload in found if payload is not None}

    def _exists(self, redis_key: str) -> Steps[bool]:
        """Return whether there is anything under a key."""
        return bool((yield from self._ask(self.reader, "EXISTS", redis_key)))

    # --- Writing --------------------------------------------------------------------------------

    def _add(self, redis_key: str, payload: Payload, seconds: int | None) -> Steps[bool]:
        """Store a payload under a key that holds nothing, and return whether it was stored."""
        if payload is SKIPPED:
            return False
        client, command = self.writer, set_command(redis_key, payload, seconds or None, "NX")
        try:
            stored = bool((yield client.execute_command(*command)))
            if stored and seconds == 0:
                yield client.execute_command("DEL", redis_key)
        except Exception as error:  # noqa: BLE001
            self.lose(client, error)
            return False
        return stored

    def _set_many(self, payloads: Mapping[str, Payload], seconds: int | None) -> Steps[list[str]]:
        """Store payloads in one trip, and return the keys of those that could not be sent.

        MSET has no expiry, and no cluster takes it.
        """
        if not payloads:
            return []
        client = self.writer
        commands = [set_command(key, payload, seconds) for key, payload in payloads.items()]
        try:
            yield self._send_many(client, commands)
        except Exception as error:  # noqa: BLE001
            failed, stale = self.lose_some(client, error, commands)
            if stale:
                yield from self._delete_many(failed)
            return failed
        return []

    def _touch(self, redis_key: str, seconds: int | None) -> Steps[bool]:
        """Let what is under a key expire after `seconds`, or never; return whether it was there."""
        command = ("PERSIST", redis_key) if seconds is None else ("EXPIRE", redis_key, seconds)
        return bool((yield from self._ask(self.writer, *command)))

    def _incr(self, redis_key: str, delta: int = 1, *, create: bool = True) -> Steps[int | None]:
        """Add to a number, and return the sum.

        Args:
            redis_key: The key.
            delta: What to add.
            create: Whether a number that is not there counts as 0.

        Returns:
            None in an outage, and where there is no number and none is to be created.
        """
        if not create and not (yield from self._ask(self.writer, "EXISTS", redis_key)):
            return None
        total: int | None = yield from self._ask(self.writer, "INCRBY", redis_key, delta)
        return total

    # --- Deleting -------------------------------------------------------------------------------

    def _delete(self, redis_key: str) -> Steps[bool]:
        """Delete what is under a key, and return whether it was there."""
        return bool((yield from self._ask(self.writer, "DEL", redis_key, deleting=True)))

    def _delete_many(self, redis_keys: Iterable[str]) -> Steps[list[str]]:
        """Delete what is under each key, in one trip, and return the keys that hold nothing now."""
        redis_keys = list(redis_keys)
        if not redis_keys:
            return []
        client = self.writer
        try:
            yield client.delete(*redis_keys)
        except Exception as error:  # noqa: BLE001
            answers = answered(self.excuse(client, error, deleting=True), len(redis_keys))
            found = zip(redis_keys, answers, strict=True)
            return [key for key, answer in found if answer is not None]
        return redis_keys

    def _unlink(self, redis_keys: Iterable[str]) -> Steps[int]:
        """Delete what is under each key, while the server goes on; return how many there were."""
        redis_keys = list(redis_keys)
        client = self.writer
        try:
            return int((yield client.unlink(*redis_keys))) if redis_keys else 0
        except Exception as error:  # noqa: BLE001
            self.excuse(client, error, deleting=True)
            return 0

    def _clear(self, prefix: str = "") -> Steps[bool]:
        """Delete every key with a prefix, on each node of a cluster; return whether there was any.

        The server is asked for a few keys at a time: KEYS holds it up, and in a cluster asks one
        node only. Without a prefix, everything in the database is deleted.
        """
        client = self.writer
        try:
            if not prefix:
                return bool((yield client.flushdb()))
            return (yield from self._delete_matching(client, f"{_escaped(prefix)}*"))
        except Exception as error:  # noqa: BLE001
            self.excuse(client, error, deleting=True)
            return False

    def _delete_matching(self, client: Any, pattern: str) -> Steps[bool]:
        deleted = 0
        failures: list[ServerError] = []
        next_keys = self._batches(client, pattern, failures)
        while keys := (yield next_keys()):
            try:
                deleted += yield client.delete(*keys)
            except ServerError as error:  # of one node; the others are still to be cleared
                if not error.answers:
                    raise
                failures.append(error)
        if failures:
            raise failures[0]
        return deleted > 0

    def _ask(self, client: Any, *command: Any, deleting: bool = False) -> Steps[Any]:
        """Return the answer to a command of one key; None in an outage."""
        try:
            return (yield client.execute_command(*command))
        except Exception as error:  # noqa: BLE001
            self.excuse(client, error, deleting=deleting)
            return None


class RedisStore(StoreSteps):
    """The store over clients of redis-py that block."""

    def get(self, redis_key: str, default: Any = None) -> Any:
        """Return the payload under a key, or `default`."""
        client = self._only_reader or self.reader
        try:
            payload = client.execute_command("GET", redis_key)
        except Exception as error:  # noqa: BLE001
            self.excuse(client, error)
            return default
        return default if payload is None else payload

    def set(self, redis_key: str, payload: Payload, seconds: int | None) -> bool:
        """Store a payload, and return whether it was stored; see `set_command`."""
        client, command = self.writer, set_command(redis_key, payload, seconds)
        try:
            return bool(client.execute_command(*command)) and command[0] == "SET"
        except Exception as error:  # noqa: BLE001
            if self.lose(client, error, deleting=command[0] == "DEL"):
                self.delete(redis_key)
            return False

    get_many = blocking(StoreSteps._get_many)
    exists = blocking(StoreSteps._exists)
    add = blocking(StoreSteps._add)
    set_many = blocking(StoreSteps._set_many)
    touch = blocking(StoreSteps._touch)
    incr = blocking(StoreSteps._incr)
    delete = blocking(StoreSteps._delete)
    delete_many = blocking(StoreSteps._delete_many)
    unlink = blocking(StoreSteps._unlink)
    clear = blocking(StoreSteps._clear)

    def _send_many(self, client: Any, commands: Sequence[Command]) -> Any:
        pipeline = client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return pipeline.execute()

    def _batches(self, client: Any, pattern: str, failures: list[ServerError]) -> Callable[[], Any]:
        scanned = client.scan_iter(match=pattern, count=SCANNED)
        found = _until_failure(scanned, failures)  # once: it closes what it reads when it ends
        return lambda: list(islice(found, SCANNED))


def _escaped(prefix: str) -> str:
    """Return the pattern of Redis that matches `prefix` only."""
    return re.sub(r"([*?\[\]\\^])", r"\\\1", prefix)


def _until_failure(found: Iterable[Any], failures: list[ServerError]) -> Iterator[Any]:
    """Yield what is found: that some nodes fail says nothing against the keys of the others."""
    try:
        yield from found
    except ServerError as error:
        failures.append(error)
