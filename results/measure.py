"""Samples in, measurements out: the definitions of every latency and rate, in one place. Pure.

Warm-up rows are never measured. A statistic that the samples cannot support is kept as a
measurement without a value, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from results.intervals import min_samples, quantile_interval
from results.measurement import Measurement
from results.samples import BoolColumn, FloatColumn, RequestSamples, StepSamples
from results.startup import StartupTimeline

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
WITHIN_RUN = "linear percentile; order-statistic interval within this run"


def percentile_name(q: float) -> str:
    """0.99 → ``p99``, 0.999 → ``p99.9``."""
    return f"p{round(q * 100, 6):g}"


def distribution(metric: str, values: FloatColumn, why_empty: str = "") -> tuple[Measurement, ...]:
    """Mean and percentiles of one metric's samples (n,); NaN rows are left out and not counted."""
    values = values[~np.isnan(values)]
    n = len(values)
    reason = f"no sample{': ' + why_empty if why_empty else ''}"
    mean = Measurement(
        metric=metric,
        statistic="mean",
        value=float(np.mean(values)) if n else None,
        n=n,
        method="arithmetic mean; no interval within one run",
        reason="" if n else reason,
    )
    return (mean, *(_percentile(metric, values, q, reason) for q in PERCENTILES))


def _percentile(metric: str, values: FloatColumn, q: float, why_empty: str) -> Measurement:
    n, need = len(values), min_samples(q)
    if n < need:
        return Measurement(
            metric=metric,
            statistic=percentile_name(q),
            value=None,
            n=n,
            method=WITHIN_RUN,
            reason=f"n = {n}; needs at least {need}" if n else why_empty,
        )
    interval = quantile_interval(values, q)
    return Measurement(
        metric=metric,
        statistic=percentile_name(q),
        value=float(np.quantile(values, q)),
        n=n,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        method=WITHIN_RUN,
    )


