"""Findings: every code has its reason, and a finding is plain, frozen data."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import threading

import pytest

from contextcache import Action, Config, Finding, Guard, explain
from contextcache.findings.finding import CODES
from contextcache.rules.builtin import BUILT_IN
from contextcache.rules.verdicts import (
    CHANGING,
    CIRCULAR,
    RAISED,
    REFUSES,
    TOO_DEEP,
    UNIMPORTABLE,
    UNLOADABLE,
)


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()


def finding() -> Finding:
    [found] = explain({"cart": [Client()]}, label="session")
    return found


@pytest.mark.parametrize(("code", "reason"), CODES.items())
def test_every_code_has_a_reason_in_one_clause(code: str, reason: str) -> None:
    """A reason continues a sentence: no capital, no full stop, no line break."""
    assert re.fullmatch(r"CC1\d\d", code)
    assert reason
    assert reason == reason.strip(" .\n")
    assert "\n" not in reason
    assert reason[0].islower() or reason.startswith(("SSL", "JSON"))


def test_every_code_a_rule_uses_exists_and_every_code_is_used() -> None:
    """No rule points at a code without a reason, and no reason is dead text."""
    used = {rule.code for rule in BUILT_IN.values()}
    used |= {rule.code for rule in (REFUSES, RAISED, UNIMPORTABLE, UNLOADABLE)}
    used |= {rule.code for rule in (TOO_DEEP, CHANGING, CIRCULAR)}
    used |= {Config.from_mapping({"RULES": {"shop.Client": "strip"}}).rules[0].code}
    used |= {"CC131"}  # a payload above MAX_SIZE: found by the guard, not by a rule
    used |= {"CC140", "CC141", "CC142"}  # of JSON and cookies: contextcache.jsonable
    assert used == CODES.keys()


def test_the_actions_are_the_words_of_the_log() -> None:
    """An action is its own text; these words are API."""
    assert [str(action) for action in Action] == [
        "recreated",
        "snapshotted",
        "stripped",
        "left out",
        "refused",
        "observed",
    ]


def test_a_finding_says_what_where_and_why() -> None:
    """`str` of a finding is code, path, type and reason."""
    found = finding()
    assert str(found) == (
        "CC102: session['cart'][0].lock (_thread.lock) a lock belongs to this process"
    )
    assert found.owner_type == f"{__name__}.Client"
    assert found.action is Action.RECREATED


def test_a_finding_survives_pickling() -> None:
    """A finding can go to another process, whole."""
    found = dataclasses.replace(finding(), count=10)
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.count == 10
    assert pickle.dumps(found, 5) == Guard().dumps(found)


def test_a_finding_is_frozen_and_has_no_room_for_more() -> None:
    """Nobody attaches a value to a finding."""
    found = finding()
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.code = "CC999"  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        found.leaf = object()  # type: ignore[attr-defined]


def test_a_finding_holds_names_only() -> None:
    """Every field of a finding is text, a number, or a path of plain steps: never the offender."""
    kinds = {type(value) for value in dataclasses.asdict(finding()).values()}
    assert kinds <= {str, int, bool, type(None), Action, dict}
    assert json.dumps(dataclasses.asdict(finding()))
