"""Count and log findings: each cause at its 1st, 10th, 100th... occurrence.

The format of a record stands in `log_format`, which is loaded with the first of them.
"""

from __future__ import annotations

import atexit
import dataclasses
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING

from contextcache.base.locks import ProcessLock
from contextcache.base.logs import error_name, log
from contextcache.base.masking import one_line, shortened, type_text
from contextcache.findings.path import Path, StepKind
from contextcache.reports.call_site import RESULT_OF
from contextcache.reports.request_scope import current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from contextcache.config import Config
    from contextcache.exceptions import UnreadablePayloadError
    from contextcache.findings.finding import Finding

UNREADABLE = "contextcache: %s cannot be read and {outcome}: {reason}; %s"
A_MISS = "counts as a miss"
INTERNAL = (
    "contextcache: {what} failed with {error} at %s; "
    "what would have been stored without it was stored"
)
SUMMARY = "contextcache: %s of findings in this process, seen %d times: %s"

MAX_CAUSES = 32  # of one code that are counted one by one
MAX_PATTERNS = 10  # of one cause, such as cache keys
MAX_REASONS = 16  # why payloads cannot be read
FIRST_UNREADABLE = 10  # payloads of one reason that are each a warning
MAX_REASON_LENGTH = 400
MAX_INTERNAL = 64  # failures of our own that are logged

Key = tuple[str, ...]

collectors: list[list[Finding]] = []
"""Where `contextcache.testing` collects findings; empty in production."""

writers: list[Callable[[], object]] = []
"""What is called at each write; empty but in the tests of a project."""

counters: list[Callable[[str, str, str], None]] = []
"""What `contextcache.metrics` counts with: called with code, action and sink each time."""


