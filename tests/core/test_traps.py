"""Traps: what misleads a pickler, a path finder or a debugger, each reproduced once in the wild."""

from __future__ import annotations

import collections
import decimal
import functools
import io
import logging
import pickle
import subprocess
import sys
import threading
import types
import unittest.mock
import weakref
from pathlib import Path as File
from typing import TYPE_CHECKING, Any

import pytest
from django.utils.functional import SimpleLazyObject, lazy
from werkzeug.local import LocalProxy

from contextcache import Action, Config, Finding, Guard, Rule, UncacheableValueError, is_stripped
from contextcache.engine.diagnosis import Diagnosis
from contextcache.testing import capture_findings
from tests.core import shapes
from tests.waiting import PATIENCE
from tests.zoo import unlocked

if TYPE_CHECKING:
    from collections.abc import Callable

SINCE_315 = sys.version_info >= (3, 15)
ROOT = str(File(__file__).parents[2])


def generator() -> Any:
    yield 1


def paths(findings: Any) -> list[str]:
    return [f"{one.code} {one.path}" for one in findings]


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what contextcache logged about failures of its own."""
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR]


# --- Classes that mislead -----------------------------------------------------------------------


def test_a_class_that_cannot_be_hashed_is_stripped() -> None:
    """No table can be asked about it, by pickle neither; the rest is stored."""
    with pytest.raises(TypeError):
        pickle.dumps(shapes.Unhashable())
    guard = Guard()
    value = {"n": 1, "bad": shapes.Unhashable()}
    for _ in range(2):
        loaded = guard.loads(guard.dumps(value))
        assert loaded["n"] == 1
        assert is_stripped(loaded["bad"])
    assert paths(guard.explain(value)) == ["CC117 value['bad']"]


def test_a_class_that_cannot_be_compared_is_stored() -> None:
    """Types are told apart by identity, also at a place that is known from before."""
    guard = Guard()
    value = [shapes.Incomparable(threading.Lock())]
    assert paths(guard.explain(value)) == ["CC102 value[0].held"]
    for stored in ([threading.Lock()], value, value):
        guard.dumps(stored)
    assert unlocked(guard.loads(guard.dumps(value))[0].held)
    clean = [shapes.Incomparable("data")]
    assert guard.dumps(clean) == pickle.dumps(clean, 5)


def test_an_object_that_does_not_tell_its_class_is_stripped() -> None:
    """Pickle asks it for its class, and would pass its error on; the rest is stored."""
    guard = Guard()
    value = {"n": 1, "bad": shapes.Unclassed()}
    assert paths(guard.explain(value)) == ["CC117 value['bad']"]
    loaded = guard.loads(guard.dumps(value))
    assert loaded["n"] == 1
    assert is_stripped(loaded["bad"])


def test_a_lying_class_is_seen_through() -> None:
    """The lock in an object that claims to be a dict is found where it is."""
    guard = Guard()
    value = [shapes.Liar(threading.Lock())]
    assert paths(guard.explain(value)) == ["CC102 value[0].held"]
    assert unlocked(guard.loads(guard.dumps(value))[0].held)
    assert shapes.Liar.asked == 0


def test_a_mock_is_stripped_whole() -> None:
    """A mock answers every question with another mock and has a class of its own."""
    guard = Guard()
    value = {"n": 1, "mock": unittest.mock.Mock(), "magic": unittest.mock.MagicMock()}
    findings = guard.explain(value)
    assert paths(findings) == ["CC110 value['mock']", "CC110 value['magic']"]
    loaded = guard.loads(guard.dumps(value))
    assert loaded["n"] == 1
    assert is_stripped(loaded["mock"])
    assert value["mock"].mock_calls == value["magic"].mock_calls == []


def test_equal_objects_are_told_apart() -> None:
    """Findings go by identity: an object that equals everything hides nobody."""

    held = [shapes.Client(), shapes.Client()]
    value = [{"same": 1}, {"same": 1}, held[0], held[1]]
    assert paths(Guard().explain(value)) == ["CC102 value[2]._lock", "CC102 value[3]._lock"]


def test_a_reducer_that_returns_its_own_class_ends() -> None:
    """`__reduce__` may return an object of the same class (SPARK-16003 never ended)."""

    value = shapes.Reduced("outer", shapes.Reduced("inner", threading.Lock()))
    assert paths(Guard().explain(value)) == ["CC102 value.held.held"]


def no_user() -> str:
    raise AttributeError("nobody is logged in")


@pytest.mark.parametrize(
    ("code", "lazily"),
    [
        ("CC104", lambda: LocalProxy(no_user)),
        ("CC105", lambda: SimpleLazyObject(no_user)),
        ("CC105", lambda: lazy(lambda: no_user(), str)()),  # it must have no name
    ],
)
def test_what_cannot_be_evaluated_is_stripped(code: str, lazily: Callable[[], object]) -> None:
    """A function of the user's may raise anything, which is no failure of ours or of the write."""
    guard = Guard()
    value = {"n": 1, "user": lazily()}
    assert paths(guard.explain(value)) == [f"{code} value['user']"]
    loaded = guard.loads(guard.dumps(value))
    assert loaded["n"] == 1
    assert is_stripped(loaded["user"])


