"""What is done with a value that is not clean: diagnosed, reported, and stored or refused."""

from __future__ import annotations

import dataclasses
import pickle
from types import MappingProxyType
from typing import TYPE_CHECKING

from contextcache.engine.diagnosis import KEY_LEFT_OUT
from contextcache.engine.examiner import PATIENCE
from contextcache.engine.refusal import NOTHING, refusal, uncacheable
from contextcache.engine.size import heaviest, stack_is_at_risk
from contextcache.exceptions import without_text
from contextcache.findings.finding import Action, Finding
from contextcache.findings.path import Path
from contextcache.payload.wire import PROTOCOL
from contextcache.reports.reporter import key_of, report_internal
from contextcache.rules.verdicts import OVERSIZED, TOO_DEEP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from contextcache.engine.examiner import Examiner
    from contextcache.reports.reporter import Key
    from contextcache.rules.rule import Verdict

UNCHANGED = "stored unchanged"
REFUSED_BY_PICKLE = f"{NOTHING}: pickle refuses it"


class Outcome:
    """Diagnose values, report what is found, and return what the mode says is stored.

    Args:
        examiner: Diagnoses values.
        max_body: The most bytes of a pickle.
        warn_reason: Why a value is stored as it is, in the words of a report.
    """

    def __init__(self, examiner: Examiner, *, max_body: int, warn_reason: str) -> None:
        self.examiner = examiner
        self.max_body = max_body
        self._config = examiner.config
        self._reporter = examiner.reporter
        self._budget = examiner.budget
        self._warn_reason = warn_reason

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
        with self._budget.charged():
            diagnosis = self.examiner.diagnose(value, label)
            self.examiner.knowledge.remember(label, diagnosis, value, careful=careful)
            if self._config.mode == "warn":
                return self._unchanged(value, diagnosis.findings, is_endless=diagnosis.is_endless)
            payload, findings = diagnosis.payload, diagnosis.findings
            log = self._config.mode == "strip"
            if payload is None:
                payload, findings = self._refused(value, label, findings, log=log, counted=counted)
            reported = self._reporter.report(findings, log=log, counted=counted)
            if reported and self._config.mode == "raise":
                raise uncacheable(reported, self._config)
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
        with self._budget.charged():
            steps, kind = heaviest(value, seconds=PATIENCE * self._budget.left())
            verdict = dataclasses.replace(
                OVERSIZED, fix=OVERSIZED.fix.format(size=self._config.max_size)
            )
            finding = self._refusal(verdict, Path(label, steps), kind, value)
            return self._refused(value, label, [finding])[0]

    def too_deep(self, value: object, label: str) -> bytes:
        """Report that the stack has no room for `value`; in mode `warn`, leave it to pickle."""
        finding = self._refusal(TOO_DEEP, Path(label), type(value), None)
        if self._config.mode == "warn":
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
            with self._budget.charged():
                self._reporter.report(self.examiner.diagnose(value, label, searched=True).secrets)

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
        self._reporter.report(
            [dataclasses.replace(one, action=Action.OBSERVED, did=did) for one in findings]
        )
        if payload is None:
            raise uncacheable(findings, self._config) from cause
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
        has_rest = self.examiner.session and self._config.mode == "strip" and type(value) is dict
        if has_rest:
            findings = [
                dataclasses.replace(one, action=Action.LEFT_OUT, did=KEY_LEFT_OUT)
                if one.action is Action.REFUSED
                else one
                for one in findings
            ]
        if known:
            self._reporter.repeat(map(key_of, findings))
            findings = [
                dataclasses.replace(one, path=dataclasses.replace(one.path, root=label), origin="")
                for one in findings
            ]
        else:
            self._reporter.report(findings, log=log, counted=counted)
        if not has_rest:
            raise uncacheable(findings, self._config)
        try:
            payload, found = self.examiner.storable_subset(value, label, self.max_body)
        except Exception as error:  # noqa: BLE001  # our own bug: there is nothing to store then
            report_internal("looking for what can be stored of a session", error)
            raise uncacheable(findings, self._config) from None
        if payload is None or len(payload) > self.max_body:
            raise uncacheable(found or findings, self._config)
        return payload, found

    def _refusal(self, verdict: Verdict, path: Path, kind: type, value: object) -> Finding:
        path = dataclasses.replace(path, hidden=self._config.redact_keys)
        return refusal(verdict, path, kind, value=value, sink=self._reporter.sink)
