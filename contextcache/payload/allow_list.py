"""Load only what a list of names allows: the setting `LOADABLE`.

It is a second line of defence, behind the signature. The list holds exact names, each resolved to
its object when the guard is made: a prefix, or a list of what is forbidden, has been bypassed every
time. A payload is verified as a whole before any of it is loaded. See `docs/format.md`.
"""

from __future__ import annotations

import copyreg
import pickle
import re
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from typing import TYPE_CHECKING, Any

from contextcache.exceptions import ConfigurationError
from contextcache.payload.checked_unpickler import CheckedUnpickler
from contextcache.payload.dangerous import can_run_code
from contextcache.payload.loading import SAFE_GLOBALS, UnlistedNameError
from contextcache.payload.verifier import Verifier, listed, restricted_getattr

if TYPE_CHECKING:
    from collections.abc import Iterable


class AllowList:
    """The names that a payload may use, and the loading of one that keeps to them.

    Args:
        listed: Names as `shop.models.Cart` or, where that can be read in two ways, as
            `shop.models:Cart.Line`.

    Raises:
        ConfigurationError: A name cannot be found, or would allow anything.
    """

    def __init__(self, listed: Iterable[str]) -> None:
        self._objects: dict[tuple[str, str], object] = {}
        for name in SAFE_GLOBALS:
            module, _, qualname = name.partition(":")
            with suppress(AttributeError):  # a type of another version of Python
                self._objects[module, qualname] = _attribute(import_module(module), qualname)
        self._objects["builtins", "getattr"] = restricted_getattr
        always = list(self._objects.values())
        for name in listed:
            self._add(name)
        self._verifier = Verifier(self._objects, always)

    def loads(self, body: bytes) -> Any:
        """Unpickle `body`, after all of it was verified.

        Raises:
            UnlistedNameError: It uses a name that is not listed.
            RefusedOperationError: It does with a listed name what no pickler writes.
            Exception: Whatever `pickle.loads` raises for it.
        """
        if (_EXTENSIONS or _EXTENSION_CACHE) and _uses_extensions(body):
            raise UnlistedNameError("an extension code", "")
        verified = self._verifier.verify(body)
        if not verified.named:
            return verified.value
        unpickler = CheckedUnpickler if verified.unsure else _Unpickler
        return unpickler(BytesIO(body), self._objects).load()

    def _add(self, name: str) -> None:
        module, qualname, found = _resolved(name)
        if can_run_code(found):
            raise ConfigurationError(f"LOADABLE: {name!r} would let a payload do anything")
        self._objects[module, qualname] = found
        # A class that is listed by the name it is imported by is pickled by the name it has.
        home = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
        if all(isinstance(part, str) for part in home):
            self._objects.setdefault(home, found)  # type: ignore[arg-type]


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, objects: dict[tuple[str, str], object]) -> None:
        super().__init__(file)
        self._objects = objects

    def find_class(self, module: str, name: str) -> Any:
        return listed(self._objects, module, name)


_EXTENSIONS: dict[Any, Any] = copyreg._inverted_registry  # type: ignore[attr-defined]
_EXTENSION_CACHE: dict[int, Any] = copyreg._extension_cache  # type: ignore[attr-defined]


def _uses_extensions(body: bytes) -> bool:
    # CPython keeps what a code has led to, symbols included, and asks no `find_class` again.
    import pickletools  # noqa: PLC0415  # for this rare case, and it is large

    return any(code.name.startswith("EXT") for code, _, _ in pickletools.genops(body))


def _resolved(name: str) -> tuple[str, str, object]:
    """Return the module and qualified name that `name` means, and the object behind them."""
    if not re.fullmatch(r"\w+(\.\w+)*(:\w+(\.\w+)*|\.\w+)", name):
        raise ConfigurationError(f"LOADABLE lists names such as 'shop.models.Cart', not {name!r}")
    module, colon, qualname = name.partition(":")
    if not colon:
        module, _, qualname = name.rpartition(".")
    while True:
        try:
            return module, qualname, _attribute(import_module(module), qualname)
        except (ImportError, AttributeError):
            outer, _, last = module.rpartition(".")
            if colon or not outer:
                raise ConfigurationError(f"LOADABLE: {name!r} cannot be found") from None
            module, qualname = outer, f"{last}.{qualname}"


def _attribute(found: Any, qualname: str) -> Any:
    for part in qualname.split("."):
        found = getattr(found, part)
    return found
