"""Collectives as a table for a terminal: a line for each size, then α and β of each collective."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from results.collectives import CollectiveRow, rows_of, size_text
from results.measurement import Measurement
from results.metrics import metric
from results.units import NOT_AVAILABLE, format_interval, format_measurement, format_value


def collective_tables(measurements: Sequence[Measurement]) -> list[Table]:
    """The sizes, then the fits; each empty where a run has none."""
    rows = rows_of(measurements)
    return [_sizes([r for r in rows if r.size_bytes]), _fits([r for r in rows if not r.size_bytes])]


def _sizes(rows: Sequence[CollectiveRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("collective", "ranks", "size", "time p50", "95 % interval", "mean"):
        table.add_column(name, justify="left" if name == "collective" else "right")
    for name in ("algbw", "busbw", "95 % interval", "n"):
        table.add_column(name, justify="right")
    for row in rows:
        median = row.by.get(("collective_time_s", "p50"))
        bus = row.by.get(("busbw", "value"))
        table.add_row(
            row.collective,
            str(row.num_ranks),
            size_text(row.size_bytes),
            _value(median),
            _interval(median),
            _value(row.by.get(("collective_time_s", "mean"))),
            _value(row.by.get(("algbw", "value"))),
            _value(bus),
            _interval(bus),
            str(bus.n if bus else 0),
        )
    return table


def _fits(rows: Sequence[CollectiveRow]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("collective", "ranks", "α per message", "β per byte sent", "how"):
        table.add_column(name)
    for row in rows:
        alpha, beta = row.by[("alpha_s", "value")], row.by[("beta_s_per_byte", "value")]
        table.add_row(
            row.collective,
            str(row.num_ranks),
            format_measurement(alpha) if alpha.value is not None else NOT_AVAILABLE,
            format_measurement(beta) if beta.value is not None else NOT_AVAILABLE,
            alpha.method or beta.method or alpha.reason,
        )
    return table


def _value(m: Measurement | None) -> str:
    return NOT_AVAILABLE if m is None else format_value(m.value, metric(m.metric).unit)


def _interval(m: Measurement | None) -> str:
    return "" if m is None else format_interval(m.low, m.high, metric(m.metric).unit)
