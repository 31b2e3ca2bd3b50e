"""What is done with a value that is not clean: diagnosed, reported, and stored or refused."""

from __future__ import annotations

import dataclasses
import pickle
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from contextcache.engine.diagnosis import KEY_LEFT_OUT, Diagnosis
from contextcache.engine.dump import Dump
from contextcache.engine.knowledge import Knowledge
from contextcache.engine.options import Options
from contextcache.engine.refusal import NOTHING, refusal, uncacheable
from contextcache.engine.size import heaviest, stack_is_at_risk
from contextcache.exceptions import without_text
from contextcache.findings.finding import Action, Finding
from contextcache.findings.path import Path
from contextcache.payload.wire import PROTOCOL
from contextcache.reports.reporter import key_of, report_internal
from contextcache.rules.book import RuleBook
from contextcache.rules.verdicts import OVERSIZED, TOO_DEEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contextcache.config import Config
    from contextcache.engine.budget import Budget
    from contextcache.reports.reporter import Key, Reporter
    from contextcache.rules.rule import Verdict

PATIENCE = 20  # times as long a developer waits for a path
UNCHANGED = "stored unchanged"
REFUSED_BY_PICKLE = f"{NOTHING}: pickle refuses it"


class Outcome:
    """Diagnose values, report what is found, and return what the mode says is stored.

    Args:
        config: The policy.
        reporter: Reports the findings.
        budget: The time that diagnosis may take.
        session: Whether values are sessions: an offending top-level key is then left out.
        max_body: The most bytes of a pickle.
        warn_reason: Why a value is stored as it is, in the words of a report.

    Attributes:
        knowledge: What the guard has learned.
    """

    def __init__(
        self,
        config: Config,
        reporter: Reporter,
        budget: Budget,
        *,
        session: bool,
        max_body: int,
        warn_reason: str,
    ) -> None:
        self.config = config
        self.knowledge = Knowledge(RuleBook(config.rules))
        self.reporter = reporter
        self.budget = budget
        self.max_body = max_body
        self._session = session
        self._warn_reason = warn_reason

    @property
    def is_spent(self) -> bool:
        """Whether no time is left for a diagnosis that nobody has asked for."""
        if self.config.mode != "strip" or self.reporter.wants_every_occurrence:
            return False
        return not self.budget.left()

    @property
    def wants_sources(self) -> bool:
        """Whether the lines that set fields are looked up: for a developer, a test, CI."""
        return self.config.mode == "raise" or self.reporter.wants_sources

    def diagnosed(
        self,
        value: object,
        label: str,
        *,
        careful: bool,
        counted: Mapping[Key, int] = MappingProxyType({}),
    ) -> bytes:
        """Diagnose `value`, remember and report what is found, and do what the mode says.

        Args:
            value: The value.
            label: The root of its paths.
            careful: Whether the fast pass cannot take it.
            counted: How often known findings were seen, where they are counted already.

        Raises:
            UncacheableValueError: Nothing of it is stored.
        """
        with self.budget.charged():
            diagnosis = self._diagnose(value, label)
            self.knowledge.remember(label, diagnosis, value, careful=careful)
            if self.config.mode == "warn":
                return self._unchanged(value, diagnosis.findings, is_endless=diagnosis.is_endless)
            payload, findings = diagnosis.payload, diagnosis.findings
            log = self.config.mode == "strip"
            if payload is None:
                payload, findings = self._refused(value, label, findings, log=log, counted=counted)
            reported = self.reporter.report(findings, log=log, counted=counted)
            if reported and self.config.mode == "raise":
                raise uncacheable(reported, self.config)
            return payload

    def refused_again(self, value: object, label: str, known: Sequence[Finding]) -> bytes:
        """Refuse `value` as one before it, without a diagnosis.

        Args:
            value: The value.
            label: The root of its paths.
            known: What was found then.

        Returns:
            The rest of a session.

        Raises:
            UncacheableValueError: There is no rest.
        """
        return self._refused(value, label, known, known=True)[0]

    def oversized(self, value: object, label: str) -> bytes:
        """Report that `value` is larger than `MAX_SIZE`, and by which part of it."""
        with self.budget.charged():
            steps, kind = heaviest(value, seconds=PATIENCE * self.budget.left())
            verdict = dataclasses.replace(
                OVERSIZED, fix=OVERSIZED.fix.format(size=self.config.max_size)
            )
            finding = self._refusal(verdict, Path(label, steps), kind, value)
            return self._refused(value, label, [finding])[0]

    def too_deep(self, value: object, label: str) -> bytes:
        """Report that the stack has no room for `value`; in mode `warn`, leave it to pickle."""
        finding = self._refusal(TOO_DEEP, Path(label), type(value), None)
        if self.config.mode == "warn":
            return self._unchanged(value, [finding], is_endless=True)
        return self._refused(value, label, [finding])[0]

    def report_secrets(self, value: object, label: str, body: bytes) -> None:
        """Report what has the shape of a secret in what was stored; no mode refuses it.

        It is a guess, and the same write is not searched in production.

        Args:
            value: The value.
            label: The root of its paths.
            body: What is stored of it.
        """
        from contextcache.rules.secret_shapes import shapes_in  # noqa: PLC0415  # for developers

        if shapes_in(body):
            with self.budget.charged():
                self.reporter.report(self._diagnose(value, label, searched=True).secrets)

    def _diagnose(self, value: object, label: str, *, searched: bool = False) -> Diagnosis:
        seconds = self.budget.left()
        if self.wants_sources:
            seconds = self.budget.look * PATIENCE
        options = Options(
            label=label,
            sink=self.reporter.sink,
            session=self._session,
            debug=self.wants_sources,
            exact=self.config.debug,
            hidden=self.config.redact_keys,
            seconds=seconds,
            nodes=self.budget.nodes,
            searched=searched,
        )
        return Diagnosis(self.knowledge.table, options).run(value)

    def _unchanged(self, value: object, findings: Sequence[Finding], *, is_endless: bool) -> bytes:
        """Report `findings` and return what would have been stored without contextcache."""
        payload = cause = None
        if not (is_endless and stack_is_at_risk()):
            try:
                payload = pickle.dumps(value, PROTOCOL)
            except Exception as error:  # noqa: BLE001  # whatever it was, it is raised below
                cause = without_text(error, "pickle refuses it")
        did = UNCHANGED if payload is not None else REFUSED_BY_PICKLE
        did = f"{did} ({self._warn_reason})"
        self.reporter.report(
            [dataclasses.replace(one, action=Action.OBSERVED, did=did) for one in findings]
        )
        if payload is None:
            raise uncacheable(findings, self.config) from cause
        return payload

    def _refused(
        self,
        value: object,
        label: str,
        findings: Sequence[Finding],
        *,
        log: bool = True,
        known: bool = False,
        counted: Mapping[Key, int] = MappingProxyType({}),
    ) -> tuple[bytes, list[Finding]]:
        """Report why `value` cannot be stored, or only count what is known, and raise.

        Of a session, the rest is pickled: a cart that went wrong must not cost the login.

        Returns:
            The pickle, and what was found in it, which is not reported yet.
        """
        has_rest = self._session and self.config.mode == "strip" and type(value) is dict
        if has_rest:
            findings = [
                dataclasses.replace(one, action=Action.LEFT_OUT, did=KEY_LEFT_OUT)
                if one.action is Action.REFUSED
                else one
                for one in findings
            ]
        if known:
            self.reporter.repeat(map(key_of, findings))
            findings = [
                dataclasses.replace(one, path=dataclasses.replace(one.path, root=label), origin="")
                for one in findings
            ]
        else:
            self.reporter.report(findings, log=log, counted=counted)
        if not has_rest:
            raise uncacheable(findings, self.config)
        try:
            payload, found = self._storable_subset(value, label)
        except Exception as error:  # noqa: BLE001  # our own bug: there is nothing to store then
            report_internal("looking for what can be stored of a session", error)
            raise uncacheable(findings, self.config) from None
        if payload is None or len(payload) > self.max_body:
            raise uncacheable(found or findings, self.config)
        return payload, found

    def _storable_subset(self, session: Any, label: str) -> tuple[bytes | None, list[Finding]]:
        """Pickle what can be stored of `session`.

        The keys are tried one by one, and where all are too large together, the smallest are kept:
        among them are those that people are logged in with.
        """
        sizes = {}
        for name, item in session.items():
            payload, _ = self._part({name: item}, label)
            if payload is not None:
                sizes[name] = len(payload)
        subset, room = {}, self.max_body
        for name in sorted(sizes, key=sizes.__getitem__):
            room -= sizes[name]
            if room < 0:
                break
            subset[name] = session[name]
        return self._part(subset, label)

    def _part(self, part: object, label: str) -> tuple[bytes | None, list[Finding]]:
        """Pickle a part of a session, with a diagnosis only where it needs one."""
        if not stack_is_at_risk():
            dump = Dump(self.knowledge.table, self.config.shown(label))
            try:
                payload = dump.fast(part)
            except MemoryError:
                raise
            except RecursionError:
                if self.is_spent:
                    return None, []
            except Exception:  # noqa: BLE001, S110  # the diagnosis tells what it was
                pass
            else:
                if dump.is_clean and not dump.unverified:
                    return payload, []
        diagnosis = self._diagnose(part, label)
        return diagnosis.payload, diagnosis.findings

    def _refusal(self, verdict: Verdict, path: Path, kind: type, value: object) -> Finding:
        path = dataclasses.replace(path, hidden=self.config.redact_keys)
        return refusal(verdict, path, kind, value=value, sink=self.reporter.sink)
