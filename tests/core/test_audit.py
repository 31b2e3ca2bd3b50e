"""The audit of a live Redis: complete, read-only, and running nothing of what it finds."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import sys
import zoneinfo
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from contextcache import Guard, cli
from contextcache.commands import audit
from contextcache.commands.audit_entries import Form, Inventory, Problem, Trust, judged, shown
from contextcache.exceptions import UnreadablePayloadError
from contextcache.servers import connect
from tests.sealing import SECRET, sealed


class Cart:
    """A class of the application."""

    def __init__(self) -> None:
        self.items = ["canary"] * 3


class Gone:
    """A class that a deploy removes."""


class Bomb:
    """What a forger writes: to load it is to run it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("import sys; sys.modules['audit_was_run'] = sys",)


def pickled(value: object) -> bytes:
    return pickle.dumps(value, 5)


@pytest.fixture
def run(redis_url: str, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch):
    """Run `contextcache audit` on the test's Redis; return the status and what it printed."""

    def ran(*arguments: str, secret: str = SECRET) -> tuple[int, str]:
        monkeypatch.setenv("CONTEXTCACHE_SECRET_KEY", secret)
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        return cli.main(["audit", redis_url, *arguments]), out.getvalue()

    return ran


def problems_of(report: str) -> dict[str, list[str]]:
    return {
        name: [example["key"] for example in problem["examples"]]
        for name, problem in json.loads(report)["problems"].items()
        if problem["entries"]
    }


# --- What it finds --------------------------------------------------------------------------------


def test_a_clean_redis_is_counted(run, redis_client):
    """Sizes, forms and types; the exit status is 0."""
    redis_client.set("shop:1:cart", sealed(pickled(Cart()), "shop:1:cart"))
    redis_client.set("shop:1:a", sealed(pickled({"a": 1}), "shop:1:a", purpose="session"))
    redis_client.set("shop:1:visits", 12)
    redis_client.set("celery", '{"json": true}')
    redis_client.rpush("queue", "job")
    status, report = run("--json")
    told = json.loads(report)
    assert status == 0
    assert (told["entries"], told["skipped"]) == (4, 1)
    assert told["forms"] == {
        "signed": 2, "pickle": 0, "compressed": 0, "number": 1, "other": 1, "unseen": 0,
    }  # fmt: skip
    assert {one["type"]: one["entries"] for one in told["types"]} == {
        f"{__name__}.Cart": 1, "dict": 1, "int": 1, "unknown": 1,
    }  # fmt: skip
    assert told["bytes"] == sum(one["bytes"] for one in told["types"])
    assert problems_of(report) == {}


def test_what_is_wrong_is_named_by_its_key(run, redis_client, monkeypatch):
    """Each kind of problem, once; the exit status is 1."""
    good = pickled(Cart())
    gone = pickled(Gone())
    monkeypatch.delattr(sys.modules[__name__], "Gone")
    redis_client.set("copied", sealed(good, "elsewhere"))
    redis_client.set("foreign", sealed(good, "foreign", secret="another"))
    redis_client.set("plain", good)
    redis_client.set("flask", b"!" + good)
    redis_client.set("torn", sealed(good[:-5], "torn"))
    redis_client.set("gone", sealed(gone, "gone"))
    redis_client.set("large", sealed(pickled("x" * 2000), "large"))
    status, report = run("--json", "--large", "1000")
    assert status == 1
    assert {name: sorted(keys) for name, keys in problems_of(report).items()} == {
        "unreadable": ["torn"],
        "untrusted": ["copied", "foreign"],
        "unsigned": ["flask", "plain"],
        "gone": ["gone"],
        "oversized": ["large"],
    }


def test_the_report_for_a_person(run, redis_client):
    """Counts first, then what is wrong and why, then what is there, then the list to allow."""
    redis_client.set("shop:cart", sealed(pickled(Cart()), "shop:cart"))
    redis_client.set("shop:plain", pickled([1]))
    status, report = run("--match", "shop:*")
    lines = report.splitlines()
    assert status == 1
    assert lines[0].startswith("redis://127.0.0.1:")
    assert "/0 shop:*: 2 entries, 1" in lines[0]
    assert lines[1] in ("  1 signed, 1 unsigned pickle", "  1 unsigned pickle, 1 signed")
    assert "1 entry unsigned: a reader gets a miss, unless ACCEPT_UNSIGNED is set" in lines
    assert any(line.endswith("B  shop:plain  it is not signed") for line in lines)
    assert any(f"1  {__name__}.Cart  largest" in line for line in lines)
    at = lines.index("LOADABLE, as far as signed entries tell")
    assert lines[at + 1] == f'  "{__name__}:Cart",'


