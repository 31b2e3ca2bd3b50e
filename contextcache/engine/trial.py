"""Trial loads: whether what was dumped loads again, as objects of the same types."""

from __future__ import annotations

import copyreg
import pickle
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.base.logs import error_name
from contextcache.base.masking import type_text
from contextcache.payload.wire import PROTOCOL
from contextcache.reports.call_site import is_library

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from contextcache.engine.dump import Dump

MIN_ROOM = 50  # calls that must still fit on the stack where a method is blamed for recursing


def loads_again(dump: Dump, payload: bytes) -> bool:
    """Return True if `payload` loads as what was stored; raises what `load_failure` raises."""
    return not load_failure(dump, payload).reason


class Failure(NamedTuple):
    """Why a payload cannot be read.

    Attributes:
        reason: In one clause, without the text of an error; empty if it can be read.
        is_inner: Whether what the object holds may be the cause, and not the object itself.
    """

    reason: str = ""
    is_inner: bool = True


LOADS = Failure()


def load_failure(dump: Dump, payload: bytes) -> Failure:
    """Return why `payload` cannot be read.

    The unpickler does not recurse, so a `RecursionError` comes from a method of the value, such as
    a `__getattr__` that asks for itself. Only where the stack is used up by others it is raised.

    Args:
        dump: The dump that made the payload.
        payload: A pickle.

    Raises:
        RecursionError: There is too little room on the stack to find out.
        MemoryError: There is too little memory.
    """
    compared = [obj for obj in dump.unverified.values() if _may_load_as_other(type(obj))]
    try:
        if not compared:
            pickle.loads(payload)
            return LOADS
        unpickler = pickle.Unpickler(BytesIO(payload))
        unpickler.load()
    except MemoryError:
        raise
    except RecursionError as error:
        failure = Failure(raised_by(error))
        _use_stack(MIN_ROOM)
        return failure
    except Exception as error:  # noqa: BLE001  # whatever a constructor raises, the reader would meet it
        return Failure(raised_by(error))
    return Failure(_other_type(compared, dump.memo, unpickler.memo.copy()), is_inner=False)


def _may_load_as_other(cls: type) -> bool:
    """Return True if pickle calls a `__new__` in Python, which may return anything."""
    names = ("__reduce__", "__reduce_ex__")  # by which a type says itself what it comes back as
    bases = class_mro(cls)[:-1]
    return (
        any(type(base.__dict__.get("__new__")) is staticmethod for base in bases)
        and not any(name in base.__dict__ for base in bases for name in names)
        and cls not in copyreg.dispatch_table
    )


def _other_type(
    compared: Iterable[object],
    stored: Mapping[int, tuple[int, object]],
    loaded: Mapping[int, object],
) -> str:
    """Say what came back as an object of another type; empty if nothing did.

    Pickler and unpickler count what they memoise alike, so no object has to be looked into.

    Args:
        compared: What was stored, of each type an object.
        stored: The index of each object in the memo of the pickler, by its id.
        loaded: The objects in the memo of the unpickler.
    """
    for obj in compared:
        index, _ = stored.get(id(obj), (-1, obj))
        name = qualified_name(type(loaded.get(index, obj)))
        if name != qualified_name(type(obj)):
            return f"it loads as {type_text(name)}"
    return ""


def raised_by(error: BaseException) -> str:
    """Name what a load raised, and the method of the application, or else the innermost."""
    traceback = error.__traceback__
    at, line = None, 0
    while traceback is not None and (traceback := traceback.tb_next) is not None:
        code = traceback.tb_frame.f_code
        if at is None or not is_library(code.co_filename) or is_library(at.co_filename):
            at, line = code, traceback.tb_lineno
    failure = f"loading it raised {error_name(error)}"
    return failure if at is None else f"{failure} in {type_text(at.co_qualname)}, line {line}"


def _use_stack(levels: int) -> None:
    """Raise a `RecursionError` if there is no room for so many calls, in Python or in C."""
    if levels:
        _use_stack(levels - 1)
        return
    nested: list[object] = []
    for _ in range(MIN_ROOM):
        nested = [nested]
    pickle.dumps(nested, PROTOCOL)
