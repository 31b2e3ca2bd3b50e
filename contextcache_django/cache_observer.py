"""Observing the caches that are not ours: the middleware alone, with nothing else changed.

What is written to them is looked at as with mode `warn`, and stored by whoever stored it before.
The seam is the one object that hands out Django's caches: those it makes from now on, and those
it has, get a subclass of their class that looks at values and passes them on.
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from contextcache import Guard, current_scope
from contextcache.base.classes import derived
from contextcache.storage.keyed_guard import label_of
from contextcache_django.aliases import is_guarded
from contextcache_django.conf import backend_label, guard_for, observes

if TYPE_CHECKING:
    from collections.abc import Iterator


def observe_caches() -> None:
    """Report what is written to each cache alias without a guard, from now on."""
    if "create_connection" not in vars(caches):
        make = caches.create_connection
        caches.create_connection = lambda alias: _observed(make(alias), alias)  # type: ignore[method-assign]
    for alias in caches:
        if hasattr(caches._connections, alias):  # type: ignore[attr-defined]
            _observed(caches[alias], alias)


class Observed(BaseCache):
    """Looks at what is written; stands before the class of a backend that is not ours."""

    _contextcache_alias: str

    def set(self, key: Any, value: Any, *args: Any, **options: Any) -> Any:
        """Look at `value`, and store it."""
        with _looking(self, {key: value}):
            return super().set(key, value, *args, **options)

    async def aset(self, key: Any, value: Any, *args: Any, **options: Any) -> Any:
        """Look at `value`, and store it."""
        with _looking(self, {key: value}):
            return await super().aset(key, value, *args, **options)

    def get(self, key: Any, *args: Any, **options: Any) -> Any:
        """Return the value; what a session holds when it is read, this request has not set."""
        value = super().get(key, *args, **options)
        if type(value) is dict and label_of(key) == "session":
            scope = current_scope()
            if scope is not None:
                scope.note_loaded(value)
        return value

    def add(self, key: Any, value: Any, *args: Any, **options: Any) -> bool:
        """Look at `value`, and store it where nothing is."""
        with _looking(self, {key: value}):
            return super().add(key, value, *args, **options)

    async def aadd(self, key: Any, value: Any, *args: Any, **options: Any) -> bool:
        """Look at `value`, and store it where nothing is."""
        with _looking(self, {key: value}):
            return await super().aadd(key, value, *args, **options)

    def set_many(self, data: dict[Any, Any], *args: Any, **options: Any) -> list[Any]:
        """Look at each value, and store them."""
        with _looking(self, data):
            return super().set_many(data, *args, **options)

    async def aset_many(self, data: dict[Any, Any], *args: Any, **options: Any) -> list[Any]:
        """Look at each value, and store them."""
        with _looking(self, data):
            return await super().aset_many(data, *args, **options)


# Whether the write at hand has been looked at: backends call one method of theirs from another.
_looked: ContextVar[bool] = ContextVar("contextcache_looked", default=False)

_AS_IT_IS = {"MODE": "warn", "SIGN": False, "COMPRESS": ""}


class Observer(Guard):
    """Reports, in whatever mode the project is, and changes nothing."""

    WARN_REASON = "nothing guards this cache"


@contextlib.contextmanager
def _looking(cache: Observed, data: dict[Any, Any]) -> Iterator[None]:
    if _looked.get() or not observes():
        yield
        return
    kind = type(cache).__mro__[2]
    label = backend_label(f"{kind.__module__}.{kind.__qualname__}")
    sink = f"cache {cache._contextcache_alias!r} in {label}"
    guard = guard_for(sink, _AS_IT_IS, guard_class=Observer)
    for key, value in data.items():
        if type(value) not in _SCALARS:
            # It has been reported; and where it is a failure of ours, the write is to go on.
            with contextlib.suppress(Exception):
                guard.dumps(value, label=label_of(key))
    token = _looked.set(True)
    try:
        yield
    finally:
        _looked.reset(token)


_SCALARS = frozenset({bool, bytes, float, int, str, type(None)})


def _observed(cache: Any, alias: str) -> Any:
    kind: Any = type(cache)
    # What is no BaseCache would get the methods of one, which do nothing but raise.
    if issubclass(kind, BaseCache) and not (issubclass(kind, Observed) or is_guarded(alias)):
        # A class with __slots__ or one written in C cannot be changed, and is left as it is.
        with contextlib.suppress(TypeError):
            cache.__class__ = derived(kind, Observed)
            cache._contextcache_alias = alias
    return cache
