"""The close look at a value with offenders: dump, locate, try to load, cut higher, word.

It is taken once for each new pattern. What it learns about types goes into its table, from
which the fast pass does the same from then on.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.base.masking import type_text
from contextcache.engine.dump import (
    RAISED,
    REFUSES,
    UNLOADABLE,
    Dump,
    Hit,
    SelfReferenceError,
    failed_trial,
    kind_of,
    loads_again,
)
from contextcache.engine.field_names import fix_for
from contextcache.engine.locating import (
    Place,
    Search,
    overruns_stack,
    too_deep,
)
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.findings.path import Path, StepKind
from contextcache.reports import call_site
from contextcache.reports.reporter import report_internal
from contextcache.reports.request_scope import origin_of
from contextcache.rules.builtin import Rule, Verb

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from contextcache.engine.dispatch import Table
    from contextcache.findings.path import Step
    from contextcache.reports.patches import Offence

MOST_ROUNDS = 16  # in which no class is found that does not load; then the value is refused
MOST_TRIALS = 16  # of objects of one class, before each of them is tried
MOST_RETRIES = 5  # of a dump during which another thread changed the value
DEEP = 150  # levels from which on a RecursionError is the depth's fault, not a method's

NOTHING = "nothing was stored"
KEY_LEFT_OUT = "left the key out, stored the rest"

DEEP_FIX = "store a flat list with ids instead of nested objects"

_DEEP = Rule(type="", verb=Verb.REFUSE, code="CC130", fix=DEEP_FIX)
_CHANGING = Rule(
    type="", verb=Verb.REFUSE, code="CC132", fix="store a copy made under the lock that guards it"
)
_CIRCULAR = Rule(
    type="",
    verb=Verb.REFUSE,
    code="CC133",
    fix="return what refers back to it as the state of __reduce__, not as its arguments",
)


class Inspection:
    """One close look at one value.

    Args:
        table: What is known about types.
        label: The root of the paths in the value.
        sink: The words for where it is being stored.
        session: Whether an offending top-level key may be left out.
        debug: Whether to look up the lines that set the fields.
        exact: Whether texts show names as they are, for a developer.
        seconds: How long locating and wording may take in all.
        nodes: How many objects locating may look at, each time.
        hidden: Whether no key is shown, as `Config.redact_keys` says.

    Attributes:
        payload: What is stored; None if nothing can be.
        findings: Every offender, in pickle's order.
        table: What is known about types now.
        dropped: The types of what was left out with its top-level key.
        seen: Every offender that stands in the value itself, by its id.
    """

    def __init__(
        self,
        table: Table,
        label: str,
        *,
        sink: str = "",
        session: bool = False,
        debug: bool = False,
        exact: bool = False,
        seconds: float,
        nodes: int,
        hidden: bool = False,
    ) -> None:
        self.table = table
        self.label = label
        self.payload: bytes | None = None
        self.findings: list[Finding] = []
        self.dropped: set[str] = set()
        self.seen: dict[int, Seen] = {}
        self._offences: list[Offence | None] = []
        self._sink = sink
        self._session = session
        self._debug = debug
        self._exact = exact
        self._value: object = None
        self._seconds = seconds  # that are left
        self._nodes = nodes
        self._hidden = hidden

    def run(self, value: object) -> Inspection:
        """Dump `value` until what is stored also loads, and word what was found."""
        self._value = value
        markers: dict[int, str] = {}
        cut_higher = False
        rounds = MOST_ROUNDS
        while rounds:
            rounds -= 1
            root = self._path().printed(exact=self._exact)
            dump = Dump(self.table, root, where=markers, capture=True)
            try:
                payload = self._dumped(value, dump)
            except _Refusal as refusal:
                dump.hits.append(Hit(refusal.leaf, refusal.rule, Action.REFUSED, NOTHING))
                self._word(dump, self._search(value, dump))
                return self
            search = self._search(value, dump)
            if self._learns(value, dump, search):
                continue
            if markers.keys() < (named := self._named(dump, search)).keys():
                markers = {**markers, **named}  # a marker tells its own path, so it is made again
                continue
            if not loads_again(payload):
                if not (found := self._suspects(dump, search)):
                    break
                cut_higher = True
                rounds = MOST_ROUNDS if any(found) else rounds  # there are only so many classes
                continue
            if cut_higher and not named.keys() <= markers.keys():
                markers, cut_higher = {**markers, **named}, False  # new ones where it was cut
                continue
            refused = any(refuses(hit, value) for hit in dump.hits)
            self.payload = None if refused else payload
            for cls in dump.met:
                self.table = self.table.learn(cls, sound=True)
            self._word(dump, search)
            return self
        dump.hits.append(Hit(value, UNLOADABLE, Action.REFUSED, NOTHING))
        self._word(dump, search)
        return self

    def _dumped(self, value: object, dump: Dump) -> bytes:
        kept = without_keys(value, self.dropped, dump)
        for _ in range(MOST_RETRIES):
            try:
                if overruns_stack(value):
                    raise RecursionError  # as newer versions of Python do by themselves
                payload = dump.careful(kept)
                dump.all_hits()
                return payload
            except SelfReferenceError as error:
                raise _Refusal(error.obj, _CIRCULAR) from None
            except RecursionError:
                beginning = too_deep(value, DEEP)
                if beginning is not None:
                    raise _Refusal(beginning, _DEEP) from None
                raise _Refusal(value, RAISED) from None
            except RuntimeError:
                # "changed size during iteration", or the like of a deque or set: another thread
                dump.forget()
                kept = without_keys(value, self.dropped, dump)
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001  # what pickle itself raises names no object
                raise _Refusal(value, REFUSES) from None
        raise _Refusal(value, _CHANGING)

    def _search(self, value: object, dump: Dump) -> Search:
        began = time.perf_counter()
        search = Search(value, dump, seconds=self._seconds, nodes=self._nodes)
        self._seconds = max(0.0, self._seconds - (time.perf_counter() - began))
        return search

    def _learns(self, value: object, dump: Dump, search: Search) -> bool:
        """Learn which attributes and keys can be left out instead of marked; tell if any is new."""
        news = False
        dropped = set(self.dropped)
        for hit in dump.hits:
            place = search.found.get(id(hit.leaf))
            if hit.action is not Action.STRIPPED or place is None or place.step is None:
                continue
            holder, name = place.parent, place.step.name
            if holder is None or not isinstance(name, str):
                continue
            if place.step.kind is StepKind.ITEM and holder.obj is value and self._session:
                dropped.add(qualified_name(type(hit.leaf)))
            cls = type(holder.obj)
            if place.step.kind is StepKind.ATTRIBUTE:
                state = _state(dump, holder.obj)
                if name in state and _has_default(cls, name) and self.table.strips(hit.leaf):
                    self.table = self.table.learn(cls, unset=frozenset({name}))
                    news = True
        news = news or dropped != self.dropped
        self.dropped = dropped
        return news

    def _named(self, dump: Dump, search: Search) -> dict[int, str]:
        """Return the path of everything a marker stands for, by its id."""
        return {
            id(hit.leaf): self._path(search.found[id(hit.leaf)]).printed(exact=self._exact)
            for hit in dump.hits
            if hit.action is Action.STRIPPED and id(hit.leaf) in search.found
        }

    def _suspects(self, dump: Dump, search: Search) -> list[bool]:
        """Learn which classes keep a payload from loading: of each, whether it is news.

        Of each class, some objects are tried by themselves, the innermost first. Where they all
        load, every object of every class will be tried.
        """
        candidates = list(_candidates(dump, search))
        trials: dict[int, int] = {}
        found: list[bool] = []
        for candidate in candidates:
            cls = type(candidate)
            if self.table.known(cls).suspect:
                if id(candidate) not in dump.verdicts:
                    found.append(False)  # by another thread, or a moment ago
            elif trials.setdefault(id(cls), 0) < MOST_TRIALS:
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

    def _word(self, dump: Dump, search: Search) -> None:
        """Turn the hits of `dump` into findings, in the order in which pickle meets them.

        Once the time is used up, one finding of a kind speaks for the others, but to a developer.
        """
        deadline = time.perf_counter() + self._seconds
        first: dict[tuple[str, str], Finding] = {}
        order = {key: at for at, key in enumerate(search.found)}
        told: set[int] = set()
        stripped = {id(hit.leaf): hit for hit in dump.hits if hit.action is Action.STRIPPED}
        for hit in dump.hits:  # what a proxy points at may have been met before it
            target = stripped.get(id(dump.behind.get(id(hit.leaf))))
            if target is not None:
                hit.action, hit.did = target.action, target.did
        for hit in sorted(dump.hits, key=lambda hit: order.get(id(hit.leaf), len(order))):
            if id(hit.leaf) in told:
                continue
            told.add(id(hit.leaf))
            place = search.found.get(id(hit.leaf))
            if place is not None and search.is_behind_proxy(place):
                continue  # the proxy is the field to act on; what it points at is cleaned silently
            kind, path = kind_of(hit.rule.code, type(hit.leaf)), self._path(place)
            if self._debug or kind not in first or time.perf_counter() < deadline:
                inner = list(self._inside(hit, path)) if place is not None else []
                worded = inner or [self._finding(hit, path, place)]
                first.setdefault(kind, worded[0])
                self.findings.extend(worded)
                self.seen[id(hit.leaf)] = Seen(kind, worded[0], path.steps)
            else:
                self.seen[id(hit.leaf)] = Seen(kind, first[kind], path.steps)
        if self._debug:
            self._add_patches()

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
        search = self._search(hit.leaf, hit.inside)
        for inner in hit.inside.hits:
            place = search.found.get(id(inner.leaf))
            if place is None or inner.leaf is hit.leaf:
                continue
            inner.action, inner.did = Action.REFUSED, NOTHING
            if cut.steps:
                inner.action, inner.did = (
                    Action.STRIPPED,
                    f"stored the rest without {cut.printed(exact=self._exact)}",
                )
            below = place.path(self.label)
            whole = replace(path, steps=path.steps + below.steps)
            deeper = list(self._inside(inner, whole, cut))
            yield from deeper or [self._finding(inner, whole, place, cut=cut)]

    def _path(self, place: Place | None = None) -> Path:
        path = place.path(self.label) if place is not None else Path(self.label)
        return replace(path, hidden=self._hidden)

    def _finding(
        self, hit: Hit, path: Path, place: Place | None, *, cut: Path | None = None
    ) -> Finding:
        holder = place.holder if place is not None else None
        owner = qualified_name(type(holder.obj)) if holder is not None else ""
        action, did = hit.action, hit.did
        if not path.steps and action is Action.STRIPPED:
            action, did = Action.REFUSED, NOTHING
        elif action is Action.REFUSED:
            did = NOTHING
        fix = fix_for(hit.rule, hit.leaf)
        if self._debug:
            self._offences.append(self._offence(hit, path, place))
        return Finding(
            code=hit.rule.code,
            path=path,
            leaf_type=qualified_name(type(hit.leaf)),
            owner_type=owner,
            action=action,
            reason=hit.rule.reason or CODES[hit.rule.code],
            did=did,
            fix=self._about(fix, type(holder.obj) if holder is not None else None),
            cut=cut,
            sink=self._sink,
            origin=origin_of(path, self._value),
            field=self._field(place, path),
            located=place is not None,
        )

    def _about(self, fix: str, owner: type | None) -> str:
        """Name the class that holds the field, and ask nobody to change one that is not theirs."""
        if owner is None:  # a dict or list has no `__getstate__` to speak of
            return fix.replace(f" in {_IN_ITS_CLASS}", "")
        name = type_text(qualified_name(owner), exact=self._exact).rpartition(".")[2]
        if call_site.is_installed(owner):
            fix = fix.replace(
                f"leave it out in {_IN_ITS_CLASS}", f"leave out the {name} that holds it"
            )
        return fix.replace("the class that holds it", name)

    def _field(self, place: Place | None, path: Path) -> str:
        if place is None:
            return "not located within the time for it; contextcache.explain(value) has no limit"
        return field_to_act_on(place, path, exact=self._exact) if self._debug else ""

    def _offence(self, hit: Hit, path: Path, place: Place | None) -> Offence | None:
        """Return what a fix to paste is made of; None where there can be none."""
        from contextcache.reports.patches import Offence  # noqa: PLC0415  # for developers

        gone = hit.action in (Action.STRIPPED, Action.LEFT_OUT)
        if place is None or (hit.rule.verb is Verb.SNAPSHOT and gone):
            return None
        if hit.rule.verb is Verb.TRIM and hit.action is Action.SNAPSHOTTED:
            return None  # all but a part is stored: no method that leaves it out stores as much
        owner, field = None, ""
        at = place_to_act_on(place)
        if at is not None and at.parent is not None and call_site.is_own(type(at.parent.obj)):
            owner, field = at.parent.obj, str(at.step.name if at.step is not None else "")
        holder = place.parent.obj if place.parent is not None else None
        return Offence(hit.rule.code, hit.leaf, path, holder, owner, field)

    def _add_patches(self) -> None:
        from contextcache.reports.patches import patches  # noqa: PLC0415  # for developers

        try:
            texts = patches(self._offences)
        except Exception as error:  # noqa: BLE001  # a fix nobody can word must not break the write
            report_internal("wording a fix", error)
            return
        finally:
            self._offences = []  # they hold the offenders
        self.findings = [
            replace(finding, patch=text) for finding, text in zip(self.findings, texts, strict=True)
        ]


class Seen(NamedTuple):
    """An offender that was seen in a close look.

    Attributes:
        kind: Its kind.
        finding: What was found of it, or of the first one of its kind.
        steps: The way to it.
    """

    kind: tuple[str, str]
    finding: Finding
    steps: tuple[Step, ...]


class _Refusal(Exception):  # noqa: N818  # a signal inside this module
    def __init__(self, leaf: object, rule: Rule) -> None:
        super().__init__()
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


def _only_strippable(leaf: object, table: Table) -> Rule | None:
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


def place_to_act_on(place: Place) -> Place | None:
    """Return the innermost place on the way to `place` that is a field of the user's own code.

    Where there is none, it is the outermost field of a library's; None if there is no field.
    """
    fields = [
        at
        for at in reversed(place.chain())
        if at.step is not None and at.step.kind is StepKind.ATTRIBUTE and at.parent is not None
        if str(at.step.name).isidentifier()  # else no line of source sets it, and it may be a key
    ]
    own = (at for at in fields if at.parent is not None and call_site.is_own(type(at.parent.obj)))
    return next(own, fields[-1] if fields else None)


def field_to_act_on(place: Place, path: Path, *, exact: bool = False) -> str:
    """Say where the field to act on is set: in the user's own code, or else in which package.

    Where no object has it as a field, say of code where it is defined.

    Args:
        place: Where the offender is.
        path: Its path.
        exact: Whether the path is shown as it is, for a developer.
    """
    from contextcache.reports.field_source import field_origin, package_of  # noqa: PLC0415  # for developers

    at = place_to_act_on(place)
    if at is None or at.parent is None or at.step is None:
        return call_site.definition(place.obj)
    told = field_origin(type(at.parent.obj), str(at.step.name))
    if at is place:
        return told
    held = package_of(type(at.obj)) if call_site.is_own(type(at.parent.obj)) else ""
    is_new = held and not held.startswith("Python ") and not told.endswith(f" ({held})")
    package = f" ({held})" if is_new else ""
    above = replace(path, steps=at.path("").steps).printed(exact=exact)
    return f"{above}: {told}{package}"


def _candidates(dump: Dump, search: Search) -> Iterator[object]:
    """Yield what may keep a payload from loading, the innermost first."""
    yield from reversed(dump.met.values())
    for hit in dump.hits:
        place = search.found.get(id(hit.leaf))
        while place is not None and (place := place.holder) is not None:
            yield place.obj


def refuses(hit: Hit, value: object) -> bool:
    """Return True if nothing of `value` can be stored because of this hit."""
    return hit.action is Action.REFUSED or (hit.leaf is value and hit.action is Action.STRIPPED)


def _state(dump: Dump, obj: object) -> dict[str, object]:
    reduced = (dump.captured or {}).get(id(obj), (None, ()))[1]
    state = reduced[2] if len(reduced) > 2 else None
    return state if type(state) is dict else {}


def _has_default(cls: type, name: str) -> bool:
    """Tell whether objects of `cls` without an attribute `name` still have a value for it.

    A plain class attribute or a `cached_property` is one; a slot or property is not.
    """
    for base in class_mro(cls):
        if name in base.__dict__:
            return not hasattr(type(base.__dict__[name]), "__set__")
    return False


_IN_ITS_CLASS = "__getstate__ of the class that holds it"
