"""Show what is in a value or a stored payload, how large each part is, and what is wrong with it.

The command `contextcache explain`, also `manage.py contextcache explain` and
`flask contextcache explain`.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import pickle
import re
import sys
import traceback
from contextlib import redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from contextcache.base.masking import one_line, type_text
from contextcache.base.words import near, pluralize
from contextcache.commands.analysis import (
    Examination,
    examine,
    examine_payload,
    pickle_in,
)
from contextcache.commands.code_pages import page
from contextcache.commands.nodes import uncollected
from contextcache.commands.tree import Bounds, Tree
from contextcache.config import Config
from contextcache.exceptions import ContextCacheError, FreshProcessError, UnreadablePayloadError
from contextcache.reports.call_site import is_library, relative
from contextcache.reports.terminal import Paper, Progress

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import TextIO

    from contextcache.findings.finding import Finding

MAX_SHOWN_DEPTH = 100
LIKENESS = 0.7  # of a name that is suggested for one that does not exist (difflib)
MAX_ERROR_LENGTH = 300  # characters of the text of an error of the application
CLEAN, FOUND, UNUSABLE = 0, 1, 2
NO_FRESH_PAYLOAD = (
    "--fresh loads what it looks at, so it takes a value of the application, named as module:name, "
    "and no payload from a file or from Redis"
)


class UnusableError(ContextCacheError):
    """There is nothing to look at: the target does not exist, cannot be called or read."""


def run(
    options: argparse.Namespace,
    out: TextIO,
    *,
    config: Config | None = None,
    caches: str = "",
    failure: str = "",
) -> int:
    """Examine `options.target`, and print the tree and the findings.

    Args:
        options: What `contextcache.commands.options.EXPLAIN` describes.
        out: Where to print.
        config: Whose rules and ignore patterns apply.
        caches: The words for where there is no key of this name, such as `CACHES['default']`.
        failure: Why a cache could not be asked for a key of this name.

    Returns:
        0 if nothing was found, 1 if something was, 2 if the target cannot be looked at.
    """
    if codes := codes_in(options.target):
        return _write_pages(codes, out)
    if len(options.target) != 1 or getattr(options, "session", None) is not None:
        sys.stderr.write("contextcache: name one target, or codes such as CC102\n")
        return UNUSABLE
    [target] = options.target
    if options.fresh and _is_file(target):
        sys.stderr.write(f"contextcache: {NO_FRESH_PAYLOAD}\n")
        return UNUSABLE
    config = config or Config()
    if options.redact_keys:
        config = dataclasses.replace(config, redact_keys=True)
    try:
        seen = _examined(target, options, config)
    except UnusableError as error:
        told = one_line(f"{error}; nor is it a key of {caches}" if caches else str(error))
        told += f"\ncontextcache: {one_line(failure)}" if failure else ""
    except FreshProcessError as error:
        told = one_line(str(error))
    except UnreadablePayloadError as error:
        told = one_line(f"{_named(target)} cannot be read: {error.reason}")
    else:
        return show(seen, options, out)
    sys.stderr.write(f"contextcache: {told}\n")
    return UNUSABLE


@uncollected()
def show(seen: Examination, options: argparse.Namespace, out: TextIO) -> int:
    """Print the tree of an examination and its findings, and return the exit status."""
    smallest = options.min_size
    tree = Tree(
        seen,
        Bounds(
            min(options.depth, MAX_SHOWN_DEPTH),
            seen.root.size // 100 if smallest is None else smallest,
        ),
    )
    if options.json:
        json.dump(tree.data(), out, indent=2, ensure_ascii=False)
        out.write("\n")
    else:
        paper = Paper(out)
        tree.draw(paper)
        _write_findings(seen, paper)
    return FOUND if seen.findings or seen.runs else CLEAN


def codes_in(targets: Sequence[str]) -> list[str]:
    """Return the codes that `targets` names, as messages print them; none if it names a value.

    Args:
        targets: Arguments such as `["CC102,", "CC101"]`.
    """
    words = " ".join(targets).replace(",", " ").split()
    return words if all(re.fullmatch(r"(?i)cc\d+", word) for word in words) else []


def _write_pages(codes: Sequence[str], out: TextIO) -> int:
    status, pages = CLEAN, []
    for code in codes:
        try:
            pages.append(page(code))
        except LookupError as error:
            sys.stderr.write(f"contextcache: {error.args[0]}\n")
            status = UNUSABLE
    out.write("\n".join(pages))
    return status


def _write_findings(seen: Examination, paper: Paper) -> None:
    """Write each finding once, however many fields show it, and the code that mends it once."""
    shown: dict[str, str] = {}
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in seen.findings:
        groups.setdefault((finding.code, finding.path.pattern, finding.did), []).append(finding)
    for same in groups.values():
        finding = same[0]
        more = f", and {pluralize(len(same) - 1, 'field')} like it" if len(same) > 1 else ""
        leaf_type = type_text(finding.leaf_type, exact=True)
        head = f"{finding.code} {finding.path} ({leaf_type}){more}: {one_line(finding.reason)}"
        paper.write()
        paper.write(paper.paint(head, "yellow"))
        if finding.field:
            paper.write_entry("field", one_line(finding.field))
        paper.write_entry("result", one_line(finding.did))
        paper.write_entry("fix", one_line(finding.fix), "green")
        if finding.patch in shown:
            paper.write(f"          with the code above, of {shown[finding.patch]}")
            continue
        for line in finding.patch.splitlines():
            paper.write(f"          {line}".rstrip())
        if finding.patch:
            shown[finding.patch] = f"{finding.code} {finding.path.last}"


def _examined(target: str, options: argparse.Namespace, config: Config) -> Examination:
    smallest = options.min_size
    is_file = _is_file(target)
    with Progress(f"contextcache: looking at {target}") as progress:
        if is_file and not options.trusted:
            label = options.label or "payload"
            payload = _payload(target)
            return examine_payload(
                payload, label=label, config=config, smallest=smallest, progress=progress
            )
        value = _loaded(target, options) if is_file else _imported(target, options)
        label = options.label or "value"
        seen = examine(
            value,
            label=label,
            config=config,
            smallest=smallest,
            progress=progress,
            fresh=options.fresh,
        )
        if inspect.iscoroutine(value):
            value.close()  # it is not going to be awaited, which Python would warn of
        return seen


def _is_file(target: str) -> bool:
    return target == "-" or os.path.exists(target)


def _payload(target: str) -> bytes:
    try:
        if target == "-":
            payload = sys.stdin.buffer.read()
        else:
            with open(target, "rb") as file:
                payload = file.read()
    except OSError as error:
        raise UnusableError(f"{target} cannot be read: {error.strerror}") from None
    if not payload.strip():  # what `redis-cli get` prints of a key that is not there
        raise UnusableError(f"{_named(target)} is empty")
    return payload


def _named(target: str) -> str:
    return "standard input" if target == "-" else target


def _loaded(target: str, options: argparse.Namespace) -> object:
    payload = pickle_in(_payload(target))
    _look_here_too()
    try:
        return pickle.loads(payload)
    except Exception as error:  # noqa: BLE001  # whatever its classes raise
        raise UnusableError(
            f"{_named(target)} cannot be loaded: {_failure(error, target, options)}"
        ) from None


def _look_here_too() -> None:
    """Let modules of the working directory be imported, which a script's own directory hides."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def _imported(target: str, options: argparse.Namespace) -> Any:
    """Return the object called `module:name`, or what it returns if it is a function."""
    module, colon, name = target.partition(":")
    _look_here_too()
    if not colon or not name:
        raise UnusableError(f"there is no file {target}; {_how_to_name(target)}")
    with redirect_stdout(sys.stderr):  # what the application prints is not our output
        try:
            value: Any = import_module(module)
            for part in name.split("."):
                if not hasattr(value, part):
                    meant = near(part, dir(value), LIKENESS)
                    hint = f"; did you mean {meant}?" if meant else ""
                    raise UnusableError(
                        f"{target} cannot be imported: there is no {part} in it{hint}"
                    )
                value = getattr(value, part)
        except UnusableError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the application raises
            raise UnusableError(
                f"{target} cannot be imported: {_failure(error, target, options)}"
            ) from None
        if isinstance(value, type):
            raise UnusableError(
                f"{target} is a class; name an object of it, or a function that returns one"
            )
        if not inspect.isroutine(value):
            return value
        if _needs_arguments(value):
            raise UnusableError(f"{target} takes arguments; name a function that takes none")
        try:
            return value()
        except Exception as error:  # noqa: BLE001  # whatever the application raises
            raise UnusableError(f"{target}() failed: {_failure(error, target, options)}") from None


