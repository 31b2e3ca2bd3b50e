"""The checks: what a code means, and what both frameworks look for.

A code has one meaning, whichever framework reports it. `docs/checks.md` says of each what to do.

=====  ==========================================================================================
E001   a setting or key that contextcache does not have
E002   a mode, rule, size, callback or secret that contextcache does not understand
E003   sessions kept in a cache that cannot hold them
E004   a cache that cannot be made: its URL, an option or a package is wrong
E005   a deployed cache or session store without a server, which is kept in an embedded Redis
E006   a `SESSION_ENGINE` that cannot be imported
E007   a Redis that cannot be reached or used; only the commands `check` connect
W001   a cache outside of the process that pickles without a guard
W002   sessions that are stored without a guard
W003   the middleware is missing
W004   the middleware stands after one that saves sessions or pages
W005   payloads that are not signed, or are read unsigned
W006   a `SESSION_SERIALIZER` that the `SESSION_ENGINE` does not use
W007   sessions that are read differently from the cache than from the database
W008   sessions whose `SESSION_SERIALIZER` names no field where it fails
W009   a rule that applies to no object, because its type has another name or does not exist
W010   an embedded Redis in production
W011   a setting that is left from django-redis
W012   a logger that the logging configuration has disabled
W013   an ignored pattern that no path begins with
W014   a setting whose name is nearly one of contextcache's
=====  ==========================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from contextcache.base.logs import DISABLED, ENABLE, is_disabled
from contextcache.base.words import near
from contextcache.findings.path import tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contextcache.config import Config
    from contextcache.rules.rule import Rule

PREFIX = "contextcache."  # of each code, where it is shown
ROOTS = ("session", "cache")  # that the paths of the frameworks have
LIKENESS = 0.9  # of a setting's name that is taken for one of contextcache's (difflib's ratio)
ROOT_LIKENESS = 0.7
ALL_GUARDED = "contextcache: everything is guarded"

_AS_SHOWN = "Write the name of the type as findings show it."


class Check(NamedTuple):
    """A problem that a check has found.

    Attributes:
        code: Its code, such as `W001`; one that begins with `E` is an error.
        text: What is wrong.
        hint: What to do about it.
    """

    code: str
    text: str
    hint: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.code}: {self.text}\n    HINT: {self.hint}"


def unmatched_rules(rules: Iterable[Rule], where: str) -> Iterator[Check]:
    """Yield W009 for each rule that applies to no object.

    Args:
        rules: The application's own rules.
        where: The name of the setting.
    """
    for rule in rules:
        if misnamed := rule.misnamed():
            why, meant = misnamed
            yield Check(
                "W009",
                f"{where} names {rule.type!r}, {why}: the rule applies to no object.",
                f"Did you mean {meant!r}?" if meant else _AS_SHOWN,
            )


def unmatched_patterns(config: Config, where: str) -> Iterator[Check]:
    """Yield W013 for each ignored pattern that begins with a misspelled `session` or `cache`."""
    for pattern in config.ignore:
        root = tokens(pattern)[0]
        if root not in ROOTS and (meant := near(root, ROOTS, ROOT_LIKENESS)):
            yield Check(
                "W013",
                f"{where} has {pattern!r}, and no path begins with {root!r}.",
                f"Did you mean {meant!r}?",
            )


def misspelled_settings(names: Iterable[str], known: Iterable[str]) -> Iterator[Check]:
    """Yield W014 for each name that is nearly one of `known`, such as `CONTEXT_CACHE`.

    Args:
        names: The names of all settings of the application.
        known: The names that contextcache reads.
    """
    plain = {name.replace("_", ""): name for name in known}
    for name in names:
        squeezed = name.upper().replace("_", "")
        if name not in plain.values() and squeezed[:3] == "CON" and "CACHE" in squeezed:
            meant = plain.get(near(squeezed, plain, LIKENESS))
            if meant is not None:
                yield Check(
                    "W014", f"{name} is not a setting that is read.", f"Did you mean {meant}?"
                )


def disabled_logger() -> Iterator[Check]:
    """Yield W012 if the logging configuration has disabled the logger."""
    if is_disabled():
        yield Check("W012", DISABLED, ENABLE)


def unreachable(name: str, client: Any) -> Iterator[Check]:
    """Yield E007 if a server does not answer.

    Args:
        name: What to call it; the clients of contextcache name their server themselves.
        client: A client of redis-py.
    """
    from contextcache.commands.audit import named_failures  # noqa: PLC0415  # only to connect
    from contextcache.exceptions import ServerError  # noqa: PLC0415

    try:
        with named_failures(name):
            client.ping()
    except ServerError as error:
        what, _, remedy = str(error).rpartition("; ")
        yield Check("E007", f"{what or remedy}.", f"{remedy[:1].upper()}{remedy[1:]}.")


def report(checks: Iterable[Check]) -> tuple[list[str], int]:
    """Return what a command `check` prints, and its exit status: 1 if there is any problem."""
    lines = [str(check) for check in dict.fromkeys(checks)]
    return (lines, 1) if lines else ([ALL_GUARDED], 0)
