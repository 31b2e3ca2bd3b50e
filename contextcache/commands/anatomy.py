"""The anatomy of a payload: what is in it, where, and how many bytes each part takes.

A pickle is a program. This reads its opcodes without running it, so it is safe for any bytes,
and because every byte of the program is counted for exactly one part, the sizes add up to
the length of the payload. An object that is shared is counted where it is stored; where it
appears again stands a reference of a few bytes.
"""

from __future__ import annotations

import copyreg
import dataclasses
import pickletools
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from contextcache.exceptions import UnreadablePayloadError
from contextcache.findings import CODES, Action, Finding
from contextcache.paths import Path, Step, StepKind, attribute, item, one_line
from contextcache.rules import BUILT_IN, Verb

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from contextcache.rules import Rule

LONGEST_NAME = 200  # characters of a string that are kept, because it may be a key or a name
SMALL_ARGUMENT = 256  # bytes below which an argument of a constructor is not worth a line
LEAST_TWIN = 8  # bytes of data below which being stored twice is no waste
EVERY = 65536  # opcodes between two reports of progress

NAME = "name"  # the kind of a class or function that is stored by its name

CONTAINERS = frozenset({"dict", "list", "tuple", "set", "frozenset"})

MOST_COLUMNS = 64  # fields of the items of one container that are summed up

_STRIPPED = "contextcache.standins.Stripped"
_DICT = attribute("__dict__")
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # as protocol 2 spells them
_ATOMS = {
    opcode.name: {"int_or_bool": "int", "bytes_or_str": "str"}.get(after.name, after.name)
    for opcode in pickletools.opcodes
    for after in opcode.stack_after
    if not opcode.stack_before and after.name not in ("any", "mark", "dict", "list", "set", "tuple")
}
_DATA = frozenset(_ATOMS.values())

# Their first argument names the class that is made.
_FACTORIES = frozenset({
    "copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__",
    "django.db.models.base.model_unpickle",
})  # fmt: skip


class Part:
    """One object in a payload, with everything that is stored below it.

    Attributes:
        kind: Qualified name of its type, as far as the payload tells.
        size: The bytes it takes, with what is below it.
        steps: The steps that lead here from the part above; none for the value itself.
        above: The part that holds it; None for the value itself.
        parts: What it holds, in the order in which it is stored.
        entries: How many things it holds, those included that are too small for a part.
        same_as: The part stored earlier that this one refers to, where it is a mere reference.
        columns: What its items hold in all, by field, where it is a container.
        digest: Equal for equal data.
        findings: What is wrong with it.
        stripped: Code and time, where contextcache left a marker.
    """

    __slots__ = (
        "above",
        "columns",
        "digest",
        "entries",
        "findings",
        "items",
        "kind",
        "parts",
        "same_as",
        "size",
        "small",
        "steps",
        "stripped",
        "value",
    )

    def __init__(self, kind: str, value: object = None) -> None:
        self.kind = kind
        self.value = value  # of what may be a key or a name; no other value is kept
        self.size = 0
        self.items: tuple[Part, ...] = ()  # of a tuple: arguments are told apart by their place
        self.steps: tuple[Step, ...] = ()
        self.above: Part | None = None
        self.parts: list[Part] = []
        self.entries = 0
        self.same_as: Part | None = None
        self.small: dict[Step, int] = {}  # until it is summed up in the columns of its holder
        self.columns: dict[Step, int] = {}
        self.digest = hash((kind, value))
        self.findings: list[Finding] = []
        self.stripped: tuple[str, str] | None = None

    @property
    def is_atom(self) -> bool:
        """Whether it is plain data or a name, with nothing below it."""
        return self.kind in _DATA or self.kind == NAME

    def hold(self, steps: tuple[Step, ...], part: Part) -> None:
        """Put `part` below this one and count its bytes."""
        self.size += part.size
        self.entries += 1
        self.parts.append(part)
        part.steps, part.above = steps, self

    def path(self, root: str) -> Path:
        """Return the path of this part below `root`."""
        steps: list[Step] = []
        part: Part | None = self
        while part is not None:
            steps += reversed(part.steps)
            part = part.above
        return Path(root, tuple(reversed(steps)))

    def walk(self) -> Iterator[Part]:
        """Yield this part and all below it, in the order of the payload."""
        stack = [self]
        while stack:
            part = stack.pop()
            yield part
            stack.extend(reversed(part.parts))


@dataclasses.dataclass(frozen=True, slots=True)
class Anatomy:
    """What a payload holds.

    Args:
        root: The value, with everything below it.
        names: Everything that loading it would import, as `module:name`, sorted.
        computed: Whether it computes a name, which nothing but a forgery does.
    """

    root: Part
    names: tuple[str, ...]
    computed: bool


