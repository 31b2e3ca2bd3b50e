"""More than one Redis: a failover, slots that move, and nodes that are lost."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
import redis

from contextcache.exceptions import ServerError
from contextcache.servers import asynchronous, connect
from tests.faults.clusters import move_slot, running_cluster
from tests.faults.places import ASYNC_PLACES, NONE, OUTAGE, PATIENT, PLACES, Place
from tests.faults.sentinels import SERVICE, Watched, running_sentinel, running_sentinels
from tests.redis_server import free_port
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


# Whoever is down is not waited for, and the sentinels share this among them.
BRISK = {"TIMEOUT": 0.4}


@contextlib.contextmanager
def all_places(url: str, **options: Any) -> Iterator[list[Place]]:
    """Open all places on one Redis, with a value in each."""
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(kind(url, **options)) for kind in (*PLACES, *ASYNC_PLACES)]
        for place in places:
            until(place.reads_what_it_writes)
        yield places


@pytest.mark.parametrize("how", ["kill", "hold"])
def test_a_failover_is_an_outage_and_then_over(how: str) -> None:
    """A miss or a 503 while there is no master; then every value and session is there again."""
    with running_sentinels() as watched, all_places(watched.url, **BRISK) as places:
        first = watched.servers[0]
        with first.client() as admin:
            admin.set("last", "written")  # after all that the places wrote
            assert admin.wait(2, 60_000) == 2
        getattr(first, how)()
        for place in places:
            seen = set()

            def is_back(place: Place = place, seen: set[str] = seen) -> bool:
                seen.add(place.read())
                return place.reads[NONE] in seen

            until(is_back)
            assert seen <= {place.reads[NONE], place.reads[OUTAGE]}
            until(place.reads_what_it_writes)
        until(lambda: watched.master() != first.port)  # one sentinel may know before the others
        # The one from before comes back as a replica, and nobody is led astray by it.
        first.start() if how == "kill" else first.go_on()
        for place in places:
            until(place.reads_what_it_writes)


def test_a_planned_failover_is_followed_before_the_old_master_steps_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It takes writes for ten seconds, which are all lost; redis-py sends them to it."""
    with running_sentinels() as watched:
        old = watched.servers[0]
        client: Any = connect(watched.url, timeout=5)
        busy: Any = connect(watched.url, timeout=5, client_name="busy")
        monkeypatch.setattr(redis, "__version__", "99.0.0")
        public: Any = connect(watched.url, timeout=5, client_name="public")
        assert port_of(public) == old.port
        with old.client() as admin, redis.Redis(port=watched.sentinels[0]) as sentinel:
            assert port_of(client) == port_of(busy) == old.port
            sentinel.execute_command("SENTINEL FAILOVER", SERVICE)
            until(lambda: port_of(busy) != old.port)
            assert admin.info("replication")["role"] == "master"
            for idle in (client, public):  # connections that have not been used meanwhile
                assert port_of(idle) != old.port
            assert client.set("key", "value")


def test_asynchronous_clients_follow_a_planned_failover(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those that block do, and without the private names of redis-py, too."""

    async def port_of(client: Any) -> int:
        answer = await client.execute_command("CONFIG GET", "port")
        return int(answer["port"])

    async def follow(watched: Watched) -> None:
        old = watched.servers[0]
        client = asynchronous(connect(watched.url, timeout=5))
        monkeypatch.setattr(redis, "__version__", "99.0.0")
        public = asynchronous(connect(watched.url, timeout=5, client_name="public"))
        assert await port_of(client) == await port_of(public) == old.port
        monkeypatch.undo()
        with redis.Redis(port=watched.sentinels[0]) as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", SERVICE)
        while await port_of(client) == old.port:
            await asyncio.sleep(0.1)
        assert await port_of(public) != old.port
        assert await client.execute_command("SET", "key", "value")

    with running_sentinels() as watched:
        asyncio.run(asyncio.wait_for(follow(watched), 60))


def test_a_master_that_has_stepped_down_is_left() -> None:
    """Its refusal is enough, although the sentinels have been asked just before."""
    with running_sentinels() as watched:
        client: Any = connect(watched.url, timeout=5)
        pool = client.connection_pool
        connection = pool.get_connection()
        connection.send_command("SET", "key", "value")
        connection.read_response()
        with watched.servers[0].client() as admin:
            admin.config_set("min-replicas-to-write", 0)
            admin.replicaof("127.0.0.1", watched.servers[1].port)
            connection.send_command("SET", "key", "value")
            with pytest.raises((redis.ConnectionError, redis.exceptions.ReadOnlyError)):
                connection.read_response()
            assert connection._sock is None
            admin.replicaof("NO", "ONE")


def test_what_is_wrong_with_the_sentinels_is_said(redis_url: str, tmp_path: Path) -> None:
    """A plain Redis in their place, silence, a name nobody knows, and a password."""

    def failure(port: int, query: str = "") -> str:
        client = connect(f"redis+sentinel://127.0.0.1:{port}/other/0{query}", timeout=5)
        with pytest.raises(ServerError) as caught:
            client.get("key")
        return str(caught.value)

    plain = int(redis_url.rpartition(":")[2].partition("/")[0])
    assert "cannot be used: it is no sentinel; begin the URL with redis://" in failure(plain)
    assert "none of the sentinels answers" in failure(free_port())
    with running_sentinel(tmp_path, plain) as port:
        until(lambda: "no sentinel knows a master of this name" in failure(port))
        with redis.Redis(port=port) as admin:
            admin.execute_command("ACL SETUSER default resetpass >x")
        assert "the sentinels refuse this user or password" in failure(port, "?client_name=no")


def port_of(client: Any) -> int:
    """Return the port of the server that executes what `client` sends."""
    return int(client.config_get("port")["port"])


def test_slots_that_move_are_followed() -> None:
    """While a cluster is given another shape, no page notices."""
    with contextlib.ExitStack() as stack:
        nodes = stack.enter_context(running_cluster(3))
        places = stack.enter_context(all_places(cluster_url(nodes), **PATIENT))
        admins = [stack.enter_context(node.client()) for node in nodes]
        for number, here in enumerate(admins):
            there = (number + 1) % 3
            for key in here.keys("*"):
                move_slot(here.cluster("KEYSLOT", key), here, admins[there], nodes[there].port)
                for place in places:
                    assert place.read() == place.reads[NONE]
                    assert place.write() == place.writes[NONE]


def test_a_lost_node_costs_what_it_held_until_it_is_back() -> None:
    """And nothing else: what is on another node is read and written as before."""
    with running_cluster(3) as nodes, all_places(cluster_url(nodes), **BRISK) as places:
        for node in nodes:
            node.kill()
            for place in places:
                assert place.read() in (place.reads[NONE], place.reads[OUTAGE])
            node.start()
            for place in places:
                until(lambda place=place: place.read() == place.reads[NONE])
                until(place.reads_what_it_writes)


def cluster_url(nodes: list) -> str:
    """Return the URL that names all nodes of a cluster."""
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes)
