import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workloads.traffic.arrivals import constant_times, open_loop_times, poisson_times
from workloads.traffic.randomness import Stream, uniforms, words_of
from workloads.traffic.spec import ConstantArrivals, PoissonArrivals

seeds = st.integers(0, 2**63)
rates = st.floats(0.01, 5_000.0)
# Hypothesis tries tens of seeds: one honest sample in a million may look worse than this.
ALMOST_NEVER = 1e-6


@given(rate=rates, count=st.integers(2, 500))
def test_constant_arrivals_have_one_gap(rate: float, count: int) -> None:
    times = constant_times(rate, count)
    assert times[0] == 0.0
    np.testing.assert_allclose(np.diff(times), 1.0 / rate, rtol=1e-9)
    # No drift: the last arrival stands where the rate puts it.
    assert times[-1] == pytest.approx((count - 1) / rate, rel=1e-12)


@given(seed=seeds, rate=rates)
@settings(max_examples=25, deadline=None)
def test_poisson_gaps_are_exponential(seed: int, rate: float) -> None:
    times = poisson_times(rate, 2_000, seed)
    gaps = np.diff(times, prepend=0.0)
    assert np.all(gaps >= 0)
    assert stats.kstest(gaps, "expon", args=(0, 1.0 / rate)).pvalue > ALMOST_NEVER
    # Gaps know nothing of each other.
    assert abs(np.corrcoef(gaps[:-1], gaps[1:])[0, 1]) < 6 / np.sqrt(len(gaps))


@given(seed=seeds)
@settings(max_examples=25, deadline=None)
def test_poisson_counts_are_neither_clumped_nor_even(seed: int) -> None:
    num_windows, per_window = 500, 10.0
    times = poisson_times(per_window, int(per_window * num_windows * 1.2), seed)
    counts = np.histogram(times, bins=num_windows, range=(0.0, float(num_windows)))[0]
    dispersion = counts.var(ddof=1) / counts.mean()
    chi2 = dispersion * (num_windows - 1)
    low, high = stats.chi2.ppf([ALMOST_NEVER, 1 - ALMOST_NEVER], num_windows - 1)
    assert low < chi2 < high
    # What a clumped generator gives (4.25 was seen in the field) is far outside.
    assert high / (num_windows - 1) < 2.0


@given(seed=seeds, start=st.integers(0, 1000), count=st.integers(0, 100))
def test_a_number_belongs_to_its_index(seed: int, start: int, count: int) -> None:
    whole = uniforms(seed, Stream.ARRIVAL, 0, start + count)
    assert np.array_equal(uniforms(seed, Stream.ARRIVAL, start, count), whole[start:])
    assert np.all((whole >= 0) & (whole < 1))


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_uniforms_are_uniform_and_streams_independent(seed: int) -> None:
    a = uniforms(seed, Stream.PROMPT_LENGTH, 0, 2_000)
    b = uniforms(seed, Stream.OUTPUT_LENGTH, 0, 2_000)
    assert stats.kstest(a, "uniform").pvalue > ALMOST_NEVER
    assert abs(np.corrcoef(a, b)[0, 1]) < 6 / np.sqrt(len(a))
    assert not np.array_equal(a, uniforms(seed + 1, Stream.PROMPT_LENGTH, 0, 2_000))


def test_the_random_numbers_are_those_of_every_release() -> None:
    # Written down once; a change here changes every workload's prompts and arrivals.
    got = uniforms(0, Stream.ARRIVAL, 0, 3).tolist()
    assert got == pytest.approx(
        [0.7211967525405779, 0.026925274171797242, 0.4025382164530227], abs=0
    )
    assert words_of(7, Stream.PROMPT, 5, 2).tolist() == [15229252371777456240, 11405282141619818018]


@given(
    seed=seeds,
    rate=rates,
    duration_s=st.floats(0.01, 3.0),
    num_requests=st.none() | st.integers(1, 2_000),
    poisson=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_stop_rules(
    seed: int, rate: float, duration_s: float, num_requests: int | None, poisson: bool
) -> None:
    kind = PoissonArrivals if poisson else ConstantArrivals
    arrivals = kind(rate_rps=rate)
    times = open_loop_times(
        arrivals, seed=seed, first_index=2, duration_s=duration_s, num_requests=num_requests
    )
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= 0) & (times < duration_s))
    # As if drawn without an end and then cut: nothing is rescaled, nothing left out.
    endless = open_loop_times(
        arrivals, seed=seed, first_index=2, duration_s=None, num_requests=len(times) + 1
    )
    assert np.array_equal(times, endless[:-1])
    stopped_by_count = num_requests is not None and len(times) == num_requests
    assert stopped_by_count or endless[-1] >= duration_s


def test_a_schedule_without_end_or_sense_is_refused() -> None:
    arrivals = ConstantArrivals(rate_rps=1.0)
    with pytest.raises(ValueError, match="neither is given"):
        open_loop_times(arrivals, seed=0, first_index=0, duration_s=None, num_requests=None)
    fast = PoissonArrivals(rate_rps=1e9)
    with pytest.raises(ValueError, match="about 60000000000 requests"):
        open_loop_times(fast, seed=0, first_index=0, duration_s=60.0, num_requests=None)
    few = open_loop_times(fast, seed=0, first_index=0, duration_s=60.0, num_requests=10)
    assert len(few) == 10
