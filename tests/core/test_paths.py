"""Paths: an expression that evaluates to the offender, a pattern that covers it, and no secrets."""

from __future__ import annotations

import pickle
from enum import Enum
from types import SimpleNamespace
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contextcache import Path
from contextcache.base.introspection import (
    attributes,
    class_mro,
    instance_dict,
    qualified_name,
    slot_values,
)
from contextcache.findings.path import (
    MAX_KEY_LENGTH,
    Step,
    StepKind,
    attribute,
    generalised,
    item,
    printable,
    tokens,
)
from tests.resolving import resolve

# Python reads an identifier in its normal form, so source code makes no attribute of another one.
names = (
    st.text(min_size=1, max_size=12)
    .map(lambda name: normalize("NFKC", name))
    .filter(lambda name: name and not hasattr(object(), name) and name != "__dict__")
)
plain_keys = st.one_of(
    st.text(max_size=MAX_KEY_LENGTH), st.integers(-(10**19), 10**19), st.none(), st.booleans()
)
keys = st.recursive(plain_keys, lambda inner: st.tuples(inner, inner), max_leaves=4)
evaluated = st.lists(
    st.one_of(names.map(attribute), keys.map(lambda key: item(key, 0))), max_size=5
).map(tuple)
positions = st.integers(0, 10**6)
anywhere = st.lists(
    st.one_of(
        names.map(attribute),
        keys.map(lambda key: item(key, 0)),
        st.sampled_from(
            [StepKind.ELEMENT, StepKind.KEY, StepKind.VALUE, StepKind.ARGUMENT]
        ).flatmap(lambda kind: positions.map(lambda at: Step(kind, at))),
        st.sampled_from([Step(StepKind.STATE, None), Step(StepKind.FUNCTION, None)]),
    ),
    max_size=6,
).map(tuple)
roots = st.one_of(
    st.sampled_from(["session", "value", "cache[...]"]),
    st.text(max_size=30).map(lambda key: f"cache[{key!r}]"),
)


def at(*steps: Step, root: str = "session") -> Path:
    return Path(root, steps)


class Box:
    def __repr__(self) -> str:
        raise AssertionError("the repr of a user's object must not run")


def build(steps: tuple[Step, ...], leaf: object) -> object:
    """Make the value in which `steps` lead to `leaf`."""
    for step in reversed(steps):
        if step.kind is StepKind.ATTRIBUTE:
            box = Box()
            box.__dict__[str(step.name)] = leaf
            leaf = box
        else:
            leaf = {step.name: leaf}
    return leaf


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (at(), "session"),
        (at(item("cart", 0), attribute("items"), item(3, 3)), "session['cart'].items[3]"),
        (at(attribute("class")), "session.__dict__['class']"),
        (at(attribute("two words")), "session.__dict__['two words']"),
        (at(item(("a", 1, None), 0)), "session[('a', 1, None)]"),
        (at(item("it's", 0)), 'session["it\'s"]'),
        (at(item("line\nbreak", 0)), r"session['line\nbreak']"),
        (at(item("x" * 41, 2)), "session<value 2>"),
        (at(item(Box(), 1)), "session<value 1>"),
        (at(item(1.5, 4)), "session<value 4>"),
        (at(item(b"raw", 5)), "session<value 5>"),
        (at(Step(StepKind.ELEMENT, 0)), "session{0}"),
        (at(Step(StepKind.KEY, 2)), "session<key 2>"),
        (at(Step(StepKind.ARGUMENT, 1)), "session<arg 1>"),
        (at(Step(StepKind.STATE, None)), "session<state>"),
        (at(Step(StepKind.FUNCTION, None)), "session<function>"),
    ],
)
def test_a_path_reads_as_python_or_as_what_cannot_be_mistaken_for_it(path: Path, text: str) -> None:
    """Attributes, keys and indices are Python; everything else is a documented form."""
    assert str(path) == text


@given(evaluated)
def test_evaluating_a_path_gives_the_leaf(steps: tuple[Step, ...]) -> None:
    """`eval` of the path on the value is the object it names, whatever the keys and names."""
    leaf = object()
    value = build(steps, leaf)
    assert eval(str(Path("value", steps)), {"value": value}) is leaf


@given(evaluated)
def test_resolving_a_path_gives_the_leaf(steps: tuple[Step, ...]) -> None:
    """`resolve` leads where the path was built from."""
    leaf = object()
    assert resolve(Path("value", steps), build(steps, leaf)) is leaf


@given(roots, anywhere)
def test_every_path_can_be_read_again(root: str, steps: tuple[Step, ...]) -> None:
    """Splitting a path and joining it gives a path that splits the same way."""
    found = tokens(str(Path(root, steps)))
    assert found[0] == root.partition("[")[0]
    assert len(found) >= 1 + len(steps)
    assert tokens("".join(found)) == found


