"""The statistic of steps against closed forms, and its null against scipy and fresh noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from reports.kinds import KINDS, MEMORY_NIGHTS, PHI, PRIOR, THETA, past_of
from reports.noise import PROMISED, autocorrelated, drifting, spiked, white
from reports.null_table import null_table
from reports.spikes import FLOOR, Clean, cleaned
from reports.steps import LOUD, LOUD_PRIOR, MIN_NIGHTS, SIZE, Panel, judge, judge_newest
from reports.steps_null import ALPHA, EDGES, EVIDENCE, SHARES, highest_called, p_values

FADE = 1.0 - 1.0 / MEMORY_NIGHTS


def judged(values: np.ndarray) -> Panel:
    return judge(values, np.zeros(values.shape, np.int64))


def filtered(signal: np.ndarray, phi: float, theta: float) -> np.ndarray:
    """The innovations that a signal leaves, by the recursion's matrix."""
    n = len(signal)
    lag = np.tri(n) - np.tri(n, k=-1)
    back = np.eye(n, k=-1)
    return np.linalg.solve(lag - theta * back, (lag - phi * back) @ signal)


def log_likelihood(
    values: np.ndarray,
    shapes: list[np.ndarray],
    prior: list[float],
    weights: np.ndarray,
    num: float,
) -> float:
    """Of normal values with unknown variance, about shapes whose sizes are normal with ``prior``
    as variances (in the values' own), but for what all such have in common."""
    covariance = np.diag(1.0 / weights)
    for shape, size in zip(shapes, prior, strict=True):
        covariance = covariance + size * np.outer(shape, shape)
    square = float(values @ np.linalg.solve(covariance, values)) + num * FLOOR**2
    return -0.5 * float(np.linalg.slogdet(covariance)[1]) - 0.5 * num * float(np.log(square))


def loud_prior(phi: float) -> float:
    """Of kinds whose memory is short; the others are not taken to be loud."""
    return float(np.log(LOUD_PRIOR)) if phi <= 0.2 else -np.inf


def test_the_evidence_is_that_of_the_whole_covariance() -> None:
    """Bayes' factor of every kind with its covariance written out, no sums that are carried on."""
    rng = np.random.default_rng(21)
    values = 0.01 * rng.standard_normal((8, 40))
    values[:, 34:] += 0.02
    m, t = 5, 39
    panel = judge(values, np.zeros(values.shape, np.int64), after=(m,))
    clean = cleaned(values)
    for row in range(len(values)):
        seen = clean.values[row, : t + 1].copy()
        seen[t - 2 :] = clean.recent[row, t, ::-1]
        faded = np.ones(t + 1)
        faded[: t - m + 1] = FADE ** np.arange(t - m, -1, -1.0)
        step = (np.arange(t + 1) > t - m).astype(float)
        calmer = np.where(step > 0, 1.0 / LOUD, faded)
        # The level's size costs one night, and that night fades like the others.
        num = float(np.sum(faded)) - faded[0] * FADE
        told = []
        for phi, theta, _ in KINDS:
            e, level, later = (
                filtered(x, phi, theta) for x in (seen - seen[0], np.ones(t + 1), step)
            )
            wide = 1e6  # a level of any size
            told.append(
                [
                    log_likelihood(e, [level], [wide], faded, num),
                    log_likelihood(e, [level, later], [wide, SIZE**2], faded, num),
                    log_likelihood(e, [level], [wide], calmer, num) + loud_prior(phi),
                ]
            )
        plain, with_step, loud = (
            np.logaddexp.reduce(PRIOR + np.array(told)[:, i]) for i in range(3)
        )
        without = np.logaddexp(plain, loud)
        assert panel.evidence[row, t] == pytest.approx(with_step - without, abs=0.02)


def test_innovations_are_the_kinds_own() -> None:
    """Noise of a kind, filtered by it, is what it was made of."""
    rng = np.random.default_rng(22)
    shocks = rng.standard_normal(200)
    for kind, (phi, theta) in enumerate(zip(PHI, THETA, strict=True)):
        noise = np.zeros(200)
        for t in range(1, 200):
            noise[t] = phi * noise[t - 1] + shocks[t] - theta * shocks[t - 1]
        clean = Clean(values=noise[None], recent=np.zeros((1, 200, 3)))
        found = past_of(clean, np.zeros((1, 200), np.int64)).innovations[:, kind, 0]
        # The recursion does not know the night before the first: θ^i of it is left after i.
        np.testing.assert_allclose(found[-5:], shocks[-5:], atol=3.0 * theta**190 + 1e-9)


def test_the_spread_is_learned_from_the_series() -> None:
    rng = np.random.default_rng(1)
    panel = judged(white(rng, 120, 150))
    late = panel.noise[:, -1] > 0
    scaled = panel.size[late, -1] / panel.spread[late, -1]
    assert late.mean() > 0.9 and np.mean(np.abs(scaled) < 5.0) > 0.99
    assert float(np.median(panel.apart[:, -1])) == pytest.approx(0.03 * np.sqrt(2.0), rel=0.1)


