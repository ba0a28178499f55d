"""What a serving configuration would do, from the roofline of its steps: a forecast to rank by.
Pure.

The step times are the simulated engine's own (``workloads.simulated.roofline``). The steady state
of continuous batching with chunked prefill: with ``b`` requests in flight, a step carries one token
of each and, on average, b · input/output tokens of prompts, for every request brings its prompt
once per answer. Prompts beyond the token budget wait. Pipeline stages work on equal parts of the
batch at the same time: a token passes all of them, and the slowest sets the pace.

No engine reaches the roofline. ``Efficiency`` is an assumption about how near it comes, and
``tuners.calibration`` has the ratio of measured to forecast that was seen on the hardware since.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tuners.memory_fit import memory_fit
from tuners.serving import Load, Serving
from workloads.simulated.roofline import roofline


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """``concurrency`` is what really runs at once: the load's, the flag's, or what memory holds."""

    concurrency: int
    ttft_s: float
    tpot_s: float
    output_throughput: float  # tokens/s of the replica
    output_throughput_per_chip: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Shares of the peaks, and the time of a step that no chip sees. The defaults are round numbers
    for a ranking, not a measurement: about half the arithmetic (the MFU that well-tuned prefills
    report), four fifths of the bandwidth, and a scheduler's two milliseconds."""

    compute: float = 0.5
    memory: float = 0.8
    step_overhead_s: float = 0.002


def forecast(serving: Serving, load: Load, efficiency: Efficiency | None = None) -> Forecast | None:
    """None where the configuration does not fit its chips (``memory_fit`` says by how much)."""
    assumed = efficiency or Efficiency()
    fit = memory_fit(serving)
    if not fit.fits:
        return None
    pp = serving.pipeline_parallel_size
    length = load.input_tokens + load.output_tokens
    held = int(fit.kv_tokens // length)
    running = max(1, min(load.concurrency, serving.max_num_seqs, held))
    bound = roofline(
        serving.model,
        serving.chip,
        serving.tensor_parallel_size,
        weight_bytes=serving.weight_bytes,
        kv_bytes=serving.kv_bytes,
        flops_factor=serving.flops_factor,
        compute_efficiency=assumed.compute,
        memory_efficiency=assumed.memory,
        overhead_s=assumed.step_overhead_s,
    )

    def step_s(decoding: float, prefilled: float) -> float:
        """Of the whole depth, for ``decoding`` requests and so many tokens of prompts beside."""
        context = load.input_tokens + load.output_tokens / 2
        pairs = decoding * context + prefilled * load.input_tokens / 2
        tokens = math.ceil(decoding + prefilled)
        return bound.step_s(tokens, math.ceil(decoding), int(pairs), int(decoding * context))

    budget = serving.max_num_batched_tokens
    each = running / pp  # a stage's part of the batch
    prompts = min(each * load.input_tokens / load.output_tokens, max(budget - each, 1.0))
    tpot_s = step_s(each, prompts)
    # A prompt passes in chunks beside the requests that decode, and prompts come together: the
    # steps that carry them are taken as full. That is the tail, which a limit on TTFT is about.
    room = max(budget - each, 1.0)
    full = min(room, each * load.input_tokens)
    ttft_s = math.ceil(load.input_tokens / room) * step_s(each, full)
    # Where the budget cannot carry the prompts that come, it sets the pace instead of the decoding.
    by_prompts = prompts / load.input_tokens * load.output_tokens / tpot_s * pp
    throughput = min(running / tpot_s, by_prompts) if prompts > 0 else running / tpot_s
    return Forecast(
        concurrency=running,
        ttft_s=ttft_s,
        tpot_s=tpot_s,
        output_throughput=throughput,
        output_throughput_per_chip=throughput / serving.num_chips,
    )
