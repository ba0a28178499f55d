"""The two sections that say how far a served run can be believed: what the server itself counted,
and how the load client did."""

from __future__ import annotations

from reports.model import Block, Cell, Column, Fact, Facts, Plots, Section, Table
from reports.plots_telemetry import telemetry_plots
from results.client import Calibration, ClientReport, ClockAudit, WorkerReport
from results.record import RunRecord
from results.samples import RequestSamples
from results.telemetry import SourceNote, Telemetry
from results.units import NOT_AVAILABLE, format_value

MAX_WORKERS = 12


_OF_RANKS = {"nvml"}  # all that the ranks of a training read


def server_section(
    telemetry: Telemetry | None, samples: RequestSamples | None, prefix: str, points: int
) -> Section | None:
    """Plots of what was read, and how the reading went; absent sources with their reasons."""
    if telemetry is None or not telemetry.num_rows:
        return None
    plots = telemetry_plots(telemetry, samples, prefix, points)
    blocks: list[Block] = [Plots(plots=plots)] if plots else []
    notes = telemetry.sources()
    if notes:
        blocks.append(_sources(notes, telemetry.resolution_s))
    of_ranks = {note.source for note in notes} <= _OF_RANKS
    heading = "The devices of the training" if of_ranks else "The server's side"
    return Section(key=f"{prefix}server", heading=heading, blocks=tuple(blocks))


def _sources(notes: tuple[SourceNote, ...], resolution_s: float) -> Table:
    rows = tuple(
        (
            Cell(text=note.source),
            Cell(text=f"{note.num_reads:,}"),
            Cell(text=f"{note.num_gaps:,}", tone="warn" if note.num_gaps else "plain"),
            Cell(text=format_value(note.mean_read_s, "s")),
            Cell(text=format_value(note.max_read_s, "s")),
            Cell(text=note.absent or note.last_gap, tone="muted"),
        )
        for note in notes
    )
    off = f" Its axis is known to {format_value(resolution_s, 's')}." if resolution_s else ""
    return Table(
        caption="What was read",
        columns=(
            Column(name="source"),
            Column(name="reads", numeric=True),
            Column(name="gaps", numeric=True, meaning="reads that failed"),
            Column(name="mean read", numeric=True, meaning="how long one read took"),
            Column(name="longest read", numeric=True),
            Column(name="not there, or why a read failed"),
        ),
        rows=rows,
        note="Shaded in the plots: outside the measured window." + off,
    )


def client_section(record: RunRecord, prefix: str) -> Section | None:
    """How the load client itself did: its latencies are worth what this says."""
    client = record.client
    if client is None:
        return None
    facts = [
        Fact(
            label="request fields",
            value=client.dialect,
            meaning="which the server took: full, plain or bare",
        ),
        Fact(label="most in flight", value=f"{client.max_in_flight:,}"),
    ]
    if client.audit is not None:
        facts += _audit(client.audit)
    if client.calibration is not None:
        facts += _calibration(client.calibration)
    blocks: list[Block] = [Facts(facts=tuple(facts))]
    if client.workers:
        blocks.append(_workers(client))
    return Section(key=f"{prefix}client", heading="The load client", blocks=tuple(blocks))


def _audit(audit: ClockAudit) -> list[Fact]:
    spread = [
        f"{name} {format_value(value, 's')}"
        for name, value in (
            ("p50", audit.lag_p50_s),
            ("p99", audit.lag_p99_s),
            ("largest", audit.lag_max_s),
        )
        if value is not None
    ]
    return [
        Fact(
            label="behind the kernel",
            value=", ".join(spread) or NOT_AVAILABLE,
            meaning=f"data stamped by the kernel → seen by the client, {audit.num_reads:,} reads",
        )
    ]


def _calibration(found: Calibration) -> list[Fact]:
    bound = "" if found.ceiling_is_bound else "at least "
    used = found.asked_rps / found.ceiling_rps if found.ceiling_rps else None
    floor = format_value(found.floor_ttft_p99_s, "s")
    return [
        Fact(
            label="ceiling",
            value=f"{bound}{format_value(found.ceiling_rps, 'requests/s')}",
            meaning="highest rate at which the client kept its schedule against a server that "
            f"does nothing; {found.num_workers} workers, {format_value(found.duration_s, 's')}",
        ),
        Fact(
            label="used of it",
            value=format_value(used, "ratio"),
            meaning=f"the schedule's highest rate, {format_value(found.asked_rps, 'requests/s')}",
        ),
        Fact(
            label="TTFT floor",
            value=f"p50 {format_value(found.floor_ttft_p50_s, 's')}, p99 {floor}",
            meaning="what the client reports where there is nothing to wait for",
        ),
    ]


def _workers(client: ClientReport) -> Table:
    """The worst first: the longest stall of an event loop."""
    worst = sorted(client.workers, key=lambda w: -w.max_loop_stall_s)[:MAX_WORKERS]
    left = len(client.workers) - len(worst)
    return Table(
        caption="Workers",
        columns=(
            Column(name="worker"),
            Column(name="requests", numeric=True),
            Column(name="CPU", numeric=True, meaning="of one core; near 100 % it was the limit"),
            Column(name="mean stall", numeric=True, meaning="how late the event loop was"),
            Column(name="longest stall", numeric=True),
            Column(name="clock", numeric=True, meaning="added to its times, and how exactly"),
        ),
        rows=tuple(_worker(w) for w in worst),
        note=f"{left} more workers had shorter stalls." if left else "",
    )


def _worker(worker: WorkerReport) -> tuple[Cell, ...]:
    shared = worker.clock_offset_s == 0.0 and worker.clock_resolution_s == 0.0
    clock = (
        Cell(text="the driver's", tone="muted")
        if shared
        else Cell(
            text=format_value(worker.clock_offset_s, "s"),
            detail=f"± {format_value(worker.clock_resolution_s, 's')}",
        )
    )
    return (
        Cell(text=f"{worker.worker}", detail=worker.host),
        Cell(text=f"{worker.num_requests:,}"),
        Cell(
            text=format_value(worker.cpu_share, "ratio"),
            tone="warn" if worker.cpu_share > 0.9 else "plain",
        ),
        Cell(text=format_value(worker.mean_loop_stall_s, "s")),
        Cell(text=format_value(worker.max_loop_stall_s, "s")),
        clock,
    )
