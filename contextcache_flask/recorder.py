"""What one application found and wrote in this process, while its developer reads along."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from contextcache import current_scope
from contextcache.reports.html import Row, write_row

if TYPE_CHECKING:
    from contextcache import Finding, RequestScope

MOST_FIELDS = 200  # that somebody would read
MOST_WRITES = 50


class Field(NamedTuple):
    """One field that was found, however often and in however many views.

    Attributes:
        finding: The last one, with the number of times it was seen.
        views: Where it was seen, the last one first.
    """

    finding: Finding
    views: tuple[str, ...]


class Notebook:
    """Keeps what was found of each field, and the last writes."""

    def __init__(self) -> None:
        self._fields: dict[tuple[str, ...], Field] = {}
        self._writes: deque[Row] = deque(maxlen=MOST_WRITES)
        self._lock = threading.RLock()  # a signal handler may report, too

    def note(self, scope: RequestScope) -> None:
        """Keep what was found and written during a request that is over."""
        with self._lock:
            for finding in scope.findings:
                self._add(finding, scope.view[0], inside=1)
            for write in scope.writes:
                self._writes.append({**write_row(write), "request": f"{scope.method} {scope.path}"})

    def note_finding(self, finding: Finding) -> None:
        """Keep a finding that belongs to no request; it knows how often it was seen."""
        if current_scope() is None:
            with self._lock:
                self._add(finding, "")

    @property
    def fields(self) -> list[Field]:
        """What was found, the latest first."""
        with self._lock:
            return list(reversed(self._fields.values()))

    @property
    def writes(self) -> list[Row]:
        """The last writes, the latest first."""
        with self._lock:
            return list(reversed(self._writes))

    def _add(self, finding: Finding, view: str, *, inside: int = 0) -> None:
        key = (finding.code, finding.path.pattern, finding.owner_type)
        before = self._fields.pop(key, None)
        if before is None:
            views: tuple[str, ...] = ()
            if len(self._fields) >= MOST_FIELDS:
                del self._fields[next(iter(self._fields))]
        else:
            views = tuple(name for name in before.views if name != view)
            if inside:
                inside += before.finding.count
        if inside:
            finding = dataclasses.replace(finding, count=inside)
        self._fields[key] = Field(finding, (view, *views) if view else views)
