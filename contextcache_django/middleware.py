"""The middleware: findings learn which request and which view they belong to.

An error page that is due to a session whose Redis cannot be reached becomes a 503, and Django's log
of it one line.

It guards nothing by itself, but it reports what is written to caches that nobody guards, unless
`CONTEXTCACHE["OBSERVE"]` is False. It goes first in `MIDDLEWARE`, because what stands after it is
what it sees, and sessions are saved by `SessionMiddleware` on the way out.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import StreamingHttpResponse
from django.views.defaults import ERROR_PAGE_TEMPLATE

from contextcache import (
    RequestScope,
    ServerError,
    current_scope,
    describe_view,
    enter_scope,
    exit_scope,
)
from contextcache.base.logs import log
from contextcache.rules.credentials import Credentials
from contextcache.servers import RETRY_AFTER
from contextcache_django.aliases import embedded_by_default
from contextcache_django.cache_observer import observe_caches
from contextcache_django.conf import observes, project_config, warn_of_embedded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

_SCOPE = "_contextcache_scope"


class ContextCacheMiddleware:
    """`MIDDLEWARE`, as its first line; serves sync and async projects.

    With `DEBUG` it also collects the findings of each request, names them in the response
    header `X-ContextCache`, and logs one line with their number.
    """

    sync_capable = True
    async_capable = True

    def __init__(
        self,
        get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]],
    ) -> None:
        self.get_response: Callable[[HttpRequest], Any] = get_response
        self.async_mode = iscoroutinefunction(get_response)
        if self.async_mode:
            markcoroutinefunction(self)
        project_config()  # a mistake in the settings is to be seen when the project starts
        for alias in embedded_by_default():
            warn_of_embedded(alias)
        if observes():
            observe_caches()
        logging.getLogger("django.request").addFilter(in_one_line)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer `request` within a scope that names it."""
        if self.async_mode:
            return self._answer_async(request)
        scope = _new_scope(request)
        token = enter_scope(scope)
        try:
            response: HttpResponseBase = self.get_response(request)
        finally:
            exit_scope(token)
        return _finished(response, scope)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        scope = _new_scope(request)
        token = enter_scope(scope)
        try:
            response: HttpResponseBase = await self.get_response(request)
        finally:
            exit_scope(token)
        return _finished(response, scope)


def scope_of(request: HttpRequest) -> RequestScope | None:
    """Return the scope in which `request` is or was answered, where that is kept for a page."""
    return getattr(request, _SCOPE, None)


def _new_scope(request: HttpRequest) -> RequestScope:
    config = project_config()
    scope = RequestScope(
        request.method or "",
        request.path,
        request_id=request.META.get("HTTP_X_REQUEST_ID", ""),
        view=lambda: view_of(request),
        route=lambda: route_of(request),
        collect=config.debug,
        trace=config.mode == "raise",
        credentials=lambda: _credentials(request),
    )
    if scope.collect:
        setattr(request, _SCOPE, scope)
    return scope


def _credentials(request: HttpRequest) -> Credentials:
    name = settings.SESSION_COOKIE_NAME
    sent = request.META.get("HTTP_AUTHORIZATION", "")
    return Credentials(
        # Django's AsyncClient(headers=...) sends them with `http-` before their names.
        sent or request.META.get("HTTP_HTTP_AUTHORIZATION", ""),
        request.META.get("HTTP_COOKIE", ""),
        name,
        request.COOKIES.get(name, ""),
    )


def _finished(response: HttpResponseBase, scope: RequestScope) -> HttpResponseBase:
    if scope.outage is not None and response.status_code == 500:
        _make_unavailable(response)
    if scope.findings:
        response.headers[RequestScope.HEADER] = scope.header
        log("info", "%s in %s", scope.count, scope)
    if isinstance(response, StreamingHttpResponse) and not _is_file(response):
        body: Any = response.streaming_content
        within = _each_async if response.is_async else _each
        response.streaming_content = within(body, scope)
    return response


