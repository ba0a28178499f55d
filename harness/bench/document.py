"""What ``windtunnel bench --json`` prints. Pure.

A number that cannot be estimated is null, and ``reasons`` of its metric says why, by statistic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.bench.measure import Measured
from results.measurement import Measurement, groups_of, of_group
from results.metrics import metric
from results.slo import Slo
from results.slo_verdict import judge_slo

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


def bench_document(measured: Measured, slo: Slo | None = None, run_id: str = "") -> dict[str, Any]:
    """JSON-like; durations in seconds, rates per second, as the registry declares them.

    ``models`` repeats ``metrics`` for every model or adapter by itself where several were asked.
    """
    whole = of_group(measured.measurements)
    by_key = _by_key(whole)
    singles = [m for m in whole if m.statistic == "value"]
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
        "metrics": _metrics(by_key),
        "models": {
            group: _metrics(_by_key(of_group(measured.measurements, group)))
            for group in groups_of(measured.measurements)
        },
        "values": {
            m.metric: {"unit": metric(m.metric).unit.value, "value": m.value, "reason": m.reason}
            for m in singles
        },
        "slo": [asdict(verdict) for verdict in judge_slo(slo, measured.measurements)]
        if slo is not None
        else [],
        "client": asdict(measured.client),
    }


def _by_key(measurements: Sequence[Measurement]) -> dict[tuple[str, str], Measurement]:
    return {(m.metric, m.statistic): m for m in measurements}


def _metrics(by_key: dict[tuple[str, str], Measurement]) -> dict[str, Any]:
    return {name: _metric(name, by_key) for name in METRICS if (name, "mean") in by_key}


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
