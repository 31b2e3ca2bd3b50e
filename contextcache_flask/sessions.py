"""The session on the server: Redis holds it, and the cookie holds only its id.

A request that leaves the session alone costs no command, one that reads it costs one, and one
that writes it one more. How they are sent is what keeps the session safe:

* The cookie holds 256 random bits and Redis a hash of them: who reads Redis cannot log in.
* An id that Redis does not know is never adopted, so nobody can choose a visitor's id.
* A request still running when its visitor logs out elsewhere does not bring the session back,
  whatever it does with what it has read: see `contextcache.storage.sessions`.
* A message that is lost while the id changes logs nobody out: it is sent once more.
* A Redis that does not answer is an outage and not an empty session: the visitor gets a 503 page
  and keeps the cookie.
* A Redis that takes no writes still has the session, and a page that reads it is served. One that
  writes it is a 503 page: any other would tell of a login or a cart that is not there.

Redis keeps a session for `PERMANENT_SESSION_LIFETIME` after it was last written or, with
`SESSION_REFRESH_EACH_REQUEST`, last read; a request that does not touch the session refreshes
nothing. Where there is no `GETEX`, before Redis 6.2 or by the rights of the user, two commands are
sent at once instead.

Three things log a visitor out: `session.clear()`, taking out the last item, and `logout_user()` of
flask_login. They also delete what another request has moved the session to meanwhile.
"""

from __future__ import annotations

import functools
import re
import secrets
import sys
from typing import TYPE_CHECKING, Any

from flask import request
from flask.sessions import SessionInterface
from werkzeug.http import dump_cookie

from contextcache import ServerError, UncacheableValueError, current_scope
from contextcache.base.logs import error_name
from contextcache.servers import connect
from contextcache.storage.commands import address_of, outage_of
from contextcache.storage.sessions import SessionStorage, hashed_id
from contextcache_flask.request_scope import WithinRequest
from contextcache_flask.session import RedisSession, SessionUnavailableError, watch_logins
from contextcache_flask.settings import EXTENSION, settings_of

if TYPE_CHECKING:
    from flask import Flask, Request, Response
    from flask.sessions import SessionMixin
    from redis import Redis

    from contextcache import Guard
    from contextcache_flask.settings import Settings

KEY_PREFIX = "contextcache:session:"

_SID = re.compile(r"[A-Za-z0-9_-]{43}")  # what secrets.token_urlsafe(32) returns


