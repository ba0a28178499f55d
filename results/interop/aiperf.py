"""AIPerf's ``profile_export_aiperf.json``, with its ``profile_export.jsonl`` where that is given.

Its ``inter_token_latency`` is (last token − first) / (tokens − 1) of a request, so it is our
``tpot_s``; its ``inter_chunk_latency`` is ours. A request's times are on the wall clock, counted
from the send; ``credit_issued_ns`` is no schedule, because a credit is issued only once a slot is
free, and in rate mode an arrival without a slot is skipped. So no schedule is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from results.interop.foreign import (
    MS,
    ForeignRun,
    Reported,
    chosen,
    count,
    figures_only,
    mapping,
    names_taken,
    number,
    part,
    single,
    statistics,
    text,
)
from results.interop.rows import NAN, Row, all_samples, short_error
from results.record import Doubt

TOOL = "AIPerf"
_NS = 1e-9
KNOWN_SCHEMA = "1."
_DISTRIBUTIONS = (
    ("time_to_first_token", "ttft_s"),
    ("inter_token_latency", "tpot_s"),
    ("inter_chunk_latency", "inter_chunk_s"),
    ("request_latency", "e2e_s"),
)
_STATISTICS = {"mean": "avg", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
_RATES = (
    ("request_throughput", "achieved_rate"),
    ("output_token_throughput", "output_throughput"),
    ("input_token_throughput", "prompt_throughput"),
    ("goodput", "goodput_rate"),
    ("good_request_fraction", "slo_attainment"),
)
_COUNTED = ("request_count", "error_request_count", "benchmark_duration")
_SLO = {
    "time_to_first_token": "ttft_s",
    "inter_token_latency": "tpot_s",
    "request_latency": "e2e_s",
}
_UNITS_S = {"ms": MS, "sec": 1.0, "s": 1.0, "us": 1e-6, "ns": _NS}
_DEFINITIONS = (
    "its inter-token latency is a mean per request and is kept as tpot_s",
    "request latency ends with the last token, not with the last byte",
    "tokens are counted by its own tokenizer unless it was told to use the server's count",
)


def read(document: Mapping[str, Any], requests: Sequence[Mapping[str, Any]] | None) -> ForeignRun:
    """One run; ``requests`` are the lines of the JSONL file. Raises KeyError, TypeError or
    ValueError for what is none."""
    done = count(part(document, "request_count", "avg"))
    failed = count(part(document, "error_request_count", "avg"))
    rows = [_row(r, _origin_ns(requests)) for r in requests] if requests else []
    num_measured = sum(not r.is_warmup for r in rows)
    samples = all_samples(rows, done + failed)
    metrics = {k: v for k, v in document.items() if isinstance(v, Mapping) and "unit" in v}
    reported = tuple(_reported(metrics, done, failed, document))
    taken = names_taken(reported) | set(_COUNTED)
    unmapped = [name for name in metrics if name not in taken]
    if rows and samples is None:
        told = f"{num_measured} requests in it, {done + failed} in the summary"
        unmapped.append(f"profile_export.jsonl ({told})")
    return ForeignRun(
        tool=TOOL,
        version=text(document.get("aiperf_version")),
        model=text(part(_first(part(document, "input_config", "models", "items")), "name")),
        asked=_asked(mapping(document, "input_config")),
        num_requests=done + failed,
        num_failed=failed,
        reported=reported,
        figures=figures_only(metrics) or {},
        unmapped=tuple(unmapped),
        definitions=_DEFINITIONS,
        started_at=_started_at(document, requests),
        duration_s=number(part(document, "benchmark_duration", "avg")),
        samples=samples,
        slo=_slo(document),
        seeds=chosen(mapping(document, "run_info"), "random_seed"),
        doubts=tuple(_doubts(document, requests)),
    )


def _reported(
    metrics: Mapping[str, Any], done: int, failed: int, document: Mapping[str, Any]
) -> Iterator[Reported]:
    for theirs, ours in _DISTRIBUTIONS:
        tree = mapping(metrics, theirs)
        if tree:
            unit = _UNITS_S[tree["unit"]]
            yield from statistics(
                ours, tree, _STATISTICS, count(tree.get("count"), done), theirs, unit
            )
    for theirs, ours in _RATES:
        n = done + failed if ours == "slo_attainment" else done
        yield from single(ours, part(metrics, theirs, "avg"), n, f"{theirs}.avg")
    if done + failed:
        share = failed / (done + failed)
        yield from single("error_share", share, done + failed, "error_request_count / all")
    rate = _phase(mapping(document, "input_config")).get("rate")
    yield from single("offered_rate", rate, done + failed, "phases.rate, as asked")


def _origin_ns(requests: Sequence[Mapping[str, Any]]) -> int:
    """Whole nanoseconds are subtracted before they become floats, which could not hold them."""
    return min(int(r["metadata"]["request_start_ns"]) for r in requests)


def _row(line: Mapping[str, Any], origin_ns: int) -> Row:
    metadata, metrics = mapping(line, "metadata"), mapping(line, "metrics")
    start = (int(metadata["request_start_ns"]) - origin_ns) * _NS
    end = (int(metadata.get("request_end_ns") or metadata["request_start_ns"]) - origin_ns) * _NS
    ttft = _seconds(metrics.get("time_to_first_token"))
    error = _error(line)
    times = [] if ttft is None or error else [start + ttft]
    gaps = part(metrics, "inter_chunk_latency")
    if times and isinstance(part(gaps, "value"), list):
        for gap in part(gaps, "value"):
            times.append(times[-1] + float(gap) * _UNITS_S[part(gaps, "unit")])
    server, own = (
        count(part(metrics, name, "value"), -1)
        for name in ("usage_completion_tokens", "output_sequence_length")
    )
    return Row(
        intended_s=start,
        first_token_s=times[0] if times else NAN,
        done_s=end,
        event_s=times,
        prompt_tokens=count(part(metrics, "usage_prompt_tokens", "value"), -1),
        output_tokens=-1 if error else (server if server >= 0 else own),
        own_prompt_tokens=count(part(metrics, "input_sequence_length", "value"), -1),
        own_output_tokens=own,
        status=count(part(line, "error", "code"), -1),
        error=error,
        # A phase that is no profiling (warm-up, cool-down) is kept and never measured.
        is_warmup=metadata.get("benchmark_phase", "profiling") != "profiling",
    )


def _error(line: Mapping[str, Any]) -> str:
    if line.get("error"):
        kind, message = part(line, "error", "type"), part(line, "error", "message")
        return short_error(": ".join(str(w) for w in (kind, message) if w) or line["error"])
    return "cancelled by the tool" if part(line, "metadata", "was_cancelled") else ""


def _seconds(measured: Any) -> float | None:
    value = number(part(measured, "value"))
    return None if value is None else value * _UNITS_S[part(measured, "unit")]


def _first(items: Any) -> Any:
    return items[0] if isinstance(items, list) and items else None


def _phase(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first phase that counts."""
    phases = [p for p in config.get("phases") or () if part(p, "kind") != "warmup"]
    return phases[0] if phases else {}


