"""The walk through a value that is to become JSON: what is cut, what is changed, and where.

A value with nothing but what comes back as it was is asked for its types, level by level. Any
other is walked once, in the order in which it is encoded; what cannot be held is cut out of a copy.
"""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from contextcache.base.classes import ClassMemo, is_permanent
from contextcache.base.introspection import attributes, class_mro, qualified_name
from contextcache.base.masking import type_text
from contextcache.engine.field_names import environ_fix
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.findings.path import Path, Step, StepKind, attribute, item
from contextcache.jsonable.dialects import (
    FIXES,
    KEPT,
    PLAIN_DATA,
    Dialect,
    Fate,
    back,
    loses_values,
)
from contextcache.reports.request_scope import SESSION, origin_of
from contextcache.rules.book import RuleBook
from contextcache.rules.replacements import NothingThere
from contextcache.rules.request_snapshots import environ_snapshot, is_environ
from contextcache.rules.rule import Rule, Verb, Verdict
from contextcache.rules.verdicts import BY_HAND, ENVIRON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from contextcache.rules.credentials import Credentials

MOST_NODES = 100_000  # looked at in one value; what lies behind them is encoded as it is
MOST_LEVELS = 100  # asked for their types; a value that contains itself has no end


# --- What becomes of a type -----------------------------------------------------------------------


class Treatment(NamedTuple):
    """What becomes of the objects of one class.

    Attributes:
        fate: What the encoder does with it; None where the dialect has no row for it.
        fix: What to do where it cannot be held.
        parts: Which builtin container, or dataclass, it is walked as.
        plain: Makes it what comes back, for encoders that refuse subclasses.
        rule: What a rule for pickle says, where that holds for JSON as well.
    """

    fate: Fate | None
    fix: str = ""
    parts: type | None = None
    plain: Callable[[Any], object] | None = None
    rule: Rule | None = None


class Treatments:
    """The treatment of each class, learned as they are met, and forgotten with the class.

    Args:
        dialect: What the encoder does with each type.
        rules: The application's own rules.

    Attributes:
        atoms: The lasting classes whose objects come back as they were and hold nothing.
        containers: The builtin containers that come back as they were.
    """

    def __init__(self, dialect: Dialect, rules: Iterable[Rule]) -> None:
        self.dialect = dialect
        self._known: ClassMemo[Treatment] = ClassMemo()
        self.atoms: set[type] = set()
        self._own = {rule.type for rule in rules}
        self._book = RuleBook(rules)
        self.containers = {
            kind for kind in (dict, list, tuple) if self[kind] == Treatment(KEPT, parts=kind)
        }
        for kind in (str, int, bool, type(None), bytes):
            _ = self[kind]

    def __getitem__(self, cls: type) -> Treatment:
        found = self._known.get(cls)
        if found is None:
            found = self._known.put(cls, self._treatment(cls))
            if found == _AS_IT_IS and is_permanent(cls):
                self.atoms.add(cls)
        return found

    def _treatment(self, cls: type) -> Treatment:
        found = self._book.lookup(cls)
        rule = found if found is not None and found.type in self._own else None
        if found is not None and found.verb is Verb.REPLACE and rule is None:
            return Treatment(KEPT, plain=found.make)
        mro = class_mro(cls)[:-1]
        names = [qualified_name(base) for base in mro]
        parts = next((base for base in mro if any(base is one for one in _CONTAINERS)), None)
        if "__dataclass_fields__" in {name for base in mro for name in vars(base)}:
            names.append("dataclass")
            parts = parts or _Dataclass
        for at, name in enumerate(names):
            if at < len(mro) and "__html__" in vars(mro[at]) and name not in self.dialect.types:
                name = "__html__"  # noqa: PLW2901
            fate = self.dialect.types.get(name)
            if fate is not None:
                if at == 0 or fate != KEPT:
                    return Treatment(fate, parts=parts, rule=rule)
                fate = back(f"a plain {name.rpartition('.')[2]}", f"a {cls.__name__}")
                return Treatment(fate, parts=parts, plain=_PLAINLY.get(name), rule=rule)
        fix = next((FIXES[name] for name in names if name in FIXES), PLAIN_DATA)
        if found is not None and found.code in ("CC104", "CC116"):  # proxies and views
            rule = found
        return Treatment(None, fix, rule=rule)


_AS_IT_IS = Treatment(KEPT)  # and it holds nothing


class _Dataclass:
    """Stands for every dataclass among the kinds of containers."""


_CONTAINERS: tuple[type, ...] = (dict, list, tuple, set, frozenset)
_PLAINLY: Mapping[str, Callable[[Any], object]] = {
    "str": str.__str__, "int": int.__int__, "float": float.__float__, "bytes": bytes.__bytes__,
}  # fmt: skip


