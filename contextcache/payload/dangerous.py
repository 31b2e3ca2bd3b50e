"""Callables that can run any code: one predicate for `LOADABLE`, `audit` and `explain`.

An object is judged by what it is, not by the name that leads to it: a function by the module that
its code comes from, a method by its function, a class by its own name and by the class whose
constructor it inherits. The tables hold names as strings, so nothing is imported.

Such tables are never complete. `LOADABLE` does not rely on them: it allows only what is listed.
They refuse a listed name that is known to give away what the list protects.
"""

from __future__ import annotations

import sys
from enum import Enum
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

_MODULES = frozenset({
    "_ctypes", "_frozen_importlib", "_frozen_importlib_external", "_functools", "_imp",
    "_interpreters", "_osx_support", "_pickle", "_posixshmem", "_posixsubprocess", "_socket",
    "_sqlite3", "_testcapi", "_testinternalcapi", "_winapi", "_xxinterpchannels",
    "_xxsubinterpreters", "antigravity", "atexit", "bdb", "cgi", "cgitb", "code", "codeop",
    "compileall", "cProfile", "doctest", "ftplib", "functools", "gc", "http.client", "http.server",
    "imaplib", "imp", "linecache", "logging.config", "logging.handlers", "mailcap", "marshal",
    "mmap", "modulefinder", "nntplib", "nt", "os", "pdb", "pickle", "pickletools", "pipes",
    "pkgutil", "popen2", "poplib", "posix", "profile", "pstats", "pty", "py_compile", "pyclbr",
    "pydoc", "resource", "rlcompleter", "runpy", "sched", "sh", "shelve", "shutil", "signal",
    "site", "smtpd", "smtplib", "socket", "socketserver", "subprocess", "symtable", "sys",
    "tarfile", "telnetlib", "tempfile", "this", "timeit", "trace", "turtledemo", "urllib.request",
    "webbrowser", "winreg", "zipapp", "zipimport",
})  # fmt: skip
"""Modules of which everything can run code, except data.

They make imports, processes, native code, pickles, deferred calls, connections and files.
"""

_PACKAGES = frozenset({
    "_pyrepl", "concurrent.futures", "concurrent.interpreters", "ctypes", "dbm", "distutils",
    "ensurepip", "idlelib", "importlib", "lib2to3", "multiprocessing", "profiling", "sqlite3",
    "sysconfig", "unittest", "venv", "wsgiref", "xmlrpc", "zipfile",
    "_distutils_hack", "_pytest", "ansible", "anyio._core._subprocesses", "apscheduler.util",
    "asteval", "billiard", "cachelib.serializers", "celery.bin", "celery.utils.imports", "cffi",
    "cloudpickle", "dill", "distributed", "django.contrib.sessions.serializers",
    "django.core.management", "django.template.base", "django.template.engine",
    "django.template.loader", "django.utils.autoreload", "django.utils.module_loading",
    "django.views.debug", "eventlet.green.subprocess", "fabric", "fire", "flask.cli",
    "flask.templating", "gevent.builtins", "gevent.os", "gevent.subprocess", "git", "gunicorn",
    "httpx._api", "hydra", "invoke", "IPython", "jinja2.bccache", "jinja2.compiler",
    "jinja2.environment", "jinja2.loaders", "jinja2.nativetypes", "jinja2.sandbox", "joblib",
    "jsonpickle", "keras", "kombu.serialization", "kombu.utils.imports", "mako", "mlflow",
    "multiprocess", "nbconvert", "numexpr", "numpy.ctypeslib", "numpy.distutils", "numpy.f2py",
    "numpy.lib._npyio_impl", "numpy.lib.format", "numpy.lib.npyio", "numpy.testing",
    "pandas.core.computation", "pandas.io", "paramiko", "pathos", "pexpect", "PIL.ImageMath",
    "PIL.ImageShow", "pip", "pkg_resources", "plumbum", "psutil", "ptyprocess", "pudb",
    "pydantic.deprecated.parse", "pydantic.v1.parse", "pytest", "ray", "requests.api", "rq.utils",
    "ruamel.yaml", "setuptools", "sqlalchemy.ext.serializer", "stevedore", "sympy.parsing",
    "sympy.utilities.lambdify", "tensorflow", "test.support", "torch._dynamo", "torch._inductor",
    "torch.hub", "torch.jit", "torch.package", "torch.serialization", "torch.utils.cpp_extension",
    "torch.utils.model_zoo", "trio._subprocess", "twisted.persisted", "twisted.python.reflect",
    "uvicorn", "werkzeug.debug", "werkzeug.serving", "yaml", "zope.dottedname",
})  # fmt: skip
"""The same with all their submodules: first those of Python, then others."""

