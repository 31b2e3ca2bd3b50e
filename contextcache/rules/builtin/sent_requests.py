"""Requests that this application has sent, which their responses take along.

A cached answer of a service is read for its status, headers and body. The request behind it holds
what the application proved itself with.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from contextcache.base.introspection import instance_dict
from contextcache.rules.replacements import (
    NothingThere,
    Reduced,
    Trimmed,
    fields,
    state_of,
    with_state,
)
from contextcache.rules.request_snapshots import innocent
from contextcache.rules.rule import Verb, rows

_PARAMETER = re.compile(
    r"(?i)((?:^|[?&;])(?:(?:(?:api|app|auth|access|client|consumer|private|refresh|id|subscription)"
    r"[_-]?)?(?:key|secret|token|password|passwd|pwd|sig|signature)"
    r"|(?:client[_-])?assertion|code_verifier|x-amz-(?:signature|credential|security-token))=)"
    r"[^&;#\s]+"
)
_PASSWORD = re.compile(r"(?<=://)[^/?#\s@]*@")


def without_url_secrets(text: str) -> str:
    """Return a URL or form without user, password and parameters that are named as a key is."""
    return _PARAMETER.sub(r"\1", _PASSWORD.sub("", text))


def without_sent_credentials(_obj: object, reduced: Reduced) -> Trimmed | None:
    """Leave out of a request of requests, httpx or urllib what it was authenticated with."""
    state = state_of(reduced)
    cleaned = {name: clean(state.get(name)) for name, clean in _CLEANERS.items()}
    changes = {name: clean for name, clean in cleaned.items() if clean is not None}
    return (with_state(reduced, **changes), [], "") if changes else None


def without_asked_url(_obj: object, reduced: Reduced) -> Trimmed | None:
    """Leave the same out of the URL of a response of requests; its request reports it."""
    state = state_of(reduced)
    cleaned = _clean_text(state.get("url"))
    if cleaned is None:
        return None
    reported = () if state.get("request") is not None else ("",)
    return with_state(reduced, url=cleaned), [], *reported


def is_no_plain_session(obj: object) -> bool:
    """Return True if a session of requests has attributes beyond those it stores.

    Raises:
        NothingThere: It has what it authenticates with, without which it would be another one.
    """
    own, stored = fields(obj), getattr(type(obj), "__attrs__", ())
    if any(name not in stored for name in own):
        return True
    if own.get("auth") is not None or _clean_headers(own.get("headers")) is not None:
        raise NothingThere("it carries what it authenticates with", _REBUILD, "CC120")
    return False


_REBUILD = "store the settings, and build the session on read"


def _clean_text(text: object) -> object:
    """Return a changed text or form; None if there is nothing to leave out."""
    if type(text) is str:
        cleaned = without_url_secrets(text)
        return None if cleaned == text else cleaned
    if type(text) is bytes:
        cleaned = without_url_secrets(text.decode("latin-1"))
        return None if cleaned.encode("latin-1") == text else cleaned.encode("latin-1")
    return None


def _clean_url(url: object) -> object:
    """Return the same for a URL; that of httpx is an object around its parts."""
    parts = fields(url).get("_uri_reference")
    if parts is None:
        return _clean_text(url)
    userinfo, query = parts.userinfo, parts.query
    kept = None if query is None else without_url_secrets(query)
    if not userinfo and kept == query:
        return None
    return _copy(url, _uri_reference=parts._replace(userinfo="", query=kept))


def _clean_headers(headers: object) -> object:
    own = fields(headers)
    if type(headers) is dict:
        kept: Any = {name: value for name, value in headers.items() if _is_kept(name)}
        return None if len(kept) == len(headers) else kept
    for name in ("_store", "_list"):  # of requests, by lower name; of httpx, with the lower name
        rows_ = own.get(name)
        if rows_ is not None:
            if name == "_store":
                kept = type(rows_)((key, row) for key, row in rows_.items() if _is_kept(key))
            else:
                kept = [row for row in rows_ if _is_kept(row[1])]
            return None if len(kept) == len(rows_) else _copy(headers, **{name: kept})
    return None


def _clean_jar(jar: object) -> object:
    return _copy(jar, _cookies={}) if fields(jar).get("_cookies") else None


def _is_kept(name: object) -> bool:
    text = name.decode("latin-1") if type(name) is bytes else name
    return type(text) is not str or innocent(text) or text.lower() == "idempotency-key"


def _copy(obj: object, **changes: object) -> object:
    """Return a copy of an object with other attributes, made without its constructor."""
    copy = object.__new__(type(obj))
    own = instance_dict(copy)
    assert own is not None  # noqa: S101  # it was read from there
    own.update(fields(obj), **changes)
    return copy


_CLEANERS = {
    "headers": _clean_headers, "_cookies": _clean_jar, "url": _clean_url, "body": _clean_text,
    "_content": _clean_text, "unredirected_hdrs": _clean_headers, "_full_url": _clean_text,
    "_data": _clean_text, "selector": _clean_text,
}  # fmt: skip

_sent_rows = functools.partial(
    rows, "CC120", Verb.TRIM,
    did="stored it without credentials",
    fix="store what the response says, such as its status and json(), not the response",
    force=True, is_secret=True,
)  # fmt: skip

ROWS = {
    **_sent_rows(
        "requests.models.PreparedRequest", "httpx:Request", "httpx2:Request",
        "urllib.request.Request",
        make=without_sent_credentials,
        reason="a request that was sent carries what it was authenticated with",
    ),
    **_sent_rows(
        "requests.models.Response",
        make=without_asked_url,
        reason="its URL carries what the request was authenticated with",
    ),
    **rows(
        "CC122", Verb.STRIP, "requests.sessions.Session",
        when=is_no_plain_session,
        reason="requests.Session stores only the attributes it knows; the others would be lost",
        fix=_REBUILD,
    ),
}  # fmt: skip
