"""How large the cookie gets that Django's `signed_cookies` engine sends."""

from __future__ import annotations

import contextlib
import io
import pickle
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import signing

from contextcache import UnreadablePayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from contextcache.jsonable import JSONGuard

ENGINE = "django.contrib.sessions.backends.signed_cookies"
MOST = 4096  # bytes of name and value that browsers keep (RFC 6265bis, 5.7)
SERVER_SIDE = (
    "keep the session on the server (SESSION_ENGINE = 'contextcache_django.sessions'), "
    "or store less in it"
)


def weigh(payload: bytes, read: Callable[[bytes], Any], guard: JSONGuard[bytes]) -> None:
    """Report a session whose cookie comes close to what browsers keep, if it is in one.

    Args:
        payload: What the serializer made of the session.
        read: Returns the session as it is stored.
        guard: Who reports it, and knows the size of each key.

    Raises:
        UncacheableValueError: The mode is `raise`, and the finding is not ignored.
    """
    # As base64 and with its signature, what is less than half as long is far from the limit.
    if settings.SESSION_ENGINE == ENGINE and len(payload) > MOST // 2:
        size = len(settings.SESSION_COOKIE_NAME) + len(_sent(payload))
        with contextlib.suppress(UnreadablePayloadError):  # which has been reported
            guard.weigh(read(payload), size, MOST, fix=SERVER_SIDE)


class _Lenient(pickle.Pickler):
    """Pickles what was read back, with next to nothing for what was made anew, such as a lock."""

    def reducer_override(self, obj: Any) -> Any:
        try:
            if not isinstance(obj, type):  # a class is stored as its name
                obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001  # as it does where pickle refuses the object
            return object, ()
        return NotImplemented


def pickled(part: object) -> bytes:
    """Return a part of a stored session as pickle, for its size."""
    into = io.BytesIO()
    _Lenient(into, pickle.HIGHEST_PROTOCOL).dump(part)
    return into.getvalue()


def _sent(payload: bytes) -> str:
    """Return the value of the cookie, as the engine makes it."""

    class Ready:
        def dumps(self, _: object) -> bytes:
            return payload

    return signing.dumps(None, salt=ENGINE, serializer=Ready, compress=True)  # type: ignore[arg-type]
