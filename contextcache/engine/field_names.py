"""The fix for a finding, in words that can be followed: by what the offender is and whose it is."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import replace
from types import CoroutineType, FunctionType
from typing import TYPE_CHECKING

from contextcache.base.introspection import attributes, base_names, class_mro, instance_dict
from contextcache.findings.path import StepKind
from contextcache.reports import call_site
from contextcache.reports.call_site import is_installed, is_library
from contextcache.rules.builtin.proxies import is_user_of_request
from contextcache.rules.builtin.secrets import PASSWORD_FIELDS
from contextcache.rules.request_snapshots import is_environ
from contextcache.rules.verdicts import (
    ENVIRON,
    RAISED,
    REFUSES,
    UNAWAITED,
    UNIMPORTABLE,
    UNLOADABLE,
)

if TYPE_CHECKING:
    from contextcache.engine.nodes import Node
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
NAMED = "define it with def, under its own name, at the top level of a module"
DATA_NEEDED = "store the data you need from it"
ROW = "store its primary key (.pk), and fetch it on read"
USER_OF_REQUEST = "store its primary key, request.user.pk, and fetch the user on read"
AWAITED_USER = "store its primary key, (await request.auser()).pk, and fetch the user on read"
KEYS_OF_USERS = "evaluate it before, and store the primary keys: [user.pk async for user in users]"
USER_OF_FLASK_LOGIN = "store its get_id(), and load the user on read"
CURRENT_USER = "store current_user.get_id(), and load the user on read"
USER = "store the primary key of the user, and fetch the user on read"
CURRENT_APP = "use current_app where the data is read, and do not store it"
TARGET = "store proxy._get_current_object(), or the value you need from it"
IN_META = "store the values you need from request.META, not all of it"
IN_ENVIRON = "store the values you need from request.environ, not all of it"


def fix_for(rule: Verdict, leaf: object, target: object = None, *, can_store: bool = False) -> str:
    """Return what to do about `leaf`, which `rule` is about.

    Nobody can change a class that is not theirs, or move what stands at the top already.

    Args:
        rule: The rule that found it.
        leaf: The offender.
        target: What a proxy or lazy object stands for; None where that is not known.
        can_store: Whether there is nothing to report about the target itself.
    """
    if (rule.is_proxy or rule.is_lazy) and target is not None:
        return _target_fix(rule, leaf, target, can_store=can_store)
    if _is_user_awaited(leaf):
        return AWAITED_USER
    if rule is UNAWAITED and _is_of_users(leaf):
        return KEYS_OF_USERS
    if rule is ENVIRON and type(leaf) is dict and is_environ(leaf):
        return environ_fix(leaf)
    if rule.fix == UNIMPORTABLE.fix:
        return _import_fix(leaf)
    if rule.fix in (RAISED.fix, UNLOADABLE.fix) and is_installed(type(leaf)):
        return REFUSES.fix
    return rule.fix or "store the data it was made from"


def _is_user_awaited(leaf: object) -> bool:
    """Return True if `leaf` is what `request.auser()` returns before it is awaited."""
    code = leaf.cr_code if type(leaf) is CoroutineType else None
    file = code.co_filename.replace(os.sep, "/") if code is not None else ""
    return file.endswith("django/contrib/auth/middleware.py")


def _is_of_users(leaf: object) -> bool:
    """Return True if `leaf` is a queryset of users, whose rows carry password hashes."""
    model = (instance_dict(leaf) or {}).get("model")
    names = base_names(model) if isinstance(model, type) else ()
    return "django.contrib.auth.base_user.AbstractBaseUser" in names


def _target_fix(rule: Verdict, leaf: object, target: object, *, can_store: bool) -> str:
    """Return what to do about a proxy or lazy object, by what it stands for."""
    cls = type(target)
    if is_user_of_request(leaf):
        return USER_OF_REQUEST
    if is_row(cls):
        return ROW
    names = base_names(cls)
    if is_flask_user(cls):
        login = sys.modules.get("flask_login.utils")
        is_current = leaf is getattr(login, "__dict__", {}).get("current_user")
        return CURRENT_USER if is_current else USER_OF_FLASK_LOGIN
    if has_password(target):
        return USER
    if "flask.app.Flask" in names:
        return CURRENT_APP
    if rule.is_proxy:
        return TARGET if can_store else rule.fix
    return rule.fix if "django.utils.functional.Promise" in names else DATA_NEEDED


def code_for(rule: Verdict, leaf: object, target: object, *, can_store: bool) -> str:
    """Return code that stores what a proxy or lazy object stands for, `{}` being it; or nothing.

    Args:
        rule: The rule about the proxy or lazy object.
        leaf: The proxy or lazy object; or what stands for a user when it is awaited.
        target: What it stands for; None where that is not known.
        can_store: Whether there is nothing to report about the target itself.
    """
    from contextcache.reports.patch_templates import IN_PLACE, of_type  # noqa: PLC0415  # for developers

    if _is_user_awaited(leaf):
        return "(await {}).pk"
    if not (rule.is_proxy or rule.is_lazy) or target is None:
        return ""
    if is_row(type(target)):
        return "{}.pk"
    if is_flask_user(type(target)):
        return "{}.get_id()"
    if rule.is_lazy or has_password(target):
        return ""
    return "{}._get_current_object()" if can_store else of_type(IN_PLACE, target)


def is_row(cls: type) -> bool:
    """Return True if objects of `cls` are rows of Django, or stand for a missing user: `.pk`."""
    named = [base.__dict__ for base in class_mro(cls)]
    return any("pk" in own for own in named) and any(
        "_meta" in own or "is_anonymous" in own for own in named
    )


def is_flask_user(cls: type) -> bool:
    """Return True if `cls` is that of a user of Flask-Login."""
    packages = [name.partition(".")[0] for name in base_names(cls)]
    return "flask_login" in packages and any("get_id" in base.__dict__ for base in class_mro(cls))


def has_password(obj: object) -> bool:
    """Return True if an object has an attribute for the password hash of a user."""
    return not PASSWORD_FIELDS.isdisjoint(attributes(obj))


def environ_fix(environ: dict[object, object]) -> str:
    """Return what to do about the environment of a request, in the words of its framework."""
    is_werkzeug = any(type(key) is str and key.startswith("werkzeug.") for key in environ)
    return IN_ENVIRON if is_werkzeug or "django" not in sys.modules else IN_META


def _import_fix(leaf: object) -> str:
    if type(leaf) is functools._lru_cache_wrapper:
        return MADE_ANEW
    kind = type(leaf)
    named = leaf if kind is FunctionType or issubclass(kind, type) else kind
    names = base_names(named) if issubclass(type(named), type) else ()  # type: ignore[arg-type]
    if "django.db.models.manager.BaseManager" in names:
        return ROWS
    module = sys.modules.get(str(getattr(named, "__module__", "")))
    name = str(getattr(named, "__qualname__", "<"))
    code = getattr(named, "__code__", None)
    file = getattr(module, "__file__", None) or ""
    if "<" in name:  # what a decorator of a library returns has the module of what it wraps
        if is_library(file) or is_library(getattr(code, "co_filename", "")):
            return MADE_FROM
        return NAMED if name.endswith("<lambda>") else UNIMPORTABLE.fix
    found: object = module
    for part in name.split("."):
        found = getattr(found, "__dict__", {}).get(part)
    return ELSEWHERE if found is None else UNDER_ANOTHER


def is_inherited(cls: type, field: str) -> bool:
    """Return True if only a class of a library that `cls` derives from uses a field.

    Its methods are asked for the names in them; no source is read.
    """
    uses = [base for base in class_mro(cls)[:-1] if _uses(base, field)]
    return bool(uses) and all(is_installed(base) for base in uses)


def _uses(cls: type, field: str) -> bool:
    methods = (one for one in cls.__dict__.values() if type(one) is FunctionType)
    return any(field in method.__code__.co_names for method in methods)


def node_to_act_on(node: Node) -> Node | None:
    """Return the innermost node on the way to `node` that is a field of the user's own code.

    Where there is none, it is the outermost field of a library's; None if there is no field.
    """
    fields = [
        at
        for at in reversed(node.chain())
        if at.step is not None and at.step.kind is StepKind.ATTRIBUTE and at.parent is not None
        if str(at.step.name).isidentifier()  # else no line of source sets it, and it may be a key
    ]
    own = (at for at in fields if at.parent is not None and call_site.is_own(type(at.parent.obj)))
    return next(own, fields[-1] if fields else None)


def field_to_act_on(node: Node, path: Path, *, exact: bool = False) -> str:
    """Say where the field to act on is set: in the user's own code, or else in which package.

    Where no object has it as a field, say of code where it is defined.

    Args:
        node: Where the offender is.
        path: Its path.
        exact: Whether the path is shown as it is, for a developer.
    """
    from contextcache.reports.field_source import field_origin, package_of  # noqa: PLC0415  # for developers

    at = node_to_act_on(node)
    if at is None or at.parent is None or at.step is None:
        return call_site.definition(node.obj)
    told = field_origin(type(at.parent.obj), str(at.step.name))
    if at is node:
        return told
    held = package_of(type(at.obj)) if call_site.is_own(type(at.parent.obj)) else ""
    is_new = held and not held.startswith("Python ") and not told.endswith(f" ({held})")
    package = f" ({held})" if is_new else ""
    above = replace(path, steps=at.path("").steps).printed(exact=exact)
    return f"{above}: {told}{package}"
