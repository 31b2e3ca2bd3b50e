"""Who the master is: every sentinel is asked, and the latest configuration counts.

redis-py asks when it connects, and takes the first answer. After a planned failover the old master
goes on to take writes, up to ten seconds long and all of them to be lost, and closes no connection
meanwhile. So sentinels are asked again where the last answer is older than half a second.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import redis
from redis.sentinel import MasterNotFoundError, Sentinel

from contextcache.base.steps import run, run_async
from contextcache.servers.deadline import Deadline, time_left

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.connection import ConnectionPool as _Pool

    from contextcache.base.steps import Steps
else:  # it is added to a class of redis-py
    _Pool = object

LIMIT = 0.5  # seconds for which an answer counts


class SilentSentinelsError(MasterNotFoundError):
    """No sentinel can be reached."""


class NoSentinelError(MasterNotFoundError):
    """What answers is no sentinel."""


class SentinelAccessError(MasterNotFoundError):
    """The sentinels refuse this user or password."""


# Of what several sentinels say, the first counts.
_REASONS: tuple[type[MasterNotFoundError], ...] = (
    *(MasterNotFoundError, SentinelAccessError, NoSentinelError, SilentSentinelsError),
)


class Sentinels(Sentinel):
    """The sentinels of one service, as redis-py's pool asks them.

    Args:
        clients: A client for each.
        seconds: How long they may take together.
        async_clients: Their asynchronous twins.
    """

    def __init__(
        self, clients: list[Any], seconds: float, async_clients: Sequence[Any] = ()
    ) -> None:
        super().__init__([])
        self.sentinels = clients
        self._async_clients = async_clients
        self._seconds = seconds
        self._asked = float("-inf")
        self._known: tuple[float, tuple[str, int]] | None = None
        self._address: tuple[str, int] | None = None

    def forget(self) -> None:
        """Ask again at the next opportunity."""
        self._asked, self._known = float("-inf"), None

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return the address of the master in the latest configuration that a sentinel has.

        Raises:
            MasterNotFoundError: No sentinel knows a master of this name that is up.
        """
        return run(self._discover(service_name, self.sentinels))

    async def adiscover_master(self, service_name: str) -> tuple[str, int]:
        """Return the address of the master; see `discover_master`."""
        return await run_async(self._discover(service_name, self._async_clients))

    def _discover(self, service_name: str, clients: Sequence[Any]) -> Steps[tuple[str, int]]:
        now = time.monotonic()
        known = self._known
        if known is not None and now - known[0] < LIMIT:
            return known[1]
        self._asked = now
        answers: list[tuple[int, tuple[str, int]]] = []
        reasons: set[type[MasterNotFoundError]] = {SilentSentinelsError}
        with Deadline(time_left(self._seconds) or self._seconds):
            for sentinel in clients:
                try:
                    state, named = yield sentinel.execute_many(
                        [
                            ("SENTINEL MASTER", service_name),
                            ("SENTINEL GET-MASTER-ADDR-BY-NAME", service_name),
                        ]
                    )
                except redis.RedisError as error:
                    reasons.add(_reason(error))
                    continue
                reasons.add(MasterNotFoundError)
                if named is None:
                    continue
                address = _text(named[0]), int(named[1])
                # The sentinel that leads a failover names the new one before its state does.
                is_new = address != (state["ip"], state["port"])
                if is_new or self.check_master_state(state, service_name):
                    answers.append((state["config-epoch"], address))
        if not answers:
            reason = next(reason for reason in _REASONS if reason in reasons)
            raise reason(f"No master found for {service_name!r}")
        _, address = max(answers, key=lambda answer: answer[0])
        self._known, self._address = (now, address), address
        return address

    def watch(self, pool: Any) -> None:
        """Ask who the master is, where the last answer is too old; if it is another, use that."""
        if time.monotonic() - self._asked >= LIMIT:
            # That no sentinel answers says nothing about the master.
            with contextlib.suppress(redis.RedisError):
                pool.get_master_address()

    async def awatch(self, service_name: str) -> tuple[str, int] | None:
        """Return the address of the master as it was known last; see `watch`."""
        if time.monotonic() - self._asked >= LIMIT:
            with contextlib.suppress(redis.RedisError):
                await self.adiscover_master(service_name)
        return self._address


def _reason(error: redis.RedisError) -> type[MasterNotFoundError]:
    if isinstance(error, (redis.AuthenticationError, redis.exceptions.NoPermissionError)):
        return SentinelAccessError
    if not isinstance(error, redis.ResponseError):
        return SilentSentinelsError
    return NoSentinelError if "unknown command" in str(error) else MasterNotFoundError


def _text(host: Any) -> str:
    return host.decode() if isinstance(host, bytes) else str(host)


class WatchingPool(_Pool):
    """What is added to a pool of Sentinel's: no connection is lent on an answer that is too old."""

    sentinel_manager: Sentinels

    def get_connection(self, *args: Any, **options: Any) -> Any:
        """Lend a connection that is connected and has nothing to read."""
        self.sentinel_manager.watch(self)
        return super().get_connection(*args, **options)
