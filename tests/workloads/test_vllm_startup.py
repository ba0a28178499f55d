"""Reading vLLM's own log. Expected figures are worked out by hand from the logs' lines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from results.startup import PhaseSource, StartupPhase
from workloads.vllm_log import announced_version, parse_log, rules_for
from workloads.vllm_startup import SPAN_PHASES, read_phases, read_resolved

LOGS = Path(__file__).resolve().parents[1] / "data" / "vllm_logs"
FIRST_START = "0.32.0-cpu-first-start.log"
RECOMPILES = "0.32.0-cpu-recompiles.log"
EAGER = "0.32.0-cpu-eager.log"
GPU_0_33 = "0.33.0-gpu-composed.log"
GPU_0_10 = "0.10.0-gpu-composed.log"

Lines = list[tuple[float, str]]


def log(name: str) -> Lines:
    lines = []
    for row in (LOGS / name).read_text(encoding="utf-8").splitlines():
        if not row.startswith("#"):
            stamp, _, line = row.partition("\t")
            lines.append((float(stamp), line))
    assert len(lines) > 10
    return lines


def bounds(phases: tuple[StartupPhase, ...]) -> list[tuple[str, float, float]]:
    return [(phase.name, round(phase.start_s, 3), round(phase.end_s, 3)) for phase in phases]


EXPECTED = {
    FIRST_START: [
        ("imports: API server", 0.0, 17.476),
        ("inspect model", 17.488, 40.454),
        ("imports: engine core", 40.936, 63.51),
        ("engine init", 63.51, 137.172),
        ("imports: worker", 63.627, 80.183),
        ("initialize model", 80.228, 80.529),
        ("load weights", 80.531, 80.551),
        ("warm-up", 81.77, 133.866),
        ("compile", 81.77, 131.225),
        ("profile, KV cache, warm-up", 81.832, 137.172),
        ("first run", 131.221, 133.041),
        ("allocate KV cache", 133.877, 137.172),
        ("start API server", 137.172, 138.574),
    ],
    GPU_0_33: [
        ("imports: API server", 0.0, 9.12),
        ("inspect model", 9.131, 9.42),
        ("imports: engine core", 9.421, 19.87),
        ("engine init", 19.87, 66.903),
        ("imports: worker", 19.87, 31.002),
        ("load model", 31.007, 36.942),
        ("load model", 31.007, 36.911),
        ("initialize model", 31.028, 31.519),
        ("initialize model", 31.028, 31.515),
        ("load weights", 31.572, 36.702),
        ("profile, KV cache, warm-up", 36.933, 66.903),
        ("compile: dynamo", 37.211, 40.331),
        ("compile", 37.22, 52.24),
        ("compile graph", 40.545, 48.655),
        ("first run", 52.27, 53.31),
        ("allocate KV cache", 54.902, 55.48),
        ("capture graphs", 55.48, 66.48),
        ("start API server", 66.903, 68.017),
    ],
    GPU_0_10: [
        ("imports: API server", 0.0, 8.0),
        ("imports: engine core", 14.0, 22.0),
        ("engine init", 22.02, 69.82),
        ("load model", 24.247, 29.8),
        ("load weights", 24.59, 29.3),
        ("profile, KV cache, warm-up", 29.8, 69.82),
        ("compile: dynamo", 30.15, 35.0),
        ("compile", 35.05, 45.5),
        ("compile graph", 35.4, 41.0),
        ("allocate KV cache", 46.6, 46.7),
        ("capture graphs", 46.7, 68.7),
        ("start API server", 69.82, 71.1),
    ],
}


@pytest.mark.parametrize("name", EXPECTED)
def test_phases_of_each_release(name: str) -> None:
    assert bounds(read_phases(log(name))) == EXPECTED[name]


def test_a_second_start_inspects_the_model_from_its_cache() -> None:
    first = {phase.name: phase for phase in read_phases(log(FIRST_START))}
    second = {phase.name: phase for phase in read_phases(log(RECOMPILES))}
    assert first["inspect model"].duration_s > 20
    assert second["inspect model"].duration_s < 0.1
    assert set(first) == set(second)


def test_an_engine_that_compiles_nothing_has_no_such_phase() -> None:
    names = {phase.name for phase in read_phases(log(EAGER))}
    assert not {"compile", "warm-up", "first run"} & names
    assert {"load weights", "allocate KV cache", "start API server"} <= names
    assert "compile_cache" not in read_resolved(log(EAGER))


@pytest.mark.parametrize("name", [*EXPECTED, RECOMPILES, EAGER])
def test_every_phase_is_from_the_log_within_it_and_as_sharp_as_it_is_printed(name: str) -> None:
    lines = log(name)
    for phase in read_phases(lines):
        assert phase.source is PhaseSource.LOG
        assert 0 <= phase.start_s <= phase.end_s <= lines[-1][0]
    by_name = {phase.name: phase for phase in read_phases(lines)}
    stamp_s = by_name["engine init"].resolution_s
    assert by_name["load weights"].resolution_s == pytest.approx(stamp_s + 0.005)  # "%.2f"
    if "capture graphs" in by_name:
        assert by_name["capture graphs"].resolution_s == pytest.approx(stamp_s + 0.5)  # "%.0f"


def test_a_log_that_ends_early_gives_what_had_ended() -> None:
    """vLLM died while it warmed up: no phase is made up for what never ended."""
    lines = [line for line in log(FIRST_START) if line[0] < 100]
    assert bounds(read_phases(lines)) == [
        expected for expected in EXPECTED[FIRST_START] if expected[2] < 100
    ]


@pytest.mark.parametrize("lines", [[], [(0.5, "Traceback (most recent call last):")], [(1.0, "")]])
def test_a_log_without_vllm_in_it_has_no_phases(lines: Lines) -> None:
    assert read_phases(lines) == ()
    assert read_resolved(lines) == {"engine": "vllm"}


def test_colours_and_other_processes_lines_do_not_confuse() -> None:
    plain = log(FIRST_START)
    coloured = [
        (stamp_s, line.replace("INFO", "\x1b[32mINFO\x1b[0m") + "\n") for stamp_s, line in plain
    ]
    noisy = [row for line in coloured for row in (line, (line[0], "Loading:  50%|█████     | 1/2"))]
    assert read_phases(noisy) == read_phases(plain)


def test_releases_before_0_32_said_it_otherwise() -> None:
    """The rules are chosen by the announced version, not by trying all."""
    lines = log(GPU_0_10)
    relabelled = [
        (s, line.replace("(v0.10.0)", "(v0.33.0)").replace("version 0.10.0", "version 0.33.0"))
        for s, line in lines
    ]
    lost = {p.name for p in read_phases(lines)} - {p.name for p in read_phases(relabelled)}
    assert lost == {"compile", "load model", "compile graph", "allocate KV cache"}


@pytest.mark.parametrize(
    ("version", "since"),
    [
        ("0.8.5", (0, 0)),
        ("0.31.9", (0, 0)),
        ("0.32.0", (0, 32)),
        ("0.32.1.post1+cpu", (0, 32)),
        ("0.33.0rc2", (0, 33)),
        ("0.40.0", (0, 33)),
        ("1.0.0", (0, 33)),
        ("0.1.dev9999+gabc1234", (0, 33)),
        ("", (0, 33)),
        ("unknown", (0, 33)),
    ],
)
def test_rules_by_version(version: str, since: tuple[int, int]) -> None:
    assert rules_for(version).since == since


@pytest.mark.parametrize(
    "line",
    [
        "INFO 01-02 03:04:05 [api.py:1] vLLM API server version 0.9.1",
        "(APIServer pid=1) INFO 01-02 03:04:05 [s.py:3] vLLM server version 0.9.1, serving model m",
        "(APIServer pid=1) INFO 01-02 03:04:05 [s.py:3]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.9.1",
        "INFO 01-02 03:04:05 llm_engine.py:9] Initializing an LLM engine (v0.9.1) with config: x=1",
    ],
)
def test_every_way_a_version_is_announced(line: str) -> None:
    assert announced_version(parse_log([(0.0, line)])) == "0.9.1"


def test_what_a_cpu_engine_runs_with() -> None:
    assert read_resolved(log(FIRST_START)) == {
        "engine": "vllm",
        "version": "0.32.0",
        "architecture": "LlamaForCausalLM",
        "dtype": "bfloat16",
        "device": "cpu",
        "max_model_len": 2048,
        "load_format": "auto",
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "quantization": None,
        "enforce_eager": False,
        "kv_cache_dtype": "auto",
        "seed": 0,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "supported_tasks": ["generate"],
        "non_default_args": {},
        "observed": {
            "checkpoint_gib": 0.01,
            "kv_cache_memory_gib": 1.0,
            "kv_cache_tokens": 524288,
            "max_concurrency": 256.0,
            "max_num_batched_tokens": 2048,
            "worker_cores": [0],
            "compile_cache": "written",
        },
    }


def test_what_a_gpu_engine_runs_with() -> None:
    resolved = read_resolved(log(GPU_0_33))
    assert resolved["version"] == "0.33.0"
    assert resolved["device"] == "cuda"
    assert resolved["quantization"] == "fp8"
    assert resolved["tensor_parallel_size"] == 2
    assert resolved["observed"]["kv_cache_tokens"] == 955_312
    assert resolved["observed"]["kv_cache_memory_gib"] == 58.31
    assert resolved["observed"]["model_memory_gib"] == 4.29
    assert (
        resolved["observed"]["released_page_cache_gib"] == 8.03
    )  # the next start will be a cold one


def test_neither_ports_nor_keys_are_kept() -> None:
    line = (
        "(APIServer pid=1) INFO 01-02 03:04:05 [a.py:1] non-default args: "
        "{'host': '10.0.0.7', 'port': 12345, 'api_key': ['sk-secret'], 'max_model_len': 64}"
    )
    assert read_resolved([(0.0, line)])["non_default_args"] == {
        "api_key": "***",
        "max_model_len": 64,
    }


def test_arguments_with_enumerations_are_taken_apart() -> None:
    arguments = read_resolved(log(EAGER))["non_default_args"]
    assert "port" not in arguments
    assert arguments["enforce_eager"] is True
    assert arguments["compilation_config"]["mode"] == 0
    assert arguments["compilation_config"]["dynamic_shapes_config"]["type"] == "backed"


def test_arguments_that_cannot_be_taken_apart_are_not_kept() -> None:
    line = "INFO 01-02 03:04:05 [a.py:1] non-default args: {'api_key': ['sk'], 'x': Thing(1)}"
    assert read_resolved([(0.0, line)])["non_default_args"] == {}


def test_spans_and_log_agree_on_names() -> None:
    """So that one phase seen twice is known for one."""
    from_log = {name for expected in EXPECTED.values() for name, _, _ in expected}
    shared = from_log & set(SPAN_PHASES.values())
    assert shared >= {
        "load weights",
        "initialize model",
        "warm-up",
        "allocate KV cache",
        "profile, KV cache, warm-up",
        "capture graphs",
        "compile: dynamo",
        "compile graph",
        "load model",
    }


def test_every_span_the_installed_engine_names_for_its_startup_is_known(
    require: Callable[[bool, str], None],
) -> None:
    """Its sources are read, not run."""
    import importlib.util
    import re

    found = importlib.util.find_spec("vllm")
    require(found is not None, "vllm is not installed")
    assert found is not None
    assert found.submodule_search_locations
    root = Path(found.submodule_search_locations[0])
    parts = ("compilation", "entrypoints", "model_executor", "v1")
    named: set[str] = set()
    for part in parts:
        for path in (root / part).rglob("*.py"):
            named |= set(re.findall(r'@instrument\(span_name="([^"]+)"', path.read_text("utf-8")))
    assert len(named) > 10
    assert named - set(SPAN_PHASES) == {"SyncMPClient init", "AsyncMPClient init"}
