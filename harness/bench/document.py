"""What ``windtunnel bench --json`` prints. Pure.

A number that cannot be estimated is null, and ``reasons`` of its metric says why, by statistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.bench.asks import SloPart
from harness.bench.measure import Measured
from results.measurement import Measurement
from results.metrics import metric

SCHEMA = "windtunnel.bench/1"
METRICS = (
    "ttft_s",
    "itl_s",
    "inter_chunk_s",
    "tpot_s",
    "ntpot_s",
    "e2e_s",
    "dispatch_lag_s",
)
STATISTICS = ("p50", "p90", "p95", "p99", "mean")


def bench_document(
    measured: Measured, slo: Sequence[SloPart] = (), run_id: str = ""
) -> dict[str, Any]:
    """JSON-like; durations in seconds, rates per second, as the registry declares them."""
    by_key = {(m.metric, m.statistic): m for m in measured.measurements}
    singles = [m for m in measured.measurements if m.statistic == "value"]
    rows = ~measured.samples.is_warmup
    return {
        "run_id": run_id or None,
        "evidence": "simulated" if measured.simulated else "measured",
        "ending": measured.ending.value,
        "valid": measured.valid,
        "reasons": list(measured.reasons),
        "doubts": [asdict(doubt) for doubt in measured.doubts],
        "num_requests": int(rows.sum()),
        "num_failed": int((measured.samples.error[rows] != "").sum()),
        "offered_rate": _value(by_key, "offered_rate"),
        "achieved_rate": _value(by_key, "achieved_rate"),
        "metrics": {name: _metric(name, by_key) for name in METRICS if (name, "mean") in by_key},
        "values": {
            m.metric: {"unit": metric(m.metric).unit.value, "value": m.value, "reason": m.reason}
            for m in singles
        },
        "slo": [_limit(part, by_key) for part in slo],
        "client": asdict(measured.client),
    }


def _value(by_key: dict[tuple[str, str], Measurement], name: str) -> float | None:
    found = by_key.get((name, "value"))
    return found.value if found is not None else None


def _metric(name: str, by_key: dict[tuple[str, str], Measurement]) -> dict[str, Any]:
    found = {s: by_key[name, s] for s in STATISTICS if (name, s) in by_key}
    return {
        "unit": metric(name).unit.value,
        **{s: found[s].value if s in found else None for s in STATISTICS},
        "n": max((m.n for m in found.values()), default=0),
        "intervals": {
            s: [m.low, m.high] for s, m in found.items() if m.low is not None and m.high is not None
        },
        "reasons": {s: m.reason for s, m in found.items() if m.value is None},
    }


def _limit(part: SloPart, by_key: dict[tuple[str, str], Measurement]) -> dict[str, Any]:
    """``met`` is null where the percentile cannot be estimated, and for a limit of each request,
    which the SLO's attainment counts."""
    found = by_key.get((part.metric, part.percentile))
    value = found.value if found is not None else None
    return {
        "asked": part.text,
        "metric": part.metric,
        "statistic": part.percentile or None,
        "limit_s": part.limit_s,
        "value_s": value,
        "met": None if value is None else value <= part.limit_s,
    }
