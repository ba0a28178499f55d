"""Samples in, measurements out: the definitions of every latency and rate, in one place. Pure.

Warm-up rows are never measured. A statistic that the samples cannot support is kept as a
measurement without a value, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from results.distributions import distribution, gap_distribution, shared, single
from results.gaps import chunk_gaps, gap_pools, token_gaps
from results.measurement import Measurement, of_group
from results.samples import BoolColumn, FloatColumn, IntColumn, RequestSamples, token_mismatch
from results.serial import share
from results.startup import StartupTimeline

NO_ANSWER = "no request was answered in full"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestMetrics:
    """Per-request values of the measured requests (n,), in the order of their rows, NaN where a
    request has none."""

    samples: RequestSamples
    rows: BoolColumn  # (all rows,) the measured requests that were answered in full
    order: IntColumn  # (n,) puts the columns below in order of the intended sends
    answered: BoolColumn
    ttft_s: FloatColumn
    ttfa_s: FloatColumn
    e2e_s: FloatColumn
    tpot_s: FloatColumn
    ntpot_s: FloatColumn
    dispatch_lag_s: FloatColumn
    prompt_tokens: FloatColumn
    output_tokens: FloatColumn
    cached_tokens: FloatColumn
    window_s: float  # first intended send → last answer or failure
    schedule_s: float  # first → last intended send

    @property
    def itl_s(self) -> FloatColumn:
        """(gaps,) pooled over all answered requests; made anew at each call."""
        return token_gaps(self.samples, self.rows)

    @property
    def inter_chunk_s(self) -> FloatColumn:
        """As ``itl_s``."""
        return chunk_gaps(self.samples, self.rows)


def request_metrics(samples: RequestSamples) -> RequestMetrics:
    """The vocabulary's definitions, applied. Latencies count only requests answered in full, from
    the intended send; the client's lag counts every request that was sent."""
    keep = ~samples.is_warmup
    answered = keep & (samples.error == "")
    intended = samples.intended_s
    nan = np.nan
    output, prompt = _known(samples.output_tokens), _known(samples.prompt_tokens)
    ttft = np.where(answered, samples.first_token_s - intended, nan)
    e2e = np.where(answered, samples.done_s - intended, nan)
    tpot = np.where(output > 1, (e2e - ttft) / np.maximum(output - 1, 1), nan)
    ntpot = np.where(output > 0, e2e / np.maximum(output, 1), nan)
    return RequestMetrics(
        samples=samples,
        rows=answered,
        order=np.argsort(intended[keep], kind="stable"),
        answered=answered[keep],
        ttft_s=ttft[keep],
        ttfa_s=np.where(answered, samples.first_answer_s - intended, nan)[keep],
        e2e_s=e2e[keep],
        tpot_s=tpot[keep],
        ntpot_s=ntpot[keep],
        dispatch_lag_s=(samples.dispatched_s - intended)[keep],
        prompt_tokens=prompt[keep],
        output_tokens=output[keep],
        cached_tokens=_known(samples.cached_tokens)[keep],
        window_s=_length_s(intended[keep], samples.done_s[keep]),
        schedule_s=_length_s(intended[keep], intended[keep]),
    )


def _known(counts: IntColumn) -> FloatColumn:
    """−1 → NaN."""
    return np.where(counts >= 0, counts, np.nan)


def _length_s(starts: FloatColumn, ends: FloatColumn) -> float:
    if np.all(np.isnan(starts)) or np.all(np.isnan(ends)):
        return 0.0
    return float(np.nanmax(ends) - np.nanmin(starts))


def measure_requests(
    samples: RequestSamples, slo: Mapping[str, float], num_chips: int
) -> tuple[Measurement, ...]:
    """All serving measurements of one run. ``slo`` maps a latency metric to its limit."""
    return _measure(request_metrics(samples), slo, num_chips, "", 1.0)


