"""What an experiment says about more workers: which curve is extrapolated, or why none is."""

from __future__ import annotations

from collections.abc import Sequence

from results.scaling.efficiency import Scaling, curve_from, has_control
from results.scaling.extrapolate import Extrapolation, extrapolate, refused
from results.scaling.runs import ScaleRun

EFFICIENCY, AGAINST_CONTROL = "efficiency", "run / control"


def further_of(
    scaling: Scaling,
    runs: Sequence[ScaleRun],
    targets: Sequence[int],
    *,
    domain: int | None = None,
    global_batch: int | None = None,
) -> Extrapolation | None:
    """None where nothing was asked or nothing is known. Where ranks shared cores and no control
    tells how much of the loss is the host's, the host would be extrapolated too: refused."""
    curve = curve_from(runs)
    if not targets or curve is None:
        return None
    crowded = [s for s in scaling.sizes if s.is_oversubscribed]
    if crowded and not has_control(runs):
        why = (
            f"{crowded[0].num_workers} ranks and more shared {crowded[0].num_cores} cores, and no "
            "control tells what the host took: measure with --control, or with a core per thread"
        )
        return refused(float(curve.n[0]), scaling.mode, targets, why)
    return extrapolate(curve, targets, mode=scaling.mode, domain=domain, global_batch=global_batch)


def what_is_predicted(scaling: Scaling) -> str:
    """The ratio that predictions are of: that of the curve which is extrapolated."""
    controlled = any(s.together is not None for s in scaling.sizes)
    return AGAINST_CONTROL if controlled else EFFICIENCY
