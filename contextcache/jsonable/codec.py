"""An encoder of JSON or its kin, asked what it does: encode, decode, compare.

There is no model of any encoder here. Only what each of them keeps is known in advance: text, whole
and finite numbers, True, False, None, lists, and dicts with text for keys.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
from enum import Enum
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from contextcache.base.classes import is_permanent
from contextcache.base.introspection import attributes, base_names, class_mro
from contextcache.base.logs import class_name
from contextcache.rules.rule import Verb, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_NODES = 100_000  # looked at in one value; what lies behind them is encoded as it is
MAX_LEVELS = 100  # looked at without a question to the decoder; a cycle has no end
MAX_COMPARED_LEVELS = 20  # of the attributes of an object
MAX_INT = 2**63  # what lies beyond is refused by some encoders
READER_DEPTH = 200  # calls further down the stack than the writer that a reader may be

T = TypeVar("T")
_STR = frozenset({str})
SCALARS: tuple[type, ...] = (str, int, bool, type(None))
_NO_NUMBERS = ("NaN", "Infinity", "-Infinity", b"NaN", b"Infinity", b"-Infinity")
LOST: Any = object()
"""What comes back of something that does not come back."""


def changed(did: str, fix: str = "", reason: str = "") -> Verdict:
    """Return the verdict about an object that the encoder changes."""
    return Verdict(verb=Verb.OBSERVE, code="CC141", did=did, fix=fix, reason=reason)


class Codec(Generic[T]):
    """An encoder, its decoder, and what has been learned by asking them.

    Args:
        encode: Turns a value into JSON, such as `json.dumps`.
        decode: Reads it again, such as `json.loads`.
        name: What messages call the format.
    """

    def __init__(self, encode: Callable[[Any], T], decode: Callable[[T], Any], name: str) -> None:
        self.encode = encode
        self.name = name
        self._decode = decode
        self._scalars: frozenset[type] = frozenset(SCALARS)
        self._sequences: frozenset[type] = frozenset({list})
        self._accepted: dict[type, bool] = {}

    def keeps(self, obj: object) -> bool:
        """Return True if `obj`, less what it holds, is known to come back as it was."""
        cls = type(obj)
        if cls is float:
            return math.isfinite(obj)  # type: ignore[arg-type]
        if cls is dict:
            return all(type(key) is str for key in obj)  # type: ignore[attr-defined]
        return cls is list or any(cls is scalar for scalar in SCALARS)

    def takes(self, obj: object) -> bool:
        """Return True if `obj` is one that no encoder refuses: a short number, or ASCII text."""
        if type(obj) is int:
            return -MAX_INT <= obj < MAX_INT
        return obj.isascii() if type(obj) is str else obj is None or type(obj) is bool

    def keeps_all(self, value: object) -> bool:
        """Return True if `value` is small and known to come back as it was, with all it holds.

        Raises:
            Exception: A metaclass does in its `__hash__`, or another thread changes a dict.
        """
        level = [value]
        for _ in range(MAX_LEVELS):
            odd = set(map(type, level)) - self._scalars
            if float in odd and all(math.isfinite(one) for one in level if type(one) is float):
                odd.discard(float)
            if not odd:
                return True
            if not odd - self._sequences <= {dict}:
                return False
            below: Iterator[object] = iter(())
            if dict in odd:
                dicts: list[Any] = [one for one in level if type(one) is dict]
                if not _STR.issuperset(map(type, chain.from_iterable(dicts))):
                    return False
                below = chain.from_iterable(map(dict.values, dicts))
            if odd != {dict}:
                rest: list[Any] = [one for one in level if type(one) in self._sequences]
                below = chain(below, chain.from_iterable(rest))
            level = list(islice(below, MAX_NODES))
            if len(level) == MAX_NODES:
                return False
        return False

    def learn(self, cls: type) -> None:
        """Take note that an object of `cls` came back, where all of them are treated alike."""
        if cls is tuple:
            self._sequences |= {tuple}
        elif cls is bytes:
            self._scalars |= {bytes}

    def round_trip(self, value: object, *, is_deep: bool = False) -> tuple[T, Any]:
        """Encode `value` and decode it again, as a reader far down the stack if it is deep.

        Raises:
            RecursionError: It is nested too deep to be written or read.
            Exception: Whatever the encoder or the decoder raises.
        """
        payload = self.encode(value)
        return payload, _call_below(READER_DEPTH if is_deep else 0, self._decode, payload)

    def refusal(self, value: object, *, is_deep: bool = False) -> str:
        """Return the code by which `value` is refused by encoder or decoder; empty if it is not."""
        try:
            self.round_trip(value, is_deep=is_deep)
        except MemoryError:
            raise
        except RecursionError:
            return "CC130"
        except Exception:  # noqa: BLE001  # an encoder of the application's may raise anything
            return "CC140"
        return ""

    def accepts(self, kind: type) -> bool:
        """Return True if the encoder takes an empty object of `kind`, such as `set`."""
        if kind not in self._accepted:
            self._accepted[kind] = not self.refusal(kind())
        return self._accepted[kind]

    def key_back(self, key: object) -> object:
        """Return the key that comes back for `key`; `LOST` if none does."""
        if type(key) is str:
            return key
        try:
            return next(iter(self.round_trip({key: None})[1]), LOST)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  # it is refused in this place though not in another
            return LOST

    def conversion(self, obj: Any, back: Any) -> Verdict | None:
        """Return what is to be said where `back` came back for `obj`; None if it is the same."""
        if type(obj) is float and not math.isfinite(obj):
            if self.encode(obj) in _NO_NUMBERS:  # which Python reads, and no one else
                return changed("stored it as text that is no JSON to others", _FINITE)
            if back is None:
                return changed("stored it; it comes back as None", _FINITE)
        if is_same(obj, back):
            return None
        return _converts_to(obj, back)


def _call_below(calls: int, decode: Callable[[T], Any], payload: T) -> Any:
    """Call `decode` from further down the stack."""
    return _call_below(calls - 1, decode, payload) if calls else decode(payload)


# --- What is the same, and how to say what is not -------------------------------------------------


def is_same(one: Any, other: Any, levels: int = MAX_COMPARED_LEVELS) -> bool:
    """Return True if two objects are of one type and equal, as far as no user code has to say so.

    What a container holds is not compared: each of its parts is an object of its own.
    """
    cls = type(one)
    if cls is not type(other):
        return False
    builtin: Any = next(
        (base for base in class_mro(cls) if any(base is one for one in _BUILTINS)), None
    )
    if builtin is not None and not builtin.__eq__(one, other):
        return builtin is float and one != one and other != other  # noqa: PLR0124  # two NaN
    if builtin is None and is_permanent(cls) and not any(cls is kind for kind in CONTAINERS):
        return _is_equal(one, other)
    if levels == 0 or is_permanent(cls):
        return True
    left, right = attributes(one), attributes(other)
    return left.keys() == right.keys() and all(
        is_same(held, right[name], levels - 1) for name, held in left.items()
    )


def _is_equal(one: Any, other: Any) -> bool:
    try:
        if issubclass(type(one), (dt.datetime, dt.time)):
            return bool(one == other and one.utcoffset() == other.utcoffset())
        return bool(one == other or (one != one and other != other))  # noqa: PLR0124
    except Exception:  # noqa: BLE001  # such as an array: undecided is no finding
        return True


_BUILTINS: tuple[Any, ...] = (str, int, float, bytes)
CONTAINERS: tuple[type, ...] = (dict, list, tuple, set, frozenset)


def _converts_to(obj: Any, back: Any) -> Verdict:
    """Word a change by what came back."""
    cls, stored_as = type(obj), type(back)
    if cls is stored_as:
        if issubclass(cls, dt.datetime):
            losses = ["in UTC"] if obj.utcoffset() != back.utcoffset() else []
            losses += ["without microseconds"] if obj.microsecond != back.microsecond else []
            if losses:
                return changed(f"stored it; it comes back {', '.join(losses)}", fix_for(cls))
        return changed("stored it; it comes back with another value", fix_for(cls))
    given = _article(class_name(cls))
    if any(base is stored_as for base in class_mro(cls)):
        stored = f"a plain {class_name(stored_as)}"
    elif issubclass(cls, Enum) and is_same(obj._value_, back):
        stored, given = "its value", "a member"
    elif back is None:
        stored = "None"
    else:
        name = class_name(stored_as)
        stored = {"str": "a string", "bytes": name, "Markup": name}.get(name, _article(name))
    return changed(
        f"stored it; it comes back as {stored}",
        f"store {stored}, or turn it into {given} again on read",
    )


def _article(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeioAEIO" else f"a {noun}"


def fix_for(cls: type) -> str:
    """Return what to do about an object that cannot be stored as JSON."""
    names = base_names(cls)
    if any("__dataclass_fields__" in vars(base) for base in class_mro(cls)):
        names.append("dataclass")
    return next((FIXES[name] for name in names if name in FIXES), PLAIN_DATA)


_FINITE = "store None instead of nan and inf"
_ISO = "store value.isoformat(), and read it with fromisoformat()"
_BASE64 = "store text, as in base64.b64encode(value).decode()"
PLAIN_DATA = "store plain data: text, numbers, lists, and dicts with text for keys"
FIXES = {
    "datetime.datetime": _ISO,
    "datetime.date": _ISO,
    "datetime.time": _ISO,
    "datetime.timedelta": "store value.total_seconds()",
    "decimal.Decimal": "store str(value), and read it with Decimal()",
    "uuid.UUID": "store str(value), and read it with UUID()",
    "set": "store a list, as in sorted(value)",
    "frozenset": "store a list, as in sorted(value)",
    "bytes": _BASE64,
    "bytearray": _BASE64,
    "enum.Enum": "store value.value",
    "pathlib.PurePath": "store str(value)",
    "BaseException": "store str(value)",
    "django.db.models.base.Model": "store its primary key (.pk), and fetch the object on read",
    "django.utils.functional.LazyObject": "store the data, or the primary key (.pk) of a row",
    "django.db.models.query.QuerySet": "store list(queryset.values_list('pk', flat=True))",
    "django.utils.functional.Promise": "store str(value), or the untranslated text",
    "dataclass": "store dataclasses.asdict(value)",
}
"""What to do about a type, by its qualified name; a row holds for subclasses, too."""


@dataclasses.dataclass
class AnyDataclass:
    """Stands for every dataclass among the kinds of containers, and is one that holds nothing."""