def test_no_object_is_given_attributes_by_being_looked_at() -> None:
    """Asked for the dictionary it does not have yet, a partial makes one, and pickle stores it."""
    innocent = {
        "partial": functools.partial(shapes.top_level, [1], number=[2]),
        "bytes": io.BytesIO(b"a"),
        "text": io.StringIO("b"),
        "error": ValueError("c", [3]),
    }
    before = {name: pickle.dumps(one, 5) for name, one in innocent.items()}
    value = {**innocent, "lock": threading.Lock()}
    assert paths(Guard().explain(value)) == ["CC102 value['lock']"]
    Guard().dumps(value)
    assert {name: pickle.dumps(one, 5) for name, one in innocent.items()} == before


@pytest.mark.parametrize(
    "owner", [ValueError("a"), functools.partial(shapes.top_level), io.BytesIO(), io.StringIO()]
)
def test_the_attributes_such_an_object_has_are_looked_at(owner: Any) -> None:
    """They are stored, too."""
    owner.client = shapes.Client()
    assert paths(Guard().explain([owner])) == ["CC102 value[0].client._lock"]


# --- Places a leaf can have ---------------------------------------------------------------------


def test_a_leaf_that_is_a_key_does_not_merge_entries() -> None:
    """Two offending keys remain two entries, each under a stand-in of its own."""
    guard = Guard()
    value = {generator(): "a", generator(): "b", "n": 1}
    findings = guard.explain(value)
    assert paths(findings) == ["CC109 value<key 0>", "CC109 value<key 1>"]
    loaded = guard.loads(guard.dumps(value))
    assert sorted(map(str, loaded.values())) == ["1", "a", "b"]


def test_leaves_that_are_elements_do_not_merge() -> None:
    """Two generators in a set are two markers or a refusal, never one."""
    guard = Guard()
    value = {"s": {generator(), generator()}, "n": 1}
    loaded = guard.loads(guard.dumps(value))
    assert loaded["n"] == 1
    assert len(loaded["s"]) == 2


def test_a_constructor_argument_that_is_needed_takes_its_owner_along() -> None:
    """Where a marker in the arguments breaks the load, the owner is cut; the leaf is named."""
    guard = Guard()
    strict = shapes.Strict("text")
    strict.text = generator()
    value = {"n": 1, "strict": strict}
    for _ in range(3):
        loaded = guard.loads(guard.dumps(value))
        assert loaded["n"] == 1
        assert is_stripped(loaded["strict"])
    (finding,) = guard.explain(value)
    assert (finding.code, str(finding.path), str(finding.cut)) == (
        "CC109", "value['strict'].text", "value['strict']",
    )  # fmt: skip


