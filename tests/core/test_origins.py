"""Origins: the line that sets a field, the line that stored a value, and no literal of either."""

from __future__ import annotations

import json
import linecache
import os
import sys
import sysconfig
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import Guard, origins

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-7f3a9c"
HERE = Path(__file__)
SOURCE = '''\
import threading
from dataclasses import dataclass, field


class Base:
    limit = 5
    declared: threading.Lock
    in_class = threading.Lock()

    def __init__(self, client=None):
        client = client or object()
        self._lock = threading.Lock()
        self.declared = threading.Lock()
        self.client = client
        self.a, (self.b, *self.rest) = threading.Lock(), (threading.Lock(), 1)
        self.one = self.two = threading.Lock()
        self.typed: threading.Lock = threading.Lock()
        self.only_typed: threading.Lock
        other = type("Other", (), {})()
        other.elsewhere = threading.Lock()


class Child(Base):
    def extra(self):
        self.extra_lock = threading.RLock()


@dataclass
class Data:
    """A docstring."""

    lock: threading.Lock = field(default_factory=threading.Lock)


class Outer:
    class Inner:
        """Multi-line
string at column 0, inside an indented class."""

        def __init__(self):
            self.lock = threading.Lock()

    def __init__(self):
        if True:
            self.lock = threading.RLock()


class Secrets:
    token = "canary-7f3a9c"

    def __init__(self, name="x"):
        self.text = open_session("canary-7f3a9c", retries=7777, raw=b"canary-7f3a9c")
        self.formatted = connect(f"https://user:canary-7f3a9c@{name}/")
        self.mapping = {"canary-7f3a9c": ["canary-7f3a9c", None, True, -7777, 1.5]}
        self.inner = lambda key="canary-7f3a9c": key  # canary-7f3a9c
        self.joined = "canary-" "7f3a9c"
        self.sliced = name["canary-7f3a9c":7777]
        self.annotated: "canary-7f3a9c" = threading.Lock()
        self.long = [threading.Lock(), threading.Lock(), threading.Lock(), threading.Lock(), name]
'''


def line_of(text: str) -> int:
    return SOURCE[: SOURCE.index(text)].count("\n") + 1


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's own, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop_api.py").write_text(SOURCE)
    module = ModuleType("shop_api")
    module.__file__ = str(tmp_path / "shop_api.py")
    monkeypatch.setitem(sys.modules, "shop_api", module)
    exec(compile(SOURCE, module.__file__, "exec"), module.__dict__)
    linecache.checkcache()
    return module


@pytest.mark.parametrize(
    ("cls", "name", "owner", "text"),
    [
        ("Base", "_lock", "Base", "self._lock = threading.Lock()"),
        ("Child", "_lock", "Base", "self._lock = threading.Lock()"),
        ("Child", "extra_lock", "Child", "self.extra_lock = threading.RLock()"),
        ("Base", "in_class", "Base", "in_class = threading.Lock()"),
        ("Base", "declared", "Base", "self.declared = threading.Lock()"),
        ("Base", "client", "Base", "self.client = client"),
        ("Base", "one", "Base", "self.one = self.two = threading.Lock()"),
        ("Base", "two", "Base", "self.one = self.two = threading.Lock()"),
        ("Base", "typed", "Base", "self.typed: threading.Lock = threading.Lock()"),
        ("Base", "only_typed", "Base", "self.only_typed: threading.Lock"),
        ("Data", "lock", "Data", "lock: threading.Lock = field(default_factory=threading.Lock)"),
    ],
)
def test_the_line_that_sets_a_field_is_found(
    shop: ModuleType, cls: str, name: str, owner: str, text: str
) -> None:
    """In its own class or a base, in a method before a declaration, never a local variable."""
    assert origins.field_origin(getattr(shop, cls), name) == (
        f"shop_api.{owner}.{name}, set at shop_api.py:{line_of(text)}: {text}"
    )


@pytest.mark.parametrize("name", ["a", "b", "rest"])
def test_a_field_that_is_one_of_several_on_a_line_is_found(shop: ModuleType, name: str) -> None:
    """Unpacking, nested and starred, sets a field as well."""
    line = line_of("self.a, (self.b")
    assert origins.field_origin(shop.Base, name) == (
        f"shop_api.Base.{name}, set at shop_api.py:{line}: "
        "self.a, (self.b, *self.rest) = (threading.Lock(), (threading.Lock(), …))"
    )


def test_a_nested_class_and_the_one_around_it_are_told_apart(shop: ModuleType) -> None:
    """An indented class is read as it stands, and its fields are not those of the outer one."""
    inner, outer = line_of("self.lock = threading.Lock()"), line_of("self.lock = threading.RLock()")
    assert origins.field_origin(shop.Outer.Inner, "lock") == (
        f"shop_api.Outer.Inner.lock, set at shop_api.py:{inner}: self.lock = threading.Lock()"
    )
    assert origins.field_origin(shop.Outer, "lock") == (
        f"shop_api.Outer.lock, set at shop_api.py:{outer}: self.lock = threading.RLock()"
    )


