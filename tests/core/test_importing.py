"""What is stored by a name that only this process can resolve."""

from __future__ import annotations

import copyreg
import decimal
import importlib
import sys
import types
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard, is_stripped
from contextcache.base.importing import importable, is_only_here
from tests.child import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SOURCE = """
class Row:
    size = 3

class Meta(type):
    pass

class WithMeta(metaclass=Meta):
    pass

class Listed(list):
    pass

def total(rows):
    return len(rows)
"""
NAME = "only_here_of_tenant_7"


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """Take out of `sys.modules` what a test put there."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if "only_here" in name:
            del sys.modules[name]


def by_hand(name: str = NAME) -> types.ModuleType:
    module = sys.modules[name] = types.ModuleType(name)
    exec(SOURCE, module.__dict__)
    return module


def from_file(path: Path, name: str = NAME) -> types.ModuleType:
    path.write_text(SOURCE)
    spec = spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def from_gone_file(path: Path) -> types.ModuleType:
    module = from_file(path)
    path.unlink()
    return module


def from_gone_directory(path: Path) -> types.ModuleType:
    directory = path.parent / "plugins"
    directory.mkdir()
    module = from_gone_file(directory / path.name)
    (directory / "__pycache__").exists() and [one.unlink() for one in directory.rglob("*.pyc")]
    for inner in [*directory.iterdir()]:
        inner.rmdir()
    directory.rmdir()
    return module


def without_loader(_: Path) -> types.ModuleType:
    module = by_hand()
    module.__spec__ = ModuleSpec(NAME, None)
    return module


def with_a_loader_nobody_finds(_: Path) -> types.ModuleType:
    module = by_hand()
    module.__spec__ = ModuleSpec(NAME, type("Loader", (), {})())
    return module


MADE: dict[str, Callable[[Path], types.ModuleType]] = {
    "by hand": lambda _: by_hand(),
    "from a file that is gone": from_gone_file,
    "from a directory that is gone": from_gone_directory,
    "with a spec without loader": without_loader,
    "with a loader that no finder returns": with_a_loader_nobody_finds,
}
HELD: dict[str, Callable[[Any], object]] = {
    "an instance": lambda module: module.Row(),
    "an instance of a list class": lambda module: module.Listed([1]),
    "an instance of a class with a metaclass": lambda module: module.WithMeta(),
    "a class with a metaclass": lambda module: module.WithMeta,
}
BY_NAME: dict[str, Callable[[Any], object]] = {  # which the C pickler asks nobody about
    "a class": lambda module: module.Row,
    "a function": lambda module: module.total,
}


@pytest.mark.parametrize("held", HELD)
@pytest.mark.parametrize("made", MADE)
def test_what_only_this_process_can_resolve_is_cut(made: str, held: str, tmp_path: Path) -> None:
    """It is CC119, and another process reads the rest."""
    module = MADE[made](tmp_path / "plugin.py")
    guard = Guard()
    for _ in range(2):  # seen for the first time, and known
        payload = guard.dumps({"held": HELD[held](module), "rows": [1, 2]}, label="cache['it']")
        loaded = guard.loads(payload)
        assert is_stripped(loaded["held"])
        assert loaded["rows"] == [1, 2]
    [finding] = guard.summary()
    assert (finding.code, finding.path.printed()) == ("CC119", "cache['it']['held']")
    assert "only this process" in finding.reason
    assert "every process can import" in finding.fix
    reading = f"import pickle; print(pickle.loads({payload!r})['rows'])"
    assert run(reading).splitlines()[-1] == "[1, 2]"


@pytest.mark.parametrize("held", HELD | BY_NAME)
@pytest.mark.parametrize("made", MADE)
def test_explain_finds_it(made: str, held: str, tmp_path: Path) -> None:
    """A close look asks about classes and functions, too."""
    value = [(HELD | BY_NAME)[held](MADE[made](tmp_path / "plugin.py"))]
    assert [finding.code for finding in Guard().explain(value)] == ["CC119"]


def test_a_package_that_does_not_bring_a_module_along(tmp_path: Path) -> None:
    """A module that its package knows no file of was made by this process."""
    package = tmp_path / "only_here_shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    sys.path.insert(0, str(tmp_path))
    try:
        __import__("only_here_shop")
        assert is_only_here(by_hand("only_here_shop.made").Row)
        (package / "__init__.py").write_text("import sys\nsys.modules[__name__ + '.made'] = ...\n")
        assert importable(by_hand("only_here_shop.made").Row)
    finally:
        sys.path.remove(str(tmp_path))


def test_a_name_that_a_module_looks_up_in_its_state() -> None:
    """`__getattr__` of a module that finds a class in no module at all."""
    module = by_hand()
    module.__file__ = __file__
    cls = module.__dict__.pop("Row")
    registry = {"Row": cls}
    module.__dict__["__getattr__"] = registry.__getitem__
    assert is_only_here(cls)


def test_a_name_that_a_module_imports_late() -> None:
    """`__getattr__` of a package that finds a class in one of its modules."""
    inner = by_hand(f"{NAME}_inner")
    inner.__file__ = __file__
    module = by_hand()
    module.__file__ = __file__
    del module.__dict__["Row"]
    module.__dict__["__getattr__"] = inner.__dict__.__getitem__
    inner.__dict__["Row"].__module__ = NAME
    assert importable(inner.__dict__["Row"])


def test_an_extension_code() -> None:
    """A number of `copyreg` stands for the name, which only this process has given it."""
    module = by_hand()
    module.__file__ = __file__
    copyreg.add_extension(NAME, "Row", 0x7E57)
    try:
        assert is_only_here(module.Row)
        guard = Guard()
        assert is_stripped(guard.loads(guard.dumps([module.Row()]))[0])
    finally:
        copyreg.remove_extension(NAME, "Row", 0x7E57)
    assert importable(module.Row)


@pytest.mark.parametrize(
    "name", ["email.mime.text", "os.path", "xml.etree.ElementTree", "zoneinfo", "_io"]
)
def test_what_others_import(name: str) -> None:
    """No module of Python or of an installed package is called this process's own."""
    module = importlib.import_module(name)
    named = [
        held
        for held in vars(module).values()
        if callable(held) and getattr(held, "__module__", None) == module.__name__
    ]
    assert named
    assert not [one for one in named if is_only_here(one)]


