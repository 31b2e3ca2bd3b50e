"""Findings in words: from the hits of a dump, once it is known where they are."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from contextcache.base.introspection import qualified_name
from contextcache.base.masking import type_text
from contextcache.engine.field_names import (
    field_to_act_on,
    fix_for,
    is_inherited,
)
from contextcache.engine.hits import kind_of
from contextcache.engine.patch_builder import PatchBuilder
from contextcache.engine.refusal import NOTHING
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.findings.path import Path
from contextcache.reports import call_site
from contextcache.reports.request_scope import origin_of
from contextcache.rules.rule import Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from contextcache.engine.dump import Dump
    from contextcache.engine.hits import Hit
    from contextcache.engine.locating import Locator
    from contextcache.engine.nodes import Node
    from contextcache.engine.options import Options
    from contextcache.findings.path import Step
    from contextcache.rules.rule import Rule

_IN_ITS_CLASS = "__getstate__ of the class that holds it"


class Seen(NamedTuple):
    """An offender that a diagnosis has found.

    Attributes:
        kind: Its kind.
        finding: What was found of it, or of the first one of its kind.
        steps: The way to it.
        exhausts_stack: Whether pickling it raises a `RecursionError`.
    """

    kind: tuple[str, str]
    finding: Finding
    steps: tuple[Step, ...]
    exhausts_stack: bool


class FindingBuilder:
    """Build the findings about one value.

    Args:
        value: The value.
        options: How it is diagnosed.
        locate: Returns where the hits of a dump of an object are.

    Attributes:
        findings: Every offender, in pickle's order.
        seen: Every offender that stands in the value itself, by its id.
    """

    def __init__(
        self, value: object, options: Options, locate: Callable[[object, Dump], Locator]
    ) -> None:
        self.findings: list[Finding] = []
        self.seen: dict[int, Seen] = {}
        self._value = value
        self._options = options
        self._locate = locate
        self._patches = PatchBuilder(value)
        self._offending: set[int] = set()  # the ids of what an offender was reached through
        self._lookup: Callable[[type], Rule | None] = lambda _: None

    def build(self, dump: Dump, locator: Locator, *, seconds: float) -> None:
        """Add a finding for each hit of `dump`, in the order in which pickle meets them.

        Once the time is used up, one finding of a kind speaks for the others, but to a developer.

        Args:
            dump: The careful dump of the value.
            locator: Where its hits are.
            seconds: How long it may take.
        """
        deadline = time.perf_counter() + seconds
        first: dict[tuple[str, str], Finding] = {}
        order = {key: at for at, key in enumerate(locator.found)}
        told: set[int] = set()
        stripped = {id(hit.leaf): hit for hit in dump.hits if hit.action is Action.STRIPPED}
        for hit in dump.hits:  # what a proxy points at may have been met before it
            target = stripped.get(id(dump.replacement_by_id.get(id(hit.leaf))))
            if target is not None:
                hit.action, hit.did = target.action, target.did
        self._lookup = dump.table.book.lookup
        self._offending = {
            id(above.obj) for node in locator.found.values() for above in node.chain()[:-1]
        }
        for hit in sorted(dump.hits, key=lambda hit: order.get(id(hit.leaf), len(order))):
            if id(hit.leaf) in told:
                continue
            told.add(id(hit.leaf))
            node = locator.found.get(id(hit.leaf))
            if node is not None and locator.is_behind_proxy(node):
                continue  # the proxy is the field to act on; what it points at is cleaned silently
            kind, path = kind_of(hit.rule.code, type(hit.leaf)), self.path_of(node)
            if self._options.debug or kind not in first or time.perf_counter() < deadline:
                inner = list(self._inside(hit, path)) if node is not None else []
                worded = inner or [self._finding(hit, path, node)]
                first.setdefault(kind, worded[0])
                self.findings.extend(worded)
                self.seen[id(hit.leaf)] = Seen(kind, worded[0], path.steps, hit.rule.exhausts_stack)
            else:
                self.seen[id(hit.leaf)] = Seen(
                    kind, first[kind], path.steps, hit.rule.exhausts_stack
                )
        if self._options.debug:
            self.findings = [
                replace(finding, patch=text)
                for finding, text in zip(self.findings, self._patches.build(locator), strict=True)
            ]

    def observed(self, found: Iterable[tuple[Hit, Node]]) -> list[Finding]:
        """Return findings about what is stored as it is, and for which there is no patch."""
        return [self._finding(hit, self.path_of(node), node) for hit, node in found]

    def path_of(self, node: Node | None = None) -> Path:
        """Return the path of a node, or of the value itself."""
        path = node.path(self._options.label) if node is not None else Path(self._options.label)
        return replace(path, hidden=self._options.hidden)

    def _inside(self, hit: Hit, path: Path, cut: Path | None = None) -> Iterator[Finding]:
        """Word the offenders inside an object that had to be stripped whole because of them.

        Args:
            hit: The object.
            path: Its path.
            cut: The path of the outermost such object, where this one is inside another.
        """
        if hit.inside is None:
            return
        cut = cut or path
        locator = self._locate(hit.leaf, hit.inside)
        for inner in hit.inside.hits:
            node = locator.found.get(id(inner.leaf))
            if node is None or inner.leaf is hit.leaf:
                continue
            inner.action, inner.did = Action.REFUSED, NOTHING
            if cut.steps:
                inner.action, inner.did = (
                    Action.STRIPPED,
                    f"stored the rest without {cut.printed(exact=self._options.exact)}",
                )
            below = node.path(self._options.label)
            whole = replace(path, steps=path.steps + below.steps)
            deeper = list(self._inside(inner, whole, cut))
            yield from deeper or [self._finding(inner, whole, node, cut=cut)]

    def _finding(
        self, hit: Hit, path: Path, node: Node | None, *, cut: Path | None = None
    ) -> Finding:
        holder = node.holder if node is not None else None
        data = _data_of_library(holder) if holder is not None else None
        owner = qualified_name(type(holder.obj)) if holder is not None else ""
        action, did = hit.action, hit.did
        if not path.steps and action is Action.STRIPPED:
            action, did = Action.REFUSED, NOTHING
        elif action is Action.REFUSED:
            did = NOTHING
        can_store = self._can_store(hit)
        fix = fix_for(hit.rule, hit.leaf, hit.target, can_store=can_store)
        if self._options.debug:
            self._patches.add(hit, path, node, is_inside=cut is not None, can_store=can_store)
        return Finding(
            code=hit.rule.code,
            path=path,
            leaf_type=qualified_name(type(hit.leaf)),
            owner_type=owner,
            action=action,
            reason=hit.rule.reason or CODES[hit.rule.code],
            did=did,
            fix=self._about(
                fix,
                type(data.obj) if data is not None else None,
                str(path.steps[-1].name) if path.steps else "",
            ),
            cut=cut,
            sink=self._options.sink,
            origin=origin_of(path, self._value),
            field=self._field(node, path),
        )

    def _can_store(self, hit: Hit) -> bool:
        """Return True if there is nothing to report about what a proxy stands for."""
        rule = self._lookup(type(hit.target))
        is_whole = hit.action is Action.SNAPSHOTTED and id(hit.leaf) not in self._offending
        return is_whole and (rule is None or rule.verb is Verb.ALLOW)

    def _about(self, fix: str, owner: type | None, field: str) -> str:
        """Name the class that holds the field, and ask nobody to change one that is not theirs."""
        if owner is None:  # a dict or list has no `__getstate__` to speak of
            return fix.replace(f" in {_IN_ITS_CLASS}", "")
        name = type_text(qualified_name(owner), exact=self._options.exact).rpartition(".")[2]
        if call_site.is_installed(owner) or is_inherited(owner, field):
            # Not to leave that out: a queue has items, and a jar of cookies has cookies.
            data = f"store the data of the {name}, not the {name} itself"
            fix = fix.replace(f"leave it out in {_IN_ITS_CLASS}", data)
        return fix.replace("the class that holds it", name)

    def _field(self, node: Node | None, path: Path) -> str:
        if node is None:
            return "not located within the time for it; contextcache.explain(value) has no limit"
        return field_to_act_on(node, path, exact=self._options.exact) if self._options.debug else ""


def _data_of_library(holder: Node) -> Node:
    """Return the outermost object of Python or a library that `holder` is a part of.

    What is to be stored is the data of a queue, not of a condition in it.
    """
    above = holder.holder if call_site.is_installed(type(holder.obj)) else None
    while above is not None and call_site.is_installed(type(above.obj)):
        holder, above = above, above.holder
    return holder
