"""From a value to its pickle: one fast pass, and a diagnosis only of what is new."""

from __future__ import annotations

import copyreg
import pickle
from typing import TYPE_CHECKING

from contextcache.base.masking import generalised
from contextcache.engine.diagnosis import refuses, without_keys
from contextcache.engine.dump import Dump
from contextcache.engine.history import LabelHistory, Markers
from contextcache.engine.hits import kind_of
from contextcache.engine.knowledge import Knowledge
from contextcache.engine.outcome import Outcome
from contextcache.engine.size import MAY_CRASH, overruns_stack, stack_is_at_risk
from contextcache.engine.trial import loads_again
from contextcache.engine.verbs import PROTOCOL
from contextcache.reports.reporter import is_milestone
from contextcache.reports.request_scope import may_hold_credentials
from contextcache.rules.book import RuleBook

if TYPE_CHECKING:
    from contextcache.config import Config
    from contextcache.engine.budget import Budget
    from contextcache.findings.path import Step
    from contextcache.reports.reporter import Key, Reporter

    Known = dict[int, tuple[tuple[Step, ...], Key]]

SMALL_DICT_ITEMS = 16  # up to which to ask for the types costs 0.3 µs, and a pickler 1.3 µs
_DATA = frozenset({str, int, float, bool, bytes, type(None)})


