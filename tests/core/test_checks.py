"""The checks that both frameworks share: their codes, and the page that documents them."""

from __future__ import annotations

import re

from contextcache.commands import checks
from tests.child import ROOT

CODE = re.compile(r"[EW]0\d\d")


def test_every_code_is_documented_once_and_in_use() -> None:
    """In the module, on the page, and in the code of at least one adapter."""
    listed = re.findall(r"^([EW]\d{3})  ", checks.__doc__ or "", re.MULTILINE)
    page = re.findall(
        r"^\| ([EW]\d{3}) \|", (ROOT / "docs" / "checks.md").read_text(), re.MULTILINE
    )
    assert listed == page == sorted(set(page))
    sources = [
        *(ROOT / "contextcache_django").rglob("*.py"),
        *(ROOT / "contextcache_flask").rglob("*.py"),
        ROOT / "contextcache" / "commands" / "checks.py",
    ]
    used = "".join(path.read_text().replace(checks.__doc__ or "-", "") for path in sources)
    assert sorted(set(CODE.findall(used))) == page
