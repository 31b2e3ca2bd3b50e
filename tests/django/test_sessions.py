"""The session engine, through Django's own SessionMiddleware and clients."""

from __future__ import annotations

import asyncio
import hashlib
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient
from django.test import Client as WebClient

from contextcache import ReadOnlyServerError, UncacheableValueError
from contextcache.testing import capture_findings
from contextcache_django.sessions import SessionStore
from tests.django.shop import Client, PerThread, dirty_cart, generator
from tests.redis_server import free_port
from tests.sealing import sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis
    from pytest_django.fixtures import SettingsWrapper

    from contextcache_django.cache import RedisCache

pytestmark = pytest.mark.usefixtures("cache")

COOKIE = django_settings.SESSION_COOKIE_NAME


class Browser:
    """A visitor; the same requests through WSGI and through ASGI."""

    def __init__(self, *, use_async: bool) -> None:
        self.client: Any = AsyncClient() if use_async else WebClient()
        self.client.raise_request_exception = False
        self.prefix = "/async" if use_async else ""
        self.use_async = use_async

    def get(self, path: str) -> Any:
        get = async_to_sync(self.client.get) if self.use_async else self.client.get
        return get(self.prefix + path)

    @property
    def session_id(self) -> str | None:
        morsel = self.client.cookies.get(COOKIE)
        return morsel.value if morsel is not None and morsel.value else None


@pytest.fixture(params=["wsgi", "asgi"])
def browser(request: pytest.FixtureRequest) -> Browser:
    """A visitor without a session."""
    return Browser(use_async=request.param == "asgi")


@pytest.fixture
def commands(redis_client: redis.Redis) -> Iterator[Callable[[], list[str]]]:
    """What the real Redis has been asked since the last call, without the handshakes."""
    with redis_client.monitor() as monitor:
        noise = ("HELLO", "CLIENT", "SELECT", "AUTH", "COMMAND", "INFO")

        def seen() -> list[str]:
            redis_client.echo("until here")
            found = []
            for command in monitor.listen():
                if command["command"] == "ECHO until here":
                    return found
                if not command["command"].startswith(noise):
                    found.append(command["command"].replace("contextcache.session.", "s:"))
            return found

        yield seen


def written_with(command: str) -> set[str]:
    """Return the options of a SET, whose order depends on the version of redis-py."""
    return set(re.findall(r" (NX|XX|EX \d+)(?= |$)", command))


def redis_key(session_id: str) -> str:
    """Return where a session is stored."""
    return f":1:contextcache.session.{hashlib.sha256(session_id.encode()).hexdigest()}"


# --- What is stored -----------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_cart_that_holds_a_client_survives_and_each_finding_names_the_view(
    browser: Browser,
) -> None:
    """The page is served, the cart comes back, and the two fields are named with their view."""
    with capture_findings() as findings:
        assert browser.get("/cart").status_code == 200
    assert sorted(str(finding.path) for finding in findings) == [
        "session['cart'].items[1].client._local",
        "session['cart'].items[1].client._lock",
    ]
    view = "async_session" if browser.use_async else "add_to_cart"
    for finding in findings:
        assert finding.sink == "session in redis"
        assert f" · tests.django.views.{view}" in finding.origin
    shown = browser.get("/session").json()
    assert shown["keys"] == ["cart"]
    if not browser.use_async:
        assert shown == {
            "keys": ["cart"],
            "items": ["tea", "cup"],
            "locked": False,
            "user": "",
        }


def test_a_key_that_can_only_be_stripped_is_left_out(cache: RedisCache) -> None:
    """The other keys of the session are stored."""
    session = SessionStore()
    session["rows"] = generator()
    session["visits"] = 3
    with capture_findings() as findings:
        session.save()
    assert dict(SessionStore(session.session_key).items()) == {"visits": 3}
    assert [(str(finding.path), str(finding.action)) for finding in findings] == [
        ("session['rows']", "left out")
    ]


