"""From `app.config` to what one application wants: the table of keys and the guards they make.

=============================  ================================================================
`CONTEXTCACHE_MODE`            `strip` (default), `warn`, `raise` or `off`
`CONTEXTCACHE_IGNORE`          patterns of paths that are not reported
`CONTEXTCACHE_RULES`           the application's own rules: type names and what to do with them
`CONTEXTCACHE_ON_FINDING`      functions, or their dotted paths, that are called with a finding
`CONTEXTCACHE_MAX_SIZE`        the most bytes a stored value may have
`CONTEXTCACHE_TIMEOUT`         the seconds Redis is given for one operation
`CONTEXTCACHE_ON_ERROR`        what the cache does when Redis cannot be reached: `miss` or `raise`
`CONTEXTCACHE_SIGN`            whether payloads are signed (default: where there is a secret)
`CONTEXTCACHE_SECRET_KEYS`     what they are signed with; by default `SECRET_KEY` and its fallbacks
`CONTEXTCACHE_ACCEPT_UNSIGNED` whether unsigned payloads are read, for the time of a migration
`CONTEXTCACHE_COMPRESS`        `zlib` or `zstd`, for payloads of 4 KB and more
`CONTEXTCACHE_LOADABLE`        the only names a payload may use, besides harmless ones
`CONTEXTCACHE_REDIS_URL`       where Redis is: the default of the cache and of the session; without
                               it, where Flask-Caching's `CACHE_REDIS_URL` or `CACHE_REDIS_HOST`
                               says, else an embedded one, for development
`CONTEXTCACHE_SESSION`         whether the session is kept in Redis instead of in the cookie
`CONTEXTCACHE_PAGE`            networks that may see `/__contextcache__/`, which is there in debug
                               mode only; by default this machine, and nobody for an empty list
=============================  ================================================================
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from contextcache import Config, ConfigurationError
from contextcache.base.logs import log
from contextcache.base.words import silence_template, unknown_name
from contextcache.commands.checks import misspelled_settings
from contextcache.servers import DEFAULT_URL, EMBEDDED, NAME_A_SERVER, connect
from contextcache.storage.guards import Guards

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

    from contextcache_flask.recorder import Notebook

PREFIX = "CONTEXTCACHE_"
REDIS_URL = "CONTEXTCACHE_REDIS_URL"
SESSION = "CONTEXTCACHE_SESSION"
PAGE = "CONTEXTCACHE_PAGE"
KEYS = (*(PREFIX + key for key in Config.KEYS), REDIS_URL, SESSION, PAGE)
EXTENSION = "contextcache"
LOOPBACK = ("127.0.0.0/8", "::1/128")
NO_SERVER = f"{REDIS_URL} is not set, so sessions and cache are kept {EMBEDDED}"

# Options of a backend of Flask-Caching's, among those in CACHE_OPTIONS that go to redis-py.
BACKEND_OPTIONS = ("default_timeout", "ignore_delete_many_errors", "key_prefix")


class Settings:
    """What one application wants; kept in `app.extensions["contextcache"]`.

    Args:
        app_config: The configuration of the application. It is read once, but for `DEBUG`,
            which `app.run(debug=True)` sets after every extension has been initialised. Numbers,
            switches, lists and dicts may be text, as in the environment: `yes`, `0.2`, `["a"]`.

    Raises:
        ConfigurationError: A key, mode or rule is unknown; the message names the nearest.
    """

    def __init__(self, app_config: Mapping[str, object]) -> None:
        own = {key: _read(key, app_config[key]) for key in app_config if key.startswith(PREFIX)}
        self.redis_url = _url(own.pop(REDIS_URL, None))
        self.uses_embedded_by_default = False
        self.session = _switch(own.pop(SESSION, False))
        self.page_networks = _networks(own.pop(PAGE, LOOPBACK))
        for check in misspelled_settings(app_config, KEYS):
            log("warning", "%s %s", check.text, check.hint)
        for key in own.keys() - KEYS:
            raise ConfigurationError(unknown_name(key, KEYS, "unknown setting"))
        if "CONTEXTCACHE" in app_config:
            raise ConfigurationError(
                "CONTEXTCACHE is a setting of Django's; in Flask each of its keys is a setting, "
                f"such as {PREFIX}MODE"
            )
        ignore = f"{PREFIX}IGNORE"
        self.config = Config.from_mapping(
            {key.removeprefix(PREFIX): value for key, value in own.items()},
            where="CONTEXTCACHE",
            base=Config(
                silence=silence_template(
                    f'app.config["{ignore}"]',
                    own.get(ignore),
                    f'app.config.setdefault("{ignore}", [])',
                )
            ),
        )
        self._app_config = app_config
        self.guards = Guards(
            lambda: self._with_secrets(self.effective_config),
            sign_setting=f"{PREFIX}SIGN",
            is_exposed=lambda: not self._is_embedded(),
        )

    @property
    def debug(self) -> bool:
        """Whether a developer reads along."""
        return bool(self._app_config.get("DEBUG"))

    @functools.cached_property
    def notebook(self) -> Notebook:
        """What was found and written in this process; used only while a developer reads along."""
        from contextcache_flask.recorder import Notebook  # noqa: PLC0415  # for development only

        return Notebook()

    def session_server(self) -> Any:
        """Return the URL or the client of the Redis that keeps sessions."""
        if self.redis_url:
            return self.redis_url
        server = cache_server(self._app_config)
        if not isinstance(server, str):
            return server or self.default_url()
        options: dict[str, Any] = {}
        if "redis" in str(self._app_config.get("CACHE_TYPE")).lower():  # else they are another's
            options.update(self._app_config.get("CACHE_OPTIONS") or {})  # type: ignore[call-overload]
        for name in BACKEND_OPTIONS:
            options.pop(name, None)
        if (database := self._app_config.get("CACHE_REDIS_DB")) is not None:
            options.setdefault("db", database)
        return connect(server, **{"timeout": self.config.timeout, **options})

    def default_url(self) -> str:
        """Return `CONTEXTCACHE_REDIS_URL`, or the embedded Redis, with a warning in production."""
        if self.redis_url:
            return self.redis_url
        if not (self.uses_embedded_by_default or self.debug or self._app_config.get("TESTING")):
            log(
                "warning",
                "%s; set it to %s, or to %s if that is meant",
                NO_SERVER,
                NAME_A_SERVER,
                DEFAULT_URL,
            )
        self.uses_embedded_by_default = True
        return DEFAULT_URL

    def _with_secrets(self, config: Config) -> Config:
        """Return `config` with the application's secrets, which may be set after `init_app`."""
        if config.secret_keys:
            return config
        secret: Any = self._app_config.get("SECRET_KEY")
        fallbacks: Any = self._app_config.get("SECRET_KEY_FALLBACKS") or ()
        if secret:
            return dataclasses.replace(config, secret_keys=(secret, *fallbacks))
        return config

    def _is_embedded(self) -> bool:
        return self.uses_embedded_by_default or self.redis_url.startswith(DEFAULT_URL)

    @property
    def effective_config(self) -> Config:
        """The policy, with what `DEBUG` is by now."""
        if not self.debug:
            return self.config
        on_finding = (*self.config.on_finding, self.notebook.note_finding)
        return dataclasses.replace(self.config, debug=True, on_finding=on_finding)


