"""The cache backends: Django's own Redis backend behind the guard, and any other one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends import redis as backend
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import cached_property

from contextcache import ConfigurationError
from contextcache.servers import DEFAULT_URL, asynchronous, connect
from contextcache.storage.async_store import AsyncKeyedGuard, AsyncRedisStore
from contextcache.storage.keyed_guard import MISSING, SKIPPED, KeyedGuard
from contextcache.storage.redis_store import RedisStore
from contextcache.storage.sessions import AsyncSessionStorage, SessionStorage
from contextcache_django.async_cache import AsyncMethods
from contextcache_django.cache_proxy import GuardedCache
from contextcache_django.conf import alias_of, names_of, project_config, warn_of_embedded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

    from contextcache import Guard

__all__ = ["GuardedCache", "RedisCache"]


class RedisCache(AsyncMethods, backend.RedisCache):
    """`CACHES[...]["BACKEND"]`: any value, stored without what cannot be stored.

    A write of which nothing can be stored is skipped: the finding is logged, what the key held
    before is deleted, and a later `get` is a miss. In mode `warn` and `raise` it raises
    `UncacheableValueError`. A payload that cannot be read is logged and is a miss.

    `LOCATION` is a URL that `contextcache.servers` understands, or a list of them, the first for
    writing and the others for reading; without one it is `fakeredis://`. `OPTIONS` go to
    redis-py, as in Django's backend, but for `CONTEXTCACHE`: settings of this alias that differ
    from the project's.

    While Redis cannot be reached, the cache is as if it were empty; see `RedisStore`. `incr` then
    raises the `ValueError` that it raises for a key that is not there.

    Raises:
        ImproperlyConfigured: A URL, an option or a setting contains a mistake, at the first use.
        ServerError: Redis cannot be reached, and `ON_ERROR` is `raise`; the message names the URL
            that was tried.
    """

    # Django's own attributes, which its stubs do not declare.
    _servers: list[str]
    _options: dict[str, Any]

    _opened: _Store | None = None

    if TYPE_CHECKING:

        def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> int | None:
            """Return the seconds until a value expires; None for never."""

    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        alias = alias_of(server, params)
        if isinstance(server, str) and "+" in server.partition("://")[0]:
            server = [server]  # its commas are between the nodes of one URL
        super().__init__(server or DEFAULT_URL, params)
        self._options = dict(self._options)
        self._overrides: Mapping[str, Any] | None = self._options.pop("CONTEXTCACHE", None)
        if not server:
            warn_of_embedded(alias)
        label = "fakeredis" if self.is_embedded else "redis"
        self._sink, self._where = names_of(alias, label)
        # A mistake in the settings raises at the first use and not here: Django's own system
        # checks make every cache, and would end in a traceback before ours can report it.

    @property
    def is_embedded(self) -> bool:
        """Whether Redis is one of this process's own, for development."""
        return self._servers[0].startswith(DEFAULT_URL)

    def connection(self) -> redis.Redis:
        """Return the client of the server that takes the writes."""
        client: redis.Redis = self._cache.writer
        return client

    @property
    def sessions(self) -> SessionStorage:
        """The sessions that are kept in the Redis of this cache."""
        store = self._cache
        if store.sessions is None:
            guard = self.guard("session in redis", session=True)
            store.sessions = SessionStorage(store.writer, guard)
        return store.sessions

    @property
    def async_sessions(self) -> AsyncSessionStorage:
        """The same for event loops."""
        store = self._cache
        if store.async_sessions is None:
            client, guard = store.asynchronous.writer, self.sessions.guard
            store.async_sessions = AsyncSessionStorage(client, guard)
        return store.async_sessions

    def validate_key(self, key: Any) -> None:
        """Warn of a key that memcached would refuse, as Django does."""
        if not (key.isascii() and key.isprintable() and " " not in key and len(key) <= 250):
            super().validate_key(key)  # which looks at each character by itself

    # --- Writing: the guard runs here, in the caller's thread and context -----------------------

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> None:
        """Store `value` under `key`."""
        store = self._cache
        redis_key, payload = self._encode(store, key, value, version)
        store.set(redis_key, payload, self.get_backend_timeout(timeout))

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> bool:
        """Store `value` under `key` if that is free, and return whether it was stored."""
        store = self._cache
        redis_key, payload = self._encode(store, key, value, version)
        return store.add(redis_key, payload, self.get_backend_timeout(timeout))

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be, and return the keys of those that cannot."""
        store = self._cache
        encoded = {key: self._encode(store, key, value, version) for key, value in data.items()}
        failed = store.set_many(dict(encoded.values()), self.get_backend_timeout(timeout))
        return self._not_stored(encoded, failed)

    def set_or_raise(self, key: Any, value: Any, seconds: int) -> None:
        """Store `value` whatever `ON_ERROR` says: for what must not be taken for stored.

        Raises:
            ServerError: Redis cannot be reached.
        """
        store = self._cache
        redis_key, payload = self._encode(store, key, value, None)
        if payload is SKIPPED:
            store.writer.delete(redis_key)
        else:
            store.writer.set(redis_key, payload, ex=seconds)

    def _encode(self, store: _Store, key: Any, value: Any, version: int | None) -> tuple[str, Any]:
        """Return the key in Redis, and the payload of `value` or `SKIPPED`."""
        redis_key = self.make_key(key, version)
        self.validate_key(redis_key)
        return redis_key, store.keyed.encode(key, value, redis_key)

    @staticmethod
    def _not_stored(encoded: dict[Any, tuple[str, Any]], failed: list[str]) -> list[Any]:
        """Return the keys, as the user wrote them, of what was not stored."""
        return [
            key
            for key, (redis_key, payload) in encoded.items()
            if payload is SKIPPED or redis_key in failed
        ]

    # --- Reading --------------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value under `key`, or `default` where there is none that can be read."""
        redis_key = self.make_key(key, version)
        self.validate_key(redis_key)
        store = self._cache
        payload = store.get(redis_key)
        return default if payload is None else store.keyed.decode(key, payload, redis_key, default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values that are there and can be read, in one trip."""
        asked = {self.make_and_validate_key(key, version): key for key in keys}
        store, found = self._cache, {}
        for redis_key, payload in store.get_many([*asked]).items():
            value = store.keyed.decode(asked[redis_key], payload, redis_key, MISSING)
            if value is not MISSING:
                found[asked[redis_key]] = value
        return found

    # --- Redis: Django's methods call `_cache` for all other operations -------------------------

    @property
    def _cache(self) -> _Store:  # type: ignore[override]  # the stubs do not know its bases
        store = self._opened
        if store is None or store.project is not project_config():  # changed, in a test
            if "serializer" in self._options:
                raise ImproperlyConfigured(
                    f"{type(self).__qualname__} is its own serializer: remove "
                    "OPTIONS['serializer'], or use Django's RedisCache with it"
                )
            store = self._opened = _Store(self.guard(self._sink), self._servers, self._options)
        return store


if TYPE_CHECKING:

    class _DjangoClient:
        """What is used of Django's client, which its stubs do not declare."""

        _pool_class: Any
        _pool_options: dict[str, Any]

        def __init__(self, servers: list[str], **options: Any) -> None:
            """Take the options apart."""

else:
    _DjangoClient = backend.RedisCacheClient


class _Store(RedisStore, _DjangoClient):
    """What Django's `RedisCache` has as `_cache`: its client, over those this process keeps.

    Django's own builds a client of redis-py for each operation. What is stored and read here are
    payloads.

    Args:
        guard: The guard of the cache.
        servers: URLs; the first one is written, the others are read.
        options: Options of Django's client, and of redis-py.

    Attributes:
        clients: The client of each of the servers.

    Raises:
        ImproperlyConfigured: A URL or option contains a mistake.
    """

    def __init__(self, guard: Guard, servers: list[str], options: dict[str, Any]) -> None:
        _DjangoClient.__init__(self, servers, **options)
        settings = {"timeout": guard.config.timeout, **self._pool_options}
        try:
            clients = [connect(url, pool_class=self._pool_class, **settings) for url in servers]
        except ConfigurationError as error:
            raise ImproperlyConfigured(str(error)) from error
        self.clients = clients
        self._policy: Any = {"config": lambda: guard.config, "sink": guard.sink}
        RedisStore.__init__(self, *clients, **self._policy)
        self.keyed = KeyedGuard(guard)
        self.async_keyed = AsyncKeyedGuard(guard)
        self.project = project_config()
        self.sessions: SessionStorage | None = None
        self.async_sessions: AsyncSessionStorage | None = None

    def get_client(self, key: Any = None, *, write: bool = False) -> redis.Redis:  # noqa: ARG002
        """Return the client of the server to write to, or of one to read from."""
        client: redis.Redis = self.writer if write else self.reader
        return client

    has_key = RedisStore.exists

    @cached_property
    def asynchronous(self) -> AsyncRedisStore:
        """The same for event loops."""
        return AsyncRedisStore(*map(asynchronous, self.clients), **self._policy)

    def incr(self, redis_key: str, delta: int = 1) -> int:  # type: ignore[override]
        """Add to a number; see `total`."""
        return self.total(redis_key, super().incr(redis_key, delta, create=False))

    @staticmethod
    def total(redis_key: str, total: int | None) -> int:
        """Return what Redis has added up.

        Raises:
            ValueError: There was no number, or Redis cannot be reached.
        """
        if total is None:
            raise ValueError(f"Key {redis_key!r} not found.")
        return total
