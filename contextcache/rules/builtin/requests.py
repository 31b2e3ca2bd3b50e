"""Requests and what lives as long as one."""

from __future__ import annotations

from typing import Any

from contextcache.rules.replacements import fields, nothing_there
from contextcache.rules.request_snapshots import header_snapshot, request_snapshot
from contextcache.rules.rule import Verb, rows


def session_data(session: Any) -> dict[str, Any]:
    """Return the data of a session, read from its store if it was not used yet.

    Raises:
        NothingThere: It cannot be read.
    """
    if issubclass(type(session), dict):  # of Flask
        return dict(dict.items(session))
    loaded = fields(session).get("_session_cache")
    if type(loaded) is dict:
        return loaded.copy()
    accessed = session.accessed  # by which Django decides about `Vary: Cookie`
    try:
        with nothing_there("the session has not been read, and cannot be now"):
            return dict(session.items())  # without a database, or where async code must not ask it
    finally:
        session.accessed = accessed


_REQUEST_FIX = "store the values you need from it, not the request"

ROWS = {
    **rows(  # our own, which stands in the environment of a request
        "CC106", Verb.REPLACE, "contextcache.reports.request_scope.RequestScope",
        make=lambda _: None, json=True,
        did="stored None", fix="nothing: contextcache keeps it there",
    ),
    **rows(
        "CC106", Verb.SNAPSHOT,
        "django.http.request.HttpRequest", "rest_framework.request.Request",
        "werkzeug.sansio.request.Request", "werkzeug.wrappers.request.Request",
        "starlette.requests.HTTPConnection",
        make=request_snapshot,
        did="stored a read-only RequestSnapshot without credentials", fix=_REQUEST_FIX, force=True,
        instead=dict.fromkeys(
            ("django.http.request.HttpRequest", "werkzeug.wrappers.request.Request"),
            '{{"method": {0}.method, "path": {0}.path}}',
        ),
    ),
    **rows(
        "CC106", Verb.SNAPSHOT,
        "django.http.request.HttpHeaders", "werkzeug.datastructures.headers.EnvironHeaders",
        make=header_snapshot,
        reason="the headers of a request carry its credentials",
        did="stored the headers without credentials, as a dict",
        fix='store single headers, such as request.headers["User-Agent"]', force=True,
    ),
    **rows(
        "CC106", Verb.STRIP, "flask.ctx._AppCtxGlobals",
        reason="flask.g belongs to one request", fix="store the values you need from g, not g",
    ),
    **rows(
        "CC106", Verb.STRIP,
        "flask.ctx.AppContext", "flask.ctx.RequestContext", "django.urls.resolvers.ResolverMatch",
        reason="it belongs to one request", fix=_REQUEST_FIX, force=True,
    ),
    **rows(
        "CC106", Verb.SNAPSHOT,
        "django.contrib.sessions.backends.base.SessionBase", "flask.sessions.SessionMixin",
        make=session_data,
        reason="a session belongs to one visitor", did="stored its data, as a dict",
        fix="store the values you need from the session", force=True,
    ),
}  # fmt: skip
