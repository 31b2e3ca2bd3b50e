"""One visitor's session in Redis, as a view uses it, and when it gets another id by itself."""

from __future__ import annotations

import functools
import threading
from typing import TYPE_CHECKING, Any

from flask import session
from flask.sessions import SessionMixin
from werkzeug.exceptions import ServiceUnavailable

from contextcache import ServerError, current_scope
from contextcache.servers import RETRY_AFTER
from contextcache.storage.sessions import carries_over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flask import Flask


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
        self.rotating = False
        self._presented = sid
        self.was_read = False  # so that what it holds may come from there
        self._ended = False  # the visitor may have logged out
        self._before: dict[str, Any] = {}  # what was read and then cleared
        self.failed = False  # to save it was tried in vain
        self._load = load
        self._outage: SessionUnavailableError | None = None
        # A copy of the request context shares the session; a signal handler may read it, too
        self._lock = threading.RLock()
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

    def leave(self) -> None:
        """Log the visitor out, and keep what is in the session now, under another id."""
        self.rotate()
        self._ended = True

    def clear(self) -> None:
        """Forget everything, without reading it; what is put in later gets another id.

        Where it has been read before, what is put in may come from there. So it is stored only if
        the visitor has not logged out meanwhile.
        """
        self._before = self._before or self._data or {}
        self._data = {}
        self._ended = self.rotating = self.modified = True

    @property
    def logs_out(self) -> bool:
        """Whether it was cleared, or left, and is not the same as before under another id."""
        return self._ended and not carries_over(self._before, self._data or {})

    @property
    def id_to_delete(self) -> str | None:
        """The id of which nothing is to be left; Redis may know it as one that was rotated."""
        return self.sid or self._presented

    def stored_as(self, sid: str) -> None:
        """Take note that Redis holds it under this id now.

        Flask saves it once more where it fails afterwards and makes an error page.
        """
        self.sid = self._presented = sid
        self._ended = self.rotating = False

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
                    data = self._read()
                    if self._data is None:  # no handler of a signal has read it meanwhile
                        self._data = data
        return self._data

    def _read(self) -> dict[str, Any]:
        if self.sid is None:
            return {}
        if self._outage is not None:  # one wait for a silent server is enough for one request
            raise self._outage
        try:
            stored = self._load(self.sid)
        except SessionUnavailableError as error:
            self._outage = error
            raise
        if stored is None:
            self.sid = None  # never adopt an id that Redis does not know
            return {}
        self.was_read = True
        return stored


@functools.cache
def watch_logins() -> None:
    """Give the session another id when flask_login logs in or out, or asks for the password."""
    from flask_login import (  # noqa: PLC0415
        user_loaded_from_cookie,
        user_logged_in,
        user_logged_out,
        user_login_confirmed,
    )

    user_logged_in.connect(_rotate)
    user_login_confirmed.connect(_rotate)
    user_loaded_from_cookie.connect(_rotate)  # "remember me" is a login, too
    user_logged_out.connect(_leave)


def _rotate(_app: Flask, **_: object) -> None:
    if (current := _own_session()) is not None:
        current.rotate()


def _leave(_app: Flask, **_: object) -> None:
    if (current := _own_session()) is not None:
        current.leave()


def _own_session() -> RedisSession | None:
    current: SessionMixin = session._get_current_object()  # type: ignore[attr-defined]
    return current if isinstance(current, RedisSession) else None
