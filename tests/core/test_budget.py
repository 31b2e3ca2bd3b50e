"""A hot page with ever new offenders does not spend its time on diagnosis."""

from __future__ import annotations

import collections
import contextlib
import pickle
import sys
import threading
import uuid
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Finding, Guard, UncacheableValueError
from contextcache.engine.budget import Budget
from contextcache.engine.diagnosis import Diagnosis
from contextcache.engine.history import MAX_ALIKE, MAX_PLACES
from contextcache.testing import capture_findings

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of the values that got a close look."""
    seen: list[str] = []
    run = Diagnosis.run

    def counted(self: Diagnosis, value: object) -> Diagnosis:
        seen.append(self.options.label)
        return run(self, value)

    monkeypatch.setattr(Diagnosis, "run", counted)
    return seen


class Clock:
    """A clock that goes on by a second each time it is asked."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def spent() -> Budget:
    """A budget of which nothing is left."""
    budget = Budget(share=0.0)
    budget.spent = 3600.0
    return budget


def nested(level: int, leaf: object) -> dict[str, object]:
    for _ in range(level):
        leaf = [leaf]
    return {"at": leaf}


def test_a_budget_grows_with_time_and_is_spent_by_what_is_charged() -> None:
    """First seconds at once, then a share of the time; never more for one value than a look."""
    clock = Clock()
    budget = Budget(share=0.1, first=2.0, look=0.5, clock=clock)
    assert budget.left() == 0.5
    with budget.charged():
        clock.now += 2.0
    assert budget.spent == 2.0
    assert budget.left() == pytest.approx(0.2)
    with pytest.raises(ValueError), budget.charged():  # noqa: PT011, PT012
        clock.now += 1.0
        raise ValueError
    assert budget.spent == 3.0
    assert budget.left() == 0.0
    clock.now += 10.0
    assert budget.left() == pytest.approx(0.3)


