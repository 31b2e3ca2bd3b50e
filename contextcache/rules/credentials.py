"""The credentials of a request, found in the bytes of what is stored.

No type shows that a plain dict or list was made of a request. So a payload is searched for two
names of environments, and for what the current request was sent: its own `Authorization` header,
`Cookie` header and session id. Only where one of them is found, the value is dumped once more,
without them.
"""

from __future__ import annotations

from typing import Any

from contextcache.rules.request_snapshots import environ_snapshot, is_environ

MIN_LENGTH = 8  # characters of a credential that are looked for; fewer occur by chance

_HEADERS = frozenset({
    "authorization", "proxy-authorization", "cookie",
    "http-authorization", "http-proxy-authorization", "http-cookie",
})  # fmt: skip


_NAMES = (b"HTTP_COOKIE", b"HTTP_AUTHORIZATION")

COOKIE_KEY, AUTHORIZATION_KEY = (b"\x8c" + bytes([len(name)]) + name + b"\x94" for name in _NAMES)
"""A name in an environment as protocol 5 stores any text: its length before, MEMOIZE after it."""

MAX_REVERSED = 64  # bytes of a needle up to which the time of `rfind` stays within reason


def _as_in_json(text: str) -> str:
    import json  # noqa: PLC0415  # the first guard imports it; `import contextcache` does not

    return json.dumps(text)[1:-1]


class Credentials:
    """What the current request was sent to prove who its user is.

    Args:
        authorization: The `Authorization` header.
        cookie: The `Cookie` header.
        session_name: The name of the session cookie.
        session_id: The value of it.

    Attributes:
        needles: What is searched for in payloads.
        secrets: What is reported wherever it stands: the token and the session id.
    """

    __slots__ = ("_headers", "_session", "needles", "secrets")

    def __init__(
        self,
        authorization: str = "",
        cookie: str = "",
        session_name: str = "",
        session_id: str = "",
    ) -> None:
        token = authorization.partition(" ")[2].strip() or authorization
        if len(token) < MIN_LENGTH:
            token = authorization
        self.secrets = tuple(one for one in (token, session_id) if len(one) >= MIN_LENGTH)
        self._headers = tuple(one for one in (*self.secrets, cookie) if len(one) >= MIN_LENGTH)
        self._session = session_name, session_id
        texts = {*self._headers, *map(_as_in_json, self._headers)}
        # A text is not there where a part of it is not.
        parts = [one for one in texts if not any(part in one for part in texts - {one})]
        self.needles = tuple(one.encode("utf-8", "surrogatepass") for one in sorted(parts))

    def found_in(self, payload: object) -> bool:
        """Return True if a payload, a pickle or JSON, may hold credentials of a request."""
        if type(payload) is not bytes:
            if type(payload) is not str:
                return False
            payload = payload.encode("utf-8", "surrogatepass")
        return any(contains(payload, needle) for needle in (*_NAMES, *self.needles))

    def removed_from(self, obj: Any) -> Any:
        """Return what is stored of a dict or list: a copy without credentials, or itself."""
        if is_environ(obj):
            return environ_snapshot(obj)
        if not self.needles:
            return obj
        kind = type(obj)
        if kind is dict:
            kept = {name: held for name, held in obj.items() if not self._carries(name, held)}
        elif kind is list or kind is tuple:
            kept = kind([pair for pair in obj if not self._is_header(pair)])
        else:
            return obj
        return kept if len(kept) < len(obj) else obj

    def stands_in(self, obj: object) -> bool:
        """Return True if a text or bytes have the token or the session id in them."""
        text = as_text(obj)
        return any(one in text for one in self.secrets)

    def _is_header(self, pair: Any) -> bool:
        is_pair = type(pair) in (tuple, list) and len(pair) == 2
        return is_pair and self._carries(pair[0], pair[1])

    def _carries(self, name: object, held: object) -> bool:
        text = as_text(name)
        if text and text.lower().replace("_", "-") in _HEADERS:
            return self._holds(held)
        return (text, as_text(held)) == self._session and len(text) > 0

    def _holds(self, held: object) -> bool:
        if type(held) is list or type(held) is tuple:
            return any(map(self._holds, held))
        text = as_text(held)
        return any(one in text for one in self._headers)


def as_text(obj: object) -> str:
    """Return a text, or bytes as the text they are in a header; empty for anything else."""
    if type(obj) is str:
        return obj
    return obj.decode("latin-1") if type(obj) is bytes else ""


def contains(payload: bytes, needle: bytes) -> bool:
    """Return True if `needle` is in `payload`.

    CPython's `rfind` takes a third of the time of `in`: it skips as many bytes as the needle has
    wherever it can. It takes as many times longer at worst, so long ones go by `in`, which is
    linear (Objects/stringlib/fastsearch.h).
    """
    return payload.rfind(needle) >= 0 if len(needle) <= MAX_REVERSED else needle in payload


NO_CREDENTIALS = Credentials()
