"""The dump: one pass of the C pickler, in which offenders are replaced as they come by.

CPython asks a pickler's `dispatch_table` for every instance before it asks the instance itself
(`Modules/_pickle.c`, `save()`). The table here learns: a type with nothing to hide is answered
with a C callable that does what pickle would have done, so a clean payload runs no Python code
of ours. An offending type is answered with a reducer that notes the hit and returns what is
stored instead, so the cut happens inside the same pass and shared references stay shared.

Functions and classes never reach a dispatch table. Where one of them made the fast pass fail,
and where the exact structure is wanted, the careful pass asks about every object.
"""

from __future__ import annotations

import copyreg
import dataclasses
import io
import operator
import pickle
from contextvars import ContextVar
from dis import opname
from types import (
    EllipsisType,
    FunctionType,
    MappingProxyType,
    MethodType,
    NoneType,
    NotImplementedType,
)
from typing import TYPE_CHECKING, Any

from contextcache.base.classes import importable, is_native, once_per_class
from contextcache.base.introspection import class_mro, instance_dict, qualified_name
from contextcache.base.logs import error_name
from contextcache.base.masking import generalised, type_text
from contextcache.findings.finding import Action
from contextcache.findings.path import printed_root
from contextcache.payload.wire import Stripped
from contextcache.reports.call_site import is_library
from contextcache.reports.reporter import report_internal
from contextcache.reports.request_scope import current_credentials
from contextcache.rules.annotations import Marker
from contextcache.rules.builtin import BY_HAND, ENVIRON, NOT_SEARCHED, Rule, Verb
from contextcache.rules.replacements import ByName, NothingThere, current_values, now

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    from contextcache.engine.dispatch import Table
    from contextcache.engine.history import Markers
    from contextcache.rules.credentials import Credentials

    Reduced = str | tuple[Any, ...]
    Reducer = Callable[[Any], Reduced]

PROTOCOL = 5
LEAST_ROOM = 50  # calls that must still fit on the stack where a method is blamed for recursing
MOST_REPEATS = 100  # of objects reduced again before they were memoised; then it has no end

reduce_as_pickle_does: Reducer = operator.methodcaller("__reduce_ex__", PROTOCOL)
reduce_plainly: Reducer = operator.methodcaller("__reduce_ex__", PROTOCOL)
"""The same, for the classes that `is_plain` knows to be sound beforehand."""

REFUSES = Rule(
    type="",
    verb=Verb.STRIP,
    code="CC117",
    fix="leave it out in __getstate__ of the class that holds it, or store what it was made from",
)
RAISED = Rule(
    type="",
    verb=Verb.STRIP,
    code="CC118",
    fix="mend its __reduce__ or __getstate__, or store what it was made from",
)
UNAWAITED = dataclasses.replace(
    RAISED,
    reason="it asks the database, which async code may not do without await",
    fix="evaluate it before: [row async for row in rows]",
)
UNRENDERED = dataclasses.replace(
    RAISED,
    reason="the response is not rendered yet",
    fix="render it before it is stored: response.render()",
)
UNIMPORTABLE = Rule(
    type="",
    verb=Verb.STRIP,
    code="CC110",
    fix="move it to the top level of a module, under its own name",
)
UNLOADABLE = Rule(
    type="",
    verb=Verb.STRIP,
    code="CC119",
    fix="give it a __reduce__ that its constructor accepts, or store what it was made from",
)


_NESTED = ("__dict__", "__pydantic_private__")  # where pydantic's state has the attributes

RENEWED = "stored the rest; on load this field is a new one"
MARKED = "stored the rest; on load a marker stands here that says so when it is used"


class Hit:
    """One offender met during a dump.

    It holds the offender itself, so it must not outlive the report.
    """

    __slots__ = ("action", "did", "holder", "inside", "leaf", "name", "rule")

    def __init__(self, leaf: object, rule: Rule, action: Action, did: str) -> None:
        self.leaf = leaf
        self.rule = rule
        self.action = action
        self.did = did
        self.holder: object = None  # what it was left out of, where pickle never got to see it
        self.name = ""  # the attribute of the holder
        self.inside: Dump | None = None  # the trial that showed that the leaf does not load


