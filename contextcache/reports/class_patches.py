"""Methods to paste into a class of the application, with which its objects are stored.

What is known of a field decides how far its methods go. Where the class itself shows that the
field always holds what offends, it is left out and made anew. Elsewhere other objects of the class
may hold something else in it, so the methods ask for the type first, and the state says under a
name of its own (`lock.new`) what has to be built again.
"""

from __future__ import annotations

import copyreg
import textwrap
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from types import FunctionType, MethodType
from typing import TYPE_CHECKING

from contextcache.base.introspection import (
    attributes,
    base_names,
    class_mro,
    has_default,
    instance_dict,
    qualified_name,
    slot_values,
    unmangled,
)
from contextcache.findings.finding import Action
from contextcache.reports.call_site import is_library, is_own, relative
from contextcache.reports.field_makers import FieldMaker, lock_of
from contextcache.reports.field_source import class_place, field_values
from contextcache.reports.patch_templates import (
    BUILT_AGAIN,
    FILE,
    IN_PLACE,
    WEAK,
    Kept,
    of_type,
)
from contextcache.reports.spelling import Names

if TYPE_CHECKING:
    from collections.abc import Collection

    from contextcache.reports.offence import Offence

_NOT_LEFT_OUT = frozenset(
    {"CC100", "CC105", "CC118", "CC119", "CC121", "CC122", "CC130", "CC131", "CC132", "CC133"}
)  # codes of what a class does not mend by leaving a field out
_ITEMS = dict.fromkeys(("generator", "_csv.reader"), "list({})")
_HOOKS = (
    "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__getnewargs__",
    "__getnewargs_ex__",
)  # fmt: skip
_EXTENDED = {
    "pydantic.main.BaseModel": ("__dict__", "__pydantic_private__"),
    "django.db.models.base.Model": (),
}
"""Classes of libraries whose methods are called by the new ones; the parts of their state."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is done about one field.

    Attributes:
        field: The field.
        test: The test whether the field holds what offends, `{}` being the field in the state;
            empty where it always does.
        stored: What is stored under the same name; empty where the field is left out.
        new: The expression that makes the field anew on load; empty where there is a default.
        kept: What is stored under another name, of which the field is built again on load.
    """

    field: str
    test: str = ""
    stored: str = ""
    new: str = ""
    kept: Kept | None = None

    def to_state(self, state: str) -> list[str]:
        """Return the statements that change the state."""
        item, key = f'{state}["{self.field}"]', f'"{self.field}"'
        if not self.test:
            return [f"{state}.pop({key}, None)"]
        test = f"if {self.test.format(f'{state}.get({key})')}:"
        if self.kept is not None:
            name = f'{state}["{self.field}.{self.kept.word}"]'
            return [test, f"    {name} = {self.kept.stored.format(item)}", f"    del {item}"]
        if self.stored:
            return [test, f"    {item} = {self.stored.format(item)}"]
        return [test, f"    del {item}"]

    def from_state(self, state: str) -> list[str]:
        """Return the statements that build the field again in the state."""
        if self.kept is None:
            return []
        name = f'"{self.field}.{self.kept.word}"'
        item, kept = f'{state}["{self.field}"]', f"{state}.pop({name})"
        return [
            f"if {name} in {state}:",
            *(f"    {line.format(item, kept)}" for line in self.kept.built),
        ]


@dataclass(slots=True)
class ClassPatch:
    """The changes of the fields of one class, and the names its module has."""

    owner: object
    changes: dict[tuple[str, str], Change] = field(default_factory=dict)
    names: Names = field(init=False)

    def __post_init__(self) -> None:
        self.names = Names(type(self.owner))

    def __str__(self) -> str:
        return into(
            type(self.owner), _methods(self.owner, [*self.changes.values()], self.names), self.names
        )

    def add(self, offence: Offence) -> bool:
        """Add what is to be done about an offence in this class; return False if nothing can be."""
        changes = _changes(offence, self.names)
        for change in changes:
            self.changes.setdefault((change.field, change.test), change)
        return bool(changes)


