"""Rules: which row covers a type, and what a mistake in a rule of the user's says."""

from __future__ import annotations

import io
import threading
import types
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Config, ConfigurationError, Guard, Rule
from contextcache.base.words import unknown_name
from contextcache.findings.finding import CODES
from contextcache.rules.book import RuleBook
from contextcache.rules.builtin import BUILT_IN
from contextcache.rules.rule import Verb, as_verb

if TYPE_CHECKING:
    from pathlib import Path


class Lock(threading.local):
    pass


class OwnPickling(threading.local):
    def __reduce__(self) -> tuple[Any, ...]:
        return OwnPickling, ()


class Base:
    pass


class Child(Base):
    pass


class PicklesItself(Base):
    def __getstate__(self) -> object:
        return {}


BASE = f"{__name__}.Base"


@pytest.mark.parametrize(
    ("obj", "code"),
    [
        (threading.Lock(), "CC102"),
        (threading.RLock(), "CC102"),
        (threading.local(), "CC101"),
        (Lock(), "CC101"),
        ((i for i in ()), "CC109"),
        (types, "CC111"),
        ({}.keys(), "CC116"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_row_covers_its_type_and_subclasses(obj: object, code: str) -> None:
    """A type is found by its qualified name, or by that of a base."""
    rule = RuleBook().lookup(type(obj))
    assert rule is not None
    assert rule.code == code


@pytest.mark.parametrize("obj", [1, "text", {}, Base(), io.BytesIO(), threading.Event()])
def test_everything_else_has_no_row(obj: object) -> None:
    """Pickle decides about what no row names; an event is rebuilt of its lock."""
    assert RuleBook().lookup(type(obj)) is None


def test_a_subclass_that_pickles_itself_is_left_alone() -> None:
    """Whoever took pickling into their own hands knows better than a row for the base."""
    assert RuleBook().lookup(OwnPickling) is None
    book = RuleBook([Rule(type=BASE, verb=Verb.STRIP)])
    assert book.lookup(Child) is not None
    assert book.lookup(PicklesItself) is None


def test_a_forced_row_covers_those_as_well() -> None:
    """`force` is for types whose own pickling is what goes wrong."""
    book = RuleBook([Rule(type=BASE, verb=Verb.STRIP, force=True)])
    assert book.lookup(PicklesItself) is not None


def test_a_package_row_covers_a_class_anywhere_below_it() -> None:
    """`package:Class` survives the moves of third parties between modules."""
    package = __name__.partition(".")[0]
    book = RuleBook([Rule(type=f"{package}:Base", verb=Verb.STRIP)])
    assert book.lookup(Base) is not None
    assert RuleBook([Rule(type="other:Base", verb=Verb.STRIP)]).lookup(Base) is None


def test_the_first_of_two_rules_for_a_type_counts() -> None:
    """The order of the user's rules is their precedence."""
    book = RuleBook([Rule(type=BASE, verb=Verb.STRIP), Rule(type=BASE, verb=Verb.REFUSE)])
    rule = book.lookup(Base)
    assert rule is not None
    assert rule.verb is Verb.STRIP


def test_a_rule_of_the_users_comes_before_a_built_in_one() -> None:
    """A policy of the application is stronger than our default."""
    rule = RuleBook([Rule(type="generator", verb=Verb.REFUSE)]).lookup(types.GeneratorType)
    assert rule is not None
    assert rule.verb is Verb.REFUSE


def test_every_built_in_row_is_complete() -> None:
    """Each row knows its reason and remedy, and one that renews or snapshots what it did."""
    for name, rule in BUILT_IN.items():
        assert rule.type == name
        assert rule.code in CODES
        silent = (Verb.ALLOW, Verb.REPLACE)
        assert rule.fix or rule.behind or rule.verb in silent, name
        assert not rule.fix.endswith("."), name
        if not rule.behind and rule.verb in (Verb.RECREATE, Verb.SNAPSHOT, Verb.TRIM, Verb.OBSERVE):
            assert rule.did, name


def test_two_applications_do_not_share_rules() -> None:
    """A rule belongs to its guard; there is no global policy."""
    strict = Guard(Config(rules=(Rule(type=BASE, verb=Verb.STRIP),)))
    assert strict.explain({"b": Base()})
    assert not Guard().explain({"b": Base()})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"type": "shop.Client", "verb": "drop"},
            (
                "rule for shop.Client: unknown verb 'drop'; "
                "valid: allow, observe, recreate, refuse, replace, snapshot, strip, trim"
            ),
        ),
        (
            {"type": "shop.Client", "verb": "Strip"},
            (
                "rule for shop.Client: unknown verb 'Strip' (did you mean 'strip'?); "
                "valid: allow, observe, recreate, refuse, replace, snapshot, strip, trim"
            ),
        ),
        (
            {"type": "shop.Client", "verb": "strip", "code": "CC999"},
            "rule for shop.Client: there is no code CC999",
        ),
        (
            {"type": "shop.Client", "verb": "trim"},
            "rule for shop.Client: trim needs make=, which says what is left out",
        ),
        (
            {"type": "shop.Client", "verb": "replace"},
            "rule for shop.Client: replace needs make=, which says what is stored in its place",
        ),
    ],
)
def test_a_mistake_in_a_rule_is_named(options: dict[str, Any], message: str) -> None:
    """A rule is checked when it is made, with the type it is for in the message."""
    with pytest.raises(ConfigurationError) as caught:
        Rule(**options)
    assert str(caught.value) == message


