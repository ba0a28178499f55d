"""Documents packed into sequences, and intervals taken from each other."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.exposed import Span, exposed_s, union, without
from workloads.packing import SHUFFLED_TOGETHER, pack

DOCUMENTS = [list(range(start, start + 1 + start % 7)) for start in range(0, 6000, 10)]


def test_nothing_is_lost_nothing_is_made_up() -> None:
    packed = list(pack(DOCUMENTS, 16, seed=3))
    assert all(sequence.shape == (16,) for sequence in packed)
    tokens = [int(token) for sequence in packed for token in sequence]
    given_tokens = [token for document in DOCUMENTS for token in document]
    assert len(set(given_tokens)) == len(given_tokens)
    assert set(tokens) <= set(given_tokens)
    assert len(set(tokens)) == len(tokens) == len(given_tokens) // 16 * 16


def test_documents_stay_whole_and_in_mixed_order() -> None:
    packed = np.concatenate(list(pack(DOCUMENTS, 16, seed=3)))
    begins = [int(token) for token in packed if token % 10 == 0]
    assert begins != sorted(begins)
    assert sorted(begins[:SHUFFLED_TOGETHER]) == [10 * i for i in range(SHUFFLED_TOGETHER)]
    for before, after in pairwise(int(token) for token in packed):
        assert after == before + 1 or after % 10 == 0


def test_the_seed_decides_the_order() -> None:
    first, again, other = ([*pack(DOCUMENTS, 16, seed)] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_document_may_fill_several_sequences_and_several_documents_one() -> None:
    packed = list(pack([[1] * 25, [2], [3] * 14], 10, seed=0))
    assert len(packed) == 4
    assert sorted(np.concatenate(packed).tolist()) == [1] * 25 + [2] + [3] * 14
    assert list(pack([[1, 2, 3]], 10, seed=0)) == []


# ---- what is exposed, against a clock that ticks ----

MOMENTS = st.integers(0, 40)
SPANS = st.lists(
    st.tuples(MOMENTS, MOMENTS).map(lambda pair: Span(min(pair), max(pair))), max_size=8
)


def ticks(spans: list[Span]) -> set[int]:
    return {tick for span in spans for tick in range(int(span.start_s), int(span.end_s))}


@given(SPANS, SPANS, SPANS)
def test_exposed_is_what_counting_ticks_says(
    communication: list[Span], computing: list[Span], blocked: list[Span]
) -> None:
    expected = ticks(communication) - (ticks(computing) - ticks(blocked))
    assert exposed_s(communication, computing, blocked) == len(expected)


@given(SPANS, SPANS)
def test_what_is_left_is_sorted_and_apart(these: list[Span], those: list[Span]) -> None:
    left = without(union(these), union(those))
    assert all(start < end for start, end in left)
    assert all(before[1] <= after[0] for before, after in pairwise(left))


def test_overlapped_communication_costs_nothing() -> None:
    assert exposed_s([Span(1.0, 3.0)], [Span(0.0, 4.0)]) == 0.0
    assert exposed_s([Span(1.0, 3.0)], [Span(0.0, 2.0)]) == pytest.approx(1.0)
    # The computing thread stood in the collective's own call.
    assert exposed_s([Span(1.0, 3.0)], [Span(0.0, 4.0)], [Span(1.0, 3.0)]) == pytest.approx(2.0)
