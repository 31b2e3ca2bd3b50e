"""Where a value is being stored: the line of the user's own code, and the view it runs for.

Looked up only when there is something to report; never on the way of a clean write.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType
from typing import TYPE_CHECKING, Any

from contextcache.base.syntax import source_lines

if TYPE_CHECKING:
    from types import CodeType, FrameType

RESULT_OF = " (result of "
"""What stands before the name of a memoized function, after the line that called it."""

_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_OWN_PACKAGES = tuple(_OWN + suffix + os.sep for suffix in ("", "_django", "_flask"))


def relative(path: str) -> str:
    """Return `path` relative to the library or working directory it lies in."""
    for base in (*_libraries(), os.getcwd() + os.sep):
        if path.startswith(base):
            return path[len(base) :]
    return path


def is_library(path: str) -> bool:
    """Return True if the file at `path` belongs to Python, an installed package or contextcache."""
    return path.startswith((*_libraries(), *_OWN_PACKAGES, "<")) or any(
        f"{os.sep}{name}{os.sep}" in path for name in ("site-packages", "dist-packages")
    )


@functools.cache
def _libraries() -> tuple[str, ...]:
    import sysconfig  # noqa: PLC0415  # reads a file of its own, and only a finding needs it

    # site-packages lies in the standard library's directory, so it comes first.
    paths = map(sysconfig.get_path, ("purelib", "platlib", "stdlib"))
    return tuple(os.path.join(path, "") for path in paths if path)


def is_own(cls: type) -> bool:
    """Return True if `cls` is defined in a file of the user's own code."""
    path = file_of(cls)
    return bool(path) and not is_library(path)


def is_installed(cls: type) -> bool:
    """Return True if `cls` comes with Python or an installed package."""
    path = file_of(cls)
    return bool(path) and is_library(path)


def file_of(cls: type) -> str:
    """Return the path of the module of `cls`; empty where it has none."""
    module = type.__dict__["__module__"].__get__(cls)
    path = getattr(sys.modules.get(str(module)), "__file__", None)
    return path if isinstance(path, str) else ""


def call_site() -> str:
    """Return `file:line` of the innermost frame in the user's own code; empty if there is none.

    What a framework stores when a view has answered, a session or a page, is stored by nobody's
    line: frames further out, of middleware or of the script that started the server, are not asked.
    """
    frame: FrameType | None = sys._getframe(1)  # 40x faster than inspect.stack
    memoized = ""
    while frame is not None:
        path = frame.f_code.co_filename
        memoized = memoized or _memoized(frame)
        if _is_dispatcher(path):
            return ""
        # A template that was compiled has the name of its own file, and lines of another.
        if not is_library(path) and path.endswith(".py"):
            return f"{relative(path)}:{frame.f_lineno}{memoized}"
        frame = frame.f_back
    return ""


def _memoized(frame: FrameType) -> str:
    """Name the function whose result Flask-Caching stores, under a hash for a key."""
    code = frame.f_code
    if code.co_name != "decorated_function" or "flask_caching" not in code.co_filename:
        return ""
    function = frame.f_locals.get("f")
    if type(function) is not FunctionType:
        return ""
    return f"{RESULT_OF}{function.__module__}.{function.__qualname__})"


_DISPATCHERS = tuple(
    os.sep + path.replace("/", os.sep)
    for path in (
        "django/core/handlers/base.py",
        "django/core/handlers/exception.py",
        "flask/app.py",
        "asyncio/events.py",
        "asyncio/runners.py",
    )
)


@functools.lru_cache(maxsize=1024)
def _is_dispatcher(path: str) -> bool:
    """Return True if a framework or event loop calls what is its turn from the file at `path`."""
    return path.endswith(_DISPATCHERS) and is_library(path)


def definition(obj: object) -> str:
    """Say where a function, generator or coroutine is defined; empty for anything else."""
    name = next((name for cls, name in _CODE if type(obj) is cls), "")
    if not name:
        return ""
    code: CodeType = getattr(obj, name)
    return f"{code.co_qualname}, defined at {relative(code.co_filename)}:{code.co_firstlineno}"


_CODE = (
    (FunctionType, "__code__"),
    (GeneratorType, "gi_code"),
    (CoroutineType, "cr_code"),
    (AsyncGeneratorType, "ag_code"),
)


def describe_view(view: Any, method: str = "") -> tuple[str, str]:
    """Return the dotted name of a view and its `file:line`.

    Decorators, partials and the functions that frameworks make of view classes are looked
    through; of a class, its method for the HTTP method is named where it is the class's own.

    Args:
        view: What the framework calls.
        method: The HTTP method of the request.
    """
    view = _unwrapped(view)
    if isinstance(view, type):
        handler = _unwrapped(getattr(view, method.lower(), None) or view)
        # A handler that the class inherits from a framework says less than the class itself.
        if getattr(handler, "__module__", None) == view.__module__:
            view = handler
    name = f"{view.__module__}.{view.__qualname__}"
    try:
        code = view.__code__
        file, line = code.co_filename, code.co_firstlineno
    except AttributeError:  # a class, or something written in C
        try:
            file, line = inspect.getsourcefile(view) or "", source_lines(view)[1]
        except (OSError, TypeError, SyntaxError):
            return name, ""
    return name, f"{_spelling(file, view.__module__)}:{line}"


def _unwrapped(view: Any) -> Any:
    seen: set[int] = set()
    while id(view) not in seen:
        seen.add(id(view))
        if isinstance(view, functools.partial):
            view = view.func
        elif inspect.ismethod(view):
            view = view.__func__
        elif not isinstance(view, type):
            # Where Django and Flask, REST framework, and decorators keep what is behind a function.
            own = getattr(view, "__dict__", {})
            inner = (own[name] for name in ("view_class", "cls", "__wrapped__") if name in own)
            view = next(inner, view)
    return view if hasattr(view, "__qualname__") else type(view)  # an instance that is called


def _spelling(file: str, module: str) -> str:
    """Return the end of `file` that spells `module`, so that no path of the machine is shown."""
    parts = file.replace("\\", "/").split("/")
    length = module.count(".") + 1 + (parts[-1] == "__init__.py")
    return "/".join(parts[-length:])
