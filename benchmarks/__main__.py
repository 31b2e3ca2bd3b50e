"""Measure contextcache against what people use today, side by side, and write docs/benchmarks.md.

python -m benchmarks            everything; about half an hour, on a machine that does nothing else
python -m benchmarks --short    proves that it runs; its figures mean nothing and are not kept
python -m benchmarks caches     one section, printed and not kept
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measuring import Effort, stay_on
from benchmarks.report import Plots
from tests.redis_server import running_redis

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parents[1] / "docs"

SECTIONS = {
    "caches": ("Caches", "peers"),
    "sessions": ("Sessions and hooks", "sessions"),
    "floor": ("What the time is made of", "floor"),
    "growth": ("How it grows", "growth"),
    "engine": ("The guard alone", "engine"),
    "guard_cost": ("The guard alone, part by part", "guard_cost"),
    "imports": ("Imports", "imports"),
}

PACKAGES = (
    "redis", "hiredis", "Django", "django-redis", "Flask", "Flask-Caching", "Flask-Session",
    "cachelib", "dogpile.cache",
)  # fmt: skip


def configure_django(url: str) -> None:
    import django
    from django.conf import settings

    backends = {
        "default": "contextcache_django.cache.RedisCache",
        "stock": "django.core.cache.backends.redis.RedisCache",
        "django_redis": "django_redis.cache.RedisCache",
    }
    settings.configure(
        SECRET_KEY="only for the benchmark, with enough characters in it",
        ALLOWED_HOSTS=["localhost"],
        INSTALLED_APPS=["django.contrib.sessions", "contextcache_django"],
        CACHES={
            alias: {"BACKEND": backend, "LOCATION": url} for alias, backend in backends.items()
        },
        CONTEXTCACHE={"TIMEOUT": 10},  # a busy machine is no reason to give up
        ROOT_URLCONF="benchmarks.sessions",
        DEFAULT_CHARSET="utf-8",
    )
    django.setup()


@contextlib.contextmanager
def redis_apart() -> Iterator[str]:
    """Run a Redis on one processor and this process on another, as on a machine of its own.

    Left alone, Linux moves the two together for seconds at a time, and then each answer comes
    four times as fast: whoever has the turn wins.
    """
    processors = range(os.cpu_count() or 1)
    stay_on(processors[-1:])
    with running_redis() as url:
        stay_on(processors[:1])
        yield url
    stay_on(processors)


def head() -> str:
    server = subprocess.run(
        ["redis-server", "--version"], capture_output=True, text=True, check=True
    ).stdout.split()[2]
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    return f"""\
# Benchmarks

`make bench` wrote this page: {platform.python_implementation()} {platform.python_version()} on \
{platform.machine()} with {os.cpu_count()} processors, redis-server {server.removeprefix("v=")}, \
{versions}.

All contestants run in one process against one local Redis that the benchmark starts, and take \
turns operation by operation, so that noise hits all alike. Read the ratios; microseconds say more \
about the machine. Signing and guard are on in every figure of contextcache."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--short", action="store_true", help="prove that it runs, write nothing")
    parser.add_argument("--seconds", type=float, default=4.0, help="per contestant, default 4")
    parser.add_argument("section", nargs="*", choices=[[], *SECTIONS], help="only these")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # findings are reported, which is not what is measured
    effort = Effort(0.02, short=True) if options.short else Effort(options.seconds)
    keep = not options.short and not options.section
    plots = Plots(DOCS / "benchmarks", "benchmarks", keep=keep)
    parts = [head()]
    print(parts[0], flush=True)
    with redis_apart() as url:
        configure_django(url)
        for name in options.section or SECTIONS:
            title, module = SECTIONS[name]
            section = importlib.import_module(f"benchmarks.{module}").section
            parts.append(f"## {title}\n\n{section(url, effort, plots)}")
            print(f"\n{parts[-1]}", flush=True)
    if keep:
        (DOCS / "benchmarks.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
