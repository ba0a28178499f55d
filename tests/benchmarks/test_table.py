from __future__ import annotations

from typing import Any

import pytest

from benchmarks.table import BEGIN, END, markdown, percent, placed, spread


def row(tool: str, point: str = "open:400", **changes: Any) -> dict[str, Any]:
    return {
        "tool": tool,
        "point": point,
        "offered_rate": None if point.startswith("closed") else 400.0,
        "reported": {"num_ok": 10, "is_valid": None, "ttft_s": {"p50": 0.001, "p99": 0.01}},
        "truth": {"arrival_rate": 400.0, "tokens_per_s": 25_600.0, "late_p99_s": 0.0002},
        "error": {"ttft_s_p50": 0.01, "ttft_s_p99": 0.04},
        "weighed": {"peak_rss_bytes": 150e6},
        "load_cpu_s_per_1000_tokens": 0.02,
        "cpu_s_before_first_request": 1.25,
        "first_contact_s": 0.9,
        "first_request_s": 1.0,
    } | changes


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def table_of(text: str, number: int) -> list[dict[str, str]]:
    head, _, *rest = text.strip().split("\n\n")[number].splitlines()
    return [dict(zip(cells(head), cells(line), strict=True)) for line in rest]


def test_one_line_per_tool_and_point_with_the_spread_of_its_repeats() -> None:
    rows = [
        row("b"),
        row("a"),
        row("b", error={"ttft_s_p50": 0.03, "ttft_s_p99": None}),
        row("b", error={"ttft_s_p50": 0.02, "ttft_s_p99": 0.08}),
    ]
    first, second = table_of(markdown(rows), 0)
    assert (first["client"], first["runs"], second["client"]) == ("b", "3", "a")
    assert first["TTFT p50"] == "+2.0 % (+1.0 % … +3.0 %)"
    assert first["TTFT p99"] == "+6.0 % (+4.0 % … +8.0 %)"
    assert first["ITL p99"] == "–"
    assert second["sent/s"] == "400.0"
    assert table_of(markdown(rows), 1)[1]["CPU s per 1,000 tokens"] == "0.0200"


def test_a_run_without_a_result_is_counted_as_one() -> None:
    failed = row("a", reported={"num_ok": None, "is_valid": None})
    assert table_of(markdown([row("a"), failed]), 0)[0]["runs"] == "1 of 2"


def test_noop_points_have_a_table_of_their_own_and_say_what_was_valid() -> None:
    said = {"num_ok": 1, "is_valid": True, "ttft_s": {"p50": 0.001, "p99": 0.0123}}
    rows = [row("a", "noop:2000", reported=said | {"is_valid": v}) for v in (True, False)]
    (line,) = table_of(markdown(rows), 0)
    assert line["TTFT p99, ms"] == "12.30"
    assert line["said valid"] == "1 of 2"
    assert "own lag p99, ms" in line
    assert "TPOT p50" not in line


def test_a_closed_loop_keeps_no_rate() -> None:
    (line,) = table_of(markdown([row("a", "closed:64")]), 0)
    assert (line["sent/s"], line["tokens/s"]) == ("–", "25,600")


def test_spread_shows_equal_values_once() -> None:
    assert spread([0.10001, 0.10002], lambda v: f"{v:.2f}") == "0.10"
    assert spread([], str) == "–"


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.016, "+1.6 %"), (-0.5, "-50.0 %"), (8.9, "+890.0 %"), (16.0, "×17"), (-4e-4, "0.0 %")],
)
def test_large_errors_are_multiples(share: float, words: str) -> None:
    assert percent(share) == words


def test_tables_are_put_between_the_marks_of_a_page() -> None:
    page = f"above\n{BEGIN}\nold\n{END}\nbelow\n"
    once = placed(page, "| new |\n")
    assert once == f"above\n{BEGIN}\n\n| new |\n\n{END}\nbelow\n"
    assert placed(once, "| new |\n") == once
    with pytest.raises(ValueError, match="lacks"):
        placed("no marks", "")
