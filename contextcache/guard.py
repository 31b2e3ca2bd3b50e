"""The guard: between a value and the bytes that are stored.

A clean value takes the fast pass and nothing else. One whose offenders were seen at the same
place before takes the fast pass, too, which cuts them as it goes. Only what is new gets a close
look: it is located, tried whether it loads, and reported.
"""

from __future__ import annotations

import copyreg
import dataclasses
import pickle
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from contextcache.base.introspection import qualified_name
from contextcache.base.locks import ProcessLock, forget_oldest
from contextcache.base.logs import show_findings
from contextcache.base.masking import MAX_LINE_LENGTH, generalised, one_line, shortened, type_text
from contextcache.config import Config
from contextcache.engine.budget import Budget
from contextcache.engine.diagnosis import (
    KEY_LEFT_OUT,
    Inspection,
    refuses,
    without_keys,
)
from contextcache.engine.dispatch import Table
from contextcache.engine.dump import Dump
from contextcache.engine.history import Markers, Site
from contextcache.engine.preload import preload
from contextcache.engine.size import heaviest, overruns_stack, stack_is_at_risk
from contextcache.engine.trial import loads_again
from contextcache.engine.verbs import PROTOCOL
from contextcache.engine.wording import NOTHING
from contextcache.exceptions import (
    ConfigurationError,
    UncacheableValueError,
    UnreadablePayloadError,
    UntrustedPayloadError,
    without_text,
)
from contextcache.findings.finding import CODES, Action, Finding
from contextcache.findings.path import Path
from contextcache.payload.loading import is_sealed, load, unreadable
from contextcache.reports.reporter import (
    A_MISS,
    Reporter,
    collectors,
    is_milestone,
    key_of,
    note_write,
    report_internal,
    writers,
)
from contextcache.reports.request_scope import (
    SESSION,
    current_credentials,
    current_scope,
    origin_of,
)
from contextcache.rules.book import RuleBook
from contextcache.rules.verdicts import DEEP_FIX

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from contextcache.payload.allow_list import AllowList
    from contextcache.payload.envelope import Envelope
    from contextcache.reports.reporter import Key

MOST_SITES = 1024
FLAT = 64  # items up to which asking for their types costs less than a pickler
PATIENT = 20  # times as long a developer waits for a path

BUDGET = Budget()
"""What all guards of this process may spend together, unless they are given another."""


