"""What the entries of a Redis are: signed or not, readable or not, and what they hold.

An entry is judged from its bytes alone. Its signature is verified, its pickle is read as
`contextcache.commands.payload_reader` reads one, and whether the names in it still exist is found
out without importing them. Nothing that stands in an entry is run.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from contextcache.base.masking import one_line
from contextcache.commands.formats import (
    FLASK_CACHING,
    MAX_EXPANDED,
    MAX_RATIO,
    find_pickle,
    is_number,
    runs,
    unwrap,
)
from contextcache.commands.import_names import Standing, standing
from contextcache.commands.stored_secrets import describe_secrets, shapes_in_stored
from contextcache.exceptions import UnreadablePayloadError, UntrustedPayloadError
from contextcache.payload.compression import ExpansionError, compression_of
from contextcache.payload.dangerous import is_listable
from contextcache.payload.envelope import Envelope, unverified
from contextcache.payload.loading import SAFE_GLOBALS, is_sealed
from contextcache.rules.secret_shapes import shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contextcache.commands.payload_reader import Reading
    from contextcache.guard import Guard
    from contextcache.rules.secret_shapes import Shape

MOST_EXAMPLES = 100  # entries that are listed for one problem; all are counted
LONGEST_KEY = 120  # characters
MAX_TYPES = 10_000  # that are counted apart
MAX_NAMES = 10_000  # that are listed

_HARMLESS = frozenset(SAFE_GLOBALS)
_NO_PARTS = 2**62  # bytes: what takes fewer gets no part of its own
_MAX_STANDINGS = 200  # names of one entry that are looked up
_FREE_EXPANSION = 32_000_000  # bytes of all entries that may expand by more than `MAX_RATIO`

# How the keys of sessions begin whose id stands in the key, and logs in whoever reads it.
_SESSION_ID = re.compile(r"(django\.contrib\.sessions\.cache(?:d_db)?|(?:^|:)session:)[^:]+$")


class Form(StrEnum):
    """What the bytes of an entry are."""

    SIGNED = "signed"
    PICKLE = "unsigned pickle"
    COMPRESSED = "compressed"
    NUMBER = "number"
    OTHER = "something else"
    UNSEEN = "too large to look into"


class Problem(StrEnum):
    """What is wrong with an entry."""

    UNREADABLE = "unreadable"
    UNTRUSTED = "untrusted"
    UNSIGNED = "unsigned"
    GONE = "of a class that is gone"
    COMPUTED = "with a computed name"
    RUNS = "that may run code"
    UNEXPANDED = "compressed and not looked into"
    SECRET = "with a secret"  # noqa: S105  # the words for it
    OVERSIZED = "oversized"


EXPLAINED = {
    Problem.UNREADABLE: "a reader gets a miss",
    Problem.UNTRUSTED: "a reader gets a miss: not signed here, or for another key",
    Problem.UNSIGNED: "a reader gets a miss, unless ACCEPT_UNSIGNED is set",
    Problem.GONE: "a reader gets a miss: a class was renamed or removed",
    Problem.COMPUTED: "no pickler writes such a pickle, but a forger may",
    Problem.RUNS: "it names what no data needs",
    Problem.UNEXPANDED: "nothing is known of what they hold",
    Problem.SECRET: "anyone who can read Redis can read it",
    Problem.OVERSIZED: "look at what they hold: explain shows the largest parts",
}


@dataclasses.dataclass(slots=True)
class Expansion:
    """How many bytes compressed entries may still become, so that a few cannot hold an audit up."""

    left: int = _FREE_EXPANSION

    def unwrap(self, payload: bytes) -> tuple[bytes, str]:
        """Return what is inside of a payload, and the name of its compression.

        Raises:
            ExpansionError: It is compressed, and cannot be expanded.
        """
        usual = MAX_RATIO * len(payload)
        body, compression = unwrap(payload, max(usual, min(MAX_EXPANDED, self.left)))
        self.left -= max(0, len(body) - usual)
        return body, compression

    def read_sealed(self, payload: bytes) -> bytes:
        """Return what is inside of a sealed payload without verifying it: only to be read.

        Raises:
            UnreadablePayloadError: It is not whole, or cannot be expanded.
        """
        usual = MAX_RATIO * len(payload)
        most = max(usual, min(MAX_EXPANDED, self.left))
        body = unverified(payload, label="it", most=most)
        self.left -= max(0, len(body) - usual)
        return body


@dataclasses.dataclass(frozen=True, slots=True)
class Trust:
    """By what an entry is trusted.

    Args:
        secrets: What the application signs with; none where that is not known here.
        signs: Whether it signs what it stores, so that it refuses what is unsigned.
        at_home: Whether this process has the application's path, so that a module that is not
            here is gone.
        most: The most bytes an entry may have before it is called oversized.
        redact: Whether no key is shown.
    """

    secrets: Sequence[str | bytes] = ()
    signs: bool = False
    at_home: bool = False
    most: int = 1_000_000
    redact: bool = False
    expansion: Expansion = dataclasses.field(default_factory=Expansion, compare=False)

    @classmethod
    def of(cls, guard: Guard | None, most: int) -> Trust:
        """Return by what an application trusts its entries: the secrets of its guard.

        Args:
            guard: The guard; None where the entries are not guarded.
            most: The most bytes an entry may have before it is called oversized.
        """
        if guard is None:
            return cls(at_home=True, most=most)
        config = guard.config
        return cls(
            config.secret_keys,
            signs=guard.signs and not config.accept_unsigned,
            at_home=True,
            most=most,
            redact=config.redact_keys,
        )

    def opened(self, payload: bytes, key: bytes) -> bytes:
        """Return the pickle in a sealed payload, verified where there is a secret.

        Raises:
            UntrustedPayloadError: It was not signed with one of the secrets for this key.
            UnreadablePayloadError: Its body cannot be expanded.
        """
        failure: UnreadablePayloadError | None = None
        for purpose in ("session", "cache", "job"):
            envelope = _envelope(tuple(self.secrets), purpose)
            for place in (key, b""):  # a serializer alone is not told the key
                try:
                    return bytes(envelope.open(payload, place, "it"))
                except UntrustedPayloadError as error:
                    if failure is None or "another secret" in failure.reason:
                        failure = error
        assert failure is not None  # noqa: S101  # for mypy: every loop ends in a return or in it
        raise failure


@functools.lru_cache(maxsize=4)
def _envelope(secrets: tuple[str | bytes, ...], purpose: str) -> Envelope:
    return Envelope(secrets, purpose=purpose, most=2**29)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one entry.

    Attributes:
        key: The key as it may be shown.
        size: Bytes of the payload.
        form: What the bytes are.
        kind: The type of the value, where that is known.
        problems: What is wrong with it, with the reason of each.
        names: What loading it imports, as `module:qualname`.
    """

    key: str
    size: int
    form: Form
    kind: str = ""
    problems: tuple[tuple[Problem, str], ...] = ()
    names: tuple[str, ...] = ()


