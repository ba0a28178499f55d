"""Records and their tables in, one document out. Pure: same inputs, same document.

One run is told from the answer down to the evidence; several are put side by side first, and then
told one by one, folded where they are many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from reports.facts import (
    environment_blocks,
    listings,
    log_tail,
    measurement_tables,
    placement_blocks,
    provenance,
    slo_tables,
)
from reports.goodput_section import goodput_section
from reports.model import (
    Block,
    Doubts,
    Fact,
    Facts,
    KeyFigures,
    Paragraph,
    Report,
    Section,
)
from reports.page import again, drawn, present
from reports.plots import distribution, startup_waterfall
from reports.plots_collectives import busbw_plot, fits_table
from reports.plots_requests import request_rate, request_timeline, token_rate
from reports.plots_step_parts import how_it_was_found, step_parts
from reports.plots_steps import loss_curve, step_times
from reports.server_side import client_section, server_section
from reports.side_by_side import side_by_side
from reports.wording import (
    badges,
    banners,
    key_figures,
    run_label,
    run_labels,
    sentence,
)
from results.collectives import rows_of
from results.goodput import kept
from results.measure import request_metrics
from results.record import Failed, RunRecord
from results.samples import FloatColumn, RequestSamples, StepSamples
from results.telemetry import Telemetry
from results.units import format_value

TableReader = Callable[[RunRecord, str], pa.Table | None]

# The page's room for points, shared by its runs; 2,000 requests are some 150 kB.
MAX_POINTS, MIN_POINTS = 2000, 100
# Told one by one; of more runs only the table speaks.
MAX_TOLD = 12
MAX_UNFOLDED = 2
MAX_OVERLAID = 8
LATENCIES = ("ttft_s", "e2e_s", "itl_s", "tpot_s")


def run_report(records: Sequence[RunRecord], table: TableReader, *, command: str = "") -> Report:
    """``table(record, name)`` gives the run's ``requests``, ``steps`` or ``telemetry``, or None.

    ``command`` is what reproduces the report's runs. Raises ValueError when there is no record.
    """
    if not records:
        raise ValueError("a report needs at least one run; none was given")
    if len(records) == 1:
        return _single(records[0], table, command)
    return _several(records, table, command)


def _single(record: RunRecord, table: TableReader, command: str) -> Report:
    sections = _run_sections(record, table, MAX_POINTS, "", command)
    return Report(
        title=run_label(record),
        sentence=sentence(record),
        badges=badges(record),
        banners=banners([record]),
        sections=sections,
    )


def _several(records: Sequence[RunRecord], table: TableReader, command: str) -> Report:
    labels = run_labels(records)
    told = records[:MAX_TOLD]
    points = max(MAX_POINTS // len(told), MIN_POINTS)
    first = Section(
        key="side-by-side",
        heading="Side by side",
        blocks=(*side_by_side(records), *_overlays(records, labels, table)),
    )
    each = tuple(
        Section(
            key=f"run-{i}",
            heading=label,
            badges=badges(record),
            blocks=(Paragraph(text=sentence(record)),),
            sections=_run_sections(record, table, points, f"run-{i}-", ""),
            folded=len(told) > MAX_UNFOLDED,
        )
        for i, (record, label) in enumerate(zip(told, labels, strict=False), 1)
    )
    names = list(dict.fromkeys(r.name for r in records))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    left = len(records) - len(told)
    rest = f" The first {len(told)} are told in full below." if left else ""
    again = (_reproduce("reproduce", command),) if command else ()
    return Report(
        title=f"{len(records)} runs of {shown}",
        sentence=_count_sentence(records) + rest,
        banners=banners(records),
        sections=(first, *each, *again),
    )


def _count_sentence(records: Sequence[RunRecord]) -> str:
    kinds = [r.outcome.kind for r in records]
    words = {"succeeded": "valid", "invalid": "invalid", "failed": "failed"}
    counts = [f"{kinds.count(kind)} {word}" for kind, word in words.items() if kind in kinds]
    return f"{len(records)} runs: {', '.join(counts)}. The numbers stand side by side; no verdict."


def _run_sections(
    record: RunRecord, table: TableReader, points: int, prefix: str, command: str
) -> tuple[Section, ...]:
    """All sections of one run that have something to say."""
    requests, steps = _samples(record, table)
    sections = (
        _opening(record, prefix),
        _doubts(record, prefix),
        _startup(record, prefix),
        _latency(requests, prefix),
        _throughput(requests, prefix, points),
        server_section(_telemetry(record, table), requests, prefix, points),
        client_section(record, prefix),
        _training(record, steps, prefix, points),
        _collectives(record, prefix),
        goodput_section(record, prefix),
        Section(
            key=f"{prefix}measurements",
            heading="Measurements",
            blocks=measurement_tables(record),
        ),
        Section(key=f"{prefix}placement", heading="Placement", blocks=placement_blocks(record)),
        Section(
            key=f"{prefix}environment", heading="Environment", blocks=environment_blocks(record)
        ),
        Section(
            key=f"{prefix}provenance",
            heading="Provenance",
            blocks=(provenance(record), *listings(record)),
        ),
        *((_reproduce(f"{prefix}reproduce", command),) if command else ()),
    )
    return present(*sections)


def _samples(
    record: RunRecord, table: TableReader
) -> tuple[RequestSamples | None, StepSamples | None]:
    requests, steps = table(record, "requests"), table(record, "steps")
    return (
        RequestSamples.from_table(requests) if requests is not None and requests.num_rows else None,
        kept(StepSamples.from_table(steps)) if steps is not None and steps.num_rows else None,
    )


def _telemetry(record: RunRecord, table: TableReader) -> Telemetry | None:
    found = table(record, "telemetry")
    return Telemetry.from_table(found) if found is not None else None


def _opening(record: RunRecord, prefix: str) -> Section:
    blocks: list[Block] = []
    if isinstance(record.outcome, Failed):
        stage = Fact(label="stage", value=record.outcome.stage)
        kind = Fact(label="kind", value=record.outcome.error, code=True)
        said = Fact(label="message", value=record.outcome.message)
        blocks.append(Facts(facts=(stage, kind, said)))
        if record.outcome.log_tail:
            blocks.append(log_tail(record.outcome))
        return Section(key=f"{prefix}failure", heading="Failure", blocks=tuple(blocks))
    figures = key_figures(record)
    if figures:
        blocks.append(KeyFigures(figures=figures))
    blocks += slo_tables(record)
    return Section(key=f"{prefix}figures", heading="Key figures", blocks=tuple(blocks))


def _doubts(record: RunRecord, prefix: str) -> Section | None:
    if isinstance(record.outcome, Failed) and not record.doubts:
        return None
    block: Block = Doubts(doubts=record.doubts)
    if not record.doubts:
        block = Paragraph(text="No check found a reason to trust these numbers less.")
    return Section(key=f"{prefix}doubts", heading="Doubts", blocks=(block,))


def _startup(record: RunRecord, prefix: str) -> Section | None:
    timeline = record.startup
    if timeline is None:
        return None
    cache = "not known"
    if timeline.page_cache is not None:
        share = timeline.page_cache
        word = "cold" if share < 0.05 else "warm" if share > 0.95 else "partly warm"
        cache = f"{word}: {format_value(share, 'ratio')} of the model's bytes"
    facts = Facts(
        facts=(
            Fact(label="ready after", value=format_value(timeline.ready_s, "s")),
            Fact(
                label="unattributed",
                value=format_value(timeline.unattributed_s, "s"),
                meaning="covered by no observed phase",
            ),
            Fact(
                label="page cache",
                value=cache,
                meaning="share of the model's bytes in memory when it was asked for",
            ),
        )
    )
    plot = startup_waterfall(timeline, f"{prefix}startup-plot")
    blocks: tuple[Block, ...] = (facts, *drawn(plot))
    return Section(key=f"{prefix}startup", heading="Startup", blocks=blocks)


def _latency(samples: RequestSamples | None, prefix: str) -> Section | None:
    if samples is None:
        return None
    found = request_metrics(samples)
    plots = [
        distribution(name, {"this run": getattr(found, name)}, f"{prefix}ecdf-{name}")
        for name in LATENCIES
    ]
    return Section(key=f"{prefix}latency", heading="Latency", blocks=drawn(*plots))


def _throughput(samples: RequestSamples | None, prefix: str, points: int) -> Section | None:
    if samples is None:
        return None
    blocks = drawn(
        request_rate(samples, f"{prefix}request-rate"),
        token_rate(samples, f"{prefix}token-rate"),
        request_timeline(samples, f"{prefix}timeline", points),
    )
    return Section(key=f"{prefix}throughput", heading="Over time", blocks=blocks)


def _training(
    record: RunRecord, samples: StepSamples | None, prefix: str, points: int
) -> Section | None:
    if samples is None:
        return None
    found = how_it_was_found(record)
    blocks: tuple[Block, ...] = (found,) if found is not None else ()
    blocks += drawn(
        step_parts(samples, f"{prefix}step-parts"),
        step_times(samples, f"{prefix}step-times", points),
        loss_curve(samples, f"{prefix}loss", points),
    )
    return Section(key=f"{prefix}training", heading="Training steps", blocks=blocks)


def _collectives(record: RunRecord, prefix: str) -> Section | None:
    rows = rows_of(record.measurements)
    if not rows:
        return None
    plot = busbw_plot([r for r in rows if r.size_bytes], f"{prefix}busbw")
    fits = fits_table([r for r in rows if not r.size_bytes])
    blocks: tuple[Block, ...] = (*drawn(plot), *((fits,) if fits else ()))
    return Section(key=f"{prefix}collectives", heading="Collectives", blocks=blocks)


def _overlays(
    records: Sequence[RunRecord], labels: Sequence[str], table: TableReader
) -> tuple[Block, ...]:
    """TTFT and e2e of the first few served runs in one picture, for the eye."""
    by_metric: dict[str, dict[str, FloatColumn]] = {"ttft_s": {}, "e2e_s": {}}
    for record, label in zip(records, labels, strict=True):
        if len(by_metric["ttft_s"]) == MAX_OVERLAID:
            break
        requests, _ = _samples(record, table)
        if requests is not None:
            found = request_metrics(requests)
            for name, runs in by_metric.items():
                runs[label] = getattr(found, name)
    if len(by_metric["ttft_s"]) < 2:
        return ()
    plots = [distribution(name, runs, f"overlay-{name}") for name, runs in by_metric.items()]
    return drawn(*plots)


def _reproduce(key: str, command: str) -> Section:
    return Section(key=key, heading="Reproduce", blocks=(again(command),))
