"""Fixes: what is pasted makes the finding disappear and the value load, for every shape."""

from __future__ import annotations

import asyncio
import pickle
import queue
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import flask
import pytest
from django.utils.functional import SimpleLazyObject

import tests.zoo
from contextcache import Finding, Guard
from contextcache.testing import capture_findings
from tests.core import shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.zoo import Case

SHAPES = Path(str(shapes.__file__)).read_text()


def pasted(source: str, patch: str) -> str:
    """Return `source` with `patch` at the end of the class that its comment names."""
    match = re.search(r"^    # into class (\w+)", patch, re.MULTILINE)
    assert match is not None, patch
    imports, methods = patch[: match.start()], patch[match.start() :]
    head = re.search(rf"^class {match[1]}\b.*?:\n", source, re.MULTILINE | re.DOTALL)
    assert head is not None, match[1]
    rest = source[head.end() :]
    end = re.search(r"^\S", rest, re.MULTILINE)
    at = end.start() if end is not None else len(rest)
    body = rest[:at].rstrip("\n")
    top = source[: head.end()].replace("\nimport ", f"\n{imports}import ", 1)
    return f"{top}{body}\n\n{methods}\n\n\n{rest[at:]}"


def module_of(name: str, source: str, file: str) -> ModuleType:
    module = ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    exec(compile(source, file, "exec"), module.__dict__)
    return module


@pytest.fixture
def modules() -> Iterator[None]:
    """Put the modules back that a patch was pasted into."""
    before = dict(sys.modules)
    yield
    for name in sys.modules.keys() - before.keys():
        del sys.modules[name]
    sys.modules.update(before)


def paths(findings: list[Finding]) -> set[str]:
    return {str(one.path) for one in findings}


PATCHED = [
    (case, at, finding)
    for case in tests.zoo.OFFENDERS
    for at, finding in enumerate(Guard(debug=True).explain(case.build()))
    if finding.patch and "await" not in finding.patch  # the zoo's coroutine is closed already
]