def _changes(offence: Offence, names: Names) -> list[Change]:
    owner, name, leaf = offence.owner, offence.field, offence.leaf
    cls, held = type(owner), offence.held
    is_field = held is leaf
    if (
        offence.action is Action.OBSERVED
        or not name.isidentifier()
        or not pickles_plainly(cls, _EXTENDED)
        or _is_of_library(cls, name)
    ):
        return []
    test = names.is_type("{0}", type(held))
    stored = in_place(offence) if is_field else ""
    if is_field and not stored and of_type(_ITEMS, leaf) and _can_keep_items(cls, name, offence):
        stored = f"self.{unmangled(name, cls.__name__)} = list({{}})"  # for the next write, too
    if stored:
        names.need(name for name in ("copy", "traceback") if stored.startswith(f"{name}."))
        if offence.stands_for:  # a proxy of nothing is false, and is left to the guard
            test = f"{test} and {{0}}"
        return [Change(name, test, stored=stored)]
    partners = _partners(owner, name, held)
    is_shared = offence.ways > 1 + (len(partners) if is_field else 0)
    if is_shared and offence.action is Action.RECREATED:
        return []  # other objects hold it, too, and would each make one of their own
    if issubclass(cls, tuple):
        is_cut = offence.action is Action.STRIPPED and is_field and offence.is_certain
        return [Change(name, test, "None")] if is_cut else []
    kept = _kept(offence, held)
    if kept is not None:
        names.need(kept.needs)
        return [Change(name, test, kept=kept)]
    new = FieldMaker(owner, name, held, names)
    if offence.code in _NOT_LEFT_OUT and not (new.is_always and type(held) is MethodType):
        return []
    if new.is_always and new.code:
        others = [FieldMaker(owner, one, attributes(owner)[one], names) for one in partners]
        if all(one.is_always and one.code for one in others):
            return [Change(one.field, new=one.code) for one in (new, *others)]
        return []
    if partners and is_field and new.code:
        lock = Change(name, test, kept=_made(new.in_state))
        return _with_conditions(owner, lock, partners, names)
    if partners or (not is_field and qualified_name(type(held)) != "threading.Condition"):
        return []
    if new.code and offence.is_certain:
        return [Change(name, test, kept=_made(new.in_state))]
    by_name = offence.action is Action.SNAPSHOTTED and type(leaf) is ContextVar
    if not is_field or not (by_name or offence.action in (Action.STRIPPED, Action.LEFT_OUT)):
        return []
    known = names.find(leaf)
    if known:
        return [Change(name, f"{{}} is {known}", kept=_made(known))]
    if by_name:
        return []
    default = has_default(cls, name)
    if new.is_always:
        return [Change(name, new="" if default else "None")]
    if offence.code == "CC110":
        test = _is_nameless(leaf)
    elif not offence.is_certain:  # other objects of the type are stored
        return []
    return [Change(name, test, "" if default else "None")] if test else []


def _with_conditions(
    owner: object, lock: Change, partners: list[str], names: Names
) -> list[Change]:
    """Return the changes for a lock and the conditions that use it."""
    kinds = {one: type(attributes(owner)[one]) for one in partners}
    if any(qualified_name(cls) != "threading.Condition" for cls in kinds.values()):
        return []
    code = f'threading.Condition(state["{lock.field}"])'
    return [
        lock,
        *(Change(one, names.is_type("{0}", cls), kept=_made(code)) for one, cls in kinds.items()),
    ]


def _can_keep_items(cls: type, name: str, offence: Offence) -> bool:
    """Return True if an object may hold a list of what it would else use up when it is stored."""
    is_extended = any(name in _EXTENDED for name in base_names(cls))
    is_plain = not issubclass(cls, tuple) and not is_extended and not _is_frozen(cls)
    return is_plain and offence.ways == 1 and not has_default(cls, name)


def in_place(offence: Offence) -> str:
    """Return what a method of a class can store in place of the offender, or nothing."""
    if offence.stands_for:
        return "" if "await" in offence.stands_for else offence.stands_for
    code = of_type(IN_PLACE, offence.leaf)
    return 'getattr({}, "name", None)' if code == FILE else code


def _is_nameless(leaf: object) -> str:
    """Return the test for functions, lambdas and classes that are no global of their module."""
    if type(leaf) is FunctionType or issubclass(type(leaf), type):
        return '"<" in getattr({}, "__qualname__", "")' if "<" in str(leaf.__qualname__) else ""  # type: ignore[attr-defined]
    return '"<" in type({}).__qualname__' if "<" in qualified_name(type(leaf)) else ""


def _made(code: str) -> Kept:
    return Kept("new", "True", ("{1}", f"{{0}} = {code}"), ())


def _kept(offence: Offence, held: object) -> Kept | None:
    name = qualified_name(type(held))
    if name == "weakref.ReferenceType":
        return WEAK if offence.has_target else None
    return BUILT_AGAIN.get(name)


def _partners(owner: object, name: str, held: object) -> list[str]:
    """Return the other fields of `owner` that use the same lock as this one."""
    lock = lock_of(held)
    return [
        one
        for one, other in attributes(owner).items()
        if one != name and lock is not None and lock_of(other) is lock
    ]


# The methods


