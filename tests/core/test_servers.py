"""From a URL to a Redis client, and from an outage to words."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contextcache.exceptions import ConfigurationError, ReadOnlyServerError, ServerError
from contextcache.servers import DEFAULT_TIMEOUT, DEFAULT_URL, connect, public_url, server_error
from contextcache.servers.clients import new_client
from contextcache.servers.urls import parse
from tests.redis_server import answered, free_port, running_redis, running_server
from tests.waiting import PATIENCE, exit_code, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_ESCAPED = (
    "a Redis URL cannot be understood: characters such as '/', '#' and '?' in its password are "
    "not percent-encoded"
)
SCHEMES = (
    "it begins with one of redis://, rediss://, unix://, fakeredis://, redis+sentinel://, "
    "rediss+sentinel://, redis+cluster://, rediss+cluster://"
)
NO_PORT = (
    "a Redis URL cannot be understood: its port is not a number, or characters such as '/', '#' "
    "and '?' in its password are not percent-encoded"
)


# --- Clients ------------------------------------------------------------------------------------


def test_a_tcp_url_gives_a_client_of_that_server(redis_url: str, redis_client: redis.Redis) -> None:
    """`redis://` connects to the server and database it names."""
    connect(redis_url).set("key", b"value")
    assert redis_client.get("key") == b"value"


def test_a_unix_socket_url_gives_a_client_of_that_server(tmp_path: os.PathLike[str]) -> None:
    """`unix://` connects to the socket, and its query chooses the database."""
    path = os.path.join(tmp_path, "redis.sock")
    with running_redis("--unixsocket", path) as tcp_url:
        connect(f"unix://{path}?db=3").set("key", b"value")
        with redis.Redis.from_url(tcp_url, db=0) as zero:
            assert zero.get("key") is None
            assert zero.execute_command("INFO", "keyspace")["db3"]["keys"] == 1


def test_the_same_arguments_give_the_same_client(redis_url: str) -> None:
    """A client is kept for the process; other options are another client."""
    assert connect(redis_url) is connect(redis_url)
    assert connect(redis_url, client_name="other") is not connect(redis_url)
    assert connect(redis_url, client_name="other") is connect(redis_url, client_name="other")


def test_threads_that_ask_at_once_get_one_client(redis_url: str) -> None:
    """Two threads never make two clients of one URL."""
    barrier = threading.Barrier(8)
    made: list[redis.Redis] = []

    def ask() -> None:
        barrier.wait(PATIENCE)
        made.append(connect(redis_url, client_name="threads"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(map(id, made))) == 1


def test_redis_pys_own_name_for_the_timeout_is_understood(redis_url: str) -> None:
    """The query wins over an option, and an option over `timeout`."""

    def timeouts(client: redis.Redis) -> tuple[float, float]:
        kwargs = client.connection_pool.connection_kwargs
        return kwargs["socket_timeout"], kwargs["socket_connect_timeout"]

    by_default = new_client(parse(redis_url), DEFAULT_TIMEOUT, None, {})
    assert timeouts(by_default) == (DEFAULT_TIMEOUT, DEFAULT_TIMEOUT) == (0.5, 0.5)
    assert timeouts(connect(redis_url, timeout=2)) == (2, 2)
    assert timeouts(connect(redis_url, timeout=2, socket_timeout=3)) == (3, 3)
    assert timeouts(connect(f"{redis_url}?socket_timeout=4", socket_timeout=3)) == (4, 4)


@pytest.mark.parametrize(
    "options", [{}, {"retry_on_timeout": True, "retry": Retry(NoBackoff(), 9)}]
)
def test_nothing_is_retried(options: dict[str, object]) -> None:
    """A command that may have been executed is not sent again, whatever redis-py would do."""
    with running_server() as server, server.client() as other:
        client = connect(server.url, timeout=0.1, client_name="once", **options)
        answered(client.ping)
        server.hold()
        with pytest.raises(redis.TimeoutError):
            client.incr("count")
        server.go_on()
        # Whatever it was sent meanwhile is done once it sees that nobody waits for the answer.
        until(lambda: "once" not in [row["name"] for row in other.client_list()])
        assert int(other.get("count") or 0) <= 1


def test_another_pool_class_can_be_asked_for(redis_url: str) -> None:
    """`pool_class` replaces redis-py's default pool."""
    client = connect(redis_url, pool_class=redis.BlockingConnectionPool, max_connections=2)
    assert isinstance(client.connection_pool, redis.BlockingConnectionPool)
    assert client.ping()


