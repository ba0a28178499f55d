"""The picture and the tables of collectives say what the measurements say."""

from __future__ import annotations

import altair as alt
import pytest

from harness.cli.collectives_tables import collective_tables
from reports.plots_collectives import busbw_plot, fits_table
from results.collectives import rows_of
from results.measurement import Measurement


def measured() -> tuple[Measurement, ...]:
    def one(metric: str, value: float | None, group: str, statistic: str = "value") -> Measurement:
        reason = "" if value is not None else "2 sizes"
        low, high = (None, None) if value is None else (value * 0.9, value * 1.1)
        return Measurement(
            metric=metric, statistic=statistic, value=value, n=20, low=low, high=high,
            reason=reason, group=group,
        )  # fmt: skip

    found = []
    for name, rate in (("all_reduce", 1e9), ("all_gather", 2e9)):
        for size in ("1 KiB", "1 MiB"):
            group = f"{name}/4 ranks/{size}"
            found += [one("collective_time_s", 1e-4, group, s) for s in ("mean", "p50")]
            found += [one("algbw", rate, group), one("busbw", 1.5 * rate, group)]
    found += [
        one("alpha_s", 2e-5, "all_reduce/4 ranks"),
        one("alpha_s", None, "all_gather/4 ranks"),
    ]
    found += [
        one("beta_s_per_byte", 3e-10, "all_reduce/4 ranks"),
        one("beta_s_per_byte", None, "all_gather/4 ranks"),
    ]
    return tuple(found)


ROWS = rows_of(measured())
SIZES = [row for row in ROWS if row.size_bytes]


def test_the_picture_has_every_point() -> None:
    plot = busbw_plot(SIZES, "busbw")
    assert plot is not None
    (data,) = [rows[0] for rows in plot.spec["datasets"].values()]
    assert data["collective"] == ["all_reduce"] * 2 + ["all_gather"] * 2
    assert data["size"] == [1024, 2**20] * 2
    assert data["busbw"] == [1.5e9, 1.5e9, 3e9, 3e9]
    assert data["low"] == pytest.approx([0.9 * v for v in data["busbw"]])
    assert "the highest is 3.00 GB/s in all_gather of 1 KiB" in plot.description
    assert [mark.name for mark in plot.marks] == ["all_reduce", "all_gather"]
    alt.Chart.from_dict(dict(plot.spec))  # raises where Vega-Lite's schema is not kept
    assert busbw_plot([], "busbw") is None


def test_the_table_of_fits_says_why_there_is_none() -> None:
    table = fits_table([row for row in ROWS if not row.size_bytes])
    assert table is not None
    (first, second) = table.rows
    assert [cell.text for cell in first[:3]] == ["all_reduce", "20.0 µs", "300 ps/byte"]
    assert [cell.text for cell in second[:3]] == ["all_gather", "n/a", "n/a"]
    assert second[3].text == "2 sizes"
    assert fits_table([]) is None


def test_the_terminal_has_both_tables() -> None:
    sizes, fits = collective_tables(measured())
    assert (sizes.row_count, fits.row_count) == (4, 2)
    assert [table.row_count for table in collective_tables([])] == [0, 0]
