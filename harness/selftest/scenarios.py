"""What is sent to which server, and what must come of it. Each scenario has a server of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from harness.selftest.check import Check, at_most, equal, near
from harness.selftest.truth import Told, faults, queued_latency_s, told
from results.measure import RequestMetrics, request_metrics
from results.metrics import Unit
from results.samples import FloatColumn, RequestSamples
from workloads.base import ServerTarget
from workloads.simulated.answers import Behaviour, Fault
from workloads.simulated.process import golden_process
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import Arrivals, ConstantArrivals, FixedLength, PoissonArrivals, Traffic

# The server must be exact itself, or it is no truth.
SERVER_LATE_S = 0.002


class Drive(Protocol):
    """The client under test: ``HttpLoadDriver.drive`` with its deadline."""

    def __call__(
        self, target: ServerTarget, traffic: Traffic, deadline_s: float
    ) -> RequestSamples: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """``rel``: how far from the truth a latency may be. ``tail_s``: how far a p99 may be in any
    case, for a machine that does other things too wakes a process late now and then. ``scale``
    multiplies how much is sent."""

    drive: Drive
    rel: float = 0.05
    tail_s: float = 0.005
    scale: float = 1.0
    deadline_s: float = 60.0

    def requests(self, num: int) -> int:
        return max(8, round(num * self.scale))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    about: str
    run: Callable[[Setting], tuple[Check, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One load as the client reports it and as the server tells it."""

    samples: RequestSamples
    metrics: RequestMetrics
    rows: list[Told]  # (measured,) by arrival

    setting: Setting

    def ttft(self, times: float = 1.0) -> tuple[Check, ...]:
        return self.quantiles(
            "ttft_s", self.metrics.ttft_s, [row.ttft_s for row in self.rows], times
        )

    def quantiles(
        self, name: str, measured: FloatColumn, truth: Sequence[float], times: float = 1.0
    ) -> tuple[Check, ...]:
        """The same quantiles of the same requests on both sides, so that no sample is too small."""
        why = "the client has none" if np.isnan(measured).all() else ""
        return tuple(
            near(
                f"{name} {label}",
                quantile(measured, q),
                quantile(truth, q),
                rel=times * self.setting.rel,
                floor=floor,
                why=why,
            )
            for q, label, floor in ((0.5, "p50", 0.0005), (0.99, "p99", self.setting.tail_s))
        )


def load(setting: Setting, behaviour: Behaviour, traffic: Traffic) -> Seen:
    """Send ``traffic`` to a server of that behaviour, and ask it what it did."""
    with golden_process(behaviour) as server:
        samples = setting.drive(server.target, traffic, setting.deadline_s)
        document = server.served()
    num_measured = int((~samples.is_warmup).sum())
    return Seen(
        samples=samples,
        metrics=request_metrics(samples),
        rows=told(document, num_measured),
        setting=setting,
    )


def traffic_of(
    arrivals: Arrivals,
    num_requests: int,
    output_tokens: int,
    prompt_tokens: int = 32,
    api: Literal["completions", "chat"] = "completions",
    timeout_s: float = 30.0,
) -> Traffic:
    return Traffic(
        arrivals=arrivals,
        prompt_tokens=FixedLength(tokens=prompt_tokens),
        output_tokens=FixedLength(tokens=output_tokens),
        num_requests=num_requests,
        num_warmup_requests=0,
        api=api,
        request_timeout_s=timeout_s,
    )


def quantile(values: FloatColumn | Sequence[float], q: float) -> float:
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(np.quantile(array, q)) if len(array) else float("nan")


def answered(seen: Seen) -> Check:
    return equal(
        "requests answered in full", float(seen.metrics.answered.sum()), float(len(seen.rows))
    )


# Arrivals.


def constant_arrivals(setting: Setting) -> tuple[Check, ...]:
    rate, n = 200.0, setting.requests(500)
    traffic = traffic_of(ConstantArrivals(rate_rps=rate), n, 1)
    seen = load(setting, Behaviour(ttft_s=0.001, itl_s=0.0), traffic)
    return (answered(seen), *as_scheduled(seen, traffic))