def test_more_than_a_hundred_connections_can_be_in_use(redis_url: str) -> None:
    """The pool grows with the threads; redis-py 8 alone stops at a hundred."""
    client = connect(redis_url, client_name="many")
    with contextlib.ExitStack() as stack:
        holders = [stack.enter_context(client.client()) for _ in range(101)]
        assert len({holder.client_id() for holder in holders}) == 101
    client.connection_pool.disconnect()


def test_a_pool_with_a_limit_gets_over_an_outage() -> None:
    """An attempt that fails uses up none of `max_connections`."""
    client = connect(f"redis://127.0.0.1:{free_port()}/0", max_connections=1)
    for _ in range(3):  # the third one opens the breaker
        with pytest.raises(ServerError, match="connection refused"):
            client.ping()


def test_a_pool_with_a_limit_closes_what_is_idle_and_connects_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was closed because nobody needed it counts no more."""
    monkeypatch.setattr("contextcache.servers.fast.IDLE_SECONDS", 0.01)
    client = connect(redis_url, client_name="limited", max_connections=3)

    def is_alone() -> bool:
        # What was closed here is a client there, until that side has read of it.
        return [row["name"] for row in client.client_list()].count("limited") == 1

    for _ in range(3):
        with contextlib.ExitStack() as stack:
            holders = [stack.enter_context(client.client()) for _ in range(3)]
            assert len({holder.client_id() for holder in holders}) == 3
        time.sleep(0.02)
        assert client.ping()
        until(is_alone, why="Redis did not see the other connections end")
    client.connection_pool.disconnect()


def test_the_default_is_embedded_and_shared_within_the_process() -> None:
    """`fakeredis://` needs no server; the same name is the same data, another name is not."""
    assert DEFAULT_URL == "fakeredis://"
    connect("fakeredis://shared").set("key", b"value")
    assert connect("fakeredis://shared/0").get("key") == b"value"
    assert connect("fakeredis://shared/1").get("key") is None
    assert connect("fakeredis://shared?db=1").get("key") is None
    assert connect("fakeredis://other").get("key") is None


def test_the_embedded_server_takes_the_options_of_a_real_one() -> None:
    """A project changes the URL between development and production, and nothing else."""
    client = connect(
        "fakeredis://options",
        timeout=3,
        pool_class=redis.BlockingConnectionPool,
        decode_responses=True,
        retry_on_timeout=True,
    )
    client.set("key", "value")
    assert client.get("key") == "value"


# --- Fork ---------------------------------------------------------------------------------------


@pytest.fixture
def forked_answer() -> Iterator[object]:
    """Run a function in a forked child and return what it answered, or fail if it hangs."""

    def run(function: object) -> str:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writing, str(function()).encode())  # type: ignore[operator]
            except BaseException as error:
                os.write(writing, repr(error).encode())
            finally:
                os._exit(0)
        os.close(writing)
        exit_code(pid)
        with os.fdopen(reading, "rb") as answers:
            return answers.read().decode()

    return run


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_never_uses_an_inherited_pool(
    redis_url: str, redis_client: redis.Redis, forked_answer: object
) -> None:
    """It works although the parent's pool and our own lock were held at the fork."""
    parent = connect(redis_url)
    parent.set("key", b"value")
    inherited = parent.connection_pool

    def in_child() -> bytes:
        assert connect(redis_url) is parent
        assert parent.connection_pool is not inherited
        return parent.get("key")  # type: ignore[return-value]

    from contextcache import servers

    with inherited._lock, inherited._fork_lock, servers._lock:
        assert forked_answer(in_child) == "b'value'"  # type: ignore[operator]
    assert parent.connection_pool is inherited
    assert parent.get("key") == b"value"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_an_embedded_server_of_its_own(forked_answer: object) -> None:
    """Its server is empty rather than a copy whose lock may be held; a client stays the same."""
    held = connect("fakeredis://fork")
    held.set("key", b"value")

    def in_child() -> object:
        found = held.get("key"), connect("fakeredis://fork") is held
        held.set("key", b"another")
        return *found, held.get("key")

    assert forked_answer(in_child) == "(None, True, b'another')"  # type: ignore[operator]
    assert held.get("key") == b"value"


