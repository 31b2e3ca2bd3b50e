"""What is known about the values that are written under one label, such as `session`.

A place that was looked at is known by its steps. Where many places are alike, such as the same
field of each row, they are known by their pattern, so that nothing depends on their number.
"""

from __future__ import annotations

import operator
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from contextcache.base.classes import is_ordinary
from contextcache.base.masking import generalised
from contextcache.engine.children import ATOMS, iter_children, resolve_without_code
from contextcache.findings.finding import Action
from contextcache.findings.path import Path, Step, StepKind
from contextcache.reports.reporter import key_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contextcache.engine.diagnosis import Diagnosis
    from contextcache.findings.finding import Finding
    from contextcache.reports.reporter import Key

    Steps = tuple[Step, ...]
    Kind = tuple[str, str]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

MAX_PLACES = 64  # places and patterns of one history, and kinds
MAX_TEXT = 200  # characters of steps that are short enough in any path
MAX_ALIKE = 8  # places of one pattern that are known one by one

ANY: Any = ...
"""The name in a step of a pattern, which stands for each item, element or key."""


class LabelHistory:
    """What is known about the values written under one label. It is never changed.

    Attributes:
        careful: Whether the fast pass cannot take such a value.
        refusals: What kept the last value that was diagnosed from being stored, by its kind.
        exhausting: The kinds among them that exhaust the stack.
        dropped: The types of what is left out of a session with its key.
        kinds: Code and type name of every offender, with the key of a finding.
        everywhere: The kinds that are known wherever they stand: no steps lead there without
            running code, or there are too many places. While there is time, a diagnosis names the
            markers of the former.
        places: The key of the finding at each known place.
    """

    __slots__ = ("careful", "dropped", "everywhere", "exhausting", "kinds", "places", "refusals")

    def __init__(self) -> None:
        self.careful = False
        self.refusals: dict[Kind, Finding] = {}
        self.exhausting: frozenset[Kind] = frozenset()
        self.dropped: dict[str, None] = {}
        self.kinds: dict[Kind, Key] = {}
        self.everywhere: frozenset[Kind] = frozenset()
        self.places: dict[Steps, Key] = {}

    @property
    def is_full(self) -> bool:
        """Whether there are more places than are known, so that a diagnosis learns nothing."""
        return len(self.places) >= MAX_PLACES

    def updated(self, diagnosis: Diagnosis, value: object, *, careful: bool) -> LabelHistory:
        """Return what is known when a diagnosis of `value` is added to it."""
        history = LabelHistory()
        history.careful = careful or self.careful
        refused = {} if diagnosis.payload is not None else diagnosis.seen
        history.refusals = _newest(
            {
                seen.kind: seen.finding
                for seen in refused.values()
                if seen.finding.action is Action.REFUSED
            }
        )
        history.exhausting = frozenset(
            seen.kind for seen in refused.values() if seen.exhausts_stack
        )
        history.dropped = _newest({**self.dropped, **dict.fromkeys(diagnosis.dropped)})
        keys = {id(seen.finding): key_of(seen.finding) for seen in diagnosis.seen.values()}
        kinds = {seen.kind: keys[id(seen.finding)] for seen in diagnosis.seen.values()}
        history.kinds = _newest({**self.kinds, **kinds})
        places, alike = dict(self.places), Counter(map(_pattern, self.places))
        for seen in diagnosis.seen.values():
            pattern = _pattern(seen.steps)
            if pattern in places or seen.steps in places:
                continue
            alike[pattern] += 1
            exact = alike[pattern] <= MAX_ALIKE and all(map(_is_reached, seen.steps))
            places[seen.steps if exact else pattern] = keys[id(seen.finding)]
        history.places = _newest(
            {
                steps: key
                for steps, key in places.items()
                if (pattern := _pattern(steps)) == steps or pattern not in places
            }
        )
        known = history.known(value)
        elsewhere = {seen.kind for at, seen in diagnosis.seen.items() if at not in known}
        history.everywhere = frozenset((self.everywhere | elsewhere) & history.kinds.keys())
        return history

    def with_kinds(self, other: LabelHistory) -> LabelHistory:
        """Return a history that knows the kinds and refusals of both, and no place."""
        history = LabelHistory()
        history.refusals = _newest({**self.refusals, **other.refusals})
        history.exhausting = (self.exhausting | other.exhausting) & history.refusals.keys()
        history.careful = self.careful or other.careful
        history.kinds = _newest({**self.kinds, **other.kinds})
        return history

    def refused(self, kinds: Iterable[Kind]) -> list[Finding]:
        """Return what is known to keep offenders of these kinds from being stored."""
        return [self.refusals[kind] for kind in kinds if kind in self.refusals]

    def known(self, value: object) -> dict[int, Steps]:
        """Return the steps to each known place in `value`, by the id of what is there."""
        found: dict[int, Steps] = {}
        for steps in self.places:
            if any(name is ANY for _, name in steps):
                for obj, exact in _expanded(value, steps):
                    found.setdefault(id(obj), exact)
            else:
                found[id(resolve_without_code(value, steps))] = steps
        return found

    def keys_at(self, value: object, leaves: list[object]) -> tuple[set[Key], set[int]]:
        """Return the keys of the known places at which some leaves are, and the other leaves' ids.

        Args:
            value: The value.
            leaves: The offenders that were met in it, each once.
        """
        keys: set[Key] = set()
        elsewhere: set[int] | None = None
        for steps, key in self.places.items():
            there = _objects_at(value, steps)
            if len(there) == len(leaves) and all(map(operator.is_, there, leaves)):
                return {key}, set()  # of rows that are alike, without 2,000 ids
            before = set(map(id, leaves)) if elsewhere is None else elsewhere
            elsewhere = before.difference(map(id, there))
            if len(elsewhere) < len(before):
                keys.add(key)
            if not elsewhere:
                break
        return keys, set(map(id, leaves)) if elsewhere is None else elsewhere


