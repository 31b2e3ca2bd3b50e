"""`flask contextcache audit|explain|check`: what is stored, and whether all of it is guarded."""

from __future__ import annotations

import argparse
import glob
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import click
from flask import current_app
from flask.cli import AppGroup
from flask.sessions import SecureCookieSessionInterface

from contextcache import ConfigurationError
from contextcache.commands.checks import (
    Check,
    disabled_logger,
    misspelled_settings,
    report,
    unmatched_patterns,
    unmatched_rules,
    unreachable,
)
from contextcache.commands.options import (
    AUDIT_DETAILS,
    AUDIT_OF_APPLICATION,
    EXPLAIN_WITH_KEYS,
    LARGE,
    NO_TARGET,
    STATUS,
    exit_status,
)
from contextcache.servers import NAME_A_SERVER
from contextcache_flask.settings import KEYS, NO_SERVER, settings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from flask import Flask

    from contextcache.commands.audit import Place
    from contextcache.commands.audit_entries import Trust
    from contextcache.commands.options import Option

_Function = TypeVar("_Function", bound="Callable[..., Any]")

group = AppGroup("contextcache", help=__doc__)

IN_THIS_PROCESS = (
    "Redis is embedded in each process, fakeredis://: what a server stores in it is not seen here"
)


class CannotLookError(click.ClickException):
    """There is nothing to look at; the exit status is that of the other commands for it."""

    exit_code = 2


def with_options(options: Sequence[Option]) -> Callable[[_Function], _Function]:
    """Return a decorator that gives a command these options of the core."""

    def decorate(function: _Function) -> _Function:
        for option in reversed(options):
            kind = None if option.least is None else click.IntRange(min=option.least)
            if not option.name.startswith("-"):
                required = not option.is_optional
                function = click.argument(option.name, nargs=-1, required=required)(function)
            elif option.is_flag:
                function = click.option(option.name, is_flag=True, help=option.help)(function)
            else:
                function = click.option(
                    option.name,
                    default=option.default,
                    type=kind,
                    metavar=option.metavar,
                    help=option.help,
                )(function)
        return function

    return decorate


def _epilog(*parts: str) -> str:
    """Return text that click prints below the options as it is."""
    return "\n\n".join(f"\b\n{part}" for part in parts)


@group.command("audit", epilog=_epilog(AUDIT_DETAILS, STATUS))
@with_options(AUDIT_OF_APPLICATION)
def audit_command(**given: Any) -> None:
    """Look through what the application keeps in Redis; exit with 1 if something is wrong."""
    from contextcache.commands.audit import audit  # noqa: PLC0415  # heavy, and seldom run

    options = argparse.Namespace(**given)
    app = _app()
    trust = _trust(app, options.large)
    places = list(_places(app))
    if not places:
        raise CannotLookError("nothing of this application is in Redis")
    if any(_is_embedded(place.client) for place in places):
        click.echo(IN_THIS_PROCESS, err=True)
    sys.exit(exit_status(lambda: audit(places, trust, options, sys.stdout)))


@group.command("explain", epilog=_epilog(EXPLAIN_WITH_KEYS[0].help, STATUS))
@with_options(EXPLAIN_WITH_KEYS)
def explain_command(**given: Any) -> None:
    """Show what is in an entry (by its key) or a value (module:name), and how large it is."""
    from contextcache.commands.audit import explain_entry  # noqa: PLC0415
    from contextcache.commands.explain import codes_in, run  # noqa: PLC0415

    options = argparse.Namespace(**given)
    if not options.target and options.session is None:
        raise click.UsageError(NO_TARGET)

    def explain() -> int:
        app = _app()
        if not options.target:
            client, key = _stored_session(app, options.session)
            trust = _trust(app)
            return explain_entry(client, key, trust, options, sys.stdout, label="session")
        if len(options.target) != 1 or options.session is not None or codes_in(options.target):
            return run(options, sys.stdout)
        found, failure = _stored(app, options.target[0])
        if found is None:
            asked = "a cache that answers" if any(_caches_in_redis(app)) else ""
            config = settings_of(app).config
            return run(options, sys.stdout, config=config, caches=asked, failure=failure)
        client, key = found
        return explain_entry(client, key, _trust(app), options, sys.stdout)

    sys.exit(exit_status(explain))


@group.command("check")
def check_command() -> None:
    """Name what is misconfigured, not guarded or not safe, and connect to each Redis.

    The exit status is 1 if there is any problem.
    """
    lines, status = report(checked(_app()))
    for line in lines:
        click.echo(line)
    sys.exit(status)


