"""The fault suite: `make test-faults`, or `-m faults`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lives in this folder, so that it can be run alone or left out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture(autouse=True)
def _requests_may_look_at_the_database(django_db_blocker: Any) -> Iterator[None]:
    """Let Django ask, as each request begins, after a connection that an earlier test has left."""
    with contextlib.nullcontext() if django_db_blocker is None else django_db_blocker.unblock():
        yield
