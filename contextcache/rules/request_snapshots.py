"""A request without its credentials: what describes it, its headers, its environment."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import qualified_name
from contextcache.payload.wire import RequestSnapshot
from contextcache.rules.replacements import fields, now

if TYPE_CHECKING:
    from collections.abc import Iterable

SECRET_PARTS = (
    "accesskey", "apikey", "auth", "bearer", "cookie", "credential", "csrf", "jwt", "passphrase",
    "passw", "saml", "secret", "session", "signature", "token",
)  # fmt: skip
"""Text inside a header or parameter name behind which a credential must be assumed."""


SECRET_WORDS = frozenset({
    "assertion", "code", "key", "nonce", "otp", "pass", "pin", "pwd", "sid", "sig", "state",
    "ticket",
})  # fmt: skip
"""Whole words of such a name; as parts they would hit `shipping` and `postcode`."""


def innocent(name: str) -> bool:
    """Return True if a header or parameter called `name` can be kept."""
    folded = name.lower()
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return not words & SECRET_WORDS and not any(part in folded for part in SECRET_PARTS)


def harmless(text: str) -> str:
    """Return `text` without the query, fragment and password of every URL in it."""
    text = re.sub(r"(/[^\s?#\"]*)[?#]\S*", r"\1", text)
    text = re.sub(r"[?#][^\s?#\"]*=\S*", "", text)  # not the brands of `Sec-CH-UA: "Not?A_Brand"`
    return re.sub(r"//[^/\s]*@", "//", text)


def request_snapshot(obj: object) -> RequestSnapshot:
    """Keep what describes a Django, DRF, Flask, werkzeug or Starlette request."""
    own = fields(obj)
    inner = own.get("_request")  # rest_framework.request.Request
    if inner is not None:
        own = fields(inner)
    environ = own.get("META") or own.get("environ") or {}
    scope = own.get("scope") or {}
    if not isinstance(scope, dict):
        scope = {}
    if environ:  # Django makes one of the ASGI scope, less the scheme
        return _from_environ(obj, own, environ, scope)
    return _from_scope(obj, scope)


def _from_environ(
    obj: object, own: dict[str, Any], environ: dict[str, Any], scope: dict[str, Any]
) -> RequestSnapshot:
    def text(name: str) -> str:
        value = environ.get(name, "")
        return value if type(value) is str else ""

    headers = _headers_in(environ)
    match = own.get("resolver_match")
    rule = own.get("url_rule")
    named = fields(match).get("view_name") or fields(rule).get("endpoint") or ""
    return RequestSnapshot(
        kind=qualified_name(type(obj)),
        method=text("REQUEST_METHOD") or "GET",
        path=own.get("path") if type(own.get("path")) is str else text("PATH_INFO"),
        host=headers.get("Host") or _server(text("SERVER_NAME"), text("SERVER_PORT")),
        scheme=text("wsgi.url_scheme") or str(scope.get("scheme") or own.get("scheme") or "http"),
        content_type=text("CONTENT_TYPE"),
        query=_query(text("QUERY_STRING")),
        headers=_kept_headers(headers.items()),
        view_name=named if type(named) is str else "",
        taken=now(),
    )


def _from_scope(obj: object, scope: dict[str, Any]) -> RequestSnapshot:
    headers = {
        name.decode("latin-1").title(): value.decode("latin-1")
        for name, value in scope.get("headers", ())
        if isinstance(name, bytes) and isinstance(value, bytes)
    }
    return RequestSnapshot(
        kind=qualified_name(type(obj)),
        method=str(scope.get("method", "GET")),
        path=str(scope.get("path", "")),
        host=headers.get("Host", ""),
        scheme=str(scope.get("scheme", "http")),
        content_type=headers.get("Content-Type", ""),
        query=_query(bytes(scope.get("query_string", b"")).decode("latin-1")),
        headers=_kept_headers(headers.items()),
        taken=now(),
    )


def _headers_in(environ: dict[Any, Any]) -> dict[str, str]:
    """Return the headers in an environment, by their names in HTTP."""
    return {
        name[5:].replace("_", "-").title(): value
        for name, value in environ.items()
        if type(name) is str and name.startswith("HTTP_") and type(value) is str
    }


def _kept_headers(headers: Iterable[tuple[object, object]]) -> dict[str, str]:
    return {
        name: harmless(value)
        for name, value in headers
        if type(name) is str and type(value) is str and innocent(name)
    }


def _server(name: str, port: str) -> str:
    return f"{name}:{port}" if name and port else name


def _query(text: str) -> dict[str, list[str]]:
    from urllib.parse import parse_qs  # noqa: PLC0415  # a process with requests has it loaded

    try:
        # The older separator is read, too, and a parameter without a value may be a token itself.
        parsed = parse_qs(text.replace(";", "&"))
    except ValueError:
        return {}
    return {name: [*map(harmless, values)] for name, values in parsed.items() if innocent(name)}


CREDENTIALS = frozenset({"HTTP_COOKIE", "HTTP_AUTHORIZATION"})


def is_environ(obj: object) -> bool:
    """Return True if `obj` is `request.META` or a WSGI environment with credentials in it."""
    return type(obj) is dict and not obj.keys().isdisjoint(CREDENTIALS)


def environ_snapshot(environ: dict[object, object]) -> dict[str, object]:
    """Keep the plain entries of a request's environment, less those that carry credentials."""
    return {
        name: harmless(held) if type(held) is str else held
        for name, held in environ.items()
        if type(name) is str
        and type(held) in (str, int, bool, float, tuple)
        and name not in ("QUERY_STRING", "REQUEST_URI", "RAW_URI")
        and innocent(name)
    }


def header_snapshot(obj: object) -> dict[str, str]:
    """Keep the headers of a request, less those that carry credentials."""
    own = fields(obj)
    environ = own.get("environ")
    if isinstance(environ, dict):  # werkzeug EnvironHeaders, a live view of the environ
        return _kept_headers(_headers_in(environ).items())
    store = own.get("_store")  # of django.http.request.HttpHeaders
    return _kept_headers(store.values() if isinstance(store, dict) else ())
