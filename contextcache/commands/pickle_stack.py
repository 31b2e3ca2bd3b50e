"""The stack and the memo of a pickle machine, with nodes instead of objects."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from contextcache.commands.nodes import OFFENDERS, Name, Node, kind_of
from contextcache.commands.opcodes import DamagedPickleError, Opaque
from contextcache.findings.path import Step, StepKind, item

if TYPE_CHECKING:
    from contextcache.rules.secret_shapes import Shape

MAX_NODES = 200_000  # that are kept at any time
MAX_NAMES = 10_000  # different names that are kept


class Stack:
    """The stack and the memo of a pickle machine, with nodes instead of objects."""

    def __init__(self, smallest: int, wanted: frozenset[object]) -> None:
        self.root: Node | None = None
        self.names: set[str] = set()
        self.computed = self.calls = False
        self.omitted = self.omitted_names = 0
        self.at = 0
        self._smallest = smallest
        self._wanted = wanted
        self._room = MAX_NODES
        self._protocol = 0
        self._stack: list[Any] = []
        self._starts = array("Q")  # where each of them starts
        self._marks = array("Q")  # heights of the stack
        self._mark_starts = array("Q")
        self._memo: list[Any] = []
        self._far_memo: dict[int, Any] = {}  # where indices do not count from 0
        self._globals: dict[tuple[str, str], Name] = {}
        self._opaque: dict[str, Opaque] = {}

    def _push(self, found: Any, start: int) -> None:
        self._stack.append(found)
        self._starts.append(start)

    def _pop(self) -> tuple[Any, int]:
        """Return what is on top, and where it starts."""
        if self._marks and self._marks[-1] >= len(self._stack):
            raise DamagedPickleError("nothing above the mark")
        return self._stack.pop(), self._starts.pop()

    def _pop_marked(self) -> tuple[list[Any], array[int], int]:
        """Return what is above the mark, their bounds, and where the mark stands."""
        height, start = self._marks.pop(), self._mark_starts.pop()
        found, bounds = self._stack[height:], self._starts[height:]
        del self._stack[height:], self._starts[height:]
        bounds.append(self.at)
        bounds[0] = start  # the mark counts for what follows it
        return found, bounds, start

    def _pop_some(self, number: int) -> tuple[list[Any], array[int]]:
        height = len(self._stack) - number
        if height < (self._marks[-1] if self._marks else 0):
            raise DamagedPickleError("too little above the mark")
        found, bounds = self._stack[height:], self._starts[height:]
        del self._stack[height:], self._starts[height:]
        bounds.append(self.at)
        return found, bounds

    def _mark(self, _: None) -> None:
        self._marks.append(len(self._stack))
        self._mark_starts.append(self.at)

    def _pop_one(self, _: None) -> None:
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
            self._mark_starts.pop()
        else:
            self._pop()

    def _pop_mark(self, _: None) -> None:
        self._pop_marked()

    def _dup(self, _: None) -> None:
        self._refer(self._stack[-1])

    # --- The memo ---------------------------------------------------------------------------------

    def _memoize(self, _: None) -> None:
        self._put(len(self._memo) + len(self._far_memo))

    def _put(self, index: int) -> None:
        found = self._stack[-1]
        if index < 0:
            raise DamagedPickleError("a negative index")
        if index < len(self._memo):
            self._memo[index] = found
        elif index == len(self._memo) and not self._far_memo:
            self._memo.append(found)
        else:
            self._far_memo[index] = found
            return
        if type(found) is Node:
            found.memo_index = index

    def _get(self, index: int) -> None:
        self._refer(self._memo[index] if 0 <= index < len(self._memo) else self._far_memo[index])

    def _refer(self, target: Any) -> None:
        if type(target) is Node:
            reference = self._new(target.kind)
            if type(reference) is Node:
                reference.same_as = target.same_as or target
            target = reference
        self._push(target, self.at)

    # --- Nodes ------------------------------------------------------------------------------------

    def _new(self, kind: str) -> Node | Opaque:
        if self._room:
            self._room -= 1
            return Node(kind)
        return self._kept_opaque(kind)

    def new_secret(self, text: object, shape: Shape) -> Node | Opaque:
        """Return what stands for a text that has the shape of a secret."""
        node = self._new(kind_of(text))
        if type(node) is Node:
            node.secret = shape
        return node

    def _kept_opaque(self, kind: str) -> Opaque:
        found = self._opaque.get(kind)
        if found is None:
            found = Opaque(kind)
            if len(self._opaque) < MAX_NAMES:
                self._opaque[kind] = found
        return found

    def _drop(self, node: Node) -> None:
        """Forget a node that its holder counts; the memo keeps its kind only."""
        self._room += 1
        index = node.memo_index
        if 0 <= index < len(self._memo) and self._memo[index] is node:
            self._memo[index] = self._kept_opaque(node.kind)

    def _add(self, holder: Any, kind: StepKind, key: Any, found: Any, size: int) -> None:
        """Put something of `size` bytes into `holder`, under a key or at a position."""
        is_node = type(found) is Node
        if type(holder) is Node:
            entry_kind = found.kind if is_node else kind_of(found)
            position = holder.entries
            if not position:
                holder.entry_kind = entry_kind
            elif holder.entry_kind != entry_kind:
                holder.entry_kind = ""
            holder.entries = position + 1
            if holder.same_as is None and (
                size >= self._smallest
                or (is_node and (found.parts or found.stripped or found.secret))
                or entry_kind in OFFENDERS
                or (key is not None and key in self._wanted)
            ):
                node = found if is_node else self._new(entry_kind)
                if type(node) is Node:
                    node.size = size
                    holder.hold((_step(kind, key, position),), node)
                    return
                self.omitted += 1
        elif size >= self._smallest:
            self.omitted += 1
        if is_node:
            self._drop(found)


def _step(kind: StepKind, key: Any, position: int) -> Step:
    if kind is StepKind.ITEM:
        return item(key, position)
    return Step(kind, None if kind is StepKind.STATE else position)
