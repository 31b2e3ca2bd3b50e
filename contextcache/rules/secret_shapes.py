"""Shapes of secrets: what a password hash, an API key, a private key or a token looks like.

No type shows that a text is a secret, but its issuer gave it a form. One row describes each form
and names its source. This is for development, tests, `explain` and the audit: production does not
pay for regular expressions over what it stores.

The search has two steps. `shapes_in` asks a whole payload for a few short texts, and only what is
found is looked for in the single texts of it, by `shape_of`, with all checks.
"""

from __future__ import annotations

import binascii
import dataclasses
import functools
import json
import re
from typing import TYPE_CHECKING, NamedTuple

from contextcache.rules.verdicts import LOOKS_LIKE_SECRET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from contextcache.rules.rule import Verdict

MAX_REST = 1000  # characters of a URL that follow its password
MIN_LENGTH = 20  # characters of what is no word of a language
MIN_VARIETY = 6  # different characters of a secret that stands in a longer text
MAX_HEADER = 4096  # characters of the header of a JWT


class Shape(NamedTuple):
    """The form of one kind of secret.

    Attributes:
        name: What a report calls it, such as `a GitHub token`.
        source: Where its issuer describes it.
        needles: Texts of which one stands in each such secret.
        pattern: Matches it; its group 1, or the whole, is what cannot be guessed.
        check: Tells of a match in a text, and of whether the text is nothing but a secret,
            whether it is one; by default whether its characters vary.
        spans_words: Whether it has spaces or fewer than `MIN_LENGTH` characters.
    """

    name: str
    source: str
    needles: tuple[str, ...]
    pattern: str
    check: Callable[[re.Match[str], bool], bool] | None = None
    spans_words: bool = False


def _is_varied(text: str, *, alone: bool) -> bool:
    """Return False for what stands for a secret in documentation, such as `sk_live_xxxxxxxx`."""
    different = set(text)
    if alone or "EXAMPLE" in text:
        return alone and not different <= set("xX*.")
    is_word = text.islower() and not any(map(str.isdigit, text))  # or several, with hyphens
    return len(different) >= MIN_VARIETY and not is_word


def _is_jwt(match: re.Match[str], alone: bool) -> bool:  # noqa: ARG001
    """Return True if the header of a signed or encrypted JWT names its algorithm."""
    header = match[1]
    if len(header) > MAX_HEADER:
        return False
    try:
        padded = header.replace("-", "+").replace("_", "/") + "=" * (-len(header) % 4)
        fields = json.loads(binascii.a2b_base64(padded))
    except ValueError:
        return False
    return type(fields) is dict and type(fields.get("alg")) is str


def _is_password(match: re.Match[str], alone: bool) -> bool:
    """Return True if the password in a URL is none of a template or of documentation."""
    user, password = match[1], match[2]
    if not match.string[match.start() - 1 : match.start()].isalnum():
        return False  # there is no scheme
    if not password.strip("xX*.") or password[0] in "{$<%[(":
        return False
    if alone:
        return True
    if len(password) < MIN_VARIETY or password == user or "," in password:
        return False
    classes = (
        str.islower,
        str.isupper,
        str.isdigit,
        lambda char: not (char.isalnum() or char in "_-"),
    )
    return sum(any(map(is_one, password)) for is_one in classes) > 1


_B64 = "[A-Za-z0-9+/]"
_CRYPT = "[./A-Za-z0-9]"
_PASSLIB = "https://passlib.readthedocs.io/en/stable/modular_crypt_format.html"
_MAN_CRYPT = "https://manpages.debian.org/crypt.5"
_DJANGO = "https://docs.djangoproject.com/en/stable/topics/auth/passwords/"
_WERKZEUG = "https://werkzeug.palletsprojects.com/en/stable/utils/#module-werkzeug.security"
_GITLAB = "https://docs.gitlab.com/security/tokens/"

