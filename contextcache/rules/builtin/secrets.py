"""What carries secrets of the application or of a user."""

from __future__ import annotations

from typing import Any

from contextcache.payload.wire import Stripped
from contextcache.rules.replacements import Reduced, now, state_of
from contextcache.rules.rule import Verb, rows

PASSWORD_FIELDS = frozenset(
    {
        "password",
        "password_hash",
        "passwd",
        "pw_hash",
        "hashed_password",
        "_password",
        "_password_hash",
    }
)


def without_user_password(obj: Any, reduced: Reduced) -> tuple[Reduced, list[object], str] | None:
    """Defer the password hash of a row of a Django user model.

    Django asks the database for a field that is missing from the instance dictionary. A row that
    is not saved keeps its hash, because there is no other copy of it. The password itself, which
    `set_password` keeps until the row is saved, is never stored.

    Returns:
        The changed reduce value, no field that is reported by itself, and what was stored of the
        row where that is not what the rule says.
    """
    state = state_of(reduced)
    meta, model_state = type(obj)._meta, state.get("_state")
    hashes = PASSWORD_FIELDS.intersection([field.attname for field in meta.concrete_fields])
    hashes &= {name for name, value in state.items() if value}
    if not hashes and state.get("_password") is None:
        return None
    keys = [state.get(field.attname) for field in meta.pk_fields]
    hidden, did = {"_password"}, "stored it with the password hash: it is not saved yet"
    if model_state is not None and not model_state.adding and None not in keys:
        hidden, did = hidden | hashes, ""
    kept = {name: value for name, value in state.items() if name not in hidden}
    return (*reduced[:2], kept, *reduced[3:]), [], did


def without_password(_obj: object, reduced: Reduced) -> tuple[Reduced, list[object]] | None:
    """Leave the password hash out of a user.

    Django reads a field that is missing from the instance dictionary from the database when it
    is asked for, SQLAlchemy once the user is merged into a session; any other user gets a marker.
    """
    state = state_of(reduced)
    hidden = PASSWORD_FIELDS & state.keys()
    if not hidden:
        return None
    kept = {name: value for name, value in state.items() if name not in hidden}
    if not {"_state", "_sa_instance_state"} & kept.keys():
        kept |= {name: Stripped("CC120", "str", f"user.{name}", now()) for name in sorted(hidden)}
    return (*reduced[:2], kept, *reduced[3:]), []


ROWS = {
    **rows(
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
    **rows(
        "CC120", Verb.STRIP,
        "flask.config.Config", "celery.app.base.Celery", "itsdangerous:Signer",
        "itsdangerous:Serializer", "django.core.signing.Signer",
        reason="it carries the secrets of this application",
        fix="store the data you need, and take it from the application on read", force=True,
    ),
    **rows(
        "CC120", Verb.STRIP, "celery.result.AsyncResult",
        reason="it takes its application along, with the passwords of broker and result store",
        fix="store its id, and make AsyncResult(id) on read", force=True,
    ),
    **rows(
        "CC120", Verb.OBSERVE,
        "botocore:Credentials", "botocore:ReadOnlyCredentials", "azure:AzureKeyCredential",
        "azure:AzureNamedKeyCredential", "azure:AzureSasCredential", "requests.auth.HTTPBasicAuth",
        "httpx:BasicAuth", "pydantic:SecretStr", "pydantic:SecretBytes",
        reason="it carries a key or password", did="stored it as it is",
        fix="store the data it was used for, and take it from the settings on read", force=True,
    ),
    **rows(
        "CC120", Verb.OBSERVE, "google.oauth2.credentials.Credentials", "oauthlib:Client",
        reason="it carries access tokens", did="stored it as it is",
        fix="store it encrypted, or fetch it where it is used",
    ),
    **rows(
        "CC120", Verb.TRIM, "django.contrib.auth.base_user.AbstractBaseUser",
        make=without_user_password,
        did="stored it without the password hash, which is read from the database on use",
        reason="the row of a user carries the password hash",
        fix="store its primary key (.pk), once it is saved, and fetch the user on read",
        force=True,
    ),
    **rows(
        "CC120", Verb.TRIM, "flask_login:UserMixin",
        make=without_password, behind=True,
        did="stored the user it stands for, without the password hash",
    ),
}  # fmt: skip
