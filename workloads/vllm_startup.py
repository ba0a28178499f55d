"""Reads vLLM's startup out of its own log: phases, and what the engine says it runs with.

Pure. A line comes with the second at which it reached us, counted from the start of the process.
vLLM's own prefix has whole seconds only, so a phase's ends come from our stamps, and its length,
where a line announces one ("took 0.05 seconds"), from the line.
Which lines to look for is said by ``vllm_log``, release by release.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

from results.startup import PhaseSource, StartupPhase
from workloads.vllm_log import (
    CAPTURED,
    ENGINE_INIT,
    ENGINE_READY,
    KV_CACHE_MEMORY,
    SERVER_READY,
    STARTING_SERVER,
    Line,
    Rules,
    announced_version,
    parse_log,
    rules_for,
)

# How late a line may reach us: the reader shares the machine with an engine that uses all of it.
STAMP_RESOLUTION_S = 0.05

# Phase names by the name of vLLM's span, the same as those read from the log where both tell of
# the same thing. Spans not named here (requests, for one) are no part of a startup.
SPAN_PHASES = {
    "EngineCoreProc init": "engine core",
    "Executor init": "executor",
    "Worker init": "worker",
    "Init device": "init device",
    "Loading (CPU)": "load model",
    "Loading (GPU)": "load model",
    "Load model": "build and load",
    "Initialize model": "initialize model",
    "Download weights - HF": "download weights",
    "Load weights": "load weights",
    "Prepare model": "profile, KV cache, warm-up",
    "Warmup (CPU)": "warm-up",
    "Warmup (GPU)": "warm-up",
    "Compile graph": "compile graph",
    "Inductor compilation": "compile: inductor",
    "Dynamo bytecode transform": "compile: dynamo",
    "DeepGemm warmup": "warm-up: DeepGEMM",
    "CuTeDSL warmup": "warm-up: CuTe DSL",
    "MiniMax M3 MSA warmup": "warm-up: MSA",
    "Capture model": "capture graphs",
    "Allocate KV cache": "allocate KV cache",
    "Overall Loading": "start engine core",
    "API server setup": "API server setup",
}


def read_phases(lines: list[tuple[float, str]]) -> tuple[StartupPhase, ...]:
    """The phases that a log tells of, by start; seconds since the process started.

    ``lines`` are (stamp, line). A log that ends early gives the phases that ended. Phases overlap
    where vLLM's do ("engine init" holds most others). One per worker is kept for each.
    """
    parsed = parse_log(lines)
    rules = rules_for(announced_version(parsed))
    found = [
        *_imports(parsed),
        *_announced(parsed, rules),
        *_bracketed(parsed, rules),
        *_kv_cache(parsed, rules),
        *_api_server(parsed),
    ]
    return tuple(sorted(found, key=lambda phase: (phase.start_s, -phase.end_s, phase.name)))


def read_resolved(lines: list[tuple[float, str]]) -> dict[str, Any]:
    """What the engine says it runs with; keys that the log does not tell are left out.

    Values are JSON-like. What differs from start to start on one machine stands under
    ``observed``; there, ``compile_cache`` is ``loaded`` or ``written``: the startup of one that
    compiled cannot be compared with that of one that did not.
    """
    parsed = parse_log(lines)
    rules = rules_for(announced_version(parsed))
    resolved: dict[str, Any] = {"engine": "vllm"}
    for line in parsed:
        if ENGINE_INIT.search(line.text):
            resolved |= _config(line.text)
        for read in _FACTS:
            resolved |= read(line.text)
        if match := rules.kv_cache_size.search(line.text):
            resolved["kv_cache_tokens"] = int(match["tokens"].replace(",", ""))
        if match := rules.max_concurrency.search(line.text):
            resolved["max_concurrency"] = float(match["n"])
    version = announced_version(parsed)
    return _apart(resolved | ({"version": version} if version else {}))


# What the engine found rather than was told: it differs from start to start on one machine.
_OBSERVED = frozenset(
    {
        "checkpoint_gib",
        "compile_cache",
        "kv_cache_memory_gib",
        "kv_cache_tokens",
        "max_concurrency",
        "max_num_batched_tokens",
        "model_memory_gib",
        "released_page_cache_gib",
        "worker_cores",
    }
)
# Where the model lies and what it is called here says nothing about how it runs.
_PLACES = frozenset({"model", "served_model_name", "tokenizer"})


def _apart(resolved: dict[str, Any]) -> dict[str, Any]:
    """Flags apart from observations (``observed``), which no comparison should break on."""
    flags = {k: v for k, v in resolved.items() if k not in _OBSERVED}
    if isinstance(told := flags.get("non_default_args"), dict):
        flags["non_default_args"] = {k: v for k, v in told.items() if k not in _PLACES}
    observed = {k: v for k, v in resolved.items() if k in _OBSERVED}
    return flags | ({"observed": observed} if observed else {})


def _phase(
    name: str, start_s: float, end_s: float, *, detail: str, printed_s: float = 0.0
) -> StartupPhase:
    return StartupPhase(
        name=name,
        start_s=max(start_s, 0.0),
        end_s=end_s,
        source=PhaseSource.LOG,
        resolution_s=STAMP_RESOLUTION_S + printed_s,
        detail=detail,
    )


def _imports(lines: list[Line]) -> Iterator[StartupPhase]:
    """Each process of the engine imports vLLM anew, one after another, and logs nothing meanwhile.

    The silence before a process's first line is taken for its start and imports, so these phases
    are upper bounds; the log tells no more.
    """
    ours = [line for line in lines if line.is_vllm]
    if not ours:
        return
    yield _phase("imports: API server", 0.0, ours[0].stamp_s, detail="up to its first line")
    for before, line in itertools.pairwise(ours):
        if "Resolved architecture" in line.text:
            yield _phase(
                "inspect model",
                before.stamp_s,
                line.stamp_s,
                detail="imports vLLM in a process of its own when its cache is cold",
            )
            break
    for name, is_first in (("engine core", _opens_engine), ("worker", _opens_worker)):
        for before, line in itertools.pairwise(ours):
            if is_first(line):
                yield _phase(
                    f"imports: {name}",
                    before.stamp_s,
                    line.stamp_s,
                    detail="from the last line before, up to its first line",
                )
                break


def _opens_engine(line: Line) -> bool:
    return line.process.startswith("EngineCore") or ENGINE_INIT.search(line.text) is not None


def _opens_worker(line: Line) -> bool:
    return line.process.startswith(("Worker", "VllmWorker"))


def _announced(lines: list[Line], rules: Rules) -> Iterator[StartupPhase]:
    for line in lines:
        for rule in rules.took:
            if match := rule.line.search(line.text):
                decimals = len(match["s"].partition(".")[2])
                yield _phase(
                    rule.phase,
                    line.stamp_s - float(match["s"]),
                    line.stamp_s,
                    printed_s=0.5 * 10.0**-decimals,
                    detail=_who(line),
                )


def _bracketed(lines: list[Line], rules: Rules) -> Iterator[StartupPhase]:
    for rule in rules.between:
        begun: dict[str, float] = {}
        for line in lines:
            if rule.begin.search(line.text):
                begun[line.pid] = line.stamp_s
            elif line.pid in begun and rule.end.search(line.text):
                yield _phase(rule.phase, begun.pop(line.pid), line.stamp_s, detail=_who(line))


def _kv_cache(lines: list[Line], rules: Rules) -> Iterator[StartupPhase]:
    """The engine logs the cache's size, allocates it, captures graphs (on a GPU) and is ready."""
    sized_s = captured_s = None
    for line in lines:
        if sized_s is None and rules.kv_cache_size.search(line.text):
            sized_s = line.stamp_s
        elif sized_s is not None and captured_s is None and (match := CAPTURED.search(line.text)):
            captured_s = max(line.stamp_s - float(match["s"]), sized_s)
        elif sized_s is not None and ENGINE_READY.search(line.text):
            yield _phase(
                "allocate KV cache",
                sized_s,
                line.stamp_s if captured_s is None else captured_s,
                printed_s=0.0 if captured_s is None else 0.5,
                detail=_who(line),
            )
            return


