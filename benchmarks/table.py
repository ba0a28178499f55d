"""Raw rows of ``benchmarks.peers`` as one Markdown table. Pure.

A cell is the median over the repeats, with the lowest and highest where there is more than one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Row = dict[str, Any]

MISSING = "–"


def markdown(rows: Sequence[Row]) -> str:
    """One line per tool and point, in the order in which they first come."""
    head = [name for name, _ in _COLUMNS]
    lines = [_line(["point", "client", "runs", *head]), _line(["---"] * (len(head) + 3))]
    for point in _in_order(row["point"] for row in rows):
        for tool in _in_order(row["tool"] for row in rows if row["point"] == point):
            group = [row for row in rows if (row["point"], row["tool"]) == (point, tool)]
            cells = [cell(group) for _, cell in _COLUMNS]
            lines.append(_line([point, tool, str(len(group)), *cells]))
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


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


def _shown(show: Callable[[float], str], *path: str) -> Callable[[Sequence[Row]], str]:
    return lambda group: spread(_numbers(group, *path), show)


def _percent(value: float) -> str:
    """Shares beyond tenfold are said as a multiple: +1,640 % is harder to read than ×17."""
    if value >= 9.0:
        return f"×{1 + value:,.0f}"
    return f"{value:+.1%}".replace("%", " %")


def _valid(group: Sequence[Row]) -> str:
    said = [row["reported"]["is_valid"] for row in group]
    if all(value is None for value in said):
        return MISSING
    return f"{sum(value is True for value in said)} of {len(said)}"


_COLUMNS: tuple[tuple[str, Callable[[Sequence[Row]], str]], ...] = (
    ("sent/s", _shown(lambda v: f"{v:.1f}", "truth", "arrival_rate")),
    ("tokens/s", _shown(lambda v: f"{v:,.0f}", "truth", "tokens_per_s")),
    ("TTFT p50", _shown(_percent, "error", "ttft_s_p50")),
    ("TTFT p99", _shown(_percent, "error", "ttft_s_p99")),
    ("TPOT p50", _shown(_percent, "error", "tpot_s_p50")),
    ("TPOT p99", _shown(_percent, "error", "tpot_s_p99")),
    ("ITL p50", _shown(_percent, "error", "itl_s_p50")),
    ("ITL p99", _shown(_percent, "error", "itl_s_p99")),
    ("CPU s / 1,000 tokens", _shown(lambda v: f"{v:.4f}", "load_cpu_s_per_1000_tokens")),
    ("CPU s before", _shown(lambda v: f"{v:.1f}", "cpu_s_before_first_request")),
    ("peak memory MB", _shown(lambda v: f"{v / 1e6:,.0f}", "weighed", "peak_rss_bytes")),
    ("first contact s", _shown(lambda v: f"{v:.2f}", "first_contact_s")),
    ("first request s", _shown(lambda v: f"{v:.2f}", "first_request_s")),
    ("server late p99 ms", _shown(lambda v: f"{v * 1e3:.2f}", "truth", "late_p99_s")),
    ("said valid", _valid),
)
