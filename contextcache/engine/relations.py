"""The words of Django for what its rows and querysets hold in private attributes.

A developer reaches the user of a row as `row.user`, not through `_state.fields_cache`. Nothing
here runs a descriptor or a query: only what is already loaded is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.base.classes import once_per_class
from contextcache.base.introspection import attributes, class_mro, instance_dict, qualified_name
from contextcache.findings.path import Step, StepKind, attribute

if TYPE_CHECKING:
    from collections.abc import Callable

    Relations = list[tuple[tuple[Step, ...], object]]


def relations(obj: object) -> Relations:
    """Return what a row, a queryset or a lazy object leads to, with the steps to each."""
    find = _finder(type(obj))
    return find(obj) if find is not None else []


def hides_attributes(cls: type) -> bool:
    """Return True if no developer uses the attributes of the objects of `cls` themselves."""
    return _finder(cls) in (_rows, _wrapped)


@once_per_class
def _finder(cls: type) -> Callable[[Any], Relations] | None:
    for base in class_mro(cls)[:-1]:
        find = _FINDERS.get(qualified_name(base))
        if find is not None:
            return find
    return None


def _related(row: Any) -> Relations:
    own = instance_dict(row) or {}
    cached = attributes(own.get("_state")).get("fields_cache")
    prefetched = own.get("_prefetched_objects_cache")
    found: Relations = []
    for name, held in dict(cached).items() if type(cached) is dict else ():
        found.append(((attribute(name),), held))
    for name, held in dict(prefetched).items() if type(prefetched) is dict else ():
        found.append(((attribute(_accessor(row, name)), Step(StepKind.CALL, "all")), held))
    return found


def _accessor(row: Any, name: str) -> str:
    """Return the name of the manager whose rows are prefetched under `name`.

    A reverse relation to many goes by the name that filters use, not by that of its manager.
    """
    for relation in type(row)._meta.related_objects:
        if relation.many_to_many and relation.field.related_query_name() == name:
            return str(relation.get_accessor_name())
    return name


def _rows(queryset: Any) -> Relations:
    rows = (instance_dict(queryset) or {}).get("_result_cache")
    if type(rows) is not list:
        return []
    return [((Step(StepKind.ITEM, at),), row) for at, row in enumerate(rows)]


def _wrapped(lazy: Any) -> Relations:
    held = (instance_dict(lazy) or {}).get("_wrapped")
    return [((), held)] if type(held) is not object else []  # Django's mark for "not evaluated"


_FINDERS: dict[str, Callable[[Any], Relations]] = {
    "django.db.models.base.Model": _related,
    "django.db.models.query.QuerySet": _rows,
    "django.utils.functional.LazyObject": _wrapped,
}
