"""The caches that promise the same, each by the verbs of the contract.

The caches of both frameworks differ in names and in how they say that there is nothing: a `Store`
translates both. Its keys are written as a user writes them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import pickle
import secrets
from typing import TYPE_CHECKING, Any, ClassVar, Self

import cachelib
import django
import pytest
import redis
from asgiref.sync import async_to_sync
from django.core.cache import caches
from django.core.management import call_command
from django.test import override_settings
from flask import Flask
from flask_caching import Cache
from pymemcache import PooledClient
from redis.backoff import NoBackoff
from redis.retry import Retry

from contextcache_flask import guarded
from tests.sealing import SECRET
from tests.unavailable import needs

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.django.settings")
django.setup()

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MISS = object()


class Places:
    """Where backends can store: an empty Redis, a memcached and a folder."""

    def __init__(self, redis_url: str, memcached: str, folder: Path) -> None:
        self.redis_url = redis_url
        self.memcached = memcached
        self.folder = folder


class Store:
    """One cache, entered with settings of contextcache by their names."""

    sink: ClassVar[str]
    owns_redis: ClassVar[bool] = False  # so that the promises about outages hold
    keeps_negative_ints: ClassVar[bool] = True

    def __init__(self, places: Places, **settings: Any) -> None:
        self.places = places
        self.settings = settings
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def open(self) -> None:
        """Make the cache, empty."""
        raise NotImplementedError

    def get(self, key: str) -> Any:
        """Return the value, or `MISS`."""
        raise NotImplementedError

    def get_many(self, *keys: str) -> dict[str, Any]:
        """Return the values that are there."""
        raise NotImplementedError

    def set(self, key: str, value: object) -> None:
        """Store a value."""
        raise NotImplementedError

    def add(self, key: str, value: object) -> bool:
        """Store a value where nothing is, and return whether it was stored."""
        raise NotImplementedError

    def set_many(self, values: Mapping[str, object]) -> set[str]:
        """Store values, and return the keys of those that were not stored."""
        raise NotImplementedError

    def delete(self, key: str) -> bool:
        """Delete a value, and return whether it was there."""
        raise NotImplementedError

    def delete_many(self, *keys: str) -> None:
        """Delete values."""
        raise NotImplementedError

    def incr(self, key: str, delta: int = 1) -> int:
        """Add to a number."""
        raise NotImplementedError

    def clear(self) -> None:
        """Delete everything."""
        raise NotImplementedError


# --- Django ---------------------------------------------------------------------------------------


class DjangoStore(Store):
    """An alias of `CACHES`."""

    calls_async: ClassVar[bool] = False

    def entry(self) -> dict[str, Any]:
        """Return the entry of `CACHES`, without the settings of contextcache."""
        raise NotImplementedError

    def open(self) -> None:
        entry = self.entry()
        options = {**entry.get("OPTIONS", {}), "CONTEXTCACHE": self.settings}
        # memcached is shared between tests.
        entry |= {"KEY_PREFIX": secrets.token_hex(4), "OPTIONS": options}
        self._stack.enter_context(override_settings(CACHES={"default": entry}))
        self.cache: Any = caches["default"]

    def _call(self, name: str, *args: Any) -> Any:
        if self.calls_async:
            return async_to_sync(getattr(self.cache, f"a{name}"))(*args)
        return getattr(self.cache, name)(*args)

    def get(self, key: str) -> Any:
        return self._call("get", key, MISS)

    def get_many(self, *keys: str) -> dict[str, Any]:
        found: dict[str, Any] = self._call("get_many", list(keys))
        return found

    def set(self, key: str, value: object) -> None:
        self._call("set", key, value)

    def add(self, key: str, value: object) -> bool:
        added: bool = self._call("add", key, value)
        return added

    def set_many(self, values: Mapping[str, object]) -> set[str]:
        return set(self._call("set_many", values))

    def delete(self, key: str) -> bool:
        deleted: bool = self._call("delete", key)
        return deleted

    def delete_many(self, *keys: str) -> None:
        self._call("delete_many", list(keys))

    def incr(self, key: str, delta: int = 1) -> int:
        total: int = self._call("incr", key, delta)
        return total

    def clear(self) -> None:
        self._call("clear")


class DjangoRedis(DjangoStore):
    """contextcache's own backend."""

    sink = "cache 'default' in redis"
    owns_redis = True

    def entry(self) -> dict[str, Any]:
        backend = "contextcache_django.cache.RedisCache"
        return {"BACKEND": backend, "LOCATION": self.places.redis_url}


