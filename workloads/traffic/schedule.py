"""Traffic as a schedule: which requests, how long, and when each is meant to be sent. Pure.

The first ``num_warmup_requests`` rows are warm-up. They are sent one after another *before* the
measured schedule begins, so that they neither queue among themselves nor overlap what is measured;
``intended_s`` counts from the moment the last of them is answered. ``num_requests`` and
``duration_s`` bound the measured rows only.

Closed loop has no times in advance: a user's next request is meant to be sent when the last one is
answered and thought over. Closed loop by ``duration_s`` alone has no count in advance either; then
``is_open_ended`` is true, the columns hold the warm-up rows only, and ``shape`` answers for every
index there may be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from results.samples import BoolColumn, FloatColumn, IntColumn
from workloads.traffic.arrivals import MAX_REQUESTS, open_loop_times
from workloads.traffic.lengths import lengths
from workloads.traffic.prompts import id_range, prompt_ids, prompt_text
from workloads.traffic.randomness import Stream
from workloads.traffic.spec import ClosedLoop, FixedLength, Length, Traffic


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """One row per request that can be named in advance, in the order of sending; n rows."""

    traffic: Traffic
    vocab_size: int | None
    intended_s: FloatColumn  # (n,) NaN: warm-up, and closed loop
    prompt_tokens: IntColumn  # (n,) asked for; chat: words
    output_tokens: IntColumn  # (n,) asked for
    is_warmup: BoolColumn  # (n,)
    is_open_ended: bool

    @property
    def num_requests(self) -> int:
        """Rows, warm-up included."""
        return len(self.intended_s)

    def shape(self, index: int) -> tuple[int, int]:
        """(prompt tokens, output tokens) of request ``index``, named in advance or not."""
        if index < self.num_requests:
            return int(self.prompt_tokens[index]), int(self.output_tokens[index])
        prompt, output = _lengths(self.traffic, index, 1)
        return int(prompt[0]), int(output[0])

    def prompt_ids(self, index: int) -> IntColumn:
        """(prompt tokens,) token ids of request ``index``."""
        return prompt_ids(self.traffic.seed, index, self.shape(index)[0], self.vocab_size)

    def prompt_text(self, index: int) -> str:
        """The chat message of request ``index``: one word for every prompt token asked for."""
        return prompt_text(self.traffic.seed, index, self.shape(index)[0])

    def rows_of(self, worker: int, num_workers: int) -> IntColumn:
        """The row indices that one of ``num_workers`` senders takes: every num_workers-th.

        Each row belongs to exactly one worker, and what a row holds does not depend on the split.
        """
        return np.arange(worker, self.num_requests, num_workers, dtype=np.int64)


def _lengths(traffic: Traffic, start: int, count: int) -> tuple[IntColumn, IntColumn]:
    return (
        lengths(traffic.prompt_tokens, traffic.seed, Stream.PROMPT_LENGTH, start, count),
        lengths(traffic.output_tokens, traffic.seed, Stream.OUTPUT_LENGTH, start, count),
    )


def check_traffic(traffic: Traffic) -> None:
    """Raise ValueError, with every fault found, unless a schedule can be made of ``traffic``."""
    faults = [*_arrival_faults(traffic), *_stop_faults(traffic)]
    faults += _length_faults("prompt_tokens", traffic.prompt_tokens)
    faults += _length_faults("output_tokens", traffic.output_tokens)
    if traffic.seed < 0:
        faults.append(f"seed = {traffic.seed}; must be 0 or more")
    if not traffic.request_timeout_s > 0:
        faults.append(f"request_timeout_s = {traffic.request_timeout_s}; must be above 0")
    if faults:
        raise ValueError("traffic cannot be made: " + "; ".join(faults))


def _arrival_faults(traffic: Traffic) -> list[str]:
    arrivals = traffic.arrivals
    if not isinstance(arrivals, ClosedLoop):
        if arrivals.rate_rps > 0 and math.isfinite(arrivals.rate_rps):
            return []
        return [f"arrivals.rate_rps = {arrivals.rate_rps}; must be above 0 and finite"]
    faults = []
    if arrivals.num_users < 1:
        faults.append(f"arrivals.num_users = {arrivals.num_users}; must be at least 1")
    if not (arrivals.think_time_s >= 0 and math.isfinite(arrivals.think_time_s)):
        faults.append(f"arrivals.think_time_s = {arrivals.think_time_s}; must be 0 or more")
    return faults


def _stop_faults(traffic: Traffic) -> list[str]:
    duration_s, count, warmup = (
        traffic.duration_s,
        traffic.num_requests,
        traffic.num_warmup_requests,
    )
    faults = []
    if duration_s is None and count is None:
        faults.append("no stop rule; give duration_s, num_requests or both")
    if duration_s is not None and not (duration_s > 0 and math.isfinite(duration_s)):
        faults.append(f"duration_s = {duration_s}; must be above 0 and finite")
    if count is not None and not 1 <= count <= MAX_REQUESTS:
        faults.append(f"num_requests = {count}; must be 1 to {MAX_REQUESTS}")
    if not 0 <= warmup <= MAX_REQUESTS:
        faults.append(f"num_warmup_requests = {warmup}; must be 0 to {MAX_REQUESTS}")
    return faults


def _length_faults(name: str, length: Length) -> list[str]:
    if isinstance(length, FixedLength):
        return [] if length.tokens >= 1 else [f"{name}.tokens = {length.tokens}; must be >= 1"]
    if 1 <= length.low <= length.high:
        return []
    return [f"{name} is {length.low} to {length.high}; must be 1 <= low <= high"]


def build_schedule(traffic: Traffic, vocab_size: int | None = None) -> Schedule:
    """The schedule of ``traffic``: the same value for the same arguments, on any machine.

    ``vocab_size`` is the server's; None takes ids that every language model has.
    Raises ValueError as ``check_traffic``, ``open_loop_times`` and ``id_range`` do.
    """
    check_traffic(traffic)
    id_range(vocab_size)
    warmup, arrivals = traffic.num_warmup_requests, traffic.arrivals
    is_open_ended = False
    if isinstance(arrivals, ClosedLoop):
        is_open_ended = traffic.num_requests is None
        times = np.full(traffic.num_requests or 0, np.nan)
    else:
        times = open_loop_times(
            arrivals,
            seed=traffic.seed,
            first_index=warmup,
            duration_s=traffic.duration_s,
            num_requests=traffic.num_requests,
        )
    count = warmup + len(times)
    prompt, output = _lengths(traffic, 0, count)
    return Schedule(
        traffic=traffic,
        vocab_size=vocab_size,
        intended_s=np.concatenate([np.full(warmup, np.nan), times]),
        prompt_tokens=prompt,
        output_tokens=output,
        is_warmup=np.arange(count) < warmup,
        is_open_ended=is_open_ended,
    )
