"""From a URL to a Redis client: one grammar for every adapter.

=====================================  ======================================================
`redis://user:password@host:6379/0`    TCP
`rediss://user:password@host:6379/0`   TCP inside TLS
`unix:///run/redis.sock?db=0`          a Unix domain socket
`fakeredis://name/0`                   embedded: a server inside this process, and nothing else
=====================================  ======================================================

A query adds options of redis-py, as in `redis://host/0?socket_timeout=2`. This is the only
module that knows redis-py, and it imports it when the first client is made.
"""

from __future__ import annotations

import difflib
import functools
import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from contextcache.exceptions import ConfigurationError, ServerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from urllib.parse import SplitResult

    import fakeredis
    import redis

DEFAULT_URL = "fakeredis://"
DEFAULT_TIMEOUT = 0.5  # seconds, for the connection and for each reply
SCHEMES = ("redis", "rediss", "unix", "fakeredis")

_INSTALL = "pip install 'contextcache-web[redis]'"

# Every thread uses one connection at a time, so threads bound the pool. redis-py 8 stops at 100
# by default, which would make the 101st busy thread fail.
_UNBOUNDED = 2**31

# What is not about a network, which an embedded server does not have.
_EMBEDDED_OPTIONS = {"decode_responses", "encoding", "encoding_errors"}


def connect(
    url: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    pool_class: type[redis.ConnectionPool] | None = None,
    **options: Any,
) -> redis.Redis:
    """Return the client for `url`, the same one for the same arguments in this process.

    The client is thread-safe and connects when it is first used. It never retries, so a server
    that refuses connections is reported at once, as a `ServerError` that names the URL.

    Args:
        url: `redis://`, `rediss://`, `unix://` or `fakeredis://`.
        timeout: Seconds to wait for a connection, and for each reply.
        pool_class: Another connection pool of redis-py, such as `BlockingConnectionPool`.
        options: Options of redis-py's connections; they win over `timeout`, and the query of
            the URL wins over both.

    Raises:
        ConfigurationError: The URL cannot be understood, or the package it needs is missing.
    """
    key = (url, timeout, pool_class, *(_hashable(item) for item in options.items()))
    # Not try/except KeyError: a traceback would show the key, and with it the password.
    client = _clients.get(key)
    if client is None:
        with _lock:
            client = _clients.get(key)
            if client is None:
                client = _clients[key] = _new_client(url, timeout, pool_class, options)
    return client


def public_url(url: str) -> str:
    """Return `url` without user, password and query, fit for a message.

    Where the URL is malformed, as with an unescaped `/` or `#` in a password, only its scheme is
    shown: no part of it can be trusted to be harmless.
    """
    try:
        parts = _split(url)
    except ConfigurationError:
        scheme, separator, _ = url.partition("://")
        known = separator and scheme.isalnum() and len(scheme) <= len("fakeredis")
        return f"{scheme}://..." if known else "..."
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host or ''}{port}{parts.path}"


def unreachable(url: str, error: BaseException) -> ServerError:
    """Return the error that says which server could not be reached, why, and what to do.

    It is also an instance of the type of `error`, so that handlers written for redis-py's own
    exceptions still catch it.

    Args:
        url: The URL that was tried; only `public_url(url)` is shown.
        error: What redis-py raised; nothing of its text is shown.
    """
    reason, remedy = _diagnose(error)
    kind = _server_error_type(type(error))  # type: ignore[arg-type]  # mypy: a class is not hashable
    named = kind(f"Redis at {public_url(url)} cannot be reached: {reason}; {remedy}")
    # OSError does not call the next __init__, so what redis-py's sets is taken over here.
    vars(named).update(vars(error))
    return named


# --- The clients of this process ----------------------------------------------------------------

_clients: dict[tuple[object, ...], redis.Redis] = {}
_embedded: dict[str, fakeredis.FakeServer] = {}
_lock = threading.Lock()


def _forget_after_fork() -> None:
    """Start afresh in a forked child.

    The parent's sockets are not ours, its lock may be held by a thread that does not exist here,
    and redis-py 8.1 resets an inherited pool under a lock that may be held as well: one child in
    40 to 500 hung for good. So nothing inherited is touched again.
    """
    global _clients, _embedded, _lock
    _clients, _embedded, _lock = {}, {}, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_after_fork)


def _new_client(
    url: str,
    timeout: float,
    pool_class: type[redis.ConnectionPool] | None,
    options: Mapping[str, Any],
) -> redis.Redis:
    parts = _split(url)
    if parts.scheme == "fakeredis":
        return _embedded_client(parts, options)
    try:
        import redis  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415
    except ImportError as error:
        raise _missing("redis", parts.scheme) from error

    defaults: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
    }
    if pool_class is None:  # another pool has a limit for a reason
        defaults["max_connections"] = _UNBOUNDED
    if not options.keys() & {"retry", "retry_on_timeout", "retry_on_error"}:
        defaults["retry"] = Retry(NoBackoff(), 0)
    try:
        pool = (pool_class or redis.ConnectionPool).from_url(url, **{**defaults, **options})
    except ValueError:
        # Not chained: redis-py's text repeats what it could not convert, which may be anything.
        raise ConfigurationError(
            f"{public_url(url)} has a query option redis-py does not understand"
        ) from None
    return _client_type(url)(connection_pool=pool)


