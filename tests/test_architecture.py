"""docs/architecture.md says what the code does."""

from __future__ import annotations

from tests.child import ROOT, run


def test_the_page_is_what_the_script_writes() -> None:
    """If this fails, `make architecture` writes the page again; read what has changed."""
    page = run("import tools.architecture as it; print(it.page(), end='')")
    assert page == (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_each_path_reaches_redis_and_uses_the_guard() -> None:
    """The trace is of the whole way, on both sides."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    sections = text.split("### ")[1:]
    assert len(sections) == 8
    for section in sections:
        assert "* contextcache/guard.py: `Guard." in section
        assert "* contextcache/servers/" in section
