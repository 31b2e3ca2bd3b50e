"""The house: imports go one way, the core needs nothing, and the public names stay."""

from __future__ import annotations

import ast
import re
import sys
from graphlib import TopologicalSorter
from itertools import groupby
from typing import TYPE_CHECKING

import pytest

import contextcache
from tests.child import ROOT, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGES = ("contextcache", "contextcache_django", "contextcache_flask")
FRAMEWORKS = ("django", "flask", "werkzeug", "redis", "fakeredis", "cachelib", "asgiref")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
CORE = [path for path in SOURCES if path.relative_to(ROOT).parts[0] == "contextcache"]
ADAPTERS = [path for path in SOURCES if path not in CORE]

# The folders of the core, each of which may import those before it.
FOLDERS = (
    *("base", "findings", "exceptions", "payload", "rules", "config", "reports", "engine"),
    *("guard", "jobs", "testing", "jsonable", "servers", "storage", "commands"),
    *("cli", "__main__", "metrics", "pytest_plugin", "__init__"),
)

# Each module may import those before it.
ORDER = [
    "base.locks",
    "base.version",
    "base.steps",
    "base.masking",
    "base.syntax",
    "base.words",
    "base.introspection",
    "base.logs",
    "base.importing",
    "base.classes",
    "base",
    "findings.path",
    "findings.finding",
    "findings",
    "exceptions",
    "payload.compression",
    "payload.dangerous",
    "payload.loading",
    "payload.class_rules",
    "payload.verifier",
    "payload.checked_unpickler",
    "payload.allow_list",
    "payload.envelope",
    "payload.wire",
    "payload",
    "rules.annotations",
    "rules.rule",
    "rules.verdicts",
    "rules.replacements",
    "rules.request_snapshots",
    "rules.credentials",
    "rules.secret_shapes",
    "rules.builtin.threads",
    "rules.builtin.proxies",
    "rules.builtin.requests",
    "rules.builtin.files",
    "rules.builtin.clients",
    "rules.builtin.program",
    "rules.builtin.secrets",
    "rules.builtin.sent_requests",
    "rules.builtin.content",
    "rules.builtin.frameworks",
    "rules.builtin",
    "rules.book",
    "rules",
    "config",
    "reports.call_site",
    "reports.request_scope",
    "reports.html",
    "reports.terminal",
    "reports.log_format",
    "reports.field_source",
    "reports.patch_templates",
    "reports.spelling",
    "reports.offence",
    "reports.field_makers",
    "reports.class_patches",
    "reports.rebuilding",
    "reports.place_patches",
    "reports.patches",
    "reports.reporter",
    "reports",
    "engine.handles",
    "engine.budget",
    "engine.options",
    "engine.preload",
    "engine.hits",
    "engine.trial",
    "engine.verbs",
    "engine.reducers",
    "engine.dispatch",
    "engine.picklers",
    "engine.relations",
    "engine.children",
    "engine.size",
    "engine.dump",
    "engine.nodes",
    "engine.locating",
    "engine.field_names",
    "engine.refusal",
    "engine.patch_builder",
    "engine.wording",
    "engine.secret_search",
    "engine.fresh_process",
    "engine.fresh",
    "engine.diagnosis",
    "engine.history",
    "engine.knowledge",
    "engine.examiner",
    "engine.outcome",
    "engine.serializer",
    "engine",
    "guard",
    "jobs",
    "testing",
    "jsonable.codec",
    "jsonable.frames",
    "jsonable.notes",
    "jsonable.comparison",
    "jsonable.scan",
    "jsonable.encoder",
    "jsonable",
    "servers.urls",
    "servers.errors",
    "servers.breaker",
    "servers.deadline",
    "servers.sentinels",
    "servers.connections",
    "servers.fast",
    "servers.fast_async",
    "servers.async_pools",
    "servers.operations",
    "servers.async_clients",
    "servers.slots",
    "servers.everywhere",
    "servers.cluster",
    "servers.clients",
    "servers",
    "storage.commands",
    "storage.sessions",
    "storage.backend_errors",
    "storage.keyed_guard",
    "storage.redis_store",
    "storage.async_store",
    "storage.guards",
    "storage",
    "commands",
    "commands.options",
    "commands.checks",
    "commands.import_names",
    "commands.code_pages",
    "commands.opcodes",
    "commands.nodes",
    "commands.pickle_stack",
    "commands.pickle_containers",
    "commands.pickle_machine",
    "commands.payload_reader",
    "commands.formats",
    "commands.stored_secrets",
    "commands.analysis",
    "commands.tree",
    "commands.explain",
    "commands.audit_entries",
    "commands.audit",
    "cli",
    "__main__",
    "metrics",
    "pytest_plugin",
    "__init__",
]


