"""Backends that unpickle by themselves: which of their errors are about the value that was read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

PROBE_KEY = "contextcache:nobody"
"""A key that holds nothing, and is read to see whether a backend answers."""

_CLIENTS = {
    *("cachelib", "contextcache_django", "contextcache_flask", "django", "django_cachex"),
    *("django_redis", "django_valkey", "flask_caching", "pylibmc", "pymemcache", "redis"),
    "valkey",
}


def is_about_value(probe: Callable[[], object]) -> bool:
    """Return whether a backend answers, so that an error of it was about the value that it read.

    The error does not show it: values raise what backends raise, and the other way round.

    Args:
        probe: Reads `PROBE_KEY`.
    """
    try:
        probe()
    except Exception:  # noqa: BLE001  # the error of the operation itself is raised
        return False
    return True


def without_clients(error: Exception, backend: object) -> Exception:
    """Return `error` with a traceback that begins in the code of the value, if any of it ran.

    Where a client has put an error of its own in the place of it, such as the `SerializerError` of
    django-cachex, that is its cause.

    Args:
        error: What reading a value raised.
        backend: The backend, whose package is left out with those of the known clients.
    """
    packages = {*_CLIENTS, _package(type(backend).__module__)}
    while _package(type(error).__module__) in packages and isinstance(error.__cause__, Exception):
        error = error.__cause__
    error.__traceback__ = _after(error, packages)
    return error


def _after(error: Exception, packages: set[str]) -> TracebackType | None:
    traceback = error.__traceback__
    rest = traceback
    while traceback is not None:
        if _package(traceback.tb_frame.f_globals.get("__name__")) in packages:
            rest = traceback.tb_next
        traceback = traceback.tb_next
    return rest


def _package(module: object) -> str:
    return str(module).partition(".")[0]
