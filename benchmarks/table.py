"""Raw rows of ``benchmarks.peers`` as Markdown tables. Pure.

A cell is the median over the repeats, with the lowest and highest where they differ as shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]
Cell = Callable[[Sequence[Row]], str]

MISSING = "–"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def markdown(rows: Sequence[Row]) -> str:
    """How true and at what cost of the paced points, and the no-op points; tables without a row
    are left out. Points and tools keep the order in which they first come."""
    paced = [row for row in rows if not is_noop(row)]
    tables = ((paced, _TRUTH), (paced, _COST), ([row for row in rows if is_noop(row)], _NOOP))
    return "\n".join(_table(group, columns) for group, columns in tables if group)


def placed(page: str, tables: str) -> str:
    """``page`` with what stands between its two marks replaced. Raise ValueError without marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or, after it, {END}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def is_noop(row: Row) -> bool:
    return bool(row["point"].startswith("noop"))


def _table(rows: Sequence[Row], columns: Sequence[tuple[str, Cell]]) -> str:
    lines = [
        _line(["point", "client", "runs", *(name for name, _ in columns)]),
        _line(["---"] * (len(columns) + 3)),
    ]
    for point in _in_order(row["point"] for row in rows):
        for tool in _in_order(row["tool"] for row in rows if row["point"] == point):
            group = [row for row in rows if (row["point"], row["tool"]) == (point, tool)]
            lines.append(_line([point, tool, _runs(group), *(cell(group) for _, cell in columns)]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _runs(group: Sequence[Row]) -> str:
    """How many runs; and of how many, where some gave no result."""
    told = sum(row["reported"]["num_ok"] is not None for row in group)
    return str(told) if told == len(group) else f"{told} of {len(group)}"


def spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    """``median (lowest … highest)``; equal ones, as shown, are shown once."""
    if not values:
        return MISSING
    low, middle, high = min(values), statistics.median(values), max(values)
    if show(low) == show(high):
        return show(middle)
    return f"{show(middle)} ({show(low)} … {show(high)})"


def _numbers(group: Sequence[Row], *path: str) -> list[float]:
    found = []
    for row in group:
        value: Any = row
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            found.append(float(value))
    return found


def _shown(show: Callable[[float], str], *path: str) -> Cell:
    return lambda group: spread(_numbers(group, *path), show)


def percent(share: float) -> str:
    """0.016 → ``+1.6 %``; from tenfold on a multiple: 16 → ``×17``."""
    if share >= 9.0:
        return f"×{1 + share:,.0f}"
    words = f"{share:+.1%}".replace("%", " %")
    return words[1:] if words[1:] == "0.0 %" else words


def _ms(digits: int) -> Callable[[float], str]:
    return lambda seconds: f"{seconds * 1e3:,.{digits}f}"


def _valid(group: Sequence[Row]) -> str:
    said = [row["reported"]["is_valid"] for row in group]
    if all(value is None for value in said):
        return MISSING
    return f"{sum(value is True for value in said)} of {len(said)}"


def _sent(group: Sequence[Row]) -> str:
    """Of an open loop; a closed loop has no rate to keep, and starts all users at once."""
    asked = [row for row in group if row["offered_rate"] is not None]
    return spread(_numbers(asked, "truth", "arrival_rate"), lambda v: f"{v:.1f}")


_SENT = ("sent/s", _sent)
_CPU = ("CPU s per 1,000 tokens", _shown(lambda v: f"{v:.4f}", "load_cpu_s_per_1000_tokens"))
_MEMORY = ("peak memory, MB", _shown(lambda v: f"{v / 1e6:,.0f}", "weighed", "peak_rss_bytes"))
_VALID = ("said valid", _valid)
_TRUTH: tuple[tuple[str, Cell], ...] = (
    _SENT,
    ("tokens/s", _shown(lambda v: f"{v:,.0f}", "truth", "tokens_per_s")),
    *(
        (f"{metric.upper()} {p}", _shown(percent, "error", f"{metric}_s_{p}"))
        for metric in ("ttft", "tpot", "itl")
        for p in ("p50", "p99")
    ),
    _VALID,
    ("server late p99, ms", _shown(_ms(2), "truth", "late_p99_s")),
)
_COST: tuple[tuple[str, Cell], ...] = (
    _CPU,
    ("CPU s before the load", _shown(lambda v: f"{v:.1f}", "cpu_s_before_first_request")),
    _MEMORY,
    ("first contact, s", _shown(lambda v: f"{v:.2f}", "first_contact_s")),
    ("first request, s", _shown(lambda v: f"{v:.2f}", "first_request_s")),
)
_NOOP: tuple[tuple[str, Cell], ...] = (
    _SENT,
    ("TTFT p50, ms", _shown(_ms(2), "reported", "ttft_s", "p50")),
    ("TTFT p99, ms", _shown(_ms(2), "reported", "ttft_s", "p99")),
    ("own lag p99, ms", _shown(_ms(2), "reported", "dispatch_lag_s", "p99")),
    _CPU,
    _MEMORY,
    _VALID,
)
