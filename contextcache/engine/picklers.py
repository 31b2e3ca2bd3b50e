"""The picklers that ask about every object: for the exact structure, and for credentials."""

from __future__ import annotations

import pickle
from io import BytesIO
from types import FunctionType
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import instance_dict
from contextcache.engine.hits import Hit, SelfReferenceError, running
from contextcache.engine.reducers import NAMELESS, is_reducer, reduce_plainly, reduce_unverified
from contextcache.engine.verbs import unimportable
from contextcache.findings.finding import Action
from contextcache.payload.wire import PROTOCOL
from contextcache.rules.verdicts import BY_HAND, ENVIRON, RAISED, REFUSES

if TYPE_CHECKING:
    from contextcache.engine.dump import Dump
    from contextcache.rules.credentials import Credentials

MAX_REPEATS = 100  # of objects reduced again before they were memoised; then it has no end


class CarefulPickler(pickle.Pickler):
    """Ask about every object, functions and classes included."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce a function or class by name, and anything else as the table says."""
        dump = running.get()
        cls = type(obj)
        if cls is FunctionType or cls is type:
            if any(obj is known for known in NAMELESS) or dump.can_import(obj):
                return NotImplemented
            return dump.strip(obj, unimportable(obj))
        try:
            reducer = dump.table[cls]
        except (RecursionError, MemoryError):
            raise
        except Exception:  # noqa: BLE001  # a metaclass whose __hash__ raises: pickle asks for it, too
            return dump.strip(obj, REFUSES)
        if reducer is not reduce_plainly and not is_reducer(reducer):
            reducer = reduce_unverified  # it was sound so far; here every object is asked about
        elif reducer is reduce_plainly and not dump.can_import(cls):
            reducer = reduce_unverified  # another class has taken its place in the module
        reduced = reducer(obj)
        if dump.captured is None or type(reduced) is not tuple:
            return reduced
        return self._captured(dump, obj, reduced)

    def _captured(self, dump: Dump, obj: object, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
        """Keep what `obj` was reduced to, with lists where the pickler consumes iterators."""
        captured = dump.captured
        assert captured is not None  # noqa: S101  # the caller asked
        if id(obj) in captured:
            dump.repeated += 1
            if dump.repeated > MAX_REPEATS:
                raise SelfReferenceError(obj)
        if len(reduced) < 4:
            captured[id(obj)] = obj, reduced
            return reduced
        try:
            items = {at: list(reduced[at]) for at in range(3, min(5, len(reduced))) if reduced[at]}
        except (RecursionError, MemoryError, RuntimeError):  # another thread changes it: once more
            raise
        except Exception:  # noqa: BLE001  # an iterator of its own, which pickle would have run
            return dump.strip(obj, RAISED)  # type: ignore[return-value]
        captured[id(obj)] = obj, tuple(items.get(at, part) for at, part in enumerate(reduced))
        return tuple(iter(items[at]) if at in items else part for at, part in enumerate(reduced))


_PythonPickler: Any = pickle._Pickler
_BUILT_IN = frozenset(map(id, _PythonPickler.dispatch))


class CleaningPickler(_PythonPickler):  # type: ignore[misc]
    """Pickle in Python, which asks about builtin containers, too, without credentials in them.

    Attributes:
        found: Whether any were found.
        cleaned: Whether something was stored in another form because of that.
    """

    def __init__(self, file: BytesIO, dump: Dump, credentials: Credentials) -> None:
        super().__init__(file, PROTOCOL)
        self._dump = dump
        self._careful = CarefulPickler(BytesIO(), PROTOCOL)
        self._credentials = credentials
        self._changed: dict[int, object] = {}
        self._above: list[object] = []
        self.found = self.cleaned = False

    def reducer_override(self, obj: Any) -> Any:
        """Reduce what is no builtin container, without credentials among its items."""
        cls = type(obj)
        if id(cls) in _BUILT_IN and cls is not FunctionType and cls is not type:
            return NotImplemented
        reduced = self._careful.reducer_override(obj)
        if type(reduced) is not tuple or len(reduced) < 4:
            return reduced
        parts = list(reduced)
        for at, make in ((3, list), (4, dict)):  # the items of a subclass of list or dict
            if len(parts) > at and parts[at] is not None:
                try:
                    items = make(parts[at])
                    kept = self._credentials.removed_from(items)
                except TypeError:  # a key that cannot be hashed yet
                    continue
                if kept is not items:
                    self._note(obj)
                parts[at] = iter(kept if at == 3 else kept.items())
        return tuple(parts)

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        """Save `obj`, or what is stored of it without credentials."""
        kind = type(obj)
        if kind is str or kind is bytes:
            self._report_secret(obj)
        if kind is str or kind is bytes or id(obj) in self.memo:
            super().save(obj, save_persistent_id)
            return
        shown = obj
        if kind is dict and self._above and instance_dict(self._above[-1]) is obj:
            shown = self._above[-1]
        stored = self._changed.get(id(obj), obj)
        if stored is obj and (stored := self._credentials.removed_from(obj)) is not obj:
            self._note(shown)
            self._changed[id(obj)] = stored
            self._dump.keepalive += [obj, stored]
        self._above.append(shown)
        try:
            super().save(stored, save_persistent_id)
        finally:
            self._above.pop()

    def _report_secret(self, text: Any) -> None:
        if self._credentials.stands_in(text):
            self.found = True
            hit = Hit(text, BY_HAND, Action.OBSERVED, BY_HAND.did)
            hit.holder = self._above[-1] if self._above else None
            self._dump.hits.append(hit)

    def _note(self, obj: object) -> None:
        self.found = self.cleaned = True
        self._dump.hit(obj, ENVIRON, Action.SNAPSHOTTED, ENVIRON.did)
