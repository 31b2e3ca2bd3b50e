"""Saying it: one log record per pattern of finding, for a person first and for machines too.

The message is a constant template with its arguments apart, because log aggregators group on
the template. No value, secret or `repr` ever gets here: a finding holds names only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from contextcache.findings import SILENT
from contextcache.locks import ProcessLock
from contextcache.paths import Path, generalised
from contextcache.scopes import current_scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from contextcache.config import Config
    from contextcache.exceptions import UnreadablePayloadError
    from contextcache.findings import Finding

logger = logging.getLogger("contextcache")

LINE = "contextcache %s: %s (%s) %s: %s"
BLOCK = (
    LINE + "\n  at      %s\n  field   %s\n  did     %s\n  fix     %s\n  silence %s\n  docs    %s"
)
TAIL = " · at: %s · did: %s · fix: %s · seen %d×"
UNREADABLE = "contextcache: %s cannot be read and counts as a miss: %s; %s"
INTERNAL = (
    "contextcache: %s failed with %s at %s; what would have been stored without it was stored"
)

RECORDED = (
    "code", "path", "pattern", "leaf_type", "owner_type", "action", "sink", "origin", "count",
)  # fmt: skip
"""What a log record carries in its `extra`, each with the prefix `contextcache_`."""

MOST_PATTERNS = 4096
MOST_ROOTS = 10  # cache keys under which one field is reported one by one

Key = tuple[str, ...]

collectors: list[list[Finding]] = []
"""Where `contextcache.testing` collects findings; empty in production."""


class Reporter:
    """Report the findings of one application, each pattern at its 1st, 10th, 100th... time.

    Args:
        config: The policy of the application.
        sink: The words for where values are stored.
    """

    def __init__(self, config: Config, sink: str) -> None:
        self._config = config
        self._sink = sink
        self._counts: dict[Key, int] = {}
        self._roots: dict[Key, set[str]] = {}
        self._lock = ProcessLock()

    def ignores(self, finding: Finding) -> bool:
        """Tell whether the application asked not to hear of this field."""
        return any(finding.path.matches(pattern) for pattern in self._config.ignore)

    def count(self, keys: Iterable[Key]) -> dict[Key, int]:
        """Count known findings of the current view once more; return how often each was seen."""
        view = view_name()
        return {key: self._count(key) for key in [self._bounded(key, view) for key in keys]}

    def report(
        self,
        findings: Sequence[Finding],
        *,
        log: bool = True,
        counted: Mapping[Key, int] = MappingProxyType({}),
    ) -> list[Finding]:
        """Report what the application wants to hear, and return it.

        Args:
            findings: All findings of one write.
            log: Whether to log and call back; without, they are only collected.
            counted: What `count` has counted already for this write.
        """
        heard = [finding for finding in findings if not self.ignores(finding)]
        for collector in collectors:
            collector.extend(heard)
        scope = current_scope()
        if scope is not None and scope.collect:
            scope.findings.extend(heard)
        view = view_name()
        told = reversed(heard) if log else ()
        patterns = {self._bounded(key_of(finding), view): finding for finding in told}
        for key, finding in reversed(patterns.items()):
            count = counted.get(key) or self._count(key)
            if is_milestone(count):
                self._say(dataclasses.replace(finding, count=count))
        return heard

    def _bounded(self, key: Key, view: str) -> Key:
        """Return `key` in `view`, with one root for all once its field was met under many.

        A cache may have a million keys without a number in them; the field is the same.
        """
        *field, root = key
        with self._lock:
            roots = self._roots.setdefault((*field, view), set())
            if root not in roots:
                if len(roots) >= MOST_ROOTS:
                    root = "*"
                roots.add(root)
            while len(self._roots) > MOST_PATTERNS:
                del self._roots[next(iter(self._roots))]
        return (*field, root, view)

    def unreadable(self, error: UnreadablePayloadError) -> None:
        """Warn of a payload that counts as a miss, each reason at its 1st, 10th, 100th... time."""
        key = ("unreadable", Path(error.label).pattern, error.reason)
        if is_milestone(self._count(key)):
            extra = {"contextcache_path": error.label, "contextcache_sink": self._sink}
            _log(logging.WARNING, UNREADABLE, error.label, error.reason, error.remedy, extra=extra)

    def _count(self, key: Key) -> int:
        with self._lock:
            count = self._counts.pop(key, 0) + 1
            if len(self._counts) >= MOST_PATTERNS:  # keys may be hostile: forget the oldest
                del self._counts[next(iter(self._counts))]
            self._counts[key] = count
            return count

    def _say(self, finding: Finding) -> None:
        for subscriber in self._config.on_finding:
            try:
                subscriber(finding)
            except Exception as error:  # noqa: BLE001  # a broken callback must not break the write
                report_internal("a callback of on_finding", error)
        origin = " · ".join(filter(None, (finding.origin, finding.sink))) or "-"
        head: tuple[object, ...] = (
            finding.code,
            str(finding.path),
            finding.leaf_type,
            "should not be stored" if finding.code in SILENT else "cannot be stored",
            finding.reason,
        )
        extra = record_fields(finding)
        if self._config.debug:
            import json  # noqa: PLC0415  # only the block for a developer quotes a pattern

            pattern = json.dumps(finding.path.pattern, ensure_ascii=False)
            seen = f" · seen {finding.count}×" if finding.count > 1 else ""
            _log(
                logging.WARNING,
                BLOCK,
                *head,
                origin,
                finding.field or "-",
                finding.did,
                finding.fix,
                f"{self._config.silence} += [{pattern}]",
                finding.code + seen,
                extra=extra,
            )
        else:
            told = (origin, finding.did, finding.fix, finding.count)
            _log(logging.WARNING, LINE + TAIL, *head, *told, extra=extra)


def _log(level: int, template: str, *args: object, extra: dict[str, Any] | None = None) -> None:
    with contextlib.suppress(Exception):  # a filter of the application's must not break the write
        logger.log(level, template, *args, extra=extra)


def key_of(finding: Finding) -> Key:
    """Return what makes two findings of a view the same to a reader: code, pattern and owner."""
    root, below = generalised(finding.path.root), Path("", finding.path.steps).pattern
    return finding.code, below, finding.owner_type, root


def view_name() -> str:
    """Return the dotted name of the view this code runs for; empty outside of any."""
    scope = current_scope()
    return scope.view[0] if scope is not None else ""


def record_fields(finding: Finding) -> dict[str, Any]:
    """Return the `extra` of a log record: the finding by the documented, prefixed names."""
    told = finding_fields(finding)
    return {f"contextcache_{name}": told[name] for name in RECORDED}


def finding_fields(finding: Finding) -> dict[str, Any]:
    """Return a finding as plain data for JSON; the names are stable."""
    return {
        "code": finding.code,
        "path": str(finding.path),
        "pattern": finding.path.pattern,
        "leaf_type": finding.leaf_type,
        "owner_type": finding.owner_type,
        "action": str(finding.action),
        "reason": finding.reason,
        "did": finding.did,
        "fix": finding.fix,
        "field": finding.field,
        "sink": finding.sink,
        "origin": finding.origin,
        "count": finding.count,
    }


def is_milestone(count: int) -> bool:
    """Tell whether `count` is 1, 10, 100..."""
    while count >= 10 and count % 10 == 0:
        count //= 10
    return count == 1


_internal: set[tuple[str, str]] = set()


def report_internal(what: str, error: BaseException) -> None:
    """Log a failure of contextcache or of a user's hook once, without the error's own text.

    The text of an exception may hold a value; its type and place do not.
    """
    place = "?"
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        place = f"{code.co_filename}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    key = (what, place)
    if key in _internal or len(_internal) > 256:
        return
    _internal.add(key)
    _log(logging.ERROR, INTERNAL, what, type(error).__name__, place)


class DevelopmentFormatter(logging.Formatter):
    """Show findings as they are, coloured where the stream is a terminal."""

    _COLOURS = {"contextcache CC": "\x1b[33;1m", "  fix": "\x1b[32m", "  did": "\x1b[36m"}

    def __init__(self, *, colour: bool | None = None) -> None:
        super().__init__("%(message)s")
        self._colour = sys.stderr.isatty() if colour is None else colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of `record`, coloured line by line where that is wanted."""
        text = super().format(record)
        if not self._colour:
            return text
        return "\n".join(map(self._coloured, text.split("\n")))

    def _coloured(self, line: str) -> str:
        for start, colour in self._COLOURS.items():
            if line.startswith(start):
                return f"{colour}{line}\x1b[0m"
        return line


def show_findings() -> None:
    """Show findings on stderr unless the application has arranged its own logging for them.

    For development: without a handler on the way to the root logger, Python would print a
    warning without its formatting.
    """
    current: logging.Logger | None = logger
    while current is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in current.handlers):
            return
        current = current.parent if current.propagate else None
    handler = logging.StreamHandler()
    handler.setFormatter(DevelopmentFormatter())
    logger.addHandler(handler)
