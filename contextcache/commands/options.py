"""The options of the commands as data, from which argparse and click make theirs.

The command line of Flask is click's; that of Django, and `contextcache` itself, argparse's.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

DEPTH = 8  # levels
RATE = 2000  # keys a second
LARGE = 1_000_000  # bytes
INTERRUPTED = 130  # as shells have it: 128, and the number of SIGINT
SECRET = "CONTEXTCACHE_SECRET_KEY"  # noqa: S105  # the name of a variable


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """An option of a command, or an argument if its name has no dashes.

    Args:
        name: As it is typed, such as `--min-size` or `url`.
        help: What it does, in a few words.
        default: What it is where it is not given.
        least: The least number it takes; None if it takes a text.
        metavar: What stands for its value in the help.
        is_flag: Whether it is given without a value.
        is_list: Whether it can be given several times; of an argument, at least once.
        is_optional: Whether an argument can be left out.
        is_hidden: Whether the help leaves it out.
    """

    name: str
    help: str = ""
    default: Any = None
    least: int | None = None
    metavar: str | None = None
    is_flag: bool = False
    is_list: bool = False
    is_optional: bool = False
    is_hidden: bool = False


STATUS = """\
The exit status is 0 if nothing was found, 1 if something was, 2 if the command is wrong or
what it names cannot be looked at, 130 if it was interrupted."""
AUDIT_DETAILS = """\
Every key is read once, with SCAN, TYPE, STRLEN and GET, and nothing is written. For a
Redis that evicts what was not used lately, GET counts as a use. A key that is written
meanwhile may be missed or counted twice, as SCAN has it."""

_TARGET = """what to look at:
  shop.cart:example   a value, or a function that returns one
  cart.pickle         a file with a pickle; only read, not loaded
  -                   the same from standard input
  CC102               the page of a code; several codes show several pages"""
_KEY = """
  user:42             an entry of the cache, by its key"""

_HOW_TO_PRINT = (
    Option("--json", "print JSON", is_flag=True),
    Option("--redact-keys", "show no keys", is_flag=True),
)
_HOW_TO_EXPLAIN = (
    Option("--label", "the root of the paths, such as session", ""),
    Option("--depth", f"levels to show ({DEPTH})", DEPTH, least=0),
    Option(
        "--min-size",
        "parts that take less are counted in one line (1 % of the whole)",
        least=0,
        metavar="BYTES",
    ),
    *_HOW_TO_PRINT,
    Option(
        "--fresh",
        "load what is stored of a module:name in a fresh process, too, to find what\n"
        "only this one can load; never a file or an entry",
        is_flag=True,
    ),
    Option(
        "--trusted",
        "load a pickle, which runs whatever code it names;\nwithout it, findings go by names",
        is_flag=True,
    ),
    Option("--traceback", "print the traceback of an error in the application", is_flag=True),
)

NO_TARGET = "name a target, or a session with --session ID"

EXPLAIN = (Option("target", _TARGET, is_list=True), *_HOW_TO_EXPLAIN)

EXPLAIN_WITH_KEYS = (
    Option("target", _TARGET + _KEY, is_list=True, is_optional=True),
    Option("--session", "show the session with this id, from Redis", metavar="ID"),
    *_HOW_TO_EXPLAIN,
)
"""For a framework, which knows its caches."""

AUDIT_OF_APPLICATION = (
    *_HOW_TO_PRINT,
    Option("--rate", f"keys a second ({RATE})", RATE, least=1, metavar="N"),
    Option(
        "--large", f"entries above are called oversized ({LARGE})", LARGE, least=1, metavar="BYTES"
    ),
)
"""For a framework, which knows its servers and secrets."""

AUDIT = (
    Option("url", "the server, such as redis://127.0.0.1:6379/0"),
    Option("--match", "which keys, such as 'shop:*' (all)", "*"),
    Option("--key", "show one entry as a tree instead, with sizes"),
    Option(
        "--secret-from",
        f"environment variable with a secret that payloads are signed with ({SECRET})",
        metavar="VARIABLE",
        is_list=True,
    ),
    Option("--depth", default=DEPTH, least=1, is_hidden=True),
    Option("--min-size", least=0, is_hidden=True),
    *AUDIT_OF_APPLICATION,
)


def exit_status(command: Callable[[], int]) -> int:
    """Run a command, and return its exit status also where it is interrupted.

    Args:
        command: Runs it and returns its own exit status.
    """
    try:
        status = command()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        # What is left in the buffer cannot be written when Python exits, either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:  # a person has waited long enough
        sys.stderr.write("contextcache: interrupted\n")
        return INTERRUPTED
    return status


def add_options(parser: argparse.ArgumentParser, options: Iterable[Option], epilog: str) -> None:
    """Add options to a parser of argparse.

    Args:
        parser: Any parser.
        options: The options, in the order of the help.
        epilog: What stands below them.
    """
    from argparse import SUPPRESS  # noqa: PLC0415  # click needs none of it

    parser.epilog = epilog
    for option in options:
        given: dict[str, Any] = {
            "help": SUPPRESS if option.is_hidden else option.help.replace("%", "%%")
        }
        if option.is_flag:
            given["action"] = "store_true"
        else:
            given.update(default=option.default, metavar=option.metavar)
            if option.least is not None:
                given["type"] = _at_least(option.least)
        if option.is_list:
            nargs = {"nargs": "*" if option.is_optional else "+"}
            given.update({"action": "append"} if option.name.startswith("-") else nargs)
        parser.add_argument(option.name, **given)


def _at_least(least: int) -> Any:
    def number(text: str) -> int:
        found = int(text)
        if found < least:
            raise ValueError
        return found

    return number
