"""The session on the server: Redis holds it, and the cookie holds only its id.

A request that leaves the session alone costs no command, one that reads it costs one, and one
that writes it one more. How they are sent is what keeps the session safe:

* The cookie holds 256 random bits and Redis a hash of them: who reads Redis cannot log in.
* An id that Redis does not know is never adopted, so nobody can choose a visitor's id.
* A session that exists is written with `SET ... XX`, a new one with `NX`: a request still running
  when its visitor logs out elsewhere does not bring the session back.
* A Redis that does not answer is an outage and not an empty session: the visitor gets a 503 page
  and keeps the cookie.
* A Redis that takes no writes still has the session, and a page that reads it is served. One that
  writes it is a 503 page: any other would tell of a login or a cart that is not there.

Redis keeps a session for `PERMANENT_SESSION_LIFETIME` after it was last written or, with
`SESSION_REFRESH_EACH_REQUEST`, last read; a request that does not touch the session refreshes
nothing. A Redis before 6.2, which has no `GETEX`, is sent two commands at once instead.
"""

from __future__ import annotations

import functools
import hashlib
import re
import secrets
import sys
import threading
from typing import TYPE_CHECKING, Any

from flask import request, session
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import ServiceUnavailable

from contextcache import (
    ReadOnlyServerError,
    ServerError,
    UncacheableValueError,
    UnreadablePayloadError,
    current_scope,
)
from contextcache.servers import connect
from contextcache_flask.clients import address_of, outage_of
from contextcache_flask.scopes import WithinRequest
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask, Request, Response
    from redis import Redis

    from contextcache import Guard
    from contextcache_flask.settings import Settings

KEY_PREFIX = "contextcache:session:"
RETRY_AFTER = 5  # seconds, told to the visitor's browser during an outage

_SID = re.compile(r"[A-Za-z0-9_-]{43}")  # what secrets.token_urlsafe(32) returns


class SessionUnavailableError(ServerError, ServiceUnavailable):
    """The session can be neither read nor written because Redis does not answer.

    Flask answers it with a 503 page, or with the application's own error handler for 503. The
    message, which is logged, names the URL that was tried; the page does not.
    """

    def __init__(self, message: str) -> None:
        ServiceUnavailable.__init__(self, retry_after=RETRY_AFTER)
        self.args = (message,)

    def __str__(self) -> str:
        return str(self.args[0])


