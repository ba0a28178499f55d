"""The forecast's limits in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tuners.analytic import Efficiency, forecast
from tuners.serving import Load, Serving
from workloads.simulated.accelerators import accelerator_named, model_named

H100 = accelerator_named("H100")
MODEL = model_named("llama-3.1-8b")
PEAK = Efficiency(compute=1.0, memory=1.0, step_overhead_s=0.0)
ONE = Serving(model=MODEL, chip=H100, max_num_seqs=1, max_num_batched_tokens=2048)


def test_one_request_alone_reads_the_weights_once_a_token() -> None:
    """The bound of decoding: weights, less the rows of the embedding, over the bandwidth."""
    seen = forecast(ONE, Load(input_tokens=16, output_tokens=4096, concurrency=1), PEAK)
    assert seen is not None
    read_bytes = 2 * (MODEL.num_parameters - MODEL.vocab_size * MODEL.hidden_size)
    assert seen.tpot_s == pytest.approx(read_bytes / H100.memory_bytes_per_s, rel=0.1)
    assert seen.output_throughput == pytest.approx(1 / seen.tpot_s, rel=1e-6)


def test_a_full_prompt_is_bound_by_arithmetic() -> None:
    long = Load(input_tokens=2000, output_tokens=2000, concurrency=1)
    seen = forecast(ONE, long, PEAK)
    assert seen is not None
    layers = MODEL.num_parameters - 2 * MODEL.vocab_size * MODEL.hidden_size
    assert seen.ttft_s == pytest.approx(2 * layers * 2000 / H100.flops, rel=0.25)


def test_more_at_once_is_more_throughput_and_more_time_per_token() -> None:
    load = Load(input_tokens=256, output_tokens=256, concurrency=256)
    seen = [forecast(replace(ONE, max_num_seqs=n), load) for n in (1, 8, 64, 256)]
    throughput = [s.output_throughput for s in seen if s]
    tpot = [s.tpot_s for s in seen if s]
    assert len(throughput) == 4
    assert throughput == sorted(throughput)
    assert tpot == sorted(tpot)


def test_memory_bounds_what_runs_at_once() -> None:
    load = Load(input_tokens=4000, output_tokens=96, concurrency=1000)
    seen = forecast(replace(ONE, max_num_seqs=1000), load)
    assert seen is not None
    assert seen.concurrency < 1000


def test_what_does_not_fit_has_no_forecast() -> None:
    huge = replace(ONE, model=model_named("llama-3.1-70b"))
    assert forecast(huge, Load(input_tokens=16, output_tokens=16, concurrency=1)) is None
