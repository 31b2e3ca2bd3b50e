"""How to take the storable part of an offender: one small function per kind.

Each is called with the offender inside a dump and returns what the rule that names it asks for.
None imports a framework: they read instance dictionaries, so no property of the offender runs.
"""

from __future__ import annotations

import pickle
import re
import sys
import time
from _thread import _local as local
from types import BuiltinMethodType, FunctionType, MethodType, SimpleNamespace
from typing import Any

from contextcache.base.introspection import class_mro, instance_dict, qualified_name
from contextcache.base.logs import error_name
from contextcache.payload.wire import RequestSnapshot, Stripped

SECRET_PARTS = (
    "accesskey", "apikey", "auth", "bearer", "cookie", "credential", "csrf", "jwt", "passphrase",
    "passw", "saml", "secret", "session", "signature", "token",
)  # fmt: skip
"""Text inside a header or parameter name behind which a credential must be assumed."""

SECRET_WORDS = frozenset({
    "assertion", "code", "key", "nonce", "otp", "pass", "pin", "pwd", "sid", "sig", "state",
    "ticket",
})  # fmt: skip
"""Whole words of such a name; as parts they would hit `shipping` and `postcode`."""


class NothingThere(Exception):  # noqa: N818  # a signal between a snapshot and its rule
    """There is nothing behind the offender to take, so it can only be stripped.

    Args:
        reason: Why, where the rule's own reason is not it.
        fix: What to do about that.
    """

    def __init__(self, reason: str = "", fix: str = "") -> None:
        super().__init__()
        self.reason = reason
        self.fix = fix


class ByName(str):
    """The name under which pickle finds an object again in its module."""

    __slots__ = ()


def now() -> str:
    """Return the present second, ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def fields(obj: object) -> dict[str, Any]:
    """Return the instance dictionary of `obj`, empty where it has none."""
    return instance_dict(obj) or {}


def innocent(name: str) -> bool:
    """Tell whether a header or parameter called `name` can be kept."""
    folded = name.lower()
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    return not words & SECRET_WORDS and not any(part in folded for part in SECRET_PARTS)


def harmless(text: str) -> str:
    """Return `text` without the query, fragment and password of every URL in it."""
    text = re.sub(r"(/[^\s?#\"]*)[?#]\S*", r"\1", text)
    text = re.sub(r"[?#][^\s?#\"]*=\S*", "", text)  # not the brands of `Sec-CH-UA: "Not?A_Brand"`
    return re.sub(r"//[^/\s]*@", "//", text)


# Thread-locals, locks, context variables


def empty_local(cls: type) -> tuple[object, tuple[object, ...]]:
    """Rebuild a thread-local of this class without values, as a new thread would see it."""
    for base in class_mro(cls):
        init = base.__dict__.get("__init__")
        if init is not None:
            code = getattr(init, "__code__", None)
            if code is not None:
                wanted = code.co_argcount - 1 - len(init.__defaults__ or ())
                keywords = code.co_kwonlyargcount - len(init.__kwdefaults__ or {})
                if wanted > 0 or keywords > 0:
                    return cls.__new__, (cls,)
            break
    return cls, ()


def asgiref_local(obj: object) -> tuple[object, tuple[object, ...]]:
    """Rebuild an empty `asgiref.local.Local` with the same binding to threads.

    `Local(...)` makes an instance of a private subclass, one of which is thread-critical.
    """
    critical = fields(obj).get("_thread_critical", "ThreadCritical" in type(obj).__name__)
    return class_mro(type(obj))[-2], (bool(critical),)


def gevent_semaphore(obj: Any) -> tuple[object, tuple[object, ...]]:
    """Rebuild a semaphore of gevent's with the count it began with, if it knows, or has now."""
    return type(obj), (getattr(obj, "_initial_value", obj.counter),)


def gevent_queue(obj: Any) -> tuple[object, tuple[object, ...]]:
    """Rebuild a queue of gevent's with its items; `queue.Queue` is one where gevent has patched."""
    return type(obj), (obj.maxsize, list(obj.queue))


