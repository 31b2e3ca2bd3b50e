"""The sessions in Redis: how they are created, replaced, rotated, deleted and read.

The rules by which a session that was logged out stays logged out, and by which one lost message
logs nobody out. The session engine of each framework translates names and holds no rule.

A session id is never stored: the key in Redis is a hash of it. Every command concerns one key, so
all of this works in a cluster, on any Redis or Valkey, and without scripts.

==========  ==========================================  ========================================
step        commands                                    afterwards
==========  ==========================================  ========================================
`create`    `SET new … NX`                              the session exists, under an unused key
`replace`   `SET key … XX`                              it is stored if it existed, else nothing
`rotate`    `SET old:moved … NX`, `EXISTS old`,         it is found under the new key only, or,
            `DEL old`; else `DEL new`                   where it was logged out, nowhere
`delete`    `DEL key`, `GET key:moved`, and so on       neither it exists nor what it was moved to
==========  ==========================================  ========================================

Between the second and the third command of `rotate` its outcome is decided. The tombstone at
`old:moved` is written once, so one of two rotations at the same time wins. It says where the
session went, for `TOMBSTONE_SECONDS`. A logout that comes with the old id deletes the old key
first and asks for the tombstone then: where the old key existed after the tombstone was there,
the logout finds the tombstone, and where it did not exist, the rotation gives up. The tombstone
holds the new key, which logs nobody in, signed as sessions are. It has a key of its own, so that
no reader, of whatever version, finds anything under the old one.

Each command of a rotation can be sent twice without harm. Where an answer is lost it is sent
once more, and a tombstone that is there already is compared.
"""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING, Any, ClassVar

from contextcache.base.logs import class_name
from contextcache.base.steps import awaitable, blocking
from contextcache.exceptions import UnreadablePayloadError
from contextcache.reports.request_scope import enter_scope, exit_scope
from contextcache.storage.commands import LABEL, AsyncCommands, Commands, was_lost

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from contextcache.base.steps import Steps
    from contextcache.guard import Guard

TOMBSTONE = ":moved"  # what the key of a tombstone ends with
TOMBSTONE_SECONDS = 60
MAX_MOVES = 32  # rotations of one session within `TOMBSTONE_SECONDS` that a logout follows