def test_a_key_nested_too_deep_does_not_cost_the_login(cache: RedisCache) -> None:
    """What makes the session as a whole unstorable takes only its own key with it."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    session = SessionStore()
    session["_auth_user_id"] = "7"
    session["tree"] = deep
    session.save()
    found = dict(SessionStore(session.session_key).items())
    assert found == {"_auth_user_id": "7"}
    while deep:  # take it apart by hand: freeing it in one go is deep, too
        deep = deep.pop()  # type: ignore[assignment]


def test_a_session_that_is_too_large_keeps_its_smallest_keys(
    any_url: str, configure: Callable[..., RedisCache]
) -> None:
    """The login is among the smallest keys there are."""
    configure(any_url, OPTIONS={"CONTEXTCACHE": {"MAX_SIZE": 1000}})
    session = SessionStore()
    session["large"] = "x" * 2000
    session["half"] = "y" * 700
    session["other half"] = "z" * 600
    session["_auth_user_id"] = "7"
    session.save()
    assert set(SessionStore(session.session_key).keys()) == {"_auth_user_id", "other half"}


@pytest.mark.parametrize("mode", ["warn", "raise"])
def test_outside_of_strip_mode_a_session_that_cannot_be_stored_raises(
    any_url: str, configure: Callable[..., RedisCache], mode: str
) -> None:
    """The mode of the alias is the mode of its sessions."""
    configure(any_url, OPTIONS={"CONTEXTCACHE": {"MODE": mode}})
    session = SessionStore()
    session["rows"] = generator()
    with pytest.raises(UncacheableValueError, match=r"session\['rows'\]"):
        session.save()


def test_saving_in_async_code_runs_the_guard_in_the_callers_thread(
    any_url: str, configure: Callable[..., RedisCache]
) -> None:
    """A thread-local that a rule stores has the caller's values."""
    rules = {"tests.django.shop.PerThread": "snapshot"}
    configure(any_url, OPTIONS={"CONTEXTCACHE": {"RULES": rules}})

    async def write() -> str | None:
        session = SessionStore()
        local = PerThread()
        local.tenant = "acme"
        await session.aset("local", local)
        await session.asave()
        return session.session_key

    assert vars(SessionStore(asyncio.run(write()))["local"])["tenant"] == "acme"


def test_the_key_in_redis_is_a_hash_of_the_session_id(server: redis.Redis) -> None:
    """Who can list the keys learns no session id."""
    session = SessionStore()
    session["visits"] = 1
    session.save()
    assert session.session_key is not None
    assert server.keys() == [redis_key(session.session_key).encode()]
    assert session.session_key.encode() not in server.keys()[0]


# --- Commands -----------------------------------------------------------------------------------


@pytest.mark.parametrize("any_url", ["redis"], indirect=True)
@pytest.mark.django_db
def test_what_a_request_costs(commands: Callable[[], list[str]]) -> None:
    """An untouched session costs no command, a new one one, a read one, a write two."""
    visitor = WebClient()
    visitor.get("/plain")
    assert commands() == []

    visitor.get("/visit")
    [created] = commands()
    assert created.startswith("SET :1:s:")
    assert written_with(created) == {"NX", "EX 1209600"}

    visitor.get("/plain")
    assert commands() == []

    visitor.get("/session")
    [read] = commands()
    assert read.startswith("GET :1:s:")

    visitor.get("/visit")
    read, written = commands()
    assert read.startswith("GET :1:s:")
    assert written_with(written) == {"XX", "EX 1209600"}


@pytest.mark.parametrize("engine", ["sessions", "cached_db"])
@pytest.mark.django_db
def test_a_page_that_depends_on_the_session_varies_on_the_cookie(
    settings: SettingsWrapper, engine: str
) -> None:
    """A proxy must not give one visitor's page to another, nor his cookie (CVE-2026-35192)."""
    settings.SESSION_ENGINE = f"contextcache_django.{engine}"
    visitor = WebClient()
    assert "Vary" not in visitor.get("/plain").headers
    assert visitor.get("/visit").headers["Vary"] == "Cookie"
    assert visitor.get("/session").headers["Vary"] == "Cookie"
    assert "Vary" not in visitor.get("/plain").headers
    settings.SESSION_SAVE_EVERY_REQUEST = True
    saved = visitor.get("/plain")
    assert COOKIE in saved.cookies
    assert saved.headers["Vary"] == "Cookie"


