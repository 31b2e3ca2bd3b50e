"""The dump: one pass of the C pickler, in which offenders are replaced as they come by.

CPython asks a pickler's `dispatch_table` for every instance before it asks the instance itself
(`Modules/_pickle.c`, `save()`). The table here learns: a type with nothing to hide is answered
with a callable that does what pickle would have done, in C or in less time than C takes. An
offending type is answered with a reducer that notes the hit and returns what is stored instead,
so the cut happens inside the same pass and shared references stay shared.

Functions and classes never reach a dispatch table. Where one of them made the fast pass fail,
and where the exact structure is wanted, the careful pass asks about every object.
"""

from __future__ import annotations

from io import BytesIO
from pickle import Pickler
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from contextcache.base.importing import importable
from contextcache.base.introspection import qualified_name
from contextcache.base.masking import type_text
from contextcache.engine.hits import Hit, kind_of, running
from contextcache.engine.picklers import CarefulPickler, CleaningPickler
from contextcache.engine.size import overruns_stack
from contextcache.engine.trial import LOADS, Failure
from contextcache.engine.verbs import DID_RECREATE
from contextcache.findings.finding import Action
from contextcache.findings.path import printed_root
from contextcache.payload.wire import PROTOCOL, Stripped
from contextcache.reports.request_scope import current_credentials, may_hold_credentials
from contextcache.rules.replacements import now
from contextcache.rules.rule import Verb
from contextcache.rules.verdicts import NOT_SEARCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from contextcache.engine.dispatch import DispatchTable
    from contextcache.engine.history import Markers
    from contextcache.engine.verbs import Reduced
    from contextcache.rules.rule import Verdict

DID_STRIP = "stored the rest; on load a marker stands here that says so when it is used"

_MADE_WHEN_USED: Mapping[str, Callable[[], Any]] = {
    "hits": list,
    "uniform_hits": list,
    "unverified": dict,
    "replacement_by_id": dict,
    "hit_by_target_id": dict,
    "keepalive": list,
    "trial_by_id": dict,
    "allowed": set,
    "failure": lambda: LOADS,
    "repeated": int,
    "_is_named_by_id": dict,
    "_now": now,
}


