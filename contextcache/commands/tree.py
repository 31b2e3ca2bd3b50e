"""The tree of an examination: for a person in a terminal, and as data for machines.

The largest parts come first, as in `du | sort`. What is too small, too deep or too much to be
shown is counted in one line, so the numbers below a part add up to its own.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from contextcache.base.words import format_size, pluralize
from contextcache.commands.nodes import CONTAINERS
from contextcache.findings.path import Path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contextcache.commands.analysis import Examination
    from contextcache.commands.nodes import Node
    from contextcache.reports.terminal import Paper

MOST_BRANCHES = 10  # of one part that are shown for their size; as many again for their findings
MOST_NAMES = 12
HEADS = f"{'bytes':>13} {'%':>4}  part"


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a tree is shown.

    Args:
        depth: How many levels.
        smallest: How many bytes a part must take; parts with findings are always shown.
    """

    depth: int
    smallest: int


@dataclasses.dataclass(frozen=True, slots=True)
class Rest:
    """What of a part is not shown: how many entries, their bytes, the findings in them."""

    entries: int
    size: int
    findings: int


class Tree:
    """One examination, to be drawn or listed.

    Args:
        examination: What was found.
        bounds: How much of it is shown.
    """

    def __init__(self, examination: Examination, bounds: Bounds) -> None:
        self._seen = examination
        self._bounds = bounds
        self._whole = examination.root.size or 1
        self._marked: dict[int, int] = {}  # how many findings there are in and below a part
        self._patterns: dict[int, set[str]] = {}
        for part in examination.root.walk():
            above = part if part.findings else None
            found = {finding.path.pattern for finding in part.findings}
            while above is not None:
                self._marked[id(above)] = self._marked.get(id(above), 0) + len(part.findings)
                self._patterns.setdefault(id(above), set()).update(found)
                above = above.above

    def draw(self, paper: Paper) -> None:
        """Write the tree for a person."""
        seen, size = self._seen, self._seen.root.size
        if not seen.stored:
            told = f"cannot be stored; its parts take {format_size(size)}" if size else "not stored"
        else:
            told = format_size(size)
        found = [pluralize(len(seen.findings), "finding")] if seen.findings else []
        found += ["may run code"] if seen.runs else []
        found = found or ["nothing found"]
        found += [] if seen.loaded else ["read without loading it"]
        found += seen.notes
        paper.write(f"{paper.paint(seen.title, 'bold')}: {', '.join([told, *found])}")
        paper.write()
        paper.write_row(paper.paint(HEADS, "dim"))
        for numbers, text in self._lines(paper, seen.root, seen.title, 0):
            paper.write_row(f"{numbers}  {text}")
        if not seen.loaded:
            self._draw_names(paper, "Loading it would import:", "bold", seen.names)
        heading = "Loading it may run code, by what no data needs:"
        self._draw_names(paper, heading, "yellow", seen.runs)

    def _draw_names(self, paper: Paper, heading: str, colour: str, names: Sequence[str]) -> None:
        if not names:
            return
        paper.write()
        paper.write(paper.paint(heading, colour))
        told = ", ".join(names[:MOST_NAMES]).replace(":", ".")
        more = len(names) - MOST_NAMES
        paper.write(f"  {told} and {more:,} more" if more > 0 else f"  {told}")

    def _lines(self, paper: Paper, part: Node, name: str, depth: int) -> Iterator[tuple[str, str]]:
        """Yield the lines of `part` and what is shown of it, each as numbers and text."""
        yield self._numbers(part.size), self._described(paper, part, name)
        shown, rest = self._branches(part, depth)
        branches = [
            self._lines(paper, below, self._name(below, part), depth + 1) for below in shown
        ]
        worth = rest.findings or (rest.size and rest.size >= self._bounds.smallest)
        if shown and rest.entries and worth:
            branches.append(self._rest(paper, rest))
        for at, branch in enumerate(branches, 1):
            joint, gap = ("last", "gap") if at == len(branches) else ("branch", "line")
            for number, (numbers, text) in enumerate(branch):
                shape = paper.shape(gap if number else joint)
                yield numbers, paper.paint(shape, "dim") + text

    def _name(self, part: Node, above: Node) -> str:
        """Return the steps from `above` to `part`, which may lie several levels below."""
        steps = self._seen.path(part).steps[len(self._seen.path(above).steps) :]
        return str(Path("", steps, self._seen.hidden))

    def _original(self, part: Node) -> str | None:
        """Return the path of what a reference refers to, if that is in the tree."""
        top = part.same_as
        while top is not None and top.above is not None:
            top = top.above
        if part.same_as is None or top is not self._seen.root:
            return None
        return str(self._seen.path(part.same_as))

    def _rest(self, paper: Paper, rest: Rest) -> Iterator[tuple[str, str]]:
        found = f", with {pluralize(rest.findings, 'finding')}" if rest.findings else ""
        text = f"{paper.shape('more')} {rest.entries:,} more{found}"
        yield self._numbers(rest.size), paper.paint(text, "dim")

    def _numbers(self, size: int) -> str:
        return f"{size:>13,} {size / self._whole:>4.0%}"

    def _described(self, paper: Paper, part: Node, name: str) -> str:
        kind = part.kind
        if part.kind in CONTAINERS and part.entries:
            kind += f", {part.entries:,}"
            if part.entry_kind and part.entries > 1:
                kind += f" {paper.shape('times')} {part.entry_kind}"
        words = [paper.paint(name, "bold"), paper.paint(kind, "dim")]
        if original := self._original(part):
            words.append(paper.paint(f"= {original}", "cyan"))
        for finding in part.findings:
            mark = f"{paper.shape('cross')} {finding.code} {finding.action}"
            words.append(paper.paint(mark, "yellow"))
        return "  ".join(words)

    def _branches(self, part: Node, depth: int) -> tuple[list[Node], Rest]:
        """Return the parts below `part` to show, and what is left."""
        if depth > self._bounds.depth:  # below what is shown for its findings alone
            return [], Rest(part.entries, part.size, 0)
        if depth < self._bounds.depth:
            large = sorted(part.parts, key=lambda below: -below.size)[:MOST_BRANCHES]
            large = [below for below in large if below.size >= self._bounds.smallest]
            marked = [below for below in part.parts if id(below) in self._marked]
        else:
            large = []
            marked = [below for below in part.walk() if below.findings and below is not part]
        chosen = {id(below): below for below in (*large, *self._telling(marked, large))}
        shown = sorted(chosen.values(), key=lambda below: -below.size)
        told = len(part.findings) + sum(self._marked.get(id(below), 0) for below in shown)
        stored = sum(1 for below in shown if below.size and below.above is part)
        size = part.size - sum(below.size for below in shown)
        return shown, Rest(part.entries - stored, size, self._marked.get(id(part), 0) - told)

    def _telling(self, marked: list[Node], shown: list[Node]) -> Iterator[Node]:
        """Yield parts that show findings of a pattern that no part yielded before has shown."""
        told = {pattern for part in shown for pattern in self._patterns.get(id(part), ())}
        number = 0
        for part in marked:
            patterns = self._patterns[id(part)]
            if number < MOST_BRANCHES and not patterns <= told:
                number += 1
                told |= patterns
                yield part

    def data(self) -> dict[str, Any]:
        """Return everything by stable names, for JSON."""
        seen = self._seen
        return {
            "label": seen.title,
            "size": seen.root.size,
            "stored": seen.stored,
            "loaded": seen.loaded,
            "findings": [finding.as_dict(exact=True) for finding in seen.findings],
            "tree": self._data(seen.root, 0),
            "imports": list(seen.names),
            "runs": list(seen.runs),
            "notes": list(seen.notes),
        }

    def _data(self, part: Node, depth: int) -> dict[str, Any]:
        shown, rest = self._branches(part, depth)
        return {
            "path": str(self._seen.path(part)),
            "type": part.kind,
            "size": part.size,
            "entries": part.entries,
            "findings": [finding.code for finding in part.findings],
            "same_as": self._original(part),
            "parts": [self._data(below, depth + 1) for below in shown],
            "rest": dataclasses.asdict(rest),
        }
