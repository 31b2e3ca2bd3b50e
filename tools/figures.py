"""Print the size of the packages: `make figures`. Nothing here fails; the figures are for reading.

Lines are those of `wc -l`. A class or function is as long as its source, decorators included.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PACKAGES = ("contextcache", "contextcache_django", "contextcache_flask")
MAX_FILE, MAX_CLASS = 400, 200  # lines; what CONTRIBUTING.md asks for
SHOWN = 5  # of each kind, where fewer are too long

Length = tuple[int, str]


def files() -> Iterator[tuple[str, Path, ast.Module, int]]:
    """Yield the package, the path, the tree and the lines of each module."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            yield package, path.relative_to(ROOT), ast.parse(text), text.count("\n")


def lengths(path: Path, tree: ast.Module, *kinds: type[ast.AST]) -> Iterator[Length]:
    """Yield the lines and the name of each definition of these kinds."""
    for node in ast.walk(tree):
        if isinstance(node, kinds):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            yield node.end_lineno - first + 1, f"{path}:{first} {node.name}"


def has_any(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return True if an annotation of the signature names `Any`."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    given += [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
    annotations = [one.annotation for one in given] + [node.returns]
    return any(
        isinstance(part, ast.Name) and part.id == "Any"
        for annotation in annotations
        if annotation is not None
        for part in ast.walk(annotation)
    )


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield the functions and methods whose name, and whose class's name, is public."""
    for node in tree.body:
        nodes = node.body if isinstance(node, ast.ClassDef) else [node]
        for one in nodes:
            if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) and not (
                one.name.startswith("_") or getattr(node, "name", "").startswith("_")
            ):
                yield one


def longest(what: str, found: list[Length], most: int) -> None:
    """Print what is longer than `most` lines, or else the longest."""
    found.sort(reverse=True)
    over = sum(lines > most for lines, _ in found)
    print(f"\nlongest {what} ({over} of {len(found)} over {most} lines)")
    for lines, name in found[: max(SHOWN, over)]:
        print(f"{lines:>7,}  {name}")


def main() -> None:
    """Print every figure."""
    modules = list(files())
    print("lines of Python")
    for package in PACKAGES:
        counts = [lines for name, _, _, lines in modules if name == package]
        print(f"{sum(counts):>7,}  {package}, {len(counts)} files")
    print(f"{sum(lines for *_, lines in modules):>7,}  together, {len(modules)} files")
    longest("files", [(lines, str(path)) for _, path, _, lines in modules], MAX_FILE)
    classes = [one for _, path, tree, _ in modules for one in lengths(path, tree, ast.ClassDef)]
    longest("classes", classes, MAX_CLASS)
    functions = [one for _, _, tree, _ in modules for one in public_functions(tree)]
    print(f"\n{sum(map(has_any, functions)):>7,}  of {len(functions):,} public functions name Any")


if __name__ == "__main__":
    main()
