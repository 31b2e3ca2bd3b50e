"""Sources: which line sets a field, in whatever way it does, and no literal of it."""

from __future__ import annotations

import linecache
import sys
import threading
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.local import Local as AsgirefLocal

from contextcache import Guard, Rule
from contextcache.reports import call_site, field_source

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


def importable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str
) -> ModuleType:
    """Make a module of the user's own, in the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text(source)
    module = ModuleType(name)
    module.__file__ = str(tmp_path / f"{name}.py")
    monkeypatch.setitem(sys.modules, name, module)
    exec(compile(source, module.__file__, "exec"), module.__dict__)
    linecache.checkcache()
    return module


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return importable(tmp_path, monkeypatch, "shop_api", SOURCE)


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
        ("Data", "lock", "Data", "lock: threading.Lock = field(default_factory=threading.Lock)"),
    ],
)
def test_the_line_that_sets_a_field_is_found(
    shop: ModuleType, cls: str, name: str, owner: str, text: str
) -> None:
    """In its own class or a base, in a method before a declaration, never a local variable."""
    assert field_source.field_origin(getattr(shop, cls), name) == (
        f"shop_api.{owner}.{name}, set at shop_api.py:{line_of(text)}: {text}"
    )


@pytest.mark.parametrize("name", ["a", "b", "rest"])
def test_a_field_that_is_one_of_several_on_a_line_is_found(shop: ModuleType, name: str) -> None:
    """Unpacking, nested and starred, sets a field as well."""
    line = line_of("self.a, (self.b")
    assert field_source.field_origin(shop.Base, name) == (
        f"shop_api.Base.{name}, set at shop_api.py:{line}: "
        "self.a, (self.b, *self.rest) = (threading.Lock(), (threading.Lock(), …))"
    )


def test_a_nested_class_and_the_one_around_it_are_told_apart(shop: ModuleType) -> None:
    """An indented class is read as it stands, and its fields are not those of the outer one."""
    inner, outer = line_of("self.lock = threading.Lock()"), line_of("self.lock = threading.RLock()")
    assert field_source.field_origin(shop.Outer.Inner, "lock") == (
        f"shop_api.Outer.Inner.lock, set at shop_api.py:{inner}: self.lock = threading.Lock()"
    )
    assert field_source.field_origin(shop.Outer, "lock") == (
        f"shop_api.Outer.lock, set at shop_api.py:{outer}: self.lock = threading.RLock()"
    )


def test_a_class_inside_a_function_is_found() -> None:
    """A local class has a source, too."""

    class Local:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    found = field_source.field_origin(Local, "lock")
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
    found = field_source.field_origin(shop.Secrets, name)
    assert found == f"shop_api.Secrets.{name}, set at shop_api.py:{line}: {text}"
    assert CANARY not in found
    assert "7777" not in found


def test_a_long_line_is_cut(shop: ModuleType) -> None:
    """One line of the log stays one line of the terminal."""
    text = field_source.field_origin(shop.Secrets, "long").partition(": ")[2]
    assert len(text) == 80
    assert text.endswith("…")


@pytest.mark.parametrize("name", ["elsewhere", "limit_", "nothing"])
def test_a_field_its_class_does_not_set_is_named_with_the_class(
    shop: ModuleType, name: str
) -> None:
    """Somebody sets it from outside: no line is invented, but that is said."""
    assert field_source.field_origin(shop.Base, name) == (
        f"shop_api.Base.{name}, not set by its class (shop_api.py:{line_of('class Base')})"
    )


def test_a_declaration_is_no_assignment(shop: ModuleType) -> None:
    """Where only the type of a field is told, the line does not claim to set it."""
    line = line_of("self.only_typed")
    assert field_source.field_origin(shop.Base, "only_typed") == (
        f"shop_api.Base.only_typed, declared at shop_api.py:{line}: self.only_typed: threading.Lock"
    )


WAYS = """\
import functools
import threading
import typing
from dataclasses import dataclass

import attrs
import pydantic


class Ways:
    __slots__ = ("__dict__", "slot", "unset")

    def __new__(cls):
        made = super().__new__(cls)
        made.by_new = threading.Lock()
        return made

    def __init__(this, given=None):
        this.named_this = threading.Lock()
        setattr(this, "by_setattr", threading.Lock())
        object.__setattr__(this, "by_object", threading.Lock())
        super().__setattr__("by_super", threading.Lock())
        this.__dict__["by_dict"] = threading.Lock()
        this.__dict__.update(by_update=threading.Lock())
        vars(this)["by_vars"] = threading.Lock()
        this.__private = threading.Lock()
        this.slot = threading.Lock()
        this.late = None
        if given:
            with open("s3cret") as this.file:
                pass
        for this.each in range(3):
            pass

    async def connect(self):
        self.late = await open_connection("s3cret")

    @functools.cached_property
    def made(self):
        return threading.Lock()

    @classmethod
    def configure(cls):
        cls.shared = threading.Lock()


@dataclass(frozen=True)
class Frozen:
    given: object

    def __post_init__(self):
        object.__setattr__(self, "lock", threading.Lock())


@attrs.define
class Attrs:
    name: str
    _lock: object = attrs.field(factory=threading.Lock)


class Pydantic(pydantic.BaseModel):
    _lock: object = pydantic.PrivateAttr(default_factory=threading.Lock)


class Row(typing.NamedTuple):
    held: object
