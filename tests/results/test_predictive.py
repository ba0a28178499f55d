"""The predictive probability against simulation and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from results.predictive import at_most, at_most_one, together


def test_it_is_students_t() -> None:
    expected = stats.t.cdf((0.0 - -0.1) / (0.05 * math.sqrt(1.25)), df=3)
    assert at_most_one(0.0, -0.1, 0.05, 4) == pytest.approx(expected)
    found = at_most(0.0, np.array([-0.1, -0.1]), np.array([0.05, np.nan]), np.array([4.0, 4.0]))
    assert found[0] == pytest.approx(expected) and np.isnan(found[1])
    assert np.isnan(at_most(0.0, np.array([0.1]), np.array([0.1]), np.array([1.0])))[0]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_next_run_is_within_its_bound_as_often_as_it_says(level: float) -> None:
    """A fourth run of the same normal distribution: its own probability is uniform."""
    rng = np.random.default_rng(0)
    runs = rng.normal(0.0, 0.1, (40000, 4))
    mean, spread = runs[:, :3].mean(axis=1), runs[:, :3].std(axis=1, ddof=1)
    known = spread > 0.005
    said = [
        at_most_one(next_run, m, s, 3)
        for next_run, m, s in zip(runs[known, 3], mean[known], spread[known], strict=True)
    ]
    assert np.mean(np.array(said) <= level) == pytest.approx(level, abs=0.01)


def test_misses_add_up() -> None:
    assert together([0.9, 0.95]) == pytest.approx(0.85)
    assert together([]) == 1.0
    assert together([0.1, 0.1]) == 0.0
