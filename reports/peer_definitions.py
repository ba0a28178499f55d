"""Where other load generators mean something else by the same word, as data for the page.

Read from their sources and documentation in the versions named in ``PEERS``; a definition may
change with the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

# Tool → what was read: a release, or the day of the source that was.
PEERS = {
    "vllm bench serve": "source of September 2026",
    "GuideLLM": "0.8.1",
    "AIPerf": "0.13.0",
    "inference-perf": "0.7.0",
    "genai-bench": "source of 2026-07-22",
    "MLPerf LoadGen": "source of 2026-08-20",
    "MLCommons endpoints": "source of 2026-08-21",
    "llmperf": "source of 2024-12-08",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``peers`` define ``metric`` (one of the registry) otherwise than we do."""

    metric: str
    peers: tuple[str, ...]
    theirs: str


DIFFERENCES = (
    Difference(
        metric="ttft_s",
        peers=("vllm bench serve", "GuideLLM", "AIPerf", "inference-perf"),
        theirs="starts when the request is sent, so the client's own lateness and a full client "
        "are left out",
    ),
    Difference(
        metric="ttft_s",
        peers=("genai-bench", "llmperf"),
        theirs="starts before a new connection is opened for each request, which it then contains",
    ),
    Difference(
        metric="ttft_s",
        peers=("MLPerf LoadGen",),
        theirs="starts at the scheduled time, as ours",
    ),
    Difference(
        metric="ttft_s",
        peers=("MLCommons endpoints",),
        theirs="starts when the main process issues the request, before it reaches the sender",
    ),
    Difference(
        metric="ttft_s",
        peers=("vllm bench serve",),
        theirs="ends at the first chunk that has choices, which may hold no text",
    ),
    Difference(
        metric="ttft_s",
        peers=("inference-perf",),
        theirs="ends at the first text that is no reasoning (our TTFA); none for an answer with a "
        "single time stamp",
    ),
    Difference(
        metric="ttfa_s",
        peers=("AIPerf", "GuideLLM"),
        theirs="is called time to first output (AIPerf) or to first output token (GuideLLM)",
    ),
    Difference(
        metric="itl_s",
        peers=("vllm bench serve",),
        theirs="is the gap between chunks, however many tokens each holds: our inter-chunk gap",
    ),
    Difference(
        metric="itl_s",
        peers=("AIPerf", "GuideLLM"),
        theirs="is one mean per request, our TPOT up to the end of the answer; GuideLLM weighs "
        "each request by its tokens",
    ),
    Difference(
        metric="itl_s",
        peers=("llmperf",),
        theirs="is one number per request that contains TTFT: our NTPOT up to its last token",
    ),
    Difference(metric="itl_s", peers=("genai-bench", "MLPerf LoadGen"), theirs="does not exist"),
    Difference(
        metric="inter_chunk_s",
        peers=("AIPerf", "vllm bench serve"),
        theirs="is called inter-chunk latency (AIPerf) or ITL (vLLM)",
    ),
    Difference(
        metric="inter_chunk_s",
        peers=("GuideLLM", "genai-bench", "llmperf"),
        theirs="does not exist",
    ),
    Difference(
        metric="tpot_s",
        peers=("vllm bench serve", "genai-bench"),
        theirs="is the same formula, from the actual send",
    ),
    Difference(
        metric="tpot_s",
        peers=("inference-perf",),
        theirs="ends at the last token, not at the last byte",
    ),
    Difference(
        metric="tpot_s",
        peers=("GuideLLM",),
        theirs="divides the whole time, TTFT included, by all tokens: our NTPOT",
    ),
    Difference(metric="tpot_s", peers=("AIPerf",), theirs="is called inter-token latency"),
    Difference(
        metric="tpot_s",
        peers=("MLCommons endpoints",),
        theirs="divides by the tokens after the first chunk, which differs where that holds "
        "several",
    ),
    Difference(
        metric="tpot_s",
        peers=("MLPerf LoadGen",),
        theirs="is the same formula; a single token is an error instead of no value",
    ),
    Difference(
        metric="ntpot_s",
        peers=("inference-perf",),
        theirs="has the same name and formula, from the actual send",
    ),
    Difference(metric="ntpot_s", peers=("GuideLLM",), theirs="is called TPOT"),
    Difference(
        metric="e2e_s",
        peers=("AIPerf", "vllm bench serve"),
        theirs="ends at the last chunk with text, not at the last byte",
    ),
    Difference(
        metric="e2e_s",
        peers=("inference-perf", "GuideLLM", "genai-bench", "llmperf"),
        theirs="ends at the last byte, as ours, and starts at the actual send",
    ),
    Difference(
        metric="goodput_rate",
        peers=("vllm bench serve",),
        theirs="takes latencies from the actual send, so a late client costs nothing",
    ),
    Difference(
        metric="slo_attainment",
        peers=("inference-perf",),
        theirs="leaves failed requests out of the share",
    ),
    Difference(
        metric="slo_attainment",
        peers=("MLPerf LoadGen",),
        theirs="judges the whole run: p99 of TTFT and p99 of TPOT, each by itself",
    ),
    Difference(
        metric="output_throughput",
        peers=("GuideLLM",),
        theirs="counts over the active window, warm-up and cool-down cut off; output tokens are "
        "chunks where the server tells no count",
    ),
    Difference(
        metric="output_throughput",
        peers=("AIPerf", "inference-perf", "MLCommons endpoints", "llmperf"),
        theirs="counts output tokens with the client's own tokenizer unless told otherwise "
        "(llmperf: one tokenizer for every model)",
    ),
)

# Of percentiles in general.
PERCENTILES = (
    (
        "vllm bench serve, inference-perf, AIPerf, genai-bench, llmperf",
        "linear interpolation, as ours, whatever the number of samples",
    ),
    ("GuideLLM", "no interpolation; marks percentiles that the samples do not support"),
    ("AIPerf", "none above p99"),
    (
        "MLPerf LoadGen",
        "the value at index ⌊n·q⌋, and a bound at 99 % confidence for independent samples",
    ),
    (
        "MLCommons endpoints",
        "from a histogram while it runs, exact at the end, with the bound of LoadGen",
    ),
)