@pytest.mark.usefixtures("modules")
@pytest.mark.parametrize(
    ("case", "finding"), [pytest.param(c, f, id=f"{c.id}-{at}") for c, at, f in PATCHED]
)
def test_every_pasted_fix_removes_its_finding(
    case: Case, finding: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class with the methods, or the value after the assignment, has that finding no more."""
    if "    # into class " in finding.patch:
        source = pasted(SHAPES, finding.patch)
        patched = module_of("tests.core.shapes", source, str(shapes.__file__))
        monkeypatch.setattr(tests.zoo, "shapes", patched)
        build = case.build
        value = getattr(patched, build.__name__)() if isinstance(build, type) else build()
    else:
        value = executed(finding.patch, case.build())
    left = Guard().explain(value)
    assert str(finding.path) not in paths(left), finding.patch
    guard = Guard()
    payload = guard.dumps(value) if left else pickle.dumps(value)
    guard.loads(payload)


def executed(patch: str, value: Any) -> Any:
    """Return the value after `patch`, which is pasted where the value is stored."""
    if "async for" in patch or "await" in patch:
        space: dict[str, Any] = {}
        exec(f"async def run(value):\n{textwrap.indent(patch, '    ')}\n    return value\n", space)
        return asyncio.run(space["run"](value))
    module = module_of("shop_views", "", "shop_views.py")
    module.__dict__["value"] = value
    exec(patch, module.__dict__)
    return module.__dict__["value"]


# The text of a patch: what it takes from the class, and what it leaves out


SOURCE = """\
import functools
import threading
from dataclasses import dataclass, field

import attr
import httpx


class Plain:
    def __init__(self, base, name="s3cret"):
        self.base = base
        self.lock = threading.Lock()
        self.client = httpx.Client(base_url=base)
        self.local = httpx.Client(base_url=name)
        self.secret = httpx.Client(base_url="https://s3cret.example")

    def close(self):
        for client in (self.client, self.local, self.secret):
            client.close()


@dataclass(frozen=True)
class Frozen:
    name: str = "s3cret"
    lock: object = field(default_factory=threading.RLock)


class Touched:
    @functools.cached_property
    def client(self):
        return httpx.Client()


class Declined(Exception):
    def __init__(self, message, order, shop="s3cret"):
        super().__init__(message)
        self.order = order
        self.at = shop


class Pickles:
    def __init__(self):
        self.lock = threading.Lock()

    def __getstate__(self):
        return self.__dict__


def orders():
    return {"sort": lambda item: item["price"], "key": lambda item: item + "s3cret"}

@attr.s(auto_attribs=True)
class Declared:
    one: object = attr.Factory(threading.RLock)
    two: object = attr.ib(factory=threading.RLock)
    three: object = attr.ib(default=attr.Factory(threading.RLock))
    four: object = None

    def __attrs_post_init__(self):
        self.four = Local(default=threading.Lock())


class Local:
    def __init__(self, default):
        self.lock = default

    def __reduce__(self):
        raise TypeError

"""


@pytest.fixture
def shop(modules: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop.py").write_text(SOURCE)
    return module_of("shop", SOURCE, str(tmp_path / "shop.py"))


def patches(value: Any, label: str = "value") -> dict[str, str]:
    found = Guard(debug=True).explain(value, label=label)
    return {str(one.path): textwrap.dedent(one.patch) for one in found}


def test_a_field_is_built_again_as_its_class_builds_it(shop: ModuleType) -> None:
    """From the source, with arguments the object keeps; what has a literal becomes None.

    All fields of one class are mended at once: a second `__getstate__` would undo the first.
    """
    plain = shop.Plain("https://rates.example")
    found = patches(plain)
    plain.close()
    assert list(found) == ["value.lock", "value.client", "value.local", "value.secret"]
    assert set(found.values()) == {
        textwrap.dedent("""\
        # into class Plain (shop.py:9)
        def __getstate__(self):
            state = self.__dict__.copy()
            state.pop("lock", None)
            state.pop("client", None)
            state.pop("local", None)
            state.pop("secret", None)
            return state

        def __setstate__(self, state):
            self.__dict__.update(state)
            self.lock = threading.Lock()
            self.client = httpx.Client(base_url=self.base)
            self.local = None
            self.secret = None""")
    }


def test_a_default_is_made_as_its_declaration_makes_it(shop: ModuleType) -> None:
    """Whatever the declaration is called; a call in a method is no declaration."""
    [patch] = set(patches(shop.Declared()).values())
    assert patch.partition("self.__dict__.update(state)\n")[2] == textwrap.indent(
        "self.one = threading.RLock()\n"
        "self.two = threading.RLock()\n"
        "self.three = threading.RLock()\n"
        "self.four = Local(default=threading.Lock())",
        "    ",
    )


def test_a_frozen_dataclass_is_not_assigned_to(shop: ModuleType) -> None:
    """Its `__setattr__` would raise; its default factory builds the field again."""
    assert patches(shop.Frozen())["value.lock"].endswith(
        "    self.__dict__.update(state, lock=threading.RLock())"
    )


def test_a_field_that_is_made_on_first_use_is_only_left_out(shop: ModuleType) -> None:
    """A `cached_property` makes it again by itself."""
    touched = shop.Touched()
    touched.client.close()
    assert patches(touched)["value.client"] == textwrap.dedent("""\
        # into class Touched (shop.py:28)
        def __getstate__(self):
            state = self.__dict__.copy()
            state.pop("client", None)
            return state""")


def test_an_exception_is_rebuilt_with_what_its_constructor_wants(shop: ModuleType) -> None:
    """The names of its own attributes, in the order of its arguments."""
    assert patches([shop.Declined("no", 42)])["value[0]"] == textwrap.dedent("""\
        # into class Declined (shop.py:34)
        def __reduce__(self):
            return type(self), (*self.args, self.order, self.at)""")


def test_a_lambda_gets_a_name_where_its_body_is_no_secret(shop: ModuleType) -> None:
    """Keys may be shown, other literals not; the finding of the other has no patch."""
    found = patches(shop.orders(), "session")
    assert found == {
        "session['sort']": ("def sort(item):\n    return item['price']\n\nsession['sort'] = sort"),
        "session['key']": "",
    }


class User:
    """As a model of Django's looks from outside."""

    _meta = None
    pk = 7


def test_a_lazy_user_is_stored_by_its_key() -> None:
    """In a session, and in a value of a cache."""
    lazy = SimpleLazyObject(User)
    assert patches({"user": lazy}, "session")["session['user']"] == (
        "session['user'] = session['user'].pk"
    )
    assert patches([lazy], "cache['x']")["cache['x'][0]"] == "value[0] = value[0].pk"


def test_a_proxy_is_mended_as_what_it_stands_for() -> None:
    """The request behind one is no more for storing than a request; an application not at all."""
    with flask.Flask(__name__).test_request_context("/cart"):
        value = {"request": flask.request, "app": flask.current_app}
        with capture_findings() as findings:
            Guard(debug=True, session=True).dumps(value, label="session")
        app, request = sorted(findings, key=lambda one: str(one.path))
        assert request.patch == (
            "session['request'] = "
            """{"method": session['request'].method, "path": session['request'].path}"""
        )
        value.pop("app")
        exec(request.patch, {"session": value})
        assert value == {"request": {"method": "GET", "path": "/cart"}}
    assert (app.did, app.patch) == ("left the key out, stored the rest", "")


def test_nothing_is_suggested_where_it_would_not_help(shop: ModuleType) -> None:
    """A class that pickles itself, an element of a tuple, a library's field, a hidden key."""
    assert patches(shop.Pickles()) == {"value.lock": ""}
    assert patches(((row for row in ()),)) == {"value[0]": ""}
    assert patches(queue.Queue()) == {"value.mutex": ""}
    redacted = Guard(debug=True, redact_keys=True).explain({"rows": (row for row in ())})
    assert [finding.patch for finding in redacted] == [""]


def test_in_production_no_source_is_read(shop: ModuleType) -> None:
    """A patch is for a developer who reads along, or whose tests do."""
    found: list[Finding] = []
    value = {"rows": (row for row in ())}
    guard = Guard(on_finding=(found.append,))
    guard.dumps(value)
    assert [finding.patch for finding in found] == [""]
    with capture_findings() as found:
        guard.dumps(value)
    assert [finding.patch for finding in found] == ["value['rows'] = list(value['rows'])"]
