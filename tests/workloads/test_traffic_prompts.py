import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from workloads.traffic.prompts import id_range, prompt_ids, prompt_text

seeds = st.integers(0, 2**63)


@given(seed=seeds, index=st.integers(0, 10**6), vocab_size=st.none() | st.integers(16, 300_000))
def test_ids_stay_clear_of_special_tokens(seed: int, index: int, vocab_size: int | None) -> None:
    ids = prompt_ids(seed, index, 200, vocab_size)
    low, high = id_range(vocab_size)
    assert len(ids) == 200
    assert ids.min() >= low >= 2
    assert ids.max() < high < (vocab_size or 1024)


@pytest.mark.parametrize(
    ("vocab_size", "special"),
    [
        (128_256, range(128_000, 128_256)),  # Llama 3
        (151_936, range(151_643, 151_936)),  # Qwen 2 and 3
        (50_257, range(50_256, 50_257)),  # GPT-2
        (32_000, range(3)),  # Llama 2
        (262_144, range(106)),  # Gemma 3
    ],
)
def test_known_special_tokens_are_never_sent(vocab_size: int, special: range) -> None:
    low, high = id_range(vocab_size)
    assert special.stop <= low or special.start >= high


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_ids_are_uniform(seed: int) -> None:
    low, high = id_range(1024)
    ids = prompt_ids(seed, 0, 20_000, 1024)
    counts = np.bincount(ids - low, minlength=high - low)
    assert stats.chisquare(counts).pvalue > 1e-6


def test_no_two_requests_share_a_prefix() -> None:
    # 16 tokens are a block of the usual prefix cache; one token alike is chance, a block is not.
    firsts = {tuple(prompt_ids(0, i, 16, 32_000).tolist()) for i in range(2_000)}
    assert len(firsts) == 2_000
    other_seed = {tuple(prompt_ids(1, i, 16, 32_000).tolist()) for i in range(2_000)}
    assert not firsts & other_seed


@given(seed=seeds, index=st.integers(0, 10**9), num_tokens=st.integers(1, 300))
def test_a_prompt_is_a_function_of_seed_and_index(seed: int, index: int, num_tokens: int) -> None:
    whole = prompt_ids(seed, index, num_tokens + 7, 32_000)
    assert np.array_equal(prompt_ids(seed, index, num_tokens, 32_000), whole[:num_tokens])


@given(seed=seeds, index=st.integers(0, 10**9), num_words=st.integers(1, 300))
def test_text_has_the_words_asked_for(seed: int, index: int, num_words: int) -> None:
    text = prompt_text(seed, index, num_words)
    words = text.split(" ")
    assert len(words) == num_words
    assert all(w.isascii() and w.isalpha() and w.islower() for w in words)
    assert text == prompt_text(seed, index, num_words)


def test_a_vocabulary_too_small_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="at least 16 tokens; the server has 15"):
        prompt_ids(0, 0, 1, 15)
