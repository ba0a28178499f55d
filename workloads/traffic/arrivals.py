"""When requests are meant to be sent, in seconds from the start of the measured schedule."""

from __future__ import annotations

import math

import numpy as np

from results.samples import FloatColumn
from workloads.traffic.randomness import Stream, uniforms
from workloads.traffic.rates import curve_of, expected_by, times_at
from workloads.traffic.spec import (
    ConstantArrivals,
    DrawnArrivals,
    GammaArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    SpikeArrivals,
)

# More than this is a mistyped rate, not a schedule that anyone wants held in memory.
MAX_REQUESTS = 10_000_000


def constant_times(rate_rps: float, count: int) -> FloatColumn:
    """(count,) i / rate, exactly: no gap is a sum of other gaps, so no error accumulates."""
    return np.arange(count, dtype=np.float64) / rate_rps


def poisson_times(rate_rps: float, count: int, seed: int, first_index: int = 0) -> FloatColumn:
    """(count,) arrivals of a Poisson process that starts at 0; the first one waits for its gap.

    ``first_index`` is the request index of the first arrival: gap i belongs to that request.
    """
    u = uniforms(seed, Stream.ARRIVAL, first_index, count)
    return np.cumsum(-np.log1p(-u) / rate_rps)


def gamma_times(
    rate_rps: float, burstiness: float, count: int, seed: int, first_index: int = 0
) -> FloatColumn:
    """(count,) arrivals with gaps Gamma(shape burstiness, mean 1/rate); a shape of 1 is Poisson."""
    if burstiness == 1.0:
        return poisson_times(rate_rps, count, seed, first_index)
    from scipy.special import gammaincinv  # a third of a second, which few schedules need

    u = uniforms(seed, Stream.ARRIVAL, first_index, count)
    return np.cumsum(gammaincinv(burstiness, u) / (burstiness * rate_rps))


def first_times(arrivals: DrawnArrivals, count: int, *, seed: int, first_index: int) -> FloatColumn:
    """(count,) the first arrivals, ascending; inf beyond the last that there ever is."""
    match arrivals:
        case ConstantArrivals():
            return constant_times(arrivals.rate_rps, count)
        case PoissonArrivals():
            return poisson_times(arrivals.rate_rps, count, seed, first_index)
        case GammaArrivals():
            return gamma_times(arrivals.rate_rps, arrivals.burstiness, count, seed, first_index)
        case PiecewiseArrivals() | SpikeArrivals():
            even = arrivals.spacing == "constant"
            unit = (
                constant_times(1.0, count) if even else poisson_times(1.0, count, seed, first_index)
            )
            return times_at(curve_of(arrivals), unit)


def expected_arrivals(arrivals: DrawnArrivals, duration_s: float | None) -> float:
    """Arrivals expected before ``duration_s`` (None: ever); inf where they never end."""
    until_s = math.inf if duration_s is None else duration_s
    if isinstance(arrivals, PiecewiseArrivals | SpikeArrivals):
        return expected_by(curve_of(arrivals), until_s)
    return arrivals.rate_rps * until_s


def end_s(arrivals: DrawnArrivals) -> float:
    """The instant from which nothing arrives any more; inf where there is none."""
    if isinstance(arrivals, PiecewiseArrivals):
        return sum(segment.duration_s for segment in arrivals.segments)
    return math.inf


def open_loop_times(
    arrivals: DrawnArrivals,
    *,
    seed: int,
    first_index: int,
    duration_s: float | None,
    num_requests: int | None,
) -> FloatColumn:
    """(n,) ascending intended times: all before ``duration_s``, at most ``num_requests``.

    Raises ValueError when nothing ends them or more than MAX_REQUESTS would be needed.
    """
    stop_s = min(math.inf if duration_s is None else duration_s, end_s(arrivals))
    if math.isinf(stop_s) and num_requests is None:
        raise ValueError("open-loop traffic needs duration_s or num_requests; neither is given")
    expected = expected_arrivals(arrivals, duration_s)
    if num_requests is not None:
        expected = min(expected, num_requests)
    if expected > MAX_REQUESTS:
        raise ValueError(
            f"traffic asks for about {expected:.0f} requests; at most {MAX_REQUESTS} are sent in "
            "one run: lower rate_rps, duration_s or num_requests"
        )
    if num_requests is not None and math.isinf(stop_s):
        count = num_requests
    else:
        # Ten standard deviations over the mean; the loop below makes the rest certain.
        count = int(expected + 10.0 * np.sqrt(expected) + 10.0)
    while True:
        times = first_times(arrivals, count, seed=seed, first_index=first_index)
        if num_requests is not None and count >= num_requests:
            times = times[:num_requests]
            break
        if times[-1] >= stop_s:
            break
        count *= 2
    return times if math.isinf(stop_s) else times[times < stop_s]


def peak_rate(times_s: FloatColumn) -> float:
    """The most of ascending ``times_s`` that fall into any one second, per second; 0 for none."""
    if not len(times_s):
        return 0.0
    after = np.searchsorted(times_s, times_s + 1.0, side="left")
    return float(np.max(after - np.arange(len(times_s))))
