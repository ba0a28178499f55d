"""The validity gate of a served run: what makes its latencies the client's, or nobody's. Pure.

Each check yields doubts with a code for machines. A run whose client was late, deaf or at its
limit, whose requests were not what was asked, or whose failures are many, is invalid: its numbers
may look plausible, and are what other tools print without a word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from results.client import ClientReport
from results.measure import RequestMetrics, request_metrics
from results.record import Doubt
from results.samples import IntColumn, RequestSamples, token_mismatch
from results.steady import Verdict, steady_state_of

# The client may be late by this much before its lateness spoils the latencies it reports.
MAX_DISPATCH_LAG_S = 0.005
MAX_DISPATCH_LAG_SHARE_OF_TTFT = 0.05
# Of the requests that the schedule wanted sent by its end, this many must have been.
MIN_SENT_SHARE = 0.99
# A TTFT that grows by this factor over the run is a queue that grows, not a latency.
MAX_TTFT_GROWTH = 2.0
# Above this share of failed requests the rest is a sample of survivors.
MAX_ERROR_SHARE = 0.01
# A deaf loop spoils every time stamp that falls into the stall: a p99 stands no more than this.
MAX_STALL_SHARE_OF_WINDOW = 0.01
# A stall that a reader should know of, though it spoils no percentile that is printed.
NOTABLE_STALL_S = 0.1
# The median read may be late by this, or by 5 % of the median TTFT; fewer reads say nothing.
MAX_READ_LAG_S = 0.001
MIN_AUDITED_READS = 100
# A single-threaded sender above this was the bottleneck; from the lower one it may have been.
MAX_CPU_SHARE, NOTABLE_CPU_SHARE = 0.95, 0.8
# Beyond half its ceiling a client has no room for bursts.
MAX_SHARE_OF_CEILING = 0.5
# Requests whose token counts are not those asked for.
MAX_TOKEN_MISMATCH_SHARE = 0.01
# The server's and our own totals may differ by this much: chunks are no exact token count.
MAX_TOTAL_TOKENS_DIFFERENCE = 0.05
# Prompt tokens from the prefix cache beyond what the traffic shares by design.
MAX_UNEXPECTED_CACHED_SHARE = 0.05
# Too few answers even for a median with an interval.
MIN_ANSWERED = 20


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Expected:
    """What was asked for, where it is known exactly; None: not known, so not checked.

    ``prompt_tokens`` and ``output_tokens`` hold one count per row of the samples, −1 where it is
    not known. Give prompts only where the server sees exactly these tokens (token ids, no chat
    template), and outputs only where the server was told to ignore its end-of-text token.
    ``max_cached_share`` is the share of prompt tokens that the traffic shares by design.
    """

    prompt_tokens: IntColumn | None = None  # (n,)
    output_tokens: IntColumn | None = None  # (n,)
    max_cached_share: float | None = None


NOTHING_EXPECTED = Expected()


def request_doubts(
    samples: RequestSamples,
    client: ClientReport | None = None,
    expected: Expected = NOTHING_EXPECTED,
) -> Iterable[Doubt]:
    """Every doubt that the requests themselves and the client's own report give."""
    m = request_metrics(samples)
    n = len(m.answered)
    if n == 0:
        yield Doubt(code="no_requests", message="no request was measured", invalidates=True)
        return
    yield from _failures(samples, m)
    yield from _rate(samples, m)
    yield from _lag(m)
    if client is not None:
        yield from _client(client, m)
    yield from _tokens(samples, m, expected)
    yield from _cache(m, expected)
    yield from _steadiness(samples, m)
    if not samples.is_warmup.any():
        yield Doubt(
            code="no_warmup",
            message="no warm-up requests: the first ones pay for what later ones do not",
        )


def _failures(samples: RequestSamples, m: RequestMetrics) -> Iterable[Doubt]:
    n = len(m.answered)
    answered = int(m.answered.sum())
    failed = n - answered
    if failed:
        kinds = sorted({str(e).split(":")[0] for e in samples.error[~samples.is_warmup] if e})
        yield Doubt(
            code="failed_requests",
            message=f"{failed} of {n} requests were not answered in full ({', '.join(kinds)})",
            invalidates=failed / n > MAX_ERROR_SHARE,
        )
    if answered < MIN_ANSWERED:
        yield Doubt(
            code="too_few_samples",
            message=f"{answered} requests were answered; fewer than {MIN_ANSWERED} do not give "
            "even a median",
        )
    # A session's turn whose predecessor failed has no intended time: it is a failure, above.
    keep = ~samples.is_warmup & ~np.isnan(samples.intended_s)
    unsent = int(np.isnan(samples.dispatched_s[keep]).sum())
    if unsent:
        yield Doubt(
            code="unsent_requests",
            message=f"{unsent} of {n} requests of the schedule were never sent",
            invalidates=True,
        )


