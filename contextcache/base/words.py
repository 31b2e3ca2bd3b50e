"""Sizes, numbers of things, unknown names and lines of settings, as messages write them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_NAME_LENGTH = 60  # characters of an unknown name that a message repeats
MIN_LIKENESS = 0.5  # from where on a name is suggested for another one (difflib's ratio)


def format_size(size: int) -> str:
    """Return a number of bytes such as `312 B`, `4.7 kB` or `3.1 MB`."""
    if size < 1000:
        return f"{size} B"
    amount = float(size)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.95 or unit == "GB":
            break
    return f"{amount:.1f} {unit}"


def pluralize(number: int, noun: str) -> str:
    """Return `1 finding`, `2 findings`, `12,000 findings`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def suggest(name: object, names: Iterable[str]) -> str:
    """Return the one of `names` that is most like `name`, in any case; empty if none is."""
    known = sorted(names)
    return near(str(name), known, MIN_LIKENESS) or near(str(name).upper(), known, MIN_LIKENESS)


def near(name: str, names: Iterable[str], likeness: float) -> str:
    """Return the one of `names` that is most like `name`; empty if none is.

    Args:
        name: Any text.
        names: What it may stand for.
        likeness: The least ratio of difflib, from 0 to 1.
    """
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it

    return next(iter(get_close_matches(name, list(names), n=1, cutoff=likeness)), "")


def unknown_name(name: object, names: Iterable[str], what: str) -> str:
    """Return the message for a name that is not among `names`, with the one that may be meant."""
    known = sorted(map(str, names))
    meant = suggest(name, known)
    hint = f" (did you mean {meant!r}?)" if meant else ""
    return f"{what} {str(name)[:MAX_NAME_LENGTH]!r}{hint}; valid: {', '.join(known)}"


def silence_template(setting: str, ignored: object, created: str) -> str:
    """Return the `silence` of a `Config`: a line that can be added to settings several times.

    Args:
        setting: The expression of the list of ignored patterns.
        ignored: What it is now; None where there is none.
        created: The expression that returns the list, and makes it first where there is none.
    """
    if ignored is None:
        return f"{created}.extend([])"
    return f"{setting} += []" if isinstance(ignored, list) else f"{setting} = [*{setting}, *[]]"


def silence_line(template: str, patterns: list[str]) -> str:
    """Return `template`, the `silence` of a `Config`, with these patterns."""
    import json  # noqa: PLC0415  # a clean process needs no words

    before, _, after = template.rpartition("[]")
    return f"{before}{json.dumps(patterns, ensure_ascii=False)}{after}"
