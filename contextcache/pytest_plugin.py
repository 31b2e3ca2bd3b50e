"""The pytest plugin: fail a test at a write that would store less than it was given, or report it.

It does nothing until it is asked for, on the command line or by `contextcache = raise` in the
configuration file of pytest::

    pytest --contextcache=raise     a finding fails the test, at the write, with all findings
    pytest --contextcache=report    findings are listed at the end of the run
    pytest --contextcache=off       nothing, whatever the configuration file says

`@pytest.mark.contextcache("off")` exempts a test, and `"report"` or `"raise"` sets another mode for
it. A test that expects findings uses `contextcache.testing.capture_findings()` instead.

At the end both modes print how many writes were seen, because a project whose caches have no guard
would otherwise look like one without findings.

A worker of pytest-xdist hands over plain text and numbers: it can encode nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from contextcache.base.masking import one_line
from contextcache.base.words import pluralize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contextcache.findings.finding import Finding

MODES = ("raise", "report", "off")
NAME = "contextcache"  # of the option, the setting and the marker


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting."""
    described = "fail tests that store what cannot be stored (raise), list it at the end (report)"
    parser.getgroup(NAME).addoption(f"--{NAME}", choices=MODES, help=f"{described}, or neither")
    parser.addini(NAME, f"{described}, or neither: {', '.join(MODES)}", default="off")


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and watch the run if that is asked for.

    Raises:
        UsageError: The setting has an unknown value.
    """
    config.addinivalue_line(
        "markers", f'{NAME}(mode): handle findings of this test by another mode; "off" exempts it'
    )
    mode = config.getoption(f"--{NAME}") or config.getini(NAME)
    if mode not in MODES:
        raise pytest.UsageError(f"{NAME} = {mode!r} is not one of {', '.join(MODES)}")
    if mode != "off":
        config.pluginmanager.register(Watch(mode), "contextcache-watch")


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
        mode: What to do about a finding where the test has no marker, `raise` or `report`.
    """

    def __init__(self, mode: str) -> None:
        self._mode = self._run_mode = mode
        self._found = Found(self)
        self._test = ""
        self._missed: list[Finding] = []  # raised where nobody saw it, such as in another thread
        self._told: dict[str, dict[str, Any]] = {}
        self._findings = self._writes = 0

    def note(self, findings: list[Finding]) -> None:
        """Note the findings of one write, and fail the test if that is asked for."""
        from contextcache.reports.reporter import collectors  # noqa: PLC0415

        if not findings or self._mode == "off" or collectors[-1] is not self._found:
            return  # in the last case the test itself asked to see them
        self._findings += len(findings)
        if self._mode == "raise":
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

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Refuse a marker without a mode.

        Raises:
            UsageError: A marker has no mode, or an unknown one.
        """
        for item in items:
            marker = item.get_closest_marker(NAME)
            if marker is not None and (len(marker.args) != 1 or marker.args[0] not in MODES):
                raise pytest.UsageError(
                    f"{item.nodeid}: @pytest.mark.{NAME}(mode) takes one of {', '.join(MODES)}"
                )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Apply the mode of the test while it runs, its fixtures included."""
        marker = item.get_closest_marker(NAME)
        self._mode = self._run_mode if marker is None else marker.args[0]
        try:
            return (yield)
        finally:
            self._mode = self._run_mode

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
    first, others = findings[0], f", and {len(alike) - 1} more" if len(alike) > 1 else ""
    lines = [f"{first.code} {first.path.printed(exact=True)} cannot be stored as it is{others}"]
    for one, *more in alike.values():
        like = f" (and {len(more)} like it)" if more else ""
        lines.append(f"  {one.line(exact=True)}{like}")
        lines += (
            f"    {name:<8}{one_line(text)}"
            for name, text in (("where", one.origin), ("field", one.field), ("fix", one.fix))
            if text
        )
    return "\n".join(lines)
