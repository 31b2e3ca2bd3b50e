"""What can run any code is known by the object, under any name."""

from __future__ import annotations

import code
import contextlib
import contextvars
import ctypes
import datetime as dt
import enum
import functools
import importlib
import operator
import os
import pickle
import pty
import shelve
import subprocess
import sys
import threading
import types
import webbrowser
from typing import Any, Generic, TypeVar

import pytest
import werkzeug.local

from contextcache import ConfigurationError, Guard
from contextcache.payload.dangerous import can_run_code, runs_code

T = TypeVar("T")


class Cart(Generic[T]):
    """A class of an application."""

    run = os.system
    evaluate = staticmethod(eval)

    @classmethod
    def of(cls) -> Cart[T]:
        return cls()

    def total(self) -> int:
        return 1


class Run(subprocess.Popen):  # type: ignore[type-arg]
    """Its constructor starts a program."""


class Bound(functools.partial):  # type: ignore[type-arg]
    """Binds any arguments to any callable."""


class Meta(type):
    """Makes classes."""


class Restored:
    """Runs its state."""

    __setstate__ = staticmethod(exec)


class Made:
    """Runs its argument."""

    __new__ = eval  # type: ignore[assignment]


class Runner:
    """Its instances run what they are called with."""

    __call__ = os.system


class Colour(enum.IntEnum):
    """Data."""

    RED = 1


class GoneError(pickle.PickleError):
    """An exception is data, too."""


class Caller:
    """Its instances can be called."""

    def __call__(self) -> int:
        return 1


@contextlib.contextmanager
def opened() -> Any:
    yield


@functools.lru_cache
def rate(country: str) -> float:
    return len(country) / 100


@functools.singledispatch
def shown(value: object) -> str:
    return str(value)


def total(cart: Cart[int]) -> int:
    return cart.total()


@functools.wraps(os.system)
def wrapped(*_args: object) -> None:
    """Do what it wraps."""


DANGEROUS = {
    "a function in C": os.system,
    "its twin": importlib.import_module("posix").system,
    "a loader": pickle.loads,
    "the loader in C": importlib.import_module("_pickle").loads,
    "an unpickler": importlib.import_module("_pickle").Unpickler,
    "a method of an unpickler": pickle.Unpickler(__import__("io").BytesIO()).load,
    "a program": pty.spawn,
    "a process": subprocess.Popen,
    "a method": subprocess.Popen.__init__,
    "a subclass": Run,
    "partial": functools.partial,
    "a subclass of partial": Bound,
    "a partial": functools.partial(os.system, "true"),
    "reduce": functools.reduce,
    "a cached runner": functools.lru_cache(os.system),
    "a wrapped runner": wrapped,
    "attrgetter": operator.attrgetter,
    "one getter": operator.attrgetter("__globals__"),
    "methodcaller": operator.methodcaller,
    "the type of functions": types.FunctionType,
    "of code": types.CodeType,
    "of methods": types.MethodType,
    "of modules": types.ModuleType,
    "eval": eval,
    "exec": exec,
    "getattr": getattr,
    "iter": iter,
    "__import__": __import__,
    "type": type,
    "a metaclass": Meta,
    "a module": os,
    "import_module": importlib.import_module,
    "code": code.InteractiveInterpreter,
    "a library in C": ctypes.CDLL,
    "a pointer": ctypes.c_char_p.from_address,
    "a browser": webbrowser.open,
    "a thread": threading.Thread,
    "a shelf": shelve.open,
    "a method of object": object.__setattr__,
    "a method inherited from it": Cart.__setattr__,
    "the type of a class": Cart.__class__,
    "what is shared": sys.modules,
    "the environment": os.environ,
    "a method of what is shared": sys.path.append,
    "an attribute of a class": Cart.run,
    "a state that is run": Restored,
    "a constructor that runs": Made,
    "an instance that runs": Runner(),
    "a static method": Cart.evaluate,
    "a proxy": werkzeug.local.LocalProxy(lambda: None),
    "a proxy of nothing": werkzeug.local.LocalProxy(contextvars.ContextVar("empty")),
    "a proxy of a class": werkzeug.local.LocalProxy(lambda: Cart),
}
HARMLESS = {
    "a class": Cart,
    "a class method": Cart.of,
    "a function": total,
    "a context manager": opened,
    "a cached function": rate,
    "a single dispatch": shown,
    "an enumeration": Colour,
    "a member": Colour.RED,
    "an exception": GoneError,
    "an exception of the loader": pickle.UnpicklingError,
    "an error of a process": subprocess.CalledProcessError,
    "a built-in exception": ValueError,
    "a struct": os.stat_result,
    "an instance": Cart(),
    "an instance that can be called": Caller(),
    "a class method in C": dt.datetime.fromtimestamp,
    "a getter of items": operator.itemgetter,
}


@pytest.mark.parametrize("found", DANGEROUS.values(), ids=DANGEROUS)
def test_what_runs_code_is_known(found: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """And cannot be listed, under the name of a module of the application."""
    assert can_run_code(found)
    helpers = types.ModuleType("helpers")
    helpers.it = found  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "helpers", helpers)
    with pytest.raises(ConfigurationError, match=r"'helpers\.it' would let a payload do anything"):
        Guard(loadable=["helpers.it"])
    assert runs_code("helpers:it")