@given(roots, anywhere)
def test_every_path_is_covered_by_its_own_text_and_pattern(
    root: str, steps: tuple[Step, ...]
) -> None:
    """What the log says to put on the ignore list silences that very finding."""
    path = Path(root, steps)
    assert path.matches(path.pattern)
    assert path.matches(path.root)
    if "*" not in str(path):
        assert path.matches(str(path))


@given(st.text(max_size=30), anywhere)
def test_a_root_that_is_no_expression_matches_without_an_error(
    root: str, steps: tuple[Step, ...]
) -> None:
    """Whatever a caller names the sink, looking for ignored paths never breaks the write."""
    assert isinstance(Path(root, steps).matches("session['cart']"), bool)


CLIENT = at(item("cart", 0), attribute("items"), item(3, 3), attribute("client"))


@pytest.mark.parametrize(
    "pattern",
    [
        "session",
        "session['cart']",
        'session["cart"]',
        "session['c*']",
        "session[*]",
        "session['cart'].items[*].client",
        "session['cart'].items[3].client",
        "session[*].items[*]",
        "session['cart'].*[*].client",
        "session['cart'] .items [*]",
        "*['cart']",
    ],
)
def test_a_pattern_covers_what_it_names_and_all_below(pattern: str) -> None:
    """`[*]` is any key or index, `*` any text in a name, and a prefix covers everything below."""
    assert CLIENT.matches(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "value",
        "session['basket']",
        "session['cart?']",
        "session['cart'].item",
        "session['cart'].items[4]",
        "session['cart'].items[*].client._lock",
        "session.cart",
        "session['cart'][*]",
    ],
)
def test_a_pattern_covers_nothing_else(pattern: str) -> None:
    """A prefix is one of whole steps, and only `*` is a wildcard."""
    assert not CLIENT.matches(pattern)


def test_a_question_mark_in_a_key_is_a_question_mark() -> None:
    """A URL is a common cache key; its `?` is no wildcard."""
    assert at(item("a?b", 0)).matches("session['a?b']")
    assert not at(item("axb", 0)).matches("session['a?b']")


@pytest.mark.parametrize("step", [item("k", 0), item(Box(), 3), Step(StepKind.ELEMENT, 1)])
def test_any_item_covers_what_has_no_printable_key(step: Step) -> None:
    """`[*]` also covers set elements and values under keys that are not printed."""
    assert at(step).matches("session[*]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a path starts with a name, such as session or cache[...]: ''"),
        ("['cart']", "a path starts with a name, such as session or cache[...]: \"['cart']\""),
        ("session['cart", 'cannot read this path from column 8 on: "session[\'cart"'),
        ("session[]", "cannot read this path from column 8 on: 'session[]'"),
        ("session.cart!", None),
        ("session cart", "cannot read this path from column 8 on: 'session cart'"),
    ],
)
def test_what_is_no_path_is_refused_with_the_column(text: str, message: str | None) -> None:
    """A pattern with a typo says where it cannot be read."""
    if message is None:
        assert tokens(text) == ["session", ".cart!"]
        return
    with pytest.raises(ValueError, match="path") as caught:
        tokens(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        (at(item("user:42", 0), attribute("items"), item(3, 3)), "session['user:*'].items[*]"),
        (at(item(7, 0), root="cache['page:2:en']"), "cache['page:*:en'][*]"),
        (at(Step(StepKind.ELEMENT, 4), Step(StepKind.ARGUMENT, 1)), "session{*}<arg *>"),
        (at(Step(StepKind.KEY, 2), attribute("x2")), "session<key *>.x2"),
        (at(item(("a", 5), 0)), "session[('a', *)]"),
    ],
)
def test_a_pattern_makes_equal_fields_of_many_items_one(path: Path, pattern: str) -> None:
    """Positions and digits of keys are generalised; names of attributes are not."""
    assert path.pattern == pattern


def test_generalised_replaces_runs_of_digits() -> None:
    """`user:42` and `user:7` are one pattern."""
    assert generalised("user:42:page:7") == "user:*:page:*" == generalised("user:7:page:123")


def test_a_path_grows_and_shrinks() -> None:
    """`/` appends a step, `parent` takes it away, and the root is its own parent."""
    cart = Path("session") / item("cart", 0)
    assert str(cart / attribute("owner")) == "session['cart'].owner"
    assert (cart / attribute("owner")).parent == cart
    assert Path("session").parent == Path("session")


def test_a_path_is_frozen_comparable_and_picklable() -> None:
    """A finding with its path can be sent to another process."""
    path = at(item("cart", 0), attribute("owner"))
    assert pickle.loads(pickle.dumps(path)) == path
    assert hash(path) == hash(at(item("cart", 0), attribute("owner")))
    with pytest.raises(AttributeError):
        path.root = "x"  # type: ignore[misc]


