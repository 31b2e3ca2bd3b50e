"""`contextcache explain`: what a person sees, what a machine reads, and how it ends."""

from __future__ import annotations

import decimal
import importlib.metadata
import io
import json
import os
import pickle
import platform
import re
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

import contextcache
from contextcache import Guard
from contextcache.cli import main
from contextcache.commands.code_pages import page
from contextcache.findings.finding import CODES
from contextcache.reports.terminal import Paper
from tests.child import ROOT
from tests.terminal import shown
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

SHOP = """
import threading


class Client:
    def __init__(self):
        self.id = 7
        self._lock = threading.Lock()


class Cart:
    def __init__(self):
        self.rows = [{"sku": f"sku-{number}", "price": number} for number in range(1000)]
        self.client = Client()


def session():
    cart = Cart()
    return {
        "cart": cart,
        "recent": [dict(row) for row in cart.rows[:500]],
        "avatar": bytes(20_000),
        "again": cart.client,
        "clients": [Client() for _ in range(50)],
    }


def clean():
    print("the application says hello")
    return {"user_id": 42}


def priced(cart):
    return cart


def rows():
    yield "canary-7f3a9c"


async def awaited():
    return "canary-7f3a9c"


def deep():
    value = [threading.Lock()]
    for _ in range(100_000):
        value = [value]
    return {"deep": value, "text": "x" * 1000, "client": Client()}


def fails():
    raise ValueError("canary-7f3a9c")


def outside():
    from flask import current_app

    return current_app.name


def unset():
    from django.core.exceptions import ImproperlyConfigured

    raise ImproperlyConfigured("canary-7f3a9c")


def interrupted():
    raise KeyboardInterrupt


module = threading
value = {"user_id": 42}
"""


