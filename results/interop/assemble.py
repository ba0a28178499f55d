"""One foreign benchmark in, one ``imported`` record and its table out. Pure.

A metric's numbers are all ours or all the tool's, never mixed: ours where the file has every
request (computed by ``results.measure``, with its rules and intervals), else the tool's. Each
measurement's ``method`` says whose it is. The tool's own numbers stay in ``resolved`` either way,
and where the two disagree the record doubts itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

import pyarrow as pa

from results.checks import doubts_of
from results.environment import stable_hash
from results.interop.foreign import ForeignRun, Reported, plain
from results.intervals import min_samples
from results.measure import measure_requests
from results.measurement import Measurement
from results.metrics import metric
from results.record import Doubt, Evidence, Invalid, RunRecord, Succeeded
from results.request_checks import (
    MAX_DISPATCH_LAG_S,
    MAX_DISPATCH_LAG_SHARE_OF_TTFT,
    MAX_ERROR_SHARE,
)
from results.serving import SERVING
from results.units import format_value, metric_label

# The tool's figure and ours, of the same requests, may differ by this much before it is said.
MAX_DISAGREEMENT = 0.05
# Statistics that all tools compute alike; a p99 of few requests depends on the interpolation.
_COMPARED = ("mean", "p50", "value")
# Of these the table says nothing unless the tool wrote down its schedule.
_NEED_SCHEDULE = ("dispatch_lag_s", "offered_rate")
# Doubts of our own client's run that an import cannot answer: what the tool left out of its file
# (warm-up, the schedule) is not known to have been left undone.
_NOT_FOR_IMPORTS = ("no_warmup", "unsent_requests")
_MAX_NAMED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a benchmark was read. ``index``: which of the source's benchmarks it is."""

    files: tuple[str, ...]
    sha256: str
    modified_at: datetime
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A record ready to be sealed with its tables; there is no ``requests`` table where the source
    has no requests."""

    record: RunRecord
    tables: Mapping[str, pa.Table]


def assemble(run: ForeignRun, origin: Origin, name: str = "") -> Imported:
    """The run id follows from the source's content, so that importing it twice is noticed."""
    started_at = run.started_at or origin.modified_at
    duration_s = max(run.duration_s or 0.0, 0.0)
    ours = tuple(_ours(run))
    measurements = (*ours, *_theirs(run, {m.metric for m in ours}))
    doubts = tuple(sorted(_doubts(run, ours), key=lambda d: not d.invalidates))
    grave = tuple(d.code for d in doubts if d.invalidates)
    asked = {"model": run.model, "asked": plain(run.asked)}
    if run.slo:
        asked["slo"] = dict(run.slo)
    serving = {SERVING: plain(asdict(run.serving))} if run.serving is not None else {}
    source = {
        "tool": run.tool,
        "version": run.version or "not stated",
        "files": list(origin.files),
        "sha256": origin.sha256,
        **({"labels": dict(run.labels)} if run.labels else {}),
    }
    unique = stable_hash({"source": origin.sha256, "index": origin.index, "tool": run.tool})
    record = RunRecord(
        run_id=f"{started_at:%Y%m%dT%H%M%SZ}-{unique[:10]}",
        experiment_id=f"import-{origin.sha256[:16]}",
        name=name or default_name(run),
        workload="endpoint",
        evidence=Evidence.IMPORTED,
        # With the tool in it: what two tools call by one name, they do not measure alike.
        workload_hash=stable_hash({"imported_from": run.tool, **asked}),
        environment_hash="",
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=duration_s),
        duration_s=duration_s,
        outcome=Invalid(reasons=grave) if grave else Succeeded(),
        spec={"imported": source, **asked, **serving},
        resolved={"reported": dict(run.figures), "unmapped": list(run.unmapped)},
        seeds=dict(run.seeds),
        placement=run.placement,
        measurements=measurements,
        doubts=doubts,
    )
    tables = {} if run.samples is None else {"requests": run.samples.to_table()}
    return Imported(record=record, tables=tables)


def default_name(run: ForeignRun) -> str:
    """``guidellm-Llama-3.1-8B``."""
    tool = run.tool.lower().replace(" ", "-")
    return f"{tool}-{run.model.rstrip('/').rpartition('/')[2] or 'unknown-model'}"


def _ours(run: ForeignRun) -> Iterator[Measurement]:
    """Measured by us from the tool's requests: metrics that these have any sample of."""
    if run.samples is None:
        return
    timed = "from the tool's schedule" if run.schedule_known else "from the tool's send"
    found = measure_requests(run.samples, run.slo, num_chips=0)
    known = {m.metric for m in found if m.value is not None or (m.n and m.statistic != "value")}
    # What the file does not have of its requests, the tool may still have a summary of.
    leave = {r.metric for r in run.reported} - known
    for m in found:
        if m.metric in leave or (m.metric in _NEED_SCHEDULE and not run.schedule_known):
            continue
        m = replace(m, reason=_reason(m, run))
        how = f"measured by windtunnel from the requests of {run.label}, {timed}"
        yield replace(m, method=f"{how}; {m.method}" if m.method else how)


def _reason(m: Measurement, run: ForeignRun) -> str:
    """Why a value is missing, said of a result that was read, not of a run that was made."""
    if m.metric == "output_throughput_per_chip":
        return "the result does not say on how many chips"
    if m.metric in ("goodput_rate", "slo_attainment") and not run.slo:
        return "the result states no SLO"
    if m.value is None and not m.n and run.num_requests > run.num_failed:
        return f"no sample: the requests of {run.tool} do not say"
    return m.reason


