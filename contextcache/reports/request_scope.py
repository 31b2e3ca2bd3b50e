"""Who is writing: the request a finding belongs to.

The Django middleware and the Flask hooks open a scope; everything else only reads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import time
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from contextcache.base.masking import masked, one_line, shortened, type_text
from contextcache.base.words import pluralize
from contextcache.findings.path import Path, StepKind, item, printable
from contextcache.reports.call_site import call_site
from contextcache.rules.credentials import (
    AUTHORIZATION_KEY,
    COOKIE_KEY,
    NO_CREDENTIALS,
    Credentials,
    contains,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from contextcache.exceptions import ServerError
    from contextcache.findings.finding import Finding


SESSION = "session"  # the root of the paths in a session
NOT_SET_HERE = "loaded with the session, not set in this request"

MAX_HEADER_LENGTH = 512  # characters; servers and proxies refuse long headers

MAX_ADDRESS_LENGTH = 120
_CONVERTER = re.compile(r"<[\w.]+(?:\([^()<>]*\))?:(?=\w+>)")  # `<int:id>` is `<id>`
_FIT_TO_LOG = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclasses.dataclass(slots=True)
class Write:
    """One value that was written during a request; kept in development only.

    Attributes:
        label: What was written, such as `cache['user:42']`.
        sink: The words for where, such as `cache in redis`.
        size: Bytes of the payload; None where there is none.
        seconds: How long it took to make the payload.
        findings: How many fields were found in the value.
        stored: Whether there was a payload to store, and nothing is known to have prevented that.
        outcome: What became of the value, in words.
        hidden: Whether no key may be shown, as `Config.redact_keys` says.
    """

    label: str
    sink: str
    size: int | None = None
    seconds: float = 0.0
    findings: int = 0
    stored: bool = True
    outcome: str = "stored"
    hidden: bool = False


class RequestScope:
    """What is known about the request during which a value is written.

    Args:
        method: HTTP method, such as `PUT`.
        path: URL path without the query string.
        request_id: The id a proxy gave this request; one is made where it is not fit to log.
        view: Names the view once it is known, as (dotted name, `file:line`); called only
            when there is something to report, and at most once.
        route: The pattern of the URL, such as `reset/<uid>/<token>/`, once it is known; empty
            where there is none. It is logged instead of the path, which may hold a secret.
        collect: Whether the findings of this request are kept for a header, page or panel, and
            the log shows the path.
        trace: Whether the line that puts something into the session is remembered.
        credentials: Returns the credentials of this request; called at its first write.

    Attributes:
        findings: The findings of this request, if they are collected.
        writes: What was written during this request, if that is collected.
        loaded: What the session held when it was read; None where none was read.
        assigned: The keys of the session that this request has set.
        assignments: The line that last put something under a key of the session, by its path.
        token: What `exit_scope` needs, where a signal opens the scope and another one closes it.
        outage: Why the session of this request could not be read or stored, if it could not.
    """

    __slots__ = (
        "_credentials", "_named", "_request_id", "_route", "_view",
        "assigned", "assignments", "collect",
        "findings", "loaded", "method", "outage", "path", "token", "trace", "writes",
    )  # fmt: skip

    HEADER = "X-ContextCache"
    """The response header that names the findings of a request in development."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        request_id: str = "",
        view: Callable[[], tuple[str, str]] | None = None,
        route: Callable[[], str] | None = None,
        collect: bool = False,
        trace: bool = False,
        credentials: Callable[[], Credentials] = lambda: NO_CREDENTIALS,
    ) -> None:
        self.method = method
        self._credentials: Callable[[], Credentials] | Credentials = credentials
        self.path = path
        self._request_id = request_id
        self.collect = collect
        self.findings: list[Finding] = []
        self.trace = collect or trace
        self.loaded: dict[object, object] | None = None
        self.assigned: set[object] = set()
        self.assignments: dict[str, str] = {}
        self.token: Token[RequestScope | None] | None = None
        self.outage: ServerError | None = None
        self.writes: list[Write] = []
        self._view = view
        self._route = route
        self._named: tuple[str, str] | None = None

    @property
    def request_id(self) -> str:
        """An id of this request that says nothing about its user."""
        if not _FIT_TO_LOG.fullmatch(self._request_id):
            self._request_id = os.urandom(4).hex()
        return self._request_id

    @property
    def credentials(self) -> Credentials:
        """What this request was sent to prove who its user is."""
        if not isinstance(self._credentials, Credentials):
            try:
                self._credentials = self._credentials()
            except Exception:  # noqa: BLE001  # a request nobody can read must not break the write
                self._credentials = NO_CREDENTIALS
        return self._credentials

    @property
    def view(self) -> tuple[str, str]:
        """The dotted name of the view and its `file:line`; empty strings while unknown."""
        if self._named is None:
            try:
                named = self._view() if self._view is not None else ("", "")
            except Exception:  # noqa: BLE001  # a view nobody can name must not break the write
                self._view, named = None, ("", "")
            if not named[0]:
                return "", ""
            self._named = named
        return self._named

    def note_assignment(self, key: object) -> None:
        """Remember that this request sets a key of the session, and in which line.

        The session is stored after the view, when that line is no longer on the stack.
        """
        with contextlib.suppress(TypeError):  # a key that cannot be hashed is no key
            self.assigned.add(key)
        if self.trace and printable(key):
            self.assignments[str(Path(SESSION, (item(key, 0),)))] = call_site()

    def note_loaded(self, session: Mapping[Any, object]) -> None:
        """Remember what the session of this request held when it was first read.

        Django's `cache` sessions are read once more before they are written.
        """
        if self.loaded is None:
            self.loaded = dict(session)

    def sets(self, path: Path, session: object) -> bool:
        """Return False if what is at `path` was read with the session and not set since.

        Args:
            path: A path in `session`.
            session: The session as it is stored.
        """
        if self.loaded is None or path.root != SESSION or not path.steps:
            return True
        if not isinstance(session, dict):
            return True
        step = path.steps[0]
        key: object = step.name
        if step.kind is not StepKind.ITEM:  # a position: the key is not one to be printed
            key = next((key for at, key in enumerate(session) if at == step.name), None)
        try:
            return key in self.assigned or self.loaded.get(key, self) is not session.get(key)
        except TypeError:
            return True

    @contextlib.contextmanager
    def writing(self, label: str, sink: str, *, hidden: bool = False) -> Iterator[Write]:
        """Note what becomes of a value while its payload is made.

        Args:
            label: What is written.
            sink: The words for where.
            hidden: Whether no key may be shown.

        Yields:
            The note, for the size of the payload.
        """
        write, before = Write(label, sink, hidden=hidden), len(self.findings)
        began = time.perf_counter()
        try:
            yield write
        except Exception as error:
            codes = sorted({finding.code for finding in getattr(error, "findings", ())})
            self._fail(write, ", ".join(codes) or type(error).__name__)
            raise
        finally:
            write.seconds = time.perf_counter() - began
            found = self.findings[before:]  # by other threads of this request, too
            write.findings = sum(finding.path.root == label for finding in found)
            self.writes.append(write)

    def lost(self, reason: str, count: int = 1, *, label: str = "") -> None:
        """Note that what was written last did not get to where it is stored.

        Args:
            reason: Why, in a few words.
            count: How many writes that were, where several are sent at once.
            label: What was written, where something else may have failed.
        """
        for write in self.writes[-count:]:
            if write.stored and label in ("", write.label):
                self._fail(write, reason)

    @staticmethod
    def _fail(write: Write, reason: str) -> None:
        write.stored, write.outcome = False, f"not stored: {reason}"

    @property
    def count(self) -> str:
        """The number of findings in words, each place once: `1 finding`, `2 findings`."""
        return pluralize(len(self._places()), "finding")

    @property
    def header(self) -> str:
        """The findings in one short line of ASCII, for the response header `HEADER`."""
        told = "; ".join(self._places())
        text = one_line(f"{self.count}; {told}").encode("ascii", "backslashreplace").decode()
        return text if len(text) <= MAX_HEADER_LENGTH else text[: MAX_HEADER_LENGTH - 3] + "..."

    def _places(self) -> list[str]:
        # A session is stored twice where somebody logs in, with what is in it.
        return list(dict.fromkeys(f"{finding.code} {finding.path}" for finding in self.findings))

    def __str__(self) -> str:
        name, location = self.view
        text = self.request_line
        if name:
            text += f" · {type_text(name, exact=self.collect)}"
        if location and self.trace:  # for a developer; the dotted name is enough in production
            text += f" ({location})"
        return one_line(text)

    @property
    def request_line(self) -> str:
        """Method and URL as they may be logged: the pattern of the URL, or `*`.

        In development it is the path as it is.
        """
        method, address = masked(self.method), self.path if self.collect else self._pattern()
        return f"{method} {shortened(one_line(address), MAX_ADDRESS_LENGTH)}"

    def _pattern(self) -> str:
        if self._route is None:  # an adapter that knows of no patterns
            return masked(self.path)
        try:
            route = self._route()
        except Exception:  # noqa: BLE001  # a URL nobody can name must not break the write
            route = ""
        return _CONVERTER.sub("<", route) or "*"


