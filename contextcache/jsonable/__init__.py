"""Findings for JSON: what it cannot hold, and what it changes without a word.

Sessions and caches that are written as JSON, or as its kin, have offenders of their own: a `set`
raises an error that names no field, and a `tuple` comes back as a list. `JSONGuard` stands before
such an encoder as `Guard` stands before pickle.

What an encoder does with each type is data, a `Dialect`; the walk that looks for it is `jsonwalk`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from contextcache.base.logs import show_findings
from contextcache.config import Config
from contextcache.engine.preload import preload
from contextcache.exceptions import without_text
from contextcache.findings.finding import Action, Finding
from contextcache.findings.path import Path, item
from contextcache.guard import uncacheable
from contextcache.jsonable.dialects import PLAIN, Dialect
from contextcache.jsonable.walk import CUT, KEY_LEFT_OUT, NOTHING, Look, Treatments, comes_back
from contextcache.reports.reporter import (
    Reporter,
    collectors,
    note_write,
    report_internal,
    writers,
)
from contextcache.reports.request_scope import current_credentials, current_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from contextcache.exceptions import UncacheableValueError, UnreadablePayloadError
    from contextcache.rules.credentials import Credentials

T = TypeVar("T")

CLOSE = 0.8  # of the limit of a cookie, from where on its size is reported
READER = 200  # calls further down the stack than the writer that a reader may be
LISTED = 5  # keys of a session whose sizes are listed
NESTED = "it is nested too deep"  # why JSON or MessagePack cannot be read
LOOK_FOR_THE_WRITER = "delete the entry; if it comes back, look for who else writes this key"
UNCHANGED = "stored unchanged (mode warn)"
REFUSED = f"{NOTHING}: {{}} refuses it (mode warn)"


class JSONGuard(Generic[T]):
    """Encode values as JSON, without what it cannot hold.

    Keep one per place of storage; it is safe to use from many threads.

    Of a dict, the key is left out with what stands under it, and of a list, None is stored in its
    place. What a rule of the application makes a `snapshot` of, and what a proxy points at, is
    stored instead of it. What the encoder changes is reported, and stored as it would have been.

    Args:
        encode: What turns a value into JSON, such as `json.dumps`. It decides about types that
            the dialect has no row for.
        decode: What reads it again, where a value that is nested too deep to be read must not be
            written; None if any value is read that was written.
        config: The policy; by default that of `Config()`.
        dialect: What `encode` does with each type.
        sink: The words for where values are stored.
    """

    def __init__(
        self,
        encode: Callable[[Any], T],
        config: Config | None = None,
        *,
        dialect: Dialect = PLAIN,
        sink: str = "",
        decode: Callable[[T], Any] | None = None,
    ) -> None:
        self.config = config if config is not None else Config()
        self.sink = sink
        self._encode = encode
        self._decode = decode
        self._reporter = Reporter(self.config, sink)
        self._types = Treatments(dialect, self.config.rules)
        preload(debug=self.config.debug)
        if self.config.debug:
            show_findings()

    def dumps(self, value: Any, *, label: str = "value") -> T:
        """Encode `value`, cutting out and reporting what cannot be stored.

        Args:
            value: Any value; it is never changed.
            label: The root of the paths in it, such as `session`.

        Raises:
            UncacheableValueError: If nothing of it can be stored, in mode `raise` if anything in
                it offends, and in mode `warn` if the encoder refuses it.
        """
        if writers:
            note_write()
        scope = current_scope() if self.config.debug else None
        if scope is None or not scope.collect:
            return self._dumps(value, label)
        with scope.writing(label, self.sink, hidden=self.config.redact_keys) as write:
            payload = self._dumps(value, label)
            write.size = len(payload) if isinstance(payload, (bytes, str)) else None
            return payload

    def _dumps(self, value: Any, label: str) -> T:
        if self.config.mode == "off":
            return self._encode(value)
        look, payload = self._examined(value, label)
        if (collectors or self.config.debug) and payload is not None:
            self._reporter.report(self._secrets(look, payload))  # which no mode refuses
        if self.config.mode == "warn":
            return self._unchanged(value, look)
        if look.findings:
            heard = self._reporter.report(look.findings, log=self.config.mode == "strip")
            if look.kept is CUT or (heard and self.config.mode == "raise"):
                raise self._uncacheable(look)
        return cast("T", payload)

    def explain(self, value: Any, *, label: str = "value") -> list[Finding]:
        """Find everything in `value` that JSON cannot hold or changes; report and store nothing."""
        look, payload = self._examined(value, label)
        return look.findings + ([] if payload is None else self._secrets(look, payload))

    def report_unreadable(self, error: UnreadablePayloadError) -> None:
        """Warn that a payload counts as a miss; each reason at its 1st, 10th, 100th... time."""
        self._reporter.unreadable(error)

    def weigh(self, session: Mapping[str, Any], size: int, limit: int, *, fix: str) -> None:
        """Report the heaviest key of a session whose cookie comes close to what browsers keep.

        Args:
            session: What the cookie was made of.
            size: Bytes of the cookie.
            limit: The most bytes it may have; 0 where nobody minds.
            fix: What to do about it; the largest keys and their sizes are added.

        Raises:
            UncacheableValueError: The mode is `raise`, and the finding is not ignored.
        """
        if self.config.mode == "off" or not 0 < limit * CLOSE <= size or not session:
            return
        sizes = {key: self._size(key, held) for key, held in session.items()}
        steps = {key: item(key, at) for at, key in enumerate(session)}
        heaviest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:LISTED]
        root = self._path("session")
        exact = self.config.debug
        listed = ", ".join(
            f"{(root / steps[key]).printed(exact=exact)} {sizes[key]}" for key in heaviest
        )
        look = Look(session, root, self._types, self._refused, self.sink)
        lost = "; browsers drop it" if size > limit else ""
        look.note(
            "CC142",
            root / steps[heaviest[0]],
            session[heaviest[0]],
            Action.OBSERVED,
            did=f"sent a cookie of {size} bytes, of at most {limit}{lost}",
            fix=f"{fix} (bytes: {listed})",
        )
        raises = self.config.mode == "raise"
        if self._reporter.report(look.findings, log=not raises) and raises:
            raise self._uncacheable(look)

    def _uncacheable(self, look: Look) -> UncacheableValueError:
        return uncacheable(look.findings, self.config)

    def _size(self, key: str, held: Any) -> int:
        try:
            return len(cast("Sized", self._encode({key: held})))
        except Exception:  # noqa: BLE001  # what cannot be encoded has no size
            return 0

    def _path(self, label: str) -> Path:
        return Path(label, hidden=self.config.redact_keys)

    def _examined(self, value: Any, label: str) -> tuple[Look, T | None]:
        """Look at a value and encode what is kept of it, without credentials of the request."""
        look = self._looked(value, label)
        payload = self._encoded(look)
        credentials = current_credentials()
        if credentials.found_in(payload):
            clean = self._looked(value, label, credentials)
            if clean.found:
                return clean, self._encoded(clean)
        return look, payload

    def _looked(self, value: Any, label: str, credentials: Credentials | None = None) -> Look:
        look = Look(
            value, self._path(label), self._types, self._refused, self.sink, credentials=credentials
        )
        try:
            if credentials is not None or not comes_back(value, self._types):
                look.run()
        except MemoryError:
            raise
        except RecursionError:  # with no room left on the stack, nothing is known for certain
            look.findings.clear()
            look.note("CC130", look.root, value, Action.REFUSED, did=NOTHING)
            look.kept = CUT
        except Exception as error:  # noqa: BLE001  # our own bug must not break the user's write
            report_internal("looking for what JSON cannot hold", error)
            look.kept, look.findings = value, []
        return look

    def _secrets(self, look: Look, payload: T) -> list[Finding]:
        """Find what has the shape of a secret in what is stored, for a developer or a test."""
        from contextcache.engine.secret_search import iter_texts  # noqa: PLC0415
        from contextcache.rules.secret_shapes import shape_of, shapes_in, verdict_on  # noqa: PLC0415

        notes = Look(look.kept, look.root, self._types, self._refused, self.sink)
        try:
            text = payload.encode() if isinstance(payload, str) else payload
            shapes = shapes_in(text) if isinstance(text, bytes) else []
            for steps, held in iter_texts(look.kept) if shapes else ():
                shape, path = shape_of(held, shapes), dataclasses.replace(look.root, steps=steps)
                if shape is not None and path not in [one.path for one in look.findings]:
                    said = verdict_on(shape)
                    words = {"did": said.did, "fix": said.fix, "reason": said.reason}
                    notes.note(said.code, path, held, Action.OBSERVED, **words)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # our own bug must not break the user's write
            report_internal("looking for secrets", error)
        return notes.findings

    def _refused(self, obj: Any, *, deep: bool = False) -> str:
        """Return the code by which the encoder refuses `obj`; empty if it does not."""
        try:
            self._try(obj, deep=deep)
        except MemoryError:
            raise
        except RecursionError:
            return "CC130"
        except Exception:  # noqa: BLE001  # an encoder of the application's may raise anything
            return "CC140"
        return ""

    def _try(self, value: Any, *, deep: bool) -> T:
        """Encode `value`, and decode it again if it is deep, as a reader far down the stack would.

        Raises:
            RecursionError: It is nested too deep to be written or read.
            Exception: Whatever the encoder raises.
        """
        payload = self._encode(value)
        if deep and self._decode is not None:
            _from_below(READER, self._decode, payload)
        return payload

    def _encoded(self, look: Look) -> T | None:
        """Encode what is kept, without what the encoder refuses after all; None if that is all."""
        if look.kept is CUT:
            return None
        try:
            return self._try(look.kept, deep=look.is_deep)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # such as a number with too many digits
            self._blame(look, error)
        return None if look.kept is CUT else self._encode(look.kept)

    def _unchanged(self, value: Any, look: Look) -> T:
        """Report the findings and store exactly what would have been stored without us."""
        cause: Exception | None = None
        try:
            payload = self._encode(value)
        except Exception as error:  # noqa: BLE001  # its text may hold keys: another one is raised
            cause = without_text(error, f"{self._types.dialect.name} cannot hold it")
            if not any(finding.code == "CC140" for finding in look.findings):
                self._blame(look, error)
        did = UNCHANGED if cause is None else REFUSED.format(self._types.dialect.name)
        self._reporter.report(
            [dataclasses.replace(one, action=Action.OBSERVED, did=did) for one in look.findings]
        )
        if cause is not None:
            raise self._uncacheable(look) from cause
        return payload

    def _blame(self, look: Look, error: Exception) -> None:
        """Cut what the encoder refuses though no type told: all that is known is the error."""
        code = "CC130" if isinstance(error, RecursionError) else "CC140"
        kept = look.kept if type(look.kept) is dict else {}
        rest = {
            name: held
            for name, held in kept.items()
            if not self._refused({name: held}, deep=look.is_deep)
        }
        if 0 < len(rest) < len(kept):
            look.kept = rest
            for at, (name, held) in enumerate(kept.items()):
                if name not in rest:
                    path = look.root / item(name, at)
                    look.note(code, path, held, Action.LEFT_OUT, did=KEY_LEFT_OUT)
        else:
            look.note(code, look.root, look.kept, Action.REFUSED, did=NOTHING)
            look.kept = CUT


def _from_below(calls: int, decode: Callable[[T], Any], payload: T) -> None:
    """Call `decode` from further down the stack."""
    if calls:
        _from_below(calls - 1, decode, payload)
    else:
        decode(payload)
