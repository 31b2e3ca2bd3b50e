"""The words of a finding: a fix that can be followed, by what the offender is and whose it is."""

from __future__ import annotations

import dataclasses
import functools
import http.client
import io
import sys
import threading
from typing import Any

import pytest
from werkzeug.datastructures import Authorization
from werkzeug.local import LocalProxy

from contextcache import Guard, explain, is_stripped
from contextcache.engine.field_names import ELSEWHERE, IN_ENVIRON, MADE_ANEW, UNDER_ANOTHER
from contextcache.findings.path import attribute


class Wrapped:
    """A decorator that takes the name of the function."""

    def __init__(self, function: Any) -> None:
        self.function = function


@Wrapped
def double(number: int) -> int:
    """Return twice the number."""
    return 2 * number


class Shop:
    """Memoizes its own method."""

    def __init__(self) -> None:
        self.price = functools.lru_cache(maxsize=9)(self._price)

    def _price(self, number: int) -> int:
        return number


Made = type("Made", (), {"__module__": "gone.module"})
Declared = dataclasses.make_dataclass("Declared", ["a"], namespace={"__module__": "types"})


class Asks:
    """Raises by accident."""

    def __getstate__(self) -> Any:
        return {"total": None + 1}  # type: ignore[operator]


class Converts:
    """Raises in C, of its own method."""

    def __reduce__(self) -> Any:
        return Converts, tuple(None)  # type: ignore[arg-type]


class Refuses:
    """Raises on purpose."""

    def __getstate__(self) -> Any:
        raise TypeError("secret")


class Frozen:
    """Raises when it is loaded."""

    def __init__(self) -> None:
        self.__dict__["x"] = 1

    def __setstate__(self, state: object) -> None:
        raise PermissionError("secret")


class Wants(Exception):
    """Wants more than it passes on."""

    def __init__(self, message: str, order: int) -> None:
        super().__init__(message)
        self.order = order


@pytest.mark.parametrize(
    ("build", "fix"),
    [
        (lambda: double, UNDER_ANOTHER),
        (Shop, MADE_ANEW.replace("the class that holds it", "Shop")),
        (Made, ELSEWHERE),
        # Since Python 3.12 such a class has the module that it is made in.
        *([] if sys.version_info >= (3, 12) else [(lambda: Declared(1), ELSEWHERE)]),
    ],
)
def test_what_stands_at_the_top_is_not_to_be_moved_there(build: Any, fix: str) -> None:
    """What has no name of its own for another reason gets the words for that reason."""
    assert {finding.fix for finding in explain({"v": build()})} == {fix}


def test_elsewhere_can_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the class has the module and name it is assigned to, nothing is reported."""
    made = type("Elsewhere", (), {"__module__": "gone.module"})
    monkeypatch.setitem(globals(), "Assigned", made)
    assert [finding.fix for finding in explain([made()])] == [ELSEWHERE]
    made.__module__, made.__qualname__ = __name__, "Assigned"
    assert explain([made()]) == []


def test_nobody_is_asked_to_mend_an_installed_class() -> None:
    """Its methods are not the reader's."""
    [finding] = explain({"v": Authorization("digest", {"username": "ann"})})
    assert "__reduce__" not in finding.fix


@pytest.mark.parametrize(
    ("cls", "code"), [(Asks, "CC118"), (Converts, "CC118"), (Refuses, "CC117")]
)
def test_an_error_in_a_pickling_method_is_no_refusal(cls: type, code: str) -> None:
    """Only a `raise` of the method itself is on purpose."""
    assert [finding.code for finding in explain([cls()])] == [code]


@pytest.mark.parametrize(
    ("value", "raised"),
    [
        (Frozen(), "loading it raised PermissionError in Frozen.__setstate__, line "),
        (Wants("secret", 1), "loading it raised TypeError"),
    ],
)
def test_a_failed_trial_names_the_error_and_its_place(value: object, raised: str) -> None:
    """The text of the error may hold a value and is not shown."""
    [finding] = explain({"v": value})
    assert finding.code == "CC119"
    assert finding.reason.startswith(raised)
    assert "secret" not in repr(finding)


@pytest.mark.parametrize("order", [1, -1])
def test_a_proxy_of_what_was_cut_says_so(order: int) -> None:
    """The order in which pickle meets the two decides nothing."""
    rows = (number for number in range(3))
    value = dict([("real", rows), ("proxy", LocalProxy(lambda: rows))][::order])
    guard = Guard()
    assert is_stripped(guard.loads(guard.dumps(value))["proxy"])
    assert all("points at" not in finding.did for finding in guard.summary())


def test_an_environ_of_flask_has_no_meta() -> None:
    """The words are those of the framework that made it."""
    environ = {"HTTP_COOKIE": "a=b", "werkzeug.socket": None}
    [finding] = explain({"environ": environ})
    assert finding.fix == IN_ENVIRON


def test_an_open_response_is_no_client() -> None:
    """What can be stored of it is what it says."""

    class Wire:
        def makefile(self, *_: object) -> Any:
            return io.BufferedReader(io.BytesIO())  # type: ignore[arg-type]

    [finding] = explain([http.client.HTTPResponse(Wire())])  # type: ignore[arg-type]
    assert "read()" in finding.fix


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("_area_140053052966720", "._area_*"),
        ("_m140053052966720_cache", "._m*_cache"),
        ("at_0x7f6a2c0d1e20", ".at_*"),
        ("part_7f6a2c0d1e20", ".part_*"),
        ("line_2026", ".line_2026"),
        ("facade_accededdecade", ".facade_accededdecade"),
    ],
)
def test_an_address_in_a_name_is_no_part_of_a_pattern(name: str, pattern: str) -> None:
    """It is another one in the next process."""
    assert attribute(name).pattern == pattern


def test_a_lock_is_still_a_lock() -> None:
    """Words of a rule stay where they can be followed."""
    [finding] = explain([threading.Lock()])
    assert finding.fix.startswith("leave it out")