_OPERATORS = (
    "attrgetter call delitem iadd iand iconcat ifloordiv ilshift imatmul imod imul ior ipow "
    "irshift isub itruediv ixor methodcaller setitem"
)
_NAMES = {
    "_codecs": "lookup register",
    "_io": "FileIO open open_code",
    "_operator": _OPERATORS,
    "_pyio": "FileIO open open_code",
    "_sitebuiltins": "Quitter _Helper _Printer",
    "_thread": "start_joinable_thread start_new start_new_thread",
    "abc": "ABCMeta update_abstractmethods",
    "annotationlib": "call_annotate_function call_evaluate_function get_annotations",
    "asyncio": (
        "BaseEventLoop Process Runner SubprocessStreamProtocol create_subprocess_exec "
        "create_subprocess_shell create_task ensure_future new_event_loop run start_server "
        "start_unix_server to_thread"
    ),
    "argparse": "FileType",
    "attr": "attrs define frozen make_class mutable resolve_types s",
    "bz2": "BZ2File open",
    "builtins": (
        "__build_class__ __import__ breakpoint builtin_function_or_method classmethod code "
        "compile delattr eval exec exit filter frame function getattr globals help input iter "
        "locals map memoryview method module open property quit setattr staticmethod super "
        "traceback type vars"
    ),
    "codecs": "lookup open register",
    "contextlib": "AsyncExitStack ExitStack",
    "copy": "_reconstruct copy deepcopy replace",
    "copyreg": "add_extension constructor pickle remove_extension",
    "dataclasses": "dataclass make_dataclass",
    "django.conf": "LazySettings Settings UserSettingsHolder",
    "django.core.signing": "loads",
    "django.shortcuts": "render",
    "django.urls": "get_callable",
    "fileinput": "FileInput input",
    "flask": (
        "Blueprint Config.from_envvar Config.from_object Config.from_pyfile Flask find_package "
        "get_root_path"
    ),
    "greenlet": "greenlet",
    "gzip": "GzipFile open",
    "inspect": "get_annotations getattr_static getmembers signature stack trace",
    "io": "FileIO open open_code",
    "itertools": "accumulate dropwhile filterfalse groupby starmap takewhile",
    "jinja2": "Environment Template import_string",
    "logging": "FileHandler basicConfig",
    "lzma": "LZMAFile open",
    "networkx": "read_gpickle",
    "numpy": (
        "apply_along_axis apply_over_axes as_strided fromfile fromregex frompyfunc genfromtxt load "
        "loadtxt memmap piecewise save savetxt savez savez_compressed vectorize"
    ),
    "pandas": (
        "DataFrame.eval DataFrame.query DataFrame.to_pickle NDFrame.pipe NDFrame.to_pickle eval "
        "read_pickle"
    ),
    "pathlib": (
        "Path.chmod Path.hardlink_to Path.mkdir Path.open Path.rename Path.replace Path.rmdir "
        "Path.symlink_to Path.touch Path.unlink Path.write_bytes Path.write_text"
    ),
    "operator": _OPERATORS,
    "platform": "_syscmd_file _syscmd_ver popen",
    "pydantic": "ImportString _import_string_logic create_model import_string",
    "sqlalchemy.util": "_exec_code_in_env import_",
    "sympy": "lambdify parse_expr sympify",
    "threading": "Thread Timer setprofile setprofile_all_threads settrace settrace_all_threads",
    "torch": "compile load save",
    "types": "DynamicClassAttribute coroutine new_class prepare_class resolve_bases",
    "typing": (
        "_eval_type evaluate_forward_ref final get_type_hints no_type_check runtime_checkable"
    ),
    "uuid": "_get_command_stdout",
    "weakref": "ReferenceType WeakMethod finalize ref",
    "werkzeug": "find_modules import_string",
    "xml.dom": "getDOMImplementation registerDOMImplementation",
    "xml.sax": "_create_parser make_parser",
}
"""What can run code of other modules and their submodules."""

_DANGEROUS = frozenset(
    f"{module}:{name}" for module, names in _NAMES.items() for name in names.split()
)
_DATA = frozenset({
    "concurrent.futures.thread:ThreadPoolExecutor", "importlib.metadata:PackagePath",
    "os:PathLike", "sqlite3:Row", "subprocess:CompletedProcess", "tarfile:TarInfo",
    "zipfile:ZipInfo",
})  # fmt: skip
"""What is data although its module is listed above; so are exceptions, enums and tuples."""

# Zones, bound methods and iterators are pickled by these. What a payload does with them is judged
# where it is read; the names alone are no reason to warn.
_ORDINARY = frozenset({"builtins:getattr", "builtins:iter", "zoneinfo:ZoneInfo._unpickle"})

_CONSTRUCTORS = ("__new__", "__init__", "__setstate__")
_MAX_WRAPPERS = 20


def runs_code(name: str) -> bool:
    """Return whether a name in a payload is known to stand for what can run any code.

    Nothing is imported: what is not loaded is judged by its name. That a payload names nothing of
    the kind proves nothing. What may be loaded is for `LOADABLE` to say.

    Args:
        name: A class or function, as `module:qualname`.
    """
    module, _, qualname = name.partition(":")
    if name in _ORDINARY:
        return False
    found = _loaded(module, qualname)
    if found is not None:
        return can_run_code(found)
    return _is_dangerous(module, qualname) and not qualname.endswith(("Error", "Warning"))


