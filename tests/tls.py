"""A Redis that speaks TLS, with a certificate of its own."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from tests.redis_server import RedisServer, free_port, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def make_certificate(folder: Path) -> Path:
    """Write `key.pem` and `cert.pem`, a certificate for this machine that is signed by itself."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@contextlib.contextmanager
def running_tls(certificate: Path) -> Iterator[tuple[RedisServer, str]]:
    """Run a Redis; yield it and the URL of its port for TLS, without the file of the CA."""
    port = free_port()
    tls = (
        *("--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate / "cert.pem")),
        *("--tls-key-file", str(certificate / "key.pem")),
        *("--tls-ca-cert-file", str(certificate / "cert.pem")),
    )
    with running_server(*tls) as server:
        yield server, f"rediss://127.0.0.1:{port}/0"
