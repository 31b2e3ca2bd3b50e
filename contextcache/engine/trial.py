"""Trial loads: whether what was dumped loads again."""

from __future__ import annotations

import pickle

from contextcache.base.logs import error_name
from contextcache.base.masking import type_text
from contextcache.reports.call_site import is_library

MIN_ROOM = 50  # calls that must still fit on the stack where a method is blamed for recursing


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
        raised = raised_by(error)
        _use_stack(MIN_ROOM)
        return raised
    except Exception as error:  # noqa: BLE001  # whatever a constructor raises, the reader would meet it
        return raised_by(error)
    return ""


def raised_by(error: BaseException) -> str:
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
    for _ in range(MIN_ROOM):
        nested = [nested]
    pickle.dumps(nested, 5)
