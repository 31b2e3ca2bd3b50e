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
* A session that was logged out elsewhere is not resurrected, whatever a request that has read it
  before does with it: `save`, `cycle_key` and `create` then raise `UpdateError`. See
  `contextcache.storage.sessions`. It takes one trip instead of two.
* A message that is lost while the id changes logs nobody out: it is sent once more.
* The key in Redis is a hash of the session id. Who can list the keys cannot take over a session.
* A session that cannot be read any more is empty and gets a new id, after a warning.
* A top-level key that cannot be stored is left out and the rest is stored: a cart that went wrong
  must not cost the login. So it is with one that is nested too deep; where all together are too
  large, the smallest are kept, and those that Django logs in with are among the smallest there are.

Under ASGI, Django's SessionMiddleware saves in a worker thread, after the view. A `threading.local`
in a session that a rule asks to `snapshot` reads as unset there, unless the view calls `asave`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import (
    VALID_KEY_CHARS,
    CreateError,
    SessionBase,
    UpdateError,
)
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import get_random_string
from django.utils.functional import cached_property

from contextcache import current_scope
from contextcache.storage.sessions import hashed_id, shares_values
from contextcache_django.cache import RedisCache

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contextcache.storage.sessions import SessionStorage

KEY_PREFIX = "contextcache.session."
ATTEMPTS = 10  # a collision of two random ids of 165 bits is a broken random generator


class LoggedOutError(UpdateError, SessionInterrupted):
    """The session was logged out, or got another id, while this request was using it.

    Django answers it with status 400, from a view and from its middleware.
    """

    def __init__(self) -> None:
        super().__init__(
            "The request's session was deleted, or given another id, before the request completed. "
            "The user may have logged out in a concurrent request, for example."
        )


