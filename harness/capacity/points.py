"""From a rate to the traffic that offers it, and from its samples to a point. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.capacity.judge import Condition, backlog_growth, judged
from harness.capacity.measure import PointMeasured
from harness.capacity.slo import Limit
from results.capacity import Point
from results.samples import RequestSamples
from workloads.traffic.spec import (
    ClosedLoop,
    ConstantArrivals,
    FixedLength,
    GammaArrivals,
    PoissonArrivals,
    Traffic,
)

# Arrivals of one rate, which a search may set.
Steady = ConstantArrivals | PoissonArrivals | GammaArrivals
# A request that has taken this many times what the SLO allows has missed it: waiting longer would
# teach nothing, and a search past the edge would spend its budget on draining queues.
_PATIENCE = 4.0
_SHORTEST_TIMEOUT_S = 10.0
# A queue that grows by a twentieth of what arrives takes 20 limits to grow by one.
_LIMITS_IN_A_PASS = 20.0
# An answer's whole length is work, not waiting: less of it can hide a queue.
_E2E_LIMITS_IN_A_PASS = 5.0


def salted(traffic: Traffic, seed: int, number: int) -> Traffic:
    """The same load with other prompts and arrivals, so that the prefix cache of one point does
    not help the next; a function of (seed, number)."""
    words = np.random.SeedSequence([seed, number]).generate_state(1)
    return replace(traffic, seed=int(words[0]), salt=f"{seed}-{number}")


def at_rate(traffic: Traffic, rate_rps: float, duration_s: float) -> Traffic:
    """Open-loop traffic of that rate, everything else as it was."""
    arrivals = replace(_open(traffic), rate_rps=rate_rps)
    return replace(traffic, arrivals=arrivals, duration_s=duration_s)


def _open(traffic: Traffic) -> Steady:
    assert isinstance(traffic.arrivals, Steady), traffic.arrivals.kind
    return traffic.arrivals


def with_users(traffic: Traffic, num_users: int, duration_s: float, think_s: float) -> Traffic:
    """Closed-loop traffic of that many users, everything else as it was."""
    arrivals = ClosedLoop(num_users=num_users, think_time_s=think_s)
    return replace(traffic, arrivals=arrivals, duration_s=duration_s)


def patience_s(limits: Sequence[Limit], traffic: Traffic) -> float:
    """How long a request is waited for: well past the time at which it has surely missed its SLO,
    and never longer than the traffic itself allows."""
    output = traffic.output_tokens
    longest = output.tokens if isinstance(output, FixedLength) else getattr(output, "high", None)
    by_metric = {limit.metric: limit.limit_s for limit in limits}
    allowed = by_metric.get("e2e_s")
    if allowed is None and longest is not None:
        if "ntpot_s" in by_metric:
            allowed = by_metric["ntpot_s"] * longest
        elif {"ttft_s", "tpot_s"} <= by_metric.keys():
            allowed = by_metric["ttft_s"] + by_metric["tpot_s"] * longest
    if allowed is None:  # nothing bounds the length of an answer that meets the SLO
        return traffic.request_timeout_s
    return min(traffic.request_timeout_s, max(_PATIENCE * allowed, _SHORTEST_TIMEOUT_S))


def slowest_queue_s(limits: Sequence[Limit]) -> float:
    """A point must last this long before its rate may pass: by then a queue that grows by 5 % of
    what arrives has grown to the limit of the SLO."""
    by_metric = {limit.metric: limit.limit_s for limit in limits}
    return max(
        _LIMITS_IN_A_PASS * by_metric.get("ttft_s", 0.0),
        _E2E_LIMITS_IN_A_PASS * by_metric.get("e2e_s", 0.0),
    )


def point_of(
    measured: PointMeasured,
    traffic: Traffic,
    conditions: Sequence[Condition],
    *,
    repeat: int = 0,
) -> Point:
    """What one load has shown."""
    samples, arrivals = measured.samples, traffic.arrivals
    closed = isinstance(arrivals, ClosedLoop)
    duration_s = _duration_s(traffic, samples)
    keep = np.empty(0, dtype=np.bool_) if samples is None else ~samples.is_warmup
    failed = 0 if samples is None else int((samples.error[keep] != "").sum())
    # Users that wait for their answers cannot pile up.
    open_samples = None if closed else samples
    return Point(
        rate_rps=None if isinstance(arrivals, ClosedLoop) else _open(traffic).rate_rps,
        num_users=arrivals.num_users if isinstance(arrivals, ClosedLoop) else None,
        duration_s=duration_s,
        took_s=measured.took_s,
        seed=traffic.seed,
        num_requests=int(keep.sum()),
        num_failed=failed,
        constraints=judged(samples, conditions, duration_s) if samples is not None else (),
        backlog_growth=backlog_growth(open_samples, duration_s) if open_samples else 0.0,
        measurements=measured.measurements,
        doubts=measured.doubts,
        client_faults=measured.client_faults,
        load_faults=measured.load_faults,
        simulated=measured.simulated,
        repeat=repeat,
        run_id=measured.run_id,
    )


def _duration_s(traffic: Traffic, samples: RequestSamples | None) -> float:
    """Of the schedule; where a number of requests ends it, until the last was meant to be sent."""
    if traffic.duration_s is not None:
        return traffic.duration_s
    if samples is None:
        return 0.0
    intended = samples.intended_s[~samples.is_warmup]
    return float(np.nanmax(intended)) if len(intended) and not np.isnan(intended).all() else 0.0
