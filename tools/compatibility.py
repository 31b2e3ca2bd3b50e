"""Write the table of `docs/compatibility.md` from the results of runs: `make matrix`.

    python -m tools.compatibility FOLDER

Each run with `CONTEXTCACHE_RESULTS=FOLDER` has left a file there (see `tests/results.py`). Two runs
with the same versions and tests are one row: that of the later one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "compatibility.md"
BEGIN, END = "<!-- results of runs -->\n", "<!-- end of results -->"
COLUMNS = ("Python", "Django", "Flask", "Flask-Caching", "redis", "hiredis", "server")


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the results in `folder`, the latest of each combination."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime):
        result = json.loads(path.read_text())
        found[json.dumps([result["versions"], result["tests"]])] = result
    return sorted(found.values(), key=_order)


def _order(result: dict[str, Any]) -> tuple[Any, ...]:
    numbers = [int(part) for part in result["versions"]["Python"].split(".")[:2]]
    return numbers, result["versions"]["server"], result["tests"]


def table(results: list[dict[str, Any]]) -> str:
    """Return the results as a table of Markdown."""
    heads = [*("redis-py" if name == "redis" else name for name in COLUMNS), "tests"]
    heads += ["passed", "failed", "skipped"]
    rows = [heads, ["---"] * len(heads)]
    for result in results:
        tests = ", ".join(f"`{one}`" if "/" in one else one for one in result["tests"])
        counts = [f"{result['counts'][name]:,}" for name in heads[-3:]]
        rows.append([*(result["versions"][name] for name in COLUMNS), tests or "all", *counts])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> None:
    """Put the table into the page."""
    results = read(Path(sys.argv[1]))
    if not results:
        sys.exit(f"there are no results in {sys.argv[1]}")
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
