"""Real servers on loopback with concurrent visitors: nobody ever gets what is another's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from tests.child import ROOT
from tests.redis_server import free_port
from tests.waiting import PATIENCE
from tests.web_server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

VISITORS, ROUNDS = 8, 8
PAGES = ["visit", "async", "stream", "mine"]
CROWD = "tests.django.crowd"
GUNICORN = ["gunicorn", f"{CROWD}:wsgi", "--no-control-socket", "--bind", "127.0.0.1:{port}"]
SERVERS = {
    "runserver": ["django", "runserver", "--noreload", "127.0.0.1:{port}"],
    "uvicorn": ["uvicorn", f"{CROWD}:asgi", "--port", "{port}", "--log-level", "error"],
    "prefork": [*GUNICORN, "--workers", "4"],
    "threads": [*GUNICORN, "--workers", "2", "--threads", "4"],
}

PREPARE = """
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
for number in range({visitors}):
    User.objects.create(username=f"visitor{{number}}", password="canary")
"""


@pytest.fixture(scope="module")
def environment(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the servers are told, with a database in which the visitors are known."""
    env = {
        **os.environ,
        "CROWD_DATABASE": str(tmp_path_factory.mktemp("crowd") / "crowd.sqlite3"),
        "CROWD_REDIS": redis_url,
        "DJANGO_SETTINGS_MODULE": CROWD,
        "PYTHONPATH": str(ROOT),
    }
    code = PREPARE.format(visitors=VISITORS)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True)
    return env


@pytest.fixture(params=SERVERS, scope="module")
def url(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """Run each server, on sessions in Redis or in the database, and yield its address."""
    port, log = free_port(), tmp_path_factory.mktemp("server") / "log"
    engine = "cached_db" if request.param == "threads" else "sessions"
    command = [part.format(port=port) for part in SERVERS[request.param]]
    env = {**environment, "CROWD_ENGINE": f"contextcache_django.{engine}"}
    with serving(command, port, env, log) as url:
        yield url


def foreign(answer: requests.Response, name: str) -> list[str]:
    """Return what an answer says that is not the visitor's own."""
    told = [f"{where}: {owner}" for where, owner in answer.json().items() if owner != name]
    header = answer.headers.get("X-ContextCache", "")
    keys = re.findall(r"(?:view|memory|thread|async|hop|task|stream):(\w+)", header)
    return told + [f"header: {key}" for key in keys if key != name]


def test_nobody_gets_what_is_another_s(url: str) -> None:
    """Views, threads, pools, tasks, hops and streamed bodies store and read at the same time."""
    ready = threading.Barrier(VISITORS)

    def visitor(number: int) -> tuple[int, list[str]]:
        name = f"visitor{number}"
        wrong: list[str] = []
        asked = 0
        with requests.Session() as browser:
            assert browser.get(f"{url}/login/{name}", timeout=PATIENCE).status_code == 200
            ready.wait(timeout=PATIENCE)
            for _ in range(ROUNDS):
                for page in PAGES:
                    answer = browser.get(f"{url}/{page}/{name}", timeout=PATIENCE)
                    assert answer.status_code == 200, answer.text[:2000]
                    wrong += foreign(answer, name)
                    asked += 1
        return asked, wrong

    with ThreadPoolExecutor(VISITORS) as crowd:
        results = list(crowd.map(visitor, range(VISITORS)))
    assert [wrong for _, wrong in results] == [[]] * VISITORS
    assert sum(asked for asked, _ in results) == VISITORS * ROUNDS * len(PAGES)


def test_the_findings_of_a_request_are_its_own(url: str) -> None:
    """The header of a response names what this request stored; the password hash is not stored."""
    with requests.Session() as browser:
        browser.get(f"{url}/login/visitor1", timeout=PATIENCE)
        answer = browser.get(f"{url}/visit/visitor1", timeout=PATIENCE)
    header = answer.headers["X-ContextCache"]
    assert foreign(answer, "visitor1") == []
    assert "cache['view:visitor1']['basket'].lock" in header
    assert "canary" not in header