class Guard:
    """Turn values into payloads, without what belongs to one thread, request or process.

    Keep one per place of storage; it is safe to use from many threads.

    Args:
        config: The policy; by default that of `Config()`.
        sink: The words for where values are stored, such as `session in redis`.
        session: Whether values are sessions: an offending top-level key is then left out.
        budget: The time that diagnosis may take; by default all guards of a process share one.
        **options: Single parts of the policy, by the names of `Config`.

    Attributes:
        signs: Whether payloads are signed.

    Raises:
        ConfigurationError: Payloads cannot be signed, compressed or restricted as the policy says.
    """

    UNTOUCHED_BECAUSE = "mode warn"
    """Why a value is stored as it is, in the words of a report."""

    def __init__(
        self,
        config: Config | None = None,
        *,
        sink: str = "",
        session: bool = False,
        budget: Budget | None = None,
        **options: Any,
    ) -> None:
        config = config if config is not None else Config()
        self.config = dataclasses.replace(config, **options) if options else config
        self.sink = sink
        self._session = session
        self._reporter = Reporter(self.config, sink)
        self._envelope = _envelope(self.config, "session" if session else "cache")
        self.signs = self._envelope is not None and self.config.sign is not False
        self._room = self.config.max_size
        if self._envelope is not None and self.signs:
            self._room -= self._envelope.OVERHEAD
        self._names = None if self.config.loadable is None else _allow_list(self.config.loadable)
        self._table = Table(RuleBook(self.config.rules))
        self._sites: dict[str, Site] = {}
        self._everywhere = Site()
        self._lock = ProcessLock()
        self._budget = BUDGET if budget is None else budget
        preload(debug=self._wants_sources())
        if self.config.mode == "off":
            self._dumps = self._dumps_unguarded  # type: ignore[method-assign]
        elif self.config.debug:
            show_findings()

    def dumps(self, value: object, *, label: str = "value", key: str | bytes = "") -> bytes:
        """Pickle `value`, cutting out and reporting what cannot be stored, and sign it.

        Args:
            value: Any value; it is never changed.
            label: The root of the paths in it, such as `cache['user:42']`.
            key: The key it is stored under, which the signature then covers.

        Returns:
            A pickle of protocol 5, of a clean value byte for byte that of `pickle.dumps`; in a
            signed envelope where the guard has secrets to sign with.

        Raises:
            UncacheableValueError: If nothing of it can be stored, if a field must not be cut, and
                in mode `raise` if anything in it offends.
            Exception: In mode `off`, what pickle raises.
        """
        if writers:
            note_write()
        if collectors or self.config.debug:
            return self._dumps_watched(value, label, key)
        return self._dumps(value, label, key)

    def _dumps_watched(self, value: object, label: str, key: str | bytes) -> bytes:
        """Do what `dumps` does, for a developer or a test: note the write, look for secrets."""
        scope = current_scope() if self.config.debug else None
        if scope is None or not scope.collect:
            return self._dumps_searched(value, label, key)
        with scope.writing(label, self.sink, hidden=self.config.redact_keys) as write:
            payload = self._dumps_searched(value, label, key)
            write.size = len(payload)
            return payload

    def _dumps_searched(self, value: object, label: str, key: str | bytes) -> bytes:
        payload = self._dumps(value, label, key)
        if self.config.mode != "off":
            try:
                self._report_secrets(value, label, self._opened(payload, label, key))
            except (RecursionError, MemoryError):
                raise
            except Exception as error:  # noqa: BLE001  # our own bug must not break the write
                report_internal("looking for secrets", error)
        return payload

    def _report_secrets(self, value: object, label: str, body: bytes | memoryview) -> None:
        """Report what has the shape of a secret in what was stored; no mode refuses it.

        It is a guess, and the same write is not searched in production.
        """
        from contextcache.rules.secret_shapes import shapes_in  # noqa: PLC0415  # for developers

        if shapes_in(bytes(body)):
            with self._budget.charged():
                self._reporter.report(self._look(value, label).secrets)

    def _dumps(self, value: object, label: str, key: str | bytes) -> bytes:
        body = None
        if type(value) is dict and len(value) <= FLAT and _is_small_data(value):
            body = pickle.dumps(value, PROTOCOL)
            if current_credentials().found_in(body):
                body = None
        if body is None:
            try:
                body = self._payload(value, label)
            except (UncacheableValueError, MemoryError):
                raise
            except RecursionError:  # with no room left on the stack, nothing is known for certain
                body = self._refused_as_deep(value, label)
            except Exception as error:  # noqa: BLE001  # our own bug must not break the write
                report_internal("guarding a value", error)
                body = pickle.dumps(value, PROTOCOL)
        if len(body) > self._room:
            with self._budget.charged():
                body, _ = self._refused(value, label, [self._oversized(value, label)])
        if self._envelope is None or not self.signs:
            return body
        return self._envelope.seal(body, key)

    def _dumps_unguarded(self, value: object, label: str, key: str | bytes) -> bytes:  # noqa: ARG002
        body = pickle.dumps(value, PROTOCOL)
        return body if self._envelope is None or not self.signs else self._envelope.seal(body, key)

    def loads(self, payload: bytes, *, label: str = "value", key: str | bytes = "") -> Any:
        """Turn a payload back into the value; its signature is verified before anything else.

        Args:
            payload: What `dumps` returned.
            label: Where it was read from, for the error.
            key: The key it was found under, as `dumps` was given it.

        Raises:
            UntrustedPayloadError: If it was not signed here, or names what is not `loadable`.
            UnreadablePayloadError: If it cannot be read, for whatever reason.
        """
        if self.config.redact_keys:
            label = self._shown(label)
        value = load(self._opened(payload, label, key), self._names, label)
        if label == SESSION and type(value) is dict:
            scope = current_scope()
            if scope is not None:
                scope.note_loaded(value)
        return value

    def explain(self, value: object, *, label: str = "value", fresh: bool = False) -> list[Finding]:
        """Find everything in `value` that cannot or should not be stored.

        Nothing is stored, changed or logged, and no mode, budget or ignore pattern applies.

        Args:
            value: Any value.
            label: The root of the paths in it.
            fresh: Whether to load what is stored in a fresh process, too, for a test.

        Raises:
            FreshProcessError: The fresh process could not be asked.
        """
        look = Inspection(
            self._table,
            label,
            sink=self.sink,
            debug=True,
            exact=True,
            seconds=60.0,
            nodes=100_000_000,
            hidden=self.config.redact_keys,
            fresh=fresh,
        )
        look.run(value)
        return look.findings + look.secrets

    def summary(self) -> list[Finding]:
        """Return what was reported so far, each pattern once, with its count."""
        return self._reporter.summary()

    def report_unreadable(
        self, error: Exception, *, label: str = "value", outcome: str = A_MISS
    ) -> None:
        """Warn that a payload counts as a miss; each reason at its 1st, 10th, 100th... time.

        Args:
            error: What `loads` raised, or what another way of unpickling did.
            label: Where the payload was read from, where the error does not say so.
            outcome: What its reader gets, for the message.
        """
        if not isinstance(error, UnreadablePayloadError):
            error = unreadable(error, self._shown(label) if self.config.redact_keys else label)
        self._reporter.unreadable(error, outcome)

    def _opened(self, payload: bytes, label: str, key: str | bytes) -> bytes | memoryview:
        """Return the pickle in `payload`; the first byte decides what it is, and nothing else."""
        if is_sealed(payload):
            if self._envelope is None:
                raise UntrustedPayloadError(
                    label,
                    "it is signed, and there is no secret here to verify it with",
                    "configure the secret it was signed with",
                )
            return self._envelope.open(payload, key, label)
        if self.signs and not self.config.accept_unsigned:
            raise UntrustedPayloadError(
                label,
                "it is not signed",
                "delete the entry, or set ACCEPT_UNSIGNED while entries from before are read",
            )
        return payload

    def _shown(self, label: str) -> str:
        """Return `label` as it may be shown: without the key, where keys are redacted."""
        return str(Path(label, hidden=True)) if self.config.redact_keys else label

    def _payload(self, value: object, label: str) -> bytes:
        """Take the fast pass, and a close look only at what is new."""
        # The site first: what it calls known, the table read after it knows how to cut.
        site = self._sites.get(generalised(label)) if self._sites else None
        table = self._table
        if copyreg.dispatch_table != table.registered:  # somebody registered a reducer since
            table = self._table = table.restarted()
        at_risk = stack_is_at_risk()
        shown = self._shown(label) if self.config.redact_keys else label
        dump = Dump(table, shown, capture=at_risk)  # which notices what never ends
        known: dict[int, tuple[Any, Key]] = {}
        kept = value
        if site is not None:
            known = site.known(value)
            dump.where = Markers(known, label, hidden=self.config.redact_keys)
            kept = without_keys(value, site.dropped, dump)
        careful = at_risk or (site is not None and site.careful)
        failed: type[Exception] | None = None
        try:
            if at_risk and overruns_stack(value):
                raise RecursionError  # as newer versions of Python do by themselves
            payload = dump.careful(kept) if careful else dump.fast(kept)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # the close look tells what it was, and where
            payload, failed = None, type(error)
        if payload is None and site is None and self._everywhere.careful and self._is_spent():
            dump = Dump(table, shown, capture=at_risk)
            try:
                payload = dump.careful(kept)
            except MemoryError:
                raise
            except Exception as error:  # noqa: BLE001  # as above
                payload, failed = None, type(error)
        if payload is None:  # out here, no error carries the first one and its text as context
            codes = _ABOUT_STACK if failed is RecursionError else frozenset()
            again = self._refused_again(site or self._everywhere, codes, value, label)
            return again or self._inspected(value, label, careful=True)
        if not dump.hits and not dump.bare:
            if dump.met and not self._trusted(dump, payload):
                return self._inspected(value, label, careful=careful)
            if table.due:
                self._renew()
            return payload
        if table.due:
            self._renew()
        keys = self._known_keys(site, dump, known) if site is not None else None
        if keys is None:
            if self._may_skip_diagnosis(site or self._everywhere, dump, payload, value):
                return payload
            refused = {hit.rule.code for hit in dump.hits if refuses(hit, value)}
            again = self._refused_again(site or self._everywhere, refused, value, label)
            return again or self._inspected(value, label, careful=careful)
        counted = self._reporter.count(keys)
        if any(map(is_milestone, counted.values())):
            return self._inspected(value, label, careful=careful, counted=counted)
        if self.config.mode == "warn":
            try:
                return pickle.dumps(value, PROTOCOL)
            except Exception:  # noqa: BLE001  # the close look has the findings for the error
                return self._inspected(value, label, careful=careful)
        return payload

    def _trusted(self, dump: Dump, payload: bytes) -> bool:
        """Try a payload with types that were met for the first time; tell whether it loads."""
        with self._budget.charged():
            if not loads_again(dump, payload):
                return False
            for cls in dump.met:
                dump.table.learn(cls, sound=True)
            return True

    def _known_keys(
        self, site: Site, dump: Dump, known: Mapping[int, tuple[object, Key]]
    ) -> set[Key] | None:
        """Return the keys of these hits if they were all met at the same places before."""
        if site.refusal or dump.met or self.config.mode == "raise":
            return None
        kinds = dump.kinds()
        if self._somebody_listens() or not kinds <= site.kinds.keys():
            return None
        elsewhere = dump.kinds(known.keys())
        if not elsewhere <= site.everywhere:
            return None  # the same kind at another place has another name and another holder
        if elsewhere and not site.is_full and dump.has_marker(known.keys()) and self._has_time():
            return None  # it may stand at a new place all the same, which its marker has to name
        leaves = [*map(id, [hit.leaf for hit in dump.hits]), *map(id, dump.bare)]
        return {known[leaf][1] for leaf in leaves if leaf in known} | {
            site.kinds[kind] for kind in elsewhere
        }

    def _may_skip_diagnosis(self, site: Site, dump: Dump, payload: bytes, value: object) -> bool:
        """Return True if a close look is left out, because the time for it is used up.

        What is stripped or met for the first time must load all the same.
        """
        if not self._is_spent():
            return False
        kinds = dump.kinds()
        if not kinds <= site.kinds.keys() or any(refuses(hit, value) for hit in dump.hits):
            return False
        if (dump.hits or dump.met) and not self._trusted(dump, payload):
            return False
        self._reporter.repeat({site.kinds[kind] for kind in kinds})
        return True

    def _refused_again(
        self, site: Site, codes: Collection[str], value: object, label: str
    ) -> bytes | None:
        """Refuse `value` as one before it, where the time for a close look is used up.

        Args:
            site: What is known there.
            codes: The codes that keep `value` from being stored.
            value: The value.
            label: The root of its paths.

        Returns:
            The rest of a session; None if it gets a close look.

        Raises:
            UncacheableValueError: There is no rest.
        """
        known = [one for one in site.refusal if one.code in codes and one.action is Action.REFUSED]
        if not known or not self._is_spent():
            return None
        return self._refused(value, label, known, known=True)[0]

    def _is_spent(self) -> bool:
        """Return True if no time is left for a look that nobody has asked for."""
        if self.config.mode != "strip" or self._somebody_listens():
            return False
        return not self._budget.left()

    def _has_time(self) -> bool:
        """Return True if a look that nobody has asked for may name the markers in a value."""
        return self.config.mode == "strip" and self._budget.left() > 0

    def _somebody_listens(self) -> bool:
        """Tell whether each occurrence matters: to a developer, a test, a request's page."""
        scope = current_scope()
        return self.config.debug or bool(collectors) or (scope is not None and scope.collect)

    def _inspected(
        self,
        value: object,
        label: str,
        *,
        careful: bool,
        counted: Mapping[Key, int] = MappingProxyType({}),
    ) -> bytes:
        """Take a close look, remember it, report it, and do what the mode says."""
        with self._budget.charged():
            return self._diagnosed(value, label, careful=careful, counted=counted)

    def _diagnosed(
        self, value: object, label: str, *, careful: bool, counted: Mapping[Key, int]
    ) -> bytes:
        look = self._look(value, label)
        if look.table is not self._table or look.table.due:
            self._renew()
        self._remember(label, look, value, careful=careful)
        if self.config.mode == "warn":
            return self._observed(value, look.findings)
        log = self.config.mode == "strip"
        payload, findings = look.payload, look.findings
        if payload is None:
            payload, findings = self._refused(value, label, findings, log=log, counted=counted)
        heard = self._reporter.report(findings, log=log, counted=counted)
        if heard and self.config.mode == "raise":
            raise self._uncacheable(heard)
        return payload

    def _refused(
        self,
        value: object,
        label: str,
        findings: Sequence[Finding],
        *,
        log: bool = True,
        known: bool = False,
        counted: Mapping[Key, int] = MappingProxyType({}),
    ) -> tuple[bytes, list[Finding]]:
        """Report why `value` cannot be stored, or only count what is known, and raise.

        Of a session, the rest is pickled: a cart that went wrong must not cost the login.

        Returns:
            The pickle, and what was found in it, which is not reported yet.
        """
        has_rest = self._session and self.config.mode == "strip" and type(value) is dict
        if has_rest:
            findings = [
                dataclasses.replace(one, action=Action.LEFT_OUT, did=KEY_LEFT_OUT)
                if one.action is Action.REFUSED
                else one
                for one in findings
            ]
        if known:
            self._reporter.repeat(map(key_of, findings))
            findings = [
                dataclasses.replace(one, path=dataclasses.replace(one.path, root=label), origin="")
                for one in findings
            ]
        else:
            self._reporter.report(findings, log=log, counted=counted)
        if not has_rest:
            raise self._uncacheable(findings)
        try:
            payload, found = self._rest(value, label)
        except Exception as error:  # noqa: BLE001  # our own bug: there is nothing to store then
            report_internal("looking for what can be stored of a session", error)
            raise self._uncacheable(findings) from None
        if payload is None or len(payload) > self._room:
            raise self._uncacheable(found or findings)
        return payload, found

    def _rest(self, session: Any, label: str) -> tuple[bytes | None, list[Finding]]:
        """Pickle what can be stored of `session`.

        The keys are tried one by one, and where all are too large together, the smallest are kept:
        among them are those that people are logged in with.
        """
        sizes = {}
        for name, held in session.items():
            payload, _ = self._part({name: held}, label)
            if payload is not None:
                sizes[name] = len(payload)
        kept, room = {}, self._room
        for name in sorted(sizes, key=sizes.__getitem__):
            room -= sizes[name]
            if room < 0:
                break
            kept[name] = session[name]
        return self._part(kept, label)

    def _part(self, part: object, label: str) -> tuple[bytes | None, list[Finding]]:
        """Pickle a part of a session, with a close look only where it needs one."""
        if not stack_is_at_risk():
            dump = Dump(self._table, self._shown(label))
            try:
                payload = dump.fast(part)
            except MemoryError:
                raise
            except RecursionError:
                if self._is_spent():
                    return None, []
            except Exception:  # noqa: BLE001, S110  # the close look tells what it was
                pass
            else:
                if not dump.hits and not dump.bare and not dump.met:
                    return payload, []
        look = self._look(part, label)
        return look.payload, look.findings

    def _look(self, value: object, label: str) -> Inspection:
        """Take a close look at `value`, no longer than is affordable now."""
        return Inspection(
            self._table,
            label,
            sink=self.sink,
            session=self._session,
            debug=self._wants_sources(),
            exact=self.config.debug,
            seconds=self._seconds(),
            nodes=self._budget.nodes,
            hidden=self.config.redact_keys,
        ).run(value)

    def _observed(self, value: object, findings: Sequence[Finding]) -> bytes:
        """Report `findings` and store exactly what would have been stored without us."""
        payload = cause = None
        if not stack_is_at_risk() or not any(one.code in ENDLESS for one in findings):
            try:
                payload = pickle.dumps(value, PROTOCOL)
            except Exception as error:  # noqa: BLE001  # whatever it was, it is raised below
                cause = without_text(error, "pickle refuses it")
        did = UNCHANGED if payload is not None else REFUSED_BY_PICKLE
        did = f"{did} ({self.UNTOUCHED_BECAUSE})"
        seen = [dataclasses.replace(one, action=Action.OBSERVED, did=did) for one in findings]
        self._reporter.report(seen)
        if payload is None:
            raise self._uncacheable(findings) from cause
        return payload

    def _oversized(self, value: object, label: str) -> Finding:
        steps, kind = heaviest(value, seconds=PATIENT * self._budget.left())
        fix = f"store less of it; the limit is {self.config.max_size} bytes (MAX_SIZE)"
        path = Path(label, steps, self.config.redact_keys)
        return self._refusal("CC131", path, kind, fix, origin_of(path, value))

    def _refused_as_deep(self, value: object, label: str) -> bytes:
        """Report that the stack has no room for `value`; in mode `warn`, leave it to pickle."""
        path = Path(label, hidden=self.config.redact_keys)
        finding = self._refusal("CC130", path, type(value), DEEP_FIX, origin_of(path))
        if self.config.mode == "warn":
            return self._observed(value, [finding])
        return self._refused(value, label, [finding])[0]

    def _refusal(self, code: str, path: Path, kind: type, fix: str, origin: str) -> Finding:
        return Finding(
            code=code,
            path=path,
            leaf_type=qualified_name(kind),
            owner_type="",
            action=Action.REFUSED,
            reason=CODES[code],
            did=NOTHING,
            fix=fix,
            sink=self.sink,
            origin=origin,
        )

    def _wants_sources(self) -> bool:
        """Return True if the lines that set fields are looked up: for a developer, a test, CI."""
        return self.config.debug or self.config.mode == "raise" or bool(collectors)

    def _uncacheable(self, findings: Sequence[Finding]) -> UncacheableValueError:
        return uncacheable(findings, self.config)

    def _seconds(self) -> float:
        """Return how many seconds locating and wording may take now.

        A hot page with ever new offenders must not spend its time on diagnosis; what is not
        located is still cut, tried and counted.
        """
        if self.config.debug or collectors or self.config.mode == "raise":
            return self._budget.look * PATIENT
        return self._budget.left()

    def _remember(self, label: str, look: Inspection, value: object, *, careful: bool) -> None:
        place = generalised(label)
        with self._lock:
            before = self._sites.pop(place, None) or Site()
            site = before.updated(look, value, careful=careful)
            self._everywhere = self._everywhere.with_kinds(site)
            if len(self._sites) >= MOST_SITES:  # keys may be hostile: forget the oldest
                forget_oldest(self._sites)
            self._sites[place] = site

    def _renew(self) -> None:
        """Let C find what was learned of classes that stay."""
        with self._lock:
            before = self._table
            table = before.renewed()
            if self._table is before:  # no handler of a signal has been here meanwhile
                self._table = table