def _theirs(run: ForeignRun, taken: set[str]) -> Iterator[Measurement]:
    """As the tool says, for metrics that we did not measure ourselves."""
    for r in run.reported:
        if r.metric not in taken:
            yield _as_reported(r, run)
    told = taken | {r.metric for r in run.reported}
    if "ttft_s" not in told:
        yield Measurement(
            metric="ttft_s",
            statistic="p50",
            value=None,
            n=0,
            reason=f"{run.tool} reports none: were answers streamed?",
        )
    if "dispatch_lag_s" not in told:
        yield Measurement(
            metric="dispatch_lag_s",
            statistic="p50",
            value=None,
            n=0,
            reason=f"{run.tool}'s result does not say when a request was due",
        )


def _as_reported(r: Reported, run: ForeignRun) -> Measurement:
    """The tool's number, or why it is not taken: the samples behind it are too few."""
    method = f"as {run.label} reports it ({r.source})"
    value: float | None = r.value
    reason = ""
    if r.statistic.startswith("p"):
        need = min_samples(float(r.statistic[1:]) / 100.0)
        if r.n < need:
            said = format_value(r.value, metric(r.metric).unit)
            value, reason = None, f"n = {r.n}; needs at least {need} ({run.tool} says {said})"
    return Measurement(
        metric=r.metric, statistic=r.statistic, value=value, n=r.n, method=method, reason=reason
    )


def _doubts(run: ForeignRun, ours: tuple[Measurement, ...]) -> Iterator[Doubt]:
    yield Doubt(
        code="imported",
        message=f"taken over from {run.label}: windtunnel drove nothing and saw neither client nor "
        f"server; {_not_known(run)} are not known",
    )
    if not run.is_table_row:
        yield Doubt(code="timer_starts_at_send", message=_timer(run))
    if run.definitions:
        yield Doubt(
            code="imported_definitions",
            message=f"{run.tool} defines some figures a little differently: "
            f"{'; '.join(run.definitions)}",
        )
    if run.unmapped:
        shown = ", ".join(run.unmapped[:_MAX_NAMED])
        more = len(run.unmapped) - _MAX_NAMED
        yield Doubt(
            code="unmapped",
            message=f"{len(run.unmapped)} figures have no metric here and stay as the tool wrote "
            f"them under resolved.reported: {shown}{f' and {more} more' if more > 0 else ''}",
        )
    if run.started_at is None:
        yield Doubt(
            code="no_date",
            message="the result does not say when it was measured: the file's own date is used",
        )
    yield from _disagreements(run, ours)
    yield from run.doubts
    yield from _gate(run)


def _not_known(run: ForeignRun) -> str:
    if run.placement is None or run.serving is None:
        return "hardware, engine and startup"
    return "the engine's own settings and its startup"


def _timer(run: ForeignRun) -> str:
    said = f"{run.tool} starts its timer when it sends, not when it meant to send"
    if run.schedule_known:
        return (
            f"{said}; the latencies here are counted from its schedule instead, so they may be "
            "longer than those it printed"
        )
    return f"{said}: time that a request waited in the client is not in these latencies"


def _disagreements(run: ForeignRun, ours: tuple[Measurement, ...]) -> Iterator[Doubt]:
    mine = {(m.metric, m.statistic): m.value for m in ours if m.value is not None}
    told = []
    for r in run.reported:
        value = mine.get((r.metric, r.statistic))
        # The rate that was asked is no observation of the rate that was offered.
        if r.statistic not in _COMPARED or value is None or r.metric == "offered_rate":
            continue
        if abs(value - r.value) > MAX_DISAGREEMENT * max(abs(value), abs(r.value)):
            unit = metric(r.metric).unit
            told.append(
                f"{metric_label(r.metric, r.statistic)} {format_value(r.value, unit)} by the tool, "
                f"{format_value(value, unit)} from its requests"
            )
    if told:
        yield Doubt(
            code="tool_disagrees",
            message=f"{run.tool}'s summary and its own requests differ: {'; '.join(told)}",
        )


def _gate(run: ForeignRun) -> Iterator[Doubt]:
    """The same gate as for a run of ours, as far as the result lets it be applied."""
    if run.is_table_row:
        return
    if run.samples is not None:
        for doubt in doubts_of(run.samples, None, None):
            if doubt.code not in _NOT_FOR_IMPORTS:
                yield doubt
    else:
        yield from _summary_gate(run)
    if run.samples is None or not run.schedule_known:
        yield from _reported_lag(run)


def _summary_gate(run: ForeignRun) -> Iterator[Doubt]:
    if run.num_requests <= run.num_failed:
        yield Doubt(code="no_requests", message="no request was answered in full", invalidates=True)
    elif run.num_failed:
        yield Doubt(
            code="failed_requests",
            message=f"{run.num_failed} of {run.num_requests} requests were not answered in full",
            invalidates=run.num_failed / run.num_requests > MAX_ERROR_SHARE,
        )


def _reported_lag(run: ForeignRun) -> Iterator[Doubt]:
    said = {(r.metric, r.statistic): r.value for r in run.reported}
    lag, ttft = said.get(("dispatch_lag_s", "p99")), said.get(("ttft_s", "p50"))
    if lag is None:
        return
    limit = max(MAX_DISPATCH_LAG_S, MAX_DISPATCH_LAG_SHARE_OF_TTFT * (ttft or 0.0))
    if lag > limit:
        yield Doubt(
            code="client_late",
            message=f"{run.tool} itself was late: p99 dispatch lag {lag * 1e3:.1f} ms, limit "
            f"{limit * 1e3:.1f} ms, and its latencies do not include it",
            invalidates=True,
        )
