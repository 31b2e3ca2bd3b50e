"""Offenders: found at their place, cut as little as possible, and stored so that they load."""

from __future__ import annotations

import copy
import datetime as dt
import logging
import os
import pickle
import re
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import pytest
import requests
import werkzeug.local
from django.utils.functional import SimpleLazyObject

from contextcache import (
    Action,
    Config,
    ConfigurationError,
    Finding,
    Guard,
    RequestSnapshot,
    Rule,
    Stripped,
    StrippedValueError,
    UncacheableValueError,
    UnreadablePayloadError,
    explain,
    is_stripped,
)
from contextcache.engine.examiner import Examiner
from contextcache.testing import assert_cacheable, capture_findings
from tests.core import shapes
from tests.resolving import resolve
from tests.waiting import PATIENCE
from tests.zoo import OFFENDERS, Case, Found, environ, unlocked

if TYPE_CHECKING:
    from collections.abc import Callable

offenders = pytest.mark.parametrize("case", OFFENDERS, ids=str)
stored = pytest.mark.parametrize("case", [case for case in OFFENDERS if case.stored], ids=str)
refused = pytest.mark.parametrize("case", [case for case in OFFENDERS if not case.stored], ids=str)

ROOT = str(File(__file__).parents[2])


def generator() -> Any:
    yield 1


def found(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(one.code, str(one.action), str(one.path)) for one in findings]


# --- The catalogue ------------------------------------------------------------------------------


@offenders
def test_an_offender_is_named(case: Case) -> None:
    """`explain` names every offending field by code, path and what would become of it."""
    findings = explain(case.build())
    assert [Found(one.code, str(one.path), str(one.action)) for one in findings] == list(case.found)


@offenders
def test_a_write_reports_what_explain_does(case: Case) -> None:
    """Each write of the value reports the same fields, known ones too."""
    value = case.build()
    guard = Guard()
    for _ in range(2):
        refusal = nullcontext() if case.stored else pytest.raises(UncacheableValueError)
        with capture_findings() as findings, refusal as caught:
            guard.dumps(value)
        if caught is not None:
            assert list(caught.value.findings) == findings
        assert [Found(one.code, str(one.path), str(one.action)) for one in findings] == list(
            case.found
        )


@offenders
def test_a_path_leads_to_the_leaf(case: Case) -> None:
    """Resolving a path gives the offender; where it is Python, `eval` gives the same object."""
    value = case.build()
    for finding in explain(value):
        text = str(finding.path)
        if "<state>" in text:
            with pytest.raises(LookupError):
                resolve(finding.path, value)
            continue
        leaf = resolve(finding.path, value)
        assert _type_name(leaf) == finding.leaf_type
        if not re.search(r"[{<]", text):
            assert eval(text, {"value": value}) is leaf


def _type_name(obj: object) -> str:
    kind = type(obj)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


@stored
def test_the_rest_is_stored_and_loads(case: Case) -> None:
    """The payload loads with everything else in place: at first sight, and once it is known."""
    value = case.build()
    guard = Guard()
    for _ in range(3):
        assert case.check(guard.loads(guard.dumps(value)))


@refused
def test_nothing_is_stored_where_nothing_is_left(case: Case) -> None:
    """A value that can only be stripped is refused, each time, naming the value itself."""
    value = case.build()
    guard = Guard()
    for _ in range(3):
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps(value, label="cache['key']")
        assert [str(one.path) for one in caught.value.findings] == ["cache['key']"]
        assert caught.value.findings[0].action is Action.REFUSED


def test_a_fresh_process_reads_every_payload(tmp_path: File) -> None:
    """Another interpreter, which never saw the writer, reads what was stored."""
    guard = Guard()
    payloads = {
        case.id: guard.dumps(case.build(), label=f"cache[{case.id!r}]")
        for case in OFFENDERS
        if case.stored
    }
    file = tmp_path / "payloads"
    file.write_bytes(pickle.dumps(payloads))
    done = _python(
        "import pickle, sys\n"
        "from tests import zoo\n"
        "payloads = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "cases = {case.id: case for case in zoo.OFFENDERS}\n"
        "for name, payload in payloads.items():\n"
        "    if not cases[name].check(pickle.loads(payload)): print('wrong:', name)\n"
        "print('read', len(payloads))\n",
        str(file),
    )
    assert done == f"read {len(payloads)}"


