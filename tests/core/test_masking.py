"""What a visitor may have chosen is masked where it is logged, and the pattern still works."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
import threading
import time
import timeit
import tracemalloc
import types
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Config, Guard, UncacheableValueError, UnreadablePayloadError
from contextcache.base.masking import _masked_type, generalised, masked, one_line, type_text
from contextcache.findings.path import MAX_PATH_LENGTH, MAX_PATTERN_LENGTH, Path, attribute, item
from contextcache.jsonable import JSONGuard
from contextcache.testing import capture_findings

if TYPE_CHECKING:
    from collections.abc import Callable

CONTROL = (
    "\n",
    "\r",
    "\x1b",
    "\x00",
    "\x85",
    "\x9b",
    "\u200e",
    "\u202e",
    "\u2028",
    "\u2066",
    "\ud800",
)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("cart", "cart"),
        ("_lock", "_lock"),
        ("user:42:profile", "user:42:profile"),
        ("shop.views-cart/list", "shop.views-cart/list"),
        ("größe", "größe"),
        ("", ""),
        ("hunter2", "*"),
        ("s3:k2", "s3:k2"),
        ("a1b-c2d", "*"),
        ("sk_live_4eC39HqLyjWDarjtT1zdp7dcABCD", "sk_live_*"),
        ("alice.smith@example.com", "*"),
        ("user:alice.smith@example.com:cart", "user:*:cart"),
        ("'; DROP TABLE users --", "*--"),
        ("4111 1111 1111 1111", "*"),
        ("4111111111111111", "*"),
        ("x" * 25, "*"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJ1IjoxfQ", "*"),
        ("reset/MQ/c8k2qz-7f3d9a1b2c4e5f60718293a4b5c6d7e8/", "reset/MQ/*/"),
        ("550e8400-e29b-41d4-a716-446655440000", "*"),
        ("a\nb", "*"),
        ("a\u202eb", "*"),
        ("50%", "*"),
    ],
)
def test_a_part_is_printed_if_it_is_a_word_or_a_short_integer(text: str, printed: str) -> None:
    """Programmers name things by words; visitors and secrets do not."""
    assert masked(text) == printed


class Line2D:
    """A class that stands in source code, with a digit in its name."""

    async def step12(self) -> None:
        """Do nothing, under a name with digits."""


def made(name: str, module: str = __name__) -> type:
    cls = type(name, (), {"__module__": module})
    if module in sys.modules:
        setattr(sys.modules[module], name, cls)
    return cls


def test_the_name_of_a_class_is_printed_if_somebody_has_written_it_down() -> None:
    """A class can be made at run time from a form, a table or a message."""
    made("Row_4711x")
    assert type_text(f"{__name__}.Line2D") == f"{__name__}.Line2D"
    assert type_text(f"{__name__}.Line2D.step12") == f"{__name__}.Line2D.step12"
    assert type_text(f"{__name__}.Line2D.step13") == f"{__name__}.*.*"
    assert sqlite3.Connection
    assert type_text("sqlite3.Connection") == "sqlite3.Connection"
    assert type_text("f.<locals>.Row") == "f.<locals>.Row"
    assert type_text(f"{__name__}.Row_4711x") == f"{__name__}.Row_*"
    assert type_text("shop.made.Ann Lee") == "shop.made.*"
    assert type_text("Row\nERROR", exact=True) == r"Row\nERROR"
    assert len(type_text("x" * 5000, exact=True)) <= 120


@pytest.mark.parametrize("part", ["k", "k9", "a.", "*-", "A1a", "a@", ":a"])
def test_the_time_to_mask_a_name_is_linear_in_its_length(part: str) -> None:
    """A visitor may choose names of any length."""

    def seconds(length: int) -> float:
        text = part * length
        return min(timeit.repeat(lambda: masking(text), timer=time.thread_time, number=1, repeat=3))

    def masking(text: str) -> None:
        masked.__wrapped__(text)
        _masked_type.__wrapped__(text)

    assert seconds(64_000) < 32 * seconds(8_000)  # 8 times as long; the square would be 64


key_texts = st.one_of(
    st.text(max_size=45),
    st.from_regex(r"[a-z]{1,8}[:._/-][a-z0-9@' %*\"\\]{1,12}", fullmatch=True),
    st.sampled_from([f"it's{character}" for character in CONTROL]),
)
keys = st.one_of(key_texts, st.integers(), st.none(), st.tuples(key_texts, st.integers()))


@given(
    label=key_texts,
    steps=st.lists(
        st.one_of(keys.map(lambda key: item(key, 0)), key_texts.map(attribute)), max_size=5
    ),
)
def test_a_printed_pattern_silences_what_it_is_printed_for(label: str, steps: list[Any]) -> None:
    """Whatever is masked in it, and in development, where nothing is."""
    for root in (f"cache[{label!r}]", "session"):
        path = Path(root, tuple(steps))
        for exact in (False, True):
            for any_key in (False, True):
                pattern = path.printed_pattern(exact=exact, any_key=any_key)
                assert path.matches(pattern), pattern
                assert len(pattern) <= MAX_PATTERN_LENGTH


@given(
    label=key_texts,
    steps=st.lists(
        st.one_of(keys.map(lambda key: item(key, 0)), key_texts.map(attribute)), max_size=60
    ),
)
def test_a_printed_path_is_short_printable_and_has_no_part_that_is_no_word(
    label: str, steps: list[Any]
) -> None:
    """The exact path is printable, too, but shows everything."""
    path = Path(f"cache[{label!r}]", tuple(steps))
    assert path.printed(exact=True).isprintable()
    printed = path.printed()
    assert printed.isprintable()
    assert max(len(printed), len(path.printed(exact=True))) <= MAX_PATH_LENGTH + 1
    for text in re.findall(r"'([^']*)'", printed):
        assert masked(text) == text


def texts(found: Any) -> list[str]:
    if isinstance(found, (list, tuple)):
        return [text for one in found for text in texts(one)]
    if isinstance(found, dict):
        return [text for one in found.items() for text in texts(one)]
    return [found] if isinstance(found, str) else []


def said(caplog: pytest.LogCaptureFixture) -> str:
    """Return all that the records hold: message, template, arguments and extra."""
    own = [
        [record.getMessage(), record.msg, record.args]
        + [value for name, value in vars(record).items() if name.startswith("contextcache_")]
        for record in caplog.records
    ]
    return "\0".join(texts(own))


SECRET = "hunter2-Zq9x"  # what a visitor typed

KINDS: dict[str, Any] = {
    "a key": lambda: ({"a": {SECRET: threading.Lock()}}, "session"),
    "a key at the top": lambda: ({SECRET: threading.Lock()}, "session"),
    "a key above": lambda: ({SECRET: [Holder()]}, "session"),
    "a tuple as a key": lambda: ({("a", SECRET): threading.Lock()}, "session"),
    "an attribute": lambda: ([types.SimpleNamespace(**{SECRET: threading.Lock()})], "session"),
    "a cache key": lambda: ([threading.Lock()], f"cache['{SECRET}']"),
    "a label": lambda: ([threading.Lock()], SECRET),
    "a class": lambda: ([made(SECRET)()], "session"),
    "a class that is not found": lambda: ([type(SECRET, (), {"__module__": "shop"})()], "session"),
    "the module of a class": lambda: ([type("A", (), {"__module__": SECRET})()], "session"),
    "a class that holds a lock": lambda: (holding(made(SECRET)()), "session"),
    "a class whose method raises": lambda: ([raising(ZeroDivisionError)], "session"),
    "an exception": lambda: ([raising(type(SECRET, (Exception,), {}))], "session"),
    "a lambda": lambda: ({SECRET: {"f": lambda: 0}}, "session"),
    "what does not load": lambda: ({SECRET: Unloadable(threading.Lock())}, "session"),
    "a generator": lambda: ({SECRET: (one for one in ())}, "session"),
    "too much of it": lambda: ({SECRET: "x" * 300_000}, "session"),
    "an environ": lambda: (
        {SECRET: {"a": {"HTTP_COOKIE": "a=b", "REQUEST_METHOD": "GET"}}},
        "session",
    ),
}


class Holder:
    def __init__(self) -> None:
        self.lock = threading.Lock()


class Unloadable(Exception):
    def __init__(self, one: object, two: object = None) -> None:
        super().__init__()
        if two is None and not hasattr(one, "acquire"):
            raise ValueError(SECRET)
        self.lock = one


def holding(obj: Any) -> Any:
    obj.lock = threading.Lock()
    return obj


def raising(error: type[Exception]) -> Any:
    def state(_self: object) -> object:
        raise error(SECRET)

    cls = made("Raising")
    cls.__getstate__ = state  # type: ignore[attr-defined]
    return cls()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_that_a_visitor_typed_is_logged_or_raised(
    caplog: pytest.LogCaptureFixture, kind: str, mode: Any, as_json: bool
) -> None:
    """Neither in a record nor in the text of an error, its causes and its notes."""
    value, label = KINDS[kind]()
    if as_json and isinstance(value, dict) and kind != "too much of it":
        value["more"] = {SECRET: {1}, "n": {2: SECRET}}
    config = Config(mode=mode, max_size=200_000)
    guard: Any = JSONGuard(json.dumps, config) if as_json else Guard(config, session=True)
    raised: BaseException | None = None
    try:
        guard.dumps(value, label=label)
    except UncacheableValueError as error:
        raised = error
    while raised is not None:
        assert SECRET not in str(raised)
        assert SECRET not in str(getattr(raised, "__notes__", ""))
        raised = raised.__cause__ or (None if raised.__suppress_context__ else raised.__context__)
    assert SECRET not in said(caplog)
    if not as_json:
        assert SECRET not in "".join(map(str, guard.summary()))


@pytest.mark.parametrize("character", CONTROL)
@pytest.mark.parametrize("debug", [False, True])
def test_no_character_that_is_not_printable_is_logged(
    caplog: pytest.LogCaptureFixture, character: str, debug: bool
) -> None:
    """Not even in development, where names are exact."""
    name = f"Row{character}WARNING"
    value = {
        name: threading.Lock(),
        "a": types.SimpleNamespace(**{name: threading.Lock()}),
        "d": {name: {name: (one for one in ())}},
    }
    if character not in "\x00\ud800":  # which no class has in its name
        value |= {"b": type(name, (), {"__module__": "shop"})(), "c": holding(made(name)())}
    Guard(debug=debug, sink="session").dumps(value, label=f"cache['{name}']")
    JSONGuard(json.dumps, Config(debug=debug)).dumps(value, label="session")
    assert caplog.records
    for text in said(caplog).split("\0"):
        assert all(line.isprintable() for line in text.split("\n"))
    if not debug:
        assert "\n" not in said(caplog)


@pytest.mark.parametrize("debug", [False, True])
def test_a_line_has_two_thousand_characters_at_most(
    caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    """Whatever is long: the path, a name, the number of fields, a class, the key."""
    deep: Any = {"x" * 900: threading.Lock()}
    for _ in range(140):
        deep = [deep]
    wide = types.SimpleNamespace(**{f"name{at:.0f}" * 9: threading.Lock() for at in range(300)})
    wider = holding(made("C" * 3000)())
    guard = Guard(debug=debug)
    for at, value in enumerate((deep, wide, wider, {"v": deep, "w": wide})):
        guard.dumps(value, label=f"cache['{'k' * 3000}{at}']")
    with pytest.raises(UncacheableValueError) as caught:
        Guard(debug=debug, mode="raise").dumps([deep, wide, wider], label="cache['k']")
    lines = [line for text in said(caplog).split("\0") for line in text.split("\n")]
    assert caplog.records
    assert max(map(len, [*lines, *str(caught.value).split("\n")])) <= 2000


def test_a_percent_sign_is_no_placeholder(caplog: pytest.LogCaptureFixture) -> None:
    """Code and pattern are a part of the template."""
    for debug in (False, True):
        Guard(debug=debug).dumps({"100%s": threading.Lock()}, label="cache['a%d']")
    Guard().report_unreadable(UnreadablePayloadError("cache['%s']", "100%d", "50%s"))
    assert "100%s" in caplog.records[1].getMessage()
    assert "100%d; 50%s" in caplog.records[2].getMessage()


@pytest.mark.parametrize("debug", [False, True])
def test_a_template_is_the_same_for_a_pattern_and_another_for_a_code(
    caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    """So log aggregators group by what has to be mended, whatever the keys in Redis."""
    for number in (1, 2):
        value = {"a": threading.Lock(), "b": {number: (one for one in ())}}
        Guard(debug=debug).dumps(value, label=f"cache['user:{number}']")
    templates = [record.msg for record in caplog.records]
    assert templates[:2] == templates[2:]
    assert templates[0] != templates[1]
    if not debug:
        Guard().dumps({"a": threading.Lock()}, label="cache['another']")
        assert caplog.records[-1].msg == templates[0]


def test_the_pattern_of_a_record_silences_it(caplog: pytest.LogCaptureFixture) -> None:
    """In production it stands at the end of the line, and in `extra`."""
    value = {
        "it's a": [Holder()],
        "user@x": Holder(),
        "n": types.SimpleNamespace(**{"k 1": [Holder()]}),
    }
    for key, part in value.items():  # together they are one record, of one cause
        Guard().dumps({key: part}, label="cache['ann@example.test']")
    assert len(caplog.records) == 3
    for source in ("contextcache_pattern", "message"):
        patterns = tuple(
            re.search(r"pattern: (.*) · seen", record.getMessage())[1]  # type: ignore[index]
            if source == "message"
            else getattr(record, source)
            for record in caplog.records
        )
        with capture_findings() as findings:
            Guard(ignore=patterns).dumps(value, label="cache['bob@example.test']")
        assert findings == []


def test_an_error_has_no_cause_with_notes_or_text_of_another() -> None:
    """Since Python 3.14 pickle adds the keys of dicts to its errors, as notes."""

    class Noted:
        def __reduce__(self) -> Any:
            error = TypeError("cannot pickle")
            error.add_note(f"when serializing dict item {SECRET!r}")
            raise error

    for guard in (Guard(mode="warn", redact_keys=True), JSONGuard(json.dumps, Config(mode="warn"))):
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps({"a": Noted()}, label="session")  # type: ignore[attr-defined]
        assert isinstance(caught.value.__cause__, TypeError)
        assert not hasattr(caught.value.__cause__, "__notes__")
        assert SECRET not in str(caught.value.__cause__)
    payload = Guard().dumps(Unloaded())
    with pytest.raises(UnreadablePayloadError) as unread:
        Guard().loads(payload, label=f"cache['{SECRET}']")
    assert SECRET not in f"{unread.value} {unread.value.__cause__}"
    assert unread.value.label == f"cache['{SECRET}']"
    assert unread.value.__context__ is unread.value.__cause__ or unread.value.__context__ is None


@pytest.mark.parametrize("payload", [b"c%b\nx\n.", b"cos\n%b\n.", b"c%b.y\nx\n.", b"ccopy\n%b\n."])
def test_a_name_in_a_planted_payload_is_masked(
    caplog: pytest.LogCaptureFixture, payload: bytes
) -> None:
    """Anyone who writes an unsigned cache chooses the modules and classes that it names."""
    guard = Guard()
    with pytest.raises(UnreadablePayloadError) as caught:
        guard.loads(payload % b"hunter2Zq9x", label="cache['k']")
    guard.report_unreadable(caught.value)
    assert "is gone" in str(caught.value)
    assert "hunter2" not in f"{caught.value} {caught.value.reason} {said(caplog)}"


class Unloaded:
    loads = 0

    def __setstate__(self, state: object) -> None:
        Unloaded.loads += 1
        if Unloaded.loads > 1:
            raise ValueError(SECRET)

    def __getstate__(self) -> object:
        return {"a": 1}


@pytest.mark.parametrize("mask", [masked, type_text, generalised])
def test_long_texts_of_visitors_are_not_kept(mask: Callable[[str], str]) -> None:
    """A cache of results holds the texts themselves: 1,000 long ones would be 100 MB."""
    tracemalloc.start()
    try:
        for number in range(300):
            mask(f"{number}{'x' * 50_000}")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_000_000


def test_escaping_keeps_what_can_be_printed() -> None:
    """A subclass of str runs no code of its own."""

    class Evil(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise AssertionError

    assert one_line("straße 日本") == "straße 日本"
    assert type(one_line(Evil("a\nb"))) is str
    assert one_line(Evil("a\nb")) == r"a\nb"
    assert type(one_line(Evil("ab"))) is str
