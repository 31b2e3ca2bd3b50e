"""The page of each code: what it means, why, and how to fix it.

The pages are Markdown, in `docs/findings` of a checkout and in the package in a wheel.
"""

from __future__ import annotations

from pathlib import Path

from contextcache.findings.finding import CODES

_PACKAGE = Path(__file__).parent.parent
_PLACES = (_PACKAGE / "docs", _PACKAGE.parent / "docs" / "findings")


def page(code: str) -> str:
    """Return the page of `code` as Markdown.

    Args:
        code: A code such as `CC102`, in any case.

    Raises:
        LookupError: If there is no such code.
    """
    code = code.strip().upper()
    if code in CODES:
        for place in _PLACES:
            path = place / f"{code}.md"
            if path.is_file():
                return path.read_text(encoding="utf-8")
    raise LookupError(
        f"there is no code {code[:20]!r}; codes run from {min(CODES)} to {max(CODES)}"
    )