class Slotted:
    __slots__ = ("__hidden", "empty", "plain")

    def __init__(self) -> None:
        self.plain = "plain"
        self.__hidden = "hidden"


class SlottedChild(Slotted):
    """Adds a dictionary; what the slots hold is still theirs."""


class Guarded:
    def __init__(self) -> None:
        object.__getattribute__(self, "__dict__")["plain"] = "plain"

    @property
    def plain(self) -> str:
        raise AssertionError("a property must not run where a plain attribute exists")

    def __getattribute__(self, name: str) -> Any:
        raise AssertionError("no code of the class must run")


def test_attributes_are_read_without_code_of_the_class() -> None:
    """Dictionary and slots are read as CPython stores them, mangled names included."""
    assert slot_values(Slotted()) == {"plain": "plain", "_Slotted__hidden": "hidden"}
    child = SlottedChild()
    child.extra = 1  # type: ignore[attr-defined]
    assert attributes(child) == {"extra": 1, "plain": "plain", "_Slotted__hidden": "hidden"}
    assert attributes(Guarded()) == {"plain": "plain"}
    assert resolve(at(attribute("plain")), Guarded()) == "plain"
    assert instance_dict(3) is None


def test_what_has_no_accessor_resolves_by_position() -> None:
    """Elements, keys, values under unprintable keys and arguments are found by counting."""
    value = {Box: {"only"}, 2.5: complex(1, 2)}
    assert resolve(at(Step(StepKind.KEY, 0)), value) is Box
    assert resolve(at(item(Box(), 0), Step(StepKind.ELEMENT, 0)), value) == "only"
    reduced = SimpleNamespace(__reduce_ex__=lambda _protocol: (int, ("1", "leaf")))
    assert resolve(at(Step(StepKind.ARGUMENT, 1)), reduced) == "leaf"


@pytest.mark.parametrize(
    "steps",
    [
        [attribute("gone")],
        [item("gone", 0)],
        [item(5, 0)],
        [Step(StepKind.ELEMENT, 5)],
        [Step(StepKind.KEY, 5)],
        [Step(StepKind.STATE, None)],
        [Step(StepKind.FUNCTION, None)],
    ],
)
def test_a_step_that_leads_nowhere_is_a_lookup_error(steps: list[Step]) -> None:
    """`resolve` raises one documented kind of error."""
    with pytest.raises(LookupError):
        resolve(at(*steps), {"cart": 1})
    with pytest.raises(LookupError):
        resolve(at(*steps), 7)


class Colour(Enum):
    RED = 1


class LoudStr(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise AssertionError("the repr of a user's object must not run")


@pytest.mark.parametrize("key", ["", "cart", "x" * 40, 0, -1, True, None, ("a", 1), (("a",), 2)])
def test_short_plain_keys_are_printed(key: object) -> None:
    """Short strings, plain numbers, None, and tuples of them say where a field is."""
    assert printable(key)


@pytest.mark.parametrize(
    "key",
    [
        "x" * 41,
        10**20,
        1.5,
        b"raw",
        Colour.RED,
        Box(),
        LoudStr("cart"),
        ("a", Box()),
        ("a", LoudStr("b")),
        (1, 2, 3, 4, 5),
        frozenset({1}),
    ],
    ids=lambda key: type(key).__name__,
)
def test_no_other_key_is_printed(key: object) -> None:
    """A long string may be data, and the `repr` of any other object is not ours to run."""
    assert not printable(key)
    assert str(item(key, 3)) == "<value 3>"


class Lying(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise AssertionError("no code of the metaclass must run")

    def mro(cls) -> list[type]:
        return super().mro()


class Liar(metaclass=Lying):
    pass


def test_names_of_types_are_read_past_their_metaclass() -> None:
    """A class is named by what CPython stores, not by what its metaclass answers."""
    assert qualified_name(Liar).endswith("Liar")
    assert class_mro(Liar) == (Liar, object)
    assert qualified_name(dict) == "dict"
    assert qualified_name(type(Box)) == "type"
    assert qualified_name(type(Box())) == f"{__name__}.Box"


@pytest.mark.parametrize("key", ["adQfM9u9MKYQojv42L6hbK", "YNyNrF+unFUYsv7Y2L6hbK"])
def test_the_keys_of_memoized_functions_are_one_pattern(key: str) -> None:
    """Flask-Caching makes them of a hash: each call would be a finding of its own."""
    assert generalised(key) == "*"
    assert generalised(f"{key}x") != "*"
    assert generalised("shop_products_of_the_d") == "shop_products_of_the_d"
