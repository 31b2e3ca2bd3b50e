"""Parts of frameworks, which the application keeps."""

from __future__ import annotations

import sys
from types import BuiltinMethodType, FunctionType, MethodType

from contextcache.rules.replacements import Reduced, fields, state_of, with_state
from contextcache.rules.rule import Verb, rows


def refers_to_mapping(obj: object) -> bool:
    """Return True if a statement of SQLAlchemy was built from mapped classes, not from tables."""
    return bool(fields(obj).get("_propagate_attrs"))


def closers(_obj: object, reduced: Reduced) -> tuple[Reduced, list[object]] | None:
    """Leave out the callbacks that close another request's resources."""
    state = state_of(reduced)
    for name in ("_on_close", "_resource_closers"):
        callbacks = state.get(name)
        if type(callbacks) is list and callbacks:
            offending = [call for call in callbacks if not _plain_function(call)]
            if offending:
                kept = [call for call in callbacks if _plain_function(call)]
                content = set(map(id, state.values()))  # which has findings of its own
                owners = [held for held in map(_owner, offending) if id(held) not in content]
                return with_state(reduced, **{name: kept}), owners
    return None


def _plain_function(call: object) -> bool:
    name = getattr(call, "__qualname__", "<") if type(call) is FunctionType else "<"
    module = sys.modules.get(getattr(call, "__module__", "") or "")
    return "<" not in name and getattr(module, name, None) is call


def _owner(call: object) -> object:
    bound = type(call) in (MethodType, BuiltinMethodType)
    return call.__self__ if bound else call  # type: ignore[attr-defined]


ROWS = {
    **rows(
        "CC123", Verb.STRIP,
        "flask.sansio.scaffold.Scaffold", "flask.scaffold.Scaffold", "werkzeug.routing.map.Map",
        fix="take it from the application on read, such as current_app", force=True,
    ),
    **rows(
        "CC123", Verb.STRIP, "starlette:Starlette",
        fix="take it from the request on read: request.app", force=True,
    ),
    **rows(
        "CC123", Verb.STRIP,
        "django.template.engine.Engine", "django.template.backends.base.BaseEngine",
        "django.template.base.Template", "django.template.backends.django.Template",
        "jinja2.environment.Environment", "jinja2.environment.Template",
        fix="store the rendered text or the template's name", force=True,
    ),
    **rows(
        "CC123", Verb.STRIP,
        "sqlalchemy:Mapper", "sqlalchemy:ClassManager", "sqlalchemy:QueryableAttribute",
        reason="the mapping of a class is made anew in each process",
        fix="store the name of the class or attribute", force=True,
    ),
    **rows(
        "CC123", Verb.STRIP, "sqlalchemy:Executable", when=refers_to_mapping,
        reason="the statement drags the mapping of this process along",
        fix="store its rows, or str(...) of it", force=True,
    ),
    **rows(
        "CC123", Verb.TRIM,
        "django.http.response.HttpResponseBase", "werkzeug.sansio.response.Response",
        make=closers,
        reason="the response would close what another request had opened",
        did="stored the response without it", fix="cache the response before callbacks are added",
    ),
}  # fmt: skip
