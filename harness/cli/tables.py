"""Records as tables for a terminal. How a number is written stands in ``results.units``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.cli.collectives_tables import collective_tables
from results.measurement import Measurement, groups_of, of_group
from results.metrics import REGISTRY, Area, metric
from results.quiet import is_told
from results.record import Doubt, Evidence, Failed, Invalid, RunRecord
from results.slo_verdict import LimitVerdict, Verdict
from results.twins import twins
from results.units import format_interval, format_measurement, format_value

# What is said of each model or adapter of a mix; the rest is in the record.
_OF_EACH_MODEL = (
    ("achieved_rate", "value"),
    ("output_throughput", "value"),
    ("error_share", "value"),
    ("ttft_s", "p50"),
    ("ttft_s", "p99"),
    ("tpot_s", "p50"),
)
_STATISTICS = ("p50", "p90", "p95", "p99", "mean")
_OUTCOME_STYLE = {"succeeded": "green", "invalid": "yellow", "failed": "red"}


def run_tables(record: RunRecord) -> RenderableType:
    """One record: what it was, its distributions, its single numbers, its startup, its doubts."""
    parts: list[RenderableType] = [heading(record)]
    if isinstance(record.outcome, Failed):
        parts.append(_failure(record.outcome))
    parts += _numbers(record.measurements)
    parts += slo_lines(record.slo)
    if record.startup is not None:
        parts.append(startup_table(record))
    if record.doubts:
        parts.append(_doubts(record.doubts))
    return Group(*parts)


def load_tables(
    head: Text, measurements: Sequence[Measurement], doubts: Sequence[Doubt]
) -> RenderableType:
    """One load that may have no record: its distributions, its single numbers, its doubts."""
    parts: list[RenderableType] = [head]
    parts += _numbers(measurements)
    if doubts:
        parts.append(_doubts(doubts))
    return Group(*parts)


def _numbers(measurements: Sequence[Measurement]) -> list[RenderableType]:
    """The whole run's distributions and single numbers, then a line for each model of a mix."""
    whole = of_group(measurements)
    tables = [
        _distributions(whole),
        _singles(whole),
        _by_model(measurements),
        *collective_tables(measurements),
    ]
    return [table for table in tables if table.row_count]


