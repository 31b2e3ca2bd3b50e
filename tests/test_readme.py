"""Every code block of the README, and of the pages for every user, does what its text says.

A block is known by the comment above it, `<!-- name -->`; a block without one fails the first test.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from contextcache import Guard
from contextcache.testing import capture_findings
from tests.waiting import PATIENCE

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("commands", "core", "settings", "testing")  # in docs/; `test_docs` has the others
TEXT = README + "".join(
    (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in PAGES
)
BLOCKS = {
    match["name"]: match["text"]
    for match in re.finditer(
        r"^<!-- (?P<name>[\w ]+) -->\n```\w*\n(?P<text>.*?)^```$", TEXT, re.MULTILINE | re.DOTALL
    )
}


PATIENT = "?socket_timeout=10"  # on a busy machine a reply may take a while


def in_a_project(tmp_path: Path, script: str) -> str:
    """Run `script` in a new interpreter with `tmp_path` as the project; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_every_block_is_executed_here() -> None:
    """No code block is unknown to these tests; the commands in shell blocks are checked, too."""
    blocks = re.findall(r"^```(\w*)\n.*?^```$", TEXT, re.MULTILINE | re.DOTALL)
    fenced = sum(language != "sh" for language in blocks)
    own_text = Path(__file__).read_text(encoding="utf-8")
    tested = set(re.findall(r'BLOCKS\["([\w ]+)"\]', own_text))
    assert len(BLOCKS) == fenced
    assert set(BLOCKS) == tested


def test_the_first_screen_shows_it_all() -> None:
    """The error that one has, what one gets instead, and the installation."""
    screen = "\n".join(README.split("\n")[:32])
    for name in ("today", "now"):
        assert BLOCKS[name] in screen
    assert "pip install" in screen
    assert len(README.splitlines()) <= 130


def test_what_pickle_says_today() -> None:
    """The misleading error is the one pickle raises."""
    with pytest.raises(TypeError) as raised:
        pickle.dumps({"cart": threading.Lock()})
    assert BLOCKS["today"].strip() == f"TypeError: {raised.value}"


API = '''\
"""What the shop sells."""

import threading
from dataclasses import dataclass, field


@dataclass
class Cart:
    items: list = field(default_factory=list)





class Client:
    def __init__(self):
        self.id = 7
        self._lock = threading.Lock()


@dataclass
class Item:
    client: Client = None
'''

VIEWS = (
    """\
from django.http import HttpResponse
from shop.api import Cart, Client, Item
"""
    + "\n" * 38
    + """def add_to_cart(request):
    request.session["cart"] = Cart([Item(), Item(), Item(), Item(Client())])
    return HttpResponse("added")
"""
)

SITE = """
import django
from django.conf import settings
from django.urls import path

settings.configure(
    DEBUG=True,
    SECRET_KEY="x",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="__main__",
    INSTALLED_APPS=["contextcache_django"],
    MIDDLEWARE=[
        "contextcache_django.middleware.ContextCacheMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
    ],
    CACHES={"default": {"BACKEND": "contextcache_django.cache.RedisCache", "LOCATION": REDIS_URL}},
    SESSION_ENGINE="contextcache_django.sessions",
    CONTEXTCACHE={"IGNORE": []},
    LOGGING={"version": 1, "loggers": {"django": {"level": "ERROR"}}},
)
django.setup()
from shop.views import add_to_cart

urlpatterns = [path("cart", add_to_cart)]

from django.test import Client

assert Client().put("/cart").content == b"added"
"""


def test_our_block_is_what_the_log_says(tmp_path: Path, redis_url: str) -> None:
    """The block of the README is the log of a real Django project that does just this."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "api.py").write_text(API)
    (tmp_path / "shop" / "views.py").write_text(VIEWS)
    said = in_a_project(tmp_path, f"REDIS_URL = '{redis_url}{PATIENT}'\n{SITE}")
    assert BLOCKS["now"] in said


def test_the_core_without_a_framework(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program prints what the README says, logs the line, and its tests pass."""
    module = types.ModuleType("readme")
    module.__file__ = __file__  # as if others could import it
    monkeypatch.setitem(sys.modules, "readme", module)  # a class is stored by its module's name
    names: dict[str, Any] = vars(module)
    printed = io.StringIO()
    with caplog.at_level(logging.WARNING, "contextcache"), contextlib.redirect_stdout(printed):
        exec(BLOCKS["core"], names)
    assert printed.getvalue() == BLOCKS["core output"]
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "contextcache CC102: cache['user:7']['client']._lock"
    ]
    exec(BLOCKS["testing"], names)


def test_the_django_settings(tmp_path: Path, redis_url: str) -> None:
    """The settings pass Django's checks; the cache and the session work on a real Redis."""
    settings = BLOCKS["django settings"].replace("redis://127.0.0.1:6379/0", redis_url + PATIENT)
    (tmp_path / "settings.py").write_text(settings + '\nROOT_URLCONF = "urls"\n')
    (tmp_path / "urls.py").write_text("urlpatterns = []\n")
    script = """
        import os, threading
        os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
        import django
        django.setup()
        from django.core.checks import run_checks
        from django.core.cache import caches
        from importlib import import_module
        from django.conf import settings
        print("checks", [check.id for check in run_checks() if "contextcache" in check.id])
        caches["default"].set("key", [threading.Lock(), 7])
        print("default", caches["default"].get("key")[1])
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session["user"] = 7
        session.save()
        again = import_module(settings.SESSION_ENGINE).SessionStore(session.session_key)
        print("session", again["user"])
    """
    said = in_a_project(tmp_path, textwrap.dedent(script))
    for line in ("checks []", "default 7", "session 7"):
        assert line in said


