"""Run the fault matrix and write it into `docs/fault-matrix.md`: `make fault-matrix`.

Each cell is measured on a server of its own: what the first operation under the fault says and
how long it takes, and how long the sixth does, when the circuit breaker has had its say. The
columns of other libraries, `fault_matrix_peers.csv`, were measured with the same faults and are
quoted.
"""

from __future__ import annotations

import csv
import logging
import platform
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults import places
from tests.faults.payloads import EVIL, FORGED, ROTTEN, executed
from tests.faults.places import PLACES, Place
from tests.faults.table import FAULTS, Fault
from tests.redis_server import KEPT, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DOCS = Path(__file__).parents[1] / "docs" / "fault-matrix.md"
PEERS = Path(__file__).with_name("fault_matrix_peers.csv")
BEGIN, END = "<!-- written by make fault-matrix -->\n", "<!-- until here -->\n"
REPEATS = 5

Cells = list[str]


def timed(operation: Callable[[], str]) -> tuple[str, float]:
    """Return what `operation` says, and the milliseconds it takes."""
    began = time.perf_counter()
    word = operation()
    return word, (time.perf_counter() - began) * 1000


def cell(operation: Callable[[], str]) -> str:
    """Describe an operation that is repeated while the fault lasts."""
    word, first = timed(operation)
    for _ in range(REPEATS):
        again, last = timed(operation)
    return f"{word}, {shown(first)}" + (
        f", then {shown(last)}" if again == word else f", then {again}, {shown(last)}"
    )


def shown(milliseconds: float) -> str:
    """Return a duration as a reader compares it."""
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else f"{milliseconds:.0f} ms"


# --- The rows -------------------------------------------------------------------------------------


def fault_rows() -> Iterator[tuple[str, str, Cells]]:
    """What happens to Redis and to the network."""
    for fault in FAULTS:
        for operation in ("read", "write"):
            yield fault.name, operation, [under(fault, kind, operation) for kind in PLACES]


def under(fault: Fault, kind: type[Place], operation: str) -> str:
    with fault.rig() as rig, kind(fault.url(rig)) as place:
        if not fault.first:
            place.write()
        with fault.strike(rig):
            return cell(getattr(place, operation))


PAYLOADS = {
    "truncated": "truncated in the middle",
    "random bytes": "random bytes",
    "empty string": "empty string",
    "unsigned": "an unsigned pickle",
    "a bit flipped": "last bit flipped",
}


def payload_rows() -> Iterator[tuple[str, str, Cells]]:
    """What stands in Redis and is not what was written there."""
    for name, forgery in PAYLOADS.items():
        yield f"payload: {name}", "read", [planted(kind, FORGED[forgery]) for kind in PLACES]
    evil = [planted(kind, lambda stored: EVIL["reduce"]) for kind in PLACES]
    yield "payload: evil __reduce__", "read", ["**runs the code**"] * 4 if executed else evil
    for rot in ROTTEN[:3]:
        cells = []
        for kind in PLACES:
            with (
                pytest.MonkeyPatch.context() as monkeypatch,
                running_server(*KEPT) as server,
                kind(server.url) as place,
            ):
                monkeypatch.setattr(places, "VALUE", rot.make())
                place.write()
                rot.spoil(monkeypatch)
                cells.append(once(place.read))
        yield f"payload: {rot.name}", "read", cells


def planted(kind: type[Place], forge: Callable[[bytes], bytes]) -> str:
    with running_server(*KEPT) as server, kind(server.url) as place, server.client() as redis:
        place.write()
        (key,) = redis.keys("*")
        redis.set(key, forge(redis.get(key)))
        return once(place.read)


class Raises:
    def __getstate__(self) -> object:
        raise ZeroDivisionError


class Mutates:
    """An object whose dict another thread changes while it is pickled."""

    def __init__(self) -> None:
        self.held: dict[int, object] = {}
        self.held.update({number: Slow(self.held) for number in range(10)})


class Slow:
    def __init__(self, held: dict[int, object]) -> None:
        self.held = held

    def __reduce__(self) -> tuple[Any, ...]:
        thread = threading.Thread(target=self.held.setdefault, args=(len(self.held), 1))
        thread.start()
        thread.join()
        return int, ()


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


VALUES: dict[str, Callable[[], object]] = {
    "lock": threading.Lock,
    "deep 100k list": nested,
    "__getstate__ raises": Raises,
    "dict mutated by thread": Mutates,
    "600MB bytes": lambda: bytes(600 * 10**6),
}


def value_rows() -> Iterator[tuple[str, str, Cells]]:
    """What a project stores and should not."""
    for name, make in VALUES.items():
        cells = []
        for kind in PLACES:
            with (
                pytest.MonkeyPatch.context() as monkeypatch,
                running_server(*KEPT) as server,
                kind(server.url) as place,
            ):
                place.write()
                monkeypatch.setattr(places, "VALUE", make())
                cells.append(once(place.write))
        yield f"value: {name}", "write", cells


def once(operation: Callable[[], str]) -> str:
    word, took = timed(operation)
    return f"{word}, {shown(took)}"


# --- The page -------------------------------------------------------------------------------------


def table(rows: list[tuple[str, str, Cells]]) -> str:
    """Return the rows, with what other libraries did, as two tables of Markdown."""
    with PEERS.open() as file:
        header, *measured = csv.reader(file)
    peers = {(fault, operation): cells for fault, operation, *cells in measured}
    names = ["fault", "operation", *(kind.name for kind in PLACES)]
    lines = ["## contextcache", "", *_table(names, [[f, o, *cells] for f, o, cells in rows])]
    lines += ["", "## The others", ""]
    lines += _table(header, [[f, o, *peers[f, o]] for f, o, _ in rows if (f, o) in peers])
    return "\n".join([*lines, ""])


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def main() -> None:
    """Measure everything, and replace that part of the page."""
    logging.disable()
    rows = []
    for make in (fault_rows, payload_rows, value_rows):
        for row in make():
            print(*row[:2], *row[2], sep=" | ", flush=True)
            rows.append(row)
    said = (
        f"Measured on {time.strftime('%Y-%m-%d')} with CPython {platform.python_version()}, "
        f"redis-py {version('redis')}, Django {version('django')}, Flask {version('flask')}.\n\n"
    )
    before, _, rest = DOCS.read_text().partition(BEGIN)
    DOCS.write_text(before + BEGIN + said + table(rows) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
