"""Load what was stored in a fresh process, and find what comes back as something else.

A trial in the process that stored a value cannot show what only this process knows: a class that
it made, an attribute that it set, what a `__setstate__` looks up. A child interpreter with the same
`sys.path` knows as little as the worker that will read the value.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from io import BytesIO
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from contextcache.engine.fresh_process import DESCENDANT, Description, described
from contextcache.exceptions import FreshProcessError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contextcache.engine.dump import Dump

TIMEOUT = 60.0  # seconds, within which the child imports the application and loads the value

_PLAIN = frozenset(map(id, (str, bytes, bytearray, list, dict, tuple, set, frozenset)))

# What the application prints goes to stderr; stdout is for the answer alone.
_BOOTSTRAP = """
import json, os, sys
answer = os.dup(1)
os.dup2(2, 1)
request = json.loads(sys.stdin.buffer.readline())
sys.path[:] = request["path"]
from contextcache.engine.fresh_process import run
run(request, sys.stdin.buffer.read(), answer)
"""


def differences(
    dump: Dump, payload: bytes, *, timeout: float = TIMEOUT
) -> list[tuple[object, str]]:
    """Return what a fresh process cannot load, or loads as something else, and why.

    The child gets the payload through a pipe, the environment of this process, which settings may
    read, and its `__main__` if the payload needs it, as `multiprocessing` does. It may not connect
    to anything while it loads.

    Args:
        dump: The dump that made the payload.
        payload: A pickle that was made in this process, which loads here.
        timeout: Seconds that the child may take.

    Raises:
        FreshProcessError: It cannot be found out.
    """
    if DESCENDANT in os.environ:
        return []  # the script that asks for this is being run again as the `__main__` of a child
    stored = {index: obj for index, obj in dump.memo.values() if id(type(obj)) not in _PLAIN}
    unpickler = pickle.Unpickler(BytesIO(payload))
    unpickler.load()
    built = [index for index, obj in stored.items() if _is_built(dump, obj)]
    here = described(unpickler.memo.copy(), built, list(stored))
    application = _application(payload)
    answer = _ask({"indexes": list(stored), "built": built} | application, payload, timeout)
    if "failure" in answer:
        if application.get("settings", "") is None:
            raise FreshProcessError("Django was set up by settings.configure(), which it cannot do")
        objects = [(index, obj) for index, obj in stored.items() if not issubclass(type(obj), type)]
        later = [(index, obj) for index, obj in objects if index >= answer["index"]]
        _, failed = min(later or objects[-1:], default=(0, None), key=itemgetter(0))
        return [(failed, f"in a fresh process, {answer['failure']}")]
    return [
        (stored[int(index)], f"in a fresh process, {difference}")
        for index, there in answer["types"].items()
        for difference in _differing(here[index], there)
    ]


def _is_built(dump: Dump, obj: object) -> bool:
    """Return True if the payload makes `obj` anew, rather than look it up or call a function."""
    name = getattr(next(iter(dump.reduced_to(obj)), None), "__name__", "")
    return name in ("__newobj__", "__newobj_ex__", "_reconstructor")


def _differing(here: Description, there: Description) -> Iterator[str]:
    """Yield how an object differs, at most once: its type, or the type of an attribute."""
    if here[0] != there[0]:
        yield f"it loads as {there[0]}"
        return
    for name, kind in here[1].items():
        if there[1].get(name) != kind:
            named = f"attribute {name}" if name.isidentifier() else "an attribute"
            found = there[1].get(name)
            yield f"its {named} is {found}" if found else f"it has no {named}"
            return


def _application(payload: bytes) -> dict[str, object]:
    """Return what a child needs of this process: its path, Django's settings, `__main__`."""
    request: dict[str, object] = {"path": [os.path.abspath(entry) for entry in sys.path]}
    apps = sys.modules.get("django.apps")
    if apps is not None and apps.apps.ready:
        settings = sys.modules["django.conf"].settings  # which a test may override
        module = settings.SETTINGS_MODULE or os.environ.get("DJANGO_SETTINGS_MODULE")
        request["settings"] = module
    main = sys.modules.get("__main__")
    if b"__main__" in payload and main is not None:
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None and not spec.name.endswith("__main__"):
            request["main_name"] = spec.name
        elif file is not None and os.path.exists(file):
            request["main_file"] = os.path.abspath(file)
    return request


def _ask(request: dict[str, object], payload: bytes, timeout: float) -> dict[str, Any]:
    """Run a child, and return its answer."""
    if not sys.executable:
        raise FreshProcessError("there is no Python interpreter to start")
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter
            [sys.executable, "-c", _BOOTSTRAP],
            input=json.dumps(request).encode() + b"\n" + payload,
            stdout=subprocess.PIPE,
            env={**os.environ, DESCENDANT: "1"},
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FreshProcessError(f"it did not load the value within {timeout:g} s") from None
    except OSError as error:
        raise FreshProcessError(f"it could not be started: {error.strerror}") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"status {done.returncode}"
        raise FreshProcessError(f"it ended with {ended} before it had loaded the value") from None
    if "unready" in answer:
        raise FreshProcessError(answer["unready"])
    return answer
