"""The words for a Redis that cannot be reached, or answers that it cannot help.

What an error means, and whether it counts for the circuit breaker of the server. The rule: silence
counts, an answer does not. A server that answers need not be waited for, and may answer something
else the next time.

==========================  ============================  =======  ==========================
the server or the error     the `ServerError` says        counts   reads go on
==========================  ============================  =======  ==========================
refused, unknown, no TLS    cannot be reached             yes      no
no sentinel knows a master  cannot be reached             yes      no
no sentinel, or its `ACL`   cannot be used                no       no
no answer in time           cannot be reached             yes      no
connection lost, garbage    cannot be reached             yes      no
`NOAUTH`, `WRONGPASS`       cannot be used                no       no
`NOPERM`                    cannot be used                no       other commands do
`LOADING`, `BUSY`           cannot be used                no       no
`MASTERDOWN`                cannot be used                no       no
`MOVED`                     cannot be used                no       other keys do
`CLUSTERDOWN`               cannot be reached             no       other keys may do
`TRYAGAIN`                  cannot be used                no       other keys do
too many connections        cannot be used                no       no
`OOM`, `READONLY`           takes no writes               no       yes
`MISCONF`, `NOREPLICAS`     takes no writes               no       yes
`WRONGTYPE`                 cannot be used                no       other keys do
no such database            cannot be used                no       no
a refused handshake         cannot be used                no       no
anything else               is left as redis-py raised it: it is about the command
==========================  ============================  =======  ==========================

Everything goes by the names of redis-py's exception types and the codes of Redis, so redis-py
need not be imported to know its errors, and nothing of their text is shown.
"""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

from contextcache.base.locks import ProcessLock
from contextcache.base.logs import log
from contextcache.exceptions import ReadOnlyServerError, ServerError
from contextcache.reports.reporter import tally
from contextcache.servers.urls import public_url

IN_HANDSHAKE = "contextcache_in_handshake"  # marks an error that no command of a caller caused
RETRY_AFTER = 5  # seconds, told to a visitor's browser while Redis cannot be reached
REPEAT = 60.0  # seconds before the same outage of the same server is logged again
DELETIONS = 10  # that did not happen, logged in that time; then every tenfold


class Diagnosis(NamedTuple):
    """What an error of redis-py means."""

    state: str
    reason: str
    remedy: str
    answered: bool = False  # although it cannot be reached, as one may say

    @property
    def counts(self) -> bool:
        """Whether it counts for the circuit breaker."""
        return self.state == UNREACHABLE and not self.answered


UNREACHABLE = "cannot be reached"
UNUSABLE = "cannot be used"
READ_ONLY = "takes no writes"

