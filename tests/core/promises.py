"""Apply every patch to the source it is printed for, and see what is stored and loaded then.

Run as a program, it is one of three processes: `explain` prints the patches, `apply` pastes each
into a copy of its source and dumps the value, `load` loads that where nothing else has run.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import importlib
import json
import logging
import pickle
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import attributes, qualified_name

if TYPE_CHECKING:
    from contextcache import Finding

MODULES = ("tests.core.shapes", "tests.core.fix_cases")
OPAQUE = {
    "_thread.lock", "_thread.RLock", "_thread._local", "threading.Condition", "module", "type",
    "contextcache.payload.wire.Stripped", "weakref.ReferenceType", "httpx.Client",
    "django.utils.functional.SimpleLazyObject",
}  # fmt: skip


@dataclasses.dataclass
class Promise:
    """A patch, and what became of the value without it and with it.

    Attributes:
        case: The value.
        patch: The code.
        module: The module of its classes.
        paths: Where something was found in the value.
        mends: What of that the patch is printed for.
        freed: Where the patch may store something else than the guard does.
        alone: What is loaded without the patch; None if nothing was stored.
        alone_secret: Whether a secret was stored without it.
        left: Where something is found with the patch.
        touched: What of the value it changed.
        loaded: What is loaded with the patch.
        secret: Whether a secret is stored with it.
        error: What it raised.
    """

    case: str
    patch: str
    module: str
    paths: list[str]
    mends: list[str] = dataclasses.field(default_factory=list)
    freed: list[str] = dataclasses.field(default_factory=list)
    alone: dict[str, str] | None = None
    alone_secret: bool = False
    left: list[str] = dataclasses.field(default_factory=list)
    touched: list[str] = dataclasses.field(default_factory=list)
    loaded: dict[str, str] | None = None
    secret: bool = False
    error: str = ""

    @property
    def label(self) -> str:
        return f"{self.case}: {', '.join(self.mends)}\n{self.patch}\n{self.error}"

    @property
    def lost(self) -> dict[str, str]:
        """What is loaded without the patch, and not with it."""
        freed = tuple(f"{path}{step}" for path in self.freed for step in ".[{")
        return {
            path: text
            for path, text in (self.alone or {}).items()
            if text != (self.loaded or {}).get(path)
            and not text.endswith("Stripped")
            and path not in self.freed
            and not path.startswith(freed)
        }


def outline(obj: Any, path: str = "value", seen: set[int] | None = None) -> dict[str, str]:
    """Return what `obj` holds, by path: types of objects, and the text of plain data."""
    seen = set() if seen is None else seen
    name = qualified_name(type(obj))
    if obj is None or type(obj) in (bool, int, float, str, bytes):
        return {path: repr(obj)}
    found = {path: name}
    if id(obj) in seen or name in OPAQUE or type(obj) in (FunctionType, MethodType):
        return found
    seen.add(id(obj))
    parts: list[tuple[str, Any]] = []
    if issubclass(type(obj), dict):
        parts += [(f"[{key!r}]", held) for key, held in dict.items(obj)]
    elif issubclass(type(obj), (list, tuple, collections.deque)):
        parts += [(f"[{at}]", held) for at, held in enumerate(obj)]
    elif issubclass(type(obj), (set, frozenset)):
        parts += [(f"{{{held!r}}}", held) for held in obj]
    if issubclass(type(obj), BaseException):
        parts.append((".args", obj.args))
    # Which the guard stores for another version of Python, as a queue of this one has it or not.
    own = {key: held for key, held in attributes(obj).items() if key != "is_shutdown"}
    parts += [(f".{key}", held) for key, held in own.items()]
    for step, held in parts:
        found |= outline(held, path + step, seen)
    return found


def module_of(name: str, source: str, file: str) -> ModuleType:
    """Return a module of that name made from `source`, in place of the one there is."""
    module = ModuleType(name)
    module.__file__ = file
    sys.modules[name] = module
    exec(compile(source, file, "exec"), module.__dict__)
    return module


def pasted(source: str, patch: str) -> str:
    """Return `source` with `patch` at the end of the class that its comment names."""
    match = re.search(r"^    # into class (\w+)", patch, re.MULTILINE)
    assert match is not None, patch
    imports, methods = patch[: match.start()], patch[match.start() :]
    head = re.search(rf"^class {match[1]}\b.*?:(  #.*)?\n", source, re.MULTILINE)
    assert head is not None, match[1]
    rest = source[head.end() :]
    end = re.search(r"^\S", rest, re.MULTILINE)
    at = end.start() if end is not None else len(rest)
    body = rest[:at].rstrip("\n")
    top = source[: head.end()].replace("\nimport ", f"\n{imports}import ", 1)
    return f"{top}{body}\n\n{methods}\n\n\n{rest[at:]}"


def _cases() -> dict[str, tuple[str, Any]]:
    import tests.zoo
    from tests.core import fix_cases

    zoo = {case.id: (MODULES[0], case.build) for case in tests.zoo.OFFENDERS}
    return zoo | {f"own-{name}": (MODULES[1], build) for name, build in fix_cases.CASES.items()}


def _built(module: ModuleType | None, name: str, case: str) -> Any:
    """Return the value of a case, of the classes of a patched module if there is one."""
    import tests.zoo

    if module is None:
        return _cases()[case][1]()
    if name == MODULES[1]:
        return module.CASES[case.removeprefix("own-")]()
    tests.zoo.shapes = module  # type: ignore[attr-defined]
    build = next(one.build for one in tests.zoo.OFFENDERS if one.id == case)
    return getattr(module, build.__name__)() if isinstance(build, type) else build()


def explain() -> list[Promise]:
    """Print the patches of all cases, one promise for each."""
    from contextcache import Guard

    found: list[Promise] = []
    for case, (module, build) in _cases().items():
        findings = Guard(debug=True).explain(build())
        paths = [str(one.path) for one in findings]
        alone, secret = None, False
        try:
            payload = Guard().dumps(build())
            alone, secret = outline(Guard().loads(payload)), b"s3cret" in payload
        except pickle.PicklingError:
            pass  # nothing is stored without the fix
        freed = [str(one.path) for one in findings if is_free(one)]
        for patch in dict.fromkeys(one.patch for one in findings if one.patch):
            if "await" in patch and not case.startswith("own-"):
                continue  # the zoo's coroutine is closed already
            mends = [str(one.path) for one in findings if one.patch == patch]
            found.append(Promise(case, patch, module, paths, mends, freed, alone, secret))
    return found


def is_free(finding: Finding) -> bool:
    """Return True if a fix may store something else at the place of a finding.

    A marker is no data, of a user or request the values are stored that are needed, and what
    loads otherwise than it was stored is to be mended.
    """
    return finding.action in ("stripped", "left out") or finding.code in (
        "CC104",
        "CC105",
        "CC106",
        "CC122",
    )


def _patched(promise: Promise) -> ModuleType | None:
    if "    # into class " not in promise.patch:
        return None
    file = str(importlib.import_module(promise.module).__file__)
    return module_of(promise.module, pasted(Path(file).read_text(), promise.patch), file)


def _placed(promise: Promise, value: Any = None) -> Any:
    """Return the value after code for the place where it is stored, whose functions are global."""
    top, _, place = promise.patch.rpartition("# where it is stored\n")
    module = module_of("shop_views", top, "shop_views.py")
    if value is None:
        return None
    if "await" in place or "async for" in place:
        space: dict[str, Any] = {}
        body = textwrap.indent(place, "    ")
        exec(f"async def run(value):\n{body}\n    return value\n", space)
        return asyncio.run(space["run"](value))
    module.__dict__["value"] = value
    exec(place, module.__dict__)
    return module.__dict__["value"]


def apply(promise: Promise, file: Path) -> None:
    """Paste the patch and dump the value, as the application would."""
    from contextcache import Guard

    module = _patched(promise)
    value = _built(module, promise.module, promise.case)
    before = outline(value)
    stored = value if module is not None else _placed(promise, value)
    payload = Guard().dumps(stored)
    after = outline(value)
    used_up = ("generator", "_csv.reader")  # a list of the items is as good
    promise.touched = [
        path for path in before if before[path] != after.get(path) and before[path] not in used_up
    ]
    promise.left = [str(one.path) for one in Guard().explain(stored)]
    promise.secret = b"s3cret" in payload
    file.write_bytes(payload)


def load(promise: Promise, file: Path) -> None:
    """Load what was dumped."""
    from contextcache import Guard

    if _patched(promise) is None:
        _placed(promise)
    promise.loaded = outline(Guard().loads(file.read_bytes()))


def run(folder: Path) -> list[Promise]:
    """Return what became of each patch, in three processes one after the other."""
    for stage in ("explain", "apply", "load"):
        subprocess.run(
            [sys.executable, "-m", "tests.core.promises", stage, str(folder)],
            check=True,
            cwd=Path(__file__).parents[2],
            timeout=120,
        )
    return _read(folder)


def _read(folder: Path) -> list[Promise]:
    return [Promise(**row) for row in json.loads((folder / "promises.json").read_text())]


def _main(stage: str, folder: Path) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    promises = explain() if stage == "explain" else _read(folder)
    modules = {name: importlib.import_module(name) for name in (*MODULES, "tests.zoo")}
    for at, promise in enumerate(promises) if stage != "explain" else ():
        sys.modules.update(modules)
        modules["tests.zoo"].shapes = modules[MODULES[0]]  # type: ignore[attr-defined]
        if promise.error:
            continue
        try:
            (apply if stage == "apply" else load)(promise, folder / f"{at}.bin")
        except Exception as error:  # which the test reports
            promise.error = f"{stage}: {type(error).__name__}: {error}"
    text = json.dumps([dataclasses.asdict(promise) for promise in promises])
    (folder / "promises.json").write_text(text)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
