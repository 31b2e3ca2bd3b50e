"""The panel of Flask-DebugToolbar, as it is seen in a browser."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from flask import Flask, session
from flask_debugtoolbar import DebugToolbarExtension

from contextcache_flask import ContextCache
from tests.flask import shop

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.browser import Browser

# These add routes when they are imported, which Flask refuses once an application has the others.
importlib.import_module("flask_debugtoolbar.panels.sqlalchemy")
importlib.import_module("flask_debugtoolbar.panels.template")

PANEL = "#flDebugcontextcachePanel-content"


def make_app() -> Flask:
    app = shop.make_app(
        "fakeredis://panel",
        DEBUG=True,
        DEBUG_TB_PANELS=["contextcache_flask.panels.ContextCachePanel"],
    )
    ContextCache(app)
    shop.add_cache(app)
    DebugToolbarExtension(app)

    @app.get("/page")
    def page() -> str:
        session["name"] = "ann"
        shop.cache().set("user:7", shop.Basket())
        shop.cache().set("<img src=x onerror=document.title='taken'>", "text")
        shop.cache().set("numbers", (number for number in range(3)))
        return "<!doctype html><title>shop</title><body>a shop</body>"

    return app


def test_a_developer_reads_what_was_found_and_written(
    browser: Browser, serve: Callable[[Flask], str]
) -> None:
    """Fields with path, source and fix; every write, also the one that was not stored."""
    browser.open(serve(make_app()) + "/page")
    browser.run("document.querySelector('.flDebugcontextcachePanel').click()")
    assert browser.texts(f"{PANEL} .head .path") == ["cache['user:7']._lock", "cache['numbers']"]
    assert browser.texts(f"{PANEL} dd pre")[0] == "self._lock = threading.Lock()"
    cells = browser.texts(f"{PANEL} tbody td")
    rows = [cells[start : start + 3] for start in range(0, len(cells), 5)]
    assert rows == [
        ["cache['user:7']", "cache in redis", "stored, 1 finding"],
        ["cache[\"<img src=x onerror=document.title='taken'>\"]", "cache in redis", "stored"],
        ["cache['numbers']", "cache in redis", "not stored: CC109"],
    ]
    assert "/__contextcache__/" in browser.texts(f"{PANEL} .none")[0]
    assert browser.driver.title == "shop"


def test_the_panel_says_where_it_has_nothing_to_show() -> None:
    """An application without the extension is told so."""
    app = Flask(__name__)
    app.config.update(
        DEBUG=True,
        SECRET_KEY=shop.SECRET,
        DEBUG_TB_PANELS=["contextcache_flask.panels.ContextCachePanel"],
    )
    DebugToolbarExtension(app)
    app.add_url_rule("/", view_func=lambda: "<!doctype html><body>a shop</body>")
    page = app.test_client().get("/").get_data(as_text=True)
    assert "contextcache is not initialised for this application." in page


def test_a_field_of_many_items_is_one_row(browser: Browser, serve: Callable[[Flask], str]) -> None:
    """With the number of them, as in the panel for Django."""
    app = make_app()

    @app.get("/many")
    def many() -> str:
        shop.cache().set("baskets", [shop.Basket(number) for number in range(3)])
        return "<!doctype html><title>shop</title><body>a shop</body>"

    browser.open(serve(app) + "/many")
    browser.run("document.querySelector('.flDebugcontextcachePanel').click()")
    (path,) = browser.texts(f"{PANEL} .head .path")
    assert path.endswith("._lock")
    assert any("1 finding, 1 write" in text for text in browser.texts("#flDebugToolbar small"))
