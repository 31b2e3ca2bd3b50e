"""A master, two replicas and three sentinels that watch them, all on loopback."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from tests.redis_server import KEPT, RedisServer, free_port, running_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "shop"

CONFIGURATION = f"""
port {{port}}
bind 127.0.0.1
sentinel monitor {SERVICE} 127.0.0.1 {{master}} 2
sentinel down-after-milliseconds {SERVICE} 500
sentinel failover-timeout {SERVICE} 3000
"""


@dataclasses.dataclass(frozen=True)
class Watched:
    """Three servers, of which the first is the master, and the ports of their sentinels."""

    servers: list[RedisServer]
    sentinels: list[int]

    @property
    def url(self) -> str:
        """The URL of whichever is the master."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    def master(self) -> int:
        """Return the port of the master, as most sentinels see it."""
        seen = []
        for port in self.sentinels:
            with redis.Redis(port=port) as sentinel:
                seen.append(int(sentinel.sentinel_get_master_addr_by_name(SERVICE)[1]))
        return max(seen, key=seen.count)

    def replicas_online(self) -> int:
        """Return how many replicas follow the first server."""
        with self.servers[0].client() as admin:
            return int(admin.info("replication")["connected_slaves"])


@contextlib.contextmanager
def running_sentinels() -> Iterator[Watched]:
    """Run all six, and wait until they know each other."""
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(running_server(*KEPT))
        follow = ("--replicaof", f"127.0.0.1 {master.port}")
        replicas = [stack.enter_context(running_server(*KEPT, *follow)) for _ in range(2)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = [stack.enter_context(running_sentinel(folder, master.port)) for _ in range(3)]
        watched = Watched([master, *replicas], ports)
        until(lambda: watched.replicas_online() == 2)
        until(lambda: all(map(_knows_everybody, ports)))
        yield watched


@contextlib.contextmanager
def running_sentinel(folder: Path, master: int) -> Iterator[int]:
    """Run one that watches the server at the port `master`, and yield its own port."""
    port = free_port()
    configuration = folder / f"{port}.conf"
    configuration.write_text(CONFIGURATION.format(port=port, master=master))
    program = shutil.which("redis-server")
    assert program is not None
    process = subprocess.Popen(
        [program, str(configuration), "--sentinel"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def _knows_everybody(port: int) -> bool:
    with redis.Redis(port=port) as sentinel, contextlib.suppress(redis.RedisError):
        state = sentinel.sentinel_master(SERVICE)
        return state["num-slaves"] == 2 and state["num-other-sentinels"] == 2
    return False
