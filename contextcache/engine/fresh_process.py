"""The child of `engine.fresh`: load a payload, and describe what came back."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import runpy
import sys
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from contextcache.base.introspection import attributes, qualified_name
from contextcache.base.masking import type_text
from contextcache.engine.trial import raised_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DESCENDANT = "CONTEXTCACHE_FRESH_PROCESS"
"""The environment variable that is set in a child."""

Description: TypeAlias = tuple[str, dict[str, str]]
"""The type of an object, and those of its attributes by their names."""

_CONNECTS = ("socket.connect", "sqlite3.connect")


class ConnectError(BaseException):
    """Something connects while the value is loaded; no handler of the application stops it."""


def run(request: dict[str, Any], payload: bytes, answer: int) -> None:
    """Load `payload`, write what came back to the file descriptor `answer`, and end.

    Args:
        request: What `engine.fresh` tells of its process.
        payload: A pickle.
        answer: A file descriptor.
    """
    with os.fdopen(answer, "w") as file:
        json.dump(_answer(request, payload), file)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that the application has started do not hold it up


def _answer(request: dict[str, Any], payload: bytes) -> dict[str, object]:
    try:
        _prepare(request)
    except BaseException as error:  # noqa: BLE001  # a script may also exit
        return {"unready": f"the application cannot be imported there: {_failure(error)}"}
    _forbid_connections()
    unpickler = pickle.Unpickler(BytesIO(payload))
    try:
        unpickler.load()
    except ConnectError:
        return {"unready": "loading the value connects to a server or database, which is forbidden"}
    except BaseException as error:  # noqa: BLE001  # whatever a constructor raises
        return {"failure": _failure(error), "index": _failed_index(payload)}
    return {"types": described(unpickler.memo.copy(), request["built"], request["indexes"])}


_PythonUnpickler: Any = pickle._Unpickler
_FILLS = {"BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"}
_FILLING = {getattr(pickle, name)[0] for name in _FILLS}


class _Recorder(_PythonUnpickler):  # type: ignore[misc]
    """Load in Python, and remember the last opcode."""

    opcode = 0

    class _Dispatch(dict[int, Any]):
        def __getitem__(self, opcode: int) -> Any:
            def load(unpickler: _Recorder) -> None:
                unpickler.opcode = opcode
                self.get(opcode)(unpickler)  # type: ignore[misc]

            return load

    dispatch = _Dispatch(_PythonUnpickler.dispatch)


def _failed_index(payload: bytes) -> int:
    """Return the index of the object that does not load, or of the one before which it failed."""
    unpickler = _Recorder(BytesIO(payload))
    with contextlib.suppress(BaseException):  # it has been seen
        unpickler.load()
    if unpickler.opcode in _FILLING:
        for index, obj in unpickler.memo.items():
            if obj is unpickler.stack[-1]:
                return int(index)
    return max(unpickler.memo, default=-1) + 1


def described(
    memo: Mapping[int, object], built: Iterable[int], indexes: Iterable[int]
) -> dict[str, Description]:
    """Return the type of loaded objects, and of the attributes of those a payload has built.

    Args:
        memo: The objects by their index in the memo of the unpickler.
        built: Indexes of those that the payload makes anew.
        indexes: Those to describe.
    """
    found = set(built)
    return {
        str(index): (
            _name(memo[index]),
            {name: _name(held) for name, held in attributes(memo[index]).items()}
            if index in found
            else {},
        )
        for index in indexes
        if index in memo
    }


def _name(obj: object) -> str:
    name = qualified_name(type(obj))
    if name.startswith("__mp_main__."):
        name = f"__main__.{name.removeprefix('__mp_main__.')}"
    return type_text(name, exact=True)


def _prepare(request: dict[str, Any]) -> None:
    """Set up Django and run the script of the parent, where the parent has them."""
    if request.get("settings"):
        os.environ["DJANGO_SETTINGS_MODULE"] = request["settings"]
        import_module("django").setup()
    name, file = request.get("main_name"), request.get("main_file")
    if not name and not file:
        return
    main = ModuleType("__mp_main__")  # as `multiprocessing` does: `if __name__ == "__main__"` fails
    run_name = "__mp_main__"
    content = (
        runpy.run_module(name, run_name=run_name, alter_sys=True)
        if name
        else runpy.run_path(str(file), run_name=run_name)
    )
    main.__dict__.update(content)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main


def _forbid_connections() -> None:
    sys.addaudithook(_refuse)
    backend: Any = sys.modules.get("django.db.backends.base.base")
    if backend is not None:  # drivers in C raise no audit event
        backend.BaseDatabaseWrapper.connect = _connect


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if event in _CONNECTS:
        raise ConnectError


def _connect(_: object) -> None:
    raise ConnectError


def _failure(error: BaseException) -> str:
    """Name what was raised, without its text; the name of a module is no value."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"there is no module {type_text(error.name, exact=True)}"
    return raised_by(error)