def test_where_its_owner_is_the_value_itself_nothing_is_stored() -> None:
    """The leaf is named, and no rest is claimed to have been stored."""
    strict = shapes.Strict("text")
    strict.text = generator()
    with pytest.raises(UncacheableValueError) as raised:
        Guard().dumps(strict)
    (finding,) = raised.value.findings
    assert (finding.code, str(finding.path), finding.action, finding.did) == (
        "CC109", "value.text", Action.REFUSED, "nothing was stored",
    )  # fmt: skip


def test_a_state_that_is_needed_takes_its_owner_along() -> None:
    """The same for a `__setstate__` that does not accept a marker."""
    guard = Guard()
    value = [1, shapes.StrictState(generator())]
    loaded = guard.loads(guard.dumps(value))
    assert loaded[0] == 1
    assert is_stripped(loaded[1])
    assert paths(guard.explain(value)) == ["CC109 value[1].held"]


def test_a_good_object_of_a_suspect_class_is_kept() -> None:
    """That one object of a class does not load does not condemn the others."""
    guard = Guard()
    strict = shapes.Strict("text")
    strict.text = generator()
    assert is_stripped(guard.loads(guard.dumps([strict]))[0])
    value = [shapes.Strict("fine"), strict]
    loaded = guard.loads(guard.dumps(value))
    assert loaded[0].text == "fine"
    assert is_stripped(loaded[1])
    clean = [shapes.Strict("fine")]
    assert guard.dumps(clean) == pickle.dumps(clean, 5)


def test_a_method_that_is_not_found_by_its_name_is_stripped() -> None:
    """Every one of them is looked at, although most methods do load."""
    guard = Guard()
    sound = {"bound": shapes.Client().fetch, "made": shapes.Handlers.make}
    clean = {"made": shapes.Handlers.make, "bound": shapes.Thing(a=1).method}
    guard.dumps(sound)
    assert guard.dumps(clean) == pickle.dumps(clean, 5)
    value = {"n": 1, "handlers": shapes.Handlers()}
    names = ["private", "wrapped", "patched"][SINCE_315:]  # which finds private ones by itself
    assert paths(guard.explain(value)) == [f"CC119 value['handlers'].{name}" for name in names]
    loaded = guard.loads(guard.dumps(value))
    assert loaded["n"] == 1
    assert loaded["handlers"].name == "handlers"
    assert all(is_stripped(getattr(loaded["handlers"], name)) for name in names)


def test_a_method_of_a_class_without_a_name_is_found() -> None:
    """The offender is the class, and it is named where the method has it."""

    class Local:
        @classmethod
        def make(cls) -> None: ...

    guard = Guard()
    (finding,) = guard.explain({"make": Local.make})
    assert (finding.code, str(finding.path), str(finding.cut)) == (
        "CC110", "value['make'].__self__", "value['make']",
    )  # fmt: skip


def test_what_is_cut_twice_higher_is_named_by_its_leaves() -> None:
    """An iterator over an iterator that bears no marker: both go, and the generators are named."""
    value = {"n": 1, "rows": map(str, zip([1], generator(), strict=False))}
    guard = Guard()
    (finding,) = guard.explain(value)
    assert (finding.code, str(finding.path), str(finding.cut)) == (
        "CC109", "value['rows']<arg 1><arg 1>", "value['rows']",
    )  # fmt: skip


def test_a_marker_for_what_was_cut_higher_names_its_own_field() -> None:
    """Also at the first write, in which it was found out that it must be cut there."""
    guard = Guard()
    value = {"n": 1, "rows": zip(generator(), strict=False)}
    for _ in range(2):
        loaded = guard.loads(guard.dumps(value))
        assert repr(loaded["rows"]) == "<stripped value['rows']: CC119 zip>"