def context_variable(obj: object) -> ByName:
    """Name a context variable that is a global of a module, so that it is stored by name."""
    for module_name, module in list(sys.modules.items()):
        if module_name in ("__main__", "__mp_main__") or module is None:
            continue
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is obj:
                return ByName(name)
    raise NothingThere


def thread_pool(obj: object) -> tuple[object, tuple[object, ...]]:
    """Rebuild an idle thread pool with the same number of workers."""
    return type(obj), (fields(obj).get("_max_workers"), fields(obj).get("_thread_name_prefix", ""))


def process_pool(obj: object) -> tuple[object, tuple[object, ...]]:
    """Rebuild an idle process pool with the same number of workers."""
    return type(obj), (fields(obj).get("_max_workers"),)


def current_values(obj: object) -> SimpleNamespace:
    """Return the attributes of `obj` as a plain namespace: of a thread-local, this thread's."""
    if issubclass(type(obj), local):
        return SimpleNamespace(**local.__getattribute__(obj, "__dict__"))  # type: ignore[arg-type]
    return SimpleNamespace(**fields(obj))


# Proxies and lazy objects


def proxy_target(obj: object) -> object:
    """Return what a werkzeug `LocalProxy` points at in this request."""
    try:
        return object.__getattribute__(obj, "_get_current_object")()
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # a function of the user's, such as `lambda: g.user`
        raise NothingThere from None


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
            name = type(error).__name__
            fix = _AWAIT if name == "SynchronousOnlyOperation" else "evaluate it before"
            raise NothingThere(f"evaluating it raised {error_name(error)}", fix) from None
        wrapped = fields(obj).get("_wrapped")
    return wrapped


MOST_LAZY = 8  # lazy objects that stand for each other
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
    for _ in range(MOST_LAZY):  # a pattern of Django's validators stands behind two
        names = {qualified_name(base) for base in class_mro(type(held))}
        if "django.utils.functional.LazyObject" not in names:
            return _DATA.isdisjoint(names)
        held = lazy_value(held)
    return True


_AWAIT = "in an async view, await it before: user = await request.auser()"