@pytest.fixture(autouse=True)
def _shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    sys.modules.pop("shop", None)


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["explain", *arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_tree_of_a_session(capsys: pytest.CaptureFixture[str]) -> None:
    """The largest first, offenders whatever their size, what is alike in one line."""
    status, out, err = explained(capsys, "shop:session", "--label", "session")
    assert (status, err) == (1, "")
    tree = """\
        session: 49.9 kB, 51 findings

                bytes    %  part
               49,861 100%  session  dict, 5
               20,763  42%  ├─ ['cart']  shop.Cart
               20,656  41%  │  ├─ .rows  list, 1,000 × dict
                   76   0%  │  └─ .client  shop.Client
                   39   0%  │     └─ ._lock  _thread.lock  ✗ CC102 recreated
               20,015  40%  ├─ ['avatar']  bytes
                7,391  15%  ├─ ['recent']  list, 500 × dict
                1,664   3%  └─ ['clients']  list, 50 × shop.Client
                   34   0%     ├─ [0]  shop.Client
                   13   0%     │  └─ ._lock  _thread.lock  ✗ CC102 recreated
                1,630   3%     └─ … 49 more, with 49 findings

        """
    assert out.startswith(textwrap.dedent(tree))


def test_sizes_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing left out for its size, each part is the sum of what is below it."""
    _, out, _ = explained(capsys, "shop:session", "--json", "--min-size", "0")

    def check(part: dict[str, Any]) -> None:
        assert part["rest"]["size"] == part["size"] - sum(one["size"] for one in part["parts"])
        assert part["rest"]["size"] >= 0
        for below in part["parts"]:
            check(below)

    tree = json.loads(out)
    assert tree["size"] == tree["tree"]["size"] == 49_861
    check(tree["tree"])


def test_json_has_these_keys(capsys: pytest.CaptureFixture[str]) -> None:
    """They are API."""
    status, out, _ = explained(capsys, "shop:session", "--json")
    told = json.loads(out)
    assert status == 1
    assert list(told) == [
        "label", "size", "stored", "loaded", "findings", "tree", "imports", "runs", "notes",
    ]  # fmt: skip
    assert list(told["tree"]) == [
        "path", "type", "size", "entries", "findings", "same_as", "parts", "rest",
    ]  # fmt: skip
    assert list(told["tree"]["rest"]) == ["entries", "size", "findings"]
    assert list(told["findings"][0]) == [
        "code", "path", "pattern", "leaf_type", "owner_type", "action", "reason", "did", "fix",
        "patch", "field", "sink", "origin", "count",
    ]  # fmt: skip
    assert len(told["findings"]) == 51
    assert told["findings"][0]["path"] == "value['cart'].client._lock"


def test_a_shared_object_is_shown_where_it_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    """Elsewhere stands a reference that says where."""
    _, out, _ = explained(capsys, "shop:session", "--min-size", "1")
    assert "['again']  shop.Client  = value['cart'].client" in out


def test_each_finding_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Field, what was done, what to do; fifty clients are one finding with a number."""
    _, out, _ = explained(capsys, "shop:session")
    block = [
        "CC102 value['clients'][0]._lock (_thread.lock), and 49 fields like it: %s",
        "  field   shop.Client._lock, set at shop.py:8: self._lock = threading.Lock()",
        "  result  stored the rest; on load this field is a new, unlocked lock",
        "  fix     leave it out in __getstate__ of Client; across processes it protects nothing",
    ]
    assert "\n".join(block) % CODES["CC102"] in out
    assert out.count("CC102 value") == 2


def test_a_clean_value(capsys: pytest.CaptureFixture[str]) -> None:
    """Status 0; what the application prints goes to stderr, so that JSON stays JSON."""
    status, out, err = explained(capsys, "shop:clean")
    assert (status, err) == (0, "the application says hello\n")
    assert out.splitlines() == [
        "value: 27 B, nothing found",
        "",
        "        bytes    %  part",
        "           27 100%  value  dict, 1",
        "           12  44%  └─ ['user_id']  int",
    ]
    status, out, _ = explained(capsys, "shop:value", "--json")
    assert (status, json.loads(out)["findings"]) == (0, [])


@pytest.mark.parametrize(
    ("target", "code"),
    [("shop:rows", "CC109"), ("shop:awaited", "CC109"), ("shop:module", "CC111")],
)
def test_what_pickle_cannot_touch(
    capsys: pytest.CaptureFixture[str], target: str, code: str
) -> None:
    """A generator, a coroutine, a module: one line in the tree, and nothing is run."""
    status, out, err = explained(capsys, target)
    assert (status, err) == (1, "")
    assert out.startswith("value: not stored, 1 finding\n")
    assert f"✗ {code} refused" in out
    assert "canary" not in out


def test_what_nests_too_deep_is_measured_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """One field that refuses does not hide the sizes and findings of the others."""
    status, out, _ = explained(capsys, "shop:deep")
    assert status == 1
    assert out.startswith("value: cannot be stored; its parts take 1.1 kB, 2 findings\n")
    assert "├─ ['text']  str" in out
    assert "._lock  _thread.lock  ✗ CC102 recreated" in out
    assert "✗ CC130 refused" in out


def test_a_pickle_file_is_not_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Its opcodes are read: shape, sizes, and the names that loading it would import."""
    (tmp_path / "value.pickle").write_bytes(pickle.dumps(decimal.Decimal(1)))
    status, out, _ = explained(capsys, "value.pickle")
    assert status == 0
    assert "nothing found, read without loading it" in out
    assert out.endswith("\nLoading it would import:\n  decimal.Decimal\n")


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b"cposix\nsystem\n(Vtouch here\ntR.", "posix.system"),
        (b"\x80\x05cbuiltins\nstr\n\x8c\x02os\x85R\x8c\x06system\x93.", "a name that it computes"),
    ],
)
def test_a_pickle_that_may_run_code_is_no_clean_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, payload: bytes, named: str
) -> None:
    """Whoever asks in CI whether a file is fine is told that it is not."""
    (tmp_path / "evil.pickle").write_bytes(payload)
    status, out, _ = explained(capsys, "evil.pickle")
    assert status == 1
    assert out.startswith(f"payload: {len(payload)} B, may run code, read without loading it\n")
    assert out.endswith(f"\nLoading it may run code, by what no data needs:\n  {named}\n")
    assert not (tmp_path / "here").exists()
    _, out, _ = explained(capsys, "evil.pickle", "--json")
    assert json.loads(out)["runs"] == [named.replace(".", ":")]


def test_a_pickle_that_is_trusted_is_loaded(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Then everything is found, not only what the names tell."""
    (tmp_path / "value.pickle").write_bytes(pickle.dumps({"a": [1, "x" * 100]}))
    for options in ([], ["--trusted"]):
        status, out, _ = explained(capsys, "value.pickle", *options)
        assert status == 0
        assert "['a']  list, 2" in out


def test_a_pickle_that_is_trusted_finds_the_modules_beside_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """As `module:name` does: a console script has another directory in its path."""
    (tmp_path / "cart.pickle").write_bytes(b"\x80\x05cshop\nClient\n)R.")
    sys.path[:] = [one for one in sys.path if one not in ("", str(tmp_path))]
    status, out, _ = explained(capsys, "cart.pickle", "--trusted")
    assert status == 1
    assert "._lock  _thread.lock  ✗ CC102 recreated" in out


@pytest.mark.parametrize("compress", ["", "zlib"])
def test_a_sealed_payload_is_opened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, compress: str
) -> None:
    """What `redis-cli` prints of our own entries can be read without the secret."""
    guard = Guard(secret_keys=("s",), sign=True, compress=compress)
    payload = guard.dumps({"rows": ["x" * 10_000], "cb": print}, key="k")
    assert payload[:1] == b"\xcc"
    (tmp_path / "sealed").write_bytes(payload)
    for options in ([], ["--trusted"]):
        status, out, _ = explained(capsys, "sealed", *options)
        assert status == 0
        assert "10,058 100%  " in out
        assert "['rows']  list, 1" in out
    (tmp_path / "sealed").write_bytes(payload[:20])
    status, _, err = explained(capsys, "sealed")
    assert status == 2
    assert "it ends before its signature does" in err


