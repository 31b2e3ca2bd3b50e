"""What is cut out of a value before it becomes JSON, and what the encoder changed in the rest."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import attributes
from contextcache.engine.diagnosis import KEY_LEFT_OUT
from contextcache.engine.field_names import environ_fix
from contextcache.engine.refusal import NOTHING
from contextcache.findings.finding import Action
from contextcache.findings.path import Path, Step, StepKind, item
from contextcache.jsonable.codec import MAX_LEVELS, MAX_NODES, AnyDataclass, fix_for
from contextcache.jsonable.comparison import compare
from contextcache.jsonable.frames import OMITTED, Frame, Odd, position
from contextcache.jsonable.notes import Notes, refused
from contextcache.reports.request_scope import SESSION
from contextcache.rules.replacements import NothingThere
from contextcache.rules.request_snapshots import environ_snapshot, is_environ
from contextcache.rules.rule import Rule, Verb, Verdict
from contextcache.rules.verdicts import BY_HAND, ENVIRON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from contextcache.findings.path import Path
    from contextcache.jsonable.codec import Codec
    from contextcache.jsonable.frames import Location, TypePolicy
    from contextcache.rules.credentials import Credentials

NONE_INSTEAD = "stored None in its place"


CIRCULAR = refused(reason="it contains itself")


class JSONScan:
    """One walk through a value, in the order in which it is encoded.

    Args:
        value: The value.
        root: The path of it.
        codec: The encoder.
        policy: Returns how objects of a class are treated.
        sink: Display name of the storage.
        asks: Whether the encoder is asked about each object in what it refuses.
        credentials: What the current request was sent, where it is taken out of the value.

    Attributes:
        notes: What was found.
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
        asks: bool = False,
        credentials: Credentials | None = None,
    ) -> None:
        self.kept = value
        self.notes = Notes(root, value, codec.name, sink)
        self.found = self.is_deep = False
        self.is_complete = True
        self._codec = codec
        self._policy = policy
        self._asks = asks
        self._credentials = credentials
        self._odd: list[Odd] = []
        self._stack: list[Frame] = []
        self._open: set[int] = set()
        self._cleaned: list[object] = []  # which keeps their ids taken
        self._done: dict[int, tuple[Any, Any]] = {}  # an object and what is stored for it, by id

    @property
    def needs_comparison(self) -> bool:
        """Whether what is kept may not be read back, or come back as something else."""
        return self.is_deep or bool(self._odd)

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
            self.is_complete = False
            self.is_deep = True  # for all that is known
        while self._stack[-1] is not top:  # keep what has been cut so far
            self._leave(is_whole=False)
        self.kept = top.changes.get(0, self.kept)

    def _note(
        self,
        verdict: Verdict,
        obj: object,
        action: Action = Action.OBSERVED,
        *,
        did: str = "",
        location: Location | None = None,
    ) -> None:
        """Add a finding about `obj`, by default at what is being visited."""
        location = self._location() if location is None else location
        self.notes.add(
            verdict,
            obj,
            action,
            did=did,
            steps=tuple([frame.step(at) for frame, at in location]),
            at=position(location),
            owner=next((one.obj for one, _ in location[::-1] if one.parts is AnyDataclass), None),
        )

    def _location(self) -> Location:
        """Return where what is being visited is."""
        return tuple([(frame, frame.at) for frame in self._stack[1:] if frame.at >= 0])

    # --- The walk -------------------------------------------------------------------------------

    def _visit(self, frame: Frame, obj: Any) -> None:
        if self._credentials is not None and self._credentials.stands_in(obj):
            self.found = True
            self._note(BY_HAND, obj)
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
            self._put_environ(frame, stored)
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
                self._odd.append(Odd(stored, self._location(), inner))
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
                self._odd.append(Odd(obj, self._location(), None))
        elif policy.plain is None or self._codec.refusal(plain := policy.plain(obj)):
            self._cut(frame, obj, refused(fix_for(type(obj)), code))
        else:
            frame.put(plain)
            if conversion := self._codec.conversion(obj, plain):
                self._note(conversion, obj)

    def _leave(self, *, is_whole: bool = True) -> None:
        """Put a container in its place, as a copy if something in it was cut."""
        frame = self._stack.pop()
        holder = self._stack[-1]
        self._open.discard(id(frame.obj))
        stored = frame.rebuilt() if frame.changes else frame.obj
        if frame.asks and is_whole and (code := self._codec.refusal(stored)):
            forms = (form for form in self._plainer(frame) if not self._codec.refusal(form))
            stored = next(forms, OMITTED)
            if stored is OMITTED:  # and nothing is left to say about what it holds
                at = position(self._location())
                self.notes.drop_below(at)
                self._odd = [odd for odd in self._odd if position(odd.location)[: len(at)] != at]
                self._cut(holder, frame.obj, refused(fix_for(type(frame.obj)), code))
        self._done[id(frame.obj)] = frame.obj, stored
        holder.put(stored)

    def _plainer(self, frame: Frame) -> Iterable[Any]:
        """Yield what an encoder may take that refuses a subclass, or keys of several types."""
        if frame.parts in (dict, list, tuple):
            yield frame.rebuilt()
        if frame.parts is dict:
            yield {self._codec.key_back(key): held for key, held in frame.rebuilt().items()}

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
                self._note(rule, obj, Action.SNAPSHOTTED, did=did)
                return made
            case Verb.STRIP | Verb.REFUSE:
                return self._cut(frame, obj, refused(rule.fix, rule.code))
            case Verb.OBSERVE:
                self._note(rule, obj, did=rule.did or "stored it as it is")
        return obj

    def _cut(self, frame: Frame, obj: object, verdict: Verdict) -> Any:
        if not self._location():
            action, did = Action.REFUSED, NOTHING
        elif frame.is_named:
            action, did = Action.LEFT_OUT, KEY_LEFT_OUT
        else:
            action, did = Action.STRIPPED, NONE_INSTEAD
        self._note(verdict, obj, action, did=did)
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

    def _put_environ(self, frame: Frame, environ: dict[Any, Any]) -> None:
        """Store the plain entries of the environment of a request, less its credentials."""
        reason = "the environment of a request carries its cookies and credentials"
        verdict = dataclasses.replace(ENVIRON, reason=reason, fix=environ_fix(environ))
        self._note(verdict, environ, Action.SNAPSHOTTED)
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
        self._note(ENVIRON, obj, Action.SNAPSHOTTED)
        self._cleaned.append(kept)
        return kept

    def compare(self, back: object) -> None:
        """Find what came back as something else, or not at all."""
        reported = self.notes.positions()
        for odd in self._odd:
            for conversion in compare(odd, back, self._codec, reported):
                if not self._is_flash(odd):
                    self._note(conversion, odd.obj, location=odd.location)
                    reported.add(position(odd.location))

    def _is_flash(self, odd: Odd) -> bool:
        """Return True for a flashed message of Flask, which reads a list as well as a tuple."""
        is_pair = type(odd.obj) is tuple and len(odd.obj) == 2 and len(odd.location) == 2
        if not is_pair or self.notes.root.root != SESSION:
            return False
        frame, at = odd.location[0]
        return frame.step(at) == item("_flashes", 0)
