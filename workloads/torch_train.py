"""Training a transformer with PyTorch: what to launch, and the loop of each rank.

This module is imported by the driver and therefore never imports torch; ``train`` does, in the
rank's own process, and that import is a phase of the startup it reports.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from results.samples import StepSamples
from workloads.base import Device, Running, TrainLaunch, TrainRank
from workloads.errors import LaunchRefused
from workloads.params import TokenFiles, TorchWorkload
from workloads.torch_shape import shape_of
from workloads.traffic.spec import Traffic
from workloads.training_checks import require_trainable


@dataclass(frozen=True, slots=True)
class TorchTraining:
    """The ``torch`` workload. Raises UnknownPreset and LaunchRefused before anything is started."""

    params: TorchWorkload

    def launch(self, device: Device, models_dir: str) -> TrainLaunch:
        """gloo where the device is a CPU (a virtual pool's too), nccl on GPUs."""
        params = self.params
        shape_of(params.preset)
        require_trainable(params)
        if device.kind not in ("cpu", "gpu"):
            raise LaunchRefused(
                f"the torch workload trains on CPUs and NVIDIA GPUs; the plan gives it "
                f"{device.num_chips} x {device.accelerator} ({device.kind})"
            )
        if device.kind == "gpu" and device.num_chips != params.num_workers:
            raise LaunchRefused(
                f"training takes one GPU per worker: workload.num_workers is "
                f"{params.num_workers}, the plan gives {device.num_chips} x {device.accelerator}"
            )
        return TrainLaunch(
            train_loop="workloads.torch_train:train",
            config=asdict(params),
            num_workers=params.num_workers,
            cpus_per_worker=params.cpus_per_worker,
            backend="nccl" if device.kind == "gpu" else "gloo",
            watchdog_s=params.watchdog_s,
            chip="GPU" if device.kind == "gpu" else "",
            chips_per_worker=1 if device.kind == "gpu" else 0,
        )

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> StepSamples:
        """All steps of all ranks; ``on_progress`` counts steps that every rank has made."""
        if running.training is None:
            raise LaunchRefused("the torch workload was given a server instead of a training job")
        samples: StepSamples = running.training.wait(on_progress)
        return samples


def train(config: Mapping[str, Any], rank: TrainRank) -> None:
    """The loop that a ``TrainLaunch`` names; ``config`` is a ``TorchWorkload`` as a mapping."""
    with rank.phase("imports"):
        from workloads import torch_loop
    torch_loop.run(params_of(config), rank)


def params_of(config: Mapping[str, Any]) -> TorchWorkload:
    """The inverse of ``asdict``, which makes a mapping of the data's own value too."""
    data = config.get("data", "synthetic")
    return TorchWorkload(
        **{**config, "data": TokenFiles(**data) if isinstance(data, Mapping) else data}
    )
