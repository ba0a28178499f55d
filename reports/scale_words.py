"""What a scaling experiment found, in sentences: for pages and terminals alike."""

from __future__ import annotations

from reports.sweep_words import percent
from results.scaling.efficiency import Ratio, Scaling, SizeSeen
from results.scaling.extrapolate import Prediction
from results.scaling.told import ScaleTold
from results.units import NOT_AVAILABLE, format_interval, format_value


def ratio_words(ratio: Ratio | None) -> str:
    """``87.1 % (85.0–89.3 %)``."""
    if ratio is None or ratio.value is None:
        return NOT_AVAILABLE
    interval = format_interval(ratio.low, ratio.high, "ratio")
    value = format_value(ratio.value, "ratio")
    return f"{value} ({interval})" if interval else value


def scaling_sentence(told: ScaleTold, scaling: Scaling) -> str:
    """The efficiency at the largest size, and how much of the loss is only the host's."""
    known = [s for s in scaling.sizes if s.efficiency.value is not None]
    if scaling.n0 is None or not known or known[-1].num_workers == scaling.n0:
        return "No efficiency is known: two sizes with a usable run are needed."
    last = known[-1]
    found = (
        f"{ratio_words(last.efficiency)} at {last.num_workers} workers, {told.mode} scaling "
        f"against {scaling.n0}"
    )
    if last.together is not None and last.together.value is not None and last.host is not None:
        found += (
            f"; {ratio_words(last.together)} of what the same ranks do on the same cores without "
            "exchange"
        )
    alone = last.efficiency.low is None
    return f"{found}. One round: no interval, --repeats gives one." if alone else f"{found}."


def contention_sentence(told: ScaleTold, scaling: Scaling) -> str:
    """What shared cores did to the numbers; "" where no size had more threads than cores."""
    crowded = [s for s in scaling.sizes if s.is_oversubscribed]
    if not crowded:
        return ""
    worst = crowded[-1]
    found = (
        f"{worst.num_workers} ranks with {worst.num_threads} threads shared {worst.num_cores} "
        "cores, so part of what they lose is the host's."
    )
    if any(s.host is not None and s.host.value is not None for s in crowded):
        return (
            f"{found} The control, the same ranks on the same cores without exchange, keeps "
            f"{ratio_words(worst.host)} of the ideal; only what is lost beyond that is scaling."
        )
    why = (
        "this workload has none"
        if not told.can_control
        else "it was left out (--control)"
        if not told.control
        else "it has no usable run"
    )
    return (
        f"{found} There is no control to tell the two apart, because {why}: read the efficiency "
        "as a lower bound, not as scaling."
    )


def loss_sentence(size: SizeSeen) -> str:
    """``41.0 % lost: host contention 35.2 %, communication 4.1 %, …``, the largest first."""
    if size.efficiency.value is None or not size.loss:
        return ""
    parts = sorted(size.loss, key=lambda p: -abs(p.share))
    named = ", ".join(f"{p.name} {percent(p.share)}" for p in parts if abs(p.share) >= 0.0005)
    lost = f"{percent(1.0 - size.efficiency.value)} lost: {named}" if named else ""
    return lost.replace("-", "−")


def prediction_words(prediction: Prediction) -> str:
    """``84.9 % (70.1–93.0 %)``, or why there is none."""
    if prediction.efficiency is None:
        return f"{NOT_AVAILABLE} ({prediction.reason})"
    interval = format_interval(prediction.low, prediction.high, "ratio")
    return f"{format_value(prediction.efficiency, 'ratio')} ({interval})"
