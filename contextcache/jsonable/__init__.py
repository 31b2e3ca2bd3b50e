"""Findings for JSON: what it cannot hold, and what it changes silently.

Sessions and caches that are written as JSON or MessagePack have offenders of their own: a `set`
raises an error that names no field, and a `tuple` comes back as a list. `JSONGuard` stands before
such an encoder as `Guard` stands before pickle. It encodes, decodes and compares; what the encoder
refuses is cut out of a copy, and what comes back as something else is reported.
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from contextcache.base.logs import show_findings
from contextcache.config import Config
from contextcache.engine.preload import preload
from contextcache.engine.refusal import NOTHING, uncacheable
from contextcache.exceptions import without_text
from contextcache.findings.finding import Action, Finding
from contextcache.findings.path import item
from contextcache.jsonable.codec import Codec
from contextcache.jsonable.encoder import Encoder
from contextcache.jsonable.frames import OMITTED
from contextcache.payload.loading import LOOK_FOR_THE_WRITER as LOOK_FOR_THE_WRITER
from contextcache.reports.reporter import (
    Reporter,
    collectors,
    note_write,
    report_internal,
    writers,
)
from contextcache.reports.request_scope import current_scope
from contextcache.rules.rule import Verb, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sized

    from contextcache.exceptions import UnreadablePayloadError
    from contextcache.jsonable.scan import JSONScan

T = TypeVar("T")

COOKIE_SHARE = 0.8  # of the limit of a cookie, from where on its size is reported
MAX_LISTED = 5  # keys of a session whose sizes are listed
NESTED = "it is nested too deep"  # why JSON or MessagePack cannot be read
UNCHANGED = "stored unchanged (mode warn)"
REFUSED = f"{NOTHING}: {{}} refuses it (mode warn)"


class JSONGuard(Generic[T]):
    """Encode values as JSON, without what it cannot hold.

    Keep one per place of storage; it is safe to use from many threads.

    Of a dict, the key is left out with what stands under it, and of a list, None is stored in its
    place. What a rule of the application makes a `snapshot` of, and what a proxy points at, is
    stored instead of it. What the encoder changes is reported, and stored as it would have been.

    Args:
        encode: Turns a value into JSON, such as `json.dumps`.
        config: The policy; by default that of `Config()`.
        decode: Reads what `encode` writes. A value with anything but plain JSON in it is read back
            and compared.
        name: What messages call the format.
        sink: Display name of the storage.
    """

    def __init__(
        self,
        encode: Callable[[Any], T],
        config: Config | None = None,
        *,
        decode: Callable[[T], Any] = cast("Callable[[Any], Any]", json.loads),  # noqa: B008
        name: str = "JSON",
        sink: str = "",
    ) -> None:
        self.config = config if config is not None else Config()
        self.sink = sink
        self._encoder = Encoder(Codec(encode, decode, name), self.config, sink)
        self._reporter = Reporter(self.config, sink)
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
            return self._encoder.codec.encode(value)
        scan, payload = self._encoder.examine(value, label)
        if (collectors or self.config.debug) and payload is not None:
            secrets = self._secrets(scan or self._encoder.scan(value, label), payload)
            self._reporter.report(secrets)  # which no mode refuses
        if scan is None:
            return payload
        if self.config.mode == "warn":
            return self._encode_unchanged(value, scan)
        if findings := scan.notes.findings:
            reported = self._reporter.report(findings, log=self.config.mode == "strip")
            if scan.kept is OMITTED or (reported and self.config.mode == "raise"):
                raise uncacheable(findings, self.config)
        return payload

    def explain(self, value: Any, *, label: str = "value") -> list[Finding]:
        """Find everything in `value` that JSON cannot hold or changes; report and store nothing."""
        scan, payload = self._encoder.examine(value, label)
        scan = scan or self._encoder.scan(value, label)
        return scan.notes.findings + ([] if payload is None else self._secrets(scan, payload))

    def report_unreadable(self, error: UnreadablePayloadError) -> None:
        """Warn that a payload counts as a miss; each reason at its 1st, 10th, 100th... time."""
        self._reporter.unreadable(error)

    def weigh(self, session: Mapping[str, Any], size: int, limit: int, *, fix: str) -> None:
        """Report the heaviest key of a session whose cookie comes close to what browsers keep.

        Args:
            session: What the cookie was made of.
            size: Bytes of the cookie.
            limit: The most bytes it may have; 0 where there is no limit.
            fix: What to do about it; the largest keys and their sizes are added.

        Raises:
            UncacheableValueError: The mode is `raise`, and the finding is not ignored.
        """
        if self.config.mode == "off" or not 0 < limit * COOKIE_SHARE <= size or not session:
            return
        sizes = {key: self._size(key, held) for key, held in session.items()}
        steps = {key: item(key, at) for at, key in enumerate(session)}
        heaviest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:MAX_LISTED]
        notes = self._encoder.notes(session, "session")
        exact = self.config.debug
        listed = ", ".join(
            f"{(notes.root / steps[key]).printed(exact=exact)} {sizes[key]}" for key in heaviest
        )
        lost = "; browsers drop it" if size > limit else ""
        did = f"sent a cookie of {size} bytes, of at most {limit}{lost}"
        too_large = Verdict(
            verb=Verb.OBSERVE, code="CC142", did=did, fix=f"{fix} (bytes: {listed})"
        )
        notes.add(too_large, session[heaviest[0]], steps=(steps[heaviest[0]],))
        raises = self.config.mode == "raise"
        if self._reporter.report(notes.findings, log=not raises) and raises:
            raise uncacheable(notes.findings, self.config)

    def _size(self, key: str, held: Any) -> int:
        try:
            return len(cast("Sized", self._encoder.codec.encode({key: held})))
        except Exception:  # noqa: BLE001  # what cannot be encoded has no size
            return 0

    def _secrets(self, scan: JSONScan, payload: T) -> list[Finding]:
        """Find what has the shape of a secret in what is stored, for a developer or a test."""
        from contextcache.engine.secret_search import iter_texts  # noqa: PLC0415
        from contextcache.rules.secret_shapes import shape_of, shapes_in, verdict_on  # noqa: PLC0415

        root = scan.notes.root
        notes = self._encoder.notes(scan.kept, root.root)
        try:
            text = payload.encode() if isinstance(payload, str) else payload
            shapes = shapes_in(text) if isinstance(text, bytes) else []
            known = [finding.path for finding in scan.notes.findings] if shapes else []
            for steps, held in iter_texts(scan.kept) if shapes else ():
                shape, path = shape_of(held, shapes), dataclasses.replace(root, steps=steps)
                if shape is not None and path not in known:
                    notes.add(verdict_on(shape), held, steps=steps)
        except (RecursionError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001  # our own bug must not break the user's write
            report_internal("looking for secrets", error)
        return notes.findings

    def _encode_unchanged(self, value: Any, scan: JSONScan) -> T:
        """Report the findings and store exactly what would have been stored without us."""
        cause: Exception | None = None
        name = self._encoder.codec.name
        try:
            payload = self._encoder.codec.encode(value)
        except Exception as error:  # noqa: BLE001  # its text may hold keys: another one is raised
            cause = without_text(error, f"{name} cannot hold it")
            if not any(finding.code == "CC140" for finding in scan.notes.findings):
                self._encoder.blame_keys(scan, error)
        did = UNCHANGED if cause is None else REFUSED.format(name)
        findings = scan.notes.findings
        self._reporter.report(
            [dataclasses.replace(one, action=Action.OBSERVED, did=did) for one in findings]
        )
        if cause is not None:
            raise uncacheable(findings, self.config) from cause
        return payload