def _make_unavailable(response: Any) -> None:
    """Say that nothing is wrong with the view, and the visitor still logged in a moment later."""
    response.status_code = 503
    response.headers["Retry-After"] = str(RETRY_AFTER)
    if getattr(response, "content", None) == _FAILED:  # a page of the project's own stays
        response.content = _UNAVAILABLE
        if "Content-Length" in response.headers:
            response.headers["Content-Length"] = str(len(_UNAVAILABLE))


def _djangos_page(title: str, details: str = "") -> bytes:
    return (ERROR_PAGE_TEMPLATE % {"title": title, "details": details}).encode()


_FAILED = _djangos_page("Server Error (500)")
_UNAVAILABLE = _djangos_page("Service Unavailable (503)", "Please try again in a few seconds.")


def in_one_line(record: logging.LogRecord) -> bool:
    """Let Django log an outage of the sessions without the traceback of a view it has hit."""
    scope = current_scope()
    error = record.exc_info[1] if record.exc_info else None
    if scope is not None and scope.outage is not None and isinstance(error, ServerError):
        record.msg, record.args = "Service Unavailable: %s: %s", (scope.request_line, str(error))
        record.exc_info = None
    return True


def _is_file(response: StreamingHttpResponse) -> bool:
    """Tell whether the server sends a file by itself, which calls nothing of the project's."""
    return getattr(response, "file_to_stream", None) is not None


def _each(body: Iterator[bytes], scope: RequestScope) -> Iterator[bytes]:
    """Yield a body whose parts are made after the view has returned, each within its scope."""
    told = len(scope.findings)
    while True:
        token = enter_scope(scope)
        try:
            part = next(body)
        except StopIteration:
            break
        finally:
            exit_scope(token)
        yield part
    _sum_up(scope, told)


async def _each_async(body: AsyncIterator[bytes], scope: RequestScope) -> AsyncIterator[bytes]:
    """Yield a body of an async view; see `_each`."""
    told = len(scope.findings)
    while True:
        token = enter_scope(scope)
        try:
            part = await anext(body)
        except StopAsyncIteration:
            break
        finally:
            exit_scope(token)
        yield part
    _sum_up(scope, told)


def _sum_up(scope: RequestScope, told: int) -> None:
    """Log what was found too late for the response header."""
    if len(scope.findings) > told:
        log("info", "%s in %s, with its body", scope.count, scope)


def route_of(request: HttpRequest) -> str:
    """Return the pattern of the URL of `request`: `reset/<uid>/<token>/`, or nothing."""
    match = getattr(request, "resolver_match", None)
    return "" if match is None else readable_route(str(match.route or ""))


def readable_route(pattern: str) -> str:
    """Return a URL pattern, which may be a regular expression, with its groups as `<name>`."""
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        text = pattern[at] if token is None else token[0]
        if text == "(":
            text = pattern[at : _end_of_group(pattern, at)]
            named = _NAMED_GROUP.match(text)
            if named is not None:
                parts.append(f"<{named[1]}>")
            elif text.startswith("(?:"):
                parts.append(readable_route(text[3:-1]))
            elif not text.startswith("(?"):
                parts.append("<value>")
        elif text[0] == "[" or text in _CLASSES:
            parts.append("<value>")
        elif text[0] == "\\" and not text[1:].isalpha():
            parts.append(text[1:])
        elif text[0] not in "^$?+*{\\":
            parts.append(text)
        at += len(text)
    return "".join(parts)


_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{[\d,]*\}", re.DOTALL)
_NAMED_GROUP = re.compile(r"\(\?P<(\w+)>")
_CLASSES = ("\\d", "\\w", "\\S", "\\D", "\\W", "\\s", ".+", ".*")


def _end_of_group(pattern: str, at: int) -> int:
    depth = 0
    while at < len(pattern):
        token = _TOKEN.match(pattern, at)
        text = pattern[at] if token is None else token[0]
        depth += (text == "(") - (text == ")")
        at += len(text)
        if depth == 0:
            break
    return at


def view_of(request: HttpRequest) -> tuple[str, str]:
    """Return the dotted name of the view of `request` and its `file:line`.

    Both are empty where no view has been resolved yet.
    """
    match = getattr(request, "resolver_match", None)
    return ("", "") if match is None else describe_view(match.func, request.method or "")
