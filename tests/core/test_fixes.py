"""The text of a patch: what it takes from the class, and what it leaves out.

That each of them holds when it is applied is seen in `test_promises`.
"""

from __future__ import annotations

import queue
import re
import sys
import textwrap
from types import ModuleType
from typing import TYPE_CHECKING, Any

import flask
import pytest
from django.utils.functional import SimpleLazyObject

from contextcache import Finding, Guard
from contextcache.testing import capture_findings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
    """Whatever the declaration is called; a call in a method is no declaration.

    Another object may be given something else, so the type is asked for.
    """
    [patch] = set(patches(shop.Declared()).values())
    assert 'if type(state.get("one")) is type(threading.RLock()):' in patch
    made = re.findall(r'    state\["(\w+)"\] = (.+)', patch)
    assert made == [
        ("one", "threading.RLock()"),
        ("two", "threading.RLock()"),
        ("three", "threading.RLock()"),
        ("four", "Local(default=threading.Lock())"),
    ]


def test_a_frozen_dataclass_is_not_assigned_to(shop: ModuleType) -> None:
    """Its `__setattr__` would raise; its default factory builds the field again."""
    assert patches(shop.Frozen())["value.lock"].endswith(
        '        state["lock"] = threading.RLock()\n    self.__dict__.update(state)'
    )


def test_a_field_that_is_made_on_first_use_is_only_left_out(shop: ModuleType) -> None:
    """A `cached_property` makes it again by itself."""
    touched = shop.Touched()
    touched.client.close()
    assert patches(touched)["value.client"] == textwrap.dedent("""\
        # into class Touched (shop.py:28)
        def __getstate__(self):
            state = self.__dict__.copy()
            if type(state.get("client")) is httpx.Client:
                del state["client"]
            return state""")


def test_an_exception_is_rebuilt_without_its_constructor(shop: ModuleType) -> None:
    """Which might say the same once more: `no order: no order: 42`."""
    assert patches([shop.Declined("no", 42)])["value[0]"] == textwrap.dedent("""\
        import copyreg

            # into class Declined (shop.py:34)
            def __reduce__(self):
                return copyreg.__newobj__, (type(self), *self.args), self.__dict__""")


def test_a_lambda_gets_a_name_where_its_body_is_no_secret(shop: ModuleType) -> None:
    """Keys may be shown, other literals not; the finding of the other has no patch."""
    found = patches(shop.orders(), "session")
    assert found == {
        "session['sort']": (
            "# at the top level of shop.py\ndef sort(item):\n    return item['price']\n\n"
            "# where it is stored\nsession['sort'] = sort"
        ),
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
    assert patches([lazy], "cache['x']")["cache['x'][0]"] == "value = [value[0].pk]"


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
    """A class that pickles itself, an element of a set, a library's field, a hidden key."""
    assert patches(shop.Pickles()) == {"value.lock": ""}
    assert patches({(row for row in ())}) == {"value{0}": ""}
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
    assert [finding.patch for finding in found] == ["value = {'rows': list(value['rows'])}"]


def test_the_items_of_a_generator_are_stored_and_stay_in_the_object(shop: ModuleType) -> None:
    """The code needs no import, and the object that is in use still has them all."""
    report = shop.Plain.__new__(shop.Plain)
    report.base, report.rows = "a", (number for number in range(3))
    text = patches(report)["value.rows"]
    assert textwrap.dedent(text.partition("\n")[2]) == textwrap.dedent("""\
        def __getstate__(self):
            state = self.__dict__.copy()
            if type(state.get("rows")).__name__ == "generator":
                state["rows"] = self.rows = list(state["rows"])
            return state""")
    methods: dict[str, Any] = {}
    exec(textwrap.dedent(text.partition("\n")[2]), methods)
    shop.Plain.__getstate__ = methods["__getstate__"]
    assert Guard().loads(Guard().dumps(report)).rows == [0, 1, 2]
    assert report.rows == [0, 1, 2]


def test_a_frozen_class_is_not_given_the_items_of_a_generator(shop: ModuleType) -> None:
    """Setting the field would raise, and reading the items alone would lose them."""
    frozen = shop.Frozen()
    object.__setattr__(frozen, "lock", (number for number in range(3)))
    assert "list(" not in patches(frozen)["value.lock"]
