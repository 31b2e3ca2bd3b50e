"""The envelope: a pickle signed for one place of storage, so that nobody else's is ever loaded.

Whoever can write to Redis can run code in every process that unpickles what it finds there. A
sealed payload proves that this application wrote it, for this purpose and under this very key.

======  ====  ==================================================================================
offset  size  what
======  ====  ==================================================================================
0       1     `0xCC`, with which neither a pickle nor a number begins
1       1     the version of this format: 1
2       1     how the body is compressed: 0 not at all, 1 zlib, 2 zstd
3       4     the id of the key that signed
7       32    HMAC-SHA256 over bytes 0–6, the length of the Redis key (8 bytes, big-endian), the
              Redis key, and the body: an encoding that no two inputs share
39      –     the body: a pickle, perhaps compressed, and then at least a thousandth of its size
======  ====  ==================================================================================

Nothing in a payload chooses how it is verified: the version names one algorithm, and one that is
unknown is refused. `docs/format.md` has the same byte by byte, with samples.
"""

from __future__ import annotations

import hmac
import zlib
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from contextcache.exceptions import (
    ConfigurationError,
    UnreadablePayloadError,
    UntrustedPayloadError,
)
from contextcache.payload.loading import LOOK_FOR_THE_WRITER, MAGIC

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

VERSION = b"\x01"
LEAST_COMPRESSED = 4096  # bytes of a pickle below which compression saves too little
MOST_RATIO = 1000  # of a body to what it was compressed to; of a bomb, no more is expanded

_HEADER = 7  # bytes before the signature


class Codec(NamedTuple):
    """One way to compress a body.

    Attributes:
        flag: Its byte in the header.
        compress: From a body to what is stored.
        expand: From what is stored, and the most bytes wanted, to as much of the body.
    """

    flag: bytes
    compress: Callable[[bytes], bytes]
    expand: Callable[[bytes | memoryview, int], bytes]


