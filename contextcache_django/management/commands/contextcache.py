"""`manage.py contextcache audit|check|explain`: what is stored, and whether it is guarded."""

from __future__ import annotations

import argparse
import glob
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO, cast

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.cache.backends.base import default_key_func
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from contextcache import ServerError
from contextcache.commands.audit import (
    Place,
    audit,
    explain_entry,
    key_bytes,
    named_failures,
)
from contextcache.commands.audit_entries import Trust
from contextcache.commands.checks import PREFIX, Check, report, unreachable
from contextcache.commands.explain import UNUSABLE, codes_in
from contextcache.commands.explain import run as explain
from contextcache.commands.options import (
    AUDIT_DETAILS,
    AUDIT_OF_APPLICATION,
    EXPLAIN_WITH_KEYS,
    LARGE,
    NO_TARGET,
    STATUS,
    add_options,
    exit_status,
)
from contextcache_django import checks
from contextcache_django.cache import RedisCache
from contextcache_django.conf import guard_for, project_config
from contextcache_django.serializers import CacheSerializer
from contextcache_django.sessions import SessionStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contextcache import Guard


EMBEDDED = (
    "CACHES[%r] is embedded in each process, fakeredis://: what a server stores in it is not "
    "seen here"
)


class Command(BaseCommand):
    """Look at what a cache in Redis holds, or at one entry or value, without changing anything."""

    help = __doc__
    requires_system_checks: list[str] = []  # a project that fails its checks wants to look, too

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the subcommands."""
        commands = parser.add_subparsers(dest="subcommand", metavar="COMMAND")
        text = "look through the entries of a cache, and exit with 1 if something is wrong"
        raw = argparse.RawTextHelpFormatter
        one = commands.add_parser("audit", help=text, description=text, formatter_class=raw)
        one.add_argument("alias", nargs="?", default="default", help="which of CACHES (default)")
        add_options(one, AUDIT_OF_APPLICATION, f"{AUDIT_DETAILS}\n\n{STATUS}")
        text = "name what is misconfigured, not guarded or not safe, and connect to each Redis"
        commands.add_parser("check", help=text, description=f"{text}; exit with 1 if anything is")
        text = "show what is in an entry or a value, how large each part is, and what is wrong"
        one = commands.add_parser("explain", help=text, description=text, formatter_class=raw)
        one.add_argument("--cache", default="default", metavar="ALIAS", help="which of CACHES")
        add_options(one, EXPLAIN_WITH_KEYS, STATUS)

    def handle(self, *_: Any, **options: Any) -> None:
        """Do it; the exit status is that of `contextcache audit` and `contextcache explain`."""
        given = argparse.Namespace(**options)
        if given.subcommand is None:
            self.print_help(*sys.argv[:2])
            raise SystemExit(UNUSABLE)
        if status := exit_status(lambda: self._run(given)):
            raise SystemExit(status)

    def _run(self, options: argparse.Namespace) -> int:
        if options.subcommand == "audit":
            return self._audit(options.alias, options)
        if options.subcommand == "explain":
            return self._explain(options.target, options.cache, options)
        lines, status = report(checked())
        self.stdout.write("\n".join(lines))
        return status

    @property
    def _out(self) -> TextIO:
        return cast("TextIO", Output(self.stdout))

    def _audit(self, alias: str, options: argparse.Namespace) -> int:
        cache, guard, client = opened(alias)
        if isinstance(cache, RedisCache) and cache.is_embedded:
            self.stderr.write(EMBEDDED % alias, self.style.WARNING)
        place = Place(client, f"CACHES[{alias!r}]", pattern_of(cache))
        return audit([place], Trust.of(guard, options.large), options, self._out)

    def _explain(self, targets: list[str], alias: str, options: argparse.Namespace) -> int:
        if alias not in settings.CACHES:
            raise unknown(alias)
        if not targets and options.session is None:
            raise CommandError(NO_TARGET, returncode=UNUSABLE)
        if not targets:
            cache, key = stored_session(options.session)
            trust = Trust.of(cache.guard("session in redis", session=True), LARGE)
            return explain_entry(
                cache.connection(), key, trust, options, self._out, label="session"
            )
        if len(targets) != 1 or options.session is not None or codes_in(targets):
            return explain(options, self._out)
        [target] = targets
        name, asked, failure = f"CACHES[{alias!r}]", "", ""
        try:
            cache, guard, client = opened(alias)
            for key in (cache.make_key(target), target):
                with named_failures(name):
                    found = client.exists(key_bytes(key))
                if found:
                    return explain_entry(client, key, Trust.of(guard, LARGE), options, self._out)
            asked = name
        except ServerError as error:
            failure = str(error)  # a value of the application needs no cache to be explained
        except CommandError:
            pass
        config = project_config()
        return explain(options, self._out, config=config, caches=asked, failure=failure)


def checked() -> Iterator[Check]:
    """Yield what the system checks of contextcache find, and each Redis that does not answer.

    Checks that `SILENCED_SYSTEM_CHECKS` names are left out.
    """
    for message in (
        *checks.check_settings(),
        *checks.check_coverage(),
        *checks.check_deployment(),
    ):
        if not message.is_silenced():
            yield Check(str(message.id).removeprefix(PREFIX), message.msg, message.hint or "")
    for alias in settings.CACHES:
        try:
            cache, _, client = opened(alias)
        except CommandError:  # not in Redis, or reported above
            continue
        clients = cache._cache.clients if isinstance(cache, RedisCache) else [client]
        for one in dict.fromkeys(clients):
            yield from unreachable(f"CACHES[{alias!r}]", one)


class Output:
    """The stream of a command, for who writes pieces of lines and asks whether a person reads."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self.encoding = getattr(wrapper, "encoding", None) or "utf-8"

    def write(self, text: str) -> None:
        """Write `text` as it is."""
        self._wrapper.write(text, ending="")

    def isatty(self) -> bool:
        """Tell whether a person reads."""
        return bool(self._wrapper.isatty())