def test_an_item_that_a_list_does_not_have_is_named_where_it_is() -> None:
    """The reducer of a list may fill it with what the list holds elsewhere."""
    value = [shapes.FilledOddly(threading.Lock())]
    assert paths(Guard().explain(value)) == ["CC102 value[0].held"]


def test_a_closure_is_stripped_at_the_field_that_holds_it() -> None:
    """A function inside a function cannot be imported, whatever it closes over."""
    client = shapes.Client()

    def fetch() -> str:
        return client.fetch()

    value = shapes.Thing(name="kept", fetch=fetch)
    guard = Guard()
    assert paths(guard.explain(value)) == ["CC110 value.fetch"]
    loaded = guard.loads(guard.dumps(value))
    assert loaded.name == "kept"
    assert is_stripped(loaded.fetch)


def test_an_offender_among_many_is_found() -> None:
    """Ten thousand innocent neighbours hide nothing."""
    value = {f"k{number}": [number, {"deep": number}] for number in range(10_000)}
    value["k5000"][1]["lock"] = threading.Lock()  # type: ignore[index, call-overload, assignment]
    assert paths(Guard().explain(value)) == ["CC102 value['k5000'][1]['lock']"]


def test_every_one_of_many_offenders_is_found() -> None:
    """Not only the first."""
    value = [shapes.Item(str(number), number, shapes.Client()) for number in range(300)]
    found = [str(one.path) for one in Guard().explain(value)]
    assert found == [f"value[{number}].client._lock" for number in range(300)]


def test_an_offender_in_a_cycle_of_containers_is_found() -> None:
    """Lists and dicts that contain themselves end."""
    value: dict[str, Any] = {"list": []}
    value["list"] += [value, value["list"], threading.Lock()]
    guard = Guard()
    assert paths(guard.explain(value)) == ["CC102 value['list'][2]"]
    loaded = guard.loads(guard.dumps(value))
    assert loaded["list"][0] is loaded
    assert loaded["list"][1] is loaded["list"]


def test_attributes_of_builtin_subclasses_are_kept() -> None:
    """Dict, list, set and deque subclasses keep their items and attributes around a cut."""
    guard = Guard()
    for made in (
        shapes.OwnDict(a=1),
        shapes.OwnList([1]),
        shapes.OwnSet([1]),
        shapes.OwnDeque([1]),
    ):
        made.label, made.held = "kept", generator()  # type: ignore[union-attr]
        for _ in range(2):
            loaded = guard.loads(guard.dumps(made))
            assert loaded == made
            assert loaded.label == "kept"
            assert is_stripped(loaded.held)


# --- Pickling methods with a will of their own --------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_a_type_that_pickles_every_second_time(first: bool) -> None:
    """It is promoted where it pickles, stripped where it does not, and never breaks the write."""
    shapes.Moody.pickles = first
    guard = Guard()
    outcomes = []
    for _ in range(6):
        loaded = guard.loads(guard.dumps({"n": 1, "moody": shapes.Moody()}))
        assert loaded["n"] == 1
        outcomes.append(is_stripped(loaded["moody"]) or loaded["moody"].name == "moody")
    assert outcomes == [True] * 6
    shapes.Moody.pickles = True
    clean = [shapes.Moody()]
    assert guard.loads(guard.dumps(clean))[0].name == "moody"


def test_a_state_that_raises_is_named_without_its_text() -> None:
    """The text of a user's exception may be a secret; its field is not."""
    guard = Guard()
    value = {"n": 1, "raises": shapes.Raises()}
    with capture_findings() as findings:
        loaded = guard.loads(guard.dumps(value))
    assert loaded["n"] == 1
    assert is_stripped(loaded["raises"])
    assert paths(findings) == ["CC118 value['raises']"]
    assert "s3cret" not in repr(findings) + repr(loaded)


