"""Generated pickle programs over listed names: none calls or changes what it may not.

The suite tries some hundred. `make programs` tries 20,000 others (`PROGRAMS=50000` for more).
"""

from __future__ import annotations

import os
import sys
import zoneinfo
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contextcache.payload.loading import SAFE_GLOBALS, RefusedOperationError, UnlistedNameError
from tests.core import programs
from tests.core.programs import name, own, row, text
from tests.core.test_allow_list import ALLOWED, SHARED

if TYPE_CHECKING:
    from contextcache.payload.allow_list import AllowList

EXAMPLES = int(os.environ.get("CONTEXTCACHE_PROGRAMS", "400"))

WORDS = [
    "UTC", "__class__", "__code__", "__defaults__", "__dict__", "__init__", "__reduce_ex__",
    "__setitem__", "__setstate__", "_unpickle", "_value_", "acquire", "add", "append", "currency",
    "default_factory", "extend", "is_private", "items", "keys", "latin1", "one", "price", "shared",
    "source", "total", "x",
]  # fmt: skip
LISTED = [found.partition(":")[2] for found in programs.LISTED]
ALWAYS = [found.split(":") for found in SAFE_GLOBALS] + [["builtins", "getattr"]]
OLD = [b"c__builtin__\nobject\n", b"ccopy_reg\n_reconstructor\n", b"c__builtin__\ndict\n"]
UNLISTED = [name("os", "system"), name("builtins", "eval"), b"cbuiltins\nexec\n", b"\x82\x01"]
DATA = [b"N", b"\x88", b"\x89", b"K\x00", b"K\x01", b"K\x02", b"G?\xf0" + bytes(6), b"C\x01x",
        b")", b"]", b"}", b"\x8f", b"\x96\x01" + bytes(7) + b"x"]  # fmt: skip

words = st.sampled_from([text(word) for word in WORDS])
names = st.one_of(
    st.sampled_from([own(found) for found in LISTED]),
    st.sampled_from([own(found) for found in LISTED]),
    st.sampled_from([name(*found) for found in ALWAYS]),
    st.sampled_from([f"c{module}\n{found}\n".encode() for module, found in ALWAYS]),
    st.sampled_from(OLD),
)
KEPT = [
    own("Cart"), own("Cart") + b")\x81", own("a_function") + b")R", own("shared_cart") + b")R",
    own("Role") + b"K\x01\x85R", own("Singleton") + b")R", own("fresh_cart") + b")R",
    own("Items") + b")\x81",
]  # fmt: skip
REMEMBERED = b"".join(found + b"q" + bytes([index]) + b"0" for index, found in enumerate(KEPT))
made = st.one_of(
    st.sampled_from([own(found) + b")\x81" for found in LISTED if found[0].isupper()]),
    st.sampled_from([own(found) + b")R" for found in LISTED]),
    st.sampled_from([name(*found) + b")R" for found in ALWAYS]),
)
memory = st.integers(0, len(KEPT) - 1).map(lambda index: bytes([index]))
data = st.one_of(st.sampled_from(DATA), words)


