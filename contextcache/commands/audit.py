"""Look through a live Redis: what cannot be read, is not signed or too large, and what is in it.

The command `contextcache audit`, also `manage.py contextcache audit` and
`flask contextcache audit`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from contextcache.base.masking import one_line
from contextcache.base.words import format_size, pluralize
from contextcache.commands.analysis import NoPickleError, examine_payload
from contextcache.commands.audit_entries import (
    EXPLAINED,
    Entry,
    Form,
    Inventory,
    Problem,
    Trust,
    judged,
    shown,
)
from contextcache.commands.explain import CLEAN, FOUND, NO_FRESH_PAYLOAD, UNUSABLE, show
from contextcache.commands.options import RATE, SECRET
from contextcache.config import Config
from contextcache.exceptions import ConfigurationError, ServerError, UnreadablePayloadError
from contextcache.payload.compression import ExpansionError
from contextcache.payload.loading import is_sealed
from contextcache.reports.terminal import Paper, Progress
from contextcache.servers import connect, public_url
from contextcache.servers.errors import UNUSABLE as UNUSABLE_SERVER
from contextcache.servers.errors import diagnose

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TextIO

MOST_READ = 8_000_000  # bytes of one entry; a larger one is measured, not looked into
BATCH = 100  # keys that are asked for at once
READ_AT_ONCE = 4_000_000  # bytes of all entries in one answer
PATIENCE = 10.0  # seconds for one answer
MAX_ANSWER = 200  # characters of an error of Redis
MOST_TYPES, MOST_LISTED, MOST_NAMES = 20, 10, 500


class Place(NamedTuple):
    """Some keys of a Redis.

    Attributes:
        client: Its client.
        name: What to call it, without a password.
        match: The pattern of its keys, as SCAN understands it.
    """

    client: Any
    name: str
    match: str = "*"


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Look through `options.url`, or at one of its entries.

    Returns:
        0 if nothing is wrong, 1 if something is, 2 if the server cannot be looked at.
    """
    names = options.secret_from or [SECRET]
    secrets = [os.environ[name] for name in names if os.environ.get(name)]
    if options.secret_from and not secrets:
        sys.stderr.write(f"contextcache: {' and '.join(names)} is not set\n")
        return UNUSABLE
    trust = Trust(secrets, signs=bool(secrets), most=options.large)
    try:
        client = connect(options.url, timeout=PATIENCE)
    except ConfigurationError as error:
        sys.stderr.write(f"contextcache: {error}\n")
        return UNUSABLE
    place = Place(client, public_url(options.url), options.match)
    if options.key is not None:
        return explain_entry(client, options.key, trust, options, out)
    return audit([place], trust, options, out)


@contextmanager
def named_failures(name: str) -> Iterator[None]:
    """Turn what any client of redis-py raises into a `ServerError`.

    Args:
        name: What to call the server; contextcache's own clients name it themselves.
    """
    try:
        yield
    except ServerError:
        raise
    except Exception as error:
        if not any(base.__name__ in ("RedisError", "ValkeyError") for base in type(error).__mro__):
            raise
        found = diagnose(error)
        text = one_line(str(error))[:MAX_ANSWER]
        told = f"{found.reason}; {found.remedy}" if found else f"it answers: {text}"
        raise ServerError(f"{name} {found.state if found else UNUSABLE_SERVER}: {told}") from error


def audit(places: Sequence[Place], trust: Trust, options: argparse.Namespace, out: TextIO) -> int:
    """Look through `places`, print what was found, and return the exit status."""
    inventory, began = Inventory(), time.monotonic()
    trust = _redacting(trust, options)
    name = ", ".join(f"{place.name} {place.match}" for place in places)
    try:
        with Progress(f"contextcache: looking through {name}") as progress:
            for place in places:
                with named_failures(place.name):
                    take_stock(place, trust, inventory, rate=options.rate, progress=progress)
    except ServerError as error:
        sys.stderr.write(f"contextcache: {error}\n")
        return UNUSABLE
    seconds = time.monotonic() - began
    if options.json:
        json.dump(data(inventory, name, seconds), out, indent=2, ensure_ascii=False)
        out.write("\n")
    else:
        _write(inventory, name, seconds, trust, Paper(out))
    return FOUND if inventory.problems else CLEAN


