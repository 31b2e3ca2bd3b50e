"""The system checks: mistakes in the settings, and places that are not guarded.

`contextcache.commands.checks` says what each code means. None of these checks connects to a server;
`manage.py contextcache check` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache import caches
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004
from django.core.exceptions import ImproperlyConfigured
from django.core.signing import JSONSerializer

from contextcache import Config, ConfigurationError
from contextcache.base.words import suggest
from contextcache.commands.checks import (
    PREFIX,
    Check,
    disabled_logger,
    misspelled_settings,
    unmatched_patterns,
    unmatched_rules,
)
from contextcache.servers import EMBEDDED, NAME_A_SERVER
from contextcache_django.aliases import SERIALIZER_OPTION, embedded_by_default, is_a, is_guarded
from contextcache_django.cache import GuardedCache, RedisCache
from contextcache_django.cache_mixin import Guarded
from contextcache_django.conf import BACKEND_LABELS, OBSERVE, SETTING, backend_label
from contextcache_django.leftovers import check_leftovers, left_over
from contextcache_django.serializers import SESSION_SINKS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BACKEND = "contextcache_django.cache.RedisCache"
WRAPPER = "contextcache_django.cache.GuardedCache"
ENGINE = "contextcache_django.sessions"
MIDDLEWARE = "contextcache_django.middleware.ContextCacheMiddleware"
SESSION_MIDDLEWARE = "django.contrib.sessions.middleware.SessionMiddleware"

_SERIALIZER = {
    "serializer": "contextcache_django.serializers.CacheSerializer",
    "SERIALIZER": "contextcache_django.serializers.DjangoRedisSerializer",
}
# Caches of this process only are left to the middleware, which reports what is written to them.
_OUTSIDE = BACKEND_LABELS.keys() - {
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
}
_CACHED_SESSIONS = {
    "django.contrib.sessions.backends.cache",
    "django.contrib.sessions.backends.cached_db",
}


def check_settings(**_: Any) -> list[CheckMessage]:
    """Return the mistakes in `CONTEXTCACHE` and in the caches that use it."""
    found = [one for where, mapping, _ in _own_settings() for one in _mistakes(mapping, where)]
    found += _named_as_in_flask()
    # With such mistakes no cache can be made, which would name each of them once more.
    found = found or [*check_leftovers(), *_unusable_caches(), *_embedded_by_default()]
    return [*found, *_session_engine()]


def check_coverage(**_: Any) -> list[CheckMessage]:
    """Return the places where values are pickled without a guard."""
    return [
        *_unguarded_caches(),
        *_unguarded_sessions(),
        *_middleware(),
        *_unsigned(),
        *_session_serializer(),
        *map(as_message, _unmatched()),
        *map(as_message, misspelled_settings(dir(settings), [SETTING])),
        *map(as_message, disabled_logger()),
    ]


def check_deployment(**_: Any) -> list[CheckMessage]:
    """Return the caches that are for development only."""
    return [
        Warning(
            f"CACHES[{alias!r}] is embedded in each process: no other one sees what it stores, "
            "and it ends with it.",
            hint=f"Set its LOCATION to {NAME_A_SERVER}.",
            id="contextcache.W010",
        )
        for alias, entry in _caches().items()
        if is_a(entry.get("BACKEND"), RedisCache)
        and _made(alias).is_embedded
        and alias not in embedded_by_default()  # which is an error
    ]


def as_message(check: Check) -> CheckMessage:
    """Return a check of the core as a message of Django's."""
    kind = Error if check.code.startswith("E") else Warning
    return kind(check.text, hint=check.hint, id=PREFIX + check.code)


def _mistakes(mapping: Mapping[str, Any], where: str) -> Iterator[CheckMessage]:
    if not isinstance(mapping, dict):
        yield Error(f"{where} has to be a dict.", id="contextcache.E002")
        return
    keys = (*Config.KEYS, OBSERVE) if where == SETTING else Config.KEYS
    for key in mapping:
        if key not in keys:
            nearest = suggest(key, keys)
            yield Error(
                f"{where} has no key {key!r}.",
                hint=(
                    f"Did you mean {nearest!r}?" if nearest else f"Its keys are {', '.join(keys)}."
                ),
                id="contextcache.E001",
            )
    if not isinstance(mapping.get(OBSERVE, True), bool):
        yield Error(f"{where}: {OBSERVE} is True or False.", id="contextcache.E002")
    known = {key: value for key, value in mapping.items() if key in Config.KEYS}
    try:
        Config.from_mapping(known, where=where)
    except ConfigurationError as error:
        yield Error(str(error), id="contextcache.E002")


def _named_as_in_flask() -> Iterator[CheckMessage]:
    for key in (*Config.KEYS, "REDIS_URL", "SESSION"):
        name = f"{SETTING}_{key}"
        if hasattr(settings, name):
            instead = f"Write it as {SETTING}[{key!r}]."
            if key not in Config.KEYS:
                instead = "Remove it, and set CACHES and SESSION_ENGINE."
            yield Error(
                f"{name} is a setting of Flask's, and has no effect in Django.",
                hint=instead,
                id="contextcache.E001",
            )


