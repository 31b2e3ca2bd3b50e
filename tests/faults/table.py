"""The table of faults: what is done to a real Redis, and what the contract says about it.

A fault is a context manager: within it Redis is unwell, and after it well again, with its data.
"""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import redis

from tests.faults import proxy
from tests.faults.clusters import CLUSTER, SLOTS, agree, meet, move_slot, settled
from tests.faults.places import NONE, OUTAGE, Effect
from tests.faults.proxy import Proxy
from tests.redis_server import KEPT, RedisServer, free_port, running_server
from tests.waiting import until


@dataclasses.dataclass(frozen=True)
class Rig:
    """A Redis that keeps its data, and a proxy in front of it; of a cluster, another node."""

    server: RedisServer
    proxy: Proxy
    other: RedisServer | None = None


Strike = Callable[[Rig], AbstractContextManager[None]]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One row: its name, what happens, and what it does to reading and to writing.

    Args:
        through_proxy: Whether it happens between client and server.
        first: Whether it happens before anything was ever read or written.
        arguments: Of the redis-server it happens to.
    """

    name: str
    strike: Strike
    read: Effect = OUTAGE
    write: Effect = OUTAGE
    through_proxy: bool = False
    first: bool = False
    arguments: tuple[str, ...] = KEPT

    @contextmanager
    def rig(self) -> Iterator[Rig]:
        """Start what it happens to."""
        with ExitStack() as stack:
            server = stack.enter_context(running_server(*self.arguments))
            between = stack.enter_context(Proxy(server.port))
            other = None
            if self.arguments == CLUSTER:
                other = stack.enter_context(running_server(*CLUSTER))
                admins = [stack.enter_context(one.client()) for one in (server, other)]
                admins[0].execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
                meet(admins[0], other)
                until(lambda: all(settled(admin, 2) for admin in admins) and agree(admins))
            yield Rig(server, between, other)

    def url(self, rig: Rig) -> str:
        """Return the URL by which a site that is to meet it knows Redis."""
        return (rig.proxy if self.through_proxy else rig.server).url


# --- What happens to the server -------------------------------------------------------------------


@contextmanager
def restarted(rig: Rig) -> Iterator[None]:
    rig.server.kill()
    rig.server.start()
    yield


@contextmanager
def killed(rig: Rig) -> Iterator[None]:
    rig.server.kill()
    yield
    rig.server.start()


@contextmanager
def held(rig: Rig) -> Iterator[None]:
    rig.server.hold()
    yield
    rig.server.go_on()


@contextmanager
def full(rig: Rig) -> Iterator[None]:
    with rig.server.client() as admin:
        admin.config_set("maxmemory", 1)
        yield
        admin.config_set("maxmemory", 0)


def demoted(serves_stale_data: str) -> Strike:
    @contextmanager
    def strike(rig: Rig) -> Iterator[None]:
        with rig.server.client() as admin:
            admin.config_set("replica-serve-stale-data", serves_stale_data)
            admin.replicaof("127.0.0.1", str(free_port()))
            yield
            admin.replicaof("NO", "ONE")

    return strike


@contextmanager
def locked(rig: Rig) -> Iterator[None]:
    with rig.server.client() as admin:
        admin.config_set("requirepass", "another")
        admin.client_kill_filter(_type="normal", skipme=True)
        yield
        admin.config_set("requirepass", "")


@contextmanager
def loading(rig: Rig) -> Iterator[None]:
    with rig.server.client() as admin:
        admin.mset({f"filler:{number}": "" for number in range(20_000)})
        admin.bgrewriteaof()
        until(lambda: not admin.info("persistence")["aof_rewrite_in_progress"])
    rig.server.kill()
    slowly = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    rig.server.start(*slowly, loaded=False)
    yield
    rig.server.kill()
    rig.server.start()


@contextmanager
def busy(rig: Rig) -> Iterator[None]:
    with (
        rig.server.client() as admin,
        socket.create_connection(("127.0.0.1", rig.server.port)) as caller,
    ):
        admin.config_set("busy-reply-threshold", 1)
        caller.sendall(b"EVAL 'while true do end' 0\r\n")
        until(lambda: _refuses(admin, "BUSY"))
        yield
        admin.script_kill()


@contextmanager
def without_disk(rig: Rig) -> Iterator[None]:
    """Fail a snapshot; a folder in its place stops even root."""
    obstacle = os.path.join(rig.server.folder, "dump.rdb")
    os.mkdir(obstacle)
    with rig.server.client() as admin:
        admin.config_set("save", "3600 1")
        admin.bgsave()
        until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield
        os.rmdir(obstacle)
        admin.config_set("save", "")


@contextmanager
def slots_moved(rig: Rig) -> Iterator[None]:
    """Move what is stored to another node, as a client that knows no cluster sees it."""
    assert rig.other is not None
    with rig.other.client() as there, rig.server.client() as here:
        slots = {here.cluster("KEYSLOT", key) for key in here.keys("*")}
        for slot in slots:
            move_slot(slot, here, there, rig.other.port)
        yield
        for slot in slots:
            move_slot(slot, there, here, rig.server.port)


@contextmanager
def slots_lost(rig: Rig) -> Iterator[None]:
    with rig.server.client() as admin:
        admin.execute_command("CLUSTER DELSLOTSRANGE", 0, SLOTS - 1)
        yield
        admin.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)


def _refuses(client: redis.Redis, word: str) -> bool:
    try:
        client.get("anything")
    except redis.RedisError as error:
        return word in f"{type(error).__name__} {error}".upper()
    return False


# --- What happens on the way ----------------------------------------------------------------------


def replies(spoiler: proxy.Spoiler) -> Strike:
    return lambda rig: rig.proxy.spoiling(spoiler)


FAULTS = [
    Fault("restart between ops", restarted, read=NONE, write=NONE),
    Fault("down at first use", killed, first=True),
    Fault("dies, stays down", killed),
    Fault("process stopped", held),
    Fault("OOM noeviction", full, read=NONE),
    Fault("READONLY replica", demoted("yes"), read=NONE),
    Fault("MISCONF (bgsave failed)", without_disk, read=NONE),
    Fault("MASTERDOWN", demoted("no")),
    Fault("NOAUTH", locked),
    Fault("LOADING", loading),
    Fault("BUSY script", busy),
    Fault("MOVED (cluster)", slots_moved, arguments=CLUSTER),
    Fault("CLUSTERDOWN", slots_lost, arguments=CLUSTER),
    Fault("no reply", replies(proxy.silence), through_proxy=True),
    Fault("half reply then silence", replies(proxy.half_then_silence), through_proxy=True),
    Fault("half reply then FIN", replies(proxy.half_then_end), through_proxy=True),
    Fault("reply byte by byte", replies(proxy.drip), through_proxy=True),
    Fault("garbage instead of RESP", replies(proxy.garbage), through_proxy=True),
    Fault("connection reset", replies(proxy.reset), through_proxy=True),
]  # fmt: skip
