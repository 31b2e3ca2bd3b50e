"""What was found: the codes, and the finding as data that is complete before anyone words it."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from typing import TYPE_CHECKING

from contextcache.base.masking import one_line, type_text

if TYPE_CHECKING:
    from contextcache.findings.path import Path


class Action(StrEnum):
    """What became of an offending field."""

    RECREATED = "recreated"
    SNAPSHOTTED = "snapshotted"
    STRIPPED = "stripped"
    LEFT_OUT = "left out"
    REFUSED = "refused"
    OBSERVED = "observed"


CODES: dict[str, str] = {
    "CC100": "a rule of this application says so",
    "CC101": "a thread-local belongs to the threads of this process",
    "CC102": "a lock belongs to this process",
    "CC103": "a context variable belongs to this process",
    "CC104": "a proxy points at something else in each request",
    "CC105": "a lazy object stores whatever it evaluates to",
    "CC106": "a request belongs to one visitor and carries credentials",
    "CC107": "an open file belongs to this process",
    "CC108": "a connection or client belongs to this process",
    "CC109": "a generator, coroutine or iterator in progress cannot be resumed elsewhere",
    "CC110": "functions and classes are stored by name, and this one cannot be imported by its own",
    "CC111": "a module is code, not data",
    "CC112": "a weak reference points into this process",
    "CC113": "an SSL context lives in this process's memory",
    "CC114": "frames, tracebacks and code objects belong to the running program",
    "CC115": "a thread, process, task or event loop runs in this process",
    "CC116": "a view shows another object and cannot be stored apart from it",
    "CC117": "its type refuses to be pickled",
    "CC118": "its own pickling method raised an error",
    "CC119": "what pickle makes of it does not load again",
    "CC120": "it carries a secret",
    "CC121": "it drags far more into the cache than it shows",
    "CC122": "it loses part of itself when it is stored",
    "CC123": "a framework object that belongs to the running application",
    "CC130": "the value is nested too deep",
    "CC131": "the value is too large",
    "CC132": "the value was being changed while it was stored",
    "CC133": "the object needs itself to be rebuilt",
    "CC140": "JSON cannot hold it",
    "CC141": "JSON changes it without a word",
    "CC142": "the session comes close to the most a cookie can hold",
}
"""Every code with its reason in one clause. Codes are stable: they are never reused."""

SILENT = frozenset({"CC100", "CC105", "CC106", "CC120", "CC121", "CC122", "CC141", "CC142"})
"""Codes of what pickle stores without a word, and should not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One field that cannot, or should not, be stored as it is.

    Attributes:
        code: Stable code of the kind of finding, such as `CC102`.
        path: Where the offending object is; `str(path)` is a Python expression. It is exact;
            `str(finding)`, the log and the text of errors show `path.printed()`.
        leaf_type: Qualified type of the offending object.
        owner_type: Qualified type of the object whose field it is; empty at the root.
        action: What became of it.
        reason: Why it cannot be stored, in one clause.
        did: What was stored instead, in one clause.
        fix: What to do about it, in one sentence.
        patch: The same as code to paste, for a developer; empty where there is none.
        cut: The path that was cut where that is not `path` itself but a holder of it.
        sink: The words for where the value was being stored, such as `session in redis`.
        origin: The request, view or line that stored it; empty where unknown.
        field: Where the field is set: `shop.api.Client._lock, set at shop/api.py:18: ...`; or that
            there was no time to locate it, where the path is that of the value.
        count: How often this pattern has been seen in this process.
    """

    code: str
    path: Path
    leaf_type: str
    owner_type: str
    action: Action
    reason: str
    did: str
    fix: str
    cut: Path | None = None
    sink: str = ""
    origin: str = ""
    field: str = ""
    patch: str = ""
    count: int = dataclasses.field(default=1, compare=False)

    def as_dict(self, *, exact: bool = False) -> dict[str, str | int]:
        """Return the finding as plain data for JSON, by names that stay.

        Names that a visitor may have chosen are masked, and what is not printable is escaped.

        Args:
            exact: Whether nothing is masked, for a developer.
        """
        return {
            "code": self.code,
            "path": self.path.printed(exact=exact),
            "pattern": self.path.printed_pattern(exact=exact),
            "leaf_type": type_text(self.leaf_type, exact=exact),
            "owner_type": type_text(self.owner_type, exact=exact),
            "action": str(self.action),
            "reason": one_line(self.reason),
            "did": one_line(self.did),
            "fix": one_line(self.fix),
            "patch": "\n".join(map(one_line, self.patch.split("\n"))),
            "field": one_line(self.field),
            "sink": one_line(self.sink),
            "origin": one_line(self.origin),
            "count": self.count,
        }

    def line(self, *, exact: bool = False) -> str:
        """Return the finding as one line of text; see `as_dict`."""
        path, leaf_type = self.path.printed(exact=exact), type_text(self.leaf_type, exact=exact)
        return f"{self.code}: {path} ({leaf_type}) {one_line(self.reason)}"

    def __str__(self) -> str:
        return self.line()
