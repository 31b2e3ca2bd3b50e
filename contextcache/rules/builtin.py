"""What is an offender and what becomes of it: one row per type.

A row names a type by its qualified name, so that nothing is imported to recognise it, or as
`package:Class`, which means a class of that name anywhere below the package: third parties move
their classes between modules, not their names. A row also covers subclasses, unless the author
of the subclass took pickling into their own hands.

Adding an offending type is one row here and one case in `tests/zoo.py`.
"""

from __future__ import annotations

import itertools
import sys
from _thread import RLock, allocate_lock
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from contextcache.base.introspection import class_mro, qualified_name
from contextcache.base.words import suggest, unknown_name
from contextcache.exceptions import ConfigurationError
from contextcache.findings.finding import CODES
from contextcache.rules import replacements

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


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
class Rule:
    """How objects of one type are treated.

    Args:
        type: Qualified name of the type, such as `shop.api.Client`, or `package:Class`.
        verb: `recreate`, `snapshot`, `strip`, `trim`, `replace`, `observe`, `refuse` or `allow`.
        code: Code of the findings; says why.
        reason: Why, in one clause, where the code's own text is not it.
        fix: What to do about it, in one sentence.
        did: What was stored instead, in one clause.
        make: For `snapshot`: called with the object, returns what is stored in its place; by
            default a namespace of its attributes.
            For `recreate`: returns the callable and the arguments that build a fresh one on load;
            by default its type, called without arguments.
            For `trim`: called with the object and its reduce value, returns the changed reduce
            value and what was left out of it, or None; with a third item, which says what was
            stored or is empty, the object itself is reported.
            For `replace`: called with the object, returns what the application wants stored in
            its place, about which there is nothing to report; the object itself to store it whole.
        when: Tells whether an object of the type is an offender at all; by default it is.
        force: Whether the rule holds for subclasses that pickle themselves, too.
        behind: Whether only an object behind a proxy or lazy object is one: the user of a request.
        uniform: For `recreate`, in place of `make`, where all objects of a type are alike: called
            with the type, once, returns the callable and the arguments.
    """

    type: str
    verb: Verb
    code: str = "CC100"
    reason: str = ""
    fix: str = ""
    did: str = ""
    make: Callable[..., Any] | None = None
    when: Callable[[Any], bool] | None = None
    force: bool = False
    behind: bool = False
    uniform: Callable[[Class], tuple[object, tuple[object, ...]]] | None = None

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
        """Tell whether the rule names a type that cannot be; its module is imported for that.

        Returns:
            Why no object meets the rule, and the name that may be meant or an empty string; None
            where the rule may be met, if only on another machine.
        """
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
            verb: What becomes of objects of the type, as in `Rule`.
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