def _embedded_client(parts: SplitResult, options: Mapping[str, Any]) -> redis.Redis:
    try:
        import fakeredis  # noqa: PLC0415
    except ImportError as error:
        raise _missing("fakeredis", parts.scheme) from error
    server = _embedded.setdefault(parts.hostname or "", fakeredis.FakeServer())
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    database = query.get("db") or parts.path.strip("/") or options.get("db", 0)
    used = {name: options[name] for name in options.keys() & _EMBEDDED_OPTIONS}
    client: redis.Redis = fakeredis.FakeRedis(server=server, db=int(database), **used)
    return client


def _client_type(url: str) -> type[redis.Redis]:
    """Make the client class of one URL; redis-py is needed to define it at all."""
    import redis  # noqa: PLC0415
    from redis.client import Pipeline  # noqa: PLC0415

    unreached = (redis.ConnectionError, redis.TimeoutError)

    class NamedPipeline(Pipeline):
        def execute(self, raise_on_error: bool = True) -> Any:
            try:
                return super().execute(raise_on_error)
            except unreached as error:
                raise unreachable(url, error) from error

    class NamedRedis(redis.Redis):
        """A client that says in every connection error which server it was about."""

        def execute_command(self, *args: Any, **options: Any) -> Any:
            try:
                return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except unreached as error:
                raise unreachable(url, error) from error

        def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> NamedPipeline:
            return NamedPipeline(
                self.connection_pool, self.response_callbacks, transaction, shard_hint
            )

    return NamedRedis


def _hashable(item: tuple[str, Any]) -> tuple[str, object]:
    name, value = item
    try:
        hash(value)
    except TypeError:
        return name, repr(value)
    return item


# --- The grammar --------------------------------------------------------------------------------


def _split(url: str) -> SplitResult:
    """Take a URL apart, or say what is wrong with it without repeating what may be secret."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # computed when asked for, and only then checked
    except (ValueError, AttributeError):
        # Not chained: the text of the ValueError repeats what stands where a port should, which
        # is the beginning of the password where that has a '/' in it.
        raise ConfigurationError(
            "a Redis URL cannot be understood: its port is not a number, or characters such as "
            "'/', '#' and '?' in its password are not percent-encoded"
        ) from None
    if parts.scheme not in SCHEMES:
        nearest = difflib.get_close_matches(parts.scheme, SCHEMES, n=1)
        suggestion = f"; did you mean {nearest[0]}://?" if nearest else ""
        shown = f"{parts.scheme}://" if parts.scheme and parts.netloc else "without a scheme"
        raise ConfigurationError(
            f"unknown Redis URL {shown}: it begins with one of "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}{suggestion}"
        )
    behind = parts.path + ("" if "@" in parts.netloc else parts.query)
    if parts.fragment or "@" in behind:
        raise ConfigurationError(
            "a Redis URL cannot be understood: characters such as '/', '#' and '?' in its "
            "password are not percent-encoded"
        )
    database = unquote(parts.path).strip("/")
    if parts.scheme != "unix" and database and not database.isdecimal():
        # redis-py would use database 0 without a word.
        raise ConfigurationError(
            f"a Redis URL ends in the number of a database, such as {parts.scheme}://host:6379/0"
        )
    return parts


def _missing(package: str, scheme: str) -> ConfigurationError:
    return ConfigurationError(f"{scheme}:// needs the package {package}: {_INSTALL}")


# --- The words for an outage --------------------------------------------------------------------


class _Diagnosis(NamedTuple):
    reason: str
    remedy: str


# By the name of the exception type, so that redis-py need not be imported to know its errors.
# The more specific ones stand first.
_DIAGNOSES = {
    "ConnectionRefusedError": _Diagnosis(
        "connection refused", "start the server or correct the URL"
    ),
    "FileNotFoundError": _Diagnosis(
        "there is no such socket", "start the server or correct the URL"
    ),
    "PermissionError": _Diagnosis(
        "permission denied", "let this process's user read and write the socket"
    ),
    "gaierror": _Diagnosis("the host name is unknown", "correct the URL"),
    "SSLError": _Diagnosis(
        "the TLS handshake failed", "check its certificate, and whether it speaks TLS at all"
    ),
    "AuthenticationError": _Diagnosis(
        "it wants another user or password", "correct them in the URL"
    ),
    "AuthorizationError": _Diagnosis(
        "this user may not do that", "extend the rights of the user in the URL"
    ),
    "BusyLoadingError": _Diagnosis("it is still loading its data", "try again in a moment"),
    "MaxConnectionsError": _Diagnosis(
        "every connection of the pool is in use", "raise max_connections"
    ),
    "TimeoutError": _Diagnosis(
        "no answer in time", "see whether the server is overloaded, or raise socket_timeout"
    ),
}
_LOST = _Diagnosis("the connection was lost", "see whether the server is still running")


def _diagnose(error: BaseException) -> _Diagnosis:
    names = [base.__name__ for link in _chain(error) for base in type(link).__mro__]
    for name, diagnosis in _DIAGNOSES.items():
        if name in names:
            return diagnosis
    return _LOST


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@functools.cache
def _server_error_type(original: type[BaseException]) -> type[ServerError]:
    if issubclass(ServerError, original) or not issubclass(original, Exception):
        return ServerError
    try:
        return type(
            ServerError.__name__,
            (ServerError, original),
            {
                "__doc__": ServerError.__doc__,
                "__module__": ServerError.__module__,
                # The combined type has no importable name; the plain one does.
                "__reduce__": lambda error: (ServerError, error.args),
            },
        )
    except TypeError:  # two bases written in C do not combine
        return ServerError