def _needs_arguments(function: Any) -> bool:
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # a function in C that tells no signature
        return False
    return False


def _how_to_name(target: str) -> str:
    """Return how to name a value, with what was meant by `shop.cart` if there is a module."""
    module, dot, name = target.rpartition(".")
    if _is_module(target):
        return f"to look at a value in that module, name it as {target}:name"
    if dot and _is_module(module):
        return f"did you mean {module}:{name}?"
    return "a value is named as module:name"


def _is_module(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except Exception:  # noqa: BLE001  # to find it, its parents are imported
        return False


def _failure(error: BaseException, target: str, options: argparse.Namespace) -> str:
    """Name an error of the application by its type, place and text; print its traceback if asked.

    The text may name keys, so `--redact-keys` leaves it out.
    """
    if options.traceback:
        traceback.print_exception(error)
    if isinstance(error, ModuleNotFoundError):
        return f"there is no module {error.name}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not is_library(frame.filename)]
    at = f" at {relative(own[-1].filename)}:{own[-1].lineno}" if own else ""
    kind = type(error)
    inner = frames[-1].filename.replace(os.sep, "/") if frames else ""
    if kind.__module__ == "django.core.exceptions":
        return f"{kind.__name__}{at}; try manage.py contextcache explain {target}"
    if kind is RuntimeError and inner.endswith("werkzeug/local.py"):
        return f"{kind.__name__}{at}; try flask contextcache explain {target}"
    text = "" if options.redact_keys else one_line(_text_of(error))[:MAX_ERROR_LENGTH]
    return f"{kind.__name__}{at}{text and ': '}{text}"


def _text_of(error: BaseException) -> str:
    try:
        return str(error).strip()
    except Exception:  # noqa: BLE001  # an error class of the application
        return ""