def _of(expressions: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return strategies of longer expressions, each of which leaves one object on the stack."""
    some = st.lists(expressions, max_size=3)
    rows = some.map(lambda items: row(*items))
    pairs = st.lists(st.tuples(words | data, expressions), max_size=3).map(
        lambda items: b"(" + b"".join(key + value for key, value in items) + b"u"
    )
    dicts = pairs.map(lambda items: b"}" + items)
    states = st.one_of(dicts, dicts.map(lambda slots: row(b"N", slots)), expressions)
    join = b"".join
    targets = st.one_of(made, made, names, expressions)
    return st.one_of(
        st.tuples(names | expressions, rows, st.just(b"R")).map(join),
        st.tuples(names | expressions, rows, st.just(b"R")).map(join),
        st.tuples(names, rows, st.just(b"\x81")).map(join),
        st.tuples(names, rows, dicts, st.just(b"\x92")).map(join),
        st.tuples(st.just(b"("), names, some.map(join), st.just(b"o")).map(join),
        st.tuples(
            st.just(b"("), some.map(join),
            st.sampled_from([f"i{programs.__name__}\n{found}\n".encode() for found in LISTED]),
        ).map(join),
        st.tuples(targets, states, st.just(b"b")).map(join),
        st.tuples(targets, states, st.just(b"b")).map(join),
        st.tuples(targets, words, expressions, st.just(b"s")).map(join),
        st.tuples(targets, pairs).map(join),
        st.tuples(targets, expressions, st.just(b"a")).map(join),
        st.tuples(targets, st.just(b"("), some.map(join), st.just(b"e")).map(join),
        st.tuples(targets, st.just(b"("), some.map(join), st.just(b"\x90")).map(join),
        st.tuples(targets, st.just(b"q"), memory).map(join),
        st.tuples(targets, st.just(b"q"), memory, st.just(b"0h"), memory).map(join),
        st.tuples(targets, st.just(b"2"), states, st.just(b"b0")).map(join),
        st.tuples(expressions, st.just(b"0"), expressions).map(join),
        st.tuples(
            st.just(name("copyreg", "_reconstructor") + b"("), names, names, expressions,
            st.just(b"tR"),
        ).map(join),
        st.tuples(
            st.just(name("builtins", "getattr") + b"("), expressions, words, st.just(b"tR")
        ).map(join),
        rows,
        dicts,
    )  # fmt: skip


expressions = st.recursive(
    data | names | made | memory.map(lambda index: b"h" + index), _of, max_leaves=9
)
ends = st.sampled_from([b".", b".", b".", b".", b"", b"..", *(found + b"." for found in UNLISTED)])
damages = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(b"0(.)}]abehoRstu\x81\x85\x93\x94"))
)


@st.composite
def payloads(draw: st.DrawFn) -> bytes:
    """Draw some statements, of which all but the last one's result are thrown away."""
    parts = draw(st.lists(expressions, min_size=1, max_size=4))
    start = draw(st.sampled_from([b"\x80\x02", b"\x80\x04", b"\x80\x05", b""]))
    body = start + REMEMBERED + b"0".join(parts) + draw(ends)
    if draw(st.integers(0, 9)) == 0:
        damaged = bytearray(body)
        for place, code in draw(damages):
            damaged[place % len(damaged)] = code
        return bytes(damaged)
    return body


FORBIDDEN = (
    "compile", "exec", "code.__new__", "function.__new__", "object.__setattr__", "os.exec",
    "os.fork", "os.posix_spawn", "os.spawn", "os.system", "subprocess.Popen", "pickle.find_class",
    "marshal.loads", "ctypes",
)  # fmt: skip
heard: list[str] = []
_armed = False


def _hear(event: str, _args: tuple[Any, ...]) -> None:
    if _armed and event.startswith(FORBIDDEN):
        heard.append(event)


def test_no_program_calls_or_changes_what_it_may_not() -> None:
    """Neither before nor after a refusal; what is refused as a whole has run nothing at all."""
    with suppress(Exception):
        zoneinfo.ZoneInfo("total")  # what is imported to look for it has been imported then
    sys.addaudithook(_hear)
    before = programs.snapshot([*SHARED, *map(sys.modules.get, ("copyreg", "zoneinfo", "types"))])
    outcomes: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(payloads())
    def run(payload: bytes) -> None:
        programs.called.clear()
        programs.ran.clear()
        heard.clear()
        outcome, refused = _load(ALLOWED, payload)
        outcomes[outcome] += 1
        assert programs.called == []
        assert heard == []
        assert not (refused and programs.ran), "it ran before it was refused"
        assert programs.changed(before) == []

    run()
    print(dict(outcomes))  # for `make programs`
    assert outcomes["loaded"] > EXAMPLES / 20
    assert outcomes["RefusedOperationError"] > EXAMPLES / 20


def _load(allowed: AllowList, payload: bytes) -> tuple[str, bool]:
    """Load a payload; return what came of it, and whether it was refused before it ran."""
    global _armed  # the hook cannot be removed
    refused = True
    try:
        _armed = True
        verified = allowed._verifier.verify(payload)
        refused = False
        allowed.loads(payload)
    except (RefusedOperationError, UnlistedNameError) as error:
        return type(error).__name__, refused
    except Exception as error:  # damaged, or code of a listed class
        return ("damaged" if refused else type(error).__name__), refused
    finally:
        _armed = False
    return ("loaded" if verified.named else "plain"), refused
