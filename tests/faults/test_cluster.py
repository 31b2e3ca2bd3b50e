"""A Redis Cluster: keys of any slot in one command, a node that is gone, a slot that moves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from typing import TYPE_CHECKING, Any

import pytest
import redis
from django.core.cache import caches
from redis.crc import key_slot

from contextcache.exceptions import ServerError
from contextcache.servers import asynchronous, connect
from tests.faults.clusters import SLOTS, move_slot, node_id, running_cluster
from tests.faults.places import AsyncDjangoCache, DjangoCache, FlaskCache
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.redis_server import RedisServer

KEYS = [f"k{number}" for number in range(60)]
TAGGED = [f"{{tag}}:{number}" for number in range(6)]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[RedisServer]]:
    """Three nodes for the tests of this module; one that a test kills comes back empty."""
    with running_cluster(3) as servers:
        yield servers


@pytest.fixture
def client(nodes: list[RedisServer]) -> Any:
    """A client that knows the cluster, which is empty and has settled."""
    until(lambda: agree(nodes))
    client: Any = connect(url_of(nodes), timeout=2)
    until(lambda: succeeds(client.flushdb))
    return client


def succeeds(call: Callable[[], Any]) -> bool:
    """Return whether Redis does it."""
    with contextlib.suppress(redis.RedisError):
        return bool(call())
    return False


def agree(nodes: list[RedisServer]) -> bool:
    """Return whether each node says the same of each slot; after a move that takes a moment."""
    views = set()
    for node in nodes:
        with node.client() as admin:
            ranges = admin.execute_command("CLUSTER SLOTS")
        views.add(str(sorted((first, last, master[1]) for first, last, master, *_ in ranges)))
    return len(views) == 1


def url_of(nodes: list[RedisServer]) -> str:
    """Return the URL that names all nodes."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)


def holds(number: int, key: str) -> bool:
    """Return whether the node with this number has the slot of `key`."""
    return SLOTS * number // 3 <= key_slot(key.encode()) < SLOTS * (number + 1) // 3


@contextlib.contextmanager
def gone(node: RedisServer, client: Any) -> Iterator[None]:
    """Kill a node for a while."""
    node.kill()
    try:
        yield
    finally:
        node.start()
        until(lambda: succeeds(lambda: client.mset(dict.fromkeys(KEYS, "back"))))


@contextlib.contextmanager
def moving(nodes: list[RedisServer], moved: list[str]) -> Iterator[None]:
    """Move the slot of some keys to another node, and stop when the keys `moved` are there."""
    slot = key_slot(moved[0].encode())
    number = next(number for number in range(3) if holds(number, moved[0]))
    here, there = nodes[number], nodes[(number + 1) % 3]
    with here.client() as source, there.client() as target:
        target.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", node_id(source))
        source.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", node_id(target))
        source.migrate("127.0.0.1", there.port, moved, 0, 5000)
        try:
            yield
        finally:
            for key in target.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
                target.execute_command("ASKING")
                target.delete(key)
            for admin in (source, target):
                admin.execute_command("CLUSTER SETSLOT", slot, "STABLE")


# --- The whole cluster ----------------------------------------------------------------------------


def test_a_command_takes_keys_of_any_slot(client: Any) -> None:
    """The answers are those of a single server, in the order of the keys."""
    assert client.mset({key: key for key in KEYS})
    assert client.mget(KEYS) == [key.encode() for key in KEYS]
    assert client.mget(*KEYS[:3]) == [b"k0", b"k1", b"k2"]
    client.rpush("list", 1)
    assert client.mget(["k0", "list", "missing"]) == [b"k0", None, None]
    assert client.exists(*KEYS) == client.touch(*KEYS) == 60
    assert client.dbsize() == 61
    assert sorted(client.scan_iter(match="k*")) == sorted(key.encode() for key in KEYS)
    assert client.delete(*KEYS[:10], "missing") == client.unlink(*KEYS[10:20]) == 10
    assert client.flushdb()
    assert client.dbsize() == 0


def test_what_has_no_key_or_several_is_left_to_redis_py(client: Any) -> None:
    """Scripts, transactions, locks, and commands for a server."""
    assert client.ping()
    assert client.eval("return redis.call('incr', KEYS[1])", 1, "n") == 1
    assert client.register_script("return ARGV[1]")(["n"], ["x"]) == b"x"
    for _ in range(4):  # which says nothing about the cluster
        with pytest.raises(redis.exceptions.RedisClusterException, match="same key slot"):
            client.sunion("a", "b")
    if hasattr(redis.cluster, "TransactionStrategy"):  # since redis-py 6.2
        with client.pipeline(transaction=True) as transaction:
            assert transaction.set("{t}a", 1).incr("{t}a").execute() == [b"OK", 2]
    with client.lock("lock"):
        assert client.exists("lock")
    assert client.keyslot("{t}a") == key_slot(b"{t}a")
    assert client.nodes_manager.get_node_from_slot(0)
    client.set("{t}a", 2)
    assert client.keys("{t}*") == [b"{t}a"]
    assert client.info("server", target_nodes=client.get_node_from_key("{t}a"))
    assert not hasattr(client, "connection_pool")


