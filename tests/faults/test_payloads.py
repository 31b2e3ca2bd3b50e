"""Reading what is not ours, or no longer: a miss and one warning, and nothing ever runs."""

from __future__ import annotations

import contextlib
import itertools
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches

from tests.core import programs
from tests.core.programs import build, call, name, own, slots, state, text
from tests.faults import places
from tests.faults.payloads import EVIL, FORGED, ROTTEN, Rot, disguised, executed
from tests.faults.places import (
    NONE,
    PARTS,
    PATIENT,
    PLACES,
    UNREADABLE,
    DjangoCache,
    FlaskCache,
    Place,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis


@pytest.fixture(params=PLACES, ids=lambda place: place.name)
def kind(request: pytest.FixtureRequest) -> type[Place]:
    return request.param


@pytest.fixture
def place(kind: type[Place], redis_url: str, redis_client: redis.Redis) -> Iterator[Place]:
    with kind(redis_url, **PATIENT) as place:
        yield place


@pytest.fixture(autouse=True)
def nothing_has_run() -> Iterator[None]:
    """Each test begins with nothing executed, and none may end with it."""
    executed.clear()
    yield
    assert executed == []


def written(place: Place, redis_client: redis.Redis) -> bytes:
    """Let `place` write its value, and return the one key of Redis it is under."""
    redis_client.flushall()
    place.write()
    assert place.read() == place.reads[NONE]
    (key,) = redis_client.keys()
    return key


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and "cannot be read" in record.getMessage()
    ]