_scope: ContextVar[RequestScope | None] = ContextVar("contextcache_request", default=None)


def enter_scope(scope: RequestScope | None) -> Token[RequestScope | None]:
    """Make `scope` the current request, or none, and return what `exit_scope` needs to undo it."""
    return _scope.set(scope)


def exit_scope(token: Token[RequestScope | None]) -> None:
    """Restore the request that was current before `enter_scope` returned `token`."""
    _scope.reset(token)


def origin_of(path: Path, value: object = None) -> str:
    """Say where what is at `path` comes from: the request, the view, the line that stored it.

    A view is named only if it has put the value into the cache, or set the key of the session.

    Args:
        path: The path of the offender.
        value: The value it is in.
    """
    scope = current_scope()
    if scope is None:
        return call_site()
    if not scope.sets(path, value):
        return NOT_SET_HERE
    assigned = scope.assignments.get(str(Path(path.root, path.steps[:1])))
    if assigned:
        return f"{scope} · set at {assigned}"
    line = call_site()
    return f"{scope} · stored at {line}" if line else str(scope)


def current_credentials() -> Credentials:
    """Return the credentials of the request this code runs for."""
    scope = _scope.get()
    return NO_CREDENTIALS if scope is None else scope.credentials


def may_hold_credentials(payload: bytes) -> bool:
    """Return True if a pickle of protocol 5 may hold credentials of a request."""
    if payload.rfind(COOKIE_KEY) >= 0 or payload.rfind(AUTHORIZATION_KEY) >= 0:
        return True
    scope = _scope.get()
    if scope is not None:
        for needle in scope.credentials.needles:
            if contains(payload, needle):
                return True
    return False


def current_scope() -> RequestScope | None:
    """Return the request this code runs for, or None outside of any."""
    return _scope.get()
