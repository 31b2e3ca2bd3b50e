"""The examination of a value: everything that is wrong with it, and what makes it large."""

from __future__ import annotations

import dataclasses
import gc
import re
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

from contextcache.commands import anatomy
from contextcache.config import Config
from contextcache.dangerous import runs_code
from contextcache.envelope import unverified
from contextcache.findings import Action
from contextcache.inspection import Inspection
from contextcache.loading import is_sealed
from contextcache.paths import Path, qualified_name
from contextcache.pickler import Table
from contextcache.rules import RuleBook
from contextcache.walker import contents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contextcache.commands.anatomy import Part
    from contextcache.findings import Finding

SHARE = 200  # plain data below this part of the whole gets no line of its own
MOST_PARTS = 1000  # of a value that cannot be stored whole that are examined apart
MOST_LEVELS = 3

COMPUTED = "a name that it computes"  # which no pickler writes, but a forger may


@dataclasses.dataclass(frozen=True, slots=True)
class Examination:
    """What is to be said of one value or payload.

    Args:
        label: The root of the paths.
        root: The value with everything below it; findings are attached to their parts.
        findings: Everything that is wrong with it.
        stored: Whether any of it can be stored.
        names: Qualified names of what loading it imports.
        runs: What a payload that was only read may run when it is loaded, and no data needs.
        loaded: False where a payload was only read, so that findings go by names alone.
        hidden: Whether no key is shown.
    """

    label: str
    root: Part
    findings: tuple[Finding, ...]
    stored: bool = True
    names: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    loaded: bool = True
    hidden: bool = False

    @property
    def title(self) -> str:
        """The root of the paths, as it may be shown."""
        return str(Path(self.label, hidden=self.hidden))

    def path(self, part: Part) -> Path:
        """Return the path of a part."""
        return Path(self.label, part.path(self.label).steps, self.hidden)


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking through a million parts again and again.

    None of them is garbage, and looking takes longer than making them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@uncollected()
def examine(
    value: object,
    *,
    label: str = "value",
    config: Config | None = None,
    smallest: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Examination:
    """Examine a value; nothing is stored, changed or logged.

    Args:
        value: Any value, also one that pickle cannot touch.
        label: The root of the paths in it.
        config: Whose rules apply; by default the built-in ones.
        smallest: Plain data of fewer bytes counts for its holder; by default a share of the whole.
        progress: Called with the share of the reading that is done.
    """
    config = config or Config()
    look = _looked(value, label, config)
    findings = look.findings
    if look.payload is None:
        root = _apart(value, look, config, MOST_LEVELS)
        names: tuple[str, ...] = ()
    else:
        least = len(look.payload) // SHARE if smallest is None else smallest
        read = anatomy.read(look.payload, label=label, smallest=least, progress=progress)
        root, names = read.root, read.names
    heard = _heard(findings, config)
    anatomy.place(root, heard)
    stored = look.payload is not None
    return Examination(
        label, root, tuple(heard), stored=stored, names=names, hidden=config.redact_keys
    )


@uncollected()
def examine_payload(
    payload: bytes,
    *,
    label: str = "payload",
    config: Config | None = None,
    smallest: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> Examination:
    """Examine a payload without loading it.

    Args:
        payload: A pickle, sealed or not, or a number.
        label: The root of the paths in it.
        config: Whose ignore patterns apply, and whether keys are shown.
        smallest: Plain data of fewer bytes counts for its holder; by default a share of the whole.
        progress: Called with the share that is done.

    Raises:
        UnreadablePayloadError: If it is no pickle, or a damaged one.
    """
    config = config or Config()
    payload = pickle_in(payload, label=label)
    if _NUMBER.fullmatch(payload):
        root = anatomy.Part("int")
        root.size = len(payload)
        return Examination(label, root, (), loaded=False, hidden=config.redact_keys)
    least = len(payload) // SHARE if smallest is None else smallest
    read = anatomy.read(payload, label=label, smallest=least, progress=progress)
    found = anatomy.offenders(read.root, Path(label, hidden=config.redact_keys))
    heard = _heard(found, config)
    anatomy.place(read.root, heard)
    return Examination(
        label,
        read.root,
        tuple(heard),
        names=read.names,
        runs=tuple(filter(runs_code, read.names)) + (COMPUTED,) * read.computed,
        loaded=False,
        hidden=config.redact_keys,
    )


def _heard(findings: list[Finding], config: Config) -> list[Finding]:
    """Return the findings that the application wants to hear of."""
    ignored = config.ignore
    return [one for one in findings if not any(one.path.matches(pattern) for pattern in ignored)]


def pickle_in(payload: bytes, *, label: str = "payload") -> bytes:
    """Return the pickle in a payload, out of its envelope; nothing is verified or loaded.

    Raises:
        UnreadablePayloadError: Its envelope is damaged.
    """
    payload = payload.removeprefix(b"!")  # which Flask-Caching puts before it
    if is_sealed(payload):
        return unverified(payload, label=label, most=Config().max_size)
    return payload


_NUMBER = re.compile(rb"-?\d+")  # stored raw, so that Redis can increment it


def _looked(value: object, label: str, config: Config) -> Inspection:
    look = Inspection(
        Table(RuleBook(config.rules)),
        label,
        debug=True,
        seconds=60.0,
        nodes=100_000_000,
        hidden=config.redact_keys,
    )
    return look.run(value)


def _apart(value: object, look: Inspection, config: Config, levels: int) -> Part:
    """Measure the parts of a value that is not stored; add what is found in them to `look`."""
    root = anatomy.Part(qualified_name(type(value)))
    if look.table.strips(value) is not None:
        return root  # what is in an offender is not for storing
    for step, child in islice(contents(value), MOST_PARTS if levels else 0):
        below = _looked(child, look.label, config)
        if below.payload is None:
            part = _apart(child, below, config, levels - 1)
        else:
            part = anatomy.read(below.payload, smallest=len(below.payload) // SHARE).root
        root.hold((step,), part)
        refused = {one.code for one in look.findings if one.action is Action.REFUSED}
        for one in below.findings:
            if one.action is not Action.REFUSED or one.code not in refused:
                path = dataclasses.replace(one.path, steps=(step, *one.path.steps))
                look.findings.append(dataclasses.replace(one, path=path))
    return root