def test_noise_that_remembers_needs_more() -> None:
    """The spread of a step of the same noise a night: AR(0.6)'s long run is twice white noise's."""
    spreads = []
    for made in (white, autocorrelated(0.6)):
        values = made(np.random.default_rng(24), 40, 200)
        panel = judge(values, np.zeros(values.shape, np.int64), after=(28,))
        spreads.append(float(np.median(panel.spread[:, -1])))
    assert 1.3 < spreads[1] / spreads[0] < 2.2  # averaged over kinds: not quite known


def test_loud_nights_are_no_step() -> None:
    """The same three nights, once of a calm series and once of one that has become loud."""
    rng = np.random.default_rng(27)
    values = 0.01 * rng.standard_normal((100, 90))
    values[:, 80:] *= 5.0
    assert np.mean(judged(values).evidence[:, 80:] > 6.0) < 0.01
    stepped = 0.01 * rng.standard_normal((100, 90))
    stepped[:, 80:] += 0.1
    assert np.mean(np.max(judged(stepped).evidence[:, 80:], axis=1) > 6.0) > 0.95


def test_the_nights_before_since_are_read_and_not_judged() -> None:
    values = drifting()(np.random.default_rng(26), 20, 100)
    whole, late = judged(values), judge(values, np.zeros(values.shape, np.int64), since=70)
    np.testing.assert_array_equal(whole.evidence[:, 70:], late.evidence[:, 70:])
    assert not late.noise[:, :70].any()


def test_nothing_is_judged_before_there_is_a_history() -> None:
    panel = judged(white(np.random.default_rng(2), 50, 40))
    first = np.argmax(panel.noise > 0, axis=1)
    assert np.all(panel.evidence[:, :MIN_NIGHTS] == 0.0) and np.all(first > MIN_NIGHTS)


def test_blocks_never_reach_across_a_known_step() -> None:
    rng = np.random.default_rng(3)
    values = white(rng, 100, 120) / 10.0
    values[:, 60:] += 0.2
    segment = np.where(np.arange(120) >= 60, 60, 0) * np.ones((100, 1), np.int64)
    told, not_told = judge(values, segment), judged(values)
    assert np.all(np.max(not_told.evidence[:, 60:70], axis=1) > 10.0)
    assert np.mean(np.max(told.evidence[:, 60:], axis=1) > 10.0) < 0.02
    assert np.all(told.noise[:, -1] > 60)  # the noise of the level before still counts


def test_what_is_known_later_changes_no_earlier_night() -> None:
    values = spiked(np.random.default_rng(4), 30, 120)
    whole, half = judged(values), judged(values[:, :80])
    np.testing.assert_allclose(whole.evidence[:, :80], half.evidence, rtol=1e-12)
    newest = judge_newest(values, np.zeros(values.shape, np.int64))
    before = judge_newest(values[:, :80], np.zeros((30, 80), np.int64))
    np.testing.assert_allclose(newest.evidence[:, :80], before.evidence, rtol=1e-12)


def test_a_lone_spike_is_no_step() -> None:
    values = white(np.random.default_rng(5), 200, 100) / 3.0
    values[:, 80] += 0.3  # thirty usual distances
    after = np.max(judged(values).evidence[:, 80:], axis=1)
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
    for low, row in zip(EDGES[:-1], EVIDENCE, strict=True):
        found = p_values(np.array(row), np.full(len(row), low))
        np.testing.assert_allclose(found, SHARES)
        far = p_values(np.array([row[-1] * 1.5, 600.0]), np.full(2, low))
        assert SHARES[-1] > far[0] > far[1] > 0.0
    assert p_values(np.array([99.0]), np.array([0]))[0] == 1.0  # no history, no p-value
    assert p_values(np.array([-1.0]), np.array([50]))[0] == 1.0


def test_a_longer_history_never_asks_for_more() -> None:
    table = np.array(EVIDENCE)
    assert np.all(np.diff(table, axis=0) <= 0.0) and np.all(np.diff(table, axis=1) > 0.0)


def test_the_table_is_what_noise_does() -> None:
    fresh = np.array(null_table(num_series=20, seed=99))
    # Few series tell little of the tail: the shares down to 1 %, to a tenth of the quotient.
    np.testing.assert_allclose(fresh[1:, :3], np.array(EVIDENCE)[1:, :3], rtol=0.25)


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
    alarmed = np.any(p_values(panel.evidence, panel.noise) <= ALPHA, axis=1)
    # At a true rate of 5 %, 15 and more of 150 have a chance of 1 in 100.
    assert alarmed.sum() <= 14


def test_a_step_as_large_as_the_drift_is_none() -> None:
    values = drifting()(np.random.default_rng(9), 150, 120)
    values[:, 100:] += 0.01
    panel = judged(values)
    p = p_values(panel.evidence, panel.noise)[:, 100:]
    assert np.mean(np.any(p <= ALPHA, axis=1)) < 0.05
