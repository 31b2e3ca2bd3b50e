"""What a pickler saw as a tree, with the names by which Python reaches the same objects.

A step gets the name of the attribute that holds an object, the key or the index. Nothing here calls
a property, `__eq__`, `__hash__`, `__repr__` or `__getattr__`.
"""

from __future__ import annotations

from collections import deque
from types import BuiltinFunctionType, MethodType
from typing import TYPE_CHECKING, Any

from contextcache.base.classes import is_ordinary
from contextcache.base.introspection import attributes, instance_dict
from contextcache.engine.children import (
    CONTAINERS,
    MAPPINGS,
    TEXTS,
    is_stored_by_name,
    iter_children,
    iter_items,
)
from contextcache.engine.relations import hides_attributes, relations
from contextcache.findings.path import Path, Step, StepKind, attribute, item

if TYPE_CHECKING:
    from contextcache.engine.dump import Dump

_PRIVATE = "__pydantic_private__"


class Node:
    """An object in the walk, and how it was reached.

    Attributes:
        obj: The object.
        parent: Where it was reached from; None for the value itself.
        owner: The object that pickling made this one for, such as the state of an instance;
            None for what the value really holds.
        private: Whether no path leads here from the parent that a developer would use.
    """

    __slots__ = ("_key", "_position", "_step", "obj", "owner", "parent", "private")

    _key: object

    def __init__(
        self,
        obj: Any,
        parent: Node | None = None,
        step: Step | None = None,
        owner: Node | None = None,
    ) -> None:
        self.obj = obj
        self.parent = parent
        self.owner = owner
        self.private = False
        self._step = step
        self._position = -1

    @classmethod
    def under(cls, key: object, position: int, obj: object, parent: Node) -> Node:
        """Return the node of `obj` under a key of a mapping; its step is made when it is needed."""
        node = cls(obj, parent)
        node._key = key
        node._position = position
        return node

    @property
    def step(self) -> Step | None:
        """The step from the parent; None where it goes by the path of its parent."""
        if self._position >= 0:
            self._step, self._position = item(self._key, self._position), -1
        return self._step

    def chain(self) -> list[Node]:
        """Return the nodes from the value down to this one."""
        found = [self]
        while found[-1].parent is not None:
            found.append(found[-1].parent)
        return found[::-1]

    def path(self, root: str) -> Path:
        """Return the path of this node under `root`."""
        steps: list[Step] = []
        for node in self.chain():
            if node.private:  # the path ends at the object whose private matter it is
                break
            if node.step is not None:
                steps.append(node.step)
        return Path(root, tuple(steps))

    @property
    def holder(self) -> Node | None:
        """The nearest object above that is no builtin container; None at the top."""
        node = self.parent
        while node is not None and (node.owner or id(type(node.obj)) in CONTAINERS):
            node = node.parent
        return node


class HolderNames:
    """The steps by which objects themselves lead to what they hold, each object read once."""

    __slots__ = ("_inner", "_kept", "_steps")

    def __init__(self) -> None:
        self._steps: dict[int, dict[int, Step]] = {}
        self._inner: dict[int, dict[int, tuple[object, Step, Step]]] = {}
        self._kept: list[object] = []  # made while reading: an id must stay taken

    def step(self, owner: object, child: object, preferred: object = None) -> Step | None:
        """Return the step by which `owner` leads to `child`, or None.

        Args:
            owner: What may hold it.
            child: What is held.
            preferred: The name of an attribute that is taken before others.
        """
        steps = self._steps.get(id(owner))
        if steps is None:
            steps = self._steps[id(owner)] = {}
            for step, held in iter_children(owner):
                self._kept.append(held)
                steps.setdefault(id(held), step)
        if isinstance(preferred, str) and attributes(owner).get(preferred) is child:
            return attribute(preferred)
        return steps.get(id(child))

    def within(self, owner: Node, child: object) -> Node | None:
        """Return the node of `child` in a container of `owner`, such as the `args` of an error."""
        inner = self._inner.get(id(owner.obj))
        if inner is None:
            inner = self._inner[id(owner.obj)] = {}
            for step, held in iter_children(owner.obj):
                if id(type(held)) in CONTAINERS:
                    for below, own in iter_items(held):
                        inner.setdefault(id(own), (held, step, below))
        if id(child) not in inner:
            return None
        held, step, below = inner[id(child)]
        return Node(child, Node(held, owner, step), below)