def _rate(samples: RequestSamples, m: RequestMetrics) -> Iterable[Doubt]:
    """Achieved / offered, by sends: sends per second of the time that they took, over the
    schedule's. What was never sent is missing in the former.

    Answers are no measure of it: those of the last requests come after the schedule has ended, and
    a short run would fail for that alone. A closed loop intends a send when it can be made, so it
    passes; so do imported requests whose send is not known apart from its intention.
    """
    keep = ~samples.is_warmup & ~np.isnan(samples.intended_s)
    intended, sent = samples.intended_s[keep], samples.dispatched_s[keep]
    is_sent = ~np.isnan(sent)
    if not is_sent.any() and m.answered.any():
        return
    if len(intended) < 2 or not np.ptp(intended) > 0:
        return
    took = float(np.ptp(sent[is_sent])) if is_sent.sum() > 1 else np.inf
    slowed = min(1.0, float(np.ptp(intended)) / took) if took > 0 else 1.0
    share = slowed * float(is_sent.mean())
    if share < MIN_SENT_SHARE:
        yield Doubt(
            code="rate_not_achieved",
            message=f"the client sent {share:.1%} of the rate that the schedule offers; "
            f"at least {MIN_SENT_SHARE:.0%} must be: the load was not the one asked for",
            invalidates=True,
        )


def lag_limit_s(m: RequestMetrics) -> float:
    """How late a send may be: 5 ms, or 5 % of the median TTFT where that is more."""
    ttft = m.ttft_s[~np.isnan(m.ttft_s)]
    median = float(np.median(ttft)) if len(ttft) else 0.0
    return max(MAX_DISPATCH_LAG_S, MAX_DISPATCH_LAG_SHARE_OF_TTFT * median)


def _lag(m: RequestMetrics) -> Iterable[Doubt]:
    lag = m.dispatch_lag_s[~np.isnan(m.dispatch_lag_s)]
    if not len(lag) or not np.any(~np.isnan(m.ttft_s)):
        return
    p99, limit = float(np.quantile(lag, 0.99)), lag_limit_s(m)
    if p99 > limit:
        yield Doubt(
            code="client_late",
            message=f"the client itself was late: p99 dispatch lag {p99 * 1e3:.1f} ms, "
            f"limit {limit * 1e3:.1f} ms (5 ms or 5 % of the median TTFT)",
            invalidates=True,
        )


def _client(client: ClientReport, m: RequestMetrics) -> Iterable[Doubt]:
    limit = lag_limit_s(m)
    worst = max(client.workers, key=lambda w: w.max_loop_stall_s, default=None)
    if worst is not None:
        deaf = worst.max_loop_stall_s
        spoils = deaf > limit and deaf > MAX_STALL_SHARE_OF_WINDOW * m.window_s
        slow = max(client.workers, key=lambda w: w.mean_loop_stall_s)
        if spoils or slow.mean_loop_stall_s > limit:
            yield Doubt(
                code="loop_stalled",
                message=f"the client's event loop was deaf for up to {deaf * 1e3:.0f} ms (worker "
                f"{worst.worker}) and {slow.mean_loop_stall_s * 1e3:.1f} ms late in the mean; "
                f"limits are {MAX_STALL_SHARE_OF_WINDOW:.0%} of the window and "
                f"{limit * 1e3:.1f} ms",
                invalidates=True,
            )
        elif deaf > NOTABLE_STALL_S:
            yield Doubt(
                code="loop_stall_seen",
                message=f"the client's event loop was once deaf for {deaf * 1e3:.0f} ms: the "
                "largest latencies may be its own",
            )
    yield from _reads(client, m)
    yield from _cpu(client)
    yield from _ceiling(client)


def _reads(client: ClientReport, m: RequestMetrics) -> Iterable[Doubt]:
    """Whether the client saw answers when they came: the kernel's time stamps against its own. What
    it saw late is in every latency, whatever its sends were like."""
    audit = client.audit
    if audit is None or audit.num_reads < MIN_AUDITED_READS:
        return
    ttft = m.ttft_s[~np.isnan(m.ttft_s)]
    if audit.lag_p50_s is None or audit.lag_p99_s is None or not len(ttft):
        return
    limit = lag_limit_s(m)
    half = max(MAX_READ_LAG_S, MAX_DISPATCH_LAG_SHARE_OF_TTFT * float(np.median(ttft)))
    if audit.lag_p99_s > limit or audit.lag_p50_s > half:
        yield Doubt(
            code="client_reads_late",
            message=f"the client saw answers late: {audit.lag_p50_s * 1e3:.1f} ms after the kernel "
            f"in the median, {audit.lag_p99_s * 1e3:.1f} ms in the p99, over {audit.num_reads} "
            f"reads; limits are {half * 1e3:.1f} and {limit * 1e3:.1f} ms: use more workers",
            invalidates=True,
        )


