"""Where an offender sits: a Python expression rooted at the place it was being stored.

`session['cart'].items[3].client._lock` is a path: the root names the sink, and evaluating the
rest on the value gives the offending object. What has no accessor in Python is written in a
form that cannot be mistaken for one:

=============  ==================================================================
`{0}`          the first element of a set, in iteration order
`<key 2>`      the third key of a mapping
`<value 2>`    the value under the third key, where the key itself is not printed
`<arg 1>`      the second argument with which pickle rebuilds the object
`<state>`      what `__getstate__` returned, where no attribute holds it
`<function>`   the callable with which pickle rebuilds the object, where it is an object itself
`.all()`       what a related manager of Django returns, where that is loaded
=============  ==================================================================
"""

from __future__ import annotations

import functools
import keyword
import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import NamedTuple

from contextcache.base.masking import generalised, masked, one_line, shortened
from contextcache.base.syntax import parse_literal

MAX_KEY_LENGTH = 40  # characters of a mapping key that are printed; a longer one may be data
MAX_PATH_LENGTH = 300  # characters of a path in a log record
MAX_PATTERN_LENGTH = 240


class StepKind(StrEnum):
    """How one step leads from a holder to what it holds."""

    ATTRIBUTE = "attribute"
    ITEM = "item"
    ELEMENT = "element"
    KEY = "key"
    VALUE = "value"
    ARGUMENT = "argument"
    STATE = "state"
    FUNCTION = "function"
    CALL = "call"


class Step(NamedTuple):
    """One step of a path: an attribute name, a printable key, or a position."""

    kind: StepKind
    name: str | int | tuple[object, ...] | bool | None

    def __str__(self) -> str:
        match self.kind:
            case StepKind.ATTRIBUTE:
                text = str(self.name)
                plain = text.isidentifier() and not keyword.iskeyword(text)
                return f".{text}" if plain else f".__dict__[{text!r}]"
            case StepKind.ITEM:
                return f"[{self.name!r}]"
            case StepKind.ELEMENT:
                return f"{{{self.name}}}"
            case StepKind.ARGUMENT:
                return f"<arg {self.name}>"
            case StepKind.STATE | StepKind.FUNCTION:
                return f"<{self.kind.value}>"
            case StepKind.CALL:
                return f".{self.name}()"
            case _:
                return f"<{self.kind.value} {self.name}>"

    @property
    def printed(self) -> str:
        """The step as it may be logged: what a visitor may have chosen is `*`."""
        match self.kind:
            case StepKind.ATTRIBUTE:
                name = str(self.name)
                text = masked(name)
                if name.isidentifier() and not keyword.iskeyword(name):
                    return f".{text}"
                return f".__dict__{_key(text)}"
            case StepKind.ITEM if type(self.name) is str:
                return _key(masked(self.name))
            case StepKind.ITEM:
                return str(self) if _is_plain(self.name) else "[*]"
            case _:
                return str(self)

    @property
    def printed_pattern(self) -> str:
        """The pattern of the step as it may be logged."""
        match self.kind:
            case StepKind.ATTRIBUTE:
                return _ADDRESS.sub("*", self.printed)
            case StepKind.ITEM:
                return "[*]" if isinstance(self.name, int) else generalised(self.printed)
            case _:
                return self.pattern

    @property
    def has_name(self) -> bool:
        """Whether it is an attribute or a key by name, as in a row, and no position."""
        return self.kind is StepKind.ATTRIBUTE or type(self.name) is str

    @property
    def pattern(self) -> str:
        """The step with positions generalised, so that equal fields of many items are one."""
        match self.kind:
            case StepKind.ATTRIBUTE:
                return _ADDRESS.sub("*", str(self))
            case StepKind.STATE | StepKind.FUNCTION | StepKind.CALL:
                return str(self)
            case StepKind.ITEM:
                return "[*]" if isinstance(self.name, int) else generalised(str(self))
            case StepKind.ELEMENT:
                return "{*}"
            case _:
                return str(self).replace(str(self.name), "*")


_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}|\d{7,}|(?=[a-fA-F]{0,8}\d)[0-9a-fA-F]{10,}")
"""What is an `id()` or an address in a name, and another one in the next process."""


def attribute(name: str) -> Step:
    """Return the step to the attribute `name`."""
    return Step(StepKind.ATTRIBUTE, name)


