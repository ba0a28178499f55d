"""The extrapolation on published tables; their numbers against the publishers' own ratios."""

from __future__ import annotations

from statistics import fmean

import pytest

from results.scaling.public import Checked, check, public_table


@pytest.fixture(scope="module")
def maxtext() -> tuple[Checked, ...]:
    return tuple(check(public_table("maxtext_v5e"), 2048, 256))


def test_the_tables_are_the_published_ones() -> None:
    table = public_table("maxtext_v5e")
    assert set(table.series) == {"16B", "32B", "64B", "128B"}
    assert all(list(s) == [256 * 2**i for i in range(6)] for s in table.series.values())
    # Efficiency at 32 slices from the same table's TFLOP/s per chip, which are whole numbers.
    tflops = {"16B": 108 / 120, "32B": 119 / 132, "64B": 99 / 118, "128B": 91 / 110}
    for name, seen in table.series.items():
        assert seen[8192] / seen[256] == pytest.approx(tflops[name], abs=0.01)
    titan = public_table("torchtitan_h100").series
    assert titan["FSDP"][128] / titan["FSDP"][8] == pytest.approx(0.973, abs=5e-4)
    for name in ("maxtext_v5e", "torchtitan_h100", "mpt_a100"):
        assert "commit" in public_table(name).about


def test_maxtext_up_to_eight_slices_predicts_sixteen_and_thirty_two(
    maxtext: tuple[Checked, ...],
) -> None:
    assert len(maxtext) == 8
    usual = [c for c in maxtext if c.series != "128B"]
    assert fmean(abs(c.error) for c in usual) <= 0.02
    assert sum(c.is_inside for c in maxtext) >= 7
    # Not by intervals that hold anything: within 4 doublings of what was seen they stay below 20
    # points where the series does not bend.
    widths = [(c.predicted.high or 0.0) - (c.predicted.low or 0.0) for c in usual]
    assert max(widths) < 0.2


def test_mpt_up_to_64_gpus_predicts_128() -> None:
    found = tuple(check(public_table("mpt_a100"), 64, 8))
    assert len(found) == 3
    assert fmean(abs(c.error) for c in found) <= 0.02
    assert all(c.is_inside for c in found)
