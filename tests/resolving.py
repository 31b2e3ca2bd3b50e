"""Follow a path from a value: what proves that a path is exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import attributes
from contextcache.findings.path import Step, StepKind

if TYPE_CHECKING:
    from contextcache import Path


def resolve(path: Path, value: object) -> Any:
    """Return the object that `path` leads to from `value`.

    Attributes are read from the instance's own dictionary and slots before anything else, so no
    property runs where a plain attribute exists.

    Raises:
        LookupError: If a step leads nowhere.
    """
    for step in path.steps:
        try:
            value = _follow(value, step)
        except (AttributeError, TypeError) as error:
            raise LookupError(f"{step} leads nowhere") from error
    return value


def _follow(holder: Any, step: Step) -> object:
    name: Any = step.name
    # A subclass may answer otherwise; `type` itself is asked of a frozendict, new in 3.15.
    mapping: Any = dict if issubclass(type(holder), dict) else type(holder)
    match step.kind:
        case StepKind.ATTRIBUTE:
            own = attributes(holder)
            return own[name] if name in own else getattr(holder, name)
        case StepKind.ITEM:
            return holder[name]
        case StepKind.ELEMENT:
            return list(holder)[name]
        case StepKind.KEY:
            return list(mapping.keys(holder))[name]
        case StepKind.VALUE:
            return list(mapping.values(holder))[name]
        case StepKind.CALL:
            return getattr(holder, name)()
        case StepKind.ARGUMENT:
            return holder.__reduce_ex__(5)[1][name]
    raise LookupError(f"{step} has no accessor")
