"""A whole load against the engine model, in virtual time and without HTTP. Pure.

The columns are those of a real load, so everything that reads samples reads these; whoever keeps
them must say that they are simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from results.samples import FloatColumn, IntColumn, RequestSamples
from workloads.simulated.engine import Engine
from workloads.simulated.engine_request import EngineConfig, EngineRequest

# What a simulated server gives as the owner of its model, and simulated columns as their model.
SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedLoad:
    """n requests in order of arrival. ``block_hashes`` may name the full blocks of each prompt (and
    answer); equal hashes are equal beginnings. See ``prefix_hashes``."""

    arrived_s: FloatColumn  # (n,) ascending
    prompt_tokens: IntColumn  # (n,)
    output_tokens: IntColumn  # (n,)
    block_hashes: Sequence[Sequence[int]] = ()  # (n,), or empty: nothing is shared


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SimulatedRun:
    """What came of a load; n rows in its order. Times are virtual seconds."""

    load: SimulatedLoad
    first_token_s: FloatColumn  # (n,)
    done_s: FloatColumn  # (n,)
    cached_tokens: IntColumn  # (n,) of the prompt, found in the prefix cache
    num_preemptions: IntColumn  # (n,)
    num_steps: int
    num_cache_queries: int
    num_cache_hits: int
    peak_blocks: int  # held in one step, at most
    token_s: FloatColumn  # (tokens,) of all requests, one behind the other; empty if not kept
    token_offset: IntColumn  # (n + 1,)

    def to_samples(self) -> RequestSamples:
        """As a client of no delay would have seen it: one chunk a token, where tokens were kept."""
        n = len(self.first_token_s)
        arrived, tokens = self.load.arrived_s, len(self.token_s)
        return RequestSamples(
            intended_s=arrived,
            dispatched_s=arrived,
            written_s=arrived,
            first_byte_s=self.first_token_s,
            first_token_s=self.first_token_s,
            done_s=self.done_s,
            prompt_tokens=self.load.prompt_tokens,
            output_tokens=self.load.output_tokens,
            status=np.full(n, 200, dtype=np.int64),
            error=np.full(n, "", dtype=object),
            is_warmup=np.zeros(n, dtype=np.bool_),
            worker=np.zeros(n, dtype=np.int64),
            event_offset=self.token_offset,
            event_s=self.token_s,
            event_tokens=np.ones(tokens, dtype=np.int64),
            cached_tokens=self.cached_tokens,
            first_answer_s=self.first_token_s,
            model=np.full(n, SIMULATED, dtype=object),
        )


def simulate(
    load: SimulatedLoad, config: EngineConfig, *, keeps_tokens: bool = False
) -> SimulatedRun:
    """Serve ``load`` to its end. The same arguments give the same columns, on any machine.

    ``keeps_tokens`` also gives every token its time: 8 bytes each. Raises ValueError for a request
    that does not fit into the KV cache at all.
    """
    engine = Engine(config, keeps_steps=keeps_tokens)
    n = len(load.arrived_s)
    hashes = load.block_hashes or ((),) * n
    rows = zip(
        range(n),
        load.prompt_tokens.tolist(),
        load.output_tokens.tolist(),
        load.arrived_s.tolist(),
        hashes,
        strict=True,
    )
    first_token_s, done_s = np.empty(n), np.empty(n)
    cached, preemptions = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    segments: list[list[int]] = [[]] * n
    following = next(rows, None)
    while following is not None or not engine.is_idle:
        if following is not None and engine.is_idle and engine.clock_s < following[3]:
            engine.clock_s = following[3]
        while following is not None and following[3] <= engine.clock_s:
            engine.submit(EngineRequest(*following))
            following = next(rows, None)
        if following is not None and engine.takes_more:
            engine.advance(following[3])
        else:
            engine.advance()
        if engine.finished:
            for request in engine.finished:
                i = request.number
                first_token_s[i], done_s[i] = request.first_token_s, request.done_s
                cached[i], preemptions[i] = request.cached_tokens, request.num_preemptions
                segments[i] = request.segments
            engine.finished.clear()
    token_s, offset = _token_times(segments, engine.step_end_s)
    return SimulatedRun(
        load=load,
        first_token_s=first_token_s,
        done_s=done_s,
        cached_tokens=cached,
        num_preemptions=preemptions,
        num_steps=engine.step,
        num_cache_queries=engine.num_cache_queries,
        num_cache_hits=engine.num_cache_hits,
        peak_blocks=engine.peak_blocks,
        token_s=token_s,
        token_offset=offset,
    )


def _token_times(
    segments: Sequence[Sequence[int]], step_end_s: Sequence[float] | None
) -> tuple[FloatColumn, IntColumn]:
    """A request has a token at the end of each step of its segments (first, last, first, …)."""
    offset = np.zeros(len(segments) + 1, dtype=np.int64)
    if step_end_s is None:
        return np.empty(0), offset
    ends: npt.NDArray[np.float64] = np.asarray(step_end_s)
    parts: list[FloatColumn] = []
    for i, steps in enumerate(segments):
        mine = [ends[first - 1 : last] for first, last in zip(steps[::2], steps[1::2], strict=True)]
        parts += mine
        offset[i + 1] = offset[i] + sum(len(part) for part in mine)
    return np.concatenate(parts) if parts else np.empty(0), offset


def prefix_hashes(
    groups: IntColumn, prefix_tokens: int, prompt_tokens: IntColumn, block_size: int
) -> list[tuple[int, ...]]:
    """Hashes for prompts that begin with their group's ``prefix_tokens`` and go on by themselves.

    Made up, not computed: any two prompts share exactly the full blocks of a common prefix.
    """
    shared = prefix_tokens // block_size
    hashes = []
    own = -1  # shared blocks have hashes from 0 on, a prompt's own ones below
    for group, tokens in zip(groups.tolist(), prompt_tokens.tolist(), strict=True):
        full = tokens // block_size
        common = min(shared, full)
        mine = tuple(range(own, own - (full - common), -1))
        own -= full - common
        hashes.append((*range(group * shared, group * shared + common), *mine))
    return hashes