# --- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host", "redis://host"),
        ("redis://user:hush@host:6379/0?ssl_password=hush", "redis://host:6379/0"),
        ("rediss://:hush@[::1]:6380/2", "rediss://[::1]:6380/2"),
        ("unix:///run/redis.sock?password=hush&db=1", "unix:///run/redis.sock"),
        ("fakeredis://", "fakeredis://"),
        ("fakeredis://name/2", "fakeredis://name/2"),
        ("redis://user:hu/sh@host/0", "redis://..."),
        ("redis://user:12#hush@host/0", "redis://..."),
        ("redis://user:12/hush@host/0", "redis://..."),
        ("redis://user:12?hush@host/0", "redis://..."),
        ("hush", "..."),
        ("", "..."),
    ],
)
def test_a_public_url_shows_no_secret(url: str, shown: str) -> None:
    """User, password and query are left out, and a malformed URL is not shown at all."""
    assert public_url(url) == shown
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "reds://host",
            (f"unknown Redis URL reds://: {SCHEMES}; did you mean redis://?"),
        ),
        (
            "memcached://host",
            (f"unknown Redis URL memcached://: {SCHEMES}"),
        ),
        (
            "127.0.0.1:6379",
            (f"unknown Redis URL without a scheme: {SCHEMES}"),
        ),
        ("redis://:hu/sh@host:6379/0", NO_PORT),
        ("redis://:12/sh@host:6379/0", NOT_ESCAPED),
        ("redis://:12#sh@host:6379/0", NOT_ESCAPED),
        ("redis://:12?sh@host:6379/0", NOT_ESCAPED),
        (
            "redis://host:6379/cache",
            "a Redis URL ends in the number of a database, such as redis://host:6379/0",
        ),
        (
            "redis://:hush@host/0?socket_timeout=hush",
            "redis://host/0 has a query option redis-py does not understand",
        ),
        (
            "redis://:hush@host/0?colour=hush",
            "redis://host/0: redis-py's connections have no option 'colour'",
        ),
        (
            "unix:///tmp/redis.sock?colour=hush",
            "unix:///tmp/redis.sock: redis-py's connections have no option 'colour'",
        ),
        (
            "redis+cluster://:hush@host?colour=hush",
            "redis+cluster://host: redis-py's connections have no option 'colour'",
        ),
        (
            "rediss+sentinel://:hush@host/shop?colour=hush",
            "rediss+sentinel://host/shop: redis-py's connections have no option 'colour'",
        ),
    ],
)
def test_a_url_that_cannot_be_understood_says_why(url: str, message: str) -> None:
    """The message names what is allowed and the nearest valid scheme, and no secret."""
    with pytest.raises(ConfigurationError) as caught:
        connect(url)
    assert str(caught.value) == message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "fakeredis://"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(url: str) -> None:
    """The packages are imported when the first client is made, not with contextcache."""
    package = url.partition("://")[0]
    program = (
        "import sys; sys.modules.update(redis=None, fakeredis=None)\n"
        "from contextcache.servers import connect\n"
        f"try: connect({url!r})\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"ConfigurationError {package}:// needs the package {package}: "
        "pip install 'contextcache-web[redis]'\n"
    )


# --- Outages ------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> list[object]:
    """Return a list that gets longer with every call of the function `name` of `owner`."""
    calls: list[object] = []
    function = getattr(owner, name)

    def call(*args: Any, **options: Any) -> Any:
        calls.append(name)
        return function(*args, **options)

    monkeypatch.setattr(owner, name, call)
    return calls


