"""`manage.py contextcache`: the audit that knows the project's prefix, secrets and caches."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import CommandError, call_command

from contextcache.commands.options import STATUS
from contextcache_django.checks import BACKEND
from contextcache_django.sessions import SessionStore
from tests.child import ROOT
from tests.django.shop import Item, dirty_cart
from tests.redis_server import free_port
from tests.waiting import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import redis


def run(*arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    try:
        call_command("contextcache", *arguments, stdout=out)
    except SystemExit as ended:
        return int(str(ended.code)), out.getvalue()
    return 0, out.getvalue()


def problems(report: str) -> dict[str, list[str]]:
    told = json.loads(report)["problems"]
    return {
        name: [example["key"] for example in one["examples"]]
        for name, one in told.items()
        if one["entries"]
    }


@pytest.fixture
def shop(configure: Any, redis_client: redis.Redis, redis_url: str) -> Any:
    """Our cache with a prefix, on a Redis it shares with others."""
    redis_client.set("celery", b"\x80\x05broken")
    return configure(redis_url, KEY_PREFIX="shop")


def test_the_entries_of_a_cache_are_verified_with_the_secrets_of_the_project(shop: Any) -> None:
    """Nothing has to be named, and what others keep in the same Redis is left alone."""
    shop.set("item", Item("tea"))
    shop.set("item", Item("tea"), version=2)
    shop.set("visits", 3)
    status, report = run("audit", "--json")
    told = json.loads(report)
    assert status == 0
    assert told["server"] == "CACHES['default'] shop:*"
    assert told["forms"] | {"signed": 2, "number": 1} == told["forms"]
    assert told["names"]["signed"] == ["tests.django.shop:Item"]


@pytest.mark.parametrize("embedded", [True, False])
def test_an_embedded_redis_is_said_to_be_one(
    configure: Any, redis_url: str, embedded: bool
) -> None:
    """It is empty here, whatever the server has stored in its own."""
    configure(f"fakeredis://{secrets.token_hex(4)}/0" if embedded else redis_url)
    out, err = io.StringIO(), io.StringIO()
    call_command("contextcache", "audit", stdout=out, stderr=err)
    assert err.getvalue() == embedded * (
        "CACHES['default'] is embedded in each process, fakeredis://: what a server stores in it "
        "is not seen here\n"
    )


def test_what_is_wrong_is_told(
    shop: Any, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unsigned, torn and of a class that is gone; the exit status is 1."""
    redis_client.set("shop:1:planted", pickle.dumps({}, 5))
    shop.set("torn", {})
    redis_client.setrange("shop:1:torn", 45, b"x")
    shop.set("gone", Item("tea"))
    monkeypatch.delattr(sys.modules["tests.django.shop"], "Item")
    status, report = run("audit", "--json")
    assert status == 1
    assert problems(report) == {
        "unsigned": ["shop:1:planted"],
        "untrusted": ["shop:1:torn"],
        "gone": ["shop:1:gone"],
    }


def test_unsigned_entries_are_no_problem_during_a_migration(
    shop: Any, redis_client: redis.Redis, settings: Any
) -> None:
    """As long as they are read."""
    settings.CONTEXTCACHE = {"ACCEPT_UNSIGNED": True}
    redis_client.set("shop:1:old", pickle.dumps({}, 5))
    assert run("audit", "--json")[0] == 0


def test_a_key_that_is_no_text_is_looked_for(shop: Any, redis_client: redis.Redis) -> None:
    """Python has its bytes as half characters."""
    redis_client.set(b"page:\xff", pickle.dumps(None, 5))
    assert run("explain", "page:\udcff")[0] == 0
    assert run("explain", "page:\udcfe")[0] == 2


@pytest.mark.django_db
def test_sessions_are_entries_too(shop: Any, client: Any) -> None:
    """Signed for another purpose, and under a hash of their id."""
    client.get("/cart")
    session = client.session.session_key
    status, report = run("audit")
    assert status == 0
    assert "1 signed" in report
    assert session not in report


