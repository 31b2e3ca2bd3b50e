"""Findings for JSON: what it cannot hold, and what it changes without a word.

Sessions and caches that are written as JSON, or as its kin, have offenders of their own: a `set`
raises an error that names no field, and a `tuple` comes back as a list. `JSONGuard` stands before
such an encoder as `Guard` stands before pickle.

What an encoder does with each type is data: a `Dialect`. A value with nothing but what comes back
as it was is asked for its types, container by container, and encoded. Any other is walked once;
what cannot be held is cut out of a copy, and the rest is stored.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, cast

from contextcache import origins
from contextcache.config import Config
from contextcache.dialects import FIXES, KEPT, PLAIN, PLAIN_DATA, Dialect, Fate, back
from contextcache.findings import CODES, Action, Finding
from contextcache.guard import uncacheable
from contextcache.paths import (
    Path,
    Step,
    StepKind,
    attribute,
    attributes,
    class_mro,
    item,
    qualified_name,
)
from contextcache.reporting import Reporter, report_internal, show_findings
from contextcache.rules import Rule, RuleBook, Verb
from contextcache.scopes import current_scope
from contextcache.snapshots import NothingThere

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sized

    from contextcache.exceptions import UnreadablePayloadError

T = TypeVar("T")

MOST_NODES = 100_000  # looked at in one value; what lies behind them is encoded as it is
CLOSE = 0.8  # of the limit of a cookie, from where on its size is reported
LISTED = 5  # keys of a session whose sizes are listed
MOST_LEVELS = 100  # asked for their types; a value that contains itself has no end


class JSONGuard(Generic[T]):
    """Encode values as JSON, without what it cannot hold.

    Keep one per place of storage; it is safe to use from many threads.

    Of a dict, the key is left out with what stands under it, and of a list, None is stored in its
    place. What a rule of the application makes a `snapshot` of, and what a proxy points at, is
    stored instead of it. What the encoder changes is reported, and stored as it would have been.

    Args:
        encode: What turns a value into JSON, such as `json.dumps`. It decides about types that
            the dialect has no row for.
        config: The policy; by default that of `Config()`.
        dialect: What `encode` does with each type.
        sink: The words for where values are stored.
    """

    def __init__(
        self,
        encode: Callable[[Any], T],
        config: Config | None = None,
        *,
        dialect: Dialect = PLAIN,
        sink: str = "",
    ) -> None:
        self.config = config if config is not None else Config()
        self.sink = sink
        self._encode = encode
        self._reporter = Reporter(self.config, sink)
        self._types = Treatments(dialect, self.config.rules)
        if self.config.debug:
            show_findings()

    def dumps(self, value: Any, *, label: str = "value") -> T:
        """Encode `value`, cutting out and reporting what cannot be stored.

        Args:
            value: Any value; it is never changed.
            label: The root of the paths in it, such as `session`.

        Raises:
            UncacheableValueError: If nothing of it can be stored, in mode `raise` if anything in
                it offends, and in mode `warn` if the encoder refuses it.
        """
        scope = current_scope() if self.config.debug else None
        if scope is None or not scope.collect:
            return self._dumps(value, label)
        with scope.writing(label, self.sink, hidden=self.config.redact_keys) as write:
            payload = self._dumps(value, label)
            write.size = len(payload) if isinstance(payload, (bytes, str)) else None
            return payload

    def _dumps(self, value: Any, label: str) -> T:
        look = self._looked(value, label)
        if self.config.mode == "warn":
            return self._unchanged(value, look)
        payload = self._encoded(look)
        if look.findings:
            heard = self._reporter.report(look.findings, log=self.config.mode == "strip")
            if look.kept is CUT or (heard and self.config.mode == "raise"):
                raise uncacheable(look.findings)
        return cast("T", payload)

    def explain(self, value: Any, *, label: str = "value") -> list[Finding]:
        """Find everything in `value` that JSON cannot hold or changes; report and store nothing."""
        look = self._looked(value, label)
        self._encoded(look)
        return look.findings

    def report_unreadable(self, error: UnreadablePayloadError) -> None:
        """Warn that a payload counts as a miss; each reason at its 1st, 10th, 100th... time."""
        self._reporter.unreadable(error)

    def weigh(self, session: Mapping[str, Any], size: int, limit: int, *, fix: str) -> None:
        """Report the heaviest key of a session whose cookie comes close to what browsers keep.

        Args:
            session: What the cookie was made of.
            size: Bytes of the cookie.
            limit: The most bytes it may have.
            fix: What to do about it; the largest keys and their sizes are added.

        Raises:
            UncacheableValueError: The mode is `raise`, and the finding is not ignored.
        """
        if size < limit * CLOSE or not session:
            return
        sizes = {key: self._size(key, held) for key, held in session.items()}
        steps = {key: item(key, at) for at, key in enumerate(session)}
        heaviest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:LISTED]
        root = self._path("session")
        listed = ", ".join(f"{root / steps[key]} {sizes[key]}" for key in heaviest)
        look = Look(session, root, self._types, self._holds, self.sink)
        lost = "; browsers drop it" if size > limit else ""
        look.note(
            "CC142",
            root / steps[heaviest[0]],
            session[heaviest[0]],
            Action.OBSERVED,
            did=f"sent a cookie of {size} bytes, of at most {limit}{lost}",
            fix=f"{fix} (bytes: {listed})",
        )
        raises = self.config.mode == "raise"
        if self._reporter.report(look.findings, log=not raises) and raises:
            raise uncacheable(look.findings)

    def _size(self, key: str, held: Any) -> int:
        try:
            return len(cast("Sized", self._encode({key: held})))
        except Exception:  # noqa: BLE001  # what cannot be encoded has no size
            return 0

    def _path(self, label: str) -> Path:
        return Path(label, hidden=self.config.redact_keys)

    def _looked(self, value: Any, label: str) -> Look:
        look = Look(value, self._path(label), self._types, self._holds, self.sink)
        try:
            if not comes_back(value, self._types):
                look.run()
        except Exception as error:  # noqa: BLE001  # our own bug must not break the user's write
            report_internal("looking for what JSON cannot hold", error)
            look.kept, look.findings = value, []
        return look

    def _holds(self, obj: Any) -> bool:
        try:
            self._encode(obj)
        except Exception:  # noqa: BLE001  # an encoder of the application's may raise anything
            return False
        return True

    def _encoded(self, look: Look) -> T | None:
        """Encode what is kept, without what the encoder refuses after all; None if that is all."""
        if look.kept is CUT:
            return None
        try:
            return self._encode(look.kept)
        except Exception as error:  # noqa: BLE001  # such as a number with too many digits
            self._blame(look, error)
        return None if look.kept is CUT else self._encode(look.kept)

    def _unchanged(self, value: Any, look: Look) -> T:
        """Report the findings and store exactly what would have been stored without us."""
        failed: Exception | None = None
        try:
            payload = self._encode(value)
        except Exception as error:  # noqa: BLE001  # whatever it was, it is raised below
            failed = error
            if not any(finding.code == "CC140" for finding in look.findings):
                self._blame(look, error)
        self._reporter.report(
            [
                dataclasses.replace(one, action=Action.OBSERVED, did=UNCHANGED)
                for one in look.findings
            ]
        )
        if failed is not None:
            raise uncacheable(look.findings) from failed
        return payload

    def _blame(self, look: Look, error: Exception) -> None:
        """Cut what the encoder refuses though no type told: all that is known is the error."""
        code = "CC130" if isinstance(error, RecursionError) else "CC140"
        kept = look.kept if type(look.kept) is dict else {}
        rest = {name: held for name, held in kept.items() if self._holds({name: held})}
        if 0 < len(rest) < len(kept):
            look.kept = rest
            for at, (name, held) in enumerate(kept.items()):
                if name not in rest:
                    path = look.root / item(name, at)
                    look.note(code, path, held, Action.LEFT_OUT, did=KEY_LEFT_OUT)
        else:
            look.note(code, look.root, look.kept, Action.REFUSED, did=NOTHING)
            look.kept = CUT


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


class Treatments(dict[type, Treatment]):
    """What becomes of each class, learned as they are met.

    Args:
        dialect: What the encoder does with each type.
        rules: The application's own rules.

    Attributes:
        atoms: The classes whose objects come back as they were and hold nothing.
        containers: The builtin containers that come back as they were.
    """

    MOST = 4096  # classes; a program that makes them as it runs must not fill the memory

    def __init__(self, dialect: Dialect, rules: Iterable[Rule]) -> None:
        super().__init__()
        self.dialect = dialect
        self.atoms: set[type] = set()
        self._own = {rule.type for rule in rules}
        self._book = RuleBook(rules)
        self.containers = {
            kind for kind in (dict, list, tuple) if self[kind] == Treatment(KEPT, parts=kind)
        }
        for kind in (str, int, bool, type(None), bytes):
            _ = self[kind]

    def __missing__(self, cls: type) -> Treatment:
        found = self._treatment(cls)
        if len(self) < self.MOST:
            self[cls] = found
            if found == Treatment(KEPT):
                self.atoms.add(cls)
        return found

    def _treatment(self, cls: type) -> Treatment:
        found = self._book.lookup(cls)
        rule = found if found is not None and found.type in self._own else None
        mro = class_mro(cls)[:-1]
        names = [qualified_name(base) for base in mro]
        parts: type | None = next((base for base in mro if base in _CONTAINERS), None)
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


class _Dataclass:
    """Stands for every dataclass among the kinds of containers."""


_CONTAINERS: tuple[type, ...] = (dict, list, tuple, set, frozenset)
_PLAINLY: Mapping[str, Callable[[Any], object]] = {
    "str": str.__str__, "int": int.__int__, "float": float.__float__, "bytes": bytes.__bytes__,
}  # fmt: skip


def comes_back(value: Any, types: Treatments) -> bool:
    """Tell, level by level, whether `value` is small and holds only what comes back as it was."""
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
UNCHANGED = "stored unchanged (mode warn)"
KEY_LEFT_OUT = "left the key out, stored the rest"
NONE_INSTEAD = "stored None in its place"


class Look:
    """One walk through a value, in the order in which it is encoded.

    Args:
        value: The value.
        root: The path of it.
        types: What becomes of each type.
        holds: Tells whether the encoder takes an object of a type that is not among them.
        sink: The words for where it is being stored.

    Attributes:
        kept: What is stored: the value itself, or a copy without what was cut, or `CUT`.
        findings: What was found.
    """

    def __init__(
        self,
        value: Any,
        root: Path,
        types: Treatments,
        holds: Callable[[Any], bool],
        sink: str,
    ) -> None:
        self.kept = value
        self.root = root
        self.findings: list[Finding] = []
        self._types = types
        self._holds = holds
        self._sink = sink
        self._stack: list[_Frame] = []
        self._open: set[int] = set()
        self._done: dict[int, tuple[Any, Any]] = {}  # an object and what is stored for it, by id

    def run(self) -> None:
        """Walk the value; nothing recurs, so that no value is too deep."""
        self._stack = [top := _Frame([self.kept], list)]
        for _ in range(MOST_NODES):
            frame = self._stack[-1]
            if frame.advance():
                self._visit(frame)
            elif frame is top:
                break
            else:
                self._leave(self._stack.pop())
        while self._stack[-1] is not top:  # there is too much of it: keep what has been cut so far
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
        scope = current_scope()
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
                origin=str(scope) if scope is not None else origins.call_site(),
            )
        )

    def _visit(self, frame: _Frame) -> None:
        obj = stored = frame.child
        if type(obj) in self._types.atoms:
            return
        treatment = self._types[type(obj)]
        if treatment.rule is not None and (treatment.rule.when is None or treatment.rule.when(obj)):
            stored = self._ruled(frame, obj, treatment.rule)
            if stored is CUT or treatment.rule.verb is Verb.ALLOW:
                return
            treatment = self._types[type(stored)]
        if id(stored) in self._done:
            frame.put(frame.at, self._done[id(stored)][1])
            return
        if id(stored) in self._open:
            self._cut(frame, stored, reason="it contains itself")
            return
        fate = treatment.fate
        if fate is None:
            if self._holds(stored):
                frame.put(frame.at, stored)
            else:
                self._cut(frame, stored, treatment.fix)
            return
        if (fate.did or fate.fix) and (fate.when is None or fate.when(stored)):
            self.note("CC141", self._path(), stored, Action.OBSERVED, did=fate.did, fix=fate.fix)
        if treatment.plain is not None:
            stored = treatment.plain(stored)
        if treatment.parts is None:
            frame.put(frame.at, stored)
        else:
            self._open.add(id(stored))
            self._stack.append(inner := _Frame(stored, treatment.parts))
            self._check_keys(inner)

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

    def _note_rule(self, rule: Rule, obj: object, action: Action, did: str) -> None:
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
        """Find the keys of a dict that come back as text, and those that cannot be held."""
        if frame.parts is not dict or _TEXT.issuperset(map(type, frame.obj)):
            return
        dialect, changed = self._types.dialect, set()
        for at, (key, _) in enumerate(frame.items):
            names = [qualified_name(base) for base in class_mro(type(key))]
            if any(name in dialect.changed_keys for name in names):
                changed.add(names[0])
            elif not any(name in dialect.keys for name in names):
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
                reason=f"its keys of type {', '.join(sorted(changed))} become text",
            )
            frame.texts = True

    def _leave(self, frame: _Frame) -> None:
        self._open.discard(id(frame.obj))
        self._done[id(frame.obj)] = frame.obj, (stored := frame.result())
        holder = self._stack[-1]
        holder.put(holder.at, stored)

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
                _TEXTS[type(key)](key) if type(key) in _TEXTS else key: held
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


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    int: int.__repr__, float: float.__repr__,
    bool: lambda key: "true" if key else "false", type(None): lambda _: "null",
}  # fmt: skip