@pytest.mark.parametrize("call", ["command", "pipeline"])
def test_a_refused_connection_names_the_url_at_once(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """At the first attempt, without a pause: for a command and for a pipeline."""
    port = free_port()
    client = connect(f"redis://user:hush@127.0.0.1:{port}/0")
    attempts = counted(monkeypatch, client.connection_pool.connection_class, "_connect")
    pauses = counted(monkeypatch, redis.retry, "sleep")
    with pytest.raises(ServerError) as caught:
        client.get("key") if call == "command" else client.pipeline().get("key").execute()
    assert (len(attempts), len(pauses)) == (1, 0)
    assert str(caught.value) == (
        f"Redis at redis://127.0.0.1:{port}/0 cannot be reached: connection refused; "
        "start the server or correct the URL"
    )


def test_the_error_is_still_what_redis_py_raises() -> None:
    """Handlers written for redis-py keep working, and the error can be pickled."""
    client = connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(redis.ConnectionError) as caught:
        client.get("key")
    error = caught.value
    assert isinstance(error, ServerError)
    assert isinstance(error, ConnectionError)
    assert isinstance(error.__cause__, redis.ConnectionError)
    assert repr(error)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is ServerError
    assert str(copy) == str(error)


def test_a_silent_server_is_given_up_after_the_timeout() -> None:
    """A server that accepts and says nothing costs the timeout, and not redis-py's minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        started = time.monotonic()
        with pytest.raises(redis.TimeoutError) as caught:
            connect(url, timeout=0.2).get("key")
        assert time.monotonic() - started < 10
    assert str(caught.value) == (
        f"Redis at {url} cannot be reached: no answer in time; "
        "see whether the server is overloaded, or raise TIMEOUT"
    )


def test_a_server_that_wants_a_password_says_so() -> None:
    """A wrong password is not called an outage, and is not repeated."""
    with running_redis("--requirepass", "right") as url:
        wrong = url.replace("redis://", "redis://:hush@")
        with pytest.raises(ServerError) as caught:
            connect(wrong).get("key")
    assert str(caught.value) == (
        f"Redis at {url} cannot be used: it wants another user or password; correct them in the URL"
    )


def test_a_missing_socket_is_named() -> None:
    """A Unix socket that is not there is told from one that refuses."""
    with pytest.raises(ServerError) as caught:
        connect("unix:///nowhere/redis.sock").get("key")
    assert str(caught.value) == (
        "Redis at unix:///nowhere/redis.sock cannot be reached: there is no such socket; "
        "start the server or correct the URL"
    )


def test_a_server_that_came_back_is_used_again() -> None:
    """A connection that died in the pool costs nothing but a new connection."""
    with running_server() as server, server.client() as other:
        client = connect(server.url)
        assert client.set("key", b"value")
        other.client_kill_filter(_type="normal", skipme=True)
        assert client.get("key") == b"value"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("db=99", "it has no database of this number (DB index is out of range)"),
        ("client_name=a%20b", "it refuses a command with which a connection begins"),
        ("username=ann&password=hush", "it wants another user or password"),
    ],
)
def test_a_refused_handshake_is_about_the_server(redis_url: str, query: str, words: str) -> None:
    """No command of the application has caused it, so every operation says what is wrong."""
    client = connect(f"{redis_url}?{query}")
    for _ in range(2):
        for operation in (
            lambda: client.get("key"),
            lambda: client.mget(["key"]),
            lambda: client.pipeline().get("key").execute(),
            lambda: next(client.scan_iter()),
            client.dbsize,
        ):
            with pytest.raises(ServerError, match=re.escape(words)) as caught:
                operation()
            assert "hush" not in str(caught.value)


REFUSED = ConnectionRefusedError()
REPLICA = redis.exceptions.ReadOnlyError("hush")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (REFUSED, "cannot be reached: connection refused; start the server or correct the URL"),
        (socket.gaierror(), "cannot be reached: the host name is unknown; correct the URL"),
        (
            PermissionError(),
            (
                "cannot be reached: permission denied; let this process's user read and write the "
                "socket"
            ),
        ),
        (
            redis.ConnectionError("hush"),
            ("cannot be reached: the connection was lost; see whether the server is still running"),
        ),
        (
            redis.InvalidResponse("hush"),
            (
                "cannot be reached: what answers is not Redis; correct the URL, or the proxy in "
                "between"
            ),
        ),
        (
            redis.exceptions.BusyLoadingError("hush"),
            "cannot be used: it is still loading its data (LOADING); try again in a moment",
        ),
        (
            redis.exceptions.NoPermissionError("hush"),
            (
                "cannot be used: this user may not do that (NOPERM); extend the rights of the user "
                "in the URL"
            ),
        ),
        (
            redis.ResponseError("BUSY hush"),
            "cannot be used: a script keeps it busy (BUSY); end the script with SCRIPT KILL",
        ),
        (
            redis.exceptions.MasterDownError("hush"),
            (
                "cannot be used: it is a replica without its master (MASTERDOWN); start the "
                "master, or set replica-serve-stale-data"
            ),
        ),
        (
            redis.exceptions.ClusterDownError("hush"),
            (
                "cannot be reached: the cluster has lost a part of its slots (CLUSTERDOWN); "
                "start the missing nodes"
            ),
        ),
        (
            redis.exceptions.MovedError("1 127.0.0.1:1"),
            (
                "cannot be used: it is a node of a Redis Cluster (MOVED); begin the URL with "
                "redis+cluster://"
            ),
        ),
        (
            redis.ResponseError("WRONGTYPE hush"),
            (
                "cannot be used: under this key it holds something else than a value (WRONGTYPE); "
                "delete the key; if it comes back, look for who else writes it"
            ),
        ),
        (
            redis.OutOfMemoryError("hush"),
            (
                "takes no writes: its memory is full (OOM); raise maxmemory, or set "
                "maxmemory-policy to one that evicts"
            ),
        ),
        (REPLICA, "takes no writes: it is a replica (READONLY); name the master in the URL"),
        (
            redis.ResponseError(
                "Command # 1 (SET a MISCONF) of pipeline caused error: MISCONF hush"
            ),
            (
                "takes no writes: it cannot save its data to disk (MISCONF); see its log, or set "
                "stop-writes-on-bgsave-error to no"
            ),
        ),
        (
            redis.ResponseError("NOREPLICAS hush"),
            "takes no writes: too few replicas follow it (NOREPLICAS); start them",
        ),
    ],
)
def test_every_kind_of_outage_has_its_words(error: Exception, words: str) -> None:
    """The reason comes from the type of the error or its code, never from its text."""
    named = server_error("redis://:hush@host:6379/0", error)
    assert str(named) == f"Redis at redis://host:6379/0 {words}"
    assert isinstance(named, ServerError)
    assert named.server == "redis://host:6379/0"
    assert words.split(": ", 1)[1].startswith(named.reason)
    assert isinstance(named, ReadOnlyServerError) == words.startswith("takes no writes")


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError(
            "Command # 1 (SET OOM BUSY) of pipeline caused error: ERR syntax error"
        ),
        redis.DataError("Invalid input of type: 'object'"),
        ValueError(),
    ],
)
def test_an_error_of_the_command_is_none_of_the_server(error: Exception) -> None:
    """What is wrong with a command is left as redis-py raised it."""
    assert server_error("redis://host", error) is None


def test_the_cause_counts_where_the_error_itself_says_little() -> None:
    """redis-py wraps what the socket said; the reason is found behind it."""
    outer = redis.ConnectionError("Error 111")
    outer.__context__ = REFUSED
    assert "connection refused" in str(server_error("redis://host", outer))


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"ex": 60}, {"nx": True}, {"xx": True}, {"ex": 60, "nx": True}, {"px": 60_000}),
        *({"ex": dt.timedelta(minutes=1)}, {"keepttl": True, "xx": True}, {"get": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [None, b"before"])
def test_set_does_what_redis_py_does(
    redis_url: str, redis_client: redis.Redis, options: dict[str, Any], before: bytes | None
) -> None:
    """The usual options are sent by a shorter way, alone and in a pipeline."""
    kept = connect(redis_url)
    found = []
    for client in (redis_client, kept, redis_client.pipeline(), kept.pipeline()):
        redis_client.delete("key")
        if before is not None:
            redis_client.set("key", before)
        answer = client.set("key", b"value", **options)
        if isinstance(client, redis.client.Pipeline):
            (answer,) = client.execute()
        found.append((answer, redis_client.get("key"), redis_client.ttl("key") > 30))
    assert len(set(found)) == 1
    # redis-py refuses it since its version 7, and Redis before.
    with pytest.raises((redis.DataError, redis.ResponseError)):
        kept.set("key", b"value", nx=True, xx=True)
