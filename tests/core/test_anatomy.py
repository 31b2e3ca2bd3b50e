"""The anatomy of a payload: every byte counted once, nothing run, paths as everywhere else."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import decimal
import pickle
import threading
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Guard, Path, UnreadablePayloadError
from contextcache.commands.anatomy import offenders, place, read, shared, twins


class Client:
    def __init__(self) -> None:
        self.id = 3
        self.tags = ["a", "b"]
        self.lock = threading.Lock()


class Slotted:
    __slots__ = ("name", "rows")

    def __init__(self) -> None:
        self.name = "x" * 100
        self.rows = [1, 2]


class Counted(list[Any]):
    pass


class Boom:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('it was run')",)


def paths(payload: bytes) -> dict[str, Any]:
    return {str(part.path("v")): part for part in read(payload).root.walk()}


def recursive() -> list[Any]:
    made: list[Any] = []
    made.append((made, {"me": made}))
    return made


VALUES: dict[str, Any] = {
    "plain": {"a": [1, 2.5, None, True, "x", b"y"], ("t", 1): {2, 3}, 4: frozenset({5})},
    "objects": {"od": collections.OrderedDict(a=[1]), "d": dt.date(2026, 1, 1)},
    "numbers": [decimal.Decimal("1.5"), 10**40, -1, 70000, 1e300],
    "slots": [Slotted()],
    "subclass": Counted([1, [2]]),
    "recursive": recursive(),
    "bytes": [bytearray(b"abc"), "é" * 300, b"\xff" * 70000],
    "class": [Client, len, threading.Event],
}


# Protocols 0 and 1 refuse slots.
CASES = [(name, at) for name in VALUES for at in range(6) if name != "slots" or at >= 2]


@pytest.mark.parametrize(("name", "protocol"), CASES)
def test_sizes_add_up_to_the_payload(name: str, protocol: int) -> None:
    """Each byte of each protocol belongs to exactly one part."""
    payload = pickle.dumps(VALUES[name], protocol)
    root = read(payload).root
    assert root.size == len(payload)
    for part in root.walk():
        assert part.size >= sum(below.size for below in part.parts)
        assert all(below.above is part for below in part.parts)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda below: st.lists(below) | st.dictionaries(st.text() | st.integers(), below),
    max_leaves=30,
)


@given(value=plain, smallest=st.integers(0, 100))
def test_sizes_add_up_whatever_is_left_out(value: Any, smallest: int) -> None:
    """What is too small for a part of its own counts for its holder."""
    payload = pickle.dumps(value, 5)
    root = read(payload, smallest=smallest).root
    assert root.size == len(payload)
    for part in root.walk():
        assert part.size >= sum(below.size for below in part.parts)
        assert part.entries >= len(part.parts)


@given(value=plain)
def test_the_path_of_a_part_leads_to_it(value: Any) -> None:
    """The parts of plain data go by the paths by which Python reaches them."""
    for part in read(pickle.dumps(value, 5)).root.walk():
        found = part.path("v").resolve(value)
        assert type(found).__name__ == ("NoneType" if part.kind == "None" else part.kind)


@given(payload=st.binary(max_size=200))
def test_no_bytes_break_it(payload: bytes) -> None:
    """What is no pickle is refused, and what happens to be one is read."""
    with suppress(UnreadablePayloadError):
        assert read(payload).root.size == len(payload)


@given(value=plain, cut=st.integers(1, 50), at=st.integers(0, 200), byte=st.integers(0, 255))
def test_no_damaged_pickle_breaks_it(value: Any, cut: int, at: int, byte: int) -> None:
    """Truncated or with another byte in it, a pickle is read or refused; nothing else."""
    payload = pickle.dumps(value, 4)
    changed = bytearray(payload)
    changed[at % len(payload)] = byte
    for damaged in (payload[:-cut], bytes(changed)):
        with suppress(UnreadablePayloadError):
            assert read(damaged).root.size == len(damaged)


def test_nothing_is_run_or_imported() -> None:
    """The names are read; what they mean is not asked."""
    found = read(pickle.dumps([Boom()]))
    assert found.names == ("builtins:exec",)
    assert read(b"cno.such\nmodule\n.").names == ("no.such:module",)


def test_a_computed_name_is_no_name() -> None:
    """Pickle writes names as constants; a name that is put together is somebody's trick."""
    assert not read(pickle.dumps(Boom(), 4)).computed
    forged = read(b"\x80\x04\x8c\x05posix\x8c\x08builtins\x8c\x03str\x93)R\x93.")
    assert forged.computed
    assert forged.names == ("builtins:str",)


def test_a_registered_extension_goes_by_its_name() -> None:
    """`copyreg.add_extension` gives a class a number; one that nobody registered is damage."""
    copyreg.add_extension("decimal", "Decimal", 240)
    try:
        assert read(b"\x80\x02\x82\xf0.").names == ("decimal:Decimal",)
    finally:
        copyreg.remove_extension("decimal", "Decimal", 240)
    with pytest.raises(UnreadablePayloadError):
        read(b"\x80\x02\x82\xf0.")


