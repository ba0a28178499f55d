"""inference-perf's lifecycle reports: one file, or the folder of a run with all of them.

Its TTFT, TPOT and NTPOT are ours by definition, by tokens that the client counted again. Its
``inter_token_latency`` is the gap per token, zero within a chunk, pooled: our ``itl_s``. Requests
keep their send and every chunk's time on a monotonic clock, and not when they were due; of that
the summary has the delays.

A run of several stages is several runs: its summary mixes their rates, and its requests do not say
which stage was theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from results.interop.foreign import (
    ForeignRun,
    Reported,
    chosen,
    count,
    figures_only,
    mapping,
    number,
    part,
    single,
    statistics,
    text,
)
from results.interop.rows import NAN, Row, all_samples, short_error
from results.record import Doubt

TOOL = "inference-perf"
_DISTRIBUTIONS = (
    ("time_to_first_token", "ttft_s"),
    ("time_per_output_token", "tpot_s"),
    ("normalized_time_per_output_token", "ntpot_s"),
    ("inter_token_latency", "itl_s"),
    ("request_latency", "e2e_s"),
)
_STATISTICS = {"mean": "mean", "p50": "median", "p90": "p90", "p95": "p95", "p99": "p99"}
_RATES = (
    ("requests_per_sec", "achieved_rate"),
    ("output_tokens_per_sec", "output_throughput"),
    ("input_tokens_per_sec", "prompt_throughput"),
)
_DEFINITIONS = (
    "TTFT leaves reasoning tokens out",
    "output tokens are those of the answer's text, counted again by its tokenizer",
    "the window of its rates is first send to last answer, of answered requests",
)


def read(
    report: Mapping[str, Any],
    *,
    config: Mapping[str, Any] | None = None,
    requests: Sequence[Mapping[str, Any]] | None = None,
    started_at: datetime | None = None,
    stage: str = "",
) -> ForeignRun:
    """One report, of a stage or of a whole run. Raises KeyError, TypeError or ValueError for what
    is none."""
    successes, load = report["successes"], mapping(report, "load_summary")
    done, failed = count(part(successes, "count")), count(part(report, "failures", "count"))
    rows = [_row(r) for r in requests or ()]
    samples = all_samples(rows, done + failed)
    reported = tuple(_reported(successes, load, done, failed))
    return ForeignRun(
        tool=TOOL,
        version="",
        model=text(part(config, "server", "model_name")),
        asked=_asked(config or {}, load, stage),
        num_requests=done + failed,
        num_failed=failed,
        reported=reported,
        figures=figures_only({k: v for k, v in report.items() if k != "failures"}) or {},
        unmapped=tuple(_unmapped(successes, load, bool(rows) and samples is None)),
        definitions=_DEFINITIONS,
        started_at=started_at,
        duration_s=number(report.get("benchmark_time_seconds")),
        samples=samples,
        doubts=tuple(_doubts(successes)),
    )


def read_folder(
    reports: Mapping[str, Mapping[str, Any]],
    *,
    config: Mapping[str, Any] | None,
    requests: Sequence[Mapping[str, Any]] | None,
    started_at: Mapping[str, datetime],
) -> tuple[ForeignRun, ...]:
    """One run per stage; ``reports``: stage name (``stage_0``; "" for the summary) → report, and
    ``started_at`` likewise."""
    stages = {name: report for name, report in reports.items() if name}
    alone = len(stages) <= 1
    return tuple(
        read(
            report,
            config=config,
            requests=requests if alone else None,
            started_at=started_at.get(name),
            stage="" if alone else name,
        )
        for name, report in (stages or reports).items()
    )


def _reported(
    successes: Mapping[str, Any], load: Mapping[str, Any], done: int, failed: int
) -> Iterator[Reported]:
    tokens = count(part(successes, "output_len", "mean"), 1) * done
    for theirs, ours in _DISTRIBUTIONS:
        # Gaps are pooled over tokens; the others have one value a request.
        n = max(tokens - done, 0) if ours == "itl_s" else done
        found = mapping(successes, "latency", theirs)
        yield from statistics(ours, found, _STATISTICS, n, theirs, 1.0)
    delay = {k: max(number(v) or 0.0, 0.0) for k, v in mapping(load, "schedule_delay").items()}
    # A request that went out early was not late.
    yield from statistics(
        "dispatch_lag_s", delay, _STATISTICS, count(load.get("count")), "schedule_delay", 1.0
    )
    for theirs, ours in _RATES:
        rate = part(successes, "throughput", theirs)
        yield from single(ours, rate, done, theirs)
    yield from single(
        "offered_rate", load.get("requested_rate"), done + failed, "requested_rate, as asked"
    )
    if done + failed:
        share = failed / (done + failed)
        yield from single("error_share", share, done + failed, "failures.count / all")


def _row(request: Mapping[str, Any]) -> Row:
    start, end = float(request["start_time"]), float(request["end_time"])
    response = mapping(request, "info", "response_metrics")
    failure = request.get("error")
    error = (
        short_error(part(failure, "error_type") or part(failure, "error_msg") or failure)
        if failure
        else ""
    )
    tokens = [float(t) for t in response.get("output_token_times") or ()]
    chunks = [float(t) for t in response.get("chunk_times") or sorted(set(tokens))]
    server = count(part(response, "server_usage", "completion_tokens"), -1)
    own = count(response.get("output_tokens"), -1)
    asked = count(part(request, "info", "input_tokens"), -1)
    per_chunk = Counter(tokens)
    # Which chunk holds how many tokens is its tokenizer's word; taken where the server agrees.
    agreed = server in (-1, len(tokens)) and all(per_chunk[t] for t in chunks)
    return Row(
        intended_s=start,
        first_token_s=chunks[0] if chunks and not error else NAN,
        done_s=end,
        event_s=() if error else chunks,
        event_tokens=[per_chunk[t] for t in chunks] if agreed and not error else (),
        prompt_tokens=count(part(response, "server_usage", "prompt_tokens"), asked),
        output_tokens=-1 if error else (server if server >= 0 else own),
        own_output_tokens=own,
        error=error,
    )


def _asked(config: Mapping[str, Any], load: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """What decides the question; the server's address, keys and headers stay behind."""
    asked = {
        "load": chosen(
            mapping(config, "load"), "type", "interval", "stages", "sweep", "worker_max_concurrency"
        ),
        "data": chosen(
            mapping(config, "data"),
            "type",
            "input_distribution",
            "output_distribution",
            "shared_prefix",
            "use_chat_template",
        ),
        "api": chosen(mapping(config, "api"), "type", "streaming"),
        "requested_rate": load.get("requested_rate"),
        "num_requests": load.get("count"),
        "stage": stage,
    }
    return {name: value for name, value in asked.items() if value}


def _unmapped(
    successes: Mapping[str, Any], load: Mapping[str, Any], requests_left: bool
) -> Iterator[str]:
    taken = {"count", "latency", "throughput"}
    known = {theirs for theirs, _ in (*_DISTRIBUTIONS, *_RATES)}
    for place in ("latency", "throughput"):
        for name, found in mapping(successes, place).items():
            if name not in known and figures_only(found):
                yield name
    yield from (k for k, v in successes.items() if k not in taken and figures_only(v) is not None)
    for name in ("send_duration", "achieved_rate"):
        if number(load.get(name)) is not None:
            yield f"load_summary.{name}"
    if requests_left:
        yield "requests (they do not match the report's count)"


def _doubts(successes: Mapping[str, Any]) -> Iterator[Doubt]:
    own, server = (
        number(part(successes, name, "mean")) for name in ("output_len", "output_tokens")
    )
    if count(successes.get("token_count_mismatches")) and own is not None and server is not None:
        yield Doubt(
            code="token_counts_differ",
            message=f"{TOOL} counted {own:g} output tokens per request where the server says "
            f"{server:g}; its figures per token go by its own count",
        )