class RuleBook:
    """All rules of one application, looked up by type.

    Args:
        rules: The user's own rules; they come before the built-in ones, and of two for the same
            type the first one counts.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._own = {rule.type: rule for rule in reversed(tuple(rules))}  # the first one counts

    def lookup(self, cls: type) -> Rule | None:
        """Return the rule for `cls`, or None where pickle may decide.

        The type itself comes first, then its bases in their order. Only `type(obj)` is ever
        asked: `isinstance` believes a `LocalProxy` and runs the query of a lazy object.
        """
        own_pickling = False
        for base in class_mro(cls)[:-1]:
            rule = self._row(base)
            if rule is not None and (not own_pickling or rule.force):
                return rule
            own_pickling = own_pickling or any(
                name in base.__dict__ for name in ("__reduce__", "__reduce_ex__", "__getstate__")
            )
        return None

    def _row(self, cls: type) -> Rule | None:
        name = qualified_name(cls)
        package, _, short = name.partition(".")
        anywhere = f"{package}:{short.rpartition('.')[2]}"
        for table in (self._own, BUILT_IN):
            rule = table.get(name) or table.get(anywhere)
            if rule is not None:
                return rule
        return None


def _rows(code: str, verb: Verb, *types: str, **more: Any) -> dict[str, Rule]:
    return {name: Rule(type=name, verb=verb, code=code, **more) for name in types}


def _recreated(what: str) -> str:
    return f"stored the rest; on load this field is a new, {what}"


_UNSTORED_ITERATORS = [  # pickle has known none of them since 3.14, and some never
    f"itertools.{name}"
    for name, kind in vars(itertools).items()
    if sys.version_info >= (3, 14) and type(kind) is type
]

_CLIENT_FIX = "store the data or the settings of the client, and build the client on read"
_LOCAL_FIX = (
    "leave it out in __getstate__ of the class that holds it, or store the value you need from it"
)
_LOCK_FIX = (
    "leave it out in __getstate__ of the class that holds it; across processes it protects nothing"
)
_FILE_FIX = "store the file's name or its content"
_REQUEST_FIX = "store the values you need from it, not the request"

BUILT_IN: Mapping[str, Rule] = {
    # Thread-locals
    **_rows(
        "CC101", Verb.RECREATE,
        "_thread._local", "_threading_local.local", "gevent:local",
        uniform=replacements.empty_local,
        did=_recreated("empty thread-local"),
        fix=_LOCAL_FIX,
    ),
    # Locks; what is built of them (Condition, Event, Semaphore, Queue, Barrier) comes along whole
    **_rows(
        "CC102", Verb.RECREATE, "_thread.lock",
        uniform=lambda _: (allocate_lock, ()), did=_recreated("unlocked lock"), fix=_LOCK_FIX,
    ),
    **_rows(
        "CC102", Verb.RECREATE, "_thread.RLock",
        uniform=lambda _: (RLock, ()), did=_recreated("unlocked lock"), fix=_LOCK_FIX,
    ),
    **_rows(  # under gevent, threading.Lock and threading.RLock make these
        "CC102", Verb.RECREATE, "threading._RLock", "gevent.thread.LockType", "gevent:RLock",
        uniform=lambda cls: (cls, ()), did=_recreated("unlocked lock"), fix=_LOCK_FIX,
    ),
    **_rows(
        "CC102", Verb.TRIM, "threading.Condition", make=replacements.bare_condition,
        did="stored it with a new, unlocked lock", fix=_LOCK_FIX,
    ),
    **_rows(
        "CC102", Verb.RECREATE, "gevent:Semaphore",
        make=replacements.gevent_semaphore, did=_recreated("free semaphore"), fix=_LOCK_FIX,
    ),
    **_rows(
        "CC102", Verb.RECREATE, "gevent:Event",
        uniform=lambda cls: (cls, ()), did="stored the rest; on load this field is a new event",
        fix=_LOCK_FIX,
    ),
    **_rows(
        "CC102", Verb.RECREATE, "gevent:SimpleQueue",
        make=replacements.gevent_queue, reason="a queue belongs to the threads of this process",
        did="stored the rest; on load this field is a new queue of the same items",
        fix="store the items, as a list",
    ),
    **_rows(
        "CC102", Verb.STRIP,
        "multiprocessing.synchronize.SemLock", "multiprocessing.synchronize.Condition",
        "multiprocessing.synchronize.Event", "multiprocessing.queues.Queue",
        "multiprocessing.queues.SimpleQueue",
        reason="a lock shared between processes is inherited, not stored", fix=_LOCK_FIX,
        force=True,
    ),
    **_rows(
        "CC102", Verb.RECREATE, "_queue.SimpleQueue",
        reason="a queue belongs to the threads of this process",
        did=_recreated("empty queue"), fix="store the items, as a list",
    ),
    # Context variables
    **_rows(
        "CC103", Verb.SNAPSHOT, "_contextvars.ContextVar", "contextvars.ContextVar",
        make=replacements.context_variable,
        did="stored the variable by name; its value stays in this process",
        fix="store the variable's value, from its get()",
    ),
    **_rows(
        "CC103", Verb.STRIP,
        "_contextvars.Token", "_contextvars.Context", "contextvars.Token", "contextvars.Context",
        fix="store the values you need from it",
    ),
    **_rows(
        "CC103", Verb.RECREATE, "asgiref.local.Local",
        make=replacements.asgiref_local, did=_recreated("empty Local"),
        fix=_LOCAL_FIX,
    ),
    **_rows(
        "CC103", Verb.RECREATE, "werkzeug.local.Local", "werkzeug.local.LocalStack",
        did=_recreated("empty Local"), fix="store the value you need from it",
    ),
    # Proxies and lazy objects
    **_rows(
        "CC104", Verb.SNAPSHOT, "werkzeug.local.LocalProxy",
        make=replacements.proxy_target, did="stored what it points at now, cleaned in turn",
        fix="store the value you need from it, "
        "or proxy._get_current_object() where that can be stored",
    ),
    **_rows(
        "CC105", Verb.SNAPSHOT, "django.utils.functional.SimpleLazyObject",
        make=replacements.lazy_value, when=replacements.stands_for_object,
        did="stored what it evaluates to, cleaned in turn",
        fix="store its primary key (.pk) and fetch the object on read",
        force=True,
    ),
    **_rows("CC105", Verb.ALLOW, "contextcache_django.wire.Reference"),
    **_rows(
        "CC105", Verb.SNAPSHOT, "django.utils.functional.Promise",
        make=replacements.lazy_result, when=replacements.is_nameless_lazy,
        reason="the function of a lazy text cannot be imported by its name",
        did="stored its text, in the language of this request", fix="store str(...) of it",
        force=True,
    ),
    # Requests and what lives as long as one
    **_rows(  # our own, which stands in the environment of a request
        "CC106", Verb.REPLACE, "contextcache.reports.request_scope.RequestScope",
        make=lambda _: None, did="stored None", fix="nothing: contextcache keeps it there",
    ),
    **_rows(
        "CC106", Verb.SNAPSHOT,
        "django.http.request.HttpRequest", "rest_framework.request.Request",
        "werkzeug.sansio.request.Request", "werkzeug.wrappers.request.Request",
        "starlette.requests.HTTPConnection",
        make=replacements.request_snapshot,
        did="stored a read-only RequestSnapshot without credentials", fix=_REQUEST_FIX, force=True,
    ),
    **_rows(
        "CC106", Verb.SNAPSHOT,
        "django.http.request.HttpHeaders", "werkzeug.datastructures.headers.EnvironHeaders",
        make=replacements.header_snapshot,
        reason="the headers of a request carry its credentials",
        did="stored the headers without credentials, as a dict",
        fix='store single headers, such as request.headers["User-Agent"]', force=True,
    ),
    **_rows(
        "CC106", Verb.STRIP, "flask.ctx._AppCtxGlobals",
        reason="flask.g belongs to one request", fix="store the values you need from g, not g",
    ),
    **_rows(
        "CC106", Verb.STRIP,
        "flask.ctx.AppContext", "flask.ctx.RequestContext",
        "django.contrib.sessions.backends.base.SessionBase", "django.urls.resolvers.ResolverMatch",
        reason="it belongs to one request", fix=_REQUEST_FIX, force=True,
    ),
    # Files
    **_rows(
        "CC107", Verb.STRIP,
        "_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom",
        "_io.BufferedRWPair", "_io.TextIOWrapper", "_io.FileIO", "mmap.mmap",
        "tempfile._TemporaryFileWrapper", "tempfile.SpooledTemporaryFile",
        "tempfile.TemporaryDirectory", "zipfile.ZipFile", "tarfile.TarFile",
        "posix.ScandirIterator",
        "botocore.response.StreamingBody",
        fix=_FILE_FIX,
    ),
    **_rows(
        "CC107", Verb.STRIP, "_io._IOBase", when=replacements.refuses_pickle, fix=_FILE_FIX,
    ),
    **_rows(
        "CC107", Verb.STRIP, "logging.Handler",
        reason="a log handler writes to a stream of this process", fix="store the logger's name",
    ),
    **_rows(
        "CC107", Verb.STRIP, "posix.DirEntry", "nt.DirEntry",
        reason="a directory entry belongs to a listing in progress", fix="store its .path",
    ),
    # Connections and clients: cut whole, because one with its sockets cut out is a zombie
    **_rows(
        "CC108", Verb.STRIP,
        "_socket.socket", "gevent:socket", "ssl.SSLSocket", "ssl.SSLObject", "select.epoll",
        "select.poll",
        "selectors._BaseSelectorImpl", "subprocess.Popen",
        "http.client.HTTPConnection", "smtplib.SMTP", "ftplib.FTP",
        "imaplib.IMAP4", "poplib.POP3", "xmlrpc.client.ServerProxy",
        "urllib.request.OpenerDirector",
        "asyncio.streams.StreamReader", "asyncio.streams.StreamWriter",
        "asyncio.transports.BaseTransport",
        "sqlite3.Connection",
        "multiprocessing.connection._ConnectionBase", "multiprocessing.managers.BaseManager",
        "multiprocessing.managers.BaseProxy",
        "django.utils.connection.BaseConnectionHandler", "django.utils.connection.ConnectionProxy",
        "django.db.backends.base.base.BaseDatabaseWrapper",
        "django.core.cache.backends.base.BaseCache",
        "django.core.mail.backends.base.BaseEmailBackend",
        "cachelib:BaseCache", "flask_caching:Cache", "flask_sqlalchemy:SQLAlchemy",
        "redis:Redis", "redis:RedisCluster", "redis:ConnectionPool", "redis:AbstractConnection",
        "redis:Sentinel", "redis:Pipeline", "redis:PubSub", "redis:Lock",
        "valkey:Valkey", "valkey:ConnectionPool", "fakeredis:FakeServer",
        "pymemcache:Client", "pymemcache:PooledClient", "pymemcache:HashClient", "pylibmc:Client",
        "pymongo:MongoClient", "pymongo:AsyncMongoClient", "pymongo:Database",
        "pymongo:AsyncDatabase", "pymongo:Collection", "pymongo:AsyncCollection",
        "pymongo:AsyncCursor", "pymongo:ClientSession",
        "pymongo:ChangeStream", "motor:AgnosticBase", "gridfs:GridFS", "gridfs:GridOut",
        "sqlalchemy:Engine", "sqlalchemy:AsyncEngine", "sqlalchemy:Connection",
        "sqlalchemy:AsyncConnection", "sqlalchemy:Session", "sqlalchemy:AsyncSession",
        "sqlalchemy:scoped_session", "sqlalchemy:sessionmaker", "sqlalchemy:Pool",
        "psycopg:BaseConnection", "psycopg:BaseCursor", "psycopg_pool:BasePool",
        "psycopg2:connection", "psycopg2:AbstractConnectionPool",
        "asyncpg:Connection", "asyncpg:Pool", "aiomysql:Pool",
        "pymysql:Connection", "MySQLdb:Connection", "peewee:Database",
        "neo4j:Driver", "neo4j:AsyncDriver", "neo4j:Workspace", "neo4j:AsyncWorkspace",
        "influxdb_client:InfluxDBClient",
        "cassandra:Cluster", "cassandra:Session",
        "boto3:Session", "boto3:ServiceResource", "botocore:BaseClient", "botocore:Session",
        "s3transfer:TransferManager", "minio:Minio",
        "httpx:Client", "httpx:AsyncClient", "httpx2:Client", "httpx2:AsyncClient",
        "httpcore:ConnectionPool", "httpcore:AsyncConnectionPool",
        "aiohttp:ClientSession", "aiohttp:BaseConnector",
        "aiohttp:ClientWebSocketResponse", "urllib3:PoolManager", "urllib3:HTTPConnectionPool",
        "websocket:WebSocket", "websocket:WebSocketApp", "websockets:Connection",
        "websockets:ClientConnection", "wsproto:WSConnection",
        "socketio:BaseClient", "socketio:BaseServer", "engineio:BaseClient",
        "simple_websocket:Base",
        "grpc:Channel", "grpc:Server", "grpc:_MultiCallable",
        "openai:SyncAPIClient", "openai:AsyncAPIClient", "openai:SyncAPIResource",
        "openai:AsyncAPIResource", "openai:Stream", "openai:AsyncStream",
        "anthropic:SyncAPIClient", "anthropic:AsyncAPIClient", "anthropic:SyncAPIResource",
        "anthropic:AsyncAPIResource", "anthropic:Stream", "langsmith:Client",
        "elasticsearch:BaseClient", "elasticsearch:Elasticsearch",
        "elasticsearch:AsyncElasticsearch",
        "elastic_transport:Transport", "opensearchpy:OpenSearch", "meilisearch:Client",
        "kombu:ConnectionPool", "kombu:Producer", "kombu:Consumer", "kombu:Transport",
        "kombu:Channel",
        "amqp:Connection", "amqp:Channel", "pika:Connection", "pika:BlockingConnection",
        "pika:BlockingChannel", "pika:Channel", "aio_pika:Connection",
        "confluent_kafka:Producer", "kafka:KafkaProducer", "kafka:KafkaConsumer",
        "rq:Queue", "rq:Worker", "kazoo:KazooClient", "paho:Client", "nats:Client",
        "paramiko:SSHClient", "paramiko:Transport", "paramiko:SFTPClient", "paramiko:Channel",
        "ldap3:Connection", "zeep:Client", "zeep:AsyncClient",
        "zeep:ServiceProxy",
        "gql:Client", "gql:SyncClientSession", "gql:AsyncClientSession", "gql:Transport",
        "gql:AsyncTransport", "requests_cache:BaseCache",
        "google:ClientWithProject", "google:Client", "google:BaseClient", "google:PublisherClient",
        "google:SubscriberClient", "azure:PipelineClient", "azure:AsyncPipelineClient",
        "azure:StorageAccountHostsMixin", "azure:TableServiceClient", "msal:ClientApplication",
        "opentelemetry:TracerProvider",
        "opentelemetry:SpanProcessor", "docker:APIClient", "docker:DockerClient",
        "selenium:WebDriver", "playwright:SyncBase",
        fix=_CLIENT_FIX, force=True,
    ),
    **_rows(
        "CC108", Verb.STRIP, "http.client.HTTPResponse", "aiohttp:ClientResponse",
        reason="an open response belongs to a connection of this process",
        fix="store what it says: its status, its headers, and what read() returns", force=True,
    ),
    **_rows(
        "CC108", Verb.STRIP,
        "sqlite3.Cursor", "django.db.backends.utils.CursorWrapper", "psycopg:Cursor",
        "psycopg2:cursor", "pymysql:Cursor", "pymongo:Cursor", "pymongo:CommandCursor",
        "sqlalchemy:CursorResult", "sqlalchemy:Result", "sqlalchemy:Query",
        fix="store its rows, as in list(...)", force=True,
    ),
    # Generators, coroutines, iterators
    **_rows(
        "CC109", Verb.STRIP,
        "generator", "coroutine", "async_generator", "coroutine_wrapper",
        "async_generator_asend", "_csv.reader", "pandas:TextFileReader",
        fix="store its items: list(...), or the awaited result",
    ),
    **_rows(
        "CC109", Verb.STRIP, *_UNSTORED_ITERATORS,
        fix="store what it is made from, and make it on read",
    ),
    **_rows(
        "CC111", Verb.STRIP, "module", "lazy_import",
        fix="store the module's name and import it on read",
    ),
    # Weak references
    **_rows(
        "CC112", Verb.STRIP, "weakref.ReferenceType", "weakref.KeyedRef", "weakref.WeakMethod",
        fix="store the object itself or its key",
    ),
    **_rows(
        "CC112", Verb.RECREATE,
        "_weakrefset.WeakSet", "weakref.WeakValueDictionary", "weakref.WeakKeyDictionary",
        make=lambda obj: (type(obj), ()), did=_recreated("empty collection"),
        fix="store the objects in a plain set or dict, "
        "or leave it out in __getstate__ of the class that holds it",
    ),
    **_rows(
        "CC113", Verb.STRIP, "_ssl._SSLContext", "_ssl._SSLSocket", "truststore:SSLContext",
        fix="build the context on read", force=True,
    ),
    # The running program
    **_rows(
        "CC114", Verb.STRIP, "frame", "traceback", "code", "cell", "property", "classmethod",
        "staticmethod",
        fix="store its text, for example traceback.format_exc()",
    ),
    **_rows(
        "CC115", Verb.STRIP,
        "threading.Thread", "multiprocessing.process.BaseProcess", "multiprocessing.pool.Pool",
        "concurrent.futures._base.Future", "_asyncio.Future", "asyncio.futures.Future",
        "_asyncio.Task", "asyncio.events.AbstractEventLoop", "asyncio.events.Handle",
        "sched.scheduler", "gevent:Greenlet", "gevent:AsyncResult", "gevent:Group",
        "gevent:ThreadPool", "greenlet:greenlet", "trio:Nursery",
        fix="store its result, and start it again on read if it is needed", force=True,
    ),
    **_rows(
        "CC115", Verb.STRIP,
        "concurrent.interpreters.Interpreter", "concurrent.interpreters._queues.Queue",
        reason="an interpreter and its queues belong to this process",
        fix="store its result, and create it where it is used", force=True,
    ),
    **_rows(
        "CC115", Verb.RECREATE, "concurrent.futures.thread.ThreadPoolExecutor",
        make=replacements.thread_pool, did=_recreated("idle pool"),
        fix="leave it out in __getstate__ of the class that holds it, and make it on first use",
    ),
    **_rows(
        "CC115", Verb.RECREATE, "concurrent.futures.process.ProcessPoolExecutor",
        make=replacements.process_pool, did=_recreated("idle pool"),
        fix="leave it out in __getstate__ of the class that holds it, and make it on first use",
    ),
    # Views of other objects
    **_rows(
        "CC116", Verb.SNAPSHOT, "dict_keys", "dict_values", "dict_items", "odict_keys",
        "odict_values", "odict_items", "collections.abc.KeysView",
        make=replacements.plain_list, did="stored a list of what it shows",
        fix="store list(...) of it",
    ),
    **_rows(
        "CC116", Verb.SNAPSHOT, "mappingproxy", "sqlite3.Row",
        make=replacements.plain_dict, did="stored a dict of what it shows",
        fix="store dict(...) of it",
    ),
    **_rows(
        "CC116", Verb.SNAPSHOT, "memoryview",
        make=replacements.plain_bytes, did="stored the bytes it shows",
        fix="store bytes(...) of it",
    ),
    **_rows(
        "CC117", Verb.RECREATE, "random.SystemRandom",
        reason="it draws from the operating system and has no state",
        did="stored the rest; on load this field is a new one", fix="make it where it is used",
    ),
    **_rows(
        "CC119", Verb.STRIP, "method",
        when=replacements.is_nameless_method,
        reason="its object has no method of this name, by which pickle looks for it",
        fix="store the object, and take the method from it on read",
    ),
    # Secrets
    **_rows(
        "CC120", Verb.STRIP,
        "braintree:BraintreeGateway", "braintree:Configuration", "twilio:Client",
        "stripe:StripeClient",
        "slack_sdk:BaseClient", "slack_sdk:AsyncBaseClient", "slack_sdk:WebClient", "tweepy:Client",
        "tweepy:API", "tweepy:BaseClient", "github:Github", "github:Requester", "github:Auth",
        "spotipy:Spotify", "praw:Reddit", "prawcore:Session", "hubspot:Client", "shopify:Session",
        "google.auth.crypt.base.Signer", "azure:ClientSecretCredential",
        "django.conf.LazySettings", "django.conf.Settings", "django.conf.UserSettingsHolder",
        "os._Environ",
        reason="it carries the secrets of this application",
        fix="store the data you fetched, and take the client from where the application keeps it",
        force=True,
    ),
    **_rows(
        "CC120", Verb.STRIP,
        "flask.config.Config", "celery.app.base.Celery", "itsdangerous:Signer",
        "itsdangerous:Serializer", "django.core.signing.Signer",
        reason="it carries the secrets of this application",
        fix="store the data you need, and take it from the application on read", force=True,
    ),
    **_rows(
        "CC120", Verb.STRIP, "celery.result.AsyncResult",
        reason="it takes its application along, with the passwords of broker and result store",
        fix="store its id, and make AsyncResult(id) on read", force=True,
    ),
    **_rows(
        "CC120", Verb.OBSERVE,
        "botocore:Credentials", "botocore:ReadOnlyCredentials", "azure:AzureKeyCredential",
        "azure:AzureNamedKeyCredential", "azure:AzureSasCredential", "requests.auth.HTTPBasicAuth",
        "httpx:BasicAuth", "pydantic:SecretStr", "pydantic:SecretBytes",
        reason="it carries a key or password", did="stored it as it is",
        fix="store the data it was used for, and take it from the settings on read", force=True,
    ),
    **_rows(
        "CC120", Verb.OBSERVE, "google.oauth2.credentials.Credentials", "oauthlib:Client",
        reason="it carries access tokens", did="stored it as it is",
        fix="store it encrypted, or fetch it where it is used",
    ),
    **_rows(
        "CC120", Verb.TRIM, "django.contrib.auth.base_user.AbstractBaseUser",
        make=replacements.without_user_password,
        did="stored it without the password hash, which is read from the database on use",
        reason="the row of a user carries the password hash",
        fix="store its primary key (.pk), once it is saved, and fetch the user on read",
        force=True,
    ),
    **_rows(
        "CC120", Verb.TRIM, "flask_login:UserMixin",
        make=replacements.without_password, behind=True,
        did="stored the user it stands for, without the password hash",
    ),
    # More than meets the eye
    **_rows(
        "CC121", Verb.TRIM, "django.core.paginator.Page",
        make=replacements.slim_page,
        reason="the page drags all rows of its paginator along",
        did="stored the page and the count, not the other rows",
        fix="store page.object_list as a list, with page.number and paginator.num_pages",
    ),
    **_rows(
        "CC121", Verb.SNAPSHOT, "bs4.element.NavigableString",
        make=replacements.plain_str, when=replacements.in_document,
        reason="the string drags the whole document along",
        did="stored the text alone", fix="store str(...) of it",
    ),
    **_rows(
        "CC121", Verb.SNAPSHOT, "bs4.element.Tag",
        make=replacements.detached, when=replacements.in_document,
        reason="the tag drags the whole document along",
        did="stored the tag alone", fix="store str(...) of it, or copy.copy(...)",
    ),
    **_rows(
        "CC102", Verb.TRIM, "pandas:NDFrame", "pandas:DataFrame", "pandas:Series",
        make=replacements.plain_attrs, did="left it out of attrs, stored the rest",
        fix="keep only data in attrs",
    ),
    # Less than meets the eye
    **_rows(
        "CC122", Verb.STRIP, "requests.sessions.Session",
        when=replacements.loses_attributes,
        reason="requests.Session stores only the attributes it knows; the others would be lost",
        fix="store the settings, and build the session on read",
    ),
    **_rows(
        "CC122", Verb.OBSERVE, "collections.defaultdict", "collections.Counter",
        when=replacements.has_own_attributes,
        reason="its items are stored, but not the attributes its class adds",
        did="stored the items; the attributes are lost",
        fix="give the class a __reduce__ that stores its attributes, too",
    ),
    **_rows(
        "CC122", Verb.OBSERVE, "BaseException", when=replacements.has_cause,
        reason="pickle forgets the exception it was raised from",
        did="stored it without its __cause__",
        fix="store traceback.format_exception(error), or the cause beside it",
    ),
    # Frameworks
    **_rows(
        "CC123", Verb.STRIP,
        "flask.sansio.scaffold.Scaffold", "flask.scaffold.Scaffold", "werkzeug.routing.map.Map",
        "starlette:Starlette",
        fix="take it from the application on read, such as current_app", force=True,
    ),
    **_rows(
        "CC123", Verb.STRIP,
        "django.template.engine.Engine", "django.template.backends.base.BaseEngine",
        "django.template.base.Template", "django.template.backends.django.Template",
        "jinja2.environment.Environment", "jinja2.environment.Template",
        fix="store the rendered text or the template's name", force=True,
    ),
    **_rows(
        "CC123", Verb.STRIP,
        "sqlalchemy:Mapper", "sqlalchemy:ClassManager", "sqlalchemy:QueryableAttribute",
        reason="the mapping of a class is made anew in each process",
        fix="store the name of the class or attribute", force=True,
    ),
    **_rows(
        "CC123", Verb.STRIP, "sqlalchemy:Executable", when=replacements.refers_to_mapping,
        reason="the statement drags the mapping of this process along",
        fix="store its rows, or str(...) of it", force=True,
    ),
    **_rows(
        "CC123", Verb.TRIM,
        "django.http.response.HttpResponseBase", "werkzeug.sansio.response.Response",
        make=replacements.closers,
        reason="the response would close what another request had opened",
        did="stored the response without it", fix="cache the response before callbacks are added",
    ),
}  # fmt: skip

# Of plain data, which no type shows: see `credentials`
ENVIRON = Rule(
    type="",
    verb=Verb.OBSERVE,
    code="CC106",
    reason="the environment or headers of a request carry its cookies and credentials",
    did="stored it without credentials",
    fix="store the values you need from the request, not all of its headers",
)
BY_HAND = Rule(
    type="",
    verb=Verb.OBSERVE,
    code="CC120",
    reason="it is a credential that the current request was sent",
    did="stored it as it is",
    fix="store what it stands for, such as the primary key of the user",
)
NOT_SEARCHED = Rule(
    type="",
    verb=Verb.OBSERVE,
    code="CC106",
    reason="it may hold the credentials of a request, which cannot be taken out of it",
    did="stored it as it is",
    fix="store the values you need from the request, in a flat dict",
)
