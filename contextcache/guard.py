"""The guard: between a value and the bytes that are stored.

A clean value takes the fast pass and nothing else. One whose offenders were seen at the same
path before takes the fast pass, too, which cuts them as it goes. Only what is new is diagnosed:
located, tried whether it loads, and reported. How that is done stands in `engine`.
"""

from __future__ import annotations

import dataclasses
import pickle
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from contextcache.base.logs import show_findings
from contextcache.config import Config
from contextcache.engine.budget import PROCESS_BUDGET
from contextcache.engine.diagnosis import Diagnosis
from contextcache.engine.examiner import Examiner
from contextcache.engine.options import Options
from contextcache.engine.outcome import Outcome
from contextcache.engine.preload import preload
from contextcache.engine.serializer import Serializer
from contextcache.exceptions import (
    ConfigurationError,
    UnreadablePayloadError,
    UntrustedPayloadError,
)
from contextcache.payload.loading import MAGIC, is_sealed, load, unreadable
from contextcache.payload.wire import PROTOCOL
from contextcache.reports.reporter import (
    A_MISS,
    Reporter,
    collectors,
    note_write,
    report_internal,
    writers,
)
from contextcache.reports.request_scope import SESSION, current_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from contextcache.engine.budget import Budget
    from contextcache.findings.finding import Finding
    from contextcache.payload.allow_list import AllowList
    from contextcache.payload.envelope import Envelope

LARGE = 2**20  # bytes of a body from which an event loop does not wait for its signature
LARGE_COMPRESSED = 2**16  # of one that is compressed

_R = TypeVar("_R")