class AsyncDjangoRedis(DjangoRedis):
    """The asynchronous methods, with an event loop for each call."""

    calls_async = True


class OneLoopDjangoRedis(DjangoRedis):
    """The asynchronous methods, in one event loop."""

    def open(self) -> None:
        super().open()
        self._runner = self._stack.enter_context(asyncio.Runner())

    def _call(self, name: str, *args: Any) -> Any:
        called = getattr(self.cache, f"a{name}")(*args)
        return self._runner.run(called, context=contextvars.copy_context())


class EmbeddedDjangoRedis(DjangoRedis):
    """The asynchronous methods over a server inside the process."""

    calls_async = True
    sink = "cache 'default' in fakeredis"
    owns_redis = False

    def entry(self) -> dict[str, Any]:
        return super().entry() | {"LOCATION": f"fakeredis://{secrets.token_hex(4)}"}


class GuardedDjango(DjangoStore):
    """A backend of Django's API behind `GuardedCache`."""

    backend: ClassVar[str]

    def location(self) -> str:
        """Return the location of the backend."""
        return secrets.token_hex(8)

    def entry(self) -> dict[str, Any]:
        wrapper, backend = "contextcache_django.cache.GuardedCache", self.backend
        return {"BACKEND": wrapper, "LOCATION": self.location(), "OPTIONS": {"BACKEND": backend}}


class GuardedLocMem(GuardedDjango):
    sink = "cache 'default' in memory"
    backend = "django.core.cache.backends.locmem.LocMemCache"


class AsyncGuardedLocMem(GuardedLocMem):
    calls_async = True


class GuardedFiles(GuardedDjango):
    sink = "cache 'default' in files"
    backend = "django.core.cache.backends.filebased.FileBasedCache"

    def location(self) -> str:
        return str(self.places.folder)


class GuardedDatabase(GuardedDjango):
    sink = "cache 'default' in the database"
    backend = "django.core.cache.backends.db.DatabaseCache"

    def location(self) -> str:
        return "cache_table"

    def open(self) -> None:
        bare = {"default": {"BACKEND": self.backend, "LOCATION": self.location()}}
        with override_settings(CACHES=bare):
            call_command("createcachetable")
        super().open()


class GuardedPyMemcache(GuardedDjango):
    sink = "cache 'default' in memcached"
    backend = "django.core.cache.backends.memcached.PyMemcacheCache"

    def location(self) -> str:
        return self.places.memcached


class GuardedPyLibMC(GuardedPyMemcache):
    backend = "django.core.cache.backends.memcached.PyLibMCCache"


class GuardedStockRedis(GuardedDjango):
    sink = "cache 'default' in redis"
    backend = "django.core.cache.backends.redis.RedisCache"

    def location(self) -> str:
        return self.places.redis_url


class GuardedDjangoRedis(GuardedStockRedis):
    backend = "django_redis.cache.RedisCache"


class GuardedDjangoValkey(GuardedStockRedis):
    sink = "cache 'default' in valkey"
    backend = "django_valkey.cache.ValkeyCache"
    keeps_negative_ints = False  # with any serializer, django-valkey 0.4 reads -1 as -1.0

    def location(self) -> str:
        return self.places.redis_url.replace("redis://", "valkey://")


class GuardedCachexRedis(GuardedStockRedis):
    backend = "django_cachex.cache.RedisCache"


class GuardedCachexValkey(GuardedDjangoValkey):
    keeps_negative_ints = True
    backend = "django_cachex.cache.ValkeyCache"


# --- Flask ----------------------------------------------------------------------------------------


