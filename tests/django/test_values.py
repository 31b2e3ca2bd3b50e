"""What Django people put into a cache: each is untouched, or found and cut, and never broken."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import pickle
import re
import secrets
import tempfile
import threading
import uuid
import zoneinfo
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import InMemoryChannelLayer
from django import forms
from django.contrib.auth.models import Group, Permission, User
from django.contrib.messages.storage.base import Message
from django.core import validators
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile, File
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.core.paginator import Paginator
from django.db import connection, models
from django.db.models import F, Q
from django.forms.models import model_to_dict
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseNotFound,
    HttpResponseRedirect,
    JsonResponse,
    QueryDict,
    StreamingHttpResponse,
)
from django.middleware.csrf import get_token
from django.template import Context, Template, engines
from django.template.response import SimpleTemplateResponse
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse_lazy
from django.utils import translation
from django.utils.datastructures import MultiValueDict
from django.utils.functional import SimpleLazyObject, cached_property
from django.utils.safestring import mark_safe
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy, ngettext_lazy
from django.views.decorators.cache import cache_page
from model_utils import FieldTracker
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from contextcache import Guard, RequestSnapshot, is_stripped
from contextcache.testing import capture_findings
from tests.resolving import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_django.fixtures import SettingsWrapper

    from contextcache_django.cache import RedisCache

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def cache(configure: Callable[..., RedisCache], settings: SettingsWrapper) -> RedisCache:
    """An empty cache; what is stored does not depend on the server."""
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    return configure(f"fakeredis://{secrets.token_hex(8)}/0")


def through(cache: RedisCache, value: object) -> tuple[Any, set[str]]:
    """Return what comes back, and the paths of what was found."""
    with capture_findings() as findings:
        cache.set("key", value)
    return cache.get("key"), {str(finding.path) for finding in findings}


class Article(models.Model):
    """A model with a tracker; its table is never made."""

    title = models.CharField(max_length=20)
    tracker = FieldTracker()

    class Meta:
        app_label = "auth"


class Report:
    def __init__(self, rows: list[int]) -> None:
        self.rows = rows

    @cached_property
    def total(self) -> int:
        return sum(self.rows)


class Size(models.TextChoices):
    SMALL = "s", "small"


class SearchForm(forms.Form):
    query = forms.CharField(max_length=10)
    size = forms.ChoiceField(choices=Size.choices)


class GroupForm(forms.ModelForm):
    class Meta:
        model = Group
        fields = ["name"]


class GroupSerializer(serializers.ModelSerializer):
    class Meta:
        model = Group
        fields = ["name"]


def evaluated() -> Report:
    report = Report([1, 2])
    assert report.total == 3
    return report


def rendered() -> SimpleTemplateResponse:
    made = SimpleTemplateResponse(engines["django"].from_string("<p>{{ x }}</p>"), {"x": 1})
    return made.render()  # type: ignore[return-value]


# --- Untouched ----------------------------------------------------------------------------------

INNOCENT: dict[str, Callable[[], Any]] = {
    "model": lambda: Group.objects.create(name="staff"),
    "unsaved model": lambda: Group(name="staff"),
    "deferred model": lambda: Group.objects.only("pk").get_or_create(name="staff")[0],
    "QuerySet": lambda: Group.objects.all(),
    "values": lambda: Group.objects.values("name"),
    "values_list": lambda: Group.objects.values_list("name", flat=True),
    "query": lambda: Group.objects.filter(name="staff").query,
    "Q and F": lambda: Q(name="staff") & ~Q(pk=F("id")),
    "form": SearchForm,
    "bound form": lambda: SearchForm({"query": "tea", "size": "s"}),
    "invalid form": lambda: _validated(SearchForm({"query": "x" * 20})),
    "cached_property": evaluated,
    "choice": lambda: Size.SMALL,
    "gettext_lazy": lambda: gettext_lazy("Monday"),
    "ngettext_lazy": lambda: ngettext_lazy("%d day", "%d days") % 2,
    "reverse_lazy": lambda: reverse_lazy("admin:index"),
    "format_lazy": lambda: format_lazy("{}!", gettext_lazy("Monday")),
    "safe string": lambda: mark_safe("<b>"),
    "content file": lambda: ContentFile(b"content", name="a.txt"),
    "uploaded file": lambda: SimpleUploadedFile("a.txt", b"content"),
    "query dict": lambda: QueryDict("a=1&a=2"),
    "multi-value dict": lambda: MultiValueDict({"a": ["1", "2"]}),
    "validation error": lambda: ValidationError({"name": ["too long"]}),
    "message": lambda: Message(20, gettext_lazy("Saved")),
    "time": lambda: dt.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    "numbers": lambda: [decimal.Decimal("1.5"), uuid.uuid4(), dt.timedelta(1)],
    "response": lambda: HttpResponse("page", headers={"X-A": "1"}),
    "JSON response": lambda: JsonResponse({"a": 1}),
    "redirect": lambda: HttpResponseRedirect("/there"),
    "not found": lambda: HttpResponseNotFound("gone"),
    "template response": rendered,
    "tracked model": lambda: Article(title="first"),
    "serializer data": lambda: dict(GroupSerializer(Group(name="staff")).data),
}


def _validated(form: forms.Form) -> forms.Form:
    assert not form.is_valid()
    return form


@pytest.mark.parametrize("name", INNOCENT)
def test_an_innocent_value_is_untouched(cache: RedisCache, name: str) -> None:
    """No finding, the same type, and the same as pickle would have given back."""
    value = INNOCENT[name]()
    found, paths = through(cache, value)
    assert paths == set()
    assert type(found).__qualname__ == type(value).__qualname__  # each lazy text has its own type
    if isinstance(value, (forms.BaseForm, forms.BaseFormSet)):
        assert str(found) == str(value)
        assert found.errors == value.errors
    elif isinstance(value, HttpResponse):
        assert (found.status_code, found.content) == (value.status_code, value.content)
        assert dict(found.headers) == dict(value.headers)
    elif isinstance(value, File):
        assert (found.name, found.read()) == (value.name, b"content")
    elif isinstance(value, models.QuerySet):
        assert list(found) == list(value)
    elif isinstance(value, (Report, models.sql.Query)):
        assert vars(found).keys() == vars(value).keys()
    elif name == "reverse_lazy":
        assert found.__reduce__()[1] == value.__reduce__()[1]
    elif isinstance(value, models.Model) and value.pk is None:
        assert model_to_dict(found) == model_to_dict(value)
    else:
        assert found == value


def test_a_translation_is_read_in_the_language_of_the_reader(cache: RedisCache) -> None:
    """The lazy text is stored, not what it was for the writer."""
    with translation.override("en"):
        cache.set("day", gettext_lazy("Monday"))
    with translation.override("de"):
        assert str(cache.get("day")) == "Montag"


def test_a_queryset_is_stored_with_its_rows(cache: RedisCache) -> None:
    """One query at the write, as in Django, and none at the read."""
    Group.objects.create(name="staff")
    with CaptureQueriesContext(connection) as asked:
        cache.set("groups", Group.objects.all())
        assert [group.name for group in cache.get("groups")] == ["staff"]
    assert len(asked) == 1


LAZY_DATA = {
    "text": lambda: "Shop",
    "safe text": lambda: mark_safe("<b>Shop</b>"),
    "list": lambda: [{"title": "Home"}],
    "tuple": lambda: (1, 2.5, None),
    "set": lambda: {1},
    "none": lambda: None,
    "pattern": lambda: re.compile("^a$"),
    "date": lambda: dt.date(2026, 1, 2),
    "number": lambda: decimal.Decimal("1.5"),
    "parameters": lambda: QueryDict("cat=1&cat=2"),
    "translation": lambda: gettext_lazy("Monday"),
    "form": lambda: forms.Form(),
    "twice": lambda: SimpleLazyObject(lambda: [1]),
    "path": lambda: reverse_lazy("admin:index"),
    "token": lambda: get_token(RequestFactory().get("/")),
}


@pytest.mark.parametrize("name", LAZY_DATA)
def test_a_lazy_object_that_stands_for_data_is_clean(cache: RedisCache, name: str) -> None:
    """Pickle stores what it stands for, and a list has no primary key."""
    value = {"lazy": SimpleLazyObject(LAZY_DATA[name]), "more": [SimpleLazyObject(LAZY_DATA[name])]}
    assert Guard(mode="raise").dumps(value) == pickle.dumps(value, 5)
    _, findings = through(cache, value)
    assert findings == set()


def test_validators_with_lazy_patterns_are_clean(cache: RedisCache) -> None:
    """Django compiles its patterns lazily: a form with a URL or a slug holds some."""
    fields = [forms.SlugField(), forms.RegexField("^a$"), forms.EmailField()]
    value = [*fields, validators.URLValidator(), validators.validate_ipv46_address]
    assert Guard(mode="raise").dumps(value) == pickle.dumps(value, 5)
    _, findings = through(cache, value)
    assert findings == set()


def test_what_stands_in_a_lazy_list_has_the_path_of_a_list(cache: RedisCache) -> None:
    """The attribute in which Django keeps it is not named."""
    value = {"menu": SimpleLazyObject(lambda: [threading.Lock()])}
    _, paths = through(cache, value)
    assert paths == {"cache['key']['menu'][0]"}
    [finding] = Guard().explain(value)
    assert resolve(finding.path, value) is value["menu"][0]


@pytest.mark.parametrize("what", ["user", "rows"])
def test_what_would_ask_the_database_in_async_code(cache: RedisCache, what: str) -> None:
    """Django refuses that; nothing is stored, and the finding tells what to await."""
    values: dict[str, Any] = {
        "user": SimpleLazyObject(lambda: User.objects.get()),
        "rows": User.objects.all(),
    }
    with capture_findings() as findings:
        async_to_sync(cache.aset)("key", values[what])
    assert async_to_sync(cache.aget)("key", "missing") == "missing"
    told = {
        "user": (
            "CC105",
            "evaluating it raised SynchronousOnlyOperation",
            "await what it asks the database for, and store the data you need of that",
        ),
        "rows": (
            "CC118",
            "it asks the database, which async code may not do without await",
            "evaluate it before, and store the primary keys: [user.pk async for user in users]",
        ),
    }
    [finding] = findings
    assert (finding.code, finding.reason, finding.fix) == told[what]


def test_a_tracked_model_still_tracks(cache: RedisCache) -> None:
    """django-model-utils patches `save` onto the class, which broke caching once."""
    found, _ = through(cache, Article(title="first"))
    found.title = "second"
    assert found.tracker.previous("title") in ("first", None)
    assert found.title == "second"


# --- Found and cut ------------------------------------------------------------------------------


def test_a_page_without_the_other_rows(cache: RedisCache) -> None:
    """A page drags its paginator's rows along; page and count stay."""
    page = Paginator(list(range(100)), 10).page(2)
    found, paths = through(cache, page)
    assert paths == {"cache['key'].paginator.object_list"}
    assert list(found) == list(range(10, 20))
    assert (found.paginator.num_pages, found.has_next(), found.start_index()) == (10, True, 11)