_DIAGNOSES = {
    "ConnectionRefusedError": Diagnosis(
        UNREACHABLE, "connection refused", "start the server or correct the URL"
    ),
    "FileNotFoundError": Diagnosis(
        UNREACHABLE, "there is no such socket", "start the server or correct the URL"
    ),
    "PermissionError": Diagnosis(
        UNREACHABLE, "permission denied", "let this process's user read and write the socket"
    ),
    "gaierror": Diagnosis(UNREACHABLE, "the host name is unknown", "correct the URL"),
    "SSLError": Diagnosis(
        UNREACHABLE,
        "the TLS handshake failed",
        "check its certificate, and whether it speaks TLS at all",
    ),
    "TimeoutError": Diagnosis(
        UNREACHABLE,
        "no answer in time",
        "see whether the server is overloaded, or raise TIMEOUT",
    ),
    "TLS": Diagnosis(
        UNREACHABLE,
        "the TLS handshake was not answered in time",
        "see whether it speaks TLS at all (else write redis for rediss in the URL)",
    ),
    "InvalidResponse": Diagnosis(
        UNREACHABLE, "what answers is not Redis", "correct the URL, or the proxy in between"
    ),
    "MasterNotFoundError": Diagnosis(
        UNREACHABLE,
        "no sentinel knows a master of this name that is up",
        "correct the URL, or wait for the failover",
    ),
    "SilentSentinelsError": Diagnosis(
        UNREACHABLE, "none of the sentinels answers", "start them or correct the URL"
    ),
    "NoSentinelError": Diagnosis(
        UNUSABLE, "it is no sentinel", "begin the URL with redis://, or name the sentinels in it"
    ),
    "SentinelAccessError": Diagnosis(
        UNUSABLE,
        "the sentinels refuse this user or password",
        "correct sentinel_username and sentinel_password in the query of the URL",
    ),
    "RedisClusterException": Diagnosis(
        UNREACHABLE,
        "none of these nodes can tell what the cluster looks like",
        "start a node or correct the URL",
    ),
    "MaxConnectionsError": Diagnosis(
        UNUSABLE, "every connection of the pool is in use", "raise max_connections"
    ),
    "AuthenticationError": Diagnosis(
        UNUSABLE, "it wants another user or password", "correct them in the URL"
    ),
    "AuthorizationError": Diagnosis(
        UNUSABLE, "this user may not do that", "extend the rights of the user in the URL"
    ),
    "NoPermissionError": Diagnosis(
        UNUSABLE, "this user may not do that (NOPERM)", "extend the rights of the user in the URL"
    ),
    "BusyLoadingError": Diagnosis(
        UNUSABLE, "it is still loading its data (LOADING)", "try again in a moment"
    ),
    "BUSY": Diagnosis(
        UNUSABLE, "a script keeps it busy (BUSY)", "end the script with SCRIPT KILL"
    ),
    "MasterDownError": Diagnosis(
        UNUSABLE,
        "it is a replica without its master (MASTERDOWN)",
        "start the master, or set replica-serve-stale-data",
    ),
    "ClusterDownError": Diagnosis(
        UNREACHABLE,
        "the cluster has lost a part of its slots (CLUSTERDOWN)",
        "start the missing nodes",
        answered=True,
    ),
    "TryAgainError": Diagnosis(
        UNUSABLE,
        "the keys of this command are on two nodes, because their slot is being moved (TRYAGAIN)",
        "try again in a moment",
    ),
    "ClusterError": Diagnosis(
        UNUSABLE,
        "its nodes refer to one another without end",
        "see whether its slots are being moved",
    ),
    "SlotNotCoveredError": Diagnosis(
        UNREACHABLE,
        "no node of the cluster has this slot",
        "start the missing nodes",
        answered=True,
    ),
    "MovedError": Diagnosis(
        UNUSABLE,
        "it is a node of a Redis Cluster (MOVED)",
        "begin the URL with redis+cluster://",
    ),
    "WRONGTYPE": Diagnosis(
        UNUSABLE,
        "under this key it holds something else than a value (WRONGTYPE)",
        "delete the key; if it comes back, look for who else writes it",
    ),
    "DB index is out of range": Diagnosis(  # what Redis says as a whole, of `SELECT`
        UNUSABLE,
        "it has no database of this number (DB index is out of range)",
        "correct the number in the URL, or raise `databases` of the server",
    ),
    "SELECT is not allowed in cluster mode": Diagnosis(
        UNUSABLE,
        "a node of a Redis Cluster has database 0 only",
        "begin the URL with redis+cluster://, without a number",
    ),
    "HANDSHAKE": Diagnosis(
        UNUSABLE,
        "it refuses a command with which a connection begins",
        "see which options the URL sets, such as db, protocol and client_name",
    ),
    "OutOfMemoryError": Diagnosis(
        READ_ONLY,
        "its memory is full (OOM)",
        "raise maxmemory, or set maxmemory-policy to one that evicts",
    ),
    "ReadOnlyError": Diagnosis(
        READ_ONLY, "it is a replica (READONLY)", "name the master in the URL"
    ),
    "MISCONF": Diagnosis(
        READ_ONLY,
        "it cannot save its data to disk (MISCONF)",
        "see its log, or set stop-writes-on-bgsave-error to no",
    ),
    "NOREPLICAS": Diagnosis(
        READ_ONLY, "too few replicas follow it (NOREPLICAS)", "start them"
    ),
}  # fmt: skip
_ABOUT_THE_MAP = ("cannot be connected", "not enabled", "could not agree", "not covered")
_LOST_BY = {"ConnectionError", "TimeoutError", "InvalidResponse"}
_LOST = Diagnosis(UNREACHABLE, "the connection was lost", "see whether the server is still running")


def diagnose(error: BaseException) -> Diagnosis | None:
    """Return what `error` says about the server, or None where it is about the command.

    Args:
        error: What redis-py raised.
    """
    names = [base.__name__ for base in type(error).__mro__]
    if "ResponseError" in names:
        # redis-py has no type for these codes; a pipeline puts the number of the command before.
        text = str(error)
        code = text.rpartition("caused error: ")[2].partition(" ")[0]
        handshake = ["HANDSHAKE"] if hasattr(error, IN_HANDSHAKE) else []
        return _first([*names, code, text, *handshake])
    if names[0] == "RedisClusterException":
        # It is the type for a command as well that a cluster cannot execute.
        text = str(error)
        if text and error.__cause__ is None and not any(words in text for words in _ABOUT_THE_MAP):
            return None
        return _first(_names_behind(error.__cause__)) or _DIAGNOSES[names[0]]
    if "RedisClusterException" in names:  # such as a transaction over several slots
        return _DIAGNOSES.get(names[0])
    if not _LOST_BY.isdisjoint(names):
        return _first(_names_behind(error)) or _LOST
    return _first(names)


