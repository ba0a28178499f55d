"""What may be doubted about the traffic of a run before it is made."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from workloads.traffic.expect import expected_requests, mean_turns
from workloads.traffic.lengths import mean_length
from workloads.traffic.prompt_files import read_prompts
from workloads.traffic.spec import (
    FilePrompts,
    Length,
    LognormalLength,
    NormalLength,
    SharedPrefixPrompts,
    TraceReplay,
    Traffic,
)
from workloads.traffic.tokenizer import load_tokenizer
from workloads.traffic.traces import read_trace

# Truncation that moves a mean by less is not worth a sentence.
_MEAN_SHIFT = 0.05


def traffic_doubts(traffic: Traffic, context_tokens: int | None) -> Iterator[str]:
    """One sentence per doubt. ``context_tokens`` is None where not known. Raises
    TrafficFileUnusable."""
    for name, length in _lengths(traffic):
        if isinstance(length, NormalLength | LognormalLength):
            real = mean_length(length)
            if abs(real - length.mean) > _MEAN_SHIFT * length.mean:
                yield (
                    f"{name}: only {length.low} to {length.high} of the distribution is used, "
                    f"which makes its mean {real:.0f} instead of {length.mean:g}"
                )
    for look in (_trace, _pool, _tokenizer):
        yield from look(traffic, context_tokens)


def _lengths(traffic: Traffic) -> Iterator[tuple[str, Length]]:
    prompts, sessions = traffic.prompts, traffic.sessions
    if isinstance(prompts, SharedPrefixPrompts):
        yield "prompts.prefix_tokens", prompts.prefix_tokens
        yield "prompts.question_tokens", prompts.question_tokens
    else:
        yield "prompt_tokens", traffic.prompt_tokens
    yield "output_tokens", traffic.output_tokens
    if sessions is not None and not isinstance(sessions.turns, int):
        yield "sessions.turns", sessions.turns


def _trace(traffic: Traffic, context_tokens: int | None) -> Iterator[str]:
    if not isinstance(traffic.arrivals, TraceReplay):
        return
    rows = read_trace(traffic.arrivals, with_sessions=traffic.sessions is not None)
    num_rows = len(rows.times_s)
    if rows.num_raised:
        yield (
            f"{rows.num_raised} of the trace's {num_rows} rows have no prompt or no answer; each "
            "asks for one token of it"
        )
    if context_tokens is not None:
        long = int(np.sum(rows.prompt_tokens + rows.output_tokens > context_tokens))
        if long:
            yield (
                f"{long} of the trace's {num_rows} rows are longer than the context of "
                f"{context_tokens} tokens: the server will refuse them"
            )


def _pool(traffic: Traffic, _: int | None) -> Iterator[str]:
    """A pool that is used up begins anew, and the prefix cache then knows each prompt."""
    prompts = traffic.prompts
    if isinstance(prompts, SharedPrefixPrompts):
        pool = prompts.num_groups * prompts.prompts_per_group
    elif isinstance(prompts, FilePrompts):
        pool = len(read_prompts(prompts, with_sessions=traffic.sessions is not None))
    else:
        return
    expected = expected_requests(traffic)
    if expected is not None and expected / mean_turns(traffic) > pool:
        yield (
            f"about {expected:.0f} requests are made of {pool} prompts: from its second time on a "
            "prompt is in the server's prefix cache whole"
        )


def _tokenizer(traffic: Traffic, _: int | None) -> Iterator[str]:
    if traffic.tokenizer:
        load_tokenizer(traffic.tokenizer)
    elif traffic.sends_text and not isinstance(traffic.prompts, FilePrompts):
        yield (
            "prompts are words and no tokenizer is given: how many tokens they are only the server "
            "knows, and it may be a few times as many as asked"
        )