class RedisSession(SessionMixin):
    """A session that is read when something in it is first asked for.

    Only changes of the session itself are noticed, as with Flask's own: after a change inside
    one of its values, set `modified`.

    Args:
        load: Reads what Redis holds under an id, or returns None.
        sid: The id in the visitor's cookie.
    """

    accessed = False
    modified = False

    def __init__(self, load: Callable[[str], dict[str, Any] | None], sid: str | None) -> None:
        self.sid = sid
        self.cleared = False
        self.rotating = False
        self.failed = False  # to save it was tried in vain
        self._load = load
        self._outage: SessionUnavailableError | None = None
        self._lock = threading.Lock()  # a copy of the request context shares the session
        self._data: dict[str, Any] | None = None if sid else {}

    @property
    def loaded(self) -> bool:
        """Whether it is known what the session holds."""
        return self._data is not None

    def rotate(self) -> None:
        """Give the session another id when it is saved, under which alone it is found from then.

        Do so when a visitor logs in or gains rights: an id that somebody planted in the browser
        before is then worth nothing. With flask_login it happens by itself.
        """
        _ = self._known
        self.rotating = self.modified = True

    def clear(self) -> None:
        """Forget everything, without reading it; what is put in later gets another id."""
        self._data = {}
        self.cleared = self.modified = True

    def copy(self) -> dict[str, Any]:
        """Return a plain dict with the same items."""
        return dict(self._known)

    def get(self, key: str, default: Any = None) -> Any:
        """Return what is under `key`, or `default`."""
        return self._known.get(key, default)

    def __getitem__(self, key: str) -> Any:
        return self._known[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._known[key] = value
        self.modified = True
        scope = current_scope()
        if scope is not None:
            scope.note_assignment(key)  # in development, a finding tells the line

    def __delitem__(self, key: str) -> None:
        del self._known[key]
        self.modified = True

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: object) -> bool:
        return key in self._known

    def __repr__(self) -> str:
        shown = "not read" if self._data is None else f"{len(self._data)} keys"
        return f"<{type(self).__name__}: {shown}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Be stored in a cache as a plain dict."""
        return dict, (), None, None, iter(self._known.items())

    @property
    def _known(self) -> dict[str, Any]:
        self.accessed = True
        if self._data is None:
            with self._lock:
                if self._data is None:
                    self._data = self._read()
        return self._data

    def _read(self) -> dict[str, Any]:
        if self.sid is None:
            return {}
        if self._outage is not None:  # one wait for a silent server is enough for one request
            raise self._outage
        try:
            held = self._load(self.sid)
        except SessionUnavailableError as error:
            self._outage = error
            raise
        if held is None:
            self.sid = None  # never adopt an id that Redis does not know
        return held or {}


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
        self._knows_getex = True
        self._kept: tuple[Settings, Guard, Redis] | None = None

    def open_session(self, app: Flask, request: Request) -> RedisSession:
        """Return the session of the visitor; it is read when it is needed."""
        if "flask_login" in sys.modules:
            _watch_logins()
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
        if session.failed or not (session.loaded or session.modified):
            return
        try:
            if not session.modified:
                held = session.sid is not None and self.should_set_cookie(app, session)
            elif session:
                held = self._store(app, session)
            else:
                self._delete(app, session)
                self._delete_cookie(app, response)
                return
        except SessionUnavailableError as error:
            _become(response, error)
        except UncacheableValueError:
            session.failed = True  # Flask saves it once more, with the error page
            if self._tools(app)[0].config.mode != "strip":
                raise
        else:
            if held:
                self._set_cookie(app, session, response)

    def regenerate(self, session: RedisSession) -> None:
        """Rotate the id of `session`, by the name that Flask-Session has for it."""
        session.rotate()

    # --- Redis ----------------------------------------------------------------------------------

    def _tools(self, app: Flask) -> tuple[Guard, Redis]:
        """Return guard and client for `app`, the same until it is initialised again."""
        settings, kept = settings_of(app), self._kept
        if kept is None or kept[0] is not settings:
            guard = self._guard or settings.guard("session in redis", session=True)
            client = self._server or settings.session_server()
            if isinstance(client, str):
                client = connect(client, timeout=settings.config.timeout)
            kept = self._kept = settings, guard, client
        return kept[1:]

    def _load(self, app: Flask, sid: str) -> dict[str, Any] | None:
        guard, redis = self._tools(app)
        key = self._key(sid)
        try:
            payload = self._read(redis, key, app)
        except Exception as error:
            raise _unavailable(app, redis, error) from error
        if payload is None:
            return None
        try:
            held = guard.loads(payload, label="session", key=key)
        except UnreadablePayloadError as error:
            guard.report_unreadable(error)
            return None
        return held if type(held) is dict else None

    def _read(self, redis: Any, key: str, app: Flask) -> Any:
        """Return what `key` holds, and keep it longer where the settings and Redis let us."""
        if not app.config["SESSION_REFRESH_EACH_REQUEST"]:
            return redis.get(key)
        if self._knows_getex:
            try:
                return redis.execute_command("GETEX", key, "EX", _lifetime(app))
            except Exception as error:
                if isinstance(outage_of(redis, error), ReadOnlyServerError):
                    return redis.get(key)
                if not str(error).startswith("unknown command"):
                    raise
                self._knows_getex = False  # before Redis 6.2
        both = redis.pipeline(transaction=False)
        both.get(key)
        both.expire(key, _lifetime(app))
        payload = both.execute(raise_on_error=False)[0]  # a Redis that takes no writes still reads
        if isinstance(payload, Exception):
            raise payload
        return payload

    def _store(self, app: Flask, session: RedisSession) -> bool:
        """Write the session, and return whether Redis holds it now."""
        guard, redis = self._tools(app)
        old, lifetime = session.sid, _lifetime(app)
        sid = old if old and not (session.cleared or session.rotating) else secrets.token_urlsafe()
        key = self._key(sid)
        with WithinRequest():
            payload = guard.dumps(session.copy(), label="session", key=key)
        try:
            stored = redis.set(key, payload, ex=lifetime, nx=old != sid, xx=old == sid)
            # One after the other, because a cluster has no transaction over two slots. Where
            # somebody has logged out meanwhile, a rotation does not bring the session back.
            gone = old and old != sid and not redis.delete(self._key(old))
            if gone and not session.cleared:
                redis.delete(key)
                stored = False
        except Exception as error:
            raise _unavailable(app, redis, error) from error
        if stored:
            # Flask saves once more where it fails afterwards and makes an error page.
            session.sid, session.cleared, session.rotating = sid, False, False
        return bool(stored)

    def _delete(self, app: Flask, session: RedisSession) -> None:
        if session.sid is not None:
            _, redis = self._tools(app)
            try:
                redis.delete(self._key(session.sid))
            except Exception as error:
                raise _unavailable(app, redis, error) from error

    def _key(self, sid: str) -> str:
        return self._key_prefix + _hashed(sid)

    # --- The cookie -----------------------------------------------------------------------------

    def _set_cookie(self, app: Flask, session: RedisSession, response: Response) -> None:
        response.set_cookie(
            self.get_cookie_name(app),
            session.sid or "",
            expires=self.get_expiration_time(app, session),
            **self._cookie_options(app),
        )

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


@functools.cache
def _watch_logins() -> None:
    """Give the session another id when flask_login logs a visitor in, or asks for the password."""
    from flask_login import user_logged_in, user_login_confirmed  # noqa: PLC0415

    user_logged_in.connect(_rotate)
    user_login_confirmed.connect(_rotate)


def _rotate(_app: Flask, **_: object) -> None:
    current: SessionMixin = session._get_current_object()  # type: ignore[attr-defined]
    if isinstance(current, RedisSession):
        current.rotate()


@functools.lru_cache(maxsize=128)  # a request that reads and writes needs it twice
def _hashed(sid: str) -> str:
    return hashlib.sha256(sid.encode()).hexdigest()


def _lifetime(app: Flask) -> int:
    return max(1, int(app.permanent_session_lifetime.total_seconds()))


def _unavailable(app: Flask, client: Redis, error: Exception) -> SessionUnavailableError:
    """Return what the visitor is told of an error of Redis's; any other is raised again."""
    from redis import RedisError  # noqa: PLC0415  # of an embedded server as well

    if not isinstance(error, (ServerError, RedisError)):
        raise error
    outage = outage_of(client, error)
    if (scope := current_scope()) is not None:
        scope.lost(outage.reason if outage else type(error).__name__, label="session")
    # The text of redis-py can repeat parts of the command.
    refused = f"Redis at {address_of(client)} refused a command: {type(error).__name__}"
    message = str(outage or refused)
    # Flask answers an HTTP exception without logging it.
    app.logger.error("%s (%s %r is answered with 503)", message, request.method, request.path)
    return SessionUnavailableError(message)


def _become(response: Response, error: SessionUnavailableError) -> None:
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