@pytest.mark.parametrize("forgery", FORGED)
def test_what_we_did_not_write_is_a_miss_and_one_warning(
    place: Place, forgery: str, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """It names the key, says what is wrong and what to do, and shows nothing of the bytes."""
    key = written(place, redis_client)
    redis_client.set(key, FORGED[forgery](redis_client.get(key)))
    caplog.clear()
    assert place.read() == place.reads[UNREADABLE]
    (warning,) = warnings(caplog)
    label = "session" if "session" in place.name else "cache['key']"
    assert warning.startswith(f"contextcache: {label} cannot be read and counts as a miss: ")
    assert "; " in warning
    place.write()  # and the next write heals it
    assert place.read() == place.reads[NONE]


@pytest.mark.parametrize("rot", ROTTEN, ids=lambda rot: rot.name)
def test_what_cannot_be_rebuilt_is_a_miss_that_names_the_class(
    place: Place,
    rot: Rot,
    redis_client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As after a deploy: never a page that fails, and nobody has to guess what is missing."""
    monkeypatch.setattr(places, "VALUE", rot.make())
    place.write()
    rot.spoil(monkeypatch)
    caplog.clear()
    assert place.read() == place.reads[UNREADABLE]
    (warning,) = warnings(caplog)
    assert rot.reason in warning
    assert "canary" not in caplog.text


@pytest.mark.parametrize("evil", EVIL)
def test_the_attacks_are_real(evil: str) -> None:
    """Each one runs where a pickle is simply loaded; else the tests below would show nothing."""
    with contextlib.suppress(Exception):
        pickle.loads(EVIL[evil])
    assert executed == ["fired"]
    executed.clear()


@pytest.mark.parametrize("kind", [*PLACES, *PARTS], indirect=True)
@pytest.mark.parametrize("evil", EVIL)
def test_a_planted_pickle_is_never_executed(
    place: Place, evil: str, redis_client: redis.Redis
) -> None:
    """Whatever it pretends to be, for whatever reader: all ten peers execute the first one."""
    for disguise, payload in disguised(EVIL[evil]).items():
        redis_client.set(written(place, redis_client), payload)
        assert place.read() == place.reads[UNREADABLE], disguise
        assert executed == [], disguise


def test_what_was_signed_for_one_key_is_worth_nothing_under_another(
    kind: type[Place], redis_url: str, redis_client: redis.Redis
) -> None:
    """Else whoever can write to Redis copies an administrator's session onto his own."""
    with kind(redis_url, **PATIENT) as place:
        theirs = written(place, redis_client)
        place.elsewhere()
        place.write()
        assert place.read() == place.reads[NONE]
        (mine,) = set(redis_client.keys()) - {theirs}
        redis_client.set(mine, redis_client.get(theirs))
        assert place.read() == place.reads[UNREADABLE]


@pytest.mark.parametrize(("here", "there"), [*itertools.permutations(PLACES, 2)])
def test_what_was_signed_for_one_place_is_worth_nothing_in_another(
    here: type[Place], there: type[Place], redis_url: str, redis_client: redis.Redis
) -> None:
    """A cache that a visitor can fill must not make him a session, nor the other way round."""
    with here(redis_url, **PATIENT) as place:
        payload = redis_client.get(written(place, redis_client))
    with there(redis_url, **PATIENT) as place:
        redis_client.set(written(place, redis_client), payload)
        assert place.read() == place.reads[UNREADABLE]


def test_one_bad_value_spoils_no_other(
    redis_url: str, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """`get_many` gives what can be read, and the warning names the one that cannot."""
    with DjangoCache(redis_url, **PATIENT):
        cache: Any = caches["default"]
        cache.set_many({f"k{number}": [number] for number in range(5)})
        redis_client.set(cache.make_key("k2"), b"\x80\x05N.")
        assert cache.get_many([f"k{number}" for number in range(5)]) == {
            "k0": [0], "k1": [1], "k3": [3], "k4": [4],
        }  # fmt: skip
    with FlaskCache(redis_url, **PATIENT) as place, place.app.app_context():
        place.cache.set_many({f"k{number}": [number] for number in range(5)})
        redis_client.set("flask_cache_k2", b"!\x80\x05N.")
        keys = [f"k{number}" for number in range(5)]
        assert place.cache.get_many(*keys) == [[0], [1], None, [3], [4]]
    assert ["cache['k2'] cannot be read" in text for text in warnings(caplog)] == [True, True]


@pytest.mark.parametrize("kind", [*PLACES, *PARTS], indirect=True)
@pytest.mark.parametrize("mode", ["warn", "raise"])
def test_what_cannot_be_read_is_a_miss_in_every_mode(
    kind: type[Place],
    mode: str,
    redis_url: str,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mode is about writes: else one key of Redis that others can write takes pages down."""
    with kind(redis_url, MODE=mode, **PATIENT) as place:
        for name, payload in {
            "garbage": b"\xcc\x01garbage",
            "unsigned": b"\x80\x04}.",
            "an attack": EVIL["reduce"],
            "for cachelib": b"!" + EVIL["reduce"],
        }.items():
            key = written(place, redis_client)
            redis_client.set(key, payload)
            assert place.read() == place.reads[UNREADABLE], name
    assert warnings(caplog)


def test_an_allow_list_holds_where_unsigned_payloads_are_read(
    kind: type[Place], redis_url: str, redis_client: redis.Redis
) -> None:
    """While a project migrates, its list is what stands between Redis and the interpreter."""
    with kind(redis_url, ACCEPT_UNSIGNED=True, LOADABLE=[], **PATIENT) as place:
        for evil in EVIL.values():
            for payload in disguised(evil).values():
                redis_client.set(written(place, redis_client), payload)
                assert place.read() == place.reads[UNREADABLE]


def test_what_an_allow_list_refuses_is_a_miss_and_one_warning(
    kind: type[Place],
    redis_url: str,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Payloads that use listed names only, but to change a class or to call what they made."""
    before = programs.snapshot([programs, programs.Cart, programs.Role.USER, programs.CART])
    attacks = {
        "class": build(own("Cart"), slots(total=own("discount"))),
        "enum": build(call(own("Role"), b"K\x01"), state(_value_=b"K\x02")),
        "singleton": build(call(own("shared_cart")), state(owned=b"\x88")),
        "call": call(call(own("a_function"))),
        "getattr": call(name("builtins", "getattr"), own("discount"), text("__globals__")),
    }
    config = {"ACCEPT_UNSIGNED": True, "LOADABLE": programs.LISTED, **PATIENT}
    with kind(redis_url, **config) as place:
        for attack, part in attacks.items():
            key = written(place, redis_client)
            caplog.clear()
            redis_client.set(key, b"\x80\x04" + part + b".")
            assert place.read() == place.reads[UNREADABLE], attack
            assert len(warnings(caplog)) == 1, attack
    assert programs.changed(before) == []
    assert programs.called == []
