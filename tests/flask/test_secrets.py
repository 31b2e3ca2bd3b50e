"""What carries the secrets of an application is cut at the field that holds it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from flask import Config, Flask
from itsdangerous import Signer, TimestampSigner, URLSafeSerializer, URLSafeTimedSerializer

from contextcache import Guard, is_stripped
from contextcache.testing import capture_findings

CANARY = "canary-7f3a9c"


class Holder:
    def __init__(self, held: Any) -> None:
        self.held, self.page = held, 3


class OwnConfig(Config):
    pass


def config() -> Config:
    app = Flask(__name__)
    app.config["SECRET_KEY"] = CANARY
    return app.config


SECRETS = {
    "config": config,
    "own config": lambda: OwnConfig("/", {"SECRET_KEY": CANARY}),
    "signer": lambda: Signer(CANARY),
    "timestamp signer": lambda: TimestampSigner(CANARY),
    "serializer": lambda: URLSafeSerializer(CANARY),
    "timed serializer": lambda: URLSafeTimedSerializer(CANARY),
}


@pytest.mark.parametrize("name", SECRETS)
def test_it_is_cut_whole_and_named(name: str) -> None:
    """The rest is stored."""
    with capture_findings() as findings:
        payload = Guard().dumps({"holder": Holder(SECRETS[name]())}, label="v")
    assert CANARY.encode() not in payload
    assert [(one.code, str(one.path)) for one in findings] == [("CC120", "v['holder'].held")]
    holder = pickle.loads(payload)["holder"]
    assert holder.page == 3
    assert is_stripped(holder.held)