def comes_back(value: Any, types: Treatments) -> bool:
    """Tell, level by level, whether `value` is small and holds only what comes back as it was."""
    try:
        return _comes_back(value, types)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # a metaclass whose `__hash__` raises, a dict that changes
        return False


def _comes_back(value: Any, types: Treatments) -> bool:
    level = [value]
    for _ in range(MOST_LEVELS):
        kinds = set(map(type, level))
        if float in kinds and all(math.isfinite(held) for held in level if type(held) is float):
            kinds.discard(float)
        if kinds <= types.atoms:
            return True
        if not kinds - types.atoms <= types.containers:
            return False
        dicts = [held for held in level if type(held) is dict] if dict in kinds else []
        if not _TEXT.issuperset(map(type, chain.from_iterable(dicts))):
            return False
        below = chain.from_iterable(map(dict.values, dicts))
        if kinds & _SEQUENCES:
            rest = chain.from_iterable(held for held in level if type(held) in _SEQUENCES)
            below = chain(below, rest)
        level = list(islice(below, MOST_NODES))
        if len(level) == MOST_NODES:
            return False
    return False


_SEQUENCES = frozenset({list, tuple})
_TEXT = frozenset({str})


# --- The look -------------------------------------------------------------------------------------

CUT: Any = object()
"""What stands where nothing is stored."""

NOTHING = "nothing was stored"
KEY_LEFT_OUT = "left the key out, stored the rest"
NONE_INSTEAD = "stored None in its place"


