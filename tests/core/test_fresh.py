"""What is stored is loaded in a fresh process: `fresh=True` and `explain --fresh`."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

import contextcache.exceptions
from contextcache import Guard
from contextcache.cli import main
from contextcache.engine.dispatch import DispatchTable
from contextcache.engine.dump import Dump
from contextcache.engine.fresh import differences
from contextcache.exceptions import FreshProcessError
from contextcache.rules.book import RuleBook
from contextcache.testing import assert_cacheable
from tests.child import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = '''
import os
import signal
import socket
import sqlite3
import sys
import threading
import time


class Registry:
    kinds = {}
    default = 7


class Plain:
    def __init__(self, **held):
        self.__dict__.update(held)


class Looks(Plain):
    """Its state is completed from what this process knows."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.kind = Registry.kinds["kind"]


class Takes(Plain):
    """The same, without an error."""

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.kind = Registry.kinds.get("kind")


class Misses(Plain):
    def __setstate__(self, state):
        self.__dict__.update(state)
        if Registry.kinds:
            self.kind = 1


class Answers(Plain):
    def __new__(cls, *_, **held):
        return object.__new__(Registry.kinds.get("class", Plain))


class Kills(Plain):
    def __setstate__(self, state):
        if "CONTEXTCACHE_FRESH_PROCESS" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)


class Exits(Plain):
    def __setstate__(self, state):
        if "CONTEXTCACHE_FRESH_PROCESS" in os.environ:
            sys.exit(3)


class Sleeps(Plain):
    def __setstate__(self, state):
        if "CONTEXTCACHE_FRESH_PROCESS" in os.environ:
            time.sleep(60)


class Asks(Plain):
    def __setstate__(self, state):
        if "CONTEXTCACHE_FRESH_PROCESS" in os.environ:
            sqlite3.connect(":memory:")


class Connects(Plain):
    def __setstate__(self, state):
        if "CONTEXTCACHE_FRESH_PROCESS" in os.environ:
            try:
                socket.create_connection(("127.0.0.1", 1))
            except Exception:
                pass


class Prints(Plain):
    def __setstate__(self, state):
        if "CONTEXTCACHE_FRESH_PROCESS" not in os.environ:
            return
        print("{'types': {}} printed")
        os.write(1, b"written")
        threading.Thread(target=time.sleep, args=(60,)).start()


def late():
    made = type("Late", (), {"__module__": __name__, "__qualname__": "Registry.Late"})
    Registry.Late = made
    return {"row": made(), "rows": [1, 2]}


def late_function():
    def made():
        pass

    made.__qualname__ = "made"
    globals()["made"] = made
    return [1, Plain(function=made)]


def known(cls):
    Registry.kinds.update(kind="text")
    return {"first": Plain(a=[1]), "it": [cls(a=[1, Plain()])], "last": Plain()}


def clean():
    return {"a": Plain(b=[1]), "registry": Registry, "function": known, "set": {1, "x"}}


def clean_prints():
    return [Prints(a=1)]


def answers():
    it = Answers()
    return [it]
