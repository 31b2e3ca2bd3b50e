"""Reporting: each pattern at its 1st, 10th, 100th time, to whoever asked, within bounds."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pickle
import sys
import textwrap
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from contextcache import (
    Action,
    Config,
    Finding,
    Guard,
    RequestScope,
    UncacheableValueError,
    UnreadablePayloadError,
    enter_scope,
    exit_scope,
    summary,
)
from contextcache.engine.budget import Budget
from contextcache.engine.knowledge import MAX_LABELS
from contextcache.findings.path import Path, attribute, item
from contextcache.reports import reporter
from contextcache.reports.reporter import (
    Reporter,
    collectors,
    key_of,
    report_internal,
)
from contextcache.testing import capture_findings
from tests.child import run


class Client:
    def __init__(self) -> None:
        self.id = 3
        self.lock = threading.Lock()


def finding(path: Path | None = None, **fields: Any) -> Finding:
    given: dict[str, Any] = {
        "code": "CC102",
        "path": path or Path("session") / item("cart", 0) / attribute("lock"),
        "leaf_type": "_thread.lock",
        "owner_type": "shop.Cart",
        "action": Action.RECREATED,
        "reason": "a lock belongs to this process",
        "did": "stored the rest",
        "fix": "leave it out",
    }
    return Finding(**{**given, **fields})


def counts(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [record.contextcache_count for record in caplog.records]  # type: ignore[attr-defined]


def test_a_pattern_is_logged_at_its_1st_10th_100th_time(caplog: pytest.LogCaptureFixture) -> None:
    """A hot page says it once, and then ever more rarely how often."""
    guard = Guard()
    for number in range(1001):
        guard.dumps({"cart": Client()}, label=f"cache['user:{number}']")
    assert counts(caplog) == [1, 10, 100, 1000]


def test_it_is_logged_as_often_where_no_time_is_left_to_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first occurrence was looked at; its words are used again."""
    guard = Guard(budget=Budget(first=0.0, share=0.0))
    for number in range(1001):
        guard.dumps({"cart": Client()}, label=f"cache['user:{number}']")
    assert counts(caplog) == [1, 10, 100, 1000]


@pytest.mark.parametrize("mode", ["warn", "raise"])
@pytest.mark.parametrize("debug", [False, True])
def test_modes_and_development_count_the_same(
    caplog: pytest.LogCaptureFixture, mode: str, debug: bool
) -> None:
    """In mode `raise` the error speaks for itself; in `warn` and in development the log does."""
    guard = Guard(mode=mode, debug=debug)
    for _ in range(12):
        with pytest.raises(UncacheableValueError):
            guard.dumps({"cart": Client()})
    assert counts(caplog) == ([1, 10] if mode == "warn" else [])


def test_equal_fields_of_many_items_are_one_pattern(caplog: pytest.LogCaptureFixture) -> None:
    """A list of a hundred clients is one line, and counts as one occurrence."""
    Guard().dumps([Client() for _ in range(100)])
    assert counts(caplog) == [1]
    assert caplog.records[0].contextcache_pattern == "value[*].lock"  # type: ignore[attr-defined]


