"""Real servers on loopback with concurrent visitors: nobody ever gets what is another's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from tests.child import ROOT
from tests.redis_server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

VISITORS, ROUNDS = 8, 8
START_SECONDS = 60
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
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, check=True, timeout=120)
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
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *command],
            cwd=ROOT,
            env={**environment, "CROWD_ENGINE": f"contextcache_django.{engine}"},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                requests.get(f"http://127.0.0.1:{port}/none", timeout=5)
                break
            except requests.ConnectionError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{command[0]} did not start:\n{log.read_text()}", pytrace=False)
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=30)


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
            assert browser.get(f"{url}/login/{name}", timeout=60).status_code == 200
            ready.wait(timeout=60)
            for _ in range(ROUNDS):
                for page in PAGES:
                    answer = browser.get(f"{url}/{page}/{name}", timeout=60)
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
        browser.get(f"{url}/login/visitor1", timeout=60)
        answer = browser.get(f"{url}/visit/visitor1", timeout=60)
    header = answer.headers["X-ContextCache"]
    assert foreign(answer, "visitor1") == []
    assert "cache['view:visitor1']['basket'].lock" in header
    assert "canary" not in header
