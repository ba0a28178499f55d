"""α and β: known ones come back, intervals cover, and a second regime is seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from results.alpha_beta import AlphaBeta, fit_alpha_beta

SIZES = np.array([1024.0 * 4**k for k in range(9)])


def fitted(times_s: np.ndarray, sizes: np.ndarray = SIZES, m: int = 6, f: float = 1.5) -> AlphaBeta:
    found = fit_alpha_beta(sizes, times_s, num_messages=m, share_sent=f)
    assert isinstance(found, AlphaBeta), found
    return found


@settings(max_examples=60, deadline=None)
@given(
    alpha=st.floats(1e-7, 1e-3),
    beta=st.floats(1e-12, 1e-8),
    ranks=st.integers(2, 512),
)
def test_exact_times_give_the_numbers_they_were_made_from(
    alpha: float, beta: float, ranks: int
) -> None:
    m, f = 2 * (ranks - 1), 2.0 * (ranks - 1) / ranks
    found = fitted(m * alpha + f * SIZES * beta, m=m, f=f)
    assert found.beta.value == pytest.approx(beta, rel=1e-6)
    assert found.alpha.value == pytest.approx(alpha, rel=1e-4)
    assert found.largest_residual < 1e-6


def test_the_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(5)
    alpha, beta, covered = 20e-6, 4e-10, [0, 0]
    for _ in range(150):
        noise = 1.0 + 0.05 * generator.standard_normal(len(SIZES))
        found = fitted((6 * alpha + 1.5 * SIZES * beta) * noise)
        covered[0] += found.alpha.low <= alpha <= found.alpha.high
        covered[1] += found.beta.low <= beta <= found.beta.high
    assert 0.92 * 150 <= min(covered) <= max(covered) <= 0.98 * 150


def test_a_change_of_protocol_is_seen_and_one_line_has_none() -> None:
    generator = np.random.default_rng(6)
    noise = 1.0 + 0.01 * generator.standard_normal(len(SIZES))
    one = 120e-6 + SIZES * 6e-10
    two = np.where(SIZES < 2**18, one, 900e-6 + SIZES * 2e-10)
    assert fitted(one * noise).second_from_bytes is None
    seen = fitted(two * noise)
    assert seen.second_from_bytes == 2**18
    assert "from 262144 bytes on" in seen.told()
    assert seen.largest_residual > 0.2


def test_false_alarms_of_a_second_line_are_rare() -> None:
    generator = np.random.default_rng(7)
    alarms = 0
    for _ in range(100):
        noise = 1.0 + 0.05 * generator.standard_normal(len(SIZES))
        alarms += fitted((120e-6 + SIZES * 6e-10) * noise).second_from_bytes is not None
    assert alarms <= 4  # 1 % asked for


def test_too_few_sizes_have_no_line() -> None:
    reason = fit_alpha_beta(SIZES[:3], np.ones(3), num_messages=2, share_sent=1.0)
    assert reason == "3 sizes; a line with an interval needs at least 4"
    same = fit_alpha_beta(np.full(9, 1024.0), np.ones(9), num_messages=2, share_sent=1.0)
    assert isinstance(same, str)