# --- Life of a session --------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_login_changes_the_session_id_and_deletes_the_old_session(
    browser: Browser, server: redis.Redis
) -> None:
    """Whoever knew the id before the login is not logged in with it."""
    User.objects.create_user("ada", password="canary")
    browser.get("/cart")
    before = browser.session_id
    assert browser.get("/login").content == b"welcome"
    after = browser.session_id
    assert before is not None
    assert after is not None
    assert before != after
    assert set(server.keys()) == {redis_key(after).encode(), redis_key(before).encode() + b":moved"}
    assert not SessionStore().exists(before)
    assert browser.get("/session").json()["keys"] == [
        *("_auth_user_backend", "_auth_user_hash", "_auth_user_id", "cart")
    ]


@pytest.mark.django_db
def test_an_id_we_did_not_give_out_is_not_adopted() -> None:
    """A session id planted by somebody else is replaced."""
    visitor = WebClient()
    visitor.cookies[COOKIE] = "planted0planted0planted0planted0"
    assert visitor.get("/visit").content == b"1"
    assert visitor.cookies[COOKIE].value != "planted0planted0planted0planted0"
    assert not SessionStore().exists("planted0planted0planted0planted0")


def test_a_session_that_was_logged_out_elsewhere_is_not_resurrected() -> None:
    """Saving it says so, which Django's middleware answers with 400."""
    session = SessionStore()
    session["visits"] = 1
    session.save()
    other_tab = SessionStore(session.session_key)
    assert other_tab["visits"] == 1
    session.flush()
    other_tab["visits"] = 2
    with pytest.raises(UpdateError):
        other_tab.save()
    with pytest.raises(UpdateError):
        async_to_sync(other_tab.asave)()
    assert not SessionStore().exists(other_tab.session_key or "")


def test_a_new_session_never_overwrites_one() -> None:
    """`must_create` on an id that is taken raises, and leaves what is there."""
    session = SessionStore()
    session["visits"] = 1
    session.save()
    twin = SessionStore(session.session_key)
    with pytest.raises(CreateError):
        twin.save(must_create=True)
    with pytest.raises(CreateError):
        async_to_sync(twin.asave)(must_create=True)
    assert SessionStore(session.session_key)["visits"] == 1


def test_an_id_that_is_taken_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A collision of random ids costs another draw, not another visitor's session."""
    first = SessionStore()
    first["visits"] = 1
    first.save()
    taken = first.session_key
    for use_async in (False, True):
        drawn = iter([taken, taken, f"free{use_async}0000"])
        monkeypatch.setattr(
            "contextcache_django.sessions.get_random_string", lambda *_, drawn=drawn: next(drawn)
        )
        session = SessionStore()
        async_to_sync(session.acreate)() if use_async else session.create()
        assert session.session_key == f"free{use_async}0000"
    monkeypatch.setattr("contextcache_django.sessions.get_random_string", lambda *_: taken)
    with pytest.raises(RuntimeError, match="10 random session ids in a row were taken"):
        SessionStore().create()
    with pytest.raises(RuntimeError, match="10 random session ids in a row were taken"):
        async_to_sync(SessionStore().acreate)()


def test_the_expiry_is_that_of_the_session(server: redis.Redis) -> None:
    """Redis forgets a session when its cookie does."""
    session = SessionStore()
    session.set_expiry(60)
    session.save()
    assert session.session_key is not None
    assert 50 < server.ttl(redis_key(session.session_key)) <= 60
    session.set_expiry(timedelta(hours=1))
    async_to_sync(session.asave)()
    assert 3500 < server.ttl(redis_key(session.session_key)) <= 3600


@pytest.mark.parametrize("expiry", [-10, 0.5])
def test_a_session_that_expired_already_is_deleted(server: redis.Redis, expiry: float) -> None:
    """An expiry in the past is not an error of Redis, nor is one within the second."""
    session = SessionStore()
    session["visits"] = 1
    session.set_expiry(expiry)
    session.save()
    assert server.keys() == []
    with pytest.raises(UpdateError):
        session.save()
    session = SessionStore()
    session["visits"] = 1
    session.save()
    session.set_expiry(expiry)
    session.save()
    assert server.keys() == []