def test_a_verb_may_be_text_or_a_verb() -> None:
    """Settings write text; code may use the enum."""
    assert as_verb("strip", "x") is as_verb(Verb.STRIP, "x") is Verb.STRIP


def test_an_unknown_name_is_cut_before_it_is_shown() -> None:
    """A setting that got a whole value by accident does not end up in the message."""
    message = unknown_name("x" * 1000, ["one", "two"], "unknown thing")
    assert message == f"unknown thing {'x' * 60!r}; valid: one, two"


def boom(_obj: object) -> Any:
    raise ZeroDivisionError


@pytest.mark.internal_error
@pytest.mark.parametrize(
    ("part", "verb"),
    [
        *(("make", verb) for verb in ("snapshot", "recreate", "replace")),
        *(("when", verb) for verb in ("snapshot", "recreate")),
    ],
)
def test_a_broken_rule_never_breaks_the_write(part: str, verb: str) -> None:
    """Where `make` or `when` raises, the object is stored as pickle would."""
    guard = Guard(Config(rules=(Rule(type=BASE, verb=verb, **{part: boom}),)))  # type: ignore[arg-type]
    assert isinstance(guard.loads(guard.dumps({"b": Base(), "n": 1}))["b"], Base)


Alias = Base


@pytest.mark.parametrize(
    ("name", "misnamed"),
    [
        (BASE, None),
        (f"{__name__}.Bsae", ("which does not exist", BASE)),
        (f"{__name__}.Alias", ("which has another name", BASE)),
        (f"{__name__}.boom", ("which is no class", "")),
        ("contextcache.shop.Client", ("which does not exist", "")),
        ("threading.local", ("which has another name", "_thread._local")),
        ("collections.OrderedDict", None),
        ("no_such_package.api.Client", None),  # an optional one, which is not installed
        ("contextcache:Guarrd", None),  # a class that may be anywhere in the package
        ("generator", None),
        ("_thread.lock", None),
        (f"{__name__}.boom.<locals>.Client", None),
    ],
)
def test_a_rule_that_no_object_meets_is_told(name: str, misnamed: tuple[str, str] | None) -> None:
    """A type is known by the name findings show: that of the class, where it is defined."""
    assert Rule(type=name, verb=Verb.STRIP).misnamed() == misnamed


def test_a_rule_whose_module_cannot_be_imported_may_be_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it is needed: asking does not fail."""
    (tmp_path / "needing_a_library.py").write_text("raise OSError('libgeos.so is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    assert Rule(type="needing_a_library.Geometry", verb=Verb.STRIP).misnamed() is None


def test_what_is_reported_as_a_secret_is_one() -> None:
    """What has the shape of a secret inside of it is not reported a second time."""
    assert all(rule.is_secret is (rule.code == "CC120") for rule in BUILT_IN.values())
