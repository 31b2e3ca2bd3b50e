"""The protocol of sessions, with requests that overlap command by command and lose messages.

A machine draws what happens next: a request of the visitor begins, one of those that are running
sends its next command, which may be lost on the way there or on the way back, a process ends, a
response reaches the browser. Any request may be stopped between any two commands.

Whatever is drawn, nobody whose logout was answered is logged in afterwards, by any id that any
response has named, and no id ever shows another login. As long as no request loses more than one
message, nobody else is logged out.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import os
import queue
import secrets
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from contextcache import Guard, ServerError
from contextcache.storage.sessions import SessionStorage
from tests.redis_server import KEPT, RedisServer, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HOUR = 3600
TIMES = int(os.environ.get("SESSION_MODEL_TIMES", "1"))  # how many times the usual examples
MOST_AT_ONCE = 3  # requests of one visitor that are running
STEPS = 6  # before everything may come to its end

STAYING = ("rotate", "rotate and save", "write")
LEAVING = ("rotate", "rotate", "rotate and save", "logout", "logout", "write", "login")
ARRIVES, REQUEST_LOST, ANSWER_LOST, PROCESS_ENDS = FATES = (
    *("arrives", "request lost", "answer lost", "process ends"),
)
LOSSES = (REQUEST_LOST, ANSWER_LOST)
GUARD = Guard(secret_keys=("only for tests",), session=True)


class ProcessEnds(BaseException):
    """Ends a request where no `except Exception` goes on after it."""


class Stepped:
    """A client of which each command waits until it is told its fate."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.waiting: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False: the request is over
        self.fates: queue.SimpleQueue[str] = queue.SimpleQueue()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return functools.partial(self._send, name)

    def _send(self, name: str, *args: Any, **options: Any) -> Any:
        self.waiting.put(True)
        fate = self.fates.get()
        if fate == PROCESS_ENDS:
            raise ProcessEnds
        if fate == REQUEST_LOST:
            raise redis.ConnectionError("lost")
        answer = getattr(self.client, name)(*args, **options)
        if fate == ANSWER_LOST:
            raise redis.ConnectionError("lost")
        return answer


@dataclasses.dataclass
class Request:
    """One request that is running, and what is known of it."""

    kind: str
    sid: str | None
    login: int  # the number of the login that it is about, if it is one
    client: Stepped
    faults: int = 0
    over: bool = False
    failed: bool = False
    cookie: str | None = None  # what it sets; empty: deleted

    def run(self, storage: SessionStorage) -> None:
        try:
            self.answer(storage)
        except (ServerError, ProcessEnds):
            self.failed = True
        finally:
            self.client.waiting.put(False)

    def answer(self, storage: SessionStorage) -> None:
        """Do what an engine does."""
        session = storage.read(key_of(self.sid)) if self.sid else None
        if self.kind == "logout":
            if self.sid:
                storage.delete(key_of(self.sid))
            self.cookie = ""
        elif self.kind == "login":  # without anything of before, as after `session.clear()`
            new = self.create(storage, {"login": self.login})
            if self.sid:
                storage.delete(key_of(self.sid), twice=True)
            self.cookie = new
        elif session is not None and self.kind == "write":
            storage.replace(key_of(self.sid), encoded(self.sid, {**session, "seen": 1}), HOUR)
        elif session is not None:
            new = self.create(storage, session)
            if storage.rotate(key_of(self.sid), key_of(new)) and (
                self.kind == "rotate"
                # As Django, which saves the session once more after the view.
                or storage.replace(key_of(new), encoded(new, session), HOUR, twice=True)
            ):
                self.cookie = new

    def create(self, storage: SessionStorage, session: dict[str, Any]) -> str:
        new = secrets.token_hex(8)
        assert storage.create(key_of(new), encoded(new, session), HOUR)
        return new


def key_of(sid: str | None) -> str:
    return "session:" + hashlib.sha256((sid or "").encode()).hexdigest()


def encoded(sid: str | None, session: dict[str, Any]) -> bytes:
    return GUARD.dumps(session, label="session", key=key_of(sid))


class Impatient(SessionStorage):
    """Takes each rotation that is going on for one that was cut off."""

    ROTATION_SECONDS = 0


