"""From a value to its pickle: one fast pass, and a diagnosis only of what is new."""

from __future__ import annotations

import copyreg
import pickle
from typing import TYPE_CHECKING

from contextcache.base.masking import generalised
from contextcache.engine.diagnosis import MAX_RETRIES, refuses, without_keys
from contextcache.engine.dump import Dump
from contextcache.engine.history import LabelHistory, Markers
from contextcache.engine.hits import kind_of
from contextcache.engine.size import MAY_CRASH, stack_is_at_risk
from contextcache.engine.trial import loads_again
from contextcache.exceptions import UncacheableValueError
from contextcache.findings.finding import Action
from contextcache.payload.wire import PROTOCOL
from contextcache.reports.reporter import is_milestone, report_internal
from contextcache.reports.request_scope import may_hold_credentials

if TYPE_CHECKING:
    from contextcache.engine.outcome import Outcome
    from contextcache.reports.reporter import Key

SMALL_DICT_ITEMS = 16  # up to which to ask for the types costs 0.3 µs, and a pickler 1.3 µs
_DATA = frozenset({str, int, float, bool, bytes, type(None)})


class Serializer:
    """Pickle values without what belongs to one thread, request or process.

    Args:
        outcome: What is done with a value that is not clean.
    """

    def __init__(self, outcome: Outcome) -> None:
        examiner = outcome.examiner
        self.outcome = outcome
        self.knowledge = examiner.knowledge
        self._examiner = examiner
        self._config = examiner.config
        self._reporter = examiner.reporter
        self._budget = examiner.budget
        self._max_body = outcome.max_body

    def body(self, value: object, label: str) -> bytes:
        """Return the pickle of `value`.

        Raises:
            UncacheableValueError: Nothing of it is stored.
        """
        knowledge, config, failed = self.knowledge, self._config, None
        try:
            if type(value) is dict and len(value) <= SMALL_DICT_ITEMS and _is_flat_data(value):
                payload = pickle.dumps(value, PROTOCOL)
                if len(payload) <= self._max_body and not may_hold_credentials(payload):
                    return payload
            # The history first: what it calls known, the table read after it knows how to cut.
            history = knowledge.histories.get(generalised(label)) if knowledge.histories else None
            table = knowledge.table
            if copyreg.dispatch_table != table.registered:  # another reducer was registered since
                table = knowledge.restart()
            dump = Dump(table, config.shown(label) if config.redact_keys else label)
            careful = False
            try:
                if history is None and not (MAY_CRASH and stack_is_at_risk()):
                    payload = dump.fast(value)
                else:
                    careful, payload = self._dump_with_history(dump, value, label, history)
                if dump.is_untouched and not table.due and len(payload) <= self._max_body:
                    return payload
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  # the diagnosis tells what it was, and where
                failed = type(error)
            # Out here, no error has that one and its text as its context.
            if failed is None:
                payload = self._finish(value, label, history, dump, payload, careful=careful)
            else:
                payload = self._after_failure(value, label, history, failed)
        except (UncacheableValueError, MemoryError):
            raise
        except RecursionError:  # with no room left on the stack, nothing is known for certain
            payload = self.outcome.too_deep(value, label)
        except Exception as error:  # noqa: BLE001  # our own bug must not break the write
            report_internal("guarding a value", error)
            payload = pickle.dumps(value, PROTOCOL)
        return payload if len(payload) <= self._max_body else self.outcome.oversized(value, label)

    def _dump_with_history(
        self, dump: Dump, value: object, label: str, history: LabelHistory | None
    ) -> tuple[bool, bytes]:
        """Pickle a value of which something may be known; return whether with care, too."""
        careful = stack_is_at_risk()
        if careful:
            dump.captured = {}  # to notice what never ends
        kept = value
        if history is not None:
            dump.where = Markers(history, value, label, hidden=self._config.redact_keys)
            kept = without_keys(value, history.dropped, dump)
            careful = careful or history.careful
        return careful, dump.careful(kept) if careful else dump.fast(kept)

    def _after_failure(
        self, value: object, label: str, history: LabelHistory | None, failed: type[Exception]
    ) -> bytes:
        """Return what is stored of a value that the pass could not take."""
        past = history or self.knowledge.everywhere
        is_known = history is None and past.careful and self._examiner.is_spent
        # Another thread changed the value meanwhile, as a rule not again within such a short time.
        for _ in range(MAX_RETRIES if failed is RuntimeError else is_known):
            dump, careful = Dump(self.knowledge.table, self._config.shown(label)), is_known
            try:
                if is_known:
                    payload = dump.careful(value)
                else:
                    careful, payload = self._dump_with_history(dump, value, label, history)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  # the diagnosis tells what it was
                failed = type(error)
            else:
                return self._finish(value, label, history, dump, payload, careful=careful)
        known = past.refused(past.exhausting) if failed is RecursionError else []
        if known and self._examiner.is_spent:
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
        keys = self._known_keys(history, dump, value) if history is not None else None
        if keys is None:
            past = history or self.knowledge.everywhere
            if self._examiner.is_spent:
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

    def _known_keys(self, history: LabelHistory, dump: Dump, value: object) -> set[Key] | None:
        """Return the keys of these hits if they were all met at the same paths before."""
        if history.refusals or dump.unverified or self._config.mode == "raise":
            return None
        if self._reporter.wants_every_occurrence or not dump.kinds() <= history.kinds.keys():
            return None
        keys, elsewhere = history.keys_at(value, dump.leaves())
        if not elsewhere:
            return keys
        kinds = dump.kinds(elsewhere)
        if not kinds <= history.everywhere:
            return None  # the same kind elsewhere has another name and another holder
        has_marker = any(
            hit.action is Action.STRIPPED and id(hit.leaf) in elsewhere for hit in dump.hits
        )
        if has_marker and not history.is_full and self._has_time:
            return None  # it may be at a new path all the same, which its marker has to name
        return keys | {history.kinds[kind] for kind in kinds}

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