def checked(app: Flask) -> Iterator[Check]:
    """Yield what is misconfigured or not guarded in an application that has been initialised.

    For most mistakes in the settings `init_app` has raised, but then what they name may not have
    been imported yet.
    """
    settings = settings_of(app)
    try:
        settings.guards.get("cache in redis")
    except ConfigurationError as error:
        hint = "Correct the setting; until then nothing can be cached or read."
        yield Check("E002", str(error), hint)
        return
    config = settings.config
    secrets = config.secret_keys or app.config.get("SECRET_KEY")
    if config.sign is False:
        yield Check(
            "W005",
            "Payloads are not signed: CONTEXTCACHE_SIGN is False.",
            "Whoever can write to Redis can run code in this application; remove the setting.",
        )
    elif not secrets:
        yield Check(
            "W005",
            "Payloads are not signed: there is no SECRET_KEY.",
            "Set SECRET_KEY, or CONTEXTCACHE_SECRET_KEYS.",
        )
    if config.accept_unsigned:
        yield Check(
            "W005",
            "Payloads that are not signed are read: CONTEXTCACHE_ACCEPT_UNSIGNED is True.",
            "Remove the setting when `flask contextcache audit` finds none of them any more.",
        )
    yield from _unguarded(app)
    yield from misspelled_settings(app.config, KEYS)
    yield from unmatched_rules(config.rules, "CONTEXTCACHE_RULES")
    yield from unmatched_patterns(config, "CONTEXTCACHE_IGNORE")
    yield from disabled_logger()
    places = list(_places(app))
    for place in places:
        yield from unreachable(place.name, place.client)
    if settings.uses_embedded_by_default and not settings.debug:
        yield Check("E005", f"{NO_SERVER}.", f"Set it to {NAME_A_SERVER}.")
    elif not settings.debug and any(_is_embedded(place.client) for place in places):
        yield Check(
            "W010",
            "Redis is embedded, fakeredis://, so each process keeps its own.",
            "In production, set CONTEXTCACHE_REDIS_URL to a redis:// URL.",
        )


def _unguarded(app: Flask) -> Iterator[Check]:
    for backend in _backends(app):
        if not hasattr(backend, "guard_with") and type(backend).__name__ != "NullCache":
            yield Check(
                "W001",
                f"The cache {type(backend).__qualname__} is not guarded.",
                "Only backends of cachelib's kind are; contextcache_flask.RedisCache is one.",
            )
    interface: Any = app.session_interface
    serializer = getattr(interface, "serializer", None)
    parts = (interface, serializer, getattr(interface, "cache", None))
    if not any(type(part).__module__.startswith("contextcache_flask") for part in parts) and (
        not hasattr(parts[2], "guard_with")
        and not isinstance(interface, SecureCookieSessionInterface)
    ):
        yield Check(
            "W002",
            f"Sessions are kept by {type(interface).__qualname__}, which is not guarded.",
            "Set CONTEXTCACHE_SESSION = True to keep them in Redis behind the guard.",
        )


def _places(app: Flask) -> Iterator[Place]:
    """Yield where in Redis the application keeps its caches and sessions."""
    from contextcache.commands.audit import Place  # noqa: PLC0415

    for backend in _caches_in_redis(app):
        prefix = glob.escape(backend._get_prefix())
        yield Place(backend._read_client, "cache", f"{prefix}*")
    interface: Any = app.session_interface
    module = type(interface).__module__
    if module == "contextcache_flask.sessions":
        client = interface._storage(app).client
        yield Place(client, "session", f"{glob.escape(interface._key_prefix)}*")
    elif module.startswith("flask_session.redis"):
        yield Place(interface.client, "session", f"{glob.escape(interface.key_prefix)}*")


def _stored(app: Flask, target: str) -> tuple[tuple[Any, str] | None, str]:
    """Return client and key of the entry that `target` names, as it is or as a key of a cache.

    The second is why a cache could not be asked.
    """
    from contextcache import ServerError  # noqa: PLC0415
    from contextcache.commands.audit import key_bytes, named_failures  # noqa: PLC0415

    failure = ""
    for backend in _caches_in_redis(app):
        for key in (f"{backend._get_prefix()}{target}", target):
            try:
                with named_failures("cache"):
                    if backend._read_client.exists(key_bytes(key)):
                        return (backend._read_client, key), ""
            except ServerError as error:
                failure = str(error)  # a value of the application needs no cache to be explained
                break
    return None, failure


def _stored_session(app: Flask, session_id: str) -> tuple[Any, str]:
    """Return the client and key of the session with this id.

    Raises:
        CannotLookError: The sessions are not in Redis, or not kept there by contextcache.
    """
    interface: Any = app.session_interface
    if type(interface).__module__ != "contextcache_flask.sessions":
        raise CannotLookError(
            f"sessions are kept by {type(interface).__qualname__}; only those that "
            "CONTEXTCACHE_SESSION = True keeps in Redis can be looked up"
        )
    return interface._storage(app).client, interface.redis_key(session_id)


def _is_embedded(client: object) -> bool:
    return any(cls.__module__.partition(".")[0] == "fakeredis" for cls in type(client).__mro__)


def _caches_in_redis(app: Flask) -> Iterator[Any]:
    return (backend for backend in _backends(app) if hasattr(backend, "_read_client"))


def _backends(app: Flask) -> list[Any]:
    backends = app.extensions.get("cache", {})
    return list(backends.values()) if isinstance(backends, dict) else []


def _trust(app: Flask, most: int | None = None) -> Trust:
    from contextcache.commands.audit_entries import Trust  # noqa: PLC0415

    try:
        guard = settings_of(app).guards.get("cache in redis")
    except ConfigurationError as error:
        raise CannotLookError(str(error)) from None
    return Trust.of(guard, most or LARGE)


def _app() -> Flask:
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return app
