"""When requests are meant to be sent, in seconds from the start of the measured schedule."""

from __future__ import annotations

import numpy as np

from results.samples import FloatColumn
from workloads.traffic.randomness import Stream, uniforms
from workloads.traffic.spec import ConstantArrivals, PoissonArrivals

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


def open_loop_times(
    arrivals: ConstantArrivals | PoissonArrivals,
    *,
    seed: int,
    first_index: int,
    duration_s: float | None,
    num_requests: int | None,
) -> FloatColumn:
    """(n,) ascending intended times: all before ``duration_s``, at most ``num_requests``.

    Raises ValueError when neither is given or more than MAX_REQUESTS would be needed.
    """
    if duration_s is None and num_requests is None:
        raise ValueError("open-loop traffic needs duration_s or num_requests; neither is given")
    rate = arrivals.rate_rps
    expected = num_requests if duration_s is None else rate * duration_s
    if num_requests is not None and expected is not None:
        expected = min(expected, num_requests)
    assert expected is not None
    if expected > MAX_REQUESTS:
        raise ValueError(
            f"traffic asks for about {expected:.0f} requests; at most {MAX_REQUESTS} are sent in "
            "one run: lower rate_rps, duration_s or num_requests"
        )
    if num_requests is not None and duration_s is None:
        count = num_requests
    else:
        # Ten standard deviations over the mean; the loop below makes the rest certain.
        count = int(expected + 10.0 * np.sqrt(expected) + 10.0)
    while True:
        times = (
            constant_times(rate, count)
            if isinstance(arrivals, ConstantArrivals)
            else poisson_times(rate, count, seed, first_index)
        )
        if num_requests is not None and count >= num_requests:
            times = times[:num_requests]
            break
        if duration_s is not None and times[-1] >= duration_s:
            break
        count *= 2
    return times if duration_s is None else times[times < duration_s]
