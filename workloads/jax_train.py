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
from workloads.jax_layout import MeshLayout, layout_of, refuse_uneven
from workloads.params import JaxWorkload, TokenFiles
from workloads.torch_shape import shape_of
from workloads.traffic.spec import Traffic
from workloads.training_checks import knob_faults, refuse_faults
from workloads.training_job import mesh_launch, steps_of


@dataclass(frozen=True, slots=True)
class JaxTraining:
    """The ``jax`` workload. Raises UnknownPreset and LaunchRefused before anything is started."""

    params: JaxWorkload

    def launch(self, device: Device, models_dir: str) -> TrainLaunch:
        """See ``mesh_launch``; and refuses what cannot be laid out over the devices."""
        params = self.params
        shape_of(params.preset)
        refuse_faults(knob_faults(params))
        if params.cpu_devices_per_worker < 1:
            raise LaunchRefused(
                f"workload.cpu_devices_per_worker: found {params.cpu_devices_per_worker}; "
                "accepted: at least 1"
            )
        launch = mesh_launch(
            "workloads.jax_train:train",
            {"params": asdict(params), "device": device.kind},
            params,
            device,
            cpu_devices_per_worker=params.cpu_devices_per_worker,
            watchdog_s=params.watchdog_s,
        )
        layout = layout_of(params, launch.config["num_local_devices"], device.num_slices)
        refuse_uneven(params, layout)
        _refuse_other_batch(params, layout)
        if params.communication == "none" and not layout.whole_model:
            raise LaunchRefused(
                "workload.communication none trains each device by itself, which needs the whole "
                f"model on each; strategy ddp and tensor_parallel_size 1 do ({layout.describe()})"
            )
        return launch

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> StepSamples:
        return steps_of(running, self.params.kind, on_progress)


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
        params_of(config["params"]),
        rank,
        device=config["device"],
        num_local_devices=config["num_local_devices"],
        num_slices=config["num_slices"],
    )


def params_of(config: Mapping[str, Any]) -> JaxWorkload:
    """The inverse of ``asdict``, which makes a mapping of the data's own value too."""
    data = config.get("data", "synthetic")
    return JaxWorkload(
        **{**config, "data": TokenFiles(**data) if isinstance(data, Mapping) else data}
    )
