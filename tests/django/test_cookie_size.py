"""A session in the cookie, weighed: the very size that Django sends, before a browser drops it."""

from __future__ import annotations

import base64
import random
import re
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.sessions.backends.signed_cookies import SessionStore

from contextcache import UncacheableValueError
from contextcache.testing import capture_findings
from tests.django.shop import Client

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

SERIALIZERS = ["JSONSessionSerializer", "SessionSerializer"]


@pytest.fixture(params=SERIALIZERS, autouse=True)
def in_the_cookie(request: pytest.FixtureRequest, settings: SettingsWrapper) -> None:
    """A project whose sessions are in a signed cookie."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    settings.SESSION_SERIALIZER = f"contextcache_django.serializers.{request.param}"


def noise(length: int) -> str:
    """Return text that zlib cannot make much smaller, each time the same."""
    return base64.b64encode(random.Random(length).randbytes(length)).decode()[:length]


def saved(**values: Any) -> tuple[SessionStore, list[Any]]:
    """Return a session that was saved, and what was found."""
    session = SessionStore()
    session.update(values)
    with capture_findings() as findings:
        session.save()
    return session, findings


def test_a_cookie_that_comes_close_to_what_browsers_keep() -> None:
    """The finding names the largest keys; the size is that of the cookie's name and value."""
    session, [finding] = saved(cart=noise(3500), name=noise(100), user=7)
    size = len("sessionid") + len(session.session_key)
    assert 4096 * 0.8 < size < 4096
    assert (finding.code, str(finding.path), finding.leaf_type) == (
        "CC142",
        "session['cart']",
        "str",
    )
    assert finding.sink == "session in the cookie"
    assert finding.did == f"sent a cookie of {size} bytes, of at most 4096"
    fix, _, listed = finding.fix.partition(" (bytes: ")
    assert fix == (
        "keep the session on the server (SESSION_ENGINE = 'contextcache_django.sessions'), "
        "or store less in it"
    )
    keys = [entry.split()[0] for entry in listed.split(", ")]
    assert keys == ["session['cart']", "session['name']", "session['user']"]
    assert SessionStore(session.session_key)["user"] == 7


def test_a_cookie_that_browsers_drop(settings: SettingsWrapper) -> None:
    """Mode `raise` refuses it."""
    session, [finding] = saved(cart=noise(9000))
    size = len("sessionid") + len(session.session_key)
    assert finding.did == f"sent a cookie of {size} bytes, of at most 4096; browsers drop it"
    settings.CONTEXTCACHE = {"MODE": "raise"}
    with pytest.raises(UncacheableValueError, match=r"CC142 session\['cart'\]"):
        saved(cart=noise(9000))
    settings.CONTEXTCACHE = {"MODE": "raise", "IGNORE": ["session['cart']"]}
    assert saved(cart=noise(9000))[1] == []


@pytest.mark.parametrize("cart", [noise(2000), "a" * 9000])
def test_a_cookie_that_is_small_enough_is_no_finding(cart: str) -> None:
    """What Django compresses is weighed as it is sent."""
    assert saved(cart=cart)[1] == []


def test_what_is_stored_is_weighed() -> None:
    """Beside a client, which is cut, stands the text that makes the cookie large."""
    _, findings = saved(cart={"client": Client(), "text": noise(3500)}, name=noise(100))
    [heavy] = [finding for finding in findings if finding.code == "CC142"]
    assert str(heavy.path) == "session['cart']"
    assert re.fullmatch(r".*\['cart'\] 3[56]\d\d, session\['name'\] 1\d\d\)", heavy.fix)


def test_elsewhere_no_session_is_weighed(settings: SettingsWrapper) -> None:
    """A row of the database has no limit."""
    serializer = SessionStore().serializer
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    with capture_findings() as findings:
        serializer().dumps({"cart": noise(9000)})
    assert findings == []