def test_what_unsigned_entries_name_is_not_recommended(run, redis_client):
    """Else whoever can write to Redis would write the list of what may be loaded."""
    redis_client.set("cart", sealed(pickled(Cart()), "cart"))
    redis_client.set("planted", pickled(Bomb()))
    _, report = run("--json")
    names = json.loads(report)["names"]
    assert names == {"signed": [f"{__name__}:Cart"], "unsigned": ["builtins:exec"]}


def test_the_printed_list_can_be_used(run, redis_client):
    """What cannot be listed is left out: a time zone is read without, a partial not at all."""
    value = [Cart(), zoneinfo.ZoneInfo("UTC"), functools.partial(int, base=2)]
    redis_client.set("cart", sealed(pickled(value), "cart"))
    _, report = run("--json")
    names = json.loads(report)["names"]["signed"]
    assert names == [f"{__name__}:Cart"]
    Guard(loadable=names)


def test_a_name_that_is_computed_is_suspicious():
    """STACK_GLOBAL with a module that comes out of a call."""
    forged = b"\x80\x05cbuiltins\nstr\n\x8c\x02os\x85R\x8c\x06system\x93."
    entry = judged(b"k", len(forged), forged, Trust())
    assert [problem for problem, _ in entry.problems] == [Problem.COMPUTED]


def test_what_may_run_code_is_named(run, redis_client):
    """Of an unsigned entry, which anybody may have written; what is signed is the application's."""
    redis_client.set("planted", pickled(Bomb()))
    redis_client.set("own", sealed(pickled(os.getcwd), "own"))
    status, report = run()
    assert status == 1
    assert "\n1 entry that may run code: it names what no data needs\n" in report
    assert "  planted  it names builtins:exec\n" in report
    _, report = run("--json")
    assert problems_of(report)["runs"] == ["planted"]


def test_without_the_secret_nothing_is_said_to_be_verified(run, redis_client):
    """And nothing is said about what nobody can read."""
    redis_client.set("cart", sealed(pickled(Cart()), "cart"))
    redis_client.set("plain", pickled(Cart()))
    status, report = run(secret="")
    assert status == 0
    assert "not verified: no secret is known here; put it into CONTEXTCACHE_SECRET_KEY" in report
    assert "Named by unsigned entries only" in report


def test_payloads_of_serializers_alone_are_verified(run, redis_client):
    """A serializer is not told the key, and signs without it."""
    redis_client.set("cart", sealed(pickled(Cart()), ""))
    assert run("--json")[0] == 0


# --- What it does not do --------------------------------------------------------------------------


def test_nothing_is_run(run, redis_client):
    """Neither of a plain pickle nor of one that is signed."""
    redis_client.set("plain", pickled(Bomb()))
    redis_client.set("flask", b"!" + pickled([Bomb()]))
    redis_client.set("signed", sealed(pickled(Bomb()), "signed"))
    redis_client.set("module", b"\x80\x04\x8c\x04this\x8c\x01s\x93.")
    sys.modules.pop("this", None)
    run("--json")
    run("--key", "plain")
    assert "audit_was_run" not in sys.modules
    assert "this" not in sys.modules


def test_a_user_who_may_only_read_can_run_it(run, redis_url, redis_client):
    """Four commands on keys are all it needs, and none of them writes."""
    redis_client.set("cart", sealed(pickled(Cart()), "cart"))
    redis_client.acl_setuser(
        "auditor", enabled=True, passwords=["+pw"], keys=["*"],
        commands=["+scan", "+type", "+strlen", "+get", "+dbsize", "+client", "+hello"],
    )  # fmt: skip
    try:
        url = redis_url.replace("://", "://auditor:pw@")
        out = Inventory()
        place = audit.Place(connect(url), "redis")
        audit.take_stock(place, Trust([SECRET], signs=True), out)
        assert (out.entries, out.problems) == (1, {})
        with pytest.raises(redis.exceptions.NoPermissionError):
            redis.Redis.from_url(url).set("cart", "x")
    finally:
        redis_client.acl_deluser("auditor")


def test_no_value_is_shown(run, redis_client):
    """Neither in the report, nor in the tree of one entry."""
    redis_client.set("cart", sealed(pickled(Cart()), "cart"))
    redis_client.set("text", "canary")
    for arguments in ((), ("--json",), ("--key", "cart"), ("--key", "cart", "--json")):
        assert "canary" not in run(*arguments)[1]


