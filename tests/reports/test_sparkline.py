"""Lines in a cell: nothing outside the box, gaps stay gaps, text that follows the values."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from reports.sparkline import HEIGHT, WIDTH, blocks_of, path_of, position_of

_VALUES = st.lists(st.none() | st.floats(-1e9, 1e9), min_size=2, max_size=100)


@given(_VALUES)
def test_every_known_value_has_a_point_within_the_box(values: list[float | None]) -> None:
    points = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path_of(values))
    known = sum(v is not None for v in values)
    assert len(points) == (known if known >= 2 else 0)
    assert all(0 <= float(x) <= WIDTH and 0 <= float(y) <= HEIGHT for x, y in points)


def test_a_gap_lifts_the_pen_and_more_is_higher() -> None:
    path = path_of([0.0, 1.0, None, 0.5])
    assert re.findall("[ML]", path) == ["M", "L", "M"]
    ys = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)]
    assert ys[1] < ys[2] < ys[0]


def test_text_follows_the_values() -> None:
    assert blocks_of([0.0, 7.0, None, 3.5]) == "▁█ ▅"
    assert blocks_of([1.0, 1.0]) == "▅▅" and blocks_of([1.0]) == ""
    assert len(blocks_of([float(i) for i in range(90)])) == 30


def test_a_mark_stands_where_its_value_is() -> None:
    values = [1.0, 2.0, 3.0]
    xs = [float(x) for x, _ in re.findall(r"([\d.]+) ([\d.]+)", path_of(values))]
    assert [position_of(values, i) for i in range(3)] == xs
    assert position_of(values, 3) is None