def test_a_class_inside_a_function_is_found() -> None:
    """A local class has a source, too."""

    class Local:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    found = origins.field_origin(Local, "lock")
    assert found.endswith(": self.lock = threading.Lock()")
    assert f"{HERE.name}:{Local.__init__.__code__.co_firstlineno + 1}" in found


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("token", "token = …"),
        ("text", "self.text = open_session(…, retries=…, raw=…)"),
        ("formatted", "self.formatted = connect(…)"),
        ("mapping", "self.mapping = {…: […, None, True, -…, …]}"),
        ("inner", "self.inner = lambda key=…: key"),
        ("joined", "self.joined = …"),
        ("sliced", "self.sliced = name[…:…]"),
        ("annotated", "self.annotated: … = threading.Lock()"),
    ],
)
def test_literals_are_elided(shop: ModuleType, name: str, text: str) -> None:
    """A password in the source is not a password in the log; comments are gone with it."""
    line = SOURCE[: SOURCE.index(f"self.{name}" if name != "token" else "token =")].count("\n") + 1
    found = origins.field_origin(shop.Secrets, name)
    assert found == f"shop_api.Secrets.{name}, set at shop_api.py:{line}: {text}"
    assert CANARY not in found
    assert "7777" not in found


def test_a_long_line_is_cut(shop: ModuleType) -> None:
    """One line of the log stays one line of the terminal."""
    text = origins.field_origin(shop.Secrets, "long").partition(": ")[2]
    assert len(text) == 80
    assert text.endswith("…")


@pytest.mark.parametrize("name", ["elsewhere", "limit_", "nothing"])
def test_a_field_nobody_sets_is_named_alone(shop: ModuleType, name: str) -> None:
    """Without an assignment there is no line to show, and none is invented."""
    assert origins.field_origin(shop.Base, name) == f"shop_api.Base.{name}"


def test_a_class_without_source_is_named_alone() -> None:
    """A class made by `type`, `exec` or in C has a name and nothing more."""
    made = type("Made", (), {"__module__": "no_such_module"})
    executed: dict[str, Any] = {}
    exec("class Executed:\n    def __init__(self):\n        self.lock = 1", executed)
    executed["Executed"].__module__ = "no_such_module"
    assert origins.field_origin(made, "lock") == "no_such_module.Made.lock"
    assert origins.field_origin(executed["Executed"], "lock") == "no_such_module.Executed.lock"
    assert origins.field_origin(ModuleType, "lock") == "module.lock"


def test_a_source_that_changed_since_is_no_error(shop: ModuleType, tmp_path: Path) -> None:
    """An edited file gives another line or none, never an exception."""
    (tmp_path / "shop_api.py").write_text("class Base:\n    self._lock = (\n")
    assert origins.field_origin(shop.Base, "_lock") == "shop_api.Base._lock"


def test_own_code_is_told_from_libraries(shop: ModuleType) -> None:
    """The field to act on is in the user's own class."""
    assert origins.is_own(shop.Base)
    assert origins.is_own(Mine)
    assert not origins.is_own(threading.Thread)
    assert not origins.is_own(json.JSONEncoder)
    assert not origins.is_own(Guard)
    assert not origins.is_own(type("Made", (), {"__module__": "no_such_module"}))


class Mine:
    pass


def test_paths_are_shown_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the working directory from there, in a library from its root, else as they are."""
    monkeypatch.chdir(tmp_path)
    join = os.path.join
    assert origins.relative(join(os.getcwd(), "shop", "api.py")) == join("shop", "api.py")
    for kind in ("purelib", "stdlib"):
        path = join(sysconfig.get_path(kind), "django", "http.py")
        assert origins.relative(path) == join("django", "http.py")
    assert origins.relative("/elsewhere/api.py") == "/elsewhere/api.py"


def test_the_call_site_is_the_innermost_line_of_the_users_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Frames of Python, of installed packages and of contextcache are skipped."""
    monkeypatch.chdir(HERE.parent)

    def called_by_a_library(call: Callable[[], str]) -> str:
        code = compile("def through(call): return call()", "<generated>", "exec")
        space: dict[str, Any] = {}
        exec(code, space)
        return str(space["through"](call))

    encoder = json.JSONEncoder(default=lambda _: origins.call_site())
    line = sys._getframe().f_lineno
    assert origins.call_site() == f"test_origins.py:{line + 1}"
    assert called_by_a_library(origins.call_site) == f"test_origins.py:{line - 3}"
    assert encoder.encode(object()) == f'"test_origins.py:{line - 1}"'


def test_a_finding_names_the_line_that_stored_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a request the origin is the file and line of the caller."""
    monkeypatch.chdir(HERE.parent)
    [finding] = Guard().explain([threading.Lock()])
    assert finding.origin == f"test_origins.py:{sys._getframe().f_lineno - 1}"


@dataclass
class Held:
    lock: Any = field(default_factory=threading.Lock)


@dataclass
class Holder:
    held: Held = field(default_factory=Held)
    event: threading.Event = field(default_factory=threading.Event)


def test_the_field_to_act_on_is_the_innermost_in_the_users_code() -> None:
    """For a lock inside a library's object, the field that holds that object is named."""
    findings = Guard(debug=True).explain(Holder(), label="session")
    shown = [finding.field for finding in findings]
    here = origins.relative(str(HERE))
    first = SOURCE_LINES.index("class Held:\n") + 2
    second = SOURCE_LINES.index("class Holder:\n") + 3
    assert shown == [
        (
            f"{__name__}.Held.lock, set at {here}:{first}: "
            "lock: Any = field(default_factory=threading.Lock)"
        ),
        (
            f"session.event: {__name__}.Holder.event, set at {here}:{second}: "
            "event: threading.Event = field(default_factory=threading.Event)"
        ),
    ]


SOURCE_LINES = HERE.read_text().splitlines(keepends=True)
