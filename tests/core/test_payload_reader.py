"""The reader of payloads: every byte counted once, nothing run, paths as everywhere else."""

from __future__ import annotations

import collections
import copyreg
import datetime as dt
import decimal
import io
import pickle
import sys
import threading
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Guard, Path, UnreadablePayloadError
from contextcache.commands.nodes import MAX_DEPTH, MAX_FINDINGS, offenders, place
from contextcache.commands.payload_reader import read, scan
from contextcache.commands.pickle_stack import MAX_NAMES, MAX_NODES
from tests.resolving import resolve


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
        found = resolve(part.path("v"), value)
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


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"ccommands\ngetoutput\n(S'id'\ntR.", "subprocess:getoutput"),  # Python 2's names
        (b"c__builtin__\napply\n.", "builtins:apply"),
        (b"S'\\x6fs'\nS'system'\n\x93(S'id'\ntR.", "os:system"),  # written with escapes
        (b"V\\u006fs\nVsystem\n\x93(Vid\ntR.", "os:system"),
        (b"I0x10\n0cos\nsystem\n(S'id'\ntR.", "os:system"),  # pickletools stops at it
        (b"I 5 \n0cos\nsystem\n(S'id'\ntR.", "os:system"),
        (b"I5\0x\n0cos\nsystem\n(S'id'\ntR.", "os:system"),
        (b"N(e0cos\nsystem\n(S'id'\ntR.", "os:system"),  # nothing is put into None: no error
        (b"}(N}tb0cos\nsystem\n(S'id'\ntR.", "os:system"),
        (b"Np" + b"0" * 200 + b"7\n0cos\nsystem\n(S'id'\ntR.", "os:system"),
        (b"cos\nsystem\n(S'id'\ntRgarbage", "os:system"),  # runs before the damage is met
        (b"cos\nsystem\n(S'id'\ntR.trailing", "os:system"),
        (b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fcos\nsystem\n(S'id'\ntR.", "os:system"),
        (b"(S'id'\nios\nsystem\n.", "os:system"),
        (b"(cos\nsystem\nS'id'\no.", "os:system"),
        (b"cos\nsystem\nq\x05(S'id'\ntRh\x05.", "os:system"),
        (b"cmy\nname\ncbuiltins\ngetattr\n(h\x00", "builtins:getattr"),
        (b"cbuiltins\ngetattr\n(cshop\nos\nS'system'\ntR.", "shop:os.system"),
        (b"cbuiltins\ngetattr\n(cshop\nos\nS'system'\nNtR.", "shop:os.system"),
        (
            b"c_operator\ngetitem\n(cbuiltins\ngetattr\ntK\0\x86R(cshop\nos\nS'popen'\ntR.",
            "shop:os.popen",
        ),
    ],
)
def test_what_the_unpickler_looks_up_is_seen(payload: bytes, name: str) -> None:
    """However it is spelled, and although the pickle is damaged further on."""
    assert name in scan(payload).names


@pytest.mark.parametrize(
    "payload",
    [
        b"cbuiltins\ngetattr\n(cshop\nrun\nS'__globals__'\ntR.",
        b"c" + b"o" * 300 + b"\nsystem\n)R.",
        b"\x80\x04\x8c\x02os\x94\x94\x94K\x01h\x00\x93.",
    ],
)
def test_a_name_that_is_hidden_is_computed(payload: bytes) -> None:
    """It is put together, too long for a name, or read out of the inside of an object."""
    assert scan(payload).computed


def test_a_computed_name_is_no_name() -> None:
    """Pickle writes names as constants; a name that is put together is somebody's trick."""
    assert not read(pickle.dumps(Boom(), 4)).computed
    forged = read(b"\x80\x04\x8c\x05posix\x8c\x08builtins\x8c\x03str\x93)R\x93.")
    assert forged.computed
    assert forged.names == ("builtins:str",)


def test_a_registered_extension_goes_by_its_name() -> None:
    """`copyreg.add_extension` gives a class a number; one that nobody registered is unknown."""
    copyreg.add_extension("decimal", "Decimal", 240)
    try:
        assert read(b"\x80\x02\x82\xf0.").names == ("decimal:Decimal",)
    finally:
        copyreg.remove_extension("decimal", "Decimal", 240)
    assert read(b"\x80\x02\x82\xf0.").computed


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


