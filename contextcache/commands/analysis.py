"""The examination of a value: everything that is wrong with it, and what makes it large."""

from __future__ import annotations

import dataclasses
from itertools import islice
from typing import TYPE_CHECKING

from contextcache.base.introspection import qualified_name
from contextcache.base.words import pluralize
from contextcache.commands.formats import (
    FLASK_CACHING,
    MAX_EXPANDED,
    MAX_RATIO,
    find_pickle,
    is_number,
    runs,
    unwrap,
)
from contextcache.commands.nodes import MAX_DEPTH, Node, offenders, place, uncollected
from contextcache.commands.payload_reader import Reading, read, scan, unreadable
from contextcache.commands.stored_secrets import shapes_in_stored
from contextcache.config import Config
from contextcache.engine.children import iter_children
from contextcache.engine.diagnosis import Diagnosis
from contextcache.engine.dispatch import DispatchTable
from contextcache.engine.options import Options
from contextcache.exceptions import UnreadablePayloadError
from contextcache.findings.finding import Action
from contextcache.findings.path import Path
from contextcache.payload.compression import ExpansionError, compression_of
from contextcache.payload.envelope import unverified
from contextcache.payload.loading import is_sealed
from contextcache.rules.book import RuleBook

if TYPE_CHECKING:
    from collections.abc import Callable

    from contextcache.findings.finding import Finding

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
        notes: What is not shown, and in what the value was wrapped, each as a clause.
    """

    label: str
    root: Node
    findings: tuple[Finding, ...]
    stored: bool = True
    names: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    loaded: bool = True
    hidden: bool = False
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The root of the paths, as it may be shown."""
        return str(Path(self.label, hidden=self.hidden))

    def path(self, part: Node) -> Path:
        """Return the path of a part."""
        return Path(self.label, part.path(self.label).steps, self.hidden)


class NoPickleError(UnreadablePayloadError):
    """Bytes that are no pickle, such as a text."""


