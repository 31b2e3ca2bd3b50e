"""Objects of a library that keep a pointer of C: cut whole, at the field of the application."""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard, UncacheableValueError, is_stripped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIBRARY = """\
import ctypes


class Geometry:
    def __init__(self, name, ptr=True):
        self.name = name
        self._ptr = ctypes.c_void_p(4096) if ptr else None


class Layer:
    def __init__(self, name, ptr=True):
        self.name, self._geometry = name, Geometry(name, ptr)


class Box:
    def __init__(self, *held):
        self.held = list(held)
"""


class Shape:
    """A class of the application, with a pointer of its own."""

    def __init__(self, held: Any = None) -> None:
        self.name, self.held = "shape", held
        self.ptr = ctypes.pointer(ctypes.c_int(7))


class Place:
    def __init__(self, held: Any) -> None:
        self.name, self.held = "Rome", held


@pytest.fixture
def geo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module of an installed package."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "geo_of_tests.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module("geo_of_tests")
    sys.modules.pop("geo_of_tests")


def stored(value: Any) -> tuple[Any, list[str]]:
    """Return what a reader gets, and where something was found; the second write is fast."""
    guard = Guard()
    guard.dumps(value)
    payload = guard.dumps(value)
    return guard.loads(payload), sorted({str(one.path) for one in guard.summary()})


@pytest.mark.parametrize("kind", ["Geometry", "Layer"])
def test_an_object_of_a_library_is_cut_whole(geo: Any, kind: str) -> None:
    """However deep in it the pointer is, the field of the application is named."""
    made = getattr(geo, kind)("a")
    value, paths = stored({"place": Place(made), "n": 1})
    assert paths == ["value['place'].held"]
    assert is_stripped(value["place"].held)
    assert (value["place"].name, value["n"]) == ("Rome", 1)


@pytest.mark.parametrize("kind", ["Geometry", "Layer"])
def test_an_object_without_its_pointer_is_stored(geo: Any, kind: str) -> None:
    """Beside one that has it, too."""
    made = getattr(geo, kind)
    value, paths = stored([made("a"), made("b", ptr=False)])
    assert paths == ["value[0]"]
    assert is_stripped(value[0])
    assert value[1].name == "b"


def test_a_pointer_of_the_application_is_cut_alone() -> None:
    """Its class can do without, or else say so."""
    value, paths = stored(Shape())
    assert paths == ["value.ptr"]
    assert value.name == "shape"


def test_what_holds_an_object_of_a_library_in_a_list_is_stored(geo: Any) -> None:
    """As little is cut as possible: the rest of a container is data."""
    value, paths = stored([geo.Box(geo.Geometry("a"), "text")])
    assert paths == ["value[0].held[0]"]
    assert value[0].held[1] == "text"


def test_an_object_of_a_library_alone_is_not_stored(geo: Any) -> None:
    """There is nothing in it that can be used."""
    with pytest.raises(UncacheableValueError, match=r"geo_of_tests\.Geometry"):
        Guard().dumps(geo.Geometry("a"))
