"""Read a pickle without running it: what is in it, where, how large it is, and what it names.

A pickle is a program for a machine with a stack. This machine pushes nodes instead of objects, so
it is safe for any bytes. The bytes between the start of one thing on the stack and the start of
the next are those of the first, so sizes add up to the length of the payload, and a shared object
counts where it is stored.

Time is linear in the payload, and so is memory, by a few bytes for each instruction: a node that
is too small to be shown is dropped once its holder has it, at most `MAX_NODES` are kept, and
`Reading.omitted` counts what is missing because of that.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from contextcache.commands.nodes import Node, prune, uncollected
from contextcache.commands.opcodes import instructions, text_at
from contextcache.commands.pickle_machine import Machine
from contextcache.exceptions import UnreadablePayloadError
from contextcache.rules.secret_shapes import shape_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from contextcache.rules.secret_shapes import Shape


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What a payload holds.

    Attributes:
        root: The value, with everything below it that is kept; of a damaged pickle, nothing.
        names: What loading it looks up up to its end or damage, as `module:name`, sorted.
        computed: Whether it computes a name, which no pickler does.
        calls: Whether it calls something after it has looked up a name.
        end: Position after its last instruction, or of the damage.
        damaged: Whether the unpickler stops there with an error.
        omitted: How many parts are not in `root` although they are large enough.
        omitted_names: How many names are not among `names`.
    """

    root: Node
    names: tuple[str, ...]
    computed: bool
    calls: bool
    end: int
    damaged: bool
    omitted: int
    omitted_names: int


@uncollected()
def scan(
    payload: bytes,
    *,
    smallest: int = 0,
    wanted: frozenset[object] = frozenset(),
    shapes: Sequence[Shape] = (),
    progress: Callable[[float], None] | None = None,
) -> Reading:
    """Read a pickle as far as the unpickler would get; nothing in it is run or imported.

    Args:
        payload: Any bytes.
        smallest: What takes fewer bytes gets no node of its own.
        wanted: Keys and attribute names of which the values get a node all the same.
        shapes: The shapes of secrets that are looked for in texts; those get a node, too.
        progress: Called from time to time with the share that is done, from 0 to 1.
    """
    machine = Machine(smallest, wanted)
    steps = _with_secrets(payload, machine, shapes) if shapes else instructions(payload)
    try:
        machine.run(steps, len(payload), progress)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        machine.root = None
    damaged = machine.root is None
    root = Node("damaged pickle") if machine.root is None else machine.root
    root.size = len(payload)
    omitted = machine.omitted + prune(root)
    return Reading(
        root,
        tuple(sorted(machine.names)),
        machine.computed,
        machine.calls,
        machine.at,
        damaged,
        omitted,
        machine.omitted_names,
    )


def read(payload: bytes, *, label: str = "value", **options: Any) -> Reading:
    """Read the parts of a whole pickle; nothing in it is run or imported.

    Args:
        payload: The pickle.
        label: What to call it in the error.
        options: See `scan`.

    Raises:
        UnreadablePayloadError: If it is no pickle, or a damaged one.
    """
    reading = scan(payload, **options)
    if reading.damaged:
        raise unreadable(label, reading)
    return reading


def unreadable(label: str, reading: Reading) -> UnreadablePayloadError:
    """Return the error for a payload that is no pickle, or a damaged one."""
    reason = f"it is no pickle, or one that is damaged from byte {reading.end} on"
    return UnreadablePayloadError(label, reason, "look for what else writes it")


def _with_secrets(
    payload: bytes, machine: Machine, shapes: Sequence[Shape]
) -> Iterator[tuple[int, Any, int]]:
    """Yield the instructions of a payload, with a node in place of each text with a secret."""
    for opcode, argument, at in instructions(payload):
        text = text_at(payload, opcode, at)
        shape = None if text is None else shape_of(text, shapes)
        yield opcode, argument if shape is None else machine.new_secret(argument, shape), at
