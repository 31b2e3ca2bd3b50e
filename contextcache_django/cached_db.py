"""The session engine that keeps sessions in the database and reads them from a cache.

`SESSION_ENGINE = "contextcache_django.cached_db"`; the cache is `SESSION_CACHE_ALIAS`, of whatever
backend. The database decides whether there is a session, the cache only saves its query.

What differs from Django's `cached_db`, and why:

* The cache holds the very text the row holds, written by `SESSION_SERIALIZER` and signed. Django
  caches the dict, so a tuple is a tuple until the cache forgets it, and a list from then on.
* A session that was logged out elsewhere is not resurrected, in the cache either. An entry is
  written after its row, while that is locked. A logout deletes the row and puts a marker in the
  place of the entry, while the row is locked, too: none that was read before gets into the cache.
* The same holds for a request that has read it before and gives it another id: `cycle_key` raises
  `UpdateError` then. It puts a tombstone in the place of the old row, which has expired and says
  where the session went, so that a logout with the old id finds it.
* A cache that cannot be reached costs a query and a warning, never the session. Only what makes an
  id worthless fails then, a logout and `cycle_key`: it would be undone when the cache is back with
  the entry still in it. What else is written meanwhile is in the database; a cache that comes back
  with what it held before answers with that until the session is written again.
* A database that cannot be reached, or refuses a row, is an error, not "the session was deleted".
* The key in the cache is a hash of the session id.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.cache import caches
from django.db import DatabaseError, IntegrityError, router, transaction
from django.utils import timezone

from contextcache import ServerError, current_scope
from contextcache.base.logs import error_name, log
from contextcache.storage.commands import was_lost
from contextcache.storage.sessions import TOMBSTONE_SECONDS, hashed_id
from contextcache_django.cache import RedisCache
from contextcache_django.sessions import LoggedOutError, Store

if TYPE_CHECKING:
    from django.contrib.sessions.base_session import AbstractBaseSession
    from django.db.models import QuerySet

KEY_PREFIX = "contextcache.cached_db."
MOVED_PREFIX = "moved."  # what the ids of tombstones begin with
MOVED_TO = "contextcache.moved_to"
ASK_THE_DATABASE = 0  # in the cache; a plain int, which is stored as it is
MARKER_SECONDS = 60  # longer than any request takes from reading a row to caching it


class _Entries:
    """The entries of sessions in a cache: the text of a row, or a marker to ask the database."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def get(self, session_key: str) -> str | None:
        """Return the text of a session, if the cache has it and can be reached."""
        try:
            text = self._cache.get(_cache_key(session_key))
        except Exception as error:  # noqa: BLE001  # each backend raises errors of its own
            _warn(error)
            return None
        return text if isinstance(text, str) else None

    async def aget(self, session_key: str) -> str | None:
        """Return the text of a session; see `get`."""
        try:
            text = await self._cache.aget(_cache_key(session_key))
        except Exception as error:  # noqa: BLE001
            _warn(error)
            return None
        return text if isinstance(text, str) else None

    def put(self, row: AbstractBaseSession, age: int, *, only_where_none: bool) -> None:
        """Hold the text of a row for `age` seconds, in the place of another one or of none."""
        key = _cache_key(row.session_key)
        try:
            if only_where_none:
                added = self._cache.add(key, row.session_data, age)
                if added is False and not self._is_marked(key):
                    # What is there has not been read: from a secret before, say. Else each request
                    # would ask the database until it expires.
                    self._cache.delete(key)
            elif age <= 0:
                self._put(key, ASK_THE_DATABASE, MARKER_SECONDS)
            else:
                self._put(key, row.session_data, age)
        except Exception as error:  # noqa: BLE001  # each backend raises errors of its own
            _warn(error)

    def mark(self, session_key: str) -> None:
        """Let nobody find the session in the cache, nor put there what was read before."""
        try:
            self._put(_cache_key(session_key), ASK_THE_DATABASE, MARKER_SECONDS)
        except ServerError as error:
            if (scope := current_scope()) is not None:
                scope.outage = error
            raise

    def _is_marked(self, key: str) -> bool:
        if isinstance(self._cache, RedisCache):  # its own `get` would warn of it once more
            payload = self._cache.connection().get(self._cache.make_key(key))
            return payload == str(ASK_THE_DATABASE).encode()
        return bool(self._cache.get(key) == ASK_THE_DATABASE)

    def _put(self, key: str, text: str | int, seconds: int) -> None:
        """Put `text` in the place of what the cache holds, or raise; an answer may be lost."""
        # The `set` of this class would only warn of an outage.
        ours = isinstance(self._cache, RedisCache)
        put = self._cache.set_or_raise if ours else self._cache.set
        try:
            put(key, text, seconds)
        except Exception as error:  # each backend raises errors of its own
            if not was_lost(error):
                raise
            put(key, text, seconds)


