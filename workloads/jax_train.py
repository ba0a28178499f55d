"""Training a transformer with JAX on a mesh of devices: what to launch.

This module is imported by the driver and therefore never imports JAX; ``train`` does, in the rank's
own process, and that import is a phase of the startup it reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from results.samples import StepSamples
from workloads.base import Device, Running, TrainLaunch, TrainRank
from workloads.errors import LaunchRefused
from workloads.jax_layout import MeshLayout, layout_of
from workloads.params import JaxWorkload
from workloads.torch_shape import ModelShape, shape_of
from workloads.traffic.spec import Traffic
from workloads.training_checks import knob_faults, refuse_faults
from workloads.training_job import steps_of

_CHIP = {"gpu": "GPU", "tpu": "TPU", "cpu": ""}  # Ray's names of what a worker takes


@dataclass(frozen=True, slots=True)
class JaxTraining:
    """The ``jax`` workload. Raises UnknownPreset and LaunchRefused before anything is started."""

    params: JaxWorkload

    def launch(self, device: Device, models_dir: str) -> TrainLaunch:
        """One process per worker, with all chips of its bundle. On a virtual pool each has as many
        CPU devices as chips are pretended, so that the mesh is that of the real pool."""
        params = self.params
        shape = shape_of(params.preset)
        refuse_faults(knob_faults(params))
        if params.cpu_devices_per_worker < 1:
            raise LaunchRefused(
                f"workload.cpu_devices_per_worker: found {params.cpu_devices_per_worker}; "
                "accepted: at least 1"
            )
        chips, rest = divmod(device.num_chips, params.num_workers)
        if rest:
            raise LaunchRefused(
                f"each worker has the same number of chips: workload.num_workers is "
                f"{params.num_workers}, the plan gives {device.num_chips} x {device.accelerator}"
            )
        num_local = chips or params.cpu_devices_per_worker
        layout = layout_of(params, num_local, device.num_slices)
        _refuse_uneven(params, shape, layout)
        _refuse_other_batch(params, layout)
        if params.communication == "none" and not layout.whole_model:
            raise LaunchRefused(
                "workload.communication none trains each device by itself, which needs the whole "
                f"model on each; strategy ddp and tensor_parallel_size 1 do ({layout.describe()})"
            )
        on_chips = device.kind != "cpu"
        return TrainLaunch(
            train_loop="workloads.jax_train:train",
            config={
                "params": asdict(params),
                "device": device.kind,
                "num_local_devices": num_local,
                "num_slices": device.num_slices,
            },
            num_workers=params.num_workers,
            cpus_per_worker=params.cpus_per_worker,
            backend="xla",
            watchdog_s=params.watchdog_s,
            chip=_CHIP[device.kind],
            chips_per_worker=chips if on_chips else 0,
            num_slices=device.num_slices,
            # The size of XLA's thread pool on a CPU; there is no option for it.
            env={} if on_chips else {"PJRT_NPROC": str(params.threads_per_worker)},
        )

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> StepSamples:
        return steps_of(running, self.params.kind, on_progress)


def _refuse_uneven(params: JaxWorkload, shape: ModelShape, layout: MeshLayout) -> None:
    """XLA splits arrays into equal parts only."""
    parts = (
        ("micro_batch_size", params.micro_batch_size, layout.shards_per_feed, "data shards"),
        ("num_kv_heads of the preset", shape.num_kv_heads, layout.tensor, "tensor-parallel parts"),
        ("vocab_size of the preset", shape.vocab_size, layout.tensor, "tensor-parallel parts"),
        ("hidden_dim of the preset", shape.hidden_dim, layout.tensor, "tensor-parallel parts"),
        ("dim of the preset", shape.dim, layout.fsdp, "fsdp parts"),
    )
    for what, number, into, of in parts:
        if number % into:
            raise LaunchRefused(
                f"workload: {what} is {number}, which does not split into {into} {of} "
                f"({layout.describe()})"
            )


def _refuse_other_batch(params: JaxWorkload, layout: MeshLayout) -> None:
    made = layout.num_feeds * params.micro_batch_size * params.gradient_accumulation_steps
    if params.global_batch_size not in (None, made):
        raise LaunchRefused(
            f"workload.global_batch_size is {params.global_batch_size}; {layout.num_feeds} batches "
            f"× micro_batch_size {params.micro_batch_size} × gradient_accumulation_steps "
            f"{params.gradient_accumulation_steps} are {made} sequences"
        )


def train(config: Mapping[str, Any], rank: TrainRank) -> None:
    """The loop that a ``TrainLaunch`` names; ``config`` is what ``launch`` put there."""
    with rank.phase("imports"):
        from workloads import jax_loop
    jax_loop.run(
        JaxWorkload(**config["params"]),
        rank,
        device=config["device"],
        num_local_devices=config["num_local_devices"],
        num_slices=config["num_slices"],
    )
