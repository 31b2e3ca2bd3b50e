"""What one application wants: mode, ignored paths, rules, callbacks and limits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal, get_args

from contextcache.base.words import unknown_name
from contextcache.exceptions import ConfigurationError
from contextcache.findings.finding import Finding
from contextcache.findings.path import Path, tokens
from contextcache.rules.builtin import BUILT_IN
from contextcache.rules.rule import Rule, Rules, Verb, as_verb

Mode = Literal["strip", "warn", "raise", "off"]
OnError = Literal["miss", "raise"]
Subscriber = Callable[[Finding], None]

MODES: tuple[Mode, ...] = get_args(Mode)
ON_ERRORS: tuple[OnError, ...] = get_args(OnError)
TIMEOUT = 0.5  # seconds
CODECS = ("zlib", "zstd")


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """The policy of one application; every part has a default.

    Args:
        mode: `strip` cuts offenders out and stores the rest; `warn` stores exactly what would
            have been stored without contextcache, and reports; `raise` refuses the write; `off`
            stores what `pickle.dumps` makes, looks for nothing and reports nothing.
        ignore: Patterns of paths that are not reported, such as `session['cart'].items[*].client`.
        rules: The application's own rules; they come before the built-in ones.
        on_finding: Called with each finding that is reported.
        max_size: The most bytes a payload may have; the default is the most Redis takes.
        redact_keys: Whether no key of a cache, session or mapping is shown anywhere.
        on_error: What a cache does while Redis cannot be reached: `miss` answers as if it were
            empty and warns once a minute, `raise` lets the `ServerError` out.
        timeout: Seconds that Redis is given for one operation.
        debug: Whether a developer reads along: the log is a block, and every finding is located.
        silence: The line of settings that the log tells the developer to add; its last `[]`
            stands for the patterns to ignore.
        secret_keys: What payloads are signed with; the first one signs, each verifies.
        sign: Whether payloads are signed; None where there are `secret_keys`.
        accept_unsigned: Whether a payload without a signature is read, for the time of a migration.
        compress: `zlib` or `zstd`, for payloads of 4 KB and more; empty for none.
        loadable: The only names a payload may use, besides harmless ones; None for any. What a
            listed function or class does with any arguments is its own responsibility.
    """

    mode: Mode = "strip"
    ignore: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    on_finding: tuple[Subscriber, ...] = ()
    max_size: int = 512 * 1024 * 1024
    redact_keys: bool = False
    on_error: OnError = "miss"
    timeout: float = TIMEOUT
    debug: bool = False
    silence: str = 'CONTEXTCACHE["IGNORE"] += []'
    secret_keys: tuple[str | bytes, ...] = dataclasses.field(default=(), repr=False)
    sign: bool | None = None
    accept_unsigned: bool = False
    compress: str = ""
    loadable: tuple[str, ...] | None = None

    KEYS: ClassVar[tuple[str, ...]] = (
        "MODE", "IGNORE", "RULES", "ON_FINDING", "MAX_SIZE", "REDACT_KEYS", "ON_ERROR", "TIMEOUT",
        "SIGN", "SECRET_KEYS", "ACCEPT_UNSIGNED", "COMPRESS", "LOADABLE",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigurationError(unknown_name(self.mode, MODES, "unknown mode"))
        if isinstance(self.ignore, str):
            raise ConfigurationError("ignore is a list of path patterns, not one of them")
        if not all(isinstance(rule, Rule) for rule in self.rules):
            raise ConfigurationError("rules are a list of contextcache.Rule")
        for pattern in self.ignore:
            try:
                tokens(pattern)
            except (TypeError, ValueError) as error:
                raise ConfigurationError(f"ignore: {error}") from None
        if type(self.max_size) is not int or self.max_size <= 0:
            raise ConfigurationError("max_size is a positive number of bytes")
        if self.on_error not in ON_ERRORS:
            raise ConfigurationError(unknown_name(self.on_error, ON_ERRORS, "unknown ON_ERROR"))
        if type(self.timeout) not in (int, float) or not 0 < self.timeout < math.inf:
            raise ConfigurationError("timeout is a positive number of seconds")
        if self.compress not in ("", *CODECS):
            raise ConfigurationError(unknown_name(self.compress, CODECS, "unknown compression"))

    def ignores(self, path: Path) -> bool:
        """Return True if the application asked not to hear of this field."""
        return any(path.matches(pattern) for pattern in self.ignore)

    def shown(self, label: str) -> str:
        """Return `label` as it may be shown: without the key, where keys are redacted."""
        return str(Path(label, hidden=True)) if self.redact_keys else label

    @classmethod
    def from_mapping(
        cls,
        mapping: Mapping[str, object],
        *,
        where: str = "CONTEXTCACHE",
        debug: bool = False,
        base: Config | None = None,
    ) -> Config:
        """Read a configuration from the settings of a framework.

        Args:
            mapping: Settings by their upper-case names, any of `Config.KEYS`.
            where: What the mapping is called there, for messages.
            debug: Whether a developer reads along.
            base: What to start from; `IGNORE` and `RULES` are added to it, never replaced.

        Raises:
            ConfigurationError: If a key, mode, verb or pattern is unknown; it names the nearest.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigurationError(f"{where} is a dict with the keys {', '.join(cls.KEYS)}")
        if base is None:
            base = cls(debug=debug, silence=f'{where}["IGNORE"] += []')
        changes: dict[str, object] = {}
        for key, value in mapping.items():
            match key:
                case "IGNORE":
                    changes["ignore"] = (*base.ignore, *_strings(value, f"{where} IGNORE"))
                case "RULES":
                    changes["rules"] = (*_rules(value, f"{where} RULES"), *base.rules)
                case "ON_FINDING":
                    own = _callables(value, f"{where} ON_FINDING")
                    changes["on_finding"] = (*base.on_finding, *own)
                case "MODE" | "MAX_SIZE" | "ON_ERROR" | "TIMEOUT":  # which __post_init__ checks
                    changes[key.lower()] = value
                case "REDACT_KEYS":
                    if type(value) is not bool:
                        raise ConfigurationError(f"{where}: REDACT_KEYS is True or False")
                    changes["redact_keys"] = value
                case "SIGN" | "ACCEPT_UNSIGNED":
                    changes[key.lower()] = _switch(value, f"{where} {key}")
                case "SECRET_KEYS":
                    changes["secret_keys"] = _secrets(value, f"{where} SECRET_KEYS")
                case "COMPRESS":
                    changes["compress"] = value or ""
                case "LOADABLE":
                    changes["loadable"] = _names(value, f"{where} LOADABLE")
                case _:
                    raise ConfigurationError(
                        unknown_name(key, cls.KEYS, f"{where}: unknown setting")
                    )
        try:
            return dataclasses.replace(base, **changes)  # type: ignore[arg-type]
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from None


