"""A lock for short updates that signal handlers, finalizers and forked children may run into."""

from __future__ import annotations

import os
from _thread import RLock
from typing import Any, TypeVar
from weakref import WeakSet

_Key = TypeVar("_Key")


class ProcessLock(RLock):  # type: ignore[misc]  # final in typeshed only
    """A re-entrant lock that a forked child finds free.

    A signal handler, a `__del__` or the callback of a weak reference may write to a cache while
    the thread that runs it holds this lock, so it must let that thread in again. What it protects
    is therefore changed by single operations that leave it valid after each.

    It is entered and left in C: an exception that a signal handler raises comes before or after
    that, so it never leaves the lock held.
    """

    __slots__ = ()

    def __init__(self) -> None:
        _locks.add(self)


_locks: WeakSet[ProcessLock] = WeakSet()


def _free_after_fork() -> None:
    """Free what a thread that is not in the child held at the moment of the fork."""
    for lock in list(_locks):
        if not lock._is_owned():  # type: ignore[attr-defined]  # a handler may fork inside of it
            lock._at_fork_reinit()  # type: ignore[attr-defined]  # as threading and logging do


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_after_fork)


def forget_oldest(mapping: dict[_Key, Any]) -> _Key | None:
    """Remove the key that was added first and return it, whatever interrupts."""
    oldest = None
    for oldest in mapping:  # noqa: B007  # `next(iter(…))` may be interrupted between the two
        break
    if oldest is not None:
        mapping.pop(oldest, None)
    return oldest
