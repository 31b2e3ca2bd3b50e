"""Which request is writing: a request of Flask's as a scope of contextcache.

A scope belongs to the request and not to a context, so it is kept in the WSGI environment, which
the copies made by `copy_current_request_context` share. Flask's signals open and close it around
a request. The sinks of this package open it once more where no signal is sent, as in such a copy.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from flask import current_app, has_request_context, request, request_finished, request_started
from flask.signals import request_tearing_down

from contextcache import RequestScope, current_scope, describe_view, enter_scope, exit_scope
from contextcache.rules.credentials import Credentials
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token

    from flask import Flask, Request, Response

_SCOPE = "contextcache.scope"
_LOADED = "contextcache.loaded"

# What the proxies stand for; each attribute that is asked of a proxy costs as much as a lookup.
_current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]
_current_app: Callable[[], Flask] = current_app._get_current_object  # type: ignore[attr-defined]


def open_scopes(app: Flask) -> None:
    """Open a scope around every request of `app`; to call it again changes nothing."""
    request_started.connect(_open, app)
    request_tearing_down.connect(_close, app)


class WithinRequest:
    """A `with` block whose writes are known as those of the current request, if there is one."""

    __slots__ = ("_token",)

    _token: Token[RequestScope | None] | None

    def __enter__(self) -> None:
        self._token = None
        if has_request_context():
            current = _current_request()
            scope = current.environ.get(_SCOPE) or _scope_of(current, _current_app())
            if scope is not current_scope():
                self._token = enter_scope(scope)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            exit_scope(self._token)


def _scope_of(request: Request, app: Flask) -> RequestScope:
    """Return the scope of a request, the same one in every copy of its context."""
    environ = request.environ
    scope: RequestScope | None = environ.get(_SCOPE)
    if scope is None:
        settings = settings_of(app)
        scope = environ[_SCOPE] = RequestScope(
            request.method,
            request.path,
            request_id=environ.get("HTTP_X_REQUEST_ID", ""),
            view=functools.partial(view_of, app, request.endpoint, request.method),
            route=functools.partial(str, request.url_rule or ""),
            collect=settings.debug,
            trace=settings.config.mode == "raise",
            credentials=functools.partial(_credentials, app, request),
        )
        scope.loaded = environ.pop(_LOADED, None)
    return scope


def _credentials(app: Flask, request: Request) -> Credentials:
    name = app.config["SESSION_COOKIE_NAME"]
    return Credentials(
        request.environ.get("HTTP_AUTHORIZATION", ""),
        request.environ.get("HTTP_COOKIE", ""),
        name,
        request.cookies.get(name, ""),
    )


def note_loaded(session: Mapping[str, Any]) -> None:
    """Remember what the session of the current request held when it was read."""
    if has_request_context():
        environ = _current_request().environ
        scope: RequestScope | None = environ.get(_SCOPE)
        if scope is None:
            environ[_LOADED] = dict(session)
        else:
            scope.note_loaded(session)


# --- Flask's signals ------------------------------------------------------------------------------
# The first is sent even where a `before_request` function answers by itself, and the last one
# after every `teardown_request` function.


def _open(app: Flask, **_: object) -> None:
    current = _current_request()
    scope = _scope_of(current, app)
    scope.token = enter_scope(scope)
    if scope.collect:
        request_finished.connect(_name_findings, app)


def _close(app: Flask, **_: object) -> None:
    environ = _current_request().environ
    scope: RequestScope | None = environ.get(_SCOPE)
    # A copied context is torn down as well, where nothing was opened or in another thread.
    if scope is not None and current_scope() is scope:
        token, scope.token = scope.token, None
        if token is not None:
            try:  # noqa: SIM105  # which takes three calls more, in every request
                exit_scope(token)
            except ValueError:
                pass
            if scope.collect:
                settings_of(app).notebook.note(scope)


def _name_findings(_app: Flask, *, response: Response, **_: object) -> None:
    scope: RequestScope | None = request.environ.get(_SCOPE)
    if scope is not None and scope.findings:
        response.headers[RequestScope.HEADER] = scope.header


def view_of(app: Flask, endpoint: str | None, method: str) -> tuple[str, str]:
    """Return the dotted name of the view behind `endpoint` and its `file:line`.

    Both are empty where no view answers, as for an unknown URL.
    """
    view = app.view_functions.get(endpoint) if endpoint is not None else None
    return ("", "") if view is None else describe_view(view, method)
