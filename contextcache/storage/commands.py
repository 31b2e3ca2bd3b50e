"""The commands of the session storage: sent once or twice, and what their errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from contextcache.exceptions import ReadOnlyServerError, ServerError
from contextcache.reports.request_scope import current_scope
from contextcache.servers.errors import diagnose, server_error

if TYPE_CHECKING:
    from collections.abc import Callable

LABEL = "session"


def was_lost(error: Exception) -> bool:
    """Return whether a client raised `error` for want of an answer, so that it may help to repeat.

    What Redis has refused it refuses again.
    """
    diagnosis = diagnose(error)
    return diagnosis is not None and diagnosis.counts


def outage_of(client: Any, error: Exception) -> ServerError | None:
    """Return the outage behind what `client` raised, or None where it is about the command.

    A client of contextcache raises the `ServerError` itself, one of the application's does not.
    """
    return error if isinstance(error, ServerError) else server_error(address_of(client), error)


def address_of(client: Any) -> str:
    """Return the address of a client, without its password."""
    # A client of contextcache has its pool in its class; one of a cluster has none.
    own = hasattr(type(client), "connection_pool")
    pool = client.connection_pool if own else vars(client).get("connection_pool")
    if pool is None:
        return "redis+cluster://"
    options = pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    host, port = options.get("host", "localhost"), options.get("port", 6379)
    return f"redis://{host}:{port}/{options.get('db', 0)}"


def _is_without_command(error: Exception) -> bool:
    """Return whether Redis, before 6.2, lacks the command, or this user may not use it."""
    names = {type(one).__name__ for one in (error, error.__cause__)}
    return "NoPermissionError" in names or str(error).startswith("unknown command")


class Commands:
    """Sends commands to the Redis of the sessions, and notes outages in the request scope.

    Args:
        client: The client of redis-py.
        as_outage: Returns the outage behind an error of a client, or None.

    Raises:
        ServerError: From each method: Redis cannot be reached or used.
    """

    def __init__(
        self,
        client: Any,
        as_outage: Callable[[Any, Exception], ServerError | None] = outage_of,
    ) -> None:
        self._client = client
        self._as_outage = as_outage
        self._knows_getex = True

    def read(self, redis_key: str, prolong: int | None) -> Any:
        """Return what is under a key, and let it live for `prolong` seconds from now on."""
        try:
            if prolong is None:
                return self._client.execute_command("GET", redis_key)
            return self._get_and_prolong(redis_key, prolong)
        except Exception as error:  # noqa: BLE001  # those of another client's own, too
            self._fail(error)

    def send(self, *command: Any) -> Any:
        """Send a command, once."""
        try:
            return self._client.execute_command(*command)
        except Exception as error:  # noqa: BLE001  # those of another client's own, too
            self._fail(error)

    def send_twice(self, *command: Any) -> Any:
        """Send a command that may be executed twice, once more where the answer is lost."""
        try:
            return self._client.execute_command(*command)
        except Exception as error:  # noqa: BLE001  # those of another client's own, too
            if not was_lost(error):
                self._fail(error)
        return self.send(*command)

    def _fail(self, error: Exception) -> NoReturn:
        """Raise the outage behind `error`, and note it in the request scope."""
        outage = self._as_outage(self._client, error)
        if outage is None:
            raise error
        if (scope := current_scope()) is not None:
            scope.outage = outage
            scope.lost(outage.reason, label=LABEL)
        if outage is error:
            raise error
        raise outage from error

    def _get_and_prolong(self, redis_key: str, seconds: int) -> Any:
        client = self._client
        if self._knows_getex:
            try:
                return client.execute_command("GETEX", redis_key, "EX", seconds)
            except Exception as error:
                if isinstance(self._as_outage(self._client, error), ReadOnlyServerError):
                    return client.execute_command("GET", redis_key)
                if not _is_without_command(error):
                    raise
                self._knows_getex = False
        both = client.pipeline(transaction=False)
        both.execute_command("GET", redis_key)
        both.execute_command("EXPIRE", redis_key, seconds)
        payload = both.execute(raise_on_error=False)[0]  # a Redis that takes no writes still reads
        if isinstance(payload, Exception):
            raise payload
        return payload
