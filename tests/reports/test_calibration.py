"""The rates that are promised, counted: a few hundred series here, the slow one with thousands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.calibration import (
    BLOCKED,
    INTERLEAVED,
    PROMISE,
    Calibration,
    Share,
    calibrate,
    share_of,
)
from reports.noise import OTHERS, PROMISED


@pytest.fixture(scope="module")
def found() -> Calibration:
    return calibrate(num_series=60, seed=5)


def of_pairs(found: Calibration, design: str, k: int, step: float) -> Share:
    (one,) = (p for p in found.pairs if (p.design, p.num_pairs, p.step) == (design, k, step))
    return one.called


def test_every_family_and_step_is_counted(found: Calibration) -> None:
    assert [f.family for f in found.false_alarms] == [*PROMISED, *OTHERS]
    assert {p.family for p in found.powers} == set(PROMISED)
    assert all(p.found.num == 60 for p in found.powers)


def test_more_is_found_of_larger_steps(found: Calibration) -> None:
    for family in PROMISED:
        counts = [p.found.count for p in found.powers if p.family == family]
        assert counts[-1] == max(counts)
    (large,) = (p for p in found.powers if (p.family, p.step) == ("white", 0.10))
    assert large.found.share > 0.6 and large.median_nights is not None
    assert large.median_nights <= 7


def test_interleaved_pairs_hold_where_blocks_do_not(found: Calibration) -> None:
    assert of_pairs(found, INTERLEAVED, 8, 0.0).count <= 8  # of 60: 1 in 200 at a true 5 %
    assert of_pairs(found, BLOCKED, 8, 0.0).share > 0.2  # 39 % by the field notes
    assert of_pairs(found, INTERLEAVED, 8, 0.05).share > 0.9


def test_the_same_seed_counts_the_same() -> None:
    again = [calibrate(num_series=8, seed=6) for _ in range(2)]
    assert again[0] == again[1]


def test_a_share_has_its_interval() -> None:
    none = share_of(np.zeros(60, np.bool_))
    # Clopper–Pearson of 0 of 60.
    assert (none.count, none.low) == (0, 0.0)
    assert none.high == pytest.approx(1.0 - math.pow(0.025, 1.0 / 60))


@pytest.mark.alone
@pytest.mark.timeout(600)
def test_the_promise_is_kept() -> None:
    """The table of ``windtunnel nightly --calibrate``, with fewer series."""
    found = calibrate(num_series=300)
    assert found.kept
    for family in found.false_alarms:
        if family.promised:
            assert max(family.young.share, family.old.share) <= PROMISE, family.family
    for k in (5, 8):
        assert of_pairs(found, INTERLEAVED, k, 0.0).share <= PROMISE