def _by_model(measurements: Sequence[Measurement]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    by_key = {(m.group, m.metric, m.statistic): m for m in measurements}
    groups = groups_of(measurements)
    shown = [key for key in _OF_EACH_MODEL if any((g, *key) in by_key for g in groups)]
    if not shown:
        return table
    table.add_column("model")
    for name, statistic in shown:
        table.add_column(name if statistic == "value" else f"{name} {statistic}", justify="right")
    for group in groups:
        table.add_row(group, *(_cell(by_key.get((group, *key))) for key in shown))
    return table


def heading(record: RunRecord) -> Text:
    """One line: name, outcome, where, and how its numbers came to be."""
    text = Text()
    text.append(f"\n{record.name}", style="bold")
    text.append(f"  {record.workload}  ")
    text.append(record.outcome.kind, style=_OUTCOME_STYLE[record.outcome.kind])
    if isinstance(record.outcome, Invalid):
        text.append(f" ({', '.join(record.outcome.reasons)})")
    if record.placement is not None:
        text.append(f"  on {_where(record)}")
    if record.evidence is not Evidence.MEASURED:
        text.append(f"  [{record.evidence}]", style="magenta")
    if record.num_repeats > 1:
        text.append(f"  run {record.repeat_index + 1} of {record.num_repeats}")
    text.append(f"\n{record.run_id}  workload {record.workload_hash}", style="dim")
    if record.environment_hash:
        text.append(f"  environment {record.environment_hash}", style="dim")
    return text


def _where(record: RunRecord) -> str:
    placement = record.placement
    assert placement is not None
    chips = f"{placement.num_chips} x " if placement.num_chips else ""
    virtual = " (virtual)" if placement.virtual else ""
    return f"{chips}{placement.accelerator} in pool {placement.pool}{virtual}"


def _failure(outcome: Failed) -> RenderableType:
    lines = [Text(f"{outcome.stage}: {outcome.message}", style="red")]
    lines += [Text(f"  | {line}", style="dim") for line in outcome.log_tail]
    return Group(*lines)


def _distributions(measurements: Sequence[Measurement]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("metric")
    for name in _STATISTICS:
        table.add_column(name, justify="right")
    table.add_column("p50 95 % interval", justify="right")
    table.add_column("n", justify="right")
    by_key = {(m.metric, m.statistic): m for m in measurements}
    alike = twins(measurements)
    for name in dict.fromkeys(m.metric for m in measurements if m.statistic != "value"):
        if name in alike.values():
            continue
        cells = [by_key.get((name, s)) for s in _STATISTICS]
        if not any(c and c.n for c in cells):
            continue
        median = by_key.get((name, "p50"))
        unit = metric(name).unit
        table.add_row(
            f"{name} = {alike[name]}" if name in alike else name,
            *(_cell(c) for c in cells),
            format_interval(median.low, median.high, unit) if median else "",
            str(max(c.n for c in cells if c)),
        )
    return table


def _cell(measurement: Measurement | None) -> str:
    if measurement is None or measurement.value is None:
        return "n/a"
    return format_value(measurement.value, metric(measurement.metric).unit)


def _singles(measurements: Sequence[Measurement]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("meaning", style="dim")
    for area in Area:
        for m in measurements:
            declared = REGISTRY[m.metric]
            is_single = m.statistic == "value" and declared.area is area
            if is_single and m.value is not None and is_told(m):
                table.add_row(m.metric, format_measurement(m), declared.meaning)
    return table


def startup_table(record: RunRecord) -> Table:
    """The timeline, phase by phase, and the rest that no phase explains."""
    startup = record.startup
    assert startup is not None
    cache = (
        "" if startup.page_cache is None else f", model {startup.page_cache:.0%} in the page cache"
    )
    table = Table(
        box=None,
        pad_edge=False,
        header_style="dim",
        title=f"startup {startup.ready_s:.2f} s{cache}",
        title_justify="left",
    )
    table.add_column("phase")
    for name in ("from", "to", "took", "±"):
        table.add_column(name, justify="right")
    table.add_column("seen by")
    for p in sorted(startup.phases, key=lambda p: (p.start_s, p.end_s)):
        times = (f"{t:.2f}" for t in (p.start_s, p.end_s, p.duration_s))
        table.add_row(p.name, *times, f"{p.resolution_s:.3f}", p.source.value)
    table.add_row("unattributed", "", "", f"{startup.unattributed_s:.2f}", "", "", style="dim")
    return table


def _doubts(doubts: Sequence[Doubt]) -> RenderableType:
    lines = [Text("doubts", style="dim")]
    for doubt in doubts:
        style = "yellow" if doubt.invalidates else ""
        lines.append(Text(f"  {doubt.code}: {doubt.message}", style=style))
    return Group(*lines)


_VERDICT_STYLE = {Verdict.MET: "green", Verdict.NOT_MET: "yellow", Verdict.UNDECIDED: "dim"}


def slo_lines(limits: Iterable[LimitVerdict]) -> list[RenderableType]:
    """``SLO ttft p99 ≤ 500 ms: met (412 ms, 398–433 ms)``, a line for each limit."""
    lines: list[RenderableType] = []
    for one in limits:
        unit = metric(one.metric).unit
        line = Text(f"SLO {one.asked}: ")
        line.append(one.verdict.words, style=_VERDICT_STYLE[one.verdict])
        seen = "" if one.value is None else format_value(one.value, unit)
        between = format_interval(one.low, one.high, unit)
        told = ", ".join(filter(None, (seen, between, one.reason)))
        lines.append(line.append(f" ({told})" if told else ""))
    return lines


def facts(rows: Iterable[tuple[str, str]]) -> Table:
    """Two columns, name and value."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("name", style="dim")
    table.add_column("value")
    for name, value in rows:
        table.add_row(name, value)
    return table