class Store(SessionBase):
    """What the engines of contextcache have in common.

    Where a finding is shown in development, it names the line that put something into the session.
    """

    _missed: str | None = None  # the id the visitor came with, where there is no such session
    _lost: Mapping[str, Any] = MappingProxyType({})  # what was read, and gone when it was flushed

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        _note_assignment(key)

    async def aset(self, key: str, value: Any) -> None:
        """Put `value` under `key`."""
        await super().aset(key, value)
        _note_assignment(key)

    def update(self, dict_: Any) -> None:  # type: ignore[override]  # Django's takes no keywords
        """Put all of `dict_` into the session."""
        super().update(items := dict(dict_))
        for key in items:
            _note_assignment(key)

    async def aupdate(self, dict_: Any) -> None:
        """Put all of `dict_` into the session."""
        await super().aupdate(items := dict(dict_))
        for key in items:
            _note_assignment(key)

    def create(self) -> None:
        """Store the session under a new id; one that was read leaves its old id by `cycle_key`."""
        if self._read():
            self.cycle_key()
        else:
            self._create()

    async def acreate(self) -> None:
        """Store the session under a new id; see `create`."""
        if self._read():
            await self.acycle_key()
        else:
            await self._acreate()

    def _create(self) -> None:
        for _ in range(ATTEMPTS):
            self._session_key = get_random_string(32, VALID_KEY_CHARS)
            try:
                self.save(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return
        raise RuntimeError(f"{ATTEMPTS} random session ids in a row were taken")

    async def _acreate(self) -> None:
        for _ in range(ATTEMPTS):
            self._session_key = get_random_string(32, VALID_KEY_CHARS)
            try:
                await self.asave(must_create=True)
            except CreateError:
                continue
            self.modified = True
            return
        raise RuntimeError(f"{ATTEMPTS} random session ids in a row were taken")

    def flush(self) -> None:
        """Delete the session; what is put in later gets another id.

        Where it has been read, and was logged out elsewhere meanwhile, what is put in later is
        stored only if nothing of it was in there before.
        """
        read = self._read()
        self.clear()
        if not self._deleted(None):
            self._lost = read
        self._session_key = None

    async def aflush(self) -> None:
        """Delete the session; see `flush`."""
        read = self._read()
        self.clear()
        if not await self._adeleted(None):
            self._lost = read
        self._session_key = None

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session with this id, or this one, and what it was moved to lately."""
        self._deleted(session_key)

    async def adelete(self, session_key: str | None = None) -> None:
        """Delete the session with this id, or this one; see `delete`."""
        await self._adeleted(session_key)

    def _deleted(self, session_key: str | None) -> bool:
        """Delete a session, and return whether it was there."""
        raise NotImplementedError

    async def _adeleted(self, session_key: str | None) -> bool:
        return await sync_to_async(self._deleted)(session_key)

    def _read(self) -> Mapping[str, Any]:
        """Return what is known of the session that is stored under its id."""
        return self.__dict__.get("_session_cache", {}) if self.session_key else {}

    def _refuse_what_is_lost(self, session: Mapping[str, Any]) -> None:
        if not self._lost:
            return
        before, now = self._lost.get(SESSION_KEY), session.get(SESSION_KEY)
        if before is not None and now != before:
            return  # a cart that a logout keeps, or the same backend by which another logs in
        if shares_values(self._lost, session):
            raise LoggedOutError

    def _miss(self, session_key: str | None) -> dict[str, Any]:
        """Return an empty session; an id we did not give out is not adopted."""
        self._missed = session_key
        self._session_key = None
        return {}

    def _id_to_delete(self, session_key: str | None) -> str | None:
        """Return the id of what is to be deleted.

        A visitor who logs out with an id that was rotated or deleted meanwhile leaves what it was
        rotated to as well.
        """
        return session_key or self.session_key or self._missed


def _note_assignment(key: str) -> None:
    scope = current_scope()
    if scope is not None:
        scope.note_assignment(key)


class SessionStore(Store):
    """One visitor's session, as Django's `SessionMiddleware` uses it.

    Raises:
        ImproperlyConfigured: `SESSION_CACHE_ALIAS` is not a contextcache cache.
        ServerError: Redis cannot be reached.
    """

    _left = False  # whether the visitor has no other id that is worth something

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
        self.cache = cache
        self._hashed = ("", "")

    # --- Reading --------------------------------------------------------------------------------

    def load(self) -> dict[str, Any]:
        """Return the stored session, or an empty one, without its id, where there is none."""
        if self.session_key is not None:
            session = self._storage.read(self.redis_key(self.session_key))
            if session is not None:
                return session
        return self._miss(self.session_key)

    def exists(self, session_key: str) -> bool:
        """Return whether there is a session with this id."""
        return bool(session_key) and self._storage.exists(self.redis_key(session_key))

    async def aload(self) -> dict[str, Any]:
        """Return the stored session; see `load`."""
        if self.session_key is not None:
            redis_key = self.redis_key(self.session_key)
            session = await self.cache.async_sessions.read(redis_key)
            if session is not None:
                return session
        return self._miss(self.session_key)

    async def aexists(self, session_key: str) -> bool:
        """Return whether there is a session with this id."""
        if not session_key:
            return False
        return await self.cache.async_sessions.exists(self.redis_key(session_key))

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
        redis_key, payload = self._encoded(session)
        put = self._storage.create if must_create else self._storage.replace
        if not put(redis_key, payload, int(self.get_expiry_age()), twice=self._left):
            raise CreateError if must_create else UpdateError

    async def asave(self, must_create: bool = False) -> None:
        """Store the session; see `save`."""
        if self.session_key is None:
            await self.acreate()
            return
        session = await self._aget_session(no_load=must_create)  # type: ignore[attr-defined]
        redis_key, payload = self._encoded(session)
        storage = self.cache.async_sessions
        put = storage.create if must_create else storage.replace
        if not await put(redis_key, payload, int(await self.aget_expiry_age()), twice=self._left):
            raise CreateError if must_create else UpdateError

    def cycle_key(self) -> None:
        """Give the session another id, under which alone it is found from then.

        Raises:
            LoggedOutError: The session has been deleted meanwhile, and still is.
        """
        self._get_session()  # type: ignore[attr-defined]
        old = self.session_key
        # A change of the password is in the database already, and the old session worth nothing.
        self._left = self._left or old is not None
        try:
            self._create()
            new = self.session_key
            if old is not None and new is not None:
                keys = self.redis_key(old), self.redis_key(new)
                if not self._storage.rotate(*keys):
                    raise LoggedOutError
        except BaseException:
            self._session_key = old
            raise

    async def acycle_key(self) -> None:
        """Give the session another id; see `cycle_key`."""
        await self._aget_session()  # type: ignore[attr-defined]
        old = self.session_key
        self._left = self._left or old is not None
        try:
            await self._acreate()
            new = self.session_key
            if old is not None and new is not None:
                keys = self.redis_key(old), self.redis_key(new)
                if not await self.cache.async_sessions.rotate(*keys):
                    raise LoggedOutError
        except BaseException:
            self._session_key = old
            raise

    def _deleted(self, session_key: str | None) -> bool:
        gone = self._id_to_delete(session_key)
        if gone is None:
            return False
        existed = self._storage.delete(self.redis_key(gone))
        self._left = self._left or session_key is None
        return existed

    async def _adeleted(self, session_key: str | None) -> bool:
        gone = self._id_to_delete(session_key)
        if gone is None:
            return False
        existed = await self.cache.async_sessions.delete(self.redis_key(gone))
        self._left = self._left or session_key is None
        return existed

    @classmethod
    def clear_expired(cls) -> None:
        """Do nothing: Redis removes expired sessions itself."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """Do nothing: Redis removes expired sessions itself."""

    # --- The parts ------------------------------------------------------------------------------

    @cached_property
    def _storage(self) -> SessionStorage:
        return self.cache.sessions

    def redis_key(self, session_key: str) -> str:
        """Return the key in Redis of the session with this id."""
        if self._hashed[0] != session_key:
            redis_key = self.cache.make_key(KEY_PREFIX + hashed_id(session_key))
            self._hashed = session_key, redis_key
        return self._hashed[1]

    def _encoded(self, session: dict[str, Any]) -> tuple[str, bytes]:
        """Return where the session is stored, and its payload."""
        self._refuse_what_is_lost(session)
        redis_key = self.redis_key(self.session_key or "")
        return redis_key, self._storage.encode(session, redis_key)
