"""The fix for a finding, in words that can be followed: by what the offender is and whose it is."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from types import FunctionType
from typing import TYPE_CHECKING

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.findings.path import StepKind
from contextcache.reports import call_site
from contextcache.reports.call_site import is_installed, is_library
from contextcache.rules.request_snapshots import is_environ
from contextcache.rules.verdicts import ENVIRON, RAISED, REFUSES, UNIMPORTABLE, UNLOADABLE

if TYPE_CHECKING:
    from contextcache.engine.locating import Place
    from contextcache.findings.path import Path
    from contextcache.rules.rule import Verdict

MADE_FROM = "store what it was made from"
ROWS = "store its rows: list(manager.all())"
MADE_ANEW = "leave it out in __getstate__ of the class that holds it, and make it again on read"
UNDER_ANOTHER = (
    "another object stands under its name in its module: store that name, and look it up on read"
)
ELSEWHERE = (
    "assign it in a module, and set its __module__ and __qualname__ to that module and that name"
)
IN_META = "store the values you need from request.META, not all of it"
IN_ENVIRON = "store the values you need from request.environ, not all of it"


def fix_for(rule: Verdict, leaf: object) -> str:
    """Return what to do about `leaf`, which `rule` is about.

    Nobody can change a class that is not theirs, or move what stands at the top already.
    """
    if rule is ENVIRON and type(leaf) is dict and is_environ(leaf):
        return environ_fix(leaf)
    if rule.fix == UNIMPORTABLE.fix:
        return _import_fix(leaf)
    if rule.fix in (RAISED.fix, UNLOADABLE.fix) and is_installed(type(leaf)):
        return REFUSES.fix
    return rule.fix or "store the data it was made from"


def environ_fix(environ: dict[object, object]) -> str:
    """Return what to do about the environment of a request, in the words of its framework."""
    is_werkzeug = any(type(key) is str and key.startswith("werkzeug.") for key in environ)
    return IN_ENVIRON if is_werkzeug or "django" not in sys.modules else IN_META


def _import_fix(leaf: object) -> str:
    if type(leaf) is functools._lru_cache_wrapper:
        return MADE_ANEW
    kind = type(leaf)
    named = leaf if kind is FunctionType or issubclass(kind, type) else kind
    bases = class_mro(named) if issubclass(type(named), type) else ()  # type: ignore[arg-type]
    if any(qualified_name(base) == "django.db.models.manager.BaseManager" for base in bases):
        return ROWS
    module = sys.modules.get(str(getattr(named, "__module__", "")))
    name = str(getattr(named, "__qualname__", "<"))
    if "<" in name:
        return MADE_FROM if is_library(getattr(module, "__file__", "") or "") else UNIMPORTABLE.fix
    found: object = module
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return ELSEWHERE if found is None else UNDER_ANOTHER


def place_to_act_on(place: Place) -> Place | None:
    """Return the innermost place on the way to `place` that is a field of the user's own code.

    Where there is none, it is the outermost field of a library's; None if there is no field.
    """
    fields = [
        at
        for at in reversed(place.chain())
        if at.step is not None and at.step.kind is StepKind.ATTRIBUTE and at.parent is not None
        if str(at.step.name).isidentifier()  # else no line of source sets it, and it may be a key
    ]
    own = (at for at in fields if at.parent is not None and call_site.is_own(type(at.parent.obj)))
    return next(own, fields[-1] if fields else None)


def field_to_act_on(place: Place, path: Path, *, exact: bool = False) -> str:
    """Say where the field to act on is set: in the user's own code, or else in which package.

    Where no object has it as a field, say of code where it is defined.

    Args:
        place: Where the offender is.
        path: Its path.
        exact: Whether the path is shown as it is, for a developer.
    """
    from contextcache.reports.field_source import field_origin, package_of  # noqa: PLC0415  # for developers

    at = place_to_act_on(place)
    if at is None or at.parent is None or at.step is None:
        return call_site.definition(place.obj)
    told = field_origin(type(at.parent.obj), str(at.step.name))
    if at is place:
        return told
    held = package_of(type(at.obj)) if call_site.is_own(type(at.parent.obj)) else ""
    is_new = held and not held.startswith("Python ") and not told.endswith(f" ({held})")
    package = f" ({held})" if is_new else ""
    above = replace(path, steps=at.path("").steps).printed(exact=exact)
    return f"{above}: {told}{package}"