def measure_models(
    samples: RequestSamples, slo: Mapping[str, float], num_chips: int
) -> tuple[Measurement, ...]:
    """As ``measure_requests``, for every model or adapter by itself (``Measurement.group``); empty
    where the run asked one only. Rates count over the whole run's window, so that they add up."""
    keep = ~samples.is_warmup
    names = sorted({str(name) for name in samples.model[keep]})
    if len(names) < 2:
        return ()
    whole = request_metrics(samples)
    found: list[Measurement] = []
    for name in names:
        part = request_metrics(subset(samples, keep & (samples.model == name)))
        part = replace(part, window_s=whole.window_s, schedule_s=whole.schedule_s)
        sent = len(part.answered) / len(whole.answered)
        found += _measure(part, slo, num_chips, name or DEFAULT_GROUP, sent)
    return tuple(found)


# The target's own model, beside adapters that have names.
DEFAULT_GROUP = "(default)"


def subset(samples: RequestSamples, rows: BoolColumn) -> RequestSamples:
    """The requests marked in ``rows`` (n,), with their events."""
    lengths = np.diff(samples.event_offset)
    events = np.repeat(rows, lengths)
    changes = {
        name: getattr(samples, name)[events if name.startswith("event_") else rows]
        for name in samples.__dataclass_fields__
        if name != "event_offset"
    }
    offset = np.concatenate([[0], np.cumsum(lengths[rows])])
    return replace(samples, **changes, event_offset=offset)


def _measure(
    m: RequestMetrics, slo: Mapping[str, float], num_chips: int, group: str, part: float
) -> tuple[Measurement, ...]:
    """``part``: of the whole run's sends, those that are this group's."""
    n, answered = len(m.answered), int(m.answered.sum())
    none = NO_ANSWER if n else "no request was measured"
    token_counts = "no answered request has known token counts for all its chunks"
    no_answer_token = "no time of a first answer token is known"
    lag = np.maximum(m.dispatch_lag_s, 0.0)
    itl, inter_chunk = gap_pools(m.samples, m.rows)
    columns = {
        "ttft_s": (m.ttft_s, none),
        "ttfa_s": (m.ttfa_s, none if not answered else no_answer_token),
        "tpot_s": (m.tpot_s, none),
        "ntpot_s": (m.ntpot_s, none),
        "e2e_s": (m.e2e_s, none),
        "dispatch_lag_s": (lag, "no request was sent"),
    }
    out = list(gap_distribution("itl_s", itl, none if not answered else token_counts, group))
    # One token a chunk is the usual stream: then both pools are one, and measured once.
    out += (
        [replace(found, metric="inter_chunk_s") for found in out]
        if itl.num_gaps and itl.ordered is inter_chunk.ordered and not itl.num_zeros
        else gap_distribution("inter_chunk_s", inter_chunk, none, group)
    )
    for name, (values, why) in columns.items():
        out += distribution(name, values[m.order], why, group)
    out += _rates(m, num_chips, none, group, part)
    failed = ~m.answered[m.order]
    out.append(
        shared("error_share", share(failed), n, group)
        if n
        else single("error_share", None, 0, none, group)
    )
    out.append(_cache_hits(m, group))
    out.append(_token_mismatch(m, group))
    return (*out, *_goodput(m, slo, group))


def _rates(
    m: RequestMetrics, num_chips: int, none: str, group: str, part: float
) -> list[Measurement]:
    n = len(m.answered)
    output_rate = _per_s(np.nansum(m.output_tokens[m.answered]), m.window_s)
    chips = num_chips and output_rate is not None
    rates = {
        "offered_rate": (_offered(m, part), "fewer than two send times"),
        "achieved_rate": (_per_s(m.answered.sum(), m.window_s), none),
        "output_throughput": (output_rate, none),
        "prompt_throughput": (_per_s(np.nansum(m.prompt_tokens[m.answered]), m.window_s), none),
        "output_throughput_per_chip": (
            output_rate / num_chips if chips and output_rate is not None else None,
            none if num_chips else "no accelerator chips",
        ),
    }
    return [
        single(name, v, n, "" if v is not None else why, group) for name, (v, why) in rates.items()
    ]


