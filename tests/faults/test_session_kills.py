"""A process of the site is killed at each command of a login, a rotation and a logout.

Unlike the rows "process ends" of the table, nothing of the process goes on: no `except`, no
`finally`, no second attempt.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.faults.session_faults import NOTHING, Rig, Spoiler, one_server
from tests.faults.session_sites import PAGES, SITES, Browser, FlaskSite, Site, make_users

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]


class Killer(Spoiler):
    """Kills a process when it sends the command with a number, which Redis executes."""

    pid = 0

    def fate(self, command: bytes) -> str:
        super().fate(command)
        if self.pid and len(self.names) >= self.number:
            os.kill(self.pid, signal.SIGKILL)
        return NOTHING


@pytest.fixture(scope="module")
def server() -> Iterator[Rig]:
    with one_server(Killer()) as rig:
        yield rig


def get_in_a_child(rig: Rig, site: Site, cookie: str, page: str) -> bool:
    """Request a page in another process, and return whether that was killed."""
    killer = rig.spoiler
    assert isinstance(killer, Killer)
    start, started = os.pipe()
    pid = os.fork()
    if not pid:
        os.read(start, 1)
        Browser(cookie).get(site, page)
        os._exit(0)
    killer.pid = pid
    os.write(started, b"1")
    _, status = os.waitpid(pid, 0)
    killer.pid = 0
    for end in (start, started):
        os.close(end)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("flow", ["login", "rotate", "logout"])
@pytest.mark.parametrize("kind", [SITES[0], FlaskSite], ids=lambda kind: kind.name)
def test_a_process_that_is_killed(
    server: Rig, kind: type[Site], flow: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The visitor goes on with what he had, or without; he repeats it, and a logout is one."""
    caplog.set_level(logging.CRITICAL + 1)
    make_users()
    for number in itertools.count(1):
        server.spoiler.arm(NOTHING, 0)
        with kind(server.new_url()) as site:
            bob, ann, repeats = Browser(), Browser(), Browser()
            bob.get(site, "login/bob")
            ann.get(site, "cart")
            if flow != "login":
                ann.get(site, "login/ann")
        with kind(server.new_url()) as site:
            server.spoiler.arm(NOTHING, number)
            killed = get_in_a_child(server, site, ann.cookie, PAGES[flow])
            sent = server.spoiler.names[:]
        if not killed:
            assert number > 2
            return
        server.pass_time()
        with kind(server.new_url()) as site:
            where = f"{flow}, killed at {sent}"
            text = Browser(ann.cookie).get(site, "me")[1]
            assert text.partition(" ")[0] in ("ann", "None"), where
            if flow != "logout":
                repeats.cookie = ann.cookie
                repeats.get(site, "login/ann")
                assert repeats.get(site, "me")[1].startswith("ann"), where
            repeats.cookie = repeats.cookie or ann.cookie
            repeats.get(site, "logout")
            for one in (ann, repeats):
                assert Browser(one.cookie).get(site, "me")[1].startswith("None"), where
            assert bob.get(site, "me")[1].startswith("bob"), where
