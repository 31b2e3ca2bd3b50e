"""Lose each message of each flow of a session, one at a time, and observe the outcome.

A proxy stands between the site and Redis, or each node of a cluster. It numbers the commands of
one page and spoils one of them. The tests assert what must hold in each outcome, and
`make session-table` writes the outcomes into a page.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import socket
import threading
from typing import TYPE_CHECKING

import hiredis

from contextcache.storage.sessions import TOMBSTONE, TOMBSTONE_SECONDS
from tests.faults.clusters import running_cluster
from tests.faults.session_sites import PAGES, Browser
from tests.redis_server import running_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

    from tests.faults.session_sites import Site

NOTHING, REQUEST, ANSWER, PROCESS = FAULTS = (
    *("nothing", "request lost", "answer lost", "process ends after it"),
)
HOUSEKEEPING = (b"HELLO", b"CLIENT", b"SELECT", b"CLUSTER", b"COMMAND", b"READONLY", b"PING")
IN_A_CLUSTER = ("rotate", "logout")
SECONDS = 5  # after which the visitor goes on


class Spoiler:
    """Numbers the commands of a page, and says what happens to each."""

    def __init__(self) -> None:
        self.arm(NOTHING, 0)

    def arm(self, fault: str, number: int) -> None:
        """Let `fault` happen to the command with this number, counted from 1."""
        self.fault, self.number = fault, number
        self.names: list[str] = []

    def fate(self, command: bytes) -> str:
        """Return what happens to a command."""
        parts = command.split(b"\r\n")
        if parts[2].upper() in HOUSEKEEPING:
            return REQUEST if self.fault == PROCESS and self.ended else NOTHING
        options = [part.decode() for part in parts if part in (b"NX", b"XX")]
        what = ["tombstone"] if b":moved" in command.partition(b"$")[2][:200] else []
        self.names.append(" ".join([parts[2].decode(), *what, *options]))
        if self.fault == PROCESS:
            return REQUEST if len(self.names) > self.number else NOTHING
        return self.fault if len(self.names) == self.number else NOTHING

    @property
    def ended(self) -> bool:
        """Whether the process has sent its last command."""
        return len(self.names) >= self.number


class CommandProxy:
    """A relay to `port` that carries one command and its answer at a time."""

    def __init__(self, port: int, spoiler: Spoiler) -> None:
        self._target = ("127.0.0.1", port)
        self._spoiler = spoiler
        self._open: set[socket.socket] = set()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """End every connection, as when the process at the other end does."""
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the relay."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(self._target) as redis,
        ):
            self._open |= {client, redis}
            while command := client.recv(1 << 20):
                fate = self._spoiler.fate(command)
                if fate == REQUEST:
                    break
                redis.sendall(command)
                answer = _answers(redis, _count(command))
                if fate == ANSWER:
                    break
                client.sendall(answer)
        self._open -= {client, redis}


def _count(sent: bytes) -> int:
    """Return how many commands, or answers, this is."""
    reader = hiredis.Reader()
    reader.feed(sent)
    count = 0
    while reader.gets() is not False:  # an integer 0 equals it
        count += 1
    return count


def _answers(redis: socket.socket, count: int) -> bytes:
    """Receive so many answers."""
    received = b""
    while _count(received) < count:
        chunk = redis.recv(1 << 20)
        if not chunk:
            raise ConnectionError
        received += chunk
    return received


class Rig:
    """A Redis, or a cluster, behind proxies that one spoiler tells what to do."""

    def __init__(
        self, spoiler: Spoiler, url: str, proxies: list[CommandProxy], admins: list[redis.Redis]
    ) -> None:
        self.spoiler, self.url, self.proxies, self.admins = spoiler, url, proxies, admins
        self._number = itertools.count()

    def new_url(self) -> str:
        """Return a URL for which this process has no client yet, as for a new process."""
        return f"{self.url}?client_name=process{next(self._number)}"

    def pass_time(self) -> None:
        """Let every tombstone be as old as if the visitor had waited for `SECONDS`."""
        for admin in self.admins:
            for key in admin.scan_iter(f"*{TOMBSTONE}"):
                admin.expire(key, TOMBSTONE_SECONDS - SECONDS)


@contextlib.contextmanager
def one_server(spoiler: Spoiler | None = None) -> Iterator[Rig]:
    spoiler = spoiler or Spoiler()
    with running_server() as server:
        proxy = CommandProxy(server.port, spoiler)
        with contextlib.closing(proxy), server.client() as admin:
            yield Rig(spoiler, f"redis://127.0.0.1:{proxy.port}/0", [proxy], [admin])


@contextlib.contextmanager
def cluster() -> Iterator[Rig]:
    spoiler = Spoiler()
    with contextlib.ExitStack() as stack:
        servers = stack.enter_context(running_cluster(3))
        admins = [stack.enter_context(server.client()) for server in servers]
        proxies = []
        for server, admin in zip(servers, admins, strict=True):
            proxy = stack.enter_context(contextlib.closing(CommandProxy(server.port, spoiler)))
            admin.config_set("cluster-announce-port", proxy.port)
            proxies.append(proxy)
        ports = {proxy.port for proxy in proxies}

        def known() -> bool:
            for admin in admins:
                slots = admin.execute_command("CLUSTER SLOTS")
                if {master[1] for _, _, master, *_ in slots} != ports:
                    return False
            return True

        until(known, why="the nodes did not announce the proxies")
        yield Rig(spoiler, f"redis+cluster://127.0.0.1:{proxies[0].port}", proxies, admins)


# --- What happens ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of one flow with one fault.

    Attributes:
        command: The command that it happened to, such as `2: SET NX`.
        saw: What the visitor saw: the status and what became of the cookie.
        after: What the next page says of him: his name and his cart.
        again: The same after he repeated what he did, where he did not see it succeed.
        ids: What each id that he ever had says at the end.
        late: What they say after a logout with the id he had at first.
        other: What another visitor's page says.
    """

    site: str
    flow: str
    command: str
    fault: str
    saw: str
    after: str
    again: str
    ids: tuple[str, ...]
    late: tuple[str, ...]
    other: str

    @property
    def answered(self) -> bool:
        """Whether the visitor was told that it is done."""
        return self.saw.startswith("200")

    @property
    def logged_in(self) -> bool:
        """Whether the visitor is logged in afterwards."""
        return self.after.startswith("ann")


