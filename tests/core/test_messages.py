"""Messages: the exact text of everything contextcache says; it is API, changed on purpose."""

# ruff: noqa: E501  # the lines of a log are as long as they are

from __future__ import annotations

import collections
import inspect
import json
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import (
    Guard,
    RequestScope,
    UncacheableValueError,
    UnreadablePayloadError,
    enter_scope,
    exit_scope,
)
from contextcache.reports import reporter
from contextcache.reports.log_format import BLOCK, LINE, TAIL, DevelopmentFormatter, record_fields
from contextcache.testing import capture_findings
from tests.child import ROOT
from tests.terminal import shown
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).relative_to(ROOT)


class Client:
    def __init__(self) -> None:
        self.id = 3
        self._lock = threading.Lock()


class Cart:
    def __init__(self) -> None:
        self.items = [Client()]


@pytest.fixture(autouse=True)
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def in_request() -> Any:
    yield from _request()


@pytest.fixture
def in_development() -> Any:
    yield from _request(collect=True)


def _request(**options: bool) -> Iterator[None]:
    view = ("shop.views.add_to_cart", "shop/views.py:41")
    scope = RequestScope("PUT", "/cart", request_id="r1", view=lambda: view, **options)
    token = enter_scope(scope)
    yield
    exit_scope(token)


def line_of(cls: type, text: str) -> int:
    lines, first = inspect.getsourcelines(cls)
    return first + next(at for at, line in enumerate(lines) if text in line)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# The development block


@pytest.mark.usefixtures("in_development")
def test_the_development_block(caplog: pytest.LogCaptureFixture) -> None:
    """Where, which field, what was done, what to do, how to silence it: always in this order."""
    guard = Guard(debug=True, sink="session in redis", session=True)
    for _ in range(10):
        guard.dumps({"cart": Cart()}, label="session")
    line = sys._getframe().f_lineno - 1
    block = textwrap.dedent(f"""\
        contextcache CC102: session['cart'].items[0]._lock (_thread.lock) cannot be stored: a lock belongs to this process
          where   PUT /cart · shop.views.add_to_cart (shop/views.py:41) · stored at {HERE}:{line} · session in redis
          field   {__name__}.Client._lock, set at {HERE}:{line_of(Client, "._lock")}: self._lock = threading.Lock()
          result  stored the rest; on load this field is a new, unlocked lock
          fix     leave it out in __getstate__ of Client; across processes it protects nothing
          silence CONTEXTCACHE["IGNORE"] += ["session['cart'].items[*]._lock"]
          docs    contextcache explain CC102""")
    assert messages(caplog) == [block, block + " · seen 10×"]


def test_the_block_says_what_it_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    """Outside a request the line that stored the value stands in, and for a field its code."""
    Guard(debug=True).dumps({"rows": (row for row in ())}, label="cache['top']")
    line = sys._getframe().f_lineno - 1
    assert messages(caplog) == [
        textwrap.dedent(f"""\
        contextcache CC109: cache['top']['rows'] (generator) cannot be stored: a generator, coroutine or iterator in progress cannot be resumed elsewhere
          where   {HERE}:{line}
          field   test_the_block_says_what_it_does_not_know.<locals>.<genexpr>, defined at {HERE}:{line}
          result  stored the rest; on load a marker stands here that says so when it is used
          fix     store its items: list(...), or the awaited result
                  value = {{'rows': list(value['rows'])}}
          silence CONTEXTCACHE["IGNORE"] += ["cache['top']['rows']"]
          docs    contextcache explain CC109""")
    ]


def test_the_block_has_no_line_without_anything_in_it(caplog: pytest.LogCaptureFixture) -> None:
    """What stands under a key is no field of a class: the path has said it."""
    Guard(debug=True).dumps({"lock": threading.Lock()}, label="cache['top']")
    line = sys._getframe().f_lineno - 1
    assert messages(caplog) == [
        textwrap.dedent(f"""\
        contextcache CC102: cache['top']['lock'] (_thread.lock) cannot be stored: a lock belongs to this process
          where   {HERE}:{line}
          result  stored the rest; on load this field is a new, unlocked lock
          fix     leave it out; across processes it protects nothing
          silence CONTEXTCACHE["IGNORE"] += ["cache['top']['lock']"]
          docs    contextcache explain CC102""")
    ]