def storage_over(client: Any, kind: type[SessionStorage] = SessionStorage) -> SessionStorage:
    return kind(client, GUARD)


class Visitor(RuleBasedStateMachine):
    """One visitor, whose requests overlap."""

    def __init__(
        self,
        server: redis.Redis,
        kinds: Sequence[str],
        losses: int,
        storage: type[SessionStorage] = SessionStorage,
    ) -> None:
        super().__init__()
        self.storage = storage
        self.redis, self.kinds, self.most_losses = server, kinds, losses
        self.redis.flushall()
        self.cookie = ""
        self.running: list[Request] = []
        self.answered: list[Request] = []  # and on the way to the browser
        self.login_by_id: dict[str, int] = {}  # of each id that a response has named
        self.logins = 0
        self.left: set[int] = set()  # logins of which a logout was answered
        self.uncertain: set[int] = set()  # of which one was begun, or whose process ended
        self.steps = 0  # since everything had come to its end

    def teardown(self) -> None:
        for request in self.running:
            while not request.over:
                self.let(request, PROCESS_ENDS)

    @initialize()
    def log_in_first(self) -> None:
        self.begin("login")
        self.finish()

    @precondition(lambda self: len(self.running) < MOST_AT_ONCE)
    @rule(number=st.integers(0, 20))
    def send(self, number: int) -> None:
        """Send a request of one of the kinds."""
        self.begin(self.kinds[number % len(self.kinds)])

    def begin(self, kind: str) -> None:
        """Send a request with the cookie of now."""
        self.logins += kind == "login"
        client = Stepped(self.redis)
        request = Request(kind, self.cookie or None, self.logins, client)
        if kind in ("login", "logout"):
            self.uncertain.add(self.login_by_id.get(self.cookie, 0))
        threading.Thread(
            target=request.run, args=(storage_over(client, self.storage),), daemon=True
        ).start()
        self.running.append(request)
        self.wait(request)

    @precondition(lambda self: self.running)
    @rule(
        which=st.integers(0, MOST_AT_ONCE - 1),
        commands=st.integers(1, 6),
        fate=st.sampled_from([*[ARRIVES] * 6, *LOSSES, *LOSSES, PROCESS_ENDS]),
    )
    def step(self, which: int, commands: int, fate: str) -> None:
        """Let one of the requests send a few commands, of which the last one may be lost."""
        self.steps += 1
        if fate == PROCESS_ENDS and "logout" not in self.kinds:
            fate = ARRIVES
        request = self.running[which % len(self.running)]
        for _ in range(commands - 1):
            self.let(request, ARRIVES)
            if request.over:
                return
        if fate in LOSSES:
            if request.faults == self.most_losses:
                fate = ARRIVES
            else:
                request.faults += 1
        self.let(request, fate)

    @precondition(lambda self: self.answered)
    @rule(which=st.integers(0, MOST_AT_ONCE))
    def deliver(self, which: int) -> None:
        """Let a response reach the browser."""
        request = self.answered.pop(which % len(self.answered))
        if request.cookie is not None:
            self.cookie = request.cookie

    @precondition(lambda self: self.steps > STEPS)
    @rule()
    def come_to_an_end(self) -> None:
        self.finish()

    def finish(self) -> None:
        """Let everything come to its end, and nothing be lost any more."""
        self.steps = 0
        while self.running:
            self.let(self.running[0], ARRIVES)
        while self.answered:
            self.deliver(0)
        login = self.login_by_id.get(self.cookie, 0)
        if login and login not in self.uncertain:
            alive = self.found(self.cookie) == login
            assert alive or self.most_losses > 1, "a lost message has logged a visitor out"
        else:
            self.begin("login")
            self.finish()

    @invariant()
    def no_id_shows_another_login(self) -> None:
        for sid, login in self.login_by_id.items():
            found = self.found(sid)
            assert found in (None, login), "a session has crossed"
            assert not (found and login in self.left), "a logout that was answered was undone"

    def let(self, request: Request, fate: str) -> None:
        """Let a request send the command it waits with, and wait for the next one."""
        if fate == PROCESS_ENDS:
            self.uncertain.add(self.login_by_id.get(request.sid or "", 0))
        request.client.fates.put(fate)
        self.wait(request)

    def wait(self, request: Request) -> None:
        """Wait until a request sends its next command or is over."""
        if request.client.waiting.get(timeout=60):
            return
        request.over = True
        self.running.remove(request)
        if request.failed:
            return
        before = self.login_by_id.get(request.sid or "", 0)
        if request.kind in ("login", "logout") and before:
            self.left.add(before)
        if request.cookie:
            login = request.login if request.kind == "login" else before
            self.login_by_id[request.cookie] = login
        self.answered.append(request)

    def found(self, sid: str) -> Any:
        session = storage_over(self.redis).read(key_of(sid))
        return None if session is None else session["login"]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_server(*KEPT) as server:
        yield server


