"""contextcache.testing: what the tests of a project use."""

from __future__ import annotations

import threading

import pytest

from contextcache import Config, Guard, Rule, UncacheableValueError
from contextcache.reports.reporter import collectors
from contextcache.testing import assert_cacheable, capture_findings


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def test_every_finding_is_captured_each_time() -> None:
    """The log reports a pattern once; a test sees every occurrence."""
    guard = Guard()
    guard.dumps([Client()])
    with capture_findings() as findings:
        for _ in range(3):
            guard.dumps([Client()])
    assert [str(finding) for finding in findings] == [
        "CC102: value[0].lock (_thread.lock) a lock belongs to this process"
    ] * 3


def test_findings_of_other_threads_and_guards_are_captured() -> None:
    """A test client may serve the request in a thread of its own."""
    with capture_findings() as findings:
        threads = [threading.Thread(target=lambda: Guard().dumps([Client()])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(findings) == 4


def test_captures_nest_and_end() -> None:
    """Each block has its own list, even where two lists are equal, and nothing stays behind."""
    with capture_findings() as outer:
        with capture_findings() as inner:
            Guard().dumps([Client()])
        Guard().dumps([Client()])
    Guard().dumps([Client()])
    assert (len(inner), len(outer)) == (1, 2)
    assert collectors == []


def test_a_capture_ends_when_the_block_raises() -> None:
    """A failing test leaves no collector to the next one."""
    with pytest.raises(ZeroDivisionError), capture_findings():
        raise ZeroDivisionError
    assert collectors == []


@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_every_mode_is_captured(mode: str) -> None:
    """A refused or unchanged write has its findings, too."""
    with capture_findings() as findings:
        try:
            Guard(mode=mode).dumps([Client()])
        except UncacheableValueError:
            assert mode != "strip"
    assert [finding.code for finding in findings] == ["CC102"]


def test_ignored_paths_are_not_captured() -> None:
    """What the application does not want to hear of does not fail its tests."""
    with capture_findings() as findings:
        Guard(ignore=("value[*].lock",)).dumps([Client()])
    assert findings == []


def test_a_clean_value_is_cacheable() -> None:
    """Nothing is raised, and nothing is said."""
    assert_cacheable({"items": [1, 2.5, "three"]})


def test_an_offender_fails_the_test_with_every_path() -> None:
    """The message is complete: path, type, reason and remedy of each finding."""
    with pytest.raises(AssertionError) as caught:
        assert_cacheable({"client": Client(), "rows": (row for row in ())}, label="cache['top']")
    assert str(caught.value) == (
        "cache['top'] cannot be cached as it is:\n"
        "  CC102: cache['top']['client'].lock (_thread.lock) a lock belongs to this process; "
        "leave it out in __getstate__ of Client; across processes it protects nothing\n"
        "  CC109: cache['top']['rows'] (generator) a generator, coroutine or iterator in progress "
        "cannot be resumed elsewhere; store its items: list(...), or the awaited result"
    )


def test_rules_and_ignore_patterns_of_a_project_apply() -> None:
    """What the project allows or ignores is cacheable for its tests, too."""
    assert_cacheable({"c": Client()}, config=Config(ignore=("value['c']",)))
    strict = Config(rules=(Rule(type="tests:Client", verb="refuse"),))  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="value cannot be cached as it is"):
        assert_cacheable({"c": Client()}, config=strict)


def test_asserting_changes_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The value is as before, and the log is for writes."""
    client = Client()
    lock = client.lock
    with pytest.raises(AssertionError), capture_findings() as findings:
        assert_cacheable(client)
    assert client.lock is lock
    assert findings == []
    assert caplog.records == []
