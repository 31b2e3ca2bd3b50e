"""Model instances stored by reference: what, which one and in which database, fetched on use.

A copy of a user in the cache grows old, and carries whatever the model gains with the next
migration. A reference carries neither. It is a rule of the project's choice::

    CONTEXTCACHE = {"RULES": {"django.contrib.auth.models.User": by_reference}}
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.utils.functional import LazyObject, SimpleLazyObject, empty


def by_reference(obj: Any) -> Any:
    """Return a reference to a model instance, to be stored in its place.

    It goes into `CONTEXTCACHE["RULES"]`, for a model (a subclass included), for
    `django.contrib.auth.base_user.AbstractBaseUser`, or for
    `django.utils.functional.SimpleLazyObject`, which stands for whatever is behind it.
    What is read back is lazy: it fetches the row from the database it came from at its first
    use, and raises the model's `DoesNotExist` if the row is gone by then.

    An instance that was never saved is stored whole, because there is nothing to refer to.
    """
    found = _evaluated(obj)
    meta = getattr(type(found), "_meta", None)
    if meta is None or found._state.adding or found.pk is None:
        return found
    return Reference(meta.label, found.pk, found._state.db)


class Reference(SimpleLazyObject):  # type: ignore[type-arg]  # no generic outside of the stubs
    """A model instance that is fetched when it is used, and stored again without being fetched."""

    def __init__(self, label: str, pk: object, using: str | None) -> None:
        super().__init__(lambda: _fetch(label, pk, using))
        self.__dict__["_reference"] = label, pk, using

    def __repr__(self) -> str:
        if self._wrapped is not empty:
            return repr(self._wrapped)
        label, pk, _ = self.__dict__["_reference"]
        return f"<Reference: {label} {pk!r}>"

    def __reduce__(self) -> Any:
        return Reference, self.__dict__["_reference"]

    def __copy__(self) -> Any:
        return Reference(*self.__dict__["_reference"])

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return Reference(*self.__dict__["_reference"])


def _evaluated(obj: Any) -> Any:
    if not issubclass(type(obj), LazyObject):  # isinstance would ask what is behind it
        return obj
    if obj._wrapped is empty:
        obj._setup()
    return obj._wrapped


def _fetch(label: str, pk: object, using: str | None) -> Any:
    model: Any = apps.get_model(label)
    try:
        return model._base_manager.using(using).get(pk=pk)
    except model.DoesNotExist:
        raise model.DoesNotExist(
            f"this {label} was deleted after a reference to it was stored"
        ) from None