def is_listable(name: str) -> bool:
    """Return whether `LOADABLE` may list a name, as far as is known without importing it.

    Args:
        name: A class or function, as `module:qualname`.
    """
    return name not in _ORDINARY and not runs_code(name)


def can_run_code(found: object) -> bool:
    """Return whether an object is known to run any code that it is given, or to lead to it.

    Args:
        found: What a name in `LOADABLE` or in a payload stands for.
    """
    for _ in range(_MAX_WRAPPERS):
        if any("__class__" in vars(base) for base in type(found).__mro__[:-1]):
            return True  # a proxy of whatever there is at that time
        if isinstance(found, type):
            return _class_runs_code(found)
        if isinstance(found, MethodType):
            found = found.__func__
            continue
        if isinstance(found, BuiltinFunctionType):
            return _builtin_runs_code(found)
        wrapped = _attribute(found, "__wrapped__")
        if _is_dangerous(_attribute(found, "__module__"), _attribute(found, "__qualname__")):
            return True
        if wrapped is None:
            return _code_runs_code(found)
        found = wrapped  # a decorator's code is its library's, also where the function is harmless
    return True


def _code_runs_code(found: object) -> bool:
    if isinstance(found, FunctionType):
        return _is_dangerous(found.__globals__.get("__name__"), found.__qualname__)
    if isinstance(found, _SHARED + _METHODS_OF_C):
        return True
    return _class_runs_code(type(found)) or _call_runs_code(type(found))


def _builtin_runs_code(found: Any) -> bool:
    owner = found.__self__
    if owner is None or isinstance(owner, ModuleType):
        return _is_dangerous(found.__module__, found.__qualname__)
    if isinstance(owner, type):  # a class method of a type in C, or a `__new__`
        return found.__name__.startswith("__") or _class_runs_code(owner)
    return True  # bound to an object that all of the process shares


def _class_runs_code(found: type) -> bool:
    if _is_dangerous_class(found):
        return True
    bases = found.__mro__[1:]
    for name in _CONSTRUCTORS:
        if name in vars(found):
            own = vars(found)[name]
            if found.__module__ != _attribute(own, "__module__") and _function_runs_code(own):
                return True
        else:
            owner = next((base for base in bases if name in vars(base)), object)
            if _is_dangerous_class(owner):
                return True
    kind = next(base for base in type.mro(type(found)) if "__call__" in vars(base))
    return kind is not type and _is_dangerous(kind.__module__, kind.__qualname__)


def _is_dangerous_class(found: type) -> bool:
    if issubclass(found, type):
        return True  # it makes classes
    if issubclass(found, (BaseException, Enum, tuple)):
        return False
    return _is_dangerous(found.__module__, found.__qualname__)


# Payloads may not change what the whole process shares; nor does a pickler name a method in C.
_SHARED = (dict, list, set, bytearray, MappingProxyType, ModuleType)
_METHODS_OF_C = (MethodDescriptorType, MethodWrapperType, WrapperDescriptorType)


def _call_runs_code(kind: type) -> bool:
    calls = (vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base))
    return _function_runs_code(next(calls, None))


def _function_runs_code(found: object) -> bool:
    """Return whether what a class defines is a function that runs code, such as `os.system`."""
    if isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    if isinstance(found, BuiltinFunctionType):
        return isinstance(found.__self__, ModuleType) and _builtin_runs_code(found)
    return isinstance(found, FunctionType) and can_run_code(found)


def _is_dangerous(module: object, qualname: object) -> bool:
    if not isinstance(module, str) or not isinstance(qualname, str):
        return False
    first = qualname.partition(".")[0]
    if module == "builtins" and first != qualname:
        return True  # a method of a builtin type; no pickler names one
    whole = f"{module}:{qualname}" not in _DATA
    if whole and module in _MODULES:
        return True
    while module:
        if f"{module}:{first}" in _DANGEROUS or f"{module}:{qualname}" in _DANGEROUS:
            return True
        if whole and module in _PACKAGES:
            return True
        module = module.rpartition(".")[0]
    return False


def _attribute(found: object, name: str) -> Any:
    """Return an attribute of an object, None where reading it fails."""
    try:
        return getattr(found, name, None)
    except Exception:  # noqa: BLE001  # the object's own code
        return None


def _loaded(module_name: str, qualname: str) -> object:
    """Return what a name stands for if it is loaded, without running code: None otherwise."""
    module = sys.modules.get(module_name)
    if not isinstance(module, ModuleType):
        return None
    first, *rest = qualname.split(".")
    found = vars(module).get(first)
    for part in rest:
        if not isinstance(found, type):
            return None
        found = next((vars(base)[part] for base in found.__mro__ if part in vars(base)), None)
        if isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
    return found
