"""``vllm bench serve --save-result``: vLLM's own benchmark client, 0.10 and later.

Its JSON names no version. ``ITL`` is the raw gap between chunks, pooled, so it is our
``inter_chunk_s``; TPOT is ours by definition. With ``--save-detailed`` it has every request;
``start_times`` came later than the rest (without it nothing can be put on a time axis), and
``queue_times`` later still: what a request waited between the client's schedule and its send.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from results.interop.foreign import (
    MS,
    ForeignRun,
    Reported,
    chosen,
    count,
    figures_only,
    number,
    single,
    statistics,
    text,
)
from results.interop.rows import NAN, NO_REASON, Row, samples_of, short_error
from results.record import Doubt

TOOL = "vllm bench serve"
_METRICS = {"ttft": "ttft_s", "tpot": "tpot_s", "itl": "inter_chunk_s", "e2el": "e2e_s"}
_RATES = (
    ("achieved_rate", "request_throughput"),
    ("output_throughput", "output_throughput"),
    ("goodput_rate", "request_goodput"),
    ("goodput_rate", "request_goodput:"),  # so spelled until 2025
)
_QUEUE = "client_queue_time"
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?)_(\w+)_ms")
_ASKED = (
    "backend",
    "num_prompts",
    "request_rate",
    "burstiness",
    "max_concurrency",
    "ramp_up_strategy",
    "ramp_up_start_rps",
    "ramp_up_end_rps",
)
# Said elsewhere in the record, or of the question rather than the answer.
_SPOKEN_FOR = {
    *_ASKED,
    "date",
    "endpoint_type",
    "label",
    "model_id",
    "tokenizer_id",
    "duration",
    "completed",
    "failed",
    "total_input_tokens",
    "total_output_tokens",
    "request_throughput",
    "request_goodput",
    "request_goodput:",
    "output_throughput",
}
_PER_REQUEST = (
    "input_lens",
    "output_lens",
    "ttfts",
    "itls",
    "latencies",
    "start_times",
    "queue_times",
    "generated_texts",
    "errors",
)
_DEFINITIONS = (
    "latency ends with the last chunk that has a choice, not with the last byte",
    "a chunk without text is a chunk, and may be the first token",
    "the window of its rates is its own loop, first send to last answer",
)


def read(document: Mapping[str, Any]) -> ForeignRun:
    """One result. Raises KeyError, TypeError or ValueError for what is none."""
    rate = number(document.get("request_rate"))
    completed = int(document["completed"])
    total = max(count(document.get("num_prompts"), completed), completed)
    failed = count(document.get("failed"), total - completed)
    queued = rate is not None and _columns(document, "start_times", "queue_times")
    detailed = _columns(document, "start_times", "ttfts", "itls", "output_lens", "errors")
    asked = chosen(document, *_ASKED)
    # The file does not say which prompts; their number of tokens tells most data sets apart.
    asked["total_input_tokens"] = document.get("total_input_tokens")
    reported = tuple(_reported(document, completed, failed, rate))
    taken = {r.source for r in reported}
    summary = {k: v for k, v in document.items() if k not in _PER_REQUEST}
    twice = {k for k in summary if k.startswith("p50_") and f"median_{k[4:]}" in taken}
    known = _SPOKEN_FOR | taken | twice
    left = sorted(k for k in summary if k not in known and _says(summary[k]))
    # What --metadata added: words of the person who ran it.
    labels = {k: summary[k] for k in left if isinstance(summary[k], str)} | chosen(summary, "label")
    unmapped = [k for k in left if k not in labels]
    if not detailed:
        unmapped += [f"{name} (per request)" for name in _PER_REQUEST if document.get(name)]
    return ForeignRun(
        tool=TOOL,
        version="",
        model=text(document.get("model_id")),
        asked=asked,
        num_requests=completed + failed,
        num_failed=failed,
        reported=reported,
        figures=figures_only(summary) or {},
        unmapped=tuple(unmapped),
        definitions=_DEFINITIONS,
        started_at=_started_at(document),
        duration_s=number(document.get("duration")),
        labels=labels,
        samples=samples_of(_rows(document, bool(queued))) if detailed else None,
        schedule_known=bool(queued and detailed),
        doubts=tuple(_doubts(document)),
    )


def _says(value: Any) -> bool:
    return value not in (None, "", [], {})


def _columns(document: Mapping[str, Any], *names: str) -> bool:
    """Whether all of these are lists of one length, and not empty."""
    lengths = {len(v) if isinstance(v := document.get(n), list) else 0 for n in names}
    return len(lengths) == 1 and lengths != {0}


def _reported(
    document: Mapping[str, Any], completed: int, failed: int, rate: float | None
) -> Iterator[Reported]:
    output, duration = count(document.get("total_output_tokens")), number(document.get("duration"))
    # Its chunks are not counted in the summary; no answer has more chunks than tokens.
    num_of = {"itl": max(output - completed, 0)}
    names = _statistics_of(document)
    for theirs, ours in (*_METRICS.items(), (_QUEUE, "dispatch_lag_s")):
        # All at once, the queue is the concurrency limit at work, and no lateness.
        if theirs == _QUEUE and rate is None:
            continue
        for statistic, key in names.get(theirs, {}).items():
            n = num_of.get(theirs, completed)
            yield from statistics(ours, document, {statistic: key}, n, "", MS)
    for ours, key in _RATES:
        yield from single(ours, document.get(key), completed, key)
    yield from single("offered_rate", rate, completed + failed, "request_rate, as asked")
    prompt = number(document.get("total_input_tokens"))
    if duration and prompt is not None:
        source = "total_input_tokens / duration"
        yield from single("prompt_throughput", prompt / duration, completed, source)
    if completed + failed:
        share = failed / (completed + failed)
        yield from single("error_share", share, completed + failed, "failed / all")


def _statistics_of(document: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """tool's metric → our statistic → its key. The median is given as such, or as p50, or both."""
    found: dict[str, dict[str, str]] = {}
    for key in document:
        if match := _PERCENTILE.fullmatch(key):
            found.setdefault(match[2], {})[f"p{float(match[1]):g}"] = key
    for key in document:
        for statistic, prefix in (("mean", "mean_"), ("p50", "median_")):
            if key.startswith(prefix) and key.endswith("_ms"):
                found.setdefault(key[len(prefix) : -len("_ms")], {})[statistic] = key
    return found


