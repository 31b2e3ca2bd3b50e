"""What stands in for an offender: the objects a reader finds where a field could not be stored."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from contextcache.exceptions import StrippedValueError
from contextcache.findings.finding import CODES

if TYPE_CHECKING:
    from collections.abc import Mapping


PROTOCOL = 5
"""The pickle protocol of every payload."""


class Stripped:
    """Mark the place of a field that was not stored.

    It is false, equal only to itself and can be stored again. Any use of it raises
    `StrippedValueError`, which says which field was stripped, when, why and what to do.

    Args:
        code: Code of the finding, such as `CC108`.
        leaf_type: Qualified type of what stood here.
        where: Path of the field, or its pattern.
        when: Time of the write, ISO 8601 in UTC.
    """

    __slots__ = ("__code", "__leaf_type", "__when", "__where")

    __code: str
    __leaf_type: str
    __when: str
    __where: str

    def __init__(self, code: str, leaf_type: str, where: str, when: str) -> None:
        keep = object.__setattr__  # setting an attribute is a use of the marker, too
        keep(self, "_Stripped__code", code)
        keep(self, "_Stripped__leaf_type", leaf_type)
        keep(self, "_Stripped__where", where)
        keep(self, "_Stripped__when", when)

    def __reduce__(self) -> tuple[type[Stripped], tuple[str, str, str, str]]:
        return Stripped, (self.__code, self.__leaf_type, self.__where, self.__when)

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"<stripped {self.__where}: {self.__code} {self.__leaf_type}>"

    def __refuse(self) -> NoReturn:
        reason = CODES.get(self.__code, "it could not be stored")
        raise StrippedValueError(
            f"{self.__where} ({self.__leaf_type}) was not stored at {self.__when}: {reason}; "
            f"set it again after reading the value, or leave it out before storing [{self.__code}]"
        )

    def __getattr__(self, name: str) -> NoReturn:
        self.__refuse()

    def __use(self, *_args: object, **_kwargs: object) -> NoReturn:
        self.__refuse()

    __setattr__ = __delattr__ = __use
    __call__ = __use
    __iter__ = __next__ = __len__ = __contains__ = __reversed__ = __use
    __getitem__ = __setitem__ = __delitem__ = __use
    __enter__ = __exit__ = __aenter__ = __aexit__ = __await__ = __aiter__ = __anext__ = __use
    __lt__ = __le__ = __gt__ = __ge__ = __use
    __add__ = __sub__ = __mul__ = __matmul__ = __truediv__ = __floordiv__ = __mod__ = __use
    __radd__ = __rsub__ = __rmul__ = __rmatmul__ = __rtruediv__ = __rfloordiv__ = __rmod__ = __use
    __pow__ = __divmod__ = __lshift__ = __rshift__ = __and__ = __or__ = __xor__ = __use
    __rpow__ = __rdivmod__ = __rlshift__ = __rrshift__ = __rand__ = __ror__ = __rxor__ = __use
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = __use
    __int__ = __float__ = __complex__ = __index__ = __bytes__ = __fspath__ = __use


def is_stripped(value: object) -> bool:
    """Return True if `value` marks a field that was not stored."""
    return type(value) is Stripped


class RequestSnapshot:
    """What may be kept of a request: read-only, without credentials, body or user.

    Attributes:
        kind: Qualified type of the request it was taken from.
        method: HTTP method.
        path: URL path without the query string.
        host: Host and port the request was sent to.
        scheme: `http` or `https`.
        content_type: Media type of the request's body.
        query: Query parameters as lists, less those named like a credential.
        headers: Headers, less those that carry credentials.
        view_name: Name of the URL pattern or endpoint, if it was resolved.
        taken: Time of the snapshot, ISO 8601 in UTC.
    """

    __slots__ = (
        "content_type",
        "headers",
        "host",
        "kind",
        "method",
        "path",
        "query",
        "scheme",
        "taken",
        "view_name",
    )

    kind: str
    method: str
    path: str
    host: str
    scheme: str
    content_type: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    view_name: str
    taken: str

    def __init__(self, **fields: Any) -> None:
        for name in self.__slots__:
            field = fields.get(name, "")
            object.__setattr__(
                self, name, MappingProxyType(field) if type(field) is dict else field
            )

    def __reduce__(self) -> tuple[object, tuple[dict[str, object]]]:
        fields = {name: getattr(self, name) for name in self.__slots__}
        for name in ("query", "headers"):
            fields[name] = dict(fields[name])
        return _snapshot, (fields,)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"a RequestSnapshot is read-only; {name} cannot be set")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a RequestSnapshot is read-only; {name} cannot be deleted")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"{self.kind}.{name} was not stored: a snapshot of a request keeps "
            f"{', '.join(self.__slots__)}; store the value you need instead of the request [CC106]"
        )

    def __eq__(self, other: object) -> bool:
        return type(other) is RequestSnapshot and self.__reduce__() == other.__reduce__()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<snapshot of {self.kind}: {self.method} {self.path}>"


def _snapshot(fields: dict[str, object]) -> RequestSnapshot:
    return RequestSnapshot(**fields)