def read(
    payload: bytes,
    *,
    label: str = "value",
    smallest: int = 0,
    progress: Callable[[float], None] | None = None,
) -> Anatomy:
    """Read the parts of a pickle; nothing in it is run or imported.

    Args:
        payload: The pickle.
        label: What to call it in the error.
        smallest: Plain data of fewer bytes gets no part of its own and counts for its holder.
        progress: Called from time to time with the share that is done, from 0 to 1.

    Raises:
        UnreadablePayloadError: If it is no pickle, or a damaged one.
    """
    machine = _Machine(smallest)
    position = 0
    try:
        program: Iterator[tuple[Any, Any, Any]] = pickletools.genops(payload)
        ending = (None, None, len(payload))
        for number, (here, below) in enumerate(pairwise(chain(program, [ending]))):
            opcode, argument, position = here
            machine.take(opcode.name, argument, below[2] - position)
            if progress is not None and number % EVERY == 0:
                progress(position / len(payload))
        return Anatomy(machine.result(), tuple(sorted(machine.names)), machine.computed)
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        reason = f"it is no pickle, or one that is damaged from byte {position} on"
        raise UnreadablePayloadError(label, reason, "look for who writes it") from error


def place(root: Part, findings: list[Finding]) -> None:
    """Attach each finding to its part of `root`; what was not stored gets a part of no bytes."""
    known: dict[int, dict[Step, Part]] = {}
    for finding in findings:
        part, steps = root, finding.path.steps
        while steps:
            if id(part) not in known:
                known[id(part)] = {below.steps[0]: below for below in part.parts if below.steps}
            below = known[id(part)].get(steps[0])
            if below is None:
                break
            part, steps = below, steps[1:]
        if steps:
            missing = Part(finding.leaf_type)
            missing.steps, missing.above = steps, part
            part.parts.append(missing)
            part = missing
        if finding.action is not Action.REFUSED:
            part.kind = finding.leaf_type
        part.findings.append(finding)


def offenders(root: Part, at: Path) -> list[Finding]:
    """Find what a payload tells by its names alone: markers, and types that do not belong in it.

    Args:
        root: The parts of the payload.
        at: Its path.
    """
    found = []
    for part in root.walk():
        rule = None if part.is_atom else BUILT_IN.get(part.kind)
        if part.stripped is not None:
            found.append(_marker(part, at, *part.stripped))
        elif rule is not None and rule.verb in _CUTS and rule.when is None and not rule.behind:
            found.append(_stored(part, at, rule))
    return found


_CUTS = (Verb.STRIP, Verb.SNAPSHOT, Verb.REFUSE)


def _marker(part: Part, at: Path, code: str, when: str) -> Finding:
    return Finding(
        code=code if code in CODES else "CC117",
        path=dataclasses.replace(at, steps=part.path("").steps),
        leaf_type=part.kind,
        owner_type=_owner(part),
        action=Action.STRIPPED,
        reason=CODES.get(code, CODES["CC117"]),
        did=f"a marker stands here since {when}" if when else "a marker stands here",
        fix="store the value again once the code that writes it is mended",
    )


def _stored(part: Part, at: Path, rule: Rule) -> Finding:
    return Finding(
        code=rule.code,
        path=dataclasses.replace(at, steps=part.path("").steps),
        leaf_type=part.kind,
        owner_type=_owner(part),
        action=Action.OBSERVED,
        reason=rule.reason or CODES[rule.code],
        did="it is stored here",
        fix=rule.fix,
    )


def _owner(part: Part) -> str:
    above = part.above
    return above.kind if above is not None and above.kind not in CONTAINERS else ""


def twins(root: Part) -> Iterator[list[Part]]:
    """Yield equal data that is stored more than once, each as the parts that are equal."""
    equal: dict[tuple[str, int], list[Part]] = {}
    for part in root.walk():
        if part.size >= LEAST_TWIN and part.same_as is None and part.above is not None:
            equal.setdefault((part.kind, part.digest), []).append(part)
    inside: set[int] = set()  # below twins everything is a twin; only the top of them is told
    for parts in equal.values():  # in the order of the payload: holders before what they hold
        told = [part for part in parts if id(part) not in inside]
        if len(told) > 1:
            inside.update(id(below) for part in told for below in part.walk())
            yield told


def shared(root: Part) -> Iterator[list[Part]]:
    """Yield objects that appear in several places: where they are stored, and the others."""
    references: dict[int, list[Part]] = {}
    for part in root.walk():
        if part.same_as is not None:
            references.setdefault(id(part.same_as), [part.same_as]).append(part)
    yield from references.values()


