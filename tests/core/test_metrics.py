"""Metrics and error trackers: the real libraries, with nothing but names in them."""

from __future__ import annotations

import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import prometheus_client
import pytest
import sentry_sdk
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from pythonjsonlogger.json import JsonFormatter
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from contextcache import Guard, UnreadablePayloadError, metrics
from contextcache.exceptions import ServerError
from contextcache.reports.reporter import counters
from contextcache.servers import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

CANARY = "canary-7f3a9c"
SINK = "session in redis"


class Client:
    def __init__(self) -> None:
        self.id = 3
        self.lock = threading.Lock()
        self.password = CANARY


@pytest.fixture(autouse=True)
def _nobody_counts_on() -> Iterator[None]:
    yield
    assert counters == []


def happen() -> None:
    guard = Guard(sink=SINK)
    for number in range(25):
        guard.dumps({CANARY: Client(), "n": number}, label=f"cache['{CANARY}:{number}']")
    guard.dumps({"rows": (row for row in ())})
    guard.report_unreadable(UnreadablePayloadError(f"cache['{CANARY}']", "gone", "delete it"))


def test_prometheus_counts_every_occurrence() -> None:
    """Exactly, where the log says the 1st and the 10th time."""
    registry = prometheus_client.CollectorRegistry()
    stop = metrics.prometheus(registry)
    try:
        happen()
        page = prometheus_client.generate_latest(registry).decode()
        labels = {"code": "CC102", "action": "recreated", "sink": SINK}
        assert registry.get_sample_value("contextcache_events_total", labels) == 25
        labels = {"code": "unreadable", "action": "missed", "sink": SINK}
        assert registry.get_sample_value("contextcache_events_total", labels) == 1
    finally:
        stop()
    assert "contextcache" not in prometheus_client.generate_latest(registry).decode()
    assert CANARY not in page


def test_opentelemetry_counts_every_occurrence() -> None:
    """By the same names as attributes."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    stop = metrics.opentelemetry(provider)
    try:
        happen()
        told = reader.get_metrics_data()
    finally:
        stop()
        provider.shutdown()
    assert told is not None
    [metric] = told.resource_metrics[0].scope_metrics[0].metrics
    points: Any = metric.data.data_points
    counted = {point.attributes["contextcache.code"]: point.value for point in points}
    assert metric.name == "contextcache.events"
    assert counted == {"CC102": 25, "CC109": 1, "unreadable": 1}
    assert CANARY not in told.to_json()


def test_an_outage_is_counted_each_time(caplog: pytest.LogCaptureFixture) -> None:
    """The log says it once a minute."""
    registry = prometheus_client.CollectorRegistry()
    stop = metrics.prometheus(registry)
    error = ServerError("Redis at redis://metrics.example cannot be reached")
    error.server, error.reason = "redis://metrics.example", "connection refused"
    try:
        for _ in range(3):
            errors.warn(error, SINK)
        labels = {"code": "outage", "action": "missed", "sink": SINK}
        assert registry.get_sample_value("contextcache_events_total", labels) == 3
    finally:
        stop()
    assert len(caplog.records) == 1


@pytest.mark.internal_error
def test_a_broken_counter_breaks_no_write(caplog: pytest.LogCaptureFixture) -> None:
    """It is named once, without the text of its error."""

    def broken(*_labels: str) -> None:
        raise ZeroDivisionError(CANARY)

    counters.append(broken)
    try:
        guard = Guard()
        assert guard.loads(guard.dumps({"client": Client()}))["client"].id == 3
    finally:
        counters.remove(broken)
    assert "a counter of metrics failed with ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text


class Captured(Transport):
    """Keep what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events += [item.payload.json for item in envelope.items if item.type == "event"]


def test_sentry_groups_findings_by_their_template() -> None:
    """Two codes are two issues: code and pattern stand in the template, names are parameters."""
    transport = Captured()
    with sentry_sdk.isolation_scope():
        sentry_sdk.init(
            dsn="https://public@sentry.example/1",
            transport=transport,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[LoggingIntegration(event_level=logging.WARNING)],
            include_local_variables=False,
        )
        try:
            Guard(sink=SINK).dumps({"cart": Client(), "rows": (row for row in ())}, label="session")
            sentry_sdk.flush()
        finally:
            sentry_sdk.init(default_integrations=False, auto_enabling_integrations=False)
    first, second = transport.events
    assert "contextcache CC102: %s" in first["logentry"]["message"]
    assert "contextcache CC109: %s" in second["logentry"]["message"]
    assert first["logentry"]["params"] != second["logentry"]["params"]
    assert first["extra"]["contextcache_code"] == "CC102"
    assert first["extra"]["contextcache_leaves"][0]["path"] == "session['cart'].lock"
    assert CANARY not in json.dumps(transport.events)


def test_a_json_formatter_writes_the_record() -> None:
    """One object a line, with the finding under its prefixed names."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Kept()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("contextcache")
    logger.addHandler(handler)
    try:
        Guard(sink=SINK).dumps({"cart": Client()}, label="session")
    finally:
        logger.removeHandler(handler)
    [told] = map(json.loads, lines)
    assert told["contextcache_code"] == "CC102"
    assert told["contextcache_leaves"][0]["leaf_type"] == "_thread.lock"
    assert told["message"].startswith("contextcache CC102: session['cart'].lock (_thread.lock)")
