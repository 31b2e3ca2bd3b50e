"""The dispatch table: what the C pickler is answered when it asks how to reduce a type.

The table learns. A type with nothing to hide is answered with a callable that does as pickle does,
in C or as fast; an offending type with a reducer that cuts as the pickler goes.
"""

from __future__ import annotations

import copyreg
import time
import weakref
from types import FunctionType, MappingProxyType
from typing import TYPE_CHECKING

from contextcache.base.classes import ClassMemo, is_permanent
from contextcache.base.importing import importable
from contextcache.engine.reducers import (
    NAMELESS,
    drops_attributes,
    holds,
    is_plain,
    reduce_alike,
    reduce_as_declared,
    reduce_by_name,
    reduce_by_rule,
    reduce_if_loadable,
    reduce_leaving_out,
    reduce_plainly,
    reduce_unverified,
    reduce_watching_attributes,
    reduce_with_handle,
)
from contextcache.engine.verbs import has_a_name, reduce_as_pickle_does, unimportable
from contextcache.reports.reporter import report_internal
from contextcache.rules.annotations import declared
from contextcache.rules.rule import Verb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contextcache.engine.verbs import Reducer
    from contextcache.rules.book import RuleBook
    from contextcache.rules.rule import Verdict

TRIED = 64  # uses between which a class may settle in the table that C reads
SETTLED = 1.0  # seconds after which a class is none that was made for one request
MAX_YOUNG = 16  # classes that are kept alive before they have settled


class Known:
    """What is known about one class.

    Attributes:
        reducer: What reduces its objects.
        sound: Whether an object has been seen to load again.
        suspect: Whether some object does not load, so that each is tried before it is stored.
        unset: Attributes that are left out where they offend, because the class has a default.
        handles: The types of handles without which its objects are of no use.
        restored: Whether its objects have an attribute again when they are loaded, by its name.
        uses: How often the pickler has asked here for the reducer.
        since: When it was first asked for.
        settled: Whether it was used for so long that no single request has made it.
    """

    __slots__ = (
        "handles", "reducer", "restored", "settled", "since", "sound", "suspect", "unset", "uses",
    )  # fmt: skip

    def __init__(self) -> None:
        self.reducer: Reducer = reduce_unverified
        self.sound = False
        self.suspect = False
        self.unset: frozenset[str] = frozenset()
        self.handles: frozenset[str] = frozenset()
        self.restored: dict[str, bool] = {}
        self.uses = 0
        self.since = time.monotonic()
        self.settled = False

    @property
    def facts(self) -> tuple[bool, bool, frozenset[str], frozenset[str]]:
        """What the reducer depends on."""
        return self.sound, self.suspect, self.unset, self.handles