def test_no_error_carries_the_text_of_the_users() -> None:
    """Not in its message, cause or context, however it is printed."""
    import traceback

    with pytest.raises(UncacheableValueError) as caught:
        Guard().dumps(shapes.Raises())
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_write_from_inside_getstate_is_a_write_of_its_own() -> None:
    """Findings of the inner value belong to the inner write, and the outer one goes on."""
    inner, outer = Guard(sink="inner"), Guard(sink="outer")
    shapes.DumpsNested.dump = staticmethod(inner.dumps)  # type: ignore[assignment]
    value = [shapes.DumpsNested({"lock": threading.Lock()}), threading.Lock()]
    for _ in range(3):
        with capture_findings() as findings:
            loaded = outer.loads(outer.dumps(value))
        assert unlocked(loaded[1])
        assert unlocked(inner.loads(loaded[0].inner)["lock"])
        assert {(one.sink, str(one.path)) for one in findings} == {
            ("inner", "value['lock']"), ("outer", "value[1]"),
        }  # fmt: skip


def test_the_same_guard_may_be_entered_again() -> None:
    """One guard for both levels: neither lock nor running dump gets in the way."""
    guard = Guard()
    shapes.DumpsNested.dump = staticmethod(guard.dumps)  # type: ignore[assignment]
    value = shapes.DumpsNested(shapes.DumpsNested(shapes.Client()))
    payload = guard.dumps([value, shapes.Client()])
    loaded = guard.loads(payload)
    inner = guard.loads(guard.loads(loaded[0].inner).inner)
    assert unlocked(inner._lock)
    assert unlocked(loaded[1]._lock)


def test_a_cycle_through_arguments_is_refused_by_its_own_name() -> None:
    """Pickle recurses to death; the refusal names the object and the way out."""
    one = shapes.CycleThroughArguments()
    one.held = one
    guard = Guard()
    for _ in range(2):
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps({"n": 1, "bad": one})
        (finding,) = caught.value.findings
        assert (finding.code, finding.action) == ("CC133", Action.REFUSED)
        assert str(finding.path) == "value['bad']"
        assert finding.fix == (
            "return what refers back to it as the state of __reduce__, not as its arguments"
        )


def test_what_was_refused_leaves_no_trust_behind() -> None:
    """A type first met in a value that was refused is still tried when it is met again."""
    guard = Guard()
    one = shapes.CycleThroughArguments()
    one.held = one
    with pytest.raises(UncacheableValueError):
        guard.dumps([shapes.ChoosyError("bad", 404), shapes.NarrowDict(), one])
    for bomb in (shapes.ChoosyError("bad", 404), shapes.NarrowDict()):
        loaded = guard.loads(guard.dumps({"n": 1, "bomb": bomb}))
        assert is_stripped(loaded["bomb"])


def test_a_type_that_breaks_only_sometimes_is_kept_where_it_does_not() -> None:
    """An exception whose arguments happen to fit is data, byte for byte."""
    guard = Guard()
    fits = shapes.ChoosyError("bad", 404)
    fits.args = ("bad", 404)
    clean = [fits]
    assert guard.dumps(clean) == pickle.dumps(clean, 5)
    assert guard.loads(guard.dumps(clean))[0].status == 404


# --- Size and depth -----------------------------------------------------------------------------


def nested(depth: int, kind: Any = list) -> Any:
    value = kind()
    for _ in range(depth):
        value = kind([value])
    return value


def chain(length: int) -> shapes.Thing:
    value = shapes.Thing(next=None)
    for _ in range(length):
        value = shapes.Thing(next=value)
    return value


