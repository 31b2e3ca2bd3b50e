"""Imports ahead of time: a process forked while a thread imports a module waits for it for ever.

`import contextcache` stays quick. What the first finding needs is imported with the first guard,
which an application makes before it serves requests. A server that forks later, in the middle of
a finding of another thread, then leaves no half-imported module behind in the child.
"""

from __future__ import annotations

import functools
import sys
from importlib import import_module

_FINDING: tuple[str, ...] = (
    "contextcache.reports.log_format",
    "contextcache.reports.terminal",
    "linecache",
    "logging",
    "pickletools",
    "sysconfig",
    "tokenize",  # which linecache and traceback import late
    "urllib.parse",
)
_SIGNING = ("contextcache.payload.allow_list", "contextcache.payload.envelope")
_DEVELOPER: tuple[str, ...] = (
    "contextcache.engine.secret_search",
    "contextcache.reports.offence",
    "contextcache.reports.patches",
    "contextcache.reports.field_source",
    "csv",  # this one and the following are imported late by importlib.metadata
    "email.parser",
    "email.policy",
    "importlib.metadata._adapters",
    "zipfile",
)
if sys.version_info >= (3, 14):
    _FINDING += ("annotationlib",)
    _DEVELOPER += ("_ast_unparse",)  # which `ast` imports late


@functools.cache
def preload(*, debug: bool = False, signs: bool = False) -> None:
    """Import what writing, refusing, reporting and reading a value may need.

    Args:
        debug: Whether findings come with their lines and patches, for a developer or a test.
        signs: Whether guards that sign, or have an allow-list, will be made later, by a request.
    """
    names = (*_FINDING, *(_DEVELOPER if debug else ()), *(_SIGNING if signs else ()))
    for name in names:
        import_module(name)
