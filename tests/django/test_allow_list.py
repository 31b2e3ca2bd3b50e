"""Rows of Django under an allow-list: a function makes them, and their state is set."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from django.contrib.auth.models import User

from contextcache.allow_list import AllowList

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