class Guard:
    """Turn values into payloads, without what belongs to one thread, request or process.

    Keep one per place of storage; it is safe to use from many threads.

    Args:
        config: The policy; by default that of `Config()`.
        sink: The display name of the storage, such as `session in redis`.
        session: Whether values are sessions: an offending top-level key is then left out.
        budget: The time that diagnosis may take; by default all guards of a process share one.
        **options: Single parts of the policy, by the names of `Config`.

    Attributes:
        signs: Whether payloads are signed.

    Raises:
        ConfigurationError: Payloads cannot be signed, compressed or restricted as the policy says.
    """

    WARN_REASON = "mode warn"
    """Why a value is stored as it is, in the words of a report."""

    PURPOSE: ClassVar[str] = "cache"
    """What payloads are signed for; one that was signed for something else is refused."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        sink: str = "",
        session: bool = False,
        budget: Budget | None = None,
        **options: Any,
    ) -> None:
        config = config if config is not None else Config()
        self.config = dataclasses.replace(config, **options) if options else config
        self.sink = sink
        self._reporter = Reporter(self.config, sink)
        self._envelope = _envelope(self.config, "session" if session else self.PURPOSE)
        self.signs = self._envelope is not None and self.config.sign is not False
        max_body, self._seal = self.config.max_size, None
        if self._envelope is not None and self.signs:
            max_body, self._seal = max_body - self._envelope.OVERHEAD, self._envelope.seal
        self._allowed = None if self.config.loadable is None else _allow_list(self.config.loadable)
        budget = PROCESS_BUDGET if budget is None else budget
        examiner = Examiner(self.config, self._reporter, budget, session=session)
        self._outcome = Outcome(examiner, max_body=max_body, warn_reason=self.WARN_REASON)
        self._body = Serializer(self._outcome).body
        preload(debug=examiner.wants_sources)
        if self.config.mode == "off":
            self._body = _pickled
        elif self.config.debug:
            show_findings()

    def dumps(self, value: object, *, label: str = "value", key: str | bytes = "") -> bytes:
        """Pickle `value`, cutting out and reporting what cannot be stored, and sign it.

        Args:
            value: Any value; it is never changed.
            label: The root of the paths in it, such as `cache['user:42']`.
            key: The key it is stored under, which the signature then covers.

        Returns:
            A pickle of protocol 5, of a clean value byte for byte that of `pickle.dumps`; in a
            signed envelope where the guard has secrets to sign with.

        Raises:
            UncacheableValueError: If nothing of it can be stored, if a field must not be cut, and
                in mode `raise` if anything in it offends.
            Exception: In mode `off`, what pickle raises.
        """
        if writers or collectors or self.config.debug:
            return self._dumps_watched(value, label, key)
        body = self._body(value, label)
        return body if self._seal is None else self._seal(body, key)

    def _dumps_watched(self, value: object, label: str, key: str | bytes) -> bytes:
        """Do what `dumps` does, and report more of it to a developer or a test."""
        if writers:
            note_write()
        scope = current_scope() if self.config.debug else None
        if scope is None or not scope.collect:
            return self._dumps_searched(value, label, key)
        with scope.writing(label, self.sink, hidden=self.config.redact_keys) as write:
            payload = self._dumps_searched(value, label, key)
            write.size = len(payload)
            return payload

    def _dumps_searched(self, value: object, label: str, key: str | bytes) -> bytes:
        body = self._body(value, label)
        if self.config.mode != "off" and self._reporter.wants_sources:
            try:
                self._outcome.report_secrets(value, label, body)
            except (RecursionError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001  # our own bug must not break the write
                report_internal("looking for secrets", error)
        return body if self._seal is None else self._seal(body, key)

    def loads(self, payload: bytes, *, label: str = "value", key: str | bytes = "") -> Any:
        """Turn a payload back into the value; its signature is verified before anything else.

        Args:
            payload: What `dumps` returned.
            label: Where it was read from, for the error.
            key: The key it was found under, as `dumps` was given it.

        Raises:
            UntrustedPayloadError: If it was not signed here, or names what is not `loadable`.
            UnreadablePayloadError: If it cannot be read, for whatever reason.
        """
        if self.config.redact_keys:
            label = self.config.shown(label)
        body: bytes | memoryview = payload
        if payload[:1] == MAGIC:  # it decides what the payload is, and nothing else
            if self._envelope is None:
                raise UntrustedPayloadError(
                    label,
                    "it is signed, and there is no secret here to verify it with",
                    "configure the secret it was signed with",
                )
            body = self._envelope.open(payload, key, label)
        elif self.signs and not self.config.accept_unsigned:
            raise UntrustedPayloadError(
                label,
                "it is not signed",
                "delete the entry, or set ACCEPT_UNSIGNED while entries from before are read",
            )
        value = load(body, self._allowed, label)
        if label == SESSION and type(value) is dict:
            scope = current_scope()
            if scope is not None:
                scope.note_loaded(value)
        return value

    # --- For event loops: what is large is compressed, signed and verified in a thread ----------

    async def dumps_async(
        self, value: object, *, label: str = "value", key: str | bytes = ""
    ) -> bytes:
        """Do what `dumps` does; the value is looked at and pickled in the caller's context."""
        if self._seal is None or writers or collectors or self.config.debug:
            return self.dumps(value, label=label, key=key)
        body = self._body(value, label)
        if len(body) < LARGE:
            return self._seal(body, key)
        return await _in_thread(self._seal, body, key)

    async def loads_async(
        self, payload: bytes, *, label: str = "value", key: str | bytes = ""
    ) -> Any:
        """Do what `loads` does; the value is built in the caller's context."""
        envelope = self._envelope
        if envelope is None or label == SESSION or not is_sealed(payload):
            return self.loads(payload, label=label, key=key)
        least = LARGE_COMPRESSED if envelope.is_compressed(payload) else LARGE
        if len(payload) < least:
            return self.loads(payload, label=label, key=key)
        label = self.config.shown(label)
        body = await _in_thread(envelope.open, payload, key, label)
        return load(body, self._allowed, label)

    def explain(self, value: object, *, label: str = "value", fresh: bool = False) -> list[Finding]:
        """Find everything in `value` that cannot or should not be stored.

        Nothing is stored, changed or logged, and no mode, budget or ignore pattern applies.

        Args:
            value: Any value.
            label: The root of the paths in it.
            fresh: Whether to load what is stored in a fresh process, too, for a test.

        Raises:
            FreshProcessError: The fresh process could not be asked.
        """
        options = Options(
            label=label,
            sink=self.sink,
            debug=True,
            exact=True,
            hidden=self.config.redact_keys,
            fresh=fresh,
            searched=True,
        )
        diagnosis = Diagnosis(self._outcome.examiner.knowledge.table, options).run(value)
        return diagnosis.findings + diagnosis.secrets

    def summary(self) -> list[Finding]:
        """Return what was reported so far, each pattern once, with its count."""
        return self._reporter.summary()

    def report_unreadable(
        self, error: Exception, *, label: str = "value", outcome: str = A_MISS
    ) -> None:
        """Warn that a payload counts as a miss; each reason at its 1st, 10th, 100th... time.

        Args:
            error: What `loads` raised, or what another way of unpickling did.
            label: Where the payload was read from, where the error does not say so.
            outcome: What its reader gets, for the message.
        """
        if not isinstance(error, UnreadablePayloadError):
            error = unreadable(error, self.config.shown(label))
        self._reporter.unreadable(error, outcome)


async def _in_thread(function: Callable[..., _R], *args: Any) -> _R:
    """Return what `function` returns, without holding up the event loop."""
    import asyncio  # noqa: PLC0415  # only where there is a loop

    return await asyncio.to_thread(function, *args)


def _pickled(value: object, label: str) -> bytes:  # noqa: ARG001  # as `Serializer.body`
    return pickle.dumps(value, PROTOCOL)


def _allow_list(names: tuple[str, ...]) -> AllowList:
    from contextcache.payload.allow_list import AllowList  # noqa: PLC0415  # imports what few need

    return AllowList(names)


def _envelope(config: Config, purpose: str) -> Envelope | None:
    if config.secret_keys:
        from contextcache.payload.envelope import Envelope  # noqa: PLC0415  # with OpenSSL, for those who sign

        if config.sign is False and config.compress:
            raise ConfigurationError("COMPRESS needs SIGN: a plain pickle cannot say that it is")
        return Envelope(
            config.secret_keys, purpose=purpose, compress=config.compress, most=config.max_size
        )
    if config.sign or config.compress:
        name = "SIGN" if config.sign else "COMPRESS"
        raise ConfigurationError(f"{name} needs a secret: set SECRET_KEY")
    return None