class RedisSessionInterface(SessionInterface):
    """Keeps sessions in Redis, without what cannot be stored in them.

    `CONTEXTCACHE_SESSION = True` installs it. By hand:
    `app.session_interface = RedisSessionInterface("redis://127.0.0.1:6379/0")`.

    All `SESSION_COOKIE_*` settings and `PERMANENT_SESSION_LIFETIME` apply. The session has two
    things that Flask's own has not: `session.rotate()`, and that a value may be of any type.

    An offender that can only be cut out of the session takes its top-level key with it. Where
    nothing of a session can be stored, Redis keeps what it held before; in mode `warn` and
    `raise` it is an `UncacheableValueError`.

    Args:
        client_or_url: The server, as a URL or a client of redis-py; by default that of the
            application's settings.
        guard: The policy; by default that of the application.
        key_prefix: What the keys in Redis begin with.

    Raises:
        ConfigurationError: The URL cannot be understood.
    """

    pickle_based = True

    def __init__(
        self,
        client_or_url: Redis | str | None = None,
        *,
        guard: Guard | None = None,
        key_prefix: str = KEY_PREFIX,
    ) -> None:
        self._server = client_or_url
        if isinstance(client_or_url, str):
            connect(client_or_url)  # a mistake in the URL is to be seen now
        self._guard = guard
        self._key_prefix = key_prefix
        self._kept: tuple[Settings, SessionStorage] | tuple[None, None] = (None, None)

    def open_session(self, app: Flask, request: Request) -> RedisSession:
        """Return the session of the visitor; it is read when it is needed."""
        if "flask_login" in sys.modules:
            watch_logins()
        sid = request.cookies.get(self.get_cookie_name(app), "")
        load = functools.partial(self._load, app)
        return RedisSession(load, sid if _SID.fullmatch(sid) else None)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Store what has changed, and set or delete the cookie."""
        if not isinstance(session, RedisSession):
            raise TypeError(f"a {type(session).__name__} was opened by another session interface")
        used = session.accessed or session.modified
        if used and response.headers.setdefault("Vary", "Cookie") != "Cookie":
            response.vary.add("Cookie")
        if session.failed or not (session.modified or session.loaded):
            return
        if not session.modified:
            if session.sid is not None and self.should_set_cookie(app, session):
                self._set_cookie(app, session, response)
            return
        storage = self._storage(app)
        try:
            data = session.copy()
            if not data:
                self._delete(storage, session)
                self._delete_cookie(app, response)
            elif self._store(app, storage, session, data):
                self._set_cookie(app, session, response)
        except UncacheableValueError:
            session.failed = True  # Flask saves it once more, with the error page
            if storage.guard.config.mode != "strip":
                raise
        except Exception as error:  # noqa: BLE001  # what is no error of Redis's is raised again
            _replace_response(response, _unavailable(app, storage.client, error))

    def regenerate(self, session: RedisSession) -> None:
        """Rotate the id of `session`, by the name that Flask-Session has for it."""
        session.rotate()

    # --- Redis ----------------------------------------------------------------------------------

    def redis_key(self, sid: str) -> str:
        """Return the key in Redis of the session with this id."""
        return self._key_prefix + hashed_id(sid)

    def _storage(self, app: Flask) -> SessionStorage:
        """Return the storage for `app`, the same until it is initialised again."""
        settings, storage = self._kept
        if storage is None or app.extensions.get(EXTENSION) is not settings:
            settings = settings_of(app)
            guard = self._guard or settings.guards.get("session in redis", session=True)
            client: Any = self._server or settings.session_server()
            if isinstance(client, str):
                client = connect(client, timeout=settings.config.timeout)
            storage = SessionStorage(client, guard)
            self._kept = settings, storage
        return storage

    def _load(self, app: Flask, sid: str) -> dict[str, Any] | None:
        prolong = _lifetime(app) if app.config["SESSION_REFRESH_EACH_REQUEST"] else None
        storage = self._storage(app)
        try:
            return storage.read(self.redis_key(sid), prolong=prolong)
        except Exception as error:
            raise _unavailable(app, storage.client, error) from error

    def _store(
        self, app: Flask, storage: SessionStorage, session: RedisSession, data: dict[str, Any]
    ) -> bool:
        """Write the session, and return whether Redis holds it now."""
        old = session.sid
        sid = old if old and not session.rotating else secrets.token_urlsafe()
        key, lifetime = self.redis_key(sid), _lifetime(app)
        with WithinRequest():
            payload = storage.encode(data, key)
        if old == sid:
            stored = storage.replace(key, payload, lifetime)
        else:
            stored = storage.create(key, payload, lifetime) and self._move(storage, session, key)
        if stored:
            session.stored_as(sid)
        return stored

    def _move(self, storage: SessionStorage, session: RedisSession, new: str) -> bool:
        """Leave nothing under the old id; return whether what is under the new one counts."""
        old = session.id_to_delete
        if old is None:
            return True
        old = self.redis_key(old)
        if session.sid and session.was_read:
            if storage.rotate(old, new):
                return True
            if session.logs_out:
                storage.delete(old)
            return False
        if session.logs_out:
            storage.delete(old, twice=True)
        return True

    def _delete(self, storage: SessionStorage, session: RedisSession) -> None:
        if session.id_to_delete is not None:
            storage.delete(self.redis_key(session.id_to_delete))

    # --- The cookie -----------------------------------------------------------------------------

    def _set_cookie(self, app: Flask, session: RedisSession, response: Response) -> None:
        # `Response.set_cookie` asks the application how large a cookie may be, in eight calls.
        cookie = dump_cookie(
            self.get_cookie_name(app),
            session.sid or "",
            expires=self.get_expiration_time(app, session),
            **self._cookie_options(app),
        )
        response.headers.add("Set-Cookie", cookie)

    def _delete_cookie(self, app: Flask, response: Response) -> None:
        response.delete_cookie(self.get_cookie_name(app), **self._cookie_options(app))

    def _cookie_options(self, app: Flask) -> dict[str, Any]:
        options = {
            "domain": self.get_cookie_domain(app),
            "path": self.get_cookie_path(app),
            "secure": self.get_cookie_secure(app),
            "httponly": self.get_cookie_httponly(app),
            "samesite": self.get_cookie_samesite(app),
        }
        if hasattr(self, "get_cookie_partitioned"):  # Flask 3.1
            options["partitioned"] = self.get_cookie_partitioned(app)
        return options


def _lifetime(app: Flask) -> int:
    return max(1, int(app.permanent_session_lifetime.total_seconds()))


def _unavailable(app: Flask, client: Redis, error: Exception) -> SessionUnavailableError:
    """Return what the visitor is told of an error of Redis's; any other is raised again."""
    from redis import RedisError  # noqa: PLC0415  # of an embedded server as well

    if not isinstance(error, (ServerError, RedisError)):
        raise error
    outage = outage_of(client, error)
    scope = current_scope()
    if outage is None and scope is not None:
        scope.lost(error_name(error), label="session")
    message = (
        str(outage)
        if outage
        # The text of redis-py can repeat parts of the command.
        else (f"Redis at {address_of(client)} refused a command: {error_name(error)}")
    )
    # Flask answers an HTTP exception without logging it.
    line = scope.request_line if scope is not None else f"{request.method} *"
    app.logger.error("contextcache: %s (%s is answered with 503)", message, line)
    return SessionUnavailableError(message)


def _replace_response(response: Response, error: SessionUnavailableError) -> None:
    """Turn a response that has been made already into the one for `error`."""
    close = getattr(response.response, "close", None)
    if close is not None:
        response.call_on_close(close)
    response.direct_passthrough = False
    page = error.get_response()
    response.status_code = page.status_code
    response.headers.clear()
    response.headers.extend(page.headers)
    response.set_data(page.get_data())
