"""The pytest plugin: real runs of real suites, Django's and Flask's among them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.child import ROOT
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from pathlib import Path

CLIENT = """
import threading


class Client:
    def __init__(self):
        self.id = 7
        self._lock = threading.Lock()
"""

CORE = """
import threading
from concurrent.futures import ThreadPoolExecutor
from contextcache import Guard
from contextcache.testing import capture_findings
from shop import Client

guard = Guard(sink="cache in redis")


def test_clean():
    guard.dumps({"user": 42}, label="session")


def test_dirty():
    guard.dumps({"client": Client(), "rows": (row for row in ())}, label="session")
    raise AssertionError("the write did not stop the test")


def test_expected():
    with capture_findings() as findings:
        guard.dumps({"client": Client()}, label="session")
    assert len(findings) == 1


def test_swallowed():
    def write():
        guard.dumps({"client": Client()}, label="session")
    thread = ThreadPoolExecutor(1)
    thread.submit(write).exception()
    thread.shutdown()
"""

DJANGO = """
from django.conf import settings
from django.core.cache import cache
from django.http import HttpResponse
from django.test import Client as Browser
from django.urls import path
from shop import Client


def add(request):
    request.session["client"] = Client()
    return HttpResponse("added")


def top(request):
    try:
        cache.set("top", {"client": Client()})
    except Exception:
        pass  # a view that hides every error
    return HttpResponse("top")


def clean(request):
    request.session["n"] = cache.get_or_set("n", lambda: 1)
    return HttpResponse("clean")


urlpatterns = [path("add", add), path("top", top), path("clean", clean)]


def test_clean():
    assert Browser().get("/clean").status_code == 200


def test_session():
    Browser().get("/add")


def test_cache():
    Browser().get("/top")
"""

DJANGO_SETTINGS = """
SECRET_KEY = "test"
ROOT_URLCONF = "test_suite"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["contextcache_django"]
MIDDLEWARE = [
    "contextcache_django.middleware.ContextCacheMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
]
CACHES = {"default": {"BACKEND": "contextcache_django.cache.RedisCache"}}
SESSION_ENGINE = "contextcache_django.sessions"
"""

FLASK = """
import pytest
from flask import Flask, session
from flask_caching import Cache
from contextcache_flask import ContextCache
from shop import Client


@pytest.fixture
def client():
    app = Flask(__name__)
    app.secret_key = "test"
    app.config.update(
        CACHE_TYPE="contextcache_flask.RedisCache",
        CONTEXTCACHE_REDIS_URL="fakeredis://",
        CONTEXTCACHE_SESSION=True,
    )
    cache = Cache(app)
    ContextCache(app)

    @app.get("/add")
    def add():
        session["client"] = Client()
        return "added"

    @app.get("/top")
    def top():
        cache.set("top", {"client": Client()})
        return "top"

    @app.get("/clean")
    def clean():
        session["n"] = 1
        return "clean"

    return app.test_client()


def test_clean(client):
    assert client.get("/clean").status_code == 200


def test_session(client):
    client.get("/add")


def test_cache(client):
    client.get("/top")
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(CLIENT)
    return tmp_path


def run(suite: Path, source: str, *options: str) -> tuple[dict[str, int], str]:
    """Run a suite in a process of its own; return its outcomes and what it printed."""
    (suite / "test_suite.py").write_text(textwrap.dedent(source))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{suite}", "COLUMNS": "100"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "contextcache.pytest_plugin", "--no-header"),
            *("-p", "no:cacheprovider", "--rootdir", str(suite), "-c", os.devnull, *options),
            "test_suite.py",
        ],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )
    assert "INTERNALERROR" not in done.stdout, done.stdout
    outcomes = re.findall(r"(\d+) (passed|failed|error)", (done.stdout.splitlines() or [""])[-1])
    return {outcome: int(number) for number, outcome in outcomes}, done.stdout + done.stderr


def test_without_the_option_nothing_happens(suite: Path) -> None:
    """Installed and not asked for, it is as if it were not there."""
    outcomes, told = run(suite, CORE)
    assert outcomes == {"passed": 3, "failed": 1}
    assert "the write did not stop the test" in told
    assert "= contextcache" not in told


def test_it_can_be_named_where_it_is_installed(suite: Path) -> None:
    """By its entry point and by `-p` it is the same plugin, registered once."""
    [(name, module)] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "entry-points"
    ]["pytest11"].items()
    installed = suite / "contextcache_web-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: contextcache-web\nVersion: 0\n"
    )
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{name} = {module}\n")
    outcomes, _ = run(suite, CORE, "--contextcache=report", "-k", "clean")
    assert outcomes == {"passed": 1}


