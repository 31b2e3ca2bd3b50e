"""From `settings.CONTEXTCACHE` to the guards that do the work."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.core.signing import JSONSerializer

from contextcache import Config, ConfigurationError, Guard
from contextcache.base.logs import log
from contextcache.base.words import silence_template
from contextcache.engine.preload import preload
from contextcache.jsonable import JSONGuard
from contextcache.servers import DEFAULT_URL, EMBEDDED, NAME_A_SERVER
from contextcache.storage.guards import Guards

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

preload(signs=True)  # the guards are made later, by requests

SETTING = "CONTEXTCACHE"
OBSERVE = "OBSERVE"  # the one key that is Django's own


@functools.cache
def project_config() -> Config:
    """Return `settings.CONTEXTCACHE`, understood; payloads are signed with Django's own secrets.

    Raises:
        ImproperlyConfigured: A key, mode or rule in it is unknown; the message names it and the
            nearest valid one.
    """
    mapping = getattr(settings, SETTING, {})
    base = Config(debug=settings.DEBUG, secret_keys=_secrets(), silence=_silence())
    if isinstance(mapping, dict):
        mapping = {key: value for key, value in mapping.items() if key != OBSERVE}
    try:
        return Config.from_mapping(mapping, where=SETTING, base=base)
    except ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from error


@functools.cache
def observes() -> bool:
    """Tell whether the middleware reports what is written to caches that nobody guards."""
    asked = bool(getattr(settings, SETTING, {}).get(OBSERVE, True))
    return asked and project_config().mode != "off"


def _silence() -> str:
    """Return the line that silences a finding at the end of these settings, as they are."""
    own = getattr(settings, SETTING, None)
    ignored = own.get("IGNORE") if isinstance(own, dict) else None
    mapping = SETTING if own is not None else f'globals().setdefault("{SETTING}", {{}})'
    return silence_template(f'{SETTING}["IGNORE"]', ignored, f'{mapping}.setdefault("IGNORE", [])')


def _secrets() -> tuple[str | bytes, ...]:
    try:
        return settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS
    except ImproperlyConfigured:  # it is empty, which many a script can do with
        return ()


def guard_for(
    sink: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    where: str = "OPTIONS['CONTEXTCACHE']",
    session: bool = False,
    signed: bool = True,
    guard_class: type[Guard] = Guard,
) -> Guard:
    """Return the guard of one sink, always the same one; see `Guards.get`.

    Raises:
        ImproperlyConfigured: The settings contain a mistake.
    """
    try:
        return _guards.get(
            sink,
            overrides,
            where=where if overrides else SETTING,
            session=session,
            signed=signed,
            guard_class=guard_class,
        )
    except ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from error


_guards = Guards(project_config, sign_setting=f"{SETTING}['SIGN']")

_AS_JSON, _FROM_JSON = JSONSerializer().dumps, JSONSerializer().loads


@functools.cache
def json_guard_for(sink: str, encode: Callable[[Any], bytes] = _AS_JSON) -> JSONGuard[bytes]:
    """Return the guard of sessions that Django's own `JSONSerializer` writes, always the same one.

    Args:
        sink: The words for where they are stored.
        encode: What writes them; another one where only sizes are asked for.

    Raises:
        ImproperlyConfigured: The settings contain a mistake.
    """
    return JSONGuard(encode, project_config(), decode=_FROM_JSON, sink=sink)


BACKEND_LABELS = {
    "django.core.cache.backends.redis.RedisCache": "redis",
    "django_redis.cache.RedisCache": "redis",
    "django_valkey.cache.ValkeyCache": "valkey",
    "django_cachex.cache.RedisCache": "redis",
    "django_cachex.cache.ValkeyCache": "valkey",
    "django.core.cache.backends.locmem.LocMemCache": "memory",
    "django.core.cache.backends.db.DatabaseCache": "the database",
    "django.core.cache.backends.filebased.FileBasedCache": "files",
    "django.core.cache.backends.memcached.PyMemcacheCache": "memcached",
    "django.core.cache.backends.memcached.PyLibMCCache": "memcached",
    "django.core.cache.backends.dummy.DummyCache": "a dummy",
}


def backend_label(backend: object) -> str:
    """Return the words for where a backend stores, by its dotted name."""
    name = str(backend)
    return BACKEND_LABELS.get(name, name.rpartition(".")[2])


def alias_of(server: str | list[str], params: Mapping[str, Any]) -> str | None:
    """Return the name under which `CACHES` describes this cache, if exactly one does.

    Django tells a backend its settings but not its name.
    """
    described = [
        alias
        for alias, entry in caches.settings.items()
        if entry.get("LOCATION", "") == server
        and {name: entry[name] for name in entry.keys() - {"BACKEND", "LOCATION"}} == params
    ]
    return described[0] if len(described) == 1 else None


def names_of(alias: str | None, label: str) -> tuple[str, str]:
    """Return the display name of a cache, and what a message calls its settings."""
    sink = f"cache in {label}" if alias is None else f"cache {alias!r} in {label}"
    return sink, f"CACHES[{alias or '...'!r}]['OPTIONS']['CONTEXTCACHE']"


def is_deployed() -> bool:
    """Return whether the project neither is in debug mode nor runs its tests."""
    mail = sys.modules.get("django.core.mail")  # where Django keeps what a test has sent
    return not (settings.DEBUG or hasattr(mail, "outbox"))


def warn_of_embedded(alias: str | None) -> None:
    """Warn once of a deployed cache that is in an embedded Redis because it has no `LOCATION`."""
    own = object()  # several threads may make their cache at once
    if is_deployed() and _embedded.setdefault(alias, own) is own:
        log(
            "warning",
            "CACHES[%s] has no LOCATION, so it is kept %s; set it to %s, or to %s if that is meant",
            repr(alias or "..."),
            EMBEDDED,
            NAME_A_SERVER,
            DEFAULT_URL,
        )


_embedded: dict[str | None, object] = {}


def _reset_caches(*, setting: str, **_: object) -> None:
    if setting in {SETTING, "CACHES", "DEBUG", "SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        project_config.cache_clear()
        observes.cache_clear()
        _guards.clear()
        json_guard_for.cache_clear()
        _embedded.clear()


setting_changed.connect(_reset_caches, dispatch_uid="contextcache_django.conf")
