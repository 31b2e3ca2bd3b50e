"""The nodes of a payload, as the reader of payloads makes them, and the findings at them."""

from __future__ import annotations

import dataclasses
import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from contextcache.commands.opcodes import Opaque
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.findings.path import Path, Step
from contextcache.rules.builtin import BUILT_IN
from contextcache.rules.rule import Verb
from contextcache.rules.secret_shapes import verdict_on

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contextcache.rules.rule import Verdict
    from contextcache.rules.secret_shapes import Shape

MAX_DEPTH = 200  # levels that are kept; each path is as long
MAX_FINDINGS = 1000  # of one payload that are listed

NAME = "name"  # the kind of a class or function that is stored by its name
CONTAINERS = frozenset({"dict", "list", "tuple", "set", "frozenset"})

_CUTS = (Verb.STRIP, Verb.SNAPSHOT, Verb.REFUSE)

OFFENDERS = {
    name: rule
    for name, rule in BUILT_IN.items()
    if rule.verb in _CUTS and rule.when is None and not rule.behind
}
"""The types that do not belong in a payload, by their names."""


class Node:
    """One object in a payload, with what is kept of what is stored below it.

    Attributes:
        kind: Qualified name of its type, as far as the payload says.
        size: The bytes it takes, with what is below it.
        steps: The steps that lead here from the node above; none for the value itself.
        above: The node that holds it; None for the value itself.
        parts: What it holds, in the order in which it is stored.
        entries: How many things it holds, including those that are too small for a node.
        entry_kind: The kind of all of them; empty where they differ.
        same_as: The node stored earlier that this one refers to, if it is a mere reference.
        findings: What is wrong with it.
        stripped: Code and time, where contextcache left a marker.
        secret: The shape of the secret that it holds, where texts are searched.
    """

    __slots__ = (
        "above",
        "entries",
        "entry_kind",
        "findings",
        "first",
        "kind",
        "memo_index",
        "parts",
        "same_as",
        "secret",
        "size",
        "steps",
        "stripped",
    )

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.size = self.entries = 0
        self.entry_kind = ""
        self.steps: tuple[Step, ...] = ()
        self.above: Node | None = None
        self.parts: list[Node] = []
        self.same_as: Node | None = None
        self.findings: tuple[Finding, ...] = ()
        self.stripped: tuple[str, str] | None = None
        self.secret: Shape | None = None
        self.first: tuple[Any, ...] = ()  # items of a tuple, which may be arguments or a key
        self.memo_index = -1

    def hold(self, steps: tuple[Step, ...], node: Node) -> None:
        """Put `node` below this one."""
        self.parts.append(node)
        node.steps, node.above = steps, self

    def path(self, root: str) -> Path:
        """Return the path of this node below `root`."""
        steps: list[Step] = []
        node: Node | None = self
        while node is not None:
            steps += reversed(node.steps)
            node = node.above
        return Path(root, tuple(reversed(steps)))

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, in the order of the payload."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(reversed(node.parts))


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """A class or function on the stack.

    Attributes:
        module: Its module.
        qualname: Its qualified name there.
    """

    module: str
    qualname: str

    def __str__(self) -> str:
        return self.qualname if self.module == "builtins" else f"{self.module}.{self.qualname}"


def kind_of(found: object) -> str:
    """Return the qualified name of the type of something on the stack."""
    if isinstance(found, (Node, Opaque)):
        return found.kind
    if found is None:
        return "None"
    return NAME if type(found) is Name else type(found).__name__


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector from looking through a million parts again and again.

    None of them is garbage, and looking takes longer than making them.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def prune(root: Node) -> int:
    """Cut off what nests too deep, and return how many nodes that were."""
    omitted, level = 0, [root]
    for _ in range(MAX_DEPTH):
        level = [below for node in level for below in node.parts]
    for node in level:
        omitted += sum(1 for _ in node.walk()) - 1
        node.parts = []
    return omitted


def place(root: Node, findings: Iterable[Finding]) -> None:
    """Attach each finding to its node below `root`; what was not stored gets one of no bytes."""
    known: dict[int, dict[Step, Node]] = {}
    for finding in findings:
        node, steps = root, finding.path.steps
        while steps:
            if id(node) not in known:
                known[id(node)] = {below.steps[0]: below for below in node.parts if below.steps}
            below = known[id(node)].get(steps[0])
            if below is None:
                break
            node, steps = below, steps[1:]
        if steps:
            missing = Node(finding.leaf_type)
            node.hold(steps, missing)
            node = missing
        if finding.action is not Action.REFUSED:
            node.kind = finding.leaf_type
        node.findings = (*node.findings, finding)


def offenders(root: Node, at: Path) -> tuple[list[Finding], int]:
    """Find what a payload tells by itself: markers, secrets, types that do not belong in it.

    Args:
        root: The nodes of the payload.
        at: Its path.

    Returns:
        The findings, at most `MAX_FINDINGS`, and how many more there are.
    """
    found: list[Finding] = []
    more = 0
    for node in root.walk():
        rule = OFFENDERS.get(node.kind)
        if node.stripped is None and node.secret is None and rule is None:
            continue
        if len(found) == MAX_FINDINGS:
            more += 1
        elif node.stripped is not None:
            found.append(_marker(node, at, *node.stripped))
        elif node.secret is not None:
            found.append(_stored(node, at, verdict_on(node.secret)))
        elif rule is not None:
            found.append(_stored(node, at, rule))
    return found, more


def _marker(node: Node, at: Path, code: str, when: str) -> Finding:
    return Finding(
        code=code if code in CODES else "CC117",
        path=dataclasses.replace(at, steps=node.path("").steps),
        leaf_type=node.kind,
        owner_type=_owner(node),
        action=Action.STRIPPED,
        reason=CODES.get(code, CODES["CC117"]),
        did=f"a marker stands here since {when}" if when else "a marker stands here",
        fix="store the value again once the code that writes it is mended",
    )


def _stored(node: Node, at: Path, rule: Verdict) -> Finding:
    return Finding(
        code=rule.code,
        path=dataclasses.replace(at, steps=node.path("").steps),
        leaf_type=node.kind,
        owner_type=_owner(node),
        action=Action.OBSERVED,
        reason=rule.reason or CODES[rule.code],
        did="it is stored here",
        fix=rule.fix,
    )


def _owner(node: Node) -> str:
    above = node.above
    return above.kind if above is not None and above.kind not in CONTAINERS else ""