def test_the_password_of_the_url_is_not_shown(capsys, monkeypatch):
    """Not even where nobody answers; the exit status is then 2."""
    assert cli.main(["audit", "redis://user:secret-pw@127.0.0.1:1/0"]) == 2
    told = capsys.readouterr()
    assert "secret-pw" not in told.out + told.err
    assert told.err.startswith("contextcache: Redis at redis://127.0.0.1:1/0 ")


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"shop:1:cart", "shop:1:cart"),
        (b":1:django.contrib.sessions.cacheabc123", ":1:django.contrib.sessions.cache…"),
        (b":1:django.contrib.sessions.cached_dbabc", ":1:django.contrib.sessions.cached_db…"),
        (b"session:5b0d7a", "session:…"),
        (b"shop:contextcache:session:0ff1ce", "shop:contextcache:session:…"),
        (b"a\nb\x1b[2J", "a\\nb\\x1b[2J"),
        (b"\xff", "\\xff"),
        (b"k" * 500, "k" * 119 + "…"),
    ],
)
def test_keys_are_fit_to_be_printed(key, expected):
    """An id of a session that stands in a key is worth a login."""
    assert shown(key) == expected
    assert shown(key, redact=True) == "…"


def test_no_key_is_printed_where_keys_are_redacted(run, redis_client, capsys):
    """Neither of Redis nor of a dict; of one entry, whoever asks knows its key."""
    redis_client.set("canary:1", pickled({"canary": Cart()}))
    redis_client.set("canary:2", pickled(Bomb()))
    for options in (
        ["--json"], [], ["--key", "canary:1"], ["--key", "canary:1", "--json"], ["--key", "canary"],
    ):  # fmt: skip
        _, report = run("--redact-keys", *options)
        assert "canary" not in report
    _, report = run("--redact-keys", "--key", "canary:1")
    assert "[*]  tests.core.test_audit.Cart" in report
    assert "canary" not in capsys.readouterr().err


# --- Of any size ----------------------------------------------------------------------------------


def test_many_keys_are_read_in_batches(run, redis_client):
    """Of 5,000 keys none is missed, and memory holds one batch."""
    with redis_client.pipeline() as pipeline:
        for number in range(5000):
            pipeline.set(f"shop:{number}", pickled({"n": number}))
        pipeline.execute()
    _, report = run("--json", "--rate", "100000", secret="")
    assert json.loads(report)["entries"] == 5000


def test_large_values_are_read_one_by_one_or_only_measured(run, redis_client, monkeypatch):
    """What is too large to be looked into still counts."""
    monkeypatch.setattr(audit, "MOST_READ", 100_000)
    monkeypatch.setattr(audit, "READ_AT_ONCE", 50_000)
    for name, size in (("a", 40_000), ("b", 40_000), ("c", 90_000), ("d", 200_000), ("e", 1)):
        redis_client.set(name, pickled(b"x" * size))
    _, report = run("--json", "--large", "150000", secret="")
    told = json.loads(report)
    assert told["entries"] == 5
    assert told["forms"]["unseen"] == 1
    assert problems_of(report) == {"oversized": ["d"]}


def test_examples_are_bounded_and_all_are_counted():
    """A million broken entries make a report that somebody can read."""
    inventory = Inventory()
    for number in range(300):
        inventory.add(judged(b"k%d" % number, 9, b"\x80\x05broken.", Trust()))
    assert inventory.problems[Problem.UNREADABLE] == 300
    assert len(inventory.examples[Problem.UNREADABLE]) == 100


def test_what_is_kept_of_hostile_entries_is_bounded(monkeypatch):
    """Each of a million entries may have a type and ten thousand names of its own."""
    monkeypatch.setattr("contextcache.commands.audit_entries.MAX_TYPES", 5)
    monkeypatch.setattr("contextcache.commands.audit_entries.MAX_NAMES", 7)
    inventory = Inventory()
    for number in range(20):
        payload = b"cmodule\nName%d\n)\x81." % number
        inventory.add(judged(b"k%d" % number, len(payload), payload, Trust()))
    assert len(inventory.holdings) == 6
    assert inventory.holdings["other types"].entries == 15
    assert (len(inventory.claimed), inventory.unlisted) == (7, 13)
    assert inventory.entries == 20


def test_a_mistake_of_ours_does_not_hide_the_other_entries(run, redis_client, monkeypatch):
    """The entry is named, and whatever is wrong with the others is found."""

    def mistaken(body: bytes, **_: Any) -> None:
        raise AssertionError if b"canary" in body else UnreadablePayloadError("k", "torn", "")

    redis_client.set("strange", "canary")
    redis_client.set("torn", pickled(1))
    monkeypatch.setattr("contextcache.commands.audit_entries.find_pickle", mistaken)
    status, report = run()
    assert status == 1
    assert "strange  looking into it failed: AssertionError" in report
    assert "torn  torn" in report
    assert "canary" not in report


def test_a_report_lists_no_more_names_than_are_read(run, redis_client):
    """And says how many more there are."""
    payload = b"](" + b"".join(b"cmodule\nName%d\n" % number for number in range(600)) + b"e."
    redis_client.set("planted", payload)
    _, report = run(secret="")
    assert report.count('"module:Name') == 500
    assert "  and 100 more names; --json lists more\n" in report


