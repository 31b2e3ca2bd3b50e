"""Made-up secrets of every shape, each from the grammar of its issuer."""

from __future__ import annotations

import base64
import json
import string
from random import Random

ALNUM = string.ascii_letters + string.digits
WORD = ALNUM + "_-"
HEX = string.digits + "abcdef"
BASE32 = string.ascii_uppercase + "234567"
CRYPT = "./" + ALNUM


def _of(alphabet: str, size: int, dice: Random) -> str:
    return "".join(dice.choices(alphabet, k=size))


def _base64(size: int, dice: Random) -> str:
    return base64.b64encode(dice.randbytes(size)).decode()


def _urlsafe(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _json_part(dice: Random, **fields: object) -> str:
    return _urlsafe(json.dumps(fields | {"kid": _of(ALNUM, 6, dice)}).encode())


def _pem(kind: str, dice: Random) -> str:
    body = _base64(dice.randrange(120, 400), dice)
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    head = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A1B\n\n" * dice.randrange(2)
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{head}{lines}\n-----END {kind}PRIVATE KEY-----\n"


def _django(dice: Random) -> str:
    salt = _of(ALNUM, 22, dice)
    name, size = dice.choice([("pbkdf2_sha256", 32), ("pbkdf2_sha1", 20)])
    return dice.choice([
        f"{name}${dice.randrange(10**4, 10**7)}${salt}${_base64(size, dice)}",
        f"argon2$argon2id$v=19$m=102400,t=2,p=8${_of(ALNUM, 22, dice)}${_of(ALNUM, 43, dice)}",
        f"bcrypt_sha256$$2b$12${_of(CRYPT, 53, dice)}",
        f"scrypt$16384${salt}$8$5${_base64(64, dice)}",
        f"md5${salt}${_of(HEX, 32, dice)}",
        f"sha1${salt}${_of(HEX, 40, dice)}",
    ])  # fmt: skip


def _werkzeug(dice: Random) -> str:
    salt = _of(ALNUM, 16, dice)
    return dice.choice([
        f"scrypt:32768:8:1${salt}${_of(HEX, 128, dice)}",
        f"pbkdf2:sha256:{dice.randrange(10**4, 10**7)}${salt}${_of(HEX, 64, dice)}",
    ])  # fmt: skip


def _crypt(dice: Random) -> str:
    name, size = dice.choice([("5", 43), ("6", 86), ("1", 22)])
    rounds = f"rounds={dice.randrange(1000, 10**6)}$" * (name != "1" and dice.randrange(2))
    return f"${name}${rounds}{_of(ALNUM, 8, dice)}${_of(CRYPT, size, dice)}"


def _passlib(dice: Random) -> str:
    return dice.choice([
        f"$pbkdf2-sha256$29000${_of(CRYPT, 22, dice)}${_of(CRYPT, 43, dice)}",
        f"$scrypt$ln=16,r=8,p=1${_of(ALNUM, 22, dice)}${_of(ALNUM, 43, dice)}",
        f"$bcrypt-sha256$v=2,t=2b,r=12${_of(CRYPT, 22, dice)}${_of(CRYPT, 31, dice)}",
    ])  # fmt: skip


def _jwt(dice: Random) -> str:
    header = _json_part(dice, alg=dice.choice(["HS256", "RS256", "ES256"]), typ="JWT")
    return f"{header}.{_json_part(dice, sub='42')}.{_urlsafe(dice.randbytes(32))}"


def _jwe(dice: Random) -> str:
    parts = [_urlsafe(dice.randbytes(size)) for size in (40, 12, 60, 16)]
    return ".".join([_json_part(dice, alg="RSA-OAEP", enc="A128GCM"), *parts])


def _url(dice: Random) -> str:
    scheme = dice.choice(["postgres", "redis", "mysql+pymysql", "https", "amqp", "mongodb+srv"])
    user, password = dice.choice(["", "shop", "u"]), _of(ALNUM + "-._~!", 14, dice) + "a1"
    return f"{scheme}://{user}:{password}@db.internal:5432/shop"


def _openai(dice: Random) -> str:
    middle = _of(ALNUM, 20, dice) + "T3BlbkFJ" + _of(ALNUM, 20, dice)
    return dice.choice(["sk-", "sk-proj-", "sk-svcacct-"]) + middle


GRAMMAR = {
    "Django": _django,
    "werkzeug": _werkzeug,
    "crypt": _crypt,
    "yescrypt": lambda dice: f"$y$j9T${_of(CRYPT, 22, dice)}${_of(CRYPT, 43, dice)}",
    "argon2": lambda dice: (
        f"$argon2{dice.choice(['id', 'i', 'd'])}$v=19$m=65536,t=3,p=4"
        f"${_base64(16, dice).rstrip('=')}${_base64(32, dice).rstrip('=')}"
    ),
    "bcrypt": lambda dice: f"$2{dice.choice('aby')}$12${_of(CRYPT, 53, dice)}",
    "passlib": _passlib,
    "phpass": lambda dice: f"$P$B{_of(CRYPT, 30, dice)}",
    "Drupal": lambda dice: f"$S$D{_of(CRYPT, 51, dice)}",
    "LDAP": lambda dice: f"{{SSHA}}{_base64(28, dice)}",
    "SCRAM": lambda dice: (
        f"SCRAM-SHA-256$4096:{_base64(16, dice)}${_base64(32, dice)}:{_base64(32, dice)}"
    ),
    "PKCS 8": lambda dice: _pem("", dice),
    "RSA": lambda dice: _pem("RSA ", dice),
    "EC": lambda dice: _pem("EC ", dice),
    "OpenSSH": lambda dice: _pem("OPENSSH ", dice),
    "encrypted": lambda dice: _pem("ENCRYPTED ", dice),
    "JWT": _jwt,
    "JWE": _jwe,
    "URL": _url,
    "AWS": lambda dice: dice.choice(["AKIA", "ASIA"]) + _of(BASE32, 16, dice),
    "GitHub": lambda dice: f"gh{dice.choice('pousr')}_{_of(ALNUM, 36, dice)}",
    "GitHub fine-grained": lambda dice: f"github_pat_{_of(ALNUM, 22, dice)}_{_of(ALNUM, 59, dice)}",
    "GitLab": lambda dice: f"gl{dice.choice(['pat', 'dt', 'rt', 'cbt'])}-{_of(WORD, 20, dice)}",
    "Slack": lambda dice: (
        f"xox{dice.choice('bp')}-{dice.randrange(10**10, 10**12)}-"
        f"{dice.randrange(10**10, 10**12)}-{_of(ALNUM, 24, dice)}"
    ),
    "Slack webhook": lambda dice: (
        f"https://hooks.slack.com/services/T{_of(BASE32, 8, dice)}/B{_of(BASE32, 8, dice)}"
        f"/{_of(ALNUM, 24, dice)}"
    ),
    "Stripe": lambda dice: f"{dice.choice('sr')}k_live_{_of(ALNUM, 24, dice)}",
    "Stripe webhook": lambda dice: f"whsec_{_of(ALNUM, 32, dice)}",
    "Google": lambda dice: f"AIza{_of(WORD, 35, dice)}",
    "Google client": lambda dice: f"GOCSPX-{_of(WORD, 28, dice)}",
    "Anthropic": lambda dice: f"sk-ant-api03-{_of(WORD, 93, dice)}AA",
    "OpenAI": _openai,
    "SendGrid": lambda dice: f"SG.{_of(WORD, 22, dice)}.{_of(WORD, 43, dice)}",
    "npm": lambda dice: f"npm_{_of(ALNUM, 36, dice)}",
    "PyPI": lambda dice: f"pypi-AgEIcHlwaS5vcmc{_of(WORD, 150, dice)}",
    "Twilio": lambda dice: f"SK{_of(HEX, 32, dice)}",
    "DigitalOcean": lambda dice: f"dop_v1_{_of(HEX, 64, dice)}",
    "Shopify": lambda dice: f"shpat_{_of(HEX, 32, dice)}",
    "Hugging Face": lambda dice: f"hf_{_of(string.ascii_letters, 34, dice)}",
    "Mailgun": lambda dice: f"key-{_of(HEX, 32, dice)}",
    "Mailchimp": lambda dice: f"{_of(HEX, 32, dice)}-us{dice.randrange(1, 22)}",
    "Telegram": lambda dice: f"{dice.randrange(10**8, 10**10)}:AA{_of(WORD, 33, dice)}",
    "Databricks": lambda dice: f"dapi{_of(HEX, 32, dice)}",
    "Vault": lambda dice: f"hvs.{_of(WORD, 90, dice)}",
    "Grafana": lambda dice: f"glsa_{_of(ALNUM, 32, dice)}_{_of(HEX, 8, dice)}",
    "Sentry": lambda dice: f"sntryu_{_of(HEX, 64, dice)}",
    "New Relic": lambda dice: f"NRAK-{_of(string.ascii_uppercase + string.digits, 27, dice)}",
    "Square": lambda dice: f"sq0csp-{_of(WORD, 43, dice)}",
    "Docker": lambda dice: f"dckr_pat_{_of(WORD, 27, dice)}",
    "Atlassian": lambda dice: f"ATATT3x{_of(WORD, 180, dice)}={_of(HEX.upper(), 8, dice)}",
    "Azure": lambda dice: (
        f"DefaultEndpointsProtocol=https;AccountName=shop;AccountKey={_base64(64, dice)}"
    ),
    "Brevo": lambda dice: f"xkeysib-{_of(HEX, 64, dice)}-{_of(ALNUM, 16, dice)}",
}
"""What makes a secret of each kind, from a source of random numbers."""


def secret(kind: str, seed: int) -> str:
    """Return a made-up secret of a kind, the same one for a seed; nothing accepts it."""
    return GRAMMAR[kind](Random(seed))
