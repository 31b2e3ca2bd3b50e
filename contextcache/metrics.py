"""Counting for Prometheus and OpenTelemetry: findings, unreadable payloads, outages.

Unlike the log, a counter hears of every occurrence. Its labels are few: a code, what was done,
and the sink by the name the settings give it; never a path, key or type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from contextcache.reports.reporter import counters

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = "contextcache_events"
TEXT = "Values that could not be stored as they are, payloads that could not be read, outages."


def prometheus(registry: Any = None) -> Callable[[], None]:
    """Count in Prometheus as `contextcache_events_total{code, action, sink}`.

    Call it once when the application starts. It works in multiprocess mode, too.

    Args:
        registry: The registry to count in; by default that of `prometheus_client`.

    Returns:
        A function that stops counting and removes the counter from the registry.
    """
    import prometheus_client  # noqa: PLC0415  # an extra

    registry = registry if registry is not None else prometheus_client.REGISTRY
    counter = prometheus_client.Counter(EVENTS, TEXT, ["code", "action", "sink"], registry=registry)

    def count(code: str, action: str, sink: str) -> None:
        counter.labels(code, action, sink).inc()

    def stop() -> None:
        counters.remove(count)
        registry.unregister(counter)

    counters.append(count)
    return stop


def opentelemetry(provider: Any = None) -> Callable[[], None]:
    """Count in OpenTelemetry as `contextcache.events`, with the same names as attributes.

    Args:
        provider: The meter provider; by default the global one.

    Returns:
        A function that stops counting.
    """
    from opentelemetry import metrics  # noqa: PLC0415  # an extra

    meter = metrics.get_meter("contextcache", meter_provider=provider)
    counter = meter.create_counter("contextcache.events", unit="{event}", description=TEXT)

    def count(code: str, action: str, sink: str) -> None:
        counter.add(
            1,
            {
                "contextcache.code": code,
                "contextcache.action": action,
                "contextcache.sink": sink,
            },
        )

    counters.append(count)
    return lambda: counters.remove(count)