def _allow_list(names: tuple[str, ...]) -> AllowList:
    from contextcache.payload.allow_list import AllowList  # noqa: PLC0415  # imports what few need

    return AllowList(names)


def _envelope(config: Config, purpose: str) -> Envelope | None:
    if config.secret_keys:
        from contextcache.payload.envelope import Envelope  # noqa: PLC0415  # with OpenSSL, for those who sign

        if config.sign is False and config.compress:
            raise ConfigurationError("COMPRESS needs SIGN: a plain pickle cannot say that it is")
        return Envelope(
            config.secret_keys, purpose=purpose, compress=config.compress, most=config.max_size
        )
    if config.sign or config.compress:
        name = "SIGN" if config.sign else "COMPRESS"
        raise ConfigurationError(f"{name} needs a secret: set SECRET_KEY")
    return None


def _is_small_data(value: dict[Any, Any]) -> bool:
    """Tell whether a small dict holds plain data two levels deep, which needs no pass of ours."""
    try:
        if not _PLAIN.issuperset(map(type, value)):
            return False
        if _PLAIN.issuperset(map(type, value.values())):
            return True
        held = [one for one in value.values() if type(one) not in _PLAIN]
        return len(held) <= FLAT // 4 and all(map(_is_flat, held))
    except Exception:  # noqa: BLE001  # a metaclass whose __hash__ raises, a dict that changes
        return False