def single(metric: str, value: float | None, n: int, reason: str = "") -> Measurement:
    """A metric the run has one number of."""
    return Measurement(metric=metric, statistic="value", value=value, n=n, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMetrics:
    """Per-request values of the measured requests (n,), NaN where a request has none, and the two
    pooled gap columns (gaps,)."""

    answered: BoolColumn
    ttft_s: FloatColumn
    e2e_s: FloatColumn
    tpot_s: FloatColumn
    ntpot_s: FloatColumn
    dispatch_lag_s: FloatColumn
    itl_s: FloatColumn
    inter_chunk_s: FloatColumn
    prompt_tokens: FloatColumn
    output_tokens: FloatColumn
    window_s: float  # first intended send → last answer or failure
    schedule_s: float  # first → last intended send


def request_metrics(samples: RequestSamples) -> RequestMetrics:
    """The vocabulary's definitions, applied. Latencies count only requests answered in full, from
    the intended send; the client's lag counts every request that was sent."""
    keep = ~samples.is_warmup
    answered = keep & (samples.error == "")
    intended = samples.intended_s
    nan = np.nan
    output = np.where(samples.output_tokens >= 0, samples.output_tokens, nan).astype(np.float64)
    prompt = np.where(samples.prompt_tokens >= 0, samples.prompt_tokens, nan).astype(np.float64)
    ttft = np.where(answered, samples.first_token_s - intended, nan)
    e2e = np.where(answered, samples.done_s - intended, nan)
    tpot = np.where(output > 1, (e2e - ttft) / np.maximum(output - 1, 1), nan)
    ntpot = np.where(output > 0, e2e / np.maximum(output, 1), nan)
    itl, inter_chunk = _gaps(samples, answered)
    sent = intended[keep]
    ended = samples.done_s[keep]
    window = float(np.nanmax(ended) - np.nanmin(sent)) if np.any(~np.isnan(ended)) else 0.0
    schedule = float(np.nanmax(sent) - np.nanmin(sent)) if np.any(~np.isnan(sent)) else 0.0
    return RequestMetrics(
        answered=answered[keep],
        ttft_s=ttft[keep],
        e2e_s=e2e[keep],
        tpot_s=tpot[keep],
        ntpot_s=ntpot[keep],
        dispatch_lag_s=(samples.dispatched_s - intended)[keep],
        itl_s=itl,
        inter_chunk_s=inter_chunk,
        prompt_tokens=prompt[keep],
        output_tokens=output[keep],
        window_s=window,
        schedule_s=schedule,
    )


def _gaps(samples: RequestSamples, answered: BoolColumn) -> tuple[FloatColumn, FloatColumn]:
    """(ITL, inter-chunk) pooled over all answered requests.

    Tokens that come in one chunk arrive together: their gaps are zero, and the chunk's first token
    carries the whole wait. A request with a chunk of unknown token count gives no ITL at all.
    """
    itl: list[FloatColumn] = []
    chunks: list[FloatColumn] = []
    for i in np.flatnonzero(answered):
        start, end = samples.event_offset[i], samples.event_offset[i + 1]
        gaps = np.diff(samples.event_s[start:end])
        chunks.append(gaps)
        tokens = samples.event_tokens[start:end]
        if len(tokens) and np.all(tokens > 0):
            per_token = np.zeros(int(tokens.sum()) - 1)
            # Token index at which each chunk after the first begins; its gap stands before it.
            per_token[np.cumsum(tokens[:-1]) - 1] = gaps
            itl.append(per_token)
    empty = np.empty(0)
    return (
        np.concatenate(itl) if itl else empty,
        np.concatenate(chunks) if chunks else empty,
    )


def measure_requests(
    samples: RequestSamples, slo: Mapping[str, float], num_chips: int
) -> tuple[Measurement, ...]:
    """All serving measurements of one run. ``slo`` maps a latency metric to its limit."""
    m = request_metrics(samples)
    n, answered = len(m.answered), int(m.answered.sum())
    none = "no request was answered in full" if n else "no request was measured"
    token_counts = "no answered request has known token counts for all its chunks"
    out = [
        *distribution("ttft_s", m.ttft_s, none),
        *distribution("itl_s", m.itl_s, none if not answered else token_counts),
        *distribution("inter_chunk_s", m.inter_chunk_s, none),
        *distribution("tpot_s", m.tpot_s, none),
        *distribution("ntpot_s", m.ntpot_s, none),
        *distribution("e2e_s", m.e2e_s, none),
        *distribution("dispatch_lag_s", np.maximum(m.dispatch_lag_s, 0.0), "no request was sent"),
    ]
    offered = (n - 1) / m.schedule_s if n > 1 and m.schedule_s > 0 else None
    out.append(single("offered_rate", offered, n, "" if offered else "fewer than two send times"))
    output_rate = _per_s(np.nansum(m.output_tokens[m.answered]), m.window_s)
    rates = {
        "achieved_rate": _per_s(answered, m.window_s),
        "output_throughput": output_rate,
        "prompt_throughput": _per_s(np.nansum(m.prompt_tokens[m.answered]), m.window_s),
    }
    out += [single(name, v, n, "" if v is not None else none) for name, v in rates.items()]
    out.append(
        single("output_throughput_per_chip", output_rate / num_chips, n)
        if num_chips and output_rate is not None
        else single(
            "output_throughput_per_chip", None, n, none if num_chips else "no accelerator chips"
        )
    )
    out.append(single("error_share", (n - answered) / n if n else None, n, "" if n else none))
    return (*out, *_goodput(m, slo))


def _per_s(total: float, window_s: float) -> float | None:
    return float(total) / window_s if window_s > 0 else None


def good_requests(m: RequestMetrics, slo: Mapping[str, float]) -> BoolColumn:
    """(n,) answered in full and within every limit. A metric the request does not have (TPOT of a
    single token) cannot be missed."""
    good = m.answered.copy()
    for name, limit in slo.items():
        values: FloatColumn = getattr(m, name)
        good &= np.isnan(values) | (values <= limit)
    return good


def _goodput(m: RequestMetrics, slo: Mapping[str, float]) -> tuple[Measurement, ...]:
    n = len(m.answered)
    if not slo or not n:
        why = "the spec has no slo" if not slo else "no request was measured"
        return single("goodput_rate", None, n, why), single("slo_attainment", None, n, why)
    good = int(good_requests(m, slo).sum())
    rate = _per_s(good, m.window_s)
    return (
        single("goodput_rate", rate, n, "" if rate is not None else "the window has no length"),
        single("slo_attainment", good / n, n),
    )


def measure_steps(samples: StepSamples, num_chips: int) -> tuple[Measurement, ...]:
    """All training measurements of one run. A step is as long as its slowest rank; throughput is
    all ranks' tokens over the longest rank's span, so that pauses between steps count."""
    keep = ~samples.is_warmup
    steps = np.unique(samples.step[keep])
    none = "no step was measured"
    slowest = np.array([samples.duration_s[keep & (samples.step == s)].max() for s in steps])
    spans = [_span_s(samples, keep & (samples.rank == r)) for r in np.unique(samples.rank[keep])]
    longest = max(spans, default=0.0)
    n = len(steps)
    rate = _per_s(float(samples.num_tokens[keep].sum()), longest)
    loss = float(samples.loss[keep & (samples.step == steps[-1])].mean()) if n else None
    loss_reason = none if loss is None else ""
    if loss is not None and not np.isfinite(loss):
        loss, loss_reason = None, "the loss is not a finite number"
    known = samples.memory_bytes[samples.memory_bytes >= 0]
    per_chip = rate / num_chips if rate is not None and num_chips else None
    return (
        *distribution("step_time_s", slowest, none),
        single("training_throughput", rate, n, "" if rate is not None else none),
        single(
            "training_throughput_per_chip",
            per_chip,
            n,
            "" if per_chip is not None else (none if num_chips else "no accelerator chips"),
        ),
        single("final_loss", loss, n, loss_reason),
        single(
            "peak_memory_bytes",
            float(known.max()) if len(known) else None,
            n,
            "" if len(known) else "no rank could tell its memory",
        ),
    )


def _span_s(samples: StepSamples, rows: BoolColumn) -> float:
    start = samples.start_s[rows]
    return float((start + samples.duration_s[rows]).max() - start.min()) if len(start) else 0.0


def measure_startup(startup: StartupTimeline | None, why_none: str) -> tuple[Measurement, ...]:
    if startup is None:
        return (
            single("startup_s", None, 0, why_none),
            single("startup_unattributed_s", None, 0, why_none),
        )
    return (
        single("startup_s", startup.ready_s, 1),
        single("startup_unattributed_s", startup.unattributed_s, 1),
    )


def measure_cost(
    num_chips: int, held_s: float, usd_per_chip_hour: float | None
) -> tuple[Measurement, ...]:
    """``held_s``: placement → end of the run. No price, no cost: never a guess."""
    if not num_chips:
        return ()
    hours = num_chips * held_s / 3600.0
    cost = hours * usd_per_chip_hour if usd_per_chip_hour is not None else None
    why = "" if cost is not None else "the pool has no price"
    return single("chip_hours", hours, 1), single("cost_usd", cost, 1, why)