def settings_of(app: Flask) -> Settings:
    """Return what `app` wants, read from its configuration if nobody has done so yet."""
    try:
        settings: Settings = app.extensions[EXTENSION]
    except KeyError:
        settings = app.extensions[EXTENSION] = Settings(app.config)
    return settings


_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_SWITCHES = (SESSION, PREFIX + "SIGN", PREFIX + "ACCEPT_UNSIGNED")


def _read(key: str, value: object) -> object:
    """Return what a setting means that came from the environment, where all is text."""
    if isinstance(value, str):
        if value.lower() in _WORDS and key != PREFIX + "MODE":  # of which `off` is one
            return _WORDS[value.lower()]
        if value[:1] in "[{" or value.replace(".", "", 1).isdecimal():
            import json  # noqa: PLC0415  # for those who configure by the environment

            with contextlib.suppress(ValueError):
                value = json.loads(value)
    return bool(value) if key in _SWITCHES and value in (0, 1) else value


def cache_server(config: Mapping[str, Any]) -> Any:
    """Return the URL or the client of the Redis that Flask-Caching's own settings name, if any."""
    url, host = config.get("CACHE_REDIS_URL"), config.get("CACHE_REDIS_HOST")
    if url or not host or not isinstance(host, str) or "://" in host:
        return url or host
    password = config.get("CACHE_REDIS_PASSWORD")
    credentials = f":{quote(password, safe='')}@" if password else ""
    return f"redis://{credentials}{host}:{config.get('CACHE_REDIS_PORT', 6379)}"


def _url(value: object) -> str:
    """Return the URL in a setting, empty where there is none, as in a variable that is not set."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ConfigurationError(f"{REDIS_URL} is a URL, such as redis://127.0.0.1:6379/0")
    return value


def _switch(value: object) -> bool:
    if value not in (True, False):
        raise ConfigurationError(f"{SESSION} is True or False")
    return bool(value)


def _networks(value: object) -> tuple[str, ...]:
    if value == LOOPBACK:
        return LOOPBACK
    from ipaddress import ip_network  # noqa: PLC0415  # for those who change the setting

    if isinstance(value, (list, tuple)):
        try:
            return tuple(str(ip_network(network)) for network in value)
        except ValueError:
            pass
    raise ConfigurationError(f"{PAGE} is a list of networks, such as ['127.0.0.0/8']")
