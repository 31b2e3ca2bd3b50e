"""Origins: the line that stored a value, and whose code it is."""

from __future__ import annotations

import json
import os
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contextcache import Guard
from contextcache.reports import call_site

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

HERE = Path(__file__)


def test_own_code_is_told_from_libraries() -> None:
    """The field to act on is in the user's own class."""
    assert call_site.is_own(Mine)
    assert not call_site.is_own(threading.Thread)
    assert not call_site.is_own(json.JSONEncoder)
    assert not call_site.is_own(Guard)
    assert not call_site.is_own(type("Made", (), {"__module__": "no_such_module"}))


class Mine:
    pass


def test_paths_are_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the working directory from there, in a library from its root, else as they are."""
    monkeypatch.chdir(tmp_path)
    join = os.path.join
    assert call_site.relative(join(os.getcwd(), "shop", "api.py")) == join("shop", "api.py")
    for kind in ("purelib", "stdlib"):
        path = join(sysconfig.get_path(kind), "django", "http.py")
        assert call_site.relative(path) == join("django", "http.py")
    assert call_site.relative("/elsewhere/api.py") == "/elsewhere/api.py"


def test_the_call_site_is_the_innermost_line_of_the_users_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frames of Python, of installed packages and of contextcache are skipped."""
    monkeypatch.chdir(HERE.parent)

    def called_by_a_library(call: Callable[[], str]) -> str:
        code = compile("def through(call): return call()", "<generated>", "exec")
        space: dict[str, Any] = {}
        exec(code, space)
        return str(space["through"](call))

    encoder = json.JSONEncoder(default=lambda _: call_site.call_site())
    line = sys._getframe().f_lineno
    assert call_site.call_site() == f"test_call_site.py:{line + 1}"
    assert called_by_a_library(call_site.call_site) == f"test_call_site.py:{line - 3}"
    assert encoder.encode(object()) == f'"test_call_site.py:{line - 1}"'


def test_a_finding_names_the_line_that_stored_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a request the origin is the file and line of the caller."""
    monkeypatch.chdir(HERE.parent)
    [finding] = Guard().explain([threading.Lock()])
    assert finding.origin == f"test_call_site.py:{sys._getframe().f_lineno - 1}"


def test_code_is_named_with_the_line_that_defines_it() -> None:
    """A function, generator or coroutine in a dict has no field, but a place in the source."""

    async def coroutine() -> None:
        """Never awaited."""

    made = coroutine()
    made.close()
    line = sys._getframe().f_lineno
    told = [call_site.definition(one) for one in (lambda: 0, (one for one in ()), made)]
    name = "test_code_is_named_with_the_line_that_defines_it.<locals>"
    here = call_site.relative(str(HERE))
    assert told == [
        f"{name}.<lambda>, defined at {here}:{line + 1}",
        f"{name}.<genexpr>, defined at {here}:{line + 1}",
        f"{name}.coroutine, defined at {here}:{coroutine.__code__.co_firstlineno}",
    ]
    assert call_site.definition(threading.Lock()) == ""
