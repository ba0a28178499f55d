"""A night's numbers for Prometheus: as its text, as OpenMetrics, and to a push gateway."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from prometheus_client import CollectorRegistry, Gauge, generate_latest, push_to_gateway
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from reports.confirm import Finding
from reports.night_told import NightTold

_EPOCH = date(1970, 1, 1)


def prometheus_text(told: NightTold) -> str:
    """For a textfile collector."""
    return generate_latest(_registry(told)).decode()


def push(gateway: str, told: NightTold, timeout_s: float) -> None:
    """To a Prometheus push gateway. Raises OSError where it does not take it."""
    push_to_gateway(
        gateway,
        job="windtunnel_nightly",
        registry=_registry(told),
        grouping_key={"suite": told.suite},
        timeout=timeout_s,
    )


def openmetrics(told: NightTold) -> str:
    text: bytes = openmetrics_text(_registry(told))  # type: ignore[no-untyped-call]
    return text.decode()


def _registry(told: NightTold) -> CollectorRegistry:
    """Gauges of the night: findings by kind, and for each series its value, its change and the
    interval's ends (as shares)."""
    registry = CollectorRegistry()

    def gauge(name: str, words: str, labels: Sequence[str]) -> Gauge:
        return Gauge(f"windtunnel_night_{name}", words, labels, registry=registry)

    counts = gauge("findings", "Findings of the newest night, by kind.", ["suite", "finding"])
    for finding in Finding:
        counts.labels(told.suite, finding.name.lower()).set(len(told.found(finding)))
    began = gauge("date_seconds", "The night's date, midnight UTC, Unix time.", ["suite"])
    days = (told.date - _EPOCH).days
    began.labels(told.suite).set(days * 86400.0)
    runs = gauge("runs", "Runs of the newest night, by outcome.", ["suite", "outcome"])
    for kind in ("succeeded", "invalid", "failed"):
        made = sum(run.record.outcome.kind == kind for run in told.runs)
        runs.labels(told.suite, kind).set(made)
    names = ["suite", "pool", "name", "metric", "statistic"]
    value = gauge("value", "Median run of the newest night, in the metric's unit.", names)
    change = gauge("change_ratio", "Last three nights against those before, minus one.", names)
    low = gauge("change_low_ratio", "Lower end of its 95 % interval.", names)
    high = gauge("change_high_ratio", "Upper end of its 95 % interval.", names)
    states = {state.series: state for state in told.history.states} if told.history else {}
    for series in told.series:
        state = states.get(series.key)
        if state is None:
            continue
        labels = (told.suite, series.pool, series.name, series.metric, series.statistic)
        value.labels(*labels).set(series.nights[-1].value)
        for one, number in ((change, state.change), (low, state.low), (high, state.high)):
            if number is not None:
                one.labels(*labels).set(number)
    return registry
