"""A rule: which objects offend, what is stored in their place, and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from contextcache.base.introspection import qualified_name
from contextcache.base.words import suggest, unknown_name
from contextcache.exceptions import ConfigurationError
from contextcache.findings.finding import CODES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


_T = TypeVar("_T")
Class = type  # `Rule.type` is a name, so inside Rule the builtin needs another


class Verb(StrEnum):
    """What a rule does with an object of its type."""

    RECREATE = "recreate"
    SNAPSHOT = "snapshot"
    STRIP = "strip"
    TRIM = "trim"
    REPLACE = "replace"
    OBSERVE = "observe"
    REFUSE = "refuse"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is done with an offender, and the words for it.

    Args:
        verb: What is done.
        code: Code of the findings; says why.
        reason: Why, in one clause, where the code's own text is not it.
        fix: What to do about it, in one sentence.
        did: What was stored instead, in one clause.
        is_proxy: Whether the object stands for another one, and next time maybe for yet another.
        is_lazy: Whether the object stands for what it evaluates to.
        is_secret: Whether it is one, or carries one.
        exhausts_stack: Whether pickling it raises a `RecursionError`.
        is_endless: Whether pickling it goes as deep as the stack allows.
    """

    verb: Verb
    code: str = "CC100"
    reason: str = ""
    fix: str = ""
    did: str = ""
    is_proxy: bool = False
    is_lazy: bool = False
    is_secret: bool = False
    exhausts_stack: bool = False
    is_endless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Verdict):
    """How objects of one type are treated.

    Args:
        type: Qualified name of the type, such as `shop.api.Client`, or `package:Class`.
        verb: `recreate`, `snapshot`, `strip`, `trim`, `replace`, `observe`, `refuse` or `allow`.
        code: Code of the findings; says why.
        reason: Why, in one clause, where the code's own text is not it.
        fix: What to do about it, in one sentence.
        did: What was stored instead, in one clause.
        is_proxy: Whether the object stands for another one, and next time maybe for yet another.
        is_lazy: Whether the object stands for what it evaluates to.
        is_secret: Whether it is one, or carries one.
        exhausts_stack: Whether pickling it raises a `RecursionError`.
        is_endless: Whether pickling it goes as deep as the stack allows.
        make: For `snapshot`: called with the object, returns what is stored in its place; by
            default a namespace of its attributes.
            For `recreate`: returns the callable and the arguments that build a fresh one on load;
            by default its type, called without arguments.
            For `trim`: called with the object and its reduce value, returns the changed reduce
            value and what was left out of it, or None; with a third item, which says what was
            stored or is empty, the object itself is reported.
            For `replace`: called with the object, returns what the application wants stored in
            its place, about which there is nothing to report; the object itself to store it whole.
        when: Returns whether an object of the type is an offender at all; by default it is. It may
            raise `NothingThere`, to strip the object for another reason than that of the rule.
        force: Whether the rule holds for subclasses that pickle themselves, too.
        behind: Whether only an object behind a proxy or lazy object is one: the user of a request.
        uniform: For `recreate`, in place of `make`, where all objects of a type are alike: called
            with the type, once, returns the callable and the arguments.
        json: Whether a rule of contextcache's own holds where values become JSON, too; a rule of
            the application always does, where it can.
        instead: Expression that is stored in its place, in a patch for the developer; `{}` is the
            object.
        once: Whether `instead` uses the object up. A `__getstate__` must not: it runs for each
            write, and more often.
        anew: Expression that makes a new one, in such a patch.
    """

    type: str
    make: Callable[..., Any] | None = None
    when: Callable[[Any], bool] | None = None
    force: bool = False
    behind: bool = False
    uniform: Callable[[Class], tuple[object, tuple[object, ...]]] | None = None
    json: bool = False
    instead: str = ""
    once: bool = False
    anew: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "verb", as_verb(self.verb, f"rule for {self.type}"))
        if self.code not in CODES:
            raise ConfigurationError(f"rule for {self.type}: there is no code {self.code}")
        needed = _NEEDS_MAKE.get(self.verb)
        if needed is not None and self.make is None:
            raise ConfigurationError(
                f"rule for {self.type}: {self.verb} needs make=, which says {needed}"
            )

    def misnamed(self) -> tuple[str, str] | None:
        """Return why the rule names a type that cannot be; its module is imported for that.

        Returns:
            Why no object meets the rule, and the name that may be meant or an empty string; None
            where the rule may be met, if only on another machine.
        """
        from contextcache.rules.builtin import BUILT_IN  # noqa: PLC0415  # it is made of rules

        package, _, rest = self.type.partition(".")
        if not rest or ":" in rest or self.type in BUILT_IN:
            return None
        from importlib.util import find_spec  # noqa: PLC0415  # for checks only
        from pkgutil import resolve_name  # noqa: PLC0415

        try:
            if find_spec(package) is None:
                return None
            named = resolve_name(self.type)
        except (ImportError, AttributeError):
            return "which does not exist", _nearest(self.type)
        except Exception:  # noqa: BLE001  # the module does not work here, or the name is `<local>`
            return None
        if not isinstance(named, Class):
            return "which is no class", ""
        name = qualified_name(named)
        return None if name == self.type else ("which has another name", name)


