"""What an object and its class hold, looked up without running any of their code."""

from __future__ import annotations

import functools
from gc import get_referents
from io import BytesIO, StringIO
from types import GetSetDescriptorType, MemberDescriptorType


def instance_dict(obj: object) -> dict[str, object] | None:
    """Return the attribute dictionary of `obj` without running any code of its class."""
    if _has_no_dict(obj):
        return None
    for base in class_mro(type(obj)):
        descriptor = base.__dict__.get("__dict__")
        if isinstance(descriptor, (GetSetDescriptorType, MemberDescriptorType)):
            try:
                found = descriptor.__get__(obj)
            except Exception:  # noqa: BLE001  # a C getter may refuse; then there is nothing to read
                return None
            return found if type(found) is dict else None
    return None


def _has_no_dict(obj: object) -> bool:
    """Return True if `obj` has no attribute dictionary yet, where asking for it would make one.

    It would be an empty one, but pickle stores an empty dictionary of these and no missing one.
    """
    kind = type(obj)
    if not issubclass(kind, (BaseException, functools.partial, BytesIO, StringIO)):
        return False
    own = sum(type(held) is dict for held in get_referents(obj))
    return own <= issubclass(kind, functools.partial)  # which has another one, of its keywords


def slot_values(obj: object) -> dict[str, object]:
    """Return what the `__slots__` of `obj` hold, by the names its attributes go by."""
    found: dict[str, object] = {}
    for base in class_mro(type(obj)):
        slots = base.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            if name in ("__dict__", "__weakref__"):
                continue
            name = mangled(name, base.__name__)  # noqa: PLW2901
            descriptor = base.__dict__.get(name)
            if name not in found and isinstance(descriptor, MemberDescriptorType):
                try:
                    found[name] = descriptor.__get__(obj)
                except AttributeError:
                    continue  # the slot is empty
    return found


def mangled(name: str, class_name: str) -> str:
    """Return `name` as Python mangles a private one in a class statement."""
    holder = class_name.lstrip("_")
    private = name.startswith("__") and not name.endswith("__") and holder
    return f"_{holder}{name}" if private else name


def unmangled(name: str, class_name: str) -> str:
    """Return a private name as it is written in the class statement."""
    prefix = f"_{class_name.lstrip('_')}__"
    return name.removeprefix(prefix[:-2]) if name.startswith(prefix) else name


def attributes(obj: object) -> dict[str, object]:
    """Return the stored attributes of `obj` by name: dictionary, slots, pydantic's private ones."""
    found = dict(instance_dict(obj) or {})
    found.update(slot_values(obj))
    private = found.get("__pydantic_private__")
    if type(private) is dict:
        found.update(private)
    return found


def class_mro(cls: type) -> tuple[type, ...]:
    """Return the method resolution order of `cls`, whatever its metaclass says."""
    mro: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return mro


def has_default(cls: type, name: str) -> bool:
    """Return True if objects of `cls` without an attribute `name` still have a value for it.

    A plain class attribute or a `cached_property` is one; a slot or property is not.
    """
    for base in class_mro(cls):
        if name in base.__dict__:
            return not hasattr(type(base.__dict__[name]), "__set__")
    return False


def base_names(cls: type) -> list[str]:
    """Return the qualified names of `cls` and its bases, in the order in which they are asked."""
    return [qualified_name(base) for base in class_mro(cls)]


def qualified_name(cls: type) -> str:
    """Return `module.QualName` of `cls`, without `builtins.`, whatever its metaclass says."""
    module = type.__dict__["__module__"].__get__(cls)
    name: str = type.__dict__["__qualname__"].__get__(cls)
    return f"{module}.{name}" if isinstance(module, str) and module != "builtins" else name
