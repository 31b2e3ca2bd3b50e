"""What is cut out of a value before it becomes JSON, and what the encoder changed in the rest."""

from __future__ import annotations

import dataclasses
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from contextcache.base.classes import once_per_class
from contextcache.base.introspection import attributes, class_mro, qualified_name
from contextcache.base.masking import type_text
from contextcache.engine.field_names import environ_fix
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.findings.path import Path, Step, StepKind, attribute, item
from contextcache.jsonable.codec import (
    CONTAINERS,
    LOST,
    MAX_LEVELS,
    MAX_NODES,
    MULTI_VALUE_FIXES,
    PLAIN_DATA,
    AnyDataclass,
    Codec,
    Conversion,
    fix_for,
)
from contextcache.reports.request_scope import SESSION, origin_of
from contextcache.rules.book import RuleBook
from contextcache.rules.replacements import NothingThere
from contextcache.rules.request_snapshots import environ_snapshot, is_environ
from contextcache.rules.rule import Rule, Verb, Verdict
from contextcache.rules.verdicts import BY_HAND, ENVIRON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from contextcache.rules.credentials import Credentials

OMITTED: Any = object()
"""What stands where nothing is stored."""

NOTHING = "nothing was stored"
KEY_LEFT_OUT = "left the key out, stored the rest"
NONE_INSTEAD = "stored None in its place"
TEXT_KEYS = "use text for keys, or turn them back on read"

_PLAIN: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (str, str.__str__), (int, int.__int__), (float, float.__float__), (bytes, bytes.__bytes__),
    (memoryview, bytes),
)  # fmt: skip


class Asking(IntEnum):
    """About what the encoder is asked while a value is walked through."""

    NOTHING = 0
    ODD_OBJECTS = 1
    EACH_OBJECT = 2


class TypePolicy(NamedTuple):
    """How objects of one class are treated.

    Attributes:
        rule: What is done before the encoder is asked; None where that is nothing.
        parts: The builtin container it is walked through as; `AnyDataclass` for a dataclass.
        plain: Makes it what it is derived from, where the encoder refuses the subclass.
    """

    rule: Rule | None
    parts: type | None
    plain: Callable[[Any], object] | None


def type_policies(codec: Codec[Any], rules: Iterable[Rule]) -> Callable[[type], TypePolicy]:
    """Return a function that returns the policy of a class, and remembers it."""
    own = {rule.type for rule in rules}
    book = RuleBook(rules)

    @once_per_class
    def policy(cls: type) -> TypePolicy:
        mro = class_mro(cls)[:-1]
        rule = book.lookup(cls)
        if rule is not None and rule.type not in own and not rule.json:
            rule = None
        parts = next((base for base in mro if any(base is kind for kind in CONTAINERS)), None)
        if parts is None and any("__dataclass_fields__" in vars(base) for base in mro):
            parts = AnyDataclass
        if parts in (set, frozenset, AnyDataclass) and not codec.accepts(parts):
            parts = None
        plain = next((make for base, make in _PLAIN if any(base is one for one in mro)), None)
        return TypePolicy(rule, parts, plain)

    return policy


