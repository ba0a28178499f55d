"""Writes the pages of this folder by vLLM's own logger: ``python make_pages.py FOLDER``.

Needs vLLM 0.32. No engine is started: what one would report is told to the logger.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import REGISTRY, generate_latest
from vllm.v1.engine import FinishReason
from vllm.v1.metrics.loggers import PrometheusStatLogger
from vllm.v1.metrics.stats import (
    FinishedRequestStats,
    IterationStats,
    PrefixCacheStats,
    SchedulerStats,
)

CACHE = {"block_size": "16", "num_gpu_blocks": "1024", "enable_prefix_caching": "True"}
CONFIG: Any = SimpleNamespace(
    observability_config=SimpleNamespace(
        show_hidden_metrics=False, kv_cache_metrics=False, custom_histogram_buckets=None
    ),
    model_config=SimpleNamespace(
        served_model_name="tiny-llama", max_model_len=2048, is_diffusion=False
    ),
    cache_config=SimpleNamespace(metrics_info=lambda: dict(CACHE)),
    speculative_config=None,
    kv_transfer_config=None,
    ec_transfer_config=None,
    lora_config=None,
    watermark_config=None,
)


class Nothing:
    """In place of the metrics of features that a plain server has off."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass


class Logger(PrometheusStatLogger):
    _spec_decoding_cls = _kv_connector_cls = _ec_connector_cls = _perf_metrics_cls = Nothing


def answer(
    log: Logger, ttft: float, prompt: int, tokens: int, cached: int, preempted: int, **now: Any
) -> None:
    """One request, told in one step; gaps of 20 ms."""
    step = IterationStats()
    step.num_generation_tokens = tokens
    counts = step.prompt_token_stats
    counts.total, counts.computed = prompt, prompt - cached
    counts.cached_tokens = counts.local_cache_hit = cached
    step.time_to_first_tokens_iter = [ttft]
    step.inter_token_latencies_iter = [0.02] * (tokens - 1)
    step.num_preempted_reqs = preempted
    step.n_params_iter, step.max_num_generation_tokens_iter = [1], [tokens]
    e2e = ttft + 0.02 * (tokens - 1)
    step.finished_requests = [
        FinishedRequestStats(
            finish_reason=FinishReason.LENGTH,
            e2e_latency=e2e,
            num_prompt_tokens=prompt,
            num_generation_tokens=tokens,
            max_tokens_param=tokens,
            queued_time=0.001,
            prefill_time=ttft - 0.001,
            inference_time=e2e - 0.001,
            decode_time=e2e - ttft,
            mean_time_per_output_token=0.02,
            num_cached_tokens=cached,
            num_preemptions=preempted,
        )
    ]
    cache = PrefixCacheStats(requests=1, queries=prompt, hits=cached)
    log.record(SchedulerStats(prefix_cache_stats=cache, **now), step, engine_idx=0)


def main() -> None:
    folder = Path(sys.argv[1])
    log = Logger(CONFIG, [0])
    log.log_engine_initialized()
    answer(log, 0.05, prompt=8, tokens=1, cached=0, preempted=0)  # a canary
    (folder / "vllm-0.32-before.txt").write_bytes(generate_latest(REGISTRY))
    now = {"num_running_reqs": 3, "num_waiting_reqs": 1, "kv_cache_usage": 0.42}
    for i in range(20):
        answer(
            log,
            0.030 + 0.005 * i,  # 30, 35, … 125 ms
            prompt=64,
            tokens=32,
            cached=16 if i < 8 else 0,
            preempted=1 if i in (5, 11) else 0,
            **now,
        )
    (folder / "vllm-0.32-after.txt").write_bytes(generate_latest(REGISTRY))


if __name__ == "__main__":
    main()
