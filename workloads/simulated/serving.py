"""The simulated engine as a workload: a server of our own that says what a real one might."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from results.samples import Samples
from workloads.base import Device, Running, ServerLaunch
from workloads.errors import LaunchRefused
from workloads.params import EngineValue, SimulatedWorkload
from workloads.simulated.accelerators import model_named
from workloads.simulated.sizing import Deployed, engine_config
from workloads.traffic.spec import Traffic
from workloads.vllm import engine_flags

_MODULE = "workloads.simulated.engine_server"
_CPU = "cpu"
# vLLM's flags that the model of the engine knows; the rest of ``Deployed`` are the spec's fields.
_FLAGS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "block_size",
    "gpu_memory_utilization",
    "num_gpu_blocks_override",
    "enable_prefix_caching",
    "max_model_len",
)


@dataclass(frozen=True, slots=True)
class SimulatedServing:
    """A ``Workload``. Its records are ``simulated``: the server says so of itself."""

    params: SimulatedWorkload

    def launch(self, device: Device, models_dir: str) -> ServerLaunch:
        """Raises LaunchRefused for what cannot be simulated, before anything is started."""
        deployed = deployed_on(self.params, device)
        engine_config(deployed)
        return ServerLaunch(
            argv=(
                *(sys.executable, "-m", _MODULE),
                *("--host", "{host}", "--port", "{port}"),
                *("--model", deployed.model),
                *("--accelerator", deployed.accelerator),
                *("--tensor-parallel-size", str(deployed.tensor_parallel_size)),
                *("--compute-efficiency", repr(deployed.compute_efficiency)),
                *("--memory-efficiency", repr(deployed.memory_efficiency)),
                *("--step-overhead-s", repr(deployed.step_overhead_s)),
                *("--startup-delay-s", repr(self.params.startup_s)),
                *(w for words in engine_flags(self.params.engine_args).values() for w in words),
            ),
            model=deployed.model,
            resolve="workloads.simulated.serving:read_resolved",
            vocab_size=model_named(deployed.model).vocab_size,
        )

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> Samples:
        """Raises LaunchRefused when the spec has no traffic or the deployment no server."""
        if traffic is None or running.target is None or running.load is None:
            raise LaunchRefused("a simulated workload is driven over HTTP and needs traffic")
        return running.load.drive(running.target, traffic, on_progress)


def deployed_on(params: SimulatedWorkload, device: Device) -> Deployed:
    """What to simulate. An accelerator that the spec does not name is that of the device, which a
    virtual pool names too. Raises LaunchRefused where neither names one, and for engine arguments
    that the model does not know."""
    accelerator = params.accelerator or device.accelerator
    if accelerator.lower() == _CPU:
        raise LaunchRefused(
            "workload.accelerator names none, and the device is a CPU; name the accelerator to "
            "simulate, such as H100, or ask for a virtual pool of one"
        )
    return Deployed(
        model=params.model,
        accelerator=accelerator,
        tensor_parallel_size=params.tensor_parallel_size,
        compute_efficiency=params.compute_efficiency,
        memory_efficiency=params.memory_efficiency,
        step_overhead_s=params.step_overhead_s,
        **_known(params.engine_args),
    )


def _known(engine_args: Mapping[str, EngineValue]) -> dict[str, Any]:
    """Raises LaunchRefused for an argument that is not known or not of its type."""
    types = {f.name: str(f.type) for f in dataclasses.fields(Deployed)}
    accepted: dict[str, type | tuple[type, ...]] = {
        "int": int,
        "int | None": int,
        "float": (int, float),
        "bool": bool,
    }
    known: dict[str, Any] = {}
    for key, value in engine_args.items():
        name = key.lstrip("-").replace("-", "_")
        if name not in _FLAGS:
            raise LaunchRefused(
                f"workload.engine_args.{key} is not simulated; known: "
                + ", ".join(flag.replace("_", "-") for flag in _FLAGS)
            )
        if value is None:
            continue
        kind = types[name]
        if not isinstance(value, accepted[kind]) or (isinstance(value, bool) != (kind == "bool")):
            raise LaunchRefused(f"workload.engine_args.{key} = {value!r}; must be of type {kind}")
        known[name] = value
    return known


_ENGINE_LINE = re.compile(
    r"simulated engine: (?P<model>\S+) on (?P<chips>\d+) x (?P<accelerator>\S+), "
    r"(?P<blocks>\d+) blocks of (?P<size>\d+) tokens"
)


def read_resolved(lines: list[tuple[float, str]]) -> dict[str, Any]:
    """What the server says it simulates."""
    resolved: dict[str, Any] = {"engine": "simulated"}
    for _, line in lines:
        if match := _ENGINE_LINE.search(line):
            resolved |= {
                "model": match["model"],
                "simulated_accelerator": match["accelerator"],
                "tensor_parallel_size": int(match["chips"]),
                "kv_cache_tokens": int(match["blocks"]) * int(match["size"]),
            }
    return resolved
