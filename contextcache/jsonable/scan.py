"""What is cut out of a value before it becomes JSON, and what the encoder changed in the rest."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import attributes
from contextcache.engine.diagnosis import KEY_LEFT_OUT
from contextcache.engine.field_names import environ_fix
from contextcache.engine.refusal import NOTHING
from contextcache.findings.finding import Action
from contextcache.findings.path import Step, StepKind
from contextcache.jsonable.codec import MAX_LEVELS, MAX_NODES, AnyDataclass, fix_for
from contextcache.jsonable.frames import OMITTED, Frame, Odd, position
from contextcache.jsonable.notes import Notes, refused
from contextcache.rules.replacements import NothingThere
from contextcache.rules.request_snapshots import environ_snapshot, is_environ
from contextcache.rules.rule import Rule, Verb, Verdict
from contextcache.rules.verdicts import BY_HAND, ENVIRON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from contextcache.jsonable.codec import Codec
    from contextcache.jsonable.frames import Location, TypePolicy
    from contextcache.rules.credentials import Credentials

NONE_INSTEAD = "stored None in its place"
CIRCULAR = refused(reason="it contains itself")


class JSONScan:
    """One walk through a value, in the order in which it is encoded.

    Args:
        value: The value.
        notes: Gets what is found.
        codec: The encoder.
        policy: Returns how objects of a class are treated.
        asks: Whether the encoder is asked about each object in what it refuses.
        credentials: What the current request was sent, where it is taken out of the value.

    Attributes:
        odd: What may come back as something else.
        found: Whether any of `credentials` were found.
        kept: What is stored: the value itself, or a copy without what was cut, or `OMITTED`.
        is_deep: Whether it is nested so deep that it may not be read back.
    """

    def __init__(
        self,
        value: Any,
        notes: Notes,
        codec: Codec[Any],
        policy: Callable[[type], TypePolicy],
        *,
        asks: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        self.kept = value
        self.notes = notes
        self.found = self.is_deep = False
        self._codec = codec
        self._policy = policy
        self._asks = asks
        self._credentials = credentials
        self.odd: list[Odd] = []
        self._stack: list[Frame] = []
        self._open: set[int] = set()
        self._cleaned: list[object] = []  # which keeps their ids taken
        self._done: dict[int, tuple[Any, Any]] = {}  # an object and what is stored for it, by id

    @property
    def needs_comparison(self) -> bool:
        """Whether what is kept may not be read back, or come back as something else."""
        return self.is_deep or bool(self.odd)

    def run(self) -> None:
        """Walk through the value; nothing recurs, so that no value is too deep."""
        self._stack = [top := Frame([self.kept], list)]
        top.asks = self._asks
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
            self.is_deep = True  # for all that is known
        while self._stack[-1] is not top:  # keep what has been cut so far
            self._leave(is_whole=False)
        self.kept = top.changes.get(0, self.kept)

    def _location(self) -> Location:
        """Return where what is being visited is."""
        return tuple([(frame, frame.at) for frame in self._stack[1:] if frame.at >= 0])

    def _visit(self, frame: Frame, obj: Any) -> None:
        if self._credentials is not None and self._credentials.stands_in(obj):
            self.found = True
            self.notes.add_at(self._location(), BY_HAND, obj)
        policy = self._policy(type(obj))
        rule = policy.rule
        if policy.is_kept and not (frame.asks or frame.is_foreign):
            return
        if rule is None or not (rule.when is None or rule.when(obj)):
            self._store(frame, obj)
        elif rule.verb is not Verb.ALLOW:
            stored = self._replacement(frame, obj, rule)
            if stored is not OMITTED:
                self._store(frame, stored)

    def _store(self, frame: Frame, stored: Any) -> None:
        """Put an object in its place, as far as it can be stored."""
        if type(stored) is dict and is_environ(stored):
            self.found = True
            self.notes.add_at(
                self._location(), _environ_verdict(stored), stored, Action.SNAPSHOTTED
            )
            kept = environ_snapshot(stored)
            frame.put({key: kept[key] for key in kept if type(kept[key]) is not tuple})
            return
        policy = self._policy(type(stored))
        if self._credentials is not None and id(stored) not in self._done:
            stored = self._without_headers(self._credentials, stored, policy.parts)
            policy = self._policy(type(stored))
        if id(stored) in self._done:
            frame.put(self._done[id(stored)][1])
        elif id(stored) in self._open:
            self._cut(frame, stored, CIRCULAR)
        elif policy.parts is None:
            self._store_leaf(frame, stored, policy)
        else:
            inner = Frame(stored, policy.parts)
            inner.is_foreign = frame.is_foreign or policy.parts is AnyDataclass
            if inner.is_foreign or not self._codec.keeps(stored):
                self.odd.append(Odd(stored, self._location(), inner))
            inner.asks = frame.asks and self._codec.refusal(stored) == "CC140"
            self._open.add(id(stored))
            self._stack.append(inner)
            if inner.asks and policy.parts is dict:
                self._cut_keys(inner)

    def _store_leaf(self, frame: Frame, obj: Any, policy: TypePolicy) -> None:
        frame.put(obj)
        asks = frame.asks and not self._codec.takes(obj)
        if not asks or not (code := self._codec.refusal(obj)):
            if frame.is_foreign or not self._codec.keeps(obj):
                self.odd.append(Odd(obj, self._location(), None))
        elif policy.plain is None or self._codec.refusal(plain := policy.plain(obj)):
            self._cut(frame, obj, refused(fix_for(type(obj)), code))
        else:
            frame.put(plain)
            if conversion := self._codec.conversion(obj, plain):
                self.notes.add_at(self._location(), conversion, obj)

    def _leave(self, *, is_whole: bool = True) -> None:
        """Put a container in its place, as a copy if something in it was cut."""
        frame = self._stack.pop()
        holder = self._stack[-1]
        self._open.discard(id(frame.obj))
        stored = frame.rebuilt() if frame.changes else frame.obj
        if frame.asks and is_whole and (code := self._codec.refusal(stored)):
            forms = (form for form in _plainer(frame, self._codec) if not self._codec.refusal(form))
            stored = next(forms, OMITTED)
            if stored is OMITTED:  # and nothing is left to say about what it holds
                at = position(self._location())
                self.notes.drop_below(at)
                self.odd = [odd for odd in self.odd if position(odd.location)[: len(at)] != at]
                self._cut(holder, frame.obj, refused(fix_for(type(frame.obj)), code))
        self._done[id(frame.obj)] = frame.obj, stored
        holder.put(stored)

    def _replacement(self, frame: Frame, obj: Any, rule: Rule) -> Any:
        """Return what is stored for `obj` by a rule that was written for pickle."""
        match rule.verb:
            case Verb.REPLACE:
                return obj if rule.make is None else rule.make(obj)
            case Verb.SNAPSHOT:
                try:
                    made = attributes(obj) if rule.make is None else rule.make(obj)
                except NothingThere:
                    return self._cut(frame, obj, refused(rule.fix, rule.code))
                did = rule.did or "stored a snapshot of it"
                self.notes.add_at(self._location(), rule, obj, Action.SNAPSHOTTED, did=did)
                return made
            case Verb.STRIP | Verb.REFUSE:
                return self._cut(frame, obj, refused(rule.fix, rule.code))
            case Verb.OBSERVE:
                self.notes.add_at(self._location(), rule, obj, did=rule.did or "stored it as it is")
        return obj

    def _cut(self, frame: Frame, obj: object, verdict: Verdict) -> Any:
        if not self._location():
            action, did = Action.REFUSED, NOTHING
        elif frame.is_named:
            action, did = Action.LEFT_OUT, KEY_LEFT_OUT
        else:
            action, did = Action.STRIPPED, NONE_INSTEAD
        self.notes.add_at(self._location(), verdict, obj, action, did=did)
        frame.put(OMITTED)
        return OMITTED

    def _cut_keys(self, frame: Frame) -> None:
        location = self._location()
        for at, (key, _) in enumerate(frame.items):
            if type(key) is not str and self._codec.refusal({key: None}):
                self.notes.add(
                    refused("use text for keys"),
                    key,
                    Action.LEFT_OUT,
                    did="left out the key and what is under it, stored the rest",
                    steps=(*[one.step(at) for one, at in location], Step(StepKind.KEY, at)),
                    at=position((*location, (frame, at))),
                )
                frame.put(OMITTED, at)

    def _without_headers(self, credentials: Credentials, obj: Any, parts: type | None) -> Any:
        if parts is not dict and parts is not list and parts is not tuple:
            return obj
        plain = obj if type(obj) is parts else parts(obj)
        kept = credentials.removed_from(plain)
        if kept is plain:
            return obj
        self.found = True
        self.notes.add_at(self._location(), ENVIRON, obj, Action.SNAPSHOTTED)
        self._cleaned.append(kept)
        return kept


def _environ_verdict(environ: dict[Any, Any]) -> Verdict:
    reason = "the environment of a request carries its cookies and credentials"
    return dataclasses.replace(ENVIRON, reason=reason, fix=environ_fix(environ))


def _plainer(frame: Frame, codec: Codec[Any]) -> Iterable[Any]:
    """Yield what an encoder may take that refuses a subclass, or keys of several types."""
    if frame.parts in (dict, list, tuple):
        yield frame.rebuilt()
    if frame.parts is dict:
        yield {codec.key_back(key): held for key, held in frame.rebuilt().items()}