class Dump:
    """One run of the pickler over one value, and what it met.

    Args:
        table: What is known about types.
        label: The root of paths in this value.
        where: The paths of known offenders, by their ids.
        capture: Whether to keep what every object was reduced to, so that it can be walked.

    Attributes:
        is_untouched: Whether nothing at all was met, so that there is nothing to look at.
        hits: The offenders met.
        uniform_hits: Offenders of which no more needs to be known than their type; see `all_hits`.
        unverified: The first object of each type that is not yet known to load again.
        replacement_by_id: What a proxy or other snapshotted object was replaced by, by its id.
        hit_by_target_id: The hit that speaks for an object met behind a proxy, by its id.
        keepalive: What was made during the dump, kept so that no id is used twice.
        captured: What each object was reduced to, by its id; None unless asked for.
        trial_by_id: The trial that showed that a suspect object does not load, by its id.
        allowed: The ids of what a marker allows to be stored as it is.
        failure: Why the payload of a trial cannot be read.
        repeated: How many objects were reduced again before they were memoised.
    """

    __slots__ = (
        "_is_named_by_id", "_now", "_pickler", "allowed", "captured", "failure",
        "hit_by_target_id", "hits", "is_untouched", "keepalive", "label", "repeated",
        "replacement_by_id", "table", "trial_by_id", "uniform_hits", "unverified", "where",
    )  # fmt: skip

    hits: list[Hit]
    uniform_hits: list[object]
    unverified: dict[type, object]
    replacement_by_id: dict[int, object]
    hit_by_target_id: dict[int, Hit]
    keepalive: list[object]
    trial_by_id: dict[int, Dump | None]
    allowed: set[int]
    failure: Failure
    _pickler: Any
    repeated: int
    _is_named_by_id: dict[int, bool]
    _now: str

    def __init__(
        self,
        table: DispatchTable,
        label: str,
        *,
        where: Mapping[int, str] | Markers = MappingProxyType({}),
        capture: bool = False,
    ) -> None:
        self.table = table
        self.label = label
        self.where = where
        self.captured: dict[int, tuple[object, tuple[Any, ...]]] | None = {} if capture else None
        self.is_untouched = True

    def __getattr__(self, name: str) -> Any:
        """Make an attribute when it is first used: the dump of a clean value needs none of them."""
        made = _MADE_WHEN_USED[name]()
        setattr(self, name, made)
        self.is_untouched = False
        return made

    @property
    def is_clean(self) -> bool:
        """Whether nothing offends."""
        return not self.hits and not self.uniform_hits

    def fast(self, value: object) -> bytes:
        """Pickle `value` in one C pass.

        Raises:
            Exception: Whatever pickle raises for a function or class that has no name.
        """
        buffer = BytesIO()
        pickler = Pickler(buffer, PROTOCOL)
        pickler.dispatch_table = self.table
        token = running.set(self)
        try:
            pickler.dump(value)
        finally:
            running.reset(token)
        self._pickler = pickler
        payload = buffer.getvalue()
        if may_hold_credentials(payload):
            return _without_credentials(self, value, payload)
        return payload

    def careful(self, value: object) -> bytes:
        """Pickle `value`, asking about every object that is not a builtin container.

        Raises:
            Exception: Whatever pickle raises.
        """
        if overruns_stack(value):
            raise RecursionError  # as newer versions of Python do by themselves
        buffer = BytesIO()
        pickler = CarefulPickler(buffer, PROTOCOL)
        token = running.set(self)
        try:
            pickler.dump(value)
        finally:
            running.reset(token)
        self._pickler = pickler
        payload = buffer.getvalue()
        if may_hold_credentials(payload):
            return _without_credentials(self, value, payload)
        return payload

    @property
    def memo(self) -> dict[int, tuple[int, object]]:
        """What was pickled, by id: its index in the memo, which an unpickler counts alike."""
        memo: dict[int, tuple[int, object]] = self._pickler.memo.copy()
        return memo

    def reduced_to(self, obj: object) -> tuple[Any, ...]:
        """Return what `obj` was reduced to, as far as that was captured; else nothing."""
        return (self.captured or {}).get(id(obj), (None, ()))[1]

    def for_trial(self) -> Dump:
        """Return a dump of a part of the value, for which what was tried is known."""
        trial = Dump(self.table, self.label, capture=self.captured is not None)
        trial.trial_by_id = self.trial_by_id
        return trial

    def all_hits(self) -> list[Hit]:
        """Return the hits, those of uniform offenders worded like the others."""
        for leaf in self.uniform_hits:
            rule = self.table.book.lookup(type(leaf))
            if rule is not None:
                self.hit(leaf, rule, Action.RECREATED, rule.did or DID_RECREATE)
        self.uniform_hits.clear()
        return self.hits

    def leaves(self) -> list[object]:
        """Return the offenders met."""
        return [*[hit.leaf for hit in self.hits], *self.uniform_hits]

    def kinds(self, among: Container[int] | None = None) -> set[tuple[str, str]]:
        """Return the kind of every offender met.

        Args:
            among: The ids of those that are asked about; None for all.
        """
        met: dict[tuple[str, int], type] = {}  # a metaclass may refuse to be hashed
        for hit in self.hits:
            if among is None or id(hit.leaf) in among:
                met[hit.rule.code, id(type(hit.leaf))] = type(hit.leaf)
        uniform = self.uniform_hits
        if among is not None:
            uniform = [leaf for leaf in uniform if id(leaf) in among]
        for cls in set(map(type, uniform)):  # which the table has hashed before
            met[getattr(self.table.book.lookup(cls), "code", ""), id(cls)] = cls
        return {kind_of(code, cls) for (code, _), cls in met.items()}

    def can_import(self, obj: Any) -> bool:
        """Return True if a class or function is found by its name; looked up once per dump."""
        known = self._is_named_by_id.get(id(obj))
        if known is None:
            known = self._is_named_by_id[id(obj)] = importable(obj)
            self.keepalive.append(obj)
        return known

    def hit(self, leaf: object, rule: Verdict, action: Action, did: str) -> Hit:
        """Note an offender; one behind a proxy belongs to the proxy's own hit."""
        outer = self.hit_by_target_id.get(id(leaf))
        if outer is not None:
            if outer.action is not Action.OBSERVED:
                outer.action, outer.did = action, did
            return outer
        found = Hit(leaf, rule, action, did)
        self.hits.append(found)
        return found

    def strip(self, leaf: object, rule: Verdict) -> Reduced:
        """Note an offender and return what stands in for it."""
        action = Action.REFUSED if rule.verb is Verb.REFUSE else Action.STRIPPED
        self.hit(leaf, rule, action, DID_STRIP)
        kind = type_text(qualified_name(type(leaf)))
        proxy = self.hit_by_target_id.get(id(leaf))  # which stands in the value, before `leaf`
        at = id(leaf) if proxy is None else id(proxy.leaf)
        where = self.where.get(at) or printed_root(self.label)
        return Stripped, (rule.code, kind, where, self._now)


def _without_credentials(dump: Dump, value: object, payload: bytes) -> bytes:
    """Pickle `value` once more, without the credentials of a request that were found."""
    clean = Dump(dump.table, dump.label, where=dump.where, capture=dump.captured is not None)
    clean.hits = [  # of keys that are not in `value` any more
        hit for hit in dump.hits if hit.action is Action.LEFT_OUT and hit.holder is None
    ]
    buffer = BytesIO()
    token = running.set(clean)
    try:
        pickler = CleaningPickler(buffer, clean, current_credentials())
        pickler.dump(value)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # such as no room on the stack, where C had enough
        dump.hit(value, NOT_SEARCHED, Action.OBSERVED, NOT_SEARCHED.did)
        return payload
    finally:
        running.reset(token)
    if not pickler.found:
        return payload  # it only uses the words
    for name in (
        "hits", "uniform_hits", "unverified", "replacement_by_id", "hit_by_target_id", "captured",
        "trial_by_id",
    ):  # fmt: skip
        setattr(dump, name, getattr(clean, name))
    dump.keepalive += clean.keepalive
    dump.allowed |= clean.allowed
    if not pickler.cleaned:
        return payload
    dump._pickler = pickler
    return buffer.getvalue()