class FlaskStore(Store):
    """A backend of cachelib's, within an application."""

    def backend(self, app: Flask) -> Any:
        """Return the backend."""
        raise NotImplementedError

    def open(self) -> None:
        app = Flask(__name__)
        app.config["SECRET_KEY"] = SECRET
        app.config["CONTEXTCACHE_REDIS_URL"] = self.places.redis_url
        app.config |= {f"CONTEXTCACHE_{name}": value for name, value in self.settings.items()}
        self.cache = self.backend(app)
        self._stack.enter_context(app.app_context())

    def get(self, key: str) -> Any:
        value = self.cache.get(key)
        return value if value is not None or self.cache.has(key) else MISS

    def get_many(self, *keys: str) -> dict[str, Any]:
        found = dict(zip(keys, self.cache.get_many(*keys), strict=True))
        assert found.keys() == self.cache.get_dict(*keys).keys()
        return {key: value for key, value in found.items() if value is not None}

    def set(self, key: str, value: object) -> None:
        stored = self.cache.set(key, value)
        assert type(stored) is bool
        assert stored == self.cache.has(key)

    def add(self, key: str, value: object) -> bool:
        added: bool = self.cache.add(key, value)
        return added

    def set_many(self, values: Mapping[str, object]) -> set[str]:
        return {*values} - set(self.cache.set_many(dict(values)))

    def delete(self, key: str) -> bool:
        deleted: bool = self.cache.delete(key)
        return deleted

    def delete_many(self, *keys: str) -> None:
        self.cache.delete_many(*keys)

    def incr(self, key: str, delta: int = 1) -> int:
        total: int = self.cache.inc(key, delta) if delta > 0 else self.cache.dec(key, -delta)
        return total

    def clear(self) -> None:
        self.cache.clear()


class FlaskRedis(FlaskStore):
    """contextcache's own backend of Flask-Caching."""

    sink = "cache in redis"
    owns_redis = True

    def backend(self, app: Flask) -> Any:
        app.config["CACHE_TYPE"] = "contextcache_flask.RedisCache"
        cache = Cache(app)
        return app.extensions["cache"][cache]


class FlaskRedisOwnClient(FlaskRedis):
    """The same over a client that the application has made."""

    def backend(self, app: Flask) -> Any:
        client = redis.Redis.from_url(self.places.redis_url, retry=Retry(NoBackoff(), 0))
        self._stack.callback(client.close)
        app.config["CACHE_REDIS_HOST"] = client
        return super().backend(app)


class GuardedSimple(FlaskStore):
    sink = "cache in memory"

    def backend(self, app: Flask) -> Any:
        return guarded(cachelib.SimpleCache(), app)


class GuardedFileSystem(FlaskStore):
    sink = "cache in files"

    def backend(self, app: Flask) -> Any:
        return guarded(cachelib.FileSystemCache(str(self.places.folder)), app)


class GuardedCachelibRedis(FlaskStore):
    sink = "cache in redis"

    def backend(self, app: Flask) -> Any:
        host, port = self.places.redis_url.split("//")[1].split("/")[0].split(":")
        return guarded(cachelib.RedisCache(host, int(port), key_prefix="p:"), app)


class GuardedMemcached(FlaskStore):
    sink = "cache in MemcachedCache"

    def backend(self, app: Flask) -> Any:
        client = PooledClient(self.places.memcached, serde=Eager(), default_noreply=False)
        client.flush_all()
        self._stack.callback(client.close)
        return guarded(cachelib.MemcachedCache(client), app)


class Eager:
    """Pickle as pylibmc does: what unpickling raises gets out; text and numbers stay raw."""

    def serialize(self, key: object, value: object) -> tuple[bytes, int]:
        if type(value) in {int, str}:
            return str(value).encode(), {int: 0, str: 2}[type(value)]
        return pickle.dumps(value), 1

    def deserialize(self, key: object, value: bytes, flags: int) -> object:
        return {0: int, 1: pickle.loads, 2: bytes.decode}[flags](value)


STORES: list[Any] = [
    *(DjangoRedis, AsyncDjangoRedis, OneLoopDjangoRedis, EmbeddedDjangoRedis),
    *(GuardedLocMem, AsyncGuardedLocMem, GuardedFiles, GuardedDatabase, GuardedPyMemcache),
    *(GuardedStockRedis, GuardedDjangoRedis),
    *(FlaskRedis, FlaskRedisOwnClient),
    *(GuardedSimple, GuardedFileSystem, GuardedCachelibRedis, GuardedMemcached),
    pytest.param(GuardedPyLibMC, marks=needs("pylibmc")),
    pytest.param(GuardedDjangoValkey, marks=needs("django-valkey")),
    pytest.param(GuardedCachexRedis, marks=needs("django-cachex")),
    pytest.param(GuardedCachexValkey, marks=needs("django-cachex")),
]


def name_of(kind: Any) -> str:
    """Return the name of a store among the parameters of a test."""
    name: str = kind.__name__
    return name