'''


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the application, which a child can import."""
    (tmp_path / "fresh_shop.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import fresh_shop  # type: ignore[import-not-found]

    yield fresh_shop
    del sys.modules["fresh_shop"]


def reported(value: object) -> list[tuple[str, str]]:
    return [(str(one.path), one.reason) for one in Guard().explain(value, fresh=True)]


def test_what_any_process_loads_is_fine(shop: Any) -> None:
    """Objects, classes, functions, shared references, sets; and what the application prints."""
    assert_cacheable(shop.clean(), fresh=True)
    shared = shop.Plain()
    shared.itself = [shared, {shared}]
    assert_cacheable([shared, shared, frozenset({"a", "b"}), {"é": 1.5}], fresh=True)
    assert_cacheable(shop.clean_prints(), fresh=True)


@pytest.mark.parametrize(
    ("build", "path", "reason"),
    [
        (lambda shop: shop.late(), "value['row']", "loading it raised AttributeError"),
        (lambda shop: shop.late_function(), "value[1].function", "loading it raised Attribute"),
        (
            lambda shop: shop.known(shop.Looks),
            "value['it'][0]",
            "loading it raised KeyError in Looks.__setstate__, line ",
        ),
        (lambda shop: shop.known(shop.Takes), "value['it'][0]", "its attribute kind is NoneType"),
        (lambda shop: shop.known(shop.Misses), "value['it'][0]", "it has no attribute kind"),
    ],
)
def test_what_only_this_process_loads_is_found(
    build: Any, path: str, reason: str, shop: Any
) -> None:
    """A trial in this process says nothing of it; its object is named."""
    value = build(shop)
    assert Guard().explain(value) == []
    [(found, why)] = reported(value)
    assert found == path
    assert why.startswith(f"in a fresh process, {reason}")
    with pytest.raises(AssertionError, match="in a fresh process") as caught:
        assert_cacheable(value, fresh=True)
    assert path in str(caught.value)


def test_a_class_that_another_stands_in_for(shop: Any) -> None:
    """What loads as another type there."""
    shop.Registry.kinds["class"] = shop.Answers
    value = shop.answers()
    assert [type(one) for one in value] == [shop.Answers]
    assert Guard().explain(value) == []
    assert reported(value) == [("value[0]", "in a fresh process, it loads as fresh_shop.Plain")]


def test_a_module_that_is_gone(shop: Any, tmp_path: Path) -> None:
    """Its name is said."""
    name = "fresh_gone"
    module: Any = types.ModuleType(name)
    module.__file__ = str(tmp_path / "fresh_shop.py")  # it exists: nothing is certain here
    exec("class Row: pass", module.__dict__)
    sys.modules[name] = module
    try:
        assert reported([shop.Plain(), module.Row()]) == [
            ("value[1]", f"in a fresh process, there is no module {name}")
        ]
    finally:
        del sys.modules[name]


def test_other_findings_come_first(shop: Any) -> None:
    """What is cut is not what a fresh process meets."""
    value = {"lambda": lambda: None, **shop.late()}
    assert [path for path, _ in reported(value)] == ["value['lambda']", "value['row']"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Kills", "it ended with signal 9 before it had loaded the value"),
        ("Asks", "loading the value connects to a server or database, which is forbidden"),
        ("Connects", "loading the value connects to a server or database, which is forbidden"),
    ],
)
def test_what_cannot_be_found_out_is_an_error(name: str, reason: str, shop: Any) -> None:
    """A child that dies or connects says nothing about the value."""
    with pytest.raises(FreshProcessError) as caught:
        assert_cacheable([getattr(shop, name)(a=1)], fresh=True)
    assert caught.value.reason == reason


def test_a_child_that_takes_too_long_is_killed(shop: Any) -> None:
    """The time is limited."""
    dump = Dump(DispatchTable(RuleBook()), "value", capture=True)
    payload = dump.careful([shop.Sleeps(a=1)])
    with pytest.raises(FreshProcessError, match=r"did not load the value within 0\.5 s"):
        differences(dump, payload, timeout=0.5)


def test_what_exits_while_it_is_loaded_does_not_load(shop: Any) -> None:
    """`SystemExit` is raised by the value."""
    [(path, reason)] = reported([1, shop.Exits(a=1)])
    assert path == "value[1]"
    assert "SystemExit" in reason


def test_no_interpreter(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python is embedded, there is none to start."""
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(FreshProcessError, match="no Python interpreter"):
        reported([shop.Plain()])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FreshProcessError, match="could not be started"):
        reported([shop.Plain()])


def test_the_error_can_be_pickled() -> None:
    """pytest-xdist sends it to another process."""
    import pickle

    error = pickle.loads(pickle.dumps(contextcache.exceptions.FreshProcessError("why")))
    assert error.reason == "why"


# --- __main__ ---------------------------------------------------------------------------------

SCRIPT = """
from contextcache.testing import assert_cacheable

class Row:
    pass

def check():
    assert_cacheable([Row()], fresh=True)
    print("checked")
"""


def script(path: Path, *options: str, stdin: str = "") -> tuple[int, str, str]:
    """Run a script, and return its status, output and errors."""
    done = subprocess.run(
        [sys.executable, *options, *([str(path)] if not options else [])],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path.parent}"},
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("guard", ["check()", 'if __name__ == "__main__":\n    check()'])
def test_a_class_in_a_script(guard: str, tmp_path: Path) -> None:
    """The script is run as `multiprocessing` runs it, and does not start a child again."""
    path = tmp_path / "fresh_script.py"
    path.write_text(SCRIPT + guard)
    for options in ((), ("-m", "fresh_script")):
        status, output, errors = script(path, *options)
        assert (status, output) == (0, "checked\n"), errors


def test_a_class_in_a_main_module_without_a_file(tmp_path: Path) -> None:
    """What was typed at a prompt is nowhere else."""
    status, _, errors = script(tmp_path / "none.py", "-c", SCRIPT + "check()")
    assert status == 1
    assert "in a fresh process, loading it raised AttributeError" in errors


def test_a_script_that_fails_when_it_is_run_again(tmp_path: Path) -> None:
    """Its error is that of the child."""
    path = tmp_path / "fresh_script.py"
    path.write_text(SCRIPT + 'if __name__ != "__main__":\n    raise OSError("s3cret")\ncheck()')
    status, _, errors = script(path)
    assert status == 1
    assert "the application cannot be imported there: loading it raised OSError" in errors


# --- Django -----------------------------------------------------------------------------------

PROJECT = """
import os, sys
import django
from django.conf import settings
{setup}
django.setup()
from django.contrib.contenttypes.models import ContentType
from contextcache.testing import assert_cacheable
assert_cacheable([ContentType(app_label="a", model="b")], fresh=True)
print("checked")
"""
SETTINGS = """
import os
SECRET_KEY = os.environ["FRESH_SECRET"]
INSTALLED_APPS = ["django.contrib.contenttypes"]
"""


def test_models_of_django(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child sets Django up with the same settings, which may read the environment."""
    (tmp_path / "fresh_settings.py").write_text(SETTINGS)
    path = tmp_path / "fresh_project.py"
    path.write_text(PROJECT.format(setup='os.environ["DJANGO_SETTINGS_MODULE"] = "fresh_settings"'))
    monkeypatch.setenv("FRESH_SECRET", "s3cret")
    status, output, errors = script(path)
    assert (status, output) == (0, "checked\n"), errors
    configured = 'settings.configure(INSTALLED_APPS=["django.contrib.contenttypes"])'
    path.write_text(PROJECT.format(setup=configured))
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    status, _, errors = script(path)
    assert status == 1
    assert "Django was set up by settings.configure()" in errors


# --- The command ------------------------------------------------------------------------------


def test_the_exit_status_says_what_was_found(shop: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """0: it loads there, 1: it does not, 2: it cannot be found out."""
    assert main(["explain", "--fresh", "fresh_shop:clean"]) == 0
    assert main(["explain", "fresh_shop:late"]) == 0
    assert main(["explain", "--fresh", "fresh_shop:late"]) == 1
    assert (
        "CC119 value['row'] (fresh_shop.Registry.Late): in a fresh process"
        in capfd.readouterr().out
    )
    shop.killing = shop.Kills(a=1)
    assert main(["explain", "--fresh", "fresh_shop:killing"]) == 2
    out, errors = capfd.readouterr()
    assert not out
    assert errors == (
        "contextcache: no fresh process could load the value: "
        "it ended with signal 9 before it had loaded the value\n"
    )


def test_what_is_printed_there_is_no_output(shop: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """It goes where errors go."""
    assert main(["explain", "--fresh", "--json", "fresh_shop:clean_prints"]) == 0
    out, errors = capfd.readouterr()
    assert out.startswith("{")
    assert "printed" not in out
    assert "written" in errors


@pytest.mark.parametrize("options", [["--fresh"], ["--fresh", "--trusted"]])
def test_a_payload_is_never_loaded(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither from a file nor from standard input."""
    path = tmp_path / "cart.pickle"
    path.write_bytes(b"cos\nabort\n(tR.")
    for target in (str(path), "-"):
        assert main(["explain", *options, target]) == 2
        assert "no payload from a file or from Redis" in capsys.readouterr().err


def test_help_says_it(capsys: pytest.CaptureFixture[str]) -> None:
    """`--fresh` is in the help of the command."""
    with pytest.raises(SystemExit):
        main(["explain", "--help"])
    assert "--fresh" in dedent(capsys.readouterr().out)