class _Frame:
    """A container on the way from the value to what is visited.

    Attributes:
        parts: The builtin container it is walked through as.
        items: What it holds, each with its key, name or position.
        at: The position of what is visited; -1 before the first.
        is_foreign: Whether it is a dataclass, or in one, with which an encoder does as it likes.
        is_odd: Whether it may come back as something else.
        changes: What is stored in place of what it holds, by position.
    """

    __slots__ = ("at", "changes", "is_foreign", "is_odd", "items", "obj", "parts")

    def __init__(self, obj: Any, parts: type) -> None:
        self.obj = obj
        self.parts = parts
        self.items: list[tuple[Any, Any]]
        if parts is dict:  # a subclass may show other items than it holds, and those are encoded
            self.items = list(obj.items())
        elif parts is AnyDataclass:
            own = attributes(obj)
            names = type(obj).__dataclass_fields__
            self.items = [(name, own[name]) for name in names if name in own]
        else:
            self.items = list(enumerate(parts.__iter__(obj)))  # type: ignore[attr-defined]
        self.at = -1
        self.is_foreign = self.is_odd = False
        self.changes: dict[int, Any] = {}

    @property
    def is_named(self) -> bool:
        """Whether what is cut goes with its name; else the positions of the others must stay."""
        return self.parts in (dict, AnyDataclass)

    def advance(self) -> bool:
        """Go to the next item; return False if there is none."""
        self.at += 1
        while self.at in self.changes:  # its key was cut
            self.at += 1
        return self.at < len(self.items)

    def put(self, stored: Any, at: int = -1) -> None:
        """Store `stored` for the item at a position, by default for what is visited."""
        at = self.at if at < 0 else at
        if stored is not self.items[at][1]:
            self.changes[at] = stored

    def step(self, at: int) -> Step:
        """Return the step to the item at a position."""
        key = self.items[at][0]
        if self.parts is dict:
            return item(key, at)
        if self.parts is AnyDataclass:
            return attribute(key)
        return Step(StepKind.ITEM if self.parts in (list, tuple) else StepKind.ELEMENT, at)

    def rebuilt(self) -> Any:
        """Return a plain copy, with what is stored in place of what was changed."""
        stored = [(key, self.changes.get(at, held)) for at, (key, held) in enumerate(self.items)]
        if self.is_named:
            return {key: held for key, held in stored if held is not OMITTED}
        values = [None if held is OMITTED else held for _, held in stored]
        return tuple(values) if self.parts is tuple else values


_Location = tuple[tuple[_Frame, int], ...]
"""The holders of an object, from the value down, each with the position of what is below."""


class _Odd(NamedTuple):
    """An object that may come back as something else; a container with its frame."""

    obj: Any
    location: _Location
    frame: _Frame | None


