"""Tables and lists of one run: measurements, placement, environment, provenance, spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from reports.model import Block, Cell, Column, Fact, Facts, Listing, Paragraph, Table, Tone
from reports.wording import find
from results.measurement import Measurement, groups_of, of_group
from results.metrics import Area, metric
from results.quiet import is_told
from results.record import Evidence, Failed, RunRecord
from results.slo_verdict import Verdict
from results.twins import twins
from results.units import NOT_AVAILABLE, format_interval, format_value, metric_label

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
# A log tail is for reading; what is longer stays in the record.
MAX_LOG_LINES, MAX_LOG_LINE = 200, 1000
MAX_LISTING = 20_000


def measurement_tables(record: RunRecord) -> tuple[Table, ...]:
    """Distributions with their percentiles in one table, single numbers in another."""
    metrics = list(dict.fromkeys(m.metric for m in of_group(record.measurements)))
    spread = [name for name in metrics if find(record, name, "p50") is not None]
    single = [name for name in metrics if (m := find(record, name)) is not None and is_told(m)]
    tables = []
    if spread:
        tables.append(_distributions(record, spread))
    if single:
        tables.append(_singles(record, single))
    groups = tuple(
        group
        for group in groups_of(record.measurements)
        if any(find(record, *column, group) for column in _OF_EACH_MODEL)
    )
    if groups:
        tables.append(_by_model(record, groups))
    return tuple(tables)


# What is said of each model of a mix; the rest is in the record.
_OF_EACH_MODEL = (
    ("achieved_rate", "value"),
    ("output_throughput", "value"),
    ("error_share", "value"),
    ("slo_attainment", "value"),
    ("ttft_s", "p50"),
    ("ttft_s", "p99"),
    ("tpot_s", "p50"),
    ("tpot_s", "p99"),
)


def _by_model(record: RunRecord, groups: tuple[str, ...]) -> Table:
    shown = [
        (name, statistic)
        for name, statistic in _OF_EACH_MODEL
        if any(find(record, name, statistic, group) for group in groups)
    ]
    return Table(
        caption="By model or adapter",
        columns=(
            Column(name="model"),
            *(
                Column(
                    name=metric_label(name, s),
                    numeric=True,
                    meaning=metric(name).meaning,
                )
                for name, s in shown
            ),
        ),
        rows=tuple(
            (Cell(text=group), *(_cell(find(record, name, s, group)) for name, s in shown))
            for group in groups
        ),
        note="Rates count over the whole run's window, so that they add up.",
    )


def _distributions(record: RunRecord, names: list[str]) -> Table:
    statistics = [s for s in STATISTICS if any(find(record, n, s) for n in names)]
    extra = {m.statistic for m in of_group(record.measurements)} - {*statistics, "value"}
    statistics += sorted(extra, key=lambda s: float(s.removeprefix("p")))
    alike = twins(of_group(record.measurements))
    shown = [name for name in names if name not in alike.values()]
    rows = []
    for name in shown:
        n = max(m.n for m in of_group(record.measurements) if m.metric == name)
        cells = [_cell(find(record, name, s)) for s in statistics]
        rows.append((_name_cell(name, alike.get(name, "")), *cells, Cell(text=f"{n:,}")))
    return Table(
        caption="Distributions",
        columns=(
            Column(name="metric"),
            *(Column(name=s, numeric=True) for s in statistics),
            Column(name="n", numeric=True, meaning="samples behind the row"),
        ),
        rows=tuple(rows),
        note="Small print: 95 % interval within this run, which allows for requests that follow "
        "each other closely. It says nothing about the next run; repeats do."
        + "".join(
            f" {metric_label(second)} had the same samples as {metric_label(first)} in this run."
            for first, second in alike.items()
        ),
        legend=_legend(names),
    )


def _singles(record: RunRecord, names: list[str]) -> Table:
    order = {area: i for i, area in enumerate(Area)}
    names = sorted(names, key=lambda name: order[metric(name).area])
    rows = []
    for name in names:
        m = find(record, name)
        rows.append(
            (
                _name_cell(name),
                _cell(m),
                Cell(text=metric(name).direction.value, tone="muted"),
            )
        )
    return Table(
        caption="Single numbers",
        columns=(
            Column(name="metric"),
            Column(name="value", numeric=True),
            Column(name="better", meaning="the direction that is better"),
        ),
        rows=tuple(rows),
        legend=_legend(names),
    )


_VERDICT_TONES: Mapping[Verdict, Tone] = {
    Verdict.MET: "good",
    Verdict.NOT_MET: "bad",
    Verdict.UNDECIDED: "muted",
}


def slo_tables(record: RunRecord) -> tuple[Table, ...]:
    """Each limit of the SLO with what was seen of it; nothing where no limit was judged."""
    if not record.slo:
        return ()
    rows = []
    for one in record.slo:
        unit = metric(one.metric).unit
        seen = NOT_AVAILABLE if one.value is None else format_value(one.value, unit)
        between = format_interval(one.low, one.high, unit)
        verdict = Cell(text=one.verdict.words, detail=one.reason, tone=_VERDICT_TONES[one.verdict])
        rows.append((Cell(text=one.asked), Cell(text=seen, detail=between), verdict))
    table = Table(
        caption="SLO",
        columns=(Column(name="limit"), Column(name="seen", numeric=True), Column(name="verdict")),
        rows=tuple(rows),
        note="Met or not met only where the whole 95 % interval is on one side of the limit.",
    )
    return (table,)


def _name_cell(name: str, twin: str = "") -> Cell:
    """``twin``: the metric that is the same in this run, and has no row of its own."""
    both = f" = {metric_label(twin)}" if twin else ""
    return Cell(text=metric_label(name) + both, meaning=metric(name).meaning)


def _legend(names: list[str]) -> tuple[Fact, ...]:
    return tuple(Fact(label=metric_label(name), value=metric(name).meaning) for name in names)


def _cell(m: Measurement | None) -> Cell:
    if m is None:
        return Cell(text="–", tone="muted")
    if m.value is None:
        return Cell(text=NOT_AVAILABLE, detail=m.reason, tone="muted", meaning=m.method)
    unit = metric(m.metric).unit
    return Cell(
        text=format_value(m.value, unit),
        detail=format_interval(m.low, m.high, unit),
        meaning=m.method,
    )


def placement_blocks(record: RunRecord) -> tuple[Block, ...]:
    """Where it ran and which rungs of the ladder were tried first."""
    place = record.placement
    if place is None:
        imported = record.evidence is Evidence.IMPORTED
        why = "The result that was imported does not say where it ran."
        return (Paragraph(text=why if imported else "The run was never placed.", tone="muted"),)
    chips = f"{place.num_chips} x {place.accelerator}" if place.num_chips else "CPU only"
    facts = [
        Fact(label="pool", value=f"{place.pool}{' (virtual)' if place.virtual else ''}"),
        Fact(label="chips", value=chips),
        Fact(label="capacity", value=place.capacity),
        Fact(label="topology", value=place.topology),
        Fact(label="zone", value=place.zone),
        Fact(label="machine type", value=place.machine_type),
        Fact(label="nodes", value=", ".join(place.nodes)),
    ]
    blocks: list[Block] = [Facts(facts=tuple(f for f in facts if f.value))]
    if place.rungs:
        rows = tuple(
            (
                Cell(text=f"{i}. {rung.pool}"),
                Cell(text=rung.capacity),
                Cell(text=format_value(rung.waited_s, "s")),
                Cell(text=rung.outcome.replace("_", " "), tone=_rung_tone(rung.outcome)),
            )
            for i, rung in enumerate(place.rungs, 1)
        )
        columns = (
            Column(name="rung"),
            Column(name="capacity"),
            Column(name="waited", numeric=True),
            Column(name="outcome"),
        )
        blocks.append(Table(caption="Rungs tried, in order", columns=columns, rows=rows))
    return tuple(blocks)


def _rung_tone(outcome: str) -> Tone:
    return "good" if outcome == "taken" else "muted"


def environment_blocks(record: RunRecord) -> tuple[Block, ...]:
    """Software, nodes, and what else the host was doing."""
    env = record.environment
    if env is None:
        text = "The run ended before its environment was known."
        if record.evidence is Evidence.IMPORTED:
            text = "The result that was imported does not say what answered."
        return (Paragraph(text=text, tone="muted"),)
    software = env.software
    dirty = " (uncommitted changes)" if software.git_dirty else ""
    facts = [
        Fact(label="Python", value=software.python),
        Fact(label="windtunnel", value=software.windtunnel),
        Fact(label="commit", value=f"{software.git_sha}{dirty}", code=True),
        Fact(label="image", value=software.image_digest, code=True),
        *(Fact(label=name, value=v) for name, v in sorted(software.packages.items())),
    ]
    if env.noise is not None:
        facts += _noise(record)
    rows = tuple(
        (
            Cell(text=node.node),
            Cell(text=node.cpu_model, detail=f"{node.num_cpus} CPUs"),
            Cell(text=format_value(node.memory_bytes, "bytes")),
            Cell(text=_devices(node.accelerators), detail=node.driver and f"driver {node.driver}"),
            Cell(text=node.kernel),
        )
        for node in env.hardware
    )
    columns = (
        Column(name="node"),
        Column(name="CPU"),
        Column(name="memory", numeric=True),
        Column(name="accelerators"),
        Column(name="kernel"),
    )
    blocks: list[Block] = [Facts(facts=tuple(f for f in facts if f.value))]
    if rows:
        blocks.append(Table(caption="Nodes", columns=columns, rows=rows))
    return tuple(blocks)


def _devices(names: tuple[str, ...]) -> str:
    counted = {name: names.count(name) for name in names}
    return ", ".join(f"{n} x {name}" for name, n in counted.items()) or "none"


def _noise(record: RunRecord) -> list[Fact]:
    assert record.environment is not None and record.environment.noise is not None
    noise = record.environment.noise
    facts = [
        Fact(
            label="host load",
            value=f"{noise.load_1m_before:.2f} before, {noise.load_1m_after:.2f} after",
            meaning="one-minute load average; in neither hash",
        )
    ]
    pressure = [
        f"{value:.1f} % {when}"
        for value, when in (
            (noise.cpu_pressure_avg10_before, "before"),
            (noise.cpu_pressure_avg10_after, "after"),
        )
        if value is not None
    ]
    return [*facts, Fact(label="CPU pressure", value=", ".join(pressure))]


def provenance(record: RunRecord) -> Facts:
    """Identity, time, seeds and the two hashes, with what equal hashes mean."""
    facts = [
        Fact(label="run", value=record.run_id, code=True),
        Fact(label="experiment", value=record.experiment_id, code=True),
        Fact(label="repeat", value=f"{record.repeat_index + 1} of {record.num_repeats}"),
        Fact(label="attempt", value=str(record.attempt)),
        Fact(label="started", value=f"{record.started_at:%Y-%m-%d %H:%M:%S} UTC"),
        Fact(label="took", value=format_value(record.duration_s, "s")),
        Fact(
            label="workload hash",
            value=record.workload_hash,
            code=True,
            meaning="What was asked: model, traffic, SLO, warm-up, stop rule. "
            "Only runs of equal workload hash may be compared.",
        ),
        Fact(
            label="environment hash",
            value=record.environment_hash,
            code=True,
            meaning="What answered: hardware, driver, kernel, versions, resolved flags. Equal: "
            "the same machinery. Different: a comparison must name the difference.",
        ),
        Fact(
            label="seeds",
            value=", ".join(f"{name} {seed}" for name, seed in sorted(record.seeds.items())),
        ),
        Fact(label="record schema", value=str(record.schema_version)),
    ]
    return Facts(facts=tuple(f for f in facts if f.value))


def listings(record: RunRecord) -> tuple[Listing, ...]:
    """What was asked, what was planned and what the engine says it runs with, all folded."""
    imported = record.evidence is Evidence.IMPORTED
    found = (
        ("Spec, resolved", record.spec),
        ("Plan", record.plan),
        (
            "What the other tool reported, in its own words and units"
            if imported
            else "What the engine says it runs with",
            record.resolved,
        ),
    )
    return tuple(
        Listing(title=title, text=as_yaml(values), folded=True) for title, values in found if values
    )


def as_yaml(values: Mapping[str, Any]) -> str:
    """In the order that was written; cut, and said so, where a page could not hold it."""
    plain = json.loads(json.dumps(values, default=_plain))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
    if len(text) <= MAX_LISTING:
        return text
    return f"{text[:MAX_LISTING]}\n… {len(text) - MAX_LISTING:,} more characters in the record\n"


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def log_tail(failure: Failed) -> Listing:
    """The engine's last lines."""
    lines = [
        line if len(line) <= MAX_LOG_LINE else f"{line[:MAX_LOG_LINE]} …"
        for line in failure.log_tail[-MAX_LOG_LINES:]
    ]
    left = len(failure.log_tail) - len(lines)
    title = f"Last {len(lines)} log lines" + (f" ({left:,} more in the record)" if left else "")
    return Listing(title=title, text="\n".join(lines), from_end=True)
