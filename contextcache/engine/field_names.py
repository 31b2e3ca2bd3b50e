"""The fix for a finding, in words that can be followed: by what the offender is and whose it is."""

from __future__ import annotations

import functools
import sys
from types import FunctionType
from typing import TYPE_CHECKING

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.engine.dump import RAISED, REFUSES, UNIMPORTABLE, UNLOADABLE
from contextcache.reports.call_site import is_installed, is_library
from contextcache.rules.builtin import ENVIRON
from contextcache.rules.replacements import is_environ

if TYPE_CHECKING:
    from contextcache.rules.builtin import Rule

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


def fix_for(rule: Rule, leaf: object) -> str:
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
