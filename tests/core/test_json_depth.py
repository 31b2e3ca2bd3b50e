"""JSON and its kin: what is too deep to be read is not written, and odd classes cost themselves."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from flask.sessions import session_json_serializer

from contextcache import Config, UncacheableValueError
from contextcache.jsonable import JSONGuard

if TYPE_CHECKING:
    from collections.abc import Callable

FORMATS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "json": (json.dumps, json.loads),
    "Flask": (session_json_serializer.dumps, session_json_serializer.loads),
    "MessagePack": (msgspec.msgpack.encode, msgspec.msgpack.decode),
    "msgspec": (msgspec.json.encode, msgspec.json.decode),
}
ENDLESS = 20_000 if sys.version_info < (3, 14) else 200_000  # levels that no encoder bears
SHAPES: dict[str, Callable[[Any], Any]] = {
    "lists": lambda inner: [inner],
    "dicts": lambda inner: {"a": inner},
    "both": lambda inner: {"a": [1, inner]},
}


def nested(shape: Callable[[Any], Any], levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = shape(value)
    return value


def from_below(calls: int, read: Callable[[Any], Any], payload: Any) -> Any:
    return from_below(calls - 1, read, payload) if calls else read(payload)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("levels", [20, 90, 150, 300, 600, 900, 980, 20_000])
def test_what_is_written_can_be_read(kind: str, shape: str, levels: int) -> None:
    """By a reader further down the stack, too; what cannot costs its own key."""
    encode, decode = FORMATS[kind]
    guard = JSONGuard(encode, decode=decode)
    stored = guard.dumps({"deep": nested(SHAPES[shape], levels), "uid": 7}, label="session")
    read = from_below(150, decode, stored)
    assert read["uid"] == 7
    if "deep" not in read:
        assert levels > 100
        [found] = guard.explain({"deep": nested(SHAPES[shape], levels), "uid": 7}, label="session")
        assert (found.code, str(found.path)) == ("CC130", "session['deep']")


@pytest.mark.parametrize("mode", ["strip", "warn", "raise"])
def test_what_is_too_deep_is_refused_where_it_is_all_there_is(mode: Any) -> None:
    """In mode `warn`, it is what the encoder says."""
    guard = JSONGuard(json.dumps, Config(mode=mode), decode=json.loads)
    with pytest.raises(UncacheableValueError, match="CC130 session"):
        guard.dumps(nested(SHAPES["lists"], ENDLESS), label="session")


def test_mode_warn_writes_what_cannot_be_read() -> None:
    """It stores what would be stored without the guard."""

    def decode(payload: str) -> Any:
        raise RecursionError

    value = {"deep": nested(SHAPES["lists"], 150), "uid": 7}
    guard = JSONGuard(json.dumps, Config(mode="warn"), decode=decode)
    assert guard.dumps(value, label="session") == json.dumps(value)
    shallow = JSONGuard(json.dumps, decode=decode)
    assert shallow.dumps({"uid": [7]}) == '{"uid": [7]}'  # not read back: it is not deep


class NoHash(type):
    def __hash__(cls) -> int:
        raise RuntimeError("no hash")


class NoEqual(type):
    __hash__ = type.__hash__

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("not comparable")


class Neither(NoHash):
    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __hash__(cls) -> int:
        raise RuntimeError("no hash")


class Alike(type):
    """Says that every class is like every other."""

    def __hash__(cls) -> int:
        return hash(str)

    def __eq__(cls, other: object) -> bool:
        return True


@dataclasses.dataclass
class Line:
    what: Any


METAS = [NoHash, NoEqual, Neither, Alike]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("meta", METAS)
@pytest.mark.parametrize(
    "odd",
    [
        lambda cls: [cls()],
        lambda cls: {"x": cls()},
        lambda cls: [[1, (cls(), 2)]],
        lambda cls: {cls(): 1},
        lambda cls: [cls],
        lambda cls: [cls(), cls(), {"y": cls()}],
    ],
    ids=["listed", "in a dict", "in a tuple", "as a key", "the class", "several"],
)
@pytest.mark.parametrize("first", [True, False])
def test_a_class_whose_metaclass_raises_costs_its_objects_alone(
    kind: str, meta: type, odd: Callable[[Any], Any], first: bool
) -> None:
    """What offends beside it is named with its whole path, and the rest is stored."""
    encode, decode = FORMATS[kind]
    cls = meta("Odd", (), {})
    value: dict[str, Any] = {"odd": odd(cls)} if first else {}
    value |= {"cart": {"items": [1, {"client": threading.Lock()}]}, "uid": 7}
    value |= {"odd": odd(cls)}
    guard = JSONGuard(encode, decode=decode)
    for _ in range(2):
        read = decode(guard.dumps(value, label="session"))
        assert read["uid"] == 7
        assert read["cart"] == {"items": [1, {}]}
    paths = [str(one.path) for one in guard.explain(value, label="session")]
    assert "session['cart']['items'][1]['client']" in paths
    assert any(path.startswith("session['odd']") for path in paths)


@pytest.mark.parametrize("meta", METAS)
def test_a_subclass_of_data_with_such_a_metaclass(meta: type) -> None:
    """It is still what it is derived from."""
    for base, value in ((str, "a"), (int, 3), (list, [1]), (dict, {"a": 1})):
        odd = meta("Odd", (base,), {})(value)
        assert json.loads(JSONGuard(json.dumps).dumps({"odd": odd, "x": Line})) == {"odd": value}