def test_nobody_is_asked_to_change_a_class_that_is_not_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A method cannot be added to a class of Python or of a package."""
    counts: collections.UserDict[str, object] = collections.UserDict()
    counts.lock = threading.Lock()  # type: ignore[attr-defined]
    Guard().dumps(counts)
    words = " · fix: store the data of the UserDict, not the UserDict itself; across processes"
    assert words in messages(caplog)[0]


def test_a_key_left_out_of_a_session(caplog: pytest.LogCaptureFixture) -> None:
    """A session without the key is what a reader can handle, and the block says so."""
    guard = Guard(debug=True, session=True)
    assert guard.loads(guard.dumps({"rows": (row for row in ()), "n": 1}, label="session")) == {
        "n": 1
    }
    assert "\n  result  left the key out, stored the rest\n" in messages(caplog)[0]


# The production line


@pytest.mark.usefixtures("in_request")
def test_the_production_line(caplog: pytest.LogCaptureFixture) -> None:
    """One line with the same facts, for a log file."""
    Guard(sink="session in redis", session=True).dumps({"cart": Cart()}, label="session")
    line = sys._getframe().f_lineno - 1
    assert messages(caplog) == [
        (
            "contextcache CC102: session['cart'].items[0]._lock (_thread.lock) cannot be stored: "
            "a lock belongs to this process"
            " · where: PUT /cart · shop.views.add_to_cart"
            f" · stored at {HERE}:{line} · session in redis"
            " · result: stored the rest; on load this field is a new, unlocked lock"
            " · fix: leave it out in __getstate__ of Client; across processes it protects nothing"
            " · pattern: session['cart'].items[*]._lock · seen 1×"
        )
    ]


def test_what_pickle_stores_without_a_word_should_not_be_stored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The text does not claim that pickle would fail where it would succeed silently."""
    from werkzeug.test import EnvironBuilder
    from werkzeug.wrappers import Request

    builder = EnvironBuilder("/cart")
    Guard().dumps({"request": Request(builder.get_environ())}, label="session")
    builder.close()
    assert messages(caplog)[0].startswith(
        "contextcache CC106: session['request'] (werkzeug.wrappers.request.Request) "
        "should not be stored: a request belongs to one visitor and carries credentials"
    )


@pytest.mark.usefixtures("in_request")
@pytest.mark.parametrize("debug", [False, True])
def test_the_template_has_code_and_pattern_and_the_arguments_are_apart(
    caplog: pytest.LogCaptureFixture, debug: bool
) -> None:
    """Log aggregators group on the template: two codes are two groups."""
    guard = Guard(debug=debug)
    guard.dumps({"cart": Cart(), "rows": (row for row in ())}, label="session")
    told = [("CC102", "session['cart'].items[*]._lock"), ("CC109", "session['rows']")]
    silence = 'CONTEXTCACHE["IGNORE"] += ["{}"]'
    assert [record.msg for record in caplog.records] == [
        BLOCK.format(code=code, silence=silence.format(pattern))
        if debug
        else (LINE + TAIL).format(code=code, pattern=pattern)
        for code, pattern in told
    ]
    for record in caplog.records:
        assert record.args
        assert (record.name, record.levelno) == ("contextcache", logging.WARNING)


