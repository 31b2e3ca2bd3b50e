"""Stand-ins: what a reader finds where a field could not be stored."""

from __future__ import annotations

import copy
import math
import operator
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard, RequestSnapshot, Stripped, StrippedValueError, is_stripped

if TYPE_CHECKING:
    from collections.abc import Callable

WHEN = "2026-01-02T03:04:05+00:00"
WHERE = "session['cart'].items[3].client"
USED = (
    "session['cart'].items[3].client (shop.api.Client) was not stored at "
    "2026-01-02T03:04:05+00:00: "
    "a connection or client belongs to this process; "
    "set it again after reading the value, or leave it out before storing [CC108]"
)


def marker() -> Stripped:
    return Stripped("CC108", "shop.api.Client", WHERE, WHEN)


async def awaits(obj: Any) -> None:
    await obj


async def enters(obj: Any) -> None:
    async with obj:
        pass


async def loops(obj: Any) -> None:
    async for _ in obj:
        pass


def run(coroutine: Any) -> None:
    try:
        coroutine.send(None)
    finally:
        coroutine.close()


def enter(obj: Any) -> None:
    with obj:
        pass


def augmented(obj: Any) -> None:
    obj += 1


BINARY = (
    "add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift",
    "and_", "or_", "xor", "lt", "le", "gt", "ge",
)  # fmt: skip

USES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda it: it.fetch,
    "call": lambda it: it(),
    "method": lambda it: it.fetch(3),
    "setattr": lambda it: setattr(it, "timeout", 3),
    "delattr": lambda it: delattr(it, "timeout"),
    "iter": iter,
    "for": lambda it: list(it),
    "next": next,
    "len": len,
    "contains": lambda it: 1 in it,
    "reversed": reversed,
    "getitem": lambda it: it[0],
    "setitem": lambda it: operator.setitem(it, 0, 0),
    "delitem": lambda it: operator.delitem(it, 0),
    "with": enter,
    "await": lambda it: run(awaits(it)),
    "async with": lambda it: run(enters(it)),
    "async for": lambda it: run(loops(it)),
    "augmented": augmented,
    "neg": operator.neg,
    "pos": operator.pos,
    "abs": abs,
    "invert": operator.invert,
    "round": round,
    "int": int,
    "float": float,
    "complex": complex,
    "index": operator.index,
    "bytes": bytes,
    "path": os.fspath,
    "divmod": lambda it: divmod(it, 2),
    "divmod by": lambda it: divmod(2, it),
    "sum": lambda it: sum([it]),
    "sorted": lambda it: sorted([it, it]),
    "sqrt": math.sqrt,
    **{name: lambda it, name=name: getattr(operator, name)(it, 2) for name in BINARY},
    **{
        f"{name} from the right": lambda it, name=name: getattr(operator, name)(2, it)
        for name in BINARY
    },
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_any_use_says_which_field_was_stripped_when_why_and_what_to_do(
    use: Callable[[Any], Any],
) -> None:
    """Whatever is done with a marker, the error is the same and it is exact."""
    with pytest.raises(StrippedValueError) as caught:
        use(marker())
    assert str(caught.value) == USED


def test_a_marker_is_false_and_equal_only_to_itself() -> None:
    """`if cart.client:` takes the branch for "not there"; no other object is mistaken for it."""
    one = marker()
    assert not one
    assert one == one  # noqa: PLR0124  # the comparison is the point
    assert one != marker()
    assert one != None  # noqa: E711  # the comparison is the point
    assert one not in (0, "", marker())
    assert len({one, one, marker()}) == 2


def test_a_field_that_was_stripped_looks_absent() -> None:
    """The error is an `AttributeError`, so `hasattr`, `getattr` and templates get their default."""
    assert not hasattr(marker(), "fetch")
    assert getattr(marker(), "fetch", "default") == "default"
    assert issubclass(StrippedValueError, TypeError)