"""


@pytest.mark.parametrize(
    ("cls", "name", "text"),
    [
        ("Ways", "by_new", "set: made.by_new = threading.Lock()"),
        ("Ways", "named_this", "set: this.named_this = threading.Lock()"),
        ("Ways", "by_setattr", "set: setattr(this, 'by_setattr', threading.Lock())"),
        ("Ways", "by_object", "set: object.__setattr__(this, 'by_object', threading.Lock())"),
        ("Ways", "by_dict", "set: this.__dict__['by_dict'] = threading.Lock()"),
        ("Ways", "by_update", "set: this.__dict__.update(by_update=threading.Lock())"),
        ("Ways", "by_vars", "set: vars(this)['by_vars'] = threading.Lock()"),
        ("Ways", "_Ways__private", "set: this.__private = threading.Lock()"),
        ("Ways", "slot", "set: this.slot = threading.Lock()"),
        ("Ways", "unset", "declared: __slots__ = (…, …, 'unset')"),
        ("Ways", "late", "set: self.late = await open_connection(…)"),
        ("Ways", "file", "set: with open(…) as this.file"),
        ("Ways", "each", "set: for this.each in range(…)"),
        ("Ways", "made", "made: @functools.cached_property def made(self)"),
        ("Ways", "shared", "set: cls.shared = threading.Lock()"),
        ("Frozen", "lock", "set: object.__setattr__(self, 'lock', threading.Lock())"),
        ("Frozen", "given", "declared: given: object"),
        ("Attrs", "_lock", "set: _lock: object = attrs.field(factory=threading.Lock)"),
        (
            "Pydantic",
            "_lock",
            "set: _lock: object = pydantic.PrivateAttr(default_factory=threading.Lock)",
        ),
        ("Row", "held", "declared: held: object"),
    ],
)
def test_every_way_to_set_a_field_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: str, name: str, text: str
) -> None:
    """By whatever name a method knows the object, and past `setattr` and `__dict__`."""
    module = importable(tmp_path, monkeypatch, "shop_ways", WAYS)
    how, _, statement = text.partition(": ")
    found = field_source.field_origin(getattr(module, cls), name)
    told, _, shown = found.partition(": ")
    assert shown == statement
    start, _, line = told.rpartition(":")
    assert start == f"shop_ways.{cls}.{name}, {how} at shop_ways.py"
    assert name.removeprefix("_Ways__") in WAYS.splitlines()[int(line) - 1]
    assert "s3cret" not in found


def test_a_field_of_a_package_names_its_version() -> None:
    """Whoever reads it knows which release to look at, or to report it to."""
    import redis

    found = field_source.field_origin(redis.ConnectionPool, "_lock")
    assert found.startswith("redis.connection.ConnectionPool._lock, set at redis/connection.py:")
    assert found.endswith(f": self._lock = threading.RLock() (redis {redis.__version__})")
    assert field_source.package_of(threading.Thread) == (
        f"Python {sys.version_info.major}.{sys.version_info.minor}"
    )
    assert field_source.package_of(AsgirefLocal) == f"asgiref {version('asgiref')}"
    assert field_source.package_of(Held) == ""


def test_a_class_without_source_is_named_alone() -> None:
    """A class made by `type`, `exec` or in C has a name and nothing more."""
    made = type("Made", (), {"__module__": "no_such_module"})
    executed: dict[str, Any] = {}
    exec("class Executed:\n    def __init__(self):\n        self.lock = 1", executed)
    executed["Executed"].__module__ = "no_such_module"
    assert field_source.field_origin(made, "lock") == "no_such_module.Made.lock"
    assert field_source.field_origin(executed["Executed"], "lock") == "no_such_module.Executed.lock"
    assert field_source.field_origin(ModuleType, "lock") == "module.lock"


def test_a_source_that_changed_since_is_no_error(shop: ModuleType, tmp_path: Path) -> None:
    """An edited file gives another line or none, never an exception."""
    (tmp_path / "shop_api.py").write_text("class Base:\n    self._lock = (\n")
    assert field_source.field_origin(shop.Base, "_lock") == "shop_api.Base._lock"


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
    here = call_site.relative(str(HERE))
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


def test_a_client_in_the_users_field_is_named_with_its_package() -> None:
    """The field to act on is the user's own, and the package is that of what it holds."""
    import redis

    pool = redis.ConnectionPool()
    rules = (Rule(type="redis.connection.ConnectionPool", verb="allow"),)
    findings = Guard(debug=True, rules=rules).explain(Held(lock=pool))
    line = SOURCE_LINES.index("class Held:\n") + 2
    assert {finding.field.partition(": ")[2] for finding in findings} == {
        (
            f"{__name__}.Held.lock, set at {call_site.relative(str(HERE))}:{line}: "
            f"lock: Any = field(default_factory=threading.Lock) (redis {redis.__version__})"
        )
    }


def test_without_a_field_of_ones_own_the_outermost_of_the_library_is_named() -> None:
    """It is the one nearest to the code that put the object there."""
    import queue

    [finding] = Guard(debug=True).explain({"jobs": queue.Queue()}, label="cache['x']")
    assert finding.field.startswith("queue.Queue.mutex, set at queue.py:")
    [finding] = Guard(debug=True).explain([threading.Event()], label="cache['x']")
    assert finding.field.startswith("cache['x'][0]._cond: threading.Event._cond, set at threading")