def take_stock(
    place: Place,
    trust: Trust,
    inventory: Inventory,
    *,
    rate: int = RATE,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Add the entries of `place` to `inventory`; nothing is written to it.

    Args:
        place: Some keys of a Redis.
        trust: By what entries are trusted.
        inventory: What has been found so far.
        rate: The most keys to look at in a second.
        progress: Called with the share that is done, where that is known.

    Raises:
        ServerError: Redis cannot be reached.
    """
    total = place.client.dbsize() if place.match == "*" else 0
    keys: Iterator[bytes] = place.client.scan_iter(match=place.match, count=BATCH)
    done, began = 0, time.monotonic()
    while batch := list(islice(keys, BATCH)):
        for key, size, payload in _read(place.client, batch, inventory):
            inventory.add(_judged(key, size, payload, trust))
        done += len(batch)
        if progress is not None and total:
            progress(min(1.0, done / total))
        time.sleep(max(0.0, done / rate - (time.monotonic() - began)))


def _judged(key: bytes, size: int, payload: bytes | None, trust: Trust) -> Entry:
    """Judge one entry; our own mistake in it does not keep the others from being looked at."""
    try:
        return judged(key, size, payload, trust)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001
        problem = Problem.UNREADABLE, f"looking into it failed: {type(error).__name__}"
        return Entry(shown(key, redact=trust.redact), size, Form.UNSEEN, "", (problem,))


def key_bytes(key: str) -> bytes:
    """Return the key that was an argument of a command, as Redis has it; it may be no UTF-8."""
    return key.encode(errors="surrogateescape")


def explain_entry(
    client: Any,
    key: str,
    trust: Trust,
    options: argparse.Namespace,
    out: TextIO,
    *,
    label: str = "",
) -> int:
    """Show one entry as a tree with sizes, without loading it, and return the exit status.

    Args:
        client: The client of its Redis.
        key: Its key there.
        trust: By what it is trusted.
        options: Those of `explain`.
        out: Where to print.
        label: The root of the paths in it; by default its key.
    """
    if getattr(options, "fresh", False):  # the audit of the core has no such option
        sys.stderr.write(f"contextcache: {NO_FRESH_PAYLOAD}\n")
        return UNUSABLE
    raw, trust = key_bytes(key), _redacting(trust, options)
    name = shown(raw, redact=trust.redact)
    try:
        with named_failures("Redis"):
            kind = _kind(client.type(raw))
            payload = client.get(raw) if kind == b"string" else None
        if payload is None:
            if kind in {b"string", b"none"}:
                sys.stderr.write(f"contextcache: there is no value under {name}\n")
            else:
                type_name = one_line(kind.decode(errors="replace"))
                sys.stderr.write(
                    f"contextcache: {name} is of type {type_name}; only strings are looked into\n"
                )
            return UNUSABLE
        body, _ = trust.expansion.unwrap(payload)
        if is_sealed(body):
            if not trust.secrets:
                sys.stderr.write(f"contextcache: {name} is signed; name its secret\n")
                return UNUSABLE
            body = trust.opened(body, raw)
        else:
            body = payload
        config = Config(redact_keys=trust.redact)
        seen = examine_payload(body, label=label or name, config=config, smallest=options.min_size)
    except ServerError as error:
        sys.stderr.write(f"contextcache: {error}\n")
        return UNUSABLE
    except ExpansionError as error:
        sys.stderr.write(f"contextcache: {name} is compressed, and cannot be read: {error}\n")
        return UNUSABLE
    except UnreadablePayloadError as error:
        sys.stderr.write(f"contextcache: {name} cannot be read: {error.reason}\n")
        return UNUSABLE if isinstance(error, NoPickleError) else FOUND
    return show(seen, options, out)


def _redacting(trust: Trust, options: argparse.Namespace) -> Trust:
    return dataclasses.replace(trust, redact=trust.redact or options.redact_keys)


def _read(
    client: Any, keys: Sequence[bytes], inventory: Inventory
) -> Iterator[tuple[bytes, int, bytes | None]]:
    """Yield keys that hold plain values, with their sizes and, if not too large, the values."""
    pipeline = client.pipeline(transaction=False)
    for key in keys:
        pipeline.type(key)
    kinds = [_kind(answer) for answer in pipeline.execute()]
    plain = [key for key, kind in zip(keys, kinds, strict=True) if kind == b"string"]
    inventory.skipped += sum(kind not in (b"string", b"none") for kind in kinds)
    pipeline = client.pipeline(transaction=False)
    for key in plain:
        pipeline.strlen(key)
    sizes = dict(zip(plain, pipeline.execute(), strict=True)) if plain else {}
    for group in _groups(sizes.items()):
        pipeline = client.pipeline(transaction=False)
        for key in group:
            pipeline.get(key)
        for key, payload in zip(group, pipeline.execute(), strict=True):
            if payload is not None:  # else it has expired meanwhile
                yield key, len(payload), payload
    for key, size in sizes.items():
        if size > MOST_READ:
            yield key, size, None


def _kind(answer: bytes | str) -> bytes:
    """Return what TYPE answers, if the client returns bytes."""
    if isinstance(answer, str):
        raise ServerError(
            "payloads are bytes, and this client decodes them: unset decode_responses"
        )
    return answer


def _groups(sizes: Iterable[tuple[bytes, int]]) -> Iterator[list[bytes]]:
    """Divide keys into groups whose values fit into one answer."""
    group: list[bytes] = []
    room = READ_AT_ONCE
    for key, size in sizes:
        if size > MOST_READ:
            continue
        if group and size > room:
            yield group
            group, room = [], READ_AT_ONCE
        group.append(key)
        room -= size
    if group:
        yield group


# --- Telling --------------------------------------------------------------------------------------


def data(inventory: Inventory, name: str, seconds: float) -> dict[str, Any]:
    """Return an inventory as plain data for JSON; the names are stable."""
    return {
        "server": name,
        "seconds": round(seconds, 3),
        "entries": inventory.entries,
        "bytes": inventory.bytes,
        "skipped": inventory.skipped,
        "forms": {form.name.lower(): inventory.forms[form] for form in Form},
        "problems": {
            problem.name.lower(): {
                "entries": inventory.problems[problem],
                "examples": [
                    {"key": entry.key, "bytes": entry.size, "reason": reason}
                    for entry, reason in inventory.examples.get(problem, ())
                ],
            }
            for problem in Problem
        },
        "types": [
            {
                "type": kind,
                "entries": held.entries,
                "bytes": held.bytes,
                "largest": {"key": held.example, "bytes": held.largest},
            }
            for kind, held in _by_size(inventory)
        ],
        "names": {"signed": inventory.loadable, "unsigned": inventory.claimed},
        "unlisted": inventory.unlisted,
    }


def _write(inventory: Inventory, name: str, seconds: float, trust: Trust, paper: Paper) -> None:
    found = ", ".join(f"{number:,} {form}" for form, number in inventory.forms.most_common())
    paper.write(
        f"{paper.paint(name, 'bold')}: {_entries(inventory.entries)}, "
        f"{format_size(inventory.bytes)}, in {seconds:.1f} s"
    )
    if found:
        told = (
            found if trust.secrets or not inventory.forms[Form.SIGNED] else f"{found}, not verified"
        )
        if told != found and not trust.at_home:
            told = f"{told}: no secret is known here; put it into {SECRET}"
        paper.write(f"  {told}")
    if inventory.skipped:
        paper.write(f"  {inventory.skipped:,} more with lists, hashes and so on, not looked into")
    for problem, number in inventory.problems.most_common():
        paper.write()
        head = f"{_entries(number)} {problem}: {EXPLAINED[problem]}"
        paper.write(paper.paint(head, "yellow"))
        for entry, reason in inventory.examples[problem][:MOST_LISTED]:
            paper.write(
                f"  {format_size(entry.size):>9}  {entry.key}  {paper.paint(reason, 'dim')}"
            )
        if number > MOST_LISTED:
            paper.write(f"  and {number - MOST_LISTED:,} more")
    _write_types(inventory, paper)
    _write_names("LOADABLE, as far as signed entries tell", inventory.loadable, paper)
    head = "Named by unsigned entries only; anybody who can write to Redis may have done so"
    _write_names(head, inventory.claimed, paper)
    if inventory.unlisted:
        paper.write(f"  names of {_entries(inventory.unlisted)} not listed: too many")


def _write_types(inventory: Inventory, paper: Paper) -> None:
    if not inventory.holdings:
        return
    paper.write()
    paper.write(paper.paint("What they hold", "bold"))
    held = _by_size(inventory)
    for kind, one in held[:MOST_TYPES]:
        largest = f"largest {format_size(one.largest)}: {one.example}"
        line = f"  {format_size(one.bytes):>9}  {one.entries:>9,}  {kind}"
        paper.write(f"{line}  {paper.paint(largest, 'dim')}")
    if len(held) > MOST_TYPES:
        paper.write(f"  and {pluralize(len(held) - MOST_TYPES, 'more type')}")


def _write_names(head: str, names: Sequence[str], paper: Paper) -> None:
    if names:
        paper.write()
        paper.write(paper.paint(head, "bold"))
        for name in names[:MOST_NAMES]:
            paper.write(f'  "{name}",')
        if len(names) > MOST_NAMES:
            paper.write(
                f"  and {pluralize(len(names) - MOST_NAMES, 'more name')}; --json lists more"
            )


def _by_size(inventory: Inventory) -> list[tuple[str, Any]]:
    return sorted(inventory.holdings.items(), key=lambda item: (-item[1].bytes, item[0]))


def _entries(number: int) -> str:
    return f"{number:,} {'entry' if number == 1 else 'entries'}"