class DispatchTable(dict[type, "Reducer"]):
    """The reducers of types, in the form the C pickler asks for them.

    All that is known stands in `memory`, and goes with the class. The table itself, which C reads
    without calling Python, holds classes. So it has those that stay as long as the process, those
    that are found in their modules after they have been used for a while, and a few new ones. It
    is never changed once it is published: a free-threaded interpreter reads it without a lock
    (cpython#157198).

    Args:
        book: The rules of this application.
        memory: What is known about each class.
        reducers: The reducers that C finds by itself.

    Attributes:
        due: Classes of which the next table may hold the reducers.
    """

    def __init__(
        self,
        book: RuleBook,
        memory: ClassMemo[Known] | None = None,
        reducers: Mapping[type, Reducer] = MappingProxyType({}),
    ) -> None:
        super().__init__(reducers)
        self.book = book
        self.memory: ClassMemo[Known] = ClassMemo() if memory is None else memory
        self.due: list[weakref.ref[type]] = []
        self.registered = dict(copyreg.dispatch_table)

    def __missing__(self, cls: type) -> Reducer:
        known = self.memory.get(cls) or self.known(cls)  # a call less, as a rule
        if not known.uses % TRIED and (is_permanent(cls) or importable(cls)):
            known.settled = known.uses > 0 and time.monotonic() > known.since + SETTLED
            self.due.append(weakref.ref(cls))
        known.uses += 1
        return known.reducer

    def known(self, cls: type) -> Known:
        """Return what is known about `cls`, which is classified at the first time."""
        known = self.memory.get(cls)
        if known is None:
            known = Known()
            known.reducer = self._classify(cls, known)
            known = self.memory.put(cls, known)
        return known

    def learn(
        self,
        cls: type,
        *,
        sound: bool = False,
        suspect: bool = False,
        unset: frozenset[str] = frozenset(),
        handles: frozenset[str] = frozenset(),
    ) -> DispatchTable:
        """Note what a dump has shown about `cls`, and return the table to go on with.

        Args:
            cls: Any class.
            sound: Its objects have been seen to load again; C serves them from now on.
            suspect: An object of it did not load.
            unset: Attributes to leave out.
            handles: Types of handles without which its objects are cut whole.
        """
        known = self.known(cls)
        before = known.facts
        known.suspect = known.suspect or suspect
        known.sound = known.sound or sound
        known.unset |= unset
        known.handles |= handles
        while before != (facts := known.facts):  # other threads and handlers learn, too
            known.reducer = self._classify(cls, known)
            before = facts
        found = dict.get(self, cls)  # stale where another thread has learned it
        return self if found is None or found is known.reducer else self.renewed()

    def renewed(self) -> DispatchTable:
        """Return a table that C finds in what is due, and no class that has left its module."""
        reducers: dict[type, Reducer] = {}
        young: dict[type, Reducer] = {}
        for cls in (*self.copy(), *filter(None, [ref() for ref in self.due])):
            known = self.known(cls)
            if known.reducer is reduce_unverified or any(known.facts[1:]):
                continue  # there is more to learn, or more to do than C can
            if is_permanent(cls):
                reducers[cls] = known.reducer
            elif importable(cls):
                (reducers if known.settled else young)[cls] = known.reducer
        newest = list(young.items())[-MAX_YOUNG:]
        return DispatchTable(self.book, self.memory, reducers | dict(newest))

    def restarted(self) -> DispatchTable:
        """Return a table that knows only what does not depend on `copyreg`, which has changed."""
        table = DispatchTable(self.book)
        for cls, known in self.memory.items():
            _, suspect, unset, handles = known.facts
            if suspect or unset or handles:
                table.learn(cls, suspect=suspect, unset=unset, handles=handles)
        return table

    def _classify(self, cls: type, known: Known) -> Reducer:
        reducer = reduce_if_loadable if known.suspect else self.untried(cls)
        if known.unset:
            reducer = reduce_leaving_out(known.unset, reducer)
        if known.handles:
            reducer = reduce_with_handle(known.handles, reducer)
        fields = declared(cls, report_internal)
        if fields:
            reducer = reduce_as_declared(fields, reducer)
        if known.sound and reducer is reduce_unverified:
            return copyreg.dispatch_table.get(cls, reduce_as_pickle_does)
        return reducer

    def untried(self, cls: type) -> Reducer:
        """Return how an object of `cls` is reduced where it is known to load."""
        rule = self.book.lookup(cls)
        if rule is not None and rule.verb is Verb.RECREATE and rule.uniform is not None:
            reduced = rule.uniform(cls)
            # It must not be kept alive by what is known about it.
            if reduced[0] is not cls and (not has_a_name(reduced[0]) or importable(reduced[0])):
                return reduce_alike(reduced)
        if rule is not None and rule.verb is not Verb.ALLOW:
            return reduce_by_rule(rule)
        if cls in copyreg.dispatch_table:
            return reduce_unverified
        if issubclass(cls, type):
            return reduce_by_name
        if is_plain(cls):
            return reduce_plainly
        return reduce_watching_attributes if drops_attributes(cls) else reduce_unverified

    def strips(self, obj: object) -> Verdict | None:
        """Return the rule by which `obj` can only be stripped, or None."""
        cls = type(obj)
        if cls is FunctionType or issubclass(cls, type):
            return None if importable(obj) else unimportable(obj)
        rule = self.book.lookup(cls)
        if rule is not None:
            return rule if rule.verb is Verb.STRIP and holds(rule, obj) else None
        if any(cls is known for known in NAMELESS):
            return None
        by_class = cls.__reduce_ex__ is object.__reduce_ex__ and cls.__reduce__ is object.__reduce__
        return unimportable(obj) if by_class and not importable(cls) else None