@pytest.mark.parametrize(
    "entry",
    [
        {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "OPTIONS": {"serializer": "contextcache_django.serializers.CacheSerializer"},
        },
        {
            "BACKEND": "django_redis.cache.RedisCache",
            "OPTIONS": {"SERIALIZER": "contextcache_django.serializers.DjangoRedisSerializer"},
        },
        {"BACKEND": "django.core.cache.backends.redis.RedisCache"},
        {"BACKEND": "django_redis.cache.RedisCache"},
    ],
)
def test_other_backends_in_redis_are_audited_too(
    settings: Any, redis_client: redis.Redis, redis_url: str, entry: dict[str, Any]
) -> None:
    """With our serializer they sign; without it, they have their plain pickles counted."""
    from django.core.cache import caches

    settings.CACHES = {"default": {"LOCATION": redis_url, **entry}}
    caches["default"].set("item", Item("tea"))
    status, report = run("audit", "--json")
    assert status == 0
    assert json.loads(report)["forms"]["signed" if "OPTIONS" in entry else "pickle"] == 1


@pytest.mark.parametrize(
    "name", ["zlib.ZlibCompressor", "gzip.GzipCompressor", "lzma.LzmaCompressor"]
)
@pytest.mark.parametrize("guarded", [True, False])
def test_what_django_redis_compresses_is_looked_into(
    settings: Any, redis_client: redis.Redis, redis_url: str, name: str, guarded: bool
) -> None:
    """It compresses what the serializer returns, so ours is verified inside of that."""
    from django.core.cache import caches

    options = {"COMPRESSOR": f"django_redis.compressors.{name}"}
    if guarded:
        options["SERIALIZER"] = "contextcache_django.serializers.DjangoRedisSerializer"
    backend = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": redis_url}
    settings.CACHES = {"default": {**backend, "OPTIONS": options}}
    caches["default"].set("rows", [Item("tea")] * 100)
    status, report = run("audit", "--json")
    told = json.loads(report)
    assert status == 0
    assert told["forms"]["signed" if guarded else "compressed"] == 1
    assert told["types"][0]["type"] == "list"
    assert "tests.django.shop.Item" in run("explain", "rows")[1]


def test_a_cache_elsewhere_says_so(settings: Any) -> None:
    """There is nothing to scan in a memory."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    with pytest.raises(CommandError, match=r"^CACHES\['default'\] is not in Redis: "):
        run("audit")


def test_a_cache_that_is_not_there_names_those_that_are(shop: Any) -> None:
    """A typo is found at a glance."""
    for arguments in (("audit", "sessions"), ("explain", "item", "--cache", "sessions")):
        with pytest.raises(CommandError, match=r"^CACHES has no 'sessions'; it has 'default'$"):
            run(*arguments)


@pytest.mark.parametrize("key", ["item", "shop:1:item"])
def test_an_entry_is_explained_by_its_key(shop: Any, key: str) -> None:
    """As the application calls it, or as Redis does."""
    shop.set("item", Item("tea"))
    status, report = run("explain", key)
    assert status == 0
    assert report.startswith("shop:1:item: ")
    assert "Item" in report
    assert "tea" not in report


def test_an_entry_shows_no_keys_where_keys_are_redacted(shop: Any, settings: Any) -> None:
    """By the setting of the project, or for this once."""
    shop.set("item", {"canary": Item("tea")})
    assert "canary" in run("explain", "item")[1]
    assert "canary" not in run("explain", "item", "--redact-keys")[1]
    settings.CONTEXTCACHE = {"REDACT_KEYS": True}
    assert "canary" not in run("explain", "item")[1]


def test_a_key_that_is_not_there_is_named(
    shop: Any, capsys: pytest.CaptureFixture[str], configure: Any
) -> None:
    """A key that has expired is not taken for a typo in the name of a module; nor is an outage."""
    assert run("explain", "item:7") == (2, "")
    told = "contextcache: item:7 cannot be imported: there is no module item"
    assert capsys.readouterr().err == f"{told}; nor is it a key of CACHES['default']\n"
    url = f"redis://127.0.0.1:{free_port()}/0"  # not one that other tests have found silent
    configure(url)
    assert run("explain", "item:7") == (2, "")
    err = capsys.readouterr().err
    assert err.startswith(f"{told}\ncontextcache: Redis at {url} cannot be reached: ")
    assert err.count("\n") == 2


STOCK = [
    "contextcache_django.cache.RedisCache",
    "django.core.cache.backends.redis.RedisCache",
    "django_redis.cache.RedisCache",
]


@pytest.mark.parametrize("backend", STOCK)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda url: url[:-1] + "99", "range"),
        (lambda url: url.replace("://", "://nobody:secret-pw@"), "user or password"),
        (lambda _: "redis://127.0.0.1:1/0", "refused"),
    ],
)
def test_a_server_that_cannot_be_used_is_one_line(
    settings: Any, redis_url: str, capsys: Any, *, backend: str, change: Any, reason: str
) -> None:
    """Whichever client the cache has: the reason, status 2, no traceback, no password."""
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": change(redis_url)}}
    for arguments in (["audit"], ["audit", "--json"], ["explain", "user:7"]):
        assert run(*arguments) == (2, "")
        err = capsys.readouterr().err
        assert reason in err.splitlines()[-1]
        assert len(err.splitlines()) == (2 if "explain" in arguments else 1)
        assert "secret-pw" not in err


def test_several_codes_are_explained_without_any_redis(
    configure: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """As messages print them; a code that does not exist is named, with status 2."""
    configure("redis://127.0.0.1:1/0")
    status, report = run("explain", "CC102,", "CC101")
    assert status == 0
    assert "# CC102" in report
    assert "# CC101" in report
    assert run("explain", "CC102,", "CC999")[0] == 2
    assert "there is no code 'CC999'" in capsys.readouterr().err


def test_what_cannot_be_looked_at_ends_with_2(settings: Any) -> None:
    """As `contextcache audit` does, and not with the 1 of something found."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    for arguments in (("audit",), ("audit", "typo"), ("explain", "item", "--cache", "typo")):
        with pytest.raises(CommandError) as failed:
            run(*arguments)
        assert failed.value.returncode == 2


