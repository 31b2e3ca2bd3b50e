"""The panel of django-debug-toolbar: what a request wrote, and what was found in it.

`DEBUG_TOOLBAR_PANELS = [*PANELS_DEFAULTS, "contextcache_django.panels.ContextCachePanel"]`, with
`ContextCacheMiddleware` in `MIDDLEWARE`, which collects what is shown. A write that failed is shown
as well: the toolbar's own panel of the cache notes a call when it has returned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from debug_toolbar.panels import Panel
from django.utils.safestring import SafeString

from contextcache.base.words import pluralize
from contextcache.reports.html import STYLE, finding_rows, findings, write_row, writes
from contextcache_django.conf import project_config
from contextcache_django.middleware import scope_of

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

_WITHOUT = (
    '<p class="none">Nothing is collected: add <code>contextcache_django.middleware.'
    "ContextCacheMiddleware</code> as the first line of MIDDLEWARE.</p>"
)


class ContextCachePanel(Panel):
    """Findings with path, source line and fix; writes with size, time and outcome."""

    is_async = True
    title = "contextcache"

    @property
    def nav_subtitle(self) -> str:
        """The numbers, below the title in the side bar."""
        found, written = self._kept.get("findings", ()), self._kept.get("writes", ())
        lost = sum(row["state"] == "lost" for row in written)
        told = [pluralize(len(found), "finding"), pluralize(len(written), "write")]
        return ", ".join([*told, f"{lost} not stored"] if lost else told)

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:  # noqa: ARG002
        """Keep what was collected as plain data, of which the toolbar makes its history."""
        scope = scope_of(request)
        kept: dict[str, Any] = {"collected": scope is not None}
        if scope is not None:
            kept["findings"] = finding_rows(scope.findings, silence=project_config().silence)
            kept["writes"] = [write_row(write) for write in scope.writes]
        self.record_stats(kept)  # type: ignore[no-untyped-call]

    @property
    def content(self) -> SafeString:
        """The panel as HTML; everything in it has been escaped where it was put together."""
        told = _WITHOUT
        if self._kept.get("collected"):
            told = f"<h3>Findings</h3>{findings(self._kept['findings'])}"
            told += f"<h3>Writes</h3>{writes(self._kept['writes'])}"
        return SafeString(f'<style>{STYLE}</style><div class="contextcache">{told}</div>')

    @property
    def _kept(self) -> dict[str, Any]:
        kept: dict[str, Any] = self.get_stats()  # type: ignore[no-untyped-call]
        return kept
