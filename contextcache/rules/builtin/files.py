"""Files, and what reads from one."""

from __future__ import annotations

import pickle

from contextcache.rules.rule import Verb, rows

_FILE_FIX = "store the file's name or its content"


def refuses_pickle(obj: object) -> bool:
    """Return True if a file written in Python cannot be stored; some hold no more than content."""
    try:
        pickle.dumps(obj, 5)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # noqa: BLE001  # whatever it is, there is something open in it
        return True
    return False


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
    ),
    **rows(
        "CC107", Verb.STRIP, "_io._IOBase", when=refuses_pickle, fix=_FILE_FIX,
    ),
    **rows(
        "CC107", Verb.STRIP, "logging.Handler",
        reason="a log handler writes to a stream of this process", fix="store the logger's name",
    ),
    **rows(
        "CC107", Verb.STRIP, "posix.DirEntry", "nt.DirEntry",
        reason="a directory entry belongs to a listing in progress", fix="store its .path",
    ),
}  # fmt: skip