def test_a_value_of_the_project_is_explained_by_its_name(shop: Any) -> None:
    """What it would cost, and what would be cut."""
    status, report = run("explain", f"{__name__}:dirty_cart")
    assert status == 1
    assert "CC102 value.items[1].client._lock" in report
    assert dirty_cart is not None


def test_a_value_is_loaded_in_a_fresh_process(shop: Any) -> None:
    """A row of a model, for which Django is set up there, too."""
    assert run("explain", "--fresh", f"{__name__}:content_type")[0] == 0


def content_type() -> object:
    from django.contrib.contenttypes.models import ContentType

    return [ContentType(app_label="shop", model="cart")]


def test_an_entry_is_never_loaded(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What is in Redis may be anybody's."""
    shop.set("item", Item("tea"))
    assert run("explain", "--fresh", "item") == (2, "")
    assert "no payload from a file or from Redis" in capsys.readouterr().err


def test_a_value_is_explained_without_any_redis(configure: Any) -> None:
    """An outage is no reason not to look at a value."""
    configure("redis://127.0.0.1:1/0")
    assert run("explain", f"{__name__}:dirty_cart")[0] == 1
    assert run("audit")[0] == 2


def test_the_command_is_found_by_manage_py(capsys: pytest.CaptureFixture[str]) -> None:
    """Its help keeps its lines, and ends with what the exit status means."""
    from django.core.management import get_commands

    assert get_commands()["contextcache"] == "contextcache_django"
    with pytest.raises(SystemExit):
        call_command("contextcache", "explain", "--help")
    told = capsys.readouterr().out
    assert "\n                      user:42             an entry of the cache, by its key\n" in told
    assert told.endswith(f"\n{STATUS}\n")


def test_the_check_says_that_everything_is_guarded(configure: Any, redis_url: str) -> None:
    """In the same words as `flask contextcache check`."""
    configure(redis_url)
    assert run("check") == (0, "contextcache: everything is guarded\n")


def test_the_check_names_what_the_system_checks_do(
    configure: Any, redis_url: str, settings: Any
) -> None:
    """Without those that are silenced; the exit status is 1."""
    configure(redis_url)
    settings.CONTEXTCACHE = {"SIGN": False}
    status, report = run("check")
    assert status == 1
    assert report.startswith("contextcache.W005: CONTEXTCACHE['SIGN'] is False: ")
    assert report.splitlines()[1].startswith("    HINT: ")
    settings.SILENCED_SYSTEM_CHECKS = ["contextcache.W005"]
    assert run("check") == (0, "contextcache: everything is guarded\n")


def test_the_check_names_warnings_beside_errors(
    configure: Any, redis_url: str, settings: Any
) -> None:
    """All that `manage.py check --deploy` names, in one run."""
    configure(redis_url)
    settings.CACHES = {
        **settings.CACHES,
        "embedded": {"BACKEND": BACKEND, "LOCATION": "fakeredis://"},
    }
    settings.CONTEXTCACHE = {"MODES": "strip", "SIGN": False}
    status, report = run("check")
    assert status == 1
    assert re.findall(r"^contextcache\.(\w+): ", report, re.MULTILINE) == ["E001", "W005", "W010"]


@pytest.mark.parametrize("backend", [BACKEND, "django.core.cache.backends.redis.RedisCache"])
def test_the_check_connects_to_each_redis(settings: Any, redis_url: str, backend: str) -> None:
    """Replicas, too; one that does not answer is named, without its password."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    location = [redis_url, url.replace("//", "//:canary@")]
    if backend != BACKEND:  # whose own client says nothing of its replicas
        location.reverse()
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": location}}
    status, report = run("check")
    assert status == 1
    assert "contextcache.E007: " in report
    assert f"{url if backend == BACKEND else 'CACHES'}" in report
    assert "cannot be reached: connection refused.\n    HINT: Start the server or" in report
    assert "canary" not in report


def test_a_session_is_shown_by_its_id(
    configure: Any, redis_url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key in Redis is a hash that nobody types; it is verified and not loaded."""
    cache = configure(redis_url)
    settings.SESSION_ENGINE = "contextcache_django.sessions"
    session = SessionStore()
    session["cart"] = {"items": ["tea"]}
    session.save()
    status, report = run("explain", "--session", str(session.session_key))
    assert status == 0
    assert report.startswith("session: ")
    assert "['cart']  dict" in report
    assert "read without loading it" in report
    cache.connection().set(session.redis_key(str(session.session_key)), b"torn")
    assert run("explain", "--session", str(session.session_key))[0] != 0
    assert run("explain", "--session", "unknown")[0] == 2


def test_a_session_of_another_engine_cannot_be_shown(
    configure: Any, redis_url: str, settings: Any
) -> None:
    """The message says which can."""
    configure(redis_url)
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    with pytest.raises(
        CommandError, match=r"only those of 'contextcache_django\.sessions'"
    ) as told:
        run("explain", "--session", "x")
    assert told.value.returncode == 2


def test_without_a_target_the_command_says_what_it_needs(configure: Any, redis_url: str) -> None:
    """With the status of every command that cannot look."""
    configure(redis_url)
    with pytest.raises(CommandError, match="name a target, or a session with --session ID") as told:
        run("explain")
    assert told.value.returncode == 2


@pytest.fixture
def manage(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return what runs `manage.py contextcache` in a process of its own."""
    script = tmp_path / "manage.py"
    script.write_text(
        "import sys; from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    variables = {
        "DJANGO_SETTINGS_MODULE": "tests.django.settings",
        "PYTHONPATH": str(ROOT),
    }

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(script), "contextcache", *arguments],
            cwd=ROOT,
            env={**os.environ, **variables},
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
            **options,
        )

    return run


def test_the_bare_command_shows_its_help(
    manage: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """As `contextcache` does."""
    done = manage(stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("usage: manage.py contextcache ")
    for name in ("audit", "check", "explain"):
        assert f"\n    {name} " in done.stdout


def test_a_reader_that_has_seen_enough_ends_it_quietly(
    manage: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """As `head` does; the pipe is closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        done = manage("explain", "tests.django.shop:dirty_cart", stdout=pipe)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Pipe" not in done.stderr
