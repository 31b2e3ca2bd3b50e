"""A real gunicorn on loopback with concurrent visitors: nobody ever gets what is another's."""

from __future__ import annotations

import os
import re
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

VISITORS, ROUNDS = 8, 12
KINDS = {
    "threads": ["--worker-class", "gthread", "--workers", "2", "--threads", "4"],
    "gevent": ["--worker-class", "gevent", "--workers", "2"],
}


@pytest.fixture(params=KINDS, scope="module")
def server(request, redis_url, tmp_path_factory) -> Iterator[tuple[str, str]]:
    """Run gunicorn with workers of each kind; yield the kind and its address."""
    port, folder = free_port(), tmp_path_factory.mktemp("gunicorn")
    command = ["gunicorn", "tests.flask.crowd:app", "--bind", f"127.0.0.1:{port}"]
    command += ["--worker-tmp-dir", str(folder), "--no-control-socket", *KINDS[request.param]]
    env = {**os.environ, "CROWD_REDIS": redis_url, "PYTHONPATH": str(ROOT)}
    with serving(command, port, env, folder / "log") as url:
        yield request.param, url


def foreign(answer: requests.Response, name: str) -> list[str]:
    """Return what an answer says that is not the visitor's own."""
    told = [f"{where}: {owner}" for where, owner in answer.json().items() if owner != name]
    header = answer.headers.get("X-ContextCache", "")
    keys = re.findall(r"(?:view|thread|pool|async):(\w+)", header)
    return told + [f"header: {key}" for key in keys if key != name]


def test_nobody_gets_what_is_another_s(server):
    """Views, threads, executors, copied contexts and coroutines store and read at the same time."""
    kind, url = server
    pages = ["visit", "mine"] if kind == "gevent" else ["visit", "async", "mine"]
    ready = threading.Barrier(VISITORS)

    def visitor(number: int) -> tuple[int, list[str]]:
        name, wrong, asked = f"visitor{number}", [], 0
        with requests.Session() as browser:
            ready.wait(timeout=PATIENCE)
            for _ in range(ROUNDS):
                for page in pages:
                    answer = browser.get(f"{url}/{page}/{name}", timeout=PATIENCE)
                    assert answer.status_code == 200, answer.text
                    wrong += foreign(answer, name)
                    asked += 1
        return asked, wrong

    with ThreadPoolExecutor(VISITORS) as crowd:
        results = list(crowd.map(visitor, range(VISITORS)))
    assert [wrong for _, wrong in results] == [[]] * VISITORS
    assert sum(asked for asked, _ in results) == VISITORS * ROUNDS * len(pages)


def test_the_findings_of_a_request_are_its_own(server):
    """The header of a response names what this request stored, and that all of it."""
    _, url = server
    answer = requests.get(f"{url}/visit/ann", timeout=PATIENCE)
    header = answer.headers["X-ContextCache"]
    assert foreign(answer, "ann") == []
    assert "cache['view:ann']['basket'].lock" in header
    assert "cache['thread:ann']['basket'].lock" in header
