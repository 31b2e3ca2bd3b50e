"""The commands of the session storage: sent once or twice, and what their errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from contextcache.exceptions import ReadOnlyServerError, ServerError
from contextcache.reports.request_scope import current_scope
from contextcache.servers.errors import diagnose, server_error

if TYPE_CHECKING:
    from contextcache.base.steps import Steps

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
    names = {base.__name__ for base in pool.connection_class.__mro__}
    scheme = "rediss" if "SSLConnection" in names else "redis"
    return f"{scheme}://{host}:{port}/{options.get('db', 0)}"


def _is_without_command(error: Exception) -> bool:
    """Return whether Redis, before 6.2, lacks the command, or this user may not use it."""
    names = {type(one).__name__ for one in (error, error.__cause__)}
    return "NoPermissionError" in names or str(error).startswith("unknown command")


class Commands:
    """Sends commands to the Redis of the sessions, and notes outages in the request scope.

    Its methods are steps; see `contextcache.base.steps`.

    Args:
        client: The client.

    Raises:
        ServerError: From each method: Redis cannot be reached or used.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._knows_getex = True

    def read(self, redis_key: str, prolong: int | None) -> Steps[Any]:
        """Return what is under a key, and let it live for `prolong` seconds from now on."""
        get = "GET", redis_key
        try:
            if prolong is None:
                return (yield self._client.execute_command(*get))
            if self._knows_getex:
                try:
                    return (yield self._client.execute_command("GETEX", *get[1:], "EX", prolong))
                except Exception as error:
                    if isinstance(outage_of(self._client, error), ReadOnlyServerError):
                        return (yield self._client.execute_command(*get))
                    if not _is_without_command(error):
                        raise
                    self._knows_getex = False
            payload = (yield self._send_both(get, ("EXPIRE", redis_key, prolong)))[0]
            if isinstance(payload, Exception):
                raise payload
        except Exception as error:  # noqa: BLE001  # those of another client's own, too
            self.fail(error)
        return payload

    def send(self, *command: Any, twice: bool = False) -> Steps[Any]:
        """Send a command.

        Args:
            command: The command.
            twice: Whether to send it once more where the answer is lost, because it may be
                executed twice.
        """
        try:
            return (yield self._client.execute_command(*command))
        except Exception as error:  # noqa: BLE001  # those of another client's own, too
            if not (twice and was_lost(error)):
                self.fail(error)
        return (yield from self.send(*command))

    def fail(self, error: Exception) -> NoReturn:
        """Raise the outage behind `error`, and note it in the request scope."""
        outage = outage_of(self._client, error)
        if outage is None:
            raise error
        if (scope := current_scope()) is not None:
            scope.outage = outage
            scope.lost(outage.reason, label=LABEL)
        if outage is error:
            raise error
        raise outage from error

    def _send_both(self, *commands: Any) -> Any:
        """Return two answers, or errors: a Redis that takes no writes still reads."""
        both = self._client.pipeline(transaction=False)
        for command in commands:
            both.execute_command(*command)
        return both.execute(raise_on_error=False)


class AsyncCommands(Commands):
    """The same over an asynchronous client of contextcache."""

    def _send_both(self, *commands: Any) -> Any:
        return self._client.execute_many(commands, raise_on_error=False)
