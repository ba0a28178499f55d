"""The rates that are promised, counted: a few hundred series here, the slow one with thousands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.calibration import (
    BLOCKED,
    INTERLEAVED,
    LEVELS,
    PROMISE,
    STEPS,
    YOUNG_NOISE,
    Calibration,
    Share,
    calibrate,
    share_of,
)
from reports.noise import OTHERS, PROMISED
from reports.noise_unseen import UNSEEN


@pytest.fixture(scope="module")
def found() -> Calibration:
    return calibrate(num_series=48, seed=5)


def of_pairs(found: Calibration, design: str, k: int, step: float) -> Share:
    (one,) = (p for p in found.pairs if (p.design, p.num_pairs, p.step) == (design, k, step))
    return one.called


def test_every_family_and_step_is_counted(found: Calibration) -> None:
    assert [f.family for f in found.false_alarms] == [*PROMISED, *OTHERS, *UNSEEN]
    assert {p.family for p in found.powers} == set(PROMISED)
    assert all(p.found.num == 48 for p in found.powers)


def test_more_is_found_of_larger_steps(found: Calibration) -> None:
    for family in PROMISED:
        for level in LEVELS:
            mine = [p for p in found.powers if (p.family, p.level) == (family, level)]
            counts = [p.found.count for p in mine]
            assert [p.step for p in mine] == list(STEPS) and counts[-1] == max(counts)
    (large,) = (p for p in found.powers if (p.family, p.level, p.step) == ("white", 0.03, 0.10))
    assert large.found.share > 0.8 and large.median_nights is not None
    assert large.median_nights <= 10  # three loud nights are no step yet


def test_less_is_found_in_more_noise(found: Calibration) -> None:
    for family in PROMISED:
        shares = [p.found.count for p in found.powers if (p.family, p.step) == (family, 0.05)]
        assert shares[0] > shares[-1], family


def test_young_series_are_counted(found: Calibration) -> None:
    assert [(y.between, y.within) for y in found.young] == list(YOUNG_NOISE)
    by = {(y.between, y.within): y for y in found.young}
    calm, wild = by[0.01, 0.01], by[0.05, 0.01]
    assert calm.ever.count <= 3 and all(f.share > 0.6 for f in calm.found)
    assert wild.ever.count > calm.ever.count  # what nights differ by is not known at first
    assert by[0.01, 0.05].second.count <= 3  # repeats that differ are not clear


def test_interleaved_pairs_hold_where_blocks_do_not(found: Calibration) -> None:
    assert of_pairs(found, INTERLEAVED, 8, 0.0).count <= 7  # of 48: 1 in 200 at a true 5 %
    assert of_pairs(found, BLOCKED, 8, 0.0).share > 0.2  # 39 % by the field notes
    assert of_pairs(found, INTERLEAVED, 8, 0.05).share > 0.9


def test_the_same_seed_counts_the_same() -> None:
    said: list[tuple[str, str, int, int]] = []
    again = [calibrate(num_series=4, seed=6, say=lambda *told: said.append(told)) for _ in range(2)]
    assert again[0] == again[1]
    done = [told[2] for told in said]
    total = said[0][3]
    assert done == [*range(total), *range(total)]  # progress reaches its end, and only then


def test_a_share_has_its_interval() -> None:
    none = share_of(np.zeros(60, np.bool_))
    # Clopper–Pearson of 0 of 60.
    assert (none.count, none.low) == (0, 0.0)
    assert none.high == pytest.approx(1.0 - math.pow(0.025, 1.0 / 60))


@pytest.mark.timeout(600)
def test_the_promise_is_kept() -> None:
    """The table of ``windtunnel nightly --calibrate``, with fewer series."""
    found = calibrate(num_series=200)
    assert found.kept
    for family in found.false_alarms:
        if family.promised:
            assert max(family.young.share, family.old.share) <= PROMISE, family.family
    for k in (5, 8):
        assert of_pairs(found, INTERLEAVED, k, 0.0).share <= PROMISE
