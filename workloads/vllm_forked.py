"""Starts vLLM's server on a CPU with fewer imports. A script for the engine's own interpreter: it
imports vLLM and the standard library, nothing of ours.

vLLM's CPU platform has its engine and worker processes spawned, and each imports everything anew.
Here all of it is imported once, before there is a second thread, and the engine's process is
forked: what vLLM does by itself on a GPU. The worker is spawned as ever, because the number and the
places of its OpenMP threads stand in its environment, which their library reads as it is loaded: a
forked worker would not be bound. It is forked, too, where VLLM_CPU_OMP_THREADS_BIND is nobind.
What a spawned process takes from its environment as it starts (the OpenMP library of torch, the
compiler's threads) is set before this one's own imports, by starting it once more.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

READY = "windtunnel: vLLM imported once; its engine is forked"
_AGAIN = "WINDTUNNEL_VLLM_FORKED"
# What vLLM's CPU platform sets for the processes that it spawns (0.32, vllm/platforms/cpu.py).
_SET_BEFORE = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TORCHINDUCTOR_CPP_DYNAMIC_THREADS": "1",
    "VLLM_DISABLE_SHARED_EXPERTS_STREAM": "1",
}
_MODULES = (
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.engine.async_llm",
    "vllm.v1.executor.uniproc_executor",
    "vllm.v1.executor.multiproc_executor",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
)


def preloaded(torch_dir: Path, vllm_dir: Path, already: str) -> str:
    """``LD_PRELOAD`` as vLLM gives it to what it spawns: torch's libgomp, and the allocator that
    vLLM brings, each unless one of its kind is there already."""
    found: list[str | Path] = [already] if already else []
    if not any(name in already for name in ("libomp", "libgomp", "libiomp")):
        places = (torch_dir.parent / "torch.libs", torch_dir / "lib")
        found += [path for place in places for path in sorted(place.glob("libgomp*.so*"))][:1]
    if "libtcmalloc" not in already:
        found += sorted((vllm_dir / "libs").glob("libtcmalloc*.so*"))[:1]
    return ":".join(map(str, found))


def environment(inherited: dict[str, str]) -> dict[str, str]:
    """Of the process that imports and forks."""
    places = {}
    for name in ("torch", "vllm"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            sys.exit(f"windtunnel: {name} is not installed for {sys.executable}")
        places[name] = Path(spec.origin).parent
    preload = preloaded(places["torch"], places["vllm"], inherited.get("LD_PRELOAD", ""))
    return {**inherited, **_SET_BEFORE, "LD_PRELOAD": preload, _AGAIN: "1"}


def fork_on_cpu() -> None:
    """Has vLLM's CPU platform leave the way of starting processes at fork, in this process; in
    those that it forks only where no thread is bound."""
    imported = os.getpid()
    platform: Any = importlib.import_module("vllm.platforms.cpu").CpuPlatform
    original = platform.check_and_update_config.__func__

    def check_and_update_config(cls: Any, vllm_config: Any) -> None:
        original(cls, vllm_config)
        nobind = os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == "nobind"
        if nobind or os.getpid() == imported:
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"

    def spawn_again() -> None:
        if os.environ.get("VLLM_CPU_OMP_THREADS_BIND") != "nobind":
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"

    os.register_at_fork(after_in_child=spawn_again)

    platform.check_and_update_config = classmethod(check_and_update_config)


def main() -> None:
    # This folder has modules of ours; none of them is meant by an import of vLLM's.
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != here]
    if _AGAIN not in os.environ:
        os.execve(
            sys.executable,
            [sys.executable, __file__, *sys.argv[1:]],
            environment(dict(os.environ)),
        )
    for name in _MODULES:
        importlib.import_module(name)
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        # Forking a process with threads may hang what is forked.
        sys.exit("windtunnel: importing vLLM started threads; leave workload.fork_engine out")
    fork_on_cpu()
    print(READY, flush=True)  # noqa: T201
    entry: Any = importlib.import_module("vllm.entrypoints.launchers.api_server.entry")
    sys.argv[0] = "vllm.entrypoints.openai.api_server"
    entry.main()


if __name__ == "__main__":
    main()
