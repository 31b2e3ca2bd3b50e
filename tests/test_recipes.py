"""The recipes of docs/recipes.md, with the libraries themselves, a real Redis and real workers."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import re
import shutil
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from contextcache import UncacheableValueError, UnreadablePayloadError
from contextcache.testing import capture_findings
from tests.child import INTERNAL_ERROR, ROOT
from tests.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import ModuleType

    import redis

PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = {
    match["name"]: match["text"]
    for match in re.finditer(
        r"^<!-- (?P<name>[\w ]+) -->\n```\w+\n(?P<text>.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
}
SECRET = "SECRET_KEY = 'only for tests'\n"
SHOP = """\
import threading

class Client:
    def __init__(self):
        self.name = "ann"
        self._lock = threading.Lock()

class Invoice:
    def __init__(self):
        self.client = Client()

def store(put):
    put("key", {"invoice": Invoice(), "total": 12})

def send(number, invoice=None):
    return {"sent": number}

def give_back(number):
    return {"invoice": Invoice()}
"""
UNSIGNED = b"\x80\x05K\x01."
# What cashews and aiocache call, and redis-py has under other names
renamed = pytest.mark.filterwarnings(
    r"ignore:Call to deprecated (close|setex)\.:DeprecationWarning"
)


def test_every_block_is_executed_here() -> None:
    """No block of the page is unknown to these tests."""
    source = (ROOT / "tests" / "test_recipes.py").read_text(encoding="utf-8")
    named = set(re.findall(r'(?:BLOCKS\[|block\(|recipe\()"([\w ]+)"', source))
    assert named == set(BLOCKS)
    assert len(BLOCKS) == len(re.findall(r"^```\w+$", PAGE, re.MULTILINE))


@pytest.fixture(autouse=True)
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `shop` of an application, which workers can import, too."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")
    yield importlib.import_module("shop")
    for name in ("shop", "shop_jobs"):
        sys.modules.pop(name, None)


@pytest.fixture
def block(redis_client: redis.Redis, redis_url: str) -> Callable[[str], str]:
    """Return the text of a block, with the address of this Redis."""
    port = redis_url.rpartition(":")[2].partition("/")[0]

    def text(name: str) -> str:
        return BLOCKS[name].replace("localhost", "127.0.0.1").replace("6379", port)

    return text


@pytest.fixture
def recipe(block: Callable[[str], str]) -> Callable[[str], Any]:
    """Execute a block."""

    def execute(name: str, **names: Any) -> dict[str, Any]:
        exec(SECRET + block(name), names)
        return names

    return execute


def check(value: Any) -> None:
    """Check that a value came back with all but its lock, which is a new one."""
    assert value["total"] == 12
    assert value["invoice"].client.name == "ann"
    assert not value["invoice"].client._lock.locked()


# Caches


def test_dogpile_cache(
    recipe: Callable[[str], Any],
    shop: ModuleType,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    """The value is stored, the log names the field, and an unsigned payload is a miss."""
    from dogpile.cache.api import NO_VALUE

    region = recipe("dogpile")["region"]
    shop.store(region.set)
    assert caplog.messages == [BLOCKS["log"].strip().replace("shop.py", str(tmp_path / "shop.py"))]
    check(region.get("key"))
    made = region.cache_on_arguments()(shop.give_back)
    assert made(7)["invoice"].client.name == made(7)["invoice"].client.name == "ann"
    metadata, found, _ = (redis_client.get("key") or b"").partition(b"|")
    redis_client.set("key", metadata + found + UNSIGNED)
    assert region.get("key") is NO_VALUE
    assert "counts as a miss: it is not signed" in caplog.text
    region.backend.reader_client.close()


@renamed
def test_cashews(
    recipe: Callable[[str], Any],
    shop: ModuleType,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same, and numbers stay numbers."""
    cache = recipe("cashews")["cache"]

    async def use() -> None:
        with capture_findings() as findings:
            await cache.set("key", {"invoice": shop.Invoice(), "total": 12}, expire="1h")
        assert [str(one.path) for one in findings] == ["value['invoice'].client._lock"]
        check(await cache.get("key"))
        redis_client.set("key", UNSIGNED)
        assert await cache.get("key", default="a miss") == "a miss"
        assert "counts as a miss: it is not signed" in caplog.text
        await cache.set("number", 4)
        assert await cache.incr("number") == 5
        await cache.close()

    asyncio.run(use())