class _Machine:
    """A pickle machine that makes parts instead of objects."""

    def __init__(self, smallest: int) -> None:
        self.names: set[str] = set()
        self.computed = False
        self._smallest = smallest
        self._stack: list[Part] = []
        self._marks: list[int] = []
        self._memo: dict[int, Part] = {}
        self._loose = 0  # bytes that belong to nothing yet, such as those of frames and marks
        self._result: Part | None = None

    def result(self) -> Part:
        """Return the finished value."""
        if self._result is None:
            raise ValueError
        self._result.size += self._loose + sum(part.size for part in self._stack)
        return self._result

    def take(self, name: str, argument: Any, size: int) -> None:
        """Take one opcode of `size` bytes."""
        self._loose += size
        if name in _ATOMS:
            self._push_atom(name, argument)
            return
        match name:
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
                self._settle()
            case "GET" | "BINGET" | "LONG_BINGET":
                self._refer(self._memo[argument])
            case "PROTO" | "FRAME":
                pass
            case "MARK":
                self._marks.append(len(self._stack))
            case "STOP":
                self._result = self._pop()
            case "POP" if self._marks and self._marks[-1] == len(self._stack):
                self._marks.pop()
            case "POP":
                self._loose += self._pop().size
            case "POP_MARK":
                self._loose += sum(part.size for part in self._popped())
            case "DUP":
                self._refer(self._stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
                self._settle()
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE" | "EMPTY_SET":
                self._push(Part(name.removeprefix("EMPTY_").lower()))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = [self._pop()] if name == "APPEND" else self._popped()
                self._fill(self._stack[-1], items)
            case "SETITEM" | "SETITEMS":
                items = [self._pop(), self._pop()][::-1] if name == "SETITEM" else self._popped()
                self._set(self._stack[-1], items)
            case "DICT":
                items = self._popped()
                self._set(self._push(Part("dict")), items)
            case "LIST" | "FROZENSET" | "TUPLE":
                self._collect(name.lower(), self._popped())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                self._collect("tuple", [self._pop() for _ in range(int(name[-1]))][::-1])
            case "GLOBAL" | "INST":
                made = self._import(*argument.split(" ", 1))
                if name == "INST":
                    self._build(made, self._arguments(self._popped()))
            case "STACK_GLOBAL":
                named, module = self._pop(), self._pop()
                if type(module.value) is str and type(named.value) is str:
                    made = self._import(module.value, named.value)
                else:
                    self.computed = True
                    made = self._push(Part(NAME, "?"))
                made.size += named.size + module.size
            case "OBJ":
                cls, *arguments = self._popped()
                self._build(cls, self._arguments(arguments))
            case "REDUCE" | "NEWOBJ":
                given = self._pop()
                self._build(self._pop(), given)
            case "NEWOBJ_EX":
                options, given = self._pop(), self._pop()
                made = self._build(self._pop(), given)
                self._add(made, (Step(StepKind.ARGUMENT, len(given.items)),), options)
            case "BUILD":
                state = self._pop()
                self._give_state(self._stack[-1], state)
            case "BINPERSID":
                self._loose += self._pop().size
                self._push(Part("persistent"))
            case "READONLY_BUFFER":
                self._settle()
            case "PERSID":
                self._push(Part("persistent"))
            case "EXT1" | "EXT2" | "EXT4":
                known = copyreg._inverted_registry  # type: ignore[attr-defined]
                self._import(*known[argument])

    def _push(self, part: Part) -> Part:
        self._stack.append(part)
        self._settle()
        return part

    def _settle(self) -> None:
        """Count what is loose for the part on top of the stack."""
        self._stack[-1].size += self._loose
        self._loose = 0

    def _pop(self) -> Part:
        if self._marks and self._marks[-1] >= len(self._stack):
            raise ValueError
        return self._stack.pop()

    def _popped(self) -> list[Part]:
        """Pop everything above the last mark."""
        at = self._marks.pop()
        popped = self._stack[at:]
        del self._stack[at:]
        return popped

    def _push_atom(self, name: str, argument: Any) -> None:
        kind = _ATOMS[name]
        part = Part("bytes" if kind == "str" and type(argument) is bytes else kind)
        if kind in ("int", "None", "bool") or (kind == "str" and len(argument) <= LONGEST_NAME):
            part.value = name == "NEWTRUE" if kind == "bool" else argument
        part.digest = hash((kind, name, bytes(argument) if kind == "bytearray" else argument))
        self._push(part)

    def _refer(self, target: Part) -> None:
        part = Part(target.kind, target.value)
        part.same_as = target.same_as or target
        part.digest = target.digest
        self._push(part)

    def _import(self, module: str, name: str) -> Part:
        module, name = one_line(_OLD_MODULES.get(module, module)), one_line(name)
        qualified = name if module == "builtins" else f"{module}.{name}"
        self.names.add(f"{module}:{name}")
        return self._push(Part(NAME, qualified))

    def _add(self, holder: Part, steps: tuple[Step, ...], part: Part, key: int = 0) -> None:
        """Put `part` into `holder`; `key` is the size of its key, which counts for both."""
        holder.digest = hash((holder.digest, steps, part.digest))
        part.size += key
        least = self._smallest
        if steps[-1].kind is StepKind.ARGUMENT:
            least = max(least, SMALL_ARGUMENT)
        if holder.same_as is not None:  # its parts are drawn where it is stored
            holder.size += part.size
        elif part.is_atom and part.size < least:
            holder.size += part.size
            holder.entries += 1
            if steps[-1].has_name:
                holder.small[steps[-1]] = part.size
        else:
            holder.hold(steps, part)
            _sum_columns(holder, part)

    def _fill(self, holder: Part, items: list[Part]) -> None:
        kind = StepKind.ELEMENT if holder.kind in ("set", "frozenset") else StepKind.ITEM
        for part in items:
            self._add(holder, (Step(kind, holder.entries),), part)
        self._settle()

    def _set(self, holder: Part, items: list[Part]) -> None:
        for key, part in zip(items[::2], items[1::2], strict=True):
            self._add(holder, (item(_text(key), holder.entries),), part, key.size)
        self._settle()

    def _collect(self, kind: str, items: list[Part]) -> Part:
        made = self._push(Part(kind))
        if kind == "tuple":
            made.items = tuple(items)
        self._fill(made, items)
        return made

    def _arguments(self, items: list[Part]) -> Part:
        self._collect("tuple", items)
        return self._pop()

    def _build(self, function: Part, arguments: Part) -> Part:
        """Push what calling `function` makes."""
        name = str(function.value) if function.kind == NAME else function.kind
        items = arguments.items
        if name in _FACTORIES and items:
            first = items[0]
            name = ".".join(map(_word, first.items or [first]))
        made = Part(name)
        if name == _STRIPPED and len(items) == 4:
            code, kind, _, when = map(_word, items)
            made.kind, made.stripped = kind, (code, when)
        if name == "_operator.getitem" and items and items[0].items:
            made = items[0].items[0]  # how contextcache stores one object in place of another
            made.size += arguments.size - made.size
        else:
            self._take_over(made, arguments, StepKind.ARGUMENT)
        made.size += function.size
        made.digest = hash((made.digest, function.digest))
        return self._push(made)

    def _take_over(self, made: Part, holder: Part, kind: StepKind) -> None:
        """Make the parts of `holder`, which pickling made, parts of the object it is for."""
        made.size += holder.size
        made.entries += holder.entries
        made.digest = hash((made.digest, holder.digest))
        if kind is StepKind.ATTRIBUTE:
            small = holder.small.items()
            made.small.update((attribute(str(step.name)), size) for step, size in small)
        for part in holder.parts:
            [step] = part.steps
            if kind is StepKind.ARGUMENT:
                if part.is_atom and part.size < SMALL_ARGUMENT:
                    continue
                step = Step(kind, step.name)
            elif step.kind is StepKind.ITEM and type(step.name) is str:
                step = attribute(step.name)
            part.steps, part.above = (step,), made
            made.parts.append(part)

    def _give_state(self, made: Part, state: Part) -> None:
        states = [state]
        if state.kind == "tuple" and len(state.items) == 2:  # attributes, and those in slots
            states = list(state.items)
        if made.same_as is None and all(one.kind in ("dict", "None") for one in states):
            made.size += state.size - sum(one.size for one in states)
            before = len(made.parts)  # a forged pickle may give state to one object very often
            for one in states:
                self._take_over(made, one, StepKind.ATTRIBUTE)
            given = made.parts[before:]
            made.parts[before:] = [part for part in given if part.steps != (_DICT,)]
            for inner in given:
                if inner.steps == (_DICT,):  # pydantic keeps its fields in a dict inside its state
                    made.size -= inner.size
                    self._take_over(made, inner, StepKind.ATTRIBUTE)
        else:
            self._add(made, (Step(StepKind.STATE, None),), state)
        self._settle()


def _sum_columns(holder: Part, part: Part) -> None:
    """Sum up by field what the items of a container hold, and forget it of the single item."""
    if holder.kind in CONTAINERS:
        columns = holder.columns
        large = ((below.steps[0], below.size) for below in part.parts if below.steps[0].has_name)
        for step, size in chain(part.small.items(), large):
            if step in columns or len(columns) < MOST_COLUMNS:
                columns[step] = columns.get(step, 0) + size
        if holder.kind != "tuple":  # which may be the state of an object that follows
            part.small = {}


def _word(part: Part) -> str:
    """Return what a name or a word in a payload says, as it may be printed."""
    return one_line(str(_text(part)))


def _text(part: Part) -> object:
    """Return the value of a key or name, or an object that cannot be printed."""
    if part.items:
        return tuple(map(_text, part.items))
    return part.value if part.value is not None or part.kind == "None" else part
