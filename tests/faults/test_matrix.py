"""The fault matrix: every fault, in every place, against the failure contract."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from contextcache.servers import errors
from tests.faults.clusters import CLUSTER
from tests.faults.places import (
    ASYNC_PLACES,
    HASTY,
    NONE,
    OUTAGE,
    PATIENT,
    PLACES,
    AsyncDjangoCache,
    DjangoCache,
    Entry,
    FlaskCache,
    Place,
)
from tests.faults.proxy import Proxy
from tests.faults.table import FAULTS, Fault, Rig, Strike, full, killed
from tests.redis_server import KEPT, running_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No page here needs more than two operations. The rest is what a machine may take that has other
# things to do; a reply that comes byte by byte takes longer.
SECONDS = 10.0


@pytest.fixture(params=FAULTS, ids=lambda fault: fault.name)
def fault(request: pytest.FixtureRequest) -> Fault:
    return request.param


@pytest.fixture(params=[*PLACES, *ASYNC_PLACES], ids=lambda place: place.name)
def kind(request: pytest.FixtureRequest) -> type[Place]:
    return request.param


@pytest.fixture(scope="module")
def cluster() -> Iterator[Rig]:
    """A cluster for all faults of one, because it takes seconds to start."""
    with next(fault for fault in FAULTS if fault.arguments == CLUSTER).rig() as rig:
        yield rig


@pytest.fixture
def rig(request: pytest.FixtureRequest, fault: Fault) -> Iterator[Rig]:
    """What the fault happens to."""
    if fault.arguments == CLUSTER:
        yield request.getfixturevalue("cluster")
    else:
        with fault.rig() as rig:
            yield rig


def in_time(operation: Callable[[], str]) -> str:
    began = time.monotonic()
    word = operation()
    took = time.monotonic() - began
    assert took < SECONDS, f"{took:.1f} s"
    return word


def test_a_fault_costs_what_the_contract_says_and_nothing_after_it(
    fault: Fault, rig: Rig, kind: type[Place], caplog: pytest.LogCaptureFixture
) -> None:
    """In time, with a word in the log, and when it is over the same value is there again."""
    with kind(fault.url(rig), **(PATIENT if fault.read is NONE else HASTY)) as place:
        if not fault.first:
            until(place.reads_what_it_writes)
        with fault.strike(rig):
            caplog.clear()
            errors._told.clear()
            assert in_time(place.read) == kind.reads[fault.read]
            assert in_time(place.write) == kind.writes[fault.write]
            warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert bool(warned) == (OUTAGE in (fault.read, fault.write))
        # Where Redis takes nothing but deletes, a cache drops what is not true any more.
        refused = fault.read is NONE and fault.write is OUTAGE
        if not fault.first and not (refused and issubclass(kind, Entry)):
            until(lambda: place.read() == kind.reads[NONE])
        until(place.reads_what_it_writes)


@pytest.mark.parametrize("kind", [DjangoCache, AsyncDjangoCache, FlaskCache], indirect=True)
@pytest.mark.parametrize(
    ("fault", "read", "write"),
    [
        (killed, "raises ServerError", "raises ServerError"),
        (full, "value", "raises ReadOnlyServerError"),
    ],
    ids=["dies", "is full"],
)
def test_who_asks_for_errors_gets_them(
    fault: Strike, read: str, write: str, kind: type[Place]
) -> None:
    """`ON_ERROR = "raise"` tells a cache that is gone from one that has nothing."""
    with (
        running_server(*KEPT) as server,
        Proxy(server.port) as proxy,
        kind(server.url, ON_ERROR="raise") as place,
    ):
        place.write()
        with fault(Rig(server, proxy)):
            assert place.read() == read
            assert place.write() == write