def test_all_that_is_imported() -> None:
    """Of all classes of all modules that the tests import, none is found only here."""
    for name in ("django.forms", "flask", "numpy", "sqlalchemy.orm"):
        __import__(name)
    module_of = type.__dict__["__module__"].__get__
    asked = [
        (f"{module.__name__}.{name}", held)
        for module in list(sys.modules.values())
        if isinstance(module, types.ModuleType)
        if not module.__name__.startswith("_cython_")  # shared types of C, never stored by name
        for name, held in list(vars(module).items())
        if issubclass(type(held), type)
        if module_of(held) == module.__name__  # without the code of a metaclass
    ]
    assert len(asked) > 1000
    assert [name for name, held in asked if is_only_here(held)] == []


def test_a_file_that_exists_under_another_name(tmp_path: Path) -> None:
    """A plugin that each process loads from its file is no finding."""
    module = from_file(tmp_path / "plugin.py")
    guard = Guard()
    guard.dumps([module.Row(), module.total])
    assert guard.summary() == []


def test_a_release_that_was_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that still runs the release before the last one cuts nothing."""
    release = tmp_path / "release"
    release.mkdir()
    (release / "only_here_models.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(release))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module: Any = __import__("only_here_models")
    (release / "only_here_models.py").unlink()
    release.rmdir()
    assert importable(module.Row)


def test_the_main_module() -> None:
    """A script of one's own is `__main__` in each of its processes, with a file or without."""
    program = (
        "from contextcache import Guard\nclass Row: pass\ng = Guard()\n"
        "g.dumps([Row()])\nprint(g.summary())"
    )
    assert run(program).splitlines()[-1] == "[]"


def test_a_class_that_is_not_found_at_all_is_cc110() -> None:
    """A local class has no name, here or elsewhere."""

    class Local:
        pass

    assert not importable(Local)
    assert not is_only_here(Local)
    assert importable(decimal.Decimal)
    assert [one.code for one in Guard().explain([Local()])] == ["CC110"]
