"""The session engine that keeps sessions in the database and reads them from a cache.

`SESSION_ENGINE = "contextcache_django.cached_db"`; the cache is `SESSION_CACHE_ALIAS`, of whatever
backend. The database decides whether there is a session, the cache only saves its query.

What differs from Django's `cached_db`, and why:

* The cache holds the very text the row holds, written by `SESSION_SERIALIZER` and signed. Django
  caches the dict, so a tuple is a tuple until the cache forgets it, and a list from then on.
* A session that was logged out elsewhere is not resurrected, in the cache either: an entry is
  written before its row, and deleted where there is no row any more.
* A cache that cannot be reached costs a query and a warning, never the session. Only a logout
  fails then: it would be undone when the cache is back with the entry still in it. What else is
  written meanwhile is in the database; a cache that comes back with what it held before answers
  with that until the session is written again.
* A database that cannot be reached is an error, not "the session was deleted".
* The key in the cache is a hash of the session id.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.cache import caches
from django.db import DatabaseError, IntegrityError, OperationalError, router, transaction

from contextcache import ServerError, current_scope
from contextcache_django.cache import RedisCache
from contextcache_django.sessions import Assigning

if TYPE_CHECKING:
    from django.contrib.sessions.base_session import AbstractBaseSession

KEY_PREFIX = "contextcache.cached_db."

_logger = logging.getLogger("contextcache")


class SessionStore(Assigning, db.SessionStore):
    """One visitor's session, as Django's `SessionMiddleware` uses it."""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._cache: Any = caches[settings.SESSION_CACHE_ALIAS]

    # --- Reading --------------------------------------------------------------------------------

    def load(self) -> dict[str, Any]:
        """Return the stored session, or an empty one, without its id, where there is none."""
        text = self._cached()
        if text is None:
            row: AbstractBaseSession | None = self._get_session_from_db()  # type: ignore[attr-defined]
            if row is None or not self._cache_row(row):
                self._session_key = None
                return {}
            text = row.session_data
        session: dict[str, Any] = self.decode(text)
        return session

    async def aload(self) -> dict[str, Any]:
        """Return the stored session; see `load`."""
        return await sync_to_async(self.load)()

    # --- Writing --------------------------------------------------------------------------------

    def save(self, must_create: bool = False) -> None:
        """Store the session.

        Raises:
            CreateError: `must_create`, and the id is taken.
            UpdateError: The session has been deleted meanwhile.
            UncacheableValueError: `SESSION_SERIALIZER` refuses it.
        """
        if self.session_key is None:
            self.create()
            return
        session = self._get_session(no_load=must_create)  # type: ignore[attr-defined]
        self._write(self.create_model_instance(session), must_create)

    async def asave(self, must_create: bool = False) -> None:
        """Store the session; see `save`."""
        if self.session_key is None:
            await self.acreate()
            return
        session = await self._aget_session(no_load=must_create)  # type: ignore[attr-defined]
        row = await self.acreate_model_instance(session)
        await sync_to_async(self._write)(row, must_create)

    def delete(self, session_key: str | None = None) -> None:
        """Delete the session with this id, or this one."""
        session_key = self.session_key if session_key is None else session_key
        if session_key is not None:
            # Before the row, because an outage is to fail while a second attempt still finds it,
            # and after it, because somebody may have cached it in between.
            self._uncache(session_key)
            super().delete(session_key)
            self._uncache(session_key)

    async def adelete(self, session_key: str | None = None) -> None:
        """Delete the session with this id, or this one."""
        await sync_to_async(self.delete)(session_key)

    # --- The parts ------------------------------------------------------------------------------

    def _write(self, row: AbstractBaseSession, must_create: bool) -> None:
        using = router.db_for_write(self.model, instance=row)
        if not must_create:
            # Before the row: whoever deletes it after this also deletes what is written here.
            self._cache_text(row, only_where_none=False)
        try:
            with transaction.atomic(using=using):
                row.save(force_insert=must_create, force_update=not must_create, using=using)
        except DatabaseError as error:
            if must_create and isinstance(error, IntegrityError):
                raise CreateError from error
            if not must_create:
                self._uncache(row.session_key)
                if not isinstance(error, (IntegrityError, OperationalError)):
                    raise UpdateError from error
            raise
        if must_create:
            self._cache_text(row, only_where_none=True)

    def _cache_row(self, row: AbstractBaseSession) -> bool:
        """Cache a row that was read, and return whether it is still there."""
        self._cache_text(row, only_where_none=True)
        if super().exists(row.session_key):
            return True
        self._uncache(row.session_key)  # deleted between reading and caching it
        return False

    def _cache_text(self, row: AbstractBaseSession, *, only_where_none: bool) -> None:
        write = self._cache.add if only_where_none else self._cache.set
        age = self.get_expiry_age(expiry=row.expire_date)
        try:
            write(_cache_key(row.session_key), row.session_data, int(age))
        except Exception as error:  # noqa: BLE001  # each backend raises errors of its own
            _warn(error)

    def _cached(self) -> str | None:
        if not self.session_key:
            return None
        try:
            text = self._cache.get(_cache_key(self.session_key))
        except Exception as error:  # noqa: BLE001  # each backend raises errors of its own
            _warn(error)
            return None
        return text if isinstance(text, str) else None

    def _uncache(self, session_key: str) -> None:
        key = _cache_key(session_key)
        if not isinstance(self._cache, RedisCache):
            self._cache.delete(key)
            return
        try:  # its own `delete` would only warn of an outage
            self._cache.connection().delete(self._cache.make_key(key))
        except ServerError as error:
            if (scope := current_scope()) is not None:
                scope.outage = error
            raise


def _cache_key(session_key: str) -> str:
    return KEY_PREFIX + hashlib.sha256(session_key.encode()).hexdigest()


def _warn(error: Exception) -> None:
    _logger.warning(
        "contextcache: the cache of the sessions cannot be reached (%s); the database was asked",
        type(error).__qualname__,
    )
