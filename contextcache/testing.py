"""For the tests of your own project: see every finding, and fail where there is one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from contextcache.base.masking import one_line
from contextcache.engine.preload import preload
from contextcache.guard import Guard
from contextcache.reports.reporter import collectors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contextcache.config import Config
    from contextcache.findings.finding import Finding


@contextmanager
def capture_findings() -> Iterator[list[Finding]]:
    """Collect every finding of every guard and thread, each time it occurs.

    Yields:
        A list that grows while the block runs. Ignored paths do not appear in it.
    """
    preload(debug=True)
    findings: list[Finding] = []
    collectors.append(findings)
    try:
        yield findings
    finally:
        collectors[:] = [one for one in collectors if one is not findings]


def assert_cacheable(
    value: object, *, label: str = "value", config: Config | None = None, fresh: bool = False
) -> None:
    """Assert that `value` can be stored as it is.

    With `fresh=True`, what is stored is also loaded in a child interpreter, which knows only what
    it can import: it has the same `sys.path`, environment and Django settings, runs the script that
    is `__main__` as `multiprocessing` does if the value needs it, and may connect to nothing.

    Args:
        value: Any value; it is not changed.
        label: What to call it in the message.
        config: Whose rules and ignore patterns apply; by default the built-in ones.
        fresh: Whether to load it in a fresh process, too, which takes some 0.2 s.

    Raises:
        AssertionError: With every finding, one per line, if it cannot.
        FreshProcessError: The fresh process could not be asked, or took too long.
    """
    guard = Guard(config)
    findings = [
        finding
        for finding in guard.explain(value, label=label, fresh=fresh)
        if not guard.config.ignores(finding.path)
    ]
    if findings:
        lines = [f"  {finding.line(exact=True)}; {one_line(finding.fix)}" for finding in findings]
        raise AssertionError("\n".join([f"{one_line(label)} cannot be cached as it is:", *lines]))
