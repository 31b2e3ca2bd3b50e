"""Django's Redis client over the clients this process keeps, and what it does in an outage.

With `ON_ERROR = "miss"` a cache whose Redis cannot be reached answers as an empty one does, and
one whose Redis takes no writes drops them: pages get slower and go on. `incr` then raises the
`ValueError` it raises for a key that is not there. With `raise`, the `ServerError` gets out.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.redis import RedisCacheClient
from django.core.exceptions import ImproperlyConfigured

from contextcache import (
    ConfigurationError,
    ReadOnlyServerError,
    ServerError,
    current_scope,
)
from contextcache.servers import answered, connect, warn
from contextcache.storage.keyed_guard import SKIPPED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import redis

    from contextcache import Config


class KeptClient(RedisCacheClient):
    """What Django's `RedisCache` asks; Django's own builds a redis-py client for each operation.

    Args:
        servers: URLs; the first one is written.
        config: Returns the settings of the cache.
        sink: The cache, in the words of a log.
        options: Options of Django's client, and of redis-py.

    Raises:
        ImproperlyConfigured: A URL or option contains a mistake.
    """

    # Django's own attributes, which its stubs do not declare.
    _servers: list[str]
    _serializer: Any
    _pools: dict[int, redis.Redis]
    _pool_class: Any
    _pool_options: dict[str, Any]
    _get_connection_pool_index: Callable[[bool], int]

    def __init__(
        self, servers: list[str], *, config: Callable[[], Config], sink: str, **options: Any
    ) -> None:
        super().__init__(servers, **options)
        self._config = config
        self._sink = sink

    def get_client(self, key: Any = None, *, write: bool = False) -> redis.Redis:  # noqa: ARG002
        """Return the client of the server to write to, or of one to read from."""
        index = self._get_connection_pool_index(write) if len(self._servers) > 1 else 0
        client = self._pools.get(index)
        if client is None:
            options = {"timeout": self._config().timeout, **self._pool_options}
            try:
                client = connect(self._servers[index], pool_class=self._pool_class, **options)
            except ConfigurationError as error:
                raise ImproperlyConfigured(str(error)) from error
            self._pools[index] = client
        return client

    def _get_connection_pool(self, write: bool) -> redis.ConnectionPool:
        return self.get_client(write=write).connection_pool

    # --- Payloads, which are ready when they come here and are left to others when they go ------

    def get(self, key: Any, default: Any) -> Any:
        """Return the payload under `key`."""
        try:
            payload = self.get_client(key).get(key)
        except ServerError as error:
            self.excuse(error)
            return default
        return default if payload is None else payload

    def get_many(self, keys: Any) -> dict[Any, Any]:
        """Return the payloads that are there."""
        if not keys:
            return {}
        try:
            payloads = self.get_client().mget(keys)
        except ServerError as error:
            self.excuse(error)
            payloads = answered(error, len(keys))
        found = zip(keys, payloads, strict=True)
        return {key: payload for key, payload in found if payload is not None}

    def set(self, key: Any, payload: Any, timeout: Any) -> None:
        """Store `payload` under `key`, which holds nothing afterwards where there is none."""
        deleting = payload is SKIPPED or timeout == 0
        try:
            client = self.get_client(key, write=True)
            if deleting:
                client.delete(key)
            else:
                client.set(key, payload, ex=timeout)
        except ServerError as error:
            self._lost(error, key, deleting=deleting)

    def add(self, key: Any, payload: Any, timeout: Any) -> bool:
        """Store `payload` under `key` if that is free, and return whether it was stored."""
        if payload is SKIPPED:
            return False
        try:
            client = self.get_client(key, write=True)
            stored = bool(client.set(key, payload, ex=timeout or None, nx=True))
            if stored and timeout == 0:
                client.delete(key)
        except ServerError as error:
            self._lost(error)
            return False
        return stored

    def set_many(self, payloads: Mapping[Any, Any], timeout: Any) -> Any:
        """Store every payload in one trip, and return the keys of those that could not be stored.

        Django's MSET has no expiry, and no cluster takes it.
        """
        try:
            pipeline = self.get_client(write=True).pipeline(transaction=False)
            for key, payload in payloads.items():
                if payload is SKIPPED or timeout == 0:
                    pipeline.delete(key)
                else:
                    pipeline.set(key, payload, ex=timeout)
            pipeline.execute()
        except ServerError as error:
            answers = zip(payloads, answered(error, len(payloads)), strict=True)
            failed = [key for key, answer in answers if answer is None]
            deleting = timeout == 0 or any(payloads[key] is SKIPPED for key in failed)
            self._lost(error, *failed, deleting=deleting)
            return failed
        return []

    # --- Outages --------------------------------------------------------------------------------

    def excuse(self, error: ServerError, *, deleting: bool = False) -> None:
        """Warn of an outage that goes unnoticed otherwise, or raise it if that is the policy."""
        if self._config().on_error == "raise":
            raise error
        warn(error, self._sink, deleting=deleting)

    def _lost(self, error: ServerError, *keys: Any, deleting: bool = False) -> None:
        """Excuse writes, and delete what they were to replace: it would be taken for them."""
        if (scope := current_scope()) is not None:
            scope.lost(error.reason, max(1, len(keys)))
        self.excuse(error, deleting=deleting)
        if keys and isinstance(error, ReadOnlyServerError):
            self.delete_many(keys)


def _excused(name: str, instead: Callable[..., Any]) -> Callable[..., Any]:
    """Return Django's method `name`, which in an outage returns what `instead` returns."""
    method = getattr(RedisCacheClient, name)

    @functools.wraps(method)
    def excused(self: KeptClient, *args: Any) -> Any:
        try:
            return method(self, *args)
        except ServerError as error:
            self.excuse(error, deleting=name in _DELETIONS)
            return instead(error, *args)

    return excused


_DELETIONS = {"delete", "delete_many", "clear"}


def _not_found(error: ServerError, key: str, *_: Any) -> None:
    raise ValueError(f"Key {key!r} not found.") from error


_AS_IF_EMPTY: dict[str, Callable[..., Any]] = {
    "has_key": lambda *_: False,
    "touch": lambda *_: False,
    "incr": _not_found,
    "delete": lambda *_: False,
    "delete_many": lambda *_: None,
    "clear": lambda *_: False,
}
for _name, _instead in _AS_IF_EMPTY.items():
    setattr(KeptClient, _name, _excused(_name, _instead))