def _api_server(lines: list[Line]) -> Iterator[StartupPhase]:
    """From the engine's being ready (or the server's first word) to uvicorn's last."""
    begun_s = None
    for line in lines:
        if ENGINE_READY.search(line.text) or (
            begun_s is None and STARTING_SERVER.search(line.text)
        ):
            begun_s = line.stamp_s
        elif begun_s is not None and SERVER_READY.search(line.text):
            yield _phase("start API server", begun_s, line.stamp_s, detail="engine ready → serving")
            return


def _who(line: Line) -> str:
    return f"{line.process} pid={line.pid}" if line.process else ""


_CONFIG_KEYS = {
    "dtype": "dtype",
    "max_seq_len": "max_model_len",
    "load_format": "load_format",
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "data_parallel_size": "data_parallel_size",
    "quantization": "quantization",
    "enforce_eager": "enforce_eager",
    "kv_cache_dtype": "kv_cache_dtype",
    "device_config": "device",
    "seed": "seed",
    "enable_prefix_caching": "enable_prefix_caching",
    "enable_chunked_prefill": "enable_chunked_prefill",
}


def _config(text: str) -> dict[str, Any]:
    found = {}
    for key, name in _CONFIG_KEYS.items():
        if match := re.search(rf"[ (]{key}=([^,]+),", text):
            found[name] = _value(match[1].removeprefix("torch."))
    return found