def poisson_arrivals(setting: Setting) -> tuple[Check, ...]:
    """Kolmogorov's limit: the greatest distance between two distribution functions of n samples is
    beyond 1.95/√n one time in a thousand."""
    rate, n = 200.0, setting.requests(500)
    traffic = traffic_of(PoissonArrivals(rate_rps=rate), n, 1)
    seen = load(setting, Behaviour(ttft_s=0.001, itl_s=0.0), traffic)
    gaps_s = np.sort(np.diff([row.arrived_s for row in seen.rows]))
    below = 1.0 - np.exp(-rate * gaps_s)
    ranks = np.arange(1, len(gaps_s) + 1) / len(gaps_s)
    distance = max((ranks - below).max(), (below - ranks + 1 / len(gaps_s)).max())
    return (
        answered(seen),
        *as_scheduled(seen, traffic),
        at_most(
            "KS distance of the gaps at the server from exponential ones",
            float(distance),
            1.95 / len(gaps_s) ** 0.5,
            Unit.COUNT,
        ),
    )


def as_scheduled(seen: Seen, traffic: Traffic) -> tuple[Check, ...]:
    """Arrivals at the server against the schedule, both counted from the median of their own. The
    mean gap is that of the line through all arrivals: one that is late at an end does not decide
    it."""
    intended = build_schedule(traffic).intended_s
    arrived = np.array([row.arrived_s for row in seen.rows])
    late = (arrived - intended) - np.median(arrived - intended)
    span_s = float(intended[-1] - intended[0])
    gap_s = span_s / (len(intended) - 1)
    slope = float(np.polyfit(intended, arrived - arrived[0], 1)[0])
    lag = quantile(seen.metrics.dispatch_lag_s, 0.99)
    return (
        near(
            "mean gap of arrivals at the server",
            slope * gap_s,
            gap_s,
            rel=0.01,
            floor=gap_s * seen.setting.tail_s / span_s,
        ),
        at_most("arrival against schedule, p99", quantile(np.abs(late), 0.99), seen.setting.tail_s),
        at_most("dispatch_lag_s p99", lag, seen.setting.tail_s),
    )


# Latencies.


def latencies(setting: Setting) -> tuple[Check, ...]:
    traffic = traffic_of(PoissonArrivals(rate_rps=60.0), setting.requests(360), 64)
    seen = load(setting, Behaviour(ttft_s=0.05, itl_s=0.01), traffic)
    m, rows = seen.metrics, seen.rows
    late = [late_s for row in rows for late_s in row.late_s]
    return (
        answered(seen),
        *seen.ttft(),
        *seen.quantiles("itl_s", m.itl_s, [gap for row in rows for gap in row.token_gaps_s()]),
        *seen.quantiles("tpot_s", m.tpot_s, [row.tpot_s for row in rows]),
        *seen.quantiles("e2e_s", m.e2e_s, [row.e2e_s for row in rows]),
        at_most("the server's own lateness, p50", quantile(late, 0.5), SERVER_LATE_S),
    )


def coordinated_omission(setting: Setting) -> tuple[Check, ...]:
    """Four at a time, 0.3 s each, 40 a second come: the queue grows, and the wait is theirs who
    were meant to be sent, whether or not a client would have waited with sending."""
    rate, slots, service_s, n = 40.0, 4, 0.3, 40
    traffic = traffic_of(ConstantArrivals(rate_rps=rate), n, 1)
    seen = load(setting, Behaviour(ttft_s=service_s, itl_s=0.0, capacity=slots), traffic)
    on_paper = [queued_latency_s(i, rate, slots, service_s) for i in range(n)]
    e2e_s = seen.metrics.e2e_s
    error = np.abs(e2e_s - on_paper) if len(e2e_s) == n else np.array([np.nan])
    floor = setting.rel * max(on_paper)
    return (
        answered(seen),
        near("e2e_s mean", float(np.nanmean(e2e_s)), float(np.mean(on_paper)), rel=setting.rel),
        near("e2e_s of the last", float(e2e_s[-1]), on_paper[-1], rel=setting.rel),
        at_most("e2e_s against the closed form, worst", float(np.max(error)), floor),
    )


def long_prompts(setting: Setting) -> tuple[Check, ...]:
    tokens = 50_000
    traffic = traffic_of(ConstantArrivals(rate_rps=4.0), 8, 16, prompt_tokens=tokens)
    seen = load(setting, Behaviour(ttft_s=0.1, itl_s=0.01), traffic)
    counted = seen.samples.prompt_tokens[~seen.samples.is_warmup]
    took = [row.num_prompt_tokens for row in seen.rows]
    return (
        answered(seen),
        equal("prompt tokens at the server, fewest", float(min(took)), tokens, Unit.TOKENS),
        equal("prompt tokens reported, fewest", float(counted.min()), tokens, Unit.TOKENS),
        *seen.ttft(2.0),  # a third of a megabyte goes out first
    )


