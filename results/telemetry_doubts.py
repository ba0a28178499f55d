"""Where the server's own account and ours disagree: doubts from telemetry. Pure.

The server counts everything it was sent between the first reading and the last: our warm-up and
measured requests, a few one-token probes that are no rows, and whatever anybody else sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from results.record import Doubt
from results.samples import BoolColumn, FloatColumn, IntColumn, RequestSamples
from results.telemetry import Histogram, Telemetry, counted, histogram
from results.telemetry_measure import (
    DEVICE_THROTTLED,
    OUTPUT_TOKENS,
    PREEMPTIONS,
    PREFIX_HITS,
    PREFIX_QUERIES,
    PROMPT_TOKENS,
    RUNNING,
    TTFT,
    window_of,
)

# Between the server's two marks and ours lie its front door and the network, which are small.
TTFT_TOLERANCE_S = 0.010
TTFT_TOLERANCE_SHARE = 0.10
TTFT_QUANTILES = (0.5, 0.9)
MIN_REQUESTS = 20  # of fewer, one slow request is the difference
# A worker asks what dialect the server speaks: up to three requests of one token each.
PROBES_PER_WORKER = 3
PROBE_PROMPT_TOKENS = 64  # eight words, and what a chat template puts around them
# Prompts drawn at random still share a template's first block.
MAX_UNEXPECTED_HIT_RATIO = 0.01
MAX_GAP_SHARE = 0.05


def doubts_of_telemetry(
    telemetry: Telemetry, samples: RequestSamples, *, expects_prefix_hits: bool, num_chips: int = 0
) -> tuple[Doubt, ...]:
    """Every doubt that the server's side raises. ``expects_prefix_hits``: the traffic shares
    prefixes on purpose."""
    foreign = tuple(_foreign(telemetry, samples))
    found = [*foreign, *_ttft(telemetry, samples)]
    if not foreign:  # the counts of several clients cannot be told apart
        found += _tokens(telemetry, samples)
    found += _preemptions(telemetry)
    if not expects_prefix_hits:
        found += _prefix_hits(telemetry)
    window = window_of(samples)
    found += throttled([s.within(*window) for s in telemetry.series(DEVICE_THROTTLED).values()])
    found += gaps(telemetry, num_chips)
    return tuple(found)


def shares_prefixes(traffic: Mapping[str, Any]) -> bool:
    """Whether a spec's traffic finds prefixes in the cache on purpose: shared prefixes, prompts of
    a file or a trace, conversations; and a chat, whose template is a prefix of every prompt."""
    prompts = (traffic.get("prompts") or {}).get("kind", "random")
    arrivals = (traffic.get("arrivals") or {}).get("kind", "")
    return (
        prompts != "random"
        or arrivals == "trace"
        or bool(traffic.get("sessions"))
        or traffic.get("api") == "chat"
    )


def _num_probes(samples: RequestSamples) -> int:
    return PROBES_PER_WORKER * max(len(np.unique(samples.worker)), 1)


def service_ttft_s(samples: RequestSamples) -> FloatColumn:
    """Dispatch → first token of every request that had one, warm-up included: what the server can
    know of. The client's own queue (intended → dispatched) is not in it."""
    seen: FloatColumn = samples.first_token_s - samples.dispatched_s
    known: FloatColumn = seen[~np.isnan(seen)]
    return known


def _foreign(telemetry: Telemetry, samples: RequestSamples) -> Iterable[Doubt]:
    running = telemetry.total(RUNNING)
    if running is not None and running.value[0] > 0:
        yield Doubt(
            code="foreign_traffic",
            message=f"{running.value[0]:.0f} requests were running on the server before the load "
            "began: somebody else uses it, and our latencies are theirs too",
        )
        return
    server = histogram(telemetry, TTFT)
    if server is None:
        return
    # A request of ours that failed may or may not have got as far as a token on the server.
    sent = int((~np.isnan(samples.dispatched_s)).sum())
    most = sent + _num_probes(samples)
    if server.n > most:
        yield Doubt(
            code="foreign_traffic",
            message=f"the server began to answer {server.n:,} requests while we sent {sent:,} "
            f"(and at most {most - sent} probes): somebody else uses it",
        )


def _ttft(telemetry: Telemetry, samples: RequestSamples) -> Iterable[Doubt]:
    ours, server = service_ttft_s(samples), histogram(telemetry, TTFT)
    if server is None or len(ours) < MIN_REQUESTS:
        return
    if server.n < len(ours):
        yield Doubt(
            code="server_client_counts_disagree",
            message=f"we saw the first token of {len(ours):,} requests, the server counts "
            f"{server.n:,}: its metrics are not of the server that answered, or not of all of it",
        )
        return
    apart = [line for line in _ttft_lines(ours, server) if line]
    if apart:
        yield Doubt(
            code="server_client_ttft_disagree",
            message="the server's own TTFT and ours, from dispatch, are further apart than its "
            f"front door and the network explain: {'; '.join(apart)}",
        )


