"""The guard in the shapes of Django's three serializer slots.

Each is a drop-in for a project that keeps the backend it has. A serializer is told the value
but not the key, so its findings say `cache[...]`, and its signature does not keep a payload from
being copied to another key; `contextcache_django.cache.RedisCache` names the key and signs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.signing import JSONSerializer

from contextcache import UnreadablePayloadError, current_scope
from contextcache.jsonable import NESTED
from contextcache.storage.keyed_guard import UNKNOWN_KEY, KeyedGuard
from contextcache_django.conf import guard_for, json_guard_for, project_config
from contextcache_django.cookie_size import pickled, weigh

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contextcache import Config, Guard

AS_NONE = (
    "comes back as None, also from get(key, default) and get_or_set: a serializer cannot report "
    "a miss (contextcache_django.cache.RedisCache can)"
)


class CacheSerializer:
    """`OPTIONS["serializer"]` of `django.core.cache.backends.redis.RedisCache`.

    A payload that cannot be read is reported and comes back as None, also from `get` with a
    default and from `get_or_set`, until it expires or is written again: this slot has no way to
    say "miss". `contextcache_django.cache.RedisCache` has.
    """

    _overrides: Mapping[str, Any] | None = None
    # What `_open` has made. Each method looks by itself whether it still holds: a call less.
    _opened: tuple[Config, KeyedGuard] | None = None

    def dumps(self, value: Any) -> bytes | int:
        """Return the bytes to store; a plain int is returned unchanged, so that `incr` works.

        Raises:
            UncacheableValueError: Nothing can be stored for `value`. There is no way to skip the
                write from here, so this happens in every mode.
        """
        opened = self._opened
        if opened is None or opened[0] is not project_config():  # changed, in a test
            opened = self._open()
        payload: Any = opened[1].encode(None, value, skips=False)
        return payload  # type: ignore[no-any-return]

    def loads(self, payload: bytes) -> Any:
        """Return the stored value, or None where the payload cannot be read."""
        opened = self._opened
        if opened is None or opened[0] is not project_config():
            opened = self._open()
        return opened[1].decode(None, payload, outcome=AS_NONE)

    def _open(self) -> tuple[Config, KeyedGuard]:
        guard = guard_for("cache in redis", self._overrides)
        self._opened = project_config(), KeyedGuard(guard, label=UNKNOWN_KEY)
        return self._opened


class DjangoRedisSerializer(CacheSerializer):
    """`OPTIONS["SERIALIZER"]` of django-redis, as a dotted path.

    Settings of this alias that differ from the project's stand in `OPTIONS["CONTEXTCACHE"]`.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._overrides = options.get("CONTEXTCACHE")

    def dumps(self, value: Any) -> bytes:
        """Return the bytes to store; django-redis keeps the ints it wants raw to itself.

        Raises:
            UncacheableValueError: Nothing can be stored for `value`.
        """
        opened = self._opened
        if opened is None or opened[0] is not project_config():
            opened = self._open()
        return opened[1].guard.dumps(value, label=UNKNOWN_KEY, key="")

    def loads(self, payload: bytes) -> Any:
        """Return the stored value, or None where the payload cannot be read."""
        opened = self._opened
        if opened is None or opened[0] is not project_config():
            opened = self._open()
        guard = opened[1].guard
        try:
            return guard.loads(payload, label=UNKNOWN_KEY, key="")
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # as `KeyedGuard.decode`, without a number
            guard.report_unreadable(error, label=UNKNOWN_KEY, outcome=AS_NONE)
            return None


class SessionSerializer:
    """`SESSION_SERIALIZER` of Django's `db`, `cached_db`, `file` and `signed_cookies` engines.

    It stores what JSON cannot, and takes out what nothing can. These engines sign the payload
    with `SECRET_KEY` and verify it before it is read, which is what makes a pickle acceptable
    here: whoever knows the key of a `signed_cookies` project can run code in it.

    Django's `cache` engine does not ask for a serializer; use `contextcache_django.sessions`.
    """

    def dumps(self, session: dict[str, Any]) -> bytes:
        """Return the bytes of a session, without what cannot be stored.

        Raises:
            UncacheableValueError: The session as a whole cannot be stored.
        """
        payload = self._guard.dumps(session, label="session")
        weigh(payload, self.loads, json_guard_for(_session_sink(), pickled))
        return payload

    def loads(self, payload: bytes) -> Any:
        """Return the session dict.

        Raises:
            UnreadablePayloadError: It cannot be read. Django's engines answer any error from
                here with an empty session and no word, so it is reported first.
        """
        guard = self._guard
        try:
            if payload[:1] == b"{":  # no pickle of ours begins so
                raise UnreadablePayloadError("session", _FROM_BEFORE, _NEW_SESSION)
            return guard.loads(payload, label="session")
        except UnreadablePayloadError as error:
            guard.report_unreadable(error)
            raise

    @property
    def _guard(self) -> Guard:
        return guard_for(_session_sink(), session=True, signed=False)


class JSONSessionSerializer(JSONSerializer):
    """`SESSION_SERIALIZER`, as Django's own `JSONSerializer`, but it names the field.

    A value that JSON cannot hold is left out and reported by its path, where Django's serializer
    says `Object of type X is not JSON serializable` and the page fails. What JSON changes without
    a word is stored as it always was, and reported: a tuple comes back as a list, the number 1 as
    a key as the text "1".
    """

    def dumps(self, obj: Any) -> bytes:
        """Return the JSON of a session.

        Raises:
            UncacheableValueError: The mode is `raise` and something would be left out or changed,
                or it is `warn` and JSON cannot hold it.
        """
        guard = json_guard_for(_session_sink())
        payload = guard.dumps(obj, label="session")
        weigh(payload, self.loads, guard)
        return payload

    def loads(self, data: bytes) -> Any:
        """Return the session dict.

        Raises:
            UnreadablePayloadError: It cannot be read; reported first, as `SessionSerializer` does.
        """
        try:
            session = super().loads(data)
        except (ValueError, RecursionError) as failed:
            reason = NESTED if isinstance(failed, RecursionError) else "it is no JSON"
        else:
            scope = current_scope()
            if scope is not None and isinstance(session, dict):
                scope.note_loaded(session)
            return session
        error = UnreadablePayloadError("session", reason, _NEW_SESSION)
        json_guard_for(_session_sink()).report_unreadable(error)
        raise error


_FROM_BEFORE = "it is JSON, from before SESSION_SERIALIZER was set"
_NEW_SESSION = "do nothing: the visitor gets a new session"


SESSION_SINKS = {
    "django.contrib.sessions.backends.db": "session in the database",
    "django.contrib.sessions.backends.cached_db": "session in the database",
    "django.contrib.sessions.backends.file": "session in files",
    "django.contrib.sessions.backends.signed_cookies": "session in the cookie",
    "contextcache_django.cached_db": "session in the database",
}


def _session_sink() -> str:
    return SESSION_SINKS.get(settings.SESSION_ENGINE, "session")
