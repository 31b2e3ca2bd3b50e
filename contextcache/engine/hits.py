"""An offender that a dump has met, and the dump that is running in this context."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from contextcache.base.introspection import qualified_name
from contextcache.base.masking import generalised

if TYPE_CHECKING:
    from contextcache.engine.dump import Dump
    from contextcache.findings.finding import Action
    from contextcache.rules.rule import Verdict

running: ContextVar[Dump] = ContextVar("contextcache_dump")
"""The dump that is running in this context, for the reducers that pickle calls."""


class Hit:
    """One offender met during a dump.

    It holds the offender itself, so it must not outlive the report.
    """

    __slots__ = ("action", "did", "holder", "inside", "leaf", "name", "rule", "target")

    def __init__(self, leaf: object, rule: Verdict, action: Action, did: str) -> None:
        self.leaf = leaf
        self.rule = rule
        self.action = action
        self.did = did
        self.holder: object = None  # what it was left out of, where pickle never got to see it
        self.name = ""  # the attribute of the holder
        self.target: object = None  # what was stored in its place
        self.inside: Dump | None = None  # the trial that showed that the leaf does not load


def kind_of(code: str, cls: type) -> tuple[str, str]:
    """Return code and name of a type that offends, alike for classes made with a number each."""
    return code, generalised(qualified_name(cls))


class SelfReferenceError(Exception):
    """An object that needs itself to be rebuilt, so that pickle would recurse for ever."""

    def __init__(self, obj: object) -> None:
        super().__init__()
        self.obj = obj
