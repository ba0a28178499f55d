import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workloads.traffic.lengths import lengths
from workloads.traffic.randomness import Stream
from workloads.traffic.spec import FixedLength, UniformLength

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