@pytest.mark.parametrize(
    ("build", "beginning", "kind"),
    [
        (lambda: {"tree": nested(100_000)}, "value['tree'][0][0][0][0]", "list"),
        (lambda: [chain(50_000)], "value[0].next.next.next.next", "tests.core.shapes.Thing"),
        (
            lambda: {"own": nested(50_000, shapes.OwnList)},
            "value['own'][0][0][0][0]",
            "tests.core.shapes.OwnList",
        ),
        (
            lambda: [nested(50_000, collections.deque)],
            "value[0][0][0][0][0]",
            "collections.deque",
        ),
    ],
    ids=["list", "chain", "own-list", "deque"],
)
def test_what_is_too_deep_is_refused_with_the_beginning_of_its_path(
    build: Callable[[], Any], beginning: str, kind: str
) -> None:
    """A graph deeper than pickle goes is refused by a finding of its own, not a RecursionError."""
    value = build()
    guard = Guard()
    for _ in range(2):
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps(value)
        (finding,) = caught.value.findings
        assert (finding.code, str(finding.path)) == ("CC130", beginning)
        assert finding.leaf_type == kind
        assert finding.action is Action.REFUSED
    _dismantle(value)


def _dismantle(value: Any) -> None:
    """Take a deep value apart from the top; on 3.11 its destructor would recurse."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            stack += top.values()
            top.clear()
        elif isinstance(top, (list, collections.deque)):
            stack += top
            top.clear()
        elif isinstance(top, shapes.Thing):
            stack.append(vars(top).pop("next", None))


def shared_in_a_cycle() -> Any:
    thing = shapes.Thing(a=[1], b=collections.OrderedDict(x=1))
    vars(thing)["self"] = thing
    return {"one": thing, "two": thing, "list": [thing, vars(thing)["a"]]}


def raised_beside_a_deep_value() -> Any:
    deep = nested(50_000)
    try:
        raise ValueError(len(deep))
    except ValueError as error:
        return {"error": error}


@pytest.mark.parametrize(
    "build",
    [shared_in_a_cycle, lambda: {"price": decimal.Decimal("9.90")}, raised_beside_a_deep_value],
)
def test_a_sound_value_is_stored_the_same_under_a_raised_limit(build: Callable[[], Any]) -> None:
    """Byte for byte, with shared objects and cycles, and whatever pickle does not go into."""
    value = build()
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        assert Guard().dumps(value) == pickle.dumps(value, 5)
    finally:
        sys.setrecursionlimit(before)


class Linked:
    """Cannot be rebuilt, because each needs the other first."""

    def __init__(self, other: object) -> None:
        self.other = other

    def __reduce__(self) -> tuple[object, ...]:
        return Linked, (self.other,)


def ring() -> Linked:
    first = Linked(None)
    first.other = Linked(first)
    return first


def test_what_pickle_still_manages_is_not_refused() -> None:
    """The limit is pickle's own."""
    value = nested(300)
    assert Guard().dumps(value) == pickle.dumps(value, 5)


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("nested(100_000)", "CC130"),
        ("chain(100_000)", "CC130"),
        ("nested(100_000, collections.deque)", "CC130"),
        ("ring()", "CC133"),
    ],
)
def test_a_raised_recursion_limit_does_not_crash_the_process(build: str, expected: str) -> None:
    """Where an app raised the limit, 3.11's C pickler overruns the stack (SIGSEGV); not ours."""
    code = (
        "import collections, sys, os\n"
        "from contextcache import Guard, UncacheableValueError\n"
        "from tests.core.test_traps import nested, chain, ring\n"
        "sys.setrecursionlimit(10**6)\n"
        f"value = {{'deep': {build}}}\n"
        "for mode in ('strip', 'warn', 'raise'):\n"
        "    try: Guard(mode=mode).dumps(value)\n"
        "    except UncacheableValueError as error: print(error.findings[0].code)\n"
        "    sys.stdout.flush()\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=5 * PATIENCE, cwd=ROOT
    )
    assert (done.returncode, done.stdout.split()) == (0, [expected] * 3)
    assert "Traceback" not in done.stderr


