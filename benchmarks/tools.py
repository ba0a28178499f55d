"""The load clients under comparison: how each is asked for a point, and what it then says of it.

Each tool is two functions: its command line, and the reader of its own JSON. Readers are pure. All
are given 64-token prompts of a local tokenizer, 64 output tokens, streaming completions, and the
settings that suit one core best among those tried.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.truth import Latency

NUM_TOKENS = 64
NOOP_TOKENS = 50
# As long as one answer of the paced server takes: 50 ms + 63 x 10 ms.
ANSWER_S = 0.68


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One load: ``rate`` requests/s, or ``users`` who each wait for their answer. ``noop``: the
    server answers at once, in one write."""

    rate: float | None = None
    users: int | None = None
    seconds: float = 10.0
    noop: bool = False

    @property
    def name(self) -> str:
        if self.rate is None:
            return f"closed:{self.users}"
        return f"{'noop' if self.noop else 'open'}:{self.rate:g}"

    @property
    def num_tokens(self) -> int:
        return NOOP_TOKENS if self.noop else NUM_TOKENS

    def num_requests(self, tokens_per_s: float = math.inf) -> int:
        """How many requests fill ``seconds``, for a client that handles so many tokens/s."""
        if self.rate is not None:
            return max(1, round(self.rate * self.seconds))
        users = self.users or 1
        ideal = users * NUM_TOKENS / ANSWER_S
        return max(2 * users, round(min(ideal, tokens_per_s) * self.seconds / NUM_TOKENS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where things are: ``peers`` holds one environment per peer, ``model`` a tokenizer."""

    peers: Path
    model: Path
    home: Path  # where windtunnel keeps what it learns between runs
    vllm: tuple[str, ...]
    windtunnel: tuple[str, ...]
    epoll_client: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a tool said. None: it does not say."""

    num_ok: int | None = None
    num_failed: int | None = None
    request_rate: float | None = None
    ttft_s: Latency | None = None
    tpot_s: Latency | None = None
    itl_s: Latency | None = None  # over all gaps, not over requests
    dispatch_lag_s: Latency | None = None  # late against its own schedule
    is_valid: bool | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One call of one tool. ``folder`` is its own, empty, and its working directory."""

    point: Point
    url: str
    folder: Path
    places: Places


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    name: str
    command: Callable[[Run], list[str]]
    read: Callable[[Path], Reported]  # the run's folder
    env: Mapping[str, str] = field(default_factory=dict)


def _latency(values: Any, *, p50: str, p99: str, scale: float = 1.0) -> Latency | None:
    """From a mapping with these keys; None where it has neither."""
    found = values if isinstance(values, dict) else {}
    low, high = (_scaled(found.get(key), scale) for key in (p50, p99))
    return None if low is None and high is None else Latency(p50=low, p99=high)


def _scaled(value: Any, scale: float) -> float | None:
    return value * scale if isinstance(value, int | float) else None


def _document(path: Path) -> dict[str, Any]:
    """A JSON object: the file, or its last line that is one."""
    text = path.read_text()
    try:
        whole = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.startswith("{")]
        if not lines:
            raise ValueError(f"{path} holds no JSON object") from None
        whole = json.loads(lines[-1])
    if not isinstance(whole, dict):
        raise ValueError(f"{path} holds no JSON object")
    return whole


# ---- the bare C client: the limit ----


def _epoll_command(run: Run) -> list[str]:
    load = (
        ["--rate", f"{run.point.rate:g}"] if run.point.rate else ["--users", str(run.point.users)]
    )
    port = run.url.rsplit(":", 1)[1]
    return [
        str(run.places.epoll_client),
        *[
            "--port",
            port,
            "--seconds",
            f"{run.point.seconds:g}",
            "--tokens",
            str(run.point.num_tokens),
        ],
        *load,
    ]


def read_epoll(folder: Path) -> Reported:
    said = _document(folder / "output.txt")
    return Reported(
        num_ok=said["answered"] - said["failed"],
        num_failed=said["failed"] + said["unanswered"],
        request_rate=said["requests_per_s"],
        ttft_s=_latency(said["ttft_s"], p50="p50", p99="p99"),
        tpot_s=_latency(said["tpot_s"], p50="p50", p99="p99"),
        itl_s=_latency(said["itl_s"], p50="p50", p99="p99"),
        dispatch_lag_s=_latency(said["dispatch_lag_s"], p50="p50", p99="p99"),
    )


# ---- windtunnel ----


def _windtunnel_command(run: Run) -> list[str]:
    load = (
        ["--rate", f"{run.point.rate:g}", "--arrival", "constant"]
        if run.point.rate
        else ["--concurrency", str(run.point.users)]
    )
    return [
        *["env", f"WINDTUNNEL_HOME={run.places.home}"],
        *run.places.windtunnel,
        *["bench", "--endpoint", run.url, "--model", "m", "--api", "completions"],
        *["--input-tokens", str(NUM_TOKENS), "--output-tokens", str(run.point.num_tokens)],
        # No peer warms up by itself; without it the server's diary holds the load alone.
        *["--duration", f"{run.point.seconds:g}", "--warmup", "0", *load, "--json"],
    ]


def read_windtunnel(folder: Path) -> Reported:
    output, errors = folder / "output.txt", folder / "output.err"
    if not output.read_text() and errors.exists():  # it refused to send: no document, but a reason
        return Reported(is_valid=False, reasons=(errors.read_text().strip(),))
    said = _document(output)
    metrics = said["metrics"]
    return Reported(
        num_ok=said["num_requests"] - said["num_failed"],
        num_failed=said["num_failed"],
        request_rate=said["achieved_rate"],
        ttft_s=_latency(metrics.get("ttft_s"), p50="p50", p99="p99"),
        tpot_s=_latency(metrics.get("tpot_s"), p50="p50", p99="p99"),
        itl_s=_latency(metrics.get("itl_s"), p50="p50", p99="p99"),
        dispatch_lag_s=_latency(metrics.get("dispatch_lag_s"), p50="p50", p99="p99"),
        is_valid=said["valid"],
        reasons=tuple(str(reason) for reason in said["reasons"]),
    )


# ---- vllm bench serve ----


def _vllm_command(run: Run) -> list[str]:
    load = (
        ["--request-rate", f"{run.point.rate:g}", "--burstiness", "inf"]
        if run.point.rate
        else ["--request-rate", "inf", "--max-concurrency", str(run.point.users)]
    )
    return [
        *run.places.vllm,
        *["bench", "serve", "--backend", "openai", "--base-url", run.url],
        *["--endpoint", "/v1/completions", "--model", "m", "--tokenizer", str(run.places.model)],
        *["--dataset-name", "random", "--random-input-len", str(NUM_TOKENS)],
        *["--random-output-len", str(run.point.num_tokens), "--ignore-eos", "--disable-tqdm"],
        *["--num-prompts", str(run.point.num_requests(20_000)), "--ready-check-timeout-sec", "0"],
        *["--percentile-metrics", "ttft,tpot,itl", "--metric-percentiles", "50,99"],
        *["--save-result", "--result-dir", str(run.folder), "--result-filename", "vllm.json"],
        *load,
    ]


def read_vllm(folder: Path) -> Reported:
    """Its "ITL" are the gaps between chunks, pooled."""
    said = _document(folder / "vllm.json")

    def of(name: str) -> Latency | None:
        return _latency(said, p50=f"p50_{name}_ms", p99=f"p99_{name}_ms", scale=1e-3)

    return Reported(
        num_ok=said["completed"],
        num_failed=said.get("failed"),
        request_rate=said["request_throughput"],
        ttft_s=of("ttft"),
        tpot_s=of("tpot"),
        itl_s=of("itl"),
    )


# ---- inference-perf ----


def _fixed(num_tokens: int) -> dict[str, Any]:
    return {
        "type": "fixed",
        "mean": num_tokens,
        "min": num_tokens,
        "max": num_tokens,
        "std_dev": 0,
    }


def _inference_perf_command(run: Run) -> list[str]:
    point = run.point
    if point.rate:
        load = {
            "type": "constant",
            "stages": [{"rate": point.rate, "duration": max(1, round(point.seconds))}],
        }
    else:
        stage = {"num_requests": point.num_requests(8_000), "concurrency_level": point.users}
        load = {"type": "concurrent", "stages": [stage]}
    config = {
        "api": {"type": "completion", "streaming": True},
        "data": {
            "type": "random",
            "input_distribution": _fixed(NUM_TOKENS),
            "output_distribution": _fixed(point.num_tokens),
        },
        "load": {**load, "num_workers": 1, "worker_max_concurrency": 2048, "base_seed": 1},
        "server": {"type": "vllm", "model_name": "m", "base_url": run.url, "ignore_eos": True},
        "tokenizer": {"pretrained_model_name_or_path": str(run.places.model)},
        "report": {"request_lifecycle": {"summary": True, "per_stage": False}, "prometheus": None},
        "storage": {"local_storage": {"path": str(run.folder / "reports")}},
    }
    path = run.folder / "config.yaml"
    path.write_text(json.dumps(config, indent=1))  # JSON is YAML
    return [str(run.places.peers / "inference-perf/bin/inference-perf"), "-c", str(path)]


def read_inference_perf(folder: Path) -> Reported:
    said = _document(next(iter(sorted(folder.glob("reports*/summary_lifecycle_metrics.json")))))
    successes = said["successes"]
    latency = successes["latency"]
    return Reported(
        num_ok=successes["count"],
        num_failed=said["failures"]["count"],
        request_rate=successes["throughput"]["requests_per_sec"],
        ttft_s=_latency(latency.get("time_to_first_token"), p50="median", p99="p99"),
        tpot_s=_latency(latency.get("time_per_output_token"), p50="median", p99="p99"),
        itl_s=_latency(latency.get("inter_token_latency"), p50="median", p99="p99"),
    )


# ---- AIPerf ----


def _aiperf_command(run: Run) -> list[str]:
    load = (
        ["--request-rate", f"{run.point.rate:g}", "--request-rate-mode", "constant"]
        if run.point.rate
        else ["--concurrency", str(run.point.users)]
    )
    return [
        str(run.places.peers / "aiperf/bin/aiperf"),
        *["profile", "--model", "m", "--url", run.url, "--endpoint-type", "completions"],
        *["--streaming", "--tokenizer", str(run.places.model), "--ui", "none"],
        *["--synthetic-input-tokens-mean", str(NUM_TOKENS)],
        *["--synthetic-input-tokens-stddev", "0"],
        *["--output-tokens-mean", str(run.point.num_tokens), "--output-tokens-stddev", "0"],
        *["--extra-inputs", "ignore_eos:true", "--use-server-token-count"],
        *["--benchmark-duration", f"{run.point.seconds:g}", "--workers-max", "1"],
        *["--record-processors", "1", "--output-artifact-dir", str(run.folder), *load],
    ]


def read_aiperf(folder: Path) -> Reported:
    """Its "inter token latency" is one mean per request: what others call TPOT."""
    said = _document(folder / "profile_export_aiperf.json")

    def of(name: str) -> Latency | None:
        values = said.get(name)
        scale = {"ms": 1e-3, "s": 1.0, "sec": 1.0}[values["unit"]] if values else 1.0
        return _latency(values, p50="p50", p99="p99", scale=scale)

    return Reported(
        num_ok=round(said["request_count"]["avg"]),
        num_failed=round((said.get("error_request_count") or {"avg": 0})["avg"]),
        request_rate=said["request_throughput"]["avg"],
        ttft_s=of("time_to_first_token"),
        tpot_s=of("inter_token_latency"),
        itl_s=of("inter_chunk_latency"),
    )


# ---- GuideLLM ----


def _guidellm_command(run: Run) -> list[str]:
    point = run.point
    profile = (
        f"kind=constant,rate={point.rate:g}"
        if point.rate
        else f"kind=concurrent,streams={point.users}"
    )
    return [
        str(run.places.peers / "guidellm/bin/guidellm"),
        "run",
        *["--backend", f"kind=openai_http,target={run.url},model=m,request_format=/v1/completions"],
        *["--profile", profile, "--constraint", f"kind=max_duration,seconds={point.seconds:g}"],
        *["--tokenizer", f"kind=huggingface_auto,model={run.places.model}"],
        "--data",
        f"kind=synthetic_text,prompt_tokens={NUM_TOKENS},output_tokens={point.num_tokens}",
        *["--output", f"kind=json,path={run.folder / 'guidellm.json'}", "--disable-console"],
    ]


def read_guidellm(folder: Path) -> Reported:
    """Its "ITL" is (last - first) / (tokens - 1) per request; its "TPOT" holds the TTFT."""
    (benchmark,) = _document(folder / "guidellm.json")["benchmarks"]
    metrics = benchmark["metrics"]

    def of(name: str) -> Latency | None:
        values = metrics[name]["successful"]["percentiles"]
        return _latency(values, p50="p50", p99="p99", scale=1e-3)

    return Reported(
        num_ok=metrics["request_totals"]["successful"],
        num_failed=metrics["request_totals"]["errored"],
        request_rate=metrics["requests_per_second"]["successful"]["mean"],
        ttft_s=of("time_to_first_token_ms"),
        tpot_s=of("inter_token_latency_ms"),
    )


_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
_QUIET_VLLM = {**_OFFLINE, "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
TOOLS = {
    tool.name: tool
    for tool in (
        Tool(name="c-epoll", command=_epoll_command, read=read_epoll),
        Tool(name="windtunnel", command=_windtunnel_command, read=read_windtunnel),
        Tool(name="vllm", command=_vllm_command, read=read_vllm, env=_QUIET_VLLM),
        Tool(
            name="inference-perf",
            command=_inference_perf_command,
            read=read_inference_perf,
            env=_OFFLINE,
        ),
        # Told to stay offline, it takes no tokenizer from a folder.
        Tool(name="aiperf", command=_aiperf_command, read=read_aiperf),
        Tool(name="guidellm", command=_guidellm_command, read=read_guidellm, env=_OFFLINE),
    )
}