@renamed
def test_aiocache(
    recipe: Callable[[str], Any],
    shop: ModuleType,
    redis_client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same."""
    cache = recipe("aiocache")["cache"]

    async def use() -> None:
        with capture_findings() as findings:
            await cache.set("key", {"invoice": shop.Invoice(), "total": 12}, ttl=60)
        assert [str(one.path) for one in findings] == ["value['invoice'].client._lock"]
        check(await cache.get("key"))
        check((await cache.multi_get(["key", "other"]))[0])
        redis_client.set("key", UNSIGNED)
        assert await cache.get("key", default="a miss") == "a miss"
        assert "counts as a miss: it is not signed" in caplog.text
        await cache.close()

    asyncio.run(use())


PLAIN = [1, -(2**63), 2**63, 2**70, 1.5, True, None, "text", b"bytes", "t" * 99999, b"b" * 99999]


def test_diskcache(
    recipe: Callable[[str], Any],
    block: Callable[[str], str],
    shop: ModuleType,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The value comes back from a row or a file, and so does what diskcache does not pickle."""
    names = {"SECRET_KEY": "only for tests"}
    exec(block("diskcache").replace("/var/cache/shop", str(tmp_path / "cache")), names)
    with names["cache"] as cache:
        with capture_findings() as findings:
            shop.store(cache.set)
        assert [str(one.path) for one in findings] == ["value['invoice'].client._lock"]
        check(cache["key"])
        cache["large"] = {"invoice": shop.Invoice(), "total": 12, "text": "t" * 99999}
        check(cache["large"])
        for value in PLAIN:
            cache["plain"] = value
            assert (cache["plain"], type(cache["plain"])) == (value, type(value))
        cache.incr("number", 4)
        assert cache.incr("number") == cache["number"] == 5
        with contextlib.closing(type(cache)(cache.directory, disk=names["Disk"])) as stock:
            stock["key"] = (1, 2)  # pickled, and not signed
        assert cache.get("key", "a miss") == "a miss"
        assert "key" in cache
        assert "counts as a miss: it is not signed" in caplog.text


# Jobs


def refused(call: Callable[[], Any], error: type[Exception] = UncacheableValueError) -> list[str]:
    """Return the paths in the error of a job that is refused."""
    with pytest.raises(error) as caught:
        call()
    return re.findall(r"CC102 (\S+) ", str(caught.value))


def jobs(tmp_path: Path, *texts: str) -> Any:
    """Write the module `shop_jobs`, which a worker imports as well, and import it."""
    (tmp_path / "shop_jobs.py").write_text("\n".join([SECRET, *texts]))
    return importlib.import_module("shop_jobs")


@contextlib.contextmanager
def worker(tmp_path: Path, *command: str) -> Iterator[Callable[[], str]]:
    """Run a worker; yields what returns its log so far, in which there is no internal error."""
    log = tmp_path / "worker.log"
    with log.open("w") as output, contextlib.ExitStack() as stack:
        program = shutil.which(command[0], path=os.path.dirname(sys.executable))
        assert program is not None, command[0]
        process = subprocess.Popen(
            [program, *command[1:]], cwd=tmp_path, stdout=output, stderr=subprocess.STDOUT
        )
        stack.callback(process.wait, PATIENCE)
        stack.callback(process.terminate)
        yield log.read_text
    assert INTERNAL_ERROR not in log.read_text()


def test_rq(
    recipe: Callable[[str], Any],
    block: Callable[[str], str],
    shop: ModuleType,
    redis_client: redis.Redis,
    tmp_path: Path,
) -> None:
    """A worker runs what can be stored; anything else is refused by the name of the argument."""
    guard = jobs(tmp_path, block("rq guard")).guard
    queue = recipe("rq queue")["queue"]
    (tmp_path / "views.py").write_text(
        "\n" * 6 + "def view(queue, shop):\n    queue.enqueue(shop.send, 7, shop.Invoice())\n"
    )
    view = importlib.import_module("views").view
    with pytest.raises(UncacheableValueError) as error:
        view(queue, shop)
    said = str(error.value).replace(f"{tmp_path}{os.sep}", "")
    assert said == BLOCKS["refused"].strip()
    assert refused(lambda: queue.enqueue(shop.send, 7, invoice=shop.Invoice())) == [
        "job.kwargs['invoice'].client._lock"
    ]
    assert queue.count == 0

    job, other = queue.enqueue(shop.send, 7), queue.enqueue(shop.give_back, 8)
    forged = queue.enqueue(shop.send, 9)
    redis_client.hset(forged.key, "data", UNSIGNED)
    with worker(tmp_path, *block("rq worker").split(), "--burst") as log:
        until(lambda: forged.get_status(refresh=True) in ("finished", "failed"), why="no worker")
    assert job.return_value() == {"sent": 7}
    assert type(other.return_value()) is str  # as the page says
    assert "CC102" not in log()
    assert forged.get_status() == "failed"
    assert "it is not signed" in log()
    queue.connection.close()
    with pytest.raises(UnreadablePayloadError):  # what was signed for a job is nothing else
        type(guard).__mro__[1](secret_keys=["only for tests"]).loads(guard.dumps("result"))


def test_huey(block: Callable[[str], str], shop: ModuleType, tmp_path: Path) -> None:
    """The same, with its consumer."""
    tasks = jobs(
        tmp_path,
        block("huey"),
        "import shop\nsend, give_back = huey.task()(shop.send), huey.task()(shop.give_back)",
    )
    assert refused(lambda: tasks.send(7, shop.Invoice())) == ["job.args[1].client._lock"]
    assert refused(lambda: tasks.send(7, invoice=shop.Invoice())) == [
        "job.kwargs['invoice'].client._lock"
    ]
    assert tasks.huey.pending_count() == 0
    result, _ = tasks.send(7), tasks.give_back(8)
    later = tasks.send.schedule((9,), delay=1)
    with worker(tmp_path, "huey_consumer", "shop_jobs.huey", "--workers", "1") as log:
        assert result.get(blocking=True, timeout=PATIENCE) == {"sent": 7}
        assert later.get(blocking=True, timeout=PATIENCE) == {"sent": 9}
        until(lambda: "value['invoice'].client._lock (_thread.lock)" in log())
    tasks.huey.storage.conn.close()


def test_celery(
    block: Callable[[str], str], shop: ModuleType, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """The same, with its worker; kombu wraps the error, and what a chain passes on is named."""
    from kombu.exceptions import EncodeError
    from kombu.serialization import unregister

    tasks = jobs(
        tmp_path,
        block("celery"),
        "import shop\nsend, give_back = app.task(shop.send), app.task(shop.give_back)",
    )
    invoice = shop.Invoice()
    try:
        assert refused(lambda: tasks.send.delay(7, invoice), EncodeError) == [
            "job.args[1].client._lock"
        ]
        assert refused(lambda: tasks.send.delay(7, invoice=invoice), EncodeError) == [
            "job.kwargs['invoice'].client._lock"
        ]
        chain = tasks.send.si(7) | tasks.send.si(8, invoice)
        assert refused(chain.delay, EncodeError) == [
            "job.embed['chain'][0]['args'][1].client._lock"
        ]
        assert redis_client.llen("celery") == 0
        sent, failed = tasks.send.delay(7), tasks.give_back.delay(8)
        chained = (tasks.send.si(8) | tasks.send.si(9)).delay()
        with worker(tmp_path, "celery", "-A", "shop_jobs", "worker", "--pool", "solo"):
            assert sent.get(timeout=PATIENCE) == {"sent": 7}
            assert chained.get(timeout=PATIENCE) == {"sent": 9}
            with pytest.raises(EncodeError, match=r"value\['result'\]\['invoice'\]\.client\._lock"):
                failed.get(timeout=PATIENCE)
        tasks.app.conf.update(task_always_eager=True, task_store_eager_result=True)
        assert refused(lambda: tasks.send.delay(7, invoice), EncodeError) == [
            "job.args[1].client._lock"
        ]
    finally:
        unregister("contextcache")
        tasks.app.close()
        tasks.app.backend.client.close()


# multiprocessing

REPORT = """\
import threading

class Client:
    def __init__(self):
        self._local = threading.local()

class Report:
    def __init__(self):
        self.client = Client()

def use(report):
    return report.client
"""


def test_multiprocessing(
    shop: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own error names no field; `explain` and `assert_cacheable` do."""
    (tmp_path / "shop.py").write_text(REPORT)
    importlib.reload(shop)
    script = """
        import sys, shop
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        if __name__ == "__main__":
            spawn = get_context("spawn")
            with ProcessPoolExecutor(1, spawn) as executor, spawn.Pool(1) as pool:
                for ask in (executor.submit(shop.use, shop.Report()).result,
                            pool.apply_async(shop.use, [shop.Report()]).get):
                    try:
                        ask()
                    except TypeError as error:
                        print(f"TypeError: {error}")
                pool.close()
                pool.join()
    """
    (tmp_path / "main.py").write_text(textwrap.dedent(script))
    done = subprocess.run(
        [sys.executable, "main.py"],
        *(), cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == 2 * BLOCKS["stock"]

    exec(BLOCKS["explain"], {"report": shop.Report()})
    said = capsys.readouterr().out.replace(f"{tmp_path}{os.sep}", "")
    assert said == BLOCKS["explained"]
    names: dict[str, Any] = {"Report": shop.Report}
    exec(BLOCKS["test"], names)
    with pytest.raises(AssertionError) as error:
        names["test_a_report_can_be_sent_to_a_worker"]()
    assert f"AssertionError: {error.value}\n" == BLOCKS["failed"]
