"""Objects that carry a secret are stored without it, and work as far as they can without it."""

from __future__ import annotations

import datetime as dt
import io
import json
import pickle
import urllib.request
from typing import Any

import botocore.credentials
import google.auth.compute_engine.credentials
import google.oauth2.credentials
import httpx
import pydantic
import pytest
import redis
import requests
import requests.auth
import sqlalchemy
from azure.core.credentials import AzureKeyCredential, AzureNamedKeyCredential, AzureSasCredential
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account

from contextcache import Guard, UncacheableValueError, is_stripped
from contextcache.exceptions import StrippedValueError
from contextcache.rules.builtin.sent_requests import without_url_secrets
from contextcache.testing import capture_findings

KEY = "canary-7f3a9c"


class Settings(pydantic.BaseModel):
    name: str
    password: pydantic.SecretStr
    blob: pydantic.SecretBytes = pydantic.SecretBytes(b"")


def _unused() -> Any:
    raise AssertionError


def _service_account() -> Any:
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    info = {
        "client_email": "shop@example.iam.gserviceaccount.com",
        "private_key": pem.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    made = service_account.Credentials.from_service_account_info(info, scopes=["a"])
    made.token = KEY
    return made


def _compute_engine() -> Any:
    made = google.auth.compute_engine.credentials.Credentials("shop@example.test")
    made.token = KEY
    return made


def _refreshable() -> Any:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    return botocore.credentials.RefreshableCredentials(
        "AKIA", KEY, KEY, later, _unused, "test", time_fetcher=_now
    )


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _raises(use: Any, *arguments: Any) -> bool:
    with pytest.raises((StrippedValueError, AttributeError, TypeError)):
        use(*arguments)
    return True


def _sent(auth: Any) -> Any:
    return requests.Request("GET", "https://api.example.test/", auth=auth).prepare()


OBJECTS: dict[str, tuple[Any, Any]] = {
    "SecretStr": (
        lambda: pydantic.SecretStr(KEY),
        lambda back: str(back) == "" and is_stripped(back.get_secret_value()),
    ),
    "SecretBytes": (
        lambda: pydantic.SecretBytes(KEY.encode()),
        lambda back: is_stripped(back.get_secret_value()),
    ),
    "botocore": (
        lambda: botocore.credentials.Credentials("AKIA", KEY, KEY),
        lambda back: (
            back.access_key == "AKIA"
            and _raises(getattr, back.get_frozen_credentials().secret_key, "encode")
        ),
    ),
    "frozen": (
        lambda: botocore.credentials.ReadOnlyCredentials("AKIA", KEY, KEY, "1"),
        lambda back: (back.access_key, back.account_id) == ("AKIA", "1")
        and is_stripped(back.secret_key),
    ),
    "refreshable": (_refreshable, lambda back: back.access_key == "AKIA" and back.method == "test"),
    "azure": (
        lambda: AzureKeyCredential(KEY),
        lambda back: back.update("another") is None and back.key == "another",
    ),
    "azure SAS": (
        lambda: AzureSasCredential(KEY),
        lambda back: back.update("another") is None and back.signature == "another",
    ),
    "google service account": (
        _service_account,
        lambda back: (
            back.service_account_email == "shop@example.iam.gserviceaccount.com"
            and not back.valid
            and _raises(back.sign_bytes, b"x")
        ),
    ),
    "google compute engine": (
        _compute_engine,
        lambda back: not back.valid and back.service_account_email == "shop@example.test",
    ),
    "requests basic": (
        lambda: requests.auth.HTTPBasicAuth("shop", KEY),
        lambda back: back.username == "shop" and _raises(_sent, back),
    ),
    "requests proxy": (
        lambda: requests.auth.HTTPProxyAuth("shop", KEY),
        lambda back: back.username == "shop" and _raises(_sent, back),
    ),
    "httpx basic": (
        lambda: httpx.BasicAuth("shop", KEY * 3),
        lambda back: _raises(next, back.auth_flow(httpx.Request("GET", "https://example.test/"))),
    ),
    "redis": (
        lambda: redis.UsernamePasswordCredentialProvider("shop", KEY),
        lambda back: back.get_credentials()[0] == "shop" and is_stripped(back.get_credentials()[1]),
    ),
    "SQLAlchemy URL": (
        lambda: sqlalchemy.make_url(f"postgresql://shop:{KEY}@db/shop?a=b"),
        lambda back: (
            (back.username, back.host, back.database, dict(back.query))
            == ("shop", "db", "shop", {"a": "b"})
            and back.set(password="new").password == "new"
        ),
    ),
}  # fmt: skip
HIDDEN = (KEY.encode(), b"Y2FuYXJ5", b"PRIVATE KEY")


def _holds_secret(payload: bytes) -> bool:
    return any(one in payload for one in HIDDEN)


@pytest.mark.parametrize("kind", OBJECTS)
def test_a_credential_object_loads_without_its_secret(kind: str) -> None:
    """The first time and every time; it can be stored again, about which nothing is said."""
    make, works = OBJECTS[kind]
    guard = Guard()
    for _ in range(12):
        with capture_findings() as findings:
            payload = guard.dumps({"rows": [1], "held": make()}, label="v")
        assert not _holds_secret(payload)
        about = [one for one in findings if one.code == "CC120"]
        also = ["v['held']._signer"] if "service account" in kind else []  # which holds its key
        assert [str(one.path) for one in about] == ["v['held']", *also]
        assert about[0].did.startswith("stored it without its ")
    back = guard.loads(payload)
    assert back["rows"] == [1]
    with capture_findings() as findings:
        again = guard.dumps({"held": pickle.loads(payload)["held"]})
    assert [one for one in findings if one.code == "CC120"] == []
    assert works(back["held"])
    assert works(guard.loads(again)["held"])


@pytest.mark.parametrize("kind", sorted(OBJECTS.keys() - {"refreshable"}))  # pickle refuses it
def test_the_modes_hold_for_credential_objects(kind: str) -> None:
    """`warn` stores it as it is, and `raise` refuses it; the object itself is not changed."""
    make, _ = OBJECTS[kind]
    value = {"held": make()}
    assert _holds_secret(Guard(mode="warn").dumps(value))
    with pytest.raises(UncacheableValueError, match="CC120"):
        Guard(mode="raise").dumps(value)
    Guard().dumps(value)
    assert _holds_secret(Guard(mode="warn").dumps(value))


def test_settings_keep_all_but_the_secret() -> None:
    """A model of pydantic that holds one; an empty one is no secret."""
    with capture_findings() as findings:
        payload = Guard().dumps(Settings(name="shop", password=KEY), label="v")
    back = pickle.loads(payload)
    assert (back.name, is_stripped(back.password.get_secret_value())) == ("shop", True)
    assert [str(one.path) for one in findings] == ["v.password"]
    with capture_findings() as findings:
        Guard().dumps(Settings(name="shop", password=""))
    assert findings == []


def test_a_named_key_of_azure_keeps_its_name() -> None:
    """The key stands in a named tuple."""
    payload = Guard().dumps(AzureNamedKeyCredential("shop", KEY))
    assert not _holds_secret(payload)
    assert pickle.loads(payload).named_key.name == "shop"


def test_a_digest_of_requests_keeps_its_user() -> None:
    """It holds a thread-local besides."""
    payload = Guard().dumps(requests.auth.HTTPDigestAuth("shop", KEY))
    assert not _holds_secret(payload)
    assert pickle.loads(payload).username == "shop"


def test_a_key_that_encrypts_is_cut_whole() -> None:
    """There is nothing else in it."""
    with capture_findings() as findings:
        payload = Guard().dumps({"fernet": Fernet(Fernet.generate_key())}, label="v")
    assert [(one.code, str(one.path)) for one in findings] == [("CC120", "v['fernet']")]
    assert is_stripped(pickle.loads(payload)["fernet"])


def test_the_token_of_a_user_is_stored_and_reported() -> None:
    """Google's credentials of a user are nothing without it: to store them is to store it."""
    held = google.oauth2.credentials.Credentials(KEY, refresh_token=KEY)
    with capture_findings() as findings:
        payload = Guard().dumps({"held": held}, label="v")
    assert pickle.loads(payload)["held"].token == KEY
    assert [(one.code, str(one.path), one.action) for one in findings] == [
        ("CC120", "v['held']", "observed")
    ]


# --- What was sent for a response -----------------------------------------------------------------

URL = "https://api.example.test/rates?base=eur&state=CA"
SECRETS: dict[str, dict[str, Any]] = {
    "authorization": {"headers": {"Authorization": f"Bearer {KEY}"}},
    "key": {"headers": {"X-Api-Key": KEY}},
    "cookie": {"headers": {"Cookie": f"sid={KEY}"}},
    "cookies": {"cookies": {"sid": KEY}},
    "parameter": {"url": f"{URL}&api_key={KEY}"},
    "google": {"url": f"{URL}&key={KEY}"},
    "signed": {"url": f"{URL}&X-Amz-Signature={KEY}&X-Amz-Date=20261130"},
    "user": {"url": URL.replace("://", f"://shop:{KEY}@")},
    "form": {"method": "POST", "data": {"grant_type": "client", "client_secret": KEY}},
}


def _requests_response(url: str = URL, method: str = "GET", **more: Any) -> Any:
    made = requests.Response()
    made.status_code, made._content, made.encoding = 200, b'{"eur": 1.1}', "utf-8"
    made.headers["Content-Type"] = "application/json"
    made.elapsed = dt.timedelta(seconds=1)
    headers = {"Accept": "text/plain", **more.pop("headers", {})}
    made.request = requests.Request(method, url, headers=headers, **more).prepare()
    made.url = made.request.url
    return made


def _httpx_response(url: str = URL, method: str = "GET", **more: Any) -> Any:
    headers = {"Accept": "text/plain", **more.pop("headers", {})}
    request = httpx.Request(method, url, headers=headers, **more)
    made = httpx.Response(200, json={"eur": 1.1}, request=request)
    made.elapsed = dt.timedelta(seconds=1)
    return made


CLIENTS = {"requests": _requests_response, "httpx": _httpx_response}


def _is_whole(back: Any) -> bool:
    back.raise_for_status()
    assert (back.status_code, back.json(), back.text.replace(" ", "")) == (
        200, {"eur": 1.1}, '{"eur":1.1}'
    )  # fmt: skip
    assert back.headers["content-type"] == "application/json"
    assert back.elapsed == dt.timedelta(seconds=1)
    assert back.request.method in ("GET", "POST")
    assert back.request.headers["accept"] == "text/plain"
    assert str(back.url).startswith(URL.partition("&")[0])
    assert str(back.request.url).startswith(URL)
    return True


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("sent", SECRETS)
def test_a_response_is_stored_without_what_was_sent_for_it(client: str, sent: str) -> None:
    """What it says is all there; the place is named, once."""
    guard = Guard()
    response = CLIENTS[client](**SECRETS[sent])
    for _ in range(12):
        with capture_findings() as findings:
            payload = guard.dumps({"rates": response}, label="v")
        assert not _holds_secret(payload)
        assert [(one.code, one.path.steps[0].name, one.did) for one in findings] == [
            ("CC120", "rates", "stored it without credentials")
        ]
    assert _is_whole(guard.loads(payload)["rates"])
    with capture_findings() as findings:
        guard.dumps(guard.loads(payload))
    assert findings == []


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("sent", SECRETS)
def test_the_modes_hold_for_responses(client: str, sent: str) -> None:
    """And the response that was stored is not changed."""
    response = CLIENTS[client](**SECRETS[sent])
    plain = pickle.dumps(response, 5)
    with pytest.raises(UncacheableValueError, match="CC120"):
        Guard(mode="raise").dumps(response)
    Guard().dumps(response)
    assert Guard(mode="warn").dumps(response) == plain == pickle.dumps(response, 5)


@pytest.mark.parametrize("client", CLIENTS)
def test_redirects_and_requests_alone_are_cleaned_as_well(client: str) -> None:
    """Wherever a request hangs."""
    first = CLIENTS[client]()
    first.history = [CLIENTS[client](headers={"Authorization": KEY})]
    with capture_findings() as findings:
        payload = Guard().dumps({"a": first, "b": [first.history[0].request]}, label="v")
    assert not _holds_secret(payload)
    assert [one.code for one in findings] == ["CC120"]
    assert _is_whole(pickle.loads(payload)["a"])


@pytest.mark.parametrize(
    "settings", [{"auth": ("shop", KEY)}, {"headers": {"X-Api-Key": KEY}}], ids=["auth", "header"]
)
def test_a_session_that_authenticates_is_cut_whole(settings: dict[str, Any]) -> None:
    """Without that it would be another session; a plain one is stored, with its cookies."""
    session = requests.Session()
    session.cookies.set("theme", "dark")
    for name, value in settings.items():
        setattr(session, name, value)
    with capture_findings() as findings:
        payload = Guard().dumps({"rows": [1], "held": session}, label="v")
    assert [(one.code, str(one.path), one.action) for one in findings] == [
        ("CC120", "v['held']", "stripped")
    ]
    assert not _holds_secret(payload)
    assert is_stripped(pickle.loads(payload)["held"])
    plain = requests.Session()
    plain.cookies.set("theme", "dark")
    with capture_findings() as findings:
        assert pickle.loads(Guard().dumps(plain)).cookies["theme"] == "dark"
    assert findings == []


def test_what_its_own_method_raises_is_no_failure_of_a_rule(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A response reads the rest of its body when it is stored, which may be gone."""
    response = requests.Response()
    response.raw = io.BytesIO()  # type: ignore[assignment]
    response.raw.stream = _gone  # type: ignore[union-attr,method-assign]
    payload = Guard().dumps({"rows": [1], "held": response}, label="v")
    assert is_stripped(pickle.loads(payload)["held"])
    assert ["CC118" in one.getMessage() for one in caplog.records] == [True]


def _gone(*_arguments: Any, **_options: Any) -> Any:
    raise OSError
    yield


def test_a_request_of_the_standard_library_is_cleaned() -> None:
    """Its headers stand in two dicts."""
    request = urllib.request.Request(f"{URL}&token={KEY}", f"client_secret={KEY}".encode())
    request.add_header("Authorization", KEY)
    request.add_unredirected_header("Cookie", KEY)
    request.add_header("Accept", "text/plain")
    with capture_findings() as findings:
        payload = Guard().dumps([request], label="v")
    back = pickle.loads(payload)[0]
    assert not _holds_secret(payload)
    assert (back.headers, back.get_method()) == ({"Accept": "text/plain"}, "POST")
    assert [(one.code, str(one.path)) for one in findings] == [("CC120", "v[0]")]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"headers": {"Idempotency-Key": "1", "User-Agent": "shop", "If-None-Match": "x"}},
        {"method": "POST", "json": {"client_secret": "no form"}},
        {"method": "POST", "data": {"code": "4711", "state": "CA", "page_token": "2"}},
    ],
)
def test_a_response_without_credentials_is_innocent(client: str, sent: Any) -> None:
    """Byte for byte, and nothing is said."""
    response = CLIENTS[client](**sent)
    with capture_findings() as findings:
        assert Guard().dumps(response) == pickle.dumps(response, 5)
    assert findings == []


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("https://u:p@h/?a=1#f", "https://h/?a=1#f"),
        ("https://token@h/", "https://h/"),
        ("https://h/@alice?mail=a@b", "https://h/@alice?mail=a@b"),
        ("https://h/?token=x&a=1", "https://h/?token=&a=1"),
        ("a=1&password=x y", "a=1&password= y"),
        (
            "https://h/?page_token=x&keyword=y&monkey=z",
            "https://h/?page_token=x&keyword=y&monkey=z",
        ),
        ("redis://:p@h:6379/0", "redis://h:6379/0"),
    ],
)
def test_what_is_left_of_a_url(text: str, cleaned: str) -> None:
    """All but user, password and what is named as a key is."""
    assert without_url_secrets(text) == cleaned


def test_json_of_a_response_is_what_it_was() -> None:
    """The body of the answer is not looked into."""
    response = _requests_response()
    response._content = json.dumps({"token": "issued"}).encode()
    assert pickle.loads(Guard().dumps(response)).json() == {"token": "issued"}