def _cpu(client: ClientReport) -> Iterable[Doubt]:
    busiest = max(client.workers, key=lambda w: w.cpu_share, default=None)
    if busiest is not None and busiest.cpu_share > NOTABLE_CPU_SHARE:
        yield Doubt(
            code="client_busy",
            message=f"worker {busiest.worker} of the client used {busiest.cpu_share:.0%} of a "
            f"core; above {MAX_CPU_SHARE:.0%} it is the bottleneck: use more workers",
            invalidates=busiest.cpu_share > MAX_CPU_SHARE,
        )


def _ceiling(client: ClientReport) -> Iterable[Doubt]:
    found = client.calibration
    if found is None or found.asked_rps <= MAX_SHARE_OF_CEILING * found.ceiling_rps:
        return
    over = found.asked_rps > found.ceiling_rps and found.ceiling_is_bound
    at_least = "" if found.ceiling_is_bound else "at least "
    yield Doubt(
        code="near_client_ceiling",
        message=f"the schedule asks {found.asked_rps:.0f} requests/s; this client keeps "
        f"{at_least}{found.ceiling_rps:.0f} against a server that does nothing, and should not be "
        f"asked more than {MAX_SHARE_OF_CEILING:.0%} of that",
        invalidates=over,
    )


def _tokens(samples: RequestSamples, m: RequestMetrics, expected: Expected) -> Iterable[Doubt]:
    for what, theirs, asked in (
        ("prompt", samples.prompt_tokens, expected.prompt_tokens),
        ("output", samples.output_tokens, expected.output_tokens),
    ):
        if asked is None:
            continue
        both = m.rows & (theirs >= 0) & (asked >= 0)
        n, wrong = int(both.sum()), int((both & (theirs != asked)).sum())
        if n and wrong / n > MAX_TOKEN_MISMATCH_SHARE:
            yield Doubt(
                code=f"{what}_tokens_not_as_asked",
                message=f"{wrong} of {n} answered requests have another number of {what} tokens "
                f"by the server's count than was asked: {theirs[both].sum()} in all, asked "
                f"{asked[both].sum()}",
                invalidates=True,
            )
    comparable, differs = token_mismatch(samples)
    n, wrong = int((comparable & m.rows).sum()), int((differs & m.rows).sum())
    if n and wrong / n > MAX_TOKEN_MISMATCH_SHARE:
        off = max(
            _total_difference(samples.prompt_tokens, samples.own_prompt_tokens, m),
            _total_difference(samples.output_tokens, samples.own_output_tokens, m),
        )
        yield Doubt(
            code="token_counts_differ",
            message=f"the server and we count different tokens in {wrong} of {n} answered "
            f"requests, {off:.1%} in all",
            invalidates=off > MAX_TOTAL_TOKENS_DIFFERENCE,
        )


def _total_difference(theirs: IntColumn, ours: IntColumn, m: RequestMetrics) -> float:
    both = m.rows & (theirs >= 0) & (ours >= 0)
    total = int(theirs[both].sum())
    return abs(int(ours[both].sum()) - total) / total if total else 0.0


def _cache(m: RequestMetrics, expected: Expected) -> Iterable[Doubt]:
    if expected.max_cached_share is None:
        return
    both = m.answered & ~np.isnan(m.cached_tokens) & (m.prompt_tokens > 0)
    if not both.any():
        return
    share = float(m.cached_tokens[both].sum() / m.prompt_tokens[both].sum())
    if share > expected.max_cached_share + MAX_UNEXPECTED_CACHED_SHARE:
        yield Doubt(
            code="unexpected_cache_hits",
            message=f"the server took {share:.1%} of the prompt tokens from its prefix cache; the "
            f"traffic shares {expected.max_cached_share:.1%}: it answers what it has seen before",
            invalidates=True,
        )


def _steadiness(samples: RequestSamples, m: RequestMetrics) -> Iterable[Doubt]:
    if not m.answered.any():
        return
    state = steady_state_of(samples)
    if state.verdict is Verdict.NO_STEADY_STATE:
        yield Doubt(
            code="no_steady_state",
            message=f"no steady state: {state.why}; the numbers depend on how long one measures",
        )
        return
    # What is steady after a while may still have grown all the way there: the numbers are of the
    # whole window, and a queue that only begins to level off is none to measure by.
    ttft = m.ttft_s[~np.isnan(m.ttft_s)]
    third = len(ttft) // 3
    if third < MIN_ANSWERED // 2:
        return
    first, last = float(np.median(ttft[:third])), float(np.median(ttft[-third:]))
    if first > 0 and last / first > MAX_TTFT_GROWTH:
        yield Doubt(
            code="no_steady_state",
            message=f"the median TTFT grew from {first:.3g} s in the first third to {last:.3g} s "
            "in the last: the server did not keep up; the numbers depend on how long one measures",
        )
