"""The built-in rules: one row per type, in one module per kind of offender.

A row names a type by its qualified name, so that nothing is imported to recognise it, or as
`package:Class`, which means a class of that name anywhere below the package: third parties move
their classes between modules, not their names. A row also covers subclasses, unless the author
of the subclass took pickling into their own hands.

To add an offending type, add a row to the module it belongs to and a case to `tests/zoo.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from contextcache.rules.builtin import (
    clients,
    content,
    files,
    frameworks,
    program,
    proxies,
    requests,
    secrets,
    sent_requests,
    threads,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from contextcache.rules.rule import Rule

BUILT_IN: Mapping[str, Rule] = {
    name: rule
    for family in (
        threads,
        proxies,
        requests,
        files,
        clients,
        program,
        secrets,
        sent_requests,
        content,
        frameworks,
    )
    for name, rule in family.ROWS.items()
}
