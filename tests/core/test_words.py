"""Sizes, numbers of things and unknown names in messages."""

from __future__ import annotations

import pytest

from contextcache.base.words import format_size, pluralize, suggest, unknown_name


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
     (3_100_000, "3.1 MB"), (12_345_678_901, "12.3 GB"), (10**13, "10000.0 GB")],
)  # fmt: skip
def test_format_size(size: int, text: str) -> None:
    """In steps of a thousand, like the numbers beside them."""
    assert format_size(size) == text


def test_pluralize() -> None:
    """Only one thing is singular."""
    texts = [pluralize(number, "finding") for number in (0, 1, 2, 12_000)]
    assert texts == ["0 findings", "1 finding", "2 findings", "12,000 findings"]


@pytest.mark.parametrize(
    ("name", "near"), [("modes", "MODE"), ("MOD", "MODE"), (42, ""), ("xyz", ""), ("", "")]
)
def test_suggest(name: object, near: str) -> None:
    """The most similar name, however it is spelled; none where nothing is similar."""
    assert suggest(name, ("IGNORE", "MODE")) == near


def test_an_unknown_name_is_repeated_only_in_part() -> None:
    """A setting may be any text."""
    assert unknown_name("x" * 100, ["b", "a"], "unknown mode") == (
        f"unknown mode {'x' * 60!r}; valid: a, b"
    )
