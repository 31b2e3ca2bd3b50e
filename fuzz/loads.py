"""Coverage-guided fuzzing of `Guard.loads`: `make fuzz`, for longer `make fuzz SECONDS=3600`.

The first byte of an input chooses what the rest is: bytes before a guard that verifies
signatures, damage to a payload that was signed, a body that is signed but malformed, or bytes and
programs of pickle opcodes before a guard that reads what is unsigned, from listed names only.

A few bytes can ask CPython's unpickler for gigabytes; the process is given one, so that what asks
for more is refused as unreadable, as it has to be, and libFuzzer still notices a leak.

`pickle` is loaded again with its C twin hidden, so that there is coverage to be guided by: what
the Python unpickler explores is then given to the real one, and both must refuse the same names.
"""

from __future__ import annotations

import importlib
import io
import resource
import struct
import sys
from typing import Any

import atheris

with atheris.instrument_imports(include=["contextcache"]):
    from fuzz.oracle import KEY, LISTED, REFUSED, SIGNED, loads

from contextcache.payload.loading import UnlistedNameError


def _python_pickle() -> Any:
    """Return a copy of `pickle` in Python only, instrumented; the real one stays as it is."""
    hidden = {name: sys.modules.pop(name) for name in ("pickle", "_pickle", "_compat_pickle")}
    sys.modules["_pickle"] = None  # type: ignore[assignment]
    try:
        with atheris.instrument_imports(include=["pickle"]):
            return importlib.import_module("pickle")
    finally:
        sys.modules.update(hidden)


PICKLE = _python_pickle()
SAMPLES: list[Any] = [{"tea": 1}, [["cup", 2.5, None, b"\0" * 40]] * 3, ["leaf"] * 5000]
SEALED = [SIGNED.dumps(value, key=KEY) for value in SAMPLES]
NAMES = [
    *("builtins bytearray", "builtins set", "builtins getattr", "builtins eval", "os system"),
    *("collections OrderedDict", "collections deque", "datetime datetime", "decimal Decimal"),
    *("collections _sys.modules", "copyreg _reconstructor", "_codecs encode", "posix system"),
]
OPCODES = [getattr(PICKLE, name) for name in PICKLE.__all__ if name.isupper() and name != "HIGHEST"]
OPCODES = [code for code in OPCODES if isinstance(code, bytes)]
MOST_BYTES = 1024**3


class PythonUnpickler(PICKLE._Unpickler):  # type: ignore[misc,name-defined]
    """The unpickler in Python, which asks for names as the guard with a list does."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return LISTED._names._objects[module, name]  # type: ignore[union-attr]
        except KeyError:
            raise UnlistedNameError(module, name) from None


def try_one(data: bytes) -> None:
    """Try one input; a failed assertion, a crash, a hang or too much memory is a finding."""
    if not data:
        return
    what, rest = data[0] % 5, data[1:]
    if what == 0:
        assert loads(SIGNED, rest) is REFUSED
    elif what == 1:
        payload = damaged(rest)
        assert (loads(SIGNED, payload) is REFUSED) == (payload not in SEALED)
    elif what == 2:
        sealed = SIGNED._envelope.seal(rest, KEY)  # type: ignore[union-attr]
        if not rest.startswith(b"\x80"):  # what we sign ourselves is trusted with any name
            SIGNED._envelope.open(sealed, KEY, "fuzzed")  # type: ignore[union-attr]
    elif what == 3:
        unsigned(rest)
    else:
        unsigned(program(rest))


def unsigned(payload: bytes) -> None:
    """Read `payload` with the list, and let the unpickler in Python find its way through it."""
    loads(LISTED, payload)
    try:
        PythonUnpickler(io.BytesIO(payload)).load()
    except Exception:  # the real one has been judged; this one is only the guide
        return


def damaged(data: bytes) -> bytes:
    """Return a signed payload after what `data` says should happen to it."""
    provider = atheris.FuzzedDataProvider(data)
    payload = bytearray(SEALED[provider.ConsumeIntInRange(0, len(SEALED) - 1)])
    while provider.remaining_bytes():
        place = provider.ConsumeIntInRange(0, len(payload))
        how = provider.ConsumeIntInRange(0, 3)
        if how == 0 and place < len(payload):
            payload[place] = provider.ConsumeIntInRange(0, 255)
        elif how == 1:
            del payload[place : place + provider.ConsumeIntInRange(1, 64)]
        elif how == 2:
            payload[place:place] = provider.ConsumeBytes(8)
        else:
            payload[place:] = SEALED[provider.ConsumeIntInRange(0, len(SEALED) - 1)][place:]
    return bytes(payload)


def program(data: bytes) -> bytes:
    """Return a pickle of opcodes and arguments that `data` chooses: most are well formed."""
    provider = atheris.FuzzedDataProvider(data)
    written = bytearray(b"\x80\x05")
    while provider.remaining_bytes():
        choice = provider.ConsumeIntInRange(0, 15)
        if choice == 0:
            written += b"c%s\n" % _name(provider).replace(" ", "\n").encode()
        elif choice == 1:
            for part in _name(provider).split():
                written += b"\x8c" + bytes([len(part)]) + part.encode()
            written += b"\x93"
        elif choice == 2:
            written += b"K" + bytes([provider.ConsumeIntInRange(0, 255)])
        elif choice == 3:
            written += b"h" + bytes([provider.ConsumeIntInRange(0, 3)])
        elif choice == 4:
            text = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 8))
            written += b"C" + bytes([len(text)]) + text
        elif choice == 5:
            written += b"J" + struct.pack("<i", provider.ConsumeInt(4))
        else:
            written += OPCODES[provider.ConsumeIntInRange(0, len(OPCODES) - 1)]
    return bytes(written + b".")


def _name(provider: atheris.FuzzedDataProvider) -> str:
    return NAMES[provider.ConsumeIntInRange(0, len(NAMES) - 1)]


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    atheris.Setup(sys.argv, try_one)
    atheris.Fuzz()
