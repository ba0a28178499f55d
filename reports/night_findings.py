"""What moved in a night, each with its picture, its numbers and the command that looks again."""

from __future__ import annotations

from collections.abc import Sequence

from reports.confirm import Decision, Finding
from reports.model import (
    Badge,
    Block,
    Cell,
    Column,
    Fact,
    Facts,
    Listing,
    Paragraph,
    Plots,
    Section,
    Table,
    Tone,
)
from reports.night_told import NightTold
from reports.plots_night import history_plot
from reports.series import Series
from results.metrics import metric
from results.units import format_change, format_value, metric_label

MOST_PLOTS = 12  # findings that have a picture; the rest have their numbers
TONES: dict[Finding, Tone] = {
    Finding.REGRESSION: "bad",
    Finding.SUSPECTED: "warn",
    Finding.ENVIRONMENT: "warn",
    Finding.IMPROVEMENT: "good",
}
_MOVED = (
    Finding.REGRESSION,
    Finding.SUSPECTED,
    Finding.ENVIRONMENT,
    Finding.IMPROVEMENT,
    Finding.WATCHED,
)


def findings_section(told: NightTold, by_key: dict[str, Series], where: str = "") -> Section:
    """``where``: what the commands of the page need to find the runs, such as `` --store URL``."""
    moved = [d for d in told.decisions if d.finding in _MOVED]
    rest = [d for d in told.decisions if d.finding not in _MOVED]
    blocks: list[Block] = []
    if not moved:
        blocks.append(Paragraph(text="Nothing moved that has to be looked at.", tone="good"))
    if moved or rest:
        blocks.append(_decided([*moved, *rest]))
    return Section(
        key="findings",
        heading="What moved",
        blocks=tuple(blocks),
        sections=tuple(
            _finding(d, by_key.get(d.suspicion.series), i, where)
            for i, d in enumerate(_told_at_length(moved))
        ),
    )


def _told_at_length(moved: Sequence[Decision]) -> list[Decision]:
    """Of what moved with the environment one series shows it all, a canary if one did."""
    around = [d for d in moved if d.finding is Finding.ENVIRONMENT]
    shown = next((d for d in around if d.suspicion.canary), around[0] if around else None)
    return [d for d in moved if d.finding is not Finding.ENVIRONMENT or d is shown]


def _decided(decisions: Sequence[Decision]) -> Table:
    return Table(
        caption="Findings, the gravest first",
        columns=(
            Column(name="series"),
            Column(name="finding"),
            Column(name="change", numeric=True, meaning="as confirmed by pairs, else as suspected"),
            Column(
                name="since", numeric=True, meaning="the first night of the new level, with 95 %"
            ),
            Column(name="why", words=True),
        ),
        rows=tuple(
            (
                Cell(text=d.suspicion.series),
                Cell(text=d.finding.value, tone=TONES.get(d.finding, "plain")),
                _change_cell(d),
                Cell(text=_since(d)),
                Cell(text=d.why),
            )
            for d in decisions
        ),
    )


def _change_cell(decision: Decision) -> Cell:
    s, c = decision.suspicion, decision.confirmation
    if c is not None and c.change.change is not None:
        low, high = c.change.low, c.change.high
        known = low is not None and high is not None
        return Cell(text=format_change(c.change.change), detail=_range(low, high) if known else "")
    return Cell(text=format_change(s.change), detail=_range(s.low, s.high))


def _range(low: float | None, high: float | None) -> str:
    return f"{format_change(low)} to {format_change(high)}"


def _since(decision: Decision) -> str:
    s = decision.suspicion
    if s.earliest == s.latest:
        return str(s.likely)
    return f"{s.likely} ({s.earliest} to {s.latest})"


def _finding(decision: Decision, series: Series | None, index: int, where: str) -> Section:
    s = decision.suspicion
    unit = metric(s.metric).unit
    facts = [
        Fact(label="before", value=format_value(s.before, unit)),
        Fact(label="after", value=format_value(s.after, unit)),
        Fact(label="suspected change", value=_interval(s.change, s.low, s.high)),
        Fact(label="first night of it", value=_since(decision)),
        Fact(label="cause", value=decision.cause.value),
    ]
    c = decision.confirmation
    if c is not None:
        value = _interval(c.change.change, c.change.low, c.change.high)
        facts.insert(3, Fact(label=f"in {c.change.num_pairs} pairs", value=value))
    blocks: list[Block] = [Facts(facts=tuple(facts))]
    if series is not None and index < MOST_PLOTS:
        plot = history_plot(series, s, f"history-{index}")
        if plot is not None:
            blocks.append(Plots(plots=(plot,)))
    if decision.differences:
        blocks.append(_differences(decision))
    blocks.append(
        Listing(title="The command that looks again", text=_again(decision, series) + where)
    )
    heading = f"{s.name} on {s.pool or 'no pool'}: {metric_label(s.metric, s.statistic)}"
    badge = Badge(
        text=decision.finding.value, meaning=decision.why, tone=TONES.get(decision.finding, "plain")
    )
    return Section(key=f"finding-{index}", heading=heading, blocks=tuple(blocks), badges=(badge,))


def _interval(change: float | None, low: float | None, high: float | None) -> str:
    if change is None:
        return "n/a"
    if low is None or high is None:
        return format_change(change)
    return f"{format_change(change)} ({_range(low, high)})"


def _differences(decision: Decision) -> Table:
    return Table(
        caption="What answered differently",
        columns=(Column(name="what"), Column(name="before"), Column(name="after")),
        rows=tuple(
            (Cell(text=d.key, code=True), Cell(text=d.a), Cell(text=d.b))
            for d in decision.differences
        ),
    )


def _again(decision: Decision, series: Series | None) -> str:
    """The pairs that confirmed it; else the runs of the last night before it and of the night in
    which it was found."""
    s, c = decision.suspicion, decision.confirmation
    if c is not None:
        return _compare(c.a_runs, c.b_runs)
    nights = series.nights if series is not None else ()
    before = [n.run_ids for n in nights if n.night < s.earliest]
    found = [n.run_ids for n in nights if n.night == s.found]
    return _compare(before[-1], found[0]) if before and found else "windtunnel runs list"


def _compare(a: Sequence[str], b: Sequence[str]) -> str:
    return f"windtunnel compare {','.join(a)} {','.join(b)}"
