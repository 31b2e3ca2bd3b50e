"""A hot page with ever new offenders does not spend its time on diagnosis."""

from __future__ import annotations

import pickle
import threading

import pytest

from contextcache import Guard
from contextcache.guard import MOST_PLACES
from contextcache.inspection import Inspection


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of the values that got a close look."""
    seen: list[str] = []
    run = Inspection.run

    def counted(self: Inspection, value: object) -> Inspection:
        seen.append(self.label)
        return run(self, value)

    monkeypatch.setattr(Inspection, "run", counted)
    return seen


def nested(level: int, leaf: object) -> object:
    for _ in range(level):
        leaf = [leaf]
    return {"at": leaf}


def test_a_lock_at_ever_new_places_is_cut_without_a_look(
    looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the time is used up, a lock at a new place is recreated without being searched for."""
    guard = Guard()
    guard.dumps(nested(1, threading.Lock()), label="session")
    guard.dumps(nested(2, threading.Lock()), label="session")
    assert len(looks) == 2
    monkeypatch.setattr(guard, "_spent", 3600.0)
    for level in range(3, 40):
        stored = pickle.loads(guard.dumps(nested(level, threading.Lock()), label="session"))
        for _ in range(level):
            stored = stored["at"] if isinstance(stored, dict) else stored[0]
    assert len(looks) == 2


def test_what_is_stripped_is_always_tried(
    looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker at a new place may keep the value from loading, so it gets its look all the same."""
    guard = Guard()
    guard.dumps(nested(1, (step for step in ())), label="session")
    monkeypatch.setattr(guard, "_spent", 3600.0)
    guard.dumps(nested(2, (step for step in ())), label="session")
    assert len(looks) == 2


def test_without_time_the_finding_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An offender that was not located is reported at the value, with the way to locate it."""
    found: list[bool] = []
    guard = Guard(on_finding=(lambda finding: found.append(finding.located),))
    monkeypatch.setattr(guard, "_affordable", lambda _: 0.0)
    rows = [{"n": number} for number in range(1000)]
    guard.dumps([*rows, threading.Lock()], label="cache['rows']")
    assert found == [False]
    assert "cache['rows'] (_thread.lock)" in caplog.text


@pytest.mark.parametrize("label", ["session", "cache['k']"])
def test_names_that_visitors_choose_are_bounded(label: str) -> None:
    """Of keys that were left out and of kinds that were met, a site knows the newest only."""
    guard = Guard(session=True)
    for number in range(300):
        name = "".join(chr(97 + int(digit)) for digit in str(number))
        made = type(name, (), {})()
        guard.dumps({"uid": 1, name: lambda: 0, f"{name}x": made}, label=label)
    (site,) = guard._sites.values()
    assert max(len(site.dropped), len(site.kinds), len(site.places)) <= MOST_PLACES
