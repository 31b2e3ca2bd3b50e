"""Whether a name leads anywhere, told without running what it stands for."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from contextcache.commands import import_names
from contextcache.commands.import_names import Standing, standing

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """
import json as encoder
from os import path
raise RuntimeError("this module was run")

class Cart:
    class Line: ...
    def total(self): ...

if True:
    try:
        def add(): ...
    except ImportError:
        limit: int = 3
first, (second, third) = 1, (2, 3)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package that must not be run."""
    package = tmp_path / "lookup_shop"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('this package was run')")
    (package / "cart.py").write_text(SOURCE)
    (package / "late.py").write_text("def __getattr__(name): raise RuntimeError(name)")
    (package / "stars.py").write_text("from lookup_shop.cart import *")
    (package / "broken.py").write_text("def")
    monkeypatch.syspath_prepend(tmp_path)
    return "lookup_shop"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cart:Cart", Standing.PRESENT),
        ("cart:Cart.Line", Standing.PRESENT),
        ("cart:Cart.total", Standing.PRESENT),
        ("cart:add", Standing.PRESENT),
        ("cart:limit", Standing.PRESENT),
        ("cart:encoder", Standing.PRESENT),
        ("cart:path", Standing.PRESENT),
        ("cart:third", Standing.PRESENT),
        ("cart:Basket", Standing.GONE),
        ("cart:json", Standing.GONE),
        ("cart:Cart.Column", Standing.UNKNOWN),  # it may be inherited
        ("late:Cart", Standing.UNKNOWN),
        ("stars:Cart", Standing.UNKNOWN),
        ("broken:Cart", Standing.UNKNOWN),
        ("basket:Cart", Standing.GONE),
        ("cart.sub:Cart", Standing.GONE),
    ],
)
def test_a_module_that_is_not_imported_is_read_as_source(shop: str, name: str, expected: Standing):
    """Neither it nor the package around it is run."""
    assert standing(f"{shop}.{name}") is expected
    assert not [module for module in sys.modules if module.startswith(shop)]


def test_each_source_is_read_once_and_not_too_many(
    shop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payload may name every class of every file there is."""
    parsed: list[str] = []
    parse = import_names.ast.parse
    monkeypatch.setattr(import_names.ast, "parse", lambda text: parsed.append(text) or parse(text))
    import_names._definitions.cache_clear()
    for number in range(100):
        assert standing(f"{shop}.cart:Missing{number}") is Standing.GONE
    assert len(parsed) == 1
    monkeypatch.setattr(import_names, "MAX_SOURCES", 1)
    assert standing(f"{shop}.stars:Cart") is Standing.UNKNOWN
    assert len(parsed) == 1
    import_names._definitions.cache_clear()


class Outer:
    class Inner:
        def method(self) -> None: ...

    value = 3


class Heir(Outer): ...


class Trap(type):
    def __getattribute__(cls, name: str) -> object:
        raise RuntimeError("an attribute was asked for")


class Trapped(metaclass=Trap):
    class Inner: ...


@pytest.mark.parametrize(
    ("qualname", "expected"),
    [
        ("Outer", Standing.PRESENT),
        ("Outer.Inner.method", Standing.PRESENT),
        ("Heir.Inner", Standing.PRESENT),
        ("Outer.Gone", Standing.GONE),
        ("Outer.value.real", Standing.UNKNOWN),
        ("Trapped.Inner", Standing.PRESENT),
        ("Gone", Standing.GONE),
    ],
)
def test_a_module_that_is_imported_is_looked_up_in_its_dicts(qualname: str, expected: Standing):
    """No `__getattr__` of a module, and none of a metaclass, is called."""
    assert standing(f"{__name__}:{qualname}") is expected


def test_a_module_that_makes_names_on_demand_is_not_asked(monkeypatch: pytest.MonkeyPatch):
    """It may import anything to make one."""
    module = ModuleType("lookup_lazy")
    exec("def __getattr__(name): raise RuntimeError(name)", vars(module))
    monkeypatch.setitem(sys.modules, "lookup_lazy", module)
    assert standing("lookup_lazy:anything") is Standing.UNKNOWN


def test_a_package_that_is_not_here_is_gone_only_at_home():
    """A command that runs elsewhere knows nothing about the application's packages."""
    assert standing("lookup_nowhere:Cart") is Standing.GONE
    assert standing("lookup_nowhere:Cart", at_home=False) is Standing.UNKNOWN
    assert standing("json.nowhere:Cart", at_home=False) is Standing.GONE


@pytest.mark.parametrize("name", ["../etc:passwd", "a b:c", ":x", "os.:x", "\x00:x"])
def test_what_is_no_name_leads_nowhere(name: str):
    """Whoever writes to Redis chooses it."""
    assert standing(name) is Standing.GONE


@pytest.mark.parametrize("name", ["builtins:set", "collections:OrderedDict", "_thread:RLock"])
def test_python_itself_is_there(name: str):
    assert standing(name) is Standing.PRESENT


def test_a_module_without_source_is_not_judged(monkeypatch: pytest.MonkeyPatch):
    """Of a library in C that is not imported, only that it is there can be told."""
    monkeypatch.delitem(sys.modules, "_lsprof", raising=False)
    assert standing("_lsprof:Anything") is Standing.UNKNOWN