def test_the_flask_app(tmp_path: Path) -> None:
    """The app caches and keeps its session on the embedded Redis."""
    script = """
        @app.get("/")
        def home():
            from flask import session
            session["visits"] = session.get("visits", 0) + 1
            cache.set("page", {"key": 7})
            return {"visits": session["visits"], "page": cache.get("page")}

        client = app.test_client()
        client.get("/")
        print(client.get("/").json)
    """
    said = in_a_project(tmp_path, BLOCKS["flask app"] + textwrap.dedent(script))
    assert "{'page': {'key': 7}, 'visits': 2}" in said


@pytest.mark.parametrize("kind", ["RedisCache", "FileSystemCache", "SimpleCache"])
def test_the_flask_app_with_another_kind_of_cache(
    tmp_path: Path, kind: str, redis_url: str
) -> None:
    """It is guarded and caches; with no `CACHE_TYPE`, Flask-Caching itself would store nothing."""
    assert 'A Flask-Caching with another `CACHE_TYPE`, such as `"RedisCache"`' in README
    app = BLOCKS["flask app"].replace("contextcache_flask.RedisCache", kind)
    assert kind in app
    settings = {"CACHE_REDIS_URL": redis_url, "CACHE_DIR": str(tmp_path / "files")}
    app = app.replace("cache = Cache", f"app.config.update({settings})\ncache = Cache")
    script = """
        import threading
        with app.app_context():
            cache.set("page", {"lock": threading.Lock(), "key": 7})
            print("stored", cache.get("page")["key"])
    """
    assert "stored 7" in in_a_project(tmp_path, app + textwrap.dedent(script))


def test_rules_beside_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class is stripped with the fix it states; the function makes what is stored."""
    module = types.ModuleType("readme")
    module.__file__ = __file__  # as if others could import it
    monkeypatch.setitem(sys.modules, "readme", module)
    names: dict[str, Any] = vars(module)
    exec(BLOCKS["rules"], names)
    with capture_findings() as findings:
        stored = names["guard"].dumps({"client": names["ApiClient"](), "price": Decimal("1.50")})
    assert [(str(one.path), one.code, one.action) for one in findings] == [
        ("value['client']", "CC100", "stripped"),
        ("value['price']", "CC100", "snapshotted"),
    ]
    assert findings[0].fix == "store client.id"
    assert names["guard"].loads(stored)["price"] == "1.50"


def test_the_commands_are_those_of_the_makefile() -> None:
    """The two commands of the README exist, and so does everything it names in the repository."""
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in re.findall(r"^make ([\w-]+)", README, re.MULTILINE):
        assert command in targets


SHOP = """\
import threading
from dataclasses import dataclass, field


class Client:
    def __init__(self):
        self.id = 7
        self._lock = threading.Lock()
        self._local = threading.local()


@dataclass
class Product:
    sku: str
    title: str
    tags: list


@dataclass
class Cart:
    client: Client = field(default_factory=Client)
    items: list = field(default_factory=list)


def example():
    results = [Product(f"SKU-{n}", f"product number {n}", ["new"]) for n in range(6000)]
    return {
        "search": {"words": "shoes", "results": results},
        "cart": Cart(items=results[:3]),
        "seen": [product.sku + "!" for product in results],
        "export": (product for product in results),
    }
"""


def test_the_tree_is_what_explain_prints(tmp_path: Path) -> None:
    """The sizes, too, which are those of the payload."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "cart.py").write_text(SHOP)
    asked = ["explain", "shop.cart:example", "--label", "session"]
    said = in_a_project(tmp_path, f"from contextcache.cli import main; main({asked})")
    assert said.startswith(BLOCKS["tree"] + "\nCC102 session['cart'].client._lock")
    assert said.count("def __getstate__(self):") == 1  # one mends both fields
    assert "with the code above, of CC102 ._lock" in said


def test_markers_are_heard_and_nothing_is_said() -> None:
    """Both ways of marking a field."""
    names: dict[str, Any] = {"threading": threading, "__name__": "readme"}
    exec(BLOCKS["markers"], names)
    feed, basket = names["Feed"](), names["Basket"]()
    feed._lock, feed._rows, basket._lock = threading.Lock(), iter([1]), threading.Lock()
    sys.modules["readme"] = types.ModuleType("readme")
    sys.modules["readme"].__file__ = __file__  # as if others could import it
    vars(sys.modules["readme"]).update(names)
    try:
        with capture_findings() as findings:
            stored = Guard().loads(Guard().dumps([feed, basket]))
    finally:
        del sys.modules["readme"]
    assert findings == []
    assert not stored[0]._lock.locked()
    assert stored[0]._rows is None
    assert not stored[1]._lock.locked()
