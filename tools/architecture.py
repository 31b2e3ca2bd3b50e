"""Write docs/architecture.md: the folders, and what a value passes through: `make architecture`.

The paths are traced, not written by hand: each function of the product that a write or a read
calls, where it is called first. What Django, Flask and redis-py call in between is left out, so the
page is the same with each of their versions.
"""

from __future__ import annotations

import ast
import gc
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.calls import WARM, django_operations, flask_operations
from tests.redis_server import running_redis
from tests.test_boundaries import FOLDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
ADAPTERS = ("contextcache_django", "contextcache_flask")
ONLY_ON_3_11 = {"stack_is_at_risk"}  # which later versions of Python do not need
TRACES = 5  # of which the shortest is written
TRACED = {
    "Django set": "`cache.set(key, value)` of Django",
    "Django get": "`cache.get(key)` of Django",
    "Django session save": "`session.save()` of Django",
    "Django session load": "Reading a session of Django",
    "Flask-Caching set": "`cache.set(key, value)` of Flask-Caching",
    "Flask-Caching get": "`cache.get(key)` of Flask-Caching",
    "Flask session save": "Saving a session of Flask",
    "Flask session load": "Reading a session of Flask",
}

HEAD = """\
# Architecture

`make architecture` writes this page, and a test asserts that it is up to date.
[Decisions](decisions/README.md) say why it is built like this, and
[CONTRIBUTING.md](../CONTRIBUTING.md) how to change it.

## Folders

What stands in a row imports only what stands in a row above it; `tests/test_boundaries.py` asserts
that, down to the module. The adapters import the core, and never each other.

"""
PATHS = """
## What a value passes through

Traced with a clean value that was written before, on a signed cache in Redis. Each line is a file
with the functions that are called in it, each where it is called first; lambdas and comprehensions
are left out, and what Django, Flask, redis-py and pickle do in between.
"""


def summary(path: Path) -> str:
    """Return the first line of a module's docstring, as a clause."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def folders() -> Iterator[str]:
    """Yield a row for each folder and module of the core, in the order of imports, and adapters."""
    yield "| where | what it is for |"
    yield "|---|---|"
    for name in [*(f"contextcache/{one}" for one in FOLDERS), *ADAPTERS]:
        is_folder = (ROOT / name).is_dir()
        module = ROOT / name / "__init__.py" if is_folder else ROOT / f"{name}.py"
        yield f"| `{name}{'/' if is_folder else '.py'}` | {summary(module)} |"


def traced(operation: Callable[[], object]) -> list[tuple[str, str]]:
    """Return the file and the name of each function of the product, where it is called first."""
    for _ in range(WARM):
        operation()
    # A slow machine may have to set the timeout of a socket once more: the shortest is the way.
    return min((_trace(operation) for _ in range(TRACES)), key=len)


def _trace(operation: Callable[[], object]) -> list[tuple[str, str]]:
    seen: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and "<" not in code.co_qualname.replace("<locals>", ""):
            path = Path(code.co_filename)
            if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0].startswith("context"):
                name = code.co_qualname.rpartition("<locals>.")[2]
                if name not in ONLY_ON_3_11:
                    seen[str(path.relative_to(ROOT)), name] = None

    gc.disable()  # what it calls is not part of the operation
    sys.setprofile(note)
    try:
        operation()
    finally:
        sys.setprofile(None)
        gc.enable()
    return list(seen)


def paths() -> Iterator[str]:
    """Yield a section for each operation."""
    with running_redis() as url:
        for operations_of in (django_operations, flask_operations):
            for name, operation in operations_of(url).items():
                if name in TRACED:
                    yield f"\n### {TRACED[name]}\n"
                    for file, calls in groupby(traced(operation), key=lambda call: call[0]):
                        yield f"* {file}: {', '.join(f'`{function}`' for _, function in calls)}"


def page() -> str:
    """Return the whole page."""
    return HEAD + "\n".join(folders()) + "\n" + PATHS + "\n".join(paths()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