def test_objects_go_by_their_class_and_attributes() -> None:
    """Attributes of the dictionary and of slots; items of a subclass; arguments of the others."""
    parts = paths(pickle.dumps({"s": Slotted(), "c": Counted([[1]]), "d": VALUES["objects"]}, 5))
    assert parts["v['s']"].kind == f"{__name__}.Slotted"
    assert parts["v['s'].name"].size > 100
    assert parts["v['s'].rows"].kind == "list"
    assert parts["v['c'][0]"].entries == 1
    assert parts["v['d']['od']['a']"].kind == "list"
    assert parts["v['d']['d']"].kind == "datetime.date"
    assert not parts["v['d']['d']"].parts


def test_a_shared_object_counts_where_it_is_stored() -> None:
    """Elsewhere stands a reference of a few bytes that says where."""
    rows = ["x" * 500]
    found = paths(pickle.dumps({"a": rows, "b": rows}, 5))
    assert found["v['a']"].size > 500
    assert found["v['b']"].size < 10
    assert found["v['b']"].same_as is found["v['a']"]
    [places] = shared(found["v"])
    assert [str(part.path("v")) for part in places] == ["v['a']", "v['b']"]


def test_equal_data_is_told_from_shared_data() -> None:
    """Two equal lists are stored twice, and only the outermost equal parts are told."""
    value = {"a": {"rows": ["x" * 50, [1, 2]]}, "b": {"rows": ["".join("x" * 50), [1, 2]]}}
    value["b"] = pickle.loads(pickle.dumps(value["b"]))  # type: ignore[assignment]
    root = read(pickle.dumps(value, 5)).root
    assert [[str(part.path("v")) for part in equal] for equal in twins(root)] == [
        ["v['a']", "v['b']"]
    ]


def test_different_data_has_no_twin() -> None:
    """The same shape with another leaf is other data."""
    assert not list(twins(read(pickle.dumps([["a" * 50, 1], ["a" * 50, 2]], 5)).root))


@pytest.mark.parametrize("smallest", [0, 10, 10_000])
def test_the_fields_of_alike_items_are_summed_up(smallest: int) -> None:
    """Which field makes a list of ten thousand rows large, however small each of them is."""
    rows = [{"id": number, "name": f"name {number}", "tags": [number]} for number in range(100)]
    root = read(pickle.dumps({"rows": rows}, 5), smallest=smallest).root
    [part] = root.parts
    columns = {step.name: size for step, size in part.columns.items()}
    assert columns.keys() == {"id", "name", "tags"}
    assert columns["name"] > columns["tags"] > columns["id"]
    assert 0.8 * part.size < sum(columns.values()) <= part.size
    objects = read(pickle.dumps([Slotted() for _ in range(9)], 5), smallest=smallest).root
    assert {str(step) for step in objects.columns} == {".name", ".rows"}


def test_markers_and_known_types_are_found_by_name() -> None:
    """A payload tells what was stripped from it, and when, without being loaded."""
    guard = Guard()
    payload = guard.dumps({"rows": (row for row in ()), "client": Client()})
    [found] = offenders(read(payload).root, Path("cache['top']"))
    assert str(found) == (
        "CC109: cache['top']['rows'] (generator) "
        "a generator, coroutine or iterator in progress cannot be resumed elsewhere"
    )
    assert found.did.startswith("a marker stands here since 20")
    request = b"cdjango.http.request\nHttpRequest\n)\x81."
    [found] = offenders(read(request).root, Path("v"))
    assert (found.code, found.leaf_type) == ("CC106", "django.http.request.HttpRequest")


def test_findings_are_placed_and_what_is_gone_gets_no_bytes() -> None:
    """A key that is left out of a session is in the tree all the same."""
    guard = Guard(session=True)
    value = {"client": Client(), "rows": (row for row in ())}
    root = read(guard.dumps(value, label="session")).root
    size = root.size
    place(root, guard.explain(value, label="session"))
    marked = {str(part.path("session")): part for part in root.walk() if part.findings}
    assert marked.keys() == {"session['client'].lock", "session['rows']"}
    assert marked["session['client'].lock"].kind == "_thread.lock"
    assert marked["session['rows']"].size == 0
    assert root.size == size


def test_a_pickle_of_a_hundred_thousand_levels_is_read() -> None:
    """Nothing here recurses."""
    payload = b"(" + b"]" * 100_000 + b"a" * 99_999 + b"."
    root = read(payload[1:]).root
    assert sum(1 for _ in root.walk()) == 100_000
    assert offenders(root, Path("v")) == []
    assert list(twins(root)) == []
    del root


def test_a_forgery_does_not_keep_it_busy() -> None:
    """An object may be given state as often as there are bytes, and each time is as quick."""
    many = 20_000
    began = time.process_time()
    assert len(read(b"\x80\x04]" + b"]a" * many + b"}b" * many + b".").root.parts) == many
    assert time.process_time() - began < 15  # it was minutes, and hours for a megabyte


def test_progress_is_told() -> None:
    """A large payload says how far it is."""
    told: list[float] = []
    read(pickle.dumps([[number] for number in range(100_000)]), progress=told.append)
    assert told == sorted(told)
    assert told[0] == 0.0
    assert 0.5 < told[-1] <= 1.0