def is_nameless_lazy(obj: Any) -> bool:
    """Tell whether a lazy text of Django's calls a function that pickle cannot find by its name.

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
    try:
        return function(*arguments, **keywords)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # a function of the user's
        raise NothingThere from None


# Requests


def request_snapshot(obj: object) -> RequestSnapshot:
    """Keep what describes a Django, DRF, Flask, werkzeug or Starlette request."""
    own = fields(obj)
    inner = own.get("_request")  # rest_framework.request.Request
    if inner is not None:
        own = fields(inner)
    environ = own.get("META") or own.get("environ") or {}
    scope = own.get("scope") or {}
    if not isinstance(scope, dict):
        scope = {}
    if environ:  # Django makes one of the ASGI scope, less the scheme
        return _from_environ(obj, own, environ, scope)
    return _from_scope(obj, scope)


def _from_environ(
    obj: object, own: dict[str, Any], environ: dict[str, Any], scope: dict[str, Any]
) -> RequestSnapshot:
    def text(name: str) -> str:
        value = environ.get(name, "")
        return value if type(value) is str else ""

    headers = {
        name[5:].replace("_", "-").title(): value
        for name, value in environ.items()
        if type(name) is str and name.startswith("HTTP_") and type(value) is str
    }
    match = own.get("resolver_match")
    rule = own.get("url_rule")
    named = fields(match).get("view_name") or fields(rule).get("endpoint") or ""
    return RequestSnapshot(
        kind=qualified_name(type(obj)),
        method=text("REQUEST_METHOD") or "GET",
        path=own.get("path") if type(own.get("path")) is str else text("PATH_INFO"),
        host=headers.get("Host") or _server(text("SERVER_NAME"), text("SERVER_PORT")),
        scheme=text("wsgi.url_scheme") or str(scope.get("scheme") or own.get("scheme") or "http"),
        content_type=text("CONTENT_TYPE"),
        query=_query(text("QUERY_STRING")),
        headers={name: harmless(value) for name, value in headers.items() if innocent(name)},
        view_name=named if type(named) is str else "",
        taken=now(),
    )


def _from_scope(obj: object, scope: dict[str, Any]) -> RequestSnapshot:
    headers = {
        name.decode("latin-1").title(): value.decode("latin-1")
        for name, value in scope.get("headers", ())
        if isinstance(name, bytes) and isinstance(value, bytes)
    }
    return RequestSnapshot(
        kind=qualified_name(type(obj)),
        method=str(scope.get("method", "GET")),
        path=str(scope.get("path", "")),
        host=headers.get("Host", ""),
        scheme=str(scope.get("scheme", "http")),
        content_type=headers.get("Content-Type", ""),
        query=_query(bytes(scope.get("query_string", b"")).decode("latin-1")),
        headers={name: harmless(value) for name, value in headers.items() if innocent(name)},
        taken=now(),
    )


def _server(name: str, port: str) -> str:
    return f"{name}:{port}" if name and port else name


def _query(text: str) -> dict[str, list[str]]:
    from urllib.parse import parse_qs  # noqa: PLC0415  # whoever has a request has it loaded

    try:
        # The older separator is read, too, and a parameter without a value may be a token itself.
        parsed = parse_qs(text.replace(";", "&"))
    except ValueError:
        return {}
    return {name: [*map(harmless, values)] for name, values in parsed.items() if innocent(name)}


CREDENTIALS = frozenset({"HTTP_COOKIE", "HTTP_AUTHORIZATION"})


def is_environ(obj: object) -> bool:
    """Tell whether `obj` is `request.META` or a WSGI environment with credentials in it."""
    return type(obj) is dict and not obj.keys().isdisjoint(CREDENTIALS)


def environ_snapshot(environ: dict[object, object]) -> dict[str, object]:
    """Keep the plain entries of a request's environment, less those that carry credentials."""
    return {
        name: harmless(held) if type(held) is str else held
        for name, held in environ.items()
        if type(name) is str
        and type(held) in (str, int, bool, float, tuple)
        and name not in ("QUERY_STRING", "REQUEST_URI", "RAW_URI")
        and innocent(name)
    }


def header_snapshot(obj: object) -> dict[str, str]:
    """Keep the headers of a request, less those that carry credentials."""
    own = fields(obj)
    environ = own.get("environ")
    if isinstance(environ, dict):  # werkzeug EnvironHeaders, a live view of the environ
        pairs: list[tuple[object, object]] = [
            (name[5:].replace("_", "-").title(), value)
            for name, value in environ.items()
            if type(name) is str and name.startswith("HTTP_")
        ]
    else:  # django.http.request.HttpHeaders
        store = own.get("_store") or {}
        pairs = list(store.values()) if isinstance(store, dict) else []
    return {
        name: harmless(value)
        for name, value in pairs
        if type(name) is str and type(value) is str and innocent(name)
    }


# Views of other objects


def plain_list(obj: Any) -> list[object]:
    """Return what a dictionary view shows."""
    return list(obj)


def plain_dict(obj: Any) -> dict[object, object]:
    """Return what a mapping proxy or database row shows."""
    return {key: obj[key] for key in obj.keys()}  # noqa: SIM118  # sqlite3.Row iterates its values


def plain_bytes(obj: Any) -> bytes:
    """Return the bytes a memoryview shows."""
    return bytes(obj)


def detached(obj: Any) -> object:
    """Return a copy of a BeautifulSoup tag that hangs in no document."""
    return obj.__copy__()


def plain_str(obj: Any) -> str:
    """Return the text of a string subclass."""
    return str.__str__(obj)


# Parts that must not come along: each returns the changed reduce value and what was left out

Reduced = tuple[Any, ...]


def _with_state(reduced: Reduced, **changes: object) -> Reduced:
    return (*reduced[:2], {**reduced[2], **changes}, *reduced[3:])