def _session_engine() -> Iterator[CheckMessage]:
    engine = settings.SESSION_ENGINE
    try:
        if hasattr(import_module(engine), "SessionStore"):
            return
        why = f"{engine!r} has no SessionStore"
    except ImportError:
        why = f"{engine!r} cannot be imported"
    meant = suggest(engine, [ENGINE, *SESSION_SINKS, *_CACHED_SESSIONS])
    yield Error(
        f"SESSION_ENGINE {why}.",
        hint=f"Did you mean {meant!r}?" if meant else "Name the module of a session engine.",
        id="contextcache.E006",
    )


def _unusable_caches() -> Iterator[CheckMessage]:
    for alias, entry in _caches().items():
        if is_a(entry.get("BACKEND"), Guarded):
            for problem in _problems(alias, entry):
                yield Error(f"CACHES[{alias!r}]: {problem}", id="contextcache.E004")
    if settings.SESSION_ENGINE == ENGINE and not _is_ours(settings.SESSION_CACHE_ALIAS):
        yield Error(
            f"SESSION_ENGINE keeps sessions in CACHES[{settings.SESSION_CACHE_ALIAS!r}], "
            "which is not a contextcache cache.",
            hint=f"Set its BACKEND to {BACKEND!r}, or SESSION_CACHE_ALIAS to a cache that has it.",
            id="contextcache.E003",
        )


def _embedded_by_default() -> Iterator[CheckMessage]:
    for alias in embedded_by_default():
        yield Error(
            f"CACHES[{alias!r}] has no LOCATION, so it is kept {EMBEDDED}.",
            hint=f"Set its LOCATION to {NAME_A_SERVER}.",
            id="contextcache.E005",
        )


def _problems(alias: str, entry: Mapping[str, Any]) -> list[str]:
    """Return why a cache cannot be made: the reason or, where options are wrong, each of them."""
    try:
        cache = _made(alias)
        if issubclass(type(cache), GuardedCache):  # its `__class__` is that of the backend
            cache.backend  # noqa: B018  # it is made when it is asked for
            return []
    except (ImproperlyConfigured, ImportError) as error:
        return [str(error)]
    options = dict(entry.get("OPTIONS") or {})
    for name in left_over(options):  # which have been named
        del options[name]
    whole = _why_it_fails(cache, entry, options)
    if whole is None:
        return []
    single = [_why_it_fails(cache, entry, {name: options[name]}) for name in options]
    bare = _why_it_fails(cache, entry, {})
    return list(dict.fromkeys(why for why in single if why and why != bare)) or [whole]


def _why_it_fails(cache: Any, entry: Mapping[str, Any], options: dict[str, Any]) -> str | None:
    """Make what a cache needs, without connecting: replicas, too, of which reads take any."""
    params = {name: entry[name] for name in entry.keys() - {"BACKEND", "LOCATION"}}
    try:
        for server in cache._servers:
            type(cache)(server, {**params, "OPTIONS": options}).connection()
    except (ImproperlyConfigured, ImportError) as error:
        return str(error)
    return None


def _unguarded_caches() -> Iterator[CheckMessage]:
    for alias, entry in _caches().items():
        backend = entry.get("BACKEND", "")
        if backend not in _OUTSIDE or is_guarded(alias):
            continue
        option = SERIALIZER_OPTION.get(backend)
        hint = f"Set its BACKEND to {WRAPPER!r} and OPTIONS['BACKEND'] to {backend!r}."
        if option is not None:
            serializer = _SERIALIZER[option]
            hint = f"Set its BACKEND to {BACKEND!r}, or OPTIONS[{option!r}] to {serializer!r}."
        label = backend_label(backend).replace("redis", "Redis").replace("valkey", "Valkey")
        yield Warning(
            f"CACHES[{alias!r}] stores values in {label} without a guard.",
            hint=hint,
            id="contextcache.W001",
        )


def _unguarded_sessions() -> Iterator[CheckMessage]:
    alias = settings.SESSION_CACHE_ALIAS
    if settings.SESSION_ENGINE in _CACHED_SESSIONS and not is_guarded(alias):
        yield Warning(
            f"SESSION_ENGINE {settings.SESSION_ENGINE!r} stores sessions in "
            f"CACHES[{alias!r}] without a guard.",
            hint=f"Set SESSION_ENGINE to {ENGINE!r}, or the BACKEND of that cache to {BACKEND!r}.",
            id="contextcache.W002",
        )


def _middleware() -> Iterator[CheckMessage]:
    order = list(settings.MIDDLEWARE)
    if MIDDLEWARE not in order:
        yield Warning(
            "Findings cannot name their request and view: "
            "the middleware of contextcache is not in MIDDLEWARE.",
            hint=f"Add {MIDDLEWARE!r} as the first line of MIDDLEWARE.",
            id="contextcache.W003",
        )
        return
    for name, (what, why) in _WITHIN.items():
        if name in order and order.index(MIDDLEWARE) > order.index(name):
            yield Warning(
                f"Findings in {what} cannot name their request and view: {why} after the "
                "middleware of contextcache is done.",
                hint=f"Move {MIDDLEWARE!r} to the first line of MIDDLEWARE.",
                id="contextcache.W004",
            )