def test_what_is_recreated_needs_no_contextcache_to_be_read(tmp_path: File) -> None:
    """A reader without contextcache gets locks and thread-locals: only markers need it."""
    value = {
        "lock": threading.Lock(),
        "rlock": threading.RLock(),
        "local": threading.local(),
        "n": 1,
    }
    file = tmp_path / "payload"
    file.write_bytes(Guard().dumps(value))
    done = _python(
        "import pickle, sys\n"
        "sys.modules['contextcache'] = None\n"
        "value = pickle.loads(open(sys.argv[1], 'rb').read())\n"
        "print(sorted(value), value['lock'].acquire(), value['rlock'].acquire(), value['n'])\n",
        str(file),
    )
    assert done == "['local', 'lock', 'n', 'rlock'] True True 1"


def _python(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True, text=True, timeout=PATIENCE, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- Recreated ----------------------------------------------------------------------------------


def test_a_shared_lock_stays_shared() -> None:
    """Two holders of one lock hold one fresh lock afterwards."""
    lock = threading.Lock()
    a, b = shapes.Thing(held=lock), shapes.Slots("b", lock)
    guard = Guard()
    loaded = guard.loads(guard.dumps([a, b]))
    assert loaded[0].held is loaded[1].held
    assert loaded[0].held is not lock


def test_a_held_lock_comes_back_free() -> None:
    """Whoever held the lock is not there when it is read."""
    lock = threading.Lock()
    guard = Guard()
    with lock:
        payload = guard.dumps({"lock": lock})
    assert unlocked(guard.loads(payload)["lock"])


def test_a_condition_that_shares_its_lock_still_does() -> None:
    """The lock handed to a condition is the same fresh lock on both sides."""
    lock = threading.RLock()
    guard = Guard()
    loaded = guard.loads(guard.dumps({"lock": lock, "changed": threading.Condition(lock)}))
    with loaded["lock"]:
        loaded["changed"].notify_all()  # raises unless the condition's own lock is held


def test_a_thread_local_without_its_arguments_is_made_bare() -> None:
    """Its `__init__` cannot be called without the arguments, so it is not called."""
    guard = Guard()
    loaded = guard.loads(guard.dumps([shapes.NeedyLocal("acme")]))[0]
    assert type(loaded) is shapes.NeedyLocal
    assert not hasattr(loaded, "tenant")


# --- Stripped -----------------------------------------------------------------------------------


@pytest.fixture
def marker() -> Any:
    guard = Guard()
    return guard.loads(guard.dumps({"job": shapes.Thing(steps=generator())}, label="session"))[
        "job"
    ].steps


def test_a_marker_is_false_and_equal_only_to_itself(marker: Any) -> None:
    """Code that asks whether there is anything is told that there is nothing."""
    assert not marker
    assert is_stripped(marker)
    assert not is_stripped(None)
    assert marker == marker  # noqa: PLR0124
    assert marker != Stripped("CC109", "generator", "session['job'].steps", "now")
    assert marker not in [None, 0, ""]
    assert len({marker, marker}) == 1


def test_a_marker_can_be_shown(marker: Any) -> None:
    """Logs and debuggers may show it."""
    text = "<stripped session['job'].steps: CC109 generator>"
    assert repr(marker) == str(marker) == f"{marker}" == text


@pytest.mark.parametrize(
    "use",
    [
        lambda m: m.attribute, lambda m: m(), lambda m: m[0], lambda m: list(m), lambda m: next(m),
        lambda m: len(m), lambda m: 1 in m, lambda m: m + 1, lambda m: 1 + m, lambda m: m < 1,
        lambda m: int(m), lambda m: float(m), lambda m: bytes(m), lambda m: os.fspath(m),
        lambda m: range(m), lambda m: m.__enter__(), lambda m: setattr(m, "name", 1),
        lambda m: m.__setitem__(0, 1), lambda m: [*m], lambda m: -m, lambda m: abs(m),
        lambda m: m % 2,
    ],
)  # fmt: skip
def test_any_use_of_a_marker_says_what_happened(use: Callable[[Any], object], marker: Any) -> None:
    """The error names the field, its type, when, why, and what to do."""
    with pytest.raises(StrippedValueError) as caught:
        use(marker)
    said = re.fullmatch(
        r"session\['job'\]\.steps \(generator\) was not stored at "
        r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00): a generator, coroutine or iterator in progress "
        r"cannot be resumed elsewhere; set it again after reading the value, or leave it out "
        r"before storing \[CC109\]",
        str(caught.value),
    )
    assert said is not None
    ago = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(said[1])
    assert dt.timedelta(0) <= ago < dt.timedelta(hours=1)