class SessionStore(Store, db.SessionStore):
    """One visitor's session, as Django's `SessionMiddleware` uses it."""

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._entries = _Entries(caches[settings.SESSION_CACHE_ALIAS])

    # --- Reading --------------------------------------------------------------------------------

    def load(self) -> dict[str, Any]:
        """Return the stored session, or an empty one, without its id, where there is none."""
        session_key = self.session_key
        text = self._entries.get(session_key) if session_key else None
        return self._load_row() if text is None else self._decoded(text)

    async def aload(self) -> dict[str, Any]:
        """Return the stored session; see `load`. Only the database is asked in a thread."""
        session_key = self.session_key
        text = await self._entries.aget(session_key) if session_key else None
        return await sync_to_async(self._load_row)() if text is None else self._decoded(text)

    def _load_row(self) -> dict[str, Any]:
        session_key = self.session_key
        row: AbstractBaseSession | None = self._get_session_from_db()  # type: ignore[attr-defined]
        if row is None or not self._cache_row(row):
            return self._miss(session_key)
        return self._decoded(row.session_data)

    def _decoded(self, text: str) -> dict[str, Any]:
        session: dict[str, Any] = self.decode(text)
        return session

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

    def cycle_key(self) -> None:
        """Give the session another id, under which alone it is found from then.

        Raises:
            LoggedOutError: The session has been deleted meanwhile, and still is.
        """
        session = self._get_session()  # type: ignore[attr-defined]
        old = self.session_key
        if old is None:
            self.create()
            return
        self._session_key = self._get_new_session_key()  # type: ignore[attr-defined]
        try:
            row = self.create_model_instance(session)
            self._rotate(old, row, self.create_model_instance({MOVED_TO: row.session_key}))
        except BaseException:
            self._session_key = old
            raise

    async def acycle_key(self) -> None:
        """Give the session another id; see `cycle_key`."""
        session = await self._aget_session()  # type: ignore[attr-defined]
        old = self.session_key
        if old is None:
            await self.acreate()
            return
        self._session_key = await self._aget_new_session_key()  # type: ignore[attr-defined]
        try:
            row = await self.acreate_model_instance(session)
            tombstone = await self.acreate_model_instance({MOVED_TO: row.session_key})
            await sync_to_async(self._rotate)(old, row, tombstone)
        except BaseException:
            self._session_key = old
            raise

    @classmethod
    def clear_expired(cls) -> None:
        """Delete what has expired, except the tombstones that a late logout may need."""
        now = timezone.now()
        recent = now - timedelta(seconds=TOMBSTONE_SECONDS)
        rows = cls.get_model_class().objects.filter(expire_date__lt=now)
        rows.exclude(session_key__startswith=MOVED_PREFIX, expire_date__gt=recent).delete()

    @classmethod
    async def aclear_expired(cls) -> None:
        """Delete what has expired; see `clear_expired`."""
        await sync_to_async(cls.clear_expired)()

    # --- The parts ------------------------------------------------------------------------------

    def _write(self, row: AbstractBaseSession, must_create: bool) -> None:
        self._refuse_what_is_lost(self.__dict__.get("_session_cache", {}))
        using = router.db_for_write(self.model, instance=row)
        try:
            with transaction.atomic(using=using):
                row.save(force_insert=must_create, force_update=not must_create, using=using)
                if not must_create:
                    # While the row is locked: who deletes it after this also deletes the entry.
                    self._cache_text(row, only_where_none=False)
        except DatabaseError as error:
            if must_create and isinstance(error, IntegrityError):
                raise CreateError from error
            if not must_create and _found_no_row(error, type(row)):
                raise UpdateError from error
            raise
        if must_create:
            self._cache_text(row, only_where_none=True)

    def _deleted(self, session_key: str | None) -> bool:
        current = first = self._id_to_delete(session_key)
        if current is None:
            return False
        existed = False
        using = router.db_for_write(self.model)
        with transaction.atomic(using=using):
            rows = self.model.objects.using(using)
            while current is not None:
                deleted = self._delete_row(rows, current)
                existed = existed or (deleted and current == first)
                self._uncache(current)
                # Locked, because it may have been written by what the deletion has waited for.
                tombstone = rows.filter(session_key=_moved(current)).select_for_update().first()
                if tombstone is None:
                    break
                current = self.decode(tombstone.session_data).get(MOVED_TO)
                tombstone.delete()
        return existed

    def _rotate(self, old: str, row: AbstractBaseSession, tombstone: AbstractBaseSession) -> None:
        """Store a session under its new id, and a tombstone in the place of the old one.

        The old row is deleted and not changed: other rows may refer to it, and the model may have
        columns of its own, of which the tombstone has what a session without a user has.
        """
        tombstone.session_key = _moved(old)
        tombstone.expire_date = timezone.now()  # nobody takes it for a session
        using = router.db_for_write(self.model, instance=row)
        with transaction.atomic(using=using):
            if not self._delete_row(self.model.objects.using(using), old):
                raise LoggedOutError
            tombstone.save(force_insert=True, using=using)
            row.save(force_insert=True, using=using)
            self._uncache(old)
        self._cache_text(row, only_where_none=True)
        self.modified = True

    def _delete_row(self, rows: QuerySet[Any], session_key: str) -> bool:
        """Delete a row and what goes with it, and return whether it was there."""
        _, deleted = rows.filter(session_key=session_key).delete()
        return deleted.get(self.model._meta.label, 0) > 0

    def _cache_text(self, row: AbstractBaseSession, *, only_where_none: bool) -> None:
        age = int(self.get_expiry_age(expiry=row.expire_date))
        self._entries.put(row, age, only_where_none=only_where_none)

    def _uncache(self, session_key: str) -> None:
        self._entries.mark(session_key)

    def _cache_row(self, row: AbstractBaseSession) -> bool:
        """Cache a row that was read, and return whether it is still there."""
        self._cache_text(row, only_where_none=True)
        if super().exists(row.session_key):
            return True
        self._uncache(row.session_key)  # deleted between reading and caching it
        return False


def _cache_key(session_key: str) -> str:
    return KEY_PREFIX + hashed_id(session_key)


def _moved(session_key: str) -> str:
    """Return the id of the tombstone for `session_key`, of at most 40 characters."""
    return MOVED_PREFIX + hashed_id(session_key)[:34]


def _found_no_row(error: DatabaseError, row_type: type[AbstractBaseSession]) -> bool:
    """Return whether Django itself raised `error`, because an update found no row.

    What a database refuses is of another type, or has the error of its driver as the cause.
    """
    types = (DatabaseError, getattr(row_type, "NotUpdated", DatabaseError))  # since Django 6.0
    return type(error) in types and error.__cause__ is None


def _warn(error: Exception) -> None:
    log(
        "warning",
        "the cache of the sessions cannot be reached (%s); the database was asked",
        error_name(error),
    )
