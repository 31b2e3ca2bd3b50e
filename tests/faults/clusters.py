"""A Redis Cluster of real servers on loopback, whose slots can move."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.redis_server import KEPT, running_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.redis_server import RedisServer

SLOTS = 16384

# A cluster that lost a node goes on with the slots it has, and a master without a slot stays one.
CLUSTER = (
    *KEPT,
    *("--cluster-enabled", "yes", "--cluster-node-timeout", "1000"),
    *("--cluster-require-full-coverage", "no", "--cluster-allow-replica-migration", "no"),
)


@contextlib.contextmanager
def running_cluster(nodes: int) -> Iterator[list[RedisServer]]:
    """Run a cluster of masters that share the slots evenly."""
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(running_server(*CLUSTER)) for _ in range(nodes)]
        admins = [stack.enter_context(server.client()) for server in servers]
        for number, admin in enumerate(admins):
            first, last = SLOTS * number // nodes, SLOTS * (number + 1) // nodes - 1
            admin.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            admin.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            meet(admins[0], servers[number])
        until(lambda: all(settled(admin, nodes) for admin in admins) and agree(admins))
        yield servers


def meet(admin: redis.Redis, server: RedisServer) -> None:
    """Let one node know another."""
    admin.execute_command("CLUSTER MEET", "127.0.0.1", server.port)


def node_id(admin: redis.Redis) -> str:
    """Return the name of a node in its cluster."""
    return str(admin.execute_command("CLUSTER MYID"), "ascii")


def move_slot(slot: int, here: redis.Redis, there: redis.Redis, port: int) -> None:
    """Give a slot and its keys from one node to another, as `redis-cli --cluster reshard` does.

    Whoever takes a slot takes it in the epoch after the last one he knows. If that is an old one,
    a node that has not heard of the new owner yet makes him give it back.
    """
    until(lambda: agree([here, there]), why="the nodes did not agree")
    source, target = node_id(here), node_id(there)
    there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source)
    here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target)
    if keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 1000):
        here.migrate("127.0.0.1", port, keys, 0, 5000)
    for admin in (there, here):
        admin.execute_command("CLUSTER SETSLOT", slot, "NODE", target)


def agree(admins: list[redis.Redis]) -> bool:
    """Tell whether nodes see the same cluster: who has which slots, and since which epoch."""
    views = [admin.cluster("NODES").values() for admin in admins]
    told = [
        sorted((one["node_id"], one["epoch"], str(one["slots"])) for one in view) for view in views
    ]
    return all(one == told[0] for one in told)


def settled(admin: redis.Redis, nodes: int) -> bool:
    """Tell whether a node knows all `nodes` of its cluster and serves its part."""
    info = admin.cluster("INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(nodes)
