"""Locating: from what the pickler saw to the exact path of each offender.

The walk follows what every object was reduced to during a careful dump, in pickle's own order,
so an owner that filters its state is followed where pickle went and nowhere else. A step gets
the name by which Python reaches the same object: the attribute that holds it, the item, the
index. Nothing here calls a property, `__eq__`, `__hash__`, `__repr__` or `__getattr__`.
"""

from __future__ import annotations

import time
from collections import deque
from types import BuiltinFunctionType, MethodType
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import attributes, instance_dict
from contextcache.engine.children import (
    ATOMS,
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
    from collections.abc import Callable

    from contextcache.engine.dump import Dump
    from contextcache.engine.hits import Hit

_PRIVATE = "__pydantic_private__"


class Place:
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
        parent: Place | None = None,
        step: Step | None = None,
        owner: Place | None = None,
    ) -> None:
        self.obj = obj
        self.parent = parent
        self.owner = owner
        self.private = False
        self._step = step
        self._position = -1

    @classmethod
    def under(cls, key: object, position: int, obj: object, parent: Place) -> Place:
        """Place `obj` under a key of a mapping; the key is worded only if it is asked for."""
        place = cls(obj, parent)
        place._key = key
        place._position = position
        return place

    @property
    def step(self) -> Step | None:
        """The step from the parent; None where it goes by the path of its parent."""
        if self._position >= 0:
            self._step, self._position = item(self._key, self._position), -1
        return self._step

    def chain(self) -> list[Place]:
        """Return the places from the value down to this one."""
        found = [self]
        while found[-1].parent is not None:
            found.append(found[-1].parent)
        return found[::-1]

    def path(self, root: str) -> Path:
        """Return the path of this place under `root`."""
        steps: list[Step] = []
        for place in self.chain():
            if place.private:  # the path ends at the object whose private matter it is
                break
            if place.step is not None:
                steps.append(place.step)
        return Path(root, tuple(steps))

    @property
    def holder(self) -> Place | None:
        """The nearest object above that is no builtin container; None at the top."""
        place = self.parent
        while place is not None and (place.owner or id(type(place.obj)) in CONTAINERS):
            place = place.parent
        return place