def _switch(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{where} is True or False")
    return value


def _secrets(value: object, where: str) -> tuple[str | bytes, ...]:
    if isinstance(value, (list, tuple)) and value:
        secrets = tuple(value)
        if all(isinstance(secret, (str, bytes)) and secret for secret in secrets):
            return secrets
    raise ConfigurationError(f"{where} is a list of secrets, none of them empty")


def _names(value: object, where: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, (list, tuple, set, frozenset)):
        names = tuple(value)
        if all(isinstance(name, str) for name in names):
            return names
    raise ConfigurationError(f"{where} is a list of names such as 'shop.models.Cart'")


def _strings(value: object, where: str) -> tuple[str, ...]:
    values = (value,) if isinstance(value, str) else value
    if not isinstance(values, (list, tuple, set, frozenset)):
        raise ConfigurationError(f"{where} is a list of path patterns")
    if not all(isinstance(part, str) for part in values):
        raise ConfigurationError(f"{where} is a list of path patterns, each a string")
    return tuple(values)


def _rules(value: object, where: str) -> tuple[Rule, ...]:
    if isinstance(value, Mapping):
        return tuple(_rule(str(name), verb, where) for name, verb in value.items())
    if isinstance(value, (list, tuple, Rules)) and all(isinstance(rule, Rule) for rule in value):
        return tuple(value)
    raise ConfigurationError(
        f"{where} maps type names to verbs or functions, or is a list of contextcache.Rule"
    )


def _rule(name: str, verb: object, where: str) -> Rule:
    if isinstance(verb, Rule):
        return verb
    if callable(verb):
        return Rule(type=name, verb=Verb.REPLACE, make=verb)
    verb = as_verb(verb, f"{where}[{name!r}]")
    known = BUILT_IN.get(name)
    if known is not None:
        if known.verb is verb:
            return known
        plain = {"make": None, "uniform": None, "when": None, "behind": False, "did": ""}
        return dataclasses.replace(known, verb=verb, **plain)  # type: ignore[arg-type]
    return Rule(type=name, verb=verb)


def _callables(value: object, where: str) -> tuple[Subscriber, ...]:
    values = value if isinstance(value, (list, tuple)) else (value,)
    found = []
    for part in values:
        target = _imported(part, where) if isinstance(part, str) else part
        if not callable(target):
            raise ConfigurationError(f"{where} is a function, its dotted path, or a list of them")
        found.append(target)
    return tuple(found)


def _imported(dotted: str, where: str) -> object:
    from pkgutil import resolve_name  # noqa: PLC0415  # only few settings need it

    try:
        return resolve_name(dotted)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{where}: cannot import {dotted!r}") from error
