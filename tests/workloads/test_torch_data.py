"""The token stream: reproducible, different everywhere it should be, and worth learning."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workloads.torch_data import FOLLOW_SHARE, TokenStream

VOCAB = 1024


def test_a_batch_is_a_function_of_seed_step_and_rank() -> None:
    stream = TokenStream.make(VOCAB, 3)
    assert (stream.batch(5, 1, 4, 64) == TokenStream.make(VOCAB, 3).batch(5, 1, 4, 64)).all()
    for other in (
        stream.batch(6, 1, 4, 64),
        stream.batch(5, 0, 4, 64),
        stream.batch(1, 5, 4, 64),
        TokenStream.make(VOCAB, 4).batch(5, 1, 4, 64),
    ):
        assert (stream.batch(5, 1, 4, 64) != other).mean() > 0.5


@settings(max_examples=50, deadline=None)
@given(
    vocab=st.integers(2, 5000),
    seed=st.integers(0, 2**32),
    size=st.integers(1, 5),
    length=st.integers(1, 65),
)
def test_shape_and_range(vocab: int, seed: int, size: int, length: int) -> None:
    tokens = TokenStream.make(vocab, seed).batch(0, 0, size, length)
    assert tokens.shape == (size, length + 1)
    assert tokens.dtype == np.int64
    assert 0 <= tokens.min() <= tokens.max() < vocab


def test_common_tokens_are_common_and_successors_follow() -> None:
    stream = TokenStream.make(VOCAB, 0)
    tokens = stream.batch(0, 0, 64, 1023)
    even, odd = tokens[:, 0::2], tokens[:, 1::2]
    share = np.bincount(even.ravel(), minlength=VOCAB) / even.size
    harmonic = (1.0 / np.arange(1, VOCAB + 1)).sum()
    assert abs(share.max() - 1.0 / harmonic) < 0.01  # Zipf's most common token
    follows = (odd == stream.successor[even]).mean()
    assert FOLLOW_SHARE - 0.01 < follows < FOLLOW_SHARE + 0.03  # some follow by chance
