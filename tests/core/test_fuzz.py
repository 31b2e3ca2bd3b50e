"""Properties over generated object graphs: shared references, cycles, and planted offenders."""

from __future__ import annotations

import collections
import contextlib
import contextvars
import functools
import pickle
import re
import threading
import weakref
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contextcache import Finding, Guard, is_stripped
from contextcache.engine.children import iter_children
from contextcache.findings.path import Path, Step, StepKind, tokens
from contextcache.testing import capture_findings
from tests.core import shapes
from tests.resolving import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

settings.register_profile(
    "engine", deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow]
)
thorough = settings.get_profile("engine")

atoms = st.one_of(
    st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.binary(max_size=5),
    st.floats(allow_nan=False),
)  # fmt: skip
keys = st.one_of(
    st.text(max_size=6), st.integers(-5, 5), st.tuples(st.integers(0, 3), st.text(max_size=2)),
    st.just("k" * 50),
)  # fmt: skip
names = st.sampled_from(["held", "name", "_private", "extra", "client"])


def _generator() -> Any:
    yield 1


PLANTS: list[Callable[[], Any]] = [
    threading.Lock,
    threading.RLock,
    threading.local,
    _generator,
    lambda: lambda: None,
    lambda: weakref.ref(shapes.Client),
    contextvars.copy_context,
    shapes.RefusesOnPurpose,
    shapes.Raises,
]

# Mutable kinds are made empty and filled afterwards, so they can refer to anything: cycles.
MUTABLE: list[type] = [
    dict, list, shapes.Thing, shapes.OwnDict, shapes.OwnList, shapes.Item, shapes.SlotsChild,
    shapes.SlotsAndDict, shapes.WithMeta, collections.OrderedDict, collections.deque, set,
]  # fmt: skip
IMMUTABLE: list[Callable[[list[Any]], Any]] = [
    tuple,
    lambda held: shapes.Row("row", held[0] if held else None),
    lambda held: shapes.Frozen("frozen", held[-1] if held else None),
    lambda held: shapes.FrozenSlots("slots", tuple(held)),
    lambda held: shapes.Reduced("reduced", list(held)),
    lambda held: shapes.NewArgsEx(name="args", held=held[0] if held else None),
    lambda held: shapes.PlainError(*held),
    lambda held: functools.partial(shapes.top_level, *held),
]


@st.composite
def graphs(draw: st.DrawFn, *, plants: bool) -> tuple[Any, dict[int, object]]:
    """Draw an object graph and the leaves planted in it that can be reached, by their ids."""
    leaves = [
        draw(st.sampled_from(PLANTS))() for _ in range(draw(st.integers(1, 4)) if plants else 0)
    ]
    mutable = [_empty(draw(st.sampled_from(MUTABLE))) for _ in range(draw(st.integers(1, 6)))]
    nodes: list[Any] = [*mutable]
    for _ in range(draw(st.integers(0, 4))):
        held = draw(st.lists(_reference(nodes + leaves), max_size=3))
        nodes.append(draw(st.sampled_from(IMMUTABLE))(held))
    for node in mutable:
        _fill(draw, node, nodes, leaves)
    root = draw(st.sampled_from([*nodes, [*nodes], {"all": nodes, "leaves": leaves}]))
    return root, _reachable(root, {id(leaf): leaf for leaf in leaves})