def _state(reduced: object) -> dict[str, Any]:
    if isinstance(reduced, tuple) and len(reduced) > 2 and type(reduced[2]) is dict:
        return reduced[2]
    return {}


PASSWORD_FIELDS = frozenset(
    {
        "password",
        "password_hash",
        "passwd",
        "pw_hash",
        "hashed_password",
        "_password",
        "_password_hash",
    }
)


def without_user_password(obj: Any, reduced: Reduced) -> tuple[Reduced, list[object], str] | None:
    """Defer the password hash of a row of a Django user model.

    Django asks the database for a field that is missing from the instance dictionary. A row that
    is not saved keeps its hash, because there is no other copy of it. The password itself, which
    `set_password` keeps until the row is saved, is never stored.

    Returns:
        The changed reduce value, no field that is reported by itself, and what was stored of the
        row where that is not what the rule says.
    """
    state = _state(reduced)
    meta, model_state = type(obj)._meta, state.get("_state")
    hashes = PASSWORD_FIELDS.intersection([field.attname for field in meta.concrete_fields])
    hashes &= {name for name, value in state.items() if value}
    if not hashes and state.get("_password") is None:
        return None
    keys = [state.get(field.attname) for field in meta.pk_fields]
    hidden, did = {"_password"}, "stored it with the password hash: it is not saved yet"
    if model_state is not None and not model_state.adding and None not in keys:
        hidden, did = hidden | hashes, ""
    kept = {name: value for name, value in state.items() if name not in hidden}
    return (*reduced[:2], kept, *reduced[3:]), [], did


def without_password(_obj: object, reduced: Reduced) -> tuple[Reduced, list[object]] | None:
    """Leave the password hash out of a user.

    Django reads a field that is missing from the instance dictionary from the database when it
    is asked for, SQLAlchemy once the user is merged into a session; any other user gets a marker.
    """
    state = _state(reduced)
    hidden = PASSWORD_FIELDS & state.keys()
    if not hidden:
        return None
    kept = {name: value for name, value in state.items() if name not in hidden}
    if not {"_state", "_sa_instance_state"} & kept.keys():
        kept |= {name: Stripped("CC120", "str", f"user.{name}", now()) for name in sorted(hidden)}
    return (*reduced[:2], kept, *reduced[3:]), []


_CONDITION = frozenset({
    "_lock", "_waiters", "acquire", "release", "locked", "_release_save", "_acquire_restore",
    "_is_owned",
})  # fmt: skip


def bare_condition(obj: Any, reduced: Reduced) -> tuple[Reduced, list[object]] | None:
    """Rebuild a `threading.Condition` from its lock, as every version of Python can.

    The methods of the lock that it holds differ between versions: 3.14 added `locked`.
    """
    state = _state(reduced)
    if "_lock" not in state:
        return None
    own = {name: held for name, held in state.items() if name not in _CONDITION}
    init = next(base for base in class_mro(type(obj)) if "__init__" in base.__dict__)
    if qualified_name(init) == "threading.Condition":
        return (type(obj), (state["_lock"],), *([own] if own else [])), []
    kept = _CONDITION - {"locked"}  # a constructor of its own may want anything
    own |= {name: held for name, held in state.items() if name in kept}
    return (*reduced[:2], own, *reduced[3:]), []


def slim_page(_obj: object, reduced: Reduced) -> tuple[Reduced, list[object]] | None:
    """Keep the rows of a Django page and the count behind it, not all the other rows."""
    paginator = _state(reduced).get("paginator")
    own = fields(paginator)
    rows = own.get("object_list")
    if rows is None or type(rows) is Stripped:
        return None
    if type(rows) in (list, tuple) and len(rows) <= own.get("per_page", 0):
        return None  # the page is all there is
    copy = object.__new__(type(paginator))
    slim = instance_dict(copy)
    if slim is None:
        return None
    slim.update(own)
    if "count" not in slim:  # a cached_property, which asks the database
        slim["count"] = paginator.count  # type: ignore[union-attr]
    slim["object_list"] = Stripped(
        "CC121", qualified_name(type(rows)), "page.paginator.object_list", now()
    )
    return _with_state(reduced, paginator=copy), [rows]