@pytest.mark.usefixtures("in_request")
def test_the_record_carries_the_documented_fields_and_no_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A JSON formatter finds the finding under prefixed names."""
    with capture_findings() as findings:
        Guard(sink="session in redis").dumps({"cart": Cart()}, label="session")
    line = sys._getframe().f_lineno - 1
    [record] = caplog.records
    own = {name: value for name, value in vars(record).items() if name.startswith("contextcache")}
    assert own == {
        "contextcache_code": "CC102",
        "contextcache_path": "session['cart'].items[0]._lock",
        "contextcache_pattern": "session['cart'].items[*]._lock",
        "contextcache_leaf_type": "_thread.lock",
        "contextcache_owner_type": f"{__name__}.Client",
        "contextcache_action": "recreated",
        "contextcache_sink": "session in redis",
        "contextcache_origin": (f"PUT /cart · shop.views.add_to_cart · stored at {HERE}:{line}"),
        "contextcache_count": 1,
        "contextcache_leaves": [
            {
                "code": "CC102",
                "path": "session['cart'].items[0]._lock",
                "pattern": "session['cart'].items[*]._lock",
                "leaf_type": "_thread.lock",
                "action": "recreated",
            }
        ],
    }
    assert own == record_fields(findings)
    plain = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    assert vars(record).keys() - plain == own.keys()


# Errors


def test_a_value_that_is_not_stored_names_every_field() -> None:
    """The error lists all findings, each with code, path, type, reason and remedy."""
    with pytest.raises(UncacheableValueError) as caught:
        Guard(mode="raise").dumps({"cart": Cart(), "rows": (r for r in ())}, label="cache['top']")
    line = sys._getframe().f_lineno - 1
    assert (
        str(caught.value)
        == textwrap.dedent("""\
        cache['top'] was not stored:
          CC102 cache['top']['cart'].items[0]._lock (_thread.lock): a lock belongs to this process; leave it out in __getstate__ of Client; across processes it protects nothing
            where   {0}:{1}
            field   {2}.Client._lock, set at {0}:{3}: self._lock = threading.Lock()
          CC109 cache['top']['rows'] (generator): a generator, coroutine or iterator in progress cannot be resumed elsewhere; store its items: list(...), or the awaited result
            where   {0}:{1}
            field   test_a_value_that_is_not_stored_names_every_field.<locals>.<genexpr>, defined at {0}:{1}""").format(
            HERE, line, __name__, line_of(Client, "._lock")
        )
    )
    assert [one.code for one in caught.value.findings] == ["CC102", "CC109"]
    assert isinstance(caught.value, (pickle.PicklingError, TypeError))
    assert caught.value.__context__ is None
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.findings) == (str(caught.value), caught.value.findings)


def test_a_value_that_can_only_be_stripped_is_not_stored() -> None:
    """There is nothing left of a generator; a cache write of one is refused."""
    guard = Guard()
    for _ in range(2):
        with pytest.raises(UncacheableValueError) as caught:
            guard.dumps((row for row in ()), label="cache['rows']")
        assert str(caught.value) == (
            "cache['rows'] was not stored:\n"
            "  CC109 cache['rows'] (generator): a generator, coroutine or iterator in progress "
            "cannot be resumed elsewhere; store its items: list(...), or the awaited result"
        )


def test_a_value_that_is_too_large_names_its_largest_field() -> None:
    """Not the limit of Redis in its words, but the field to look at."""
    with pytest.raises(UncacheableValueError) as caught:
        Guard(max_size=1000).dumps({"a": 1, "b": [b"x" * 2000]}, label="cache['big']")
    assert str(caught.value) == (
        "cache['big'] was not stored:\n"
        "  CC131 cache['big']['b'][0] (bytes): the value is too large; "
        "store less of it; the limit is 1000 bytes (MAX_SIZE)"
    )


class Gone:
    pass


class Moved:
    def __init__(self) -> None:
        self.size = 1

    def __setstate__(self, state: object) -> None:
        raise ValueError("secret")


GONE, MOVED = pickle.dumps(Gone()), pickle.dumps(Moved())
DAMAGED = (
    "its bytes are no pickle, or a damaged one",
    "delete the entry; if it comes back, look for who else writes this key",
)
RESTORE = "restore it under its old name, or delete the entry"


@pytest.mark.parametrize(
    ("payload", "reason", "remedy"),
    [
        (b"cno_such_shop.models\nCart\n.", "its module no_such_shop is gone", RESTORE),
        (GONE, f"its class or attribute Gone is gone from {__name__}", RESTORE),
        (b"cjson\ndecoder.Gone\n.", "rebuilding it raised AttributeError", None),
        (
            MOVED,
            "rebuilding it raised ValueError",
            "mend __setstate__ or __reduce__ of its class, or delete the entry",
        ),
        (pickle.dumps([1, 2, 3])[:-4], *DAMAGED),
        (b"", *DAMAGED),
        (b"plain text", *DAMAGED),
        (b"\x80\x63", *DAMAGED),
    ],
    ids=["module", "class", "attribute", "setstate", "truncated", "empty", "text", "protocol"],
)
def test_a_payload_that_cannot_be_read_says_why(
    monkeypatch: pytest.MonkeyPatch, payload: bytes, reason: str, remedy: str | None
) -> None:
    """The key, the cause and the remedy; never the bytes, never the text of another's error."""
    if payload is GONE:
        monkeypatch.delattr(sys.modules[__name__], "Gone")
    with pytest.raises(UnreadablePayloadError) as caught:
        Guard().loads(payload, label="cache['user:42']")
    assert caught.value.label == "cache['user:42']"
    if remedy is not None:
        assert caught.value.reason == reason
        assert str(caught.value) == f"cache['user:42'] cannot be read: {reason}; {remedy}"
    assert isinstance(caught.value, pickle.UnpicklingError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.internal_error
def test_an_internal_failure_names_its_place(caplog: pytest.LogCaptureFixture) -> None:
    """Type and line of the failure, not its text, and what was stored nevertheless."""
    try:
        raise KeyError("secret")
    except KeyError as error:
        reporter.report_internal("the rule for shop.Client", error)
    line = sys._getframe().f_lineno - 3
    assert messages(caplog) == [
        (
            f"contextcache: the rule for shop.Client failed with KeyError at {ROOT / HERE}:{line}; "
            "what would have been stored without it was stored"
        )
    ]


# Colour

WRITE = """
import threading
from contextcache import Guard
class Client:
    def __init__(self):
        self.lock = threading.Lock()
Guard(debug=True).dumps({"client": Client()})
"""
HEAD = (
    "contextcache CC102: value['client'].lock (_thread.lock) cannot be stored: "
    "a lock belongs to this process"
)


def test_a_terminal_gets_colour() -> None:
    """On a real terminal the head, what was done and what to do stand out."""
    status, text = shown("-c", WRITE, stream="stderr")
    assert status == 0
    lines = text.split("\n")
    assert lines[0] == f"\x1b[33;1m{HEAD}\x1b[0m"
    result, fix = (next(one for one in lines if f"  {word}" in one) for word in ("result", "fix"))
    assert result == (
        "\x1b[36m  result  stored the rest; on load this field is a new, unlocked lock\x1b[0m"
    )
    assert fix.startswith("\x1b[32m  fix     leave it out")


def test_a_file_or_pipe_gets_no_colour() -> None:
    """What is not a terminal gets text and nothing else."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    done = subprocess.run(
        [sys.executable, "-c", WRITE],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "\x1b" not in done.stderr
    assert done.stderr.split("\n")[0] == HEAD


def test_the_formatter_colours_only_what_it_knows() -> None:
    """Lines of other records pass through as they are."""
    record = logging.makeLogRecord({"msg": "contextcache CC1\n  where   x\n  fix     y"})
    assert DevelopmentFormatter(colour=False).format(record) == record.msg
    assert DevelopmentFormatter(colour=True).format(record) == (
        "\x1b[33;1mcontextcache CC1\x1b[0m\n  where   x\n\x1b[32m  fix     y\x1b[0m"
    )


def test_an_application_that_logs_gets_no_second_handler() -> None:
    """Findings are shown once: by the application's own handler where it has one."""
    code = "import logging; logging.basicConfig(format='own: %(message)s')\n" + WRITE
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr.count("contextcache CC102") == 1
    assert done.stderr.startswith(f"own: {HEAD}")


# Several fields of one object


class Wire:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()
        self._rows = (row for row in ())


@pytest.mark.usefixtures("in_request")
def test_several_fields_of_one_object_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The object is the thing to mend; its fields are listed with their types."""
    Guard(sink="session in redis").dumps({"wire": Wire()}, label="session")
    line = sys._getframe().f_lineno - 1
    assert messages(caplog) == [
        (
            "contextcache CC102: session['wire']._lock (_thread.lock) cannot be stored: "
            "a lock belongs to this process"
            " · also: ._local (_thread._local) CC101, ._rows (generator) CC109"
            " · where: PUT /cart · shop.views.add_to_cart"
            f" · stored at {HERE}:{line} · session in redis"
            " · result: ._lock: stored the rest; on load this field is a new, unlocked lock; "
            "._local: stored the rest; on load this field is a new, empty thread-local; "
            "._rows: stored the rest; on load a marker stands here that says so when it is used"
            " · fix: leave it out in __getstate__ of Wire; across processes it protects nothing; "
            "leave it out in __getstate__ of Wire, or store the value you need from it; "
            "store its items: list(...), or the awaited result"
            " · pattern: session['wire']._lock · seen 1×"
        )
    ]
    record: Any = caplog.records[0]
    assert record.contextcache_code == "CC102"
    assert record.contextcache_path == "session['wire']._lock"
    assert [leaf["path"] for leaf in record.contextcache_leaves] == [
        "session['wire']._lock",
        "session['wire']._local",
        "session['wire']._rows",
    ]
    assert [leaf["code"] for leaf in record.contextcache_leaves] == ["CC102", "CC101", "CC109"]


@pytest.mark.usefixtures("in_development")
def test_the_block_of_several_fields(caplog: pytest.LogCaptureFixture) -> None:
    """What differs from field to field stands on a line of its own, the rest once."""
    Guard(debug=True, sink="session in redis").dumps({"wire": Wire()}, label="session")
    line = sys._getframe().f_lineno - 1
    block = textwrap.dedent(f"""\
        contextcache CC102: session['wire']._lock (_thread.lock) cannot be stored: a lock belongs to this process
          also    ._local (_thread._local) CC101: a thread-local belongs to the threads of this process
          also    ._rows (generator) CC109: a generator, coroutine or iterator in progress cannot be resumed elsewhere
          where   PUT /cart · shop.views.add_to_cart (shop/views.py:41) · stored at {HERE}:{line} · session in redis
          field   {__name__}.Wire._lock, set at {HERE}:{line_of(Wire, "._lock")}: self._lock = threading.Lock()
                  {__name__}.Wire._local, set at {HERE}:{line_of(Wire, "._local")}: self._local = threading.local()
                  {__name__}.Wire._rows, set at {HERE}:{line_of(Wire, "._rows")}: self._rows = (row for row in ())
          result  ._lock: stored the rest; on load this field is a new, unlocked lock
                  ._local: stored the rest; on load this field is a new, empty thread-local
                  ._rows: stored the rest; on load a marker stands here that says so when it is used
          fix     leave it out in __getstate__ of Wire; across processes it protects nothing
                  leave it out in __getstate__ of Wire, or store the value you need from it
                  store its items: list(...), or the awaited result
          silence CONTEXTCACHE["IGNORE"] += ["session['wire']._lock", "session['wire']._local", "session['wire']._rows"]
          docs    contextcache explain CC102, CC101, CC109""")
    assert messages(caplog) == [block]


def test_a_record_fits_a_json_formatter(caplog: pytest.LogCaptureFixture) -> None:
    """Everything in `extra` is plain data."""
    Guard().dumps({"wire": Wire(), "cart": Cart()})
    for record in caplog.records:
        own = {name: held for name, held in vars(record).items() if "contextcache_" in name}
        assert json.loads(json.dumps(own)) == own
