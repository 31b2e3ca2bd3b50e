"""The development page: seen by its developer in a browser, and by nobody else."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import ConfigurationError
from contextcache_flask import ContextCache
from tests.flask import shop
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask, Response

    from tests.browser import Browser

PAGE = "/__contextcache__/"


def generator() -> object:
    return (number for number in range(3))


def make_app(redis_url: str = "fakeredis://pages", **config: Any) -> Flask:
    app = shop.make_app(redis_url, **{"DEBUG": True, **config})
    ContextCache(app)
    shop.add_cache(app)

    @app.put("/generator")
    def store_generator() -> str:
        return str(shop.cache().set("numbers", generator()))

    return app


def put(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(urllib.request.Request(url, method="PUT"), timeout=PATIENCE).close()


# --- In a browser ---------------------------------------------------------------------------------


def test_a_developer_reads_what_was_found(
    browser: Browser, serve: Callable[[Flask], str], redis_client: Any, redis_url: str
) -> None:
    """The field, why, where in the source, what was done, what to do, and how to silence it."""
    url = serve(make_app(redis_url))
    put(url + "/cache/user:7")
    put(url + "/cache/user:8")
    browser.open(url + PAGE)
    assert browser.driver.title == "contextcache · tests.flask.shop"
    assert browser.texts("header p") == [
        "tests.flask.shop · 1 field that should not be stored · mode strip"
    ]
    assert browser.texts(".head .code") == ["CC102"]
    assert browser.texts(".head .path") == ["cache['user:8']['basket']._lock"]
    assert browser.texts(".head .count") == ["2×"]
    assert browser.texts(".why") == [
        "A _thread.lock cannot be stored: a lock belongs to this process."
    ]
    told = dict(zip(browser.texts("dt"), browser.texts("dd"), strict=True))
    assert told["where"].startswith("PUT /cache/user:8 · tests.flask.shop.put_in_cache (")
    assert told["where"].endswith("cache in redis")
    assert "tests.flask.shop.Basket._lock, set at " in told["field"]
    assert told["field"].endswith("\nself._lock = threading.Lock()")
    assert told["result"] == "stored the rest; on load this field is a new, unlocked lock"
    assert told["fix"].startswith("leave it out in __getstate__ of Basket")
    assert "cache['user:*']['basket']._lock" in told["silence"]
    assert browser.complaints() == []


def test_a_developer_reads_what_was_written(
    browser: Browser, serve: Callable[[Flask], str], redis_client: Any, redis_url: str
) -> None:
    """The last writes, the one that failed among them, with size and time."""
    url = serve(make_app(redis_url))
    put(url + "/write/ann")
    put(url + "/cache/user:7")
    put(url + "/generator")
    browser.open(url + PAGE)
    cells = browser.texts("tbody td")
    rows = [cells[start : start + 6] for start in range(0, len(cells), 6)]
    assert [row[:4] for row in rows] == [
        ["PUT /generator", "cache['numbers']", "cache in redis", "not stored: CC109"],
        ["PUT /cache/user:7", "cache['user:7']", "cache in redis", "stored, 1 finding"],
        ["PUT /write/ann", "session", "session in the cookie", "stored"],
    ]
    assert rows[0][4] == "–"
    assert rows[1][4].endswith(" B")
    assert rows[1][5].endswith(" ms")


def test_the_page_is_empty_before_anything_happened(
    browser: Browser, serve: Callable[[Flask], str]
) -> None:
    """It says so, and lists itself as no request."""
    browser.open(serve(make_app()) + PAGE)
    assert browser.texts("header p") == ["tests.flask.shop · nothing found so far · mode strip"]
    assert browser.texts(".none") == [
        "Nothing found.",
        "Nothing was written to a cache or session.",
    ]


def test_what_silences_a_finding_is_copied_by_a_button(
    browser: Browser, serve: Callable[[Flask], str]
) -> None:
    """One click, and it can be pasted into the settings."""
    url = serve(make_app())
    put(url + "/cache/user:7")
    browser.open(url + PAGE)
    grant = {"permissions": ["clipboardReadWrite"], "origin": url}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", grant)
    browser.click(".silence [data-copy]")
    until(lambda: "copied" in browser.texts("[data-copy]"))
    pasted = browser.driver.execute_async_script(
        "navigator.clipboard.readText().then(arguments[arguments.length - 1])"
    )
    assert [pasted] == browser.texts(".silence code")


def test_the_page_has_news_when_somebody_comes_back_to_it(
    browser: Browser, serve: Callable[[Flask], str]
) -> None:
    """Nobody has to reload it."""
    url = serve(make_app())
    browser.open(url + PAGE)
    put(url + "/cache/user:7")
    assert browser.texts(".head .path") == []
    browser.run("dispatchEvent(new Event('focus'))")
    until(lambda: browser.texts(".head .path") == ["cache['user:7']['basket']._lock"])
    assert browser.complaints() == []


def test_a_key_cannot_put_anything_into_the_page(
    browser: Browser, serve: Callable[[Flask], str]
) -> None:
    """Whoever chooses a key or a URL chooses a text, not a script."""
    url = serve(make_app())
    put(url + "/cache/%3Cscript%3Edocument.title='taken'%3C%2Fscript%3E".replace("%2F", "%5C"))
    put(url + "/cache/%3Cimg%20src=x%20onerror=document.title='taken'%3E")
    browser.open(url + PAGE)
    assert browser.driver.title == "contextcache · tests.flask.shop"
    assert browser.run("return document.querySelectorAll('main script, main img').length") == 0
    assert any("<img src=x" in path for path in browser.texts(".head .path"))
    assert browser.complaints() == []


@pytest.mark.parametrize(("scheme", "darker"), [("light", "text"), ("dark", "paper")])
def test_the_page_is_light_or_dark_as_the_system_is(
    browser: Browser, serve: Callable[[Flask], str], scheme: str, darker: str
) -> None:
    """Paper and text follow the preference."""
    browser.use_scheme(scheme)
    browser.open(serve(make_app()) + PAGE)
    paper, text = browser.run(
        "const style = getComputedStyle(document.body);"
        "return [style.backgroundColor, style.color].map("
        "  (one) => one.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b));"
    )
    assert (paper > text) == (darker == "text")


@pytest.mark.parametrize("width", [380, 1100])
def test_nothing_is_wider_than_the_window(
    browser: Browser, serve: Callable[[Flask], str], width: int
) -> None:
    """Long paths are broken, also on a narrow screen."""
    url = serve(make_app())
    put(url + "/cache/" + "very-long-name-" * 6)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.open(url + PAGE)
        assert browser.run("return document.documentElement.scrollWidth") <= width
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# --- By nobody else -------------------------------------------------------------------------------


def ask(app: Flask, address: str = "127.0.0.1", **headers: str) -> Response:
    headers.setdefault("Host", "localhost:5000")
    return app.test_client().get(PAGE, headers=headers, environ_base={"REMOTE_ADDR": address})


def test_there_is_no_page_in_production() -> None:
    """Outside of debug mode it is a 404 as any other."""
    app = make_app(DEBUG=False)
    assert ask(app).status_code == 404
    assert ask(app).data == app.test_client().get("/no-such-page").data


def test_debug_mode_may_be_switched_on_late() -> None:
    """As `app.run(debug=True)` does."""
    app = make_app(DEBUG=False)
    app.debug = True
    assert ask(app).status_code == 200


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("192.0.2.1", {}),
        ("", {}),
        ("127.0.0.1", {"X-Forwarded-For": "192.0.2.1"}),
        ("127.0.0.1", {"Forwarded": "for=192.0.2.1"}),
        ("127.0.0.1", {"Host": "shop.example"}),
        ("127.0.0.1", {"Host": "127.0.0.1.example:5000"}),
    ],
)
def test_nobody_else_sees_it(address: str, headers: dict[str, str]) -> None:
    """Another machine, somebody behind a proxy, a name that was made to point here."""
    assert ask(make_app(), address, **headers).status_code == 404


@pytest.mark.parametrize(
    ("address", "host"),
    [("127.0.0.1", "127.0.0.1:5000"), ("127.8.8.8", "shop.localhost"), ("::1", "[::1]:5000")],
)
def test_this_machine_sees_it(address: str, host: str) -> None:
    """By any name of its own."""
    assert ask(make_app(), address, Host=host).status_code == 200


def test_other_networks_may_be_let_in() -> None:
    """As the one between a container and its host; the list replaces the default."""
    app = make_app(CONTEXTCACHE_PAGE=["172.17.0.0/16"])
    assert ask(app, "172.17.0.1").status_code == 200
    assert ask(app).status_code == 404
    assert ask(make_app(CONTEXTCACHE_PAGE=[])).status_code == 404


@pytest.mark.parametrize("value", ["127.0.0.1", ["localhost"], 5, None])
def test_a_mistake_in_the_networks_is_named(value: object) -> None:
    """When the application starts."""
    with pytest.raises(
        ConfigurationError, match=r"^CONTEXTCACHE_PAGE is a list of networks, such as \["
    ):
        make_app(CONTEXTCACHE_PAGE=value)


def test_the_page_keeps_to_itself() -> None:
    """Browsers are told to keep it, frame it and send its address nowhere."""
    headers = ask(make_app()).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_production_keeps_nothing() -> None:
    """Neither writes nor findings are collected for a page nobody sees."""
    app = make_app(DEBUG=False)
    app.test_client().put("/cache/user:7")
    assert "notebook" not in vars(app.extensions["contextcache"])


def test_two_applications_have_two_pages() -> None:
    """What one finds, the other does not show."""
    one, other = make_app(), make_app()
    one.test_client().put("/cache/user:7")
    assert b"CC102" in ask(one).data
    assert b"CC102" not in ask(other).data


def test_what_is_found_outside_of_requests_is_there_too() -> None:
    """As by a command or a thread of the application."""
    app = make_app()
    with app.app_context():
        shop.cache().set("job", shop.Basket())
    assert b"cache[&#x27;job&#x27;]._lock" in ask(app).data


def test_a_value_is_never_shown() -> None:
    """Nor a secret of the application."""
    app = make_app()
    app.test_client().put("/write/canary-in-the-session")
    app.test_client().put("/cache/user:7")
    page = ask(app).get_data(as_text=True)
    assert "canary" not in page.replace("PUT /write/canary-in-the-session", "")
    assert shop.SECRET not in page


def test_the_notebook_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs for weeks keeps what somebody would read."""
    monkeypatch.setattr("contextcache_flask.recorder.MOST_FIELDS", 3)
    app = make_app()
    with app.app_context():
        for name in ("one", "two", "three", "four", "five"):
            shop.cache().set(name, shop.Basket())
    notebook = app.extensions["contextcache"].notebook
    assert len(notebook.fields) == 3
    assert str(notebook.fields[0].finding.path) == "cache['five']._lock"
    for _ in range(60):
        app.test_client().put("/cache/user:7")
    assert len(notebook.writes) == 50
    assert notebook.fields[0].finding.count == 60


def test_what_an_outage_keeps_from_being_stored_is_told() -> None:
    """A visitor sees a cache that is as if it were empty; the developer sees why."""
    app = make_app("redis://127.0.0.1:1/0", CONTEXTCACHE_SESSION=True)
    client = app.test_client()
    client.put("/cache/user:7")
    client.put("/write/ann")
    written = app.extensions["contextcache"].notebook.writes
    assert [(row["label"], row["outcome"], row["state"]) for row in written] == [
        ("session", "not stored: connection refused", "lost"),
        ("cache['user:7']", "not stored: connection refused", "lost"),
    ]
