"""The house as a machine sees it: small rooms, one door for each heavy thing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("harness", "workloads", "tuners", "results", "reports")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# module prefix → the only places that may import it
ONLY_HERE = {
    "ray": ("harness/on_ray/", "harness/ray_deployer.py", "workloads/token_files.py"),
    "torch": ("workloads/torch_", "harness/on_ray/train"),
    "jax": ("workloads/jax_",),
    "optax": ("workloads/jax_",),
    "altair": ("reports/",),
    "llmd_benchmark_report": ("results/interop/llmd.py",),
    "pynvml": (
        "harness/on_ray/node_facts.py",
        "harness/cli/doctor.py",
        "harness/telemetry/nvml",  # and its fake
    ),
    "prometheus_client": (
        "harness/telemetry/prometheus.py",
        "results/api/meter.py",
        "reports/night_metrics.py",
    ),
    "fastapi": ("results/api/",),
    "uvicorn": ("results/api/server.py",),
    "fsspec": ("results/", "harness/on_ray/train_group.py"),
}
# Where an engine's environment is put together from our own.
MAY_READ_ENVIRON = (
    "harness/settings.py",
    "harness/server_process.py",
    "harness/rank_process.py",
    "harness/on_ray/",
    "workloads/callback/",  # runs in a training script's process, not in ours
    "workloads/vllm_forked.py",  # and this one is the engine's process
)


def sources() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_there_is_something_to_look_at() -> None:
    assert len(list(sources())) > 40


def test_rooms_are_small() -> None:
    large = []
    for name, path in sources():
        text = path.read_text()
        if text.count("\n") > MAX_FILE_LINES:
            large.append(f"{name}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    large.append(f"{name}: {node.name} has {length} lines")
    assert not large


@pytest.mark.parametrize("module", sorted(ONLY_HERE))
def test_heavy_things_have_one_door(module: str) -> None:
    strangers = [
        name
        for name, path in sources()
        for imported in imports(ast.parse(path.read_text()))
        if imported.split(".")[0] == module and not name.startswith(ONLY_HERE[module])
    ]
    assert not strangers


def test_the_environment_is_read_in_one_place() -> None:
    readers = [
        name
        for name, path in sources()
        if ("os.environ" in path.read_text() or "os.getenv" in path.read_text())
        and not name.startswith(MAY_READ_ENVIRON)
    ]
    assert not readers


def test_dates_come_from_the_clock() -> None:
    strangers = []
    for name, path in sources():
        if name == "results/clock.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                call = ast.unparse(node.func)
                if call in {"time.time", "datetime.now", "datetime.utcnow"}:
                    strangers.append(f"{name}:{node.lineno} {call}")
    assert not strangers


def test_nothing_points_at_one_machine() -> None:
    strangers = [
        name
        for name in [*(n for n, _ in sources()), "README.md", "Makefile", "pyproject.toml"]
        if "/root/" in (ROOT / name).read_text() or "/home/" in (ROOT / name).read_text()
    ]
    assert not strangers
