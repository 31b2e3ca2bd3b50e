"""Python source as a syntax tree, read by one thread at a time."""

from __future__ import annotations

import ast
import inspect
from typing import TYPE_CHECKING, TypeVar

from contextcache.base.locks import ProcessLock

if TYPE_CHECKING:
    from collections.abc import Callable

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

MAX_TRIES = 5

_lock = ProcessLock()


def parse(source: str | bytes) -> ast.Module:
    """Return the syntax tree of a module; raises what `ast.parse` raises.

    Args:
        source: Text, or bytes whose encoding a comment may name.

    Raises:
        SyntaxError: It is no Python.
        ValueError: It holds null bytes.
    """
    return _alone(ast.parse, source)


def source_lines(defined: object) -> tuple[list[str], int]:
    """Return the source lines of a class or function, and the number of the first.

    Raises:
        OSError: There is no source.
        TypeError: It is built in.
        SyntaxError: The source is no Python.
    """
    return _alone(_source_lines, defined)


def _source_lines(defined: object) -> tuple[list[str], int]:
    return inspect.getsourcelines(defined)  # type: ignore[arg-type]  # it says by itself if it cannot


def _alone(function: Callable[[_Argument], _Result], argument: _Argument) -> _Result:
    """Call what builds a syntax tree while no other thread does so here.

    Until Python 3.13 the interpreter counts the depth of the tree for all threads together, and
    raises a `SystemError` when two build one at a time (cpython#106905). When the application
    parses something in the same moment, it is tried again.
    """
    with _lock:
        for _ in range(MAX_TRIES):
            try:
                return function(argument)
            except SystemError:
                continue
    raise SyntaxError("the source cannot be parsed while other threads parse")


def parse_expression(source: str) -> ast.expr:
    """Return the tree of one expression; raises what `parse` does."""
    match parse(f"({source}\n)").body:
        case [ast.Expr(value=expression)]:
            return expression
    raise SyntaxError("this is not one expression")


def parse_literal(source: str) -> object:
    """Return the value of a literal such as `'text'`; raises a `ValueError` for anything else."""
    return ast.literal_eval(parse_expression(source))
