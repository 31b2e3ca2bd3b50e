"""A logout is final, whatever a request does that has read the session before."""

from __future__ import annotations

import flask_login
import pytest
from flask import flash, session

from contextcache_flask import ContextCache
from tests.flask.shop import make_app

# flask_login 0.6 asks for the time in a way that Python 3.12 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


class User(flask_login.UserMixin):
    def __init__(self, number):
        self.id = number


def rotates():
    session.rotate()


def renews():
    data = dict(session)
    session.clear()
    session.update(data)


def renews_in_part():
    uid = session["uid"]
    session.clear()
    session["user"] = uid


def renews_twice():
    renews()
    renews()


def rotates_and_renews():
    session.rotate()
    renews()


def renews_and_rotates():
    renews()
    session.rotate()


def empties_and_fills():
    data = dict(session)
    for key in data:
        session.pop(key)
    session.update(data)


def writes():
    session["seen"] = session["uid"]


WAYS = [
    *(rotates, renews, renews_in_part, renews_twice, rotates_and_renews, renews_and_rotates),
    *(empties_and_fills, writes),
]
LOGOUTS = ["/logout", "/read-and-logout", "/flashing-logout", "/keeping-logout", "/pop-all"]


@pytest.fixture
def app(any_url):
    app = make_app(any_url, CONTEXTCACHE_SESSION=True)
    flask_login.LoginManager(app).user_loader(lambda number: User(int(number)))
    ContextCache(app)
    app.meanwhile = []

    def view(act):
        def answer():
            text = act()
            for other in app.meanwhile:
                other()
            return str(text)

        return answer

    def read_and_log_out():
        session.get("uid")
        session.clear()

    def log_out_flashing():
        session.get("uid")
        session.clear()
        flash("bye")

    def log_out_and_keep_the_cart():
        cart = session.get("cart", [])
        session.clear()
        session["cart"] = cart

    def pop_all():
        for key in list(session):
            session.pop(key)

    pages = {
        "/in": lambda: session.update(uid=777, cart=["tea"]),
        "/fresh": lambda: session.clear() or session.update(uid=888),
        "/me": lambda: session.get("uid", session.get("user")),
        "/logout": lambda: session.clear(),
        "/read-and-logout": read_and_log_out,
        "/flashing-logout": log_out_flashing,
        "/keeping-logout": log_out_and_keep_the_cart,
        "/pop-all": pop_all,
        "/fl-in": lambda: flask_login.login_user(User(42)),
        "/fl-out": lambda: flask_login.logout_user(),
        "/fl-me": lambda: getattr(flask_login.current_user, "id", None),
        **{f"/{way.__name__}": way for way in WAYS},
    }
    for rule, act in pages.items():
        app.add_url_rule(rule, rule.strip("/"), view(act))
    return app


def twin(client):
    """Return another browser with the cookie of this one."""
    other = client.application.test_client()
    other.set_cookie("session", client.get_cookie("session").value)
    return other


@pytest.mark.parametrize("logout", LOGOUTS)
@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_has_read_it_does_not_bring_it_back(app, way, logout):
    """It stores nothing and sets no cookie, and the visitor can log in again."""
    client = app.test_client()
    client.get("/in")
    other, before = twin(client), twin(client)
    app.meanwhile.append(lambda: app.meanwhile.clear() or other.get(logout))
    answer = client.get(f"/{way.__name__}")
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (200, False)
    assert [one.get("/me").text for one in (client, other, before)] == ["None"] * 3
    client.get("/in")
    assert client.get("/me").text == "777"


@pytest.mark.parametrize("way", WAYS)
def test_without_a_logout_the_visitor_stays(app, way):
    """And the old id is worth nothing where there is another one."""
    client = app.test_client()
    client.get("/in")
    before = twin(client)
    client.get(f"/{way.__name__}")
    assert client.get("/me").text == "777"
    if way not in (writes, empties_and_fills):
        assert before.get("/me").text == "None"


@pytest.mark.parametrize("logout", LOGOUTS[:4])  # where nothing is found, nothing is taken out
@pytest.mark.parametrize("way", [rotates, renews, rotates_and_renews])
def test_a_logout_with_the_old_id_finds_the_new_one(app, way, logout):
    """The response with the new cookie may come after that of the logout."""
    client = app.test_client()
    client.get("/in")
    late = twin(client)
    for _ in range(3):
        client.get(f"/{way.__name__}")
    assert client.get("/me").text == "777"
    late.get(logout)
    assert client.get("/me").text == "None"


@pytest.mark.parametrize("logout", LOGOUTS)
def test_a_logout_that_has_read_it_finds_what_it_was_moved_to_meanwhile(app, logout):
    """Even one that leaves a message in the session, or keeps the cart."""
    client = app.test_client()
    client.get("/in")
    other = twin(client)
    app.meanwhile.append(lambda: app.meanwhile.clear() or other.get("/rotates"))
    client.get(logout)
    assert [one.get("/me").text for one in (client, other)] == ["None"] * 2


def test_logging_out_with_flask_login_is_a_logout(app):
    """It takes three keys out of the session; what is left gets another id."""
    client = app.test_client()
    client.get("/in")
    client.get("/fl-in")
    assert client.get("/fl-me").text == "42"
    late, old = twin(client), twin(client)
    app.meanwhile.append(lambda: app.meanwhile.clear() or late.get("/fl-out"))
    client.get("/rotates")
    assert [one.get("/fl-me").text for one in (client, late, old)] == ["None"] * 3
    assert late.get("/me").text == "777"  # the rest stays


def test_logging_out_with_flask_login_finds_what_it_was_moved_to(app):
    """Where a page has rotated the session while the logout was running."""
    client = app.test_client()
    client.get("/fl-in")
    other = twin(client)
    app.meanwhile.append(lambda: app.meanwhile.clear() or other.get("/rotates"))
    client.get("/fl-out")
    assert [one.get("/fl-me").text for one in (client, other)] == ["None"] * 2


def test_one_of_two_rotations_counts(app):
    """The other one stores nothing, and the visitor stays logged in by the first."""
    client = app.test_client()
    client.get("/in")
    other = twin(client)
    app.meanwhile.append(lambda: app.meanwhile.clear() or other.get("/rotates"))
    assert "Set-Cookie" not in client.get("/rotates").headers
    assert [one.get("/me").text for one in (client, other)] == ["None", "777"]


def test_a_login_that_has_read_nothing_counts(app):
    """Even where the old session was logged out meanwhile."""
    client = app.test_client()
    client.get("/in")
    other = twin(client)
    app.meanwhile.append(lambda: app.meanwhile.clear() or other.get("/logout"))
    client.get("/fresh")
    assert [one.get("/me").text for one in (client, other)] == ["888", "None"]
