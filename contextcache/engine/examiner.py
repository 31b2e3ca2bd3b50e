"""Diagnose values within the time that there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.engine.diagnosis import Diagnosis
from contextcache.engine.dump import Dump
from contextcache.engine.knowledge import Knowledge
from contextcache.engine.options import Options
from contextcache.engine.size import stack_is_at_risk
from contextcache.rules.book import RuleBook

if TYPE_CHECKING:
    from contextcache.config import Config
    from contextcache.engine.budget import Budget
    from contextcache.findings.finding import Finding
    from contextcache.reports.reporter import Reporter

PATIENCE = 20  # times as long a developer waits for a path


class Examiner:
    """Diagnose the values of one guard, with what it has learned and within its budget.

    Args:
        config: The policy.
        reporter: Knows whether a developer or a test reads the findings.
        budget: The time that diagnosis may take.
        session: Whether values are sessions: an offending top-level key is then left out.

    Attributes:
        knowledge: What the guard has learned.
    """

    def __init__(
        self, config: Config, reporter: Reporter, budget: Budget, *, session: bool
    ) -> None:
        self.config = config
        self.knowledge = Knowledge(RuleBook(config.rules))
        self.reporter = reporter
        self.budget = budget
        self.session = session

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

    def diagnose(self, value: object, label: str, *, searched: bool = False) -> Diagnosis:
        """Diagnose a value within the time that there is.

        Args:
            value: The value.
            label: The root of its paths.
            searched: Whether to look for what has the shape of a secret, too.
        """
        seconds = self.budget.left()
        if self.wants_sources:
            seconds = self.budget.look * PATIENCE
        options = Options(
            label=label,
            sink=self.reporter.sink,
            session=self.session,
            debug=self.wants_sources,
            exact=self.config.debug,
            hidden=self.config.redact_keys,
            seconds=seconds,
            nodes=self.budget.nodes,
            searched=searched,
        )
        return Diagnosis(self.knowledge.table, options).run(value)

    def storable_subset(
        self, session: Any, label: str, max_body: int
    ) -> tuple[bytes | None, list[Finding]]:
        """Pickle what can be stored of `session`.

        The keys are tried one by one, and where all are too large together, the smallest are kept:
        among them are those that people are logged in with.
        """
        sizes = {}
        for name, item in session.items():
            payload, _ = self._part({name: item}, label)
            if payload is not None:
                sizes[name] = len(payload)
        subset, room = {}, max_body
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
        diagnosis = self.diagnose(part, label)
        return diagnosis.payload, diagnosis.findings