class Envelope:
    """Seal and open the payloads of one purpose.

    Args:
        secrets: What the signing keys are derived from. The first one signs; each verifies.
        purpose: What the payloads are for, such as `session`: those of another are refused.
        compress: `zlib`, `zstd`, or empty for no compression.
        most: The most bytes that a body may have once it is expanded.

    Raises:
        ConfigurationError: There is no secret, or compression needs a package that is missing.
    """

    OVERHEAD: ClassVar[int] = 39
    """Bytes that sealing adds."""

    def __init__(
        self, secrets: Sequence[str | bytes], *, purpose: str, compress: str = "", most: int
    ) -> None:
        if not secrets or not all(secrets):
            raise ConfigurationError("signing needs a secret that is not empty")
        keys = [derived(secret, purpose) for secret in secrets]
        self._by_id: dict[bytes, list[int]] = {}
        for place, key in enumerate(keys):
            self._by_id.setdefault(key_id(key), []).append(place)
        # Begun once: for each `hmac.digest`, OpenSSL looks SHA-256 up again, which can take longer
        # than all the rest of a small command.
        self._begun = [_bare(hmac.new(key, digestmod="sha256")) for key in keys]
        self._plain = MAGIC + VERSION + b"\0" + key_id(keys[0])
        self._codec = codec(compress) if compress else None
        self._most = most

    def seal(self, body: bytes, key: str | bytes) -> bytes:
        """Return `body`, signed for the place `key`.

        Args:
            body: A pickle.
            key: The key under which it is stored; empty where that is not known.
        """
        header = self._plain
        if self._codec is not None and len(body) >= LEAST_COMPRESSED:
            # Zeros behind the stream, which no codec reads, keep it within the ratio.
            small = self._codec.compress(body).ljust(-(-len(body) // MOST_RATIO), b"\0")
            if len(small) < len(body):
                header, body = header[:2] + self._codec.flag + header[3:], small
        mac = self._begun[0].copy()  # here and in `open` written out: a call less for each
        mac.update(header + _key_text(key) if key else header + _NO_KEY)
        mac.update(body)
        return b"".join((header, mac.digest(), body))

    @staticmethod
    def is_compressed(payload: bytes) -> bool:
        """Return whether a payload that begins with `MAGIC` says that its body is compressed."""
        return payload[2:3] != b"\0"

    def open(self, payload: bytes, key: str | bytes, label: str) -> bytes | memoryview:
        """Return the body of a payload that this application sealed for `key`.

        Args:
            payload: Bytes that begin with `MAGIC`.
            key: The key they were found under.
            label: Where that was, for the error.

        Raises:
            UntrustedPayloadError: It was not sealed with one of the secrets, or for another place.
            UnreadablePayloadError: Its body cannot be expanded.
        """
        header, body = payload[:_HEADER], memoryview(payload)[self.OVERHEAD :]
        if len(payload) < self.OVERHEAD:
            raise UnreadablePayloadError(
                label, "it ends before its signature does", LOOK_FOR_THE_WRITER
            )
        if header[1:2] != VERSION:
            raise UntrustedPayloadError(
                label, "its format is not known here", "upgrade contextcache, or delete the entry"
            )
        for place in self._by_id.get(header[3:], ()):
            mac = self._begun[place].copy()
            mac.update(header + _key_text(key) if key else header + _NO_KEY)
            mac.update(body)
            if hmac.compare_digest(mac.digest(), payload[_HEADER : self.OVERHEAD]):
                flag = header[2:3]
                return body if flag == b"\0" else _body(flag, body, label, self._most)
        if header[3:] not in self._by_id:
            raise UntrustedPayloadError(
                label,
                "it was signed with another secret",
                "if the secret was changed, keep the old one as a fallback until nothing reads it",
            )
        raise UntrustedPayloadError(
            label,
            "its signature is wrong: it was changed, or copied from another key",
            "find out who else can write to this server; the next write replaces the entry",
        )


def unverified(payload: bytes, *, label: str, most: int) -> bytes:
    """Return the body of a sealed payload without verifying it: to be read, never to be loaded.

    Args:
        payload: Bytes that begin with `MAGIC`.
        label: Where they were found, for the error.
        most: The most bytes that the body may have once it is expanded.

    Raises:
        UnreadablePayloadError: It is not whole, or its body cannot be expanded.
    """
    if len(payload) < Envelope.OVERHEAD:
        raise UnreadablePayloadError(
            label, "it ends before its signature does", LOOK_FOR_THE_WRITER
        )
    return bytes(_body(payload[2:3], payload[Envelope.OVERHEAD :], label, most))


def _body(flag: bytes, body: bytes | memoryview, label: str, most: int) -> bytes | memoryview:
    if flag == b"\0":
        return body
    name = _NAMES.get(flag)
    if name is None:
        raise UnreadablePayloadError(
            label, "its compression is not known here", LOOK_FOR_THE_WRITER
        )
    most = min(most, len(body) * MOST_RATIO)
    try:
        expanded = codec(name).expand(body, most + 1)
    except ConfigurationError as error:
        raise UnreadablePayloadError(label, f"it is compressed: {error}", "install it") from None
    except Exception as error:  # each library has its own
        raise UnreadablePayloadError(
            label, "its body cannot be expanded", LOOK_FOR_THE_WRITER
        ) from error
    if len(expanded) > most:
        raise UnreadablePayloadError(
            label, "its body expands to more than is allowed", "raise MAX_SIZE, or delete it"
        )
    return expanded


def derived(secret: str | bytes, purpose: str) -> bytes:
    """Return the signing key for one purpose; from it, neither secret nor others can be told."""
    raw = secret.encode() if isinstance(secret, str) else secret
    return hmac.digest(raw, b"contextcache.v1." + purpose.encode(), "sha256")


def key_id(key: bytes) -> bytes:
    """Return the four bytes by which payloads name the key that signed them."""
    return hmac.digest(key, b"id", "sha256")[:4]


def _bare(begun: hmac.HMAC) -> hmac.HMAC:
    """Return the object of OpenSSL's that `begun` keeps, with the same methods and no Python."""
    inner: hmac.HMAC = getattr(begun, "_hmac", None) or begun
    return inner


_NO_KEY = bytes(8)


def _key_text(key: str | bytes) -> bytes:
    """Return a key as the signature covers it: its length comes first, so no two are confused."""
    text = key.encode() if isinstance(key, str) else key
    return len(text).to_bytes(8, "big") + text


# --- Compression ----------------------------------------------------------------------------------

_NAMES = {b"\1": "zlib", b"\2": "zstd"}


def codec(name: str) -> Codec:
    """Return the codec of that name.

    Raises:
        ConfigurationError: It is unknown, or needs a package that is missing.
    """
    match name:
        case "zlib":
            return Codec(b"\1", lambda body: zlib.compress(body, 1), _unzlib)
        case "zstd":
            try:
                try:
                    from compression import zstd  # noqa: PLC0415  # Python 3.14
                except ImportError:
                    from backports import zstd  # noqa: PLC0415
            except ImportError:
                raise ConfigurationError(
                    "zstd needs the package backports.zstd: pip install 'contextcache-web[zstd]'"
                ) from None
            return Codec(
                b"\2",
                lambda body: zstd.compress(body, 1),
                lambda body, most: zstd.ZstdDecompressor().decompress(body, most),
            )
    raise ConfigurationError(f"unknown compression {name!r}")


def _unzlib(body: bytes | memoryview, most: int) -> bytes:
    return zlib.decompressobj().decompress(body, most)
