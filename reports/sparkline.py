"""A series as a line small enough for a table's cell: an SVG path, or block characters. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

WIDTH, HEIGHT = 120, 24  # pixels, of the SVG's view box
_PAD = 2.0
_BLOCKS = "▁▂▃▄▅▆▇█"
_TEXT_WIDTH = 30  # characters; of a longer series its newest values

Values = Sequence[float | None]


def path_of(values: Values) -> str:
    """An SVG path over all values, evenly spaced; a gap where there is none. "" below two."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    span = high - low or 1.0
    step = (WIDTH - 2 * _PAD) / (len(values) - 1)
    parts, drawing = [], False
    for i, value in enumerate(values):
        if value is None or not math.isfinite(value):
            drawing = False
            continue
        # A level series lies in the middle, where nobody takes it for the lowest.
        share = (value - low) / span if high > low else 0.5
        x, y = _PAD + i * step, HEIGHT - _PAD - share * (HEIGHT - 2 * _PAD)
        parts.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        drawing = True
    return "".join(parts)


def position_of(values: Values, index: int) -> float | None:
    """Where value ``index`` lies across the view box; None where it is not drawn."""
    if len(values) < 2 or not 0 <= index < len(values):
        return None
    return _PAD + index * (WIDTH - 2 * _PAD) / (len(values) - 1)


def blocks_of(values: Values) -> str:
    """The same for text: ``▁▂▅▇``; a space where there is no value."""
    shown = values[-_TEXT_WIDTH:]
    known = [v for v in shown if v is not None and math.isfinite(v)]
    if len(known) < 2:
        return ""
    low, high = min(known), max(known)
    span = high - low

    def block(value: float | None) -> str:
        if value is None or not math.isfinite(value):
            return " "
        share = (value - low) / span if span else 0.5
        return _BLOCKS[min(int(share * len(_BLOCKS)), len(_BLOCKS) - 1)]

    return "".join(map(block, shown))