class Look:
    """One walk through a value, in the order in which it is encoded.

    Args:
        value: The value.
        root: The path of it.
        types: What becomes of each type.
        refused: Returns the code by which the encoder or, with `deep=True`, the decoder refuses an
            object; empty if neither does.
        sink: The words for where it is being stored.
        credentials: What the current request was sent, where it is taken out of the value.

    Attributes:
        found: Whether any of `credentials` were found.
        kept: What is stored: the value itself, or a copy without what was cut, or `CUT`.
        findings: What was found.
        is_deep: Whether it is nested so deep that it may not be read back.
    """

    def __init__(
        self,
        value: Any,
        root: Path,
        types: Treatments,
        refused: Callable[..., str],
        sink: str,
        *,
        credentials: Credentials | None = None,
    ) -> None:
        self.kept = value
        self.found = False
        self._credentials = credentials
        self.is_deep = False
        self._value = value
        self.root = root
        self.findings: list[Finding] = []
        self._types = types
        self._refused = refused
        self._sink = sink
        self._stack: list[_Frame] = []
        self._open: set[int] = set()
        self._cleaned: list[object] = []  # which keeps their ids taken
        self._done: dict[int, tuple[Any, Any]] = {}  # an object and what is stored for it, by id

    def run(self) -> None:
        """Walk the value; nothing recurs, so that no value is too deep."""
        self._stack = [top := _Frame([self.kept], list)]
        for _ in range(MOST_NODES):
            frame = self._stack[-1]
            self.is_deep = self.is_deep or len(self._stack) > MOST_LEVELS
            if frame.advance():
                self._visit(frame)
            elif frame is top:
                break
            else:
                self._leave(self._stack.pop())
        while self._stack[-1] is not top:  # there is too much of it: keep what has been cut so far
            self.is_deep = True  # for all that is known
            self._leave(self._stack.pop())
        self.kept = top.changes.get(0, self.kept)

    def note(
        self,
        code: str,
        path: Path,
        obj: object,
        action: Action,
        *,
        did: str,
        fix: str = "",
        reason: str = "",
    ) -> None:
        """Add a finding about `obj`."""
        owner = next((frame.obj for frame in self._stack[::-1] if frame.parts is _Dataclass), None)
        self.findings.append(
            Finding(
                code=code,
                path=path,
                leaf_type=qualified_name(type(obj)),
                owner_type="" if owner is None else qualified_name(type(owner)),
                action=action,
                reason=reason or CODES[code].replace("JSON", self._types.dialect.name),
                did=did,
                fix=fix or PLAIN_DATA,
                sink=self._sink,
                origin=origin_of(path, self._value),
            )
        )

    def _visit(self, frame: _Frame) -> None:
        obj = stored = frame.child
        treatment = self._types[type(obj)]
        if self._credentials is not None and self._credentials.stands_in(obj):
            self.found = True
            self._note_rule(BY_HAND, obj, Action.OBSERVED, BY_HAND.did)
        if treatment == _AS_IT_IS:
            return
        if treatment.rule is not None and (treatment.rule.when is None or treatment.rule.when(obj)):
            stored = self._ruled(frame, obj, treatment.rule)
            if stored is CUT or treatment.rule.verb is Verb.ALLOW:
                return
            treatment = self._types[type(stored)]
        if type(stored) is dict and is_environ(stored):
            self.found = True
            self._without_credentials(frame, stored)
            return
        if self._credentials is not None and id(stored) not in self._done:
            stored = self._without_headers(self._credentials, stored, treatment.parts)
            treatment = self._types[type(stored)]
        if id(stored) in self._done:
            frame.put(frame.at, self._done[id(stored)][1])
            return
        if id(stored) in self._open:
            self._cut(frame, stored, reason="it contains itself")
            return
        fate = treatment.fate
        if fate is None:
            refused = self._refused(stored, deep=True)
            if refused:
                self._cut(frame, stored, treatment.fix, code=refused)
            else:
                frame.put(frame.at, stored)
            return
        changes = (fate.did or fate.fix) and (fate.when is None or fate.when(stored))
        if changes and not self._is_flash(stored):
            if treatment.parts is dict and self._types.dialect.asks_items:
                fate = loses_values(stored) or fate
            self.note("CC141", self._path(), stored, Action.OBSERVED, did=fate.did, fix=fate.fix)
        if treatment.plain is not None:
            stored = treatment.plain(stored)
        if treatment.parts is None:
            frame.put(frame.at, stored)
        else:
            self._open.add(id(stored))
            self._stack.append(inner := _Frame(stored, treatment.parts))
            self._check_keys(inner)

    def _without_headers(self, credentials: Credentials, obj: Any, parts: type | None) -> Any:
        if parts is not dict and parts is not list and parts is not tuple:
            return obj
        plain = obj if type(obj) is parts else parts(obj)
        kept = credentials.removed_from(plain)
        if kept is plain:
            return obj
        self.found = True
        self._note_rule(ENVIRON, obj, Action.SNAPSHOTTED, ENVIRON.did)
        self._cleaned.append(kept)
        return kept

    def _ruled(self, frame: _Frame, obj: Any, rule: Rule) -> Any:
        """Do what a rule for pickle says; return what is stored for `obj` then."""
        match rule.verb:
            case Verb.SNAPSHOT:
                try:
                    made = attributes(obj) if rule.make is None else rule.make(obj)
                except NothingThere:
                    return self._cut(frame, obj, rule.fix, code=rule.code)
                did = rule.did or "stored a snapshot of it"
                self._note_rule(rule, obj, Action.SNAPSHOTTED, did)
                return made
            case Verb.STRIP | Verb.REFUSE:
                return self._cut(frame, obj, rule.fix, code=rule.code)
            case Verb.OBSERVE:
                self._note_rule(rule, obj, Action.OBSERVED, rule.did or "stored it as it is")
        return obj

    def _note_rule(self, rule: Verdict, obj: object, action: Action, did: str) -> None:
        reason = rule.reason or CODES[rule.code]
        self.note(rule.code, self._path(), obj, action, did=did, fix=rule.fix, reason=reason)

    def _cut(
        self, frame: _Frame, obj: object, fix: str = "", *, code: str = "CC140", reason: str = ""
    ) -> Any:
        path = self._path()
        if not path.steps:
            action, did = Action.REFUSED, NOTHING
        elif frame.is_named:
            action, did = Action.LEFT_OUT, KEY_LEFT_OUT
        else:
            action, did = Action.STRIPPED, NONE_INSTEAD
        self.note(code, path, obj, action, did=did, fix=fix, reason=reason)
        frame.put(frame.at, CUT)
        return CUT

    def _check_keys(self, frame: _Frame) -> None:
        """Find the keys of a dict that come back as something else, and those it cannot hold."""
        if frame.parts is not dict or all(type(key) is str for key in frame.obj):
            return
        dialect, changed, plain = self._types.dialect, set(), set()
        for at, (key, _) in enumerate(frame.items):
            names = [qualified_name(base) for base in class_mro(type(key))]
            if any(name in dialect.changed_keys for name in names):
                changed.add(names[0])
            elif any(name in dialect.keys for name in names) and _is_simple(key):
                continue
            elif not self._refused({key: None}, deep=True):  # of an Enum, for msgspec
                if "tuple" not in names:
                    plain.add(names[0])
            else:
                path = self._path() / Step(StepKind.KEY, at)
                did = "left out the key and what is under it, stored the rest"
                self.note("CC140", path, key, Action.LEFT_OUT, did=did, fix="use text for keys")
                frame.put(at, CUT)
        if changed:
            self.note(
                "CC141",
                self._path(),
                frame.obj,
                Action.OBSERVED,
                did="stored them; they come back as text",
                fix="use text for keys, or turn them back on read",
                reason=f"its keys of type {', '.join(map(type_text, sorted(changed)))} become text",
            )
            frame.texts = dialect.sorts or any(type(key) is bool for key, _ in frame.items)
        if plain:
            self.note(
                "CC141",
                self._path(),
                frame.obj,
                Action.OBSERVED,
                did="stored them; they come back as their values",
                fix="use text for keys, or turn them back on read",
                reason=f"its keys of type {', '.join(map(type_text, sorted(plain)))} become values",
            )

    def _leave(self, frame: _Frame) -> None:
        self._open.discard(id(frame.obj))
        self._done[id(frame.obj)] = frame.obj, (stored := frame.result())
        holder = self._stack[-1]
        holder.put(holder.at, stored)

    def _without_credentials(self, frame: _Frame, environ: dict[Any, Any]) -> None:
        """Store the plain entries of the environment of a request, less its credentials."""
        path, did = self._path(), "stored it without credentials"
        reason = "the environment of a request carries its cookies and credentials"
        fix = environ_fix(environ)
        self.note("CC106", path, environ, Action.SNAPSHOTTED, did=did, fix=fix, reason=reason)
        kept = environ_snapshot(environ)
        frame.put(frame.at, {key: kept[key] for key in kept if type(kept[key]) is not tuple})

    def _is_flash(self, stored: object) -> bool:
        """Return True for a flashed message of Flask, which reads a list as well as a tuple."""
        if type(stored) is not tuple or len(stored) != 2 or self.root.root != SESSION:
            return False
        steps = self._path().steps
        return len(steps) == 2 and steps[0] == item("_flashes", 0)

    def _path(self) -> Path:
        """Return the path of what is being looked at."""
        below = [frame.step() for frame in self._stack[1:] if frame.at >= 0]
        return dataclasses.replace(self.root, steps=tuple(below))