def play(rig: Rig, kind: type[Site], flow: str, fault: str, number: int) -> Outcome | None:
    """Let `fault` happen to a command of a flow; None where it has fewer commands."""
    ann, bob = Browser(), Browser()
    rig.spoiler.arm(NOTHING, 0)
    with kind(rig.new_url()) as site:
        bob.get(site, "login/bob")
        ann.get(site, "cart")
        if flow != "login":
            ann.get(site, "login/ann")
        before = ann.cookie
        rig.spoiler.arm(fault, number)
        status, _ = ann.get(site, PAGES[flow], seen=fault != PROCESS)
        names = list(rig.spoiler.names)
        rig.spoiler.arm(NOTHING, 0)
        for proxy in rig.proxies:
            proxy.drop()
    if len(names) < number:
        return None
    rig.pass_time()
    saw = f"{status}, {_change(before, ann.cookie)}" if fault != PROCESS else "nothing"
    with kind(rig.new_url()) as site:  # another process of the site
        after = again = ann.get(site, "me")[1]
        if not saw.startswith("200"):
            ann.get(site, PAGES[flow])
            again = ann.get(site, "me")[1]
        known = [Browser(cookie) for cookie in {before: 0, ann.cookie: 0} if cookie]
        ids = tuple(_shown(one, site) for one in known)
        Browser(before).get(site, "logout")
        late = tuple(_shown(one, site) for one in known)
        other = bob.get(site, "me")[1]
    for proxy in rig.proxies:
        proxy.drop()
    command = f"{number}: {names[number - 1]}" if number else "none"
    return Outcome(kind.name, flow, command, fault, saw, after, again, ids, late, other)


def _change(before: str, after: str) -> str:
    if before == after:
        return "cookie kept"
    return "cookie changed" if after else "cookie deleted"


def _shown(browser: Browser, site: Site) -> str:
    return Browser(browser.cookie).get(site, "me")[1]


def outcomes(rig: Rig, kind: type[Site], flow: str) -> Iterator[Outcome]:
    """Yield what comes of a flow with each fault at each of its commands."""
    undisturbed = play(rig, kind, flow, NOTHING, 0)
    assert undisturbed is not None
    yield undisturbed
    for number in itertools.count(1):
        found = [play(rig, kind, flow, fault, number) for fault in FAULTS[1:]]
        if None in found:
            break
        yield from (outcome for outcome in found if outcome is not None)
