"""The panel of Flask-DebugToolbar: what a request has cached, and what was found in it.

`DEBUG_TB_PANELS = [..., "contextcache_flask.panels.ContextCachePanel"]`. The toolbar is put into a
page before Flask saves the session, so what becomes of that is on the page `/__contextcache__/`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import current_app
from flask_debugtoolbar.panels import DebugPanel

from contextcache import current_scope
from contextcache.base.words import pluralize
from contextcache.reports.html import STYLE, Row, finding_rows, findings, write_row, writes
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from contextcache import RequestScope

_SESSION = (
    '<p class="none">The session is saved after this toolbar: what becomes of it is on the page '
    '<a href="/__contextcache__/">/__contextcache__/</a>.</p>'
)


class ContextCachePanel(DebugPanel):
    """Findings with path, source line and fix; writes with size, time and outcome."""

    name = "contextcache"
    has_content = True

    def nav_title(self) -> str:
        """The name in the side bar."""
        return "contextcache"

    def nav_subtitle(self) -> str:
        """The numbers below it."""
        scope = current_scope()
        if scope is None:
            return ""
        found, written = len(_rows(scope)), len(scope.writes)
        return f"{pluralize(found, 'finding')}, {pluralize(written, 'write')}"

    def title(self) -> str:
        """The name above the panel."""
        return "contextcache"

    def url(self) -> str:
        """Return nothing: the panel is on the page itself."""
        return ""

    def content(self) -> str:
        """The panel as HTML; everything in it has been escaped where it was put together."""
        scope = current_scope()
        if scope is None or not scope.collect:
            return "<p>contextcache is not initialised for this application.</p>"
        found, written = _rows(scope), [write_row(write) for write in scope.writes]
        return (
            f'<style>{STYLE}</style><div class="contextcache"><h3>Findings</h3>{findings(found)}'
            f"<h3>Writes</h3>{writes(written)}{_SESSION}</div>"
        )


def _rows(scope: RequestScope) -> list[Row]:
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    return finding_rows(scope.findings, silence=settings_of(app).config.silence)
