"""Load a pickle, and say why one cannot be loaded."""

from __future__ import annotations

import pickle
import re
import zlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from contextcache.base.logs import error_name
from contextcache.base.masking import type_text
from contextcache.exceptions import (
    UnreadablePayloadError,
    UntrustedPayloadError,
    without_text,
)
from contextcache.payload.compression import compression_of

if TYPE_CHECKING:
    from contextcache.payload.allow_list import AllowList

MAGIC = b"\xcc"
"""The first byte of a signed payload; no pickle and no number begins with it."""

SAFE_GLOBALS = (
    *(f"builtins:{name}" for name in (
        "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list",
        "object", "range", "set", "slice", "str", "tuple",
    )),
    *(f"collections:{name}" for name in ("Counter", "OrderedDict", "defaultdict", "deque")),
    "_codecs:encode", "builtins:Ellipsis", "builtins:NotImplemented", "builtins:frozendict",
    *(f"datetime:{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *("_thread:RLock", "_thread:_local", "_thread:allocate_lock"),
    *("contextcache.payload.wire:Stripped", "contextcache.payload.wire:_snapshot"),
    *("copyreg:_reconstructor", "decimal:Decimal", "fractions:Fraction"),
    *("ipaddress:IPv4Address", "ipaddress:IPv6Address"),
    *("types:SimpleNamespace", "uuid:UUID", "zoneinfo:ZoneInfo"),
)  # fmt: skip
"""What may always be named: data, and what contextcache itself puts into payloads."""

LOOK_FOR_THE_WRITER = "delete the entry; if it comes back, look for who else writes this key"


def load(body: bytes | memoryview, names: AllowList | None, label: str) -> Any:
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
    except Exception as error:  # noqa: BLE001  # whatever a constructor raises
        failed = unreadable(error, label, compression_of(body))
        cause = without_text(error, "the payload cannot be loaded")
    raise failed from cause


def is_sealed(payload: bytes) -> bool:
    """Return True if `payload` claims to be signed; whether it is, only `Guard.loads` finds out."""
    return payload[:1] == MAGIC


class UnlistedNameError(pickle.UnpicklingError):
    """A payload uses a name that `LOADABLE` does not list."""

    def __init__(self, module: str, qualname: str) -> None:
        super().__init__("a name that is not listed")
        text = f"{module}:{qualname}" if qualname else module
        dotted = f"{module}.{qualname}" if qualname else module
        if not re.fullmatch(r"[\w.: ]{1,200}", text):
            text = "a malformed name"
        elif qualname and type_text(dotted) != dotted:  # it may be made from data
            text = type_text(dotted)
        self.name_used = text


class RefusedOperationError(pickle.UnpicklingError):
    """A payload does with a listed name what no pickler writes.

    Args:
        operation: What it does, as the end of a sentence that begins with "it".
    """

    def __init__(self, operation: str) -> None:
        super().__init__("an operation that is not allowed")
        self.operation = operation


# --- The words for a payload that cannot be read --------------------------------------------------

# What CPython's unpickler says before 3.14; it sets no `name` there (Modules/_pickle.c).
_GONE = re.compile(r"Can't get attribute '([\w.]+)' on <(?:module|class) '([\w.]+)'")


def unreadable(error: Exception, label: str, compression: str = "") -> UnreadablePayloadError:
    """Build the error for a payload that cannot be read, without any of its content.

    Args:
        error: What unpickling it raised.
        label: Where it was read from.
        compression: The name of the format in which the payload is compressed.
    """
    if compression:
        return UnreadablePayloadError(
            label,
            f"it is compressed with {compression}, as django-redis does, and is not expanded here",
            "the next write replaces it; to keep such entries, store them once more with "
            "django-redis and without its COMPRESSOR",
        )
    by_pickle = not _ran_elsewhere(error)
    match error:
        case UnlistedNameError():
            return UntrustedPayloadError(
                label,
                f"it uses {error.name_used}, which LOADABLE does not list",
                "if this application stores it, add it to LOADABLE; else find out who wrote it",
                "it uses a name that is not listed",
            )
        case RefusedOperationError():
            return UntrustedPayloadError(
                label,
                f"it {error.operation}",
                "no pickler writes that; find out who wrote it",
                "it does what is not allowed",
            )
        case ModuleNotFoundError(name=str(name)) if re.fullmatch(r"[\w.]{1,80}", name):
            kind, reason = "its module is gone", f"its module {type_text(name)} is gone"
            remedy = "restore it under its old name, or delete the entry"
        case AttributeError() if by_pickle and (gone := _gone(error)):
            kind = "its class or attribute is gone"
            reason = (
                f"its class or attribute {type_text(gone[0])} is gone from {type_text(gone[1])}"
            )
            remedy = "restore it under its old name, or delete the entry"
        case LookupError() if model := _unknown_model(error):
            kind, reason = "its model is not registered", f"its model {model} is not registered"
            remedy = "restore the model in its application, or delete the entry"
        case (
            pickle.UnpicklingError() | EOFError() | IndexError() | KeyError() | ValueError()
            | zlib.error()
        ) if by_pickle:  # fmt: skip
            kind = reason = "its bytes are no pickle, or a damaged one"
            remedy = LOOK_FOR_THE_WRITER
        case _:  # a method of the value's own raised
            kind, reason = "rebuilding it raised", f"rebuilding it raised {error_name(error)}"
            remedy = "mend __setstate__ or __reduce__ of its class, or delete the entry"
    return UnreadablePayloadError(label, reason, remedy, kind)


def _unknown_model(error: BaseException) -> str:
    """Return the model that Django looked for to rebuild a row, such as `shop.Order`."""
    traceback = error.__traceback__
    while traceback is not None:
        frame, traceback = traceback.tb_frame, traceback.tb_next
        if frame.f_code.co_name == "model_unpickle":
            model = frame.f_locals.get("model_id")
            if type(model) is tuple and all(type(part) is str for part in model):
                return type_text(".".join(model))
    return ""


def _gone(error: AttributeError) -> tuple[str, str] | None:
    """Return the name that a module or class no longer has, and that of the module or class."""
    name: object = error.name
    match error.obj:
        case ModuleType(__name__=str(place)):
            pass
        case type(__module__=module, __qualname__=qualname):
            place = f"{module}.{qualname}"
        case _:
            found = _GONE.match(str(error))
            name, place = found.groups() if found else (None, "")
    if isinstance(name, str) and re.fullmatch(r"[\w.]{1,200}", name) and place:
        return name, place
    return None


_UNPICKLERS = {
    __name__, "contextcache.payload.allow_list", "contextcache.payload.checked_unpickler",
    "contextcache.payload.class_rules", "contextcache.payload.verifier", "pickle",
}  # fmt: skip


def _ran_elsewhere(error: Exception) -> bool:
    """Return True if `error` comes from Python code; the pickle module is written in C."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") not in _UNPICKLERS:
            return True
        traceback = traceback.tb_next
    return False