def test_a_pipeline_answers_in_the_order_of_its_commands(client: Any) -> None:
    """Although each node is asked once for its part."""
    pipeline = client.pipeline()
    for key in KEYS:
        pipeline.set(key, key, ex=60).ttl(key).get(key)
    answers = pipeline.execute()
    assert answers[0::3] == [True] * 60
    assert set(answers[1::3]) <= {59, 60}
    assert answers[2::3] == [key.encode() for key in KEYS]
    assert len(pipeline) == 0


def test_an_error_of_one_command_spares_the_others(client: Any) -> None:
    """It is raised when all are sent, or stands among the answers."""
    pipeline = client.pipeline()
    pipeline.set("text", "x").incr("text").set("other", 1)
    with pytest.raises(redis.ResponseError, match="not an integer"):
        pipeline.execute()
    assert client.mget("text", "other") == [b"x", b"1"]
    answers = client.pipeline().incr("text").get("other").execute(raise_on_error=False)
    assert isinstance(answers[0], redis.ResponseError)
    assert answers[1] == b"1"


# --- A node that is gone --------------------------------------------------------------------------


def test_a_node_that_is_gone_costs_what_it_held(nodes: list[RedisServer], client: Any) -> None:
    """Its keys raise; the keys of the others are read, written and deleted, alone and together."""
    client.mset({key: key for key in KEYS})
    lost = [key for key in KEYS if holds(1, key)]
    there = [key for key in KEYS if key not in lost]
    with gone(nodes[1], client):
        for _ in range(5):
            assert [client.get(key) for key in there] == [key.encode() for key in there]
            for key in lost:
                with pytest.raises(ServerError, match=f"127.0.0.1:{nodes[1].port} "):
                    client.get(key)
            with pytest.raises(ServerError) as caught:
                client.mget(KEYS)
            assert [
                answer if key in there else isinstance(answer, ServerError)
                for key, answer in zip(KEYS, caught.value.answers, strict=True)
            ] == [key.encode() if key in there else True for key in KEYS]
        pipeline = client.pipeline()
        for key in KEYS:
            pipeline.set(key, "new")
        with pytest.raises(ServerError):
            pipeline.execute()
        assert client.mget(there) == [b"new"] * len(there)
        with pytest.raises(ServerError):
            client.delete(*KEYS)
        assert client.mget(there) == [None] * len(there)
        with pytest.raises(ServerError):
            list(client.scan_iter())


def test_a_silent_node_is_waited_for_a_few_times_only(
    nodes: list[RedisServer], client: Any
) -> None:
    """And then not at all; the nodes that answer are never blamed for the time it has taken."""
    client.mset({key: key for key in KEYS})
    lost = [key for key in KEYS if holds(2, key)]
    there = [key for key in KEYS if key not in lost]
    brisk: Any = connect(url_of(nodes), timeout=0.3, client_name="brisk")
    assert brisk.mget(KEYS) == [key.encode() for key in KEYS]
    nodes[2].hold()
    try:
        for _ in range(10):
            with pytest.raises(ServerError) as caught:
                brisk.mget(KEYS)
            found = [answer for answer in caught.value.answers if isinstance(answer, bytes)]
            assert sorted(found) == sorted(key.encode() for key in there)
        with pytest.raises(ServerError, match="is left alone"):
            brisk.get(lost[0])
        assert [brisk.get(key) for key in there] == [key.encode() for key in there]
    finally:
        nodes[2].go_on()
    until(lambda: succeeds(lambda: brisk.get(lost[0]) == lost[0].encode()))


def test_a_node_with_another_password_costs_what_it_holds(
    nodes: list[RedisServer], client: Any
) -> None:
    """It says that it wants one, each time."""
    client.mset({key: key for key in KEYS})
    fresh: Any = connect(url_of(nodes), client_name="without")
    with nodes[1].client() as admin:
        admin.config_set("requirepass", "hush")
        try:
            with pytest.raises(ServerError, match="wants another user or password") as caught:
                fresh.mget(KEYS)
            found = [answer for answer in caught.value.answers if isinstance(answer, bytes)]
            assert sorted(found) == sorted(key.encode() for key in KEYS if not holds(1, key))
        finally:
            admin.execute_command("AUTH", "hush")
            admin.config_set("requirepass", "")


