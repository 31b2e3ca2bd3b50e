"""A fix that can be pasted, for the very field: by what the offender is and how its owner is built.

A fix is a promise: with it the finding is gone, and all is stored that was stored without it. It
changes no object that is in use and no class of a library, and shows no value: what a class builds
from literals is set to None, because the developer, who has the source, knows how to build it
again. Where nothing can be promised there is no patch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contextcache.reports.class_patches import ClassPatch
from contextcache.reports.place_patches import at_place
from contextcache.reports.rebuilding import rebuilt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from contextcache.reports.offence import Offence

_REBUILT = ("CC119", "CC122")  # what pickle stores and does not load as it was


def patches(offences: Sequence[Offence | None], value: object) -> list[str]:
    """Return for each offence the code that removes it when pasted; empty where there is none.

    Methods are indented, to go into the class that the comment above them names; below imports,
    where they need some. They mend all fields of their class at once. Code for the place where the
    value is stored mends all that one pattern stands for.

    Args:
        offences: What was found; None where there can be no patch.
        value: The value that they were found in.
    """
    classes: dict[int, ClassPatch] = {}
    texts: dict[int, str] = {}
    in_class: dict[int, ClassPatch] = {}
    elsewhere: dict[str, dict[int, Offence]] = {}
    for at, offence in enumerate(offences):
        if offence is None:
            continue
        if offence.owner is not None:
            key = id(type(offence.owner))
            patch = classes.get(key) or classes.setdefault(key, ClassPatch(offence.owner))
            if patch.add(offence):
                in_class[at] = patch
                continue
        texts[at] = rebuilt(offence.leaf) if offence.code in _REBUILT else ""
        if not texts[at]:
            elsewhere.setdefault(offence.path.pattern, {})[at] = offence
    texts.update({at: str(patch) for at, patch in in_class.items()})
    for group in elsewhere.values():
        texts.update(dict.fromkeys(group, at_place([*group.values()], value)))
    return [texts.get(at, "") for at in range(len(offences))]