def test_raise_fails_a_test_at_the_write_with_all_findings(suite: Path) -> None:
    """Not at the end of it, nor at the first field; what a test expects does not fail it."""
    outcomes, told = run(suite, CORE, "--contextcache=raise")
    assert outcomes == {"passed": 3, "failed": 1, "error": 1}
    assert "the write did not stop the test" not in told.partition("short test summary")[0]
    block = """\
        CC102 session['client']._lock cannot be stored as it is, and 1 more
          CC102: session['client']._lock (_thread.lock) a lock belongs to this process
            where   test_suite.py:16
            field   shop.Client._lock, set at shop.py:8: self._lock = threading.Lock()
            fix     leave it out in __getstate__ of Client; across processes it protects nothing
          CC109: session['rows'] (generator) a generator, coroutine or iterator in progress"""
    assert textwrap.dedent(block) in told


def test_fields_that_are_alike_are_told_once(suite: Path) -> None:
    """Two clients in a list are one field, and what the summary shows names it."""
    source = CORE.replace(
        '{"client": Client(), "rows": (row for row in ())}', "[Client()] * 9 + [Client()]"
    )
    _, told = run(suite, source, "--contextcache=raise", "-k", "dirty")
    assert " a lock belongs to this process (and 1 like it)\n    where   test_suite.py:16\n" in told
    assert (
        "FAILED test_suite.py::test_dirty - "
        "Failed: CC102 session[0]._lock cannot be stored as it is\n" in told
    )


def test_raise_fails_a_test_whose_write_failed_unseen(suite: Path) -> None:
    """An application may swallow errors, or write in a thread: the test ends with an error."""
    outcomes, told = run(suite, CORE, "--contextcache=raise", "-k", "swallowed")
    assert outcomes == {"passed": 1, "error": 1}
    assert "CC102: session['client']._lock" in told


def test_report_sums_up_at_the_end(suite: Path) -> None:
    """Each pattern once, with its number and the test where it was met first."""
    outcomes, told = run(suite, CORE, "--contextcache=report")
    assert outcomes == {"passed": 3, "failed": 1}
    summary = told.partition("= contextcache =")[2]
    assert (
        textwrap.dedent("""\
        CC102 session['client']._lock (_thread.lock): a lock belongs to this process
          found   2 times, first in test_suite.py::test_dirty
          field   shop.Client._lock, set at shop.py:8: self._lock = threading.Lock()
          fix     leave it out in __getstate__ of Client; across processes it protects nothing
        CC109 session['rows'] (generator): """)
        in summary
    )
    assert "  found   once in test_suite.py::test_dirty\n" in summary


def test_report_says_nothing_where_nothing_was_found(suite: Path) -> None:
    """No section for a clean run."""
    outcomes, told = run(suite, CORE, "--contextcache=report", "-k", "clean")
    assert outcomes == {"passed": 1}
    assert "= contextcache =" not in told


def test_a_django_suite(suite: Path) -> None:
    """Sessions stored after the view, and a view that catches everything: both fail."""
    (suite / "suite_settings.py").write_text(DJANGO_SETTINGS)
    options = ("--ds=suite_settings",)
    outcomes, told = run(suite, DJANGO, *options, "--contextcache=raise")
    assert outcomes == {"passed": 1, "failed": 2}
    assert "CC102: session['client']._lock" in told
    assert "CC102: cache['top']['client']._lock" in told
    assert "GET add · test_suite.add" in told
    outcomes, told = run(suite, DJANGO, *options, "--contextcache=report")
    assert outcomes == {"passed": 3}
    assert "CC102 session['client']._lock (_thread.lock)" in told
    assert "first in" not in told.partition("= contextcache =")[2]


def test_a_flask_suite(suite: Path) -> None:
    """The session and the cache of an application made by a fixture."""
    outcomes, told = run(suite, FLASK, "--contextcache=raise")
    assert outcomes == {"passed": 1, "failed": 2}
    assert "CC102: session['client']._lock" in told
    assert "CC102: cache['top']['client']._lock" in told
    assert "GET /add" in told
    outcomes, told = run(suite, FLASK, "--contextcache=report")
    assert outcomes == {"passed": 3}
    assert "CC102 cache['top']['client']._lock (_thread.lock)" in told


def test_workers_of_xdist_hand_over_what_they_found(suite: Path) -> None:
    """One summary of all processes."""
    outcomes, told = run(suite, CORE, "--contextcache=report", "-n", "2")
    assert outcomes == {"passed": 3, "failed": 1}
    assert "CC102 session['client']._lock (_thread.lock)" in told
    assert "2 times, first in test_suite.py::test_" in told


