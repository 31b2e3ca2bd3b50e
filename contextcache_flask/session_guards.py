"""Sessions that others keep, behind the guard: Flask's own cookie, and Flask-Session.

What these write is JSON or MessagePack: a value they cannot hold is an error page today, which
names the type and not the field. With its serializer guarded, the session is stored without that
value, and the field is named.
"""

from __future__ import annotations

import copy
import functools
import sys
from typing import TYPE_CHECKING, Any

from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SecureCookieSessionInterface

from contextcache import UnreadablePayloadError, current_scope
from contextcache.base.classes import derived
from contextcache.base.logs import error_name
from contextcache.jsonable import LOOK_FOR_THE_WRITER, NESTED, JSONGuard
from contextcache_flask.request_scope import WithinRequest, note_loaded
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from flask import Flask, Request, Response
    from flask.sessions import SecureCookieSession, SessionInterface, SessionMixin
    from flask_session.base import MsgSpecSerializer

SERVER_SIDE = "keep the session on the server (CONTEXTCACHE_SESSION = True), or store less in it"


def guard_session_interface(app: Flask) -> None:
    """Guard the session of `app` where it is one that Flask or Flask-Session keeps.

    A subclass of the application's own is guarded as well, but for a serializer of its own.
    """
    interface = app.session_interface
    if isinstance(interface, SecureCookieSessionInterface):
        if type(interface.serializer) is TaggedJSONSerializer:
            app.session_interface = _guarded_cookie(interface, app)
    elif "flask_session" in sys.modules:
        from flask_session.base import MsgSpecSerializer  # noqa: PLC0415

        serializer = getattr(interface, "serializer", None)
        backend = getattr(interface, "cache", None)
        if type(serializer) is MsgSpecSerializer:
            interface.serializer = MessageSerializer(serializer, app)  # type: ignore[attr-defined]
        if backend is not None and "cachelib" in sys.modules:  # which pickles, without serializer
            from cachelib import BaseCache  # noqa: PLC0415

            from contextcache_flask.cache_guard import GuardedBackend, guarded  # noqa: PLC0415

            if isinstance(backend, BaseCache) and not isinstance(backend, GuardedBackend):
                guarded(backend, app, label="session")


# --- The signed cookie ----------------------------------------------------------------------------


class TaggedSerializer:
    """Flask's serializer of the cookie session, without what JSON cannot hold.

    Args:
        serializer: The one that is guarded, with the tags that the application has added.
        app: The application whose settings apply.
    """

    def __init__(self, serializer: TaggedJSONSerializer, app: Flask) -> None:
        self._serializer = serializer
        self._app = app

    @functools.cached_property
    def guard(self) -> JSONGuard[str]:
        """The guard of this session, made when it is first needed."""
        config = settings_of(self._app).effective_config
        encode, decode = self._serializer.dumps, self._serializer.loads
        return JSONGuard(encode, config, decode=decode, sink="session in the cookie")

    def loads(self, value: str) -> Any:
        """Return the session; one that cannot be read is reported, and empty."""
        try:
            return self._serializer.loads(value)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # whatever a tag of the application's raises
            is_deep = isinstance(error, RecursionError)
            reason = NESTED if is_deep else f"reading it raised {error_name(error)}"
        unreadable = UnreadablePayloadError(
            "session", reason, "do nothing: the visitor gets a new one"
        )
        self.guard.report_unreadable(unreadable)
        return {}

    def dumps(self, session: dict[str, Any]) -> str:
        """Return the JSON of a session.

        Raises:
            UncacheableValueError: Policy forbids it, or nothing of it can be stored.
        """
        if not session:  # which itsdangerous asks for each time, to see that it gets text
            return self._serializer.dumps(session)
        with WithinRequest():
            return self.guard.dumps(session, label="session")


class GuardedCookie(SecureCookieSessionInterface):
    """Warns of a cookie that grows too large; comes before the class of a cookie session."""

    serializer: Any

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        """Return the session in the cookie, or None where there is no secret to verify it with."""
        session = super().open_session(app, request)
        if session is not None:
            note_loaded(session)
            if settings_of(app).debug or settings_of(app).config.mode == "raise":
                _note_assignments(session)
        return session

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Set the cookie as ever, and report its size when that comes close to the limit."""
        super().save_session(app, session, response)
        cookies = response.headers.getlist("Set-Cookie")
        if cookies and cookies[-1].startswith(f"{self.get_cookie_name(app)}="):
            with WithinRequest():
                limit = response.max_cookie_size
                self.serializer.guard.weigh(session, len(cookies[-1]), limit, fix=SERVER_SIDE)


def _note_assignments(session: SecureCookieSession) -> None:
    """Let a finding tell the line that put something into a session, which tells of each change."""
    mark_modified, before = session.on_update, dict(session)

    def on_update(changed: SecureCookieSession) -> None:
        if mark_modified is not None:
            mark_modified(changed)
        scope = current_scope()
        for key, held in changed.items():
            if scope is not None and before.get(key, before) is not held:
                scope.note_assignment(key)
        before.clear()
        before.update(changed)

    session.on_update = on_update


def _guarded_cookie(interface: SecureCookieSessionInterface, app: Flask) -> SessionInterface:
    # Flask's interface is one object for all applications, and each has a policy of its own.
    guarded = copy.copy(interface)
    guarded.__class__ = derived(type(interface), GuardedCookie)
    guarded.serializer = TaggedSerializer(interface.serializer, app)  # type: ignore[assignment]
    return guarded


# --- Flask-Session --------------------------------------------------------------------------------


class MessageSerializer:
    """Flask-Session's serializer without what its format cannot hold, and without its pickle.

    Flask-Session unpickles whatever neither MessagePack nor JSON can decode, so whoever can write
    to its store can run code in the application. Here that is a session that cannot be read: the
    visitor gets a new one, under a new id.

    Args:
        serializer: The one that is guarded.
        app: The application whose settings apply.
    """

    def __init__(self, serializer: MsgSpecSerializer, app: Flask) -> None:
        self._decoders = serializer.decoder, serializer.alternate_decoder
        self._encoder = serializer.encoder
        self._app = app

    @functools.cached_property
    def guard(self) -> JSONGuard[bytes]:
        """The guard of this session, made when it is first needed."""
        config = settings_of(self._app).effective_config
        name = "MessagePack" if "msgpack" in type(self._encoder).__module__ else "JSON"
        encode, decode = self._encoder.encode, self._decoders[0].decode
        return JSONGuard(encode, config, decode=decode, name=name, sink="session")

    def encode(self, session: SessionMixin) -> bytes:
        """Return the bytes of a session.

        Raises:
            UncacheableValueError: Policy forbids it, or nothing of it can be stored.
        """
        with WithinRequest():
            return self.guard.dumps(dict(session), label="session")

    def decode(self, serialized_data: bytes) -> dict[str, Any] | None:
        """Return the session, or None where it cannot be read, as where there is none."""
        reason = "its bytes are neither MessagePack nor JSON, and are not unpickled"
        for decoder in self._decoders:
            try:
                held = decoder.decode(serialized_data)
            except ValueError:  # of which msgspec.DecodeError is one
                continue
            except RecursionError:
                reason = NESTED
                continue
            if isinstance(held, dict):
                note_loaded(held)
                return held
        error = UnreadablePayloadError("session", reason, LOOK_FOR_THE_WRITER)
        self.guard.report_unreadable(error)
        return None