def test_a_marker_shows_itself_without_an_error() -> None:
    """Printing a value with a marker in it, in a log or a debugger, works."""
    shown = "<stripped session['cart'].items[3].client: CC108 shop.api.Client>"
    assert repr(marker()) == str(marker()) == f"{marker()}" == shown
    assert repr([marker()]) == f"[{shown}]"
    assert isinstance(marker(), Stripped)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_marker_can_be_stored_again(protocol: int) -> None:
    """A value that was read with a marker in it can be written back, with any protocol."""
    again = pickle.loads(pickle.dumps(marker(), protocol))
    assert is_stripped(again)
    with pytest.raises(StrippedValueError) as caught:
        again.fetch()
    assert str(caught.value) == USED


def test_a_marker_can_be_copied() -> None:
    """`copy` asks for special methods, and gets its answer."""
    assert repr(copy.copy(marker())) == repr(copy.deepcopy(marker())) == repr(marker())


def test_a_marker_is_no_offender() -> None:
    """Storing a marker again is no new finding."""
    guard = Guard()
    value = {"client": marker()}
    assert guard.dumps(value) == pickle.dumps(value, 5)
    assert guard.explain(value) == []


def test_a_code_of_a_newer_version_has_a_reason_of_its_own() -> None:
    """A marker stored by a newer contextcache is read by an older one."""
    with pytest.raises(StrippedValueError, match=r"it could not be stored; .* \[CC999\]"):
        Stripped("CC999", "x.Y", "value", WHEN)()


@pytest.mark.parametrize("value", [None, 0, "", RequestSnapshot(), Stripped])
def test_is_stripped_knows_a_marker_from_anything_else(value: object) -> None:
    """Only a marker is one."""
    assert not is_stripped(value)
    assert is_stripped(marker())


def snapshot() -> RequestSnapshot:
    return RequestSnapshot(
        kind="django.core.handlers.wsgi.WSGIRequest",
        method="GET",
        path="/cart",
        host="shop.example",
        scheme="https",
        content_type="",
        query={"page": ["2"]},
        headers={"Accept": "*/*"},
        view_name="cart",
        taken=WHEN,
    )


def test_a_snapshot_is_read_only() -> None:
    """Nobody mistakes it for the request and changes it."""
    with pytest.raises(AttributeError) as caught:
        snapshot().path = "/admin"
    assert str(caught.value) == "a RequestSnapshot is read-only; path cannot be set"
    with pytest.raises(AttributeError) as caught:
        del snapshot().path
    assert str(caught.value) == "a RequestSnapshot is read-only; path cannot be deleted"


def test_what_a_snapshot_does_not_keep_says_so() -> None:
    """Reading the user from a stored request is the habit to unlearn; the error teaches it."""
    with pytest.raises(AttributeError) as caught:
        snapshot().user  # noqa: B018
    assert str(caught.value) == (
        "django.core.handlers.wsgi.WSGIRequest.user was not stored: a snapshot of a request keeps "
        "content_type, headers, host, kind, method, path, query, scheme, taken, view_name; "
        "store the value you need instead of the request [CC106]"
    )
    assert not hasattr(snapshot(), "session")


def test_a_snapshot_survives_storage() -> None:
    """It equals what was stored, and shows no more than method and path."""
    again = pickle.loads(pickle.dumps(snapshot()))
    assert again == snapshot()
    assert again != pickle.loads(pickle.dumps(RequestSnapshot(kind="other")))
    assert copy.deepcopy(again) == again
    assert repr(again) == "<snapshot of django.core.handlers.wsgi.WSGIRequest: GET /cart>"
    assert Guard().dumps(snapshot()) == pickle.dumps(snapshot(), 5)


def test_a_snapshot_of_an_older_version_lacks_nothing() -> None:
    """A field added later reads as empty where an older version stored the snapshot."""
    assert RequestSnapshot(kind="x").view_name == ""
