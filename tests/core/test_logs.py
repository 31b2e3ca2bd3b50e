"""The logger: looked up when there is something to log, and silenced by nobody's configuration."""

from __future__ import annotations

import logging
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from contextcache.base import logs
from contextcache.base.logs import DISABLED, ENABLE
from tests.child import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ("contextcache", "contextcache_django", "contextcache_flask")

# As the manual of Flask shows it: without `disable_existing_loggers`, which is True by default.
CONFIGURE = """
from logging.config import dictConfig
dictConfig({
    "version": 1,
    "formatters": {"default": {"format": "own %(levelname)s %(name)s: %(message).25s"}},
    "handlers": {"own": {
        "class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "default",
    }},
    "root": {"level": "INFO", "handlers": ["own"]},
})
"""
IMPORT = """
import contextcache, contextcache.jsonable, contextcache.servers.errors, contextcache.storage
import contextcache_flask, contextcache_flask.cli, contextcache_flask.sessions
import contextcache_django.conf, contextcache_django.cached_db
"""
WRITE = """
import threading
contextcache.Guard(debug={debug}).dumps([threading.Lock()])
"""


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    known = logging.getLogger(logs.NAME)
    yield known
    known.disabled = False


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("order", ["CIW", "ICW", "IWCW", "CIWCW", "IWWCW"])
def test_no_configuration_of_logging_silences_findings(order: str, debug: bool) -> None:
    """Applied before or after the import, before or after the first finding, or twice."""
    steps = {"C": CONFIGURE, "I": IMPORT, "W": WRITE.format(debug=debug)}
    told = run("import sys; sys.stderr = sys.stdout\n" + "".join(steps[step] for step in order))
    lines = [line for line in told.splitlines() if line.startswith("own ")]
    expected = order.partition("C")[2].count("W")
    assert lines == ["own WARNING contextcache: contextcache CC102: value"] * expected


@pytest.mark.parametrize(
    "own", ["addHandler(logging.StreamHandler(sys.stdout))", "setLevel('INFO')"]
)
def test_a_logger_that_the_configuration_has_disabled_is_reported_in_the_log(own: str) -> None:
    """Once, by the handlers of the root logger: else data would be cut without a line."""
    own = f"import logging\nlogging.getLogger('contextcache').{own}\n"
    write = WRITE.format(debug=False)
    told = run("import sys\n" + IMPORT + own + CONFIGURE.replace(".25s", "s") + write + write)
    assert told.splitlines() == [f"own WARNING contextcache: contextcache: {DISABLED} {ENABLE}"]


def test_importing_makes_no_logger() -> None:
    """Nor does a finding: what does not exist cannot be disabled."""
    code = IMPORT + WRITE.format(debug=False)
    told = run(
        code
        + "import logging; print(logs := logging.root.manager.loggerDict.keys() & {'contextcache'})"
    )
    assert told.splitlines()[-1] == "set()"


def test_the_logger_of_the_application_is_used_and_respected(
    logger: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its level, handlers and filters, and that it is disabled, which `check` reports, too."""
    monkeypatch.setattr(logs, "_disabled", [])
    logs.log("warning", "one %s", 1, extra={"contextcache_x": 1})
    assert [record.name for record in caplog.records] == ["contextcache"]
    assert not logs.is_disabled()
    logger.disabled = True
    logs.log("warning", "two")
    logs.log("warning", "three")
    assert logs.is_disabled()
    assert [record.message for record in caplog.records] == [
        "contextcache: one 1",
        f"contextcache: {DISABLED} {ENABLE}",
    ]


def test_no_module_asks_for_the_logger_by_itself() -> None:
    """All go through `contextcache.base.logs`; another logger is one of a framework's."""
    done = subprocess.run(
        ["grep", "-rn", "--include=*.py", "getLogger(", *PACKAGES],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "contextcache_django/middleware.py"
    ]


@pytest.mark.parametrize("template", ["one %s", "contextcache CC102: %s", "%s at %s"])
def test_every_line_begins_with_the_name(caplog: pytest.LogCaptureFixture, template: str) -> None:
    """So it can be found where a log has no column for the logger."""
    logs.log("warning", template, *["two"] * template.count("%s"))
    [record] = caplog.records
    assert re.match(r"contextcache( CC\d+)?: ", record.getMessage())