def several_tokens_a_chunk(setting: Setting) -> tuple[Check, ...]:
    size, tokens = 4, 32
    traffic = traffic_of(ConstantArrivals(rate_rps=20.0), setting.requests(40), tokens)
    behaviour = Behaviour(ttft_s=0.05, itl_s=0.01, tokens_per_chunk=size)
    seen = load(setting, behaviour, traffic)
    m, rows = seen.metrics, seen.rows
    zeros = float(np.mean(m.itl_s == 0.0)) if len(m.itl_s) else float("nan")
    inside = (tokens - tokens // size) / (tokens - 1)
    gaps = [gap for row in rows for gap in row.chunk_gaps_s()]
    return (
        answered(seen),
        *seen.quantiles("inter_chunk_s", m.inter_chunk_s, gaps),
        near("share of itl_s that is 0", zeros, inside, rel=1e-9, unit=Unit.RATIO),
        *seen.quantiles("tpot_s", m.tpot_s, [row.tpot_s for row in rows]),
    )


def reasoning(setting: Setting) -> tuple[Check, ...]:
    thinks, tokens = 16, 32
    traffic = traffic_of(ConstantArrivals(rate_rps=20.0), setting.requests(40), tokens, api="chat")
    behaviour = Behaviour(ttft_s=0.05, itl_s=0.01, num_reasoning_tokens=thinks)
    seen = load(setting, behaviour, traffic)
    s, kept = seen.samples, ~seen.samples.is_warmup
    thought_s = (s.first_answer_s - s.first_token_s)[kept]
    truth = [row.token_s[thinks] - row.token_s[0] for row in seen.rows if len(row.token_s) > thinks]
    return (
        answered(seen),
        *seen.ttft(),
        *seen.quantiles("first reasoning → first answer", thought_s, truth),
        near(
            "share of chunks that are reasoning",
            float(np.mean(s.event_reasoning)) if len(s.event_reasoning) else float("nan"),
            thinks / tokens,
            rel=1e-9,
            unit=Unit.RATIO,
        ),
    )


# Failures.


def failures(setting: Setting) -> tuple[Check, ...]:
    behaviour = Behaviour(
        ttft_s=0.02,
        itl_s=0.005,
        fail_share=0.1,
        never_answer_share=0.05,
        disconnect_share=0.1,
        malformed_share=0.05,
        truncate_share=0.1,
        error_event_share=0.05,
        stall_share=0.1,
        stall_s=1.0,
        seed=11,
    )
    traffic = traffic_of(ConstantArrivals(rate_rps=50.0), setting.requests(150), 8, timeout_s=2.0)
    seen = load(setting, behaviour, traffic)
    s = seen.samples
    kept = ~s.is_warmup
    happened = faults(seen.rows)
    num_failed = len(seen.rows) - happened[Fault.NONE] - happened[Fault.STALL]
    return (
        equal("requests failed", float(np.sum(s.error[kept] != "")), num_failed),
        equal("HTTP 500", float(np.sum(s.status[kept] == 500)), happened[Fault.STATUS_500]),
        equal(
            "timeouts",
            float(sum(e.startswith("timeout") for e in s.error[kept])),
            happened[Fault.NEVER_ANSWERS],
        ),
        equal(
            "stalls of a second",
            float(np.sum(seen.metrics.inter_chunk_s > 0.5)),
            happened[Fault.STALL],
        ),
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(name="constant", about="arrivals, constant", run=constant_arrivals),
    Scenario(name="poisson", about="arrivals, Poisson", run=poisson_arrivals),
    Scenario(name="latency", about="TTFT, ITL, TPOT and end to end", run=latencies),
    Scenario(name="omission", about="a queue cannot hide", run=coordinated_omission),
    Scenario(name="long", about="prompts of 50,000 tokens", run=long_prompts),
    Scenario(name="chunks", about="four tokens a chunk", run=several_tokens_a_chunk),
    Scenario(name="reasoning", about="thinks before it answers", run=reasoning),
    Scenario(name="failures", about="every failure is counted", run=failures),
)
