"""The grammar of Redis URLs: what they say, what is wrong with one, and what of it may be shown."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from contextcache.base.words import suggest
from contextcache.exceptions import ConfigurationError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "fakeredis",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)

_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
_NOT_ESCAPED = "characters such as '/', '#' and '?' in its password are not percent-encoded"


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """What a Redis URL says.

    Args:
        transport: `redis`, `rediss`, `unix` or `fakeredis`.
        topology: `sentinel`, `cluster`, or nothing for a single server.
        hosts: Host names and ports; of the sentinels, or of some nodes of the cluster.
        service: What the sentinels call the server that takes the writes.
        plain: A URL redis-py understands, with the same user, password, database and options.
        public: The URL without user, password and query, fit for a message.
    """

    transport: str
    topology: str
    hosts: tuple[tuple[str, int], ...]
    service: str
    plain: str
    public: str


def parse(url: str) -> Address:
    """Take a URL apart, or say what is wrong with it without repeating what may be secret.

    Raises:
        ConfigurationError: The URL cannot be understood.
    """
    parts = _split(url)
    transport, _, topology = parts.scheme.partition("+")
    hosts = _hosts(parts)
    path = unquote(parts.path).strip("/")
    service, _, database = path.partition("/") if topology == "sentinel" else ("", "", path)
    if topology == "sentinel" and not service:
        raise ConfigurationError(
            f"a {parts.scheme}:// URL ends in the name of a service, and the number of a database "
            f"if it is not 0, such as {parts.scheme}://host:26379/mymaster/0"
        )
    if transport != "unix" and database and not database.isdecimal():
        # redis-py would use database 0 without a word.
        raise ConfigurationError(
            f"a Redis URL ends in the number of a database, such as {transport}://host:6379/0"
        )
    if topology == "cluster" and database.strip("0"):
        raise ConfigurationError("a Redis Cluster has database 0 only: remove it from the URL")
    credentials, at, _ = parts.netloc.rpartition("@")
    shown = ",".join(shown_host(host, port) for host, port in hosts)
    return Address(
        transport,
        topology,
        tuple((host, port or _PORTS[topology]) for host, port in hosts),
        service,
        f"{transport}://{credentials}{at}host/{database}?{parts.query}" if topology else url,
        f"{parts.scheme}://{shown}{parts.path}",
    )


def public_url(url: str) -> str:
    """Return `url` without user, password and query, fit for a message.

    Where the URL is malformed, as with an unescaped `/` or `#` in a password, only its scheme is
    shown: no part of it can be trusted to be harmless.
    """
    try:
        return parse(url).public
    except ConfigurationError:
        scheme, separator, _ = str(url).partition("://")
        known = separator and scheme.replace("+", "").isalnum() and len(scheme) <= len(SCHEMES[-1])
        return f"{scheme}://..." if known else "..."


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _hosts(parts)
    except (ValueError, AttributeError):
        # Not chained: the text of the ValueError repeats what stands where a port should, which
        # is the beginning of the password where that has a '/' in it.
        raise ConfigurationError(
            f"a Redis URL cannot be understood: its port is not a number, or {_NOT_ESCAPED}"
        ) from None
    if parts.scheme not in SCHEMES:
        nearest = suggest(parts.scheme, SCHEMES)
        suggestion = f"; did you mean {nearest}://?" if nearest else ""
        shown = f"{parts.scheme}://" if parts.scheme and parts.netloc else "without a scheme"
        raise ConfigurationError(
            f"unknown Redis URL {shown}: it begins with one of "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}{suggestion}"
        )
    behind = parts.path + ("" if "@" in parts.netloc else parts.query)
    if parts.fragment or "@" in behind:
        raise ConfigurationError(f"a Redis URL cannot be understood: {_NOT_ESCAPED}")
    return parts


def _hosts(parts: SplitResult) -> list[tuple[str, int | None]]:
    hosts = []
    for text in parts.netloc.rpartition("@")[2].split(","):
        host = urlsplit(f"//{text}")
        hosts.append((host.hostname or "", host.port))
    return hosts


def shown_host(host: str, port: int | None) -> str:
    """Return host and port as they stand in a URL."""
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
