"""The format of a log record about findings, for a person first and for machines too.

Code and pattern are part of the template, because log aggregators group on it; what varies is an
argument. No value, secret or `repr` gets here, and what a visitor may have chosen is masked.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from typing import TYPE_CHECKING, Any

from contextcache.base.masking import MAX_LINE_LENGTH, one_line, shortened, type_text
from contextcache.base.words import silence_line
from contextcache.findings.finding import SILENT, Finding
from contextcache.findings.path import StepKind
from contextcache.reports.request_scope import SESSION
from contextcache.reports.terminal import wants_colour

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from contextcache.config import Config

LINE = "contextcache {code}: %s (%s) %s: %s"
BLOCK = LINE + "%s\n  where   %s%s\n  result  %s\n  fix     %s\n  silence {silence}\n  docs    %s"
TAIL = "%s · where: %s · result: %s · fix: %s · pattern: {pattern} · seen %d×"
INDENT = "\n          "  # below the text of a block

MAX_LISTED = 5  # patterns in the line of a summary
MAX_LEAVES = 20  # fields of one object that are listed
MAX_SILENCE_LENGTH = 1800
MAX_ALSO_LENGTH, MAX_TEXT_LENGTH, MAX_REASON_LENGTH = 200, 280, 160  # a line has 2,000 at most

RECORDED = (
    "code", "path", "pattern", "leaf_type", "owner_type", "action", "sink", "origin", "count",
)  # fmt: skip
"""What a log record carries in its `extra`, each with the prefix `contextcache_`."""

LEAF = ("code", "path", "pattern", "leaf_type", "action")
"""What `contextcache_leaves` says of each field, where one object has several."""


def grouped(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Return `findings` with those of one cause together, each group one report.

    The attributes of one object are together, the same attributes of objects of one class, and
    what hangs below one attribute, such as the functions in a table or the fields of a form.
    """
    objects: dict[object, list[Finding]] = {}
    for finding in findings:
        path = finding.path
        is_field = finding.owner_type and path.steps and path.steps[-1].kind is StepKind.ATTRIBUTE
        owner: object = (path.parent, finding.owner_type) if is_field else (path, finding.code)
        objects.setdefault(owner, []).append(finding)
    groups: list[list[Finding]] = []
    causes: dict[object, list[Finding]] = {}
    for leaves in objects.values():
        keys = list(_causes(leaves))
        group = next((causes[key] for key in keys if key in causes), None)
        if group is None:
            groups.append(group := [])
        group += leaves
        causes.update((key, group) for key in keys if key not in causes)
    return groups


def _causes(leaves: Sequence[Finding]) -> Iterator[object]:
    """Yield keys for the cause of these fields, one of which others of the same cause have, too."""
    first = leaves[0]
    steps = first.path.steps
    where = steps[:1] if first.path.root == SESSION else ()  # each key was set by itself
    kinds: tuple[object, ...] = (
        where,
        first.origin,
        first.action,
        *((leaf.code, leaf.leaf_type, leaf.fix) for leaf in leaves),
    )
    fields = [at for at, step in enumerate(steps) if step.kind is StepKind.ATTRIBUTE]
    if first.owner_type and fields and fields[-1] == len(steps) - 1:
        names = tuple(leaf.path.steps[-1].pattern for leaf in leaves)
        kinds += names
        yield first.owner_type, kinds
        fields.pop()
    if fields:
        above = dataclasses.replace(first.path, steps=steps[: fields[-1] + 1])
        yield above.pattern, kinds


