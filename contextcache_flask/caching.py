"""`CACHE_TYPE = "contextcache_flask.RedisCache"`: Flask-Caching's Redis backend, guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from flask_caching.backends import rediscache

from contextcache import ConfigurationError
from contextcache.servers import connect
from contextcache_flask.backends import GuardedBackend
from contextcache_flask.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask


class RedisCache(GuardedBackend, rediscache.RedisCache):  # type: ignore[misc]  # a property
    """`CACHE_TYPE`: Flask-Caching's Redis backend, storing without what cannot be stored.

    The server is `CACHE_REDIS_URL`, else `CACHE_REDIS_HOST` with its companions, else
    `CONTEXTCACHE_REDIS_URL`, else the embedded one; `CACHE_OPTIONS` go to redis-py. What it
    stores can be read by Flask-Caching's own backend, and the other way round.

    Raises:
        ConfigurationError: A setting or the URL cannot be understood.
        ServerError: Redis cannot be reached; the message names the URL that was tried.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.guard_with(None)

    @classmethod
    def factory(
        cls, app: Flask, config: dict[str, Any], args: list[Any], kwargs: dict[str, Any]
    ) -> RedisCache:
        """Make the backend of one application; Flask-Caching calls this."""
        settings = settings_of(app)  # a mistake in them is to be seen now
        if args:
            raise ConfigurationError("CACHE_ARGS: name the server with CACHE_REDIS_URL instead")
        own = {name: kwargs.pop(name) for name in _OWN_OPTIONS if name in kwargs}
        own.setdefault("key_prefix", config.get("CACHE_KEY_PREFIX"))
        if config.get("CACHE_REDIS_DB") is not None:
            kwargs.setdefault("db", config["CACHE_REDIS_DB"])
        host = config.get("CACHE_REDIS_HOST")
        if config.get("CACHE_REDIS_URL") or host is None or isinstance(host, str):
            url = _url(config, host) or settings.redis_url
            client: Any = connect(url, **kwargs)
        else:
            client = host  # a client that the application made
        backend = cls(client, **own)
        backend.guard_with(app)
        return backend


_OWN_OPTIONS = ("default_timeout", "ignore_delete_many_errors", "key_prefix")


def _url(config: Mapping[str, Any], host: str | None) -> str | None:
    """Return where Flask-Caching's own settings say that Redis is, if they do."""
    url: str | None = config.get("CACHE_REDIS_URL")
    if url or not host:
        return url
    if "://" in host:
        return host
    password = config.get("CACHE_REDIS_PASSWORD")
    credentials = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{credentials}{host}:{config.get('CACHE_REDIS_PORT', 6379)}"
