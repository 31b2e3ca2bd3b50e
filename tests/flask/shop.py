"""A shop with habits that people really have; its views have importable names to be found by."""

from __future__ import annotations

import threading
from typing import Any

from flask import Blueprint, Flask, Response, current_app, g, jsonify, request, session
from flask.views import MethodView
from flask_caching import Cache

from tests.sealing import SECRET

shop = Blueprint("shop", __name__)


class Basket:
    """A value of the shop's own that holds a lock."""

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._lock = threading.Lock()


def cache() -> Any:
    """Return the backend of the current application's only Cache."""
    (backend,) = current_app.extensions["cache"].values()
    return backend


@shop.put("/cart")
def add_to_cart() -> str:
    session["cart"] = Basket(3)
    return "added"


@shop.get("/cart")
def show_cart() -> dict[str, Any]:
    basket = session.get("cart")
    return {"number": basket.number if basket else None, "keys": sorted(session)}


@shop.put("/cache/<key>")
def put_in_cache(key: str) -> str:
    return str(cache().set(key, {"basket": Basket(7), "name": key}))


class Things(MethodView):
    def put(self) -> str:
        return str(cache().set("thing", Basket()))


shop.add_url_rule("/things", view_func=Things.as_view("things"))


@shop.put("/untouched")
@shop.get("/untouched")
def untouched() -> str:
    return "nothing"


@shop.get("/read")
def read() -> str:
    return str(session.get("name"))


@shop.put("/write/<name>")
def write(name: str) -> str:
    session["name"] = name
    return name


@shop.get("/all")
def everything() -> Response:
    return jsonify({key: str(session[key]) for key in session})


@shop.post("/logout")
def log_out() -> str:
    session.clear()
    return "bye"


@shop.put("/proxies")
def store_proxies() -> str:
    g.greeting = "hello"
    session["request"] = request
    session["app"] = current_app
    session["user"] = "ann"
    cache().set("proxies", {"request": request, "session": session, "g": g, "app": current_app})
    return "stored"


def make_app(redis_url: str = "fakeredis://", **config: Any) -> Flask:
    """Return the shop, not yet initialised by anything."""
    app = Flask("tests.flask.shop")
    app.config.update(
        TESTING=True,
        SECRET_KEY=SECRET,
        CONTEXTCACHE_REDIS_URL=redis_url,
        CACHE_TYPE="contextcache_flask.RedisCache",
        **config,
    )
    app.register_blueprint(shop)
    return app


def add_cache(app: Flask) -> Cache:
    """Initialise Flask-Caching for `app`."""
    cache = Cache(with_jinja2_ext=False)
    cache.init_app(app)
    return cache
