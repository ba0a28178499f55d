"""Traffic as a person would tell it: the sentence of a plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workloads.traffic.lengths import longest
from workloads.traffic.spec import (
    Arrivals,
    ClosedLoop,
    ConstantArrivals,
    FilePrompts,
    GammaArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    SharedPrefixPrompts,
    SpikeArrivals,
    TraceReplay,
    Traffic,
)


def traffic_sentence(traffic: Traffic) -> str:
    """``poisson arrivals, 4/s; 8 × 16 prompts, a prefix per group``."""
    return "; ".join(
        (f"{traffic.arrivals.kind} arrivals, {_load(traffic.arrivals)}", *_rest(traffic))
    )


def _load(arrivals: Arrivals) -> str:
    match arrivals:
        case ConstantArrivals() | PoissonArrivals():
            return f"{arrivals.rate_rps:g}/s"
        case GammaArrivals():
            return f"{arrivals.rate_rps:g}/s, burstiness {arrivals.burstiness:g}"
        case PiecewiseArrivals():
            steps = [
                f"{s.rate_rps:g}"
                + (f" to {s.end_rate_rps:g}" if s.end_rate_rps is not None else "")
                + f"/s for {s.duration_s:g} s"
                for s in arrivals.segments
            ]
            return f"{', '.join(steps)}, {arrivals.spacing} spacing"
        case SpikeArrivals():
            return (
                f"{arrivals.rate_rps:g}/s and {arrivals.spike_rate_rps:g}/s in the last "
                f"{arrivals.spike_s:g} s of every {arrivals.period_s:g} s, "
                f"{arrivals.spacing} spacing"
            )
        case ClosedLoop():
            return f"{arrivals.num_users} users"
        case TraceReplay():
            speed = "" if arrivals.speed == 1 else f", {arrivals.speed:g} times as fast"
            return f"{Path(arrivals.path).name} ({arrivals.format}){speed}"


def _rest(traffic: Traffic) -> Iterator[str]:
    prompts, sessions = traffic.prompts, traffic.sessions
    if isinstance(prompts, SharedPrefixPrompts):
        yield f"{prompts.num_groups} × {prompts.prompts_per_group} prompts, a prefix per group"
    if isinstance(prompts, FilePrompts):
        yield f"prompts of {Path(prompts.path).name} ({prompts.format})"
    if sessions is not None:
        yield f"sessions of up to {longest(sessions.turns)} turns"
    if traffic.models:
        yield f"{len(traffic.models)} models"
