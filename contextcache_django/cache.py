"""The cache backends: Django's own Redis backend behind the guard, and any other one.

Django's class does all that has to do with Redis, on clients that are kept.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.core.cache.backends import redis as backend
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.core.exceptions import ImproperlyConfigured

from contextcache import ReadOnlyServerError, ServerError, current_scope
from contextcache.servers import DEFAULT_URL
from contextcache_django.clients import KeptClient
from contextcache_django.conf import alias_of
from contextcache_django.guarded import Guarded, GuardedCache, Payload
from contextcache_django.serializers import CacheSerializer

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        if isinstance(server, str) and "+" in server.partition("://")[0]:
            server = [server]  # its commas are between the nodes of one URL
        super().__init__(server or DEFAULT_URL, params)
        self._options = dict(self._options)
        self._overrides: Mapping[str, Any] | None = self._options.pop("CONTEXTCACHE", None)
        alias = alias_of(server, params)
        self._sink = "cache in " if alias is None else f"cache {alias!r} in "
        self._sink += "fakeredis" if self.is_embedded else "redis"
        self._where = f"CACHES[{alias or '...'!r}]['OPTIONS']['CONTEXTCACHE']"
        self._client: Any = None
        self._client_pid = 0
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

    def set_many(
        self,
        data: Mapping[Any, Any],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> list[Any]:
        """Store every value that can be, and return the keys of those that cannot."""
        try:
            return super().set_many(data, timeout, version)
        except ServerError as error:
            if (scope := current_scope()) is not None:
                scope.lost(error.reason, len(data))
            self._cache.excuse(error)
            if isinstance(error, ReadOnlyServerError):
                self.delete_many(data, version=version)
            return list(data)

    @property
    def _cache(self) -> Any:
        """Django's client over the connections this process keeps, made anew after a fork."""
        if self._client is None or self._client_pid != os.getpid():
            if "serializer" in self._options:
                raise ImproperlyConfigured(
                    f"{type(self).__qualname__} is its own serializer: remove "
                    "OPTIONS['serializer'], or use Django's RedisCache with it"
                )
            self._client = KeptClient(
                self._servers,
                config=lambda: self._guard.config,
                sink=self._sink,
                serializer=_Passed(),
                **self._options,
            )
            self._client_pid = os.getpid()
        return self._client


class _Passed(CacheSerializer):
    """Lets payloads pass between `RedisCache` and Redis, both ways."""

    def dumps(self, value: Any) -> bytes | int:
        return value.stored if type(value) is Payload else super().dumps(value)

    def loads(self, payload: bytes) -> Any:
        return payload
