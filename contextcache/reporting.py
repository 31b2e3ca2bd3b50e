"""Saying it, and not too often: each pattern of finding at its 1st, 10th, 100th... time.

How a report reads stands in `records`, which is loaded with the first of them.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from contextcache.locks import ProcessLock, forget_oldest
from contextcache.paths import Path, generalised
from contextcache.scopes import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from contextcache.config import Config
    from contextcache.exceptions import UnreadablePayloadError
    from contextcache.findings import Finding

UNREADABLE = "contextcache: %s cannot be read and counts as a miss: %s; %s"
INTERNAL = (
    "contextcache: %s failed with %s at %s; what would have been stored without it was stored"
)
SUMMARY = "contextcache: %s of findings in this process, seen %d times: %s"

MOST_PATTERNS = 4096
MOST_ROOTS = 10  # cache keys under which one field is reported one by one

Key = tuple[str, ...]

collectors: list[list[Finding]] = []
"""Where `contextcache.testing` collects findings; empty in production."""

counters: list[Callable[[str, str, str], None]] = []
"""What `contextcache.metrics` counts with: called with code, action and sink each time."""


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
        self._told: dict[Key, Finding] = {}
        self._roots: dict[Key, set[str]] = {}
        self._lock = ProcessLock()
        _reporters.add(self)

    def ignores(self, finding: Finding) -> bool:
        """Tell whether the application asked not to hear of this field."""
        return any(finding.path.matches(pattern) for pattern in self._config.ignore)

    def count(self, keys: Iterable[Key]) -> dict[Key, int]:
        """Count known findings of the current view once more; return how often each was seen."""
        bounded = [self._bounded(key, self._view_of(key)) for key in keys]
        return {key: self._count(key) for key in bounded}

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
        told = [(key_of(finding), finding) for finding in reversed(heard)] if log else []
        patterns = {self._bounded(key, self._view_of(key)): finding for key, finding in told}
        milestones = []
        for key, finding in reversed(patterns.items()):
            with self._lock:
                self._told.setdefault(key, finding)
            count = counted.get(key) or self._count(key)
            if is_milestone(count):
                milestones.append(dataclasses.replace(finding, count=count))
        if milestones:
            self._say(milestones)
        return heard

    def summary(self) -> list[Finding]:
        """Return what was reported so far, each pattern once, with its count."""
        with self._lock:
            told, counts = self._told.copy(), self._counts.copy()
        found = [
            dataclasses.replace(finding, count=counts[key])
            for key, finding in told.items()
            if key in counts
        ]
        return sorted(found, key=lambda finding: -finding.count)

    def unreadable(self, error: UnreadablePayloadError) -> None:
        """Warn of a payload that counts as a miss, each reason at its 1st, 10th, 100th... time."""
        key = ("unreadable", "missed", Path(error.label).pattern, error.reason)
        tally("unreadable", "missed", self._sink)
        if is_milestone(self._count(key)):
            label = str(Path(error.label, hidden=self._config.redact_keys))
            extra = {"contextcache_path": label, "contextcache_sink": self._sink}
            _log("warning", UNREADABLE, label, error.reason, error.remedy, extra=extra)

    def _view_of(self, key: Key) -> str:
        """Return the view to which a field is put down; empty outside of any.

        What is recreated comes back with the session in every later request. It is not held
        against each view that changes something else there: a developer would read it of all.
        """
        scope = current_scope()
        if scope is None:
            return ""
        _, action, below, _, root = key
        if root == "session" and action == "recreated" and scope.brought_along(root + below):
            with self._lock:
                before = (told[-1] for told in self._told.copy() if told[:-1] == key)
                return next(before, scope.view[0])
        return scope.view[0]

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
                forget_oldest(self._roots)
        return (*field, root, view)

    def _count(self, key: Key) -> int:
        with self._lock:
            count = self._counts.pop(key, 0) + 1  # the newest stands last
            if len(self._counts) >= MOST_PATTERNS:  # keys may be hostile: forget the oldest
                self._told.pop(forget_oldest(self._counts) or (), None)
            self._counts[key] = count
            told = key in self._told
        if told:
            tally(key[0], key[1], self._sink)
        return count

    def _say(self, findings: Sequence[Finding]) -> None:
        """Log the findings of one write that are at a milestone, and call back with each."""
        from contextcache import records  # noqa: PLC0415  # a clean process needs no words

        _summarise_at_exit()
        for leaves in records.grouped(findings):
            for leaf in leaves:
                _call(self._config.on_finding, "a callback of on_finding", leaf)
            template, arguments = records.message(leaves, self._config)
            _log("warning", template, *arguments, extra=records.record_fields(leaves))


_reporters: weakref.WeakSet[Reporter] = weakref.WeakSet()


def summary() -> list[Finding]:
    """Return what was found in this process so far, each pattern once, with its count.

    The most frequent comes first. It is data: `str(finding)` is its line.
    """
    found = [finding for reporter in list(_reporters) for finding in reporter.summary()]
    return sorted(found, key=lambda finding: -finding.count)


def _say_summary() -> None:
    """Log at the end of the process what came up again after it was reported.

    At level INFO: a server whose log shows that gets one line; a command or test gets none.
    """
    found = summary()
    if any(not is_milestone(finding.count) for finding in found):
        from contextcache import records  # noqa: PLC0415
        from contextcache.terminal import counted  # noqa: PLC0415

        total = sum(finding.count for finding in found)
        extra = {"contextcache_findings": [finding.as_dict() for finding in found]}
        patterns = counted(len(found), "pattern")
        _log("info", SUMMARY, patterns, total, records.most_seen(found), extra=extra)


_exit: list[Callable[[], None]] = []


def _summarise_at_exit() -> None:
    if not _exit:
        _exit.append(atexit.register(_say_summary))


def tally(code: str, action: str, sink: str) -> None:
    """Tell the counters of metrics that something happened.

    Args:
        code: A code of `CODES`, `unreadable` or `outage`.
        action: What was done.
        sink: The words for where.
    """
    _call(counters, "a counter of metrics", code, action, sink)


def _call(functions: Iterable[Callable[..., object]], what: str, *arguments: object) -> None:
    for function in functions:
        try:
            function(*arguments)
        except Exception as error:  # noqa: BLE001  # a broken callback must not break the write
            report_internal(what, error)


def _log(level: str, template: str, *args: object, extra: dict[str, Any] | None = None) -> None:
    import logging  # noqa: PLC0415  # a clean process logs nothing

    with contextlib.suppress(Exception):  # a filter of the application's must not break the write
        number = getattr(logging, level.upper())
        logging.getLogger("contextcache").log(number, template, *args, extra=extra)


def key_of(finding: Finding) -> Key:
    """Return what makes two findings of a view the same to a reader: code, pattern and owner."""
    root, below = generalised(finding.path.root), Path("", finding.path.steps).pattern
    return finding.code, str(finding.action), below, finding.owner_type, root


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
    _log("error", INTERNAL, what, type(error).__name__, place)


def show_findings() -> None:
    """Show findings on stderr unless the application has arranged its own logging for them.

    For development: without a handler on the way to the root logger, Python would print a
    warning without its formatting.
    """
    import logging  # noqa: PLC0415

    from contextcache import records  # noqa: PLC0415

    records.show(logging.getLogger("contextcache"))
