"""A marker counts wherever Python lets an annotation stand, and a broken annotation costs nothing.

Each class is made from source, with annotations that Python keeps as text, evaluates at once, or,
since 3.14, on demand.
"""

from __future__ import annotations

import pickle
import sys
import threading
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard
from contextcache.testing import capture_findings

if TYPE_CHECKING:
    from collections.abc import Callable

FUTURE = "from __future__ import annotations\n"
MODULE = """
import contextcache
import contextcache.rules.annotations
import dataclasses
import threading
import typing
import typing as t
from collections.abc import Iterator
from contextcache import Allow, Recreate, Recreate as R
from contextcache.rules import annotations as markers
from contextcache.rules.annotations import Marker
from typing import Annotated, ClassVar, Final, Generic, Optional, TYPE_CHECKING, TypeVar, Union
if TYPE_CHECKING:
    from shop.api import Session
    from shop.api import Recreate as Unseen
T = TypeVar("T")
Locked = Annotated[T, Recreate]
Alias = Annotated[threading.local, Recreate]
Text = "Annotated[threading.Lock, Recreate]"
class Names:
    Alias = Alias
class Client:
    size = "size"
    {annotation}
    def __init__(self):
        self.id, self._lock = 7, threading.Lock()
"""
NUMBERS = count()


def module_of(source: str) -> ModuleType:
    module = ModuleType(f"annotated_{next(NUMBERS)}")
    module.__file__ = __file__  # as if others could import it
    sys.modules[module.__name__] = module
    exec(compile(source, "<test>", "exec", dont_inherit=True), vars(module))
    return module


def outcome(value: Any) -> tuple[list[str], Any]:
    """Return the codes of the findings about `value`, and what is read back."""
    guard = Guard()
    with capture_findings() as findings:
        stored = guard.dumps({"it": value})
    return [one.code for one in findings], guard.loads(stored)["it"]


MARKED = [
    "Annotated[threading.Lock, Recreate]",
    "Annotated[threading.Lock, 'words', 3, Recreate]",
    "typing.Annotated[int, Recreate]",
    "t.Annotated[int, R]",
    "Annotated[int, contextcache.Recreate]",
    "Annotated[int, contextcache.rules.annotations.Recreate]",
    "Annotated[int, markers.Marker.RECREATE]",
    "Annotated[int, Marker.RECREATE]",
    "Annotated[Annotated[int, Recreate], 'words']",
    "ClassVar[Annotated[int, Recreate]]",
    "Final[Annotated[int, Recreate]]",
    "Optional[Annotated[int, Recreate]]",
    "Union[None, Annotated[int, Recreate]]",
    "Annotated[int, Recreate] | None",
    "Alias",
    "Optional[Alias]",
    "Names.Alias",
    "Locked[int]",
    "'Annotated[int, Recreate]'",
    "Annotated['threading.Lock', Recreate]",
    "Annotated['Session | None', Recreate]",
    "Optional['Annotated[Session, Recreate]']",
    "Annotated[Iterator[int] | None, Recreate]",
]
DEFERRED = [
    "Annotated[Session, Recreate]",
    "Annotated[Session | None, Recreate]",
    "Annotated[dict[str, Session], Recreate]",
    "Annotated[Session.Kind[int], Recreate]",
    "Annotated[Session, Recreate] | None",
    "Session | Annotated[int, Recreate]",
    "Optional[Annotated[Session, R]]",
    "Annotated[print | None, Recreate]",
    "Unknown.Annotated[int, Recreate]",
    "Annotated[int, Unknown.Recreate]",
    "Text",
]
UNMARKED = [
    "int",
    "'no expression at all ['",
    "Annotated[int, 'Recreate']",
    "list[Annotated[int, Recreate]]",
    "dict[str, Annotated[int, Recreate]]",
    "Annotated[int, print]",
    "typing.Any",
]


@pytest.mark.parametrize("annotation", [*MARKED, *DEFERRED])
def test_a_marker_in_text_counts(annotation: str) -> None:
    """Only what follows the type is looked up, so the type may not exist at run time."""
    codes, made = outcome(
        module_of(FUTURE + MODULE.format(annotation=f"_lock: {annotation}")).Client()
    )
    assert (codes, made.id, type(made._lock)) == ([], 7, type(threading.Lock()))


@pytest.mark.parametrize(
    "annotation", [*MARKED, *(DEFERRED[:-1] if sys.version_info >= (3, 14) else [])]
)
def test_a_marker_in_an_evaluated_annotation_counts(annotation: str) -> None:
    """At once, as up to Python 3.13, or on demand, with names that are missing."""
    codes, made = outcome(module_of(MODULE.format(annotation=f"_lock: {annotation}")).Client())
    assert (codes, made.id) == ([], 7)


@pytest.mark.parametrize("head", ["", FUTURE], ids=["evaluated", "text"])
@pytest.mark.parametrize("annotation", UNMARKED)
def test_any_other_annotation_is_no_marker(annotation: str, head: str) -> None:
    """The lock is found and reported, and the rest is stored."""
    module = module_of(head + MODULE.format(annotation=f"_lock: {annotation}"))
    codes, made = outcome(module.Client())
    assert (codes, made.id) == (["CC102"], 7)


