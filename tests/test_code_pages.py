"""The pages of the codes: each complete, each example executed, before and after and silenced."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import django
import flask
import flask_login
import pytest
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from contextcache.commands.code_pages import page
from contextcache.findings.finding import CODES
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache
from tests.child import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from pytest_django.fixtures import SettingsWrapper

    from contextcache import Finding

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

PAGES = ROOT / "docs" / "findings"
HEADINGS = [
    "## What it means",
    "## Why pickle cannot store it",
    "## What contextcache did",
    "## How to fix it",
    "## How to silence it",
]
IN_COOKIE = ("CC140", "CC141", "CC142")  # what their examples are about
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def part(code: str, heading: str) -> str:
    """Return what stands below a heading of a page."""
    return page(code).partition(f"\n{heading}\n")[2].partition("\n## ")[0]


def examples(code: str) -> tuple[str, str, str]:
    """Return the code before, after, and the setting that silences the finding."""
    before, after = BLOCK.findall(part(code, "## How to fix it"))
    [silence] = BLOCK.findall(part(code, "## How to silence it"))
    return before, after, silence


@pytest.mark.parametrize("code", CODES)
def test_a_page_is_complete_and_short(code: str) -> None:
    """Its title is the reason, its parts come in one order, and it fits two screens."""
    lines = page(code).splitlines()
    assert lines[0] == f"# {code}: {CODES[code]}"
    assert [line for line in lines if line.startswith("## ")] == HEADINGS
    assert len(lines) <= 90
    assert max(map(len, lines)) <= 100
    assert page(code).endswith("\n")
    assert page(code.lower()) == page(code)


def test_the_index_lists_every_code() -> None:
    """One row per code, with its reason, and no page without a code."""
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(CC\d+)\]\((\S+)\) \| (.+?) \|$", index, re.MULTILINE)
    assert rows == [(code, f"{code}.md", reason) for code, reason in CODES.items()]
    assert {path.stem for path in PAGES.glob("CC*.md")} == set(CODES)


def test_an_unknown_code_is_a_lookup_error() -> None:
    """Also where a file of that name exists."""
    for unknown in ("CC999", "README", "../README", ""):
        with pytest.raises(LookupError, match="there is no code"):
            page(unknown)


def test_the_wheel_carries_the_pages() -> None:
    """The build puts them where `page` looks first."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"docs/findings": "contextcache/docs"}


# The examples: a module of a shop, in a Django and in a Flask project


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: SettingsWrapper) -> Path:
    """A directory with a file to read, and a cache on the embedded Redis."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "report.csv").write_text("item,price\nbook,12\n")
    backend = "contextcache_django.cache.RedisCache"
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "fakeredis://"}}
    return tmp_path


class Visitor(flask_login.UserMixin):
    id = 7


def run(
    source: str, shop: Path, settings: SettingsWrapper, more: str = "", *, cookie: bool = False
) -> list[Finding]:
    """Run an example as the module `shop_views` and return the findings.

    Its `view` is called as the framework would do: with a request by Django, without by Flask.
    """
    file = shop / "shop_views.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("shop_views", file)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["shop_views"] = module
    try:  # not by its loader, which would take the one before for it if both have the same length
        exec(compile(source, file, "exec"), module.__dict__)
        silence: dict[str, Any] = {}
        exec(more, silence)
        own = {**getattr(module, "CONTEXTCACHE", {}), **silence.get("CONTEXTCACHE", {})}
        with capture_findings() as findings:
            if inspect.signature(module.view).parameters:
                settings.CONTEXTCACHE = own
                answer_by_django(module)
            else:
                answer_by_flask(module, own, cookie=cookie)
        return findings
    finally:
        del sys.modules["shop_views"]


def answer_by_django(module: ModuleType) -> None:
    """Answer a request with credentials, and a user that nobody has asked for yet."""
    from django.contrib.auth.models import User

    request = RequestFactory().put("/cart?page=2", headers={"Authorization": "Bearer s3cret"})
    request.user = SimpleLazyObject(lambda: User(pk=7, username="ann", password="s3cret"))
    SessionMiddleware(lambda request: module.view(request) or HttpResponse("done"))(request)


def answer_by_flask(module: ModuleType, own: dict[str, Any], *, cookie: bool) -> None:
    """Answer a request of somebody who is logged in."""
    app = flask.Flask("shop")
    own["SESSION"] = not cookie
    app.config.update({f"CONTEXTCACHE_{key}": held for key, held in own.items()})
    app.secret_key = "only for tests"
    ContextCache(app)
    flask_login.LoginManager(app).request_loader(lambda _: Visitor())
    app.add_url_rule("/cart", view_func=lambda: module.view() or "done")
    assert app.test_client().get("/cart").status_code == 200


@pytest.mark.parametrize("code", CODES)
def test_the_example_shows_the_finding_and_the_fix_removes_it(
    code: str, shop: Path, settings: SettingsWrapper
) -> None:
    """What stands under Before is found by this very code, what stands under After by none."""
    before, after, _ = examples(code)
    cookie = code in IN_COOKIE
    assert {finding.code for finding in run(before, shop, settings, cookie=cookie)} == {code}
    assert run(after, shop, settings, cookie=cookie) == []


@pytest.mark.parametrize("code", CODES)
def test_the_setting_on_the_page_silences_the_finding(
    code: str, shop: Path, settings: SettingsWrapper
) -> None:
    """It can be pasted as it is."""
    before, _, silence = examples(code)
    cookie = code in IN_COOKIE
    assert run(before, shop, settings, silence, cookie=cookie) == []