class JSONScan:
    """One walk through a value, in the order in which it is encoded.

    Args:
        value: The value.
        root: The path of it.
        codec: The encoder.
        policy: Returns how objects of a class are treated.
        sink: Display name of the storage.
        asking: About what the encoder is asked.
        credentials: What the current request was sent, where it is taken out of the value.

    Attributes:
        found: Whether any of `credentials` were found.
        kept: What is stored: the value itself, or a copy without what was cut, or `OMITTED`.
        is_deep: Whether it is nested so deep that it may not be read back.
        is_complete: Whether all of it was looked at.
    """

    def __init__(
        self,
        value: Any,
        root: Path,
        codec: Codec[Any],
        policy: Callable[[type], TypePolicy],
        sink: str,
        *,
        asking: Asking = Asking.NOTHING,
        credentials: Credentials | None = None,
    ) -> None:
        self.kept = value
        self.root = root
        self.found = self.is_deep = False
        self.is_complete = True
        self._value = value
        self._codec = codec
        self._policy = policy
        self._sink = sink
        self._asking = asking
        self._credentials = credentials
        self._notes: list[tuple[tuple[int, ...], Finding]] = []
        self._odd: list[_Odd] = []
        self._stack: list[_Frame] = []
        self._open: set[int] = set()
        self._cleaned: list[object] = []  # which keeps their ids taken
        self._done: dict[int, tuple[Any, Any]] = {}  # an object and what is stored for it, by id

    @property
    def findings(self) -> list[Finding]:
        """What was found, in the order of the value."""
        return [finding for _, finding in sorted(self._notes, key=lambda note: note[0])]

    @property
    def needs_comparison(self) -> bool:
        """Whether what is kept may not be read back, or come back as something else."""
        return self.is_deep or bool(self._odd)

    def run(self) -> None:
        """Walk through the value; nothing recurs, so that no value is too deep."""
        self._stack = [top := _Frame([self.kept], list)]
        for _ in range(MAX_NODES):
            frame = self._stack[-1]
            self.is_deep = self.is_deep or len(self._stack) > MAX_LEVELS
            if frame.advance():
                self._visit(frame, frame.items[frame.at][1])
            elif frame is top:
                break
            else:
                self._leave()
        else:
            self.is_complete = False
            self.is_deep = True  # for all that is known
        while self._stack[-1] is not top:  # keep what has been cut so far
            self._leave(is_whole=False)
        self.kept = top.changes.get(0, self.kept)

    def note(
        self,
        code: str,
        obj: object,
        action: Action,
        *,
        did: str,
        fix: str = "",
        reason: str = "",
        path: Path | None = None,
        location: _Location | None = None,
    ) -> None:
        """Add a finding about `obj`, by default at what is being visited."""
        location = self._location() if location is None else location
        if path is None:
            steps = tuple(frame.step(at) for frame, at in location)
            path = dataclasses.replace(self.root, steps=steps)
        owner = next((one.obj for one, _ in location[::-1] if one.parts is AnyDataclass), None)
        finding = Finding(
            code=code,
            path=path,
            leaf_type=qualified_name(type(obj)),
            owner_type="" if owner is None else qualified_name(type(owner)),
            action=action,
            reason=reason or CODES[code].replace("JSON", self._codec.name),
            did=did,
            fix=fix or PLAIN_DATA,
            sink=self._sink,
            origin=origin_of(path, self._value),
        )
        self._notes.append((_position(location), finding))

    def note_verdict(
        self, verdict: Verdict, obj: object, action: Action, did: str = "", path: Path | None = None
    ) -> None:
        """Add a finding in the words of a rule or verdict."""
        did, reason = verdict.did or did, verdict.reason or CODES[verdict.code]
        self.note(verdict.code, obj, action, did=did, fix=verdict.fix, reason=reason, path=path)

    def _note_conversion(
        self, obj: object, conversion: Conversion, location: _Location | None = None
    ) -> None:
        did, fix, reason = conversion
        action = Action.OBSERVED
        self.note("CC141", obj, action, did=did, fix=fix, reason=reason, location=location)

    def _location(self) -> _Location:
        """Return where what is being visited is."""
        return tuple([(frame, frame.at) for frame in self._stack[1:] if frame.at >= 0])

    # --- The walk -------------------------------------------------------------------------------

    def _visit(self, frame: _Frame, obj: Any) -> None:
        if self._credentials is not None and self._credentials.stands_in(obj):
            self.found = True
            self.note_verdict(BY_HAND, obj, Action.OBSERVED)
        rule = self._policy(type(obj)).rule
        if rule is None or not (rule.when is None or rule.when(obj)):
            self._store(frame, obj)
        elif rule.verb is not Verb.ALLOW:
            stored = self._replacement(frame, obj, rule)
            if stored is not OMITTED:
                self._store(frame, stored)

    def _store(self, frame: _Frame, stored: Any) -> None:
        """Put an object in its place, as far as it can be stored."""
        if type(stored) is dict and is_environ(stored):
            self.found = True
            self._put_environ(frame, stored)
            return
        policy = self._policy(type(stored))
        if self._credentials is not None and id(stored) not in self._done:
            stored = self._without_headers(self._credentials, stored, policy.parts)
            policy = self._policy(type(stored))
        if id(stored) in self._done:
            frame.put(self._done[id(stored)][1])
        elif id(stored) in self._open:
            self._cut(frame, stored, reason="it contains itself")
        elif policy.parts is None:
            self._store_leaf(frame, stored, policy)
        else:
            inner = _Frame(stored, policy.parts)
            inner.is_foreign = frame.is_foreign or policy.parts is AnyDataclass
            inner.is_odd = inner.is_foreign or not self._codec.keeps(stored)
            if inner.is_odd:
                self._odd.append(_Odd(stored, self._location(), inner))
            self._open.add(id(stored))
            self._stack.append(inner)
            if self._asking and inner.is_odd and policy.parts is dict:
                self._cut_keys(inner)

    def _store_leaf(self, frame: _Frame, obj: Any, policy: TypePolicy) -> None:
        frame.put(obj)
        is_kept = self._codec.keeps(obj) and not frame.is_foreign
        if self._asking <= is_kept or not (code := self._codec.refusal(obj)):
            if not is_kept:
                self._odd.append(_Odd(obj, self._location(), None))
        elif policy.plain is None or self._codec.refusal(plain := policy.plain(obj)):
            self._cut(frame, obj, fix_for(type(obj)), code=code)
        else:
            frame.put(plain)
            if conversion := self._codec.conversion(obj, plain):
                self._note_conversion(obj, conversion)

    def _leave(self, *, is_whole: bool = True) -> None:
        """Put a container in its place, as a copy if something in it was cut."""
        frame = self._stack.pop()
        holder = self._stack[-1]
        self._open.discard(id(frame.obj))
        stored = frame.rebuilt() if frame.changes else frame.obj
        if self._asking and is_whole and frame.is_odd and (code := self._codec.refusal(stored)):
            forms = (form for form in self._plainer(frame) if not self._codec.refusal(form))
            stored = next(forms, OMITTED)
            if stored is OMITTED:  # and nothing is left to say about what it holds
                at = _position(self._location())
                self._notes = [note for note in self._notes if note[0][: len(at)] != at]
                self._odd = [odd for odd in self._odd if _position(odd.location)[: len(at)] != at]
                self._cut(holder, frame.obj, fix_for(type(frame.obj)), code=code)
        self._done[id(frame.obj)] = frame.obj, stored
        holder.put(stored)

    def _plainer(self, frame: _Frame) -> Iterable[Any]:
        """Yield what an encoder may take that refuses a subclass, or keys of several types."""
        if frame.parts in (dict, list, tuple):
            yield frame.rebuilt()
        if frame.parts is dict:
            yield {self._codec.key_back(key): held for key, held in frame.rebuilt().items()}

    def _replacement(self, frame: _Frame, obj: Any, rule: Rule) -> Any:
        """Return what is stored for `obj` by a rule that was written for pickle."""
        match rule.verb:
            case Verb.REPLACE:
                return obj if rule.make is None else rule.make(obj)
            case Verb.SNAPSHOT:
                try:
                    made = attributes(obj) if rule.make is None else rule.make(obj)
                except NothingThere:
                    return self._cut(frame, obj, rule.fix, code=rule.code)
                self.note_verdict(rule, obj, Action.SNAPSHOTTED, "stored a snapshot of it")
                return made
            case Verb.STRIP | Verb.REFUSE:
                return self._cut(frame, obj, rule.fix, code=rule.code)
            case Verb.OBSERVE:
                self.note_verdict(rule, obj, Action.OBSERVED, "stored it as it is")
        return obj

    def _cut(
        self, frame: _Frame, obj: object, fix: str = "", *, code: str = "CC140", reason: str = ""
    ) -> Any:
        if not self._location():
            action, did = Action.REFUSED, NOTHING
        elif frame.is_named:
            action, did = Action.LEFT_OUT, KEY_LEFT_OUT
        else:
            action, did = Action.STRIPPED, NONE_INSTEAD
        self.note(code, obj, action, did=did, fix=fix, reason=reason)
        frame.put(OMITTED)
        return OMITTED

    def _cut_keys(self, frame: _Frame) -> None:
        location = self._location()
        steps = tuple(one.step(at) for one, at in location)
        for at, (key, _) in enumerate(frame.items):
            if type(key) is not str and self._codec.refusal({key: None}):
                self.note(
                    "CC140",
                    key,
                    Action.LEFT_OUT,
                    did="left out the key and what is under it, stored the rest",
                    fix="use text for keys",
                    path=dataclasses.replace(self.root, steps=(*steps, Step(StepKind.KEY, at))),
                    location=(*location, (frame, at)),
                )
                frame.put(OMITTED, at)

    def _put_environ(self, frame: _Frame, environ: dict[Any, Any]) -> None:
        """Store the plain entries of the environment of a request, less its credentials."""
        reason = "the environment of a request carries its cookies and credentials"
        did, fix = "stored it without credentials", environ_fix(environ)
        self.note("CC106", environ, Action.SNAPSHOTTED, did=did, fix=fix, reason=reason)
        kept = environ_snapshot(environ)
        frame.put({key: kept[key] for key in kept if type(kept[key]) is not tuple})

    def _without_headers(self, credentials: Credentials, obj: Any, parts: type | None) -> Any:
        if parts is not dict and parts is not list and parts is not tuple:
            return obj
        plain = obj if type(obj) is parts else parts(obj)
        kept = credentials.removed_from(plain)
        if kept is plain:
            return obj
        self.found = True
        self.note_verdict(ENVIRON, obj, Action.SNAPSHOTTED)
        self._cleaned.append(kept)
        return kept

    # --- What came back -------------------------------------------------------------------------

    def compare(self, back: object) -> None:
        """Find what came back as something else, or not at all."""
        for obj, location, frame in self._odd:
            found = self._follow(back, location)
            if found is LOST:
                above = _position(location)
                if not any(above[: len(one)] == one for one, _ in self._notes):
                    self._note_conversion(obj, Conversion("it does not come back"), location)
            elif frame is not None and frame.parts is dict and issubclass(type(found), dict):
                self._compare_dict(frame, location, found)
            elif conversion := self._codec.conversion(obj, found):
                if not self._is_flash(obj, location):
                    self._note_conversion(obj, conversion, location)
            else:
                self._codec.learn(type(obj))

    def _follow(self, back: Any, location: _Location) -> Any:
        """Return what came back for an object, where its holders came back."""
        for frame, at in location:
            key = frame.items[at][0]
            if frame.parts is AnyDataclass and not issubclass(type(back), dict):
                back = attributes(back)
            if issubclass(type(back), dict):
                back = dict.get(back, self._codec.key_back(key), LOST)
            elif issubclass(type(back), (list, tuple)) and at < len(back):
                back = back[at]
            else:
                return LOST
        return back

    def _compare_dict(self, frame: _Frame, location: _Location, back: dict[Any, Any]) -> None:
        reported = {position for position, _ in self._notes}
        here = _position(location)
        keys = [(key, self._codec.key_back(key), held) for key, held in frame.items]
        missing = [
            at
            for at, (_, key_back, _) in enumerate(keys)
            if key_back not in back and (*here, at) not in reported
        ]
        keys = [one for one in keys if one[1] in back]
        conversion = _lost_values(frame.obj, keys, back)
        if missing:
            conversion = Conversion("stored it without some of its items")
        elif conversion is None and len({key_back for _, key_back, _ in keys}) < len(keys):
            conversion = Conversion("stored the last value of keys that become the same", TEXT_KEYS)
        elif conversion is None and type(frame.obj) is not dict:
            conversion = self._codec.conversion(frame.obj, back)
        if conversion is not None:
            self._note_conversion(frame.obj, conversion, location)
        for word, came, is_text in (("text", "text", True), ("values", "their values", False)):
            changed = {
                type_text(qualified_name(type(key)))
                for key, key_back, _ in keys
                if type(key) is not type(key_back) and (type(key_back) is str) == is_text
            }
            if changed:
                reason = f"its keys of type {', '.join(sorted(changed))} become {word}"
                did = f"stored them; they come back as {came}"
                self._note_conversion(frame.obj, Conversion(did, TEXT_KEYS, reason), location)

    def _is_flash(self, obj: object, location: _Location) -> bool:
        """Return True for a flashed message of Flask, which reads a list as well as a tuple."""
        is_pair = type(obj) is tuple and len(obj) == 2 and len(location) == 2
        if not is_pair or self.root.root != SESSION:
            return False
        frame, at = location[0]
        return frame.step(at) == item("_flashes", 0)


def _position(location: _Location) -> tuple[int, ...]:
    return tuple([at for _, at in location])


def _lost_values(
    obj: Any, keys: list[tuple[object, object, object]], back: dict[Any, Any]
) -> Conversion | None:
    """Return what is lost of a dict that shows one value of several under a key."""
    names = [qualified_name(base) for base in class_mro(type(obj))]
    fix = next((MULTI_VALUE_FIXES[name] for name in names if name in MULTI_VALUE_FIXES), "")
    values = dict(type(obj).lists(obj)) if fix else {}
    shown = [
        held is values[key][0]
        for key, key_back, held in keys
        if len(values.get(key, ())) > 1 and type(back[key_back]) is not list
    ]
    if not shown:
        return None
    which = "first" if all(shown) else "last"
    return Conversion(f"stored the {which} value of each key; the others are lost", fix)
