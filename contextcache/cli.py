"""The command `contextcache`: look at values and payloads from a terminal or in CI."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING

from contextcache.commands import audit, explain
from contextcache.commands.explain import UNUSABLE
from contextcache.commands.options import AUDIT, AUDIT_DETAILS, EXPLAIN, STATUS, add_options

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130  # as shells have it: 128, and the number of SIGINT

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
        0 if nothing was found, 1 if something was, 2 if it cannot be looked at, 130 if it was
        interrupted.
    """
    parser = argparse.ArgumentParser(prog="contextcache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, own, epilog) in COMMANDS.items():
        text = (module.__doc__ or "").partition("\n")[0]
        command = commands.add_parser(
            name, help=text, description=text, formatter_class=argparse.RawTextHelpFormatter
        )
        add_options(command, own, epilog)
    options = parser.parse_args(arguments)
    try:
        status: int = COMMANDS[options.command][0].run(options, sys.stdout)
        return status
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        sys.stderr.close()
        return 0
    except Exception:  # noqa: BLE001  # our own mistake is not "something was found"
        traceback.print_exc()
        return UNUSABLE
    except KeyboardInterrupt:  # a person has waited long enough
        sys.stderr.write("contextcache: interrupted\n")
        return INTERRUPTED
