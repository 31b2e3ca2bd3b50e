"""A fix is a promise: applied literally, it does what it says, for every patch that is printed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from tests.core import promises

if TYPE_CHECKING:
    from tests.core.promises import Promise


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> list[Promise]:
    """Every patch over the zoo and the cases, applied and loaded in a process of its own."""
    return promises.run(tmp_path_factory.mktemp("promises"))


def test_every_patch_can_be_applied(applied: list[Promise]) -> None:
    """It is Python, goes where it says, and neither dump nor load raises."""
    assert len(applied) > 100
    assert [one.label for one in applied if one.error] == []


def test_the_finding_is_gone(applied: list[Promise]) -> None:
    """All that the patch is printed for, and nothing new is found."""
    assert [one.label for one in applied if {*one.mends} & {*one.left}] == []
    assert [one.label for one in applied if not {*one.left} <= {*one.paths}] == []


def test_all_is_stored_that_was_stored_without_it(applied: list[Promise]) -> None:
    """A queue keeps its items, an event its flag, other objects what they hold in the field."""
    assert [(one.label, one.lost) for one in applied if one.lost] == []


def test_no_live_object_is_changed(applied: list[Promise]) -> None:
    """Neither by the code for the place where the value is stored, nor by the methods."""
    assert [(one.label, one.touched) for one in applied if one.touched] == []


def test_no_secret_comes_back(applied: list[Promise]) -> None:
    """What the guard keeps out of the payload stays out, and no patch shows a literal."""
    assert [one.label for one in applied if one.secret and not one.alone_secret] == []
    assert [one.label for one in applied if "s3cret" in one.patch] == []


WITHOUT = {
    "own-one-event-twice": "each object would make one of its own",
    "own-semaphore": "no public attribute says how many are free",
    "own-queue-in-a-list": "a method for the class would take the list",
    "own-own-queue": "its fields are those of a class of Python",
    "own-own-event": "its fields are those of a class of Python",
    "own-own-getstate": "it would shadow the method of the class",
    "own-own-reduce": "it would shadow the method of the class",
    "own-own-setstate": "it would shadow the method of the class",
    "own-inherited-getstate": "it would shadow the method of the class",
    "own-lock-in-what-does-not-load": "what holds it would still not load",
    "own-generator-in-what-does-not-load": "what holds it would still not load",
    "own-exception-of-the-system": "it has fields that its attributes do not show",
    "own-lazy-plain-object": "it has no primary key",
    "own-proxy-of-an-account": "the account has a password hash",
    "own-proxy-of-a-lock": "the lock cannot be stored, either",
    "own-rows-of-two-kinds": "the rows are of two types",
    "own-generator-twice": "the first list would use the generator up",
    "own-lambda-with-a-secret": "it would show a literal",
}
"""Cases about which nothing can be promised, and why."""


def test_nothing_is_promised_that_does_not_hold(applied: list[Promise]) -> None:
    """Where there is no such code, there is none; everywhere else in the catalogue there is."""
    fix_cases = importlib.import_module("tests.core.fix_cases")
    mended = {one.case for one in applied}
    assert {f"own-{name}" for name in fix_cases.CASES} - mended == {*WITHOUT}
