"""CC118: a pickling method of the application's own failed, whatever it raised."""

from __future__ import annotations

import copyreg
from typing import TYPE_CHECKING, Annotated, Any

import pytest

from contextcache import Guard, Recreate, Rule

if TYPE_CHECKING:
    from collections.abc import Iterator


def fail(error: type[BaseException]) -> Any:
    raise error("s3cret")


def helper() -> Any:
    return fail(TypeError)


def made(**methods: Any) -> type:
    return type("Own", (), {"__module__": __name__, **methods})


class Own:
    """The name by which the classes made here are found."""


class ReduceNone:
    def __reduce__(self) -> Any:
        return None


class ReduceOne:
    def __reduce__(self) -> Any:
        return (int,)


class ReduceNumber:
    def __reduce_ex__(self, protocol: Any) -> Any:
        return 7


class ArgumentsRaise:
    def __getnewargs__(self) -> Any:
        return fail(ValueError)


class ArgumentsTypeError:
    def __getnewargs_ex__(self) -> Any:
        return None + 1  # type: ignore[operator]


class ArgumentsNoTuple:
    def __getnewargs__(self) -> Any:
        return 5


class StateByHelper:
    def __getstate__(self) -> Any:
        return helper()


class StateLookup:
    def __getstate__(self) -> Any:
        return {}["s3cret"]


class StateOS:
    def __getstate__(self) -> Any:
        raise OSError("s3cret")


class Registered:
    """`copyreg` knows a function for it."""


class Iterated(list[int]):
    def __iter__(self) -> Iterator[int]:
        raise IndexError


class ReducesToIterator:
    def __reduce__(self) -> Any:
        return list, (), None, self.items()

    def items(self) -> Iterator[int]:
        yield 1
        raise ZeroDivisionError


CLASSES = [
    *(ReduceNone, ReduceOne, ReduceNumber, ArgumentsRaise, ArgumentsTypeError, ArgumentsNoTuple),
    *(StateByHelper, StateLookup, StateOS, Registered, Iterated, ReducesToIterator),
]


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    copyreg.pickle(Registered, lambda _: fail(ArithmeticError))
    yield
    del copyreg.dispatch_table[Registered]


@pytest.mark.parametrize("cls", CLASSES)
def test_it_is_cc118_and_the_rest_is_stored(cls: type, caplog: pytest.LogCaptureFixture) -> None:
    """The object is cut and named, at the first time and at each later one."""
    guard = Guard()
    for _ in range(3):
        loaded = guard.loads(guard.dumps({"it": cls(), "n": 1}, label="cache['key']"))
        assert loaded["n"] == 1
        assert not loaded["it"]
    [finding] = guard.summary()
    assert (finding.code, str(finding.path)) == ("CC118", "cache['key']['it']")
    assert "s3cret" not in caplog.text


class Refuses:
    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle this")


def test_a_class_that_refuses_on_purpose_is_cc117() -> None:
    """It says so by a statement of its own, with the error that pickle itself raises."""
    assert [one.code for one in Guard().explain([Refuses()])] == ["CC117"]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit])
def test_what_is_no_mistake_of_the_method_passes(error: type[BaseException]) -> None:
    """Too little memory, and the wish to end."""
    cls = made(__getstate__=lambda _: fail(error))
    with pytest.raises(error):
        Guard().dumps([cls()])


# --- What an application adds never costs the write


class Marked:
    """One annotation cannot be read, and the marker beside it is."""

    lock: Annotated[nowhere.Lock, Recreate]  # type: ignore[name-defined]  # noqa: F821
    broken: Annotated[1 / 0, 5]  # type: ignore[valid-type]
    n: int

    def __init__(self) -> None:
        import threading

        self.lock, self.broken, self.n = threading.Lock(), 1, 2


@pytest.mark.internal_error
def test_broken_annotations_rules_and_callbacks_cost_no_write() -> None:
    """The value is stored as without them."""
    rules = (
        Rule(type=f"{__name__}.Own", verb="snapshot", make=lambda _: fail(ValueError)),  # type: ignore[arg-type]
        Rule(
            type=f"{__name__}.Marked",
            verb="strip",  # type: ignore[arg-type]
            when=lambda _: fail(ValueError),
        ),
    )
    guard = Guard(rules=rules, on_finding=(lambda _: fail(ValueError),))
    value = {"own": Own(), "marked": Marked(), "lambda": lambda: None, "n": 1}
    for _ in range(2):
        loaded = guard.loads(guard.dumps(value))
        assert type(loaded["own"]) is Own
        assert loaded["marked"].n == 2
        assert loaded["marked"].lock.acquire(blocking=False)
        assert loaded["n"] == 1
