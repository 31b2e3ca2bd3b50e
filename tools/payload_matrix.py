"""Write every kind of value of the zoo on each Python, and read it on each other.

    make payload-matrix
    python -m tools.payload_matrix PYTHON...

The matrix goes into `docs/payload-matrix.md`. Each `PYTHON` is an interpreter that has what the
tests need. It writes the values into a folder, and a process of each reads them, as a web server
does after an upgrade of Python. A value that is read wrongly is an error, unless `NOT_CARRIED` says
why Python itself cannot carry it over; so is a reason that is no longer needed.
"""

from __future__ import annotations

import argparse
import collections
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "payload-matrix.md"
BEGIN, END = "<!-- written by make payload-matrix -->\n", "<!-- until here -->\n"
DISTRIBUTIONS = ("Django", "Flask", "Werkzeug", "SQLAlchemy", "redis")

NOT_CARRIED = {
    "path": "3.13 names `pathlib._local`, a module that 3.11 and 3.12 have not; 3.14 does not name "
    "it any more. Store `str(path)` where 3.13 runs beside them.",
}
"""Why a case of the zoo written on one Python is not read on another."""


def cases() -> list[Any]:
    """Return the cases of the zoo of which something is stored."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
    import django

    django.setup()
    from tests.zoo import INNOCENTS, OFFENDERS

    return [case for case in INNOCENTS + OFFENDERS if case.stored]


def write(folder: Path) -> dict[str, str]:
    """Store each case, and return why those are not stored that are not."""
    from contextcache import Guard

    failed = {}
    for case in cases():
        try:  # each with a guard of its own, which has taken no time yet for another
            (folder / f"{case.id}.bin").write_bytes(Guard().dumps(case.build()))
        except Exception as error:
            failed[case.id] = f"not written: {type(error).__name__}"
    return failed


def read(folder: Path) -> dict[str, str]:
    """Load each case that was stored, and return what is wrong with which."""
    from contextcache import Guard

    guard, failed = Guard(), {}
    for case in cases():
        path = folder / f"{case.id}.bin"
        if not path.exists():
            continue
        try:
            if not case.check(guard.loads(path.read_bytes())):
                failed[case.id] = "read, and not what was written"
        except Exception as error:
            cause = error.__cause__ or error
            failed[case.id] = f"{type(cause).__name__}: {error}"
    return failed


def perform(python: str, verb: str, folder: Path) -> dict[str, Any]:
    """Write or read with one interpreter, and return what it printed."""
    done = subprocess.run(
        [python, "-m", "tools.payload_matrix", f"--{verb}", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{python} could not {verb}:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def matrix(pythons: list[str], scratch: Path) -> tuple[list[str], list[str]]:
    """Write and read with each; return lines of Markdown, and what is wrong."""
    written, folders = {}, {}
    for python in pythons:
        folder = Path(tempfile.mkdtemp(dir=scratch))
        answer = perform(python, "write", folder)
        written[answer["python"]], folders[answer["python"]] = answer, (python, folder)
    lines = ["| written on | with | kinds | " + " | ".join(f"read on {v}" for v in written) + " |"]
    lines.append("| --- " * (len(written) + 3) + "|")
    lost: dict[str, dict[str, list[str]]] = collections.defaultdict(dict)
    wrong = [f"{v}: {c}: {why}" for v, a in written.items() for c, why in a["failed"].items()]
    for writer, (_, folder) in folders.items():
        number = len(list(folder.glob("*.bin")))
        cells = []
        for reader, (python, _) in folders.items():
            failed = perform(python, "read", folder)["failed"]
            cells.append("all" if not failed else f"{number - len(failed)} of {number}")
            for case, why in failed.items():
                lost[case].setdefault(why, []).append(f"{writer} → {reader}")
        lines.append(f"| {writer} | {written[writer]['with']} | {number} | {' | '.join(cells)} |")
    wrong += [
        f"{case}: {why}: {', '.join(pairs)}"
        for case, whys in lost.items()
        if case not in NOT_CARRIED
        for why, pairs in whys.items()
    ]
    wrong += [f"{case} is carried over now" for case in NOT_CARRIED if case not in lost]
    lines += ["", "What Python or a library cannot carry over:", ""] if lost else []
    for case, whys in lost.items():
        pairs = ", ".join(pair for found in whys.values() for pair in found)
        lines.append(f"* `{case}` ({pairs}): {NOT_CARRIED.get(case, 'UNEXPLAINED')}")
    return lines, wrong


def main() -> int:
    """Do as the command line says, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pythons", nargs="*", help="interpreters with what the tests need")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write or asked.read:
        logging.disable()
        warnings.simplefilter("ignore")  # of Django, which names the version that wrote
        failed = write(asked.write) if asked.write else read(asked.read)
        libraries = ", ".join(f"{name} {version(name)}" for name in DISTRIBUTIONS)
        answer = {"python": platform.python_version(), "with": libraries, "failed": failed}
        print(json.dumps(answer), flush=True)
        os._exit(0)  # some values of the zoo mind the end of the process
    with tempfile.TemporaryDirectory() as scratch:
        lines, wrong = matrix(asked.pythons, Path(scratch))
    text = DOCS.read_text("utf-8")
    before, rest = text.split(BEGIN)
    DOCS.write_text(
        f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}", "utf-8"
    )
    print("\n".join(lines))
    for one in wrong:
        print(f"  WRONG: {one}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
