"""Fronts and hypervolumes against shapes whose volume is known, and against Optuna's own."""

from __future__ import annotations

import numpy as np
import pytest
from optuna._hypervolume import compute_hypervolume

from tuners.goals import Goal
from tuners.pareto import hypervolume, hypervolumes, on_front, points_of


def test_goals_become_points_where_more_is_better() -> None:
    goals = [Goal(metric="output_throughput"), Goal(metric="ttft_s", statistic="p99")]
    points = points_of([{"output_throughput": 5.0, "ttft_s_p99": 0.2}], goals)
    assert points.tolist() == [[5.0, -0.2]]


def test_the_front_is_what_nothing_beats() -> None:
    points = np.array([[1.0, 4.0], [2.0, 3.0], [2.0, 2.0], [4.0, 1.0], [2.0, 3.0], [0.0, 4.0]])
    # Equal points stand together; (0, 4) is beaten by (1, 4).
    assert on_front(points).tolist() == [True, True, False, True, True, False]
    assert on_front(np.zeros((0, 2))).tolist() == []


def test_a_staircase_has_the_area_of_its_steps() -> None:
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [1.0, 1.0]])
    assert hypervolume(points, np.zeros(2)) == pytest.approx(3 + 2 + 1)
    assert hypervolume(points, np.array([5.0, 5.0])) == 0.0


@pytest.mark.parametrize("num_goals", [1, 2, 3, 4])
def test_volumes_agree_with_optunas(num_goals: int) -> None:
    points = np.random.default_rng(num_goals).random((25, num_goals))
    # Optuna minimises.
    want = compute_hypervolume(-points, np.zeros(num_goals), assume_pareto=False)
    assert hypervolume(points, np.zeros(num_goals)) == pytest.approx(want)


def test_the_share_covered_never_falls_and_one_point_at_the_best_corner_covers_all() -> None:
    points = np.random.default_rng(1).random((30, 2))
    shares = hypervolumes(points)
    assert (np.diff(shares) >= 0).all()
    assert 0 < shares[0] < shares[-1] < 1
    best = np.vstack([points, points.max(axis=0)])
    assert hypervolumes(best)[-1] == pytest.approx(1.0)
    assert hypervolumes(np.zeros((0, 2))).tolist() == []
    assert hypervolumes(np.ones((3, 2))).tolist() == [1.0, 1.0, 1.0]
