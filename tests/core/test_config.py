"""Config: from a dict of settings to a policy, or to an error that names the nearest valid word."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import Any

import pytest
from werkzeug.local import LocalProxy

from contextcache import Config, ConfigurationError, Finding, Guard, Rule, explain
from contextcache.rules.rule import Verb
from contextcache.testing import capture_findings

seen: list[Finding] = []


def remember(finding: Finding) -> None:
    seen.append(finding)


class Client:
    def __init__(self) -> None:
        self.id = 3
        self.lock = threading.Lock()


CLIENT = f"{__name__}.Client"
VALID = ", ".join(sorted(Config.KEYS))


def test_the_defaults_cut_and_report_everything() -> None:
    """Without settings: mode strip, nothing ignored, no rules, 512 MiB, no developer."""
    assert Config() == Config.from_mapping({})
    assert dataclasses.asdict(Config()) == {
        "mode": "strip",
        "ignore": (),
        "rules": (),
        "on_finding": (),
        "max_size": 512 * 1024 * 1024,
        "redact_keys": False,
        "on_error": "miss",
        "timeout": 0.5,
        "debug": False,
        "silence": 'CONTEXTCACHE["IGNORE"] += []',
        "secret_keys": (),
        "sign": None,
        "accept_unsigned": False,
        "compress": "",
        "loadable": None,
    }


def test_every_key_is_read() -> None:
    """One mapping sets everything that can be set."""
    config = Config.from_mapping(
        {
            "MODE": "warn",
            "IGNORE": ["session['a']", "cache[*]"],
            "RULES": {CLIENT: "strip"},
            "ON_FINDING": remember,
            "MAX_SIZE": 1000,
            "REDACT_KEYS": True,
            "ON_ERROR": "raise",
            "TIMEOUT": 2,
            "SIGN": True,
            "SECRET_KEYS": ["new", "old"],
            "ACCEPT_UNSIGNED": True,
            "COMPRESS": "zlib",
            "LOADABLE": ["decimal.Decimal"],
        },
        debug=True,
    )
    assert (config.mode, config.ignore) == ("warn", ("session['a']", "cache[*]"))
    assert config.redact_keys
    assert (config.max_size, config.debug, config.on_finding) == (1000, True, (remember,))
    [rule] = config.rules
    assert (rule.type, rule.verb) == (CLIENT, Verb.STRIP)
    assert (config.on_error, config.timeout) == ("raise", 2)
    assert (config.sign, config.secret_keys) == (True, ("new", "old"))
    assert (config.accept_unsigned, config.compress) == (True, "zlib")
    assert config.loadable == ("decimal.Decimal",)
    assert "old" not in repr(config)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"MODES": "strip"},
            (f"CONTEXTCACHE: unknown setting 'MODES' (did you mean 'MODE'?); valid: {VALID}"),
        ),
        (
            {"mode": "strip"},
            (f"CONTEXTCACHE: unknown setting 'mode' (did you mean 'MODE'?); valid: {VALID}"),
        ),
        (
            {"ZZZ": 1},
            f"CONTEXTCACHE: unknown setting 'ZZZ'; valid: {VALID}",
        ),
        (
            {7: 1},
            f"CONTEXTCACHE: unknown setting '7'; valid: {VALID}",
        ),
        (
            {"MODE": "stripp"},
            (
                "CONTEXTCACHE: unknown mode 'stripp' (did you mean 'strip'?); "
                "valid: off, raise, strip, warn"
            ),
        ),
        (
            {"MODE": ["strip"]},
            (
                "CONTEXTCACHE: unknown mode \"['strip']\" (did you mean 'strip'?); "
                "valid: off, raise, strip, warn"
            ),
        ),
        (
            {"MODE": None},
            "CONTEXTCACHE: unknown mode 'None'; valid: off, raise, strip, warn",
        ),
        (
            {"RULES": {"shop.api.Client": "snapshott"}},
            (
                "CONTEXTCACHE RULES['shop.api.Client']: unknown verb 'snapshott' "
                "(did you mean 'snapshot'?); "
                "valid: allow, observe, recreate, refuse, replace, snapshot, strip, trim"
            ),
        ),
        (
            {"RULES": {"shop.api.Client": "trim"}},
            "rule for shop.api.Client: trim needs make=, which says what is left out",
        ),
        (
            {"RULES": "shop.api.Client"},
            (
                "CONTEXTCACHE RULES maps type names to verbs or functions, or is a list of "
                "contextcache.Rule"
            ),
        ),
        (
            {"RULES": ["shop.api.Client"]},
            (
                "CONTEXTCACHE RULES maps type names to verbs or functions, or is a list of "
                "contextcache.Rule"
            ),
        ),
        ({"IGNORE": 3}, "CONTEXTCACHE IGNORE is a list of path patterns"),
        ({"IGNORE": [3]}, "CONTEXTCACHE IGNORE is a list of path patterns, each a string"),
        (
            {"IGNORE": ["session['cart"]},
            'CONTEXTCACHE: ignore: cannot read this path from column 8 on: "session[\'cart"',
        ),
        (
            {"IGNORE": [""]},
            "CONTEXTCACHE: ignore: a path starts with a name, such as session or cache[...]: ''",
        ),
        ({"REDACT_KEYS": "yes"}, "CONTEXTCACHE: REDACT_KEYS is True or False"),
        ({"MAX_SIZE": "1 MB"}, "CONTEXTCACHE: max_size is a positive number of bytes"),
        ({"MAX_SIZE": 0}, "CONTEXTCACHE: max_size is a positive number of bytes"),
        ({"MAX_SIZE": True}, "CONTEXTCACHE: max_size is a positive number of bytes"),
        (
            {"ON_ERROR": "mis"},
            ("CONTEXTCACHE: unknown ON_ERROR 'mis' (did you mean 'miss'?); valid: miss, raise"),
        ),
        ({"TIMEOUT": "1 s"}, "CONTEXTCACHE: timeout is a positive number of seconds"),
        ({"TIMEOUT": 0}, "CONTEXTCACHE: timeout is a positive number of seconds"),
        ({"TIMEOUT": True}, "CONTEXTCACHE: timeout is a positive number of seconds"),
        ({"TIMEOUT": math.inf}, "CONTEXTCACHE: timeout is a positive number of seconds"),
        ({"TIMEOUT": math.nan}, "CONTEXTCACHE: timeout is a positive number of seconds"),
        (
            {"ON_FINDING": 3},
            "CONTEXTCACHE ON_FINDING is a function, its dotted path, or a list of them",
        ),
        (
            {"ON_FINDING": "json.nothing"},
            "CONTEXTCACHE ON_FINDING: cannot import 'json.nothing'",
        ),
        (
            {"ON_FINDING": "no_such_module.nothing"},
            "CONTEXTCACHE ON_FINDING: cannot import 'no_such_module.nothing'",
        ),
        ({"ON_FINDING": "nothing"}, "CONTEXTCACHE ON_FINDING: cannot import 'nothing'"),
    ],
)
def test_a_mistake_is_an_error_that_says_what_is_valid(
    mapping: dict[Any, Any], message: str
) -> None:
    """Unknown names come with the nearest valid one; wrong types with what is expected."""
    with pytest.raises(ConfigurationError) as caught:
        Config.from_mapping(mapping)
    assert str(caught.value) == message


@pytest.mark.parametrize("mapping", [["MODE"], "strip", None])
def test_settings_that_are_no_dict_are_an_error(mapping: Any) -> None:
    """A forgotten brace is named, too."""
    with pytest.raises(ConfigurationError) as caught:
        Config.from_mapping(mapping)
    assert str(caught.value) == f"CONTEXTCACHE is a dict with the keys {', '.join(Config.KEYS)}"


def test_the_error_names_the_place_of_the_setting() -> None:
    """An alias's own options are told apart from the project's."""
    with pytest.raises(ConfigurationError) as caught:
        Config.from_mapping({"MODE": "x"}, where="CACHES['default'] OPTIONS")
    assert str(caught.value) == (
        "CACHES['default'] OPTIONS: unknown mode 'x'; valid: off, raise, strip, warn"
    )


def test_a_config_made_by_hand_is_checked_as_well() -> None:
    """`Config(mode=...)` and `Guard(mode=...)` refuse what settings refuse."""
    with pytest.raises(ConfigurationError) as caught:
        Config(mode="warning")  # type: ignore[arg-type]
    assert str(caught.value) == (
        "unknown mode 'warning' (did you mean 'warn'?); valid: off, raise, strip, warn"
    )
    with pytest.raises(ConfigurationError):
        Guard(mode="warning")


def test_a_configuration_error_is_a_value_error() -> None:
    """Existing handlers for bad settings catch it."""
    assert issubclass(ConfigurationError, ValueError)


def test_an_alias_adds_to_the_project_and_overrides_its_mode() -> None:
    """IGNORE, RULES and ON_FINDING of a base are kept; MODE and MAX_SIZE are replaced."""
    base = Config(mode="raise", ignore=("session",), on_finding=(print,), max_size=9, debug=True)
    config = Config.from_mapping(
        {"MODE": "strip", "IGNORE": "cache[*]", "ON_FINDING": [remember], "MAX_SIZE": 10}, base=base
    )
    assert config.ignore == ("session", "cache[*]")
    assert config.on_finding == (print, remember)
    assert (config.mode, config.max_size, config.debug) == ("strip", 10, True)


def test_the_rule_of_an_alias_comes_before_that_of_the_project() -> None:
    """The more specific setting wins for the same type."""
    base = Config.from_mapping({"RULES": {CLIENT: "refuse"}})
    config = Config.from_mapping({"RULES": {CLIENT: "strip"}}, base=base)
    assert [finding.code for finding in Guard(config).explain({"c": Client()})] == ["CC100"]
    assert [str(finding.action) for finding in Guard(config).explain({"c": Client()})] == [
        "stripped"
    ]


def test_a_callback_may_be_a_dotted_path() -> None:
    """A setting that is text names a function, imported once at start-up."""
    config = Config.from_mapping({"ON_FINDING": "json.dumps"})
    import json

    assert config.on_finding == (json.dumps,)


@pytest.mark.parametrize(
    ("verb", "action"),
    [("strip", "stripped"), ("refuse", "refused"), ("recreate", "recreated")],
)
def test_a_rule_changes_what_becomes_of_a_built_in_offender(verb: str, action: str) -> None:
    """`RULES` may name a type that has a built-in rule, and then its verb counts."""
    guard = Guard(Config.from_mapping({"RULES": {"_thread.lock": verb}}))
    [finding] = guard.explain({"client": Client()})
    assert (finding.code, str(finding.action)) == ("CC102", action)
    assert finding.reason == "a lock belongs to this process"


def test_a_rule_of_the_application_says_so() -> None:
    """A type of the user's own that is no offender by itself becomes one by a rule."""

    class_rule = Config.from_mapping({"RULES": {f"{__name__}.Plain": "strip"}})
    [finding] = Guard(class_rule).explain({"p": Plain()})
    assert finding.reason == "a rule of this application says so"
    assert explain({"p": Plain()}) == []


