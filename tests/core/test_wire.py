"""The names that stand inside stored payloads: few, frozen, documented, each with a sample."""

from __future__ import annotations

import contextlib
import io
import pickle
import re
from pathlib import Path

import pytest

from contextcache import Guard, RequestSnapshot, StrippedValueError, UncacheableValueError
from tests import zoo
from tests.child import ROOT

SAMPLES = Path(__file__).parent / "samples" / "names"
FROZEN = {path.stem for path in SAMPLES.glob("*.pickle")}


class Names(pickle.Unpickler):
    """Notes the names of the product that a pickle looks up."""

    def __init__(self, payload: bytes) -> None:
        super().__init__(io.BytesIO(payload))
        self.found: set[str] = set()

    def find_class(self, module: str, name: str) -> object:
        if module.partition(".")[0] in (
            "contextcache",
            "contextcache_django",
            "contextcache_flask",
        ):
            self.found.add(f"{module}.{name}")
        return super().find_class(module, name)


def stored(name: str) -> object:
    return pickle.loads((SAMPLES / f"{name}.pickle").read_bytes())


@pytest.mark.parametrize("case", [*zoo.OFFENDERS, *zoo.INNOCENTS], ids=str)
def test_a_payload_names_nothing_of_the_product_that_may_move(case: zoo.Case) -> None:
    """Whatever is stored in the place of an offender."""
    for guard in (Guard(), Guard(session=True)):
        with contextlib.suppress(UncacheableValueError):
            names = Names(guard.dumps({"held": case.build()}))
            names.load()
            assert names.found <= FROZEN


def test_the_document_lists_each_frozen_name() -> None:
    """And no other."""
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    section = text.partition("## Names in payloads\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", section, re.MULTILINE)) == FROZEN


def test_a_stored_marker_loads_for_ever() -> None:
    """It is false, and says what was stripped."""
    marker = stored("contextcache.payload.wire.Stripped")
    assert not marker
    with pytest.raises(
        StrippedValueError, match=r"^cache\['cart'\]\.client \(socket\.socket\) was"
    ):
        marker.send  # type: ignore[attr-defined]  # noqa: B018


def test_a_stored_snapshot_of_a_request_loads_for_ever() -> None:
    """With all that it held."""
    snapshot = stored("contextcache.payload.wire._snapshot")
    assert type(snapshot) is RequestSnapshot
    assert (snapshot.method, snapshot.path, snapshot.query["page"]) == ("GET", "/cart", ["2"])


def test_a_stored_reference_loads_for_ever() -> None:
    """Without asking the database for the row."""
    reference = stored("contextcache_django.wire.Reference")
    assert repr(reference) == "<Reference: auth.User 7>"
