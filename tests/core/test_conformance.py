"""CPython's own tests of its pickler, run against ours.

`test.pickletester` is what every pickler of CPython has to pass. It comes with python.org builds,
`actions/setup-python` and pyenv; Debian ships it apart, as `libpython3-testsuite`. What is not run
are its tests of hooks that users of a pickler set (dispatch table, `persistent_id`,
`reducer_override`): ours are not for users.
"""

from __future__ import annotations

import io
import pickle
import unittest
from typing import Any

import pytest

from contextcache import Guard, UncacheableValueError, UnreadablePayloadError
from contextcache.engine.dispatch import DispatchTable
from contextcache.engine.dump import Dump
from contextcache.engine.hits import running
from contextcache.engine.picklers import CarefulPickler
from contextcache.exceptions import without_text
from contextcache.payload.wire import PROTOCOL
from contextcache.rules.book import RuleBook

pickletester: Any = pytest.importorskip(
    "test.pickletester",
    reason="WARNING: the pickler's conformance was NOT tested: this Python lacks its `test` "
    "package (Debian and Ubuntu: apt-get install libpython3-testsuite)",
)

pytestmark = pytest.mark.filterwarnings("default")  # CPython's tests mind their own warnings


class _Runs:
    """Make a pickler run by itself what a `Dump` otherwise runs."""

    running: Dump

    def dump(self, value: object) -> None:
        token = running.set(self.running)
        try:
            super().dump(value)  # type: ignore[misc]
        finally:
            running.reset(token)


class FastPickler(_Runs, pickle.Pickler):
    """The pickler of the fast pass, on a file."""

    def __init__(self, file: Any, protocol: int = PROTOCOL) -> None:
        super().__init__(file, protocol)
        self.running = Dump(DispatchTable(RuleBook()), "value")
        self.dispatch_table = self.running.table


class CarefulPickler(_Runs, CarefulPickler):
    """The pickler of the careful pass, on a file."""

    def __init__(self, file: Any, protocol: int = PROTOCOL) -> None:
        self.running = Dump(DispatchTable(RuleBook()), "value", capture=True)
        super().__init__(file, protocol)


def written_by(kind: Any, value: object) -> bytes:
    """Pickle `value`; whatever would be cut out is refused, as pickle refuses it."""
    buffer = io.BytesIO()
    pickler = kind(buffer)
    pickler.dump(value)
    if pickler.running.all_hits():
        raise UncacheableValueError("an offender")
    return buffer.getvalue()


class PicklerTests(pickletester.AbstractPickleTests):  # type: ignore[misc]
    """What a value is after it was written and read, for each way of ours to write it.

    We write protocol 5 and nothing else, so pickle itself writes what is asked for in another.
    """

    unpickler = pickle.Unpickler

    def ours(self, value: object) -> bytes:
        return written_by(self.pickler, value)

    def dumps(self, value: object, protocol: int | None = None, **options: Any) -> bytes:
        if protocol not in (None, PROTOCOL) or options:
            return pickle.dumps(value, protocol, **options)
        return self.ours(value)

    def loads(self, payload: bytes, **options: Any) -> Any:
        return pickle.loads(payload, **options)


class TestFast(PicklerTests, unittest.TestCase):
    pickler = FastPickler


class TestCareful(PicklerTests, unittest.TestCase):
    pickler = CarefulPickler


class TestGuard(PicklerTests, unittest.TestCase):
    """One guard for all tests: what it learned from one of them must not disturb the next."""

    pickler = FastPickler
    guard = Guard(mode="raise")

    def ours(self, value: object) -> bytes:
        return self.guard.dumps(value)

    def test_pickle_setstate_None(self) -> None:
        """Pickle writes what it cannot load (`__setstate__ = None`, 3.13); we find out in time."""
        if not hasattr(pickletester, "C_None_setstate"):
            self.skipTest("new in CPython 3.13")
        with pytest.raises(UncacheableValueError) as caught:
            self.guard.dumps(pickletester.C_None_setstate())
        assert [one.code for one in caught.value.findings] == ["CC119"]


class TestReading(pickletester.AbstractUnpickleTests, unittest.TestCase):  # type: ignore[misc]
    """`Guard.loads` reads what pickle reads; the cause of its error is of the kind of pickle's own.

    Only the kind: the text of pickle's own may hold a value. CPython's tests are given that text.
    """

    unpickler = pickle.Unpickler
    bad_stack_errors = truncated_errors = (pickle.UnpicklingError, EOFError)
    truncated_data_error = (pickle.UnpicklingError, "truncated")
    size_overflow_error = (OverflowError, "exceeds")

    def loads(self, payload: bytes, **options: Any) -> Any:
        if options:
            return pickle.loads(payload, **options)
        try:
            return Guard().loads(payload)
        except UnreadablePayloadError as error:
            cause = error.__cause__
        with pytest.raises(Exception) as caught:  # noqa: PT011  # any that pickle raises
            pickle.loads(payload)
        assert type(cause) is type(without_text(caught.value, ""))
        raise caught.value


def test_each_class_runs_what_cpython_has() -> None:
    """A release of CPython that moves its tests elsewhere must not go unnoticed."""
    load = unittest.defaultTestLoader.loadTestsFromTestCase
    counts = {one: load(one).countTestCases() for one in (TestFast, TestCareful, TestGuard)}
    assert min(counts.values()) >= 100
    assert load(TestReading).countTestCases() >= 40
