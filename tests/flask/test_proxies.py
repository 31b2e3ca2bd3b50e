"""Proxies: what they point at is stored, cleaned in turn, wherever in a value they stand."""

from __future__ import annotations

import dataclasses
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import flask_login
import pytest
from flask import Flask, current_app, g, request, session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Mapped, mapped_column
from werkzeug.local import Local, LocalProxy, LocalStack

from contextcache import RequestSnapshot, is_stripped
from contextcache.testing import capture_findings
from contextcache_flask import ContextCache
from tests.flask.shop import add_cache, make_app

if TYPE_CHECKING:
    from collections.abc import Iterator

# flask_login 0.6 asks for the time in a way that Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

SECRET = "canary-9d4f"  # in whatever must never be stored
db = SQLAlchemy()


class User(flask_login.UserMixin, db.Model):  # type: ignore[misc, name-defined]
    """A user as Flask-SQLAlchemy and flask_login have it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    password_hash: Mapped[str]


@dataclasses.dataclass
class Visit:
    who: Any
    where: Any
    tags: list[Any]


@pytest.fixture
def app(redis_url: str, redis_client: Any) -> Iterator[Flask]:
    """An application with everything: cache, session, login, database."""
    app = make_app(redis_url, CONTEXTCACHE_SESSION=True)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    ContextCache(app)
    app.cache = add_cache(app)  # type: ignore[attr-defined]
    db.init_app(app)
    manager = flask_login.LoginManager(app)
    manager.user_loader(lambda ident: db.session.get(User, int(ident)))
    with app.app_context():
        db.create_all()
        db.session.add(User(id=1, name="ann", password_hash=SECRET))
        db.session.commit()

    @app.post("/login")
    def log_in() -> str:
        flask_login.login_user(db.session.get(User, 1))
        return "in"

    yield app
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def store(app: Flask, make: Any, where: str) -> tuple[Any, list[str]]:
    """Store what `make` returns, within a request of a visitor who is logged in; read it back."""
    got: list[Any] = []

    @app.get("/store")
    def put() -> str:
        if where == "session":
            session["key"] = make()
        else:
            app.cache.set("key", make())  # type: ignore[attr-defined]
        return ""

    @app.get("/fetch")
    def fetch() -> str:
        got.append(session["key"] if where == "session" else app.cache.get("key"))  # type: ignore[attr-defined]
        return ""

    client = app.test_client()
    client.post("/login")
    with capture_findings() as findings:
        assert (
            client.get("/store?q=1&token=x", headers={"Authorization": SECRET}).status_code == 200
        )
    assert client.get("/fetch").status_code == 200
    root = "session['key']" if where == "session" else "cache['key']"
    return got[0], [f"{f.code} {str(f.path).removeprefix(root)}" for f in findings]


@pytest.mark.parametrize("where", ["session", "cache"])
def test_in_a_dataclass(app: Flask, where: str, redis_client: Any) -> None:
    """`current_user` and `request` in a dataclass, and a proxy of the application's in its list."""
    seen = LocalProxy(lambda: {"lock": threading.Lock(), "n": 7})
    visit, findings = store(
        app, lambda: Visit(flask_login.current_user, request, [seen, g, current_app]), where
    )
    assert findings == [
        "CC104 .who",
        "CC104 .where",
        "CC104 .tags[0]",
        "CC104 .tags[1]",
        "CC104 .tags[2]",
    ]
    assert (visit.who.id, visit.who.name) == (1, "ann")
    assert type(visit.where) is RequestSnapshot
    assert (visit.where.path, dict(visit.where.query)) == ("/store", {"q": ["1"]})
    assert visit.tags[0]["n"] == 7
    assert not visit.tags[0]["lock"].locked()
    assert is_stripped(visit.tags[1])
    assert is_stripped(visit.tags[2])
    assert not any(SECRET.encode() in redis_client.get(key) for key in redis_client.scan_iter())


@pytest.mark.parametrize("where", ["session", "cache"])
def test_every_kind_of_local_proxy(app: Flask, where: str) -> None:
    """Over a Local, a LocalStack, a function and another proxy; one that points nowhere is cut."""
    local, stack = Local(), LocalStack[Any]()

    def make() -> dict[str, Any]:
        local.name, _ = "ann", stack.push("top")
        return {
            "local": LocalProxy(local, "name"),
            "stack": stack(),
            "function": LocalProxy(lambda: (1, 2)),
            "proxy": LocalProxy(lambda: LocalProxy(lambda: "deep")),
            "nowhere": LocalProxy(Local(), "unset"),
        }

    value, findings = store(app, make, where)
    assert is_stripped(value.pop("nowhere"))
    assert value == {"local": "ann", "stack": "top", "function": (1, 2), "proxy": "deep"}
    assert {finding.partition(" ")[0] for finding in findings} == {"CC104"}


@pytest.mark.parametrize("where", ["session", "cache"])
def test_current_user_and_rows_of_flask_sqlalchemy(
    app: Flask, where: str, redis_client: Any
) -> None:
    """The user comes back detached, without the password hash, and can be merged again."""
    user, findings = store(app, lambda: flask_login.current_user, where)
    assert findings == ["CC104 "]
    assert (user.id, user.name) == (1, "ann")
    assert not any(SECRET.encode() in redis_client.get(key) for key in redis_client.scan_iter())
    with app.app_context():
        assert db.session.merge(user).password_hash == SECRET


@pytest.mark.parametrize("where", ["session", "cache"])
def test_rows_and_the_database_itself(app: Flask, where: str) -> None:
    """Rows that were queried are data; the database, its session and engine are not."""

    def make() -> dict[str, Any]:
        rows = db.session.execute(db.select(User.id, User.name)).all()
        return {"rows": rows, "db": db, "held": SimpleNamespace(session=db.session, n=1)}

    value, findings = store(app, make, where)
    assert [tuple(row) for row in value["rows"]] == [(1, "ann")]
    assert is_stripped(value["db"])
    assert is_stripped(value["held"].session)
    assert value["held"].n == 1
    assert sorted(finding.partition(" ")[2] for finding in findings) == [
        "['db']",
        "['held'].session",
    ]


def test_the_session_in_the_cache_and_in_itself(app: Flask) -> None:
    """A cached session is a plain dict; one that holds itself is cut where it closes."""

    @app.get("/self")
    def put() -> str:
        session["n"] = 1
        app.cache.set("key", {"session": session})  # type: ignore[attr-defined]
        session["me"] = session
        return ""

    client = app.test_client()
    assert client.get("/self").status_code == 200
    with app.app_context():
        assert app.cache.get("key")["session"] == {"n": 1}  # type: ignore[attr-defined]
    with client.session_transaction() as held:
        assert held["n"] == 1
