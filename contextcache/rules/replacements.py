"""What the functions of rules use, each of which takes the storable part of an offender.

They are called with the offender inside a dump and return what the rule that names them asks for.
None imports a framework: they read instance dictionaries, so no property of the offender runs.
"""

from __future__ import annotations

import contextlib
import time
from _thread import _local as local
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import instance_dict

if TYPE_CHECKING:
    from collections.abc import Iterator

Reduced = tuple[Any, ...]
"""What `__reduce_ex__` returns."""

Trimmed = tuple[Any, ...]
"""What the `make` of a rule with the verb `trim` returns: see `Rule`."""


class NothingThere(Exception):  # noqa: N818  # a signal between a snapshot and its rule
    """There is nothing behind the offender to take, so it can only be stripped.

    Args:
        reason: Why, where the rule's own reason is not it.
        fix: What to do about that.
        code: The code for that, where it is not the rule's own.
    """

    def __init__(self, reason: str = "", fix: str = "", code: str = "") -> None:
        super().__init__()
        self.reason = reason
        self.fix = fix
        self.code = code


class ByName(str):
    """The name under which pickle finds an object again in its module."""

    __slots__ = ()


def now() -> str:
    """Return the present second, ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def fields(obj: object) -> dict[str, Any]:
    """Return the instance dictionary of `obj`, empty where it has none."""
    return instance_dict(obj) or {}


def current_values(obj: object) -> SimpleNamespace:
    """Return the attributes of `obj` as a plain namespace: of a thread-local, this thread's."""
    if issubclass(type(obj), local):
        return SimpleNamespace(**local.__getattribute__(obj, "__dict__"))  # type: ignore[arg-type]
    return SimpleNamespace(**fields(obj))


def state_of(reduced: object) -> dict[str, Any]:
    """Return the attributes in a reduce value; empty where the state is no dict."""
    if isinstance(reduced, tuple) and len(reduced) > 2 and type(reduced[2]) is dict:
        return reduced[2]
    return {}


def with_state(reduced: Reduced, **changes: object) -> Reduced:
    """Return a reduce value with other values for some attributes."""
    return of_state(reduced, {**reduced[2], **changes})


def of_state(reduced: Reduced, state: dict[str, Any]) -> Reduced:
    """Return a reduce value with these attributes in place of its own."""
    return (*reduced[:2], state, *reduced[3:])


@contextlib.contextmanager
def nothing_there(reason: str = "") -> Iterator[None]:
    """Say that there is nothing behind the offender where what is asked for it raises an error.

    It runs functions of the application, so any error is possible.

    Args:
        reason: As that of `NothingThere`.

    Raises:
        NothingThere: An error was raised; those of an exhausted stack or memory pass through.
    """
    try:
        yield
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # whatever a function of the application raises
        raise NothingThere(reason) from None