SHAPES: tuple[Shape, ...] = (
    # Password hashes
    Shape(
        "a password hash of Django", _DJANGO, ("pbkdf2_sha",),
        rf"pbkdf2_sha(?:1|256|512)\$\d+\$[^$\s]+\$({_B64}{{20,}}={{0,2}})",
    ),
    Shape(
        "a password hash of Django", _DJANGO, ("scrypt$",),
        rf"(?<!\$)scrypt\$\d+\$[^$\s]+\$\d+\$\d+\$({_B64}{{20,}}={{0,2}})",
    ),
    Shape(
        "a password hash of Django or werkzeug", _DJANGO, ("md5$", "sha1$", "sha256$", "sha512$"),
        r"(?:md5|sha1|sha256|sha512)\$[^$\s]{0,128}\$([0-9a-f]{32,128})",
    ),
    Shape(
        "a password hash of werkzeug", _WERKZEUG, ("scrypt:", "pbkdf2:"),
        r"(?:scrypt:\d+:\d+:\d+|pbkdf2:\w+(?::\d+)?)\$[^$\s]+\$([0-9a-f]{32,})",
    ),
    Shape(
        "an Argon2 hash", "https://github.com/P-H-C/phc-winner-argon2", ("$argon2",),
        rf"\$argon2(?:id|i|d)\$(?:v=\d+\$)?m=\d+,t=\d+,p=\d+\S{{0,64}}?\$({_B64}{{8,}}\${_B64}{{16,}})",
    ),
    Shape(
        "a bcrypt hash", _PASSLIB, ("$2",),
        rf"\$2[abxy]?\$\d\d\$({_CRYPT}{{53}})",
    ),
    Shape(
        "a password hash of passlib", _PASSLIB, ("$pbkdf2", "$scrypt", "$bcrypt-", "$p5k2$"),
        rf"\$(?:pbkdf2(?:-sha\d+)?|scrypt|bcrypt-sha256|p5k2)\$[^\s$]+\$([./+=\w-]+\${_CRYPT[:-1]}+=_-]{{20,}})",
    ),
    Shape(
        "a password hash of crypt(3)", _MAN_CRYPT,
        ("$1$", "$5$", "$6$", "$apr1$", "$md5", "$sha1$", "$7$"),
        rf"\$(?:[156]|apr1|md5|sha1|7)(?:\$|,)(?:rounds=\d+\$|\d+\$)?{_CRYPT}{{0,86}}\${{1,2}}({_CRYPT}{{22,86}})",
    ),
    Shape(
        "a yescrypt hash", _MAN_CRYPT, ("$y$", "$gy$"),
        rf"\$g?y\${_CRYPT}+\${_CRYPT}+\$({_CRYPT}{{43}})",
    ),
    Shape(
        "a password hash of PHP", _PASSLIB, ("$P$", "$H$", "$S$"),
        rf"\$(?:[PH]\$({_CRYPT}{{31}})|S\${_CRYPT}{{52}})",
    ),
    Shape(
        "a password hash of LDAP", "https://www.rfc-editor.org/rfc/rfc2307",
        ("{SHA", "{SSHA", "{SMD5}", "{MD5}", "{PBKDF2"),
        rf"\{{(?:S?SHA(?:256|384|512)?|S?MD5|PBKDF2(?:-SHA\d+)?)\}}(\S{{0,60}}{_B64}{{20,}}={{0,2}})",
    ),
    Shape(
        "a SCRAM secret", "https://www.rfc-editor.org/rfc/rfc5803", ("SCRAM-SHA-",),
        rf"SCRAM-SHA-\d+\$\d+:({_B64}+=*\${_B64}+=*:{_B64}{{27,}}=*)",
    ),
    # Private keys, tokens and credentials of no single issuer. An encrypted key counts: what
    # encrypts it can be guessed by anyone who has it, and OpenSSH does not show that it is.
    Shape(
        "a private key", "https://www.rfc-editor.org/rfc/rfc7468", ("PRIVATE KEY",),
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        rf"(?:\s|\\[nr]|\\u000[ad]|[A-Z][\w-]+: [^\n\\]*){{0,40}}({_B64}{{40,}})",
        spans_words=True,
    ),
    Shape(
        "a JSON Web Token", "https://www.rfc-editor.org/rfc/rfc7519", ("eyJ",),
        r"(eyJ[\w-]{8,})\.[\w-]*\.[\w-]+(?:\.[\w-]+\.[\w-]+)?", _is_jwt,
    ),
    Shape(
        "a URL with a password", "https://www.rfc-editor.org/rfc/rfc3986#section-3.2.1", ("://",),
        r"://([^\s/?#:@\"'<>`\\]{0,200}):([^\s/?#@\"'<>`\\]{1,400})@(?=[\w\[.%-])",
        _is_password, spans_words=True,
    ),
    # Keys of services
    Shape(
        "an AWS access key",
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html",
        ("AKIA", "ASIA", "ABIA", "ACCA"), r"A(?:KI|SI|BI|CC)A([A-Z2-7]{16})",
    ),
    Shape(
        "a GitHub token",
        "https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/"
        "about-authentication-to-github",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        r"(?:gh[pousr]_([A-Za-z0-9]{36,255})|github_pat_\w{36,255})",
    ),
    Shape(
        "a GitLab token", _GITLAB,
        ("gl",),
        r"gl(?:pat|dt|rtr?|ptt|cbt|ft|soat|oas|agent|imt|ffct|wt)-([\w-]{20,}(?:\.[\w.]+)?)",
    ),
    Shape(
        "a Slack token", "https://docs.slack.dev/authentication/tokens", ("xox", "xapp-", "xwfp-"),
        r"(?:xox[a-z](?:\.xox[a-z])?|xapp|xwfp)-((?=[\w-]*\d)[\w-]{10,})",
    ),
    Shape(
        "a Slack webhook", "https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks",
        ("hooks.slack.com/",), r"hooks\.slack\.com/\w+/(?:[A-Z]\w+/){1,3}(\w{16,})",
    ),
    Shape(
        "a Stripe key", "https://docs.stripe.com/keys",
        ("sk_live_", "rk_live_", "sk_test_", "rk_test_", "whsec_"),
        r"(?:[sr]k_(?:live|test)_([A-Za-z0-9]{16,})|whsec_[A-Za-z0-9+/=]{24,})",
    ),
    Shape(
        "a Google API key", "https://cloud.google.com/docs/authentication/api-keys", ("AIza",),
        r"AIza([\w-]{35})",
    ),
    Shape(
        "a Google OAuth secret", "https://developers.google.com/identity/protocols/oauth2",
        ("GOCSPX-", "ya29."), r"(?:GOCSPX-([\w-]{28})|ya29\.[\w-]{20,})",
    ),
    Shape(
        "an Anthropic key", "https://platform.claude.com/docs/en/api/overview", ("sk-ant-",),
        r"sk-ant-([\w-]{20,})",
    ),
    Shape(
        "an OpenAI key", "https://platform.openai.com/docs/api-reference/authentication", ("sk-",),
        r"sk-(?:(?:proj|svcacct|admin|None)-([\w-]{20,})|[A-Za-z0-9]{32,})",
    ),
    Shape(
        "a SendGrid key", "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys",
        ("SG.",), r"SG\.([\w-]{16,32}\.[\w-]{32,64})",
    ),
    Shape(
        "an npm token", "https://docs.npmjs.com/about-access-tokens", ("npm_",),
        r"npm_([A-Za-z0-9]{36})",
    ),
    Shape(
        "a PyPI token", "https://warehouse.pypa.io/development/token-scanning.html",
        ("pypi-",), r"pypi-(AgE[\w-]{32,})",
    ),
    Shape(
        "a Twilio API key", "https://www.twilio.com/docs/iam/api-keys", ("SK",),
        r"SK([0-9a-f]{32})",
    ),
    Shape(
        "a DigitalOcean token",
        "https://docs.digitalocean.com/reference/api/create-personal-access-token/",
        ("dop_v1_", "doo_v1_", "dor_v1_"), r"do[opr]_v1_([0-9a-f]{64})",
    ),
    Shape(
        "a Shopify token", "https://shopify.dev/docs/apps/build/authentication-authorization",
        ("shpat_", "shpca_", "shppa_", "shpss_", "shpua_"),
        r"shp(?:at|ca|pa|ss|ua)_([0-9a-fA-F]{32})",
    ),
    Shape(
        "a Hugging Face token", "https://huggingface.co/docs/hub/security-tokens",
        ("hf_", "api_org_"), r"(?:hf|api_org)_([A-Za-z0-9]{34,})",
    ),
    Shape(
        "a Mailgun key", "https://documentation.mailgun.com/docs/mailgun/user-manual/api-key-mgmt/",
        ("key-",), r"key-([0-9a-f]{32})",
    ),
    Shape(
        "a Mailchimp key", "https://mailchimp.com/developer/marketing/guides/quick-start/",
        ("-us",), r"([0-9a-f]{32})-us\d{1,2}",
    ),
    Shape(
        "a Telegram bot token", "https://core.telegram.org/bots/api#authorizing-your-bot", (":AA",),
        r"\d{8,10}:(AA[\w-]{33})",
    ),
    Shape(
        "a Databricks token", "https://docs.databricks.com/en/dev-tools/auth/pat.html", ("dapi",),
        r"dapi([0-9a-f]{32})(?:-\d)?",
    ),
    Shape(
        "a HashiCorp Vault token", "https://developer.hashicorp.com/vault/docs/concepts/tokens",
        ("hvs.", "hvb.", "hvr."), r"hv[sbr]\.([\w-]{24,})",
    ),
    Shape(
        "a Grafana token", "https://grafana.com/docs/grafana/latest/administration/service-accounts/",
        ("glsa_", "glc_"), r"(?:glsa_([A-Za-z0-9]{32}_[0-9a-f]{8})|glc_[A-Za-z0-9+/=]{32,})",
    ),
    Shape(
        "a Sentry token", "https://docs.sentry.io/account/auth-tokens/", ("sntrys_", "sntryu_"),
        r"sntry[su]_([A-Za-z0-9+/=_]{64,})",
    ),
    Shape(
        "a New Relic key", "https://docs.newrelic.com/docs/apis/intro-apis/new-relic-api-keys/",
        ("NRAK-",), r"NRAK-([A-Z0-9]{27})",
    ),
    Shape(
        "a Square token", "https://developer.squareup.com/docs/build-basics/access-tokens",
        ("sq0",), r"sq0(?:atp|csp)-([\w-]{22,43})",
    ),
    Shape(
        "a Docker Hub token", "https://docs.docker.com/security/access-tokens/",
        ("dckr_pat_", "dckr_oat_"), r"dckr_[po]at_([\w-]{27,})",
    ),
    Shape(
        "an Atlassian token",
        "https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/",
        ("ATATT3x",), r"ATATT3x([\w=-]{100,})",
    ),
    Shape(
        "an Azure storage key",
        "https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string",
        ("AccountKey=", "SharedAccessKey="), rf"(?:AccountKey|SharedAccessKey)=({_B64}{{40,}}=*)",
    ),
    Shape(
        "a Brevo key", "https://developers.brevo.com/docs/getting-started", ("xkeysib-",),
        r"xkeysib-([0-9a-f]{64}-\w{16})",
    ),
)  # fmt: skip
"""Every shape that is searched for."""


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