def plain_attrs(_obj: object, reduced: Reduced) -> tuple[Reduced, list[object]] | None:
    """Keep of a pandas object's `attrs` what can be copied: pandas copies them on every access."""
    attrs = _state(reduced).get("attrs")
    if type(attrs) is not dict:
        return None
    offending = {name: held for name, held in attrs.items() if _is_lock(held)}
    if not offending:
        return None
    kept = {name: held for name, held in attrs.items() if name not in offending}
    return _with_state(reduced, attrs=kept), list(offending.values())


def _is_lock(obj: object) -> bool:
    return qualified_name(type(obj)) in ("_thread.lock", "_thread.RLock", "_thread._local")


def closers(_obj: object, reduced: Reduced) -> tuple[Reduced, list[object]] | None:
    """Leave out the callbacks that close another request's resources."""
    state = _state(reduced)
    for name in ("_on_close", "_resource_closers"):
        callbacks = state.get(name)
        if type(callbacks) is list and callbacks:
            offending = [call for call in callbacks if not _plain_function(call)]
            if offending:
                kept = [call for call in callbacks if _plain_function(call)]
                content = set(map(id, state.values()))  # which is told of for its own sake
                owners = [held for held in map(_owner, offending) if id(held) not in content]
                return _with_state(reduced, **{name: kept}), owners
    return None


def _plain_function(call: object) -> bool:
    name = getattr(call, "__qualname__", "<") if type(call) is FunctionType else "<"
    module = sys.modules.get(getattr(call, "__module__", "") or "")
    return "<" not in name and getattr(module, name, None) is call


def _owner(call: object) -> object:
    bound = type(call) in (MethodType, BuiltinMethodType)
    return call.__self__ if bound else call  # type: ignore[attr-defined]


# When an otherwise innocent object is one


def in_document(obj: object) -> bool:
    """Tell whether a BeautifulSoup tag or string hangs in a document, which it would drag along."""
    above = fields(obj).get("parent")
    while above is not None:
        top, above = above, fields(above).get("parent")
        if above is None:
            return type(top).__name__ == "BeautifulSoup"
    return False


def refuses_pickle(obj: object) -> bool:
    """Tell whether a file written in Python cannot be stored; some hold no more than content."""
    try:
        pickle.dumps(obj, 5)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # whatever it is, there is something open in it
        return True
    return False


def is_nameless_method(obj: Any) -> bool:
    """Tell whether a bound method is not found again: pickle asks its object for it by name.

    A private method has lost its name to the class, a decorated one may have that of its wrapper,
    and one put on a single object is not there yet when the object is being rebuilt.
    """
    owner = obj.__self__
    bases = class_mro(type(owner))[:-1]
    if issubclass(type(owner), type):
        bases = class_mro(owner)[:-1] + bases[:-1]
    try:
        name = obj.__reduce__()[1][1]  # as pickle stores it: a private one is mangled since 3.15
    except AttributeError:  # of something that is called and has no name
        return True
    names = {name, "__getattr__", "__getattribute__"}
    return names.isdisjoint(name for base in bases for name in base.__dict__)


def loses_attributes(obj: object) -> bool:
    """Tell whether a `requests.Session` has attributes beyond those it stores."""
    stored = getattr(type(obj), "__attrs__", ())
    return any(name not in stored for name in fields(obj))


def refers_to_mapping(obj: object) -> bool:
    """Tell whether a statement of SQLAlchemy was built from mapped classes, not from tables."""
    return bool(fields(obj).get("_propagate_attrs"))


def has_own_attributes(obj: object) -> bool:
    """Tell whether an object has instance attributes, which its builtin `__reduce__` drops."""
    return bool(fields(obj))


def has_cause(obj: object) -> bool:
    """Tell whether an exception was raised from another one, which pickle forgets."""
    cause = BaseException.__dict__["__cause__"].__get__(obj)
    return cause is not None
