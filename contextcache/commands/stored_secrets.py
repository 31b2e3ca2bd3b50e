"""Secrets in stored bytes, by their shapes: in pickles, in JSON, in MessagePack and in text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from contextcache.commands.formats import packed_texts
from contextcache.engine.secret_search import iter_texts
from contextcache.findings.path import Path
from contextcache.rules.secret_shapes import shape_of, shapes_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from contextcache.commands.nodes import Node
    from contextcache.commands.payload_reader import Reading
    from contextcache.rules.secret_shapes import Shape


def shapes_in_stored(body: bytes) -> list[Shape]:
    """Return the shapes of which stored bytes may hold one; some encoders of JSON escape `/`."""
    return shapes_in(body.replace(b"\\/", b"/"))


def describe_secrets(
    body: bytes, reading: Reading | None, shapes: Sequence[Shape], *, hidden: bool = False
) -> list[str]:
    """Return the kind and the field of each secret in stored bytes, never the secret.

    Args:
        body: The bytes, out of what they are wrapped in.
        reading: What they hold, if that is a pickle; its texts were searched for `shapes`.
        shapes: The shapes that may be in them.
        hidden: Whether no key is shown.
    """
    if not shapes:
        return []
    if reading is None or reading.damaged:
        found = _elsewhere(body, shapes)
    else:
        found = _in_pickle(reading.root)
    described = []
    for shape, path in found:
        field = Path("", path.steps, hidden).printed()
        described.append(f"{shape.name} at {field}" if field else shape.name)
    return described


def _in_pickle(root: Node) -> Iterator[tuple[Shape, Path]]:
    for node in root.walk():
        if node.secret is not None:
            yield node.secret, node.path("")


def _elsewhere(body: bytes, shapes: Sequence[Shape]) -> Iterator[tuple[Shape, Path]]:
    found = list(_in_json(body, shapes))
    yield from found
    for text in [] if found else list(packed_texts(body)) or [body]:
        shape = shape_of(text, shapes)
        if shape is not None:
            yield shape, Path("")


def _in_json(body: bytes, shapes: Sequence[Shape]) -> Iterator[tuple[Shape, Path]]:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):  # it is no JSON, or nested too deep to be read
        return
    for steps, text in iter_texts(value):
        shape = shape_of(text, shapes)
        if shape is not None:
            yield shape, Path("", steps)