def test_a_marker_has_no_attributes(marker: Any) -> None:
    """`hasattr` and `getattr` with a default treat it as an empty object."""
    assert not hasattr(marker, "send")
    assert getattr(marker, "send", "nothing") == "nothing"


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_a_marker_can_be_copied_and_stored_again(again: Callable[[Any], Any], marker: Any) -> None:
    """A copy tells of the first write, not of its own."""
    copied = again(marker)
    assert is_stripped(copied)
    assert repr(copied) == repr(marker)
    assert explain([marker]) == []


def test_a_marker_names_its_own_field() -> None:
    """Two markers of one type in one value name different fields."""
    guard = Guard()
    value = {"a": shapes.Thing(held=generator()), "b": shapes.Thing(held=generator())}
    for _ in range(2):
        loaded = guard.loads(guard.dumps(value, label="session"))
        assert repr(loaded["a"].held) == "<stripped session['a'].held: CC109 generator>"
        assert repr(loaded["b"].held) == "<stripped session['b'].held: CC109 generator>"


def test_a_marker_for_what_is_behind_a_proxy_names_the_field_of_the_proxy() -> None:
    """It is the proxy that stands in the value."""
    from werkzeug.local import LocalProxy

    guard = Guard()
    value = {"a": [{"rows": LocalProxy(generator)}]}
    loaded = guard.loads(guard.dumps(value, label="session"))
    assert repr(loaded["a"][0]["rows"]) == "<stripped session['a'][0]['rows']: CC109 generator>"


def test_a_marker_never_names_a_field_of_an_earlier_value() -> None:
    """A guard that knows one place of offenders does not mistake another place for it."""
    guard = Guard()
    guard.dumps({"a": shapes.Thing(held=generator())}, label="session")
    loaded = guard.loads(guard.dumps({"b": shapes.Thing(held=generator())}, label="session"))
    assert "['a']" not in repr(loaded["b"].held)


def test_a_known_place_need_not_be_there_next_time() -> None:
    """A place known from one value is looked up in the next without stumbling over its shape."""
    guard = Guard()
    for value in ({-4: generator(), 5: generator()}, [{"a": generator()}], {"b": generator()}, ()):
        payload = guard.dumps([value, value], label="session")
        assert len(guard.loads(payload)) == 2
    for value in ({-4: generator(), 5: [generator()]}, [{"a": generator()}, 1]):
        assert len(guard.loads(guard.dumps(value, label="other"))) == 2


def test_a_new_place_is_reported_although_its_kind_is_known() -> None:
    """A second field with the same kind of offender is a finding of its own."""
    guard = Guard()
    heard: list[Finding] = []
    guard = Guard(on_finding=(heard.append,))
    guard.dumps({"a": shapes.Thing(held=generator())}, label="session")
    guard.dumps({"b": shapes.Slots("b", generator())}, label="session")
    assert [str(one.path) for one in heard] == ["session['a'].held", "session['b'].held"]


def test_a_known_kind_at_a_new_place_still_loads() -> None:
    """A constructor that bears no marker is found out although markers are known at this place."""
    guard = Guard()
    label = "cache[...]"
    guard.dumps(shapes.Thing(held=generator()), label=label)
    guard.dumps(shapes.Strict("text"), label=label)
    strict = shapes.Strict("text")
    strict.text = generator()
    payload = guard.dumps({"kept": 1, "strict": strict}, label=label)
    assert guard.loads(payload)["kept"] == 1


# --- Left out -----------------------------------------------------------------------------------