class CapturedTree:
    """What a careful dump saw, as a tree: what pickle stored for each object.

    Args:
        dump: The dump.
        skipped: The ids of the types that are left out.
    """

    def __init__(self, dump: Dump, skipped: frozenset[int]) -> None:
        self._skipped = skipped
        self._captured = dump.captured or {}
        self._replacement_by_id = dump.replacement_by_id
        self._ordinary: dict[int, bool] = {}  # by the id of the class
        self._names = HolderNames()

    def children(self, node: Node) -> list[Node]:
        """Return what pickle stored for `node`, in the order in which it stored it."""
        obj = node.obj
        if id(obj) in self._replacement_by_id:
            return [Node(self._replacement_by_id[id(obj)], node)]
        if id(type(obj)) in CONTAINERS:
            if node.owner is None:
                return self._items(obj, node)
            return [
                self._node_of_item(child, step, node)
                for step, child in iter_items(obj)
                if id(type(child)) not in self._skipped
            ]
        captured = self._captured.get(id(obj))
        if captured is None:
            return []
        reduced = captured[1]
        if len(reduced) == 3 and self._is_ordinary(type(obj)) and reduced[2] is obj.__dict__:
            return self._attributes(reduced[2], node)
        parts = self._nodes_of_parts(node, reduced)
        related = relations(obj)
        if related or hides_attributes(type(obj)):
            for part in parts:
                part.private = part.owner is not None or hides_attributes(type(obj))
        return [_related(steps, child, node) for steps, child in related] + parts

    def _is_ordinary(self, cls: type) -> bool:
        known = self._ordinary.get(id(cls))
        if known is None:
            known = self._ordinary[id(cls)] = is_ordinary(cls)
        return known

    def _items(self, obj: Any, node: Node) -> list[Node]:
        """Return the nodes of what a container holds, the keys that are objects included."""
        if id(type(obj)) not in MAPPINGS:
            is_set = type(obj) is set or type(obj) is frozenset
            return [
                Node(child, node, Step(StepKind.ELEMENT, index))
                if is_set
                else Node.under(index, index, child, node)
                for index, child in enumerate(list(obj))
                if id(type(child)) not in self._skipped
            ]
        found = []
        for index, (key, child) in enumerate(list(obj.items())):
            if id(type(key)) not in self._skipped:
                found.append(Node(key, node, Step(StepKind.KEY, index)))
            if id(type(child)) not in self._skipped:
                found.append(Node.under(key, index, child, node))
        return found

    def _attributes(self, state: dict[str, object], node: Node) -> list[Node]:
        if self._skipped.issuperset(map(id, map(type, state.values()))):
            return []
        return [
            Node(child, node, attribute(name))
            for name, child in list(state.items())
            if id(type(child)) not in self._skipped
        ]

    def _nodes_of_parts(self, node: Node, reduced: tuple[Any, ...]) -> list[Node]:
        obj = node.obj
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        found: list[Node] = []
        if getattr(function, "__name__", "") == "unpickle_lazyobject" and len(arguments) == 1:
            return [Node(arguments[0], node)]  # of Django: attributes are those of what is behind
        if not is_stored_by_name(function):
            found.append(self._node_of_part(function, Step(StepKind.FUNCTION, None), node))
        for index, argument in enumerate(arguments):
            if id(type(argument)) not in self._skipped and argument is not type(obj):
                step = _argument_step(obj, index)
                found.append(self._node_of_part(argument, step, node))
        for index, child in enumerate(items or ()):
            if id(type(child)) not in self._skipped:
                found.append(self._item(child, index, node))
        for index, (key, child) in enumerate(pairs or ()):
            if id(type(key)) not in self._skipped:
                found.append(Node(key, node, Step(StepKind.KEY, index)))
            found.append(Node.under(key, index, child, node))
        if state is not None:
            if type(state) is dict and state is instance_dict(obj) and _PRIVATE not in state:
                found += self._attributes(state, node)
            else:
                found.append(self._node_of_part(state, Step(StepKind.STATE, None), node))
        return found

    def _node_of_item(self, child: object, step: Step, node: Node) -> Node:
        """Return the node of an item; in what pickling made, by the name its owner has for it."""
        if node.owner is None:
            return Node(child, node, step)
        name = self._name(node.owner, child, step.name)
        if name is not None:
            named = Node(child, node.owner, name)
            named.private = hides_attributes(type(node.owner.obj))
            return named
        return Node(child, node, step, node.owner if id(type(child)) in CONTAINERS else None)

    def _node_of_part(self, part: object, step: Step, node: Node) -> Node:
        """Return the node of a part of a reduce value, by the attribute that holds it, if any."""
        if id(type(part)) in TEXTS and issubclass(type(node.obj), type(part)):
            return Node(part, node)  # of a subclass, such as Django's SafeString
        name = self._name(node, part)
        if name is not None:
            return Node(part, node, name)
        if step.kind is StepKind.ARGUMENT:
            within = self._names.within(node, part)
            if within is not None:
                return within
        return Node(part, node, step, node if id(type(part)) in CONTAINERS else None)

    def _item(self, child: object, index: int, node: Node) -> Node:
        """Return the node of an item with which an object is filled on load; not each has items."""
        step = Step(StepKind.ITEM, index)
        if _is_item(node.obj, index, child):
            return Node(child, node, step)
        name = self._name(node, child)
        if name is not None:
            return Node(child, node, name)
        return self._names.within(node, child) or Node(child, node, step)

    def _name(self, owner: Node, child: object, preferred: object = None) -> Step | None:
        if id(type(child)) in self._skipped:
            return None
        return self._names.step(owner.obj, child, preferred)


def _related(steps: tuple[Step, ...], child: object, node: Node) -> Node:
    for step in steps[:-1]:
        node = Node(child, node, step)
    return Node(child, node, steps[-1] if steps else None)


def _is_item(obj: Any, index: int, child: object) -> bool:
    """Return True if `child` is what a list or deque has at `index`, whatever its class says."""
    for base in (list, deque):
        if issubclass(type(obj), base):
            return index < base.__len__(obj) and base.__getitem__(obj, index) is child
    return False


def _argument_step(obj: object, index: int) -> Step:
    if issubclass(type(obj), (MethodType, BuiltinFunctionType)) and index == 0:
        return attribute("__self__")
    return Step(StepKind.ARGUMENT, index)