class Plain:
    pass


def test_a_list_of_rules_is_taken_as_it_is() -> None:
    """Where a verb is not enough, RULES is a list of `Rule`."""
    rule = Rule(type=CLIENT, verb="snapshot", make=lambda client: client.id)  # type: ignore[arg-type]
    config = Config.from_mapping({"RULES": [rule]})
    assert config.rules == (rule,)
    guard = Guard(config)
    assert guard.loads(guard.dumps({"c": Client()})) == {"c": 3}


def reference(client: Client) -> object:
    """Return what an application wants stored in place of a client."""
    return {"client": client.id}


def test_a_function_says_what_is_stored_in_place_of_an_object() -> None:
    """It is what the application wants, so there is nothing to report; identity is kept."""
    guard = Guard(Config.from_mapping({"RULES": {CLIENT: reference}}))
    client = Client()
    with capture_findings() as findings:
        found = guard.loads(guard.dumps([client, {"again": client}, client.lock]))
    assert found[0] == {"client": 3}
    assert found[1]["again"] is found[0]
    assert [str(finding.path) for finding in findings] == ["value[2]"]


def test_a_replaced_object_behind_a_proxy_needs_no_report_either() -> None:
    """In whatever order they come, and behind however many proxies."""
    guard = Guard(Config.from_mapping({"RULES": {CLIENT: reference}}))
    client = Client()
    proxy = LocalProxy(lambda: client)
    with capture_findings() as findings:
        for value in ([client, proxy], [proxy, client], [LocalProxy(lambda: proxy), client]):
            found = guard.loads(guard.dumps(value))
            assert found[0] is found[1]
            assert found[0] == {"client": 3}
    assert findings == []


def test_a_function_may_return_the_object_itself() -> None:
    """Then it is stored whole, offenders cut."""
    guard = Guard(Config.from_mapping({"RULES": {CLIENT: lambda client: client}}))
    with capture_findings() as findings:
        found = guard.loads(guard.dumps({"c": Client()}))["c"]
    assert (type(found), found.id) == (Client, 3)
    assert [str(finding.path) for finding in findings] == ["value['c'].lock"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore": "session"}, "ignore is a list of path patterns, not one of them"),
        ({"rules": {"x.y": "strip"}}, "rules are a list of contextcache.Rule"),
    ],
)
def test_the_core_is_as_strict_as_the_settings(options: dict[str, Any], message: str) -> None:
    """A mistake is not taken letter by letter, nor found at the first write."""
    with pytest.raises(ConfigurationError) as caught:
        Config(**options)
    assert str(caught.value) == message
