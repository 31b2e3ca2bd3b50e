"""Run the test suites of Flask-Caching and cachelib on our backends as on their own.

Each suite is taken from its source distribution and runs three times: as it is; with every
backend behind the guard; and, Flask-Caching's, with every application on `RedisCache`, theirs
and then ours. A test that passes on theirs and fails on ours, twice in a row, is a failure here.

    python conformance/flask_suites.py [--keep DIRECTORY]

Needs redis-server, memcached and the package index.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PORTS = {"redis-server": 6360, "memcached": 11212}  # which both suites expect
SECONDS = 300
ABSENT = ("dynamodb", "mongodb", "uwsgi", "valkey")  # servers of which there is none here
BY_DESIGN = {
    # A guarded backend has a subclass of its class, of the same name, and a serializer of ours.
    "test_backend_uses_cachelib_serializer",
    "test_cachelib_backend_gets_cache_args",
    "test_cachelib_class_as_cache_type",
    "test_default_keeps_the_cachelib_serializer",
    "test_instance_is_used_as_is",
    # `app.extensions["cache"]` is there before Flask-Caching is, because it guards what comes.
    "test_serializer_is_rejected_before_the_backend_is_built",
}
RUNS = {
    "Flask-Caching": (("theirs", "guarded"), ("theirs-on-redis", "ours-on-redis")),
    "cachelib": (("theirs", "guarded"),),
}


def main() -> int:
    """Run every suite and return how many tests fail on ours alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="where the source distributions are kept")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        kept = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(servers())
        worse = 0
        for name, pairs in RUNS.items():
            suite = unpacked(name, kept)
            for theirs, ours in pairs:
                worse += len(compared(name, suite, theirs, ours))
    return worse


def compared(name: str, suite: Path, theirs: str, ours: str) -> set[str]:
    """Run `suite` twice and return the tests that pass on theirs only."""
    passed = outcome(suite, theirs)
    passed_too = outcome(suite, ours)
    worse = passed - passed_too
    known = {test for test in worse if re.split(r"::|\[", test)[1] in BY_DESIGN}
    if worse - known:  # their timeouts of one second are a matter of luck
        worse -= outcome(suite, ours)
    worse -= known
    print(
        f"{name}: {len(passed)} pass {theirs}; of them {len(passed) - len(known) - len(worse)} "
        f"pass {ours}, {len(known)} differ by design, {len(worse)} fail",
        flush=True,
    )
    for test in sorted(worse):
        print(f"  passes {theirs}, fails {ours}: {test}")
    return worse


def outcome(suite: Path, mode: str) -> set[str]:
    """Run `suite` and return the tests that passed; what did not is in its log."""
    environment = {**os.environ, "CI": "true", "CONTEXTCACHE_SUITE": mode}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "tests", "-q", "-rA", "--tb=short", "--color=no",
            *(f"--ignore=tests/test_{absent}_cache.py" for absent in ABSENT),
            "-p", "flask_suites_plugin", "-p", "no:django", "-o", f"cache_dir={suite / 'cache'}",
        ],
        cwd=suite,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )  # fmt: skip
    (suite / f"{mode}.log").write_text(done.stdout + done.stderr)
    passed = set(re.findall(r"^PASSED (.+)$", done.stdout, re.MULTILINE))
    if not passed:
        raise SystemExit(f"{suite.name} did not run:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return passed


def unpacked(name: str, kept: Path) -> Path:
    """Fetch the source distribution of the installed version, and return where it lies."""
    stem = f"{name.lower().replace('-', '_')}-{version(name)}"
    archive = kept / f"{stem}.tar.gz"
    if not archive.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--no-binary", name, "--dest", str(kept)]
        subprocess.run([*command, f"{name}=={version(name)}"], check=True)
    with tarfile.open(archive) as source:
        source.extractall(kept, filter="data")
    return kept / stem


@contextlib.contextmanager
def servers() -> Iterator[None]:
    """Run the servers that the suites would otherwise start and stop themselves."""
    commands = (
        ["redis-server", "--port", str(PORTS["redis-server"]), "--save", "", "--appendonly", "no"],
        ["memcached", "-p", str(PORTS["memcached"]), "-U", "0", "-u", getpass.getuser()],
    )
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