def _nearest(name: str) -> str:
    from pkgutil import resolve_name  # noqa: PLC0415  # only a mistake needs it

    module, _, last = name.rpartition(".")
    try:
        near = suggest(last, dir(resolve_name(module)))
    except Exception:  # noqa: BLE001  # it does not exist either
        near = ""
    return f"{module}.{near}" if near else ""


_NEEDS_MAKE = {
    Verb.TRIM: "what is left out",
    Verb.REPLACE: "what is stored in its place",
}


class Rules:
    """The rules of one application, written beside the classes they are about.

    Pass it as the setting `RULES`, or as `Config(rules=tuple(rules))`::

        rules = Rules()

        @rules("strip", fix="store client.id")
        class Client: ...

        @rules("snapshot", "vendor.sdk.Customer")
        def as_dict(customer):
            return {"id": customer.id, "email": customer.email}
    """

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def __call__(self, verb: str, type: str = "", **options: Any) -> Callable[[_T], _T]:  # noqa: A002
        """Return a decorator that adds a rule and leaves what it decorates as it is.

        Args:
            verb: What is done with objects of the type, as in `Rule`.
            type: The type's qualified name where a function is decorated; the function is then
                the rule's `make`.
            **options: Other parts of the `Rule`.

        Raises:
            ConfigurationError: If the verb is unknown, or a function comes without a type.
        """

        def decorate(target: _T) -> _T:
            if isinstance(target, Class):
                rule = Rule(type=qualified_name(target), verb=as_verb(verb, "rule"), **options)
            elif type:
                rule = Rule(type=type, verb=as_verb(verb, "rule"), make=target, **options)  # type: ignore[arg-type]
            else:
                raise ConfigurationError(
                    'a rule on a function names its type: @rules("snapshot", "shop.api.Client")'
                )
            self._rules.append(rule)
            return target

        return decorate


def as_verb(text: object, where: str) -> Verb:
    """Return the verb called `text`.

    Raises:
        ConfigurationError: If there is none; it names the nearest one.
    """
    try:
        return Verb(str(text))
    except ValueError:
        raise ConfigurationError(unknown_name(text, [*Verb], f"{where}: unknown verb")) from None


def rows(
    code: str,
    verb: Verb,
    *types: str,
    instead: str | Mapping[str, str] = "",
    anew: str | Mapping[str, str] = "",
    **parts: Any,
) -> dict[str, Rule]:
    """Return one rule for each of these types, by its name.

    Args:
        code: Code of the findings.
        verb: What is done with objects of these types.
        *types: The names of the types, as in `Rule`.
        instead: As in `Rule`, for all of these types or by their names.
        anew: As in `Rule`, for all of these types or by their names.
        **parts: Other parts of the rules.
    """
    return {
        name: Rule(
            type=name,
            verb=verb,
            code=code,
            instead=instead if isinstance(instead, str) else instead.get(name, ""),
            anew=anew if isinstance(anew, str) else anew.get(name, ""),
            **parts,
        )
        for name in types
    }


def recreated(what: str) -> str:
    """Return the words for a field that is made anew on load."""
    return f"stored the rest; on load this field is a new, {what}"