def judged(key: bytes, size: int, payload: bytes | None, trust: Trust) -> Entry:
    """Judge one entry.

    Args:
        key: Its key in Redis.
        size: Bytes of the payload.
        payload: The payload; None where it is too large to be looked into.
        trust: By what it is trusted.
    """
    name = shown(key, redact=trust.redact)
    problems: list[tuple[Problem, str]] = []
    if size > trust.most:
        problems.append((Problem.OVERSIZED, f"more than {trust.most} bytes"))
    if payload is None:
        return Entry(name, size, Form.UNSEEN, "", tuple(problems))
    if is_number(payload):
        return Entry(name, size, Form.NUMBER, "int", tuple(problems))
    form, kind = Form.OTHER, ""
    names: tuple[str, ...] = ()
    try:
        body, compression = trust.expansion.unwrap(payload)
        form = Form.SIGNED if is_sealed(body) else Form.COMPRESSED if compression else form
        if form is Form.SIGNED:
            if not trust.secrets:
                problems += _unverified_secrets(body, trust)
                return Entry(name, size, form, "", tuple(problems))  # nobody knows by whom
            body = trust.opened(body, key)
        shapes = shapes_in_stored(body)
        reading = find_pickle(body, smallest=_NO_PARTS, shapes=shapes)
    except ExpansionError as error:
        form, kind = Form.COMPRESSED, ""
        problems.append(
            (Problem.UNEXPANDED, f"{compression_of(payload.removeprefix(FLASK_CACHING))}: {error}")
        )
    except UntrustedPayloadError as error:
        problems.append((Problem.UNTRUSTED, error.reason))
        problems += _unverified_secrets(body, trust)
    except UnreadablePayloadError as error:
        problems.append((Problem.UNREADABLE, error.reason))
    else:
        if reading is None and form is Form.SIGNED:
            problems.append((Problem.UNREADABLE, "it holds no pickle"))
        if reading is not None:
            form = Form.PICKLE if form is Form.OTHER else form
            kind, names = reading.root.kind, reading.names
            problems += _problems(reading, form, trust)
        problems += _secrets(body, reading, shapes, trust)
    return Entry(name, size, form, kind, tuple(problems), names)


