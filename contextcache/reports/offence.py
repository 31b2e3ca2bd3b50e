"""What is known of an offender when a fix for it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contextcache.base.introspection import attributes

if TYPE_CHECKING:
    from contextcache.findings.finding import Action
    from contextcache.findings.path import Path


@dataclass(frozen=True, slots=True)
class Offence:
    """What a patch is made of; it holds the offender and is not kept.

    Attributes:
        code: The code of the finding.
        action: What became of the offender.
        leaf: The offender.
        path: Where it is.
        owner: The object of the application's own class whose field is to act on; None without one.
        field: That field.
        ways: How often what the field holds is met in the value.
        stands_for: The code that stores what a proxy or lazy object stands for, `{}` being it;
            empty where that cannot be stored.
        has_target: Whether the value also holds what a weak reference points at.
        is_certain: Whether all objects of the type offend.
    """

    code: str
    action: Action
    leaf: object
    path: Path
    owner: object = None
    field: str = ""
    ways: int = 1
    stands_for: str = ""
    has_target: bool = False
    is_certain: bool = True

    @property
    def held(self) -> object:
        """What the field holds, which may hold the offender in turn."""
        return self.leaf if self.owner is None else attributes(self.owner).get(self.field)