def test_a_model_form_shows_as_before(cache: RedisCache) -> None:
    """Stock pickle fails at the label of each field, a lazy text of a decorated function."""
    form = GroupForm({"name": "x" * 200}, instance=Group(name="staff"))
    with pytest.raises(pickle.PicklingError, match="capfirst"):
        pickle.dumps(form)
    found, paths = through(cache, form)
    assert paths == {"cache['key'].fields['name'].label"}
    assert str(found) == str(form)
    assert found.errors == form.errors


def test_a_form_of_a_class_made_in_a_function(cache: RedisCache) -> None:
    """Pickle finds no class of that name, so there is nothing to store."""
    found, paths = through(cache, forms.formset_factory(SearchForm)())
    assert (found, paths) == (None, {"cache['key']"})


def test_a_model_that_holds_its_request(cache: RedisCache) -> None:
    """What an admin or a view left on the instance is cut, not the instance."""
    group = Group(name="staff")
    group.request = RequestFactory().get("/x", headers={"Authorization": "canary"})  # type: ignore[attr-defined]
    found, paths = through(cache, group)
    assert paths == {"cache['key'].request"}
    assert found.name == "staff"
    assert type(found.request) is RequestSnapshot


def test_files_of_this_process(cache: RedisCache) -> None:
    """An upload on disk and an open file belong to one request; the rest is stored."""
    upload = TemporaryUploadedFile("a.bin", "text/plain", 1, None)
    with upload, tempfile.TemporaryFile() as handle:
        found, paths = through(cache, {"upload": upload, "file": File(handle), "name": "a.bin"})
    assert {path.partition("]")[2].partition("]")[0] for path in paths} == {"['upload'", "['file'"}
    assert found["name"] == "a.bin"


