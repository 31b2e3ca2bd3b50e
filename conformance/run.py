"""Run the test suites of Django and django-redis on our classes, and compare with the stock ones.

    python -m conformance.run [--sources DIR] [django] [django-redis]

The suites come from the source distributions of the versions that are installed; they run
unchanged, and what is tested is chosen by settings alone. A test that passes on the stock classes
and not on ours is an error, unless it is named in DIFFERENCES with its reason, and so is a
difference that is no more.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.memcached_server import running_memcached
from tests.redis_server import running_redis

HERE = Path(__file__).parent
ROOT = HERE.parent

UNSTORABLE = "a value that cannot be pickled is reported and not stored, instead of an exception"
IN_THE_DATABASE = "it looks for the session in the database, where SESSION_ENGINE does not put it"
SIGNED_MEMBERS = "a pattern is compared with the stored bytes of a member, whose signature it lacks"
DATABASE_DECIDES = "whether there is a session is for the database to say, not for its cache"
OWN_WORDS = "it asks for the words Django logs for an outage of the cache; ours name no object"
OWN_CLIENT = "it replaces a method of Django's client that ours has a method of its own for"
DIFFERENCES = {
    r".*\.test_(add|set)_fail_on_pickleerror": UNSTORABLE,
    r".*\.SessionMiddlewareTests\.test_empty_session_saved": IN_THE_DATABASE,
    r".*\.CachedDBEngineTests\.test_exists_searches_cache_first": DATABASE_DECIDES,
    r".*\.CachedDBEngineTests\.test_cache_(async_)?set_failure_non_fatal": OWN_WORDS,
    r".*\.RedisCacheTests\.test_incr_write_connection": OWN_CLIENT,
    r".*::test_sscan(_iter)?_with_match\[sqlite\]": SIGNED_MEMBERS,
}

CACHES = ["cache.tests.RedisCacheTests", "sessions_tests"]
GUARDED = ["cache.tests_async", "sessions_tests.models", "contextcache_suite"]


def main() -> int:
    """Run the suites that were asked for, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suites", nargs="*", choices=[*SUITES, []], help="by default, all")
    parser.add_argument("--sources", type=Path, help="where source distributions are kept")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sources = asked.sources or Path(scratch)
        return max(SUITES[name](Path(scratch), sources) for name in asked.suites or SUITES)


def django(scratch: Path, sources: Path) -> int:
    """Run Django's cache and session tests on stock and on ours, and its backends guarded."""
    unpacked = unpack("Django", "django", scratch, sources)
    shutil.copytree(HERE / "suite" / "contextcache_suite", unpacked / "tests/contextcache_suite")

    def run(which: str, labels: list[str]) -> Result:
        with running_redis() as redis, running_memcached() as memcached:
            env = {
                "CONFORMANCE": which,
                "CONFORMANCE_REDIS": redis.removesuffix("/0"),
                "CONFORMANCE_MEMCACHED": memcached,
                "PYTHONPATH": f"{ROOT}{os.pathsep}{unpacked}",
            }
            command = ["runtests.py", "--settings=conformance.suite.settings", *labels]
            return Result(which, unpacked / "tests", [*command, "--parallel=1"], env)

    with ThreadPoolExecutor() as pool:
        stock, ours, guarded = pool.map(
            run, ("stock", "ours", "guarded"), (CACHES, CACHES, GUARDED)
        )
    return verdict("Django", stock, ours, guarded)


def django_redis(scratch: Path, sources: Path) -> int:
    """Run django-redis's own tests with its pickle serializer and with ours."""
    results = []
    for which in ("stock", "ours"):
        unpacked = unpack("django-redis", "django_redis", scratch / which, sources)
        chosen = unpacked / "tests/settings/sqlite.py"
        chosen.rename(chosen.with_name("stock.py"))
        shutil.copy(HERE / "django_redis_settings.py", chosen)
        with running_redis() as redis:
            env = {
                "CONFORMANCE": which,
                "CONFORMANCE_REDIS": redis.removesuffix("/0"),
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(unpacked), str(unpacked / "tests")]),
            }
            names = ("backend", "backend_sorted_sets", "session", "client", "cache_options")
            command = ["-m", "pytest", "-c", os.devnull, "--rootdir=.", "-p", "no:cacheprovider"]
            command += ["-p", "no:django", "-q", "-rfE", "-k", "not sqlite_"]
            command += [f"tests/test_{name}.py" for name in names]
            results.append(Result(which, unpacked, command, env))
    return verdict("django-redis", *results)


SUITES = {"django": django, "django-redis": django_redis}


class Result:
    """What one run of a suite said."""

    def __init__(self, name: str, folder: Path, command: list[str], env: dict[str, str]) -> None:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1800,
            check=False,
        )
        self.name = name
        self.said = done.stdout
        found = re.findall(r"^(?:FAIL|ERROR): \w+ \(([\w.]+)\)", self.said, re.MULTILINE)
        found += re.findall(r"^(?:FAILED|ERROR) (\S+::\S+)", self.said, re.MULTILINE)
        self.failed = set(found)
        counts = re.findall(r"^Ran (\d+) tests|(\d+) (?:passed|failed)", self.said, re.MULTILINE)
        self.total = sum(int(first or second) for first, second in counts)
        skipped = re.search(r"skipped=(\d+)", self.said)
        self.skipped = int(skipped[1]) if skipped else 0


def verdict(suite: str, stock: Result, ours: Result, *more: Result) -> int:
    """Say what differs from `stock`, and return the exit status."""
    wrong = []
    for result in (stock, ours, *more):
        told = f"{result.total} tests, {result.skipped} skipped, {len(result.failed)} failed"
        print(f"{suite}, {result.name}: {told}")
        if not result.total:
            wrong.append(result.said[-2000:])
    if stock.total != ours.total:
        wrong.append(f"{stock.total} tests on stock, {ours.total} on ours")
    for result in (ours, *more):
        for test in sorted(result.failed - stock.failed):
            reasons = [why for pattern, why in DIFFERENCES.items() if re.fullmatch(pattern, test)]
            print(f"  by design: {test}: {reasons[0]}" if reasons else f"  WRONG: {test}")
            if not reasons:
                wrong.append(result.said[-6000:])
    for message in dict.fromkeys(wrong):
        print(message, file=sys.stderr)
    return 1 if wrong else 0


def unpack(package: str, name: str, into: Path, sources: Path) -> Path:
    """Return the unpacked source distribution of the installed version of `package`."""
    release = f"{name}-{importlib.metadata.version(package)}"
    archive = sources / f"{release}.tar.gz"
    if not archive.exists():
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
        pip += ["--no-deps", "--no-binary", ":all:", "--dest", str(sources)]
        subprocess.run([*pip, release.replace("-", "==").replace("_", "-")], check=True)
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
    return into / release


if __name__ == "__main__":
    sys.exit(main())