@uncollected()
def examine(
    value: object,
    *,
    label: str = "value",
    config: Config | None = None,
    smallest: int | None = None,
    progress: Callable[[float], None] | None = None,
    fresh: bool = False,
) -> Examination:
    """Examine a value; nothing is stored, changed or logged.

    Args:
        value: Any value, also one that pickle cannot touch.
        label: The root of the paths in it.
        config: Whose rules apply; by default the built-in ones.
        smallest: Plain data of fewer bytes counts for its holder; by default a share of the whole.
        progress: Called with the share of the reading that is done.
        fresh: Whether to load what is stored in a fresh process, too.

    Raises:
        FreshProcessError: The fresh process could not be asked.
    """
    config = config or Config()
    look = _looked(value, label, config, fresh=fresh)
    findings = look.findings
    if look.payload is None:
        root = _apart(value, look, config, MOST_LEVELS)
        names: tuple[str, ...] = ()
        notes: tuple[str, ...] = ()
    else:
        least = len(look.payload) // SHARE if smallest is None else smallest
        reading = read(
            look.payload, label=label, smallest=least, wanted=_fields(findings), progress=progress
        )
        root, names, notes = reading.root, reading.names, _notes(reading)
    heard = [one for one in findings if not config.ignores(one.path)]
    place(root, heard)
    stored = look.payload is not None
    return Examination(
        label,
        root,
        tuple(heard),
        stored=stored,
        names=names,
        hidden=config.redact_keys,
        notes=notes,
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
    body, notes = _opened(payload, label)
    if is_number(body):
        root = Node("int")
        root.size = len(body)
        return Examination(label, root, (), loaded=False, hidden=config.redact_keys)
    least = len(body) // SHARE if smallest is None else smallest
    shapes = shapes_in_stored(body)
    reading = find_pickle(body, smallest=least, shapes=shapes, progress=progress)
    if reading is None:
        error = unreadable(label, scan(body, smallest=len(body)))
        raise NoPickleError(error.label, error.reason, error.remedy)
    if reading.root.size < len(body):
        notes += ("found inside of MessagePack",)
    running = runs(reading) + (COMPUTED,) * reading.computed
    if reading.damaged:
        if not (running and reading.calls):
            raise unreadable(label, reading)
        notes += (f"damaged from byte {reading.end:,} on",)
    found, more = offenders(reading.root, Path(label, hidden=config.redact_keys))
    heard = [one for one in found if not config.ignores(one.path)]
    place(reading.root, heard)
    return Examination(
        label,
        reading.root,
        tuple(heard),
        names=reading.names,
        runs=running,
        loaded=False,
        hidden=config.redact_keys,
        notes=notes + _notes(reading, more),
    )


def pickle_in(payload: bytes, *, label: str = "payload") -> bytes:
    """Return the pickle in a payload, out of what it is wrapped in; nothing is verified or loaded.

    Raises:
        UnreadablePayloadError: There is none, or it is damaged.
    """
    body, _ = _opened(payload, label)
    reading = scan(body, smallest=len(body))
    if reading.damaged:
        raise unreadable(label, reading)
    return body


def _opened(payload: bytes, label: str) -> tuple[bytes, tuple[str, ...]]:
    """Return what is inside of compression and envelope, with a note on the compression."""
    try:
        body, compression = unwrap(payload)
    except ExpansionError as error:
        reason = (
            f"it is compressed with {compression_of(payload.removeprefix(FLASK_CACHING))}: {error}"
        )
        raise UnreadablePayloadError(label, reason, "expand it first") from None
    if is_sealed(body):
        body = unverified(body, label=label, most=max(MAX_EXPANDED, MAX_RATIO * len(body)))
    return body, (f"compressed with {compression}",) * bool(compression)


def _notes(reading: Reading, more_findings: int = 0) -> tuple[str, ...]:
    """Return what of a payload is not shown, each as a clause."""
    notes = []
    if reading.omitted:
        notes.append(
            f"{pluralize(reading.omitted, 'part')} not shown: too many, or nested deeper than "
            f"{MAX_DEPTH} levels"
        )
    if reading.omitted_names:
        notes.append(f"{pluralize(reading.omitted_names, 'name')} not listed: too many")
    if more_findings:
        notes.append(f"{pluralize(more_findings, 'finding')} not listed: too many")
    return tuple(notes)


def _fields(findings: list[Finding]) -> frozenset[object]:
    """Return the keys and attribute names on the way to any of the findings."""
    return frozenset(step.name for finding in findings for step in finding.path.steps)


def _looked(value: object, label: str, config: Config, *, fresh: bool = False) -> Diagnosis:
    options = Options(
        label=label, debug=True, hidden=config.redact_keys, fresh=fresh, searched=True
    )
    look = Diagnosis(DispatchTable(RuleBook(config.rules)), options).run(value)
    look.findings += look.secrets
    return look


def _apart(value: object, look: Diagnosis, config: Config, levels: int) -> Node:
    """Measure the parts of a value that is not stored; add what is found in them to `look`."""
    root = Node(qualified_name(type(value)))
    if look.table.strips(value) is not None:
        return root  # what is in an offender is not for storing
    for step, child in islice(iter_children(value), MOST_PARTS if levels else 0):
        below = _looked(child, look.options.label, config)
        if below.payload is None:
            part = _apart(child, below, config, levels - 1)
        else:
            least, wanted = len(below.payload) // SHARE, _fields(below.findings)
            part = read(below.payload, smallest=least, wanted=wanted).root
        root.size += part.size
        root.entries += 1
        root.hold((step,), part)
        refused = {one.code for one in look.findings if one.action is Action.REFUSED}
        for one in below.findings:
            if one.action is not Action.REFUSED or one.code not in refused:
                path = dataclasses.replace(one.path, steps=(step, *one.path.steps))
                look.findings.append(dataclasses.replace(one, path=path))
    return root