@pytest.mark.parametrize("make", [HttpResponse, JsonResponse, HttpResponseNotFound])
def test_a_response_with_something_to_close(cache: RedisCache, make: Any) -> None:
    """`cache_page` on a response that holds an open file failed as a whole."""
    response = make({"a": 1} if make is JsonResponse else "page")
    response._resource_closers.append(io.BytesIO().close)
    found, paths = through(cache, response)
    assert found.content == response.content
    assert len(paths) == 1


def test_a_stream_is_told_of_as_what_it_is(cache: RedisCache) -> None:
    """Its generator is the content, and only then a thing to close."""
    with capture_findings() as findings:
        cache.set("page", StreamingHttpResponse(str(part) for part in range(3)))
    assert [(one.code, str(one.path.last)) for one in findings] == [("CC109", "._iterator")]


def test_responses_that_have_no_content_yet(cache: RedisCache) -> None:
    """Nothing to store: a miss and a finding, instead of an error page."""
    unrendered = SimpleTemplateResponse(engines["django"].from_string("x"))
    streaming = StreamingHttpResponse(str(part) for part in range(3))
    for response in (unrendered, streaming):
        found, paths = through(cache, response)
        assert paths
        assert found is None or any(map(is_stripped, vars(found).values()))


def test_a_serializer_that_holds_its_request(cache: RedisCache) -> None:
    """`serializer.data` refers to the serializer, and its context to the request."""
    context = {"request": APIRequestFactory().get("/x")}
    serializer = GroupSerializer(Group(name="staff"), context=context)
    found, paths = through(cache, serializer.data)
    assert dict(found) == {"name": "staff"}
    assert all("request" in path or "_context" in path for path in paths)


