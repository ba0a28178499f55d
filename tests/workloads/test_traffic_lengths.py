import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workloads.traffic.lengths import lengths, longest, mass, mean_length, think_times
from workloads.traffic.randomness import Stream
from workloads.traffic.spec import (
    EmpiricalLength,
    ExponentialTime,
    FixedLength,
    Length,
    LognormalLength,
    LognormalTime,
    NormalLength,
    UniformLength,
    UniformTime,
)

seeds = st.integers(0, 2**63)


@given(tokens=st.integers(1, 10**6), seed=seeds)
def test_fixed_lengths_are_fixed(tokens: int, seed: int) -> None:
    got = lengths(FixedLength(tokens=tokens), seed, Stream.PROMPT_LENGTH, 3, 10)
    assert got.tolist() == [tokens] * 10


@given(seed=seeds, low=st.integers(1, 1000), span=st.integers(0, 12))
@settings(max_examples=30, deadline=None)
def test_uniform_lengths_take_every_value_alike(seed: int, low: int, span: int) -> None:
    length = UniformLength(low=low, high=low + span)
    got = lengths(length, seed, Stream.OUTPUT_LENGTH, 0, 4_000)
    values, counts = np.unique(got, return_counts=True)
    assert values.tolist() == list(range(low, low + span + 1))
    if span:
        assert stats.chisquare(counts).pvalue > 1e-6


@given(seed=seeds, start=st.integers(0, 500))
def test_a_length_belongs_to_its_request(seed: int, start: int) -> None:
    length = UniformLength(low=1, high=10**6)
    whole = lengths(length, seed, Stream.PROMPT_LENGTH, 0, start + 5)
    part = lengths(length, seed, Stream.PROMPT_LENGTH, start, 5)
    assert np.array_equal(part, whole[start:])


def test_prompt_and_output_lengths_are_drawn_apart() -> None:
    length = UniformLength(low=1, high=10**6)
    prompt = lengths(length, 0, Stream.PROMPT_LENGTH, 0, 50)
    output = lengths(length, 0, Stream.OUTPUT_LENGTH, 0, 50)
    assert not np.any(prompt == output)


# ---- distributions with a theory, by another library ----

# scipy's own log-normal has mean 137.7 and standard deviation 130.4 here.
LOG = stats.lognorm(s=0.8, scale=100.0)
CASES: list[tuple[Length, object]] = [
    (NormalLength(mean=200.0, std=40.0, low=1, high=10_000), stats.norm(200.0, 40.0)),
    (NormalLength(mean=50.0, std=60.0, low=1, high=120), stats.norm(50.0, 60.0)),
    (NormalLength(mean=10.0, std=30.0, low=60, high=90), stats.norm(10.0, 30.0)),
    (LognormalLength(mean=LOG.mean(), std=LOG.std(), low=1, high=10**6), LOG),
    (LognormalLength(mean=LOG.mean(), std=LOG.std(), low=40, high=300), LOG),
]
NUM_DRAWN = 20_000


def probabilities(length: Length, law: object) -> tuple[np.ndarray, np.ndarray]:
    """The counts there are and their probabilities: the law rounded, then cut off."""
    assert isinstance(length, NormalLength | LognormalLength)
    values = np.arange(length.low, min(length.high, 20_000) + 1)
    weight = law.cdf(values + 0.5) - law.cdf(values - 0.5)  # type: ignore[attr-defined]
    return values, weight / weight.sum()


