"""What one guard has learned: about types, and about the values under each label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contextcache.base.locks import ProcessLock, forget_oldest
from contextcache.base.masking import generalised
from contextcache.engine.dispatch import DispatchTable
from contextcache.engine.history import LabelHistory

if TYPE_CHECKING:
    from contextcache.engine.diagnosis import Diagnosis
    from contextcache.rules.book import RuleBook

MAX_LABELS = 1024


class Knowledge:
    """The dispatch table of a guard and the histories of its labels.

    Args:
        book: The rules of the application.

    Attributes:
        table: The dispatch table.
        everywhere: What is known of any label, for one that is new.
        histories: What is known of each label, by the label with its digits generalised.
    """

    def __init__(self, book: RuleBook) -> None:
        self.table = DispatchTable(book)
        self.histories: dict[str, LabelHistory] = {}
        self.everywhere = LabelHistory()
        self._lock = ProcessLock()

    def restart(self) -> DispatchTable:
        """Return the table to go on with after a reducer was registered or removed."""
        self.table = self.table.restarted()
        return self.table

    def remember(self, label: str, diagnosis: Diagnosis, value: object, *, careful: bool) -> None:
        """Add what a diagnosis of `value` has shown."""
        if diagnosis.table is not self.table or diagnosis.table.due:
            self.renew()
        key = generalised(label)
        with self._lock:
            before = self.histories.pop(key, None) or LabelHistory()
            history = before.updated(diagnosis, value, careful=careful)
            self.everywhere = self.everywhere.with_kinds(history)
            if len(self.histories) >= MAX_LABELS:  # keys may be hostile: forget the oldest
                forget_oldest(self.histories)
            self.histories[key] = history

    def renew(self) -> None:
        """Let C find what was learned of classes that stay.

        Of two threads that do it at once the last one wins: what it misses is due again.
        """
        before = self.table
        table = before.renewed()
        if self.table is before:  # no handler of a signal has been here meanwhile
            self.table = table