def test_a_hostile_name_moves_no_cursor(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Whoever writes a payload chooses its names, and a terminal obeys what it is sent."""
    name = "Ca\x1b[2J"
    payload = b"\x80\x04\x8c\x04shop\x8c" + bytes([len(name)]) + name.encode() + b"\x93)R."
    (tmp_path / "hostile.pickle").write_bytes(payload)
    _, out, _ = explained(capsys, "hostile.pickle")
    assert "\x1b" not in out
    assert "100%  payload  shop.Ca\\x1b[2J" in out
    assert out.endswith("would import:\n  shop.Ca\\x1b[2J\n")


def test_a_raw_number_is_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Counters are stored as Redis wants them."""
    (tmp_path / "counter").write_bytes(b"-42")
    status, out, _ = explained(capsys, "counter")
    assert status == 0
    assert out.endswith("\n            3 100%  payload  int\n")


def test_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`redis-cli --raw get key | contextcache explain -`."""
    given = io.TextIOWrapper(io.BytesIO(pickle.dumps({"a": 1})))
    monkeypatch.setattr(sys, "stdin", given)
    status, out, _ = explained(capsys, "-", "--label", "session")
    assert (status, out.partition(":")[0]) == (0, "session")


@pytest.mark.parametrize("code", ["CC102", "cc121"])
def test_the_page_of_a_code(capsys: pytest.CaptureFixture[str], code: str) -> None:
    """Each code of a log line can be looked up where the line was read."""
    status, out, _ = explained(capsys, code)
    assert status == 0
    assert out == page(code)


@pytest.mark.parametrize("codes", ["CC102, CC101", "CC101 CC102", "cc102,CC101", "CC102 , CC101"])
def test_the_pages_of_several_codes(capsys: pytest.CaptureFixture[str], codes: str) -> None:
    """As the line `docs` of a message prints them, so that it can be pasted into a shell."""
    status, out, err = explained(capsys, *codes.split())
    assert (status, err) == (0, "")
    assert page("CC101") in out
    assert page("CC102") in out


def test_an_unknown_code_among_several_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The pages of the others are shown all the same; the status is 2."""
    status, out, err = explained(capsys, "CC102,", "CC999")
    assert (status, out) == (2, page("CC102"))
    assert err.startswith("contextcache: there is no code 'CC999'; ")


def test_two_values_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Only codes come in numbers; nothing is imported."""
    status, out, err = explained(capsys, "shop:value", "CC102")
    assert (status, out) == (2, "")
    assert err == "contextcache: name one target, or codes such as CC102\n"
    assert "shop" not in sys.modules


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("CC999", "there is no code 'CC999'; codes run from CC100 to "),
        ("nowhere.pickle", "there is no file nowhere.pickle; a value is named as module:name\n"),
        ("a\x1b[31m\n", "there is no file a\\x1b[31m\\n; a value is named as module:name\n"),
        ("nowhere:value", "nowhere:value cannot be imported: there is no module nowhere\n"),
        ("shop:nothing", "shop:nothing cannot be imported: there is no nothing in it\n"),
        (
            "shop:valeu",
            "shop:valeu cannot be imported: there is no valeu in it; did you mean value?\n",
        ),
        ("shop.value", "there is no file shop.value; did you mean shop:value?\n"),
        (
            "shop",
            "there is no file shop; to look at a value in that module, name it as shop:name\n",
        ),
        ("shop:priced", "shop:priced takes arguments; name a function that takes none\n"),
        (
            "shop:outside",
            (
                "shop:outside() failed: RuntimeError at shop.py:59; "
                "try flask contextcache explain shop:outside\n"
            ),
        ),
        (
            "shop:unset",
            (
                "shop:unset() failed: ImproperlyConfigured at shop.py:65; "
                "try manage.py contextcache explain shop:unset\n"
            ),
        ),
        (
            "shop:Cart",
            "shop:Cart is a class; name an object of it, or a function that returns one\n",
        ),
        ("shop.py", "shop.py cannot be read: it is no pickle, or one that is damaged from byte "),
        ("empty.pickle", "empty.pickle is empty\n"),
        (".", ". cannot be read: Is a directory\n"),
    ],
)
def test_what_cannot_be_looked_at(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, target: str, message: str
) -> None:
    """Status 2 and one line that says why."""
    (tmp_path / "empty.pickle").write_bytes(b"\n")
    status, out, err = explained(capsys, target)
    assert (status, out) == (2, "")
    assert err.startswith(f"contextcache: {message}")
    assert err.count("\n") == 1
    assert "canary" not in err


def test_an_error_of_the_application_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """With its text, as the developer needs it; the text may name keys, the traceback is long."""
    expected = "contextcache: shop:fails() failed: ValueError at shop.py:53"
    status, out, err = explained(capsys, "shop:fails")
    assert (status, out, err) == (2, "", f"{expected}: canary-7f3a9c\n")
    assert explained(capsys, "shop:fails", "--redact-keys")[2] == f"{expected}\n"
    status, _, err = explained(capsys, "shop:fails", "--traceback")
    assert status == 2
    assert err.startswith("Traceback (most recent call last):\n")
    assert 'shop.py", line 53, in fails' in err
    assert err.endswith(f"{expected}: canary-7f3a9c\n")


def test_an_interrupt_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    """Of long work, a person may have seen enough."""
    assert explained(capsys, "shop:interrupted") == (130, "", "contextcache: interrupted\n")


def test_no_value_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Neither of strings, nor of keys too long to be names, nor of numbers."""
    secret = {"password": "canary-7f3a9c", "pin": 73113, "canary-7f3a9c" * 5: ["canary-7f3a9c"]}
    (tmp_path / "secret.pickle").write_bytes(pickle.dumps([secret, secret.copy()]))
    for options in ([], ["--trusted"], ["--json"], ["--json", "--min-size", "0"]):
        _, out, _ = explained(capsys, "secret.pickle", *options)
        assert "canary" not in out
        assert "73113" not in out


def test_no_key_is_printed_where_keys_are_redacted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Neither in the tree nor in the findings, the lists below it, or JSON."""
    rows = ["x" * 100]
    secret = {"canary-7f3a9c": {"canary-7f3a9c": rows, 73113: list(rows), "b": rows}}
    guard = Guard()
    payload = guard.dumps({**secret, "canary-rows": (row for row in ())}, label="cache['k']")
    (tmp_path / "secret.pickle").write_bytes(payload)
    for options in ([], ["--trusted"], ["--json"], ["--json", "--min-size", "0"]):
        for label in ("session", "cache['canary-7f3a9c']"):
            told = explained(
                capsys, "secret.pickle", "--redact-keys", "--label", label, "--min-size=1", *options
            )
            assert "canary" not in str(told)
            assert "73113" not in str(told)
            assert "[*][*]" in told[1]


EXPLAIN = ("-m", "contextcache", "explain", "shop:session")


def test_colours_are_for_terminals() -> None:
    """A terminal gets them, unless NO_COLOR is set; a pipe never does."""
    assert "\x1b[33;1m✗ CC102 recreated\x1b[0m" in shown(*EXPLAIN, NO_COLOR="")[1]
    assert "\x1b" not in shown(*EXPLAIN, NO_COLOR="1")[1]


def test_a_stream_that_knows_no_lines_gets_plain_letters() -> None:
    """An old console shows the tree in ASCII."""
    _, told = shown(*EXPLAIN, NO_COLOR="1", PYTHONIOENCODING="ascii")
    assert "|- ['cart']  shop.Cart" in told
    assert "x CC102 recreated" in told


def test_nothing_that_is_shown_rules_the_terminal() -> None:
    """A class made at run time may have any name; colours of our own stay."""
    out = io.StringIO()
    paper = Paper(out)
    paper.write("a\x1b[31mred\x1b[0m \x1b[2J \u202e b\nc")
    assert out.getvalue() == "a\x1b[31mred\x1b[0m \\x1b[2J \\u202e b\nc\n"


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in the folder of the shop."""
    return subprocess.run(
        [sys.executable, "-m", "contextcache", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_bare_command_shows_its_help() -> None:
    """And fails, as a script that forgot the rest should."""
    done = command()
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("usage: contextcache ")
    assert "audit" in done.stdout
    assert "130 if it was interrupted" in " ".join(done.stdout.split())


def test_the_version_is_that_of_the_distribution() -> None:
    """One source for both."""
    expected = f"contextcache {contextcache.__version__} (Python {platform.python_version()})\n"
    assert (command("--version").returncode, command("--version").stdout) == (0, expected)
    assert re.fullmatch(r"\d+\.\d+\.\d+", contextcache.__version__)
    assert importlib.metadata.version("contextcache-web") == contextcache.__version__


@pytest.mark.parametrize(
    ("variables", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": ""}, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colours_in_a_pipe_are_asked_for(variables: dict[str, str], coloured: bool) -> None:
    """As a log of CI shows them; `NO_COLOR` wins."""
    done = command("explain", "shop:clean", **variables)
    assert ("\x1b[" in done.stdout) is coloured


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_a_terminal_is_filled_and_not_exceeded(columns: int) -> None:
    """Rows of the tree are cut, the texts of a finding wrapped; code stays as it is."""
    status, coloured = shown(*EXPLAIN, columns=columns)
    assert status == 1
    plain = re.sub("\x1b\\[[0-9;]*m", "", coloured)
    tree, _, findings = plain.partition("\n\nCC102")
    assert max(map(len, tree.splitlines()[1:])) <= columns
    fix = re.search(r"^  fix     (.*?)^            ", findings, re.MULTILINE | re.DOTALL)
    assert fix is not None
    lines = fix[0].splitlines()[:-1]
    assert max(map(len, lines)) <= columns
    words = "leave it out in __getstate__ of Client; across processes it protects nothing"
    assert " ".join(fix[1].split()) == words
    assert (len(lines) > 1) is (columns < 86)


def test_a_dumb_terminal_gets_no_colour() -> None:
    """It would show the codes."""
    for variables, coloured in (({}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False)):
        status, text = shown(*EXPLAIN, **variables)
        assert (status, "\x1b[" in text) == (1, coloured)


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    """As `head` does; the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "contextcache", "explain", "shop:session"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
