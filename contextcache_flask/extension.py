"""The extension: one call that makes an application's cache and session safe to write to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from flask.signals import appcontext_pushed

from contextcache.engine.preload import preload
from contextcache_flask.cli import group
from contextcache_flask.request_scope import open_scopes
from contextcache_flask.session_guards import guard_session_interface
from contextcache_flask.settings import EXTENSION, Settings, settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask


PAGE_URL = "/__contextcache__/"
PAGE_ENDPOINT = "contextcache.page"


class ContextCache:
    """Guards what a Flask application caches, and keeps its session in Redis if it asks for that.

    `app.config` is read when an application is initialised; `contextcache_flask.settings` lists
    the keys. The object itself keeps nothing, so one may serve several applications, and each
    has its own policy in `app.extensions["contextcache"]`.

    It makes no difference whether Flask-Caching and Flask-Session are initialised before or after.
    Their backends and serializers are guarded, and so is Flask's own cookie session.

    Args:
        app: The application to initialise; without one, call `init_app` later.

    Raises:
        ConfigurationError: A setting is unknown; the message names the nearest.
    """

    def __init__(self, app: Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Guard `app`; to do so again reads its configuration again and adds nothing.

        Args:
            app: The application.

        Raises:
            ConfigurationError: A setting is unknown; the message names the nearest.
        """
        preload(signs=True)  # the guards are made later, by requests
        before = app.extensions.get(EXTENSION)
        settings = app.extensions[EXTENSION] = Settings(app.config)
        if before is not None:  # of a cache that was initialised first
            settings.uses_embedded_by_default = before.uses_embedded_by_default
        open_scopes(app)
        app.cli.add_command(group)
        if PAGE_ENDPOINT not in app.view_functions:
            app.add_url_rule(PAGE_URL, PAGE_ENDPOINT, _show_page)
        backends = app.extensions.get("cache", {})
        if isinstance(backends, dict) and not isinstance(backends, GuardedBackends):
            app.extensions["cache"] = GuardedBackends(app, backends)
        if settings.session:
            _install_session(app)
        # Before a session is opened: Flask-Session may be initialised later than this.
        appcontext_pushed.connect(_settle_session, app)


def _install_session(app: Flask) -> None:
    from contextcache_flask.sessions import RedisSessionInterface  # noqa: PLC0415

    app.session_interface = RedisSessionInterface(settings_of(app).session_server())


def _settle_session(app: Flask, **_: object) -> None:
    """Guard the session interface that `app` has by the time it serves requests."""
    foreign = type(app.session_interface).__module__.partition(".")[0] == "flask_session"
    if settings_of(app).session and foreign:
        _install_session(app)
    else:
        guard_session_interface(app)
    if getattr(
        app, "_got_first_request", True
    ):  # from then on Flask allows no extension to be initialised
        appcontext_pushed.disconnect(_settle_session, app)


def _show_page() -> Any:
    from contextcache_flask.dev_page import show  # noqa: PLC0415  # for development only

    return show()


class GuardedBackends(dict[Any, Any]):
    """`app.extensions["cache"]`, in which every backend is guarded as it is put there.

    Flask-Caching keeps the backends of an application in this dict, and looks them up in it for
    each operation. That the dict guards them is what makes the order of two `init_app` irrelevant.

    Args:
        app: The application whose settings apply.
        backends: What the dict held before.
    """

    def __init__(self, app: Flask, backends: Mapping[Any, Any]) -> None:
        super().__init__()
        self._app = app
        for cache, backend in backends.items():
            self[cache] = backend

    def __setitem__(self, cache: Any, backend: Any) -> None:
        if "flask_caching" in sys.modules:  # else it is not Flask-Caching's, whatever it is
            from cachelib import BaseCache  # noqa: PLC0415
            from flask_caching.backends import NullCache  # noqa: PLC0415

            from contextcache_flask.cache_guard import guarded  # noqa: PLC0415

            if isinstance(backend, BaseCache) and not isinstance(backend, NullCache):
                guarded(backend, self._app)
        super().__setitem__(cache, backend)