def opened(alias: str) -> tuple[Any, Guard | None, Any]:
    """Return a cache in Redis, its guard if it has one, and the client of its server.

    Raises:
        CommandError: There is no such cache, or it is not in Redis.
    """
    try:
        cache: Any = caches[alias]
        if isinstance(cache, RedisCache):
            return cache, cache.guard("cache in redis"), cache.connection()
        serializer = getattr(getattr(cache, "_cache", None), "_serializer", None)
        guard = guard_for("cache in redis") if isinstance(serializer, CacheSerializer) else None
        if hasattr(cache, "_cache") and hasattr(cache._cache, "get_client"):
            return cache, guard, cache._cache.get_client(write=True)  # Django's own
        if hasattr(cache, "client") and hasattr(cache.client, "get_client"):
            serializer = getattr(cache.client, "_serializer", None)
            guarded = isinstance(serializer, CacheSerializer)
            guard = guard_for("cache in redis") if guarded else None
            return cache, guard, cache.client.get_client(write=True)  # django-redis
    except InvalidCacheBackendError:
        raise unknown(alias) from None
    except ImproperlyConfigured as error:
        raise CommandError(str(error), returncode=UNUSABLE) from error
    raise CommandError(
        f"CACHES[{alias!r}] is not in Redis: there is nothing to look through", returncode=UNUSABLE
    )


def stored_session(session_id: str) -> tuple[RedisCache, str]:
    """Return the cache that keeps the sessions, and the key in Redis of the one with this id.

    Raises:
        CommandError: The sessions are not in Redis, or not kept there by contextcache.
    """
    engine: Any = import_module(settings.SESSION_ENGINE)
    store = engine.SessionStore(session_id)
    if not isinstance(store, SessionStore):
        raise CommandError(
            f"SESSION_ENGINE {settings.SESSION_ENGINE!r} does not keep sessions in Redis; only "
            "those of 'contextcache_django.sessions' can be looked up",
            returncode=UNUSABLE,
        )
    return store.cache, store.redis_key(session_id)


def unknown(alias: str) -> CommandError:
    """Return the error for a cache that is not there."""
    names = ", ".join(map(repr, settings.CACHES))
    return CommandError(f"CACHES has no {alias!r}; it has {names}", returncode=UNUSABLE)


def pattern_of(cache: Any) -> str:
    """Return the pattern of the keys of a cache; all keys where a function makes them."""
    if getattr(cache, "key_func", None) is not default_key_func:
        return "*"
    return f"{glob.escape(cache.key_prefix)}:*"
