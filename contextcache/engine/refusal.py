"""The findings and the error of a value that is not stored."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from contextcache.base.introspection import qualified_name
from contextcache.base.masking import MAX_LINE_LENGTH, one_line, shortened, type_text
from contextcache.exceptions import UncacheableValueError
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.reports.request_scope import origin_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contextcache.config import Config
    from contextcache.findings.path import Path
    from contextcache.rules.rule import Verdict

NOTHING = "nothing was stored"
MAX_LISTED = 20  # findings in the text of an error


def refusal(verdict: Verdict, path: Path, kind: type, *, value: object, sink: str) -> Finding:
    """Return the finding about a value that cannot be stored as a whole.

    Args:
        verdict: Why.
        path: The path of what causes it.
        kind: The type of that.
        value: The value.
        sink: The display name of the storage.
    """
    return Finding(
        code=verdict.code,
        path=path,
        leaf_type=qualified_name(kind),
        owner_type="",
        action=Action.REFUSED,
        reason=verdict.reason or CODES[verdict.code],
        did=NOTHING,
        fix=verdict.fix,
        sink=sink,
        origin=origin_of(path, value),
    )


def uncacheable(findings: Sequence[Finding], config: Config) -> UncacheableValueError:
    """Build the error for a value that is not stored, with all its findings.

    Args:
        findings: All of them; the text has the first ones.
        config: Whether nothing is masked, for a developer, and whether the text has what else is
            known of each: in mode `raise` nothing is logged.
    """
    exact, lines = config.debug, []
    for one in findings[:MAX_LISTED]:
        name = f"{one.path.printed(exact=exact)} ({type_text(one.leaf_type, exact=exact)})"
        lines.append(f"{one.code} {name}: {one_line(one.reason)}; {one_line(one.fix)}")
        details = [("where", one.origin), ("field", one.field)] if config.mode == "raise" else []
        lines += (f"  {label:<8}{one_line(text)}" for label, text in details if text)
    if len(findings) > MAX_LISTED:
        lines.append(f"and {len(findings) - MAX_LISTED} more")
    root = "the value"
    if findings:
        root = dataclasses.replace(findings[0].path, steps=()).printed(exact=exact)
    lines = [shortened(line, MAX_LINE_LENGTH) for line in lines]
    return UncacheableValueError("\n  ".join([f"{root} was not stored:", *lines]), findings)
