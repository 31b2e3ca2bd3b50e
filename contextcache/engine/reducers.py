"""Reducers: what the C pickler is answered for the objects of a type."""

from __future__ import annotations

import copyreg
import dataclasses
import operator
import pickle
import sys
from array import array
from collections import deque
from dis import opname
from types import (
    EllipsisType,
    FunctionType,
    MemberDescriptorType,
    MethodDescriptorType,
    NoneType,
    NotImplementedType,
)
from typing import TYPE_CHECKING, Any

from contextcache.base.classes import has_slots, is_ordinary
from contextcache.base.importing import importable
from contextcache.base.introspection import attributes, class_mro
from contextcache.engine.handles import holds_handle
from contextcache.engine.hits import running
from contextcache.engine.trial import Failure, load_failure, raised_by
from contextcache.engine.verbs import (
    apply,
    as_declared,
    reduce_as_pickle_does,
    unimportable,
    without_name,
)
from contextcache.findings.finding import Action
from contextcache.payload.wire import PROTOCOL
from contextcache.reports.call_site import is_installed
from contextcache.reports.reporter import report_internal
from contextcache.rules.replacements import NothingThere
from contextcache.rules.verdicts import (
    LOSES_ATTRIBUTES,
    LOST_HANDLE,
    RAISED,
    REFUSES,
    UNAWAITED,
    UNLOADABLE,
    UNRENDERED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contextcache.engine.dump import Dump
    from contextcache.engine.verbs import Reduced, Reducer
    from contextcache.rules.annotations import Marker
    from contextcache.rules.rule import Rule, Verdict


def _reduce_ordinary(obj: Any) -> Reduced:
    """Return class and attributes of an object of a class for which `is_plain` is true."""
    state = obj.__dict__
    if "__getstate__" in state or "__reduce_ex__" in state:
        return reduce_as_pickle_does(obj)  # which asks the object for both, not its class
    return copyreg.__newobj__, (type(obj),), state or None  # type: ignore[attr-defined]


NAMELESS = (NoneType, EllipsisType, NotImplementedType)  # pickle knows them itself


# C does the same in twice the time, for it asks the object for each of the hooks it could have.
# But the pickler of 3.15.0 never ends if another thread changes a dict while a method runs.
reduce_plainly: Reducer = (
    _reduce_ordinary
    if sys.version_info < (3, 15)
    else operator.methodcaller("__reduce_ex__", PROTOCOL)
)
"""Reduces the objects of a class for which `is_plain` is true."""


def reduce_unverified(obj: object) -> Reduced:
    """Reduce an object of a type not known to be sound."""
    dump = running.get()
    cls = type(obj)
    try:
        reduced: Reduced = copyreg.dispatch_table.get(cls, reduce_as_pickle_does)(obj)
        nameless = without_name(dump, obj, reduced)
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # 3.14 changed the types; any of them is an offender
        return dump.strip(obj, _refusal(cls, error))
    if nameless:
        is_reduced = type(reduced) in (str, tuple) and len(reduced) > 1
        return dump.strip(obj, unimportable(obj) if is_reduced else RAISED)
    if not dump.table.known(cls).sound:
        dump.unverified.setdefault(cls, obj)
    return reduced


def _refusal(cls: type, error: Exception) -> Verdict:
    """Tell a type that refuses from code of the application that raised by accident."""
    if type(error).__name__ == "SynchronousOnlyOperation":  # of Django: a QuerySet in async code
        return UNAWAITED
    if type(error).__name__ == "ContentNotRenderedError":  # of Django: a TemplateResponse
        return UNRENDERED
    frame = error.__traceback__.tb_next if error.__traceback__ is not None else None
    called = frame.tb_frame.f_code.co_name if frame is not None else ""
    ran = called in _CALLED or (bool(called) and cls in copyreg.dispatch_table)
    if called and isinstance(error, _REFUSALS) and _on_purpose(error):
        return REFUSES
    # C complains about what `__getnewargs__` returns, in a TypeError
    own = _ARGUMENTS if isinstance(error, _REFUSALS) else _ARGUMENTS + _STORING
    return RAISED if ran or _defines(cls, own) else REFUSES


_STORING = ("__reduce__", "__reduce_ex__", "__getstate__")
_ARGUMENTS = ("__getnewargs__", "__getnewargs_ex__")
_CALLED = (*_STORING, *_ARGUMENTS, "__iter__", "items")
_REFUSALS = (TypeError, pickle.PicklingError, NotImplementedError)


def _defines(cls: type, names: tuple[str, ...]) -> bool:
    """Return True if a class on the way to `object` defines a method of these names in Python."""
    return any(
        name in base.__dict__ and type(base.__dict__[name]) is not MethodDescriptorType
        for base in class_mro(cls)[:-1]
        for name in names
    )


def _on_purpose(error: Exception) -> bool:
    """Return True if a pickling method raised `error` by a statement of its own."""
    inner = error.__traceback__.tb_next if error.__traceback__ is not None else None
    if inner is None:
        return False
    code = inner.tb_frame.f_code
    return inner.tb_next is None and opname[code.co_code[inner.tb_lasti]] == "RAISE_VARARGS"


def holds(rule: Rule, obj: object) -> bool:
    """Return True if `rule` is about this object of its type, too."""
    try:
        return not rule.behind and (rule.when is None or rule.when(obj))
    except NothingThere:
        return True
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # the dump of the object reports it
        return False


def reduce_by_rule(rule: Rule) -> Reducer:
    """Return what reduces the objects of a type as its rule says."""

    def reduce(obj: object) -> Reduced:
        dump = running.get()
        if id(obj) in dump.allowed:
            try:
                return reduce_as_pickle_does(obj)
            except (RecursionError, MemoryError):
                raise
            except Exception:  # noqa: BLE001, S110  # it cannot be stored: an offender after all
                pass
        try:
            reduced = apply(dump, rule, obj)
        except NothingThere as nothing:
            if not nothing.reason:
                return dump.strip(obj, rule)
            words = {"reason": nothing.reason, "fix": nothing.fix}
            code = nothing.code or rule.code
            return dump.strip(obj, dataclasses.replace(rule, code=code, **words))  # type: ignore[arg-type]
        except (RecursionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # a broken rule must not break the write
            report_internal(f"the rule for {rule.type}", error)
            reduced = None
        return reduce_unverified(obj) if reduced is None else reduced

    return reduce


def reduce_alike(reduced: Reduced) -> Reducer:
    """Recreate objects that are all alike: a lock in each of many rows is no rare thing."""
    running_dump = running.get

    def reduce(obj: object) -> Reduced:
        running_dump().uniform_hits.append(obj)
        return reduced

    return reduce


def reduce_by_name(obj: Any) -> Reduced:
    """Reduce a class that has a metaclass as pickle does: by its name."""
    if not importable(obj):
        return running.get().strip(obj, unimportable(obj))
    name: str = obj.__qualname__
    return name


def reduce_leaving_out(names: frozenset[str], otherwise: Reducer) -> Reducer:
    """Leave out attributes that offend and for which the class has a default of its own."""

    def reduce(obj: object) -> Reduced:
        dump = running.get()
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
        dump.keepalive.append(state)
        return (*reduced[:2], state, *reduced[3:])

    return reduce


def reduce_with_handle(handles: frozenset[str], otherwise: Reducer) -> Reducer:
    """Cut an object of a library whole where it holds a handle of one of these types."""

    def reduce(obj: object) -> Reduced:
        return (
            running.get().strip(obj, LOST_HANDLE) if holds_handle(obj, handles) else otherwise(obj)
        )

    return reduce


def reduce_watching_attributes(obj: object) -> Reduced:
    """Reduce an object whose attributes `drops_attributes` fears for, and report their loss."""
    dump = running.get()
    known = dump.table.known(type(obj))
    is_trusted = known.sound and dump.captured is None
    reduced = reduce_as_pickle_does(obj) if is_trusted else reduce_unverified(obj)
    if isinstance(reduced, str) or (dump.hits and dump.hits[-1].leaf is obj):
        return reduced
    cls = type(obj)
    added = {name: held for name, held in attributes(obj).items() if not _is_safe(cls, name)}
    if not added.keys() <= known.restored.keys():
        if len(known.restored) > MAX_ATTRIBUTES:
            known.restored.clear()
        known.restored.update(_restored(reduced, added))
    if not all(known.restored[name] for name in added):
        dump.hit(obj, LOSES_ATTRIBUTES, Action.OBSERVED, LOSES_ATTRIBUTES.did)
    return reduced


MAX_ATTRIBUTES = 100  # of one class, of which is remembered whether they come back


def _is_safe(cls: type, name: str) -> bool:
    """Return True for a slot of the base, and what a `cached_property` computes again."""
    is_base = False
    for base in class_mro(cls):
        is_base = is_base or any(hook in base.__dict__ for hook in _STORING)
        if name in base.__dict__:
            kind = type(base.__dict__[name])
            is_computed = hasattr(kind, "__get__") and not hasattr(kind, "__set__")
            return is_computed or (is_base and kind is MemberDescriptorType)
    return False


def _restored(reduced: tuple[Any, ...], added: Mapping[str, object]) -> dict[str, bool]:
    """Return of each attribute whether pickle stores it, or the constructor sets it again."""
    state = reduced[2] if len(reduced) > 2 else None
    stored: dict[str, object] = {}
    for part in state if type(state) is tuple else (state,):
        stored.update(part if type(part) is dict else {})
    made: dict[str, object] = {}
    if not added.keys() <= stored.keys():
        try:
            made = attributes(reduced[0](*reduced[1]))
        except (RecursionError, MemoryError):
            raise
        except Exception:  # noqa: BLE001, S110  # the trial of the payload meets it again
            pass
    return {name: name in stored or _is_alike(held, made.get(name)) for name, held in added.items()}


def _is_alike(held: object, made: object) -> bool:
    return type(made) is type(held) and (type(held) not in _COMPARED or made == held)


_COMPARED = (str, bytes, int, float, bool)


def reduce_as_declared(fields: Mapping[str, Marker], otherwise: Reducer) -> Reducer:
    """Do with marked fields what their class says, and report nothing."""

    def reduce(obj: object) -> Reduced:
        dump = running.get()
        reduced = otherwise(obj)
        if type(reduced) is not tuple or len(reduced) < 3:
            return reduced
        if not dump.table.known(type(obj)).sound:
            dump.unverified.setdefault(type(obj), obj)  # what is made anew must be tried once, too
        return (*reduced[:2], as_declared(dump, fields, reduced[2]), *reduced[3:])

    return reduce


def reduce_if_loadable(obj: object) -> Reduced:
    """Reduce an object of a suspect type if it loads again, and strip it if it does not."""
    dump = running.get()
    key = id(obj)
    if key not in dump.trial_by_id:
        dump.trial_by_id[key] = None  # met again inside itself: the outer trial decides
        dump.keepalive.append(obj)
        dump.trial_by_id[key] = failed_trial(dump, obj)
    failed = dump.trial_by_id[key]
    if failed is None:
        return dump.table.untried(type(obj))(obj)
    rule = UNLOADABLE
    if failed.failure.reason:
        rule = dataclasses.replace(rule, reason=failed.failure.reason)
    stripped = dump.strip(obj, rule)
    dump.hits[-1].inside = failed if failed.failure.is_inner else None
    return stripped


def failed_trial(dump: Dump, obj: object) -> Dump | None:
    """Dump `obj` by itself, with what is known in `dump`; return that dump if it does not load."""
    trial = dump.for_trial()
    try:
        payload = trial.careful(obj)
        trial.all_hits()
    except (RecursionError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # what cannot be stored by itself does not load, either
        trial.failure = Failure(raised_by(error))
        return trial
    trial.failure = load_failure(trial, payload)
    return trial if trial.failure.reason else None


def is_reducer(reducer: object) -> bool:
    """Return True for a reducer of this module, which must not be passed over."""
    return isinstance(reducer, FunctionType) and reducer.__module__ == __name__


_KEEPERS = (set, frozenset, bytearray, deque, array)  # whose reducers in C ask for a dictionary


def drops_attributes(cls: type) -> bool:
    """Return True if a base without room for attributes says what pickle stores of a `cls`.

    That is so for subclasses of `datetime`, `Decimal`, `UUID`, `Path`, `defaultdict`, an array of
    numpy. Where a class with attributes says it, the author knew of them; so did a library, such as
    pandas, whose blocks keep what can be computed again in a dictionary of their own.
    """
    bases = class_mro(cls)[:-1]
    for at, base in enumerate(bases):
        if any(name in base.__dict__ for name in _STORING):
            return (
                not base.__dictoffset__
                and not any(base is keeper for keeper in _KEEPERS)
                and any(_adds_attributes(one) and not is_installed(one) for one in bases[:at])
            )
    return False


def _adds_attributes(cls: type) -> bool:
    return "__dict__" in cls.__dict__ or has_slots(cls)


def is_plain(cls: type) -> bool:
    """Return True if `cls` is an ordinary class that a reader finds by its name.

    Its objects can always be reduced, and they load whatever they hold, so no trial is needed.
    """
    return importable(cls) and is_ordinary(cls)