@pytest.mark.parametrize(
    ("payload", "form"),
    [
        (b"12", Form.NUMBER), (b"-12", Form.NUMBER), (b"", Form.OTHER), (b"-", Form.OTHER),
        (b"{}", Form.OTHER), (b"!x", Form.OTHER), (b"1" * 50, Form.OTHER),
        (pickled(1), Form.PICKLE), (b"!" + pickled(1), Form.PICKLE),
        (sealed(pickled(1), "k"), Form.SIGNED), (b"\xcc", Form.SIGNED),
    ],
)  # fmt: skip
def test_the_first_byte_tells_the_form(payload, form):
    assert judged(b"k", len(payload), payload, Trust([SECRET])).form is form


# --- One entry ------------------------------------------------------------------------------------


def test_one_entry_is_shown_as_a_tree(run, redis_client):
    """With sizes, without loading it."""
    redis_client.set("cart", sealed(pickled(Cart()), "cart"))
    status, report = run("--key", "cart")
    assert status == 0
    assert report.startswith("cart: ")
    assert "read without loading it" in report
    assert "Cart" in report
    assert ".items" in report


def test_a_text_is_nothing_to_look_at(run, redis_client, capsys):
    """Nothing is wrong with it; of a pickle that is damaged, something is."""
    redis_client.set("text", "I am fine.")
    redis_client.set("torn", pickled(Cart())[:-5])
    assert run("--key", "text")[0] == 2
    assert run("--key", "torn")[0] == 1
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("denied", ["scan", "type", "strlen", "get", "dbsize"])
def test_a_right_that_is_missing_is_one_line(redis_url, redis_client, capsys, denied):
    """The status is 2, with JSON, too."""
    redis_client.set("cart", pickled(Cart()))
    redis_client.acl_setuser(
        "half", enabled=True, passwords=["+pw"], keys=["*"], categories=["+@all"],
        commands=[f"-{denied}"],
    )  # fmt: skip
    try:
        for options in ([], ["--json"]):
            url = redis_url.replace("://", "://half:pw@")
            assert cli.main(["audit", url, *options]) == 2
            told = capsys.readouterr()
            assert told.out == ""
            assert "this user may not do that (NOPERM)" in told.err
            assert told.err.count("\n") == 1
    finally:
        redis_client.acl_deluser("half")


def test_an_embedded_redis_has_errors_too(capsys):
    """It raises those of redis-py."""
    assert cli.main(["audit", "fakeredis://numbers/99"]) == 2
    assert "out of range" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--key", "planted"]])
def test_a_client_that_decodes_is_refused(redis_client, redis_url, capsys, options):
    """It cannot read a pickle, so nothing would be found."""
    redis_client.set("planted", pickled(Bomb()))
    assert cli.main(["audit", f"{redis_url}?decode_responses=true", *options]) == 2
    assert "unset decode_responses" in capsys.readouterr().err


def test_an_entry_that_is_not_there_is_said_not_to_be(run, capsys):
    assert run("--key", "no-such-key")[0] == 2
    assert capsys.readouterr().err == "contextcache: there is no value under no-such-key\n"


def test_an_entry_of_another_type_is_said_to_be_one(run, redis_client, capsys):
    redis_client.rpush("queue", "job")
    assert run("--key", "queue")[0] == 2
    said = "contextcache: queue is of type list; only strings are looked into\n"
    assert capsys.readouterr().err == said


def test_an_entry_is_found_by_the_bytes_of_its_key(run, redis_client, capsys):
    """The shell passes them on, and Python has them as half characters."""
    redis_client.set(b"page:\xff", pickle.dumps({"a": 1}))
    assert run("--key", "page:\udcff")[0] == 0
    assert run("--key", "page:\udcfe")[0] == 2
    assert capsys.readouterr().err == "contextcache: there is no value under page:\\xfe\n"


def test_a_secret_that_is_not_set_is_missed(run, capsys):
    """Else everything would be called unverified, and nobody would know why."""
    assert run("--secret-from", "NO_SUCH_VARIABLE")[0] == 2
    assert capsys.readouterr().err == "contextcache: NO_SUCH_VARIABLE is not set\n"


def test_the_rate_is_bounded(redis_client, redis_url, monkeypatch):
    """Between two batches it waits until the clock allows the next."""
    for number in range(300):
        redis_client.set(f"k{number}", 1)
    waits: list[float] = []
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=waits.append)
    monkeypatch.setattr("contextcache.commands.audit.time", clock)
    audit.take_stock(audit.Place(connect(redis_url), "redis"), Trust(), Inventory(), rate=100)
    assert waits == [1, 2, 3]
