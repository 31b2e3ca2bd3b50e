"""The command `contextcache`: look at values and payloads from a terminal or in CI."""

from __future__ import annotations

import argparse
import platform
import sys
import traceback
from typing import TYPE_CHECKING

from contextcache.base.version import __version__
from contextcache.commands import audit, explain
from contextcache.commands.explain import UNUSABLE
from contextcache.commands.options import (
    AUDIT,
    AUDIT_DETAILS,
    EXPLAIN,
    STATUS,
    add_options,
    exit_status,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS = {
    "audit": (audit, AUDIT, f"{AUDIT_DETAILS}\n\n{STATUS}"),
    "explain": (explain, EXPLAIN, STATUS),
}
"""Each module has `run(options, out)`, which returns the exit status."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Those of the command line; by default this process's own.

    Returns:
        The exit status, which `contextcache.commands.options.STATUS` explains.
    """
    parser = argparse.ArgumentParser(prog="contextcache", description=__doc__, epilog=STATUS)
    version = f"contextcache {__version__} (Python {platform.python_version()})"
    parser.add_argument("--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, own, epilog) in COMMANDS.items():
        text = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawTextHelpFormatter
        )
        add_options(command, own, epilog)
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return UNUSABLE
    try:
        return exit_status(lambda: COMMANDS[options.command][0].run(options, sys.stdout))
    except Exception:  # noqa: BLE001  # our own mistake is not "something was found"
        traceback.print_exc()
        return UNUSABLE