def carries_over(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether a session that was cleared and filled again holds all that it held before.

    Then it is the same session under another id. Else it is a login, or a page after a logout,
    which may keep a language or a cart.
    """
    return bool(before) and all(
        key in after and _is_same(value, after[key]) for key, value in before.items()
    )


def _is_same(one: object, other: object) -> bool:
    return one is other or (type(one) is type(other) and type(one) in _PLAIN and one == other)


def shares_values(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Return whether two sessions have any value in common, however deep, but for yes and no."""
    return not set(_leaves(before)).isdisjoint(_leaves(after))


def _leaves(value: object) -> Iterator[object]:
    waiting, seen = [value], set[int]()
    while waiting:
        one = waiting.pop()
        if type(one) in _PLAIN:
            yield one
        elif isinstance(one, (dict, list, tuple, set, frozenset)):
            if id(one) not in seen:
                seen.add(id(one))
                waiting += one.values() if isinstance(one, dict) else one
        elif one is not None and type(one) is not bool:
            yield (id(one),)


_PLAIN = {str, bytes, int, float}


@functools.lru_cache(maxsize=128)  # a request that reads and writes needs it twice
def hashed_id(session_id: str) -> str:
    """Return what stands for a session id in keys; the id cannot be derived from it."""
    return hashlib.sha256(session_id.encode()).hexdigest()


def as_session(value: Any) -> dict[str, Any]:
    """Return what was stored as a session, which is a dict.

    Raises:
        UnreadablePayloadError: It is none.
    """
    if isinstance(value, dict):
        return value
    raise UnreadablePayloadError(
        LABEL,
        f"it holds a {class_name(type(value))}, not a session",
        "see what else writes to this key of Redis",
        "it holds no session",
    )


class SessionSteps:
    """The sessions of one application in one Redis, by their Redis keys.

    A `redis_key` is made from a session id by a hash. What is stored is made by `encode`, in the
    thread and context of the caller; every other method only waits for Redis, in steps; see
    `contextcache.base.steps`.

    Args:
        client: The client.
        guard: Makes and reads payloads; it must be one for sessions.

    Raises:
        ServerError: From each method but `encode`: Redis cannot be reached or used. It is noted
            in the request scope. What was to be stored may have been stored.
    """

    ROTATION_SECONDS: ClassVar[float] = 2
    """How long a rotation may take before another one goes on from where it was cut off."""

    _commands_class: ClassVar[type[Commands]] = Commands

    def __init__(self, client: Any, guard: Guard) -> None:
        self.client = client
        self.guard = guard
        self._redis = self._commands_class(client)

    # --- Reading --------------------------------------------------------------------------------

    def _read(self, redis_key: str, *, prolong: int | None = None) -> Steps[dict[str, Any] | None]:
        """Return a session; what cannot be read is reported and is none.

        Args:
            redis_key: Its key.
            prolong: Seconds that it lives from now on; by default its expiry stays.
        """
        payload = yield from self._redis.read(redis_key, prolong)
        if payload is None:
            return None
        try:
            session = as_session(self.guard.loads(payload, label=LABEL, key=redis_key))
        except UnreadablePayloadError as error:
            self.guard.report_unreadable(error)
            return None
        return session

    def _exists(self, redis_key: str) -> Steps[bool]:
        """Return whether there is a session under this key."""
        return bool((yield from self._redis.send("EXISTS", redis_key)))

    # --- Writing --------------------------------------------------------------------------------

    def encode(self, session: dict[str, Any], redis_key: str) -> bytes:
        """Return the payload of `session`, signed for `redis_key`.

        Raises:
            UncacheableValueError: It cannot be stored.
        """
        return self.guard.dumps(session, label=LABEL, key=redis_key)

    def _create(
        self, redis_key: str, payload: bytes, seconds: int, *, twice: bool = False
    ) -> Steps[bool]:
        """Store a new session.

        Before: nobody but the caller knows the id. After: the session exists, unless another one
        had this key, which is unchanged then.

        Args:
            redis_key: Where.
            payload: What `encode` returned for this key.
            seconds: How long it lives. A session that has expired is not stored.
            twice: Whether to send it once more where the answer is lost: where the visitor has
                no other id that is still worth something.

        Returns:
            Whether the key was unused.
        """
        if seconds <= 0:  # Redis has no expiry in the past, or within the second
            return not (yield from self._exists(redis_key))
        command = "SET", redis_key, payload, "EX", seconds, "NX"
        if (yield from self._redis.send(*command, twice=twice)):
            return True
        return twice and (yield from self._redis.send("GET", redis_key)) == payload

    def _replace(
        self, redis_key: str, payload: bytes, seconds: int, *, twice: bool = False
    ) -> Steps[bool]:
        """Store a session that was there before.

        Before: the session has been read or created. After: it is stored if it still existed;
        one that was logged out, or got another id, is not brought back.

        Args:
            redis_key: Where.
            payload: What `encode` returned for this key.
            seconds: How long it lives. A session that has expired is deleted.
            twice: Whether to send it once more where the answer is lost, as for `create`.

        Returns:
            Whether it existed.
        """
        command: tuple[Any, ...] = "DEL", redis_key
        if seconds > 0:
            command = "SET", redis_key, payload, "EX", seconds, "XX"
        try:  # what `Commands.send` does, a call less: every write of a session is here
            return bool((yield self.client.execute_command(*command)))
        except Exception as error:  # noqa: BLE001  # those of another client's own, too
            if not (twice and was_lost(error)):
                self._redis.fail(error)
        return bool((yield from self._redis.send(*command)))

    def _rotate(self, old: str, new: str) -> Steps[bool]:
        """Let a session be found under its new key only.

        Before: the caller has read the session under `old`, has stored what it made of it with
        `create` under `new`, and has told nobody the new id. After: it is found under `new` and
        not under `old`, and `delete(old)` deletes it. Where it was logged out or rotated by
        another request meanwhile, neither key holds what the caller knows of it.

        A rotation that was cut off, because its process ended, is taken for one that is going on
        for `ROTATION_SECONDS`, and is completed by the next one then.

        Where an answer is lost and the second attempt fails, too, it is not known which of both
        keys holds the session.

        Returns:
            Whether it still existed, and this rotation is the one that counts.
        """
        moved, tombstone = old + TOMBSTONE, self._tombstone(old, new)
        found = tombstone
        send = functools.partial(self._redis.send, twice=True)
        if not (yield from send("SET", moved, tombstone, "EX", TOMBSTONE_SECONDS, "NX")):
            # It may be its own, of which the answer was lost.
            found = yield from send("GET", moved)
        if found == tombstone and (yield from send("EXISTS", old)):
            yield from send("DEL", old)
            return True
        if found not in (tombstone, None) and (yield from self._was_cut_off(old, moved)):
            # It has got as far as this key, and no browser has the id of it.
            unfinished = self._moved_to(found, moved)
            if unfinished is not None and (yield from self._rotate(unfinished, new)):
                yield from send("DEL", old)
                return True
        yield from send("DEL", new)
        return False

    def _was_cut_off(self, old: str, moved: str) -> Steps[bool]:
        """Return whether a rotation stopped between its tombstone and the deletion of the old key.

        One that goes on all the same does no harm: a logout finds both, one after the other.
        """
        if not (yield from self._redis.send("EXISTS", old, twice=True)):
            return False
        left: int = yield from self._redis.send("PTTL", moved, twice=True)
        return left <= (TOMBSTONE_SECONDS - self.ROTATION_SECONDS) * 1000

    def _delete(self, redis_key: str, *, twice: bool = False) -> Steps[bool]:
        """Delete a session, wherever it has been moved to lately.

        Before: nothing. After: no session is under this key or any that it was moved to, and no
        request that has read it before can bring it back. To repeat it is safe, and needed where
        the answer is lost: until then the visitor has not been logged out.

        Args:
            redis_key: The key of the id that the visitor has.
            twice: Whether to send each command once more where the answer is lost.

        Returns:
            Whether there was a session under this key itself, as far as the answers tell.
        """
        current: str | None = redis_key
        existed = False
        for _ in range(MAX_MOVES):
            # In this order: a rotation that sees the session after it has written the tombstone
            # goes on, so the tombstone is asked for when the session is gone.
            deleted = yield from self._redis.send("DEL", current, twice=twice)
            existed = existed or bool(deleted and current == redis_key)
            moved = f"{current}{TOMBSTONE}"
            payload = yield from self._redis.send("GET", moved, twice=twice)
            current = None if payload is None else self._moved_to(payload, moved)
            if current is None:
                break
        return existed

    def _tombstone(self, old: str, new: str) -> bytes:
        token = enter_scope(None)  # it is no write of the application's
        try:
            return self.guard.dumps(new, label=LABEL, key=old + TOMBSTONE)
        finally:
            exit_scope(token)

    def _moved_to(self, payload: bytes, moved: str) -> str | None:
        """Return the key in a tombstone; none where it was not written by this application."""
        try:
            redis_key = self.guard.loads(payload, label=LABEL, key=moved)
        except UnreadablePayloadError as error:
            self.guard.report_unreadable(error)
            return None
        return redis_key if isinstance(redis_key, str) else None


class SessionStorage(SessionSteps):
    """The sessions over a client of redis-py that blocks."""

    read = blocking(SessionSteps._read)
    exists = blocking(SessionSteps._exists)
    create = blocking(SessionSteps._create)
    replace = blocking(SessionSteps._replace)
    rotate = blocking(SessionSteps._rotate)
    delete = blocking(SessionSteps._delete)


class AsyncSessionStorage(SessionSteps):
    """The sessions over an asynchronous client of contextcache."""

    _commands_class = AsyncCommands

    read = awaitable(SessionSteps._read)
    exists = awaitable(SessionSteps._exists)
    create = awaitable(SessionSteps._create)
    replace = awaitable(SessionSteps._replace)
    rotate = awaitable(SessionSteps._rotate)
    delete = awaitable(SessionSteps._delete)