def test_an_attribute_with_a_class_default_is_left_out() -> None:
    """The class itself says what unset is, so no marker is needed."""
    value = shapes.WithDefault("kept")
    value.client = generator()
    guard = Guard()
    for _ in range(2):
        loaded = guard.loads(guard.dumps(value))
        assert loaded.__dict__ == {"name": "kept"}
        assert loaded.client is None


def test_an_attribute_with_a_class_default_is_kept_where_it_is_data() -> None:
    """Only an offending value is left out, not every value of the attribute."""
    guard = Guard()
    dirty, clean = shapes.WithDefault("dirty"), shapes.WithDefault("clean")
    dirty.client, clean.client = generator(), {"a": 1}
    loaded = guard.loads(guard.dumps([dirty, clean]))
    assert loaded[1].client == {"a": 1}
    unset = shapes.WithDefault("unset")
    unset.client = None
    assert [str(one.path) for one in guard.explain([unset, dirty])] == ["value[1].client"]
    assert guard.dumps(unset) == pickle.dumps(unset, 5)
    assert guard.dumps(clean) == pickle.dumps(clean, 5)


def losing_session() -> requests.Session:
    session = requests.Session()
    session.tenant = "a"  # type: ignore[attr-defined]
    return session


@pytest.mark.parametrize(
    ("offender", "data"),
    [
        (generator, lambda: iter([1, 2])),
        (generator, lambda: [1].append),
        (generator, lambda: shapes.Thing().method),
        (losing_session, requests.Session),
    ],
)
def test_an_attribute_with_a_class_default_is_kept_where_its_type_can_be_data(
    offender: Callable[[], object], data: Callable[[], object]
) -> None:
    """A type that has no name, or of which only some objects offend, is no reason to lose one."""
    guard = Guard()
    dirty, clean = shapes.WithDefault("dirty"), shapes.WithDefault("clean")
    dirty.client, clean.client = offender(), data()
    assert guard.loads(guard.dumps(dirty)).client is None
    assert guard.dumps(clean) == pickle.dumps(clean, 5)


def test_a_session_loses_only_the_offending_key() -> None:
    """At the top level of a session an offending key is left out, as if it had never been set."""
    guard = Guard(session=True, sink="session in redis")
    value = {"user": 7, "steps": generator(), "cart": shapes.Cart("ann"), "sock": lambda: None}
    for _ in range(3):
        loaded = guard.loads(guard.dumps(value, label="session"))
        assert sorted(loaded) == ["cart", "user"]
    assert sorted(value) == ["cart", "sock", "steps", "user"]
    with capture_findings() as findings:
        guard.dumps(value, label="session")
    assert found(findings) == [
        ("CC109", "left out", "session['steps']"),
        ("CC110", "left out", "session['sock']"),
    ]


def test_a_session_key_that_became_data_is_stored_again() -> None:
    """A key that was left out once is not left out for ever."""
    guard = Guard(session=True)
    guard.dumps({"steps": generator(), "n": 1}, label="session")
    assert guard.loads(guard.dumps({"steps": [1], "n": 1}, label="session")) == {
        "steps": [1],
        "n": 1,
    }


def test_only_the_object_that_cannot_be_stored_costs_its_key() -> None:
    """One exception that does not load does not cost the key of another that does."""
    guard = Guard(session=True)
    bad, good = shapes.ChoosyError("bad", 404), shapes.ChoosyError("good", 200)
    good.args = ("good", 200)
    for _ in range(2):
        assert guard.loads(guard.dumps({"error": bad, "n": [1]}, label="session")) == {"n": [1]}
        loaded = guard.loads(guard.dumps({"error": good, "n": [1]}, label="session"))
        assert loaded["error"].status == 200


def test_a_session_loses_a_key_whose_class_cannot_be_hashed() -> None:
    """Not even such an object keeps the rest of a session from being stored."""
    guard = Guard(session=True)
    for _ in range(2):
        loaded = guard.loads(guard.dumps({"bad": shapes.Unhashable(), "n": [1]}, label="session"))
        assert loaded == {"n": [1]}


def nested(levels: int) -> list[object]:
    deep: list[object] = []
    for _ in range(levels):
        deep = [deep]
    return deep


