"""The logger `contextcache`, which is looked up when there is something to log and never before.

`logging.config.dictConfig` disables each logger that exists and that it does not name, unless it
is told otherwise. So contextcache makes no logger by this name: it uses the one that the
application has made, and else one of its own that `logging` does not know and whose records go
to the handlers of the root logger. Where the configuration has disabled the one that the
application has made, the log says so once, by a logger of contextcache's own.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import qualified_name
from contextcache.base.masking import type_text

if TYPE_CHECKING:
    import logging

NAME = "contextcache"
DISABLED = "The logger 'contextcache' is disabled: what is cut or cannot be read is logged nowhere."
ENABLE = (
    "Set disable_existing_loggers to False in the logging configuration, or name 'contextcache' "
    "in its 'loggers'."
)

_development: list[bool] = []
_disabled: list[logging.Logger] = []


def log(level: str, template: str, *args: object, extra: dict[str, Any] | None = None) -> None:
    """Log one record of contextcache; an error in a filter or handler is suppressed.

    Args:
        level: `info`, `warning` or `error`.
        template: The message, to which "contextcache: " is added in front unless it begins with
            the name; log aggregators group on it.
        *args: What varies in it.
        extra: Attributes of the record, each with the prefix `contextcache_`.
    """
    import logging  # noqa: PLC0415  # a clean process logs nothing

    if not template.startswith(NAME):
        template = f"{NAME}: {template}"
    with contextlib.suppress(Exception):  # a filter of the application's must not break the write
        logger = _logger()
        logger.log(getattr(logging, level.upper()), template, *args, extra=extra)
        if logger.disabled and not _disabled:
            _disabled.append(logger)
            _unregistered().warning("contextcache: %s %s", DISABLED, ENABLE)


def error_name(error: BaseException) -> str:
    """Return the name of the class of `error` as it may be logged: it can be made at run time."""
    return class_name(type(error))


def class_name(cls: type) -> str:
    """Return the name of a class, without its module, as it may be logged."""
    return type_text(qualified_name(cls)).rpartition(".")[2]


def is_disabled() -> bool:
    """Return True if the application's logging configuration has disabled the logger."""
    known = _known()
    return known is not None and known.disabled


def show_findings() -> None:
    """Show findings on stderr unless the application has arranged its own logging for them.

    For development: without a handler on the way to the root logger, Python would print a
    warning without its formatting.
    """
    _development[:] = [True]


def _known() -> logging.Logger | None:
    import logging  # noqa: PLC0415

    known = logging.root.manager.loggerDict.get(NAME)
    return known if isinstance(known, logging.Logger) else None


def _logger() -> logging.Logger:
    import logging  # noqa: PLC0415

    logger = _known() or _unregistered()
    if _development and not _is_handled(logger):
        from contextcache.reports.log_format import DevelopmentFormatter  # noqa: PLC0415

        handler = logging.StreamHandler()
        handler.setFormatter(DevelopmentFormatter())
        logger.addHandler(handler)
    return logger


def _unregistered() -> logging.Logger:
    import logging  # noqa: PLC0415

    logger = logging.getLoggerClass()(NAME)  # a new one: nobody resets what it has cached
    logger.parent = logging.root
    return logger


def _is_handled(logger: logging.Logger) -> bool:
    import logging  # noqa: PLC0415

    current: logging.Logger | None = logger
    while current is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False