@pytest.mark.parametrize(("length", "law"), CASES)
def test_lengths_have_their_distribution(length: Length, law: object) -> None:
    got = lengths(length, 5, Stream.PROMPT_LENGTH, 0, NUM_DRAWN)
    values, probability = probabilities(length, law)
    assert got.min() >= values[0] and got.max() <= values[-1]
    # Cells of about 100 expected draws each.
    cell = np.minimum((np.cumsum(probability) * NUM_DRAWN / 100).astype(int), NUM_DRAWN // 100 - 1)
    expected = np.bincount(cell, weights=probability * NUM_DRAWN)
    seen = np.bincount(cell[got - values[0]], minlength=len(expected))
    kept = expected > 5
    short = expected[~kept].sum(), seen[~kept].sum()
    expected, seen = np.append(expected[kept], short[0]), np.append(seen[kept], short[1])
    if expected[-1] < 5:
        expected, seen = expected[:-1] * seen[:-1].sum() / expected[:-1].sum(), seen[:-1]
    assert stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 0.01
    mean = float(np.sum(values * probability))
    spread = math.sqrt(np.sum(values**2 * probability) - mean**2)
    assert got.mean() == pytest.approx(mean, abs=4 * spread / math.sqrt(NUM_DRAWN))
    assert got.std() == pytest.approx(spread, rel=0.1)
    assert mean_length(length) == pytest.approx(mean, rel=0.005)
    whole = law.cdf(length.high + 0.5) - law.cdf(length.low - 0.5)  # type: ignore[attr-defined, union-attr]
    assert mass(length) == pytest.approx(whole, rel=1e-9)  # type: ignore[arg-type]


def test_mean_and_std_are_those_of_the_tokens() -> None:
    wide = LognormalLength(mean=1000.0, std=1500.0, high=10**9)
    got = lengths(wide, 1, Stream.OUTPUT_LENGTH, 0, 400_000)
    assert got.mean() == pytest.approx(1000.0, rel=0.015)
    assert got.std() == pytest.approx(1500.0, rel=0.1)
    # Most prompts are shorter than the mean: it is no normal distribution by mistake.
    assert np.median(got) == pytest.approx(1000 / math.sqrt(1 + 1.5**2), rel=0.02)


def test_nothing_piles_up_at_the_ends() -> None:
    length = NormalLength(mean=50.0, std=60.0, low=1, high=120)
    got = lengths(length, 2, Stream.OUTPUT_LENGTH, 0, NUM_DRAWN)
    at_ends = np.mean((got == 1) | (got == 120))
    # Clipping would put 20 % on 1 and 12 % on 120.
    assert at_ends < 0.02


@given(seed=seeds, weights=st.lists(st.integers(0, 9), min_size=2, max_size=6).filter(sum))
@settings(max_examples=30, deadline=None)
def test_a_list_is_drawn_by_weight(seed: int, weights: list[int]) -> None:
    values = tuple(7 * (i + 1) for i in range(len(weights)))
    length = EmpiricalLength(values=values, weights=tuple(float(w) for w in weights))
    got = lengths(length, seed, Stream.PROMPT_LENGTH, 0, 3_000)
    seen = np.array([np.sum(got == value) for value in values])
    expected = np.array(weights) * 3_000 / sum(weights)
    assert seen.sum() == 3_000
    assert np.all(seen[expected == 0] == 0)
    if np.sum(expected > 0) > 1:
        assert stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue > 1e-6
    assert mean_length(length) == pytest.approx(float(np.dot(expected, values)) / 3_000)


def test_a_list_without_weights_is_drawn_alike() -> None:
    got = lengths(EmpiricalLength(values=(5, 900)), 3, Stream.PROMPT_LENGTH, 0, 4_000)
    assert stats.binomtest(int(np.sum(got == 5)), 4_000).pvalue > 0.01


@pytest.mark.parametrize("length", [case[0] for case in CASES] + [EmpiricalLength(values=(1, 2))])
def test_any_length_belongs_to_its_request(length: Length) -> None:
    whole = lengths(length, 9, Stream.PROMPT_LENGTH, 0, 130)
    for start in (0, 1, 63, 129):
        part = lengths(length, 9, Stream.PROMPT_LENGTH, start, 1)
        assert part.tolist() == whole[start : start + 1].tolist()
    assert whole.max() <= longest(length)


@pytest.mark.parametrize(
    ("think", "law"),
    [
        (UniformTime(low_s=2.0, high_s=5.0), stats.uniform(2.0, 3.0)),
        (ExponentialTime(mean_s=4.0), stats.expon(0.0, 4.0)),
        (LognormalTime(mean_s=LOG.mean(), std_s=LOG.std()), LOG),
    ],
)
def test_think_times_have_their_distribution(think: object, law: object) -> None:
    got = think_times(think, 6, 0, 5_000)  # type: ignore[arg-type]
    assert stats.kstest(got, law.cdf).pvalue > 0.01  # type: ignore[attr-defined]
    assert think_times(think, 6, 77, 1)[0] == got[77]  # type: ignore[arg-type]
    assert think_times(1.5, 6, 3, 2).tolist() == [1.5, 1.5]
