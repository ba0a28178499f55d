"""A scaling experiment as the JSON document that ``--json`` prints. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from results.scaling.efficiency import Scaling
from results.scaling.extrapolate import Extrapolation
from results.scaling.runs import ScaleRun
from results.scaling.told import ScaleTold

SCALE_SCHEMA = "windtunnel.scale/1"


def scale_document(
    told: ScaleTold,
    scaling: Scaling,
    extrapolation: Extrapolation | None,
    runs: Sequence[ScaleRun],
) -> dict[str, Any]:
    """Without the schema's name. ``extrapolation`` is null where none was asked for."""
    return {
        **asdict(told),
        "n0": scaling.n0,
        "rule": scaling.rule,
        "sizes": [
            {**asdict(size), "oversubscribed": size.is_oversubscribed} for size in scaling.sizes
        ],
        "extrapolation": None if extrapolation is None else extrapolation_document(extrapolation),
        "runs": [asdict(run) for run in runs],
    }


def extrapolation_document(found: Extrapolation) -> dict[str, Any]:
    return {
        "n0": found.n0,
        "mode": found.mode,
        "chosen": found.chosen or None,
        "confidence": found.confidence,
        "reason": found.reason,
        "models": [
            {
                "name": m.name,
                "formula": m.formula,
                "parameters": list(m.parameters),
                "held_out_error": m.held_out_error,
                "weight": m.weight,
            }
            for m in found.models
        ],
        "predictions": [{**asdict(p), "by_model": dict(p.by_model)} for p in found.predictions],
    }