class Serializer:
    """Pickle values without what belongs to one thread, request or process.

    Args:
        config: The policy.
        reporter: Reports what is found.
        budget: The time that diagnosis may take.
        session: Whether values are sessions.
        max_body: The most bytes of a pickle.
        warn_reason: Why a value is stored as it is, in the words of a report.
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
        self.knowledge = Knowledge(RuleBook(config.rules))
        self._config = config
        self._reporter = reporter
        self._budget = budget
        self.outcome = Outcome(
            config,
            self.knowledge,
            reporter,
            budget,
            session=session,
            max_body=max_body,
            warn_reason=warn_reason,
        )

    def body(self, value: object, label: str) -> bytes:
        """Return the pickle of `value`.

        Raises:
            UncacheableValueError: Nothing of it is stored.
        """
        if type(value) is dict and len(value) <= SMALL_DICT_ITEMS and _is_flat_data(value):
            payload = pickle.dumps(value, PROTOCOL)
            if not may_hold_credentials(payload):
                return payload
        knowledge = self.knowledge
        if knowledge.histories or (MAY_CRASH and stack_is_at_risk()):
            return self._with_history(value, label)
        table = knowledge.table
        if copyreg.dispatch_table != table.registered:  # another reducer was registered since
            table = knowledge.restart()
        dump = Dump(table, self._config.shown(label) if self._config.redact_keys else label)
        try:
            payload = dump.fast(value)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # the diagnosis tells what it was, and where
            failed = type(error)
        else:
            if not (dump.hits or dump.uniform_hits or dump.unverified or table.due):
                return payload
            return self._finish(value, label, None, dump, payload, known={}, careful=False)
        # Out here, no error has that one and its text as its context.
        return self._after_failure(value, label, None, failed)

    def _with_history(self, value: object, label: str) -> bytes:
        """Return the pickle of a value under a label of which something may be known."""
        knowledge = self.knowledge
        # The history first: what it calls known, the table read after it knows how to cut.
        history = knowledge.histories.get(generalised(label))
        table = knowledge.table
        if copyreg.dispatch_table != table.registered:
            table = knowledge.restart()
        careful = at_risk = stack_is_at_risk()
        dump = Dump(table, self._config.shown(label), capture=at_risk)  # to notice what never ends
        known: Known = {}
        kept = value
        if history is not None:
            known = history.known(value)
            dump.where = Markers(known, label, hidden=self._config.redact_keys)
            kept = without_keys(value, history.dropped, dump)
            careful = careful or history.careful
        try:
            if overruns_stack(value):
                raise RecursionError  # as newer versions of Python do by themselves
            payload = dump.careful(kept) if careful else dump.fast(kept)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # as above
            failed = type(error)
        else:
            return self._finish(value, label, history, dump, payload, known=known, careful=careful)
        return self._after_failure(value, label, history, failed)

    def _after_failure(
        self, value: object, label: str, history: LabelHistory | None, failed: type[Exception]
    ) -> bytes:
        """Return what is stored of a value that the pass could not take."""
        past = history or self.knowledge.everywhere
        if history is None and past.careful and self.outcome.is_spent:
            shown = self._config.shown(label)
            dump = Dump(self.knowledge.table, shown, capture=stack_is_at_risk())
            try:
                payload = dump.careful(value)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  # the diagnosis tells what it was
                failed = type(error)
            else:
                return self._finish(value, label, None, dump, payload, known={}, careful=True)
        known = past.exhausting_refusals() if failed is RecursionError else []
        if known and self.outcome.is_spent:
            return self.outcome.refused_again(value, label, known)
        return self.outcome.diagnosed(value, label, careful=True)

    def _finish(
        self,
        value: object,
        label: str,
        history: LabelHistory | None,
        dump: Dump,
        payload: bytes,
        *,
        known: Known,
        careful: bool,
    ) -> bytes:
        """Return what is stored of a value in which something offends, or is new."""
        outcome = self.outcome
        if dump.is_clean and dump.unverified and not self._loads_again(dump, payload):
            return outcome.diagnosed(value, label, careful=careful)
        if dump.table.due:
            self.knowledge.renew()
        if dump.is_clean:
            return payload
        keys = self._known_keys(history, dump, known) if history is not None else None
        if keys is None:
            past = history or self.knowledge.everywhere
            if outcome.is_spent:
                if self._may_skip_diagnosis(past, dump, payload, value):
                    return payload
                refused = past.refused(
                    kind_of(hit.rule.code, type(hit.leaf))
                    for hit in dump.hits
                    if refuses(hit, value)
                )
                if refused:
                    return outcome.refused_again(value, label, refused)
            return outcome.diagnosed(value, label, careful=careful)
        counted = self._reporter.count(keys)
        if any(map(is_milestone, counted.values())):
            return outcome.diagnosed(value, label, careful=careful, counted=counted)
        if self._config.mode == "warn":
            try:
                return pickle.dumps(value, PROTOCOL)
            except Exception:  # noqa: BLE001, S110  # the diagnosis has the findings for the error
                pass
            return outcome.diagnosed(value, label, careful=careful)
        return payload

    def _loads_again(self, dump: Dump, payload: bytes) -> bool:
        """Return True if a payload with types that were met for the first time loads."""
        with self._budget.charged():
            if not loads_again(dump, payload):
                return False
            for cls in dump.unverified:
                dump.table.learn(cls, sound=True)
            return True

    def _known_keys(self, history: LabelHistory, dump: Dump, known: Known) -> set[Key] | None:
        """Return the keys of these hits if they were all met at the same paths before."""
        if history.refusals or dump.unverified or self._config.mode == "raise":
            return None
        kinds = dump.kinds()
        if self._reporter.wants_every_occurrence or not kinds <= history.kinds.keys():
            return None
        elsewhere = dump.kinds(known.keys())
        if not elsewhere <= history.everywhere:
            return None  # the same kind elsewhere has another name and another holder
        if elsewhere and not history.is_full and dump.has_marker(known.keys()) and self._has_time:
            return None  # it may be at a new path all the same, which its marker has to name
        leaves = [*map(id, [hit.leaf for hit in dump.hits]), *map(id, dump.uniform_hits)]
        return {known[leaf][1] for leaf in leaves if leaf in known} | {
            history.kinds[kind] for kind in elsewhere
        }

    @property
    def _has_time(self) -> bool:
        """Whether a diagnosis that nobody has asked for may name the markers in a value."""
        return self._config.mode == "strip" and self._budget.left() > 0

    def _may_skip_diagnosis(
        self, past: LabelHistory, dump: Dump, payload: bytes, value: object
    ) -> bool:
        """Return True if all that offends is known and can be stored, without time for more.

        What is stripped or met for the first time must load all the same.
        """
        kinds = dump.kinds()
        if not kinds <= past.kinds.keys() or any(refuses(hit, value) for hit in dump.hits):
            return False
        if (dump.hits or dump.unverified) and not self._loads_again(dump, payload):
            return False
        self._reporter.repeat({past.kinds[kind] for kind in kinds})
        return True


def _is_flat_data(value: dict[object, object]) -> bool:
    """Return True if a dict holds nothing but data, which pickle stores without asking anybody."""
    try:
        return _DATA.issuperset(map(type, value.values())) and _DATA.issuperset(map(type, value))
    except Exception:  # noqa: BLE001  # a metaclass whose __hash__ raises, a dict that changes
        return False