_SEPARATORS = bytes(range(0x21)) + b"\"'`<>()[]\\" + bytes(range(0x7F, 0x100))
_SPACES = bytes.maketrans(_SEPARATORS, b" " * len(_SEPARATORS))


def shapes_in(payload: bytes) -> list[Shape]:
    """Return the shapes of which a payload may hold one, before any check.

    Args:
        payload: A pickle, JSON or anything else. What stands between its texts does not matter.
    """
    words = payload.translate(_SPACES).split()
    long = b" ".join([word for word in words if len(word) >= MIN_LENGTH]).decode()
    whole = payload.decode("latin-1")
    possible = [shape for needle, shape in _OF_ONE_WORD if needle in long]
    found = [shape for shape in dict.fromkeys(possible) if _compiled(shape.pattern).search(long)]
    possible = [shape for needle, shape in _OF_WORDS if needle in whole]
    return found + [shape for shape in possible if _compiled(shape.pattern).search(whole)]


_NEEDLES = [(needle, shape) for shape in SHAPES for needle in shape.needles]
_OF_ONE_WORD = [(needle, shape) for needle, shape in _NEEDLES if not shape.spans_words]
_OF_WORDS = [(needle, shape) for needle, shape in _NEEDLES if shape.spans_words]


def shape_of(text: str | bytes | bytearray, shapes: Iterable[Shape] = SHAPES) -> Shape | None:
    """Return the shape of the first secret in a text, or None.

    Args:
        text: The text of one field, which may be longer than the secret.
        shapes: What to look for.
    """
    text = text if isinstance(text, str) else text.decode("latin-1")
    for shape in shapes:
        if any(needle in text for needle in shape.needles):
            for match in _compiled(shape.pattern).finditer(text):
                if _stands_apart(match) and _is_secret(shape, match):
                    return shape
    return None


def verdict_on(shape: Shape) -> Verdict:
    """Return the verdict on a text that has the shape of a secret."""
    return dataclasses.replace(LOOKS_LIKE_SECRET, reason=f"it holds what looks like {shape.name}")


def _is_secret(shape: Shape, match: re.Match[str]) -> bool:
    before, after = match.string[: match.start()], match.string[match.end() :]
    alone = len(after) < MAX_REST and not after.strip().count(" ") and _SCHEME.fullmatch(before)
    if shape.check is not None:
        return shape.check(match, bool(alone))
    return _is_varied(match[1] or match[0], alone=bool(alone))


_SCHEME = re.compile(r"\s*(?:Bearer |Basic |[A-Za-z][A-Za-z0-9+.-]{0,30})?")


def _stands_apart(match: re.Match[str]) -> bool:
    """Return True if a match is not a part of a longer word, such as one in base64."""
    text, (start, end) = match.string, match.span()
    return not (_is_word(text[start - 1 : start]) and _is_word(text[start])) and not (
        _is_word(text[end : end + 1]) and _is_word(text[end - 1])
    )


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")
