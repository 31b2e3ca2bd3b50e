"""The containers that a pickle machine makes and fills, with nodes instead of objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.commands.nodes import CONTAINERS, Node, kind_of
from contextcache.commands.opcodes import DamagedPickleError
from contextcache.commands.pickle_stack import Stack
from contextcache.findings.path import Step, StepKind

if TYPE_CHECKING:
    from array import array

MAX_FIRST = 4  # items of a tuple that are kept, because it may hold arguments or be a key

PLAIN_KINDS = frozenset({"str", "int", "bool", "None", "float", "bytes", "bytearray", *CONTAINERS})
_APPENDABLE = ("list", "set", "bytearray")
_SETTABLE = ("dict", "list", "bytearray")


class Containers(Stack):
    """What a pickle does with lists, tuples, dicts and sets."""

    def _empty(self, kind: str) -> None:
        self._stack.append(self._new(kind))
        self._starts.append(self.at)

    def _append(self, _: None) -> None:
        stack, marks = self._stack, self._marks
        if marks and marks[-1] >= len(stack):
            raise DamagedPickleError("nothing above the mark")
        found, start = stack.pop(), self._starts.pop()
        holder = stack[-1]
        if type(holder) is not Node or holder.kind != "list":
            self._holder(_APPENDABLE, [found])
        position = holder.entries if type(holder) is Node else 0
        self._add(holder, StepKind.ITEM, position, found, self.at - start)

    def _append_marked(self, _: None) -> None:
        found, bounds, _start = self._pop_marked()
        self._fill(self._holder(_APPENDABLE, found), found, bounds)

    def _set_one(self, _: None) -> None:
        found, bounds = self._pop_some(2)
        self._set(self._holder(_SETTABLE, found), found, bounds)

    def _set_marked(self, _: None) -> None:
        found, bounds, _start = self._pop_marked()
        self._set(self._holder(_SETTABLE, found), found, bounds)

    def _dict(self, _: None) -> None:
        found, bounds, start = self._pop_marked()
        self._push(self._new("dict"), start)
        self._set(self._stack[-1], found, bounds)

    def _collect(self, kind: str) -> None:
        self._push(*self._collected(kind, *self._pop_marked()))

    def _collect_some(self, number: int) -> None:
        found, bounds = self._pop_some(number)
        self._push(*self._collected("tuple", found, bounds, bounds[0]))

    def _collected(self, kind: str, found: list[Any], bounds: array[int], start: int) -> Any:
        made = self._new(kind)
        if type(made) is Node and kind == "tuple":
            made.first = tuple(found[:MAX_FIRST])
        self._fill(made, found, bounds)
        return made, start

    def _fill(self, holder: Any, found: list[Any], bounds: array[int]) -> None:
        kind = kind_of(holder)
        if kind in ("set", "frozenset"):
            for at, one in enumerate(found):
                self._add(holder, StepKind.ELEMENT, None, one, bounds[at + 1] - bounds[at])
            return
        before = holder.entries if type(holder) is Node else 0
        for at, one in enumerate(found):
            size = bounds[at + 1] - bounds[at]
            self._add(holder, StepKind.ITEM, before + at, one, size)

    def _set(self, holder: Any, found: list[Any], bounds: array[int]) -> None:
        if len(found) % 2:
            raise DamagedPickleError("a key without a value")
        for at in range(0, len(found), 2):
            key = found[at]
            if type(key) is Node:
                if key.secret is not None and type(holder) is Node:
                    holder.hold((Step(StepKind.KEY, holder.entries),), key)
                else:
                    self._drop(key)
                key = _key_of(key)
            self._add(holder, StepKind.ITEM, key, found[at + 1], bounds[at + 2] - bounds[at])

    def _holder(self, kinds: tuple[str, ...], found: list[Any]) -> Any:
        """Return what is on top, of which it is not certain that it cannot hold `found`."""
        holder = self._stack[-1]
        kind = kind_of(holder)
        if found and kind in PLAIN_KINDS and kind not in kinds:
            raise DamagedPickleError(f"nothing is put into {kind}")
        return holder


def _key_of(node: Node) -> object:
    """Return a tuple as it may stand in a path; the node if it is none, or holds no plain data."""
    parts = node.first
    if node.kind != "tuple" or len(parts) != node.entries:
        return node
    plain = all(one is None or type(one) in (str, int, bool) for one in parts)
    return parts if plain else node