@pytest.mark.parametrize("found", HARMLESS.values(), ids=HARMLESS)
def test_data_and_functions_of_an_application_are_accepted(found: object) -> None:
    """Also where a decorator's code is that of a library."""
    assert not can_run_code(found)


@pytest.mark.parametrize(
    "name",
    [
        "werkzeug.utils.import_string", "django.utils.module_loading.import_string",
        "jinja2.Template", "jinja2.Environment", "numpy.load", "numpy.save", "numpy.vectorize",
        "logging.config.dictConfig", "pkgutil.resolve_name",
        "timeit.timeit", "cProfile.run", "pydoc.locate", "runpy.run_path", "marshal.loads",
        "io.open", "io.FileIO", "codecs.open", "typing.get_type_hints", "dataclasses.dataclass",
        "dataclasses.make_dataclass", "abc.ABCMeta", "copy.deepcopy", "copyreg.add_extension",
        "_thread.start_new_thread", "threading.Timer", "multiprocessing.Process",
        "asyncio.create_subprocess_shell", "concurrent.futures.ProcessPoolExecutor",
        "shutil.rmtree", "pathlib.Path.unlink", "pathlib.Path.write_text", "tempfile.mktemp",
        "weakref.finalize", "functools.total_ordering", "inspect.signature",
        "itertools.starmap", "itertools.accumulate",
        "sqlite3.connect", "socket.create_connection", "urllib.request.urlopen", "ctypes.cast",
        "django.core.management.call_command", "django.template.Template", "django.conf.Settings",
        "flask.render_template_string", "celery.utils.imports.symbol_by_name", "sys.settrace",
        "billiard.Process", "pickletools.dis", "gc.get_objects", "atexit.register", "bdb.Bdb.run",
        "builtins.map", "builtins.filter", "builtins.vars", "builtins.super", "builtins.property",
        "builtins.dict.update", "builtins.str.format", "importlib.reload", "site.execsitecustomize",
        "zipimport.zipimporter",
        "concurrent.futures.ThreadPoolExecutor.submit", "uuid._get_command_stdout", "gzip.open",
        "xml.sax.make_parser", "argparse.FileType", "flask.helpers.get_root_path",
        "doctest.testfile", "trace.Trace", "code.interact", "attr.define",
        "flask.Flask", "flask.Blueprint", "flask.current_app", "flask.request", "httpx.get",
        "django.shortcuts.render", "pydantic.create_model", "numpy.lib.stride_tricks.as_strided",
    ],
)  # fmt: skip
def test_runners_of_libraries_cannot_be_listed(name: str) -> None:
    """Their re-exports are the same objects."""
    with pytest.raises(ConfigurationError, match="would let a payload do anything"):
        Guard(loadable=[name])


@pytest.mark.parametrize(
    "name",
    [
        "decimal.Decimal", "pathlib.PosixPath", "builtins.ValueError", "subprocess.TimeoutExpired",
        "http.HTTPStatus", "socket.AddressFamily", "inspect.Parameter", "markupsafe.Markup",
        "django.db.models.base.model_unpickle", "django.utils.safestring.SafeString",
        "numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype", "random.Random",
        "werkzeug.datastructures.MultiDict", "io.BytesIO", "types.SimpleNamespace",
        "zoneinfo.ZoneInfo", "collections.ChainMap", "re._compile", "itertools.count",
    ],
)  # fmt: skip
def test_what_applications_store_can_be_listed(name: str) -> None:
    """Next to the runners, there is data in the same modules."""
    Guard(loadable=[name])


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("posix:system", True),
        ("subprocess:Popen", True),
        ("importlib.util:find_spec", True),
        ("builtins:eval", True),
        ("builtins:getattr", False),  # by which a ZoneInfo and a bound method are pickled
        ("builtins:iter", False),
        ("builtins:ValueError", False),
        ("os:stat_result", False),
        ("shop.os:Cart", False),
        ("profile.models:Profile", False),  # an application of that name
        ("torch.serialization:load", True),
        ("torch:load", True),
        ("joblib.numpy_pickle:load", True),
        ("dill._dill:loads", True),
        ("pandas.io.pickle:read_pickle", True),
        ("pandas.core.frame:DataFrame", False),
        ("nt:system", True),
        ("yaml:load", True),
        ("yaml.loader:UnsafeLoader", True),
        ("keras.models:load_model", True),
        ("shelve:Gone", True),
        (f"{__name__}:Cart.run", True),
        (f"{__name__}:Cart.evaluate", True),
        (f"{__name__}:Cart.of", False),
        ("os:nowhere.system", True),
        ("", False),
        (":", False),
        ("..:..", False),
    ],
)
def test_what_runs_code_is_known_by_its_name(name: str, runs: bool) -> None:
    """Also where nothing is imported; what data is made of is not under suspicion."""
    before = set(sys.modules)
    assert runs_code(name) is runs
    assert set(sys.modules) == before