class _Frame:
    """A container on the way from the value to what is looked at.

    Attributes:
        items: What it holds, each with its key, name or position.
        at: The position of what is looked at; -1 before the first.
        child: What is looked at.
        texts: Whether its keys are stored as text.
    """

    __slots__ = ("at", "changes", "child", "items", "obj", "parts", "texts")

    def __init__(self, obj: Any, parts: type) -> None:
        self.obj = obj
        self.parts = parts
        self.items = _items(obj, parts)
        self.at = -1
        self.child: Any = None
        self.texts = False
        self.changes: dict[int, Any] = {}

    @property
    def is_named(self) -> bool:
        """Whether what is cut goes with its name; else the positions of the others must stay."""
        return self.parts in (dict, _Dataclass)

    def advance(self) -> bool:
        """Look at the next item; tell whether there is one."""
        self.at += 1
        while self.at in self.changes:  # its key was cut
            self.at += 1
        if self.at >= len(self.items):
            return False
        self.child = self.items[self.at][1]
        return True

    def put(self, at: int, stored: Any) -> None:
        """Store `stored` for the item at a position."""
        if stored is not self.items[at][1]:
            self.changes[at] = stored

    def step(self) -> Step:
        """Return the step to what is looked at."""
        key = self.items[self.at][0]
        if self.parts is dict:
            return item(key, self.at)
        if self.parts is _Dataclass:
            return attribute(key)
        return Step(StepKind.ITEM if self.parts in (list, tuple) else StepKind.ELEMENT, self.at)

    def result(self) -> Any:
        """Return what is stored: the container itself where nothing in it was changed."""
        if not self.changes and not self.texts:
            return self.obj
        stored = [(key, self.changes.get(at, held)) for at, (key, held) in enumerate(self.items)]
        if self.is_named:
            return {
                _TEXTS.get(id(type(key)), _unchanged)(key): held
                for key, held in stored
                if held is not CUT
            }
        values = [None if held is CUT else held for _, held in stored]
        return tuple(values) if self.parts is tuple else values


def _items(obj: Any, parts: type) -> list[tuple[Any, Any]]:
    if parts is dict:  # a subclass may show other items than it holds, and those are encoded
        return list(obj.items())
    if parts is _Dataclass:
        own = attributes(obj)
        return [(name, own[name]) for name in type(obj).__dataclass_fields__ if name in own]
    return list(enumerate(parts.__iter__(obj)))  # type: ignore[attr-defined]


def _is_simple(key: Any) -> bool:
    """Return False if a key may hold what cannot be read again as part of a key."""
    return not issubclass(type(key), tuple) or all(type(part) in (int, str) for part in key)


def _unchanged(key: Any) -> Any:
    return key


_TEXTS: Mapping[int, Callable[[Any], Any]] = {  # by id: a metaclass may refuse to be hashed
    id(int): int.__repr__, id(float): json.dumps,
    id(bool): lambda key: "true" if key else "false", id(type(None)): lambda _: "null",
}  # fmt: skip
