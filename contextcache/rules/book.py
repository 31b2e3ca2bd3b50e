"""All rules of one application, looked up by type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.rules.builtin import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contextcache.rules.rule import Rule


class RuleBook:
    """All rules of one application, looked up by type.

    Args:
        rules: The user's own rules; they come before the built-in ones, and of two for the same
            type the first one counts.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._own = {rule.type: rule for rule in reversed(tuple(rules))}  # the first one counts

    def lookup(self, cls: type) -> Rule | None:
        """Return the rule for `cls`, or None where pickle may decide.

        The type itself comes first, then its bases in their order. Only `type(obj)` is ever
        asked: `isinstance` believes a `LocalProxy` and runs the query of a lazy object.
        """
        own_pickling = False
        for base in class_mro(cls)[:-1]:
            rule = self._row(base)
            if rule is not None and (not own_pickling or rule.force):
                return rule
            own_pickling = own_pickling or any(
                name in base.__dict__ for name in ("__reduce__", "__reduce_ex__", "__getstate__")
            )
        return None

    def _row(self, cls: type) -> Rule | None:
        name = qualified_name(cls)
        package, _, short = name.partition(".")
        anywhere = f"{package}:{short.rpartition('.')[2]}"
        for table in (self._own, BUILT_IN):
            rule = table.get(name) or table.get(anywhere)
            if rule is not None:
                return rule
        return None