def _is_flat(held: Any) -> bool:
    kind = type(held)
    if kind not in _CONTAINERS or len(held) > FLAT // 4:
        return False
    flat = _PLAIN.issuperset(map(type, held))
    if kind is not dict or not flat:
        return flat
    return _PLAIN.issuperset(map(type, held.values()))


_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
_CONTAINERS = frozenset({list, tuple, dict})

_ABOUT_STACK = frozenset({"CC118", "CC130", "CC133"})  # of a `RecursionError`
ENDLESS = frozenset({"CC130", "CC133"})  # codes of what makes pickle recurse too deep
UNCHANGED = "stored unchanged"
REFUSED_BY_PICKLE = f"{NOTHING}: pickle refuses it"


MAX_LISTED = 20  # findings in the text of an error


def uncacheable(findings: Sequence[Finding], config: Config) -> UncacheableValueError:
    """Build the error for a value that is not stored, with all its findings.

    Args:
        findings: All of them; the text has the first ones.
        config: Whether nothing is masked, for a developer, and whether the text has what else is
            known of each: in mode `raise` nothing is logged.
    """
    exact, lines = config.debug, []
    for one in findings[:MAX_LISTED]:
        name = f"{one.path.printed(exact=exact)} ({type_text(one.leaf_type, exact=exact)})"
        lines.append(f"{one.code} {name}: {one_line(one.reason)}; {one_line(one.fix)}")
        details = [("at", one.origin), ("field", one.field)] if config.mode == "raise" else []
        lines += (f"  {label:<5} {one_line(text)}" for label, text in details if text)
    if len(findings) > MAX_LISTED:
        lines.append(f"and {len(findings) - MAX_LISTED} more")
    root = "the value"
    if findings:
        root = dataclasses.replace(findings[0].path, steps=()).printed(exact=exact)
    lines = [shortened(line, MAX_LINE_LENGTH) for line in lines]
    return UncacheableValueError("\n  ".join([f"{root} was not stored:", *lines]), findings)
