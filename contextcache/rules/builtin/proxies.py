"""Proxies and lazy objects."""

from __future__ import annotations

import sys
from typing import Any

from contextcache.base.introspection import base_names
from contextcache.base.logs import error_name
from contextcache.rules.replacements import NothingThere, fields, nothing_there
from contextcache.rules.rule import Verb, rows


def proxy_target(obj: object) -> object:
    """Return what a werkzeug `LocalProxy` points at in this request."""
    with nothing_there():  # it calls a function of the user's, such as `lambda: g.user`
        return object.__getattribute__(obj, "_get_current_object")()


def lazy_value(obj: object) -> object:
    """Evaluate a Django lazy object, as pickle would."""
    own = fields(obj)
    wrapped = own.get("_wrapped")
    if type(wrapped) is object or wrapped is None:  # Django's mark for "not evaluated"
        try:
            object.__getattribute__(obj, "_setup")()
        except (RecursionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # a function of the user's, or the database
            fix = "evaluate it before, and store the data you need from it"
            if type(error).__name__ == "SynchronousOnlyOperation":
                fix = _AWAIT_USER if is_user_of_request(obj) else _AWAIT
            raise NothingThere(f"evaluating it raised {error_name(error)}", fix) from None
        wrapped = fields(obj).get("_wrapped")
    return wrapped


MAX_LAZY = 8  # lazy objects that stand for each other


_DATA = frozenset({
    "NoneType", "bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int",
    "list", "range", "set", "slice", "str", "tuple", "array.array", "collections.deque",
    "datetime.date", "datetime.time", "datetime.timedelta", "datetime.tzinfo", "decimal.Decimal",
    "fractions.Fraction", "ipaddress._IPAddressBase", "pathlib.PurePath",
    "pathlib._local.PurePath", "re.Pattern", "uuid.UUID", "django.db.models.query.QuerySet",
    "django.forms.forms.BaseForm", "django.utils.functional.Promise",
})  # fmt: skip


def stands_for_object(obj: object) -> bool:
    """Return True if a lazy object stands for more than data.

    Pickle stores what it stands for, so a lazy list or pattern loads as one. An object of a class
    of the application may be the user, whose data would be frozen as they are in this request.
    """
    held = lazy_value(obj)
    for _ in range(MAX_LAZY):  # a pattern of Django's validators stands behind two
        names = base_names(type(held))
        if "django.utils.functional.LazyObject" not in names:
            return _DATA.isdisjoint(names)
        held = lazy_value(held)
    return True


def is_user_of_request(obj: object) -> bool:
    """Return True if a lazy object is the `request.user` of Django."""
    setup = fields(obj).get("_setupfunc")
    return getattr(setup, "__module__", "") == "django.contrib.auth.middleware"


_AWAIT_USER = "store its primary key, (await request.auser()).pk, and fetch the user on read"
_AWAIT = "await what it asks the database for, and store the data you need of that"


def is_nameless_lazy(obj: Any) -> bool:
    """Return True if a lazy text of Django's calls a function that pickle cannot find by its name.

    `gettext` is found. `capfirst`, in the label of each field of a model form, stands behind a
    decorator that has taken its name.
    """
    unpickle, (function, *_) = obj.__reduce__()  # of the object: a lazy plural has one of its own
    if unpickle.__name__ != "_lazy_proxy_unpickle":
        return False
    found: Any = sys.modules.get(function.__module__)
    for name in function.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is not function


def lazy_result(obj: Any) -> object:
    """Return what a lazy text of Django's is now, as it would be shown."""
    function, arguments, keywords = obj.__reduce__()[1][:3]
    with nothing_there():
        return function(*arguments, **keywords)


ROWS = {
    **rows(
        "CC104", Verb.SNAPSHOT, "werkzeug.local.LocalProxy",
        is_proxy=True,
        make=proxy_target, json=True, did="stored what it points at now, cleaned in turn",
        fix="store the value you need from it",
    ),
    **rows(
        "CC105", Verb.SNAPSHOT, "django.utils.functional.SimpleLazyObject",
        is_lazy=True, make=lazy_value, when=stands_for_object,
        did="stored what it evaluates to, cleaned in turn",
        fix="store its primary key (.pk), and fetch it on read",
        force=True,
    ),
    **rows("CC105", Verb.ALLOW, "contextcache_django.wire.Reference"),
    **rows(
        "CC105", Verb.SNAPSHOT, "django.utils.functional.Promise",
        is_lazy=True, make=lazy_result, when=is_nameless_lazy,
        reason="the function of a lazy text cannot be imported by its name",
        did="stored its text, in the language of this request", fix="store str(...) of it",
        force=True,
    ),
}  # fmt: skip
