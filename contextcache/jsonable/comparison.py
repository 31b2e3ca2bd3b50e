"""What came back of a value, compared with what was stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import attributes, base_names, qualified_name
from contextcache.base.masking import type_text
from contextcache.findings.path import item
from contextcache.jsonable.codec import LOST, AnyDataclass, Codec, changed
from contextcache.jsonable.frames import position
from contextcache.reports.request_scope import SESSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from contextcache.jsonable.frames import Frame, Location, Odd
    from contextcache.jsonable.notes import Notes
    from contextcache.rules.rule import Verdict

TEXT_KEYS = "use text for keys, or turn them back on read"
MULTI_VALUE_FIXES = {
    "django.utils.datastructures.MultiValueDict": (
        "store dict(value.lists()), such as dict(request.GET.lists())"
    ),
    "werkzeug.datastructures.structures.MultiDict": "store value.to_dict(flat=False)",
}
"""How to store all values of a dict that shows one of several under each key."""


def compare(odds: Iterable[Odd], back: object, codec: Codec[Any], notes: Notes) -> None:
    """Find what came back as something else, or not at all.

    Args:
        odds: The objects that may, and where they are.
        back: What came back of the whole value.
        codec: The encoder.
        notes: What was found until now; gets what is found here.
    """
    reported = notes.positions()
    for odd in odds:
        for conversion in _conversions(odd, back, codec, reported):
            if not _is_flash(odd, notes.root.root):
                notes.add_at(odd.location, conversion, odd.obj)
                reported.add(position(odd.location))


def _is_flash(odd: Odd, root: str) -> bool:
    """Return True for a flashed message of Flask, which reads a list as well as a tuple."""
    is_pair = type(odd.obj) is tuple and len(odd.obj) == 2 and len(odd.location) == 2
    if not is_pair or root != SESSION:
        return False
    frame, at = odd.location[0]
    return frame.step(at) == item("_flashes", 0)


def _conversions(
    odd: Odd, back: object, codec: Codec[Any], reported: set[tuple[int, ...]]
) -> Iterator[Verdict]:
    """Yield what became of an object that may come back as something else."""
    found = _find(back, odd.location, codec)
    if found is LOST:
        here = position(odd.location)
        if not any(here[:length] in reported for length in range(len(here) + 1)):
            yield changed("it does not come back")
    elif odd.frame is not None and odd.frame.parts is dict and issubclass(type(found), dict):
        yield from _compare_dict(odd.frame, odd.location, found, codec, reported)
    elif conversion := codec.conversion(odd.obj, found):
        yield conversion
    else:
        codec.learn(type(odd.obj))


def _find(back: Any, location: Location, codec: Codec[Any]) -> Any:
    """Return what came back for the object at `location`, where its holders came back."""
    for frame, at in location:
        if frame.parts is AnyDataclass and not issubclass(type(back), dict):
            back = attributes(back)
        if issubclass(type(back), dict):
            back = dict.get(back, codec.key_back(frame.items[at][0]), LOST)
        elif issubclass(type(back), (list, tuple)) and at < len(back):
            back = back[at]
        else:
            return LOST
    return back


def _compare_dict(
    frame: Frame,
    location: Location,
    back: dict[Any, Any],
    codec: Codec[Any],
    reported: set[tuple[int, ...]],
) -> Iterator[Verdict]:
    keys, missing = [], False
    for at, (key, held) in enumerate(frame.items):
        key_back = codec.key_back(key)
        if key_back in back:
            keys.append((key, key_back, held))
        else:
            missing = missing or (*position(location), at) not in reported
    if missing:
        yield changed("stored it without some of its items")
    elif lost := _lost_values(frame.obj, keys, back):
        yield lost
    elif len({key_back for _, key_back, _ in keys}) < len(keys):
        yield changed("stored the last value of keys that become the same", TEXT_KEYS)
    elif type(frame.obj) is not dict and (conversion := codec.conversion(frame.obj, back)):
        yield conversion
    for word, came, is_text in (("text", "text", True), ("values", "their values", False)):
        types = {
            type_text(qualified_name(type(key)))
            for key, key_back, _ in keys
            if type(key) is not type(key_back) and (type(key_back) is str) == is_text
        }
        if types:
            reason = f"its keys of type {', '.join(sorted(types))} become {word}"
            yield changed(f"stored them; they come back as {came}", TEXT_KEYS, reason)


def _lost_values(
    obj: Any, keys: list[tuple[object, object, object]], back: dict[Any, Any]
) -> Verdict | None:
    """Return what is lost of a dict that shows one value of several under a key."""
    names = base_names(type(obj))
    fix = next((MULTI_VALUE_FIXES[name] for name in names if name in MULTI_VALUE_FIXES), "")
    values = dict(type(obj).lists(obj)) if fix else {}
    shown = [
        held is values[key][0]
        for key, key_back, held in keys
        if len(values.get(key, ())) > 1 and type(back[key_back]) is not list
    ]
    if not shown:
        return None
    which = "first" if all(shown) else "last"
    return changed(f"stored the {which} value of each key; the others are lost", fix)