def message(leaves: Sequence[Finding], config: Config) -> tuple[str, tuple[object, ...]]:
    """Return template and arguments of the record for the offending fields of one object.

    The first field is told in full, the others below it: most often there is one, and the cause
    of several is the same.

    Args:
        leaves: The findings.
        config: Whether a developer reads along, and how they say what to ignore.
    """
    exact = config.debug
    leaves = leaves[:MAX_LEAVES]
    first, *others = leaves
    origin = " · ".join(map(one_line, filter(None, (first.origin, first.sink)))) or "-"
    verb = "should not be stored" if first.code in SILENT else "cannot be stored"
    head = (
        first.path.printed(exact=exact),
        type_text(first.leaf_type, exact=exact),
        verb,
        shortened(one_line(first.reason), MAX_REASON_LENGTH),
    )
    names = [
        f"{_name(one, first, exact)} ({type_text(one.leaf_type, exact=exact)})" for one in others
    ]
    if not exact:
        pairs = zip(names, others, strict=True)
        also = _joined((f"{name} {one.code}" for name, one in pairs), ", ", MAX_ALSO_LENGTH)
        did = _joined(_dids(leaves), "; ", MAX_TEXT_LENGTH)
        fix = _joined(_fixes(leaves), "; ", MAX_TEXT_LENGTH)
        origin = shortened(origin, MAX_TEXT_LENGTH)
        pattern = first.path.printed_pattern(any_key=True)
        template = (LINE + TAIL).format(code=first.code, pattern=_escaped(pattern))
        return template, (*head, also and f" · also: {also}", origin, did, fix, first.count)
    patterns = [leaf.path.printed_pattern(exact=True) for leaf in leaves]
    silence = silence_line(config.silence, patterns)
    if len(silence) > MAX_SILENCE_LENGTH:
        silence = silence_line(config.silence, patterns[:1])
    codes = ", ".join(dict.fromkeys(leaf.code for leaf in leaves))
    fields = _joined((one_line(leaf.field) for leaf in leaves if leaf.field), INDENT)
    seen = f" · seen {first.count}×" if first.count > 1 else ""
    return BLOCK.format(code=first.code, silence=_escaped(silence)), (
        *head,
        "".join(
            f"\n  also    {name} {one.code}: {one_line(one.reason)}"
            for name, one in zip(names, others, strict=True)
        ),
        shortened(origin, MAX_LINE_LENGTH),
        fields and f"\n  field   {fields}",
        _joined(_dids(leaves, exact=True), INDENT),
        _joined((*_fixes(leaves), *_short_patches(leaves)), INDENT),
        f"contextcache explain {codes}{seen}",
    )


def _escaped(text: str) -> str:
    """Return `text` as a part of a template."""
    return text.replace("%", "%%")


def _last(leaf: Finding, exact: bool) -> str:
    return dataclasses.replace(leaf.path, root="", steps=leaf.path.steps[-1:]).printed(exact=exact)


def _name(leaf: Finding, first: Finding, exact: bool) -> str:
    """Return the name of a field; of one of another object, its path."""
    if leaf.path.parent == first.path.parent:
        return _last(leaf, exact)
    return leaf.path.printed(exact=exact)


def _dids(leaves: Sequence[Finding], *, exact: bool = False) -> list[str]:
    """Return what was done, with the names of the fields where it was not the same for all."""
    if len({leaf.did for leaf in leaves}) == 1:
        return [one_line(leaves[0].did)]
    return [f"{_last(leaf, exact)}: {one_line(leaf.did)}" for leaf in leaves]


def _fixes(leaves: Sequence[Finding]) -> list[str]:
    return [one_line(leaf.fix) for leaf in leaves]


def _short_patches(leaves: Sequence[Finding]) -> list[str]:
    """Return the code to paste where it is one line; `contextcache explain` shows the longer."""
    return [one_line(leaf.patch) for leaf in leaves if leaf.patch and "\n" not in leaf.patch]


def _joined(texts: Iterable[str], separator: str, limit: int = 0) -> str:
    unique = dict.fromkeys(texts)
    if limit:
        return shortened(separator.join(unique), limit)
    return separator.join(shortened(text, MAX_LINE_LENGTH) for text in unique)


def record_fields(leaves: Sequence[Finding], *, exact: bool = False) -> dict[str, Any]:
    """Return the `extra` of a log record by the documented, prefixed names.

    Where one object has several offending fields, these are those of the first one;
    `contextcache_leaves` has the first of them.

    Args:
        leaves: The findings.
        exact: Whether nothing is masked, for a developer.
    """
    each = [leaf.as_dict(exact=exact) for leaf in leaves[:MAX_LEAVES]]
    return {
        **{f"contextcache_{name}": each[0][name] for name in RECORDED},
        "contextcache_leaves": [{name: leaf[name] for name in LEAF} for leaf in each],
    }


def most_seen(findings: Sequence[Finding]) -> str:
    """Return the patterns seen most often in a line: `CC102 session['cart']._lock 1,000×, …`."""
    told = [
        f"{one.code} {one.path.printed_pattern()} {one.count:,}×" for one in findings[:MAX_LISTED]
    ]
    more = len(findings) - MAX_LISTED
    return ", ".join(told) + (f" and {more:,} more" if more > 0 else "")


class DevelopmentFormatter(logging.Formatter):
    """Show findings as they are, coloured where the stream is a terminal."""

    _COLOURS = {"contextcache CC": "\x1b[33;1m", "  fix": "\x1b[32m", "  result": "\x1b[36m"}

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
