"""Files, and what reads from one."""

from __future__ import annotations

import pickle

from contextcache.payload.wire import PROTOCOL
from contextcache.rules.replacements import fields
from contextcache.rules.rule import Verb, rows

_FILE_FIX = "store the file's name or its content"


def refuses_pickle(obj: object) -> bool:
    """Return True if a file written in Python cannot be stored; some hold no more than content."""
    try:
        pickle.dumps(obj, PROTOCOL)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # whatever it is, there is something open in it
        return True
    return False


def has_sinks(logger: object) -> bool:
    """Return True if a logger of loguru has handlers."""
    return bool(fields(fields(logger).get("_core")).get("handlers", True))


ROWS = {
    **rows(
        "CC107", Verb.STRIP,
        "_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom",
        "_io.BufferedRWPair", "_io.TextIOWrapper", "_io.FileIO", "mmap.mmap",
        "tempfile._TemporaryFileWrapper", "tempfile.SpooledTemporaryFile",
        "tempfile.TemporaryDirectory", "zipfile.ZipFile", "tarfile.TarFile",
        "posix.ScandirIterator",
        "botocore.response.StreamingBody",
        fix=_FILE_FIX,
        instead=dict.fromkeys(
            ("_io.TextIOWrapper", "_io.BufferedReader", "_io.BufferedWriter"), "{}.name"
        ),
    ),
    **rows(
        "CC107", Verb.STRIP, "_io._IOBase", when=refuses_pickle, fix=_FILE_FIX,
    ),
    **rows(
        "CC107", Verb.STRIP, "logging.Handler",
        reason="a log handler writes to a stream of this process", fix="store the logger's name",
    ),
    **rows(
        "CC107", Verb.STRIP, "loguru:Logger", when=has_sinks,
        reason="its sinks write to streams of this process",
        fix="import the logger where it is used: from loguru import logger", force=True,
    ),
    **rows(
        "CC107", Verb.STRIP, "structlog:BoundLoggerBase", "structlog:PrintLogger",
        "structlog:WriteLogger", "structlog:BytesLogger",
        when=refuses_pickle, reason="it writes to a stream of this process",
        fix="take the logger from structlog.get_logger() where it is used", force=True,
    ),
    **rows(
        "CC107", Verb.STRIP, "posix.DirEntry", "nt.DirEntry",
        reason="a directory entry belongs to a listing in progress", fix="store its .path",
        instead={"posix.DirEntry": "{}.path"},
    ),
}  # fmt: skip
