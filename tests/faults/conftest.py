"""The fault suite: `make test-faults`, or `-m faults`."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lives in this folder, so that it can be run alone or left out."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)
