"""Changes with their intervals, one line per metric, beside the band of what is no change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from reports.change_words import change_text, interval_text, label, verdict_text
from reports.compare import Change, Scale, Verdict
from reports.model import Mark, Plot
from reports.plots import MUTED, finish, plain_axis, rows_of, summary

COLORS = {
    Verdict.REGRESSED: "var(--bad)",
    Verdict.IMPROVED: "var(--good)",
    Verdict.UNCHANGED: "var(--ink)",
    Verdict.INCONCLUSIVE: "var(--warn)",
}
_ROW = 26  # pixels


def changes_plot(changes: Sequence[Change], margin: float) -> Plot | None:
    """Ratios only: a difference of shares has no place on an axis of percents."""
    shown = [c for c in changes if c.scale is Scale.RATIO and c.change is not None]
    if not shown:
        return None
    columns: dict[str, list[Any]] = {
        "name": [label(c) for c in shown],
        "change": [c.change for c in shown],
        "low": [c.low for c in shown],
        "high": [c.high for c in shown],
        "verdict": [c.verdict.value for c in shown],
    }
    found = list(dict.fromkeys(c.verdict for c in shown))
    color = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=[v.value for v in found], range=[COLORS[v] for v in found]),
        legend=None,
    )
    y = alt.Y("name:N", sort=columns["name"], title=None)
    x = alt.X("change:Q", axis=plain_axis("change, B against A", format="+.1%"))
    base = rows_of(columns)
    band = rows_of({"from": [-margin], "to": [margin]}).mark_rect(color=MUTED, opacity=0.15)
    spec = finish(
        alt.layer(
            band.encode(
                x=alt.X("from:Q", axis=plain_axis("change, B against A", format="+.1%")), x2="to:Q"
            ),
            base.mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q", y=y, color=color),
            base.mark_circle(size=70, opacity=1).encode(x=x, y=y, color=color),
        ),
        _ROW * len(shown) + 20,
    )
    return Plot(
        key="changes",
        title="Changes and their 95 % intervals",
        spec=spec,
        description=f"A line per metric. The grey band is ±{100 * margin:g} %: no change.",
        summary=summary(
            "Changes",
            ("metric", "change", "95 % interval", "verdict"),
            [(label(c), change_text(c), interval_text(c), verdict_text(c)) for c in shown],
        ),
        marks=tuple(Mark(name=v.value, color=COLORS[v]) for v in found),
        wide=True,
    )