def item(key: object, position: int) -> Step:
    """Return the step to the value under `key`, which stands at `position` in its mapping.

    Only short strings and plain numbers are printed: a key can be somebody's e-mail address,
    and the `repr` of any other object is not ours to run.
    """
    if printable(key):
        return Step(StepKind.ITEM, key)  # type: ignore[arg-type]
    return Step(StepKind.VALUE, position)


def printable(key: object) -> bool:
    """Return True if a message may show `key`: a short str, an int, None, or a tuple of them."""
    kind = type(key)
    if kind is str:
        return len(key) <= MAX_KEY_LENGTH  # type: ignore[arg-type]
    if kind is int:
        return -(10**20) < key < 10**20  # type: ignore[operator]
    if kind is tuple:
        return len(key) <= 4 and all(printable(part) for part in key)  # type: ignore[arg-type,attr-defined]
    return key is None or kind is bool


def _key(text: str) -> str:
    return "[*]" if text == "*" else f"[{text!r}]"


def _is_plain(key: object) -> bool:
    """Return True if nothing in a key is masked: a short number, a word, or a tuple of them."""
    if type(key) is tuple:
        return all(map(_is_plain, key))
    text = str(key) if type(key) in (str, int, bool, type(None)) else "?"
    return masked(text) == text


@dataclass(frozen=True, slots=True, repr=False)
class Path:
    """The way from a sink to one object inside the value stored there.

    Args:
        root: The sink as an expression, such as `session` or `cache['user:42']`.
        steps: The steps from the value to the object; none for the value itself.
        hidden: Whether no key is shown, because it may be somebody's name: `cache[*].items[*]`.
    """

    root: str = "value"
    steps: tuple[Step, ...] = ()
    hidden: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        if self.hidden:
            return _KEYS.sub("[*]", self.root) + "".join(map(_without_key, self.steps))
        return self.root + "".join(map(str, self.steps))

    def __repr__(self) -> str:
        return f"Path({str(self)!r})"

    def printed(self, *, exact: bool = False) -> str:
        """Return the path as it may be logged.

        A key or name that a visitor may have chosen is `*`, what is not printable is escaped, and
        the middle of a long path is left out.

        Args:
            exact: Whether nothing is masked, for a developer.
        """
        if exact:
            root = str(replace(self, steps=()))
            steps = [_without_key(step) if self.hidden else str(step) for step in self.steps]
        else:
            root = printed_root(_KEYS.sub("[*]", self.root) if self.hidden else self.root)
            steps = [step.printed for step in self.steps]
            if self.hidden:
                steps = [_KEYS.sub("[*]", step) for step in steps]
        root = shortened(one_line(root), MAX_PATH_LENGTH // 2)
        steps = [shortened(one_line(step), MAX_PATH_LENGTH // 3) for step in steps]
        room = MAX_PATH_LENGTH - len(root) - 1
        if sum(map(len, steps)) <= room:
            return root + "".join(steps)
        head = _fitting(steps, room // 2)
        tail = _fitting(steps[:head:-1], room // 2)
        return "".join([root, *steps[:head], "…", *steps[len(steps) - tail :]])

    def printed_pattern(self, *, exact: bool = False, any_key: bool = False) -> str:
        """Return the pattern as it may be logged; it also works as a pattern to ignore.

        Of a long one the end is left out: a pattern covers everything below it.

        Args:
            exact: Whether nothing is masked, for a developer.
            any_key: Whether it is the same for all keys of a cache: `cache[*].client`.
        """
        if exact:
            # Of an escape such as `\\x1f` the digits must not be generalised.
            plain = "\\" not in repr(self.root)[1:-1].replace("\\'", "'")
            root = generalised(self.root if plain else printed_root(self.root))
            steps = [_exact_pattern(step) for step in self.steps]
        else:
            root = generalised(printed_root(self.root))
            steps = [step.printed_pattern for step in self.steps]
        if self.hidden or any_key:
            root = _KEYS.sub("[*]", root)
        if self.hidden:
            steps = [_KEYS.sub("[*]", step) for step in steps]
        if len(root) > MAX_PATTERN_LENGTH:
            return shortened(one_line(root), MAX_PATTERN_LENGTH)
        room = MAX_PATTERN_LENGTH - len(root)
        return one_line(root + "".join(steps[: _fitting(steps, room)]))

    def __truediv__(self, step: Step) -> Path:
        return replace(self, steps=(*self.steps, step))

    @property
    def parent(self) -> Path:
        """The path of the holder; the root is its own parent."""
        return replace(self, steps=self.steps[:-1])

    @property
    def last(self) -> str:
        """The last step alone, such as `._lock`; empty for the value itself."""
        return str(replace(self, root="", steps=self.steps[-1:]))

    @property
    def pattern(self) -> str:
        """The path with positions and digits generalised: `cache['user:*'].items[*].client`."""
        if self.hidden:
            return str(self)
        return generalised(self.root) + "".join(step.pattern for step in self.steps)

    def matches(self, pattern: str) -> bool:
        """Return True if `pattern` covers this path.

        A pattern is a path in which `[*]` stands for any key or index, `*` inside a key or
        name for any text, and which also covers everything below it:
        `session['cart']` covers `session['cart'].items[3].client`.

        Args:
            pattern: The pattern, such as `session['cart'].items[*].client._lock`.

        Raises:
            ValueError: If the pattern cannot be read as a path.
        """
        wanted = tokens(pattern)
        try:
            own = tokens(self.root)
        except ValueError:  # a root of the caller's own making
            own = [self.root]
        own += _split("".join(map(str, self.steps)))
        return len(wanted) <= len(own) and all(map(_covers, wanted, own))


@functools.lru_cache(maxsize=1024)
def printed_root(root: str) -> str:
    """Return a root as it may be logged: `cache['user:*']`."""
    try:
        name, *keys = tokens(root)
    except ValueError:  # a root of the caller's own making
        return masked(root)
    return masked(name) + "".join(map(_masked_token, keys))


def _fitting(steps: list[str], room: int) -> int:
    """Return how many of the first `steps` have no more than `room` characters together."""
    for count, step in enumerate(steps):
        room -= len(step)
        if room < 0:
            return count
    return len(steps)


def _masked_token(token: str) -> str:
    """Mask one key of a root; what is no text or number there is not a key."""
    if token[1] not in "'\"":
        text = token[1:-1]
        return token if text in ("*", "...") else _key(masked(text)).replace("'", "")
    try:
        return _key(masked(str(parse_literal(token[1:-1]))))
    except (SyntaxError, ValueError):
        return "[*]"


def _exact_pattern(step: Step) -> str:
    return step.printed_pattern if "\\" in str(step) else step.pattern


def _without_key(step: Step) -> str:
    if step.kind is StepKind.ITEM:
        return "[*]"
    return _KEYS.sub("[*]", str(step)) if step.kind is StepKind.ATTRIBUTE else str(step)


_KEYS = re.compile(r"\[.*\]", re.DOTALL)

_TOKEN = re.compile(
    r"""\s*(?:
      \.[^\s.\[{<]+
    | \[(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\]'"])+\]
    | \{[\d*]+\}|<(?:key|value|arg)\ [\d*]+>|<state>|<function>
    )""",
    re.VERBOSE,
)


def tokens(text: str) -> list[str]:
    """Split a path or pattern into its root and steps, one string each.

    The sink of a cache is one root with its key: `cache['user:42']` gives `cache` and
    `['user:42']`.

    Raises:
        ValueError: If `text` cannot be read as a path.
    """
    root = re.match(r"[\w*]+", text)
    if root is None:
        raise ValueError(f"a path starts with a name, such as session or cache[...]: {text!r}")
    return [root[0], *_split(text, root.end())]


def _split(text: str, position: int = 0) -> list[str]:
    found = []
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read this path from column {position + 1} on: {text!r}")
        found.append(_normal(match[0].strip()))
        position = match.end()
    return found


def _normal(token: str) -> str:
    """Return a key in single quotes, whichever `repr` would choose."""
    if token[1] in "'\"":
        try:
            quoted = repr(parse_literal(token[1:-1]))
            inner = quoted[1:-1] if quoted[0] == "'" else quoted[1:-1].replace("'", "\\'")
            return f"['{inner}']"
        except (SyntaxError, ValueError):  # an escape that was generalised, such as `\x*`
            return token
    return token


def _covers(wanted: str, own: str) -> bool:
    if wanted == "[*]":
        return own[0] in "[<{"
    if "*" not in wanted:
        return wanted == own
    return fnmatchcase(own, wanted.replace("[", "[[]").replace("?", "[?]"))
