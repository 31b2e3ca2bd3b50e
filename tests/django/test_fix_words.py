"""Fixes in words about what is Django's: said about a value, and followed."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import User
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpResponse
from django.template.response import SimpleTemplateResponse
from django.test import RequestFactory

from contextcache import explain
from tests.core.test_fix_words import SAMPLES, all_words

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

pytestmark = pytest.mark.django_db(transaction=True)

ELSEWHERE = {
    "keep only data in attrs": "none: it takes pandas, which no other test needs",
    "nothing: contextcache keeps it there": "there is nothing to do",
    "leave it out of what is stored, and take it on read from where the application keeps it": (
        "test_secret_search"
    ),
    "store the data that it was made from, and make it again on read": "test_handles",
    "store less of it; the limit is {size} bytes (MAX_SIZE)": "test_messages",
    "store the values you need from the request, in a flat dict": "test_credentials",
    "store the values you need from the request, not all of its headers": "test_credentials",
    "store what it stands for, such as the primary key of the user": "test_credentials",
    "store what it was made from, or define it in a module that every process can import": (
        "test_fresh"
    ),
    "store what it was made from, or make what loading it needs when its module is imported": (
        "test_fresh"
    ),
}
"""Words that another test follows, or none, and why."""
if sys.version_info >= (3, 14):  # which stores no iterator of `itertools`
    ELSEWHERE["store what it is made from, and make it on read"] = "test_versions"


@pytest.fixture
def request_of_ann() -> HttpRequest:
    """A request of a user who has logged in, as the middleware leaves it."""
    user = User.objects.create_user("ann", password="s3cret")
    request = RequestFactory().get("/cart", headers={"Cookie": "a=b"})
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    request.session["_auth_user_id"] = str(user.pk)
    request.session["_auth_user_backend"] = "django.contrib.auth.backends.ModelBackend"
    request.session["_auth_user_hash"] = user.get_session_auth_hash()
    AuthenticationMiddleware(lambda _: HttpResponse()).process_request(request)
    return request


def rendered(response: SimpleTemplateResponse) -> Any:
    response.content = b"text"
    return response


FOLLOWED: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    (
        "store its primary key, request.user.pk, and fetch the user on read",
        lambda request: {"owner": request.user},
        lambda request: {"owner": request.user.pk},
    ),
    (
        "store its primary key (.pk), once it is saved, and fetch the user on read",
        lambda _: [User.objects.get()],
        lambda _: [User.objects.get().pk],
    ),
    (
        "store its rows: list(manager.all())",
        lambda _: [User.objects.get().groups],
        lambda _: list(User.objects.get().groups.all()),
    ),
    (
        "render it before it is stored: response.render()",
        lambda _: [SimpleTemplateResponse("a.html")],
        lambda _: [rendered(SimpleTemplateResponse("a.html"))],
    ),
    (
        "store the values you need from request.META, not all of it",
        lambda request: [request.META],
        lambda request: [request.META["PATH_INFO"]],
    ),
]

AWAITED: list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]] = [
    (
        "store its primary key, (await request.auser()).pk, and fetch the user on read",
        lambda request: [request.user],
        lambda request: _key(request),
    ),
    (
        "store its primary key, (await request.auser()).pk, and fetch the user on read",
        lambda request: [request.auser()],
        lambda request: _key(request),
    ),
    (
        "evaluate it before, and store the primary keys: [user.pk async for user in users]",
        lambda _: User.objects.all(),
        lambda _: _keys(User.objects.all()),
    ),
    (
        "evaluate it before: [row async for row in rows]",
        lambda _: User.objects.get().groups.all(),
        lambda _: _keys(User.objects.all()),
    ),
]


async def _key(request: Any) -> list[Any]:
    return [(await request.auser()).pk]


async def _keys(users: Any) -> list[Any]:
    return [user.pk async for user in users]


@pytest.mark.parametrize(
    ("fix", "before", "after"), FOLLOWED, ids=[one[0][:40] for one in FOLLOWED]
)
def test_the_words_can_be_followed(
    request_of_ann: HttpRequest, fix: str, before: Callable[..., Any], after: Callable[..., Any]
) -> None:
    """What they say leaves nothing to report."""
    assert fix in {finding.fix for finding in explain(before(request_of_ann))}
    assert [str(finding) for finding in explain(after(request_of_ann))] == []


@pytest.mark.parametrize(
    ("fix", "before", "after"), AWAITED, ids=["user", "auser", "users", "rows"]
)
def test_the_words_can_be_followed_in_an_async_view(
    request_of_ann: HttpRequest, fix: str, before: Callable[..., Any], after: Callable[..., Any]
) -> None:
    """Where nothing may ask the database without await."""
    value = before(request_of_ann)

    async def view() -> Any:
        return {finding.fix for finding in explain(value)}, explain(await after(request_of_ann))

    told, left = async_to_sync(view)()
    for one in value if isinstance(value, list) else ():
        if asyncio.iscoroutine(one):
            one.close()
    assert fix in told
    assert [str(finding) for finding in left] == []


def test_all_words_have_a_sample() -> None:
    """Here, beside those that no framework is needed for, or in the test that is named."""
    told = [fix for fix, *_ in (*SAMPLES, *FOLLOWED, *AWAITED)]
    general = {re.sub(r"of (Either|Memo)\b", "of the class that holds it", fix) for fix in told}
    assert general | {*ELSEWHERE} == all_words()
