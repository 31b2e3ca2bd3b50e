"""What holds more or less than it shows: views, pages, documents."""

from __future__ import annotations

from typing import Any

from contextcache.base.introspection import instance_dict, qualified_name
from contextcache.payload.wire import Stripped
from contextcache.rules.replacements import Reduced, Trimmed, fields, now, state_of, with_state
from contextcache.rules.rule import Verb, rows


def plain_dict(obj: Any) -> dict[object, object]:
    """Return what a mapping proxy or database row shows."""
    return {key: obj[key] for key in obj.keys()}  # noqa: SIM118  # sqlite3.Row iterates its values


def slim_page(_obj: object, reduced: Reduced) -> Trimmed | None:
    """Keep the rows of a Django page and the count behind it, not all the other rows."""
    paginator = state_of(reduced).get("paginator")
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
    return with_state(reduced, paginator=copy), [rows]


def plain_attrs(_obj: object, reduced: Reduced) -> Trimmed | None:
    """Keep of a pandas object's `attrs` what can be copied: pandas copies them on every access."""
    attrs = state_of(reduced).get("attrs")
    if type(attrs) is not dict:
        return None
    offending = {name: held for name, held in attrs.items() if _is_lock(held)}
    if not offending:
        return None
    kept = {name: held for name, held in attrs.items() if name not in offending}
    return with_state(reduced, attrs=kept), list(offending.values())


def _is_lock(obj: object) -> bool:
    return qualified_name(type(obj)) in ("_thread.lock", "_thread.RLock", "_thread._local")


def in_document(obj: object) -> bool:
    """Return True if a BeautifulSoup tag or string would drag its document along."""
    above = fields(obj).get("parent")
    while above is not None:
        top, above = above, fields(above).get("parent")
        if above is None:
            return type(top).__name__ == "BeautifulSoup"
    return False


def has_own_attributes(obj: object) -> bool:
    """Return True if an object has instance attributes, which its builtin `__reduce__` drops."""
    return bool(fields(obj))


def has_cause(obj: object) -> bool:
    """Return True if an exception was raised from another one, which pickle forgets."""
    cause = BaseException.__dict__["__cause__"].__get__(obj)
    return cause is not None


_VIEWS = tuple(
    f"{kind}_{part}" for kind in ("dict", "odict") for part in ("keys", "values", "items")
)

ROWS = {
    # Views of other objects
    **rows(
        "CC116", Verb.SNAPSHOT, *_VIEWS, "collections.abc.KeysView",
        make=list, json=True, did="stored a list of what it shows",
        fix="store list(...) of it",
        instead=dict.fromkeys(_VIEWS, "list({})"),
    ),
    **rows(
        "CC116", Verb.SNAPSHOT, "mappingproxy", "sqlite3.Row",
        make=plain_dict, json=True, did="stored a dict of what it shows",
        fix="store dict(...) of it", instead="dict({})",
    ),
    **rows(
        "CC116", Verb.SNAPSHOT, "memoryview",
        make=bytes, did="stored the bytes it shows",
        fix="store bytes(...) of it", instead="bytes({})",
    ),
    # More than meets the eye
    **rows(
        "CC121", Verb.TRIM, "django.core.paginator.Page",
        make=slim_page,
        reason="the page drags all rows of its paginator along",
        did="stored the page and the count, not the other rows",
        fix="store page.object_list as a list, with page.number and paginator.num_pages",
    ),
    **rows(
        "CC121", Verb.SNAPSHOT, "bs4.element.NavigableString",
        make=str.__str__, when=in_document,
        reason="the string drags the whole document along",
        did="stored the text alone", fix="store str(...) of it", instead="str({})",
    ),
    **rows(
        "CC121", Verb.SNAPSHOT, "bs4.element.Tag",
        make=lambda tag: tag.__copy__(), when=in_document,
        reason="the tag drags the whole document along",
        did="stored the tag alone", fix="store str(...) of it, or copy.copy(...)",
        instead="copy.copy({})",
    ),
    # Data with something else attached
    **rows(
        "CC102", Verb.TRIM, "pandas:NDFrame", "pandas:DataFrame", "pandas:Series",
        make=plain_attrs, did="left it out of attrs, stored the rest",
        fix="keep only data in attrs",
    ),
    # Less than meets the eye
    **rows(
        "CC122", Verb.OBSERVE, "collections.Counter",
        when=has_own_attributes,
        reason="its items are stored, but not the attributes its class adds",
        did="stored the items; the attributes are lost",
        fix="give the class a __reduce__ that stores its attributes, too",
    ),
    **rows(
        "CC122", Verb.OBSERVE, "BaseException", when=has_cause,
        reason="pickle forgets the exception it was raised from",
        did="stored it without its __cause__",
        fix="store traceback.format_exception(error), or the cause beside it",
    ),
}  # fmt: skip
