"""How long an import takes, in a process of its own each time, beside one that imports nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from benchmarks.measuring import race
from benchmarks.report import table
from tests.child import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measuring import Effort
    from benchmarks.report import Plots

PROJECT = """
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="only for the benchmark",
    INSTALLED_APPS=["django.contrib.sessions", *{apps}],
    CACHES={{"default": {{"BACKEND": "{backend}", "LOCATION": "redis://127.0.0.1:1"}}}},
)
django.setup()
import django.contrib.sessions.middleware, {modules}
from django.core.cache import cache
cache.make_key("key")
"""

STOCK = PROJECT.format(
    apps=[],
    backend="django.core.cache.backends.redis.RedisCache",
    modules="django.contrib.sessions.backends.cache",
)
OURS = PROJECT.format(
    apps=["contextcache_django"],
    backend="contextcache_django.cache.RedisCache",
    modules="contextcache_django.sessions, contextcache_django.middleware",
)


def python(code: str) -> Callable[[], object]:
    """Return what runs `code` in a new interpreter, with bytecode as an installed package has."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]

    def once() -> None:
        # Not subprocess.run: its own work would be measured, too.
        pid = os.posix_spawn(sys.executable, command, environment)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return once


def section(_url: str, effort: Effort, _plots: Plots) -> str:
    """Compare processes that import with processes that do not."""
    programs = {"nothing": "pass", "core": "import contextcache", "stock": STOCK, "ours": OURS}
    times = race({name: python(code) for name, code in programs.items()}, effort)

    def extra(label: str, more: str, less: str, target: str) -> tuple[str, str, str, str]:
        median = 1e3 * (times[more].median - times[less].median)
        p10 = 1e3 * (times[more].p10 - times[less].p10)
        return label, target, f"{median:.0f}", f"{p10:.0f}"

    lines = [
        extra("`import contextcache`, beyond `pass`", "core", "nothing", "≤ 30"),
        extra("a Django project with our app, beyond one without", "ours", "stock", "≤ 60"),
        extra("for comparison: that Django project, beyond `pass`", "stock", "nothing", ""),
    ]
    return table(("", "target ms", "extra ms (median)", "extra ms (p10)"), lines)