def kind_of(code: str, cls: type) -> tuple[str, str]:
    """Return code and name of a type that offends, alike for classes made with a number each."""
    return code, generalised(qualified_name(cls))


class SelfReferenceError(Exception):
    """An object that needs itself to be rebuilt, so that pickle would recurse for ever."""

    def __init__(self, obj: object) -> None:
        super().__init__()
        self.obj = obj


class Dump:
    """One run of the pickler over one value, and what it met.

    Args:
        table: What is known about types.
        label: The root of paths in this value.
        where: The paths of known offenders, by their ids.
        capture: Whether to keep what every object was reduced to, so that it can be walked.

    Attributes:
        hits: The offenders met.
        bare: Offenders of which no more needs to be known than their type; see `all_hits`.
        met: The first object of each type that is not yet known to load again.
        behind: What a proxy or other snapshotted object was replaced by, by its id.
        covered: The hit that speaks for an object met behind a proxy, by the object's id.
        kept: What was made during the dump, kept so that no id is used twice.
        captured: What each object was reduced to, by its id; None unless asked for.
        verdicts: The trial that showed that a suspect object does not load, by its id.
        allowed: The ids of what a marker allows to be stored as it is.
        failure: What the payload of a trial raised when it was loaded.
    """

    def __init__(
        self,
        table: Table,
        label: str,
        *,
        where: Mapping[int, str] | Markers = MappingProxyType({}),
        capture: bool = False,
    ) -> None:
        self.table = table
        self.label = label
        self.where = where
        self.hits: list[Hit] = []
        self.bare: list[object] = []
        self.met: dict[type, object] = {}
        self.behind: dict[int, object] = {}
        self.covered: dict[int, Hit] = {}
        self.kept: list[object] = []
        self.captured: dict[int, tuple[object, tuple[Any, ...]]] | None = {} if capture else None
        self.verdicts: dict[int, Dump | None] = {}
        self.allowed: set[int] = set()
        self.repeated = 0
        self.failure = ""
        self._named: dict[int, bool] = {}
        self._now = ""

    def fast(self, value: object) -> bytes:
        """Pickle `value` in one C pass.

        Raises:
            Exception: Whatever pickle raises for a function or class that has no name.
        """
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, PROTOCOL)
        pickler.dispatch_table = self.table
        token = _running.set(self)
        try:
            pickler.dump(value)
        finally:
            _running.reset(token)
        return self._without_credentials(value, buffer.getvalue())

    def careful(self, value: object) -> bytes:
        """Pickle `value`, asking about every object that is not a builtin container."""
        buffer = io.BytesIO()
        token = _running.set(self)
        try:
            _CarefulPickler(buffer, self).dump(value)
        finally:
            _running.reset(token)
        return self._without_credentials(value, buffer.getvalue())

    def _without_credentials(self, value: object, payload: bytes) -> bytes:
        """Pickle `value` once more if `payload` holds credentials of a request, without them."""
        credentials = current_credentials()
        if not credentials.found_in(payload):
            return payload
        clean = Dump(self.table, self.label, where=self.where, capture=self.captured is not None)
        clean.hits = [  # of keys that are not in `value` any more
            hit for hit in self.hits if hit.action is Action.LEFT_OUT and hit.holder is None
        ]
        buffer = io.BytesIO()
        token = _running.set(clean)
        try:
            pickler = _CleaningPickler(buffer, clean, credentials)
            pickler.dump(value)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # such as no room on the stack, where C had enough
            self.hit(value, NOT_SEARCHED, Action.OBSERVED, NOT_SEARCHED.did)
            return payload
        finally:
            _running.reset(token)
        if not pickler.found:
            return payload  # it only uses the words
        for name in ("hits", "bare", "met", "behind", "covered", "captured", "verdicts"):
            setattr(self, name, getattr(clean, name))
        self.kept += clean.kept
        self.allowed |= clean.allowed
        return buffer.getvalue() if pickler.cleaned else payload

    def forget(self) -> None:
        """Forget what was met, because the value is dumped once more."""
        for met in (self.hits, self.bare, self.met, self.behind, self.covered, self.verdicts):
            met.clear()
        if self.captured is not None:
            self.captured.clear()
        self.repeated = 0

    def all_hits(self) -> list[Hit]:
        """Return the hits, those of bare offenders worded like the others."""
        for leaf in self.bare:
            rule = self.table.book.lookup(type(leaf))
            if rule is not None:
                self.hit(leaf, rule, Action.RECREATED, rule.did or RENEWED)
        self.bare.clear()
        return self.hits

    def kinds(self, besides: Container[int] | None = None) -> set[tuple[str, str]]:
        """Return the kind of every offender met.

        Args:
            besides: The ids of those that are left out.
        """
        met: dict[tuple[str, int], type] = {}  # a metaclass may refuse to be hashed
        for hit in self.hits:
            if besides is None or id(hit.leaf) not in besides:
                met[hit.rule.code, id(type(hit.leaf))] = type(hit.leaf)
        for leaf in self.bare:
            if besides is None or id(leaf) not in besides:
                met["", id(type(leaf))] = type(leaf)
        lookup = self.table.book.lookup
        return {
            kind_of(code or getattr(lookup(cls), "code", ""), cls) for (code, _), cls in met.items()
        }

    def has_marker(self, besides: Container[int]) -> bool:
        """Return True if a marker stands for an offender besides those with these ids."""
        return any(
            hit.action is Action.STRIPPED and id(hit.leaf) not in besides for hit in self.hits
        )

    def can_import(self, obj: Any) -> bool:
        """Tell whether a class or function is found by its name; looked up once per dump."""
        known = self._named.get(id(obj))
        if known is None:
            known = self._named[id(obj)] = importable(obj)
            self.kept.append(obj)
        return known

    def hit(self, leaf: object, rule: Rule, action: Action, did: str) -> Hit:
        """Note an offender; one behind a proxy belongs to the proxy's own hit."""
        outer = self.covered.get(id(leaf))
        if outer is not None:
            if outer.action is not Action.OBSERVED:
                outer.action, outer.did = action, did
            return outer
        found = Hit(leaf, rule, action, did)
        self.hits.append(found)
        return found

    def strip(self, leaf: object, rule: Rule) -> Reduced:
        """Note an offender and return what stands in for it."""
        action = Action.REFUSED if rule.verb is Verb.REFUSE else Action.STRIPPED
        self.hit(leaf, rule, action, MARKED)
        kind = type_text(qualified_name(type(leaf)))
        proxy = self.covered.get(id(leaf))  # what stands in the value, where this is behind it
        at = id(leaf) if proxy is None else id(proxy.leaf)
        where = self.where.get(at) or printed_root(self.label)
        self._now = self._now or now()
        return Stripped, (rule.code, kind, where, self._now)

    def apply(self, rule: Rule, obj: object) -> Reduced | None:
        """Treat `obj` as `rule` says; None means that it is no offender after all.

        Raises:
            NothingThere: If there is nothing behind it, so that it can only be stripped.
        """
        if rule.behind and id(obj) not in self.covered:
            return None
        if rule.when is not None and not rule.when(obj):
            return None
        match rule.verb:
            case Verb.RECREATE:
                made = _renewed(rule, obj)
                if _without_name(self, obj, made):
                    return self.strip(obj, UNIMPORTABLE)
                self.hit(obj, rule, Action.RECREATED, rule.did or RENEWED)
                return made
            case Verb.SNAPSHOT:
                return self._snapshot(rule, obj)
            case Verb.TRIM:
                return self._trim(rule, obj)
            case Verb.REPLACE:
                return self._replace(rule, obj)
            case Verb.OBSERVE:
                self.hit(obj, rule, Action.OBSERVED, rule.did or "stored it as it is")
                return None
            case _:
                return self.strip(obj, rule)

    def as_declared(self, fields: Mapping[str, Marker], state: object) -> object:
        """Return the state of an object with what its markers say of its fields.

        Args:
            fields: The markers by the names of the fields.
            state: What pickle would store; only dicts of attributes, and those of slots, change.
        """
        if type(state) is tuple and len(state) == 2:  # attributes, and those in slots
            state = tuple(self.as_declared(fields, part) for part in state)
        elif type(state) is dict:
            kept = {}
            for name, held in state.items():
                marker = fields.get(name)
                if name in _NESTED and type(held) is dict:
                    kept[name] = self.as_declared(fields, held)
                elif marker is None or held is None:
                    kept[name] = held
                elif marker is not Marker.LEAVE_OUT:
                    kept[name] = self._marked(marker, held)
            state = kept
        self.kept.append(state)
        return state

    def _marked(self, marker: Marker, held: object) -> object:
        rule = self.table.book.lookup(type(held))
        made: object
        if marker is Marker.ALLOW:
            self.allowed.add(id(held))
            return held
        if marker is Marker.RECREATE:
            if rule is not None and rule.verb is Verb.RECREATE:
                made = Fresh(_renewed(rule, held))
            elif _can_be_made(type(held)):
                made = Fresh((type(held), ()))
            else:
                return held  # it is reported as if unmarked
        else:
            known = rule is not None and rule.verb is Verb.SNAPSHOT and rule.make is not None
            make = rule.make if rule is not None and known and rule.make else current_values
            try:
                made = make(held)
            except (RecursionError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001  # it is stored, and reported, as if unmarked
                report_internal(f"a snapshot of {type_text(qualified_name(type(held)))}", error)
                return held
            if type(made) is ByName:
                return held
        self.kept.append(made)
        return made

    def _snapshot(self, rule: Rule, obj: object) -> Reduced:
        made = (rule.make or current_values)(obj)
        inner = self.table.book.lookup(type(made))
        if inner is not None and inner.verb is Verb.REPLACE:
            return self._silently(obj, made)
        found = self.hit(obj, rule, Action.SNAPSHOTTED, rule.did or "stored a snapshot of it")
        if type(made) is ByName:
            return str(made)
        self.kept.append(made)  # ids stay valid, and the proxy's target is memoised, while it lives
        self.behind[id(obj)] = made
        self.covered[id(made)] = found
        return operator.getitem, ((made,), 0)

    def _replace(self, rule: Rule, obj: object) -> Reduced | None:
        assert rule.make is not None  # noqa: S101  # Rule has seen to it
        made = rule.make(obj)
        return None if made is obj else self._silently(obj, made)

    def _silently(self, obj: object, made: object) -> Reduced:
        """Store `made` for `obj`, as the application wants it; a proxy's hit falls with it."""
        outer = self.covered.get(id(obj))
        if outer in self.hits:
            self.hits.remove(outer)
        self.kept.append(made)
        return operator.getitem, ((made,), 0)

    def _trim(self, rule: Rule, obj: object) -> Reduced | None:
        reduced = reduce_as_pickle_does(obj)
        trimmed = rule.make(obj, reduced) if rule.make is not None else None
        if trimmed is None:
            return None
        changed, left_out, *did = trimmed
        outer = self.covered.get(id(obj))
        if did:
            self.hit(obj, rule, Action.SNAPSHOTTED, did[0] or rule.did)
        elif outer is not None:
            outer.did = rule.did
        for leaf in left_out:
            found = self.hit(leaf, rule, Action.LEFT_OUT, rule.did or "stored the rest without it")
            found.holder = obj
        self.kept.append(changed)
        return changed  # type: ignore[no-any-return]


_running: ContextVar[Dump] = ContextVar("contextcache_dump")


def reduce_unverified(obj: object) -> Reduced:
    """Reduce an object of a type not known to be sound."""
    dump = _running.get()
    cls = type(obj)
    try:
        reduced: Reduced = copyreg.dispatch_table.get(cls, reduce_as_pickle_does)(obj)
        nameless = _without_name(dump, obj, reduced)
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # 3.14 changed the types; any of them is an offender
        return dump.strip(obj, _refusal(cls, error))
    if nameless:
        return dump.strip(obj, UNIMPORTABLE)
    if not dump.table.known(cls).sound:
        dump.met.setdefault(cls, obj)
    return reduced


def _refusal(cls: type, error: Exception) -> Rule:
    """Tell a type that refuses from a pickling method that raised by accident."""
    if type(error).__name__ == "SynchronousOnlyOperation":  # of Django: a QuerySet in async code
        return UNAWAITED
    if type(error).__name__ == "ContentNotRenderedError":  # of Django: a TemplateResponse
        return UNRENDERED
    own = any(
        name in base.__dict__
        for base in class_mro(cls)[:-1]
        if base.__flags__ & _HEAP_TYPE
        for name in ("__reduce__", "__reduce_ex__", "__getstate__")
    )
    refuses = isinstance(error, (TypeError, pickle.PicklingError, NotImplementedError))
    return RAISED if own and not (refuses and _on_purpose(error)) else REFUSES


def _on_purpose(error: Exception) -> bool:
    """Return True if a pickling method raised `error` by a statement of its own, or none ran."""
    inner = error.__traceback__.tb_next if error.__traceback__ is not None else None
    if inner is None:  # raised in C
        return True
    code = inner.tb_frame.f_code
    return inner.tb_next is None and opname[code.co_code[inner.tb_lasti]] == "RAISE_VARARGS"


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class made by a class statement


def holds(rule: Rule, obj: object) -> bool:
    """Tell whether `rule` is about this object of its type, too."""
    try:
        return not rule.behind and (rule.when is None or rule.when(obj))
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # whoever dumps the object reports it
        return False


def reduce_by_rule(rule: Rule) -> Reducer:
    """Return what reduces the objects of a type as its rule says."""

    def reduce(obj: object) -> Reduced:
        dump = _running.get()
        if id(obj) in dump.allowed:
            try:
                return reduce_as_pickle_does(obj)
            except (RecursionError, MemoryError):
                raise
            except Exception:  # noqa: BLE001, S110  # it cannot be stored: an offender after all
                pass
        try:
            reduced = dump.apply(rule, obj)
        except NothingThere as nothing:
            words = {"reason": nothing.reason, "fix": nothing.fix} if nothing.reason else {}
            return dump.strip(obj, dataclasses.replace(rule, **words))  # type: ignore[arg-type]
        except (RecursionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # a broken rule must not break the write
            report_internal(f"the rule for {rule.type}", error)
            reduced = None
        return reduce_unverified(obj) if reduced is None else reduced

    return reduce


@once_per_class
def _can_be_made(cls: type) -> bool:
    """Tell whether `cls` needs no arguments, which a reader would find out too late."""
    try:
        cls()
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # a constructor may raise anything
        name = type_text(qualified_name(cls))
        report_internal(f"the marker Recreate of a field with a {name}", error)
        return False
    return True


def _renewed(rule: Rule, obj: object) -> tuple[object, tuple[object, ...]]:
    if rule.uniform is not None:
        return rule.uniform(type(obj))
    if rule.make is not None:
        return rule.make(obj)  # type: ignore[no-any-return]
    return type(obj), ()


def reduce_alike(reduced: Reduced) -> Reducer:
    """Recreate objects that are all alike: a lock in each of many rows is no rare thing."""
    running = _running.get

    def reduce(obj: object) -> Reduced:
        running().bare.append(obj)
        return reduced

    return reduce


def reduce_by_name(obj: Any) -> Reduced:
    """Reduce a class that has a metaclass as pickle does: by its name."""
    if not importable(obj):
        return _running.get().strip(obj, UNIMPORTABLE)
    name: str = obj.__qualname__
    return name


def reduce_leaving_out(names: frozenset[str], otherwise: Reducer) -> Reducer:
    """Leave out attributes that offend and for which the class has a default of its own."""

    def reduce(obj: object) -> Reduced:
        dump = _running.get()
        reduced = otherwise(obj)
        if not isinstance(reduced, tuple) or len(reduced) < 3 or type(reduced[2]) is not dict:
            return reduced
        state = dict(reduced[2])
        for name in names & state.keys():
            rule = dump.table.strips(state[name])
            if rule is not None:
                leaf = state.pop(name)
                did = "left the attribute out; on load the default of the class applies"
                found = dump.hit(leaf, rule, Action.LEFT_OUT, did)
                found.holder, found.name = obj, name
        dump.kept.append(state)
        return (*reduced[:2], state, *reduced[3:])

    return reduce


def reduce_as_declared(fields: Mapping[str, Marker], otherwise: Reducer) -> Reducer:
    """Do with marked fields what their class says, and report nothing."""

    def reduce(obj: object) -> Reduced:
        dump = _running.get()
        reduced = otherwise(obj)
        if type(reduced) is not tuple or len(reduced) < 3:
            return reduced
        if not dump.table.known(type(obj)).sound:
            dump.met.setdefault(type(obj), obj)  # what is made anew must be tried once, too
        return (*reduced[:2], dump.as_declared(fields, reduced[2]), *reduced[3:])

    return reduce


class Fresh:
    """What is stored for a field that is made anew on load.

    Args:
        reduced: The callable that makes it, and its arguments.
    """

    __slots__ = ("_reduced",)

    def __init__(self, reduced: tuple[object, ...]) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple[object, ...]:
        return self._reduced


def reduce_if_loadable(obj: object) -> Reduced:
    """Reduce an object of a suspect type if it loads again, and strip it if it does not."""
    dump = _running.get()
    key = id(obj)
    if key not in dump.verdicts:
        dump.verdicts[key] = None  # met again inside itself: the outer trial decides
        dump.kept.append(obj)
        dump.verdicts[key] = failed_trial(dump, obj)
    failed = dump.verdicts[key]
    if failed is None:
        return dump.table.untried(type(obj))(obj)
    rule = UNLOADABLE
    if failed.failure:
        rule = dataclasses.replace(rule, reason=f"loading it raised {failed.failure}")
    stripped = dump.strip(obj, rule)
    dump.hits[-1].inside = failed
    return stripped


def failed_trial(dump: Dump, obj: object) -> Dump | None:
    """Dump `obj` by itself, with what is known in `dump`; return that dump if it does not load."""
    trial = Dump(dump.table, dump.label, capture=dump.captured is not None)
    trial.verdicts = dump.verdicts
    try:
        payload = trial.careful(obj)
        trial.all_hits()
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # what cannot be stored by itself does not load, either
        trial.failure = _raised(error)
        return trial
    trial.failure = load_failure(payload)
    return trial if trial.failure else None


def loads_again(payload: bytes) -> bool:
    """Return True if `payload` loads; raises what `load_failure` raises."""
    return not load_failure(payload)


def load_failure(payload: bytes) -> str:
    """Say what loading `payload` raises and where, without its text; empty if it loads.

    The unpickler does not recurse, so a `RecursionError` comes from a method of the value, such as
    a `__getattr__` that asks for itself. Only where the stack is used up by others it is raised.

    Raises:
        RecursionError: There is too little room on the stack to find out.
        MemoryError: There is too little memory.
    """
    try:
        pickle.loads(payload)
    except MemoryError:
        raise
    except RecursionError as error:
        raised = _raised(error)
        _use_stack(LEAST_ROOM)
        return raised
    except Exception as error:  # noqa: BLE001  # whatever a constructor raises, the reader would meet it
        return _raised(error)
    return ""


def _raised(error: BaseException) -> str:
    """Name an exception and the method of the application that raised it, or else the innermost."""
    traceback = error.__traceback__
    at, line = None, 0
    while traceback is not None and (traceback := traceback.tb_next) is not None:
        code = traceback.tb_frame.f_code
        if at is None or not is_library(code.co_filename) or is_library(at.co_filename):
            at, line = code, traceback.tb_lineno
    name = error_name(error)
    return name if at is None else f"{name} in {type_text(at.co_qualname)}, line {line}"


def _use_stack(levels: int) -> None:
    """Raise a `RecursionError` if there is no room for so many calls, in Python or in C."""
    if levels:
        _use_stack(levels - 1)
        return
    nested: list[object] = []
    for _ in range(LEAST_ROOM):
        nested = [nested]
    pickle.dumps(nested, PROTOCOL)


class _CarefulPickler(pickle.Pickler):
    """Ask about every object, functions and classes included."""

    def __init__(self, file: io.BytesIO, dump: Dump) -> None:
        super().__init__(file, PROTOCOL)
        self._dump = dump

    def reducer_override(self, obj: Any) -> Any:
        dump = self._dump
        cls = type(obj)
        if cls is FunctionType or cls is type:
            if any(obj is known for known in NAMELESS) or dump.can_import(obj):
                return NotImplemented
            return dump.strip(obj, UNIMPORTABLE)
        try:
            reducer = dump.table[cls]
        except (RecursionError, MemoryError):
            raise
        except Exception:  # noqa: BLE001  # a metaclass whose __hash__ raises: pickle asks for it, too
            return dump.strip(obj, REFUSES)
        if reducer is not reduce_plainly and not _is_ours(reducer):
            reducer = reduce_unverified  # it was sound so far; here every object is asked about
        elif reducer is reduce_plainly and cls is not Fresh and not dump.can_import(cls):
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
            if dump.repeated > MOST_REPEATS:
                raise SelfReferenceError(obj)
        items = {at: list(reduced[at]) for at in range(3, min(5, len(reduced))) if reduced[at]}
        if not items:
            captured[id(obj)] = (obj, reduced)
            return reduced
        captured[id(obj)] = obj, tuple(items.get(at, part) for at, part in enumerate(reduced))
        return tuple(iter(items[at]) if at in items else part for at, part in enumerate(reduced))


_PythonPickler: Any = pickle._Pickler
_BUILT_IN = frozenset(map(id, _PythonPickler.dispatch))


class _CleaningPickler(_PythonPickler):  # type: ignore[misc]
    """Pickle in Python, which asks about builtin containers, too, without credentials in them.

    Attributes:
        found: Whether any were found.
        cleaned: Whether something was stored in another form because of that.
    """

    def __init__(self, file: io.BytesIO, dump: Dump, credentials: Credentials) -> None:
        super().__init__(file, PROTOCOL)
        self._dump = dump
        self._careful = _CarefulPickler(io.BytesIO(), dump)
        self._credentials = credentials
        self._changed: dict[int, object] = {}
        self._above: list[object] = []
        self.found = self.cleaned = False

    def reducer_override(self, obj: Any) -> Any:
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
            self._dump.kept += [obj, stored]
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


def _is_ours(reducer: object) -> bool:
    return isinstance(reducer, FunctionType) and reducer.__module__ == __name__


NAMELESS = (NoneType, EllipsisType, NotImplementedType)  # pickle knows them itself


def _without_name(dump: Dump, obj: object, reduced: object) -> bool:
    """Tell whether `reduced` names a class or function that a reader could not import."""
    if isinstance(reduced, str):
        return not importable(obj, reduced)
    if not isinstance(reduced, tuple) or len(reduced) < 2 or type(reduced[1]) is not tuple:
        return True
    function, arguments = reduced[0], reduced[1]
    if type(function) is MethodType:
        function = function.__self__
    if has_a_name(function) and not dump.can_import(function):
        return True
    if not arguments or not issubclass(type(arguments[0]), type):
        return False
    cls = arguments[0]
    if getattr(function, "__name__", "") in ("__newobj__", "__newobj_ex__"):
        # pickle insists on this, and says "has the wrong class" of a proxy that lies about it
        return cls is not obj.__class__ or not dump.can_import(cls)
    return cls is type(obj) and not dump.can_import(cls)


def has_a_name(obj: object) -> bool:
    """Return True for a class or function, which pickle stores by name."""
    # `in` would ask a metaclass for its `__eq__`; issubclass of a builtin asks nobody
    return type(obj) is FunctionType or issubclass(type(obj), type)


_HOOKS = (
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
    "__getnewargs_ex__", "__new__", "__getattr__", "__getattribute__", "__setattr__", "__class__",
)  # fmt: skip


def is_plain(cls: type) -> bool:
    """Tell whether `cls` is an ordinary class that leaves pickling and attributes to `object`.

    Its objects can always be reduced, and they load whatever they hold, so no trial is needed.
    """
    if type(cls) is not type or not importable(cls):
        return False
    bases = class_mro(cls)[:-1]
    return not any(
        is_native(base) or any(name in base.__dict__ for name in _HOOKS) for base in bases
    )