def _rows(document: Mapping[str, Any], queued: bool) -> list[Row]:
    n = len(document["start_times"])
    zeros: Sequence[float] = [0.0] * n
    queue = document["queue_times"] if queued else zeros
    prompts = document["input_lens"] if _columns(document, "start_times", "input_lens") else zeros
    rows = []
    for i, start in enumerate(document["start_times"]):
        error, ttft = text(document["errors"][i]), float(document["ttfts"][i])
        tokens = int(document["output_lens"][i])
        # A request is answered exactly when a first chunk came and nothing went wrong after it.
        failed = bool(error) or (ttft == 0.0 and tokens == 0)
        times = [start + ttft]
        for gap in document["itls"][i]:
            times.append(times[-1] + float(gap))
        rows.append(
            Row(
                intended_s=start - queue[i],
                dispatched_s=start if queued else NAN,
                first_token_s=NAN if failed else times[0],
                done_s=NAN if failed else times[-1],
                event_s=() if failed else times,
                prompt_tokens=int(prompts[i]) if prompts is not zeros else -1,
                output_tokens=-1 if failed else tokens,
                error=short_error(error or NO_REASON) if failed else "",
            )
        )
    return rows


def _started_at(document: Mapping[str, Any]) -> datetime | None:
    """The date is written when the benchmark has ended, in the local time of the client."""
    try:
        ended_at = datetime.strptime(document["date"], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return None
    return ended_at - timedelta(seconds=number(document.get("duration")) or 0.0)


def _doubts(document: Mapping[str, Any]) -> Iterator[Doubt]:
    if _started_at(document) is not None:
        yield Doubt(
            code="date_without_zone",
            message="the result's date is the local time of an unknown zone; it is taken as UTC",
        )
    if any(number(document.get(k)) is not None for k in ("request_goodput", "request_goodput:")):
        yield Doubt(
            code="goodput_limits_unknown",
            message="the result has a goodput and does not say which limits it stands for",
        )
