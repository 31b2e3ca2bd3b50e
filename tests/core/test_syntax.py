"""Source is parsed in any number of threads, also beside an application that does so itself."""

from __future__ import annotations

import ast
import inspect
import json.decoder
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from contextcache.base.syntax import parse, parse_expression, parse_literal

SOURCE = inspect.getsource(json.decoder)


def test_threads_parse_at_the_same_time() -> None:
    """Before Python 3.13 `ast.parse` alone raises a SystemError here."""
    expected = ast.dump(ast.parse(SOURCE))
    done = threading.Event()

    def application() -> None:
        while not done.is_set():
            try:
                ast.parse(SOURCE)
            except SystemError:  # what happens to others is not ours to mend
                continue

    other = threading.Thread(target=application)
    other.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            trees = list(pool.map(lambda _: ast.dump(parse(SOURCE)), range(60)))
    finally:
        done.set()
        other.join()
    assert set(trees) == {expected}


def test_each_kind_of_source_has_its_reader() -> None:
    assert [type(one) for one in parse("a = 1\nb").body] == [ast.Assign, ast.Expr]
    assert ast.unparse(parse_expression(" a.b ")) == "a.b"
    assert parse_literal("'it\\'s'") == "it's"


@pytest.mark.parametrize("source", ["a b", "a\0b"])
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        parse(source)


def test_a_literal_calls_nothing() -> None:
    with pytest.raises(ValueError, match="malformed"):
        parse_literal("print(1)")
