"""A value too deep for the stack is refused as a whole; it is never stored with a part cut off."""

from __future__ import annotations

import pickle
import pickletools
import sys
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard, UncacheableValueError, explain
from contextcache.rules.builtin.proxies import proxy_target
from contextcache.rules.rule import Rule, Verb

if TYPE_CHECKING:
    from collections.abc import Callable


class Comment:
    answer: object = None

    def __init__(self, answer: object = None) -> None:
        self.answer = answer


class Slotted:
    __slots__ = ("answer",)

    def __init__(self, answer: object = None) -> None:
        self.answer = answer


class Stated(Comment):
    def __getstate__(self) -> dict[str, object]:
        return dict(vars(self))


class Reduced(Comment):
    def __reduce__(self) -> tuple[object, ...]:
        return Reduced, (self.answer,)


class Listed(list[object]):
    def __init__(self, answer: object = None) -> None:
        super().__init__([answer])


KINDS: dict[str, Callable[[Any], object]] = {
    "objects": Comment,
    "slots": Slotted,
    "own states": Stated,
    "own reduce": Reduced,
    "subclasses of list": Listed,
    "lists": lambda inner: [inner],
    "dicts": lambda inner: {"a": inner},
    "tuples": lambda inner: (1, inner),
    "ordered dicts": lambda inner: OrderedDict(a=inner),
    "objects in lists": lambda inner: [Comment([inner])],
}


def nested(make: Callable[[Any], object], levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = make(value)
    return value


# 3.12 and 3.13 count calls in C up to a fixed number, whatever the stack: on a small one, pickle
# itself ends the process there.
STACKS = [8192] if (3, 12) <= sys.version_info < (3, 14) else [384, 1536, 8192]


@pytest.mark.parametrize("kilobytes", STACKS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_too_deep_is_refused_with_any_stack(kind: str, kilobytes: int) -> None:
    """Since Python 3.14, how deep pickle goes depends on the size of the stack."""
    outcomes: list[object] = []

    def write() -> None:
        for first in (None, threading.Lock()):
            value = nested(KINDS[kind], 60_000)
            try:
                outcomes.append(Guard().dumps({"first": first, "v": value}))
            except UncacheableValueError as error:
                outcomes.append({one.code for one in error.findings})

    size = threading.stack_size(kilobytes * 1024)
    try:
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(size)
    assert len(outcomes) == 2
    assert all(isinstance(codes, set) and "CC130" in codes for codes in outcomes)


class Lazy:
    """Asks for itself where it is not complete, which it is not while it is being loaded."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Restored:
    def __setstate__(self, state: object) -> None:
        self.__setstate__(state)


class Built:
    def __init__(self) -> None:
        type(self)()

    def __reduce__(self) -> tuple[object, ...]:
        return Built, ()


@pytest.mark.parametrize(
    "value", [Restored(), Lazy(3), Built.__new__(Built)], ids=["setstate", "getattr", "init"]
)
def test_a_class_that_recurses_while_it_is_loaded_costs_its_object_alone(value: Any) -> None:
    """Not the depth is at fault: there is room on the stack, so the rest is stored."""
    try:
        pickle.loads(pickle.dumps(value, 5))
        pytest.skip("this version of Python loads it")
    except RecursionError:
        pass
    guard = Guard()
    for _ in range(2):
        made = guard.loads(guard.dumps({"odd": value, "rows": [1]}))
        assert made["rows"] == [1]
    assert {one.code for one in guard.summary()} == {"CC119"}


def recurse(*_: object) -> Any:
    raise RecursionError


class Hashless(type):
    __hash__ = recurse  # type: ignore[assignment]


class Raising:
    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RecursionError


class Stateless:
    __getstate__ = recurse


class Proxy:
    _get_current_object = recurse


class Ruled:
    pass


RULED, PROXY = f"{__name__}.Ruled", f"{__name__}.Proxy"


@pytest.mark.parametrize(
    ("value", "rules"),
    [
        (Hashless("Odd", (), {})(), ()),
        (Raising(), ()),
        (Stateless(), ()),
        (Ruled(), (Rule(type=RULED, verb=Verb.STRIP, code="CC108", when=recurse),)),
        (Ruled(), (Rule(type=RULED, verb=Verb.RECREATE, code="CC108", make=recurse),)),
        (Ruled(), (Rule(type=RULED, verb=Verb.SNAPSHOT, code="CC108", make=recurse),)),
        (Ruled(), (Rule(type=RULED, verb=Verb.REPLACE, code="CC108", make=recurse),)),
        (
            Proxy(),
            (Rule(type=PROXY, verb=Verb.SNAPSHOT, code="CC104", make=proxy_target),),
        ),
    ],
)
@pytest.mark.parametrize("around", [lambda it: it, lambda it: [it], lambda it: Comment({"a": it})])
def test_a_recursion_error_is_never_taken_for_an_offender(
    value: Any, rules: Any, around: Any
) -> None:
    """Whatever raises it: nothing is stored, and nothing stands in for what raised."""
    guard = Guard(rules=rules)
    for _ in range(2):
        with pytest.raises(UncacheableValueError):
            guard.dumps({"v": around(value)})
    assert all(one.action.value == "refused" for one in guard.summary())
    assert guard.loads(guard.dumps({"rows": [1, Comment()]}))["rows"][0] == 1


class Client:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.call = threading.Condition()
        self.rows = [Comment(Slotted(1)), {"a": {2, 3}}, Stated(), Reduced(3)]


def words_in(payload: bytes) -> list[str]:
    """Return the text in a pickle, without times."""
    texts = [part for _, part, _ in pickletools.genops(payload) if isinstance(part, str)]
    return [text for text in texts if not text.startswith("20")]


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("make", [Client, lambda: [Comment(lambda: 1), Client()], lambda: Lazy(1)])
def test_a_write_from_deep_down_the_stack_is_whole_or_refused(make: Any, warm: bool) -> None:
    """However few calls are left before the recursion limit."""
    value = {"first": make(), "then": Comment()}
    usual = Guard()
    expected = words_in(usual.dumps(value))
    here = 0
    frame = sys._getframe()
    while frame is not None:
        frame, here = frame.f_back, here + 1  # type: ignore[assignment]

    def at(levels: int, guard: Guard) -> bytes | None:
        return at(levels - 1, guard) if levels > 0 else guard.dumps(value)

    written = 0
    for left in range(5, 420, 5):
        guard = usual if warm else Guard()
        try:
            payload = at(sys.getrecursionlimit() - here - left, guard)
        except (RecursionError, UncacheableValueError):
            continue
        written += 1
        assert words_in(payload) == expected
    assert written


def test_explain_says_that_it_is_too_deep() -> None:
    """The path is where the nesting begins."""
    value = nested(lambda inner: [inner], 100_000)
    assert [one.code for one in explain({"v": value})] == ["CC130"]