def _reference(nodes: list[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.sampled_from(nodes), atoms) if nodes else atoms


def _empty(kind: type) -> Any:
    return kind("sku") if kind in (shapes.Item, shapes.SlotsChild, shapes.SlotsAndDict) else kind()


def _fill(draw: st.DrawFn, node: Any, nodes: list[Any], leaves: list[Any]) -> None:
    held = draw(st.lists(_reference([*nodes, *leaves, *leaves]), max_size=4))
    hashed = [leaf for leaf in leaves if type(leaf).__hash__ is not None]
    hashable = st.one_of(keys, st.sampled_from(hashed)) if hashed else keys
    if isinstance(node, dict):
        node.update((draw(hashable), one) for one in held)
    elif isinstance(node, set):
        node.update(draw(st.lists(hashable, max_size=3)))
    elif isinstance(node, (list, collections.deque)):
        node.extend(held)
    if isinstance(node, (shapes.Item, shapes.SlotsChild)):
        field = "client" if isinstance(node, shapes.Item) else "extra"
        setattr(node, field, held[0] if held else None)
    elif type(node).__module__ == shapes.__name__:
        for one in held:
            setattr(node, draw(names), one)


def _parts(obj: Any) -> list[Any]:
    """List what pickle stores for `obj`, by what its class is known to be."""
    parts: list[Any] = []
    if isinstance(obj, dict):
        parts += [*obj.keys(), *obj.values()]
    elif isinstance(obj, (list, tuple, set, frozenset, collections.deque)):
        parts += obj
    elif isinstance(obj, (BaseException, functools.partial)):
        parts += obj.args
    if isinstance(obj, (shapes.Slots, shapes.FrozenSlots)):
        parts += [obj.name, obj.held]
    if isinstance(obj, shapes.SlotsChild):
        parts.append(obj.extra)
    if isinstance(obj, shapes.Item):
        parts += [obj.sku, obj.client]  # a default of the class, where it was left out
    elif isinstance(obj, shapes.Frozen):
        parts += [obj.name, obj.held]
    elif type(obj).__module__ == shapes.__name__:
        parts += getattr(obj, "__dict__", {}).values()
    return parts


def _reachable(root: Any, leaves: dict[int, object]) -> dict[int, object]:
    found = {}
    seen = set()
    stack = [root]
    while stack:
        obj = stack.pop()
        if id(obj) in leaves:
            found[id(obj)] = obj
        elif id(obj) not in seen:
            seen.add(id(obj))
            stack += _parts(obj)
    return found


def assert_round_trip(value: Any, loaded: Any, leaves: dict[int, object]) -> dict[int, Any]:
    """Assert that `loaded` is `value` but for the leaves; return what stands for each of them."""
    stand_ins: dict[int, Any] = {}
    seen = set()
    stack = [(value, loaded)]
    while stack:
        one, other = stack.pop()
        if id(one) in leaves:
            stand_ins.setdefault(id(one), other)
            assert is_stripped(other) or other is None or type(other) is type(one)
            continue
        if (id(one), id(other)) in seen:
            continue
        seen.add((id(one), id(other)))
        assert type(one) is type(other)
        if isinstance(one, (set, frozenset)):
            assert len(one) == len(other)
            assert {part for part in one if id(part) not in leaves} <= other
            continue
        parts, others = _parts(one), _parts(other)
        assert len(parts) == len(others)
        if not parts and type(one).__module__ == "builtins":
            assert one == other
        stack += zip(parts, others, strict=True)
    return stand_ins


@thorough
@given(graphs(plants=False))
def test_a_clean_graph_is_stored_byte_for_byte(graph: tuple[Any, dict[int, object]]) -> None:
    """Without offenders the payload is pickle's own, for a fresh guard and a well-read one."""
    value, _ = graph
    expected = pickle.dumps(value, 5)
    fresh = Guard()
    assert fresh.dumps(value) == fresh.dumps(value) == expected
    assert WELL_READ.dumps(value) == expected
    assert fresh.explain(value) == []


WELL_READ = Guard()


@thorough
@given(graphs(plants=True))
def test_what_is_planted_is_what_is_found(graph: tuple[Any, dict[int, object]]) -> None:
    """The leaves found are those planted, each by a path that leads to it."""
    value, leaves = graph
    findings = Guard().explain(value)
    found = [resolve(finding.path, value) for finding in findings]
    assert {id(leaf) for leaf in found} == leaves.keys()
    assert len(found) == len(leaves)
    for finding, leaf in zip(findings, found, strict=True):
        text = str(finding.path)
        if not re.search(r"<(key|value|arg) \d+>|\{\d+\}", text):
            assert eval(text, {"value": value}) is leaf


@thorough
@given(graphs(plants=True))
def test_the_rest_survives(graph: tuple[Any, dict[int, object]]) -> None:
    """Everything but the planted leaves is read back as it was, at first sight and later."""
    value, leaves = graph
    guard = Guard()
    for _ in range(2):
        assert_round_trip(value, guard.loads(guard.dumps(value)), leaves)


@thorough
@given(st.lists(graphs(plants=True), min_size=2, max_size=5))
def test_markers_name_their_own_field_whatever_was_written_before(
    written: list[tuple[Any, dict[int, object]]],
) -> None:
    """One guard, one label, ever other values: each marker names the field it stands in."""
    heard: list[Finding] = []
    guard = Guard(on_finding=(heard.append,))
    for value, leaves in written:
        loaded = guard.loads(guard.dumps(value, label="session"))
        stand_ins = assert_round_trip(value, loaded, leaves)
        paths = {
            id(resolve(finding.path, value)): finding.path.printed()
            for finding in guard.explain(value, label="session")
        }
        for leaf, stand_in in stand_ins.items():
            if not is_stripped(stand_in):
                continue
            named = re.fullmatch(r"<stripped (.+): CC\d+ [\w.]+>", repr(stand_in))
            assert named is not None
            if named[1] != paths[leaf]:  # another place of the same leaf, known from before
                assert any(one is leaves[leaf] for one in _led_to(named[1], value))


def _led_to(text: str, value: Any) -> list[object]:
    """Follow a path as a marker prints it, to all that it may mean where a key is masked."""
    level = [value]
    for token in tokens(text)[1:]:
        below: list[object] = []
        for obj in level:
            if "*" in token:
                below += [child for step, child in iter_children(obj) if step.printed == token]
            else:
                with contextlib.suppress(LookupError, AttributeError, TypeError):
                    below.append(_below(token, obj))
        level = below
    return level


def _below(token: str, obj: Any) -> object:
    position = re.fullmatch(r"<(key|value|arg) (\d+)>|\{(\d+)\}", token)
    if position is None:
        return eval(f"obj{token}", {"obj": obj})
    kind, index = StepKind(position[1] or "element"), int(position[2] or position[3])
    return resolve(Path(steps=(Step(kind, index),)), obj)


@thorough
@given(graphs(plants=True))
def test_a_listener_hears_every_leaf_each_time(graph: tuple[Any, dict[int, object]]) -> None:
    """A write that somebody follows reports what `explain` does, known or not."""
    value, leaves = graph
    guard = Guard()
    for _ in range(2):
        with capture_findings() as findings:
            guard.dumps(value)
        assert {id(resolve(finding.path, value)) for finding in findings} == leaves.keys()
