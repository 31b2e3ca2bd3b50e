"""Each message of each flow of a session is lost once: what must hold, whatever the table says."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from tests.faults.session_faults import (
    ANSWER,
    IN_A_CLUSTER,
    NOTHING,
    PROCESS,
    REQUEST,
    Outcome,
    Rig,
    cluster,
    one_server,
    outcomes,
)
from tests.faults.session_sites import FLOWS, SITES, FlaskSite, Site, make_users

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:.*session was deleted before the request completed"),
]

LEAVING = ("logout", "expiry")


@pytest.fixture(scope="module")
def server() -> Iterator[Rig]:
    with one_server() as rig:
        yield rig


@pytest.fixture(scope="module")
def nodes() -> Iterator[Rig]:
    with cluster() as rig:
        yield rig


@pytest.fixture(autouse=True)
def _users_and_quiet(caplog: pytest.LogCaptureFixture) -> None:
    make_users()
    caplog.set_level(logging.CRITICAL + 1)


def holds(one: Outcome) -> None:
    """Assert what holds in each row."""
    assert one.other.startswith("bob"), "another visitor's session is as it was"
    for text in (one.after, one.again, *one.ids):
        assert text.partition(" ")[0] in ("ann", "None"), "no session crosses"
    living = [text for text in one.ids if text.startswith("ann")]
    assert len(living) <= 1, "an old id is worth nothing beside the new one"
    if one.fault != PROCESS:  # after which a visitor logs in anew, without a trace of before
        left = not any(text.startswith("ann") for text in one.late)
        assert left, "a logout with the old id is one"
    if one.flow in LEAVING:
        if one.answered:
            assert not living, "nobody whose logout was answered is logged in"
        else:
            assert not one.again.startswith("ann"), "a logout that failed can be repeated"
    elif one.fault in (REQUEST, ANSWER):
        seen = "ann" if one.flow != "login" or one.answered else "None tea"
        assert one.after.startswith(seen), "nobody is logged out by one lost message"
        assert one.again.startswith("ann"), "what failed can be repeated"
    elif one.fault == NOTHING:
        assert one.answered
        assert one.logged_in
    elif one.flow == "login":
        assert one.again.startswith("ann"), "a login that was cut off can be repeated"
    if one.fault in (REQUEST, ANSWER):
        assert one.saw[:3] in ("200", "503"), "the visitor is told to try again"
        assert one.answered or one.saw == "503, cookie kept"


def all_hold(rig: Rig, kind: type[Site], flow: str) -> None:
    found = list(outcomes(rig, kind, flow))
    assert {one.fault for one in found} == {NOTHING, REQUEST, ANSWER, PROCESS}
    for one in found:
        try:
            holds(one)
        except AssertionError as error:
            raise AssertionError(f"{error}: {one}") from error


@pytest.mark.parametrize("flow", FLOWS)
@pytest.mark.parametrize("kind", SITES, ids=lambda kind: kind.name)
def test_a_lost_message_logs_nobody_in_or_out(server: Rig, kind: type[Site], flow: str) -> None:
    """On one Redis; the rows are those of `docs/session-table.md`."""
    all_hold(server, kind, flow)


@pytest.mark.parametrize("flow", IN_A_CLUSTER)
@pytest.mark.parametrize("kind", [SITES[0], FlaskSite], ids=lambda kind: kind.name)
def test_the_same_holds_in_a_cluster(nodes: Rig, kind: type[Site], flow: str) -> None:
    """Where old key, new key and tombstone are on different nodes."""
    all_hold(nodes, kind, flow)