class Search:
    """The places of the offenders of one dump.

    Args:
        value: The value that was dumped.
        dump: The careful dump of it, with what it captured.
        seconds: How long the search may take.
        nodes: How many objects it may look at.
        is_wanted: Returns whether the place of a text is wanted, too; without it, texts are left
            out of the walk.

    Attributes:
        found: The place of each offender, by its id.
        texts: The places of the texts that are wanted, each at its first place.
    """

    def __init__(
        self,
        value: object,
        dump: Dump,
        *,
        seconds: float,
        nodes: int,
        is_wanted: Callable[[Any], bool] | None = None,
    ) -> None:
        self.found: dict[int, Place] = {}
        self.texts: list[Place] = []
        self._is_wanted = is_wanted
        self._skipped = ATOMS if is_wanted is None else ATOMS - TEXTS
        self._captured = dump.captured or {}
        self._behind = dump.replacement_by_id
        self._proxies = {id(hit.leaf) for hit in dump.hits if hit.rule.is_proxy}
        self._names: dict[int, dict[int, Step]] = {}
        self._inner: dict[int, dict[int, tuple[object, Step, Step]]] = {}
        self._kept: list[object] = []  # made while walking: an id must stay taken
        left_out = [hit for hit in dump.hits if hit.holder is not None]
        wanted = {id(hit.leaf) for hit in dump.hits if hit.holder is None}
        wanted.update(id(hit.holder) for hit in left_out)
        self._walk(Place(value), wanted, time.perf_counter() + seconds, nodes)
        for hit in left_out:
            place = self._below(hit)
            if place is not None:
                self.found[id(hit.leaf)] = place

    def is_behind_proxy(self, place: Place) -> bool:
        """Return True if a proxy leads to `place`: it may lead elsewhere next time."""
        return any(id(above.obj) in self._proxies for above in place.chain()[:-1])

    def count_ways(self, value: object, wanted: set[int], *, nodes: int) -> dict[int, int]:
        """Count how often what holds them leads to objects.

        Args:
            value: The value that was dumped.
            wanted: The ids of the objects.
            nodes: How many steps it may take.
        """
        counts = dict.fromkeys(wanted, 0)
        seen: set[int] = set()
        stack = [Place(value)]
        while stack and nodes:
            nodes -= 1
            place = stack.pop()
            key = id(place.obj)
            if key in counts:
                counts[key] += 1
            if key not in seen:
                seen.add(key)
                stack.extend(self._children(place))
        return counts

    def _walk(self, start: Place, wanted: set[int], deadline: float, nodes: int) -> None:
        seen: set[int] = set()
        stack = [start]
        while stack and (self._is_wanted or len(self.found) < len(wanted)):
            place = stack.pop()
            key = id(place.obj)
            if key in seen:
                continue
            seen.add(key)
            if key in wanted:
                self.found[key] = place
            if self._is_wanted and id(type(place.obj)) in TEXTS and self._is_wanted(place.obj):
                self.texts.append(place)
            if len(seen) > nodes or (len(seen) % 256 == 0 and time.perf_counter() > deadline):
                return  # what is not found by now is reported at the value itself
            stack.extend(reversed(self._children(place)))

    def _children(self, place: Place) -> list[Place]:
        """Return what pickle stored for `place`, in the order in which it stored it."""
        obj = place.obj
        if id(obj) in self._behind:
            return [Place(self._behind[id(obj)], place)]
        if id(type(obj)) in CONTAINERS:
            if place.owner is None and id(type(obj)) in MAPPINGS:
                return self._values(obj, place)
            return [
                self._placed(child, step, place)
                for step, child in iter_items(obj)
                if id(type(child)) not in self._skipped
            ]
        captured = self._captured.get(id(obj))
        if captured is None:
            return []
        parts = self._parts(place, captured[1])
        related = relations(obj)
        if related or hides_attributes(type(obj)):
            for part in parts:
                part.private = part.owner is not None or hides_attributes(type(obj))
        return [_related(steps, child, place) for steps, child in related] + parts

    def _values(self, obj: dict[Any, Any], place: Place) -> list[Place]:
        """Place what may matter of a dict, the keys that are objects included."""
        found = []
        for index, (key, child) in enumerate(list(obj.items())):
            if id(type(key)) not in self._skipped:
                found.append(Place(key, place, Step(StepKind.KEY, index)))
            if id(type(child)) not in self._skipped:
                found.append(Place.under(key, index, child, place))
        return found

    def _parts(self, place: Place, reduced: tuple[Any, ...]) -> list[Place]:
        obj = place.obj
        function, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        found: list[Place] = []
        if getattr(function, "__name__", "") == "unpickle_lazyobject" and len(arguments) == 1:
            return [Place(arguments[0], place)]  # of Django: attributes are those of what is behind
        if not is_stored_by_name(function):
            found.append(self._part(function, Step(StepKind.FUNCTION, None), place))
        for index, argument in enumerate(arguments):
            if id(type(argument)) not in self._skipped and argument is not type(obj):
                step = _argument_step(obj, index)
                found.append(self._part(argument, step, place))
        for index, child in enumerate(items or ()):
            if id(type(child)) not in self._skipped:
                found.append(self._item(child, index, place))
        for index, (key, child) in enumerate(pairs or ()):
            if id(type(key)) not in self._skipped:
                found.append(Place(key, place, Step(StepKind.KEY, index)))
            found.append(Place.under(key, index, child, place))
        if state is not None:
            if type(state) is dict and state is instance_dict(obj) and _PRIVATE not in state:
                found += [
                    Place(child, place, attribute(name))
                    for name, child in list(state.items())
                    if id(type(child)) not in self._skipped
                ]
            else:
                found.append(self._part(state, Step(StepKind.STATE, None), place))
        return found

    def _placed(self, child: object, step: Step, place: Place) -> Place:
        """Place an item of a container; of one that pickling made, by the name its owner has."""
        if place.owner is None:
            return Place(child, place, step)
        name = self._name(place.owner, child, step.name)
        if name is not None:
            named = Place(child, place.owner, name)
            named.private = hides_attributes(type(place.owner.obj))
            return named
        return Place(child, place, step, place.owner if id(type(child)) in CONTAINERS else None)

    def _part(self, part: object, step: Step, place: Place) -> Place:
        """Place a part of a reduce value, by the attribute that holds it if one does."""
        if id(type(part)) in TEXTS and issubclass(type(place.obj), type(part)):
            return Place(part, place)  # of a subclass, such as Django's SafeString
        name = self._name(place, part)
        if name is not None:
            return Place(part, place, name)
        if step.kind is StepKind.ARGUMENT and id(type(part)) not in CONTAINERS:
            within = self._within(place, part)
            if within is not None:
                return within
        return Place(part, place, step, place if id(type(part)) in CONTAINERS else None)

    def _item(self, child: object, index: int, place: Place) -> Place:
        """Place an item with which an object is filled on load; not every such object has items."""
        step = Step(StepKind.ITEM, index)
        if _is_item(place.obj, index, child):
            return Place(child, place, step)
        name = self._name(place, child)
        if name is not None:
            return Place(child, place, name)
        return self._within(place, child) or Place(child, place, step)

    def _within(self, owner: Place, child: object) -> Place | None:
        """Place `child` in a container that `owner` holds, such as the `args` of an exception."""
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
        return Place(child, Place(held, owner, step), below)

    def _name(self, owner: Place, child: object, preferred: object = None) -> Step | None:
        """Return the step by which `owner` itself leads to `child`, or None."""
        if id(type(child)) in self._skipped:
            return None
        names = self._names.get(id(owner.obj))
        if names is None:
            names = self._names[id(owner.obj)] = {}
            for step, held in iter_children(owner.obj):
                self._kept.append(held)
                names.setdefault(id(held), step)
        if isinstance(preferred, str) and attributes(owner.obj).get(preferred) is child:
            return attribute(preferred)
        return names.get(id(child))

    def _below(self, hit: Hit) -> Place | None:
        """Find an offender that was left out of what its holder was reduced to."""
        top = self.found.get(id(hit.holder))
        if top is None:
            return None
        if hit.name:
            return Place(hit.leaf, top, attribute(hit.name))
        queue = deque([top])
        seen: set[int] = set()
        while queue and len(seen) < 1000:
            place = queue.popleft()
            for step, child in iter_children(place.obj):
                below = Place(child, place, step)
                if child is hit.leaf:
                    return below
                if id(child) not in seen and id(type(child)) not in ATOMS:
                    seen.add(id(child))
                    queue.append(below)
        return None


def _related(steps: tuple[Step, ...], child: object, place: Place) -> Place:
    for step in steps[:-1]:
        place = Place(child, place, step)
    return Place(child, place, steps[-1] if steps else None)


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