def test_what_is_too_large_is_refused_naming_the_largest_field() -> None:
    """Nothing is sent to the server; the finding says which field makes it large."""
    value = {
        "small": "x" * 100,
        "price": decimal.Decimal("9.90"),  # whose .imag is a new one at each look
        "reports": [shapes.Thing(body="y" * 50_000), shapes.Thing(body="")],
    }
    guard = Guard(max_size=10_000, sink="cache 'default' in redis")
    with capture_findings() as findings, pytest.raises(UncacheableValueError) as caught:
        guard.dumps(value, label="cache['r']")
    (finding,) = caught.value.findings
    assert list(caught.value.findings) == findings
    assert (finding.code, str(finding.path)) == ("CC131", "cache['r']['reports'][0].body")
    assert finding.fix == "store less of it; the limit is 10000 bytes (MAX_SIZE)"


def test_a_flat_value_that_is_too_large_is_refused_too() -> None:
    """The shortcut for small dicts knows the limit."""
    with pytest.raises(UncacheableValueError) as caught:
        Guard(max_size=1000).dumps({"large": "x" * 2000, "b": 1})
    assert [str(one.path) for one in caught.value.findings] == ["value['large']"]


# --- Others at the same time --------------------------------------------------------------------


class Changing(dict[str, int]):
    """Another thread, in effect: the dict in `victim` grows while this one is pickled."""

    def __init__(self, victim: dict[int, int], times: int) -> None:
        super().__init__(a=1)
        self.victim = victim
        self.times = times

    def __reduce__(self) -> tuple[object, ...]:
        if self.times:
            self.times -= 1
            self.victim[len(self.victim)] = 0
        return dict, ({"a": 1},)


def changing(times: int) -> dict[object, object]:
    victim: dict[Any, Any] = {}
    victim[0] = Changing(victim, times)
    victim.update((number, number) for number in range(1, 5))
    return victim


def test_a_change_during_the_dump_is_retried() -> None:
    """A dict that another thread changes once is stored as it is afterwards."""
    value = changing(2)
    with pytest.raises(RuntimeError):
        pickle.dumps(changing(1), 5)
    loaded = Guard().loads(Guard().dumps(value))
    assert loaded[0] == {"a": 1}
    assert len(loaded) == len(value) > 5


def test_a_value_that_never_stops_changing_is_refused() -> None:
    """The number of retries is bounded; the refusal says what to do."""
    with pytest.raises(UncacheableValueError) as caught:
        Guard().dumps({"busy": changing(10**9)})
    (finding,) = caught.value.findings
    assert (finding.code, finding.action) == ("CC132", Action.REFUSED)
    assert finding.fix == "store a copy made under the lock that guards it"


def test_a_large_value_that_changes_once_is_not_taken_for_a_cycle() -> None:
    """Every attempt starts afresh: objects reduced again in the next one do not need themselves."""
    value = {"items": [shapes.Reduced(str(number)) for number in range(500)], "busy": changing(3)}
    assert len(Guard().loads(Guard().dumps(value))["items"]) == 500


def test_a_failed_dump_leaves_nothing() -> None:
    """The next value is written as if the failed one had never been."""
    guard = Guard()
    with pytest.raises(UncacheableValueError):
        guard.dumps(generator())
    value = [shapes.Item("a"), {"b": 1}]
    assert guard.dumps(value) == pickle.dumps(value, 5)
    with capture_findings() as findings:
        guard.dumps(value)
    assert findings == []


# --- Our own failures, and broken hooks ---------------------------------------------------------


