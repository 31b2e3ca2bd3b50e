"""Remembers the latest requests, for the panel that tells what happened behind a page."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from contextcache import current_scope

if TYPE_CHECKING:
    from contextcache import Finding, RequestScope

_requests: deque[RequestScope] = deque(maxlen=100)
_errors: dict[str, str] = {}


def remember_request() -> None:
    """Keep the scope of this request: while DEBUG is on, it collects what is found."""
    scope = current_scope()
    if scope is not None:
        _requests.append(scope)


def remember_error(path: str, error: BaseException) -> None:
    """Keep what the request for `path` failed with, as its traceback ends."""
    _errors[path] = f"{type(error).__name__}: {error}"


def last_error(path: str) -> str:
    """Return what a request for `path` failed with, if one did."""
    return _errors.get(path, "")


def last_findings(path: str) -> list[Finding]:
    """Return the findings of the latest request for `path` that had any."""
    for scope in reversed(_requests):
        if scope.path == path and scope.findings:
            return scope.findings
    return []
