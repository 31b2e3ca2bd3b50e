"""Sites whose visitors log in, write, rotate, change their password and log out as usual.

Each answers the same pages over one Redis: two engines of Django, and Flask.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

import django
from django.contrib.auth import get_user_model, login, logout, update_session_auth_hash
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from flask import Flask
from flask import session as flask_session
from werkzeug.test import Client

from contextcache_flask import ContextCache

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

HOST = "testserver"  # which Django's settings allow
NAMES = ("ann", "bob")
FLOWS = ("login", "write", "rotate", "password change", "logout", "expiry")


class Site:
    """One of the sites, over the Redis at a URL."""

    name: ClassVar[str]
    cookie_name: ClassVar[str]
    app: Any

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no settings behind."""


class Browser:
    """A visitor of a site, who may meet another process of it with each request."""

    def __init__(self, cookie: str = "") -> None:
        self.cookie = cookie

    def get(self, site: Site, page: str, *, seen: bool = True) -> tuple[int, str]:
        """Return status and text; where the response is not seen, the cookie stays."""
        client = Client(site.app)
        if self.cookie:
            client.set_cookie(site.cookie_name, self.cookie, domain=HOST)
        response = client.get(f"/{page}", base_url=f"http://{HOST}/")
        held = client.get_cookie(site.cookie_name, domain=HOST)
        if seen:
            self.cookie = "" if held is None else held.value
        return response.status_code, response.text


# --- Django ---------------------------------------------------------------------------------------


def make_users() -> None:
    """Let there be the visitors of Django's sites."""
    for name in NAMES:
        get_user_model().objects.get_or_create(username=name)


def page(act: Callable[[HttpRequest], object]) -> Callable[..., HttpResponse]:
    def view(request: HttpRequest, **_: str) -> HttpResponse:
        return HttpResponse(str(act(request)))

    return view


def put_into_cart(request: HttpRequest) -> None:
    request.session["cart"] = "tea"


def log_in(request: HttpRequest) -> None:
    login(request, get_user_model().objects.get(username=request.path.rpartition("/")[2]))


def change_password(request: HttpRequest) -> None:
    user = get_user_model().objects.get(pk=request.user.pk)
    user.set_password("canary")
    user.save()
    update_session_auth_hash(request, user)


def rotate(request: HttpRequest) -> None:
    request.session["seen"] = 1
    request.session.cycle_key()


def expire(request: HttpRequest) -> None:
    request.session.set_expiry(-1)


def show(request: HttpRequest) -> str:
    return f"{request.user.get_username() or None} {request.session.get('cart')}"


urlpatterns = [
    path("cart", page(put_into_cart)),
    *(path(f"login/{name}", page(log_in)) for name in NAMES),
    path("write", page(lambda request: request.session.update({"seen": 1}))),
    path("rotate", page(rotate)),
    path("password", page(change_password)),
    path("logout", page(logout)),
    path("expire", page(expire)),
    path("me", page(show)),
]


class DjangoSite(Site):
    name = "Django `sessions`"
    cookie_name = "sessionid"
    engine = "contextcache_django.sessions"

    def __enter__(self) -> Self:
        backend = "contextcache_django.cache.RedisCache"
        self._settings = override_settings(
            CACHES={"default": {"BACKEND": backend, "LOCATION": self.url}},
            ROOT_URLCONF=__name__,
            SESSION_ENGINE=self.engine,
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        )
        self._settings.enable()
        self.app = WSGIHandler()
        return self

    def __exit__(self, *_: object) -> None:
        self._settings.disable()


class CachedDbSite(DjangoSite):
    name = "Django `cached_db`"
    engine = "contextcache_django.cached_db"


# --- Flask ----------------------------------------------------------------------------------------


class FlaskSite(Site):
    name = "Flask"
    cookie_name = "session"

    def __enter__(self) -> Self:
        app = Flask(__name__)
        app.config.update(SECRET_KEY="only for tests", CONTEXTCACHE_REDIS_URL=self.url)
        app.config["CONTEXTCACHE_SESSION"] = True

        def log_in(name: str) -> str:
            flask_session.rotate()  # type: ignore[attr-defined]
            flask_session["user"] = name
            return ""

        def rotate() -> str:
            flask_session.rotate()  # type: ignore[attr-defined]
            return ""

        def change_password() -> str:
            data = dict(flask_session)  # as most do it by hand
            flask_session.clear()
            flask_session.update(data, password=2)
            return ""

        pages: dict[str, Callable[..., Any]] = {
            "cart": lambda: flask_session.update(cart="tea") or "",
            "login/<name>": log_in,
            "write": lambda: flask_session.update(seen=1) or "",
            "rotate": rotate,
            "password": change_password,
            "logout": lambda: flask_session.clear() or "",
            "expire": lambda: [flask_session.pop(key) for key in list(flask_session)] and "",
            "me": lambda: f"{flask_session.get('user')} {flask_session.get('cart')}",
        }
        for rule, act in pages.items():
            app.add_url_rule(f"/{rule}", rule.partition("/")[0], act)
        ContextCache(app)
        self.app = app
        return self


SITES: list[type[Site]] = [DjangoSite, CachedDbSite, FlaskSite]
PAGES = {
    "login": "login/ann",
    "write": "write",
    "rotate": "rotate",
    "password change": "password",
    "logout": "logout",
    "expiry": "expire",
}
