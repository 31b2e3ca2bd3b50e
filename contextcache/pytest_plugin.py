"""The pytest plugin: fail a test at the write that would have cut something, or sum up at the end.

It does nothing without its option::

    pytest --contextcache=raise     a finding fails the test, at the write, with all findings
    pytest --contextcache=report    findings are summed up at the end of the run

Both say at the end how many writes they saw, so that a project whose caches nobody guards does
not look like a clean one. A test that expects findings says so with
`contextcache.testing.capture_findings()`.

What a worker of pytest-xdist hands over is plain text and numbers: it can encode nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from contextcache.base.masking import one_line
from contextcache.base.words import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contextcache.findings.finding import Finding


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option."""
    parser.getgroup("contextcache").addoption(
        "--contextcache",
        choices=("raise", "report"),
        help="fail tests that store what cannot be stored (raise), or list it at the end (report)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Watch the run, if that is asked for."""
    mode = config.getoption("--contextcache")
    if mode is not None:
        config.pluginmanager.register(Watch(raises=mode == "raise"), "contextcache-watch")


class Found(list["Finding"]):
    """A collector that tells the watch of each write."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def extend(self, findings: Iterable[Finding]) -> None:
        """Take the findings of one write."""
        self._watch.note(list(findings))


class Watch:
    """What is found while tests run.

    Args:
        raises: Whether a finding fails the test.
    """

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises
        self._found = Found(self)
        self._test = ""
        self._missed: list[Finding] = []  # raised where nobody saw it, such as in another thread
        self._told: dict[str, dict[str, Any]] = {}
        self._findings = self._writes = 0

    def note(self, findings: list[Finding]) -> None:
        """Note the findings of one write, and fail the test if that is asked for."""
        from contextcache.reports.reporter import collectors  # noqa: PLC0415

        if not findings or collectors[-1] is not self._found:
            return  # the test itself asked to see them
        self._findings += len(findings)
        if self._raises:
            self._missed += findings
            pytest.fail(_worded(findings), pytrace=False)
        for finding in findings:
            told = finding.as_dict(exact=True)
            self._add(f"{told['code']} {told['pattern']}", told, one_line(self._test), 1)

    def note_write(self) -> None:
        """Count a write."""
        self._writes += 1

    def _add(self, key: str, told: dict[str, Any], test: str, times: int) -> None:
        known = self._told.setdefault(key, {**told, "test": test, "times": 0})
        known["times"] += times

    def pytest_sessionstart(self) -> None:
        """Begin to listen."""
        from contextcache.reports.reporter import collectors, writers  # noqa: PLC0415

        collectors.append(self._found)
        writers.append(self.note_write)

    def pytest_unconfigure(self) -> None:
        """Stop listening."""
        from contextcache.reports.reporter import collectors, writers  # noqa: PLC0415

        collectors[:] = [one for one in collectors if one is not self._found]
        writers[:] = [one for one in writers if one != self.note_write]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remember which test runs."""
        self._test = nodeid
        self._missed.clear()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Forget what has failed the test."""
        if report.failed:
            self._missed.clear()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self) -> None:
        """Fail a test that passed although a write of it failed in another thread."""
        if self._missed:
            findings = self._missed.copy()
            self._missed.clear()
            pytest.fail(_worded(findings), pytrace=False)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Hand over what a worker of pytest-xdist found."""
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["contextcache"] = {
                "told": self._told,
                "findings": self._findings,
                "writes": self._writes,
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a worker of pytest-xdist found."""
        output = getattr(node, "workeroutput", {}).get("contextcache")
        if output:  # a worker that crashed has none
            self._findings += output["findings"]
            self._writes += output["writes"]
            for key, told in output["told"].items():
                self._add(key, told, told["test"], told["times"])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Sum up at the end of the run."""
        findings = pluralize(self._findings, "finding")
        seen = f"contextcache: {pluralize(self._writes, 'write')} seen, {findings}"
        if not self._writes:
            seen = (
                "contextcache: no guarded write was seen; guard the caches and sessions of the "
                "project where its tests run"
            )
        if not self._told:
            terminalreporter.line(seen)
            return
        terminalreporter.section("contextcache")
        for told in sorted(self._told.values(), key=lambda told: -told["times"]):
            where = told["path"] if told["times"] == 1 else told["pattern"]
            head = f"{told['code']} {where} ({told['leaf_type']}): {told['reason']}"
            terminalreporter.line(head, yellow=True)
            times = "once" if told["times"] == 1 else f"{told['times']:,} times, first"
            terminalreporter.line(f"  found   {times} in {told['test'] or 'the session'}")
            if told["field"]:
                terminalreporter.line(f"  field   {told['field']}")
            terminalreporter.line(f"  fix     {told['fix']}")
        terminalreporter.line(seen)


def _worded(findings: list[Finding]) -> str:
    """Word the findings of one write; the first line is all that a summary of pytest shows."""
    alike: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        alike.setdefault((finding.code, finding.path.pattern), []).append(finding)
    others = f", and {len(alike) - 1} more" if len(alike) > 1 else ""
    lines = [f"cannot be stored as it is: {findings[0].path.printed(exact=True)}{others}"]
    for one, *more in alike.values():
        like = f" (and {len(more)} like it)" if more else ""
        lines.append(f"  {one.line(exact=True)}{like}")
        lines += (
            f"    {name:<6}{one_line(text)}"
            for name, text in (("at", one.origin), ("field", one.field), ("fix", one.fix))
            if text
        )
    return "\n".join(lines)