def _asked(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the question; addresses, keys, headers and places of files stay behind."""
    endpoint = chosen(mapping(config, "endpoint"), "type", "streaming", "use_server_token_count")
    datasets = [
        chosen(d, "type", "entries", "random_seed", "prompts", "turns", "format", "sampling")
        for d in config.get("datasets") or ()
    ]
    asked = {"endpoint": endpoint, "datasets": datasets, "phases": config.get("phases")}
    return {name: value for name, value in asked.items() if value}


def _slo(document: Mapping[str, Any]) -> dict[str, float]:
    """Limits are given in the unit that the metric is shown in."""
    limits = mapping(document, "input_config", "slos")
    found = {}
    for theirs, ours in _SLO.items():
        limit, unit = number(limits.get(theirs)), part(document, theirs, "unit")
        if limit is not None and unit in _UNITS_S:
            found[ours] = limit * _UNITS_S[unit]
    # With a limit that is none of ours, goodput by the rest would be another goodput.
    return found if len(found) == len(limits) else {}


def _started_at(
    document: Mapping[str, Any], requests: Sequence[Mapping[str, Any]] | None
) -> datetime | None:
    if requests:
        return datetime.fromtimestamp(_origin_ns(requests) // 1_000_000_000, UTC)
    try:
        return datetime.fromisoformat(document["start_time"]).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return None


def _doubts(
    document: Mapping[str, Any], requests: Sequence[Mapping[str, Any]] | None
) -> Iterator[Doubt]:
    schema = text(document.get("schema_version"))
    if not schema.startswith(KNOWN_SCHEMA):
        yield Doubt(
            code="unknown_version",
            message=f"export schema {schema!r} of {TOOL} was not known when this importer was "
            f"written (known: {KNOWN_SCHEMA}x)",
        )
    if not requests and document.get("start_time"):
        yield Doubt(
            code="date_without_zone",
            message="the result's date is the local time of an unknown zone; it is taken as UTC",
        )
    if document.get("was_cancelled") or document.get("is_complete") is False:
        why = text(document.get("incomplete_reason")) or "it was cancelled"
        yield Doubt(
            code="tool_incomplete",
            message=f"{TOOL} says that its run is not complete: {why}",
            invalidates=True,
        )
