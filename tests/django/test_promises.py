"""A patch for a class that derives from a model of Django calls the methods of the model."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from contextcache import Guard
from tests.core.promises import outline, pasted

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = """\
import queue
import threading

from django.db import models


class Shelf(models.Model):
    name = models.TextField()

    class Meta:
        app_label = "auth"

    def __init__(self, *args, **fields):
        super().__init__(*args, **fields)
        self.lock = threading.Lock()
        self.todo = queue.Queue(3)


def shelf():
    made = Shelf(id=7, name="books")
    made.todo.put("item")
    return made
"""


def module_of(source: str, file: Path) -> ModuleType:
    file.write_text(source)
    module = ModuleType("shelf_of_tests")
    module.__file__ = str(file)
    sys.modules["shelf_of_tests"] = module
    exec(compile(source, str(file), "exec"), module.__dict__)
    return module


@pytest.mark.filterwarnings("ignore:Model .auth.shelf. was already registered")
def test_the_methods_of_a_model_are_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its fields are stored as before, and its queue with its items."""
    monkeypatch.setitem(sys.modules, "shelf_of_tests", ModuleType("shelf_of_tests"))
    found = Guard(debug=True).explain(module_of(SOURCE, tmp_path / "shelf.py").shelf())
    assert [str(one.path) for one in found] == ["value.lock", "value.todo.mutex"]
    [patch] = {one.patch for one in found}
    assert "super().__getstate__()" in patch
    patched = module_of(pasted(SOURCE, patch), tmp_path / "patched.py")
    guard = Guard()
    loaded = outline(guard.loads(guard.dumps(patched.shelf())))
    assert guard.summary() == []
    assert loaded["value.name"] == "'books'"
    assert loaded["value.todo.queue[0]"] == "'item'"
    assert loaded["value.lock"] == "_thread.lock"