PUBLIC = {
    "Action", "Allow", "Config", "ConfigurationError", "ContextCacheError", "Finding", "Guard",
    "LeaveOut", "Path", "ReadOnlyServerError", "Recreate", "RequestScope", "RequestSnapshot",
    "Rule", "Rules", "ServerError", "Snapshot", "Stripped", "StrippedValueError",
    "UncacheableValueError", "UnreadablePayloadError",
    "UntrustedPayloadError", "current_scope", "describe_view", "enter_scope", "exit_scope",
    "explain", "is_sealed", "is_stripped", "show_findings", "summary",
}  # fmt: skip

REDIS = {  # imported together with redis-py
    "servers.async_clients",
    "servers.async_pools",
    "servers.fast_async",
    "servers.sentinels",
    "servers.connections",
    "servers.fast",
    "servers.operations",
    "servers.slots",
    "servers.everywhere",
    "servers.cluster",
    "servers.clients",
}

# What a module of the core may import; `annotationlib` and `compression` are of Python 3.14.
KNOWN_TO = {
    "servers.clients": {"redis"},
    "servers.cluster": {"redis"},
    "servers.connections": {"redis"},
    "servers.everywhere": {"redis"},
    "servers.async_clients": {"redis"},
    "servers.async_pools": {"redis"},
    "servers.fast": {"redis"},
    "servers.fast_async": {"redis"},
    "servers.operations": {"redis"},
    "servers.sentinels": {"redis"},
    "servers.slots": {"redis"},
    "payload.envelope": {"backports", "compression"},
    "rules.annotations": {"annotationlib"},
    "metrics": {"prometheus_client", "opentelemetry"},
    "pytest_plugin": {"pytest"},
    "servers": {"redis", "fakeredis"},
}

PUBLIC_MODULES = (
    "contextcache",
    "contextcache.base.classes",
    "contextcache.base.words",
    "contextcache.rules.credentials",
    "contextcache.commands.audit",
    "contextcache.commands.checks",
    "contextcache.commands.explain",
    "contextcache.commands.audit_entries",
    "contextcache.commands.options",
    "contextcache.jsonable",
    "contextcache.base.logs",
    "contextcache.reports.html",
    "contextcache.engine.preload",
    "contextcache.servers",
    "contextcache.storage.commands",
    "contextcache.storage.sessions",
    "contextcache.storage.guards",
    "contextcache.storage.backend_errors",
    "contextcache.storage.keyed_guard",
    "contextcache.storage.redis_store",
    "contextcache.storage.async_store",
    "contextcache.testing",
)


