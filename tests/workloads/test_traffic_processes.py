"""Arrival processes against their theory, as one sender or many see them.

Seeds and limits are fixed: each p-value is one number for ever. A generator that is wrong in its
law, or whose workers are not independent parts of one process, falls far outside.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from results.samples import FloatColumn
from workloads.traffic.arrivals import end_s, expected_arrivals, gamma_times, peak_rate
from workloads.traffic.rates import RateCurve, curve_of, expected_by, times_at
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    Arrivals,
    ClosedLoop,
    ConstantArrivals,
    GammaArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    RateSegment,
    SpikeArrivals,
    Traffic,
)

WORKERS = [1, 4, 16]
P_LIMIT = 0.01


def merged(arrivals: Arrivals, num_workers: int, duration_s: float, seed: int = 7) -> FloatColumn:
    """Arrivals as they come to a server from workers that each made a schedule of their own."""
    traffic = Traffic(arrivals=arrivals, duration_s=duration_s, seed=seed, num_warmup_requests=0)
    parts = []
    for worker in range(num_workers):
        mine = build_schedule(traffic)
        parts.append(mine.intended_s[mine.rows_of(worker, num_workers)])
    return np.sort(np.concatenate(parts))


def dispersion(times: FloatColumn, duration: float, num_windows: int) -> float:
    """Variance of the counts in equal windows over their mean: 1 for Poisson."""
    counts = np.histogram(times, bins=num_windows, range=(0.0, duration))[0]
    return float(counts.var(ddof=1) / counts.mean())


# ---- gamma ----


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_arrivals(burstiness: float, num_workers: int) -> None:
    rate, duration_s = 100.0, 400.0
    times = merged(GammaArrivals(rate_rps=rate, burstiness=burstiness), num_workers, duration_s)
    gaps = np.diff(times, prepend=0.0)
    law = stats.gamma(a=burstiness, scale=1 / (burstiness * rate))
    assert stats.kstest(gaps, law.cdf).pvalue > P_LIMIT
    # Another shape is told apart, so the test could fail.
    other = stats.gamma(a=burstiness * 1.2, scale=1 / (burstiness * 1.2 * rate))
    assert stats.kstest(gaps, other.cdf).pvalue < 1e-6
    # A renewal process counts with variance/mean → squared coefficient of variation = 1/shape
    # (Cox, Renewal Theory, 4.5). The estimate from 400 windows has a relative error of 7 %.
    assert dispersion(times, duration_s, 400) * burstiness == pytest.approx(1.0, abs=0.25)
    assert len(times) == pytest.approx(rate * duration_s, abs=4 * np.sqrt(4e4 / burstiness))


def test_a_burstiness_of_one_is_poisson_to_the_bit() -> None:
    one = build_schedule(
        Traffic(arrivals=GammaArrivals(rate_rps=9.0, burstiness=1.0), duration_s=50.0)
    )
    other = build_schedule(Traffic(arrivals=PoissonArrivals(rate_rps=9.0), duration_s=50.0))
    np.testing.assert_array_equal(one.intended_s, other.intended_s)


@given(burstiness=st.floats(0.05, 50.0), seed=st.integers(0, 2**63), start=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_gamma_gap_belongs_to_its_request(burstiness: float, seed: int, start: int) -> None:
    whole = np.diff(gamma_times(3.0, burstiness, start + 20, seed), prepend=0.0)
    part = np.diff(gamma_times(3.0, burstiness, 20, seed, first_index=start), prepend=0.0)
    np.testing.assert_allclose(part, whole[start:], rtol=1e-6, atol=1e-12)
    assert np.all(whole >= 0)


# ---- rates that change ----

RAMPS = PiecewiseArrivals(
    segments=(
        RateSegment(duration_s=40.0, rate_rps=20.0),
        RateSegment(duration_s=60.0, rate_rps=0.0, end_rate_rps=120.0),
        RateSegment(duration_s=20.0, rate_rps=0.0),
        RateSegment(duration_s=50.0, rate_rps=90.0, end_rate_rps=10.0),
    )
)
SPIKES = SpikeArrivals(rate_rps=10.0, spike_rate_rps=150.0, period_s=20.0, spike_s=3.0)


def ramps_rate(t: float) -> float:
    """The rate of RAMPS, said again in other words."""
    if t < 40:
        return 20.0
    if t < 100:
        return 2.0 * (t - 40)
    return 0.0 if t < 120 else 90.0 - 1.6 * (t - 120)


def spikes_rate(t: float) -> float:
    return 150.0 if t % 20.0 >= 17.0 else 10.0


def rescaled(times: FloatColumn, rate: object, duration_s: float) -> tuple[FloatColumn, float]:
    """The arrivals on the axis of expected counts, by numerical integration of the rate."""
    axis = np.linspace(0.0, duration_s, 400_001)
    middles = (axis[:-1] + axis[1:]) / 2
    rates = np.array([rate(t) for t in middles.tolist()])  # type: ignore[operator]
    expected = np.concatenate([[0.0], np.cumsum(rates * np.diff(axis))])
    return np.interp(times, axis, expected), float(expected[-1])


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.parametrize(
    ("arrivals", "rate", "duration_s"),
    [(RAMPS, ramps_rate, 170.0), (SPIKES, spikes_rate, 200.0)],
    ids=["ramps", "spikes"],
)
def test_a_changing_rate_is_poisson_on_its_own_clock(
    arrivals: Arrivals, rate: object, duration_s: float, num_workers: int
) -> None:
    times = merged(arrivals, num_workers, duration_s)
    counts, total = rescaled(times, rate, duration_s)
    assert len(times) == pytest.approx(total, abs=3 * np.sqrt(total))
    assert stats.kstest(np.diff(counts, prepend=0.0), "expon").pvalue > P_LIMIT
    windows = 200
    chi2 = dispersion(counts, total, windows) * (windows - 1)
    low, high = stats.chi2.ppf([P_LIMIT / 2, 1 - P_LIMIT / 2], windows - 1)
    assert low < chi2 < high
    # On the clock on the wall the same arrivals are anything but Poisson.
    assert stats.kstest(np.diff(times), "expon", args=(0, duration_s / total)).pvalue < 1e-6


@pytest.mark.parametrize(
    ("arrivals", "rate", "duration_s"),
    [(RAMPS, ramps_rate, 170.0), (SPIKES, spikes_rate, 200.0)],
    ids=["ramps", "spikes"],
)
def test_even_spacing_puts_one_arrival_at_each_whole_count(
    arrivals: PiecewiseArrivals | SpikeArrivals, rate: object, duration_s: float
) -> None:
    times = merged(replace(arrivals, spacing="constant"), 1, duration_s)
    counts, total = rescaled(times, rate, duration_s)
    assert len(times) == round(total)
    np.testing.assert_allclose(counts, np.arange(len(times)), atol=0.05)


def test_nothing_arrives_where_the_rate_is_0() -> None:
    for spacing in ("poisson", "constant"):
        times = merged(replace(RAMPS, spacing=spacing), 1, 170.0)
        assert not np.any((times >= 100.0) & (times < 120.0))
        assert times[-1] < 170.0
    # The 4,400th arrival is expected at the end of the ramp, and meant right after the pause.
    even = merged(replace(RAMPS, spacing="constant"), 1, 170.0)
    assert even[800 + 3600] == pytest.approx(120.0)


def test_segments_end_the_traffic_by_themselves() -> None:
    whole = build_schedule(Traffic(arrivals=RAMPS, seed=7))
    cut = build_schedule(Traffic(arrivals=RAMPS, duration_s=30.0, seed=7))
    few = build_schedule(Traffic(arrivals=RAMPS, num_requests=100, seed=7))
    assert end_s(RAMPS) == 170.0
    assert cut.num_requests < whole.num_requests
    assert few.num_requests == 102
    for part in (cut, few):
        np.testing.assert_array_equal(part.intended_s, whole.intended_s[: part.num_requests])


def test_a_step_rate_counts_as_asked_in_each_segment() -> None:
    steps = PiecewiseArrivals(
        segments=tuple(RateSegment(duration_s=100.0, rate_rps=r) for r in (5.0, 50.0, 20.0))
    )
    times = merged(steps, 4, 300.0)
    for i, rate in enumerate((5.0, 50.0, 20.0)):
        count = np.sum((times >= 100 * i) & (times < 100 * (i + 1)))
        assert count == pytest.approx(100 * rate, abs=3 * np.sqrt(100 * rate))


_segments = st.builds(
    RateSegment,
    duration_s=st.floats(0.1, 50.0),
    rate_rps=st.just(0.0) | st.floats(0.01, 500.0),
    end_rate_rps=st.none() | st.just(0.0) | st.floats(0.01, 500.0),
)
_piecewise = (
    st.lists(_segments, min_size=1, max_size=5)
    .map(lambda segments: PiecewiseArrivals(segments=tuple(segments)))
    .filter(lambda arrivals: curve_of(arrivals).total > 0.01)
)
_spikes = st.builds(
    SpikeArrivals,
    rate_rps=st.just(0.0) | st.floats(0.01, 50.0),
    spike_rate_rps=st.floats(51.0, 500.0),
    period_s=st.floats(2.0, 60.0),
    spike_s=st.floats(0.1, 1.9),
)


def rate_at(curve: RateCurve, t: float) -> float:
    t = t % curve.span_s if curve.repeats else t
    k = min(int(np.sum(curve.edges_s <= t)) - 1, len(curve.begin_rps) - 1)
    share = (t - curve.edges_s[k]) / (curve.edges_s[k + 1] - curve.edges_s[k])
    return float(curve.begin_rps[k] * (1 - share) + curve.end_rps[k] * share)


@given(arrivals=_piecewise | _spikes, share=st.just(0.0) | st.floats(1e-6, 0.999))
@settings(max_examples=150, deadline=None)
def test_expected_counts_and_instants_are_inverse(
    arrivals: PiecewiseArrivals | SpikeArrivals, share: float
) -> None:
    curve = curve_of(arrivals)
    until_s = curve.span_s * (3.7 if curve.repeats else 1.0)
    when_s = share * until_s
    count = expected_by(curve, when_s)
    edges = [e + curve.span_s * lap for lap in range(4) for e in curve.edges_s.tolist()]
    points = sorted({e for e in edges if 0 < e < when_s})
    exact = sum(
        integrate.quad(lambda t: rate_at(curve, t), a, b, limit=200)[0]
        for a, b in zip([0.0, *points], [*points, when_s], strict=True)
    )
    assert count == pytest.approx(exact, rel=1e-6, abs=1e-6)
    (back,) = times_at(curve, np.array([count]))
    # Where the rate is 0 many instants have one count; the last of them is meant.
    assert expected_by(curve, min(back, until_s)) == pytest.approx(count, rel=1e-7, abs=1e-7)
    many = np.linspace(0.0, 0.999 * expected_by(curve, until_s), 500)
    times = times_at(curve, many)
    assert np.all(np.diff(times) >= -1e-9)
    assert np.all((times >= 0) & (times <= until_s + 1e-9))


@given(arrivals=_piecewise | _spikes)
@settings(max_examples=50, deadline=None)
def test_no_count_is_reached_after_the_end(arrivals: PiecewiseArrivals | SpikeArrivals) -> None:
    curve = curve_of(arrivals)
    beyond = times_at(curve, np.array([curve.total * 1.5 + 1.0]))
    assert np.all(np.isfinite(beyond)) == curve.repeats
    assert np.isinf(expected_by(curve, np.inf)) == curve.repeats
    assert expected_arrivals(arrivals, 0.0) == 0.0


# ---- the busiest second ----


def test_the_busiest_second() -> None:
    assert peak_rate(np.array([])) == 0.0
    assert peak_rate(np.array([0.0, 0.5, 0.9, 1.0, 1.2, 7.0])) == 4.0  # 0.5 to 1.2
    even = build_schedule(Traffic(arrivals=ConstantArrivals(rate_rps=10.0), num_requests=95))
    assert even.peak_rate_rps() == 10.0
    closed = build_schedule(Traffic(arrivals=ClosedLoop(num_users=3), num_requests=9))
    assert closed.peak_rate_rps() is None
    spiky = build_schedule(Traffic(arrivals=SPIKES, duration_s=100.0)).peak_rate_rps()
    assert spiky is not None and 150 < spiky < 150 + 5 * np.sqrt(150)
