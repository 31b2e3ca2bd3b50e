"""Flask-Caching's whole interface over our backend: on one server, and on a Cluster."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask, render_template_string, request
from flask_caching import Cache, function_namespace, make_template_fragment_key

from contextcache.testing import capture_findings
from contextcache_flask import ContextCache
from tests.faults.clusters import running_cluster
from tests.flask.shop import Basket, make_app


@pytest.fixture(scope="module")
def cluster_url() -> Any:
    with running_cluster(2) as servers:
        yield f"redis+cluster://127.0.0.1:{servers[0].port}"


@pytest.fixture(params=["server", "cluster"])
def app(request: Any) -> Flask:
    """An application on each kind of Redis, named by URL."""
    if request.param == "server":
        request.getfixturevalue("redis_client")
        return make_app(request.getfixturevalue("redis_url"))
    return make_app("fakeredis://none", CACHE_REDIS_URL=request.getfixturevalue("cluster_url"))


@pytest.fixture
def cache(app: Flask) -> Any:
    cache = Cache(app)
    ContextCache(app)
    with app.app_context():
        cache.clear()
        yield cache


def test_many_keys_with_a_prefix(app: Flask, cache: Any) -> None:
    """Keys of any slot are read, written, counted and deleted, behind the prefix."""
    keys = [f"key{number}" for number in range(20)]
    with capture_findings() as findings:
        assert sorted(cache.set_many({key: Basket(7) for key in keys})) == sorted(keys)
    assert len(findings) == 20
    assert [basket.number for basket in cache.get_many(*keys)] == [7] * 20
    assert {basket.number for basket in cache.get_dict(*keys).values()} == {7}
    assert set(cache.delete_many(*keys[:10])) <= set(keys[:10])
    assert [bool(value) for value in cache.get_many(*keys)] == [False] * 10 + [True] * 10
    assert cache.has("key11")
    assert cache.unlink("key11", "key12")
    assert not cache.has("key11")
    cache.set("hits", 1)
    assert (cache.cache.inc("hits"), cache.cache.dec("hits", 2)) == (2, 0)
    assert cache.add("new", 1)
    assert not cache.add("new", 2)


def test_prefixes_keep_applications_apart(app: Flask, cache: Any) -> None:
    """Two applications on one Redis neither see nor clear what is the other's."""
    other = make_app(CACHE_KEY_PREFIX="other_", CACHE_REDIS_URL=app.config.get("CACHE_REDIS_URL"))
    other.config["CONTEXTCACHE_REDIS_URL"] = app.config["CONTEXTCACHE_REDIS_URL"]
    second = Cache(other)
    cache.set("key", "mine")
    with other.app_context():
        assert second.get("key") is None
        second.set("key", "theirs")
        second.clear()
        assert second.get("key") is None
    assert cache.get("key") == "mine"


def test_clearing_deletes_what_has_the_prefix_and_nothing_else(app: Flask) -> None:
    """A prefix may hold what a pattern of Redis would understand."""
    app.config["CACHE_KEY_PREFIX"] = "a*[b]?"
    other = make_app(CACHE_KEY_PREFIX="axb!", CACHE_REDIS_URL=app.config.get("CACHE_REDIS_URL"))
    other.config["CONTEXTCACHE_REDIS_URL"] = app.config["CONTEXTCACHE_REDIS_URL"]
    cache, second = Cache(app), Cache(other)
    with other.app_context():
        second.set("key", "theirs")
    with app.app_context():
        cache.set_many({f"key{number}": number for number in range(2500)})
        assert cache.clear() is True
        assert cache.get_many(*(f"key{number}" for number in range(2500))) == [None] * 2500
        assert cache.clear() is False
    with other.app_context():
        assert second.get("key") == "theirs"


def test_a_cached_view(app: Flask, cache: Any) -> None:
    """`cached` with its hit indication, its own key, its `unless`, and its way round the cache."""
    ran: list[str] = []

    @app.get("/view")
    @cached(cache, response_hit_indication=True, query_string=True)
    def view() -> dict[str, Any]:
        ran.append(request.args.get("q", ""))
        return {"q": request.args.get("q")}

    client = app.test_client()
    first, second, other = (client.get(f"/view?q={q}") for q in "aab")
    assert (first.json, second.json, other.json) == ({"q": "a"}, {"q": "a"}, {"q": "b"})
    assert ran == ["a", "b"]
    assert "hit_cache" not in first.headers
    assert second.headers["hit_cache"] == "True"


def cached(cache: Any, **options: Any) -> Any:
    return cache.cached(**options)


def test_an_async_view(app: Flask, cache: Any) -> None:
    """A coroutine is cached by what it returns, and runs once."""
    ran: list[int] = []

    @app.get("/async")
    @cache.cached()
    async def view() -> dict[str, int]:
        ran.append(1)
        return {"n": len(ran)}

    client = app.test_client()
    assert [client.get("/async").json for _ in range(2)] == [{"n": 1}] * 2


def test_an_async_function_that_returns_an_offender(app: Flask, cache: Any) -> None:
    """`memoize` of a coroutine function stores its value without the lock."""
    ran: list[int] = []

    @cache.memoize()
    async def basket(number: int) -> Basket:
        ran.append(number)
        return Basket(number)

    with capture_findings() as findings:
        assert [app.ensure_sync(basket)(n).number for n in (3, 3, 4)] == [3, 3, 4]
    assert ran == [3, 4]
    assert {finding.code for finding in findings} == {"CC102"}


def test_memoize_and_its_deletions(app: Flask, cache: Any) -> None:
    """Of functions and methods, with and without arguments, and by version."""
    ran: list[Any] = []

    @cache.memoize()
    def basket(number: int) -> Basket:
        ran.append(number)
        return Basket(number)

    assert [basket(n).number for n in (1, 1, 2)] == [1, 1, 2]
    cache.delete_memoized(basket, 1)
    assert [basket(n).number for n in (1, 2)] == [1, 2]
    cache.delete_memoized(basket)
    basket(2)
    assert ran == [1, 2, 1, 2]
    cache.delete_memoized_verhash(basket)
    basket(2)
    assert ran[4:] == [2]
    assert function_namespace(basket.uncached)[0].endswith("basket")


def test_a_template_fragment(app: Flask, cache: Any) -> None:
    """`{% cache %}` renders once, and can be deleted by its name."""
    ran: list[int] = []
    text = "{% cache 60, 'part', who %}{{ run() }} for {{ who }}{% endcache %}"

    def run() -> str:
        ran.append(1)
        return "rendered"

    for who in ("ann", "ann", "bob"):
        assert render_template_string(text, run=run, who=who) == f"rendered for {who}"
    assert len(ran) == 2
    cache.delete(make_template_fragment_key("part", vary_on=["ann"]))
    render_template_string(text, run=run, who="ann")
    assert len(ran) == 3


def test_concurrent_counting(app: Flask, cache: Any) -> None:
    """`inc` is one command of the server's: no count is lost."""

    def count() -> None:
        with app.app_context():
            for _ in range(50):
                cache.cache.inc("hits")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("hits") == 200