def _ttft_lines(ours: FloatColumn, server: Histogram) -> Iterable[str]:
    """A sentence per statistic that lies outside what the server's buckets allow."""
    n = len(ours)
    bounds = {f"p{q * 100:g}": server.quantile_bounds(q, n) for q in TTFT_QUANTILES}
    values = {f"p{q * 100:g}": float(np.quantile(ours, q)) for q in TTFT_QUANTILES}
    bounds["mean"], values["mean"] = server.mean_bounds(n), float(ours.mean())
    for name, (low, high) in bounds.items():
        ours_s = values[name]
        below = low - max(TTFT_TOLERANCE_S, TTFT_TOLERANCE_SHARE * low)
        above = high + max(TTFT_TOLERANCE_S, TTFT_TOLERANCE_SHARE * high)
        if not below <= ours_s <= above:
            said = _between(low, high)
            yield f"{name} {ours_s * 1e3:.1f} ms against {said} by the server (n = {server.n:,})"


def _between(low: float, high: float) -> str:
    if high - low < 1e-9:
        return f"{low * 1e3:.1f} ms"
    if not np.isfinite(high):
        return f"more than {low * 1e3:.1f} ms"
    return f"{low * 1e3:.1f}–{high * 1e3:.1f} ms"


def _tokens(telemetry: Telemetry, samples: RequestSamples) -> Iterable[Doubt]:
    """Tokens of requests that failed are known to the server alone: then only too few on its side
    is a contradiction."""
    sent = ~np.isnan(samples.dispatched_s)
    answered = samples.error == ""
    all_answered = bool(np.all(answered[sent]))
    probes = _num_probes(samples)
    for what, name, column, own, extra in (
        ("output", OUTPUT_TOKENS, samples.output_tokens, samples.own_output_tokens, probes),
        (
            "prompt",
            PROMPT_TOKENS,
            samples.prompt_tokens,
            samples.own_prompt_tokens,
            probes * PROBE_PROMPT_TOKENS,
        ),
    ):
        ours, server = _sum_known(column, own, answered), counted(telemetry, name)
        if ours is None or server is None:
            continue
        if server < ours or (all_answered and server > ours + extra):
            yield Doubt(
                code="server_client_tokens_disagree",
                message=f"{what} tokens: {ours:,} by our count of the answers, {server:,.0f} by "
                f"the server's counter (up to {extra} of them are probes of ours)",
            )


def _sum_known(column: IntColumn, own: IntColumn, answered: BoolColumn) -> int | None:
    """The server's usage per request, else our own count; None where a request has neither."""
    known = np.where(column >= 0, column, own)[answered]
    return int(known.sum()) if len(known) and np.all(known >= 0) else None


def _preemptions(telemetry: Telemetry) -> Iterable[Doubt]:
    num = counted(telemetry, PREEMPTIONS)
    if num:
        yield Doubt(
            code="preemptions",
            message=f"the engine preempted running requests {num:,.0f} times: its KV cache was too "
            "small for this load, and what was preempted was computed again",
        )


def _prefix_hits(telemetry: Telemetry) -> Iterable[Doubt]:
    hits, queries = counted(telemetry, PREFIX_HITS), counted(telemetry, PREFIX_QUERIES)
    if hits and queries and hits / queries > MAX_UNEXPECTED_HIT_RATIO:
        yield Doubt(
            code="prefix_cache_hits",
            message=f"{hits / queries:.1%} of the prompt tokens ({hits:,.0f} of {queries:,.0f}) "
            "came from the server's prefix cache, and the traffic shares no prefixes: "
            "these prompts had been sent before",
        )


def throttled(readings: Sequence[FloatColumn]) -> Iterable[Doubt]:
    """``readings``: of each device, 1 where it was slowed down."""
    slowed = sum(bool(r.any()) for r in readings)
    if slowed:
        share = float(np.mean(np.concatenate(readings)))
        yield Doubt(
            code="device_throttled",
            message=f"{slowed} of {len(readings)} devices were slowed down by heat or by a power "
            f"limit in {share:.0%} of the readings",
        )


def gaps(telemetry: Telemetry, num_chips: int) -> Iterable[Doubt]:
    notes = telemetry.sources()
    for note in notes:
        total = note.num_reads + note.num_gaps
        if note.num_reads and note.num_gaps / total > MAX_GAP_SHARE:
            yield Doubt(
                code="telemetry_gap",
                message=f"{note.num_gaps} of {total} reads of {note.source} failed; the last one: "
                f"{note.last_gap}",
            )
    if num_chips and not any(n.num_reads for n in notes if n.source in ("nvml", "tpu")):
        why = "; ".join(f"{n.source}: {n.absent or n.last_gap}" for n in notes if not n.num_reads)
        yield Doubt(
            code="no_device_telemetry",
            message=f"the run has {num_chips} chips and nothing told what they did: {why}",
        )
