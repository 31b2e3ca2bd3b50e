"""What is stored in the place of an offender, by the verb of its rule."""

from __future__ import annotations

import operator
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from contextcache.base.classes import once_per_class
from contextcache.base.importing import importable, is_only_here
from contextcache.base.introspection import qualified_name
from contextcache.base.masking import type_text
from contextcache.findings.finding import Action
from contextcache.payload.wire import PROTOCOL
from contextcache.reports.reporter import report_internal
from contextcache.rules.annotations import Marker
from contextcache.rules.replacements import ByName, current_values
from contextcache.rules.rule import Verb
from contextcache.rules.verdicts import ONLY_HERE, UNIMPORTABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from contextcache.engine.dump import Dump
    from contextcache.rules.rule import Rule, Verdict

    Reduced = str | tuple[Any, ...]
    Reducer = Callable[[Any], Reduced]

reduce_as_pickle_does: Reducer = operator.methodcaller("__reduce_ex__", PROTOCOL)

DID_RECREATE = "stored the rest; on load this field is a new one"
_NESTED = ("__dict__", "__pydantic_private__")  # where pydantic's state has the attributes


def apply(dump: Dump, rule: Rule, obj: object) -> Reduced | None:
    """Treat `obj` as `rule` says; None means that it is no offender after all.

    Raises:
        NothingThere: If there is nothing behind it, so that it can only be stripped.
    """
    if rule.behind and id(obj) not in dump.hit_by_target_id:
        return None
    if rule.when is not None and not rule.when(obj):
        return None
    match rule.verb:
        case Verb.RECREATE:
            made = _renewed(rule, obj)
            if without_name(dump, obj, made):
                return dump.strip(obj, unimportable(obj))
            dump.hit(obj, rule, Action.RECREATED, rule.did or DID_RECREATE)
            return made
        case Verb.SNAPSHOT:
            return _snapshot(dump, rule, obj)
        case Verb.TRIM:
            return _trim(dump, rule, obj)
        case Verb.REPLACE:
            return _replace(dump, rule, obj)
        case Verb.OBSERVE:
            dump.hit(obj, rule, Action.OBSERVED, rule.did or "stored it as it is")
            return None
        case _:
            return dump.strip(obj, rule)


def as_declared(dump: Dump, fields: Mapping[str, Marker], state: object) -> object:
    """Return the state of an object with what its markers say of its fields.

    Args:
        dump: The dump that runs.
        fields: The markers by the names of the fields.
        state: What pickle would store; only dicts of attributes, and those of slots, change.
    """
    if type(state) is tuple and len(state) == 2:  # attributes, and those in slots
        state = tuple(as_declared(dump, fields, part) for part in state)
    elif type(state) is dict:
        kept = {}
        for name, held in state.items():
            marker = fields.get(name)
            if name in _NESTED and type(held) is dict:
                kept[name] = as_declared(dump, fields, held)
            elif marker is None or held is None:
                kept[name] = held
            elif marker is not Marker.LEAVE_OUT:
                kept[name] = _marked(dump, marker, held)
        state = kept
    dump.keepalive.append(state)
    return state


def _marked(dump: Dump, marker: Marker, held: object) -> object:
    rule = dump.table.book.lookup(type(held))
    made: object
    if marker is Marker.ALLOW:
        dump.allowed.add(id(held))
        return held
    if marker is Marker.RECREATE:
        if rule is not None and rule.verb is Verb.RECREATE:
            made = Recreated(_renewed(rule, held))
        elif _can_be_made(type(held)):
            made = Recreated((type(held), ()))
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
    dump.keepalive.append(made)
    return made


def _snapshot(dump: Dump, rule: Rule, obj: object) -> Reduced:
    made = (rule.make or current_values)(obj)
    inner = dump.table.book.lookup(type(made))
    if inner is not None and inner.verb is Verb.REPLACE:
        return _substitute(dump, obj, made)
    found = dump.hit(obj, rule, Action.SNAPSHOTTED, rule.did or "stored a snapshot of it")
    if type(made) is ByName:
        return str(made)
    if found.leaf is obj:  # else it is what a proxy stands for
        found.target = made
    # While it lives, ids stay valid, and the proxy's target is memoised.
    dump.keepalive.append(made)
    dump.replacement_by_id[id(obj)] = made
    dump.hit_by_target_id[id(made)] = found
    return operator.getitem, ((made,), 0)


def _replace(dump: Dump, rule: Rule, obj: object) -> Reduced | None:
    assert rule.make is not None  # noqa: S101  # Rule has seen to it
    made = rule.make(obj)
    return None if made is obj else _substitute(dump, obj, made)


def _substitute(dump: Dump, obj: object, made: object) -> Reduced:
    """Store `made` for `obj`, as the application wants it; a proxy's hit falls with it."""
    outer = dump.hit_by_target_id.get(id(obj))
    if outer in dump.hits:
        dump.hits.remove(outer)
    dump.keepalive.append(made)
    return operator.getitem, ((made,), 0)


def _trim(dump: Dump, rule: Rule, obj: object) -> Reduced | None:
    try:
        reduced = reduce_as_pickle_does(obj)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # what its own method raises is reported by who calls it next
        return None
    trimmed = rule.make(obj, reduced) if rule.make is not None else None
    if trimmed is None:
        return None
    changed, left_out, *did = trimmed
    outer = dump.hit_by_target_id.get(id(obj))
    if did:
        dump.hit(obj, rule, Action.SNAPSHOTTED, did[0] or rule.did)
    elif outer is not None:
        outer.did = rule.did
    for leaf in left_out:
        found = dump.hit(leaf, rule, Action.LEFT_OUT, rule.did or "stored the rest without it")
        found.holder = obj
    dump.keepalive.append(changed)
    return changed  # type: ignore[no-any-return]


@once_per_class
def _can_be_made(cls: type) -> bool:
    """Return True if `cls` needs no arguments, which a reader would find out too late."""
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


class Recreated:
    """What is stored for a field that is made anew on load.

    Args:
        reduced: The callable that makes it, and its arguments.
    """

    __slots__ = ("_reduced",)

    def __init__(self, reduced: tuple[object, ...]) -> None:
        self._reduced = reduced

    def __reduce__(self) -> tuple[object, ...]:
        return self._reduced


def without_name(dump: Dump, obj: object, reduced: object) -> bool:
    """Return True if `reduced` names a class or function that a reader could not import."""
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


def unimportable(obj: object) -> Verdict:
    """Return the verdict about what no other process finds by its name."""
    return ONLY_HERE if is_only_here(obj if has_a_name(obj) else type(obj)) else UNIMPORTABLE


def has_a_name(obj: object) -> bool:
    """Return True for a class or function, which pickle stores by name."""
    # `in` would ask a metaclass for its `__eq__`; issubclass of a builtin asks nobody
    return type(obj) is FunctionType or issubclass(type(obj), type)