def test_a_request_of_rest_framework(cache: RedisCache) -> None:
    """It becomes a snapshot without its credentials, as Django's own."""
    request = Request(RequestFactory().get("/x?a=1", headers={"Authorization": "canary"}))
    found, paths = through(cache, {"request": request})
    assert paths == {"cache['key']['request']"}
    assert (found["request"].path, "canary" in repr(found)) == ("/x", False)


class Chat(AsyncWebsocketConsumer):
    """A consumer that keeps its own state beside what channels gave it."""

    room = "tea"


def test_a_consumer_of_channels(cache: RedisCache) -> None:
    """Its scope may be stored; sockets, layers and callbacks of this process are cut."""
    consumer = Chat()
    consumer.scope = {"type": "websocket", "path": "/chat/", "headers": []}
    consumer.channel_layer = InMemoryChannelLayer()
    consumer.base_send = lambda message: None
    found, paths = through(cache, {"consumer": consumer, "room": "tea"})
    assert found["room"] == "tea"
    assert "cache['key']['consumer'].base_send" in paths
    assert found["consumer"].room == "tea"
    assert found["consumer"].scope["path"] == "/chat/"


# --- Whole pages --------------------------------------------------------------------------------


def test_cache_page_answers_from_the_cache() -> None:
    """The second visitor gets the stored page."""
    calls = []

    @cache_page(60)
    def view(request: HttpRequest) -> HttpResponse:
        calls.append(1)
        return HttpResponse(f"page {len(calls)}")

    with capture_findings() as findings:
        answers = [view(RequestFactory().get("/page")).content for _ in range(2)]
    assert answers == [b"page 1", b"page 1"]
    assert findings == []


def test_cache_page_of_rest_framework() -> None:
    """The rendered response is stored without renderer, view and request."""
    calls = []

    @cache_page(60)
    @api_view(["GET"])
    def view(request: Request) -> Response:
        calls.append(1)
        return Response({"calls": len(calls)})

    def ask() -> bytes:
        response: Any = view(APIRequestFactory().get("/api"))
        return bytes(response.render().content)

    assert ask() == ask() == b'{"calls":1}'


def test_a_template_fragment_is_stored_as_text(cache: RedisCache) -> None:
    """`{% cache %}` keeps what it rendered."""
    template = Template("{% load cache %}{% cache 60 part %}{{ value }}{% endcache %}")
    with capture_findings() as findings:
        shown = [template.render(Context({"value": value})) for value in ("<1>", "<2>")]
    assert shown == ["&lt;1&gt;", "&lt;1&gt;"]
    assert findings == []


def test_permissions_of_a_user_are_no_reason_for_a_query(cache: RedisCache) -> None:
    """Prefetched rows come along."""
    user = User.objects.create_user("ada")
    user.user_permissions.add(Permission.objects.first())  # type: ignore[arg-type]
    loaded = User.objects.prefetch_related("user_permissions").get()
    cache.set("user", loaded)
    with CaptureQueriesContext(connection) as asked:
        assert len(cache.get("user").user_permissions.all()) == 1
    assert len(asked) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("engine", ["db", "cached_db"])
def test_a_session_in_a_value_is_stored_as_its_data(engine: str, is_read: bool) -> None:
    """It is a dict on load; a session that was not used yet does not count as used."""
    store = import_module(f"django.contrib.sessions.backends.{engine}").SessionStore
    session = store()
    session["cart"] = [1, 2]
    session.save()
    session = store(session.session_key)
    if is_read:
        assert session["cart"] == [1, 2]
    guard = Guard()
    loaded = guard.loads(guard.dumps({"session": session, "n": 1}, label="cache['it']"))
    assert loaded == {"session": {"cart": [1, 2]}, "n": 1}
    [finding] = guard.summary()
    assert (finding.code, finding.did) == ("CC106", "stored its data, as a dict")
    assert session.accessed is is_read


def test_a_session_that_cannot_be_read_is_cut() -> None:
    """Async code may not ask the database."""
    session = import_module("django.contrib.sessions.backends.db").SessionStore("a" * 32)

    async def store() -> Any:
        guard = Guard()
        return guard.loads(guard.dumps({"session": session, "n": 1}))

    loaded = async_to_sync(store)()
    assert is_stripped(loaded["session"])
    assert loaded["n"] == 1