def nodes(tree: ast.AST, *, only_at_import: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the import statements of a module; those that run when it is imported, or all."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
            continue
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        function = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if not (only_at_import and (typing_only or function)):
            yield from nodes(node, only_at_import=only_at_import)


def imports(path: Path, *, only_at_import: bool = True) -> set[tuple[str, str]]:
    """Return (module, name) of everything `path` imports; name is empty for `import module`."""
    found: set[tuple[str, str]] = set()
    for node in nodes(ast.parse(path.read_text()), only_at_import=only_at_import):
        if isinstance(node, ast.Import):
            found.update((alias.name, "") for alias in node.names)
        else:
            assert node.level == 0, f"{path}: a relative import"
            found.update((node.module or "", alias.name) for alias in node.names)
    return found


def name_of(path: Path) -> str:
    """Return the name of a core module within the core: `servers.urls`, and `servers` itself."""
    parts = path.relative_to(ROOT / "contextcache").with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def core_modules(path: Path, *, only_at_import: bool = True) -> set[str]:
    """Return the core modules that the core module `path` imports."""
    found = set()
    for module, name in imports(path, only_at_import=only_at_import):
        package, _, rest = module.partition(".")
        if package == "contextcache":
            inner = f"{rest}.{name}" if rest else name
            found.add(inner if inner in ORDER else rest)
    return found


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=shown)
def test_the_core_imports_the_standard_library_only(path: Path) -> None:
    """No framework, and no Redis, when a module of the core is imported."""
    outside = {module.partition(".")[0] for module, _ in imports(path)}
    if name_of(path) in REDIS:
        outside.remove("redis")
    if name_of(path) == "pytest_plugin":
        outside.remove("pytest")
    assert outside <= sys.stdlib_module_names | {"contextcache"}
    assert not core_modules(path) & REDIS or name_of(path) in REDIS


@pytest.mark.parametrize("path", CORE, ids=shown)
def test_third_parties_are_known_by_few_modules(path: Path) -> None:
    """Those in `REDIS` build on redis-py, and `servers` imports them when asked for a client."""
    everywhere = {module.partition(".")[0] for module, _ in imports(path, only_at_import=False)}
    outside = everywhere - sys.stdlib_module_names - {"contextcache"}
    assert outside <= KNOWN_TO.get(name_of(path), set())
    asked = core_modules(path, only_at_import=False) & REDIS
    assert not asked or name_of(path) in (*REDIS, "servers")


def test_every_module_of_the_core_has_its_place() -> None:
    """A new module is put into the order on purpose."""
    assert {name_of(path) for path in CORE} == set(ORDER)


@pytest.mark.parametrize("path", CORE, ids=shown)
def test_imports_of_the_core_go_one_way(path: Path) -> None:
    """A module imports only what stands before it."""
    before = set(ORDER[: ORDER.index(name_of(path))])
    assert core_modules(path) <= before


def test_the_order_of_the_modules_is_that_of_the_folders() -> None:
    """A reader knows from the listing which folder uses which."""
    folders = [folder for folder, _ in groupby(module.partition(".")[0] for module in ORDER)]
    assert tuple(folders) == FOLDERS


ENGINE = [path for path in CORE if name_of(path).partition(".")[0] in ("engine", "guard")]


@pytest.mark.parametrize("path", ENGINE, ids=shown)
def test_no_code_of_a_finding_decides_what_is_done(path: Path) -> None:
    """A code is documentation: what the engine asks for stands on the rule or verdict."""
    for node in ast.walk(ast.parse(path.read_text())):
        codes = [
            one.value
            for one in ast.walk(node)
            if isinstance(one, ast.Constant) and isinstance(one.value, str)
            if re.fullmatch(r"CC\d{3}", one.value)
        ]
        assert not codes, f"{path.name}:{getattr(node, 'lineno', 0)} names {codes}"
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            assert not any(
                isinstance(side, ast.Attribute) and side.attr == "code" for side in sides
            )


def test_the_core_has_no_cycle() -> None:
    """Whatever the order says, the modules can be sorted."""
    TopologicalSorter({name_of(path): core_modules(path) for path in CORE}).prepare()


@pytest.mark.parametrize("path", ADAPTERS, ids=shown)
def test_adapters_use_public_names_of_the_core_only(path: Path) -> None:
    """What an adapter of ours needs, an adapter of somebody else's can use as well."""
    for module, name in imports(path, only_at_import=False):
        if module.partition(".")[0] == "contextcache":
            assert module in PUBLIC_MODULES, f"{module} is no public module"
            assert module != "contextcache" or name in PUBLIC, f"{name} is no public name"
            assert not name.startswith("_")


