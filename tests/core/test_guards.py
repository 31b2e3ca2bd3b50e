"""The registry of guards that both frameworks use."""

from __future__ import annotations

import pytest

from contextcache import Config, ConfigurationError, Guard, UntrustedPayloadError
from contextcache.storage.guards import Guards


def guards(config: Config) -> Guards:
    return Guards(lambda: config, sign_setting="THE_SETTING")


SIGNED = Config(secret_keys=("secret",), compress="zlib")


def test_each_sink_has_one_guard_that_is_kept() -> None:
    """Sessions, caches and other settings have their own; equal settings do not share one."""
    registry, overrides = guards(SIGNED), {"MODE": "warn"}
    made = [
        registry.get("cache in redis"),
        registry.get("session in redis"),
        registry.get("cache in redis", session=True),
        registry.get("cache in redis", signed=False),
        registry.get("cache in redis", overrides),
        registry.get("cache in redis", {"MODE": "warn"}),
    ]
    assert len(set(map(id, made))) == len(made)
    assert registry.get("cache in redis") is made[0]
    assert registry.get("cache in redis", overrides) is made[4]
    assert made[4].config.mode == "warn"
    registry.clear()
    assert registry.get("cache in redis") is not made[0]


def test_a_guard_that_does_not_sign_knows_no_secret() -> None:
    """It writes a plain pickle, reads no signed payload, and compresses nothing."""
    registry = guards(SIGNED)
    unsigned, signed = registry.get("files", signed=False), registry.get("redis")
    assert (unsigned.signs, unsigned.config.secret_keys, unsigned.config.compress) == (
        False,
        (),
        "",
    )
    assert unsigned.dumps([1], key="k") == Guard().dumps([1])
    with pytest.raises(UntrustedPayloadError, match="there is no secret here"):
        unsigned.loads(signed.dumps([1], key="k"), key="k")


def test_payloads_of_sessions_and_caches_are_not_interchangeable() -> None:
    """The keys are derived for each purpose."""
    registry = guards(SIGNED)
    payload = registry.get("session in redis", session=True).dumps({"a": 1}, key="k")
    with pytest.raises(UntrustedPayloadError):
        registry.get("cache in redis").loads(payload, key="k")


@pytest.mark.parametrize(
    ("config", "signed", "warnings"),
    [
        (Config(), True, 1),
        (Config(), False, 0),
        (Config(sign=False), True, 0),
        (SIGNED, True, 0),
    ],
)
def test_that_nothing_is_signed_is_logged_once(
    config: Config, signed: bool, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it could be signed, and the settings do not say that it is meant."""
    registry = guards(config)
    for sink in ("a", "b"):
        registry.get(sink, signed=signed)
    messages = [one for one in caplog.messages if "what is stored is not signed" in one]
    assert len(messages) == warnings
    assert all("THE_SETTING to False" in message for message in messages)


def test_a_mistake_names_the_settings_that_contain_it() -> None:
    """Those of the sink, where it has its own."""
    with pytest.raises(ConfigurationError, match=r"^THE ENTRY: unknown mode 'strp'"):
        guards(SIGNED).get("a", {"MODE": "strp"}, where="THE ENTRY")
    with pytest.raises(ConfigurationError, match=r"^THE ENTRY: COMPRESS needs a secret"):
        guards(Config()).get("a", {"COMPRESS": "zlib"}, where="THE ENTRY")
