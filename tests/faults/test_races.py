"""Requests of one visitor that overlap: what has been logged out stays logged out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults.places import NONE, PATIENT, DjangoSession, FlaskSession, Visited

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

ROUNDS = 25


@pytest.fixture(params=[DjangoSession, FlaskSession], ids=lambda place: place.name)
def site(
    request: pytest.FixtureRequest, redis_url: str, redis_client: redis.Redis
) -> Iterator[Visited]:
    with request.param(redis_url, **PATIENT) as site:
        yield site


def at_once(site: Visited, cookie: str, *pages: str) -> list[tuple[int, str, str]]:
    """Visit `pages` with one cookie, all at the same moment."""
    together = threading.Barrier(len(pages))
    answers: list[tuple[int, str, str]] = []

    def visit(page: str) -> None:
        together.wait()
        answers.append(site.visit(page, cookie))

    threads = [threading.Thread(target=visit, args=(page,)) for page in pages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize("leaving", ["/logout", "/login"])
@pytest.mark.filterwarnings("ignore:.*session was deleted before the request completed")
def test_a_session_that_was_left_is_not_brought_back(site: Visited, leaving: str) -> None:
    """Whoever wins the race, the id of before a logout or a login is worth nothing after it."""
    for _ in range(ROUNDS):
        site.write()
        assert site.read() == site.reads[NONE]
        before = site.cookie
        answers = at_once(site, before, "/write", leaving, "/write", "/read")
        assert len(answers) == 4
        assert {status for status, _, _ in answers} <= {200, 400}  # 400: Django's interrupted one
        assert site.visit("/read", before)[1] == "None"


def test_a_login_during_other_requests_is_the_one_that_counts(site: Visited) -> None:
    """The new id holds what was in the session, whatever the others wrote meanwhile."""
    for _ in range(ROUNDS):
        site.write()
        answers = at_once(site, site.cookie, "/read", "/login", "/read")
        (new,) = {cookie for _, text, cookie in answers if text == "hello"}
        assert site.visit("/read", new)[1] == str({"tea": 1})
