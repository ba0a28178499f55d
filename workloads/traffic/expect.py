"""What traffic will amount to, told before its schedule is made: how many requests, how long."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from workloads.traffic.arrivals import expected_arrivals
from workloads.traffic.lengths import longest, mean_length
from workloads.traffic.schedule import build_schedule
from workloads.traffic.spec import (
    ClosedLoop,
    FilePrompts,
    SharedPrefixPrompts,
    TraceReplay,
    Traffic,
)
from workloads.traffic.traces import read_trace, replayed_s


def expected_requests(traffic: Traffic) -> float | None:
    """How many requests the schedule holds, on average, warm-up left out; None where only the
    answers decide.

    Reads the file of a trace. Raises TrafficFileUnusable where it cannot.
    """
    arrivals, counts = traffic.arrivals, []
    if traffic.num_requests is not None:
        counts.append(float(traffic.num_requests))
    if isinstance(arrivals, TraceReplay) and traffic.sessions is not None:
        counts.append(float(build_schedule(replace(traffic, num_warmup_requests=0)).num_requests))
    elif isinstance(arrivals, TraceReplay):
        times = replayed_s(read_trace(arrivals), arrivals)
        until_s = np.inf if traffic.duration_s is None else traffic.duration_s
        counts.append(float(np.sum(times < until_s)))
    elif not isinstance(arrivals, ClosedLoop):
        expected = expected_arrivals(arrivals, traffic.duration_s) * mean_turns(traffic)
        if np.isfinite(expected):
            counts.append(expected)
    return min(counts) if counts else None


def mean_turns(traffic: Traffic) -> float:
    """Turns of a session on average, unless a file's conversations end before; 1 without."""
    return 1.0 if traffic.sessions is None else mean_length(traffic.sessions.turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class LongestRequest:
    """``prompt`` and ``output`` are summed over the ``turns`` of a session, as its last one is."""

    prompt: int
    output: int
    turns: int

    @property
    def total(self) -> int:
        return self.prompt + self.output


def longest_request(traffic: Traffic) -> LongestRequest | None:
    """The most tokens that one request may have, its conversation so far included; None where only
    a file tells."""
    prompts, output = traffic.prompts, longest(traffic.output_tokens)
    brought = isinstance(prompts, FilePrompts) or isinstance(traffic.arrivals, TraceReplay)
    if brought and not traffic.num_warmup_requests:
        return None
    turns = 1 if brought or traffic.sessions is None else longest(traffic.sessions.turns)
    if isinstance(prompts, SharedPrefixPrompts):
        later = longest(prompts.question_tokens)
        first = longest(prompts.prefix_tokens) + later
    else:
        first = later = longest(traffic.prompt_tokens)
    return LongestRequest(prompt=first + (turns - 1) * later, output=turns * output, turns=turns)
