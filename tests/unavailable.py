"""Packages that tests need and some versions of Python do not have, as `pyproject.toml` says."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement

from tests.child import ROOT

_GROUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["test"]


def needs(package: str) -> pytest.MarkDecorator:
    """Return the mark of a test that is skipped where `package` is not to be installed.

    Where it is to be installed and is missing, the test fails.

    Args:
        package: Its name in the group `test` of `pyproject.toml`.
    """
    [where] = [one.marker for one in map(Requirement, _GROUP) if one.name == package]
    is_without = where is not None and not where.evaluate()
    return pytest.mark.skipif(is_without, reason=f"{package} is installed where {where}")