@pytest.mark.parametrize(
    ("code", "offender"),
    [("CC130", nested(100_000)), ("CC131", "x" * 2_000)],
    ids=["deep", "large"],
)
def test_a_session_loses_what_makes_the_whole_unstorable(code: str, offender: object) -> None:
    """The login is stored with all other keys, and the log says so."""
    guard = Guard(session=True, max_size=1_000)
    session = {"user": 7, "cart": offender, "lock": threading.Lock()}
    with capture_findings() as findings:
        stored = guard.loads(guard.dumps(session, label="session"))
    assert stored.keys() == {"user", "lock"}
    assert type(stored["lock"]) is type(session["lock"])
    [refused] = [finding for finding in findings if finding.code == code]
    assert str(refused.path).startswith("session['cart']")
    assert refused.action is Action.LEFT_OUT
    assert refused.did == "left the key out, stored the rest"
    assert [(one.code, str(one.path)) for one in findings if one.code != code] == [
        ("CC102", "session['lock']")
    ]


@pytest.mark.internal_error
def test_a_bug_of_ours_is_no_other_error_to_who_writes_a_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is stored then, as of any other value."""
    monkeypatch.setattr(Examiner, "storable_subset", lambda *_: 1 / 0)
    guard = Guard(session=True, max_size=1_000)
    with pytest.raises(UncacheableValueError, match="CC131") as caught:
        guard.dumps({"user": 7, "cart": "x" * 2_000}, label="session")
    assert caught.value.__suppress_context__
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "what can be stored of a session failed with ZeroDivisionError" in error.getMessage()


def test_what_is_no_session_is_not_stored_in_part() -> None:
    """Half of a report is a wrong report."""
    guard = Guard(max_size=1_000)
    with capture_findings() as findings, pytest.raises(UncacheableValueError):
        guard.dumps({"user": 7, "cart": "x" * 2_000}, label="session")
    assert [(one.action, one.did) for one in findings] == [(Action.REFUSED, "nothing was stored")]


def test_below_its_top_level_a_session_gets_markers() -> None:
    """An offender deeper down cannot take its neighbours with it."""
    guard = Guard(session=True)
    loaded = guard.loads(guard.dumps({"job": {"n": 1, "steps": generator()}}, label="session"))
    assert loaded["job"]["n"] == 1
    assert is_stripped(loaded["job"]["steps"])


def test_in_a_session_locks_are_recreated_like_everywhere() -> None:
    """Only what can only be stripped is left out."""
    guard = Guard(session=True)
    assert unlocked(guard.loads(guard.dumps({"lock": threading.Lock()}, label="session"))["lock"])


# --- Snapshots ----------------------------------------------------------------------------------


def test_a_proxy_is_stored_as_what_it_points_at() -> None:
    """Proxy and target are one object afterwards, as they were before."""
    target = shapes.Thing(id=7)
    guard = Guard()
    for value in (
        [werkzeug.local.LocalProxy(lambda: target), target],
        [target, werkzeug.local.LocalProxy(lambda: target)],
    ):
        for _ in range(2):
            loaded = guard.loads(guard.dumps(value))
            assert type(loaded[0]) is type(loaded[1]) is shapes.Thing
            assert loaded[0] is loaded[1]


def test_a_lazy_object_is_evaluated_once() -> None:
    """An unevaluated lazy object runs its function exactly once, as pickle would make it."""
    calls = []
    lazy = SimpleLazyObject(lambda: calls.append(1) or shapes.Thing(id=7))
    guard = Guard()
    assert guard.loads(guard.dumps({"user": lazy}))["user"].id == 7
    guard.dumps({"user": lazy})
    assert calls == [1]


def test_a_request_is_stored_without_its_credentials() -> None:
    """No header, cookie, parameter or body that may be a secret is in the payload."""
    import flask

    payload = Guard().dumps({"request": flask.Request(environ())})
    assert b"s3cret" not in payload
    assert b"Authorization" not in payload
    snapshot = Guard().loads(payload)["request"]
    assert type(snapshot) is RequestSnapshot
    assert (snapshot.method, snapshot.path, snapshot.host, snapshot.scheme) == (
        "PUT", "/cart", "localhost", "http",
    )  # fmt: skip


def test_a_snapshot_of_a_request_is_read_only_and_says_what_it_lacks() -> None:
    """Code written for the request fails with the reason instead of a riddle."""
    import flask

    guard = Guard()
    snapshot = guard.loads(guard.dumps([flask.Request(environ())]))[0]
    with pytest.raises(AttributeError, match="read-only"):
        snapshot.path = "/"
    with pytest.raises(AttributeError, match=r"flask\.wrappers\.Request\.user was not stored"):
        _ = snapshot.user


# --- Modes --------------------------------------------------------------------------------------


def test_warn_stores_what_would_have_been_stored() -> None:
    """A request pickles today or not; `warn` changes nothing about it but speaks."""
    import flask

    heard: list[Finding] = []
    guard = Guard(mode="warn", on_finding=(heard.append,))
    with flask.Flask("shop").app_context():
        value = {"g": flask.g._get_current_object()}
    assert guard.dumps(value) == pickle.dumps(value, 5)
    assert found(heard) == [("CC106", "observed", "value['g']")]
    assert heard[0].did == "stored unchanged (mode warn)"


def test_warn_fails_as_pickle_does_but_with_the_path() -> None:
    """What pickle refuses is refused, and the error names the field."""
    guard = Guard(mode="warn")
    with pytest.raises(UncacheableValueError, match=r"value\['a'\]") as caught:
        guard.dumps({"a": threading.Lock()})
    assert isinstance(caught.value.__cause__, TypeError)
    assert [str(one.path) for one in caught.value.findings] == ["value['a']"]


def test_warn_does_not_claim_to_have_stored_what_pickle_refuses() -> None:
    """The log says what became of the value, not what the mode is for."""
    heard: list[Finding] = []
    with pytest.raises(UncacheableValueError):
        Guard(mode="warn", on_finding=(heard.append,)).dumps({"a": threading.Lock()})
    assert heard[0].did == "nothing was stored: pickle refuses it (mode warn)"


def test_a_dict_is_not_told_to_have_a_getstate() -> None:
    """The advice is about what holds the field: a class of the application, or no class at all."""
    held, bare = explain({"a": shapes.Thing(held=threading.Lock()), "b": [threading.Lock()]})
    assert held.fix.startswith("leave it out in __getstate__ of Thing; ")
    assert bare.fix == "leave it out; across processes it protects nothing"


@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_a_clean_value_is_the_same_in_every_mode(mode: Any) -> None:
    """Modes differ only where there is something to find."""
    value = [shapes.Cart("ann", [shapes.Item("a")])]
    assert Guard(mode=mode).dumps(value) == pickle.dumps(value, 5)


def test_raise_names_every_field() -> None:
    """Tests and CI see all offenders at once, each time."""
    guard = Guard(mode="raise")
    value = {"a": threading.Lock(), "b": [generator()], "c": shapes.Client()}
    for _ in range(3):
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps(value)
        assert [str(one.path) for one in caught.value.findings] == [
            "value['a']", "value['b'][0]", "value['c']._lock",
        ]  # fmt: skip


def test_the_error_is_what_handlers_for_pickle_catch() -> None:
    """It is a `PicklingError` and a `TypeError`, and can itself be pickled with its findings."""
    with pytest.raises((pickle.PicklingError,)) as caught:
        Guard().dumps(generator(), label="cache['report']")
    assert isinstance(caught.value, TypeError)
    assert str(caught.value) == (
        "cache['report'] was not stored:\n"
        "  CC109 cache['report'] (generator): a generator, coroutine or iterator in progress "
        "cannot be resumed elsewhere; store its items: list(...), or the awaited result"
    )
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.findings == caught.value.findings
    assert str(again) == str(caught.value)


# --- Rules and ignored paths --------------------------------------------------------------------


def test_a_rule_by_mapping_decides_for_the_users_own_type() -> None:
    """`RULES` maps qualified names to verbs; subclasses come along."""
    config = Config.from_mapping({"RULES": {"tests.core.shapes.Node": "strip"}})
    guard = Guard(config)
    loaded = guard.loads(guard.dumps({"n": 1, "node": shapes.Node("a")}))
    assert is_stripped(loaded["node"])
    assert found(guard.explain([shapes.Node("a")])) == [("CC100", "stripped", "value[0]")]
    assert found(Guard().explain([shapes.Node("a")])) == []  # not globally


@pytest.mark.parametrize(
    ("verb", "action"),
    [
        ("strip", "stripped"),
        ("refuse", "refused"),
        ("snapshot", "snapshotted"),
        ("recreate", "recreated"),
        ("observe", "observed"),
    ],
)
def test_each_verb_does_what_it_says(verb: str, action: str) -> None:
    """The verbs of the documentation are the actions of the findings."""
    guard = Guard(Config.from_mapping({"RULES": {"tests.core.shapes.Thing": verb}}))
    value = {"n": 1, "thing": shapes.Thing(id=7)}
    assert found(guard.explain(value)) == [("CC100", action, "value['thing']")]
    if verb == "refuse":
        with pytest.raises(UncacheableValueError):
            guard.dumps(value)
        return
    thing = guard.loads(guard.dumps(value))["thing"]
    match verb:
        case "strip":
            assert is_stripped(thing)
        case "snapshot":
            assert vars(thing) == {"id": 7}
            assert type(thing) is not shapes.Thing
        case "recreate":
            assert vars(thing) == {}
            assert type(thing) is shapes.Thing
        case _:
            assert vars(thing) == {"id": 7}


def test_an_allowed_type_is_stored_in_silence() -> None:
    """`allow` switches a built-in rule off."""
    import flask

    with flask.Flask("shop").app_context():
        value = {"g": flask.g._get_current_object()}
    guard = Guard(Config.from_mapping({"RULES": {"flask.ctx._AppCtxGlobals": "allow"}}))
    assert guard.explain(value) == []
    assert guard.dumps(value) == pickle.dumps(value, 5)


def test_a_thread_local_can_be_snapshotted_by_rule() -> None:
    """On request of a rule the values of the writing thread are stored."""
    guard = Guard(Config.from_mapping({"RULES": {"tests.core.shapes.OwnLocal": "snapshot"}}))
    loaded = guard.loads(guard.dumps([shapes.OwnLocal("acme")]))[0]
    assert loaded.tenant == "acme"


def test_a_rule_object_says_what_to_make() -> None:
    """`Rule(make=...)` gives the stored value itself."""
    rule = Rule(
        type="tests.core.shapes.Client", verb="snapshot", code="CC108", fix="store .base",  # type: ignore[arg-type]
        make=lambda client: client.base,
    )  # fmt: skip
    guard = Guard(rules=(rule,))
    with capture_findings() as findings:
        assert guard.loads(guard.dumps([shapes.Client("https://a")])) == ["https://a"]
    assert [(one.code, one.fix, str(one.path)) for one in findings] == [
        ("CC108", "store .base", "value[0]")
    ]


def test_an_ignored_path_is_cut_in_silence() -> None:
    """Ignoring silences the report, not the cut; it covers what is below the path, too."""
    heard: list[Finding] = []
    guard = Guard(ignore=("value['jobs'][*].held",), on_finding=(heard.append,))
    value = {
        "jobs": [shapes.Thing(held=generator()), shapes.Thing(held=shapes.Client())],
        "b": generator(),
    }
    loaded = guard.loads(guard.dumps(value))
    assert is_stripped(loaded["jobs"][0].held)
    assert [str(one.path) for one in heard] == ["value['b']"]


def test_an_ignored_path_does_not_raise() -> None:
    """In mode `raise` what is ignored is cut as in mode `strip`."""
    guard = Guard(mode="raise", ignore=("value['a']",))
    assert unlocked(guard.loads(guard.dumps({"a": threading.Lock()}))["a"])


def test_the_lists_of_a_base_are_added_to() -> None:
    """Settings of one alias never drop what the application ignores and rules everywhere."""
    base = Config.from_mapping(
        {"IGNORE": ["value['a']"], "RULES": {"tests.core.shapes.Node": "strip"}}
    )
    own = Config.from_mapping(
        {"IGNORE": ["value['b']"], "RULES": {"tests.core.shapes.Slots": "strip"}}, base=base
    )
    assert own.ignore == ("value['a']", "value['b']")
    assert {rule.type for rule in own.rules} == {
        "tests.core.shapes.Node",
        "tests.core.shapes.Slots",
    }


def test_a_rule_of_an_alias_comes_before_that_of_its_base() -> None:
    """The nearer setting wins."""
    base = Config.from_mapping({"RULES": {"tests.core.shapes.Node": "strip"}})
    own = Config.from_mapping({"RULES": {"tests.core.shapes.Node": "allow"}}, base=base)
    assert Guard(own).explain([shapes.Node("a")]) == []


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        (
            {"MODE": "stirp"},
            (
                "CONTEXTCACHE: unknown mode 'stirp' (did you mean 'strip'?); "
                "valid: off, raise, strip, warn"
            ),
        ),
        ({"IGNORES": []}, "CONTEXTCACHE: unknown setting 'IGNORES' (did you mean 'IGNORE'?)"),
        (
            {"RULES": {"a.B": "stripe"}},
            "CONTEXTCACHE RULES['a.B']: unknown verb 'stripe' (did you mean 'strip'?)",
        ),
    ],
)
def test_a_mistake_in_the_settings_is_named(mapping: dict[str, object], text: str) -> None:
    """The error names what is wrong, the nearest right word, and all of them."""
    with pytest.raises(ConfigurationError) as caught:
        Config.from_mapping(mapping)
    assert str(caught.value).startswith(text)


# --- Reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "its bytes are no pickle, or a damaged one"),
        (b"nonsense", "its bytes are no pickle, or a damaged one"),
        (pickle.dumps([1] * 100)[:-5], "its bytes are no pickle, or a damaged one"),
        (b"cno_such_module_here\nThing\n.", "its module no_such_module_here is gone"),
        (
            b"ctests.core.shapes\nGone\n.",
            "its class or attribute Gone is gone from tests.core.shapes",
        ),
    ],
)
def test_an_unreadable_payload_says_why(payload: bytes, reason: str) -> None:
    """The typed error names where it was read and the reason, and shows no content."""
    with pytest.raises(UnreadablePayloadError) as caught:
        Guard().loads(payload, label="cache['user:42']")
    assert caught.value.reason == reason
    assert str(caught.value).startswith("cache['user:42'] cannot be read: ")


# --- The report ---------------------------------------------------------------------------------


def test_a_repeated_field_is_reported_at_its_1st_10th_and_100th_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hot page fills no log; the record says how often the field was seen."""
    guard = Guard(sink="session in redis")
    value = {"cart": shapes.Client()}
    with caplog.at_level(logging.WARNING, "contextcache"):
        for _ in range(100):
            guard.dumps(value, label="session")
    counts = [record.contextcache_count for record in caplog.records]  # type: ignore[attr-defined]
    assert counts == [1, 10, 100]
    assert caplog.messages[0].startswith(
        "contextcache CC102: session['cart']._lock (_thread.lock) cannot be stored: "
        "a lock belongs to this process"
    )


def test_one_field_of_many_objects_is_one_report(caplog: pytest.LogCaptureFixture) -> None:
    """Positions and ids are generalised: it is one field, however many items carry it."""
    guard = Guard()
    with caplog.at_level(logging.WARNING, "contextcache"):
        for number in range(12):
            guard.dumps([shapes.Client(), shapes.Client()], label=f"cache['user:{number}']")
    counts = [record.contextcache_count for record in caplog.records]  # type: ignore[attr-defined]
    assert counts == [1, 10]
    assert {record.contextcache_pattern for record in caplog.records} == {
        "cache['user:*'][*]._lock"
    }  # type: ignore[attr-defined]


def test_assert_cacheable_names_every_field() -> None:
    """For the tests of an application: one assertion with all the fields."""
    with pytest.raises(AssertionError) as caught:
        assert_cacheable({"a": threading.Lock(), "b": generator()}, label="cart")
    lines = str(caught.value).splitlines()
    assert lines[0] == "cart cannot be cached as it is:"
    assert [line.split(" ")[2:5] for line in lines[1:]] == [
        ["CC102:", "cart['a']", "(_thread.lock)"],
        ["CC109:", "cart['b']", "(generator)"],
    ]