def _methods(owner: object, changes: list[Change], names: Names) -> list[str]:
    """Return the methods with which `owner` is pickled with these changes."""
    cls = type(owner)
    bases = base_names(cls)
    extended = next((name for name in _EXTENDED if name in bases), "")
    if extended:
        return _extending(owner, changes, _EXTENDED[extended])
    if issubclass(cls, tuple):
        fields = ", ".join(
            f"{one.field}=None if {one.test.format(f'self.{one.field}')} else self.{one.field}"
            for one in changes
        )
        return ["def __reduce__(self):", f"    return type(self), tuple(self._replace({fields}))"]
    slots = slot_values(owner)
    if slots:
        own = ["*self.__dict__"] if instance_dict(owner) is not None else []
        own += [f'"{name}"' for name in slots]
        lines = [
            f"    names = ({', '.join(own)}{',' if len(own) == 1 else ''})",
            "    state = {name: getattr(self, name) for name in names if hasattr(self, name)}",
        ]
    else:
        lines = ["    state = self.__dict__.copy()"]
    lines += [f"    {line}" for one in changes for line in one.to_state("state")]
    if issubclass(cls, BaseException):
        head, end = "def __reduce__(self):", "    return type(self), self.args, state"
        if keeps_only_args(cls):  # its constructor may want other arguments
            names.need(("copyreg",))
            end = "    return copyreg.__newobj__, (type(self), *self.args), state"
    else:
        head, end = "def __getstate__(self):", "    return state"
    return [head, *lines, end, *_setting_state(cls, changes, by_name=bool(slots))]


def _setting_state(cls: type, changes: list[Change], *, by_name: bool) -> list[str]:
    built = [line for one in changes for line in one.from_state("state")]
    new = [one for one in changes if one.new]
    if not (built or new or by_name):
        return []
    frozen = _is_frozen(cls)
    lines = ["", "def __setstate__(self, state):", *(f"    {line}" for line in built)]
    if by_name:
        put = "object.__setattr__(self, name, value)" if frozen else "setattr(self, name, value)"
        lines += ["    for name, value in state.items():", f"        {put}"]
    elif frozen and new:
        made = ", ".join(f"{one.field}={one.new}" for one in new)
        return [*lines, f"    self.__dict__.update(state, {made})"]
    else:
        lines.append("    self.__dict__.update(state)")
    for one in new:
        if frozen:
            lines.append(f'    object.__setattr__(self, "{one.field}", {one.new})')
        else:
            lines.append(f"    self.{unmangled(one.field, cls.__name__)} = {one.new}")
    return lines


def _extending(owner: object, changes: list[Change], parts: tuple[str, ...]) -> list[str]:
    """Return the methods for a class of a library that has methods for its state itself.

    Args:
        owner: The object.
        changes: What is done about its fields.
        parts: The keys under which the state has dicts of fields; none where it is one itself.
    """
    before, after = [], []
    for one in changes:
        state = "state"
        if parts:
            part = parts[0] if one.field in (instance_dict(owner) or ()) else parts[1]
            state = f'state["{part}"]'
            copy = f"{state} = {{**{state}}}"
            if copy not in before:
                before.append(copy)
        change = one
        if not one.test or not (one.kept or one.stored):  # a field of a model is not left out
            again = one.new not in ("", "None") and "self." not in one.new
            kept = _made(one.new) if again else None
            change = Change(one.field, one.test or "{} is not None", "None", "", kept)
        before += change.to_state(state)
        after += change.from_state(state)
    copied_state = "super().__getstate__()" if parts else "{**super().__getstate__()}"
    lines = ["def __getstate__(self):", f"    state = {copied_state}"]
    lines += [*(f"    {line}" for line in before), "    return state"]
    if after:
        lines += ["", "def __setstate__(self, state):", *(f"    {line}" for line in after)]
        lines.append("    super().__setstate__(state)")
    return lines


def into(cls: type, lines: list[str], names: Names) -> str:
    """Return methods to paste into `cls`, below the imports they need and it has not."""
    file, line = class_place(cls)
    where = f" ({relative(file)}:{line})" if file else ""
    methods = textwrap.indent("\n".join([f"# into class {cls.__name__}{where}", *lines]), "    ")
    imports = "".join(f"{one}\n" for one in names.used_in(lines))
    return f"{imports}\n{methods}" if imports else methods


def keeps_only_args(cls: type) -> bool:
    """Return True if exceptions of `cls` have no fields of C but `args`, as an `OSError` has."""
    builtin = next(base for base in class_mro(cls) if not is_own(base))
    return builtin.__basicsize__ == Exception.__basicsize__


def pickles_plainly(cls: type, extended: Collection[str] = ()) -> bool:
    """Return True if methods pasted into `cls` would decide how its objects are pickled.

    Args:
        cls: The class.
        extended: Classes whose methods for that are called by the pasted ones.
    """
    if issubclass(cls, Enum) or any(known is cls for known in copyreg.dispatch_table):
        return False
    for base in class_mro(cls)[:-1]:
        for hook in _HOOKS:
            code = getattr(base.__dict__.get(hook), "__code__", None)
            if code is None or qualified_name(base) in extended:
                continue
            # What dataclasses, attrs and named tuples generate gives way to one's own method.
            if not is_own(base) or not is_library(code.co_filename):
                return False
    return True


def _is_of_library(cls: type, name: str) -> bool:
    """Return True if a field is set by a class of a library alone, whose private matter it is."""
    setting = [one.cls for one in field_values(cls, name)]
    return bool(setting) and not any(map(is_own, setting))


def _is_frozen(cls: type) -> bool:
    """Return True if attributes of an object of `cls` are not simply assigned."""
    return any("__setattr__" in base.__dict__ for base in class_mro(cls)[:-1])
