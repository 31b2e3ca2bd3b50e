"""The session engine: `SESSION_ENGINE = "contextcache_django.sessions"`.

Sessions live in the cache `SESSION_CACHE_ALIAS`, which has to be a `contextcache` one, and are
read from and written to the server that takes its writes: a replica may not know yet who has
just logged in. An untouched session costs no command, a read one, a write two.

What differs from Django's cached sessions, and why:

* A Redis that cannot be reached raises `ServerError`, which `ContextCacheMiddleware` makes a 503
  page. Taken for "no session", as Django does, it answers 200, deletes the cookie, and the
  visitor stays logged out after Redis is back.
* A Redis that takes no writes still has the session, and a page that reads it is served. One that
  writes it is a 503 page: any other would tell of a login or a cart that is not there.
* An existing session is written with `SET ... XX` and a new one with `NX`, so one that was logged
  out elsewhere is not resurrected, in one trip instead of two.
* The key in Redis is a hash of the session id. Who can list the keys cannot take over a session.
* A session that cannot be read any more is empty and gets a new id, after a warning.
* A top-level key that cannot be stored is left out and the rest is stored: a cart that went wrong
  must not cost the login. So it is with one that is nested too deep; where all together are too
  large, the smallest are kept, and those that Django logs in with are among the smallest there are.

Under ASGI, Django's SessionMiddleware saves in a worker thread, after the view. A `threading.local`
in a session that a rule asks to `snapshot` reads as unset there, unless the view calls `asave`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends.base import (
    VALID_KEY_CHARS,
    CreateError,
    SessionBase,
    UpdateError,
)
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import get_random_string
from django.utils.functional import cached_property

from contextcache import (
    ServerError,
    UnreadablePayloadError,
    current_scope,
)
from contextcache_django.cache import RedisCache

if TYPE_CHECKING:
    from contextcache import Guard

KEY_PREFIX = "contextcache.session."
LABEL = "session"
ATTEMPTS = 10  # a collision of two random ids of 165 bits is a broken random generator


class Assigning(SessionBase):
    """A session that in development lets a finding tell the line that put something into it."""

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        _note_assignment(key)

    async def aset(self, key: str, value: Any) -> None:
        """Put `value` under `key`."""
        await super().aset(key, value)
        _note_assignment(key)


def _note_assignment(key: str) -> None:
    scope = current_scope()
    if scope is not None:
        scope.note_assignment(key)


class SessionStore(Assigning):
    """One visitor's session, as Django's `SessionMiddleware` uses it.

    Raises:
        ImproperlyConfigured: `SESSION_CACHE_ALIAS` is not a contextcache cache.
        ServerError: Redis cannot be reached.
    """

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        cache = caches[settings.SESSION_CACHE_ALIAS]
        if not isinstance(cache, RedisCache):
            raise ImproperlyConfigured(
                f"SESSION_ENGINE {__name__!r} keeps sessions in the cache "
                f"{settings.SESSION_CACHE_ALIAS!r}, which is a {type(cache).__qualname__}: set its "
                "BACKEND to 'contextcache_django.cache.RedisCache', or SESSION_CACHE_ALIAS to "
                "the name of a cache that has it"
            )
        self._cache = cache
        self._hashed = ("", "")

    # --- Reading --------------------------------------------------------------------------------

    def load(self) -> dict[str, Any]:
        """Return the stored session, or an empty one, without its id, where there is none."""
        if self.session_key is not None:
            key = self._redis_key(self.session_key)
            payload = self._ask("get", key)
            if payload is not None:
                try:
                    return self._decode(payload, key)
                except UnreadablePayloadError as error:
                    self._guard.report_unreadable(error)
        self._session_key = None  # an id we did not give out is not adopted
        return {}

    def exists(self, session_key: str) -> bool:
        """Return whether there is a session with this id."""
        if not session_key:
            return False
        return bool(self._ask("exists", self._redis_key(session_key)))

    # --- Writing: the guard runs in the caller's thread and context -----------------------------

    def save(self, must_create: bool = False) -> None:
        """Store the session.

        Raises:
            CreateError: `must_create`, and the id is taken.
            UpdateError: The session has been deleted meanwhile.
            UncacheableValueError: It cannot be stored, and the mode is `warn` or `raise`.
        """
        if self.session_key is None:
            self.create()
            return
        session = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        key = self._redis_key(self.session_key)
        self._store(key, self._encode(session, key), self.get_expiry_age(), must_create)

    async def asave(self, must_create: bool = False) -> None:
        """Store the session; see `save`."""
        if self.session_key is None:
            await self.acreate()
            return
        session = await self._aget_session(no_load=must_create)  # type: ignore[attr-defined]
        key = self._redis_key(self.session_key)
        payload = self._encode(session, key)
        age = await self.aget_expiry_age()
        await sync_to_async(self._store)(key, payload, age, must_create)

    def create(self) -> None:
        """Store the session under a new id."""
        for _ in range(ATTEMPTS):
            self._session_key = get_random_string(32, VALID_KEY_CHARS)
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return
        raise RuntimeError(f"{ATTEMPTS} random session ids in a row were taken")

    async def acreate(self) -> None:
        """Store the session under a new id; see `create`."""
        for _ in range(ATTEMPTS):
            self._session_key = get_random_string(32, VALID_KEY_CHARS)
            try:
                await self.asave(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return
        raise RuntimeError(f"{ATTEMPTS} random session ids in a row were taken")

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session with this id, or this one."""
        session_key = self.session_key if session_key is None else session_key
        if session_key is not None:
            self._ask("delete", self._redis_key(session_key))

    @classmethod
    def clear_expired(cls) -> None:
        """Do nothing: Redis removes expired sessions itself."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """Do nothing: Redis removes expired sessions itself."""

    # --- The parts ------------------------------------------------------------------------------

    def _ask(self, command: str, *arguments: Any, **options: Any) -> Any:
        """Return what the client answers, and tell the middleware of an outage."""
        try:
            return getattr(self._cache.connection(), command)(*arguments, **options)
        except ServerError as error:
            scope = current_scope()
            if scope is not None:
                scope.outage = error
                scope.lost(error.reason, label=LABEL)
            raise

    @cached_property
    def _guard(self) -> Guard:
        return self._cache.guard("session in redis", session=True)

    def _redis_key(self, session_key: str) -> str:
        if self._hashed[0] != session_key:
            digest = hashlib.sha256(session_key.encode()).hexdigest()
            self._hashed = session_key, self._cache.make_key(KEY_PREFIX + digest)
        return self._hashed[1]

    def _store(self, key: str, payload: bytes, age: float, must_create: bool) -> None:
        new, seconds = must_create, int(age)
        if seconds > 0:
            done = self._ask("set", key, payload, ex=seconds, nx=new, xx=not new)
        else:  # it has expired, or will within the second: Redis has no `ex` for that
            done = self._ask("delete", key) or new
        if not done:
            raise CreateError if new else UpdateError

    def _encode(self, session: dict[str, Any], key: str) -> bytes:
        return self._guard.dumps(session, label=LABEL, key=key)

    def _decode(self, payload: bytes, key: str) -> dict[str, Any]:
        session = self._guard.loads(payload, label=LABEL, key=key)
        if not isinstance(session, dict):
            raise UnreadablePayloadError(
                LABEL,
                f"it holds a {type(session).__qualname__}, not a session",
                "see what else writes to this key of Redis",
            )
        return session