def server_error(url: str, error: BaseException) -> ServerError | None:
    """Return the error that says which server failed, why, and what to do.

    It is also an instance of the type of `error`, so that handlers written for redis-py's own
    exceptions still catch it.

    Args:
        url: The URL that was tried; only `public_url(url)` is shown.
        error: What redis-py raised; nothing of its text is shown.

    Returns:
        None where `error` says nothing about the server, such as `WRONGTYPE`.
    """
    diagnosis = diagnose(error)
    return None if diagnosis is None else worded(public_url(url), diagnosis, error)


def worded(server: str, diagnosis: Diagnosis, error: BaseException) -> ServerError:
    """Return `diagnosis` of the server with this public URL as an error."""
    base = ReadOnlyServerError if diagnosis.state == READ_ONLY else ServerError
    kind = _combined(base, type(error))  # type: ignore[arg-type]  # mypy: a class is not hashable
    named = kind(f"Redis at {server} {diagnosis.state}: {diagnosis.reason}; {diagnosis.remedy}")
    # OSError does not call the next __init__, so what redis-py's sets is taken over here.
    vars(named).update(vars(error), server=server, reason=diagnosis.reason)
    return named


def answered(error: ServerError, count: int) -> list[Any]:
    """Return the answers there are to a command of `count` keys, and None for each other one."""
    found = error.answers or [None] * count
    return [None if isinstance(answer, Exception) else answer for answer in found]


def warn(error: ServerError, sink: str, *, deleting: bool = False) -> None:
    """Log an outage that nobody will see otherwise, once a minute for each server and reason.

    A deletion that did not happen is logged by itself, the first ten of a minute and then every
    tenfold: until it expires, a value is served that the application believes to be gone.

    Args:
        error: The outage.
        sink: What goes on without its Redis, such as `cache 'default' in redis`.
        deleting: Whether it was a deletion that did not happen, or not everywhere.
    """
    tally("outage", "missed", sink)
    now, outage = time.monotonic(), (error.server, error.reason, sink if deleting else "")
    with _lock:
        expires, count = _told.get(outage, (0.0, 0))
        if expires <= now:
            expires, count = now + REPEAT, 0
        count += 1
        _told[outage] = expires, count
    if deleting:
        if count > DELETIONS and str(count).strip("0") != "1":
            return
        instead = "what should be deleted is still there, or not deleted everywhere; "
        instead += f"failed deletion {count} within a minute"
    elif count > 1:
        return
    elif isinstance(error, ReadOnlyServerError):
        instead = "nothing is stored; told once a minute"
    else:
        instead = "it is as if it were empty; told once a minute"
    # The reason stands in the template, by which log aggregators group; the server does not.
    text = str(error).replace("%", "%%").replace(error.server or "\0", "%s", 1)
    log(
        "warning",
        f"%s: {text} (%s)",
        *((sink, error.server, instead) if "%s" in text else (sink, instead)),
        extra={"contextcache_server": error.server, "contextcache_reason": error.reason},
    )


_told: dict[tuple[str, str, str], tuple[float, int]] = {}
_lock = ProcessLock()


def _first(names: list[str]) -> Diagnosis | None:
    return next((_DIAGNOSES[name] for name in names if name in _DIAGNOSES), None)


def _names_behind(error: BaseException | None) -> list[str]:
    names: list[str] = []
    while error is not None:
        if isinstance(error, TimeoutError) and "handshake operation" in str(error):
            return ["TLS"]  # Python has no type for it
        names += (base.__name__ for base in type(error).__mro__)
        error = error.__cause__ or error.__context__
    return names


@functools.cache
def _combined(base: type[ServerError], original: type[BaseException]) -> type[ServerError]:
    if issubclass(base, original) or not issubclass(original, Exception):
        return base
    try:
        return type(
            base.__name__,
            (base, original),
            {
                "__doc__": base.__doc__,
                "__module__": base.__module__,
                # The combined type has no importable name; the plain one does.
                "__reduce__": lambda error: (base, error.args),
            },
        )
    except TypeError:  # two bases written in C do not combine
        return base
