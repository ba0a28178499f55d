"""The statistic of steps against closed forms, and its null against scipy and fresh noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reports.noise import PROMISED, drifting, spiked, white
from reports.null_table import null_table
from reports.steps import MIN_NIGHTS, Panel, judge, judge_newest, variance
from reports.steps_null import ALPHA, EDGES, QUOTIENTS, SHARES, highest_called, p_values


def judged(values: np.ndarray) -> Panel:
    return judge(values, np.zeros(values.shape, np.int64))


@pytest.mark.parametrize(("m", "n"), [(1, 8), (3, 4), (7, 21), (20, 55)])
def test_the_variance_of_a_contrast_is_that_of_the_matrix(m: int, n: int) -> None:
    white_part, drift_part = 0.7, 0.2
    t = np.arange(1, m + n + 1)
    covariance = white_part * np.eye(m + n) + drift_part * np.minimum.outer(t, t)
    contrast = np.concatenate([np.full(n, -1.0 / n), np.full(m, 1.0 / m)])
    truth = contrast @ covariance @ contrast
    found = variance(np.array(white_part), np.array(drift_part), m, n)
    assert float(found) == pytest.approx(truth)


def test_the_spread_is_learned_from_the_series() -> None:
    rng = np.random.default_rng(1)
    panel = judged(white(rng, 400, 150))
    late = panel.z[:, -1] > 0
    scaled = panel.size[late, -1] / panel.spread[late, -1]
    assert late.mean() > 0.9 and np.mean(np.abs(scaled) < 5.0) > 0.99
    assert float(np.median(panel.apart[:, -1])) == pytest.approx(0.03 * np.sqrt(2.0), rel=0.1)


def test_nothing_is_judged_before_there_is_a_history() -> None:
    panel = judged(white(np.random.default_rng(2), 50, 40))
    first = np.argmax(panel.noise > 0, axis=1)
    assert np.all(panel.z[:, :MIN_NIGHTS] == 0.0) and np.all(first > MIN_NIGHTS)


def test_blocks_never_reach_across_a_known_step() -> None:
    rng = np.random.default_rng(3)
    values = white(rng, 100, 120) / 10.0
    values[:, 60:] += 0.2
    segment = np.where(np.arange(120) >= 60, 60, 0) * np.ones((100, 1), np.int64)
    told, not_told = judge(values, segment), judged(values)
    assert np.all(np.max(not_told.z[:, 60:70], axis=1) > 10.0)
    assert np.mean(np.max(told.z[:, 60:], axis=1) > 10.0) < 0.02
    assert np.all(told.noise[:, -1] > 60)  # the noise of the level before still counts


def test_what_is_known_later_changes_no_earlier_night() -> None:
    values = spiked(np.random.default_rng(4), 30, 120)
    whole, half = judged(values), judged(values[:, :80])
    np.testing.assert_allclose(whole.z[:, :80], half.z, rtol=1e-12)
    newest = judge_newest(values, np.zeros(values.shape, np.int64))
    before = judge_newest(values[:, :80], np.zeros((30, 80), np.int64))
    np.testing.assert_allclose(newest.z[:, :80], before.z, rtol=1e-12)


def test_a_lone_spike_is_no_step() -> None:
    values = white(np.random.default_rng(5), 200, 100) / 3.0
    values[:, 80] += 0.3  # thirty usual distances
    after = np.max(judged(values).z[:, 80:], axis=1)
    assert np.mean(after > 5.0) < 0.02


def test_a_rounded_metric_has_a_grain() -> None:
    rng = np.random.default_rng(6)
    values = np.log(np.where(rng.random((20, 100)) < 0.1, 14.0, 13.0))
    panel = judged(values)
    known = panel.noise[:, -1] > 0
    np.testing.assert_allclose(panel.grain[known, -1], np.log(14.0 / 13.0))
    steady = np.zeros((1, 100))
    steady[:, 60:] = 0.1
    assert judged(steady).grain[0, 64] == 0.0  # the step itself is no grain


def test_p_values_are_the_tables() -> None:
    for low, row in zip(EDGES[:-1], QUOTIENTS, strict=True):
        found = p_values(np.array(row), np.full(len(row), low))
        np.testing.assert_allclose(found, SHARES)
        far = p_values(np.array([row[-1] * 1.5, 1e9]), np.full(2, low))
        assert SHARES[-1] > far[0] > far[1] > 0.0
    assert p_values(np.array([99.0]), np.array([0]))[0] == 1.0  # no history, no p-value
    assert p_values(np.array([1.0]), np.array([50]))[0] == 1.0


def test_a_longer_history_never_asks_for_more() -> None:
    table = np.array(QUOTIENTS)
    assert np.all(np.diff(table, axis=0) <= 0.0) and np.all(np.diff(table, axis=1) > 0.0)


def test_the_table_is_what_noise_does() -> None:
    fresh = np.array(null_table(num_series=30, seed=99))
    # Few series tell little of the tail: the shares down to 1 %, to a tenth of the quotient.
    np.testing.assert_allclose(fresh[1:, :3], np.array(QUOTIENTS)[1:, :3], rtol=0.25)


def test_false_discoveries_are_scipys() -> None:
    rng = np.random.default_rng(7)
    p = np.concatenate([rng.random(80), rng.random(20) * 1e-3])
    called = p <= highest_called(p, 0.1)
    truth = stats.false_discovery_control(p, method="bh") <= 0.1
    assert called.sum() > 10
    np.testing.assert_array_equal(called, truth)
    assert highest_called(np.array([]), 0.1) == 0.0
    assert highest_called(np.array([0.9, 0.8]), 0.1) == pytest.approx(0.05)


@pytest.mark.parametrize("family", sorted(PROMISED))
def test_null_series_keep_silent(family: str) -> None:
    values = PROMISED[family](np.random.default_rng(8), 150, 90)
    panel = judged(values)
    alarmed = np.any(p_values(panel.z, panel.noise) <= ALPHA, axis=1)
    # At a true rate of 5 %, 15 and more of 150 have a chance of 1 in 100.
    assert alarmed.sum() <= 14


def test_a_step_as_large_as_the_drift_is_none() -> None:
    values = drifting()(np.random.default_rng(9), 150, 120)
    values[:, 100:] += 0.01
    panel = judged(values)
    p = p_values(panel.z, panel.noise)[:, 100:]
    assert np.mean(np.any(p <= ALPHA, axis=1)) < 0.05