_WITHIN = {
    SESSION_MIDDLEWARE: (
        "sessions",
        "SessionMiddleware saves them",
    ),
    "django.middleware.cache.UpdateCacheMiddleware": (
        "cached pages",
        "UpdateCacheMiddleware stores them",
    ),
}


def _unsigned() -> Iterator[CheckMessage]:
    for where, mapping, backend in _own_settings():
        if not isinstance(mapping, dict) or is_a(backend, GuardedCache):
            continue
        if mapping.get("SIGN") is False:
            yield Warning(
                f"{where}['SIGN'] is False: whoever can write to Redis can run code here.",
                hint="Remove it, and set ACCEPT_UNSIGNED until what is stored unsigned is gone.",
                id="contextcache.W005",
            )
        if mapping.get("ACCEPT_UNSIGNED"):
            yield Warning(
                f"{where}['ACCEPT_UNSIGNED'] is on: whoever can write to Redis can run code here.",
                hint="Remove it when what was stored unsigned is gone; it is for a migration.",
                id="contextcache.W005",
            )
    if not _has_secret():
        yield Warning(
            "Payloads are not signed, because there is no SECRET_KEY: whoever can write to Redis "
            "can run code here.",
            hint="Set SECRET_KEY, or CONTEXTCACHE['SECRET_KEYS'].",
            id="contextcache.W005",
        )


def _has_secret() -> bool:
    own = getattr(settings, SETTING, {})
    if isinstance(own, dict) and own.get("SECRET_KEYS"):
        return True
    try:
        return bool(settings.SECRET_KEY)
    except ImproperlyConfigured:
        return False


def _session_serializer() -> Iterator[CheckMessage]:
    own: Any = settings  # whose stubs do not know is_overridden
    engine, serializer = settings.SESSION_ENGINE, settings.SESSION_SERIALIZER
    if engine in _WITHOUT_SERIALIZER and own.is_overridden("SESSION_SERIALIZER"):
        yield Warning(
            f"SESSION_SERIALIZER {serializer!r} is not asked by SESSION_ENGINE {engine!r}, which "
            "pickles.",
            hint=(
                "Remove it, or set SESSION_ENGINE to 'contextcache_django.cached_db' or another "
                "one that asks it."
            ),
            id="contextcache.W006",
        )
    if engine == "django.contrib.sessions.backends.cached_db" and is_a(serializer, JSONSerializer):
        yield Warning(
            f"SESSION_ENGINE {engine!r} reads sessions from the cache as they were and from the "
            "database as JSON: a tuple becomes a list when the cache forgets it.",
            hint="Set SESSION_ENGINE to 'contextcache_django.cached_db'.",
            id="contextcache.W007",
        )
    asked = engine in SESSION_SINKS and SESSION_MIDDLEWARE in settings.MIDDLEWARE
    chosen = own.is_overridden("SESSION_SERIALIZER") or engine.startswith("contextcache_django.")
    if asked and chosen and serializer in _DJANGOS_JSON:
        yield Warning(
            f"Where a session holds what JSON cannot, SESSION_SERIALIZER {serializer!r} fails the "
            "page, and names no field.",
            hint=(
                "Set SESSION_SERIALIZER to 'contextcache_django.serializers."
                "JSONSessionSerializer', which stores the same, or to "
                "'contextcache_django.serializers.SessionSerializer', which stores more."
            ),
            id="contextcache.W008",
        )


_DJANGOS_JSON = {
    "django.contrib.sessions.serializers.JSONSerializer",
    "django.core.signing.JSONSerializer",
}
_WITHOUT_SERIALIZER = {ENGINE, "django.contrib.sessions.backends.cache"}


def _unmatched() -> Iterator[Check]:
    for where, mapping, _ in _own_settings():
        if not isinstance(mapping, dict):
            continue
        known = {key: mapping[key] for key in ("IGNORE", "RULES") if key in mapping}
        try:
            config = Config.from_mapping(known)
        except ConfigurationError:  # which is reported as E002
            continue
        yield from unmatched_rules(config.rules, f"{where}['RULES']")
        yield from unmatched_patterns(config, f"{where}['IGNORE']")


def _own_settings() -> Iterator[tuple[str, Any, str]]:
    """Yield the name of each of our settings, its value, and the backend it is for, if any."""
    yield SETTING, getattr(settings, SETTING, {}), ""
    for alias, entry in _caches().items():
        overrides = (entry.get("OPTIONS") or {}).get(SETTING)
        if overrides is not None:
            where = f"CACHES[{alias!r}]['OPTIONS'][{SETTING!r}]"
            yield where, overrides, entry.get("BACKEND", "")


def _made(alias: str) -> Any:
    return caches[alias]


def _caches() -> dict[str, Any]:
    return settings.CACHES


def _is_ours(alias: str) -> bool:
    return is_a(_caches().get(alias, {}).get("BACKEND"), RedisCache)
