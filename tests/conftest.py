"""Fixtures every layer shares, and time for all of them."""

from __future__ import annotations

import gc
import importlib
import math
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import none

from contextcache.config import TIMEOUT
from contextcache.engine.budget import PROCESS_BUDGET
from contextcache.reports import reporter
from contextcache.servers.clients import new_client
from tests.browser import _chromium, browser
from tests.memcached_server import memcached
from tests.redis_server import any_url, redis_client, redis_url
from tests.results import write_result

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["_chromium", "any_url", "browser", "memcached", "redis_client", "redis_url"]

# What is drawn is the same in each run, however slow the machine: a test that fails has been
# changed, or what it tests has. With `--hypothesis-profile=default` other examples are looked for.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")

PATIENT = 10.0  # seconds


def pytest_terminal_summary(config: pytest.Config) -> None:
    """Leave the result for the table of `docs/compatibility.md`, if that is asked for."""
    write_result(config)


@pytest.fixture(autouse=True, scope="session")
def _take_time() -> Iterator[None]:
    """Let nothing depend on this machine having nothing else to do.

    By default Redis is given half a second for an operation, and a close look at a value no more
    than some hundredths. A test that is about such a limit sets one of its own.
    """

    def patient(address: Any, seconds: float, *others: Any) -> Any:
        return new_client(address, PATIENT if seconds == TIMEOUT else seconds, *others)

    PROCESS_BUDGET.allow(first=math.inf, look=PATIENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("contextcache.servers.clients.new_client", patient)
        yield


@pytest.fixture(autouse=True, scope="session")
def _register_random() -> None:
    """Let Hypothesis find its sources of randomness before `gc.freeze` hides who refers to them.

    Since Python 3.14 it asks the collector, and warns of a source that nothing refers to.
    """
    importlib.import_module("numpy.random")
    settings(max_examples=1)(given(none())(lambda nothing: None))()


@pytest.fixture(autouse=True, scope="module")
def _collect_what_is_new(_register_random: None) -> None:
    """Look at everything once: what modules and tests leave behind is never looked at again.

    Else each collection takes longer than the one before, in the end a second and more.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _no_internal_error(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which the product logs an internal error that the test does not announce.

    A write survives a failure of contextcache or of a user's hook, so a test could pass by
    accident. `@pytest.mark.internal_error` announces one, and fails where none is logged.
    """
    reported = reporter._internal
    assert not reported, f"logged before the test: {sorted(reported)}"
    yield
    errors = sorted(reported)
    reported.clear()  # each is logged once, and the next test is to see its own
    if request.node.get_closest_marker("internal_error"):
        assert errors, "no internal error was logged: remove the marker"
    else:
        assert not errors


@pytest.fixture(autouse=True)
def _tell_of_every_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test keep quiet what another one has been told within this minute."""
    monkeypatch.setattr("contextcache.servers.errors._told", {})


@pytest.fixture(autouse=True)
def _empty_the_embedded_server() -> None:
    """Let no test read what another one has stored where no server was named."""
    servers = sys.modules.get("contextcache.servers")
    if servers is not None and servers._embedded:
        servers.connect(servers.DEFAULT_URL).flushall()