def test_the_rest_of_djangos_interface() -> None:
    """`exists`, `delete`, `clear_expired` and their async twins."""
    session = SessionStore()
    session["visits"] = 1
    session.save()
    key = session.session_key or ""
    assert session.exists(key)
    assert async_to_sync(session.aexists)(key)
    assert not session.exists("")
    SessionStore.clear_expired()
    async_to_sync(SessionStore.aclear_expired)()
    SessionStore().delete()  # nothing to delete is fine
    SessionStore().delete(key)
    assert not session.exists(key)
    assert async_to_sync(SessionStore(key).aload)() == {}


# --- What cannot be read ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [b"garbage", b"", b"\x80\x04\x8c\x04gone\x8c\x04Gone\x93.", b"\x80\x05]."],
    ids=["garbage", "empty", "module gone", "a list"],
)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.django_db
def test_an_unreadable_session_is_empty_and_gets_a_new_id(
    server: redis.Redis, caplog: pytest.LogCaptureFixture, payload: bytes, signed: bool
) -> None:
    """The page is served, and the log says why the visitor is logged out."""
    visitor = WebClient()
    visitor.get("/visit")
    before = visitor.cookies[COOKIE].value
    place = redis_key(before)
    server.set(place, sealed(payload, place, purpose="session") if signed else payload)
    assert visitor.get("/visit").content == b"1"
    assert visitor.cookies[COOKIE].value != before
    [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert warning.name == "contextcache"
    assert "session cannot be read" in warning.getMessage()
    assert before not in warning.getMessage()


@pytest.mark.parametrize("mode", ["warn", "raise"])
def test_an_unreadable_session_is_a_new_one_in_every_mode(
    any_url: str,
    configure: Callable[..., RedisCache],
    server: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    mode: str,
) -> None:
    """A mode is about writes."""
    configure(any_url, OPTIONS={"CONTEXTCACHE": {"MODE": mode}})
    place = redis_key("a" * 32)
    server.set(place, sealed(b"\x80\x05].", place, purpose="session"))
    assert SessionStore("a" * 32).load() == {}
    assert (
        "session cannot be read and counts as a miss: it holds a list, not a session; "
        "see what else writes to this key of Redis"
    ) in caplog.text


# --- Outages ------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_outage_never_looks_like_no_session(
    configure: Callable[..., RedisCache], any_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The page fails, the cookie stays, and the visitor is back when Redis is."""
    visitor = WebClient(raise_request_exception=False)
    visitor.get("/visit")
    before = visitor.cookies[COOKIE].value

    port = free_port()
    configure(f"redis://127.0.0.1:{port}/0")
    for page in ("/session", "/visit"):
        response = visitor.get(page)
        assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
        assert COOKIE not in response.cookies
    assert visitor.get("/plain").status_code == 200
    assert f"Redis at redis://127.0.0.1:{port}/0 cannot be reached" in caplog.text

    configure(any_url)
    assert visitor.get("/visit").content == b"2"
    assert visitor.cookies[COOKIE].value == before


def test_an_outage_is_one_line_in_the_log(
    browser: Browser,
    configure: Callable[..., RedisCache],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing is wrong with the view: no traceback of it, and no word of an internal error."""
    configure(f"unix://{tmp_path}/none")
    browser.client.cookies[COOKIE] = "a" * 32
    response = browser.get("/session")
    route = f"{browser.prefix}/session".lstrip("/")
    [record] = [record for record in caplog.records if record.name == "django.request"]
    assert record.getMessage() == (
        f"Service Unavailable: GET {route}: Redis at unix://{tmp_path}/none "
        "cannot be reached: there is no such socket; start the server or correct the URL"
    )
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert b"<h1>Service Unavailable (503)</h1>" in response.content
    assert b"Please try again in a few seconds." in response.content


def test_a_page_of_the_project_s_own_is_shown_in_an_outage(
    configure: Callable[..., RedisCache], settings: SettingsWrapper, tmp_path: Path
) -> None:
    """With another status, and its length as it was."""
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.common.CommonMiddleware"]
    templates = {"500.html": "We are sorry."}
    loader = ("django.template.loaders.locmem.Loader", templates)
    engine = "django.template.backends.django.DjangoTemplates"
    settings.TEMPLATES = [{"BACKEND": engine, "OPTIONS": {"loaders": [loader]}}]
    configure(f"unix://{tmp_path}/none")
    visitor = WebClient(raise_request_exception=False)
    visitor.cookies[COOKIE] = "a" * 32
    response = visitor.get("/session")
    assert (response.status_code, response.content) == (503, b"We are sorry.")
    del templates["500.html"]
    response = visitor.get("/session")
    assert int(response.headers["Content-Length"]) == len(response.content)


@pytest.mark.django_db
def test_a_redis_that_takes_no_writes_still_has_the_session(
    configure: Callable[..., RedisCache],
    redis_url: str,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A page that reads it is served; one that writes it must not look as if it had."""
    configure(redis_url)
    visitor = WebClient(raise_request_exception=False)
    assert visitor.get("/visit").content == b"1"
    before = visitor.cookies[COOKIE].value
    redis_client.config_set("maxmemory", 1)
    try:
        assert visitor.get("/session").status_code == 200
        refused = visitor.get("/visit")
    finally:
        redis_client.config_set("maxmemory", 0)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
    assert COOKIE not in refused.cookies
    assert f"Redis at {redis_url} takes no writes: its memory is full (OOM)" in caplog.text
    assert visitor.get("/visit").content == b"2"
    assert visitor.cookies[COOKIE].value == before


@pytest.mark.django_db
def test_a_login_that_cannot_be_stored_loses_nothing(
    configure: Callable[..., RedisCache], redis_url: str, redis_client: redis.Redis
) -> None:
    """A new id that Redis does not take leaves the old session where it is."""
    configure(redis_url)
    session = SessionStore()
    session["name"] = "ann"
    session.save()
    key = session.session_key
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(ReadOnlyServerError):
            session.cycle_key()
    finally:
        redis_client.config_set("maxmemory", 0)
    assert SessionStore(key)["name"] == "ann"


# --- Mistakes -----------------------------------------------------------------------------------


def test_a_cache_that_is_not_ours_is_refused(settings: SettingsWrapper) -> None:
    """The remedy is in the error."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    with pytest.raises(ImproperlyConfigured) as caught:
        SessionStore()
    assert str(caught.value) == (
        "SESSION_ENGINE 'contextcache_django.sessions' keeps sessions in the cache 'default', "
        "which is a LocMemCache: set its BACKEND to 'contextcache_django.cache.RedisCache', or "
        "SESSION_CACHE_ALIAS to the name of a cache that has it"
    )


def test_sessions_of_another_alias(settings: SettingsWrapper, any_url: str) -> None:
    """`SESSION_CACHE_ALIAS` chooses server and key prefix."""
    backend = "contextcache_django.cache.RedisCache"
    settings.CACHES = {
        "default": {"BACKEND": backend, "LOCATION": "redis://127.0.0.1:1/0"},
        "visitors": {"BACKEND": backend, "LOCATION": any_url, "KEY_PREFIX": "shop"},
    }
    settings.SESSION_CACHE_ALIAS = "visitors"
    session = SessionStore()
    session["client"] = Client()
    session.save()
    assert SessionStore(session.session_key)["client"].id == 7


@pytest.mark.django_db
def test_the_user_in_the_session_has_no_password_hash_in_redis(server: redis.Redis) -> None:
    """`request.user` in a session is the accident Django's own cached sessions have."""
    User.objects.create_user("ada", password="canary")
    visitor = WebClient()
    visitor.get("/login")
    visitor.get("/cart")
    keys = server.keys()
    assert keys
    for key in keys:
        assert b"pbkdf2_sha256$" not in server.get(key)
        assert b"canary" not in server.get(key)
    assert dirty_cart().items[1].client is not None