@pytest.mark.parametrize("kind", [DjangoCache, AsyncDjangoCache, FlaskCache])
def test_a_cache_has_what_the_other_nodes_have(
    nodes: list[RedisServer], client: Any, kind: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys of the lost node are misses; writes of the others count; what is not deleted is said."""
    with opened(kind, url_of(nodes)) as cache:
        cache.write()
        lost = {key for key in KEYS if holds(1, cache.redis_key(key))}
        there = set(KEYS) - lost
        assert cache.read() == set(KEYS)
        with gone(nodes[1], client):
            for _ in range(3):
                assert cache.read() == there
                assert cache.write() == there
            for delete in (
                lambda: cache.backend.delete(min(lost)),
                lambda: cache.delete(KEYS),
                lambda: cache.backend.delete(max(lost)),
            ):
                caplog.clear()
                delete()
                assert any("should be deleted is still there" in one for one in caplog.messages)
            assert cache.read() == set()
            assert cache.write() == there
            caplog.clear()
            assert not cache.backend.clear()
            assert any("should be deleted is still there" in one for one in caplog.messages)
            assert cache.read() == set()


@pytest.mark.parametrize("kind", [DjangoCache, AsyncDjangoCache, FlaskCache])
def test_a_cache_that_raises_does_so_for_a_part(
    nodes: list[RedisServer], client: Any, kind: Any
) -> None:
    """With `ON_ERROR = "raise"` nothing is taken for a miss."""
    with opened(kind, url_of(nodes), ON_ERROR="raise") as cache:
        cache.write()
        with gone(nodes[1], client):
            for call in (
                cache.read,
                cache.write,
                lambda: cache.delete(KEYS),
                cache.backend.clear,
            ):
                with pytest.raises(ServerError):
                    call()


class Opened:
    """A cache, in the words of these tests."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.is_flask = hasattr(backend, "get_dict")

    def redis_key(self, key: str) -> str:
        """Return the key as Redis knows it."""
        if self.is_flask:
            return str(self.backend.cache._get_prefix()) + key
        return str(self.backend.make_key(key))

    def write(self) -> set[str]:
        """Store all, and return the keys for which the cache says so."""
        said = set(self.backend.set_many(dict.fromkeys(KEYS, 1)))
        return said if self.is_flask else set(KEYS) - said

    def read(self) -> set[str]:
        """Return which of the keys are found."""
        if self.is_flask:
            found = self.backend.get_dict(*KEYS)
            return {key for key, value in found.items() if value is not None}
        return set(self.backend.get_many(KEYS))

    def delete(self, keys: list[str]) -> None:
        """Delete them in one call."""
        self.backend.delete_many(*keys) if self.is_flask else self.backend.delete_many(keys)


class InLoop:
    """A cache whose asynchronous methods are called by the names of the others."""

    def __init__(self, place: AsyncDjangoCache) -> None:
        self._place = place
        self.make_key = caches["default"].make_key

    def __getattr__(self, name: str) -> Any:
        if name not in dir(caches["default"]):
            raise AttributeError(name)
        method = getattr(caches["default"], f"a{name}")
        return lambda *args: self._place.run(method(*args))


numbers = itertools.count()


@contextlib.contextmanager
def opened(kind: Any, url: str, **options: Any) -> Iterator[Opened]:
    """Open a cache of Django's or of Flask-Caching."""
    # Clients of its own: a circuit breaker may still be open.
    with kind(f"{url}?client_name=opened-{next(numbers)}", TIMEOUT=2, **options) as place:
        if isinstance(place, DjangoCache):
            in_loop = isinstance(place, AsyncDjangoCache)
            yield Opened(InLoop(place) if in_loop else caches["default"])
        else:
            with place.app.app_context():
                yield Opened(place.cache)


# --- Without threads ------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [redis.__version__, "99.0.0"], ids=["private", "public"])
def test_asynchronous_clients_know_the_cluster(
    nodes: list[RedisServer], client: Any, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Keys of any slot, one that moves, and a node that is gone."""
    monkeypatch.setattr(redis, "__version__", version)
    blocking: Any = connect(url_of(nodes), timeout=2, client_name=f"async-{version}")
    asking = asynchronous(blocking)
    everything = [*KEYS, *TAGGED]

    async def use() -> None:
        sets = [("SET", key, key) for key in everything]
        await asking.execute_many(sets)
        assert await asking.flushdb()
        assert await asking.mget(everything) == [None] * len(everything)
        assert await asking.execute_many(sets) == [True] * len(sets)
        assert await asking.execute_command("SET", "number", 1)
        assert await asking.execute_command("INCRBY", "number", 2) == 3
        assert await asking.execute_command("PING")  # which has no key
        await asking.delete("number")
        with moving(nodes, TAGGED[:3]):
            assert await asking.mget(everything) == [key.encode() for key in everything]
            for key in TAGGED:
                assert await asking.execute_command("GET", key) == key.encode()
            found = {key async for key in asking.scan_iter("*", 10)}
            assert found == {key.encode() for key in everything}
            assert await asking.delete(*TAGGED) == 6
        with gone(nodes[1], client):
            with pytest.raises(ServerError) as caught:
                await asking.mget(KEYS)
            answers = zip(KEYS, caught.value.answers, strict=True)
            assert all(one == key.encode() for key, one in answers if not holds(1, key))
            lost = next(key for key in KEYS if holds(1, key))
            for _ in range(3):
                with pytest.raises(ServerError):
                    await asking.execute_command("GET", lost)
            with pytest.raises(ServerError, match="is left alone"):
                blocking.get(lost)  # the breaker of the node is shared

    asyncio.run(use())


# --- Another version of redis-py ------------------------------------------------------------------


def test_public_names_of_redis_py_are_enough(
    nodes: list[RedisServer], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys of any slot, one that moves, and a node that is gone, as with a known version."""
    monkeypatch.setattr(redis, "__version__", "99.0.0")
    client = connect(url_of(nodes), timeout=2, client_name="public")
    assert client.mset({key: key for key in [*KEYS, *TAGGED]})
    with moving(nodes, TAGGED[:3]):
        assert client.mget(*KEYS, *TAGGED) == [key.encode() for key in [*KEYS, *TAGGED]]
        assert {*client.scan_iter()} == {key.encode() for key in [*KEYS, *TAGGED]}
        assert client.delete(*TAGGED) == 6
    with gone(nodes[2], client):
        with pytest.raises(ServerError) as caught:
            client.mget(KEYS)
        found = zip(KEYS, caught.value.answers, strict=True)
        assert all(answer == key.encode() for key, answer in found if not holds(2, key))
        assert all(isinstance(client.get(key), bytes) for key in KEYS if not holds(2, key))


# --- A slot that moves ----------------------------------------------------------------------------


def test_keys_of_a_slot_that_moves_are_read_and_deleted(
    nodes: list[RedisServer], client: Any
) -> None:
    """Each by itself, wherever it is: TRYAGAIN is for commands of several keys."""
    client.mset({key: key for key in TAGGED})
    with moving(nodes, TAGGED[:3]):
        assert client.mget(TAGGED) == [key.encode() for key in TAGGED]
        assert client.exists(*TAGGED) == client.touch(*TAGGED) == 6
        pipeline = client.pipeline()
        for key in TAGGED:
            pipeline.incrby(f"{key}:n", 2).append(key, "!")
        assert pipeline.execute()[::2] == [2] * 6
        assert client.mget(TAGGED) == [f"{key}!".encode() for key in TAGGED]
        assert set(client.scan_iter(match="{tag}:?")) == {key.encode() for key in TAGGED}
        assert client.delete(*TAGGED) == 6
        assert client.mget(TAGGED) == [None] * 6


def test_no_key_is_missed_that_moves_while_all_are_scanned() -> None:
    """From a node before its turn to one that had it: what is cleared then would stay."""
    with contextlib.ExitStack() as stack:
        # A cluster of its own: the nodes can go on disagreeing about a slot that has moved.
        nodes = stack.enter_context(running_cluster(3))
        client: Any = connect(url_of(nodes), timeout=2)
        until(lambda: succeeds(lambda: client.mset({key: key for key in KEYS})))
        moved = [key for key in KEYS if holds(2, key)]
        keys = client.scan_iter()
        seen = set(itertools.islice(keys, len(KEYS) - len(moved)))
        here, there = (stack.enter_context(nodes[number].client()) for number in (2, 0))
        for key in moved:
            move_slot(key_slot(key.encode()), here, there, nodes[0].port)
        seen.update(keys)
    assert seen == {key.encode() for key in KEYS}


def test_a_command_of_several_keys_says_that_their_slot_moves(
    nodes: list[RedisServer], client: Any
) -> None:
    """It cannot be divided, so the error says what to do: wait."""
    client.mset({key: key for key in TAGGED})
    with moving(nodes, TAGGED[:3]), pytest.raises(ServerError, match="TRYAGAIN"):
        client.execute_command("RENAME", TAGGED[5], TAGGED[0])


def test_a_redirection_to_a_node_that_is_gone_is_an_outage(
    nodes: list[RedisServer], client: Any
) -> None:
    """And no connection changes hands: afterwards each reply belongs to its command."""
    client.mset({key: key for key in [*KEYS, *TAGGED]})
    number = next(number for number in range(3) if holds(number, TAGGED[0]))
    with moving(nodes, TAGGED[:3]):
        with gone(nodes[(number + 1) % 3], client):
            for _ in range(5):
                with pytest.raises(ServerError):
                    client.get(TAGGED[0])
        for _ in range(50):
            for key in KEYS:
                assert client.get(key) in (key.encode(), b"back")