class Reporter:
    """Report the findings of one application, each cause at its 1st, 10th, 100th... occurrence.

    A cause is a code with the owning class and its field. It is counted in up to `MAX_PATTERNS`
    patterns, so that a developer reads where the field is stored.

    Args:
        config: The policy of the application.
        sink: The words for where values are stored.
    """

    def __init__(self, config: Config, sink: str) -> None:
        self._config = config
        self.sink = sink
        self._counts: dict[Key, int] = {}
        self._told: dict[Key, Finding] = {}
        self._members: dict[Key, set[Key]] = {}
        self._lock = ProcessLock()
        _reporters.add(self)

    @property
    def wants_sources(self) -> bool:
        """Whether the lines that set fields are looked up: for a developer or a test."""
        return self._config.debug or bool(collectors)

    @property
    def wants_every_occurrence(self) -> bool:
        """Whether each occurrence is reported by itself: to a developer, a test, a page."""
        scope = current_scope()
        return self.wants_sources or (scope is not None and scope.collect)

    def count(self, keys: Iterable[Key]) -> dict[Key, int]:
        """Count known findings once more, and return how often each was seen."""
        bounded = dict.fromkeys(map(self._bounded, keys))
        return {key: self._count(key) for key in bounded}

    def repeat(self, keys: Iterable[Key]) -> None:
        """Count known findings without a new look, and log the 10th, 100th... occurrence.

        The record is that of the first occurrence with another count.
        """
        counted = self.count(keys)
        milestones = [
            dataclasses.replace(self._told[key], count=count)
            for key, count in counted.items()
            if is_milestone(count) and key in self._told
        ]
        if milestones:
            self._say(milestones)

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
        heard = [finding for finding in findings if not self._config.ignores(finding.path)]
        for collector in collectors:
            collector.extend(heard)
        scope = current_scope()
        if scope is not None and scope.collect:
            scope.findings.extend(heard)
        told = [(key_of(finding), finding) for finding in reversed(heard)] if log else []
        patterns = {self._bounded(key): finding for key, finding in told}
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

    def unreadable(self, error: UnreadablePayloadError, outcome: str = A_MISS) -> None:
        """Warn of a payload that cannot be read, and say what its reader gets.

        Each of the first ten of a reason is a warning, then the 100th, 1,000th...
        """
        tally("unreadable", "missed", self.sink)
        group = ("unreadable", "missed")
        with self._lock:
            key = group + self._admitted(group, (error.kind,), MAX_REASONS)
        count = self._count(key)
        if count <= FIRST_UNREADABLE or is_milestone(count):
            path = Path(error.label, hidden=self._config.redact_keys)
            label = path.printed(exact=self._config.debug)
            reason = shortened(one_line(error.reason), MAX_REASON_LENGTH).replace("%", "%%")
            extra = {"contextcache_path": label, "contextcache_sink": self.sink}
            template = UNREADABLE.format(outcome=outcome, reason=reason)
            remedy = shortened(one_line(error.remedy), MAX_REASON_LENGTH)
            log("warning", template, label, remedy, extra=extra)

    def _bounded(self, key: Key) -> Key:
        """Return `key`, with `*` where there were too many like it.

        Keys, attributes and classes can be made from what visitors type. So a code has a limited
        number of causes, a cause a limited number of patterns, and the rest is counted as one.
        """
        *cause, pattern = key
        code = cause[:2]
        with self._lock:
            cause = [*code, *self._admitted((*code,), tuple(cause[2:]), MAX_CAUSES)]
            return (*cause, *self._admitted((*cause,), (pattern,), MAX_PATTERNS))

    def _admitted(self, group: Key, member: Key, most: int) -> Key:
        members = self._members.setdefault(group, set())
        if member not in members:
            if len(members) >= most:
                return ("*",) * len(member)
            members.add(member)
        return member

    def _count(self, key: Key) -> int:
        with self._lock:
            count = self._counts[key] = self._counts.get(key, 0) + 1
            is_finding = key in self._told
        if is_finding:
            tally(key[0], key[1], self.sink)
        return count

    def _say(self, findings: Sequence[Finding]) -> None:
        """Log the findings of one write that are at a milestone, and call back with each."""
        from contextcache.reports import log_format  # noqa: PLC0415  # a clean process needs no words

        _summarise_at_exit()
        for leaves in log_format.grouped(findings):
            for leaf in leaves:
                _call(self._config.on_finding, "a callback of on_finding", leaf)
            template, arguments = log_format.message(leaves, self._config)
            extra = log_format.record_fields(leaves, exact=self._config.debug)
            log("warning", template, *arguments, extra=extra)


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
        from contextcache.base.words import pluralize  # noqa: PLC0415
        from contextcache.reports import log_format  # noqa: PLC0415

        total = sum(finding.count for finding in found)
        extra = {"contextcache_findings": [finding.as_dict() for finding in found]}
        patterns = pluralize(len(found), "pattern")
        log("info", SUMMARY, patterns, total, log_format.most_seen(found), extra=extra)


_exit: list[Callable[[], None]] = []


def _summarise_at_exit() -> None:
    if not _exit:
        _exit.append(atexit.register(_say_summary))


def note_write() -> None:
    """Tell those who count writes that there is one."""
    for note in writers:
        note()


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


def key_of(finding: Finding) -> Key:
    """Return the cause of a finding and its pattern: code, action, owner, field, pattern.

    Where no class owns the field, it is what the value holds at the top: a key of the session.
    """
    path = finding.path
    pattern = path.printed_pattern()
    is_owned = bool(finding.owner_type)
    names = [step for step in path.steps if step.kind is StepKind.ATTRIBUTE] if is_owned else []
    step = names[-1] if names else next(iter(path.steps), None)
    field = step.printed_pattern if step is not None else ""
    if finding.origin.endswith(")"):  # the key of a memoized function's result is a hash
        pattern += finding.origin.partition(RESULT_OF)[2]
    return finding.code, str(finding.action), type_text(finding.owner_type), field, pattern


def is_milestone(count: int) -> bool:
    """Return True if `count` is 1, 10, 100..."""
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
    what = shortened(one_line(what), MAX_REASON_LENGTH).replace("%", "%%")
    key = (what, place)
    alike = sum(where == place for _, where in _internal)
    if key in _internal or alike >= MAX_PATTERNS or len(_internal) >= MAX_INTERNAL:
        return
    _internal.add(key)
    log(
        "error",
        INTERNAL.format(what=what, error=error_name(error)),
        shortened(one_line(place), MAX_REASON_LENGTH),
    )
