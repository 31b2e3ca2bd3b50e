"""Rows of Django under an allow-list: a function makes them, and their state is set."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User

from contextcache.payload.allow_list import AllowList
from contextcache.payload.loading import RefusedOperationError

ROWS = ["django.contrib.auth.models:User", "django.db.models.base:model_unpickle"]
STATE = "django.db.models.base:ModelState"


@pytest.mark.parametrize("protocol", range(6))
def test_rows_of_listed_models_load(protocol: int) -> None:
    """`model_unpickle` returns a new row each time."""
    rows = [User(id=number, username=f"user {number}") for number in range(3)]
    allowed = AllowList([*ROWS, STATE])
    loaded = allowed.loads(pickle.dumps(rows, protocol))
    assert [(row.pk, row.username) for row in loaded] == [(row.pk, row.username) for row in rows]


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_load(protocol: int) -> None:
    """numpy makes an empty array, whose state holds the numbers."""
    arrays = [np.arange(3), np.zeros(2, dtype=[("a", "i4")]), np.array([1, "a"], dtype=object)]
    names = ["numpy:ndarray", "numpy:dtype", "numpy._core.multiarray:_reconstruct"]
    if protocol == 5:
        names.append("numpy._core.numeric:_frombuffer")
    loaded = AllowList(names).loads(pickle.dumps(arrays, protocol))
    assert [array.tolist() for array in loaded] == [array.tolist() for array in arrays]


class _Reduced:
    """Is pickled as a call and the state of what it returns."""

    def __init__(self, *parts: object) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def _dtype(name: str, *state: object) -> _Reduced:
    return _Reduced(np.dtype, (name, False, True), (3, "|", *state))


I8, OBJECT = np.dtype("i8"), np.dtype("O")
LAYOUTS = {
    "objects": _dtype("V8", None, ("a",), {"a": (OBJECT, 0)}, 8, 1, 27),
    "objects without a flag": _dtype("V8", None, ("a",), {"a": (OBJECT, 0)}, 8, 1, 0),
    "an object without a flag": _dtype("O8", None, None, None, -1, -1, 0),
    "an array of objects": _dtype("V8", (OBJECT, (1,)), None, None, 8, 1, 0),
    "more than there is": _dtype("V8", None, None, None, 10**9, 1, 0),
    "behind the end": _dtype("V8", None, ("a",), {"a": (I8, 1)}, 8, 1, 16),
    "before the beginning": _dtype("V8", None, ("a",), {"a": (I8, -8)}, 8, 1, 16),
    "an array behind the end": _dtype("V8", (I8, (9,)), None, None, 8, 1, 0),
    "a field that is not there": _dtype("V8", None, ("b",), {"a": (I8, 0)}, 8, 1, 16),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_payload_cannot_give_bytes_another_meaning(layout: _Reduced) -> None:
    """numpy does not verify the state of a dtype, and would take bytes for objects."""
    with pytest.raises(RefusedOperationError, match="not allowed") as caught:
        AllowList(["numpy:dtype"]).loads(pickle.dumps(layout))
    assert caught.value.operation == "changes the layout of a numpy.dtype"


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_payload_cannot_make_arrays_of_its_own(protocol: int) -> None:
    """`ndarray` takes bytes for objects; what pickle writes does not call it."""
    array = _Reduced(np.ndarray, ((1,), OBJECT, b"x" * 8))
    with pytest.raises(RefusedOperationError):
        AllowList(["numpy:ndarray", "numpy:dtype"]).loads(pickle.dumps(array, protocol))
