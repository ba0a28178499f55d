"""What the recommendation database takes of a training's spec: its step, and how it was computed.

Two trainings are the same load where one optimizer step is the same: the same model, sequences of
the same length, as many of them, from the same kind of data. How the step is split over devices,
micro batches and precision is the configuration, and that is what is recommended. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from results.environment import stable_hash
from results.recommendation.observation import Traffic
from results.recommendation.profile import Configuration, TrainingStep
from results.record import RunRecord

TRAINED: Final = ("torch", "jax")
TRAINING: Final = "training"

# Of a workload, what says what is trained, or for how long, and not how it is computed.
_NOT_HOW: Final = (
    "kind", "preset", "sequence_length", "global_batch_size", "seed", "num_steps",
    "num_warmup_steps", "checkpoint_dir", "resume", "watchdog_s", "communication",
)  # fmt: skip


def trained(record: RunRecord, version: str) -> tuple[Configuration, TrainingStep] | str:
    """(configuration, step), or why the run is no evidence for a training."""
    workload = record.spec.get("workload")
    if not isinstance(workload, Mapping) or not workload.get("preset"):
        return "its spec does not say what was trained"
    if workload.get("communication", "all") != "all":
        return "a control: its ranks trained apart from each other"
    if record.spec.get("faults"):
        return "failures were struck in it on purpose"
    layout = _layout(record, workload)
    if layout is None:
        return "its spec does not say how many sequences a step has"
    parallelism, feeds = layout
    image = record.environment.software.image_digest if record.environment else ""
    configuration = Configuration(
        model=str(workload["preset"]),
        model_server=record.workload,
        model_server_version=version,
        engine_args={k: v for k, v in workload.items() if k not in _NOT_HOW and v is not None},
        image=image,
        parallelism={name: size for name, size in parallelism.items() if size > 1},
        resolved={k: v for k, v in record.resolved.items() if k not in ("observed", "asked")},
    )
    sequences = feeds * _whole(workload, "micro_batch_size")
    data = workload.get("data", "synthetic")
    step = TrainingStep(
        sequence_length=_whole(workload, "sequence_length"),
        sequences_per_step=sequences * _whole(workload, "gradient_accumulation_steps"),
        data=str(data.get("kind", "")) if isinstance(data, Mapping) else str(data),
        num_steps=_whole(workload, "num_steps"),
        num_warmup_steps=int(workload.get("num_warmup_steps") or 0),
    )
    return configuration, step


def step_traffic(model: str, step: TrainingStep) -> Traffic:
    """The load of a training: the same key for the same step."""
    key = [TRAINING, model, step.sequence_length, step.sequences_per_step, step.data]
    return Traffic(key=stable_hash(key), use_case=TRAINING)


def _layout(record: RunRecord, workload: Mapping[str, Any]) -> tuple[Mapping[str, int], int] | None:
    """(how many devices share what, batches of sequences that are read apart from each other)."""
    workers, tensor = (_whole(workload, name) for name in ("num_workers", "tensor_parallel_size"))
    shared = "fsdp" if workload.get("strategy") == "fsdp2" else "data"
    if record.workload == "torch":
        if workers % tensor:
            return None
        return {shared: workers // tensor, "tensor": tensor}, workers // tensor
    # A JAX worker has several devices; what mesh they made, the worker says.
    mesh, local = record.resolved.get("mesh"), record.resolved.get("num_devices_per_worker")
    if not isinstance(mesh, Mapping) or not local:
        return {"tensor": tensor}, workers
    sizes = {name: int(mesh.get(name, 1)) for name in ("data", "fsdp", "tensor")}
    shards = sizes["data"] * sizes["fsdp"]
    # As ``workloads.jax_layout``: each process has a batch, or a tensor-parallel group that spans
    # several shares one.
    return sizes, min(shards * sizes["tensor"] // int(local), shards)


def _whole(workload: Mapping[str, Any], name: str) -> int:
    """1 where a record of an earlier time has no such knob: it was added with that meaning."""
    return int(workload.get(name) or 1)
