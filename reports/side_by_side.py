"""Several runs in one table, with what may be compared and what differs. No verdicts here.

The run is the unit of replication: where runs are alike in both hashes, their mean comes with a t
interval over runs, never over pooled requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from reports.model import Block, Cell, Column, Paragraph, Table, Tone
from reports.wording import find, number, outcome_badge, run_labels
from results.collectives import rows_of
from results.intervals import mean_interval
from results.metrics import metric
from results.record import RunRecord, Succeeded
from results.units import format_interval, format_value, metric_label

COLUMNS = (
    ("startup_s", "value"),
    ("ttft_s", "p50"),
    ("ttft_s", "p99"),
    ("tpot_s", "p50"),
    ("achieved_rate", "value"),
    ("output_throughput", "value"),
    ("step_time_s", "p50"),
    ("training_throughput", "value"),
    ("final_loss", "value"),
)
MAX_DIFFERENCES = 40


def side_by_side(records: Sequence[RunRecord]) -> tuple[Block, ...]:
    """The tables, the notes about hashes, and the differences behind unequal hashes."""
    labels = dict(zip((r.run_id for r in records), run_labels(records), strict=True))
    trained = {r.workload for r in records if find(r, "step_time_s", "p50") is not None}
    timed = {r.workload for r in records if rows_of(r.measurements)}
    others = [r for r in records if r.workload not in trained | timed]
    groups = (
        ("Served runs", others),
        ("Collectives", [r for r in records if r.workload in timed]),
        ("Training runs", [r for r in records if r.workload in trained]),
    )
    tables = [_table(title, group, labels) for title, group in groups if group]
    small = Paragraph(
        text="Small print: 95 % interval, within the run for a percentile, over runs for a mean; "
        "beside n/a, the samples that were too few.",
        tone="muted",
    )
    return (*tables, small, *_compared(records, labels))


def _compared(records: Sequence[RunRecord], labels: Mapping[str, str]) -> tuple[Block, ...]:
    """Notes and differences within each kind of workload: a server and a training job differ in
    everything, and nobody asked how."""
    kinds = dict.fromkeys(r.workload for r in records)
    groups = [[r for r in records if r.workload == kind] for kind in kinds]
    pairs = [group for group in groups if len(group) > 1]
    if not pairs:
        what = " and ".join(kinds)
        return (Paragraph(text=f"Workloads of different kinds ({what}): nothing to compare."),)
    blocks: list[Block] = []
    for group in pairs:
        ordered = [labels[r.run_id] for r in group]
        blocks += [*hash_notes(group), *difference_tables(group, ordered)]
    return tuple(blocks)


def _table(title: str, records: Sequence[RunRecord], labels: Mapping[str, str]) -> Table:
    columns = [c for c in COLUMNS if any(find(r, *c) is not None for r in records)]
    rows = [_row(r, labels[r.run_id], columns) for r in records]
    rows += [_mean_row(group, columns) for group in _alike(records)]
    figures = (
        Column(name=metric_label(*c), numeric=True, meaning=metric(c[0]).meaning) for c in columns
    )
    return Table(
        caption=title,
        columns=(
            Column(name="run"),
            Column(name="outcome"),
            *figures,
            Column(name="workload", meaning="first digits of the workload hash"),
            Column(name="environment", meaning="first digits of the environment hash"),
        ),
        rows=tuple(rows),
    )


def _row(record: RunRecord, label: str, columns: Sequence[tuple[str, str]]) -> tuple[Cell, ...]:
    badge = outcome_badge(record)
    cells = []
    for column in columns:
        m = find(record, *column)
        if m is None:
            cells.append(Cell(text="–", tone="muted"))
            continue
        unit = metric(m.metric).unit
        tone: Tone = "muted" if m.value is None else "plain"
        few = f"n = {m.n:,}" if m.value is None and m.n else ""
        detail = few or format_interval(m.low, m.high, unit)
        text = format_value(m.value, unit)
        cells.append(Cell(text=text, detail=detail, tone=tone, meaning=m.reason))
    detail = f"{record.started_at:%Y-%m-%d %H:%M} UTC"
    if record.placement is not None:
        detail += f" · pool {record.placement.pool}"
        detail += " (virtual)" if record.placement.virtual else ""
    return (
        Cell(text=label, detail=detail, meaning=record.run_id),
        Cell(text=badge.text, tone=badge.tone, detail=record.evidence.value, meaning=badge.meaning),
        *cells,
        Cell(text=record.workload_hash[:6], code=True, meaning=record.workload_hash),
        Cell(text=record.environment_hash[:6], code=True, meaning=record.environment_hash)
        if record.environment is not None
        else Cell(text="not known", tone="muted"),
    )


def _alike(records: Sequence[RunRecord]) -> list[list[RunRecord]]:
    """Groups of two and more valid runs, equal in both hashes, kind of evidence and pool kind."""
    groups: dict[tuple[object, ...], list[RunRecord]] = {}
    for r in records:
        # What answered an imported run is not known, so nothing says that two are alike.
        if isinstance(r.outcome, Succeeded) and r.environment is not None:
            virtual = r.placement is not None and r.placement.virtual
            key = (r.workload_hash, r.environment_hash, r.evidence, virtual)
            groups.setdefault(key, []).append(r)
    return [group for group in groups.values() if len(group) > 1]


def _mean_row(group: list[RunRecord], columns: Sequence[tuple[str, str]]) -> tuple[Cell, ...]:
    cells = []
    for column in columns:
        values = [v for r in group if (v := number(r, *column)) is not None]
        if not values:
            cells.append(Cell(text="–", tone="muted"))
            continue
        mean, interval = mean_interval(np.array(values))
        unit = metric(column[0]).unit
        # A t interval does not know that a duration cannot be negative.
        spread = format_interval(max(interval.low, 0.0), interval.high, unit) if interval else ""
        few = f"{len(values)} of {len(group)} runs" if len(values) < len(group) else ""
        detail = "; ".join(part for part in (spread, few) if part)
        cells.append(Cell(text=format_value(mean, unit), detail=detail))
    first = group[0]
    return (
        Cell(text=f"mean of {len(group)} runs", detail=f"{first.name}, valid and alike"),
        Cell(text="", tone="muted"),
        *cells,
        Cell(text=first.workload_hash[:6], code=True),
        Cell(text=first.environment_hash[:6], code=True),
    )


def hash_notes(records: Sequence[RunRecord]) -> tuple[Paragraph, ...]:
    n = len(records)
    workloads = {r.workload_hash for r in records}
    environments = {r.environment_hash for r in records if r.environment is not None}
    unknown = sum(r.environment is None for r in records)
    if len(workloads) > 1:
        asked = Paragraph(
            text=f"The {n} runs have {len(workloads)} different workload hashes: they were asked "
            "different things, and numbers of different hashes are no comparison.",
            tone="warn",
        )
    else:
        asked = Paragraph(
            text=f"All {n} runs have the same workload hash: the same model, traffic, SLO, "
            "warm-up and stop rule were asked of each."
        )
    if len(environments) > 1:
        answered = Paragraph(
            text=f"The runs have {len(environments)} different environment hashes: hardware, "
            "software or resolved flags differ, and may be why numbers do.",
            tone="warn",
        )
    elif not environments:
        answered = Paragraph(
            text="Nothing is known of what answered: numbers may differ for any reason.",
            tone="warn",
        )
    else:
        answered = Paragraph(
            text="All runs whose environment is known have the same environment hash: the same "
            "hardware, versions and resolved flags answered."
            if unknown
            else f"All {n} runs have the same environment hash: the same hardware, versions and "
            "resolved flags answered."
        )
    return asked, answered


def difference_tables(records: Sequence[RunRecord], labels: Sequence[str]) -> tuple[Table, ...]:
    known = [i for i, r in enumerate(records) if r.environment is not None]
    asked = _by_hash([r.workload_hash for r in records], labels)
    answered = _by_hash([records[i].environment_hash for i in known], [labels[i] for i in known])
    found = (
        _difference("What was asked differently", {k: asked_of(records[i]) for k, i in asked}),
        _difference(
            "What answered differently", {k: answered_of(records[known[i]]) for k, i in answered}
        ),
    )
    return tuple(table for table in found if table is not None)


def _by_hash(hashes: Sequence[str], labels: Sequence[str]) -> list[tuple[str, int]]:
    """(column name, index of one run) for each hash: alike runs share a column."""
    columns = []
    for one in dict.fromkeys(hashes):
        runs = [i for i, other in enumerate(hashes) if other == one]
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        columns.append((f"{labels[runs[0]]}{more}", runs[0]))
    return columns


def asked_of(record: RunRecord) -> dict[str, str]:
    return flatten(record.spec)


def answered_of(record: RunRecord) -> dict[str, str]:
    assert record.environment is not None
    flat = flatten(record.resolved, "resolved.")
    software = asdict(record.environment.software)
    for ours in ("git_sha", "git_dirty", "windtunnel"):  # in neither hash
        software.pop(ours)
    flat |= flatten(software)
    for i, node in enumerate(record.environment.hardware):
        values = asdict(node)
        values.pop("node")
        flat |= flatten(values, f"node {i + 1}.")
    return flat


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings and lists as dotted paths → text."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, list | tuple):
            value = dict(enumerate(value))
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{path}.")
        else:
            flat[path] = str(value)
    return flat


def _difference(caption: str, sides: Mapping[str, Mapping[str, str]]) -> Table | None:
    """What is not the same in all ``sides`` (by column name); None where all is."""
    paths = [
        path
        for path in dict.fromkeys(p for side in sides.values() for p in side)
        if len({side.get(path) for side in sides.values()}) > 1
    ]
    if not paths:
        return None
    rows = tuple(
        (Cell(text=path, code=True), *(Cell(text=side.get(path, "–")) for side in sides.values()))
        for path in paths[:MAX_DIFFERENCES]
    )
    left = len(paths) - len(rows)
    return Table(
        caption=caption,
        columns=(Column(name="key"), *(Column(name=label) for label in sides)),
        rows=rows,
        note=f"{left} more differences are in the records." if left else "",
    )
