"""A pickle machine that makes nodes instead of objects, and so is safe for any bytes."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Any

from contextcache.base.masking import one_line
from contextcache.commands.nodes import Name, Node, kind_of
from contextcache.commands.opcodes import (
    PUSHES_DATA,
    DamagedPickleError,
    Opaque,
)
from contextcache.commands.pickle_containers import PLAIN_KINDS, Containers
from contextcache.commands.pickle_stack import MAX_NAMES
from contextcache.findings.path import Step, StepKind, attribute
from contextcache.payload.dangerous import runs_code
from contextcache.payload.verifier import modern_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL_ARGUMENT = 256  # bytes below which an argument of a constructor is not worth a line
PROGRESS_STEP = 65536  # instructions between two reports of progress

_STRIPPED = "contextcache.payload.wire.Stripped"
_DICT = attribute("__dict__")
# Their first argument names the class that is made.
_FACTORIES = frozenset({
    "copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__",
    "django.db.models.base.model_unpickle",
})  # fmt: skip
_WAYS_OUT = frozenset({
    "__base__", "__bases__", "__builtins__", "__class__", "__code__", "__dict__", "__func__",
    "__getattribute__", "__globals__", "__import__", "__loader__", "__mro__", "__self__",
    "__subclasses__",
})  # fmt: skip
"""Attributes that lead from an object to everything, and are no methods of data."""

_NO_ARGUMENTS = PLAIN_KINDS - {"tuple"}


class Machine(Containers):
    """A pickle machine that makes nodes instead of objects."""

    def run(
        self,
        steps: Iterator[tuple[int, Any, int]],
        size: int,
        progress: Callable[[float], None] | None,
    ) -> None:
        """Execute instructions; afterwards `at` is their end, or where they are damaged."""
        handlers = {code: getattr(self, f"_{name}") for code, name in _HANDLERS.items()}
        handlers |= dict.fromkeys(PUSHES_DATA)
        push, start = self._stack.append, self._starts.append
        for number, (opcode, argument, at) in enumerate(steps):
            self.at = at
            handler = handlers[opcode]
            if handler is None:  # plain data
                push(argument)
                start(at)
            else:
                handler(argument)
            if progress is not None and number % PROGRESS_STEP == 0:
                progress(at / size)
        self.at += 1
        self._result()

    def _skip(self, _: None) -> None:
        """Do nothing, as for frames and for what makes a buffer read-only."""

    def _result(self) -> None:
        found, _ = self._pop()
        if not isinstance(found, Node):
            found = Node(kind_of(found))
        self.root = found

    def _protocol_is(self, number: int) -> None:
        if number > 5:
            raise DamagedPickleError("an unknown protocol")
        self._protocol = number

    # --- Names and objects ------------------------------------------------------------------------

    def _global(self, argument: tuple[Any, Any]) -> None:
        self._push(self._name(*argument), self.at)

    def _stack_global(self, _: None) -> None:
        (module, name), bounds = self._pop_some(2)
        self._push(self._name(module, name), bounds[0])

    def _name(self, module: Any, name: Any) -> Name:
        if type(module) is not str or type(name) is not str:
            self.computed = True
            return Name("builtins", "?")
        if self._protocol < 3:  # then names of Python 2 are translated, as the unpickler does
            module, name = modern_name(module, name)
        found = self._globals.get((module, name))
        if found is None:
            found = self._globals[module, name] = Name(one_line(module), one_line(name))
            text = f"{found.module}:{found.qualname}"
            if len(self.names) < MAX_NAMES or runs_code(text):
                self.names.add(text)
            else:
                del self._globals[module, name]
                self.omitted_names += 1
        return found

    def _extension(self, code: int) -> None:
        # A code that is not registered here may be where the application runs.
        known = copyreg._inverted_registry.get(code, (None, None))  # type: ignore[attr-defined]
        self._push(self._name(*known), self.at)

    def _persistent(self, _: bytes) -> None:
        self._push(Opaque("persistent"), self.at)

    def _persistent_marked(self, _: None) -> None:
        _found, start = self._pop()
        self._push(Opaque("persistent"), start)

    def _instance(self, argument: tuple[Any, Any]) -> None:
        function = self._name(*argument)
        found, bounds, start = self._pop_marked()
        arguments, _start = self._collected("tuple", found, bounds, start)
        self._push(self._build(function, arguments), start)

    def _object(self, _: None) -> None:
        [function, *found], bounds, start = self._pop_marked()
        arguments, _start = self._collected("tuple", found, bounds[1:], start)
        self._push(self._build(function, arguments), start)

    def _reduce(self, _: None) -> None:
        (function, arguments), bounds = self._pop_some(2)
        self._push(self._build(function, arguments), bounds[0])

    def _new_with_options(self, _: None) -> None:
        (function, arguments, options), bounds = self._pop_some(3)
        made = self._build(function, arguments)
        self._add(made, StepKind.ARGUMENT, None, options, bounds[3] - bounds[2])
        self._push(made, bounds[0])

    def _build(self, function: Any, arguments: Any) -> Any:
        """Return what calling `function` makes."""
        name = str(function) if type(function) is Name else kind_of(function)
        if (name in PLAIN_KINDS and type(function) is not Name) or kind_of(
            arguments
        ) in _NO_ARGUMENTS:
            raise DamagedPickleError(f"a {name} is not called")
        self.calls = self.calls or bool(self.names) or self.computed
        first: tuple[Any, ...] = arguments.first if type(arguments) is Node else ()
        if type(function) is not Name:
            first = ()  # what a call has returned says nothing about its arguments
        if name in _FACTORIES and first:
            words = first[0].first if type(first[0]) is Node else ()
            name = ".".join(map(_word, words or first[:1]))
        if name == "_operator.getitem" and first[1:] == (0,) and _is_one_tuple(first[0]):
            return first[0].first[0]  # how contextcache stores one object in place of another
        if name == "getattr" and len(first) >= 2:
            self._look_up(*first[:2])
        made = self._new(name)
        if type(made) is Node:
            if name == _STRIPPED and arguments.entries == len(first) == 4:
                code, made.kind, _, when = map(_word, first)
                made.stripped = (code, when)
            if type(arguments) is Node:
                self._take_over(made, arguments, StepKind.ARGUMENT)
        if type(arguments) is Node:
            self._drop(arguments)
        return made

    def _look_up(self, holder: Any, attribute_name: Any) -> None:
        """Note what `getattr` finds, as pickle uses it for methods: of an object, or of a class."""
        if type(attribute_name) is not str or attribute_name in _WAYS_OUT:
            self.computed = True
        elif type(holder) is Name:
            self._name(holder.module, f"{holder.qualname}.{attribute_name}")

    def _take_over(self, made: Node, holder: Node, kind: StepKind) -> None:
        """Make the parts of `holder`, which pickling made, parts of the object it is for."""
        made.entries += holder.entries
        for node in holder.parts:
            [step] = node.steps
            if kind is StepKind.ARGUMENT:
                is_small = node.size < SMALL_ARGUMENT and node.kind in PLAIN_KINDS
                if is_small and not any(below.secret for below in node.walk()):
                    continue
                step = Step(kind, step.name)
            elif step.kind is StepKind.ITEM and type(step.name) is str:
                step = attribute(step.name)
            made.hold((step,), node)

    def _set_state(self, _: None) -> None:
        (state,), bounds = self._pop_some(1)
        made = self._stack[-1]
        self.calls = self.calls or bool(self.names) or self.computed
        states = [state]
        if (
            type(state) is Node
            and kind_of(state) == "tuple"
            and state.entries == len(state.first) == 2
        ):
            states = list(state.first)  # attributes, and those in slots
        if type(made) is not Node or any(kind_of(one) not in ("dict", "None") for one in states):
            self._add(made, StepKind.STATE, None, state, bounds[1] - bounds[0])
            return
        if made.same_as is None:
            before = len(made.parts)  # a forged pickle may give state to one object very often
            for one in states:
                if type(one) is Node:
                    self._take_over(made, one, StepKind.ATTRIBUTE)
            given = made.parts[before:]
            made.parts[before:] = [node for node in given if node.steps != (_DICT,)]
            for node in given:
                if node.steps == (_DICT,):  # pydantic keeps its fields in a dict inside its state
                    self._take_over(made, node, StepKind.ATTRIBUTE)
        if type(state) is Node:
            self._drop(state)


def _word(found: object) -> str:
    """Return what a name or a word on the stack says, as it may be printed."""
    if type(found) is Name:
        return str(found)
    return one_line(found) if type(found) is str else kind_of(found)


def _is_one_tuple(found: Any) -> bool:
    return type(found) is Node and found.kind == "tuple" and found.entries == len(found.first) == 1


_HANDLERS = {
    ord("("): "mark", ord("0"): "pop_one", ord("1"): "pop_mark", ord("2"): "dup",
    ord("."): "skip", 0x80: "protocol_is", 0x95: "skip", 0x98: "skip",
    0x94: "memoize", ord("p"): "put", ord("q"): "put", ord("r"): "put",
    ord("g"): "get", ord("h"): "get", ord("j"): "get",
    ord("]"): "empty", ord("}"): "empty", ord(")"): "empty", 0x8F: "empty",
    ord("a"): "append", ord("e"): "append_marked", 0x90: "append_marked",
    ord("s"): "set_one", ord("u"): "set_marked", ord("d"): "dict",
    ord("l"): "collect", ord("t"): "collect", 0x91: "collect",
    0x85: "collect_some", 0x86: "collect_some", 0x87: "collect_some",
    ord("c"): "global", 0x93: "stack_global", 0x82: "extension", 0x83: "extension",
    0x84: "extension", ord("P"): "persistent", ord("Q"): "persistent_marked",
    ord("i"): "instance", ord("o"): "object", ord("R"): "reduce", 0x81: "reduce",
    0x92: "new_with_options", ord("b"): "set_state",
}  # fmt: skip