@pytest.mark.parametrize("path", ADAPTERS, ids=shown)
def test_adapters_do_not_know_each_other(path: Path) -> None:
    """A Django project needs no Flask, and the other way round."""
    other = {"contextcache_django": "flask", "contextcache_flask": "django"}[
        path.relative_to(ROOT).parts[0]
    ]
    for module, _ in imports(path, only_at_import=False):
        assert module.partition(".")[0] not in (other, f"contextcache_{other}")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    """Type checkers of users read our annotations."""
    assert (ROOT / package / "py.typed").is_file()


def test_the_public_names_are_these() -> None:
    """A name that is added here stays; one that is missing breaks somebody."""
    # Where the package is installed with its plugin, pytest adds names that are no identifiers.
    named = filter(str.isidentifier, vars(contextcache))
    exported = {name for name in named if not name.startswith("_")}
    modules = {name_of(path) for path in CORE} | {"annotations"}
    assert exported - modules == PUBLIC
    from contextcache.servers import DEFAULT_URL, connect, public_url, server_error, warn
    from contextcache.testing import assert_cacheable, capture_findings

    for name in (connect, public_url, server_error, warn, assert_cacheable, capture_findings):
        assert callable(name)
    assert DEFAULT_URL == "fakeredis://"


def test_everything_public_is_documented() -> None:
    """Each public name says what it is, in a sentence of its own."""
    for name in PUBLIC:
        doc = getattr(contextcache, name).__doc__
        assert doc, name
        assert doc.split("\n")[0].endswith((".", "`Stripped`.")), name
        assert not doc.startswith(f"{name}("), f"{name} has the docstring of its signature only"


BLOCKED = f"""
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in {FRAMEWORKS!r}:
                raise ImportError(f"{{name}} must not be imported")

    sys.meta_path.insert(0, Blocked())
    before = set(sys.modules)
    import contextcache
    import contextcache.servers
    import contextcache.testing
    new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
    new = {{name for name in new if not name.startswith("_sysconfigdata_")}}  # of this platform
    print(sorted(new - sys.stdlib_module_names))

    import threading
    class Cart:
        def __init__(self):
            self.lock = threading.Lock()
    guard = contextcache.Guard()
    cart = guard.loads(guard.dumps({{"cart": Cart()}}))["cart"]
    print(type(cart.lock).__name__)
    try:
        contextcache.servers.connect("fakeredis://")
    except contextcache.ConfigurationError as error:
        print("pip install" in str(error))
"""


def test_the_core_works_where_no_framework_is_installed() -> None:
    """A write and a read load nothing but Python; a missing Redis client says what to do."""
    assert run(BLOCKED).splitlines() == ["['contextcache']", "lock", "True"]


# Each costs a millisecond or more; together, as much as the core itself. What needs one imports it
# where it is needed, and says so.
HEAVY = {
    "argparse", "asyncio", "datetime", "difflib", "email", "hashlib", "hmac", "http", "json",
    "secrets", "socket", "ssl", "subprocess", "sysconfig", "tempfile", "unittest", "urllib.parse",
}  # fmt: skip


def test_importing_the_core_is_quick() -> None:
    """A command-line tool that only mentions a model pays for the import, too."""
    assert run(f"import contextcache, sys; print(sorted({HEAVY!r} & set(sys.modules)))") == "[]\n"


@pytest.mark.parametrize("package", ["contextcache_django", "contextcache_flask"])
def test_importing_an_adapter_is_quiet(package: str) -> None:
    """No warning, no output, and no settings needed."""
    assert run(f"import {package}", "-W", "error") == ""


def test_importing_the_core_starts_nothing() -> None:
    """No thread, and no handler: a server without logging shows warnings as Python does."""
    code = """
        import contextcache, logging, threading
        print(threading.active_count(), logging.getLogger().handlers)
        print([type(handler).__name__ for handler in logging.getLogger("contextcache").handlers])
    """
    assert run(code).splitlines() == ["1 []", "[]"]
