"""The middleware: findings learn which request and which view they belong to.

It guards nothing by itself. It goes first in `MIDDLEWARE`, because what stands after it is what
it sees, and sessions are saved by `SessionMiddleware` on the way out.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import secrets
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction

from contextcache import RequestScope, enter_scope, exit_scope
from contextcache_django.conf import project_config

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

HEADER = "X-ContextCache"
LONGEST_HEADER = 512  # characters; servers and proxies refuse long headers

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_logger = logging.getLogger("contextcache")


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

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer `request` within a scope that names it."""
        if self.async_mode:
            return self._answer_async(request)
        scope = _scope_of(request)
        token = enter_scope(scope)
        try:
            response: HttpResponseBase = self.get_response(request)
        finally:
            exit_scope(token)
        return _with_findings(response, scope)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        scope = _scope_of(request)
        token = enter_scope(scope)
        try:
            response: HttpResponseBase = await self.get_response(request)
        finally:
            exit_scope(token)
        return _with_findings(response, scope)


def _scope_of(request: HttpRequest) -> RequestScope:
    given = request.META.get("HTTP_X_REQUEST_ID", "")
    return RequestScope(
        request.method or "",
        request.path,
        request_id=given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(4),
        view=lambda: describe_view(request),
        collect=project_config().debug,
    )


def _with_findings(response: HttpResponseBase, scope: RequestScope) -> HttpResponseBase:
    if scope.findings:
        response.headers[HEADER] = _header(scope)
        _logger.info("contextcache: %s in %s", _count(scope), scope)
    return response


def _header(scope: RequestScope) -> str:
    told = "; ".join(f"{finding.code} {finding.path}" for finding in scope.findings)
    text = f"{_count(scope)}; {told}".encode("ascii", "backslashreplace").decode()
    # A header must be one line; repr() in the paths should have seen to that already.
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= LONGEST_HEADER else text[: LONGEST_HEADER - 3] + "..."


def _count(scope: RequestScope) -> str:
    number = len(scope.findings)
    return f"{number} finding" if number == 1 else f"{number} findings"


# --- The name of a view -------------------------------------------------------------------------


def describe_view(request: HttpRequest) -> tuple[str, str]:
    """Return the dotted name of the view of `request` and its `file:line`.

    Decorators, partials and the function Django makes of a view class are looked through. Both
    are empty where no view has been resolved yet.
    """
    match = getattr(request, "resolver_match", None)
    if match is None:
        return "", ""
    return _described(_unwrapped(match.func), (request.method or "").lower())


def _unwrapped(view: Any) -> Any:
    seen: set[int] = set()
    while id(view) not in seen:
        seen.add(id(view))
        if isinstance(view, functools.partial):
            view = view.func
        elif inspect.ismethod(view):
            view = view.__func__
        else:
            # What the view class is called by Django, and by Django REST framework.
            attributes = getattr(view, "__dict__", {})
            for name in ("view_class", "cls", "__wrapped__"):
                if name in attributes and not isinstance(view, type):
                    view = attributes[name]
                    break
    return view if hasattr(view, "__qualname__") else type(view)  # an instance that is called


@functools.lru_cache(maxsize=512)
def _described(view: Any, method: str) -> tuple[str, str]:
    if isinstance(view, type):
        handler = inspect.unwrap(getattr(view, method, None) or view)
        # A handler that the class inherits from a framework says less than the class itself.
        if getattr(handler, "__module__", None) == view.__module__:
            view = handler
    name = f"{view.__module__}.{view.__qualname__}"
    try:
        code = inspect.unwrap(view).__code__
        file, line = code.co_filename, code.co_firstlineno
    except AttributeError:  # a class, or something written in C
        try:
            file, line = inspect.getsourcefile(view) or "", inspect.getsourcelines(view)[1]
        except (OSError, TypeError):
            return name, ""
    return name, f"{_relative(file, view.__module__)}:{line}"


def _relative(file: str, module: str) -> str:
    """Return the end of `file` that spells `module`, so that no path of the machine is shown."""
    parts = file.replace("\\", "/").split("/")
    length = module.count(".") + 1 + (parts[-1] == "__init__.py")
    return "/".join(parts[-length:])
