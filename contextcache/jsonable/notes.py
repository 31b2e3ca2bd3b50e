"""The findings about one value that is stored as JSON."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from contextcache.base.introspection import qualified_name
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.jsonable.codec import PLAIN_DATA, AnyDataclass
from contextcache.jsonable.frames import position
from contextcache.reports.request_scope import origin_of
from contextcache.rules.rule import Verb, Verdict

if TYPE_CHECKING:
    from contextcache.findings.path import Path, Step
    from contextcache.jsonable.frames import Location


def refused(fix: str = "", code: str = "CC140", reason: str = "") -> Verdict:
    """Return the verdict about an object that cannot be stored."""
    return Verdict(verb=Verb.STRIP, code=code, fix=fix, reason=reason)


class Notes:
    """Collect the findings about one value.

    Args:
        root: The path of the value.
        value: The value.
        codec_name: What messages call the encoder.
        sink: Display name of the storage.
    """

    def __init__(self, root: Path, value: object, codec_name: str, sink: str) -> None:
        self.root = root
        self._value = value
        self._codec_name = codec_name
        self._sink = sink
        self._notes: list[tuple[tuple[int, ...], Finding]] = []

    def add(
        self,
        verdict: Verdict,
        obj: object,
        action: Action = Action.OBSERVED,
        *,
        did: str = "",
        steps: tuple[Step, ...] = (),
        at: tuple[int, ...] = (),
        owner: object = None,
    ) -> None:
        """Add a finding.

        Args:
            verdict: Why it is one.
            obj: The object.
            action: What was done about it.
            did: The same in words, where the verdict has none.
            steps: The way to it.
            at: The positions on the way to it.
            owner: The object that holds it, where that has fields.
        """
        path = dataclasses.replace(self.root, steps=steps)
        finding = Finding(
            code=verdict.code,
            path=path,
            leaf_type=qualified_name(type(obj)),
            owner_type="" if owner is None else qualified_name(type(owner)),
            action=action,
            reason=verdict.reason or CODES[verdict.code].replace("JSON", self._codec_name),
            did=did or verdict.did,
            fix=verdict.fix or PLAIN_DATA,
            sink=self._sink,
            origin=origin_of(path, self._value),
        )
        self._notes.append((at, finding))

    def add_at(
        self,
        location: Location,
        verdict: Verdict,
        obj: object,
        action: Action = Action.OBSERVED,
        *,
        did: str = "",
    ) -> None:
        """Add a finding about what is at a location."""
        owners = (frame.obj for frame, _ in location[::-1] if frame.parts is AnyDataclass)
        steps = tuple([frame.step(at) for frame, at in location])
        at = position(location)
        self.add(verdict, obj, action, did=did, steps=steps, at=at, owner=next(owners, None))

    def drop_below(self, at: tuple[int, ...]) -> None:
        """Forget what was found at a position and below it."""
        self._notes = [note for note in self._notes if note[0][: len(at)] != at]

    def positions(self) -> set[tuple[int, ...]]:
        """Return where something was found."""
        return {at for at, _ in self._notes}

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order of the value."""
        return [finding for _, finding in sorted(self._notes, key=lambda note: note[0])]