@pytest.mark.internal_error
def test_our_own_bug_does_not_break_the_write(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What pickle would have stored is stored, and one line says where we failed."""

    def broken(self: Diagnosis, value: object) -> Diagnosis:
        raise KeyError("s3cret")

    monkeypatch.setattr(Diagnosis, "run", broken)
    guard = Guard()
    import flask

    with flask.Flask("shop").app_context():
        value = {"g": flask.g._get_current_object()}
    for _ in range(3):
        assert guard.dumps(value) == pickle.dumps(value, 5)
    (message,) = failures(caplog)
    assert "guarding a value failed with KeyError at" in message
    assert "s3cret" not in message


@pytest.mark.internal_error
def test_a_broken_rule_does_not_break_the_write(caplog: pytest.LogCaptureFixture) -> None:
    """A user's `make` or `when` that raises is logged once; the object is stored as pickle does."""

    def broken(_: object) -> Any:
        raise ZeroDivisionError("s3cret")

    value = [shapes.Thing(a=1), shapes.Slots("b")]
    rules = (
        Rule(type="tests.core.shapes.Thing", verb="snapshot", make=broken),  # type: ignore[arg-type]
        Rule(type="tests.core.shapes.Slots", verb="strip", when=broken),  # type: ignore[arg-type]
    )
    guard = Guard(rules=rules)
    for _ in range(3):
        assert guard.dumps(value) == pickle.dumps(value, 5)
    messages = failures(caplog)
    assert [one.partition(" failed with ZeroDivisionError")[0] for one in messages] == [
        "contextcache: the rule for tests.core.shapes.Thing",
        "contextcache: the rule for tests.core.shapes.Slots",
    ]
    assert "s3cret" not in "".join(messages)


@pytest.mark.internal_error
def test_a_broken_callback_does_not_break_the_write(caplog: pytest.LogCaptureFixture) -> None:
    """One callback that raises keeps neither the write nor the others from happening."""
    heard: list[Finding] = []

    def broken(_: Finding) -> None:
        raise ZeroDivisionError("s3cret")

    guard = Guard(on_finding=(broken, heard.append))
    assert unlocked(guard.loads(guard.dumps([threading.Lock()]))[0])
    assert paths(heard) == ["CC102 value[0]"]
    messages = failures(caplog)
    assert len(messages) == 1
    assert messages[0].startswith(
        "contextcache: a callback of on_finding failed with ZeroDivisionError at"
    )


def test_a_rule_that_makes_nonsense_does_not_break_the_write() -> None:
    """A `recreate` rule whose `make` returns no reduce value costs its object, not the write."""
    rule = Rule(type="tests.core.shapes.Thing", verb="recreate", make=lambda _: 42)  # type: ignore[arg-type]
    guard = Guard(Config(rules=(rule,)))
    loaded = guard.loads(guard.dumps({"n": 1, "thing": shapes.Thing(a=1)}))
    assert loaded["n"] == 1


def test_exits_are_not_swallowed() -> None:
    """`KeyboardInterrupt` and `SystemExit` from a pickling method go through."""

    class Leaves:
        def __reduce__(self) -> tuple[object, ...]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Guard().dumps([Leaves()])


# --- Things that look like offenders ------------------------------------------------------------


def test_a_finalizer_and_a_proxy_to_a_live_object_do_not_disturb() -> None:
    """`weakref.proxy` is pickled as what it refers to, as pickle does."""
    target = shapes.Thing(name="target")
    guard = Guard()
    loaded = guard.loads(guard.dumps([weakref.proxy(target), target]))
    assert loaded[1].name == "target"


def test_a_file_in_memory_is_data() -> None:
    """`BytesIO` is no open file."""
    value = [io.BytesIO(b"abc"), io.StringIO("abc")]
    assert Guard().explain(value) == []


def test_a_default_factory_by_name_is_data() -> None:
    """Only a factory without a name offends."""
    value = collections.defaultdict(shapes.Thing, a=1)
    assert Guard().explain(value) == []
    assert Guard().dumps(value) == pickle.dumps(value, 5)


def test_a_module_like_namespace_is_data() -> None:
    """`SimpleNamespace` and namespaces of enums are ordinary objects."""
    value = types.SimpleNamespace(door=shapes.Door.SHUT, inner=types.SimpleNamespace(a=[1]))
    assert Guard().explain(value) == []
    assert Guard().dumps(value) == pickle.dumps(value, 5)
