"""How one value is diagnosed, and how its findings are worded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How one value is diagnosed. By default there is all the time that a person would wait.

    Attributes:
        label: The root of the paths in the value.
        sink: The display name of the storage.
        session: Whether an offending top-level key may be left out.
        debug: Whether to look up the lines that set the fields.
        exact: Whether texts show names as they are, for a developer.
        hidden: Whether no key is shown, as `Config.redact_keys` says.
        seconds: How long locating and wording may take in all.
        nodes: How many objects locating may look at, each time.
        fresh: Whether what is stored is loaded in a fresh process, too.
        searched: Whether to look for what has the shape of a secret in what is stored.
    """

    label: str
    sink: str = ""
    session: bool = False
    debug: bool = False
    exact: bool = False
    hidden: bool = False
    seconds: float = 60.0
    nodes: int = 100_000_000
    fresh: bool = False
    searched: bool = False
