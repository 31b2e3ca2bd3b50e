"""The guards of one application: one for each sink, made when it is first used and kept.

A guard learns the types it meets. Django makes a cache object for each thread and, under ASGI, for
each task, and Flask an object for each extension; the guards outlive them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from contextcache.base.logs import log
from contextcache.config import Config
from contextcache.exceptions import ConfigurationError
from contextcache.guard import Guard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Guards:
    """Make and keep the guards of one application.

    Args:
        config: Returns the policy of the application, its secrets included.
        sign_setting: What switches signing off, for the warning that nothing is signed.
        is_exposed: Returns whether other programs can write to where signed payloads are stored.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        *,
        sign_setting: str,
        is_exposed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._config = config
        self._sign_setting = sign_setting
        self._is_exposed = is_exposed
        self._has_warned = False
        self._guards: dict[tuple[Any, ...], tuple[Guard, Mapping[str, Any] | None]] = {}

    def get(
        self,
        sink: str,
        overrides: Mapping[str, Any] | None = None,
        *,
        where: str = "",
        session: bool = False,
        signed: bool = True,
        guard_class: type[Guard] = Guard,
    ) -> Guard:
        """Return the guard of one sink, always the same one.

        Args:
            sink: The display name of the storage, such as `cache 'default' in redis`.
            overrides: Settings of this sink that differ from the application's.
            where: What a message about a mistake calls the settings.
            session: Whether the values are session dicts.
            signed: Whether the guard signs where there are secrets; not for a payload that
                something else signs, or unpickles before the signature could be verified.
            guard_class: The class of the guard.

        Raises:
            ConfigurationError: The settings contain a mistake.
        """
        key = (sink, guard_class, session, signed, id(overrides) if overrides else None)
        entry = self._guards.get(key)
        if entry is None:
            config = self._config()
            if overrides:
                config = Config.from_mapping(overrides, where=where, base=config)
            if not signed:
                config = dataclasses.replace(config, sign=False, secret_keys=(), compress="")
            elif config.sign is None and not config.secret_keys:
                self._warn_unsigned()
            try:
                guard = guard_class(config, sink=sink, session=session)
            except ConfigurationError as error:
                raise ConfigurationError(f"{where}: {error}" if where else str(error)) from error
            # To keep the overrides keeps their id from being given to another mapping.
            entry = self._guards.setdefault(key, (guard, overrides))
        return entry[0]

    def clear(self) -> None:
        """Forget every guard, because the settings have changed."""
        self._guards.clear()
        self._has_warned = False

    def _warn_unsigned(self) -> None:
        if self._has_warned or not self._is_exposed():
            return
        self._has_warned = True
        log(
            "warning",
            "what is stored is not signed, so anyone who can write to Redis can run code in this "
            "application; set SECRET_KEY, or %s to False",
            self._sign_setting,
        )
