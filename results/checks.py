"""Doubts: reasons to trust a run's numbers less, found in the run itself. Pure.

A doubt that ``invalidates`` makes the run ``Invalid``: it is kept and shown, and nothing ever
recommends or compares by it. The others stand beside the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from results.environment import Environment
from results.measure import RequestMetrics, request_metrics
from results.record import Doubt, Placement
from results.samples import RequestSamples, Samples, StepSamples

# The client may be late by this much before its lateness spoils the latencies it reports.
MAX_DISPATCH_LAG_S = 0.005
MAX_DISPATCH_LAG_SHARE_OF_TTFT = 0.05
# Above this share of failed requests the rest is a sample of survivors.
MAX_ERROR_SHARE = 0.01
# A TTFT that grows by this factor over the run is a queue that grows, not a latency.
MAX_TTFT_GROWTH = 2.0
MIN_REQUESTS_FOR_TREND = 30


def doubts_of(
    samples: Samples, environment: Environment | None, placement: Placement | None
) -> tuple[Doubt, ...]:
    """Every doubt about one run's numbers, the gravest first."""
    found: list[Doubt] = []
    if isinstance(samples, RequestSamples):
        found += _requests(samples)
    else:
        found += _steps(samples)
    if environment is not None:
        found += _host(environment)
    if placement is not None and placement.virtual:
        found.append(
            Doubt(
                code="virtual_pool",
                message=f"pool {placement.pool} is virtual: these numbers are this machine's, "
                f"not those of {placement.num_chips} x {placement.accelerator}",
            )
        )
    return tuple(sorted(found, key=lambda d: not d.invalidates))


def _requests(samples: RequestSamples) -> Iterable[Doubt]:
    m = request_metrics(samples)
    n = len(m.answered)
    if n == 0:
        yield Doubt(code="no_requests", message="no request was measured", invalidates=True)
        return
    failed = n - int(m.answered.sum())
    if failed:
        kinds = sorted({str(e).split(":")[0] for e in samples.error[~samples.is_warmup] if e})
        yield Doubt(
            code="failed_requests",
            message=f"{failed} of {n} requests were not answered in full ({', '.join(kinds)})",
            invalidates=failed / n > MAX_ERROR_SHARE,
        )
    unsent = int(np.isnan(m.dispatch_lag_s).sum())
    if unsent:
        yield Doubt(
            code="unsent_requests",
            message=f"{unsent} of {n} requests of the schedule were never sent",
            invalidates=True,
        )
    yield from _client_lag(m)
    yield from _trend(m)
    if not samples.is_warmup.any():
        yield Doubt(
            code="no_warmup",
            message="no warm-up requests: the first ones pay for what later ones do not",
        )


def _client_lag(m: RequestMetrics) -> Iterable[Doubt]:
    lag = m.dispatch_lag_s[~np.isnan(m.dispatch_lag_s)]
    ttft = m.ttft_s[~np.isnan(m.ttft_s)]
    if not len(lag) or not len(ttft):
        return
    p99 = float(np.quantile(lag, 0.99))
    limit = max(MAX_DISPATCH_LAG_S, MAX_DISPATCH_LAG_SHARE_OF_TTFT * float(np.median(ttft)))
    if p99 > limit:
        yield Doubt(
            code="client_late",
            message=f"the client itself was late: p99 dispatch lag {p99 * 1e3:.1f} ms, "
            f"limit {limit * 1e3:.1f} ms (5 ms or 5 % of the median TTFT)",
            invalidates=True,
        )


def _trend(m: RequestMetrics) -> Iterable[Doubt]:
    ttft = m.ttft_s[~np.isnan(m.ttft_s)]
    if len(ttft) < MIN_REQUESTS_FOR_TREND:
        return
    third = len(ttft) // 3
    first, last = float(np.median(ttft[:third])), float(np.median(ttft[-third:]))
    if first > 0 and last / first > MAX_TTFT_GROWTH:
        yield Doubt(
            code="not_steady",
            message=f"median TTFT grew from {first:.3f} s in the first third to {last:.3f} s in "
            "the last: the server did not keep up, so latencies depend on how long one measures",
        )


def _steps(samples: StepSamples) -> Iterable[Doubt]:
    keep = ~samples.is_warmup
    if not keep.any():
        yield Doubt(code="no_steps", message="no step was measured", invalidates=True)
        return
    loss = samples.loss[keep]
    if not np.all(np.isfinite(loss)):
        yield Doubt(
            code="loss_not_finite",
            message=f"{int((~np.isfinite(loss)).sum())} of {len(loss)} losses are not finite: "
            "a fast wrong run",
            invalidates=True,
        )
        return
    steps = samples.step[keep]
    first, last = loss[steps == steps.min()].mean(), loss[steps == steps.max()].mean()
    if last >= first:
        yield Doubt(
            code="loss_did_not_fall",
            message=f"the loss went from {first:.3f} to {last:.3f} nats over the measured steps",
        )
    if not samples.is_warmup.any():
        yield Doubt(code="no_warmup", message="no warm-up steps: the first one compiles and caches")


def _host(environment: Environment) -> Iterable[Doubt]:
    if environment.software.git_dirty:
        yield Doubt(
            code="dirty_checkout",
            message="windtunnel runs from a checkout with uncommitted changes",
        )
    noise = environment.noise
    if noise is None or not environment.hardware:
        return
    num_cpus = environment.hardware[0].num_cpus
    if noise.load_1m_before > num_cpus:
        yield Doubt(
            code="host_busy",
            message=f"the host was busy before the run: load {noise.load_1m_before:.1f} on "
            f"{num_cpus} CPUs",
        )
