"""The panel of django-debug-toolbar, as it is seen in a browser."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.child import ROOT
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.browser import Browser

PANEL = "#ContextCachePanel"


@pytest.fixture(params=["wsgi", "asgi"], scope="module")
def server(request: pytest.FixtureRequest, redis_url: str) -> Iterator[str]:
    """The URL of a project with the toolbar, under either kind of server."""
    yield from served(request.param, redis_url)


@pytest.fixture
def project(server: str, redis_client: redis.Redis) -> str:
    """The same, with nothing in its Redis."""
    return server


def served(how: str, redis_url: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.django.toolbar_project", how, redis_url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            assert url.startswith("http://127.0.0.1:"), "the project did not start"
            yield url
        finally:
            server.terminate()


def open_panel(browser: Browser, url: str) -> None:
    browser.open(url)
    until(lambda: any(browser.texts("#djdt-ContextCachePanel a")))
    browser.click("#djdt-ContextCachePanel a")
    until(lambda: any(browser.texts(f"{PANEL} .contextcache")))


def numbers(browser: Browser) -> list[str]:
    return browser.texts("#djdt-ContextCachePanel small")


def test_a_developer_reads_what_was_found_and_written(browser: Browser, project: str) -> None:
    """Fields with path, source and fix; every write, also the one that was not stored."""
    open_panel(browser, project)
    assert numbers(browser) == ["5 findings, 4 writes, 1 not stored"]
    assert browser.texts(f"{PANEL} .head .path") == [
        "cache['user:7'].items[1].client._lock",
        "cache['user:7'].items[1].client._local",
        "cache['numbers']",
        "session['cart'].items[1].client._lock",
        "session['cart'].items[1].client._local",
    ]
    assert "tests.django.shop.Client._lock, set at " in browser.texts(f"{PANEL} dd")[1]
    assert "self._lock = threading.Lock()" in browser.texts(f"{PANEL} dd pre")[0]
    cells = browser.texts(f"{PANEL} tbody td")
    rows = [cells[start : start + 5] for start in range(0, len(cells), 5)]
    where = "cache 'default' in redis"
    assert [row[:3] for row in rows] == [
        ["cache['user:7']", where, "stored, 2 findings"],
        ["cache[\"<img src=x onerror=document.title='taken'>\"]", where, "stored"],
        ["cache['numbers']", where, "not stored: CC109"],
        ["session", "session in redis", "stored, 2 findings"],
    ]
    assert rows[2][3] == "–"
    assert all(row[3].endswith(" B") for row in rows if row is not rows[2])
    assert all(row[4].endswith(" ms") for row in rows)
    assert browser.driver.title == "shop"


def test_the_toolbar_does_not_change_the_look(browser: Browser, project: str) -> None:
    """Its own rules for code, lists and tables are not for this panel."""
    open_panel(browser, project)
    style = browser.style(f"{PANEL} .why code", "display", "border-top-width")
    assert style == ["inline", "0px"]
    assert browser.style(f"{PANEL} dd pre", "border-top-width") == ["0px"]
    assert browser.style(f"{PANEL} .fix", "color") != browser.style(f"{PANEL} .why", "color")


def test_an_async_view_is_seen_too(browser: Browser, project: str) -> None:
    """Its `aset` is stored by another thread."""
    open_panel(browser, project + "async")
    assert numbers(browser) == ["2 findings, 1 write"]


def test_a_request_that_wrote_nothing_says_so(browser: Browser, project: str) -> None:
    """An empty panel is not a broken one."""
    open_panel(browser, project + "clean")
    assert browser.texts(f"{PANEL} .none") == [
        "Nothing found.",
        "Nothing was written to a cache or session.",
    ]


def test_an_earlier_request_is_shown_by_the_history(browser: Browser, project: str) -> None:
    """What the panel keeps is plain data, from which it is shown again."""
    open_panel(browser, project + "clean")
    browser.driver.execute_async_script("fetch('/').then(arguments[arguments.length - 1])")
    browser.click("#djdt-HistoryPanel a")
    rows = "#djdtHistoryRequests > tr"
    until(lambda: any("\n/\n" in row for row in browser.texts(rows)))
    place, *_ = [at for at, row in enumerate(browser.texts(rows), 1) if "\n/\n" in row]

    def switched() -> bool:
        # The script that listens to this button may not have arrived yet.
        browser.click(f"{rows}:nth-of-type({place}) .switchHistory")
        time.sleep(0.2)
        return numbers(browser) == ["5 findings, 4 writes, 1 not stored"]

    until(switched)