class Markers:
    """The paths of what is known, as markers that are stored in its place tell them.

    Args:
        history: What is known.
        value: The value; it is looked at when the first marker asks.
        label: The root of the paths.
        hidden: Whether no key is shown.
    """

    __slots__ = ("_hidden", "_history", "_known", "_label", "_root", "_value")

    def __init__(
        self, history: LabelHistory, value: object, label: str, *, hidden: bool = False
    ) -> None:
        self._history = history
        self._value = value
        self._label = label
        self._hidden = hidden
        self._root = ""
        self._known: dict[int, Steps] | None = None

    def get(self, at: int) -> str | None:
        """Return the path of the object with the id `at`, as it may be shown; None if unknown."""
        if self._known is None:
            self._known = self._history.known(self._value)
        steps = self._known.get(at)
        if steps is None:
            return None
        text = "".join([step.printed for step in steps])
        if self._hidden or len(text) > MAX_TEXT or not text.isprintable():
            return Path(self._label, steps, self._hidden).printed()
        self._root = self._root or Path(self._label).printed()  # once for all the rows of a list
        return self._root + text


def _newest(known: dict[_Key, _Value]) -> dict[_Key, _Value]:
    """Return the entries that were added last, as many as are kept."""
    return dict(islice(known.items(), max(0, len(known) - MAX_PLACES), None))


def _pattern(steps: Steps) -> Steps:
    """Return `steps` with `ANY` for what differs from item to item and from key to key."""
    return tuple(
        [Step(kind, ANY) if _varies(kind, name) else Step(kind, name) for kind, name in steps]
    )


def _varies(kind: StepKind, name: object) -> bool:
    if kind is StepKind.ITEM:
        return type(name) is not str or generalised(name) != name
    return kind in (StepKind.ELEMENT, StepKind.KEY, StepKind.VALUE)


def _is_reached(step: Step) -> bool:
    return step.kind is StepKind.ITEM or step.kind is StepKind.ATTRIBUTE


def _expanded(value: object, steps: Steps) -> list[tuple[object, Steps]]:
    """Return all that a pattern leads to in `value`, each with its own steps."""
    level: list[tuple[object, Steps]] = [(value, ())]
    for wanted in steps:
        below: list[tuple[object, Steps]] = []
        for obj, taken in level:
            if wanted.name is not ANY:
                child = resolve_without_code(obj, (wanted,))
                if child is not None:
                    below.append((child, (*taken, wanted)))
                continue
            below += [
                (child, (*taken, step))
                for step, child in iter_children(obj)
                if step.kind is wanted.kind and id(type(child)) not in ATOMS
            ]
        level = below
    return level


def _objects_at(value: object, steps: Steps) -> list[object]:
    """Return all that steps or a pattern lead to in `value`, in their order."""
    level: list[object] = [value]
    for step in steps:
        if step.name is not ANY:
            level = _children_by(level, step)
        elif step.kind is StepKind.ITEM and len(level) == 1 and type(level[0]) is list:
            level = level[0].copy()
        else:
            level = [
                child
                for obj in level
                for at, child in iter_children(obj)
                if at.kind is step.kind and id(type(child)) not in ATOMS
            ]
    return level


def _children_by(holders: list[Any], step: Step) -> list[object]:
    """Return what a step leads to from each of the holders, most of which are of one class."""
    name, usual = step.name, type(holders[0]) if holders else None
    if usual is None or step.kind is not StepKind.ATTRIBUTE or not is_ordinary(usual):
        usual = None
    children = [
        holder.__dict__.get(name)
        if type(holder) is usual
        else resolve_without_code(holder, (step,))
        for holder in holders
    ]
    return [child for child in children if child is not None]
