"""What becomes of each type in JSON and its kin: one table per encoder.

These tables change with the encoders they describe, and with nothing else. Third parties' types
stand in them by name, so that nothing is imported to recognise them.
"""

from __future__ import annotations

import math
from datetime import UTC
from typing import TYPE_CHECKING, Any, NamedTuple

from contextcache.base.introspection import class_mro, qualified_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Fate(NamedTuple):
    """What becomes of the objects of one type.

    Attributes:
        did: What is stored of them and comes back, in one clause; empty if they come back as they
            were.
        fix: What to do about it.
        when: Tells of one object whether it is changed at all.
    """

    did: str = ""
    fix: str = ""
    when: Callable[[Any], bool] | None = None


class Dialect(NamedTuple):
    """What one kind of encoder does with each type, by its qualified name.

    A row holds for subclasses, too, which come back as what they are derived from. `dataclass`
    stands for every dataclass and `__html__` for every class with that method.

    Attributes:
        name: What messages call it.
        types: The fate of each type that it holds.
        keys: The types of keys that come back as they were.
        changed_keys: The types of keys that come back as strings.
        sorts: Whether the encoder sorts keys, and so fails where they are of different types.
        asks_items: Whether it asks a dict for its items, as which some show one value of several.
    """

    name: str
    types: Mapping[str, Fate]
    keys: frozenset[str]
    changed_keys: frozenset[str]
    sorts: bool = False
    asks_items: bool = True


KEPT = Fate()


def back(stored: str, given: str) -> Fate:
    """Return the fate of what comes back as something else."""
    return Fate(
        f"stored it; it comes back as {stored}",
        f"store {stored}, or turn it into {given} again on read",
    )


def _strings(*types: str) -> dict[str, Fate]:
    return {name: back("a string", f"a {name.rpartition('.')[2]}") for name in types}


def loses_values(obj: dict[Any, Any]) -> Fate | None:
    """Return the fate of a dict that shows one value of several under a key; None of any other."""
    names = {qualified_name(base) for base in class_mro(type(obj))}
    shown = next((_SEVERAL[name] for name in names if name in _SEVERAL), "")
    if not shown or all(type(held) is list and len(held) < 2 for held in dict.values(obj)):
        return None
    return Fate(
        f"stored the {shown} value of each key; the others are lost",
        "store dict(value.lists()), such as dict(request.GET.lists())"
        if shown == "last"
        else "store value.to_dict(flat=False)",
    )


_SEVERAL = {
    "django.utils.datastructures.MultiValueDict": "last",
    "werkzeug.datastructures.structures.MultiDict": "first",
}

_NOT_A_NUMBER = "store None instead of nan and inf"
_SIMPLE = dict.fromkeys(("str", "int", "bool", "NoneType", "list", "dict"), KEPT)
_TEMPORAL = ("datetime.datetime", "datetime.date", "datetime.time", "datetime.timedelta")
_WRITTEN = ("decimal.Decimal", "uuid.UUID")


def _is_odd(number: float) -> bool:
    return not math.isfinite(number)


PLAIN = Dialect(
    "JSON",
    {
        **_SIMPLE,
        "float": Fate("stored it as text that is no JSON to others", _NOT_A_NUMBER, _is_odd),
        "tuple": back("a list", "a tuple"),
    },
    frozenset({"str"}),
    frozenset({"int", "float", "bool", "NoneType"}),
)
"""Python's own `json`."""

DJANGO = PLAIN._replace(
    types={
        **PLAIN.types,
        **_strings(*_TEMPORAL, *_WRITTEN),
        "django.utils.functional.Promise": Fate(
            "stored its text in the language of this request",
            "store the untranslated text, and translate it on read",
        ),
    }
)
"""`DjangoJSONEncoder`."""

FLASK = PLAIN._replace(
    types={
        **PLAIN.types,
        **dict.fromkeys(("tuple", "bytes", "markupsafe.Markup", "uuid.UUID"), KEPT),
        **_strings("datetime.date", "decimal.Decimal"),
        "datetime.datetime": Fate(
            "stored it; it comes back in UTC, without microseconds",
            "store value.isoformat(), and read it with fromisoformat()",
            lambda moment: moment.tzinfo is not UTC or moment.microsecond != 0,
        ),
        "dataclass": back("a dict", "an object"),
        "__html__": back("Markup", "an object"),
    },
    sorts=True,
)
"""Flask's `TaggedJSONSerializer`, of the cookie session."""

_MSGSPEC = {
    **_SIMPLE,
    **dict.fromkeys(("tuple", "set", "frozenset"), back("a list", "what it was")),
    **dict.fromkeys(("bytearray", "memoryview"), back("bytes", "what it was")),
    **_strings(*_TEMPORAL, *_WRITTEN),
    "enum.Enum": back("its value", "a member"),
    "dataclass": back("a dict", "an object"),
}

MSGPACK = Dialect(
    "MessagePack",
    {
        **_MSGSPEC,
        **dict.fromkeys(("float", "bytes"), KEPT),
        "datetime.datetime": Fate(
            "stored it; it comes back in UTC, or as a string where it has no timezone",
            "store a datetime in UTC",
            lambda moment: moment.tzinfo is not UTC,
        ),
    },
    frozenset({"str", "int", "float", "bool", "NoneType", "bytes", "tuple"}),
    frozenset({*_TEMPORAL, *_WRITTEN}),
    asks_items=False,
)
"""msgspec's MessagePack, of Flask-Session."""

MSGSPEC_JSON = Dialect(
    "JSON",
    {
        **_MSGSPEC,
        "float": Fate("stored it; it comes back as None", _NOT_A_NUMBER, _is_odd),
        **dict.fromkeys(("bytes", "bytearray", "memoryview"), back("base64 text", "bytes")),
    },
    frozenset({"str"}),
    frozenset({"int", "float", "bytes", *_TEMPORAL, *_WRITTEN}),
    asks_items=False,
)
"""msgspec's JSON, of Flask-Session."""

FIXES: Mapping[str, str] = {
    "datetime.datetime": "store value.isoformat(), and read it with fromisoformat()",
    "datetime.date": "store value.isoformat(), and read it with fromisoformat()",
    "datetime.time": "store value.isoformat(), and read it with fromisoformat()",
    "datetime.timedelta": "store value.total_seconds()",
    "decimal.Decimal": "store str(value), and read it with Decimal()",
    "uuid.UUID": "store str(value), and read it with UUID()",
    "set": "store a list, as in sorted(value)",
    "frozenset": "store a list, as in sorted(value)",
    "bytes": "store text, as in base64.b64encode(value).decode()",
    "bytearray": "store text, as in base64.b64encode(value).decode()",
    "enum.Enum": "store value.value",
    "pathlib.PurePath": "store str(value)",
    "BaseException": "store str(value)",
    "django.db.models.base.Model": "store its primary key (.pk), and fetch the object on read",
    "django.utils.functional.LazyObject": "store the data, or the primary key (.pk) of a row",
    "django.db.models.query.QuerySet": "store list(queryset.values_list('pk', flat=True))",
    "django.utils.functional.Promise": "store str(value), or the untranslated text",
    "dataclass": "store dataclasses.asdict(value)",
}
"""What to do about a type that a dialect has no row for."""

PLAIN_DATA = "store plain data: text, numbers, lists, and dicts with text for keys"