def test_another_code_field_owner_or_view_is_another_pattern(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a developer would fix separately is reported separately."""
    reporter = Reporter(Config(), "")
    for one in (finding(), finding(code="CC101"), finding(owner_type="x"), finding(Path("cache"))):
        for _ in range(2):
            reporter.report([one])
    assert counts(caplog) == [1] * 4


def test_another_key_is_another_pattern_and_another_view_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same field under another name is reported again, whoever stores it."""
    guard = Guard()
    guard.dumps({"a": Client()})
    guard.dumps({"b": Client()})
    for view in ("one", "two"):
        token = enter_scope(RequestScope("GET", "/", view=lambda view=view: (view, "")))  # type: ignore[misc]
        guard.dumps({"a": Client()})
        exit_scope(token)
    assert counts(caplog) == [1, 1]


@pytest.mark.parametrize("collect", [False, True])
def test_a_view_is_named_only_for_a_key_that_it_has_set(
    caplog: pytest.LogCaptureFixture, collect: bool
) -> None:
    """What it read with the session and did not assign is not put down to it."""
    session: dict[str, object] = {"user:7": Client(), "cart": Client(), "x" * 50: Client()}

    def origins(view: str, act: Any) -> list[str]:
        caplog.clear()
        scope = RequestScope("GET", "/", view=lambda: (view, ""), collect=collect)
        scope.note_loaded(session)
        stored = dict(session)
        act(scope, stored)
        token = enter_scope(scope)
        Guard(session=True).dumps(stored, label="session")
        exit_scope(token)
        return [one.contextcache_origin for one in caplog.records]  # type: ignore[attr-defined]

    def assigns_again(scope: RequestScope, stored: dict[str, object]) -> None:
        scope.note_assignment("cart")

    def replaces(scope: RequestScope, stored: dict[str, object]) -> None:
        stored["cart"], stored["x" * 50] = Client(), Client()

    loaded = "loaded with the session, not set in this request"
    assert origins("two", lambda _, stored: stored.update(page=1)) == [loaded] * 3
    told = [one[:11] for one in origins("two", assigns_again)]
    assert told == [loaded[:11], "GET / · two", loaded[:11]]
    told = [one[:11] for one in origins("two", replaces)]
    assert told == [loaded[:11], "GET / · two", "GET / · two"]


def test_two_guards_count_apart(caplog: pytest.LogCaptureFixture) -> None:
    """Two applications in one process do not hide each other's findings."""
    for _ in range(2):
        Guard().dumps([Client()])
    assert counts(caplog) == [1, 1]


def words(count: int) -> list[str]:
    return ["k" + "".join(chr(97 + int(digit)) for digit in str(number)) for number in range(count)]


def made(name: str) -> Any:
    cls = type(name, (), {"__module__": __name__})
    setattr(sys.modules[__name__], name, cls)
    one = cls()
    one.lock = threading.Lock()
    return one


FLOODS: dict[str, Any] = {
    "keys of a cache": lambda word: ({"c": Client()}, f"cache['{word}']"),
    "keys of a session": lambda word: ({word: Client()}, "session"),
    "keys with a lock": lambda word: ({"filters": {word: threading.Lock()}}, "session"),
    "keys at the top": lambda word: ({word: threading.Lock()}, "session"),
    "keys above the field": lambda word: ({"a": {word: {"b": lambda: 0}}}, "cache['a']"),
    "attributes": lambda word: (SimpleNamespace(**{word: threading.Lock()}), "cache['a']"),
    "attributes above": lambda word: (SimpleNamespace(**{word: Client()}), "cache['a']"),
    "classes": lambda word: (made(word), "cache['a']"),
    "classes that are not found": lambda word: ([type(word, (), {})()], "cache['a']"),
    "classes and keys": lambda word: ({word: made(word)}, f"cache['{word}']"),
    "labels": lambda word: (threading.local(), word),
    "modules of classes": lambda word: ([type("A", (), {"__module__": word})()], "session"),
}


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("mode", ["strip", "warn"])
def test_log_and_memory_are_bounded_whatever_a_visitor_varies(
    caplog: pytest.LogCaptureFixture, flood: str, mode: str
) -> None:
    """Thousands of names of one field are some dozens of lines, and are counted as one."""
    guard = Guard(mode=mode)
    for word in words(1200):
        value, label = FLOODS[flood](word)
        with contextlib.suppress(UncacheableValueError):
            guard.dumps(value, label=label)
    assert 0 < len(caplog.records) <= 80
    reporter = guard._reporter
    assert len(reporter._counts) <= 80
    assert len(reporter._told) <= 80
    assert sum(map(len, reporter._members.values())) <= 120
    assert len(guard._outcome.examiner.knowledge.histories) <= MAX_LABELS


def test_what_is_known_is_counted_apart_from_a_flood() -> None:
    """A cause that keeps occurring keeps its count, however many others come."""
    reporter = Reporter(Config(), "")
    hot = finding(Path("hot"))
    for word in words(2000):
        reporter.report([hot, finding(Path(word))])
    assert reporter._counts[key_of(hot)] == 2000


def test_counting_is_exact_across_threads() -> None:
    """No occurrence is lost or doubled."""
    reporter = Reporter(Config(), "")
    seen: list[Finding] = []
    reporter = Reporter(Config(on_finding=(seen.append,)), "")
    threads = [
        threading.Thread(target=lambda: [reporter.report([finding()]) for _ in range(250)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.count for one in seen) == [1, 10, 100, 1000]


def test_a_milestone_is_a_power_of_ten() -> None:
    """1, 10, 100, and nothing in between."""
    found = [count for count in range(1, 20_000) if reporter.is_milestone(count)]
    assert found == [1, 10, 100, 1000, 10_000]


def test_collectors_and_scopes_get_every_occurrence(caplog: pytest.LogCaptureFixture) -> None:
    """The panel of a page is complete, even where the log is quiet."""
    scope = RequestScope("GET", "/", collect=True)
    reporter = Reporter(Config(), "")
    token = enter_scope(scope)
    try:
        with capture_findings() as captured:
            for _ in range(5):
                reporter.report([finding(), finding(Path("cache"))])
    finally:
        exit_scope(token)
    assert len(captured) == len(scope.findings) == 10
    assert counts(caplog) == [1, 1]
    assert collectors == []


@pytest.mark.parametrize(
    "pattern",
    [
        "session['cart'].lock",
        "session['cart']",
        "session",
        "session[*]",
        "session[*].lock",
        "session['*']",
        "session['c*t'].l*",
        "*",
    ],
)
def test_an_ignored_field_is_cut_and_not_mentioned(
    caplog: pytest.LogCaptureFixture, pattern: str
) -> None:
    """A path, a prefix, `[*]` and `*` silence the log, callbacks, scopes and mode `raise`."""
    seen: list[Finding] = []
    value = {"cart": Client()}
    for mode in ("strip", "raise"):
        guard = Guard(ignore=(pattern,), mode=mode, on_finding=(seen.append,))
        again = guard.loads(guard.dumps(value, label="session"))
        assert again["cart"].lock.acquire(blocking=False)
    assert seen == []
    assert caplog.records == []


@pytest.mark.parametrize("pattern", ["cache[*]", "session['cat']", "session['cart'].lock.x"])
def test_another_field_is_not_silenced(caplog: pytest.LogCaptureFixture, pattern: str) -> None:
    """An ignore list hides what it names and nothing else."""
    Guard(ignore=(pattern,)).dumps({"cart": Client()}, label="session")
    assert counts(caplog) == [1]


def test_ignore_lists_add_up(caplog: pytest.LogCaptureFixture) -> None:
    """An alias ignores what the project ignores, and more."""
    base = Config(ignore=("session['a']",))
    config = Config.from_mapping({"IGNORE": ["session['b']"]}, base=base)
    Guard(config).dumps({"a": Client(), "b": Client(), "c": Client()}, label="session")
    assert [record.contextcache_path for record in caplog.records] == ["session['c'].lock"]  # type: ignore[attr-defined]


def test_the_pattern_the_log_shows_silences_the_finding(caplog: pytest.LogCaptureFixture) -> None:
    """Copied from the block into the settings, the line does what it says."""
    value = {"it's": [Client()], ("a", ("b", 1)): Client(), 'q"': Client(), "x" * 50: Client()}
    guard = Guard(debug=True)
    guard.dumps(value, label="cache['user:42']")
    settings: dict[str, list[str]] = {"IGNORE": []}
    for record in caplog.records:
        [line] = [line for line in record.getMessage().split("\n") if line.startswith("  silence ")]
        exec(line.removeprefix("  silence "), {"CONTEXTCACHE": settings})
    assert len(settings["IGNORE"]) == 4
    with capture_findings() as findings:
        Guard(Config.from_mapping(settings)).dumps(value, label="cache['user:7']")
    assert findings == []


def test_a_callback_gets_what_is_reported() -> None:
    """Metrics hear of a finding when the log does, with its count."""
    seen: list[Finding] = []
    guard = Guard(on_finding=(seen.append,))
    for _ in range(10):
        guard.dumps({"cart": Client()})
    assert [one.count for one in seen] == [1, 10]
    assert seen[0] == seen[1]


@pytest.mark.internal_error
def test_a_broken_callback_breaks_nothing_and_is_named_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The write succeeds, the log and the other callbacks hear of the finding."""
    seen: list[Finding] = []

    def broken(_finding: Finding) -> None:
        raise ZeroDivisionError("the secret")

    guard = Guard(on_finding=(broken, seen.append))
    for key in "abc":
        assert guard.loads(guard.dumps({key: Client()}))[key].id == 3
    assert len(seen) == 3
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    [message] = [record.getMessage() for record in errors]
    assert message.startswith(
        "contextcache: a callback of on_finding failed with ZeroDivisionError at "
    )
    assert "test_reporting.py:" in message
    assert "the secret" not in caplog.text
    assert errors[0].exc_info is None


@pytest.mark.internal_error
def test_a_broken_logging_filter_breaks_nothing() -> None:
    """Logging swallows what a handler raises, not what a filter does."""

    def broken(_record: logging.LogRecord) -> bool:
        raise ZeroDivisionError

    logger = logging.getLogger("contextcache")
    logger.addFilter(broken)
    try:
        guard = Guard()
        assert guard.loads(guard.dumps({"cart": Client()}))["cart"].id == 3
        guard.report_unreadable(UnreadablePayloadError("cache['u']", "gone", "delete it"))
        report_internal("a hook", ValueError())
    finally:
        logger.removeFilter(broken)


@pytest.mark.internal_error
def test_internal_failures_are_logged_once_per_place_and_never_without_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A broken hook in a loop is one line, and a thousand different ones are not a thousand."""
    for _ in range(3):
        report_internal("a hook", ValueError("secret"))
    assert len(caplog.records) == 1
    for number in range(1000):
        report_internal(f"hook {number}", ValueError("secret"))
    assert len(caplog.records) <= 10
    assert len(reporter._internal) <= 10


def test_each_of_the_first_ten_unreadable_payloads_is_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A deploy that removes a class is ten lines, then every tenfold, and not one per read."""
    guard = Guard(sink="cache 'default' in redis")
    for word in words(1200):
        guard.report_unreadable(UnreadablePayloadError(f"cache['{word}']", "gone", "delete it"))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 12
    assert told[0] == (
        "contextcache: cache['ka'] cannot be read and counts as a miss: gone; delete it"
    )
    assert {record.msg for record in caplog.records} == {
        "contextcache: %s cannot be read and counts as a miss: gone; %s"
    }
    record: Any = caplog.records[0]
    assert record.levelno == logging.WARNING
    assert record.contextcache_path == "cache['ka']"
    assert record.contextcache_sink == "cache 'default' in redis"


def test_reasons_with_names_in_them_are_counted_as_one(caplog: pytest.LogCaptureFixture) -> None:
    """Who writes payloads that name ever other modules or classes does not fill the log."""
    payloads = [b"c%s\nx\n." % word.encode() for word in words(600)]
    payloads += [b"cjson\n%s\n." % word.encode() for word in words(600)]
    for guard in (Guard(), Guard(loadable=("json.dumps",))):
        caplog.clear()
        for payload in payloads:
            try:
                guard.loads(payload, label="session")
            except UnreadablePayloadError as error:
                guard.report_unreadable(error)
        assert 0 < len(caplog.records) <= 40


class Lazy:
    def __init__(self) -> None:
        self.numbers = [1, 2]
        self.shown = {"a": 1}.keys()


def test_mode_warn_stores_what_would_have_been_stored(caplog: pytest.LogCaptureFixture) -> None:
    """Observing changes no byte; what pickle can store, it stores."""
    from werkzeug.test import EnvironBuilder
    from werkzeug.wrappers import Request

    builder = EnvironBuilder("/cart")
    environ = {
        name: value for name, value in builder.get_environ().items() if isinstance(value, str)
    }
    builder.close()
    value = {"request": Request(environ), "n": 1}
    assert Guard(mode="warn").dumps(value) == pickle.dumps(value, 5)
    [record] = caplog.records
    assert record.contextcache_action == "observed"  # type: ignore[attr-defined]
    assert "stored unchanged (mode warn)" in record.getMessage()


def test_mode_warn_fails_where_pickle_fails_with_the_path_attached(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The error is pickle's own kind, names the field, and has pickle's as its cause."""
    with pytest.raises(UncacheableValueError) as caught:
        Guard(mode="warn").dumps({"cart": Client()}, label="session")
    assert [str(one.path) for one in caught.value.findings] == ["session['cart'].lock"]
    assert isinstance(caught.value, pickle.PicklingError)
    assert isinstance(caught.value.__cause__, TypeError)
    assert counts(caplog) == [1]


def test_nothing_is_kept_of_the_value() -> None:
    """Neither counts nor sites hold on to an offender."""
    import gc
    import weakref

    class Kept(threading.local):
        pass

    holder = Client()
    holder.local = Kept()  # type: ignore[attr-defined]
    watch = weakref.ref(holder)
    guard = Guard()
    guard.dumps({"holder": holder})
    with capture_findings():
        guard.dumps({"holder": holder})
    del holder
    gc.collect()
    assert watch() is None


def test_a_finding_is_the_same_whoever_counts_it() -> None:
    """The count takes no part in equality, so a set of findings is one of fields."""
    assert finding() == dataclasses.replace(finding(), count=100)
    assert len({finding(), dataclasses.replace(finding(), count=100)}) == 1


def test_callbacks_and_collectors_get_each_field_of_an_object() -> None:
    """One line for a person, one finding each for whoever counts."""

    heard: list[Finding] = []
    with capture_findings() as findings:
        Guard(on_finding=(heard.append,)).dumps([Client()])
        Guard(on_finding=(heard.append,)).dumps(Both())
    assert [one.code for one in heard] == [one.code for one in findings]
    assert [one.code for one in heard] == ["CC102", "CC102", "CC101"]


class Both:
    def __init__(self) -> None:
        self.lock, self.local = threading.Lock(), threading.local()


def test_a_summary_is_data(caplog: pytest.LogCaptureFixture) -> None:
    """Each pattern once with its exact count, the most frequent first; nothing is logged."""
    guard = Guard()
    for number in range(25):
        guard.dumps({"cart": Client()}, label=f"cache['user:{number}']")
    guard.dumps({"rows": (row for row in ())})
    caplog.clear()
    told = [(one.code, one.path.pattern, one.count) for one in guard.summary()]
    assert told == [("CC102", "cache['user:*']['cart'].lock", 25), ("CC109", "value['rows']", 1)]
    assert [one for one in summary() if one in guard.summary()] == guard.summary()
    assert caplog.records == []


def test_a_summary_is_of_what_is_heard() -> None:
    """What the application ignores is counted nowhere."""
    guard = Guard(ignore=("value['cart']",))
    for _ in range(12):
        guard.dumps({"cart": Client()})
    assert guard.summary() == []


EXIT = """
    import logging, threading
    logging.basicConfig(level=logging.{level}, format="%(levelname)s %(message)s")
    from contextcache import Guard
    class Cart:
        def __init__(self):
            self.lock = threading.Lock()
    guard = Guard()
    for number in range({times}):
        guard.dumps({{"cart": Cart()}})
"""


def at_exit(level: str, times: int) -> list[str]:
    code = textwrap.dedent(EXIT.format(level=level, times=times))
    return run("import sys; sys.stderr = sys.stdout\n" + code).splitlines()


def test_the_end_of_a_process_says_what_came_up_again() -> None:
    """One line at INFO; nothing where that is not shown, and nothing where all was said."""
    assert at_exit("INFO", 25)[-1] == (
        "INFO contextcache: 1 pattern of findings in this process, seen 25 times: "
        "CC102 value['cart'].lock 25×"
    )
    assert len(at_exit("INFO", 10)) == 2
    assert len(at_exit("WARNING", 25)) == 2
    assert at_exit("INFO", 0) == []


def test_counters_hear_each_occurrence() -> None:
    """Unlike the log; with names that are bounded, and not of what is ignored."""
    told: list[tuple[str, str, str]] = []

    def count(code: str, action: str, sink: str) -> None:
        told.append((code, action, sink))

    reporter.counters.append(count)
    try:
        guard = Guard(sink="session in redis", ignore=("value['b']",))
        for _ in range(25):
            guard.dumps({"a": Client(), "b": Client()})
        guard.report_unreadable(UnreadablePayloadError("cache['u']", "gone", "delete it"))
    finally:
        reporter.counters.remove(count)
    assert told.count(("CC102", "recreated", "session in redis")) == 25
    assert told[-1] == ("unreadable", "missed", "session in redis")
    assert len(told) == 26