def _offered(m: RequestMetrics, part: float) -> float | None:
    """n − 1 gaps lie between n intended sends, whatever process made them: exact for constant
    arrivals, the mean rate for a ramp. A row without an intended time (a session's turn whose
    predecessor failed) was never offered."""
    intended = m.samples.intended_s[~m.samples.is_warmup]
    known = int((~np.isnan(intended)).sum())
    if m.schedule_s <= 0 or known < 1:
        return None
    # A group's sends are counted against the whole run's schedule.
    gaps = known - 1 if part == 1.0 else known - part
    return gaps / m.schedule_s if gaps > 0 else None


def _cache_hits(m: RequestMetrics, group: str) -> Measurement:
    both = m.answered & ~np.isnan(m.cached_tokens) & (m.prompt_tokens > 0)
    n = int(both.sum())
    if not n:
        why = "the server told no cached tokens"
        return single("prompt_cache_hit_share", None, 0, why, group)
    cached = float(m.cached_tokens[both].sum() / m.prompt_tokens[both].sum())
    return single("prompt_cache_hit_share", min(cached, 1.0), n, "", group)


def _token_mismatch(m: RequestMetrics, group: str) -> Measurement:
    s = m.samples
    comparable, differs = token_mismatch(s)
    n = int((comparable & m.rows).sum())
    if not n:
        why = "no request was counted both by the server and by us"
        return single("token_mismatch_share", None, 0, why, group)
    return single("token_mismatch_share", int((differs & m.rows).sum()) / n, n, "", group)


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


def _goodput(m: RequestMetrics, slo: Mapping[str, float], group: str) -> tuple[Measurement, ...]:
    n = len(m.answered)
    names = ("goodput_rate", "goodput_token_rate", "slo_attainment")
    if not slo or not n:
        why = "the spec has no slo" if not slo else "no request was measured"
        return tuple(single(name, None, n, why, group) for name in names)
    good = good_requests(m, slo)
    rate = _per_s(good.sum(), m.window_s)
    tokens = _per_s(np.nansum(m.output_tokens[good]), m.window_s)
    why = "" if rate is not None else "the window has no length"
    return (
        single("goodput_rate", rate, n, why, group),
        single("goodput_token_rate", tokens, n, why, group),
        shared("slo_attainment", share(good[m.order]), n, group),
    )


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


# How many input tokens cost as much as one output token (GKE Inference Quickstart's default ratio).
_INPUT_PER_OUTPUT = 4.0


def measure_token_cost(
    num_chips: int, usd_per_chip_hour: float | None, load: Iterable[Measurement]
) -> tuple[Measurement, ...]:
    """What a million tokens cost at the rates in ``load``, the measurements of a serving or of a
    training. Nothing where there are no chips or no tokens; without a price, no cost."""
    if not num_chips:
        return ()
    rates = {
        m.metric: (m.value, m.n)
        for m in of_group(load)
        if m.statistic == "value" and m.value is not None
    }
    found = []
    for name, cost in (
        ("output_throughput", "cost_per_million_output_tokens_usd"),
        ("training_throughput", "cost_per_million_training_tokens_usd"),
    ):
        per_s, n = rates.get(name, (0.0, 0))
        if name == "output_throughput" and per_s > 0:
            per_s += rates.get("prompt_throughput", (0.0, 0))[0] / _INPUT_PER_OUTPUT
        if per_s <= 0:
            continue
        usd = None
        if usd_per_chip_hour is not None:
            usd = num_chips * usd_per_chip_hour / 3600.0 / per_s * 1e6
        found.append(single(cost, usd, n, "" if usd is not None else "the pool has no price"))
    return tuple(found)
