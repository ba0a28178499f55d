"""A sweep or a capacity search as one page: the answer, the curve, every point. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from reports.model import (
    Badge,
    Cell,
    Column,
    Fact,
    KeyFigure,
    KeyFigures,
    Listing,
    Paragraph,
    Report,
    Section,
    Table,
    Tone,
)
from reports.page import asked, drawn, evidence_badge, present, warnings
from reports.plots_sweep import attainment_plot, latency_curve
from reports.sweep_numbers import LoadSeen, Number, loads_seen
from reports.sweep_words import capacity_sentence, knee_sentence, limit_words, percent
from results.capacity import Capacity, CapacityKind, Knee, LoadTold, Point, RateJudged, Verdict
from results.units import counted, format_interval, format_value

LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
_SIMULATED = (
    "The server says of itself that it is a simulation: these numbers stand for no hardware."
)
_VERDICT_TONE: dict[Verdict, Tone] = {
    Verdict.PASS: "good",
    Verdict.FAIL: "bad",
    Verdict.UNDECIDED: "muted",
}


def capacity_report(told: LoadTold, capacity: Capacity, points: Sequence[Point]) -> Report:
    """The answer, why it is no sharper, and every rate and point behind it."""
    loads = loads_seen(points)
    return Report(
        title=f"Capacity of {told.model}",
        kind="capacity search",
        sentence=capacity_sentence(capacity),
        badges=(_answer_badge(capacity), _evidence(told)),
        banners=_banners(told, capacity),
        sections=present(
            Section(
                key="figures",
                heading="Key figures",
                blocks=(KeyFigures(figures=_capacity_figures(capacity)),),
            ),
            Section(
                key="attainment",
                heading="Rates, judged",
                blocks=(*drawn(attainment_plot(capacity, "attainment-plot")), _rates(capacity)),
            ),
            _limits_section(capacity),
            _curves(loads, None),
            Section(
                key="points", heading="Points", blocks=(_points(points), *_doubts_in_words(points))
            ),
            _asked(told),
        ),
    )


def sweep_report(told: LoadTold, points: Sequence[Point], knee: Knee) -> Report:
    """The curve, where it bends, and every load and point of it."""
    loads = loads_seen(points)
    return Report(
        title=f"Sweep of {told.model}",
        kind="sweep",
        sentence=knee_sentence(knee, loads),
        badges=(_evidence(told),),
        banners=_banners(told, None),
        sections=present(
            _curves(loads, knee.load),
            Section(key="loads", heading="Loads", blocks=(loads_table(loads),)),
            Section(
                key="points",
                heading="Points, in the order measured",
                blocks=(_points(points), *_doubts_in_words(points)),
            ),
            _asked(told),
        ),
    )


def _curves(loads: Sequence[LoadSeen], knee: float | None) -> Section:
    usable = [load for load in loads if load.usable]
    plots = [
        latency_curve(usable, name, f"curve-{name}", knee=knee, wide=name == "ttft_s")
        for name in LATENCIES
    ]
    return Section(key="curve", heading="Latency against throughput", blocks=drawn(*plots))


# -- capacity


def _answer_badge(capacity: Capacity) -> Badge:
    words = {
        CapacityKind.FOUND: "found",
        CapacityKind.BRACKETED: "bracketed",
        CapacityKind.AT_LEAST: "at least",
        CapacityKind.BELOW: "below the lowest rate",
        CapacityKind.UNDECIDED: "undecided",
        CapacityKind.CLIENT_LIMITED: "client-limited",
        CapacityKind.INVALID: "invalid",
    }
    tone: Tone = "good" if capacity.is_conclusive else "warn"
    return Badge(text=words[capacity.kind], meaning=capacity.why, tone=tone)


def _evidence(told: LoadTold) -> Badge:
    measured = "Measured on the endpoint named below."
    return evidence_badge(told.evidence, measured=measured, simulated=_SIMULATED)


def _banners(told: LoadTold, capacity: Capacity | None) -> tuple[Paragraph, ...]:
    violations = capacity.violations if capacity is not None else ()
    return warnings(_SIMULATED if told.evidence == "simulated" else "", *violations)


def _capacity_figures(capacity: Capacity) -> tuple[KeyFigure, ...]:
    unit = "requests/s"
    passed, failed = capacity.capacity_rps, capacity.failed_rps
    width = ""
    if passed is not None and failed is not None:
        width = f"{percent(failed / passed - 1.0)} above the capacity"
    return (
        KeyFigure(
            label="capacity",
            value=format_value(passed, unit),
            detail=_passed_words(capacity),
        ),
        KeyFigure(
            label="lowest rate that failed",
            value=format_value(failed, unit),
            detail=width or ("no rate failed" if failed is None else ""),
        ),
        KeyFigure(
            label="best guess",
            value=format_value(capacity.estimate_rps, unit),
            detail="where the shares seen cross; decided by nothing",
        ),
        KeyFigure(
            label="bound by",
            value=capacity.binding.split(" ≤ ")[0] or "nothing seen",
            detail=capacity.binding,
        ),
        KeyFigure(
            label="measured",
            value=format_value(capacity.spent_s, "s"),
            detail=f"{capacity.num_points} points",
        ),
    )


def _load_words(point: Point) -> str:
    if point.rate_rps is not None:
        return f"{point.rate_rps:g}/s"
    return counted(point.num_users or 0, "user")


def _passed_words(capacity: Capacity) -> str:
    if capacity.capacity_rps is None:
        return "no rate passed"
    if capacity.is_conclusive:
        return "highest rate that passed"
    return "highest rate that passed; where it ends was not decided"


def _rates(capacity: Capacity) -> Table:
    return Table(
        caption="Every rate, by all of its points",
        columns=(
            Column(name="rate"),
            Column(name="verdict"),
            Column(name="nearest condition"),
            Column(name="met by", numeric=True, meaning="share of requests, failures among them"),
            Column(name="bounds", numeric=True, meaning="of the true share"),
            Column(name="requests", numeric=True, meaning="judged: after the queue had settled"),
            Column(
                name="effective",
                numeric=True,
                meaning="independent requests that would say as much",
            ),
            Column(name="queue"),
        ),
        rows=tuple(_rate_row(r) for r in capacity.rates),
        note="A rate passes when the lower bound of every condition reaches what was asked and the "
        "queue does not grow; it fails when an upper bound stays below or the queue grows faster "
        "than chance. Bounds use that more load never helps: what is good at a higher rate speaks "
        "for a lower one.",
    )


def _rate_row(rate: RateJudged) -> tuple[Cell, ...]:
    c = rate.constraints[0] if rate.constraints else None
    tone = _VERDICT_TONE[rate.verdict]
    queue = "grows" if rate.saturated else "may grow" if rate.growing else "steady"
    return (
        Cell(text=f"{rate.rate_rps:g}/s", detail=_count(rate.num_points, "point")),
        Cell(text=rate.verdict.value, tone=tone),
        Cell(text=c.name if c else "none"),
        Cell(text=format_value(c.attainment, "ratio") if c else "n/a"),
        Cell(text=format_interval(c.low, c.high, "ratio") if c else ""),
        Cell(text=f"{c.num_judged:,}" if c else ""),
        Cell(text=f"{c.effective_n:,.0f}" if c else ""),
        Cell(text=queue, tone="bad" if rate.saturated else "plain"),
    )


def _limits_section(capacity: Capacity) -> Section:
    """What each limit by itself did at the lowest rate that failed."""
    rate = next((r for r in capacity.rates if r.rate_rps == capacity.failed_rps), None)
    if rate is None or not rate.constraints:
        return Section(key="limits", heading="Limits")
    table = Table(
        caption=f"Each condition at {rate.rate_rps:g}/s, the lowest rate that failed",
        columns=(
            Column(name="condition"),
            Column(name="asked of", numeric=True),
            Column(name="met by", numeric=True),
            Column(name="bounds", numeric=True),
        ),
        rows=tuple(
            (
                Cell(text=limit_words(c)),
                Cell(text=format_value(c.wanted, "ratio") if c.wanted else "–"),
                Cell(
                    text=format_value(c.attainment, "ratio"),
                    tone="bad" if c.verdict is Verdict.FAIL else "plain",
                ),
                Cell(text=format_interval(c.low, c.high, "ratio")),
            )
            for c in rate.constraints
        ),
    )
    return Section(key="limits", heading="What bound it", blocks=(table,))


# -- both


def loads_table(loads: Sequence[LoadSeen]) -> Table:
    """One row per load: what was offered, what came back, how long it took."""
    has_slo = any(load.attainment().value is not None for load in loads)
    columns = [
        Column(name="load"),
        Column(name="answered", numeric=True, meaning="requests answered in full per second"),
        Column(name="output", numeric=True),
        Column(name="TTFT p50", numeric=True),
        Column(name="TTFT p99", numeric=True),
        Column(name="TPOT p50", numeric=True),
        Column(name="e2e p50", numeric=True),
        *([Column(name="SLO met by", numeric=True)] if has_slo else []),
        Column(name="requests", numeric=True),
        Column(name="server"),
    ]
    rows = []
    for load in loads:
        cells = [
            Cell(text=load.words, detail=_count(len(load.points), "point")),
            _number(load.number("achieved_rate"), "requests/s"),
            _number(load.number("output_throughput"), "tokens/s"),
            _number(load.number("ttft_s", "p50"), "s"),
            _number(load.number("ttft_s", "p99"), "s"),
            _number(load.number("tpot_s", "p50"), "s"),
            _number(load.number("e2e_s", "p50"), "s"),
            *([_number(load.attainment(), "ratio")] if has_slo else []),
            Cell(
                text=f"{load.num_requests:,}",
                detail=f"{load.num_failed:,} failed" if load.num_failed else "",
                tone="bad" if load.num_failed else "plain",
            ),
            _state(load),
        ]
        rows.append(tuple(cells))
    return Table(
        caption="What was offered, what came back",
        columns=tuple(columns),
        rows=tuple(rows),
        note="Under a value its 95 % interval: within the run where a load has one point, over the "
        "points where it has several.",
    )


def _number(number: Number, unit: str) -> Cell:
    if number.value is None:
        return Cell(text=number.words(unit), tone="muted", meaning=number.reason)
    return Cell(text=number.words(unit), detail=number.interval(unit))


def _state(load: LoadSeen) -> Cell:
    if load.faults and not load.usable:
        return Cell(text="invalid", tone="warn", meaning=load.faults[0])
    if load.behind:
        return Cell(text="falls behind", tone="bad", meaning="the queue grew faster than chance")
    return Cell(text="keeps up" if not load.is_users else "closed loop")


def _points(points: Sequence[Point]) -> Table:
    return Table(
        caption="One row per point, in the order measured",
        columns=(
            Column(name="#"),
            Column(name="load", numeric=True),
            Column(name="lasted", numeric=True),
            Column(name="took", numeric=True, meaning="with warm-up and drain"),
            Column(name="requests", numeric=True),
            Column(name="failed", numeric=True),
            Column(name="seed", numeric=True),
            Column(name="run"),
            Column(name="doubts"),
        ),
        rows=tuple(
            (
                Cell(text=str(i)),
                Cell(text=_load_words(p)),
                Cell(text=format_value(p.duration_s, "s")),
                Cell(text=format_value(p.took_s, "s")),
                Cell(text=f"{p.num_requests:,}"),
                Cell(text=f"{p.num_failed:,}", tone="bad" if p.num_failed else "plain"),
                Cell(text=str(p.seed)),
                Cell(text=p.run_id or "not kept", code=bool(p.run_id)),
                _doubts(p),
            )
            for i, p in enumerate(points, 1)
        ),
    )


def _doubts(point: Point) -> Cell:
    codes = ", ".join(d.code for d in point.doubts)
    return Cell(
        text=codes or "none",
        detail="" if point.is_usable else "not counted",
        tone="plain" if point.is_usable else "warn",
    )


def _doubts_in_words(points: Sequence[Point]) -> tuple[Listing, ...]:
    lines = [f"#{i}  {d.code}: {d.message}" for i, p in enumerate(points, 1) for d in p.doubts]
    if not lines:
        return ()
    return (Listing(title="Doubts, point by point", text="\n".join(lines), folded=True),)


def _asked(told: LoadTold) -> Section:
    facts = [
        Fact(label="endpoint", value=told.endpoint, code=True),
        Fact(label="model", value=told.model, code=True),
        *([Fact(label="SLO", value=told.slo)] if told.slo else []),
        *(
            Fact(label=key.replace("_", " "), value=str(value))
            for key, value in (told.traffic or {}).items()
        ),
    ]
    return asked(facts, told.command)


def _count(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"
