"""vLLM started with one import: the script itself, on packages that stand in for vLLM and torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workloads import vllm_forked
from workloads.base import Device
from workloads.errors import LaunchRefused
from workloads.params import VllmWorkload
from workloads.vllm import VllmServing
from workloads.vllm_startup import read_resolved

CPU = Device(kind="cpu", accelerator="cpu", num_chips=0)
GPU = Device(kind="gpu", accelerator="H100", num_chips=1)
# What vLLM's CPU platform does, and an entry that starts its engine as vLLM does.
_PLATFORM = """
import os
class CpuPlatform:
    @classmethod
    def check_and_update_config(cls, vllm_config):
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        vllm_config["seen"] = cls.__name__
"""
_ENTRY = """
import json, multiprocessing, os, sys
from vllm.platforms.cpu import CpuPlatform
def engine(queue):
    import vllm.v1.engine.core as core
    CpuPlatform.check_and_update_config({})  # as the engine does, once more
    queue.put((os.getppid(), os.environ["VLLM_WORKER_MULTIPROC_METHOD"]))
def main():
    config = {}
    CpuPlatform.check_and_update_config(config)
    how = os.environ["VLLM_WORKER_MULTIPROC_METHOD"]
    context = multiprocessing.get_context(how)
    queue = context.SimpleQueue()
    process = context.Process(target=engine, args=(queue,))
    process.start()
    parent, worker = queue.get()
    told = {"how": how, "parent": parent, "worker": worker, "me": os.getpid(), "argv": sys.argv,
            "preload": os.environ["LD_PRELOAD"], "path": sys.path, **config,
            "threads": os.environ["TORCHINDUCTOR_COMPILE_THREADS"]}
    process.join()
    print(json.dumps(told), flush=True)
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for module in (*vllm_forked._MODULES, "vllm.platforms.cpu"):
        file = tmp_path.joinpath(*module.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    entry = tmp_path / "vllm/entrypoints/launchers/api_server/entry.py"
    entry.parent.mkdir(parents=True)
    entry.write_text(_ENTRY)
    (tmp_path / "vllm/platforms/cpu.py").write_text(_PLATFORM)
    libs = tmp_path / "torch" / "lib"
    libs.mkdir(parents=True)
    for folder in ("vllm", "torch"):
        (tmp_path / folder / "__init__.py").write_text("")
    return tmp_path


def started(packages: Path, **env_: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("LD_")}
    return subprocess.run(
        [sys.executable, vllm_forked.__file__, "--port", "1"],
        env={**env, "PYTHONPATH": str(packages), **env_},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_its_engine_is_forked_from_the_process_that_imported(packages: Path) -> None:
    done = started(packages)
    assert done.returncode == 0, done.stderr
    ready, said = done.stdout.strip().splitlines()
    assert ready == vllm_forked.READY
    told = json.loads(said)
    assert told["how"] == "fork"
    assert told["parent"] == told["me"]
    assert told["worker"] == "spawn"  # which reads where its threads belong as it starts
    assert told["seen"] == "CpuPlatform"  # the platform's own work was done
    assert told["argv"][1:] == ["--port", "1"]
    assert told["threads"] == "1"
    assert str(Path(vllm_forked.__file__).parent) not in told["path"]


def test_a_worker_whose_threads_are_not_bound_is_forked_too(packages: Path) -> None:
    done = started(packages, VLLM_CPU_OMP_THREADS_BIND="nobind")
    assert json.loads(done.stdout.strip().splitlines()[1])["worker"] == "fork"


def test_it_refuses_to_fork_a_process_that_has_threads(packages: Path) -> None:
    file = packages / "vllm/v1/engine/core.py"
    file.write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
    )
    done = started(packages)
    assert done.returncode != 0
    assert "leave workload.fork_engine out" in done.stderr


def test_libraries_are_preloaded_as_vllm_does_for_what_it_spawns(tmp_path: Path) -> None:
    torch, vllm = tmp_path / "torch", tmp_path / "vllm"
    (torch / "lib").mkdir(parents=True)
    (vllm / "libs").mkdir(parents=True)
    gomp, malloc = torch / "lib/libgomp.so.1", vllm / "libs/libtcmalloc_minimal.so.4"
    gomp.write_text("")
    malloc.write_text("")
    assert vllm_forked.preloaded(torch, vllm, "") == f"{gomp}:{malloc}"
    assert (
        vllm_forked.preloaded(torch, vllm, "/usr/lib/libiomp5.so")
        == f"/usr/lib/libiomp5.so:{malloc}"
    )
    assert vllm_forked.preloaded(torch, vllm, "/l/libtcmalloc.so") == f"/l/libtcmalloc.so:{gomp}"


def test_the_launch_is_the_same_but_for_its_first_words() -> None:
    spawned = VllmServing(VllmWorkload(model="org/m")).launch(CPU, "models")
    forked = VllmServing(VllmWorkload(model="org/m", fork_engine=True)).launch(CPU, "models")
    assert forked.argv[:2] == (sys.executable, vllm_forked.__file__)
    assert forked.argv[2:] == spawned.argv[3:]
    assert forked.env == spawned.env
    with pytest.raises(LaunchRefused, match="fork_engine is for CPUs"):
        VllmServing(VllmWorkload(model="org/m", fork_engine=True)).launch(GPU, "models")


def test_the_record_says_how_the_engine_was_started() -> None:
    assert read_resolved([(1.0, vllm_forked.READY)])["engine_start"] == "forked"
    assert "engine_start" not in read_resolved([(1.0, "INFO something else")])