ODD = """
    import threading
    from contextcache import Guard

    class Odd(str):
        pass

    def test_label():
        Guard().dumps([threading.Lock()], label="ses\\ud800sion")

    def test_path():
        Guard().dumps({"a\\udcff": threading.Lock()}, label=Odd("menu"))

    def test_name():
        cls = type("Row\\nX", (), {"__module__": Odd("shop")})
        cls.__qualname__ = Odd("Row\\x1bX")
        Guard().dumps({"n": cls()}, label="menu")

    def test_clean():
        Guard().dumps({"n": [object]})
        Guard().dumps({"n": 1})
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_name_that_cannot_be_encoded_ends_no_run(suite: Path, processes: str) -> None:
    """What the workers of pytest-xdist hand over is plain text, whatever a label is made of."""
    outcomes, text = run(suite, ODD, "--contextcache=report", "-n", processes)
    assert outcomes == {"passed": 4}
    assert r"CC102 ses\ud800sion[0] (_thread.lock)" in text
    assert r"CC102 menu['a\udcff'] (_thread.lock)" in text
    assert r"Row\x1bX" in text
    assert "contextcache: 5 writes seen, 3 findings" in text
    outcomes, text = run(suite, ODD, "--contextcache=raise", "-n", processes)
    assert outcomes == {"passed": 1, "failed": 3}
    assert "contextcache: 5 writes seen, 3 findings" in text


def test_a_run_without_a_guarded_write_says_so(suite: Path) -> None:
    """A project whose caches nobody guards does not look like a clean one; JSON is counted."""
    for mode in ("report", "raise"):
        _, text = run(suite, "def test_nothing(): pass", f"--contextcache={mode}")
        assert text.count("contextcache: no guarded write was seen") == 1
    assert "contextcache:" not in run(suite, CORE.replace("test_dirty", "dirty"))[1]
    as_json = "import json; from contextcache.jsonable import JSONGuard\ndef test_json(): "
    _, text = run(suite, as_json + "JSONGuard(json.dumps).dumps({1: 2})", "--contextcache=report")
    assert "contextcache: 1 write seen, 1 finding" in text


MARKED = """
    import pytest
    import threading
    from contextcache import Guard

    @pytest.fixture
    def stored():
        Guard().dumps({"lock": threading.Lock()}, label="fixture")

    @pytest.mark.contextcache("off")
    def test_exempt(stored):
        Guard().dumps({"lock": threading.Lock()}, label="exempt")

    @pytest.mark.contextcache("report")
    def test_reported():
        Guard().dumps({"lock": threading.Lock()}, label="reported")

    @pytest.mark.contextcache("raise")
    class TestAll:
        def test_refused(self):
            Guard().dumps({"lock": threading.Lock()}, label="refused")

    def test_default():
        Guard().dumps({"lock": threading.Lock()}, label="default")
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_marker_sets_the_mode_of_a_test(suite: Path, processes: str) -> None:
    """An exempt test may store anything, in its fixtures too; the mode ends with the test."""
    outcomes, text = run(suite, MARKED, "--contextcache=raise", "-n", processes)
    assert outcomes == {"passed": 2, "failed": 2}
    assert "Failed: CC102 refused['lock']" in text
    assert "Failed: CC102 default['lock']" in text
    assert "CC102 reported['lock'] (_thread.lock)" in text
    assert "5 writes seen, 3 findings" in text
    outcomes, text = run(suite, MARKED, "--contextcache=report", "-n", processes)
    assert outcomes == {"passed": 3, "failed": 1}
    assert "exempt" not in text.partition("= contextcache =")[2]
    assert "fixture[" not in text


def test_a_marker_is_known_and_ignored_without_the_option(suite: Path) -> None:
    """With `--strict-markers` the same suite runs where nothing is asked for."""
    outcomes, _ = run(suite, MARKED, "--strict-markers")
    assert outcomes == {"passed": 4}


@pytest.mark.parametrize("arguments", ["", '"loud"', '"off", 1'])
def test_a_marker_without_a_mode_is_refused(suite: Path, arguments: str) -> None:
    """A typo exempts nothing by accident; the message names the test and the modes."""
    source = MARKED.replace('contextcache("off")', f"contextcache({arguments})")
    _, text = run(suite, source, "--contextcache=raise")
    assert "test_suite.py::test_exempt: @pytest.mark.contextcache(mode) takes one of" in text


def test_the_setting_takes_the_place_of_the_option(suite: Path) -> None:
    """The option on the command line wins over the configuration file."""
    setting = ("-o", "contextcache=raise")
    assert run(suite, MARKED, *setting)[0] == {"passed": 2, "failed": 2}
    assert run(suite, MARKED, *setting, "--contextcache=report")[0] == {"passed": 3, "failed": 1}
    outcomes, text = run(suite, MARKED, *setting, "--contextcache=off")
    assert outcomes == {"passed": 4}
    assert "contextcache:" not in text
    _, text = run(suite, MARKED, "-o", "contextcache=loud")
    assert "contextcache = 'loud' is not one of raise, report, off" in text