WORK: dict[str, Callable[[Guard], object]] = {
    "a close look": lambda guard: guard.dumps([threading.Lock()]),
    "the trial of a type": lambda guard: guard.dumps([uuid.uuid4()]),
    "the search in what is too large": lambda guard: guard.dumps(b"x" * 100_000),
    "the rest of a session": lambda guard: guard.dumps({"a": b"x" * 100_000, "uid": 1}),
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_extra_work_is_charged(work: Callable[[Guard], object]) -> None:
    """Whatever is done besides the fast pass is spent, and plain data spends nothing."""
    budget = Budget(clock=Clock(tick=1.0))
    guard = Guard(session=True, max_size=50_000, budget=budget)
    guard.dumps({"n": 1})
    assert budget.spent == 0.0
    with contextlib.suppress(UncacheableValueError):
        work(guard)
    assert budget.spent > 0.0


def test_a_known_value_spends_nothing() -> None:
    """A lock that was looked at is cut by the fast pass alone; so is a lambda."""
    budget = Budget(clock=Clock(tick=1.0))
    guard = Guard(budget=budget)
    value = {"lock": threading.Lock(), "rows": [{"call": lambda: 0} for _ in range(100)]}
    guard.dumps(value)
    before = budget.spent
    for _ in range(5):
        guard.dumps(value)
    assert budget.spent == before


def test_all_guards_share_a_budget() -> None:
    """Ten guards of a process spend no more than one."""
    budget = Budget(share=0.0, first=1.5, clock=Clock(tick=1.0))
    for _ in range(3):
        Guard(budget=budget).dumps([threading.Lock()])
    assert budget.left() == 0.0


def test_a_lock_at_ever_new_places_is_cut_without_a_look(looks: list[str]) -> None:
    """Once the time is used up, a lock at a new place is recreated without being searched for."""
    budget = Budget(share=0.0)
    guard = Guard(budget=budget)
    guard.dumps(nested(1, threading.Lock()), label="session")
    guard.dumps(nested(2, threading.Lock()), label="session")
    assert len(looks) == 2
    budget.spent = 3600.0
    for level in range(3, 40):
        stored = pickle.loads(guard.dumps(nested(level, threading.Lock()), label="session"))
        for _ in range(level):
            stored = stored["at"] if isinstance(stored, dict) else stored[0]
    assert len(looks) == 2


@pytest.mark.parametrize("make", [threading.Lock, lambda: lambda: 0], ids=["lock", "lambda"])
def test_a_known_kind_under_ever_new_keys_is_cut_without_a_look(
    looks: list[str], make: Callable[[], object]
) -> None:
    """Once the time is used up, a visitor who makes up keys does not make each write dear."""
    budget = Budget(share=0.0)
    guard = Guard(budget=budget)
    guard.dumps({"n": 1, "it": [make()]}, label="cache['first']")
    budget.spent = 3600.0
    for number in range(50):
        payload = guard.dumps({"n": 1, "it": [make()]}, label=f"cache['{letters(number)}']")
        assert guard.loads(payload)["n"] == 1
    assert len(looks) == 1


def test_classes_of_one_write_leave_nothing_behind_without_time() -> None:
    """Also where they stand beside a known offender, and no look is taken any more."""
    guard = Guard(budget=spent())
    module = sys.modules["made"] = ModuleType("made")
    module.__file__ = __file__  # as if others could import it
    for number in range(300):
        cls = type(f"Form{letters(number)}", (), {"__module__": "made"})
        setattr(module, cls.__name__, cls)
        guard.dumps({"form": cls(), "lock": threading.Lock()}, label="cache['form']")
        delattr(module, cls.__name__)
    del sys.modules["made"]
    assert len(guard._outcome.examiner.knowledge.table.due) < 10
    assert len(guard._outcome.examiner.knowledge.table) < 50


class Demanding:
    """Its objects load only with a number."""

    def __init__(self, number: object) -> None:
        self.number = number

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.number = state["number"]
        if not isinstance(self.number, int):
            raise TypeError


def _endless(levels: int = 100_000) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


class Circular:
    """What needs itself to be rebuilt."""

    def __reduce__(self) -> tuple[object, ...]:
        return Circular, (self,)


REFUSED: dict[str, Callable[[], object]] = {
    "a lambda": lambda: lambda: 0,
    "a generator": lambda: (one for one in ()),
    "a class of one write": lambda: type("Row", (), {})(),
    "too deep": _endless,
    "circular": lambda: [Circular()],
}


@pytest.mark.parametrize("label", ["cache['page']", "cache['{}']"], ids=["one key", "other keys"])
@pytest.mark.parametrize("build", REFUSED.values(), ids=REFUSED)
def test_a_refused_value_is_refused_again_without_a_look(
    looks: list[str], build: Callable[[], object], label: str
) -> None:
    """Without time, the error has the known findings, under the label of the write."""
    guard = Guard(budget=spent())
    errors = []
    for number in range(5):
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps(build(), label=label.format(chr(97 + number)))
        errors.append(caught.value)
    assert len(looks) == 1
    assert {one.findings[0].code for one in errors} == {errors[0].findings[0].code}
    assert [one.findings[0].path.root for one in errors] == [
        label.format(chr(97 + number)) for number in range(5)
    ]
    assert sum(one.count for one in guard.summary()) == 5


@pytest.mark.parametrize("build", [_endless, lambda: [Circular()]], ids=["too deep", "circular"])
def test_a_refused_key_of_a_session_is_left_out_again_without_a_look(
    looks: list[str], build: Callable[[], object]
) -> None:
    """The rest of the session is stored each time; what is clean in it needs no look, either."""
    guard = Guard(session=True, budget=spent())
    for _ in range(3):
        payload = guard.dumps({"uid": 7, "cart": [1], "tree": build()}, label="session")
        assert guard.loads(payload) == {"uid": 7, "cart": [1]}
    first = len(looks)
    for _ in range(5):
        payload = guard.dumps({"uid": 7, "cart": [1], "tree": build()}, label="session")
        assert guard.loads(payload) == {"uid": 7, "cart": [1]}
    assert len(looks) == first


def test_a_value_is_refused_for_its_own_reason_without_time(looks: list[str]) -> None:
    """What is refused for another reason than before gets a look; what is good is stored."""
    guard = Guard(budget=spent())
    for build, code in ((REFUSED["a lambda"], "CC110"), (REFUSED["too deep"], "CC130")) * 2:
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps(build(), label="cache['page']")
        assert caught.value.findings[0].code == code
    assert guard.loads(guard.dumps([1], label="cache['page']")) == [1]
    with pytest.raises(UncacheableValueError) as caught:
        Guard(budget=spent(), mode="raise").dumps([threading.Lock()])
    assert caught.value.findings[0].code == "CC102"


def test_without_time_nobody_looks_for_what_makes_a_value_too_large() -> None:
    """The value is refused all the same, and the rest of a session is stored."""
    rows = {"rows": [bytes([number]) * 1000 for number in range(100)]}
    with pytest.raises(UncacheableValueError) as caught:
        Guard(max_size=50_000, budget=spent()).dumps(rows)
    assert [(one.code, one.path.steps) for one in caught.value.findings] == [("CC131", ())]
    guard = Guard(session=True, max_size=50_000, budget=spent())
    assert guard.loads(guard.dumps({"uid": 7, **rows})) == {"uid": 7}


def test_what_is_stripped_is_always_tried(looks: list[str]) -> None:
    """A marker at a new place is tried, and gets a look only where the value does not load."""
    budget = Budget(share=0.0)
    guard = Guard(budget=budget)
    guard.dumps(nested(1, (step for step in ())), label="session")
    budget.spent = 3600.0
    guard.dumps(nested(2, (step for step in ())), label="session")
    guard.dumps(nested(3, [Demanding(1)]), label="session")
    assert len(looks) == 1
    value = {"n": 1, "row": Demanding(step for step in ())}
    assert guard.loads(guard.dumps(value, label="session"))["n"] == 1
    assert len(looks) == 2


def test_without_time_each_kind_is_found_once() -> None:
    """The first of a kind speaks for the others, and all of them are cut."""
    found: list[Finding] = []
    guard = Guard(budget=spent(), on_finding=(found.append,))
    value = [lambda: 0 for _ in range(500)] + [threading.Lock() for _ in range(500)]
    stored = guard.loads(guard.dumps(value, label="cache['rows']"))
    assert not any(stored[:500])
    assert {one.code for one in found} == {"CC110", "CC102"}


@pytest.mark.parametrize("options", [{"debug": True}, {"mode": "raise"}], ids=str)
def test_a_developer_and_ci_get_every_finding(options: dict[str, Any]) -> None:
    """However long the lines of source and the packages take to look up."""
    guard = Guard(budget=Budget(look=0.0), **options)
    value = {letters(number): lambda: 0 for number in range(200)}
    with capture_findings() as findings, contextlib.suppress(UncacheableValueError):
        guard.dumps(value)
    assert len(findings) == 200


def test_without_time_the_finding_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """An offender that was not located is reported at the value, with the way to locate it."""
    found: list[str] = []
    guard = Guard(budget=spent(), on_finding=(lambda finding: found.append(finding.field),))
    rows = [{"n": number} for number in range(1000)]
    guard.dumps([*rows, threading.Lock()], label="cache['rows']")
    assert found == ["not located within the time for it; contextcache.explain(value) has no limit"]
    assert "cache['rows'] (_thread.lock)" in caplog.text


MAKE: dict[str, Callable[[], object]] = {
    "lambdas": lambda: lambda: 0,
    "generators": lambda: (one for one in ()),
    "locks": threading.Lock,
    "threads": threading.Thread,
    "local classes": lambda: type("Local", (), {})(),
}


class OwnState:
    """No steps lead to what pickle stores of it."""

    def __getstate__(self) -> list[object]:
        return [None, [(one for one in ())]]

    def __setstate__(self, state: list[object]) -> None:
        self.state = state


UNREACHED: dict[str, Callable[[], object]] = {
    "a key": lambda: collections.OrderedDict([((one for one in ()), 1)]),
    "a state": OwnState,
}


@pytest.mark.parametrize("build", UNREACHED.values(), ids=UNREACHED)
@pytest.mark.parametrize(
    ("later", "named"),
    [(0.0, "session['it']"), (3600.0, "session")],
    ids=["with time", "without"],
)
def test_a_kind_known_where_no_steps_lead_is_named_elsewhere_while_there_is_time(
    build: Callable[[], object], later: float, named: str
) -> None:
    """The label stands in for the path of a marker only once the time is used up."""
    budget = Budget(share=0.0, first=3600.0, look=3600.0)
    guard = Guard(budget=budget)
    guard.dumps([build()], label="session")
    budget.spent = later
    stored = guard.loads(guard.dumps({"it": (one for one in ())}, label="session"))
    assert f"<stripped {named}: CC109 generator>" == repr(stored["it"])


def test_a_key_of_an_own_kind_of_dict_is_a_known_place(looks: list[str]) -> None:
    """Its marker has its own name each time, without another look."""
    guard = Guard(budget=Budget(first=3600.0, look=3600.0))
    for _ in range(5):
        payload = guard.dumps([UNREACHED["a key"]()], label="session")
        (key,) = guard.loads(payload)[0]
        assert repr(key) == "<stripped session[0]<key 0>: CC109 generator>"
    assert len(looks) == 1


def letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


SHAPES: dict[str, Callable[[list[Any]], object]] = {
    "a list": lambda made: [1, *made],
    "a tuple": lambda made: (1, *made),
    "a set": lambda made: {1, *made},
    "keys of a dict": lambda made: dict.fromkeys(made, 1),
    "under numbers": lambda made: dict(enumerate(made)),
    "under names with numbers": lambda made: {f"k{at}": one for at, one in enumerate(made)},
    "under names": lambda made: {letters(at): one for at, one in enumerate(made)},
    "under tuples": lambda made: {("a", at): one for at, one in enumerate(made)},
    "under objects": lambda made: {frozenset({at}): one for at, one in enumerate(made)},
    "rows": lambda made: [{"n": 1, "it": one} for one in made],
    "fields": lambda made: [SimpleNamespace(it=one, n=1) for one in made],
    "fields with names": lambda made: SimpleNamespace(
        **{letters(at): one for at, one in enumerate(made)}
    ),
    "an exception": lambda made: ValueError(*made),
    "two lists": lambda made: {"a": made[::2], "b": {"c": made[1::2]}},
    "lists of lists": lambda made: [[made[at : at + 5]] for at in range(0, len(made), 5)],
}


@pytest.mark.parametrize("session", [False, True], ids=["cache", "session"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_any_number_of_offenders_is_known_after_a_look(
    looks: list[str],
    make: Callable[[], object],
    shape: Callable[[list[Any]], object],
    session: bool,
) -> None:
    """Wherever they stand and however many they are, the fast pass cuts them from then on."""
    guard = Guard(session=session, budget=Budget(first=3600.0, look=3600.0))
    number = 3 * MAX_PLACES
    for _ in range(6):
        value = {"uid": 7, "many": shape([make() for _ in range(number)])}
        payload = guard.dumps(value, label="cache['k']")
    assert guard.loads(payload)["uid"] == 7
    assert len(looks) <= 2


@pytest.mark.parametrize("number", [1, MAX_ALIKE, MAX_ALIKE + 1, 10 * MAX_PLACES])
def test_a_known_marker_tells_its_own_path(number: int) -> None:
    """Also where many are alike, and known by their pattern."""
    guard = Guard(budget=Budget(first=3600.0, look=3600.0))
    for _ in range(2):
        rows = [{"call": lambda: 0} for _ in range(number)]
        stored = guard.loads(guard.dumps(rows, label="cache['rows']"))
    assert f"cache['rows'][{number - 1}]['call']" in repr(stored[-1]["call"])


def test_another_field_beside_many_known_ones_is_reported() -> None:
    """What is known by its pattern hides no other field."""
    found: list[str] = []
    guard = Guard(
        budget=Budget(first=3600.0, look=3600.0),
        on_finding=(lambda finding: found.append(str(finding.path)),),
    )
    for _ in range(2):
        guard.dumps({"rows": [lambda: 0 for _ in range(500)]}, label="cache['k']")
    guard.dumps({"rows": [lambda: 0 for _ in range(500)], "other": lambda: 0}, label="cache['k']")
    assert found[-1] == "cache['k']['other']"


def test_keys_of_a_session_are_left_out_however_many_they_are() -> None:
    """A key that is known is left out like one that was looked at, and not marked."""
    guard = Guard(session=True)
    for _ in range(3):
        value = {"uid": 7, **{letters(number): lambda: 0 for number in range(3 * MAX_PLACES)}}
        assert guard.loads(guard.dumps(value, label="session")) == {"uid": 7}


@pytest.mark.parametrize("label", ["session", "cache['k']"])
def test_names_that_visitors_choose_are_bounded(label: str) -> None:
    """Of keys that were left out and of kinds that were met, a history knows the newest only."""
    guard = Guard(session=True)
    for number in range(300):
        name = "".join(chr(97 + int(digit)) for digit in str(number))
        made = type(name, (), {})()
        guard.dumps({"uid": 1, name: lambda: 0, f"{name}x": made}, label=label)
    (history,) = guard._outcome.examiner.knowledge.histories.values()
    assert max(len(history.dropped), len(history.kinds), len(history.places)) <= MAX_PLACES


class AddsOnce:
    """Adds a key to the dict that holds it when it is pickled for the first time."""

    holder: dict[str, object]
    is_done = False

    def __getstate__(self) -> dict[str, object]:
        if not AddsOnce.is_done:
            AddsOnce.is_done = True
            AddsOnce.holder["added"] = 1
        return {}


def test_a_value_that_changes_meanwhile_is_dumped_again_without_a_look(looks: list[str]) -> None:
    """It is stored as it is then, and nothing is reported."""
    value: dict[str, object] = {"first": AddsOnce(), "second": 2}
    AddsOnce.holder, AddsOnce.is_done = value, False
    with capture_findings() as findings:
        stored = pickle.loads(Guard().dumps(value))
    assert [*stored] == ["first", "second", "added"]
    assert (findings, looks) == ([], [])
