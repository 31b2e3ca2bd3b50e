"""What carries secrets of the application or of a user."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import qualified_name
from contextcache.payload.wire import Stripped
from contextcache.rules.replacements import Reduced, Trimmed, now, of_state, state_of
from contextcache.rules.rule import Verb, rows

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD_FIELDS = frozenset({
    "password", "password_hash", "passwd", "pw_hash", "hashed_password", "_password",
    "_password_hash",
})  # fmt: skip


def without_user_password(obj: Any, reduced: Reduced) -> Trimmed | None:
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
    return of_state(reduced, kept), [], did


def without_password(_obj: object, reduced: Reduced) -> Trimmed | None:
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
    return of_state(reduced, kept), []


def without(
    *names: str, marked: bool = True, cleared: tuple[str, ...] = ()
) -> Callable[[Any, Reduced], Trimmed | None]:
    """Return what leaves the attributes of these names out of an object.

    Args:
        *names: The attributes, or the fields of a named tuple, that hold its secrets.
        marked: Whether a marker takes their place. A library that calls `str()` on what it finds
            there would send the marker, so an attribute is then missing instead.
        cleared: Attributes that become None, as before they are fetched for the first time.
    """

    def trim(obj: Any, reduced: Reduced) -> Trimmed | None:
        cls = type(obj)
        in_order = getattr(cls, "_fields", ()) if issubclass(cls, tuple) else ()
        state = dict(zip(in_order, reduced[1][1:], strict=True)) if in_order else state_of(reduced)
        hidden = [name for name in (*names, *cleared) if _is_secret(state.get(name))]
        if not hidden:
            return None
        kept = {name: held for name, held in state.items() if name not in hidden}
        for name in hidden:
            if name in cleared:
                kept[name] = None
            elif marked:
                kind = qualified_name(type(state[name]))
                kept[name] = Stripped("CC120", kind, f"{cls.__name__}.{name}", now())
        if in_order:
            return (reduced[0], (cls, *map(kept.get, in_order)), *reduced[2:]), [], ""
        return of_state(reduced, kept), [], ""

    return trim


def _is_secret(held: object) -> bool:
    """Return False for an attribute that is not set, or was left out before."""
    return not (held is None or type(held) is Stripped or (type(held) in (str, bytes) and not held))


_CREDENTIAL = {
    "reason": "it carries a key or password",
    "fix": "store the data it was used for, and take it from the settings on read",
}
_MARKED = "stored it without its secret; on load a marker stands there that says so when it is used"
_secret_rows = functools.partial(rows, "CC120", is_secret=True)

ROWS = {
    **_secret_rows(
        Verb.STRIP,
        "braintree:BraintreeGateway", "braintree:Configuration", "twilio:Client",
        "stripe:StripeClient",
        "slack_sdk:BaseClient", "slack_sdk:AsyncBaseClient", "slack_sdk:WebClient", "tweepy:Client",
        "tweepy:API", "tweepy:BaseClient", "github:Github", "github:Requester", "github:Auth",
        "spotipy:Spotify", "praw:Reddit", "prawcore:Session", "hubspot:Client", "shopify:Session",
        "google.auth.crypt.base.Signer", "azure:ClientSecretCredential",
        "azure:CertificateCredential", "azure:UsernamePasswordCredential",
        "azure:DefaultAzureCredential", "azure:ChainedTokenCredential", "hvac:Client",
        "nacl:SigningKey", "nacl:PrivateKey", "nacl:SecretBox", "flask_mail:Mail",
        "decouple:Config", "decouple:AutoConfig", "dynaconf:LazySettings", "environ:Env",
        "django.conf.LazySettings", "django.conf.Settings", "django.conf.UserSettingsHolder",
        "os._Environ",
        reason="it carries the secrets of this application",
        fix="store the data you fetched, and take the client from where the application keeps it",
        force=True,
    ),
    **_secret_rows(
        Verb.STRIP,
        "flask.config.Config", "celery.app.base.Celery", "itsdangerous:Signer",
        "cryptography:Fernet", "cryptography:MultiFernet",
        "itsdangerous:Serializer", "django.core.signing.Signer",
        reason="it carries the secrets of this application",
        fix="store the data you need, and take it from the application on read", force=True,
    ),
    **_secret_rows(
        Verb.STRIP, "celery.result.AsyncResult",
        reason="it takes its application along, with the passwords of broker and result store",
        fix="store its id, and make AsyncResult(id) on read", force=True,
    ),
    # What is a credential, and is of use without its secret: as a name, or to be given it again
    **_secret_rows(
        Verb.TRIM, "pydantic:SecretStr", "pydantic:SecretBytes", "pydantic:Secret",
        make=without("_secret_value"), did=_MARKED, force=True, **_CREDENTIAL,
    ),
    **_secret_rows(
        Verb.TRIM, "botocore:Credentials", "botocore:ReadOnlyCredentials",
        make=without(
            "secret_key", "token", "_secret_key", "_token", "_frozen_credentials"
        ), did=_MARKED, force=True, **_CREDENTIAL,
    ),
    **_secret_rows(
        Verb.TRIM,
        "azure:AzureKeyCredential", "azure:AzureNamedKey", "azure:AzureSasCredential",
        make=without("_key", "key", "_signature"), did=_MARKED, force=True, **_CREDENTIAL,
    ),
    **_secret_rows(  # the key of a service account is its signer, which is stripped
        Verb.TRIM, "google.oauth2.service_account.Credentials",
        "google.oauth2.service_account.IDTokenCredentials", "google.auth.jwt.Credentials",
        "google.auth.compute_engine.credentials.Credentials",
        make=without(cleared=("token",)), force=True, **_CREDENTIAL,
        did="stored it without its token, which is fetched on use",
    ),
    **_secret_rows(
        Verb.TRIM, "httpx:BasicAuth", "httpx2:BasicAuth", "httpx:DigestAuth",
        "httpx2:DigestAuth", "sqlalchemy.engine.url.URL",
        "redis:UsernamePasswordCredentialProvider",
        make=without("_auth_header", "_password", "password"), did=_MARKED, force=True,
        **_CREDENTIAL,
    ),
    **_secret_rows(
        Verb.TRIM, "requests.auth.HTTPBasicAuth", "requests.auth.HTTPDigestAuth",
        make=without("password", marked=False), did="stored it without its password", force=True,
        **_CREDENTIAL,
    ),
    **_secret_rows(
        Verb.OBSERVE, "google.oauth2.credentials.Credentials", "oauthlib:Client",
        reason="it carries access tokens", did="stored it as it is",
        fix="store it encrypted, or fetch it where it is used",
    ),
    **_secret_rows(
        Verb.TRIM, "django.contrib.auth.base_user.AbstractBaseUser",
        make=without_user_password,
        did="stored it without the password hash, which is read from the database on use",
        reason="the row of a user carries the password hash",
        fix="store its primary key (.pk), once it is saved, and fetch the user on read",
        force=True,
    ),
    **_secret_rows(
        Verb.TRIM, "flask_login:UserMixin",
        make=without_password, behind=True,
        did="stored the user it stands for, without the password hash",
    ),
}  # fmt: skip