def _value(text: str) -> Any:
    """A Python literal as its value; anything else as its text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text.strip("'\"")
    return value


def _fact(
    name: str, pattern: str, convert: Callable[[str], Any] = str
) -> Callable[[str], dict[str, Any]]:
    compiled = re.compile(pattern)

    def read(text: str) -> dict[str, Any]:
        match = compiled.search(text)
        return {name: convert(match[1])} if match else {}

    return read


_ENUM = re.compile(r"<[\w.]+: ('[^'<>]*'|[\w.]+)>")  # <Mode.NONE: 0> → 0


def _arguments(text: str) -> dict[str, Any]:
    """Less where the server listens, which is another in every run, and without secrets.

    Empty where the text is no literal: what cannot be taken apart cannot be cleared of secrets.
    """
    value = _value(_ENUM.sub(r"\1", text))
    if not isinstance(value, dict):
        return {}
    return {
        key: "***" if key in ("api_key", "hf_token") else item
        for key, item in value.items()
        if key not in ("host", "port")
    }


def _loaded(_: str) -> str:
    return "loaded"


def _written(_: str) -> str:
    return "written"


_FACTS = (
    _fact("non_default_args", r"non-default args: (\{.*\})\s*$", _arguments),
    _fact("architecture", r"Resolved architecture: (\S+)"),
    # What the compiler is told to expect is a step's budget of tokens, resolved.
    _fact("max_num_batched_tokens", r"'compile_ranges_endpoints': \[(?:\d+, )*(\d+)\]", int),
    _fact("max_model_len", r"Using max model len (\d+)", int),
    _fact("engine_start", r"^windtunnel: vLLM imported once; its engine is (forked)"),
    _fact("supported_tasks", r"Supported tasks: (\[.*\])", _value),
    _fact("attention_backend", r"Using (\S+) (?:attention )?backend\b"),
    _fact("checkpoint_gib", r"Checkpoint size: ([\d.]+) GiB", float),
    _fact("model_memory_gib", r"Model loading took ([\d.]+) Gi?B", float),
    _fact("kv_cache_memory_gib", KV_CACHE_MEMORY.pattern.replace("?P<gib>", ""), float),
    _fact("kv_cache_memory_gib", r"Explicitly set \(([\d.]+)/[\d.]+\) GiB for KV cache", float),
    _fact("worker_cores", r"local_rank=0, core ids=(\[[\d, ]*\])", _value),
    _fact("compile_cache", r"(Directly load (?:AOT compilation|the compiled graph))", _loaded),
    _fact("compile_cache", r"(saved AOT compiled function|Cache the graph of compile)", _written),
    _fact("released_page_cache_gib", r"Released ([\d.]+) GiB of checkpoint page cache", float),
)
