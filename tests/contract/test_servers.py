"""What contextcache's own Redis caches do on a Redis with TLS, and with a user of few rights."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import ServerError
from tests.contract.stores import MISS, STORES, DjangoStore, Places, Store, name_of
from tests.redis_server import running_server
from tests.tls import make_certificate, running_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.redis_server import RedisServer

    Open = Callable[..., Store]


@pytest.fixture(params=[kind for kind in STORES if getattr(kind, "owns_redis", False)], ids=name_of)
def open_at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Open each store that talks to Redis by itself, at a URL."""
    kind: type[Store] = request.param
    with contextlib.ExitStack() as stack:

        def opened(url: str, **settings: Any) -> Store:
            return stack.enter_context(kind(Places(url, "", tmp_path), **settings))

        yield opened


def use(store: Store) -> None:
    """Make every operation but `clear`."""
    store.set("key", {"a": 1})
    assert store.get("key") == {"a": 1}
    assert store.add("key", 2) is False
    assert store.set_many({"one": 1, "two": 2}) == set()
    assert store.get_many("one", "two", "three") == {"one": 1, "two": 2}
    assert store.incr("one") == 2
    store.delete_many("one", "two")
    assert store.delete("key") is True
    assert store.get("key") is MISS


# --- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a Redis inside TLS, and the file of the authority that its certificate is of."""
    folder = make_certificate(tmp_path_factory.mktemp("tls"))
    with running_tls(folder) as (_, url):
        yield url, str(folder / "cert.pem")


def test_every_operation_works_inside_tls(open_at: Open, tls: tuple[str, str]) -> None:
    """With the authority in the query of the URL."""
    url, authority = tls
    store = open_at(f"{url}?ssl_ca_certs={authority}")
    use(store)
    store.set("key", 1)
    store.clear()
    assert store.get("key") is MISS


def test_a_certificate_of_another_authority_is_refused(
    open_at: Open, tls: tuple[str, str], tmp_path: Path
) -> None:
    """The error names the URL and what to look at, and no file."""
    other = make_certificate(tmp_path) / "cert.pem"
    for query in ("", f"?ssl_ca_certs={other}"):
        store = open_at(f"{tls[0]}{query}", ON_ERROR="raise")
        with pytest.raises(ServerError) as caught:
            store.get("key")
        assert str(caught.value) == (
            f"Redis at {tls[0]} cannot be reached: the TLS handshake failed; check its "
            "certificate, and whether it speaks TLS at all"
        )


# --- Rights ---------------------------------------------------------------------------------------

DENIED = "this user may not do that (NOPERM); extend the rights of the user in the URL"


@pytest.fixture(scope="module")
def restricted() -> Iterator[tuple[RedisServer, str]]:
    """A Redis, and its URL for a user who may not do what providers of Redis often deny."""
    denied = ("-config", "-flushdb", "-flushall", "-keys", "-info", "-client", "-debug")
    with running_server() as server:
        server.client().execute_command(
            "ACL", "SETUSER", "shop", "on", ">pw", "~*", "+@all", *denied
        )
        yield server, server.url.replace("//", "//shop:pw@")


def test_every_operation_works_without_the_rights_of_an_administrator(
    open_at: Open, restricted: tuple[RedisServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    """CONFIG, FLUSHDB, KEYS, INFO and CLIENT are denied, and nothing is logged."""
    use(open_at(restricted[1]))
    assert caplog.messages == []


def test_to_clear_a_database_needs_the_right_to(
    open_at: Open, restricted: tuple[RedisServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Django empties the database, with FLUSHDB; Flask-Caching deletes what has its prefix."""
    store = open_at(restricted[1])
    store.set("key", 1)
    store.clear()
    if isinstance(store, DjangoStore):
        assert store.get("key") == 1
        [line] = caplog.messages
        assert DENIED in line
        assert "pw" not in line
        store = open_at(restricted[1], ON_ERROR="raise")
        with pytest.raises(ServerError, match="NOPERM"):
            store.clear()
    else:
        assert store.get("key") is MISS
        assert caplog.messages == []
