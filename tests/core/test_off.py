"""Mode `off`: what is stored is what pickle or the encoder makes, and nothing else runs."""

from __future__ import annotations

import json
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard, UnreadablePayloadError
from contextcache.engine.dump import Dump
from contextcache.jsonable import JSONGuard
from contextcache.payload.envelope import Envelope
from contextcache.testing import capture_findings
from tests.core import shapes
from tests.zoo import INNOCENTS, OFFENDERS

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = {"secret_keys": ("s" * 50,)}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "signed": SECRET,
    "compressed": {**SECRET, "compress": "zlib"},
    "session": {"session": True},
    "development": {"debug": True},
    "small": {"max_size": 1},
    "ruled": {"rules": ()},
}


@pytest.fixture(autouse=True)
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a dump by the engine fail."""

    def dump(*_: object) -> bytes:
        raise AssertionError

    monkeypatch.setattr(Dump, "fast", dump)
    monkeypatch.setattr(Dump, "careful", dump)


def outcome(work: Callable[[], bytes]) -> object:
    try:
        return work()
    except Exception as error:  # whatever pickle raises
        return type(error), str(error).partition(" at 0x")[0]


@pytest.mark.parametrize("case", [*INNOCENTS, *OFFENDERS], ids=lambda case: case.id)
def test_what_pickle_makes_or_raises(case: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The bytes are those of `pickle.dumps`, and so are its errors; nothing is reported."""
    value = case.build()
    with capture_findings() as findings:
        for session in (False, True):
            guard = Guard(mode="off", session=session)
            made = outcome(lambda: guard.dumps(value, label="session"))  # noqa: B023
            assert made == outcome(lambda: pickle.dumps(value, 5))
    assert findings == []
    assert not caplog.records
    assert guard.summary() == []


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_envelope_is_as_configured(options: dict[str, Any]) -> None:
    """A guard in mode `strip` reads what one in mode `off` has written, and the other way round."""
    value = {"rows": [shapes.Item("a", n) for n in range(500)], "HTTP_COOKIE": "c"}
    off = Guard(mode="off", **options)
    payload = off.dumps(value, key="k")
    body = pickle.dumps(value, 5)
    if "secret_keys" in options:
        assert (len(payload) < len(body)) == ("compress" in options)
        opened = Envelope(options["secret_keys"], purpose="cache", compress="", most=10**9).open(
            payload, "k", "value"
        )
        assert bytes(opened) == body
        with pytest.raises(UnreadablePayloadError):
            off.loads(payload, key="other")
    else:
        assert payload == body
    reader = Guard(**{**options, "max_size": 10**9})
    assert reader.loads(payload, key="k")["HTTP_COOKIE"] == "c"
    assert off.loads(payload, key="k")["HTTP_COOKIE"] == "c"


def test_json_is_what_the_encoder_makes() -> None:
    """Its errors are those of the encoder, too, and no size is reported."""
    asked: list[object] = []

    def encode(value: object) -> str:
        asked.append(value)
        return json.dumps(value)

    from contextcache import Config

    guard = JSONGuard(encode, Config(mode="off"))
    value = {"t": (1, 2), 1: "one"}
    with capture_findings() as findings:
        assert guard.dumps(value) == json.dumps(value)
        with pytest.raises(TypeError, match="lock is not JSON serializable"):
            guard.dumps({"lock": threading.Lock()})
        guard.weigh({"a": "x" * 4000}, 4090, 4093, fix="store less")
    assert findings == []
    assert len(asked) == 2
    assert asked[0] is value


def test_explain_still_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is kept from asking."""
    monkeypatch.undo()
    guard = Guard(mode="off")
    assert [one.code for one in guard.explain({"lock": threading.Lock()})] == ["CC102"]