@pytest.mark.parametrize(
    ("kinds", "losses", "examples", "storage"),
    [
        (STAYING, 1, 60, SessionStorage),
        (LEAVING, 1, 100, SessionStorage),
        (LEAVING, 99, 60, SessionStorage),
        (LEAVING, 99, 60, Impatient),
    ],
    ids=["staying, one loss", "leaving, one loss", "leaving, any losses", "impatient"],
)
def test_a_logout_is_final_and_a_lost_message_is_none(
    server: RedisServer,
    kinds: Sequence[str],
    losses: int,
    examples: int,
    storage: type[SessionStorage],
) -> None:
    """Whatever is drawn; a failure is shown as the shortest program that leads to it."""
    with server.client() as client:
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            lambda: Visitor(client, kinds, losses, storage),
            settings=settings(
                max_examples=examples * TIMES,
                stateful_step_count=40,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )


def interleavings(first: int, second: int) -> Iterator[tuple[int, ...]]:
    """Yield every order in which two requests can send so many commands."""
    for places in itertools.combinations(range(first + second), first):
        yield tuple(int(number not in places) for number in range(first + second))


@pytest.mark.parametrize(
    ("kinds", "fate"),
    [
        *itertools.product([("rotate", "logout"), ("write", "rotate")], [ARRIVES, *LOSSES]),
        (("rotate", "rotate"), ARRIVES),
    ],
)
def test_two_requests_in_every_order(
    server: RedisServer, kinds: tuple[str, str], fate: str
) -> None:
    """Each command of one between any two of the other, and any command of the first lost."""
    longest = {"rotate": 5, "logout": 3, "write": 2}
    orders = list(interleavings(*(longest[kind] for kind in kinds)))
    with server.client() as client:
        places = range(1 if fate == ARRIVES else longest[kinds[0]])
        for order, lost in itertools.product(orders, places):
            visitor = Visitor(client, kinds, 1)
            visitor.log_in_first()
            for kind in kinds:
                visitor.begin(kind)
            requests, sent = list(visitor.running), 0
            for which in order:
                if requests[which].over:
                    continue
                visitor.let(requests[which], fate if (which, sent) == (0, lost) else ARRIVES)
                sent += which == 0
                visitor.no_id_shows_another_login()
            visitor.finish()
            visitor.no_id_shows_another_login()
            known = list(visitor.login_by_id)
            visitor.cookie = known[0]  # the oldest id, with which somebody logs out at last
            visitor.begin("logout")
            visitor.finish()
            visitor.no_id_shows_another_login()


@pytest.mark.parametrize("commands", [3, 4])  # read, create, tombstone, ask for the old key
def test_a_rotation_that_was_cut_off_is_completed_by_the_next(
    server: RedisServer, commands: int
) -> None:
    """The visitor is still logged in under the old id, and the next login is not refused."""
    with server.client() as client:
        visitor = Visitor(client, STAYING, 1, Impatient)
        visitor.log_in_first()
        before = visitor.cookie
        for _ in range(2):  # the second one is cut off where it completes the first
            visitor.begin("rotate")
            [cut_off] = visitor.running
            for _ in range(commands):
                visitor.let(cut_off, ARRIVES)
            visitor.let(cut_off, PROCESS_ENDS)
            assert visitor.found(before)
        visitor.begin("rotate")
        [request] = visitor.running
        while not request.over:
            visitor.let(request, ARRIVES)
        assert request.cookie
        assert visitor.found(request.cookie) == visitor.login_by_id[before]
        assert visitor.found(before) is None
        storage_over(client).delete(key_of(before))
        assert visitor.found(request.cookie) is None
