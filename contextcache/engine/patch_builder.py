"""The fixes to paste that go with the findings about one value, for a developer."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

from contextcache.engine.field_names import code_for, node_to_act_on
from contextcache.findings.finding import Action
from contextcache.reports import call_site
from contextcache.reports.reporter import report_internal
from contextcache.rules.rule import Verb

if TYPE_CHECKING:
    from contextcache.engine.hits import Hit
    from contextcache.engine.locating import Locator
    from contextcache.engine.nodes import Node
    from contextcache.findings.path import Path
    from contextcache.reports.offence import Offence

MAX_WAYS = 100_000  # steps of a walk through a value that count what is held more than once


class PatchBuilder:
    """Collect what the fixes are made of, one for each finding, until all findings are known.

    Args:
        value: The value.
    """

    def __init__(self, value: object) -> None:
        self._value = value
        self._offences: list[Offence | None] = []

    def add(
        self, hit: Hit, path: Path, node: Node | None, *, is_inside: bool, can_store: bool
    ) -> None:
        """Add what the fix for a finding is made of, if there can be one.

        Args:
            hit: The offender.
            path: Its path.
            node: Where it is; None where that is not known.
            is_inside: Whether what holds it was stripped whole because of it.
            can_store: Whether there is nothing to report about what a proxy stands for.
        """
        offence = _offence(hit, path, node, can_store=can_store)
        if is_inside and offence and not issubclass(type(offence.owner), BaseException):
            offence = None  # what holds it would still not load
        self._offences.append(offence)

    def build(self, locator: Locator) -> list[str]:
        """Return the fix for each finding, empty where there is none; the offenders are let go.

        Args:
            locator: Counts how often the value leads to an offender.
        """
        from contextcache.reports.patches import patches  # noqa: PLC0415  # for developers

        offences, self._offences = self._offences, []
        try:
            counted = [one.held for one in offences if one is not None]
            targets = {id(one): one() for one in counted if type(one) is weakref.ref}
            wanted = {*map(id, counted), *map(id, targets.values())}
            ways = locator.count_ways(self._value, wanted, nodes=MAX_WAYS)
            counted_offences = [
                one
                and replace(
                    one,
                    ways=ways[id(one.held)],
                    has_target=ways.get(id(targets.get(id(one.held))), 0) > 0,
                )
                for one in offences
            ]
            return patches(counted_offences, self._value)
        except Exception as error:  # noqa: BLE001  # a fix nobody can word must not break the write
            report_internal("wording a fix", error)
            return [""] * len(offences)


def _offence(hit: Hit, path: Path, node: Node | None, *, can_store: bool) -> Offence | None:
    from contextcache.reports.offence import Offence  # noqa: PLC0415  # for developers

    gone = hit.action in (Action.STRIPPED, Action.LEFT_OUT)
    if node is None or (hit.rule.verb is Verb.SNAPSHOT and gone):
        return None
    if hit.rule.verb is Verb.TRIM and hit.action is Action.SNAPSHOTTED:
        return None  # all but a part is stored: no method that leaves it out stores as much
    owner, field = None, ""
    at = node_to_act_on(node)
    if at is not None and at.parent is not None and call_site.is_own(type(at.parent.obj)):
        owner, field = at.parent.obj, str(at.step.name if at.step is not None else "")
    return Offence(
        code=hit.rule.code,
        action=hit.action,
        leaf=hit.leaf,
        path=path,
        owner=owner,
        field=field,
        stands_for=code_for(hit.rule, hit.leaf, hit.target, can_store=can_store),
        is_certain=getattr(hit.rule, "when", None) is None,
    )
