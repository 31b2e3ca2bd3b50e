"""Play each flow of a session with each lost message into `docs/session-table.md`.

Run it with `make session-table`. `tests/faults/test_session_table.py` asserts over the same
outcomes what must hold in each row.
"""

from __future__ import annotations

import logging
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.faults.session_faults import IN_A_CLUSTER, Outcome, cluster, one_server, outcomes
from tests.faults.session_sites import FLOWS, SITES, FlaskSite, make_users

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent.parent / "docs" / "session-table.md"
BEGIN, END = "<!-- written by make session-table -->\n", "<!-- until here -->\n"


def rows() -> Iterator[tuple[str, list[Outcome]]]:
    """Yield a headline and the outcomes of each site."""
    with one_server() as rig:
        for kind in SITES:
            yield kind.name, [one for flow in FLOWS for one in outcomes(rig, kind, flow)]
    with cluster() as rig:
        for kind in (SITES[0], FlaskSite):
            headline = f"{kind.name}, in a Redis Cluster of three"
            yield headline, [one for flow in IN_A_CLUSTER for one in outcomes(rig, kind, flow)]


def table(found: list[Outcome]) -> list[str]:
    """Return outcomes as a table of Markdown."""
    header = ("flow", "command", "fault", "the visitor saw", "afterwards", "repeated")
    lines = ["| " + " | ".join(header) + " |", "| --- " * len(header) + "|"]
    for one in found:
        repeated = "" if one.answered else _state(one.again)
        cells = (one.flow, one.command, one.fault, one.saw, _state(one.after), repeated)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _state(text: str) -> str:
    name, _, cart = text.partition(" ")
    if name == "ann":
        return "logged in"
    return "logged out" if cart == "None" else "logged out, cart kept"


def main() -> None:
    """Play everything, and replace that part of the page."""
    from django.core.management import call_command

    logging.disable()
    call_command("migrate", verbosity=0)
    make_users()
    measured = (
        f"Measured on {time.strftime('%Y-%m-%d')} with CPython {platform.python_version()}, "
        f"redis-py {version('redis')}, Django {version('django')}, Flask {version('flask')}."
    )
    lines = [measured, ""]
    for headline, found in rows():
        print(headline, len(found), flush=True)
        lines += [f"## {headline}", "", *table(found), ""]
    before, _, rest = DOCS.read_text().partition(BEGIN)
    DOCS.write_text(before + BEGIN + "\n".join(lines) + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
