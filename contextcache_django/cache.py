"""The cache backends: Django's own Redis backend behind the guard, and any other one.

Django's class does all that has to do with Redis, on clients that are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.cache.backends import redis as backend
from django.core.exceptions import ImproperlyConfigured
from django.utils.functional import cached_property

from contextcache.servers import DEFAULT_URL
from contextcache.storage.keyed_guard import MISSING, SKIPPED
from contextcache_django.cache_mixin import Guarded
from contextcache_django.cache_proxy import GuardedCache
from contextcache_django.clients import KeptClient
from contextcache_django.conf import alias_of, warn_of_embedded
from contextcache_django.serializers import CacheSerializer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

__all__ = ["GuardedCache", "RedisCache"]


class RedisCache(Guarded, backend.RedisCache):
    """`CACHES[...]["BACKEND"]`: any value, stored without what cannot be stored.

    A write of which nothing can be stored is skipped: the finding is logged, what the key held
    before is deleted, and a later `get` is a miss. In mode `warn` and `raise` it raises
    `UncacheableValueError`. A payload that cannot be read is logged and is a miss.

    `LOCATION` is a URL that `contextcache.servers` understands, or a list of them, the first for
    writing and the others for reading; without one it is `fakeredis://`. `OPTIONS` go to
    redis-py, as in Django's backend, but for `CONTEXTCACHE`: settings of this alias that differ
    from the project's.

    Raises:
        ImproperlyConfigured: A URL, an option or a setting contains a mistake.
        ServerError: Redis cannot be reached, and `ON_ERROR` is `raise`; the message names the URL
            that was tried.
    """

    # Django's own attributes, which its stubs do not declare.
    _servers: list[str]
    _options: dict[str, Any]

    def __init__(self, server: str | list[str], params: dict[str, Any]) -> None:
        alias = alias_of(server, params)
        if isinstance(server, str) and "+" in server.partition("://")[0]:
            server = [server]  # its commas are between the nodes of one URL
        super().__init__(server or DEFAULT_URL, params)
        self._options = dict(self._options)
        self._overrides: Mapping[str, Any] | None = self._options.pop("CONTEXTCACHE", None)
        if not server:
            warn_of_embedded(alias)
        self._sink = "cache in " if alias is None else f"cache {alias!r} in "
        self._sink += "fakeredis" if self.is_embedded else "redis"
        self._where = f"CACHES[{alias or '...'!r}]['OPTIONS']['CONTEXTCACHE']"
        # A mistake in the settings raises at the first use and not here: Django's own system
        # checks make every cache, and would end in a traceback before ours can report it.

    @property
    def is_embedded(self) -> bool:
        """Whether Redis is one of this process's own, for development."""
        return self._servers[0].startswith(DEFAULT_URL)

    def connection(self) -> redis.Redis:
        """Return the client of the server that takes the writes."""
        client: redis.Redis = self._cache.get_client(write=True)
        return client

    def validate_key(self, key: Any) -> None:
        """Warn of a key that memcached would refuse, as Django does."""
        if not (key.isascii() and key.isprintable() and " " not in key and len(key) <= 250):
            super().validate_key(key)  # which looks at each character by itself

    # --- Writing --------------------------------------------------------------------------------

    def _ready(self, key: Any, value: Any, version: int | None, /) -> tuple[Any, Any]:
        place = self.make_key(key, version)
        self.validate_key(place)
        return place, self._keyed.encode(key, value, place)

    def _set(
        self, place: Any, payload: Any, timeout: Any, _version: int | None, /, **options: Any
    ) -> None:
        self._cache.set(place, payload, self.get_backend_timeout(timeout), **options)

    def _add(self, place: Any, payload: Any, timeout: Any, _version: int | None, /) -> bool:
        stored: bool = self._cache.add(place, payload, self.get_backend_timeout(timeout))
        return stored

    def set_or_raise(self, key: Any, value: Any, seconds: int) -> None:
        """Store `value` whatever `ON_ERROR` says: for what must not be taken for stored.

        Raises:
            ServerError: Redis cannot be reached.
        """
        place, payload = self._ready(key, value, None)
        if payload is SKIPPED:
            self.connection().delete(place)
        else:
            self.connection().set(place, payload, ex=seconds)

    def _set_many(
        self, ready: dict[Any, tuple[Any, Any]], timeout: Any, _version: int | None, /
    ) -> list[Any]:
        timeout = self.get_backend_timeout(timeout)
        failed = set(self._cache.set_many(dict(ready.values()), timeout)) if ready else ()
        return [
            key for key, (place, payload) in ready.items() if payload is SKIPPED or place in failed
        ]

    # --- Reading --------------------------------------------------------------------------------

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return the value under `key`, or `default` where there is none that can be read."""
        place = self.make_key(key, version)
        self.validate_key(place)
        payload = self._cache.get(place, None)
        return default if payload is None else self._keyed.decode(key, payload, place, default)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Return the values that are there and can be read, in one trip."""
        asked = {self.make_and_validate_key(key, version): key for key in keys}
        keyed = self._keyed
        found = {}
        for place, payload in self._cache.get_many([*asked]).items():
            value = keyed.decode(asked[place], payload, place, MISSING)
            if value is not MISSING:
                found[asked[place]] = value
        return found

    @cached_property
    def _cache(self) -> Any:
        """Django's client, over the connections this process keeps."""
        if "serializer" in self._options:
            raise ImproperlyConfigured(
                f"{type(self).__qualname__} is its own serializer: remove "
                "OPTIONS['serializer'], or use Django's RedisCache with it"
            )
        return KeptClient(
            self._servers,
            config=lambda: self._keyed.guard.config,
            sink=self._sink,
            serializer=CacheSerializer(),
            **self._options,
        )
