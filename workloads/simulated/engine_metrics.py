"""The engine's own view of its load, in the names and buckets of vLLM's ``/metrics``.

Names, meanings and buckets: ``vllm/v1/metrics/loggers.py`` and ``buckets.py`` of vLLM 0.33.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from workloads.simulated.engine import Engine

TTFT_BUCKETS_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
ITL_BUCKETS_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0),
    *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
E2E_BUCKETS_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts of values up to each bound, and beyond the last."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def samples(self, name: str, labels: str) -> Iterator[str]:
        bounds = [*(f"{bound}" for bound in self.bounds), "+Inf"]
        for bound, count in zip(bounds, accumulate(self.counts), strict=True):
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
        yield f"{name}_sum{{{labels}}} {self.sum!r}"
        yield f"{name}_count{{{labels}}} {sum(self.counts)}"


class EngineMetrics:
    """What the server counts beside the engine: latencies as it saw them itself."""

    def __init__(self, engine: Engine, model: str) -> None:
        self._engine = engine
        quoted = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self._labels = f'engine="0",model_name="{quoted}"'
        self.ttft_s = Histogram(TTFT_BUCKETS_S)
        self.itl_s = Histogram(ITL_BUCKETS_S)
        self.e2e_s = Histogram(E2E_BUCKETS_S)
        self.num_finished = 0

    def text(self) -> bytes:
        """The page, in Prometheus' text format."""
        lines = [
            line for part in (self._gauges(), self._counters(), self._latencies()) for line in part
        ]
        return ("\n".join(lines) + "\n").encode()

    def _gauges(self) -> Iterator[str]:
        engine = self._engine
        usage = engine.pool.num_held / engine.pool.num_blocks
        yield from self._one("num_requests_running", "gauge", "In the batch.", engine.num_running)
        yield from self._one("num_requests_waiting", "gauge", "In the queue.", len(engine.waiting))
        yield from self._one("kv_cache_usage_perc", "gauge", "Share of blocks held.", usage)

    def _counters(self) -> Iterator[str]:
        engine = self._engine
        for name, words, value in (
            ("prefix_cache_queries", "Tokens looked up.", engine.num_cache_queries),
            ("prefix_cache_hits", "Tokens found.", engine.num_cache_hits),
            ("num_preemptions", "Preemptions.", engine.num_preemptions),
            ("prompt_tokens", "Prompt tokens done.", engine.num_prompt_tokens),
            ("generation_tokens", "Tokens generated.", engine.num_generated_tokens),
        ):
            yield from self._one(name, "counter", words, value)
        name = "vllm:request_success_total"
        yield f"# HELP {name} Requests answered."
        yield f"# TYPE {name} counter"
        yield f'{name}{{{self._labels},finished_reason="length"}} {self.num_finished}'

    def _latencies(self) -> Iterator[str]:
        for name, words, histogram in (
            ("time_to_first_token", "Arrival to first token.", self.ttft_s),
            ("inter_token_latency", "One token to the next.", self.itl_s),
            ("e2e_request_latency", "Arrival to last token.", self.e2e_s),
        ):
            full = f"vllm:{name}_seconds"
            yield f"# HELP {full} {words}"
            yield f"# TYPE {full} histogram"
            yield from histogram.samples(full, self._labels)

    def _one(self, name: str, kind: str, words: str, value: float) -> Iterator[str]:
        full = f"vllm:{name}" + ("_total" if kind == "counter" else "")
        yield f"# HELP {full} {words}"
        yield f"# TYPE {full} {kind}"
        yield f"{full}{{{self._labels}}} {value}"
