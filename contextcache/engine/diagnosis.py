"""The close look at a value with offenders: dump, locate, try to load, cut higher, word.

It is taken once for each new pattern. What it learns about types goes into its table, from
which the fast pass does the same from then on.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from contextcache.base.introspection import has_default, qualified_name
from contextcache.engine.dump import Dump
from contextcache.engine.handles import lost_handle
from contextcache.engine.hits import Hit, SelfReferenceError
from contextcache.engine.locating import Locator
from contextcache.engine.reducers import failed_trial
from contextcache.engine.refusal import NOTHING
from contextcache.engine.size import too_deep
from contextcache.engine.trial import loads_again
from contextcache.engine.wording import FindingBuilder
from contextcache.findings.finding import Action, Finding
from contextcache.findings.path import StepKind
from contextcache.rules.replacements import state_of
from contextcache.rules.verdicts import (
    CHANGING,
    CIRCULAR,
    NOT_FRESH,
    RECURSES,
    REFUSES,
    TOO_DEEP,
    UNLOADABLE,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from contextcache.engine.dispatch import DispatchTable
    from contextcache.engine.options import Options
    from contextcache.engine.wording import Seen
    from contextcache.rules.rule import Verdict

MAX_ROUNDS = 16  # in which no class is found that does not load; then the value is refused
MAX_TRIALS = 16  # of objects of one class, before each of them is tried
MAX_RETRIES = 5  # of a dump during which another thread changed the value
DEEP = 150  # levels from which on a RecursionError is the depth's fault, not a method's

KEY_LEFT_OUT = "left the key out, stored the rest"


class Diagnosis:
    """One close look at one value.

    Args:
        table: What is known about types.
        options: How it is done.

    Attributes:
        payload: What is stored; None if nothing can be.
        findings: Every offender, in pickle's order.
        secrets: What has the shape of a secret, where that is searched for.
        table: What is known about types now.
        is_endless: Whether pickling the value goes as deep as the stack allows.
        dropped: The types of what was left out with its top-level key.
        seen: Every offender that stands in the value itself, by its id.
    """

    def __init__(self, table: DispatchTable, options: Options) -> None:
        self.table = table
        self.options = options
        self.payload: bytes | None = None
        self.findings: list[Finding] = []
        self.secrets: list[Finding] = []
        self.is_endless = False
        self.dropped: set[str] = set()
        self.seen: dict[int, Seen] = {}
        self._seconds = options.seconds  # that are left

    def run(self, value: object) -> Diagnosis:
        """Dump `value` until what is stored also loads, and word what was found."""
        builder = FindingBuilder(value, self.options, self._search)
        markers: dict[int, str] = {}
        cut_higher = False
        rounds = MAX_ROUNDS
        while rounds:
            rounds -= 1
            root = builder.path_of().printed(exact=self.options.exact)
            try:
                dump, payload = self._dump_with_retries(value, root, markers)
            except _Refusal as refusal:
                dump = refusal.dump
                dump.hits.append(Hit(refusal.leaf, refusal.rule, Action.REFUSED, NOTHING))
                self._build_findings(builder, dump, self._search(value, dump))
                return self
            locator = self._search(value, dump)
            if self._learns(value, dump, locator):
                continue
            if markers.keys() < (named := self._marker_paths(builder, dump, locator)).keys():
                markers = {**markers, **named}  # a marker tells its own path, so it is made again
                continue
            if not loads_again(dump, payload):
                if not (found := self._suspects(dump, locator)):
                    break
                cut_higher = True
                rounds = MAX_ROUNDS if any(found) else rounds  # there are only so many classes
                continue
            if cut_higher and not named.keys() <= markers.keys():
                markers, cut_higher = {**markers, **named}, False  # new ones where it was cut
                continue
            refused = any(refuses(hit, value) for hit in dump.hits)
            self.payload = None if refused else payload
            if self.options.fresh and self.payload is not None:
                locator = self._search_in_fresh_process(value, dump, payload)
            for cls in dump.unverified:
                self.table = self.table.learn(cls, sound=True)
            self._build_findings(builder, dump, locator)
            if self.options.searched:
                self._find_secrets(builder, value, dump, payload)
            return self
        dump.hits.append(Hit(value, UNLOADABLE, Action.REFUSED, NOTHING))
        self._build_findings(builder, dump, locator)
        return self

    def _find_secrets(
        self, builder: FindingBuilder, value: object, dump: Dump, payload: bytes
    ) -> None:
        from contextcache.engine.secret_search import find_secrets  # noqa: PLC0415  # for developers

        found = find_secrets(value, dump, payload, seconds=self._seconds, nodes=self.options.nodes)
        self.secrets = builder.observed(found)

    def _search_in_fresh_process(self, value: object, dump: Dump, payload: bytes) -> Locator:
        """Add a hit for what a fresh process cannot load, and locate all hits."""
        from contextcache.engine.fresh import differences  # noqa: PLC0415  # for tests and commands

        for obj, reason in differences(dump, payload):
            verdict = dataclasses.replace(NOT_FRESH, reason=reason)
            dump.hits.append(Hit(obj, verdict, Action.OBSERVED, verdict.did))
        return self._search(value, dump)

    def _dump_with_retries(
        self, value: object, root: str, markers: dict[int, str]
    ) -> tuple[Dump, bytes]:
        for _ in range(MAX_RETRIES):
            dump = Dump(self.table, root, where=markers, capture=True)
            try:
                payload = dump.careful(without_keys(value, self.dropped, dump))
                dump.all_hits()
                return dump, payload
            except SelfReferenceError as error:
                raise _Refusal(dump, error.obj, CIRCULAR) from None
            except RecursionError:
                beginning = too_deep(value, DEEP)
                if beginning is not None:
                    raise _Refusal(dump, beginning, TOO_DEEP) from None
                raise _Refusal(dump, value, RECURSES) from None
            except RuntimeError:
                # "changed size during iteration", or the like of a deque or set: another thread
                continue
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001  # what pickle itself raises names no object
                raise _Refusal(dump, value, REFUSES) from None
        raise _Refusal(Dump(self.table, root, where=markers), value, CHANGING)

    def _build_findings(self, builder: FindingBuilder, dump: Dump, locator: Locator) -> None:
        self.is_endless = any(hit.rule.is_endless for hit in dump.hits)
        builder.build(dump, locator, seconds=self._seconds)
        self.findings, self.seen = builder.findings, builder.seen

    def _search(self, value: object, dump: Dump) -> Locator:
        began = time.perf_counter()
        locator = Locator(value, dump, seconds=self._seconds, nodes=self.options.nodes)
        self._seconds = max(0.0, self._seconds - (time.perf_counter() - began))
        return locator

    def _learns(self, value: object, dump: Dump, locator: Locator) -> bool:
        """Learn which attributes and keys can be left out instead of marked; tell if any is new."""
        news = False
        dropped = set(self.dropped)
        for hit in dump.hits:
            node = locator.found.get(id(hit.leaf))
            for cls in lost_handle(hit, node):
                handles = frozenset({qualified_name(type(hit.leaf))})
                news = news or not handles <= self.table.known(cls).handles
                self.table = self.table.learn(cls, handles=handles)
            if hit.action is not Action.STRIPPED or node is None or node.step is None:
                continue
            holder, name = node.parent, node.step.name
            if holder is None or not isinstance(name, str):
                continue
            if node.step.kind is StepKind.ITEM and holder.obj is value and self.options.session:
                dropped.add(qualified_name(type(hit.leaf)))
            cls = type(holder.obj)
            if node.step.kind is StepKind.ATTRIBUTE:
                state = state_of(dump.reduced_to(holder.obj))
                if name in state and has_default(cls, name) and self.table.strips(hit.leaf):
                    self.table = self.table.learn(cls, unset=frozenset({name}))
                    news = True
        news = news or dropped != self.dropped
        self.dropped = dropped
        return news

    def _marker_paths(
        self, builder: FindingBuilder, dump: Dump, locator: Locator
    ) -> dict[int, str]:
        """Return the path of everything a marker stands for, by its id."""
        return {
            id(hit.leaf): builder.path_of(locator.found[id(hit.leaf)]).printed(
                exact=self.options.exact
            )
            for hit in dump.hits
            if hit.action is Action.STRIPPED and id(hit.leaf) in locator.found
        }

    def _suspects(self, dump: Dump, locator: Locator) -> list[bool]:
        """Learn which classes keep a payload from loading: of each, whether it is news.

        Of each class, some objects are tried by themselves, the innermost first. Where they all
        load, every object of every class will be tried.
        """
        candidates = list(_candidates(dump, locator))
        trials: dict[int, int] = {}
        found: list[bool] = []
        for candidate in candidates:
            cls = type(candidate)
            if self.table.known(cls).suspect:
                if id(candidate) not in dump.trial_by_id:
                    found.append(False)  # by another thread, or a moment ago
            elif trials.setdefault(id(cls), 0) < MAX_TRIALS:
                trials[id(cls)] += 1
                if failed_trial(dump, candidate):
                    found.append(True)
                    self.table = dump.table = self.table.learn(cls, suspect=True)
                elif self.table.known(cls).suspect:
                    found.append(False)  # another thread has learned it, and so the trial cut it
        for candidate in () if found else candidates:
            if not self.table.known(type(candidate)).suspect:
                found.append(True)
                self.table = self.table.learn(type(candidate), suspect=True)
        if not all(found):
            self.table = self.table.renewed()
        return found


class _Refusal(Exception):  # noqa: N818  # a signal inside this module
    def __init__(self, dump: Dump, leaf: object, rule: Verdict) -> None:
        super().__init__()
        self.dump = dump
        self.leaf = leaf
        self.rule = rule


def without_keys(value: object, dropped: Collection[str], dump: Dump) -> object:
    """Return `value` without the top-level keys that hold what can only be stripped.

    Args:
        value: The value; only an exact dict loses keys, in a copy.
        dropped: The names of types that were left out with their keys.
        dump: Gets a hit for each key that is left out.
    """
    if not dropped or type(value) is not dict:
        return value
    kept = value.copy()
    for name, leaf in value.copy().items():
        if type(name) is str and qualified_name(type(leaf)) in dropped:
            rule = _only_strippable(leaf, dump.table)
            if rule is not None:
                del kept[name]
                dump.hits.append(Hit(leaf, rule, Action.LEFT_OUT, KEY_LEFT_OUT))
    return kept


def _only_strippable(leaf: object, table: DispatchTable) -> Verdict | None:
    """Return the rule by which `leaf` can only be stripped; others of its type may be data."""
    rule = table.strips(leaf)
    if rule is not None:
        return rule
    trial = Dump(table, "")
    try:
        trial.careful(leaf)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # whatever it was, the dump of the whole value will tell
        return None
    stripped = (hit for hit in trial.hits if hit.leaf is leaf and hit.action is Action.STRIPPED)
    return next((hit.rule for hit in stripped), None)


def _candidates(dump: Dump, locator: Locator) -> Iterator[object]:
    """Yield what may keep a payload from loading, the innermost first."""
    yield from reversed(dump.unverified.values())
    for hit in dump.hits:
        node = locator.found.get(id(hit.leaf))
        while node is not None and (node := node.holder) is not None:
            yield node.obj


def refuses(hit: Hit, value: object) -> bool:
    """Return True if nothing of `value` can be stored because of this hit."""
    return hit.action is Action.REFUSED or (hit.leaf is value and hit.action is Action.STRIPPED)
