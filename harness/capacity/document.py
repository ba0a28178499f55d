"""A search or a sweep as the JSON document that ``--json`` prints. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from results.capacity import Capacity, Knee, LoadTold, Point
from results.measurement import Measurement
from results.metrics import metric

CAPACITY_SCHEMA = "windtunnel.capacity/1"
SWEEP_SCHEMA = "windtunnel.sweep/1"


def capacity_document(
    told: LoadTold, capacity: Capacity, points: Sequence[Point]
) -> dict[str, Any]:
    """Without the schema's name, which is printed before it."""
    return {
        **_head(told),
        "valid": capacity.spoiled_rps is None,
        "conclusive": capacity.is_conclusive,
        **asdict(capacity),
        "points": [point_document(p) for p in points],
    }


def sweep_document(told: LoadTold, points: Sequence[Point], knee: Knee | None) -> dict[str, Any]:
    return {
        **_head(told),
        "valid": all(p.is_usable for p in points),
        "reasons": sorted({fault for p in points for fault in p.faults}),
        "knee": asdict(knee) if knee is not None else None,
        "points": [point_document(p) for p in points],
    }


def point_document(point: Point) -> dict[str, Any]:
    """``metrics.<name>`` has the unit, one key per statistic, ``n``, and ``reason`` where a
    statistic could not be told."""
    metrics: dict[str, dict[str, Any]] = {}
    for m in point.measurements:
        into = metrics.setdefault(m.metric, {"unit": metric(m.metric).unit.value})
        _put(into, m)
    return {
        "rate_rps": point.rate_rps,
        "num_users": point.num_users,
        "repeat": point.repeat,
        "duration_s": point.duration_s,
        "took_s": point.took_s,
        "seed": point.seed,
        "num_requests": point.num_requests,
        "num_failed": point.num_failed,
        "backlog_growth": point.backlog_growth,
        "constraints": [{**asdict(c), "attainment": c.attainment} for c in point.constraints],
        "metrics": metrics,
        "valid": point.is_usable,
        "reasons": list(point.faults),
        "doubts": [asdict(d) for d in point.doubts],
        "run_id": point.run_id,
    }


def _put(into: dict[str, Any], m: Measurement) -> None:
    into[m.statistic] = m.value
    into["n"] = max(m.n, into.get("n", 0))
    if m.low is not None and m.high is not None:
        into.setdefault("intervals", {})[m.statistic] = [m.low, m.high]
    if m.value is None:
        into.setdefault("reasons", {})[m.statistic] = m.reason


def _head(told: LoadTold) -> dict[str, Any]:
    return {
        "endpoint": told.endpoint,
        "model": told.model,
        "evidence": told.evidence,
        "slo": told.slo,
        "traffic": dict(told.traffic or {}),
        "command": told.command,
    }
