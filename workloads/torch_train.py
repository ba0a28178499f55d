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
from workloads.params import TokenFiles, TorchWorkload
from workloads.torch_shape import shape_of
from workloads.traffic.spec import Traffic
from workloads.training_checks import require_trainable
from workloads.training_job import group_launch, steps_of


@dataclass(frozen=True, slots=True)
class TorchTraining:
    """The ``torch`` workload. Raises UnknownPreset and LaunchRefused before anything is started."""

    params: TorchWorkload

    def launch(self, device: Device, models_dir: str) -> TrainLaunch:
        """gloo where the device is a CPU (a virtual pool's too), nccl on GPUs."""
        params = self.params
        shape_of(params.preset)
        require_trainable(params)
        return group_launch(
            "workloads.torch_train:train",
            asdict(params),
            params,
            device,
            watchdog_s=params.watchdog_s,
        )

    def drive(
        self,
        running: Running,
        traffic: Traffic | None,
        on_progress: Callable[[int, int, float], None],
    ) -> StepSamples:
        return steps_of(running, self.params.kind, on_progress)


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
