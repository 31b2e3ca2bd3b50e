"""Reading back: from a pickle to the value, perhaps only from names that are listed.

An application that lists what its payloads may name, `LOADABLE`, has a second line of defence
behind the signature. The list holds exact names, each resolved to its object when the guard is
made: a prefix, or a list of what is forbidden, has been got round every time. See the probes in
`docs/format.md`.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from contextcache.dangerous import can_run_code
from contextcache.exceptions import (
    ConfigurationError,
    UnreadablePayloadError,
    UntrustedPayloadError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"\xcc"
"""The first byte of a signed payload; no pickle and no number begins with it."""

HARMLESS = (
    *(f"builtins:{name}" for name in (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
        "object", "range", "set", "slice", "str", "tuple",
    )),
    *(f"collections:{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
    *(f"datetime:{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *("_thread:RLock", "_thread:_local", "_thread:allocate_lock"),
    *("contextcache.standins:Stripped", "contextcache.standins:_snapshot"),
    *("copyreg:_reconstructor", "decimal:Decimal", "fractions:Fraction"),
    *("ipaddress:IPv4Address", "ipaddress:IPv6Address"),
    *("types:SimpleNamespace", "uuid:UUID", "zoneinfo:ZoneInfo"),
)  # fmt: skip
"""What may always be named: data, and what contextcache itself puts into payloads."""


def load(body: bytes | memoryview, names: Names | None, label: str) -> Any:
    """Turn a pickle into the value.

    Args:
        body: The pickle.
        names: What it may name; None for anything.
        label: Where it was read from, for the error.

    Raises:
        UnreadablePayloadError: It cannot be read, for whatever reason.
    """
    try:
        return pickle.loads(body) if names is None else names.loads(bytes(body))
    except Exception as error:
        raise unreadable(error, label) from error


def is_sealed(payload: bytes) -> bool:
    """Tell whether `payload` claims to be signed; whether it is, only `Guard.loads` finds out."""
    return payload[:1] == MAGIC


class Names:
    """The names that a payload may use, and the loading of one that keeps to them.

    Args:
        listed: Names as `shop.models.Cart` or, where that can be read in two ways, as
            `shop.models:Cart.Line`.

    Raises:
        ConfigurationError: A name cannot be found, or would allow anything.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._objects: dict[tuple[str, str], object] = {}
        for name in HARMLESS:
            module, _, qualname = name.partition(":")
            self._objects[module, qualname] = _attribute(import_module(module), qualname)
        # A time zone is rebuilt by a class method, which pickle finds with `getattr`.
        self._objects["builtins", "getattr"] = self._unpickle_of_a_zone
        for name in listed:
            self._add(name)

    def loads(self, body: bytes) -> Any:
        """Unpickle `body`.

        Raises:
            UnlistedNameError: It uses a name that is not listed.
            Exception: Whatever `pickle.loads` raises for it.
        """
        if copyreg._extension_cache and _uses_extensions(body):  # type: ignore[attr-defined]
            raise UnlistedNameError("an extension code", "")
        return _Unpickler(io.BytesIO(body), self._objects).load()

    def _unpickle_of_a_zone(self, cls: object, name: str) -> object:
        if cls is not self._objects["zoneinfo", "ZoneInfo"] or name != "_unpickle":
            raise UnlistedNameError("builtins", "getattr")
        return getattr(cls, name)

    def _add(self, name: str) -> None:
        module, qualname, found = _resolved(name)
        if can_run_code(found):
            raise ConfigurationError(f"LOADABLE: {name!r} would let a payload do anything")
        self._objects[module, qualname] = found
        # A class that is listed by the name it is imported by is pickled by the name it has.
        home = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        if all(isinstance(part, str) for part in home):
            self._objects[home] = found  # type: ignore[index]


class UnlistedNameError(pickle.UnpicklingError):
    """A payload uses a name that `LOADABLE` does not list."""

    def __init__(self, module: str, qualname: str) -> None:
        super().__init__("a name that is not listed")
        text = f"{module}:{qualname}" if qualname else module
        self.name_used = text if re.fullmatch(r"[\w.: ]{1,200}", text) else "a malformed name"


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, objects: dict[tuple[str, str], object]) -> None:
        super().__init__(file)
        self._objects = objects

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._objects[module, name]
        except KeyError:
            raise UnlistedNameError(module, name) from None

    def persistent_load(self, _pid: object) -> NoReturn:
        raise UnlistedNameError("a persistent id", "")


def _uses_extensions(body: bytes) -> bool:
    # A code that somebody has looked up before is answered from a cache, without `find_class`.
    import pickletools  # noqa: PLC0415  # for this rare case, and it is large

    return any(code.name.startswith("EXT") for code, _, _ in pickletools.genops(body))


def _resolved(name: str) -> tuple[str, str, object]:
    """Return the module and qualified name that `name` means, and the object behind them."""
    if not re.fullmatch(r"\w+(\.\w+)*(:\w+(\.\w+)*|\.\w+)", name):
        raise ConfigurationError(f"LOADABLE lists names such as 'shop.models.Cart', not {name!r}")
    module, colon, qualname = name.partition(":")
    if not colon:
        module, _, qualname = name.rpartition(".")
    while True:
        try:
            return module, qualname, _attribute(import_module(module), qualname)
        except (ImportError, AttributeError):
            outer, _, last = module.rpartition(".")
            if colon or not outer:
                raise ConfigurationError(f"LOADABLE: {name!r} cannot be found") from None
            module, qualname = outer, f"{last}.{qualname}"


def _attribute(found: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


# --- The words for a payload that cannot be read --------------------------------------------------

# What CPython's unpickler says; it sets no `name` (Modules/_pickle.c, getattribute).
_GONE = re.compile(r"Can't get attribute '([\w.]+)' on <(?:module|class) '([\w.]+)'")


def unreadable(error: Exception, label: str) -> UnreadablePayloadError:
    """Build the error for a payload that cannot be read, without any of its content.

    Args:
        error: What unpickling it raised.
        label: Where it was read from.
    """
    by_pickle = not _ran_elsewhere(error)
    match error:
        case UnlistedNameError():
            return UntrustedPayloadError(
                label,
                f"it uses {error.name_used}, which LOADABLE does not list",
                "if this application stores it, add it to LOADABLE; else find out who wrote it",
            )
        case ModuleNotFoundError(name=str(name)) if re.fullmatch(r"[\w.]+", name):
            reason = f"its module {name} is gone"
            remedy = "restore it under its old name, or delete the entry"
        case AttributeError() if by_pickle and (gone := _GONE.match(str(error))):
            reason = f"its class or attribute {gone[1]} is gone from {gone[2]}"
            remedy = "restore it under its old name, or delete the entry"
        case _ if not by_pickle:  # a method of the value's own raised
            reason = f"rebuilding it raised {type(error).__name__}"
            remedy = "mend __setstate__ or __reduce__ of its class, or delete the entry"
        case pickle.UnpicklingError() | EOFError() | IndexError() | KeyError() | ValueError():
            reason = "its bytes are no pickle, or a damaged one"
            remedy = "delete the entry; if it comes back, look for who else writes this key"
        case _:
            reason = f"rebuilding it raised {type(error).__name__}"
            remedy = "mend __setstate__ or __reduce__ of its class, or delete the entry"
    return UnreadablePayloadError(label, reason, remedy)


def _ran_elsewhere(error: Exception) -> bool:
    """Tell whether `error` comes from Python code; the pickle module is written in C."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename != __file__:
            return True
        traceback = traceback.tb_next
    return False
