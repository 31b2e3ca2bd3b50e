"""Mixed load at full speed with a fault every few seconds: `make soak`, `make soak MINUTES=1`.

Two processes, one for each core of a small machine, use all four places in eight threads each;
the second one through a proxy. Each thread knows what it wrote, and counts

* wrong values: another key's, a damaged one, or one older than a write that was acknowledged;
* lost sessions: a page that was answered with 200 wrote something and a later 200 knows nothing
  of it, or a session is there again after its logout.

Redis keeps what it has acknowledged: it writes its log to the kernel before it replies, and only
its process is killed.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from typing import Any

from tests.faults.places import PLACES, Place, Visited
from tests.faults.proxy import Proxy
from tests.faults.table import FAULTS, Rig
from tests.redis_server import KEPT, running_server

STRIKES = [fault for fault in FAULTS if fault.arguments == KEPT and not fault.first]
THREADS_PER_PLACE = 2
PAGE = os.sysconf("SC_PAGE_SIZE")


# --- The load -------------------------------------------------------------------------------------


class Tally:
    """What one process has seen; its threads share it."""

    def __init__(self) -> None:
        self.seen: collections.Counter[str] = collections.Counter()
        self.wrong: collections.Counter[str] = collections.Counter()
        self.lost: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def add(self, counter: collections.Counter[str], what: str) -> None:
        with self._lock:
            counter[what] += 1


class User:
    """Somebody who uses one place, and remembers what must be there."""

    def __init__(self, place: Place, number: int, tally: Tally) -> None:
        self.place = place
        self.tally = tally
        self.random = random.Random(number)
        self.numbers = itertools.count(number * 10**9)  # nobody else writes these
        self.turn()

    def turn(self) -> None:
        """Go on with another key or as another visitor."""
        self.place.elsewhere()
        self.acknowledged = self.attempted = next(self.numbers)
        self.exists = False

    def act(self) -> None:
        chance = self.random.random()
        if chance < 0.01:
            self.leave()
        elif chance < 0.25:
            self.write()
        else:
            self.read()

    def write(self) -> None:
        self.attempted = next(self.numbers)
        word = self.place.write(self.attempted)
        self.tally.add(self.tally.seen, f"{self.place.name}, write: {word}")
        if word == "200, cookie changed" and self.exists:
            self.tally.add(self.tally.lost, f"{self.place.name}: gone")
        # Django's `set` says nothing; a read that finds it does.
        if word.startswith("200") or word == "returns True":
            self.acknowledged, self.exists = self.attempted, True

    def read(self) -> None:
        word = self.place.read()
        if word.endswith("VALUE"):
            word = word.replace("ANOTHER VALUE", "value")  # whose it is, is told apart here
        self.tally.add(self.tally.seen, f"{self.place.name}, read: {word}")
        if word.endswith("value"):
            tea = _number(self.place.found)
            if self.acknowledged <= tea <= self.attempted:
                self.acknowledged, self.exists = tea, True
            else:
                self.tally.add(self.tally.wrong, self.place.name)
        elif word == "200, empty session" and self.exists:
            self.tally.add(self.tally.lost, f"{self.place.name}: gone")
            self.turn()

    def leave(self) -> None:
        """Log out, and see that the old id is worth nothing."""
        if isinstance(self.place, Visited) and self.exists:
            old = self.place.cookie
            if self.place.visit("/logout", old)[0] == 200:
                status, text, _ = self.place.visit("/read", old)
                if status == 200 and text != "None":
                    self.tally.add(self.tally.lost, f"{self.place.name}: resurrected")
        self.turn()  # after a 503 as well: Redis may have done it, and could not say so


def _number(found: object) -> int:
    try:
        return int("".join(filter(str.isdecimal, str(found))))
    except ValueError:
        return -1


def load(url: str, process: int) -> None:
    """Use all places until the standard input ends, and print what was seen as JSON."""
    logging.disable()
    tally, stop, memory = Tally(), threading.Event(), []
    with contextlib.ExitStack() as stack:
        places = [stack.enter_context(kind(url)) for kind in PLACES * THREADS_PER_PLACE]

        def work(user: User) -> None:
            while not stop.is_set():
                user.act()

        users = [User(place, process * 100 + one + 1, tally) for one, place in enumerate(places)]
        threads = [threading.Thread(target=work, args=(user,)) for user in users]
        for thread in threads:
            thread.start()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        while not stop.wait(1):
            with open("/proc/self/statm") as file:
                memory.append(int(file.read().split()[1]) * PAGE)
        for thread in threads:
            thread.join()
    told = {name: vars(tally)[name] for name in ("seen", "wrong", "lost")}
    print(json.dumps({**told, "memory": memory}))


# --- The harm and the report ----------------------------------------------------------------------


def soak(seconds: float) -> dict[str, Any]:
    """Run both processes for `seconds`, strike all the while, and add up what they have seen."""
    struck: collections.Counter[str] = collections.Counter()
    with running_server(*KEPT) as server, Proxy(server.port) as proxy:
        rig, end = Rig(server, proxy), time.monotonic() + seconds
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", __spec__.name, url, str(number)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number, url in enumerate([server.url, proxy.url])
        ]
        chance = random.Random(0)
        while time.monotonic() < end:
            time.sleep(chance.uniform(1, 3))
            fault = chance.choice(STRIKES)
            struck[fault.name] += 1
            with fault.strike(rig):
                time.sleep(chance.uniform(0.2, 1.5))
        answers = [json.loads(worker.communicate("")[0]) for worker in workers]
    total: dict[str, Any] = {
        name: sum((collections.Counter(one[name]) for one in answers), collections.Counter())
        for name in ("seen", "wrong", "lost")
    }
    return {**total, "memory": [one["memory"] for one in answers], "struck": struck}


def report(told: dict[str, Any], seconds: float) -> bool:
    """Print what was seen, and return whether it is good."""
    operations, faults = sum(told["seen"].values()), sum(told["struck"].values())
    print(f"{operations} operations in {seconds / 60:g} minutes, {faults} faults:")
    print("  " + ", ".join(f"{name} ({count})" for name, count in told["struck"].most_common()))
    for what, count in sorted(told["seen"].items()):
        print(f"  {count:9d}  {what}")
    print("wrong values:", sum(told["wrong"].values()), dict(told["wrong"]))
    print("lost or resurrected sessions:", sum(told["lost"].values()), dict(told["lost"]))
    flat = True
    for process, memory in enumerate(told["memory"]):
        fifths = [memory[len(memory) * part // 5 - 1] / 2**20 for part in range(1, 6)]
        flat = flat and fifths[-1] < fifths[0] * 1.1 + 10
        shown = ", ".join(f"{size:.1f}" for size in fifths)
        print(f"memory of process {process}, after each fifth: {shown} MB")
    return flat and not told["wrong"] and not told["lost"]


if __name__ == "__main__":
    if len(sys.argv) == 3:
        load(sys.argv[1], int(sys.argv[2]))
    else:
        minutes = float(sys.argv[1]) if len(sys.argv) == 2 else 10.0
        sys.exit(0 if report(soak(minutes * 60), minutes * 60) else 1)
