"""The guard for messages of task queues: what it names, what it stores, and what it accepts."""

from __future__ import annotations

import pickle
import threading
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as some

from contextcache import Guard, UncacheableValueError, UntrustedPayloadError
from contextcache.jobs import JobGuard
from contextcache.testing import capture_findings

SECRETS = ("only for tests",)
data = some.none() | some.integers() | some.text() | some.lists(some.integers())
arguments = some.lists(data).map(tuple) | some.lists(data)
keywords = some.dictionaries(some.text(), data)
names = some.text()
rq = some.tuples(names, some.none(), arguments, keywords)
celery = some.tuples(arguments, keywords, keywords)
eager = some.tuples(arguments, keywords)


class Message(NamedTuple):
    """As Huey makes it."""

    id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


huey = some.builds(Message, names, arguments.map(tuple), keywords)


@given(rq | celery | eager | huey | data | some.tuples(data, data, data))
def test_what_is_stored_is_the_message_of_the_library(message: object) -> None:
    """A worker without contextcache reads the same, where nothing is signed."""
    stored = pickle.loads(JobGuard().dumps(message))
    assert stored == message
    assert type(stored) is type(message)


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (("shop.send", None, (1, {"client": ...}), {}), "job.args[1]['client']"),
        (("shop.send", None, (), {"invoice": [...]}), "job.kwargs['invoice'][0]"),
        (("shop.send", ..., (), {}), "job.instance"),
        (((1, ...), {}, {"chain": None}), "job.args[1]"),
        (((), {}, {"chain": [{"args": [...]}]}), "job.embed['chain'][0]['args'][0]"),
        (([...], {}), "job.args[0]"),
        (Message("7", (1, ...), {}), "job.args[1]"),
        ({"status": "SUCCESS", "result": ...}, "value['result']"),
        ((1, 2, ...), "value[2]"),
        (("shop.send", None, "no arguments", ...), "value[3]"),
    ],
)
def test_the_error_names_the_argument(message: object, path: str) -> None:
    """By the names that the library gives to the parts of a job; a result has none."""

    def filled(part: Any) -> Any:
        if part is ...:
            return threading.Lock()
        if type(part) is dict:
            return {key: filled(one) for key, one in part.items()}
        if isinstance(part, (tuple, list)):
            parts = map(filled, part)
            return type(part)(*parts) if type(part) is Message else type(part)(parts)
        return part

    for _ in range(2):
        with pytest.raises(UncacheableValueError) as error:
            JobGuard().dumps(filled(message))
        assert [str(one.path) for one in error.value.findings] == [path]


def test_what_is_signed_for_a_job_is_nothing_else() -> None:
    """Neither is a cached value a job, nor a job a cached value or a session."""
    job, cache = JobGuard(secret_keys=SECRETS), Guard(secret_keys=SECRETS)
    session = Guard(secret_keys=SECRETS, session=True)
    message = ("shop.send", None, (7,), {})
    assert job.deserialize(job.serialize(message)) == message
    for writer, reader in ((cache, job), (session, job), (job, cache), (job, session)):
        with pytest.raises(UntrustedPayloadError):
            reader.loads(writer.dumps(message))


def test_mode_warn_reports_and_leaves_the_job_to_pickle() -> None:
    """The finding has the same path; pickle refuses the lock."""
    guard = JobGuard(mode="warn")
    with capture_findings() as findings, pytest.raises(UncacheableValueError):
        guard.dumps(((threading.Lock(),), {}))
    assert [str(one.path) for one in findings] == ["job.args[0]"]