def test_markers_and_known_types_are_found_by_name() -> None:
    """A payload tells what was stripped from it, and when, without being loaded."""
    guard = Guard()
    payload = guard.dumps({"rows": (row for row in ()), "client": Client()})
    [found], more = offenders(read(payload).root, Path("cache['top']"))
    assert more == 0
    assert str(found) == (
        "CC109: cache['top']['rows'] (generator) "
        "a generator, coroutine or iterator in progress cannot be resumed elsewhere"
    )
    assert found.did.startswith("a marker stands here since 20")
    request = b"cdjango.http.request\nHttpRequest\n)\x81."
    [found], _ = offenders(read(request).root, Path("v"))
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


# --- Hostile bytes --------------------------------------------------------------------------------

HOSTILE: dict[str, Any] = {
    "lists in lists": lambda n: b"]" * n + b"a" * (n - 1) + b".",
    "dicts in dicts": lambda n: b"}" + b"K\0}" * n + b"s" * n + b".",
    "tuples in tuples": lambda n: b")" + b"\x85" * n + b".",
    "doubled": lambda n: b"K\1\x85" + b"2\x86" * n + b".",
    "doubled by the memo": lambda n: b"K\1\x85\x94" + b"h\0h\0\x86q\0" * n + b".",
    "doubled as a key": lambda n: b"}K\1\x85" + b"2\x86" * n + b"K\1s.",
    "all in the memo": lambda n: b"]" + b"\x94" * n + b".",
    "memo far apart": lambda n: b"".join(b"Nr%b0" % (k * 999).to_bytes(4, "little")
                                         for k in range(n)) + b"N.",
    "far away in the memo": lambda n: b"N" + b"r\xff\xff\xff\xff" * n + b".",
    "marks": lambda n: b"(" * n + b"1" * n + b"N.",
    "nothing appended": lambda n: b"]" + b"(e" * n + b".",
    "appended again": lambda n: b"]" + b"2a" * n + b".",
    "state again and again": lambda n: b"\x80\x04]" + b"]a" * n + b"}b" * n + b".",
    "a wide tuple": lambda n: b"(" + b"N" * n + b"t.",
    "many names": lambda n: b"".join(b"cm\nn%d\n0" % k for k in range(n)) + b"N.",
    "calls of calls": lambda n: b"cm\nn\n" + b")R" * n + b".",
    "markers": lambda n: b"](" + b"cdjango.http.request\nHttpRequest\n)\x81" * n + b"e.",
    "a long line of digits": lambda n: b"I" + b"9" * n + b"\n.",
    "a long long": lambda n: b"L" + b"9" * n + b"L\n.",
    "a large long": lambda n: b"\x8b" + n.to_bytes(4, "little") + b"\x7f" * n + b".",
    "lines of zeros": lambda n: (b"Np" + b"0" * 99 + b"\n0") * (n // 100) + b"N.",
    "frames that lie": lambda n: b"\x95\xff\xff\xff\xff\0\0\0\0" * n + b"N.",
    "floats": lambda n: (b"F" + b"1" * 99 + b"\n0") * (n // 100) + b"N.",
    "strings with escapes": lambda n: (b"S'" + b"\\x41" * 25 + b"'\n0") * (n // 100) + b"N.",
    "popped": lambda n: b"]0" * n + b"N.",
    "replaced": lambda n: b"N\x85" + b"c_operator\ngetitem\nN\x85K\0\x86R0" * n + b".",
}  # fmt: skip


def cost(payload: bytes) -> tuple[int, int]:
    """Return how many calls reading takes, and how many bytes at most."""
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    tracemalloc.start()
    sys.setprofile(count)
    try:
        reading = scan(payload, smallest=len(payload) // 200)
        sum(1 for _ in reading.root.walk())
        offenders(reading.root, Path("v"))
    finally:
        sys.setprofile(None)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return calls, peak


@pytest.mark.parametrize("name", HOSTILE)
def test_work_and_memory_are_linear(name: str) -> None:
    """Twice the bytes take twice the calls and twice the memory at most."""
    small, large = (HOSTILE[name](n) for n in (700, 1400))
    assert not scan(large).damaged, "the case itself is wrong"
    (calls, memory), (more_calls, more_memory) = cost(small), cost(large)
    assert more_calls <= 2.1 * calls + 100
    assert more_memory <= 2.2 * memory + 100_000
    assert more_calls <= 60 * len(large) + 1000


def test_what_is_left_out_is_counted() -> None:
    """Levels below the last that is kept, and names and findings beyond the most."""
    reading = scan(b"\x80\x04" + b"]" * 1000 + b"a" * 999 + b".")
    assert sum(1 for _ in reading.root.walk()) == MAX_DEPTH + 1
    assert reading.omitted == 999 - MAX_DEPTH
    names = b"".join(b"cm\nn%d\n0" % number for number in range(MAX_NAMES + 7))
    reading = scan(names + b"cos\nsystem\n.")
    assert reading.omitted_names == 7
    assert "os:system" in reading.names  # whatever runs code is listed all the same
    request = b"cdjango.http.request\nHttpRequest\n)\x81"
    found, more = offenders(scan(b"](" + request * (MAX_FINDINGS + 5) + b"e.").root, Path("v"))
    assert (len(found), more) == (MAX_FINDINGS, 5)


def test_nodes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most, parts count for their holder; the sizes still add up."""
    monkeypatch.setattr("contextcache.commands.pickle_stack.MAX_NODES", 10)
    payload = pickle.dumps([[[number]] for number in range(100)], 4)
    reading = scan(payload)
    assert sum(1 for _ in reading.root.walk()) <= 11
    assert reading.root.entries == 100
    assert reading.omitted > 0
    assert MAX_NODES == 200_000


def test_small_parts_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was dropped for its size does not count against the most."""
    monkeypatch.setattr("contextcache.commands.pickle_stack.MAX_NODES", 2000)
    rows = [[number] for number in range(10_000)]
    reading = scan(pickle.dumps([rows, "x" * 20_000, [1] * 20_000], 5), smallest=10_000)
    assert [part.kind for part in reading.root.parts] == ["list", "str", "list"]
    assert reading.omitted == 0


# Without those for which CPython takes gigabytes before it reads on: a large index or bytearray.
codes = [ord(code) for code in "(.0125BCFGIJKLMNPQRSTUVX]abcdeghijloqprstu})"]
programs = st.lists(
    st.sampled_from([
        *(bytes((code,)) for code in (*codes, *range(0x80, 0x96), 0x97, 0x98)),
        b"cos\nsystem\n", b"cm\nn\n", b"K\1", b"h\0", b"q\0", b"\x8c\1a", b"V5\n", b"I5\n",
        b"(", b"]", b"}", b")", b"N", b"\x85", b"\x86", b"\x93", b"\x94", b"R", b"b", b"e", b"u",
        b"c_operator\ngetitem\n", b"cbuiltins\ngetattr\n", b"S'a'\n", b"cdatetime\ndate\n",
    ]),
    max_size=60,
).map(b"".join)  # fmt: skip


@given(payload=programs | programs.map(lambda program: program + b".") | st.binary(max_size=300))
def test_no_program_breaks_it(payload: bytes) -> None:
    """Any sequence of instructions is read or refused, and the sizes add up."""
    reading = scan(payload)
    assert reading.root.size == len(payload)
    for part in reading.root.walk():
        assert part.size >= sum(below.size for below in part.parts)
        assert all(below.above is part for below in part.parts)
    assert 0 <= reading.end <= len(payload) + 1
    offenders(reading.root, Path("v"))


@given(payload=programs | programs.map(lambda program: program + b"."))
def test_what_the_unpickler_reaches_is_seen(payload: bytes) -> None:
    """Each name that CPython looks up is among those that were read, or is called computed."""
    asked: list[str] = []

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            asked.append(f"{module}:{name}")
            return lambda *_: None

    with suppress(Exception):
        Unpickler(io.BytesIO(payload)).load()
    reading = scan(payload)
    assert reading.computed or set(asked) <= set(reading.names)


def test_progress_is_told() -> None:
    """A large payload says how far it is."""
    told: list[float] = []
    read(pickle.dumps([[number] for number in range(100_000)]), progress=told.append)
    assert told == sorted(told)
    assert told[0] == 0.0
    assert 0.5 < told[-1] <= 1.0