def _problems(reading: Reading, form: Form, trust: Trust) -> Iterator[tuple[Problem, str]]:
    """Yield what is wrong with the pickle of an entry."""
    if form is not Form.SIGNED and trust.signs:
        yield Problem.UNSIGNED, "it is not signed"
    if reading.damaged:
        yield Problem.UNREADABLE, f"its pickle is damaged from byte {reading.end} on"
    if reading.computed:
        yield Problem.COMPUTED, "it computes a name while it is loaded"
    running = runs(reading) if form is not Form.SIGNED else ()
    if running:
        yield Problem.RUNS, f"it names {running[0]}"
    for one in reading.names[:_MAX_STANDINGS]:
        if standing(one, at_home=trust.at_home) is Standing.GONE:
            yield Problem.GONE, f"{one} is gone"
            break


def _unverified_secrets(sealed: bytes, trust: Trust) -> Iterator[tuple[Problem, str]]:
    """Yield the secrets in a sealed payload that is not from here, or may not be."""
    try:
        body = trust.expansion.read_sealed(sealed)
    except UnreadablePayloadError:
        return
    shapes = shapes_in_stored(body)
    if shapes:
        reading = find_pickle(body, smallest=_NO_PARTS, shapes=shapes)
        yield from _secrets(body, reading, shapes, trust)


def _secrets(
    body: bytes, reading: Reading | None, shapes: Sequence[Shape], trust: Trust
) -> Iterator[tuple[Problem, str]]:
    found = describe_secrets(body, reading, shapes, hidden=trust.redact)
    if found:
        more = f", and {len(found) - 1} more" if len(found) > 1 else ""
        yield Problem.SECRET, f"it holds what looks like {found[0]}{more}"


def shown(key: bytes, *, redact: bool = False) -> str:
    """Return a key as it may be printed: one line, no session id or secret, not too long."""
    text = one_line(key.decode("utf-8", "backslashreplace"))
    text = _SESSION_ID.sub(r"\1…", text)
    if redact or shape_of(text) is not None:
        return "…"
    return text if len(text) <= LONGEST_KEY else text[: LONGEST_KEY - 1] + "…"


@dataclasses.dataclass(slots=True)
class Holding:
    """All entries of one type."""

    entries: int = 0
    bytes: int = 0
    largest: int = 0
    example: str = ""

    def add(self, entry: Entry) -> None:
        """Count one more."""
        self.entries += 1
        self.bytes += entry.size
        if entry.size > self.largest:
            self.largest, self.example = entry.size, entry.key


class Inventory:
    """The entries of a Redis, added up.

    Attributes:
        entries: How many there are.
        bytes: What they take.
        skipped: How many keys hold no plain value, but a list, a hash and so on.
        forms: How many there are of each form.
        problems: How many have each problem.
        examples: Some of those, for each problem.
        holdings: What they hold, by type.
        unlisted: How often an entry had names beyond the most that are listed.
    """

    def __init__(self) -> None:
        self.entries = self.bytes = self.skipped = self.unlisted = 0
        self.forms: Counter[Form] = Counter()
        self.problems: Counter[Problem] = Counter()
        self.examples: dict[Problem, list[tuple[Entry, str]]] = {}
        self.holdings: dict[str, Holding] = {}
        self._signed: set[str] = set()
        self._unsigned: set[str] = set()

    def add(self, entry: Entry) -> None:
        """Add one entry."""
        self.entries += 1
        self.bytes += entry.size
        self.forms[entry.form] += 1
        names, entry = entry.names, dataclasses.replace(entry, names=())
        for problem, reason in entry.problems:
            self.problems[problem] += 1
            examples = self.examples.setdefault(problem, [])
            if len(examples) < MOST_EXAMPLES:
                examples.append((entry, reason))
        kind = entry.kind or "unknown"
        if kind not in self.holdings and len(self.holdings) >= MAX_TYPES:
            kind = "other types"
        self.holdings.setdefault(kind, Holding()).add(entry)
        known = self._signed if entry.form is Form.SIGNED else self._unsigned
        if len(known) < MAX_NAMES:
            known.update(names)
        elif not known.issuperset(names):
            self.unlisted += 1

    @property
    def loadable(self) -> list[str]:
        """What signed entries load by name, in the words of the setting `LOADABLE`."""
        return sorted(filter(is_listable, self._signed - _HARMLESS))

    @property
    def claimed(self) -> list[str]:
        """What unsigned entries alone load by name; anybody may have written it."""
        return sorted(self._unsigned - self._signed - _HARMLESS)
