"""How a report reads: one log record, for a person first and for machines too.

The message is a constant template with its arguments apart, because log aggregators group on
the template. No value, secret or `repr` ever gets here: a finding holds names only.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import TYPE_CHECKING, Any

from contextcache.findings import SILENT, Finding
from contextcache.paths import StepKind
from contextcache.terminal import wants_colour

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from contextcache.config import Config

LINE = "contextcache %s: %s (%s) %s: %s"
BLOCK = LINE + "%s\n  at      %s%s\n  did     %s\n  fix     %s\n  silence %s\n  docs    %s"
TAIL = "%s · at: %s · did: %s · fix: %s · seen %d×"
INDENT = "\n          "  # below the text of a block

MOST_TOLD = 5  # patterns in the line of a summary

RECORDED = (
    "code", "path", "pattern", "leaf_type", "owner_type", "action", "sink", "origin", "count",
)  # fmt: skip
"""What a log record carries in its `extra`, each with the prefix `contextcache_`."""

LEAF = ("code", "path", "pattern", "leaf_type", "action")
"""What `contextcache_leaves` says of each field, where one object has several."""


def grouped(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Return `findings` with the attributes of one object together, each group one report."""
    groups: dict[object, list[Finding]] = {}
    for finding in findings:
        path = finding.path
        is_field = finding.owner_type and path.steps and path.steps[-1].kind is _FIELD
        owner: object = (path.parent, finding.owner_type) if is_field else (path, finding.code)
        groups.setdefault(owner, []).append(finding)
    return list(groups.values())


_FIELD = StepKind.ATTRIBUTE


def message(leaves: Sequence[Finding], config: Config) -> tuple[str, tuple[object, ...]]:
    """Return template and arguments of the record for the offending fields of one object.

    The first field is told in full, the others below it: most often there is one, and the cause
    of several is the same.

    Args:
        leaves: The findings.
        config: Whether a developer reads along, and how they say what to ignore.
    """
    first, *others = leaves
    origin = " · ".join(filter(None, (first.origin, first.sink))) or "-"
    verb = "should not be stored" if first.code in SILENT else "cannot be stored"
    head = first.code, str(first.path), first.leaf_type, verb, first.reason
    if not config.debug:
        also = _joined((f"{one.path.last} ({one.leaf_type}) {one.code}" for one in others), ", ")
        did, fix = (_joined(texts, "; ") for texts in (_dids(leaves), _fixes(leaves)))
        return LINE + TAIL, (*head, also and f" · also: {also}", origin, did, fix, first.count)
    patterns = json.dumps([leaf.path.pattern for leaf in leaves], ensure_ascii=False)
    codes = ", ".join(dict.fromkeys(leaf.code for leaf in leaves))
    fields = _joined((leaf.field for leaf in leaves if leaf.field), INDENT)
    seen = f" · seen {first.count}×" if first.count > 1 else ""
    return BLOCK, (
        *head,
        "".join(
            f"\n  also    {one.path.last} ({one.leaf_type}) {one.code}: {one.reason}"
            for one in others
        ),
        origin,
        fields and f"\n  field   {fields}",
        _joined(_dids(leaves), INDENT),
        _joined((*_fixes(leaves), *_short_patches(leaves)), INDENT),
        config.silence.replace("[]", patterns),
        f"contextcache explain {codes}{seen}",
    )


def _dids(leaves: Sequence[Finding]) -> list[str]:
    """Return what was done, with the names of the fields where it was not the same for all."""
    if len({leaf.did for leaf in leaves}) == 1:
        return [leaves[0].did]
    return [f"{leaf.path.last}: {leaf.did}" for leaf in leaves]


def _fixes(leaves: Sequence[Finding]) -> list[str]:
    return [leaf.fix for leaf in leaves]


def _short_patches(leaves: Sequence[Finding]) -> list[str]:
    """Return the code to paste where it is one line; `contextcache explain` shows the longer."""
    return [leaf.patch for leaf in leaves if leaf.patch and "\n" not in leaf.patch]


def _joined(texts: Iterable[str], separator: str) -> str:
    return separator.join(dict.fromkeys(texts))


def record_fields(leaves: Sequence[Finding]) -> dict[str, Any]:
    """Return the `extra` of a log record by the documented, prefixed names.

    Where one object has several offending fields, these are those of the first one;
    `contextcache_leaves` has all of them.
    """
    told = leaves[0].as_dict()
    each = [leaf.as_dict() for leaf in leaves]
    return {
        **{f"contextcache_{name}": told[name] for name in RECORDED},
        "contextcache_leaves": [{name: leaf[name] for name in LEAF} for leaf in each],
    }


def most_seen(findings: Sequence[Finding]) -> str:
    """Return the patterns seen most often in a line: `CC102 session['cart']._lock 1,000×, …`."""
    told = [f"{one.code} {one.path.pattern} {one.count:,}×" for one in findings[:MOST_TOLD]]
    more = len(findings) - MOST_TOLD
    return ", ".join(told) + (f" and {more:,} more" if more > 0 else "")


class DevelopmentFormatter(logging.Formatter):
    """Show findings as they are, coloured where the stream is a terminal."""

    _COLOURS = {"contextcache CC": "\x1b[33;1m", "  fix": "\x1b[32m", "  did": "\x1b[36m"}

    def __init__(self, *, colour: bool | None = None) -> None:
        super().__init__("%(message)s")
        self._colour = wants_colour(sys.stderr) if colour is None else colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of `record`, coloured line by line where that is wanted."""
        text = super().format(record)
        if not self._colour:
            return text
        return "\n".join(map(self._coloured, text.split("\n")))

    def _coloured(self, line: str) -> str:
        for start, colour in self._COLOURS.items():
            if line.startswith(start):
                return f"{colour}{line}\x1b[0m"
        return line


def show(logger: logging.Logger) -> None:
    """Show the records of `logger` on stderr unless somebody handles them already."""
    current: logging.Logger | None = logger
    while current is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in current.handlers):
            return
        current = current.parent if current.propagate else None
    handler = logging.StreamHandler()
    handler.setFormatter(DevelopmentFormatter())
    logger.addHandler(handler)
