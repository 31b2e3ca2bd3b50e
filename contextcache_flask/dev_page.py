"""The development page `/__contextcache__/`: what was found since the process started.

It answers in debug mode only, and only a browser on the same machine: the request has come from
the loopback interface and through no proxy, and asks for a host by a name that nobody else can
make point here. For anybody else, and in production, there is no such page.
"""

from __future__ import annotations

import secrets
from html import escape
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from flask import abort, current_app, request

from contextcache.base.words import pluralize
from contextcache.reports.html import document, finding_row, findings, writes
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contextcache_flask.settings import Settings

_BY_A_PROXY = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip")

# Nothing but the page itself, and nowhere but on top.
_POLICY = (
    "default-src 'none'; style-src 'nonce-{0}'; script-src 'nonce-{0}'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def show() -> tuple[str, dict[str, str]]:
    """Answer a request for the page."""
    settings = settings_of(current_app._get_current_object())  # type: ignore[attr-defined]
    if not (settings.debug and _is_near(settings.page_networks)):
        abort(404)
    nonce = secrets.token_urlsafe()
    return document(f"contextcache · {current_app.name}", _body(settings), nonce), {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY.format(nonce),
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _is_near(networks: Iterable[str]) -> bool:
    """Tell whether a request comes from one of `networks`, and from nobody behind it."""
    if any(header in request.headers for header in _BY_A_PROXY):
        return False
    name = request.host.rpartition(":")[0] if request.host[-1:] != "]" else request.host
    name = (name or request.host).strip("[]")
    try:
        if name != "localhost" and not name.endswith(".localhost"):
            ip_address(name)  # any other name could be made to point here (DNS rebinding)
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return False
    return any(address in ip_network(network) for network in networks)


def _body(settings: Settings) -> str:
    found, written = settings.notebook.fields, settings.notebook.writes
    silence = settings.config.silence
    summary = (
        f"{pluralize(len(found), 'field')} that should not be stored"
        if found
        else "nothing found so far"
    )
    rows = [finding_row(finding, silence=silence, also=views[1:]) for finding, views in found]
    return (
        f"<header><h1>contextcache</h1><p>{escape(current_app.name)} · "
        f"{summary} · mode {settings.config.mode}</p></header>"
        "<h3>Findings</h3>"
        + findings(rows, copying=True)
        + "<h3>Last writes</h3>"
        + writes(written, requests=True)
    )
