"""Encode what can be stored of a value, and find what cannot or is changed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from contextcache.engine.diagnosis import KEY_LEFT_OUT
from contextcache.engine.refusal import NOTHING
from contextcache.findings.finding import Action
from contextcache.findings.path import Path, item
from contextcache.jsonable.comparison import compare
from contextcache.jsonable.frames import OMITTED, type_policies
from contextcache.jsonable.notes import Notes, refused
from contextcache.jsonable.scan import JSONScan
from contextcache.reports.reporter import report_internal
from contextcache.reports.request_scope import current_credentials

if TYPE_CHECKING:
    from contextcache.config import Config
    from contextcache.jsonable.codec import Codec
    from contextcache.rules.credentials import Credentials

T = TypeVar("T")

BUILTIN_NAMES = {"str", "int", "bool", "NoneType", "float", "bytes", "list", "tuple", "dict"}


class Encoder(Generic[T]):
    """Encode values without what the encoder refuses: at once where it takes them whole.

    Args:
        codec: The encoder.
        config: The policy.
        sink: Display name of the storage.
    """

    def __init__(self, codec: Codec[T], config: Config, sink: str) -> None:
        self.codec = codec
        self._config = config
        self._sink = sink
        self._policy = type_policies(codec, config.rules)
        ruled = {rule.type for rule in config.rules}
        self._is_searched = bool(ruled & BUILTIN_NAMES)  # always, for what the rules are about
        self._refused = False  # something in the last value, so that it is asked at once

    def scan(self, value: Any, label: str, **options: Any) -> JSONScan:
        """Return a walk through a value that has not begun; see `JSONScan` for the options."""
        notes = self.notes(value, label)
        return JSONScan(value, notes, self.codec, self._policy, **options)

    def notes(self, value: object, label: str) -> Notes:
        """Return the findings about a value, of which there are none yet."""
        path = Path(label, hidden=self._config.redact_keys)
        return Notes(path, value, self.codec.name, self._sink)

    def examine(self, value: Any, label: str) -> tuple[JSONScan | None, T]:
        """Encode what can be stored of a value; also return what was found, if it was searched."""
        scan, payload = self._encode_storable(value, label)
        credentials = current_credentials()
        if credentials.found_in(payload):
            clean = self._encode_storable(value, label, credentials)
            if clean[0] is not None and clean[0].found:
                return clean
        return scan, payload

    def _encode_storable(
        self, value: Any, label: str, credentials: Credentials | None = None
    ) -> tuple[JSONScan | None, T]:
        """Encode, decode and compare; where that fails, ask what of it the encoder refuses."""
        error: Exception
        try:
            if not (credentials or self._is_searched) and self.codec.keeps_all(value):
                return None, self.codec.encode(value)
        except MemoryError:
            raise
        except Exception as raised:  # noqa: BLE001  # such as a number with too many digits
            error = raised
        for asks in (True,) if self._refused else (False, True):
            scan = self._run(value, label, credentials, asks=asks)
            if scan.kept is OMITTED:
                return scan, cast("T", None)
            try:
                payload = self._compare(scan)
            except MemoryError:
                raise
            except Exception as raised:  # noqa: BLE001  # whatever the encoder raises
                error, self._refused = raised, True
            else:
                self._refused = bool(scan.notes.findings) and self._refused
                return scan, payload
        self.blame_keys(scan, error)
        if scan.kept is OMITTED:
            return scan, cast("T", None)
        with suppress(ValueError, RecursionError):  # too deep for a reader after all
            return scan, self._compare(scan)
        return scan, self.codec.encode(scan.kept)

    def _run(
        self, value: Any, label: str, credentials: Credentials | None, *, asks: bool
    ) -> JSONScan:
        scan = self.scan(value, label, asks=asks, credentials=credentials)
        try:
            scan.run()
        except MemoryError:
            raise
        except RecursionError:  # with no room left on the stack, nothing is known for certain
            scan = self.scan(value, label)
            scan.notes.add(refused(code="CC130"), value, Action.REFUSED, did=NOTHING)
            scan.kept = OMITTED
        except Exception as error:  # noqa: BLE001  # our own bug must not break the user's write
            report_internal("looking for what JSON cannot hold", error)
            scan = self.scan(value, label)
        return scan

    def _compare(self, scan: JSONScan) -> T:
        if not scan.needs_comparison:
            return self.codec.encode(scan.kept)
        payload, back = self.codec.round_trip(scan.kept, is_deep=scan.is_deep)
        try:
            compare(scan.odd, back, self.codec, scan.notes)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # our own bug must not break the user's write
            report_internal("comparing what comes back from JSON", error)
        return payload

    def blame_keys(self, scan: JSONScan, error: Exception) -> None:
        """Cut the keys whose values are refused as a whole, as those that are nested too deep."""
        verdict = refused(code="CC130" if isinstance(error, RecursionError) else "CC140")
        kept = scan.kept if type(scan.kept) is dict else {}
        rest = {
            name: held
            for name, held in kept.items()
            if not self.codec.refusal({name: held}, is_deep=scan.is_deep)
        }
        if 0 < len(rest) < len(kept):
            scan.kept = rest
            for at, (name, held) in enumerate(kept.items()):
                if name not in rest:
                    steps = (item(name, at),)
                    scan.notes.add(verdict, held, Action.LEFT_OUT, did=KEY_LEFT_OUT, steps=steps)
        else:
            scan.notes.add(verdict, scan.kept, Action.REFUSED, did=NOTHING)
            scan.kept = OMITTED