BROKEN = {
    "property": "class C:\n    @property\n    def __annotations__(self): return {}",
    "method": "class C:\n    def __annotations__(self): return {}",
    "list": "class C:\n    __annotations__ = ['x']",
    "number": "class C:\n    __annotations__ = 7",
    "odd keys": "class C:\n    __annotations__ = {3: 'x', None: int, (): object()}",
    "metaclass": "class M(type):\n    @property\n    def __annotations__(cls): raise ValueError\n"
    "class C(metaclass=M):\n    x: int = 3",
    "text": FUTURE + "class C:\n    x: 1 / 0\n    y: print()\n    z: (yes if no else 'x')[3] = 2",
    "its own name": FUTURE + "class C:\n    x: x = 'x'\n    y: 'y' = 'y[0]'",
    "module that is none": "class C:\n    x: 'int' = 2\nC.__module__ = 7\nC.__module__ = __name__",
}
if sys.version_info >= (3, 14):
    BROKEN |= {
        "raises": "class C:\n    x: 1 / 0\n    y: Gone.z[print()]",
        "function": "class C: x: int\ndef broken(format): raise OSError\nC.__annotate__ = broken",
        "no dict": "class C:\n    x: int\nC.__annotate__ = lambda format: 3",
    }


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN.keys())
def test_a_class_whose_annotations_cannot_be_read_has_no_markers(
    source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is stored as pickle stores it, and nothing is said."""
    value = module_of(source).C()
    value.total = 5
    codes, made = outcome(value)
    assert (codes, made.total, caplog.records) == ([], 5, [])
    assert Guard().dumps(value) == pickle.dumps(value, 5)


def test_one_broken_annotation_does_not_cost_the_markers_beside_it() -> None:
    """On Python 3.14 and later, one that raises makes all of its class raise."""
    more = "_lock: Annotated[int, Recreate]\n    odd: print | None\n    odder: 'no ['"
    value = module_of(FUTURE + MODULE.format(annotation=more)).Client()
    assert outcome(value)[0] == []
    if sys.version_info >= (3, 14):
        assert outcome(module_of(MODULE.format(annotation=more)).Client())[0] == []


CLASSES: dict[str, Callable[[], str]] = {
    "inherited": lambda: "class Other(Client): more: int",
    "overridden": lambda: "class Other(Client): _lock: Annotated[int, Recreate, 'again']",
    "slots": lambda: (
        "class Other:\n    __slots__ = ('_lock', 'id')\n    _lock: Annotated[Session, Recreate]\n"
        "    __init__ = Client.__init__"
    ),
    "dataclass": lambda: (
        "@dataclasses.dataclass\nclass Other:\n    id: int = 7\n    _lock: "
        "Annotated[Session | None, Recreate] = dataclasses.field(default_factory=threading.Lock)"
    ),
    "slotted dataclass": lambda: (
        "@dataclasses.dataclass(slots=True)\nclass Other:\n    id: int = 7\n    _lock: "
        "Annotated[Session, Recreate] = dataclasses.field(default_factory=threading.Lock)"
    ),
    "made dataclass": lambda: (
        "Other = dataclasses.make_dataclass('Other', [('id', int, 7), ('_lock', Annotated[int, "
        "Recreate], dataclasses.field(default_factory=threading.Lock))])\nOther.__module__=__name__"
    ),
    "generic": lambda: (
        "class Other(Generic[T]):\n    _lock: Annotated[T, R]\n    __init__ = Client.__init__"
    ),
    "pydantic": lambda: (
        "import pydantic\nclass Other(pydantic.BaseModel):\n    id: int = 7\n    _lock: "
        "Annotated[typing.Any, Recreate] = pydantic.PrivateAttr(default_factory=threading.Lock)"
    ),
    "attrs": lambda: (
        "import attrs\n@attrs.define\nclass Other:\n    id: int = 7\n    _lock: "
        "Annotated[Session, Recreate] = attrs.field(factory=threading.Lock)"
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("head", ["", FUTURE], ids=["evaluated", "text"])
def test_classes_of_every_make(kind: str, head: str) -> None:
    """A field is one wherever it is inherited from and however the class is made."""
    source = CLASSES[kind]()
    if not head and sys.version_info < (3, 14):
        source = source.replace("Session | None", "int").replace("Session", "int")
    module = module_of(head + MODULE.format(annotation="_lock: Annotated[int, R]") + source)
    codes, made = outcome(module.Other())
    assert (codes, made.id, type(made._lock)) == ([], 7, type(threading.Lock()))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is new in 3.12")
def test_an_alias_made_by_a_type_statement() -> None:
    """Generic, too; its value is evaluated on demand."""
    for text in ("type Lock = Annotated[int, Recreate]", "type Lock[T] = Annotated[T, Recreate]"):
        for use in ("Lock", "Lock[int]", "Optional[Lock]", "Lock | None"):
            source = FUTURE + MODULE.format(annotation=f"_lock: {use}") + text
            assert outcome(module_of(source).Client())[0] == []


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are deferred since 3.14")
def test_names_of_the_enclosing_function() -> None:
    """A deferred annotation knows them, also where another name in it is missing."""
    for annotation in ("Annotated[int, Mine]", "Optional[Annotated[Session.x, Mine]]"):
        body = MODULE.format(annotation=f"_lock: {annotation}").replace("class Client", "class _C")
        head, _, tail = body.partition("class _C")
        tail = "\n".join("    " + line for line in f"class Client{tail}".splitlines())
        source = f"{head}\ndef make():\n    Mine = Recreate\n{tail}\n    return Client\n"
        module = module_of(source + "Client = make()\nClient.__qualname__ = 'Client'")
        assert outcome(module.Client())[0] == []
