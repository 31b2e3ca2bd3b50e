"""The code blocks of the pages in docs/ work, and what the pages name is there."""

from __future__ import annotations

import re
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask

from contextcache import Config, is_stripped
from contextcache.reports import log_format
from contextcache_flask import ContextCache
from tests.child import ROOT, run
from tests.test_readme import PAGES as READ_WITH_README

if TYPE_CHECKING:
    from pathlib import Path

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
BLOCKS = {
    (path.stem, match["name"]): match["text"]
    for path in DOCS.glob("*.md")
    for match in re.finditer(
        r"^<!-- (?P<name>[\w ]+) -->\n```python\n(?P<text>.*?)^```$",
        path.read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
}


def test_every_block_is_executed_here() -> None:
    """A new block gets its test; other pages have theirs in `test_recipes` and `test_readme`."""
    assert {block for block in BLOCKS if block[0] not in ("recipes", *READ_WITH_README)} == {
        ("backends", "cachalot"),  # in `tests.django.test_cachalot`
        ("django", "guarded cache"),
        ("django", "by reference"),
        ("django", "panel"),
        ("flask", "panel"),
        ("flask", "guarded"),
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Links within the repository."""
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), target


def test_the_table_of_settings_is_complete() -> None:
    """Each key of the configuration has its row, and each row is a key."""
    text = (DOCS / "settings.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(named) == sorted([*Config.KEYS, "OBSERVE"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist(page: Path) -> None:
    """Every `make` target a page names is one."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"`make ([\w-]+)", page.read_text(encoding="utf-8")))
    assert named <= targets


TARGETS = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_how_to_make_everything(target: str) -> None:
    """No target needs another one that is not there any more; nothing is run here."""
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_make_help_lists_what_there_is() -> None:
    """But for what it needs itself."""
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = set(re.findall(r"^make ([\w-]+)", said.stdout, re.MULTILINE))
    assert listed == set(TARGETS) - {"help", "servers"}


def test_any_django_cache_is_guarded() -> None:
    """As it stands there, in a project of its own."""
    said = run(f"""
        import threading
        import django
        from django.conf import settings
        exec({BLOCKS["django", "guarded cache"]!r})
        settings.configure(SECRET_KEY="x", CACHES=CACHES)
        django.setup()
        from django.core.cache import cache
        cache.set("cart", {{"lock": threading.Lock(), "items": [1, 2]}})
        print(cache.get("cart")["items"], cache.get("cart")["lock"].locked())
    """)
    assert said == "[1, 2] False\n"


def test_a_user_is_stored_by_reference() -> None:
    """The rule is understood, and what it names is there."""
    said = run(f"""
        import django
        from django.conf import settings
        settings.configure(
            SECRET_KEY="x",
            INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes"],
        )
        django.setup()
        exec({BLOCKS["django", "by reference"]!r})
        from django.contrib.auth.models import User
        from contextcache import Config, Guard
        guard = Guard(Config.from_mapping(CONTEXTCACHE))
        print(b"secret" in guard.dumps(User(pk=1, password="secret")))
        user = User(pk=1, password="secret")
        user._state.adding, user._state.db = False, "default"
        print(b"secret" in guard.dumps(user))
    """)
    assert said == "True\nFalse\n"  # one that was never saved has nothing to refer to


def test_the_panel_of_django_debug_toolbar_is_one_more(tmp_path: Path) -> None:
    """In a settings file, as it stands there; the toolbar's own panels stay."""
    tmp_path.joinpath("shop_settings.py").write_text(
        "SECRET_KEY, STATIC_URL = 'x', '/static/'\n"
        "INSTALLED_APPS = ['django.contrib.staticfiles', 'debug_toolbar', 'contextcache_django']\n"
        + BLOCKS["django", "panel"]
    )
    said = run(f"""
        import os, sys
        sys.path.insert(0, {str(tmp_path)!r})
        os.environ["DJANGO_SETTINGS_MODULE"] = "shop_settings"
        import django
        django.setup()
        from debug_toolbar.settings import PANELS_DEFAULTS
        from debug_toolbar.toolbar import DebugToolbar
        panels = [panel.__name__ for panel in DebugToolbar.get_panel_classes()]
        print(len(panels) - len(PANELS_DEFAULTS), len(PANELS_DEFAULTS) > 8, panels[-1])
    """)
    assert said == "1 True ContextCachePanel\n"


def test_the_panel_of_flask_debugtoolbar_is_one_more() -> None:
    """As it stands there; the toolbar's own panels stay."""
    app = Flask("shop")
    app.config.update(DEBUG=True, SECRET_KEY="x", DEBUG_TB_INTERCEPT_REDIRECTS=False)
    ContextCache(app)
    exec(BLOCKS["flask", "panel"], {"app": app})
    app.add_url_rule("/", "page", lambda: "<html><body>a shop</body></html>")
    page = app.test_client().get("/").text
    for panel in ("VersionDebugPanel", "LoggingPanel", "contextcachePanel"):
        assert panel.lower() in page.lower()


def test_a_bare_backend_is_guarded() -> None:
    """Outside of any application."""
    names: dict[str, Any] = {}
    exec(BLOCKS["flask", "guarded"], names)
    cache = names["cache"]
    assert cache.set("k", {"lock": threading.Lock(), "rows": (n for n in [1]), "n": 1})
    assert cache.get("k")["n"] == 1
    assert not cache.get("k")["lock"].locked()
    assert is_stripped(cache.get("k")["rows"])


def test_every_field_of_a_log_record_is_documented() -> None:
    """They are API."""
    text = (DOCS / "logging.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`contextcache_(\w+)`", text))
    assert named == {*log_format.RECORDED, "leaves", "server", "reason"}
